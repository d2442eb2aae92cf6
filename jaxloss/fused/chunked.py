"""Rows in chunks: the value and the derivatives of a row loss, in the memory of one chunk."""

import functools
import itertools
import math
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxloss._contracts import CHECKING, row_count, start_with_rows
from jaxloss._loss import card_of, check_options, compiled, divided, fusion_of, name_of

RowLoss = Callable[..., Array]


def chunked(loss: RowLoss, *, rows: int) -> RowLoss:
    """Turn a row loss into the same loss, computed so many rows at a time.

        chunked(loss, rows=k)(x, ...) = [loss(x[0:k], ...), loss(x[k:2k], ...), ...],
        ∂/∂θ = Σ over chunks of ∂loss(chunk)/∂θ,  each chunk computed again when it is differentiated

    Any function of the form `loss(*data, **options)` will do, whose data are arrays that start with the
    rows' axes (or are scalars) and whose result is one value a row: ours, Optax's, a lambda, a model
    and its loss. What a chunk makes on its way, as the logits of a model's last layer, is never there
    for more than one chunk, in the derivatives of any order as well. Two calls of `chunked(f, rows=k)`
    share one compiled function, which lives as long as f does. It is a row loss again, for `mean`,
    `sum` and `partial_mean` to reduce.

    Rows are told from the loss's result, and several axes of them are taken as one. Each is computed
    without the others: where a loss needs a whole sequence, let the sequence be a row. Parameters are
    closed over or given by name as options, in any pytree; theirs and every shared derivative is added
    up in float32 at least. An option is one a row where the loss of a chunk cannot take it whole.
    A random key that is closed over draws the same in every chunk: give one a row, as data.

    Args:
        loss: the row loss.
        rows: how many rows at a time; a last chunk may be shorter.

    Returns:
        A function of what the loss takes. Under `jl.checked` it takes all rows at once, so that an error
        names the place in the whole.

    Raises:
        TypeError: `rows` that is no integer; (of the result) data that are not arrays.
        ValueError: `rows` below 1; a loss whose rows depend on each other; (of the result) a loss that
            returns one number for all rows, or that is not of its rows alone; data of other rows.

    """
    size = row_count("chunked", "rows", rows)
    _refuse_coupled(loss)
    try:
        return _remembered(loss, size)
    except TypeError:  # not hashable or not weakly referable: nothing to remember it by
        return _wrapped(loss, _compile(lambda: loss, size))


class _Made(NamedTuple):
    """The compiled form of a loss in chunks, and what was made of it for as long as somebody holds it."""

    run: RowLoss
    held: Callable[[], RowLoss | None]


# The compiled form reaches the loss through a weak reference: a loss that nobody else holds is freed.
_MEMO: weakref.WeakKeyDictionary[RowLoss, dict[int, _Made]] = weakref.WeakKeyDictionary()


def _remembered(loss: RowLoss, size: int) -> RowLoss:
    sizes = _MEMO.setdefault(loss, {})
    if size in sizes and (found := sizes[size].held()):
        return found
    run = sizes[size].run if size in sizes else _compile(weakref.ref(loss), size)
    made = _wrapped(loss, run)
    # Ours live as long as the library does; anybody else's must not be held by what it became.
    sizes[size] = _Made(run, weakref.ref(made) if card_of(loss) is None else lambda: made)
    return made


def _wrapped(loss: RowLoss, run: RowLoss) -> RowLoss:
    """`run` behind the check of concrete hyperparameters, with the card of the loss that it is."""
    card = card_of(loss)

    @functools.wraps(loss, updated=())
    def in_chunks(*data: ArrayLike, **options: Any) -> Array:
        if card is not None and options:
            check_options(card.name, card.options, options)
        return run(*data, **options)

    if card is not None:
        in_chunks.card = card  # pyright: ignore[reportAttributeAccessIssue]
    return in_chunks


def _compile(loss: Callable[[], RowLoss | None], size: int) -> RowLoss:
    def run(*data: Any, **options: Any) -> Array:
        function = loss()
        assert function is not None  # whoever calls holds it
        return _in_chunks(function, size, data, options)

    return compiled(run, inline=True)


def _in_chunks(loss: RowLoss, size: int, data: tuple[Any, ...], options: dict[str, Any]) -> Array:
    who = f"chunked({name_of(loss)})"
    _check_arrays(who, data)
    shape = _rows(who, jax.eval_shape(lambda: loss(*data, **options)), card_of(loss) is not None, data)
    start_with_rows(who, data, shape, "give parameters by name, as options, or close over them")
    count = math.prod(shape)
    if count <= size or CHECKING.get():
        return loss(*data, **options)
    of_rows = {str(i): array for i, array in enumerate(data) if array.ndim}
    fixed, traced = divided(options)
    shared = {str(i): array for i, array in enumerate(data) if not array.ndim} | traced

    def call(arguments: dict[str, Any]) -> Array:
        given = dict(arguments)
        positional = [given.pop(str(i)) for i in range(len(data))]
        return loss(*positional, **given, **fixed)

    for name in _options_of_rows(who, call, shape, size, of_rows, shared):
        of_rows[name] = shared.pop(name)
    flat = jax.tree.map(lambda array: _flat(array, shape), of_rows)
    return _scanned(call, count, size, flat, shared).reshape(shape)


def _scanned(
    call: Callable[[dict[str, Any]], Array],
    count: int,
    size: int,
    of_rows: dict[str, Any],
    shared: dict[str, Any],
) -> Array:
    """The losses of `count` rows, `size` at a time: a scan over whole chunks, and what is left."""
    widened: dict[int, Any] = {}

    def rows(start: ArrayLike, length: int) -> dict[str, Any]:
        # Read in place. As the scan's own input a chunk would be stored once more to be differentiated,
        # and rows that are no multiple of the chunk would be copied first.
        return jax.tree.map(lambda array: lax.dynamic_slice_in_dim(array, start, length), of_rows)

    def of(length: int) -> Callable[[ArrayLike], Array]:
        # What the loss closes over is found by tracing it: `jax.closure_convert` would hold it for good.
        traced = jax.make_jaxpr(lambda *given: call(given[0] | given[1]))(rows(0, length), shared)
        closed_over = [jnp.asarray(value) for value in traced.consts]
        for key, value in zip(map(id, traced.consts), closed_over, strict=True):
            widened.setdefault(key, _wide(value))
        wide = [widened[key] for key in map(id, traced.consts)]

        # Not before it is used: with it comes all of Pallas, most of what `import jaxloss` would cost.
        from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

        @jax.checkpoint
        def chunk(start: ArrayLike, shared: dict[str, Any], wide: list[Any]) -> Array:
            given, constants = jax.tree.map(_narrow, (shared, wide), (original, closed_over))
            (losses,) = jaxpr_as_fun(ClosedJaxpr(traced.jaxpr, constants))(
                *jax.tree.leaves((rows(start, length), given))
            )
            return losses

        return lambda start: chunk(start, wide_shared, wide)

    original, wide_shared = shared, jax.tree.map(_wide, shared)
    whole, left = divmod(count, size)
    chunk = of(size)
    _, losses = lax.scan(lambda _, i: (None, chunk(i * size)), None, jnp.arange(whole))
    losses = losses.reshape(whole * size)
    return jnp.concatenate([losses, of(left)(whole * size)]) if left else losses


def _wide(value: Any) -> Any:
    """What all chunks share, in a dtype in which what they add to its derivative is not rounded each time."""
    half = isinstance(value, Array) and jnp.issubdtype(value.dtype, jnp.floating) and value.dtype.itemsize < 4
    return value.astype(jnp.float32) if half else value


def _narrow(value: Any, original: Any) -> Any:
    return value.astype(original.dtype) if isinstance(value, Array) else value


def _flat(array: Array, shape: tuple[int, ...]) -> Array:
    """The rows on one axis: of data, or of an option that broadcasts to them."""
    wanted = shape + array.shape[len(shape) :]
    return jnp.broadcast_to(array, wanted).reshape(math.prod(shape), *wanted[len(shape) :])


def _options_of_rows(
    who: str,
    call: Callable[[dict[str, Any]], Array],
    shape: tuple[int, ...],
    size: int,
    of_rows: dict[str, Any],
    shared: dict[str, Any],
) -> tuple[str, ...]:
    """The options that go with the rows: no more of them than the loss of a chunk needs to be one.

    A shape alone does not tell: class weights of as many classes as there are rows are no row's.
    """
    names = [name for name, option in shared.items() if _may_be_of_rows(option, shape)]
    error: Exception | None = None
    for number in range(len(names) + 1):
        for chosen in itertools.combinations(names, number):
            taken = of_rows | {name: shared[name] for name in chosen}
            chunk = jax.tree.map(lambda array: _flat(array, shape)[:size], taken)
            try:
                found = jax.eval_shape(lambda chunk=chunk: call(shared | chunk))
            except (TypeError, ValueError) as refusal:
                error = refusal
                continue
            if found.shape == (size,):
                return chosen
    msg = (
        f"{who}: {size} of the {shape} rows must be a loss of their own, of shape ({size},), which they are "
        "not; give what stands one a row as data or options, and let the loss compute each row alone."
    )
    raise ValueError(msg) from error


def _may_be_of_rows(option: Any, shape: tuple[int, ...]) -> bool:
    """Whether every array of an option broadcasts to the rows, before items of its own."""
    leaves = jax.tree.leaves(option)
    return bool(leaves) and all(_broadcasts(jnp.shape(leaf)[: len(shape)], shape) for leaf in leaves)


def _broadcasts(axes: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return bool(axes) and all(a in (1, b) for a, b in zip(axes[::-1], shape[::-1], strict=False))


# --- what the caller gave ---------------------------------------------------------------------


def _refuse_coupled(loss: RowLoss) -> None:
    loss = loss.func if isinstance(loss, functools.partial) else loss
    card, fusion = card_of(loss), fusion_of(loss)
    if fusion is not None:
        msg = f"chunked({fusion.name}): it goes by chunks already; set its `chunk_size` instead."
        raise ValueError(msg)
    if card is not None and card.task == "contrastive" and card.masks_itself:
        msg = (
            f"chunked({card.name}): the loss of a row depends on the other rows of its batch, and a chunk "
            "would leave most of them out; give it the whole batch."
        )
        raise ValueError(msg)


def _check_arrays(who: str, data: tuple[Any, ...]) -> None:
    for position, array in enumerate(data):
        if not isinstance(array, Array):
            msg = (
                f"{who}: data argument {position} must be an array, got {type(array).__name__}; "
                "give parameters by name, as options, or close over them."
            )
            raise TypeError(msg)


def _rows(who: str, losses: Any, ours: bool, data: tuple[Array, ...]) -> tuple[int, ...]:
    """The rows' shape, from what the loss returns."""
    if not isinstance(losses, jax.ShapeDtypeStruct):
        msg = f"{who}: the loss must return one array, got {type(losses).__name__}; return the losses alone."
        raise TypeError(msg)
    if losses.shape == () and not ours and any(array.ndim for array in data):
        msg = (
            f"{who}: the loss must return one value a row, got one number for data of shape "
            f"{data[0].shape}; reduce outside, as in jl.mean(jl.chunked(loss, rows=...))."
        )
        raise ValueError(msg)
    return losses.shape
