"""What the property tests and the mutants share: compiled views of a loss, and every check."""

import contextlib
import copy
import functools
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from oracles import ROWS, Case
from programs import as_users_do, identical

import jaxloss as jl
from jaxloss._loss import CARDS

KEPT = 5


@functools.cache
def loss_of(case: Case):
    """The loss a case is about, under the words of the case."""
    loss = CARDS[case.loss].loss
    if not case.words:
        return loss

    @functools.wraps(loss)
    def worded(*data, **options):
        return loss(*data, **case.words, **options)

    return worded


# How many examples a case is judged on, beside those that reach its hard points; of moderate size,
# where programs of many derivatives are judged, half as many. And where to give up.
EXAMPLES, TRIES = 12, 2000
PROFILE = hypothesis.settings()
THOROUGH = PROFILE.max_examples > EXAMPLES
# A test of these sees every example: those it is given are soon all drawn.
EVERY_EXAMPLE = hypothesis.settings(max_examples=max(100, PROFILE.max_examples))


def pool(case: Case, *, calm: bool = False) -> list:
    """What all properties of a case are judged on: drawn once, until every hard point is reached.

    The more different numbers the data hold, the earlier.
    """
    return _pool(case, calm)


@functools.cache
def _pool(case: Case, calm: bool) -> list:
    found, unmet, enough = [], {} if calm else dict(case.hard), EXAMPLES // 2 if calm else EXAMPLES

    def collect(drawn):
        met = [point for point, reached in unmet.items() if reached(*drawn)]
        if met or len(found) < enough:
            found.append(drawn)
        for point in met:
            del unmet[point]
        return len(found) >= enough and not unmet

    _draw(case.calm if calm else case.draws, collect, TRIES)
    return sorted(found, key=_variety, reverse=True)


def _variety(example) -> int:
    """How many different numbers the data hold: Hypothesis likes to repeat itself."""
    return sum(len(np.unique(array)) for array in example[0])


def _draw(strategy: st.SearchStrategy, until, tries: int) -> None:
    """Draw until told to stop, or so often: the same for the same code, and nothing is made smaller."""
    settings = hypothesis.settings(
        max_examples=tries,
        derandomize=True,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    with contextlib.suppress(hypothesis.errors.NoSuchExample):
        hypothesis.find(strategy, until, settings=settings)


def drawn(case: Case, *, calm: bool = False) -> st.SearchStrategy:
    """One of the examples of a case; where there is time for many, a draw of its own, which shrinks."""
    if THOROUGH:
        return case.calm if calm else case.draws
    return st.sampled_from(pool(case, calm=calm)).map(_own)


def examples(case: Case, count: int = 3, *, calm: bool = False) -> list:
    """The examples of a case with the greatest variety."""
    return [_own(example) for example in pool(case, calm=calm)[:count]]


def _own(example):
    """An example that a test may change."""
    data, options = example
    return tuple(map(np.copy, data)), {name: copy.copy(value) for name, value in options.items()}


def fullest(cases) -> list[Case]:
    """Of each loss and kind of data, ids or distributions, the case with most options; and own paths."""
    found = {}
    for case in cases:
        simplest = []
        _draw(case.calm, simplest.append, 1)
        ((data, options),) = simplest
        kind = case.loss, *((np.ndim(array), np.asarray(array).dtype.kind) for array in data)
        key = case.name if case.own_path else kind
        found[key] = max(found.get(key, (-1, None)), (len(options), case), key=lambda pair: pair[0])
    return [case for _, case in found.values()]


# --- compiled once a loss ------------------------------------------------------------------------


VIEWS = []


def view(make, compiled=jax.jit):
    """What is looked at of a loss, compiled once."""

    @functools.cache
    def viewed(*subjects, **flags):
        return compiled(make(*subjects, **flags))

    VIEWS.append(viewed)
    viewed.__name__ = make.__name__
    return viewed


@view
def rows(loss):
    return lambda data, options: loss(*data, **options)


checked = view(lambda loss: loss, jl.checked)


def _rows_and_slope(loss):
    """The losses, and ∂Σℓ/∂(first argument)."""

    def run(data, options):
        losses, pullback = jax.vjp(lambda x: loss(x, *data[1:], **options), data[0])
        return losses, pullback(jnp.ones_like(losses))[0]

    return run


_compiled_rows_and_slope = view(_rows_and_slope)
# What is promised in ULPs: rounding is the compiler's as well.
rounded_rows_and_slope = view(_rows_and_slope, as_users_do)


class Mutant:
    """A loss made wrong on purpose: `change(losses, slope, first argument)` is what it gives instead."""

    def __init__(self, loss, change):
        self.loss, self.change = loss, change

    def rows_and_slope(self, data, options):
        losses, slope = map(np.asarray, _compiled_rows_and_slope(self.loss)(data, options))
        return self.change(losses, slope, data[0])


def rows_and_slope(loss):
    """The losses, and ∂Σℓ/∂(first argument): compiled, or a mutant's."""
    return loss.rows_and_slope if isinstance(loss, Mutant) else _compiled_rows_and_slope(loss)


@view
def directional(loss):
    """The derivative along a direction, and every second derivative along it."""

    def run(data, options, direction):
        x = data[0]

        def along(x):
            return jax.jvp(lambda x: loss(x, *data[1:], **options), (x,), (direction,))[1]

        def gradient(x):
            return jax.grad(lambda x: jnp.sum(loss(x, *data[1:], **options)))(x)

        reverse, forward_over_reverse = jax.jvp(gradient, (x,), (direction,))
        forward, pullback = jax.vjp(along, x)
        return {
            "forward": forward,
            "reverse": reverse,
            "forward over reverse": forward_over_reverse,
            "reverse over forward": pullback(jnp.ones_like(forward))[0],
            "reverse over reverse": jax.vjp(gradient, x)[1](direction)[0],
        }

    return run


@view
def reduced(reduction, loss, real: tuple[int, ...], names: tuple[str, ...], *, second: bool):
    """A masked, weighted mean, its parts, and its derivatives by all data, options and weights.

    Or, of second order, its derivative by the first data along one direction, and that of its gradient.
    """

    def run(data, options, where, weights, direction=None):
        def total(real_data, chosen, weights):
            whole = list(data)
            for position, array in zip(real, real_data, strict=True):
                whole[position] = array
            return reduction(loss)(*whole, where=where, weights=weights, **(options | chosen))

        given = [data[position] for position in real], {name: options[name] for name in names}, weights
        if not second:
            value, gradients = jax.value_and_grad(total, argnums=(0, 1, 2))(*given)
            parts = jl.partial_mean(loss)(*data, where=where, weights=weights, **options)
            found = dict(zip(("data", "options", "weights"), gradients, strict=True))
            return {"value": value, "parts": parts} | found

        def of_first(x):
            return total([x, *given[0][1:]], *given[1:])

        _, (forward, curvature) = jax.jvp(jax.value_and_grad(of_first), (data[0],), (direction,))
        return {"forward": forward, "curvature": curvature}

    return run


@view
def mean_and_slopes(loss, names: tuple[str, ...]):
    """A plain mean, and its derivatives by the options and by a shift of all the first data."""

    def run(data, options):
        def total(chosen, shift):
            return jl.mean(loss)(data[0] + shift, *data[1:], **(options | chosen))

        given = {name: options[name] for name in names}, jnp.zeros((), data[0].dtype)
        return jax.value_and_grad(total, argnums=(0, 1))(*given)

    return run


# --- comparing -----------------------------------------------------------------------------------


def close(actual: Any, expected: Any, scale: Any, relative: float, *, dtype=np.float64, square=False) -> None:
    """Assert |actual − expected| ≤ relative · scale, where a result too large for the dtype is ±∞."""
    tiny = float(np.finfo(dtype).tiny)
    expected = np.asarray(expected, np.float64)
    with np.errstate(over="ignore"):
        rounded = expected.astype(dtype).astype(np.float64)
    actual = np.asarray(actual).astype(np.float64)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    with np.errstate(invalid="ignore", over="ignore"):
        allowed = relative * np.asarray(scale, np.float64) + 8 * tiny + square * relative**2
        error = np.where(actual == rounded, 0.0, np.abs(actual - expected))
        good = error <= allowed
    worst = np.unravel_index(np.argmax(np.where(good, -1, error / allowed)), good.shape)
    assert np.all(good), (
        f"at {worst}: got {actual[worst]!r}, expected {expected[worst]!r}, "
        f"{error[worst] / np.broadcast_to(allowed, good.shape)[worst]:.3g} times the tolerance"
    )


def same(a: Any, b: Any, what: str = "") -> None:
    """Assert two results have the same bits."""
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=what)


def cast(values: Any, dtype) -> Any:
    """Every float of data or options in another dtype; ids and flags as they are."""

    def one(array):
        return np.asarray(array).astype(dtype) if _is_float(array) else array

    return (
        {name: one(v) for name, v in values.items()} if isinstance(values, dict) else tuple(map(one, values))
    )


def _is_float(array: Any) -> bool:
    return np.issubdtype(np.asarray(array).dtype, np.floating)


def real_positions(data) -> tuple[int, ...]:
    return tuple(i for i, array in enumerate(data) if _is_float(array))


def masked(case: Case, data, options, where) -> tuple[dict, np.ndarray]:
    """The options, and the mask of a mean, where the loss takes a mask itself: it is of the items."""
    if not CARDS[case.loss].masks_itself:
        return options, where
    shape = np.shape(data[0])[: np.ndim(where) + case.mask_ndim]
    items = np.broadcast_to(np.reshape(where, np.shape(where) + (1,) * case.mask_ndim), shape)
    own = {name: value for name, value in options.items() if name != "where"}
    return own, items & options.get("where", True)


def taken(case: Case, data, options, index):
    """Some of the rows, of data and of options given one a row."""
    chosen = {
        name: value[index] if np.ndim(value) and np.shape(value)[0] == ROWS else value
        for name, value in options.items()
    }
    return tuple(array[index] for array in data), chosen


# --- the properties, one function each -------------------------------------------------------------


def check_value(loss, case, data, options) -> None:
    close(
        rows_and_slope(loss)(data, options)[0],
        case.values(data, options),
        case.value_scale(data, options),
        1e-12,
        square=case.quadratic,
    )


def decided_rows(case, data, options, ulp: float) -> np.ndarray:
    """Rows whose side of a kink their rounding leaves no doubt of: elsewhere either slope is right."""
    distance = case.kink_distances(data, options)
    sizes = [np.abs(array).reshape((*distance.shape, -1)).max(axis=-1) for array in data]
    return (distance == 0) | (distance > 4 * ulp * np.max(sizes, axis=0))


def check_gradient(loss, case, data, options) -> None:
    decided = decided_rows(case, data, options, DOUBLE_ULP)
    decided = decided.reshape(decided.shape + (1,) * case.item_ndim)
    found, expected = rows_and_slope(loss)(data, options)[1], case.gradients(data, options)
    scale = case.slope_scale(data, options)
    close(np.where(decided, found, 0), np.where(decided, expected, 0), scale, 1e-10)


def check_more_gradients(loss, case, data, options) -> None:
    """By the other arguments, where a loss has more to learn than its first."""
    decided, values = decided_rows(case, data, options, DOUBLE_ULP), case.values(data, options)
    found, shares = weighted_slopes(loss, case, data, options, np.ones(ROWS))
    share = shares.max() or 1.0  # a row that does not count has no slope
    for position, formula in case.more_gradients.items():
        expected = case.over_rows(formula, data, options)
        thin = decided.shape + (1,) * (expected.ndim - decided.ndim)
        if position in case.more_scales:
            scale = np.abs(case.over_rows(case.more_scales[position], data, options))
        else:
            scale = np.abs(expected) + np.abs(values).reshape(thin)
        slope, clear = found["data"][real_positions(data).index(position)], decided.reshape(thin)
        close(np.where(clear, slope, 0), np.where(clear, expected * share, 0), scale * share, 1e-10)


def check_option_gradients(loss, case, data, options) -> None:
    values = case.values(data, options)
    decided = decided_rows(case, data, options, DOUBLE_ULP).reshape(ROWS, -1).all(axis=1)
    found, shares = weighted_slopes(loss, case, data, options, np.where(decided, rng_weights(1), 0))
    for name, formula in case.option_gradients.items():
        option = np.asarray(options[name])
        terms = case.over_rows(formula, data, options)
        thin = values.shape + (1,) * (terms.ndim - values.ndim)
        # Where terms of a derivative cancel, what they are made of is a loss of this size.
        size = np.abs(terms) + np.abs(values).reshape(thin) / np.maximum(np.abs(option), 1e-2).max()
        slope, weight = found["options"][name], shares.reshape(thin)
        weighted, sizes = (_summed_to(array * weight, option.shape) for array in (terms, size))
        close(slope, weighted, sizes, 1e-10)


def weighted_slopes(loss, case, data, options, weights) -> tuple[dict, np.ndarray]:
    """The derivatives of a weighted mean, and each row's share in it."""
    found = weighted_mean(loss, case, data, options, weights)
    counted = np.where(case.kept_by_options(data, options), weights.reshape(one_a_row(case, data)), 0)
    return found, counted / (counted.sum() or 1)


def _summed_to(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return array.sum(axis=tuple(range(array.ndim - len(shape))))


STEP = 1e-5
FAR_FROM_A_KINK = 1e-2


def check_finite_differences(loss, case, data, options) -> None:
    """Orders 1 and 2, forward and reverse, along one direction, in rows whose kink is not between."""
    first, rest = data[0], data[1:]
    direction = np.where(np.arange(first.size).reshape(first.shape) % 3 == 1, -0.6, 0.8)
    ahead, behind = ((first + sign * STEP * direction, *rest) for sign in (1, -1))
    distance = case.kink_distances(data, options)
    smooth = distance > FAR_FROM_A_KINK
    items = smooth.reshape(smooth.shape + (1,) * case.item_ndim)
    found = directional(loss)(data, options, direction)
    values, slopes = zip(
        *(map(np.asarray, rows_and_slope(loss)(point, options)) for point in (ahead, behind)), strict=True
    )
    first_order = (values[0] - values[1]) / (2 * STEP)
    second_order = (slopes[0] - slopes[1]) / (2 * STEP)
    contracted = np.asarray(found["reverse"]) * direction
    for _ in range(case.item_ndim):
        contracted = contracted.sum(axis=-1)
    if case.couples:  # what a row adds to the sum's slope is no slope of its own value
        contracted = np.full(contracted.shape, contracted.sum() - np.sum(found["forward"])) + found["forward"]
    # The error of a central difference is h² times a third derivative, which grows near a singularity.
    bend = 1 + 1 / np.minimum(np.where(smooth, distance, 1), 1) ** 2
    size = bend * (1 + np.abs(values[0]) + np.abs(first_order))
    wide = (bend * (1 + np.abs(values[0]))).reshape(items.shape) * (
        1 + np.abs(second_order) + np.abs(slopes[0])
    )
    for order in ("forward", None):
        actual = contracted if order is None else found[order]
        close(np.where(smooth, actual, 0), np.where(smooth, first_order, 0), size, 1e-6)
    for order in ("forward over reverse", "reverse over forward", "reverse over reverse"):
        close(np.where(items, found[order], 0), np.where(items, second_order, 0), wide, 1e-6)


def check_value_under_differentiation(loss, examples) -> None:
    """The same operations; if not, then bit for bit one operation at a time: fusion rounds as it likes."""
    for data, options in examples:
        first, run = jnp.asarray(data[0]), functools.partial(_of_first, loss, data[1:], options)

        def in_reverse(x, run=run):
            return jax.vjp(run, x)[0]

        def forward(x, run=run):
            return jax.jvp(run, (x,), (jnp.ones_like(x),))[0]

        if identical(first, run, in_reverse, forward):
            return  # whatever the data hold
        with jax.disable_jit():
            plain = run(first)
            same(plain, in_reverse(first), "reverse")
            same(plain, forward(first), "forward")


def _of_first(loss, rest, options, x):
    return loss(x, *rest, **options)


def check_eager(loss, case, data, options) -> None:
    """The loss called as it is, is the loss compiled into something larger."""
    scale = case.value_scale(data, options)
    found = rows_and_slope(loss)(data, options)[0]
    close(found, loss(*data, **options), scale, 1e-13, square=case.quadratic)


def check_one_operation_at_a_time(loss, case, data, options) -> None:
    with jax.disable_jit():
        stepwise = loss(*map(jnp.asarray, data), **options)
    scale = case.value_scale(data, options)
    close(rows_and_slope(loss)(data, options)[0], stepwise, scale, 1e-13, square=case.quadratic)


@view
def vectorised(loss, batched: tuple[str, ...]):
    def run(data, shared, per_row):
        return jax.vmap(lambda data, per_row: loss(*data, **shared, **per_row))(data, per_row)

    return run


def of_one_row(case, loss):
    """The loss of one row alone; of a loss whose rows are its first axis only, as a batch of one."""
    if CARDS[case.loss].task != "segmentation":
        return loss
    return _batch_of_one(loss)


@functools.cache
def _batch_of_one(loss):
    def run(*data, **options):
        one = {n: v[None] if n == "where" else v for n, v in options.items()}
        return loss(*(jnp.asarray(array)[None] for array in data), **one)[0]

    return run


def check_vmap(loss, case, data, options) -> None:
    """One row at a time, under vmap, is all rows at once."""
    one = of_one_row(case, loss)
    batched = tuple(n for n, v in options.items() if np.ndim(v) and np.shape(v)[0] == ROWS)
    shared = {n: v for n, v in options.items() if n not in batched}
    found = vectorised(one, batched)(data, shared, {n: options[n] for n in batched})
    together = rows_and_slope(loss)(data, options)[0]
    close(found, together, case.value_scale(data, options), 1e-13, square=case.quadratic)


def check_vmap_of_batches(loss, case, data, options) -> None:
    """Where rows are coupled: a stack of batches, under vmap or as leading axes, is a loop over them."""
    batches = [data, tuple(array[::-1] for array in data)]
    stacked = tuple(np.stack(arrays) for arrays in zip(*batches, strict=True))
    own = {name: np.stack([value, value]) for name, value in options.items() if name == "where"}
    shared = {name: value for name, value in options.items() if name != "where"}
    loop = np.stack([rows_and_slope(loss)(batch, options)[0] for batch in batches])
    scale = np.stack([case.value_scale(batch, options) for batch in batches])
    close(vectorised(loss, tuple(own))(stacked, shared, own), loop, scale, 1e-13)
    close(rows(loss)(stacked, shared | own), loop, scale, 1e-13)


def check_rows_independent(loss, case, data, options, changed: int) -> None:
    """Another row's data in one row: no other value or gradient moves by a bit."""
    source = (changed + 3) % ROWS
    order = np.where(np.arange(ROWS) == changed, source, np.arange(ROWS))
    others = np.arange(ROWS) != changed
    moved = tuple(array[order] for array in data)
    found, expected = (rows_and_slope(loss)(given, options) for given in (data, moved))
    for a, b, what in zip(found, expected, ("value", "gradient"), strict=True):
        same(np.asarray(a)[others], np.asarray(b)[others], what)


def poisoned(data, removed, value):
    """`value` in every removed row; an id that names no class where data are ids."""
    filled = [np.array(array) for array in data]
    for array in filled:
        array[removed] = value if _is_float(array) else 99
    return tuple(filled)


def harmless(loss, data, options) -> np.ndarray:
    """The rows whose loss and derivatives are finite: with no weight they are nothing."""
    found = [np.asarray(array).reshape(ROWS, -1) for array in rows_and_slope(loss)(data, options)]
    return np.flatnonzero(np.all([np.isfinite(array).all(axis=1) for array in found], axis=0))


def check_masked(
    loss,
    case,
    data,
    options,
    removed,
    value,
    weights,
    *,
    second=False,
    drop=False,
    reduction=jl.mean,
    change=None,
) -> None:
    """A mean over kept rows, NaN behind the mask, is theirs alone, in every derivative.

    It is compared with one without a mask, where the removed rows are harmless ones of no weight; of a loss
    that couples its rows, and with `drop`, they are not there at all. `change` makes a mutant of the mean.
    """
    removed = np.asarray(removed)
    kept = np.setdiff1d(np.arange(ROWS), removed)
    thin = one_a_row(case, data)
    where, weights = np.isin(np.arange(ROWS), kept).reshape(thin), weights.reshape(thin)
    directions = [np.cos(np.arange(data[0].size)).reshape(data[0].shape)] if second else []
    run = reduced(reduction, loss, real_positions(data), tuple(case.option_gradients), second=second)
    run = run if change is None else change(run)
    own_options, own_where = masked(case, data, options, where)
    spoiled = np.where(where, weights, value)
    found = run(poisoned(data, removed, value), own_options, own_where, spoiled, *directions)
    floor, spare = 0.0, [] if drop or case.couples else np.intersect1d(harmless(loss, data, options), kept)
    if len(spare) == 0:
        data, options = taken(case, data, options, kept)
        where, weights, directions = where[kept], weights[kept], [along[kept] for along in directions]
        if case.couples:  # what rows do to each other may cancel: then all of a gradient is rounding
            floor = np.max(case.slope_scale(data, options))
    else:
        data, options = taken(case, data, options, np.where(where.ravel(), np.arange(ROWS), spare[0]))
    options, everywhere = masked(case, data, options, np.ones_like(where))
    expected = run(data, options, everywhere, np.where(where, weights, 0), *directions)
    for name in expected:
        compare_kept(name, found[name], expected[name], kept, removed, floor)


def compare_kept(name, actual, expected, kept, removed, floor=0.0) -> None:
    """Leaf by leaf: rows kept are equal, rows removed have no derivative, what the rows share is equal."""
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        if a.ndim and len(a) == ROWS:
            assert not np.any(a[removed]), f"{name}: a removed row has a derivative"
            a, b = a[kept], b if len(b) == KEPT else b[kept]
        close(a, b, np.abs(b).max(initial=floor), 1e-10)


def check_nothing_kept(loss, case, data, options, value) -> None:
    shape = np.ones(ROWS).reshape(one_a_row(case, data)).shape
    run = reduced(jl.mean, loss, real_positions(data), tuple(case.option_gradients), second=False)
    options, nothing = masked(case, data, options, np.zeros(shape, bool))
    empty = run(poisoned(data, np.arange(ROWS), value), options, nothing, np.full(shape, value))
    for name, result in empty.items():
        for leaf in jax.tree.leaves(result):
            same(leaf, np.zeros_like(leaf), name)


def weighted_mean(loss, case, data, options, weights, kept=True) -> dict:
    """A mean over the rows kept, and its derivatives, by the program that masks are tested with."""
    thin = one_a_row(case, data)
    run = reduced(jl.mean, loss, real_positions(data), tuple(case.option_gradients), second=False)
    options, where = masked(case, data, options, np.broadcast_to(kept, ROWS).reshape(thin))
    return run(data, options, where, weights.reshape(thin))


def one_a_row(case: Case, data) -> tuple[int, ...]:
    """The shape in which one number a row meets the losses."""
    return (-1,) + (1,) * (np.ndim(data[0]) - case.item_ndim - 1)


def check_weight_two_is_twice(loss, case, data, options) -> None:
    """A row of weight 2, and none of the next row, is that row given twice."""
    weights = np.r_[2.0, 0.0, np.ones(ROWS - 2)]
    twice = taken(case, data, options, np.r_[0, 0, np.arange(2, ROWS)])
    scale = np.abs(case.value_scale(data, options)).max()
    weighed = weighted_mean(loss, case, data, options, weights)
    repeated = weighted_mean(loss, case, *twice, np.ones(ROWS))
    close(weighed["value"], repeated["value"], scale, 1e-12)


def check_split(loss, case, data, options) -> None:
    """Microbatches of unequal weight merged as PartialMeans are the whole."""
    weights, early = 1.0 + np.arange(ROWS), np.arange(ROWS) < ROWS // 2
    whole, first, second = (
        weighted_mean(loss, case, data, options, weights, kept) for kept in (True, early, ~early)
    )
    scale = np.abs(case.value_scale(data, options)).max()
    close((first["parts"] + second["parts"]).value(), whole["value"], scale, 1e-12)


def check_mean_is_the_mean(loss, case, data, options) -> None:
    """jl.mean is Σℓ over the rows that count, divided by how many do."""
    found = weighted_mean(loss, case, data, options, np.ones(ROWS))["value"]
    close(found, mean_of_counted(case, data, options), np.max(case.value_scale(data, options)), 1e-12)


def mean_of_counted(case, data, options) -> float:
    counted = case.kept_by_options(data, options)
    return case.values(data, options)[counted].mean() if counted.any() else 0.0


MANY = 1024


def of_thousands(case, data, options):
    """A few rows over and over."""
    return taken(case, data, options, np.tile(np.arange(ROWS), MANY))


def check_mean_of_many(loss, case, data, options) -> None:
    """A few rows over and over, thousands in all, in float32: the mean, and the slopes by what they share.

    XLA's CPU compiler fuses sums of some 4096 numbers and more with what they are of, in a way of its own,
    where max(NaN, 0) is 0: one NaN among them is to be heard of.
    """
    exact = data, options
    data, options = cast(data, np.float32), cast(options, np.float32)
    shared = [name for name in case.option_gradients if np.shape(options[name])[:1] != (ROWS,)]
    run = mean_and_slopes(loss, tuple(shared))
    many = of_thousands(case, data, options)
    found, (slopes, _) = run(*many)
    scale = np.max(case.value_scale(data, options))
    close(found, mean_of_counted(case, data, options), scale, 1e-4, dtype=np.float32)
    count = case.kept_by_options(data, options).sum() or 1
    for name in shared:
        terms, shape = case.over_rows(case.option_gradients[name], data, options), np.shape(options[name])
        expected, size = (_summed_to(array, shape) / count for array in (terms, np.abs(terms)))
        close(slopes[name], expected, size + scale, 1e-4, dtype=np.float32)
    row = np.argwhere(case.kept_by_options(data, options))[-1, 0]
    many[0][0][MANY // 2 * ROWS + row] = exact[0][0][row] = np.nan
    found, (_, slope) = run(*many)
    for of_mean, of_rows in zip((found, slope), rows_and_slope(loss)(*exact), strict=True):
        assert np.isnan(of_mean) or not np.any(np.isnan(of_rows[row]))


def _over_eight_devices(data):
    by_rows = NamedSharding(Mesh(np.array(jax.devices()), ("rows",)), PartitionSpec("rows"))
    return tuple(jax.device_put(array, by_rows) for array in data)


def check_sharded(loss, case, data, options) -> None:
    """Rows over eight devices, the same function."""
    run = rows_and_slope(loss)
    (values, slopes), (found, found_slopes) = (
        run(given, options) for given in (data, _over_eight_devices(data))
    )
    close(found, values, case.value_scale(data, options), 1e-13, square=case.quadratic)
    close(found_slopes, slopes, case.slope_scale(data, options), 1e-13)


def check_explicit_axes(loss, case, data, options) -> None:
    """Rows over eight devices on a mesh whose axes are part of a type: value and slope are over them too."""
    mesh = jax.make_mesh((8,), ("rows",), axis_types=(jax.sharding.AxisType.Explicit,))

    def spread(array):
        by_rows = PartitionSpec(*(["rows"] if np.shape(array)[:1] == (ROWS,) else []))
        return jax.ShapeDtypeStruct(
            np.shape(array), np.asarray(array).dtype, sharding=NamedSharding(mesh, by_rows)
        )

    # JAX looks at more where the mesh is set, which JAX 0.7 cannot yet.
    inside = jax.set_mesh if hasattr(jax, "set_mesh") else jax.sharding.use_mesh  # of JAX 0.7
    with inside(mesh):
        values, slopes = jax.eval_shape(_rows_and_slope(loss), *jax.tree.map(spread, (data, options)))
    assert values.sharding.spec[0] == slopes.sharding.spec[0] == "rows"


def check_mean_of_shards(loss, case, data, options) -> None:
    """A mean over eight devices, and its derivatives by what they share."""
    weights = rng_weights(0)
    found, expected = (
        weighted_mean(loss, case, given, options, weights) for given in (_over_eight_devices(data), data)
    )
    scale = np.abs(case.value_scale(data, options)).max()
    close(found["value"], expected["value"], scale, 1e-13)
    for name in found:
        floor = scale if name == "options" else 0  # what the rows share may cancel over them
        for a, b in zip(jax.tree.leaves(found[name]), jax.tree.leaves(expected[name]), strict=True):
            close(a, b, np.abs(b).max(initial=floor), 1e-12)


ULP = float(np.finfo(np.float32).eps)
DOUBLE_ULP = float(np.finfo(np.float64).eps)


def check_float32(loss, case, data, options) -> None:
    """Against the oracle at the rounded inputs: what float32 can know."""
    narrow, narrow_options = cast(data, np.float32), cast(options, np.float32)
    found, gradient = rounded_rows_and_slope(loss)(narrow, narrow_options)
    assert found.dtype == np.float32
    assert gradient.dtype == np.float32
    relative = case.ulps * ULP
    scale = case.value_scale(narrow, narrow_options)
    values = case.values(narrow, narrow_options)
    close(found, values, scale, relative, dtype=np.float32, square=case.quadratic)
    decided = decided_rows(case, narrow, narrow_options, ULP)
    decided = decided.reshape(decided.shape + (1,) * case.item_ndim)
    expected = case.gradients(narrow, narrow_options)
    close(
        np.where(decided, gradient, 0),
        np.where(decided, expected, 0),
        case.slope_scale(narrow, narrow_options),
        relative,
        dtype=np.float32,
    )


HALF_BFLOAT16_ULP = 2.0**-8


def check_bfloat16(loss, case, examples) -> None:
    """Computed in float32 from the upcast input; the gradient rounded to bfloat16 once."""
    for data, options in examples:
        half = jnp.asarray(data[0]).astype(jnp.bfloat16)
        rest, narrow_options = cast(data[1:], np.float32), cast(options, np.float32)

        def of_half(x, rest=rest, options=narrow_options):
            return _rows_and_slope(loss)((x, *rest), options)

        def of_wide(x, of_half=of_half):
            losses, slope = of_half(x.astype(jnp.float32))
            return losses, slope.astype(x.dtype)

        losses, slope = jax.eval_shape(of_half, half)
        assert (losses.dtype, slope.dtype) == (jnp.float32, jnp.bfloat16)
        if identical(half, of_half, of_wide):
            return  # whatever the data hold
        wide = np.asarray(half.astype(jnp.float32)), *rest
        found, gradient = rows_and_slope(loss)((half, *rest), narrow_options)
        expected, reference = map(np.asarray, rows_and_slope(loss)(wide, narrow_options))
        # To two ULPs: the compiler may round a product and a sum once in one program, twice in the other.
        scale = case.value_scale(wide, narrow_options)
        close(found, expected, scale, 2 * ULP, dtype=np.float32, square=case.quadratic)
        slope_scale = case.slope_scale(wide, narrow_options)
        scale = HALF_BFLOAT16_ULP * np.abs(reference) + 4 * ULP * slope_scale
        close(gradient.astype(jnp.float32), reference, scale, 1.0, dtype=np.float32)


def rng_weights(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 2.0, ROWS)


def removals() -> st.SearchStrategy[list[int]]:
    """Which rows to remove: always as many, so that a test compiles once."""
    return st.lists(st.integers(0, ROWS - 1), min_size=ROWS - KEPT, max_size=ROWS - KEPT, unique=True)
