"""Microbatches and steps that add up, against the gradient of the whole batch by hand in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from programs import LAID_OUT

import jaxloss as jl

optax = pytest.importorskip("optax", reason="the adapter of Optax needs Optax")

from jaxloss.adapters.optax import accumulate, train_step  # noqa: E402

ROWS, MICROBATCHES = 24, 4
RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(ROWS, 3)), 3.0 * RNG.normal(size=ROWS)
START = np.array([0.3, -0.2, 0.5])
# Rows i, i + 4, ... are a microbatch: of the six rows of each, 6, 1, 2 and 0 are kept.
KEPT = np.stack([np.arange(6) < n for n in (6, 1, 2, 0)], axis=1).ravel()
WEIGHTS = RNG.uniform(0.5, 2.0, ROWS)

part = jl.partial_mean(jl.regression.squared_error)


@pytest.fixture(autouse=True)
def _promotion_as_optax_needs_it():
    with jax.numpy_dtype_promotion("standard"):
        yield


def objective(params, x, y, kept, weights):
    return part(x @ params, y, where=kept, weights=weights)


def by_hand(theta, kept, weights, rows=slice(None)):
    """L = Σ w r² / Σ w over the kept rows, and ∂L/∂θ = 2 Xᵀ(w r) / Σ w."""
    x, y, w = X[rows], Y[rows], (kept * weights)[rows]
    residual = x @ theta - y
    total = np.sum(w)
    return (
        (0.0, 0 * theta)
        if total == 0
        else (np.sum(w * residual**2) / total, 2 * x.T @ (w * residual) / total)
    )


def gradient_seen(step, optimizer_state, *batch):
    """The gradient a step of plain descent at rate 1 has followed, and the loss it returned."""
    params, _, loss = step(jnp.asarray(START), optimizer_state, *batch)
    return START - np.asarray(params), loss


PLAIN = optax.sgd(1.0)
whole = train_step(objective, PLAIN, donate=False)
parted = train_step(objective, PLAIN, donate=False, microbatches=MICROBATCHES)

masks = arrays(np.bool_, ROWS)
weightings = arrays(np.float64, ROWS, elements=st.floats(1e-3, 1e3))


# --- microbatches -----------------------------------------------------------------------------


@given(kept=masks, weights=weightings)
def test_microbatches_give_the_gradient_of_the_whole_batch(kept, weights):
    loss, gradient = by_hand(START, kept, weights)
    seen, returned = gradient_seen(parted, PLAIN.init(START), X, Y, kept, weights)
    np.testing.assert_allclose(returned, loss, rtol=1e-13)
    scale = np.abs(X * (X @ START - Y)[:, None])[kept].max(initial=0.0)
    np.testing.assert_allclose(seen, gradient, rtol=1e-13, atol=1e-14 * (1 + scale))


def test_the_mean_of_microbatches_means_is_far_off_and_optax_takes_it():
    loss = lambda p, *rows: objective(p, *rows).value()  # noqa: E731
    optimizer = optax.MultiSteps(PLAIN, MICROBATCHES)
    params, state = jnp.asarray(START), optimizer.init(jnp.asarray(START))
    for i in range(MICROBATCHES):
        grads = jax.grad(loss)(params, *(a[i::MICROBATCHES] for a in (X, Y, KEPT, WEIGHTS)))
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    _, gradient = by_hand(START, KEPT, WEIGHTS)
    ours, _ = gradient_seen(parted, PLAIN.init(START), X, Y, KEPT, WEIGHTS)
    theirs = START - np.asarray(params)
    size = np.linalg.norm(gradient)
    assert np.linalg.norm(theirs - gradient) > 0.1 * size
    assert np.linalg.norm(ours - gradient) < 1e-14 * size


def test_nan_in_a_row_removed_from_a_microbatch_reaches_nothing():
    y, weights = np.where(KEPT, Y, np.nan), np.where(KEPT, WEIGHTS, np.inf)
    seen, loss = gradient_seen(parted, PLAIN.init(START), X, y, KEPT, weights)
    np.testing.assert_allclose(seen, by_hand(START, KEPT, WEIGHTS)[1], rtol=1e-13)
    np.testing.assert_allclose(loss, by_hand(START, KEPT, WEIGHTS)[0], rtol=1e-13)


def test_one_step_over_the_whole_batch_takes_a_partial_mean_too():
    seen, loss = gradient_seen(whole, PLAIN.init(START), X, Y, KEPT, WEIGHTS)
    np.testing.assert_allclose(seen, by_hand(START, KEPT, WEIGHTS)[1], rtol=1e-13)
    np.testing.assert_allclose(loss, by_hand(START, KEPT, WEIGHTS)[0], rtol=1e-13)


def test_the_gradients_of_narrow_parameters_add_up_in_float32_and_are_rounded_once():
    # In bfloat16, of which 256 + 1 is 256, seven of these eight microbatches would be lost.
    slopes = jnp.asarray([256.0] + [1.0] * 7, jnp.bfloat16)

    def linear(p, slope):
        return jl.PartialMean(jnp.sum((p * slope).astype(jnp.float32)), jnp.float32(slope.size))

    step = train_step(linear, optax.sgd(1.0), microbatches=8)
    params, _, _ = step(jnp.zeros((), jnp.bfloat16), PLAIN.init(jnp.zeros(())), slopes)
    assert params.dtype == jnp.bfloat16
    assert params == jnp.bfloat16(-263.0 / 8)


@pytest.mark.parametrize("optimizer", [PLAIN, accumulate(PLAIN, every=1)], ids=["parts", "steps"])
@pytest.mark.parametrize("microbatches", [1, 4])
def test_the_gradient_of_a_total_beyond_float16_is_the_mean_gradient(optimizer, microbatches):
    # ∂ of each row is −3, of all their total −786432; float16 ends at 65504.
    x = jnp.ones((2**18, 1), jnp.float16)

    def flat(p, x):
        return jl.partial_mean(lambda r: r)(-3.0 * (x @ p))

    step = train_step(flat, optimizer, donate=False, microbatches=microbatches)
    start = jnp.zeros(1, jnp.float16)
    params, _, _ = step(start, optimizer.init(start), x)
    assert params.dtype == jnp.float16
    np.testing.assert_allclose(np.asarray(params, float), 3.0, rtol=1e-3)


def test_a_microbatch_of_no_weight_keeps_the_gradient_of_its_total():
    # Weights 1 and −1: nothing to divide by, and a total that counts.
    signs, slopes = np.array([1.0, 1.0, 1.0, -1.0]), np.array([1.0, 2.0, 3.0, 7.0])

    def linear(p, slope, w):
        return jl.PartialMean(jnp.sum(p * slope * w), jnp.sum(w))

    step = train_step(linear, PLAIN, donate=False, microbatches=2)
    params, _, _ = step(jnp.zeros(()), PLAIN.init(jnp.zeros(())), slopes, signs)
    np.testing.assert_allclose(params, -np.sum(signs * slopes) / np.sum(signs), rtol=1e-14)


def test_what_else_the_objective_returns_comes_back_by_microbatch():
    def with_rows(params, x, y):
        return part(x @ params, y), x[:, 0]

    step = train_step(with_rows, PLAIN, has_aux=True, microbatches=MICROBATCHES)
    _, _, (_, seen) = step(jnp.asarray(START), PLAIN.init(START), X, Y)
    np.testing.assert_array_equal(seen, [X[i::MICROBATCHES, 0] for i in range(MICROBATCHES)])


def test_a_line_search_sees_the_whole_batch():
    optimizer = optax.lbfgs()
    steps = [train_step(objective, optimizer, donate=False, microbatches=k) for k in (1, MICROBATCHES)]
    found = []
    for step in steps:
        params, state = jnp.asarray(START), optimizer.init(jnp.asarray(START))
        for _ in range(4):
            params, state, _ = step(params, state, X, Y, KEPT, WEIGHTS)
        found.append(params)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9)


def test_options_reach_every_microbatch_whole():
    def scaled(params, x, y, *, scale):
        return part(scale * (x @ params), y)

    step = train_step(scaled, PLAIN, donate=False, microbatches=MICROBATCHES)
    _, _, loss = step(jnp.asarray(START), PLAIN.init(START), X, Y, scale=jnp.asarray(2.0))
    np.testing.assert_allclose(loss, np.mean((2 * X @ START - Y) ** 2), rtol=1e-13)


# Hidden values [rows, 512] and their gradients are what a batch keeps in memory.
def _deep(params, x, y):
    hidden = jnp.tanh(x @ params["in"])
    for _ in range(4):
        hidden = jnp.tanh(hidden * params["scale"][None])
    return part(jnp.sum(hidden, -1), y)


def _temporaries(microbatches):
    params = {"in": jnp.zeros((8, 512), jnp.float32), "scale": jnp.ones(512, jnp.float32)}
    x, y = jnp.zeros((1024, 8), jnp.float32), jnp.zeros(1024, jnp.float32)
    from jaxloss.training._step import step_of

    step = jax.jit(step_of(_deep, PLAIN, has_aux=False, microbatches=microbatches))
    return step.lower(params, PLAIN.init(params), x, y).compile(LAID_OUT).memory_analysis().temp_size_in_bytes


def test_eight_microbatches_need_a_fraction_of_the_memory():
    assert _temporaries(8) < 0.25 * _temporaries(1), (_temporaries(8), _temporaries(1))


def test_a_microbatch_of_a_sharded_batch_stays_on_its_devices():
    # In runs, each microbatch would lie on two of the eight devices, and travel.
    rows = NamedSharding(Mesh(np.array(jax.devices()), "d"), PartitionSpec("d"))
    x, y = (jax.device_put(np.concatenate([a, a, a, a]), rows) for a in (X, Y))
    from jaxloss.training._step import step_of

    step = step_of(lambda p, x, y: part(x @ p, y), PLAIN, has_aux=False, microbatches=MICROBATCHES)
    program = jax.jit(step).lower(jnp.asarray(START), PLAIN.init(START), x, y).compile(LAID_OUT)
    text = program.as_text()
    assert "all-reduce" in text
    assert not any(move in text for move in ("all-gather", "all-to-all", "collective-permute"))


# --- steps ------------------------------------------------------------------------------------


def _sliced(i):
    return tuple(a[i::MICROBATCHES] for a in (X, Y, KEPT, WEIGHTS))


@pytest.mark.parametrize("microbatches", [1, 3])
def test_accumulated_steps_are_one_step_over_all_their_rows(microbatches):
    optimizer = accumulate(optax.adam(0.1), every=MICROBATCHES)
    step = train_step(objective, optimizer, microbatches=microbatches)
    params, state = jnp.asarray(START), optimizer.init(jnp.asarray(START))
    once = train_step(objective, optax.adam(0.1))
    wanted, inner = jnp.asarray(START), optax.adam(0.1).init(jnp.asarray(START))
    for _ in range(3):
        for i in range(MICROBATCHES):
            np.testing.assert_array_equal(state.steps, i)
            params, state, _ = step(params, state, *_sliced(i))
        wanted, inner, _ = once(wanted, inner, X, Y, KEPT, WEIGHTS)
        np.testing.assert_allclose(params, wanted, rtol=1e-12)


def test_nothing_moves_before_the_last_of_the_steps():
    optimizer = accumulate(PLAIN, every=MICROBATCHES)
    step = train_step(objective, optimizer, donate=False)
    params, state = jnp.asarray(START), optimizer.init(jnp.asarray(START))
    for i in range(MICROBATCHES - 1):
        params, state, _ = step(params, state, *_sliced(i))
        np.testing.assert_array_equal(params, START)
    params, state, _ = step(params, state, *_sliced(MICROBATCHES - 1))
    np.testing.assert_allclose(START - np.asarray(params), by_hand(START, KEPT, WEIGHTS)[1], rtol=1e-13)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(state))


def test_in_a_loop_of_ones_own_it_takes_the_gradient_of_the_total_and_the_weight():
    optimizer = accumulate(PLAIN, every=2)

    def total(params, *rows):
        found = objective(params, *rows)
        return found.total, found.weight

    state = optimizer.init(jnp.asarray(START))
    for i in (0, 1):
        totals, weight = jax.grad(total, has_aux=True)(jnp.asarray(START), *_sliced(i))
        updates, state = optimizer.update(totals, state, weight=weight)
    rows = np.arange(ROWS) % MICROBATCHES < 2
    np.testing.assert_allclose(updates, -by_hand(START, KEPT & rows, WEIGHTS)[1], rtol=1e-13)


def test_an_optimizer_inside_is_told_the_mean_loss_of_all_the_rows():
    seen = []

    def update(updates, state, params=None, *, value, **extra):
        jax.debug.callback(lambda v: seen.append(float(v)), value)
        return updates, state

    inner = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    optimizer = accumulate(inner, every=MICROBATCHES)
    step = train_step(objective, optimizer, donate=False)
    state = optimizer.init(jnp.asarray(START))
    for i in range(MICROBATCHES):
        _, state, _ = step(jnp.asarray(START), state, *_sliced(i))
    jax.effects_barrier()
    np.testing.assert_allclose(seen, [by_hand(START, KEPT, WEIGHTS)[0]], rtol=1e-13)


def test_where_nothing_is_kept_the_gradient_is_zero():
    optimizer = accumulate(PLAIN, every=1)
    step = train_step(objective, optimizer, donate=False, microbatches=MICROBATCHES)
    seen, loss = gradient_seen(step, optimizer.init(jnp.asarray(START)), X, Y, np.zeros(ROWS, bool), WEIGHTS)
    np.testing.assert_array_equal(seen, 0)
    assert loss == 0


# --- refused ----------------------------------------------------------------------------------


def _step_with(objective, optimizer=PLAIN, microbatches=MICROBATCHES):
    return train_step(objective, optimizer, donate=False, microbatches=microbatches)


@pytest.mark.parametrize("optimizer", [PLAIN, accumulate(PLAIN, every=2)], ids=["parts", "steps"])
@pytest.mark.parametrize(
    ("returned", "error", "words"),
    [
        (lambda r: jnp.mean(r), TypeError, r"`PartialMean`, got float64\[\]; .*jl\.partial_mean\(loss\)"),
        (lambda r: r, TypeError, r"must return a `PartialMean`, got float64\[\d+\]"),
        (lambda r: "loss", TypeError, "must return a `PartialMean`, got str"),
        (
            lambda r: jl.PartialMean(r, 1.0),
            ValueError,
            r"the total of .* must be a scalar, got shape \(\d+,\)",
        ),
        (lambda r: jl.PartialMean(jnp.sum(r), r), ValueError, "the weight of .* must be a scalar"),
        (
            lambda r: jl.PartialMean(jnp.asarray(1), 1.0),
            TypeError,
            "the total of .* must be floating, got int64",
        ),
    ],
)
def test_an_objective_whose_parts_do_not_add_up_is_refused(optimizer, returned, error, words):
    step = _step_with(lambda p, x, y: returned(x @ p - y), optimizer)
    with pytest.raises(error, match=f"train_step: .*{words}"):
        step(jnp.asarray(START), optimizer.init(jnp.asarray(START)), X, Y)


@pytest.mark.parametrize("optimizer", [PLAIN, accumulate(PLAIN, every=2)], ids=["parts", "steps"])
def test_a_weight_that_depends_on_the_parameters_is_refused_unless_cut_off(optimizer):
    def weighted(params, x, y, cut):
        return part(x @ params, y, weights=cut(jnp.exp(x[:, 0] * params[0])))

    state = optimizer.init(jnp.asarray(START))
    with pytest.raises(ValueError, match=r"weight of the `PartialMean` depends on .*stop_gradient"):
        _step_with(lambda *a: weighted(*a, lambda w: w), optimizer)(jnp.asarray(START), state, X, Y)
    _, _, loss = _step_with(lambda *a: weighted(*a, jax.lax.stop_gradient), optimizer)(
        jnp.asarray(START), state, X, Y
    )
    w = np.exp(X[:, 0] * START[0])
    np.testing.assert_allclose(loss, np.sum(w * (X @ START - Y) ** 2) / w.sum(), rtol=1e-12)


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ((X[:23], Y[:23]), "`microbatches` = 4 must divide the 23 rows of the batch; pad it to 24 rows"),
        ((X, Y[:12]), r"`batch\[1\]` \(12,\) has other rows than `batch\[0\]` \(24, 3\)"),
        ((X, 2.0), r"`batch\[1\]` \(\) has other rows .* by name"),
        ((), "`microbatches` is 4 but there is no batch"),
    ],
)
def test_a_batch_that_does_not_divide_is_refused(batch, words):
    with pytest.raises(ValueError, match=f"train_step: .*{words}"):
        _step_with(lambda p, x, y: part(x @ p, y))(jnp.asarray(START), PLAIN.init(START), *batch)


@pytest.mark.parametrize(
    ("k", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError)]
)
def test_a_number_of_parts_that_is_no_count_is_refused(k, error):
    with pytest.raises(error, match="train_step: `microbatches` must be"):
        train_step(objective, PLAIN, microbatches=k)
    with pytest.raises(error, match="accumulate: `every` must be"):
        accumulate(PLAIN, every=k)


@pytest.mark.parametrize("optimizer", [PLAIN, accumulate(PLAIN, every=2)], ids=["whole", "steps"])
@pytest.mark.parametrize("microbatches", [1, MICROBATCHES])
@pytest.mark.parametrize(
    ("returned", "got"),
    [
        (lambda loss: loss, "PartialMean"),
        (lambda loss: loss.value(), r"float64\[\]"),
        (lambda loss: (loss, 1.0, 2.0), "a tuple of 3"),
    ],
)
def test_with_aux_an_objective_that_returns_no_pair_is_refused(optimizer, microbatches, returned, got):
    step = train_step(
        lambda p, x, y: returned(part(x @ p, y)),
        optimizer,
        has_aux=True,
        donate=False,
        microbatches=microbatches,
    )
    words = f"train_step: with `has_aux` the `objective` must return a pair, .* got {got}; return `loss, aux`"
    with pytest.raises(TypeError, match=words):
        step(jnp.asarray(START), optimizer.init(jnp.asarray(START)), X, Y)


@pytest.mark.parametrize(
    "search", [optax.lbfgs(), optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(5))]
)
def test_a_line_search_over_rows_that_are_gone_is_refused(search):
    optimizer = accumulate(search, every=2)
    with pytest.raises(TypeError, match=r"accumulate: `optimizer` must not search .*`linesearch=None`"):
        _step_with(objective, optimizer, 1)(
            jnp.asarray(START), optimizer.init(jnp.asarray(START)), X, Y, KEPT, WEIGHTS
        )


def test_a_line_search_that_is_given_what_to_evaluate_may_be_inside():
    optimizer = accumulate(optax.lbfgs(), every=1)
    total = lambda p: objective(p, X, Y, KEPT, WEIGHTS).total  # noqa: E731
    weight, start = np.sum(KEPT * WEIGHTS), jnp.asarray(START)
    updates, _ = optimizer.update(
        jax.grad(total)(start),
        optimizer.init(start),
        start,
        weight=weight,
        loss=total(start),
        value_fn=lambda p: total(p) / weight,
    )
    assert total(start + updates) < total(start)


def test_accumulation_inside_a_chain_is_refused():
    optimizer = optax.chain(optax.clip(1.0), accumulate(PLAIN, every=2))
    with pytest.raises(ValueError, match=r"needs `weight`.*outermost"):
        _step_with(objective, optimizer, 1)(
            jnp.asarray(START), optimizer.init(jnp.asarray(START)), X, Y, KEPT, WEIGHTS
        )
