"""Kernels of a residual x over a scale s that grow more slowly than (x/s)², whatever the size of either.

Each is a function of x/s with a rule of its own, for autodiff squares x/s, which overflows from 1e19 on
in float32, or takes 1 from e^−½(x/s)² and adds it back. The derivative in the scale is that in x times −x/s.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss.numerics.derivatives import term
from jaxloss.numerics.elementwise import clip, relu
from jaxloss.numerics.pairs import clipped_square


def _legs(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """The smaller of |x| and |y|, the larger, and √(x² + y²) over the larger."""
    smaller, larger = jnp.minimum(jnp.abs(x), jnp.abs(y)), jnp.maximum(jnp.abs(x), jnp.abs(y))
    return smaller, larger, jnp.sqrt(1 + jnp.square(smaller / larger))


def hypotenuse(x: Array, y: Array) -> Array:
    """√(x² + y²) without overflow, where they are not both zero, in operations that fuse into a reduction."""
    _, larger, root = _legs(x, y)
    return larger * root


def _direction(x: Array, scale: Array) -> tuple[Array, Array, Array]:
    """x/ρ, s/ρ and 1/ρ, where ρ² = s² + x².

    By a reciprocal: the compiler makes (x/ρ)/ρ into x/ρ², which overflows. That of the largest floats
    would be subnormal, and an eighth of them has an eighth of it to spare.
    """
    inverse = 1 / hypotenuse(x / 8, scale / 8)
    return x * inverse / 8, scale * inverse / 8, inverse / 8


def _at_most(most: Any, x: Array) -> Array:
    """min(|x|, most), NaN where x is: in a sum over many XLA's CPU code takes min(NaN, 1) for 1."""
    return jnp.minimum(jnp.abs(x), most) + 0 * jnp.sign(x)


def _far(x: Array) -> float:
    """A number whose square is a float, and next to which 1 is nothing."""
    return 2.0 ** (jnp.finfo(x.dtype).maxexp // 2 - 2)


@jax.custom_jvp
def rounded_square(x: Array, limit: Array) -> Array:
    """d (√(d² + x²) − d) for d > 0: ½x² that turns into the line d (|x| − d), to 8 ULPs.

    ∂/∂x = d x / √(d² + x²), ∂/∂d = (√(d² + x²) − d)² / √(d² + x²).
    """
    smaller, larger, root = _legs(x, limit)
    return smaller * (jnp.abs(x) / (limit / larger + root))


def _rounded_square_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (x, limit), (dx, dlimit) = primals, tangents
    from_x, from_limit = term(lambda: _pull(x, limit), dx), term(lambda: _slack(x, limit), dlimit)
    return rounded_square(x, limit), from_x + from_limit


rounded_square.defjvp(_rounded_square_jvp, symbolic_zeros=True)


@jax.custom_jvp
def _pull(x: Array, limit: Array) -> Array:
    """d x / √(d² + x²); derivatives c³ and s³, where s and c are x and d over √(d² + x²)."""
    return clip(x, -limit, limit) / _legs(x, limit)[2]


@_pull.defjvp
def _pull_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (x, limit), (dx, dlimit) = primals, tangents
    sine, cosine = _shares(x, limit)
    return _pull(x, limit), cosine**3 * dx + sine**3 * dlimit


@jax.custom_jvp
def _slack(x: Array, limit: Array) -> Array:
    """(√(d² + x²) − d)² / √(d² + x²); derivatives s³ and −(1 − c)² (2 + c)."""
    _, larger, root = _legs(x, limit)
    size = jnp.abs(x)
    share = jnp.minimum(size / limit, 1)  # |x| over the larger of the two
    excess = share / (limit / larger + root)  # (√(d² + x²) − d) / |x|
    return excess * (excess * (share * (size / root)))


@_slack.defjvp
def _slack_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (x, limit), (dx, dlimit) = primals, tangents
    sine, cosine = _shares(x, limit)
    flat = jnp.square(sine) / (1 + cosine)  # 1 − c
    return _slack(x, limit), sine**3 * dx - jnp.square(flat) * (2 + cosine) * dlimit


def _shares(x: Array, limit: Array) -> tuple[Array, Array]:
    """x and d over √(d² + x²), also of an infinite x."""
    _, larger, root = _legs(x, limit)
    return clip(x / limit, -1, 1) / root, limit / larger / root


@jax.custom_jvp
def log1p_square(x: Array, scale: Array) -> Array:
    """log(1 + (x/s)²), to 8 ULPs for any x and s > 0; ∂/∂x = 2x / (s² + x²), ∂/∂s = −(x/s) ∂/∂x."""
    size = jnp.abs(x)
    # The ratio may be 1e76, and its logarithm 175: halfway it is that of two ratios.
    halfway = jnp.sqrt(scale) * 2.0 ** (jnp.finfo(x.dtype).maxexp // 2)
    near, far = jnp.minimum(size, halfway) / scale, size / halfway
    above = jnp.log(jnp.maximum(near, 1)) + jnp.log(jnp.maximum(far, 1))
    shared = jnp.log1p(jnp.square(jnp.minimum(size, scale) / jnp.maximum(size, scale)))
    return 2 * above + shared + 0 * jnp.sign(x)  # see `_at_most`


def _log1p_square_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (x, scale), (dx, dscale) = primals, tangents
    sine, _, inverse = _direction(x, scale)
    from_x = term(lambda: 2 * sine * inverse, dx)
    return log1p_square(x, scale), from_x - term(lambda: 2 * sine * (sine / scale), dscale)


log1p_square.defjvp(_log1p_square_jvp, symbolic_zeros=True)


@jax.custom_jvp
def saturation(x: Array, scale: Array) -> Array:
    """x² / (s² + x²), to 12 ULPs for any x and s > 0; ∂/∂x = 2x s² / (s² + x²)², ∂/∂s = −(x/s) ∂/∂x."""
    ratio = _at_most(_far(x), x / scale)
    return ratio * ratio / (1 + ratio * ratio)


def _saturation_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (x, scale), (dx, dscale) = primals, tangents
    sine, cosine, inverse = _direction(x, scale)
    slope = 2 * sine * (cosine * inverse)
    return saturation(x, scale), term(lambda: slope * cosine, dx) - term(lambda: slope * sine, dscale)


saturation.defjvp(_saturation_jvp, symbolic_zeros=True)


@jax.custom_jvp
def bell_depth(x: Array, scale: Array) -> Array:
    """1 − e^−½(x/s)², to 8 ULPs; ∂/∂x = (x/s²) e^−½(x/s)², ∂/∂s = −(x/s) ∂/∂x.

    The exponential turns a rounding of x/s into (x/s)² of them, in the derivatives alone.
    """
    ratio = _at_most(_FLAT, x / scale)
    return -jnp.expm1(-0.5 * (ratio * ratio))


# e^−½·40² is 0 in float64 as well.
_FLAT = 40.0


def _bell_depth_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (x, scale), (dx, dscale) = primals, tangents
    ratio = jnp.clip(x / scale, -_FLAT, _FLAT)
    slope = ratio * jnp.exp(-0.5 * (ratio * ratio)) / scale
    return bell_depth(x, scale), term(lambda: slope, dx) - term(lambda: slope * ratio, dscale)


bell_depth.defjvp(_bell_depth_jvp, symbolic_zeros=True)


@jax.custom_jvp
def biweight(x: Array, limit: Array) -> Array:
    """c²/6 (1 − (1 − (x/c)²)³) where |x| ≤ c, c²/6 beyond, to 8 ULPs; ∂/∂x = x (1 − (x/c)²)², 0 beyond.

    The derivative in the limit c is ⅓c (x/c)⁴ (3 − 2(x/c)²), ⅓c beyond. Next to the limit 1 − (x/c)² is the
    difference (c − |x|)(c + |x|)/c², and no digit is lost that x has.
    """
    bent = _at_most(limit, x)
    ratio = jnp.square(bent / limit)
    return bent * (bent * ((3 * (1 - ratio) + ratio * ratio) / 6))


def _biweight_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (x, limit), (dx, dlimit) = primals, tangents
    bent = jnp.clip(x, -limit, limit)
    ratio = jnp.square(bent / limit)

    def from_x() -> Array:
        inside = (limit - jnp.abs(bent)) / limit * (1 + jnp.abs(bent) / limit)
        return bent * (inside * inside)

    from_limit = term(lambda: limit * ratio * (ratio * (1 - 2 * ratio / 3)), dlimit)
    return biweight(x, limit), term(from_x, dx) + from_limit


biweight.defjvp(_biweight_jvp, symbolic_zeros=True)


@jax.custom_jvp
def tilted_square(x: Array, tilt: Array, limit: Array) -> Array:
    """w H(|x|), to 4 ULPs, with w = τ where x ≤ 0, else 1 − τ, and the Huber kernel H of `clipped_square`.

    ∂/∂x = w clip(x, −limit, limit), ∂/∂τ = −sign(x) H(|x|), ∂/∂limit = w max(|x| − limit, 0). The weight
    is multiplied in first: the limit times a large x may overflow where their product with w does not.
    """
    below, above = relu(-x), relu(x)
    near_below, near_above = jnp.minimum(below, limit), jnp.minimum(above, limit)
    left = tilt * near_below * (below - 0.5 * near_below)
    return left + (1 - tilt) * near_above * (above - 0.5 * near_above)


def _tilted_square_jvp(
    primals: tuple[Array, Array, Array], tangents: tuple[Any, Any, Any]
) -> tuple[Array, Any]:
    (x, tilt, limit), (dx, dtilt, dlimit) = primals, tangents
    beside = jnp.zeros_like(x) + tilt  # over the devices that x is over
    weight = jnp.where(x > 0, 1 - beside, beside)
    from_x = term(lambda: weight * clip(x, -limit, limit), dx)
    from_tilt = term(lambda: -jnp.sign(x) * clipped_square(x, limit), dtilt)
    from_limit = term(lambda: weight * relu(jnp.abs(x) - limit), dlimit)
    return tilted_square(x, tilt, limit), from_x + from_tilt + from_limit


tilted_square.defjvp(_tilted_square_jvp, symbolic_zeros=True)
