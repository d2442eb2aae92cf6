"""Norms over the last axis, and what stands beside a vector."""

import jax
import jax.numpy as jnp
from jax import Array, lax


@jax.custom_jvp
def safe_norm(x: Array) -> Array:
    """Euclidean norm over the last axis, to 4 ULPs, without overflow; derivative x/‖x‖, 0 at zero."""
    scale = magnitude(x)
    return jnp.sqrt(jnp.sum(jnp.square(x / scale), axis=-1)) * scale[..., 0]


@safe_norm.defjvp
def _safe_norm_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return safe_norm(x), jnp.sum(unit(x) * dx, axis=-1)


def broadcast_as(x: Array, like: Array) -> Array:
    """x as broadcast to the shape of an array, over the devices that it is over: JAX may ask for that."""
    return jnp.broadcast_to(x, like.shape) + jnp.zeros_like(like, x.dtype)


def magnitude(x: Array) -> Array:
    """What a vector is divided by before its entries are squared, a constant under differentiation."""
    largest = lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True, initial=0))
    # The reciprocal of the very largest floats is subnormal, and flushed to zero.
    return jnp.where(largest == 0, 1, jnp.minimum(largest, jnp.finfo(x.dtype).max / 128))


def unit(x: Array) -> Array:
    """x / ‖x‖ over the last axis, to 4 ULPs; at zero it is zero, with zero derivative."""
    x = x / magnitude(x)
    norm = safe_norm(x)[..., None]
    at_zero = norm == 0
    return jnp.where(at_zero, 0, x) / jnp.where(at_zero, 1, norm)


def products(first: Array, second: Array) -> Array:
    """Σ_d x_id y_jd for every two rows, in one matrix product of full precision."""
    return jnp.matmul(first, jnp.swapaxes(second, -1, -2), precision=lax.Precision.HIGHEST)
