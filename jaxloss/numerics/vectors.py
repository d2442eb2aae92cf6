"""Norms over the last axis, and what stands beside a vector."""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import AxisType


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
    if not is_spread(like):
        return jnp.broadcast_to(x, like.shape)
    x = x.astype(like.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x
    return jnp.broadcast_to(x, like.shape) + jnp.zeros_like(like, x.dtype)


def is_spread(x: Array) -> bool:
    """Whether it lies on a mesh of explicit axes, where JAX refuses what would need another device's part."""
    return AxisType.Explicit in jax.typeof(x).sharding.mesh.axis_types


def magnitude(x: Array) -> Array:
    """What a vector is divided by before its entries are squared, a constant under differentiation."""
    largest = lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True, initial=0))
    # The reciprocal of the very largest floats is subnormal, and flushed to zero.
    return jnp.where(largest == 0, 1, jnp.minimum(largest, jnp.finfo(x.dtype).max / 128))


@jax.custom_jvp
def unit(x: Array) -> Array:
    """x / ‖x‖ over the last axis, to 4 ULPs; at zero it is zero, with zero derivative.

    ∂ along ẋ is (ẋ − u (u·ẋ)) / ‖x‖.
    """
    return scaled(x, *lengths(x))


def lengths(x: Array) -> tuple[Array, Array]:
    """The two numbers a row that x is divided by for its unit vector: their product is ‖x‖, or ∞ at zero."""
    scale = magnitude(x)
    length = _length(x / scale)
    return scale, jnp.where(length == 0, jnp.inf, length)


@jax.custom_jvp
def _length(x: Array) -> Array:
    """The norm of what is neither large nor small, `[..., 1]`."""
    return jnp.sqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True))


@_length.defjvp
def _length_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return _length(x), jnp.sum(unit(x) * dx, axis=-1, keepdims=True)


def scaled(x: Array, scale: Array, length: Array, *used: Array) -> Array:
    """x / scale / length, which shares no array with the sum that gave the length, nor with what is `used`.

    What two of them read would be stored: the barrier makes them compute it from x, each for itself.
    """
    scale, length, *_ = lax.optimization_barrier((scale, length, *used))
    return x / scale / length


@unit.defjvp
def _unit_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # By the norm's own rule: a second derivative stores one array of vectors less than by the formula above.
    return unit(*primals), jax.jvp(_by_norm, primals, tangents)[1]


def _by_norm(x: Array) -> Array:
    x = x / magnitude(x)
    norm = safe_norm(x)[..., None]
    at_zero = norm == 0
    return jnp.where(at_zero, 0, x) / jnp.where(at_zero, 1, norm)


def products(first: Array, second: Array) -> Array:
    """Σ_d x_id y_jd for every two rows, in one matrix product of full precision."""
    return jnp.matmul(first, jnp.swapaxes(second, -1, -2), precision=lax.Precision.HIGHEST)
