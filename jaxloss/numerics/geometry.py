"""Distances and angles between vectors: norms of any degree, cosines near one, sines at zero."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero

from jaxloss.numerics.derivatives import term
from jaxloss.numerics.elementwise import absolute
from jaxloss.numerics.pairs import xlogy
from jaxloss.numerics.vectors import lengths, magnitude, scaled, unit


@jax.custom_jvp
def signed_power(x: Array, exponent: Array) -> Array:
    """sign(x)·|x|^exponent for exponent ≥ 0, 0 at zero; derivatives exponent·|x|^(exponent − 1) and ·log |x|.

    At x = 0 an infinite derivative (of an exponent below one) is taken as 0, and so is that in the
    exponent; an exponent of ∞ is a step, whose derivative is taken as 0. Right to 4 ULPs where neither
    over- nor underflows.
    """
    return jnp.sign(x) * jnp.power(jnp.abs(x), exponent)


def _signed_power_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (x, exponent), (dx, dexponent) = primals, tangents
    powered, size = signed_power(x, exponent), absolute(x)

    def in_x() -> Array:
        steep = ((x == 0) & (exponent < 1)) | jnp.isinf(exponent)
        return jnp.where(steep, 0, exponent) * jnp.power(jnp.where(steep, 1, size), exponent - 1)

    logarithm = jnp.log(jnp.where(x == 0, 1, size))
    return powered, term(in_x, dx) + term(lambda: powered * logarithm, dexponent)


signed_power.defjvp(_signed_power_jvp, symbolic_zeros=True)


@jax.custom_jvp
def norm_of_degree(x: Array, degree: Array) -> Array:
    """(Σ |x|^p)^(1/p) over the last axis for p in [1, ∞], max |x| at ∞, without overflow, to 8 ULPs.

    ∂/∂x = sign(x) (|x| / ‖x‖)^(p − 1), 0 at the zero vector and, for p < 2, at a zero entry; at p = ∞
    the largest entries share it alike. In p it is ‖x‖ (Σ s log s) / p, with s_i the share
    |x_i|^p / Σ |x|^p, over p. The scale is taken out before anything is raised to a power.
    """
    scale = magnitude(x)
    total = _power_sum(_ratios(x, scale, degree), degree)
    size = jnp.where(jnp.isinf(degree), jnp.max(jnp.abs(x), axis=-1, initial=0), scale[..., 0])
    # The signs are 1, but for what a power would hide: 1 of a degree that is NaN, and 0 of a zero vector.
    return jnp.sign(degree) * size * (jnp.sign(total) * jnp.power(total, 1 / degree))


def _ratios(x: Array, scale: Array, degree: Array) -> Array:
    """x over its scale; for the degree ∞ the signs of its largest entries, though a division has rounded."""
    ratios = x / scale
    size = jnp.abs(ratios)
    largest = size > (1 - 4 * jnp.finfo(x.dtype).eps) * jnp.max(size, axis=-1, keepdims=True, initial=0)
    return jnp.where(jnp.isinf(degree), jnp.where(largest, jnp.sign(x), 0 * ratios), ratios)


def _power_sum(ratios: Array, degree: Array) -> Array:
    return jnp.sum(jnp.abs(signed_power(ratios, degree)), axis=-1)


def _norm_of_degree_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (x, degree), (dx, ddegree) = primals, tangents
    norm, ratios = norm_of_degree(x, degree), _ratios(x, magnitude(x), degree)
    total = _power_sum(ratios, degree)
    empty, total = (total == 0)[..., None], jnp.where(total == 0, 1, total)[..., None]

    def in_x() -> Array:
        return jnp.where(empty, 0, signed_power(ratios, degree - 1)) * jnp.power(total, 1 / degree - 1)

    def in_degree() -> Array:
        shares = jnp.abs(signed_power(ratios, degree)) / total
        return norm * jnp.sum(xlogy(shares, shares), axis=-1) / (degree * degree)

    from_x = 0.0 if isinstance(dx, SymbolicZero) else jnp.sum(in_x() * dx, axis=-1)
    return norm, from_x + term(in_degree, ddegree)


norm_of_degree.defjvp(_norm_of_degree_jvp, symbolic_zeros=True)


@jax.custom_jvp
def cosine_distance(x: Array, y: Array) -> Array:
    """1 − x·y / (‖x‖ ‖y‖) over the last axis; a zero vector has cosine 0 with every vector, and derivative 0.

    Half the squared distance of the two unit vectors: never negative, and right for nearly parallel ones.
    ∂/∂x = (u − v − ℓu) / ‖x‖ for the unit vectors u and v: what u·(u − v) is, the value ℓ knows.
    """
    # A zero vector has no unit vector: it is half the squared length short.
    missing = 0.5 * _is_zero(x) + 0.5 * _is_zero(y)
    return 0.5 * jnp.sum(jnp.square(unit(x) - unit(y)), axis=-1) + missing


def _is_zero(x: Array) -> Array:
    return (jnp.max(jnp.abs(x), axis=-1, initial=0) == 0).astype(x.dtype)


def _cosine_distance_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    value = cosine_distance(*primals)
    return value, _turned(value, lambda u, v: (u - v) - value[..., None] * u, primals, tangents)


def _turned(
    value: Array,
    slope: Callable[[Array, Array], Array],
    vectors: tuple[Array, Array],
    tangents: tuple[Any, Any],
) -> Array:
    """Σ slope(u, v)·ẋ/‖x‖ + slope(v, u)·ẏ/‖y‖ for the unit vectors u and v, each from its own vector."""
    sizes = [lengths(vector) for vector in vectors]
    u, v = (scaled(vector, *size, value) for vector, size in zip(vectors, sizes, strict=True))
    moved = jnp.zeros_like(u)
    for (scale, length), tangent, pair in zip(sizes, tangents, ((u, v), (v, u)), strict=True):
        if not isinstance(tangent, SymbolicZero):
            moved = moved + slope(*pair) / length * (tangent / scale)
    return jnp.sum(moved, axis=-1)


cosine_distance.defjvp(_cosine_distance_jvp, symbolic_zeros=True)


@jax.custom_jvp
def cosine(x: Array, y: Array) -> Array:
    """x·y / (‖x‖ ‖y‖) over the last axis, to 8 ULPs of 1; 0 with derivative 0 at a zero vector.

    ∂/∂x = (v − cu) / ‖x‖ for the unit vectors u and v.
    """
    return jnp.sum(unit(x) * unit(y), axis=-1)


def _cosine_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    value = cosine(*primals)
    return value, _turned(value, lambda u, v: v - value[..., None] * u, primals, tangents)


cosine.defjvp(_cosine_jvp, symbolic_zeros=True)


@jax.custom_jvp
def sine_of_cosine(cosine: Array) -> Array:
    """√(1 − c²), to 2 ULPs, 0 beyond ±1; derivative −c/√(1 − c²), taken as 0 at and beyond ±1."""
    return jnp.sqrt(jnp.maximum((1 - cosine) * (1 + cosine), 0))


@sine_of_cosine.defjvp
def _sine_of_cosine_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (cosine,), (dcosine,) = primals, tangents
    sine = sine_of_cosine(cosine)
    flat = sine == 0
    return sine, -jnp.where(flat, 0, cosine) / jnp.where(flat, 1, sine) * dcosine
