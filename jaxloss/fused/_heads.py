"""Rows of logits made, used and forgotten a chunk at a time: any row loss of `features @ kernel + bias`.

The gradient is not found by going back over the loop. The rule of `weighted_total` makes it in the loop
that makes the value, while the logits are there: one product of matrices for them, one for the features'
gradient, one for the kernel's. Each that nothing asks for is left out. The rule is itself a plain loop, so
further derivatives, forward or reverse, go through it in the same chunks.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

from jaxloss.fused._products import Axes, Head, logits_of, parts, slopes_of_head
from jaxloss.fused._sharding import spread
from jaxloss.numerics import whole

# Bytes of logits in a chunk, and rows that it has at least: every chunk reads and writes the kernel's
# gradient, which only rows enough make little beside the products of matrices, whatever their width.
_BUDGET = {"cpu": 1 << 25}
_ACCELERATOR_BUDGET = 1 << 31
_LEAST_ROWS = 512


class Rows(NamedTuple):
    """All that a weighted total of row losses depends on.

    `own` holds arrays of N rows beside the features, such as labels; `shared` what all rows share;
    `kept`, `[N]` or None, the rows that there are. `negligible`, a number or None, is the slope of a
    loss in a logit up to which a class is left out of the products.
    """

    heads: tuple[Head, ...]
    own: tuple[Array, ...]
    shared: dict[str, Array]
    weights: Array
    kept: Array | None
    negligible: Array | None = None


class Plan(NamedTuple):
    """What is known when traced: the row loss of logits, and how the rows are gone through.

    `losses(*logits, *own, **shared)` is one number a row.
    """

    losses: Callable[..., Array]
    layout: str
    chunk: int | None

    @property
    def axes(self) -> Axes:
        """Which axis of a kernel is which."""
        return Axes(self.layout.index("d"), self.layout.index("v"))


# --- chunks -------------------------------------------------------------------------------------------


class _Chunks(NamedTuple):
    """Equal chunks of rows; the first starts with what the others leave over and ends in rows of the next."""

    steps: int
    size: int
    left_over: int


def _chunks(plan: Plan, rows: Rows) -> _Chunks:
    given = rows.weights.shape[0]
    if plan.chunk is None:
        count = parts(given, _rows_within_budget(plan, rows))
        size = -(-given // count)
    else:
        size = max(min(plan.chunk, given), 1)
        count = max(-(-given // size), 1)
    return _Chunks(count, size, given - (count - 1) * size)


def _rows_within_budget(plan: Plan, rows: Rows) -> int:
    classes = max(head.kernel.shape[plan.axes.classes] for head in rows.heads)
    budget = _BUDGET.get(jax.default_backend(), _ACCELERATOR_BUDGET)
    return max(budget // (classes * rows.weights.dtype.itemsize), _LEAST_ROWS)


def _chunk_of(rows: Rows, chunks: _Chunks, index: Array) -> tuple[Rows, Array | int]:
    """One chunk of the rows, those it has in common with the next not kept; and where it starts."""
    if chunks.steps == 1:
        return rows, 0
    overlapping = chunks.left_over < chunks.size
    start = jnp.maximum(index * chunks.size - (chunks.size - chunks.left_over), 0)

    def part(array: Array) -> Array:
        return lax.dynamic_slice_in_dim(array, start, chunks.size)

    kept = None if rows.kept is None else part(rows.kept)
    if overlapping:
        own = jnp.arange(chunks.size) < jnp.where(index == 0, chunks.left_over, chunks.size)
        kept = own if kept is None else own & kept
    heads = tuple(head._replace(features=part(head.features)) for head in rows.heads)
    own = tuple(map(part, rows.own))
    return rows._replace(heads=heads, own=own, weights=part(rows.weights), kept=kept), start


def _loop(plan: Plan, rows: Rows, body: Callable[[Any, Rows, Array | int], Any], carry: Any) -> Any:
    """`body(carry, chunk, start)` over the chunks in turn; without a loop where there is one."""
    chunks, carry = _chunks(plan, rows), spread(carry, rows)

    def step(carry: Any, index: Array) -> tuple[Any, None]:
        return body(carry, *_chunk_of(rows, chunks, index)), None

    if chunks.steps == 1:
        return step(carry, jnp.int32(0))[0]
    return lax.scan(step, carry, jnp.arange(chunks.steps, dtype=jnp.int32))[0]


# --- one chunk ----------------------------------------------------------------------------------------


def _tidy(chunk: Rows) -> Rows:
    """Rows that are not kept hold zeros, and even distributions: beside a zero slope a NaN is still one."""
    if chunk.kept is None:
        return chunk
    column = chunk.kept[:, None]
    heads = tuple(h._replace(features=jnp.where(column, h.features, 0)) for h in chunk.heads)
    own = tuple(a if a.ndim == 1 else jnp.where(column, a, 1 / a.shape[1]) for a in chunk.own)
    return chunk._replace(heads=heads, own=own)


def _logits(plan: Plan, chunk: Rows) -> list[Array]:
    """In the weights' dtype, float32 at least. A select of the kept rows would store them once more."""
    return [logits_of(head, plan.axes, chunk.weights.dtype) for head in chunk.heads]


def _row_losses(plan: Plan, chunk: Rows) -> Array:
    """One number a row of the chunk, 0 for a row that is not kept."""
    chunk = _tidy(chunk)
    losses = plan.losses(*_logits(plan, chunk), *chunk.own, **chunk.shared)
    return losses if chunk.kept is None else jnp.where(chunk.kept, losses, 0)


# --- rows -> rows -------------------------------------------------------------------------------------


def row_losses(plan: Plan, rows: Rows) -> Array:
    """One number a row. A derivative makes the logits of each chunk again."""
    rows = spread(rows, rows)
    # The kernel's gradient is summed over the chunks in the dtype in which the loop gets the kernel.
    narrow = [head.kernel.dtype for head in rows.heads]
    heads = _with_kernels(rows.heads, [rows.weights.dtype] * len(narrow))

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def of_chunk(chunk: Rows) -> Array:
        return _row_losses(plan, chunk._replace(heads=_with_kernels(chunk.heads, narrow)))

    def body(losses: Array, chunk: Rows, start: Array | int) -> Array:
        return lax.dynamic_update_slice_in_dim(losses, of_chunk(chunk), start, axis=0)

    return _loop(plan, rows._replace(heads=heads), body, jnp.zeros_like(rows.weights))


def _with_kernels(heads: Sequence[Head], dtypes: Sequence[Any]) -> tuple[Head, ...]:
    pairs = zip(heads, dtypes, strict=True)
    return tuple(head._replace(kernel=head.kernel.astype(dtype)) for head, dtype in pairs)


# --- rows -> a number ---------------------------------------------------------------------------------


def weighted_total(plan: Plan, rows: Rows) -> Array:
    """Σ w ℓ, with every derivative made beside the value."""

    @jax.custom_jvp
    def total(rows: Rows) -> Array:
        def body(carry: Array, chunk: Rows, _: Array | int) -> Array:
            return carry + _weighted(chunk, _row_losses(plan, chunk))

        return _loop(plan, rows, body, jnp.zeros((), rows.weights.dtype))

    def rule(primals: tuple[Rows], tangents: tuple[Rows]) -> tuple[Array, Array]:
        (rows,), (moves,) = primals, tangents
        moving = jax.tree.map(lambda move: not _is_zero(move), moves, is_leaf=_is_zero)
        value, slopes = whole(lambda rows: _value_and_slopes(plan, rows, moving))(rows)
        pairs = zip(jax.tree.leaves(slopes), jax.tree.leaves(moves, is_leaf=_is_zero), strict=True)
        tangent = jnp.zeros_like(value)
        for slope, move in pairs:
            if not _is_zero(move):
                tangent = tangent + jnp.vdot(slope.astype(value.dtype), move.astype(value.dtype))
        return value, tangent

    total.defjvp(rule, symbolic_zeros=True)
    rows = spread(rows, rows)
    scale = _scale(rows)
    return total(rows) if scale is None else scale * total(rows._replace(weights=rows.weights / scale))


def _scale(rows: Rows) -> Array | None:
    """The largest weight, if slopes are rounded to float16: at the shares of a mean it would lose them."""
    if all(head.features.dtype != jnp.float16 for head in rows.heads):
        return None
    largest = lax.stop_gradient(jnp.max(jnp.abs(rows.weights), initial=0))
    return jnp.where(largest == 0, 1, largest)


def _is_zero(move: Any) -> bool:
    return isinstance(move, SymbolicZero)


def _weighted(chunk: Rows, losses: Array) -> Array:
    weights = chunk.weights if chunk.kept is None else jnp.where(chunk.kept, chunk.weights, 0)
    return jnp.sum(weights * losses)


def _value_and_slopes(plan: Plan, rows: Rows, moving: Rows) -> tuple[Array, Rows]:
    """Σ w ℓ, and its derivative in each leaf that moves; a scalar zero for one that does not."""

    # What comes after may keep no array of a chunk: a derivative of the derivative makes it again.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def of_chunk(chunk: Rows, kernels: Sequence[Array | None]) -> tuple[Array, Rows]:
        return _slopes_of_chunk(plan, chunk, moving, kernels)

    first = _chunks(plan, rows).steps == 1
    joins = _joins(rows)

    def empty(join: _Join, moves: bool, array: Array) -> Array:
        if not moves:
            return jnp.zeros(())
        return jnp.zeros(array.shape, array.dtype if join is _written else rows.weights.dtype)

    def body(carry: tuple[Array, Rows], chunk: Rows, start: Array | int) -> tuple[Array, Rows]:
        value, slopes = of_chunk(chunk, [None if first else head.kernel for head in carry[1].heads])

        def joined(join: _Join, moves: bool, total: Array, slope: Array) -> Array:
            return join(total, slope, start) if moves else total

        return carry[0] + value, jax.tree.map(joined, joins, moving, carry[1], slopes)

    zero = jnp.zeros((), rows.weights.dtype)
    return _loop(plan, rows, body, (zero, jax.tree.map(empty, joins, moving, rows)))


# How the slopes of a chunk join those before, `join(so_far, slopes, start)`.
_Join = Callable[[Array, Array, Array | int], Array]


def _written(so_far: Array, slopes: Array, start: Array | int) -> Array:
    """Of the rows: each its own."""
    return lax.dynamic_update_slice_in_dim(so_far, slopes.astype(so_far.dtype), start, axis=0)


def _added(so_far: Array, slopes: Array, start: Array | int) -> Array:
    """Of what all rows share."""
    del start
    return so_far + slopes


def _total(so_far: Array, slopes: Array, start: Array | int) -> Array:
    """Of a kernel: they were added where they were made."""
    del so_far, start
    return slopes


def _joins(rows: Rows) -> Rows:
    """For each leaf its own."""
    shared = jax.tree.map(lambda _: _added, rows)
    heads = tuple(head._replace(features=_written, kernel=_total) for head in shared.heads)
    own, kept = jax.tree.map(lambda _: _written, (rows.own, rows.kept))
    return shared._replace(heads=heads, own=own, weights=_written, kept=kept)


def _slopes_of_chunk(
    plan: Plan, chunk: Rows, moving: Rows, kernels: Sequence[Array | None]
) -> tuple[Array, Rows]:
    """The chunk's part of Σ w ℓ and its derivatives, as `_value_and_slopes` has them; the kernels' so far."""
    chunk = _tidy(chunk)
    kept, nothing = chunk.kept, jnp.zeros(())
    logits = tuple(_logits(plan, chunk))
    asked = (tuple(map(any, moving.heads)), moving.own, moving.shared)
    given = (logits, chunk.own, chunk.shared)
    taken = [leaf for leaf, ask in zip(jax.tree.leaves(given), jax.tree.leaves(asked), strict=True) if ask]

    def losses_of(taken: Sequence[Array]) -> Array:
        rest = iter(taken)
        leaves = zip(jax.tree.leaves(given), jax.tree.leaves(asked), strict=True)
        filled = [next(rest) if ask else leaf for leaf, ask in leaves]
        of_logits, own, shared = jax.tree.unflatten(jax.tree.structure(given), filled)
        losses = plan.losses(*of_logits, *own, **shared)
        return losses if kept is None else jnp.where(kept, losses, 0)

    losses, pull = jax.vjp(losses_of, taken)
    weights = chunk.weights if kept is None else jnp.where(kept, chunk.weights, 0)
    found = iter(pull(weights)[0])
    filled = [next(found) if ask else nothing for ask in jax.tree.leaves(asked)]
    of_logits, own, shared = jax.tree.unflatten(jax.tree.structure(given), filled)
    bound = None if chunk.negligible is None else chunk.negligible * jnp.abs(weights)
    heads = []
    for head, slopes, move, so_far in zip(chunk.heads, of_logits, moving.heads, kernels, strict=True):
        if not any(move):
            heads.append(jax.tree.map(lambda _: nothing, head))
            continue
        kept_slopes = slopes if kept is None else jnp.where(kept[:, None], slopes, 0)
        heads.append(slopes_of_head(head, plan.axes, kept_slopes, move, so_far, bound))
    of_weights = losses if moving.weights else nothing
    idle = jax.tree.map(lambda _: nothing, (moving.kept, moving.negligible))
    return jnp.sum(weights * losses), Rows(tuple(heads), own, shared, of_weights, *idle)
