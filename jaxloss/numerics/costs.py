"""Functions of a surprise s = −log p that stay right where p nears 1 and where it nears 0."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss.numerics.derivatives import term
from jaxloss.numerics.elementwise import expm1, log1mexp
from jaxloss.numerics.pairs import divide, multiply, power

# (−1)ⁿ/n!, n = 2 to 19: e^−x − 1 + x to the last digit of a float64 for |x| ≤ 1.
_SERIES = (
    0.5,
    -0.16666666666666666,
    0.041666666666666664,
    -0.008333333333333333,
    0.001388888888888889,
    -0.0001984126984126984,
    2.48015873015873e-05,
    -2.7557319223985893e-06,
    2.755731922398589e-07,
    -2.505210838544172e-08,
    2.08767569878681e-09,
    -1.6059043836821613e-10,
    1.1470745597729725e-11,
    -7.647163731819816e-13,
    4.779477332387385e-14,
    -2.8114572543455206e-15,
    1.5619206968586225e-16,
    -8.22063524662433e-18,
)


def bend(x: Array) -> Array:
    """(e^−x − 1 + x) / x² for |x| ≤ 1, to 2 ULPs: by its series, for the sum has no digit left near 0."""
    value = jnp.zeros_like(x)
    for coefficient in reversed(_SERIES):
        value = coefficient + x * value
    return value


@jax.custom_jvp
def poly_surprise(surprise: Array, epsilon: Array) -> Array:
    """S + ε(1 − e^−s) for s ≥ 0 and ε ≥ −1, to 4 ULPs; derivatives 1 + ε e^−s and 1 − e^−s.

    At ε = −1 the two terms are alike where s is small, and what they leave is ½s².
    """
    near = jnp.minimum(surprise, 1)
    lost, won = jnp.minimum(epsilon, 0), jnp.maximum(epsilon, 0)
    # Up to s = 1 what a negative ε takes is s less a series; beyond it, a share of what is added there.
    below = (1 + lost) * near - lost * (near * near * bend(near))
    beyond = (surprise - near) - lost * (jnp.exp(-near) * jnp.expm1(near - surprise))
    return below + beyond - won * jnp.expm1(-surprise)


def _poly_surprise_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (s, epsilon), (ds, depsilon) = primals, tangents

    def slope() -> Array:
        return jnp.where(epsilon < 0, (1 + epsilon) + epsilon * jnp.expm1(-s), 1 + epsilon * jnp.exp(-s))

    from_epsilon = term(lambda: -jnp.expm1(-s), depsilon)
    return poly_surprise(s, epsilon), term(slope, ds) + from_epsilon


poly_surprise.defjvp(_poly_surprise_jvp, symbolic_zeros=True)


@jax.custom_jvp
def faded_surprise(surprise: Array, exponent: Array) -> Array:
    """s (1 − e^−s)^γ for s, γ ≥ 0, to 16 ULPs where γ ≤ 4: a surprise that fades with the chance of it.

    ∂/∂s = (1 − e^−s)^γ (1 + γ s/(e^s − 1)), ∂/∂γ is itself times log(1 − e^−s). As a product it would have
    the second derivative of the power, which for γ < 1 and s = 1e-26 is no float32, where its own is.
    """
    return power(-expm1(-_bounded(surprise)), exponent) * surprise


def _bounded(surprise: Array) -> Array:
    """No more than 800: beyond e^−s is 0 in every dtype, and must not meet an overflowing surprise."""
    return jnp.where(surprise > 800, 800, surprise)


def _faded_surprise_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (s, exponent), (ds, dexponent) = primals, tangents
    bounded = _bounded(s)
    chance = -expm1(-bounded)
    fade = power(chance, exponent)
    from_s = term(lambda: fade * (1 + exponent * divide(bounded * jnp.exp(-bounded), chance)), ds)
    logarithm = log1mexp(-jnp.where(s == 0, 1, bounded))
    from_exponent = term(lambda: multiply(fade * logarithm, s), dexponent)
    return faded_surprise(s, exponent), from_s + from_exponent


faded_surprise.defjvp(_faded_surprise_jvp, symbolic_zeros=True)


@jax.custom_jvp
def saturated(x: Array, rate: Array) -> Array:
    """(1 − e^−rx) / r for x ≥ 0, and x at r = 0, to 4 ULPs: x that saturates at 1/r.

    Derivatives e^−rx, and (e^−rx (1 + rx) − 1) / r², which near r = 0 is −½x².
    """
    flat = rate == 0
    return jnp.where(flat, x, -jnp.expm1(-_reach(x, rate)) / jnp.where(flat, 1, rate))


def _reach(x: Array, rate: Array) -> Array:
    """r·x, 0 at r = 0 whatever x is."""
    return jnp.where(rate == 0, 0, x) * rate


def _saturated_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (x, rate), (dx, drate) = primals, tangents

    def in_rate() -> Array:
        reach = jnp.minimum(_reach(x, rate), 800)  # e^−800 is 0 in every dtype, and ∞·0 would be NaN
        near, small = jnp.minimum(reach, 1), jnp.where(reach > 1, 0, x)
        large = jnp.where(reach > 1, rate, 1)
        far = -(jnp.expm1(-reach) + reach * jnp.exp(-reach)) / (large * large)
        return -jnp.where(reach > 1, far, small * small * jnp.exp(-near) * bend(-near))

    return saturated(x, rate), term(lambda: jnp.exp(-_reach(x, rate)), dx) + term(in_rate, drate)


saturated.defjvp(_saturated_jvp, symbolic_zeros=True)
