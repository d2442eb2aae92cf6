"""Losses of every two rows of a batch, in blocks of rows: no array has an entry for every pair.

Autodiff of a scan would store each block that it differentiates. Here a rule makes the gradients in the scan
that makes the losses, and gives the tangent as their products with the tangents of the arguments.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

from jaxloss.fused._rivals import (
    Marks,
    Rated,
    beaten,
    logarithm,
    own_among_rivals,
    own_and_rivals,
    shares_of,
)
from jaxloss.numerics import whole

Formula = Callable[[Array, Marks, Marks], Rated]


class Pairs(NamedTuple):
    """Vectors `[batch, D]` whose products, plus an offset if there is one, are logits; and their marks."""

    first: Array
    second: Array
    offset: Array | None
    marks: Marks


class Gradients(NamedTuple):
    """The derivatives by the parts of `Pairs`; None where nothing is differentiated."""

    first: Array | None
    second: Array | None
    offset: Array | None


# --- a loss that needs no more than its own row of logits ----------------------------------------


def rows(formula: Formula, size: int, pairs: Pairs) -> Array:
    """The loss of each row. Its derivative makes each block a second time."""

    def body(_: None, block: tuple[Array, Marks]) -> tuple[None, Array]:
        first, marks = block
        return None, _losses(formula, _logits(first, pairs), marks, pairs.marks)

    return _scan(body, None, (pairs.first, pairs.marks), size)[1]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _losses(formula: Formula, logits: Array, rows: Marks, columns: Marks) -> Array:
    """The losses of a block, whose derivative is the formula's, and not autodiff's of its value."""
    return formula(logits, rows, columns)[0]


def _losses_jvp(
    formula: Formula, primals: tuple[Array, Marks, Marks], tangents: tuple[Any, ...]
) -> tuple[Array, Array]:
    losses, slopes = formula(*primals)
    return losses, jnp.sum(slopes * tangents[0], axis=-1)


_losses.defjvp(_losses_jvp, symbolic_zeros=True)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def total(formula: Formula, size: int, pairs: Pairs, weights: Array) -> Array:
    """Σ w ℓ; with its gradients in three products of matrices, and in two by one side alone."""
    return jnp.vdot(weights, rows(formula, size, pairs))


def _total_jvp(
    formula: Formula, size: int, primals: tuple[Pairs, Array], tangents: tuple[Any, Any]
) -> tuple[Array, Any]:
    (pairs, weights), (moves, reweighed) = primals, tangents

    def rate(logits: Array, rows: Marks, columns: Marks, weights: Array, _: None) -> Rated:
        losses, slopes = formula(logits, rows, columns)
        return losses, weights[:, None] * slopes

    losses, gradients = _gradients(rate, size, _moving(moves), pairs, weights, None)
    return jnp.vdot(weights, losses), _along(gradients, moves) + _product(losses, reweighed)


total.defjvp(_total_jvp, symbolic_zeros=True)


# --- a row's own entry among its rivals, in its row and in its column -----------------------------


def rows_both_ways(size: int, pairs: Pairs) -> Array:
    """Half the surprise of each row's own entry in its row, and half of that in its column."""
    return _both_ways(size, pairs)[0]


class Columns(NamedTuple):
    """Of each column log Σ e^s of the rivals, and the weighed part of it that the own entry has not."""

    log_sum: Array
    missed: Array


def _both_ways(size: int, pairs: Pairs) -> tuple[Array, Columns]:
    """The losses, and the columns at a weight of 1."""

    def body(carry: tuple[Array, Array], block: tuple[Array, Marks]) -> tuple[tuple[Array, Array], Array]:
        first, marks = block
        logits = _logits(first, pairs)
        _, rivals = own_and_rivals(marks, pairs.marks)
        losses = _losses(own_among_rivals, logits, marks, pairs.marks)
        return _added(carry, jnp.where(rivals, logits, -jnp.inf)), losses

    none = jnp.full_like(pairs.first, -jnp.inf, shape=pairs.first.shape[:1])
    carry, across = _scan(body, (none, jnp.zeros_like(none)), (pairs.first, pairs.marks), size)
    log_sum, found = logarithm(carry[1], _finite(carry[0]))
    down, missed = beaten(log_sum - jnp.sum(pairs.first * pairs.second, axis=-1), found)
    return 0.5 * (across + down), Columns(log_sum, 0.5 * missed)


def _added(carry: tuple[Array, Array], logits: Array) -> tuple[Array, Array]:
    """The largest logit of each column so far, and the sum of exponentials beside it."""
    before, total = carry
    largest = jnp.maximum(before, lax.stop_gradient(jnp.max(logits, axis=0, initial=-jnp.inf)))
    pivot = _finite(largest)
    return largest, total * jnp.exp(before - pivot) + jnp.sum(jnp.exp(logits - pivot[None, :]), axis=0)


def _finite(largest: Array) -> Array:
    return jnp.where(largest == -jnp.inf, 0, largest)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def total_both_ways(size: int, pairs: Pairs, weights: Array) -> Array:
    """Σ w ℓ of `rows_both_ways`; with its gradients in four products, for a column ends with the last row."""
    return jnp.vdot(weights, rows_both_ways(size, pairs))


def _total_both_ways_jvp(
    size: int, primals: tuple[Pairs, Array], tangents: tuple[Any, Any]
) -> tuple[Array, Any]:
    (pairs, weights), (moves, reweighed) = primals, tangents
    losses, columns = whole(functools.partial(_both_ways, size))(pairs)
    columns = columns._replace(missed=columns.missed * weights)
    _, gradients = _gradients(_rate_both_ways, size, _moving(moves), pairs, weights, columns)
    return jnp.vdot(weights, losses), _along(gradients, moves) + _product(losses, reweighed)


def _rate_both_ways(
    logits: Array, rows: Marks, columns: Marks, weights: Array, sums: Columns
) -> tuple[None, Array]:
    _, slopes = own_among_rivals(logits, rows, columns)
    own, rivals = own_and_rivals(rows, columns)
    missed = sums.missed[None, :]
    down = jnp.where(own, -missed, missed * shares_of(logits, rivals, sums.log_sum[None, :]))
    return None, 0.5 * weights[:, None] * slopes + down


total_both_ways.defjvp(_total_both_ways_jvp, symbolic_zeros=True)


# --- blocks ---------------------------------------------------------------------------------------


def _logits(first: Array, pairs: Pairs) -> Array:
    products = _matmul(first, pairs.second, 1, 1)
    return products if pairs.offset is None else products + pairs.offset


def _matmul(first: Array, second: Array, axis: int, other: int) -> Array:
    """The product of two matrices, summed over an axis of each, in full precision."""
    return lax.dot_general(
        first,
        second,
        (((axis,), (other,)), ((), ())),
        precision=lax.Precision.HIGHEST,
        preferred_element_type=first.dtype,
    )


def _moving(moves: Pairs) -> tuple[bool, bool, bool]:
    """Which arguments are differentiated: vectors of the one side, of the other, the offset."""
    return tuple(not isinstance(move, SymbolicZero | None) for move in moves[:3])  # pyright: ignore[reportReturnType]


def _gradients(
    rate: Callable[..., tuple[Any, Array]],
    size: int,
    moving: tuple[bool, bool, bool],
    pairs: Pairs,
    weights: Array,
    sums: Any,
) -> tuple[Any, Gradients]:
    """What `rate` gives of each row, and what its slopes make of those arguments that move."""
    by_first, by_second, by_offset = moving

    def all_blocks(pairs: Pairs, weights: Array, sums: Any) -> tuple[Any, Gradients]:
        def body(carry: Any, block: tuple[Array, Marks, Array]) -> tuple[Any, Any]:
            first, marks, weights = block
            found, slopes = rate(_logits(first, pairs), marks, pairs.marks, weights, sums)
            second, offset = carry
            second = second + _matmul(slopes, first, 0, 0) if by_second else None
            offset = offset + jnp.sum(slopes) if by_offset else None
            return (second, offset), (found, _matmul(slopes, pairs.second, 1, 0) if by_first else None)

        carry = (
            jnp.zeros_like(pairs.second) if by_second else None,
            None if pairs.offset is None or not by_offset else jnp.zeros_like(pairs.offset),
        )
        (second, offset), (found, first) = _scan(body, carry, (pairs.first, pairs.marks, weights), size)
        return found, Gradients(first, second, offset)

    return whole(all_blocks)(pairs, weights, sums)


def _along(gradients: Gradients, moves: Pairs) -> Array | float:
    """The derivative along the tangents of the arguments."""
    found = zip(gradients, moves[:3], strict=True)
    return sum(_product(gradient, move) for gradient, move in found if gradient is not None)


def _product(gradient: Array, move: Any) -> Array | float:
    return 0.0 if isinstance(move, SymbolicZero) else jnp.vdot(gradient, move)


def _scan(body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, arrays: Any, size: int) -> tuple[Any, Any]:
    """`body` over blocks of so many rows, made a second time where it is differentiated in reverse.

    The last block is filled up with zeros: rows that are not there, of no weight.
    """
    batch = jax.tree.leaves(arrays)[0].shape[0]
    blocks = -(-batch // size)

    def blocked(array: Array) -> Array:
        filled = jnp.pad(array, [(0, blocks * size - batch), *[(0, 0)] * (array.ndim - 1)])
        return filled.reshape(blocks, size, *array.shape[1:])

    def joined(array: Array) -> Array:
        return array.reshape(blocks * size, *array.shape[2:])[:batch]

    again = jax.checkpoint(body, prevent_cse=False)
    carry, found = lax.scan(again, carry, jax.tree.map(blocked, arrays))
    return carry, jax.tree.map(joined, found)
