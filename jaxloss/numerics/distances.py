"""Distances between every two rows of a batch, and the rows that they single out."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss.numerics.vectors import magnitude, products


def squared_distances(x: Array, where: Array) -> Array:
    """‖x_i − x_j‖² of every two rows, in one matrix product; `where` says which rows there are.

    What one of them lacks is 8 ULPs of ‖x_i − c‖² + ‖x_j − c‖², with c the mean of the rows: a squared
    distance is a sum that cancels for two rows much nearer to each other than to c, and may be negative
    there. What the rows have in common is taken off before anything is squared. Derivative 2 (x_i − x_j).
    """
    count = jnp.maximum(jnp.sum(where, axis=-1, dtype=x.dtype), 1)[..., None, None]
    mean = jnp.sum(jnp.where(where[..., None], x / count, 0), axis=-2, keepdims=True)
    centred = x - lax.stop_gradient(mean)  # no distance depends on it
    squares = jnp.sum(jnp.square(centred), axis=-1)
    return squares[..., :, None] + squares[..., None, :] - 2 * products(centred, centred)


def batch_magnitude(x: Array) -> Array:
    """About the largest entry of a batch of rows, a constant: of the batch over it no square overflows.

    A power of two, for a division that rounds nothing: an offset of all rows would cost distances digits.
    """
    rows, features = x.shape[-2:]
    largest = magnitude(x.reshape((*x.shape[:-2], 1, rows * features)))
    kind = jnp.finfo(x.dtype)
    return lax.reduce_precision(jnp.maximum(largest, kind.tiny), kind.nexp, 0)


@jax.custom_jvp
def squared_gaps(x: Array, where: Array, ids: Array) -> Array:
    """‖x_i − x_j‖² − ‖x_i − x_k‖² of every two rows, k = ids[i, j], as right as `squared_distances`.

    ±∞ where it overflows, and not NaN; the derivative 2 (x_k − x_j) is finite there.
    """
    unit = batch_magnitude(x)
    return unit * (unit * _gaps(x / unit, where, ids))


@squared_gaps.defjvp
def _squared_gaps_jvp(
    primals: tuple[Array, Array, Array], tangents: tuple[Array, Any, Any]
) -> tuple[Array, Array]:
    (x, where, ids), (dx, *_) = primals, tangents
    _, change = jax.jvp(lambda x: _gaps(x, where, ids), (x,), (dx,))
    return squared_gaps(x, where, ids), change


def _gaps(x: Array, where: Array, ids: Array) -> Array:
    squares = squared_distances(x, where)
    return squares - jnp.take_along_axis(squares, ids, axis=-1)


@jax.custom_jvp
def pick_rows(x: Array, ids: Array) -> Array:
    """x[id], the row each id names, of the last axis but one; its derivative is a product, and no scatter."""
    return jnp.take_along_axis(x, ids[..., None], axis=-2)


def _pick_rows_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (x, ids), (dx, _) = primals, tangents
    rows = lax.broadcasted_iota(ids.dtype, (*ids.shape, x.shape[-2]), ids.ndim)
    named = (rows == ids[..., None]).astype(x.dtype)
    return pick_rows(x, ids), jnp.matmul(named, dx, precision=lax.Precision.HIGHEST)


pick_rows.defjvp(_pick_rows_jvp, symbolic_zeros=True)
