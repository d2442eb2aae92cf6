"""Distances between every two rows of a batch, and the rows that they single out."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss.numerics.vectors import products


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
