"""What likelihoods are made of: gamma and Bessel functions with what cancels taken out beforehand.

log Γ(z) = (z − ½) log z − z + ½ log 2π + B(z): a likelihood is a difference of such terms, of which
float32 leaves no digit at counts of a million. Written in B (`binet`) and in e − log(1 + e)
(`log1p_excess`) the same likelihood is a sum of small terms (Loader 2000, "Fast and accurate
computation of binomial probabilities").
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss.numerics.derivatives import term
from jaxloss.numerics.elementwise import log1p
from jaxloss.numerics.pairs import divide
from jaxloss.numerics.robust import log1p_square

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)

# Chebyshev coefficients of z·B(z) in 2/z − 1, for z ≥ 1, found to 60 digits from log Γ itself.
_BINET = (
    0.0824391166213758,
    -0.0011586014333953318,
    -0.00024206338649436504,
    2.3096481805266552e-05,
    2.8126538306420855e-07,
    -4.271982369179674e-07,
    6.753795989800755e-08,
    -1.6742216909283222e-09,
    -1.9048823183699345e-09,
    5.616082398566717e-10,
    -7.497881765282662e-11,
    -4.862696975428917e-12,
    5.722878454768195e-12,
    -1.7224915130168885e-12,
    2.713055272633209e-13,
    1.2848926024838206e-14,
    -2.5096960115971088e-14,
    9.641545602098506e-15,
    -2.191189563394941e-15,
    1.711033323196238e-16,
    1.158073767695586e-16,
    -7.186798295952593e-17,
    2.4415184032977974e-17,
    -5.191233070685366e-18,
    1.6293110452397333e-19,
)


def binet(z: Array) -> Array:
    """What Stirling leaves of log Γ: B(z) = log Γ(z) − (z − ½) log z + z − ½ log 2π, z > 0, to 16 ULPs.

    It falls from ∞ as 1/(12 z). Below one B(z) = B(z + 1) + (z + ½) log(1 + 1/z) − 1. Derivative:
    ψ(z) − log z + 1/(2z), to as many ULPs, or of 1/z where z < 1.
    """
    low = z < 1
    upper = jnp.where(low, z + 1, z)
    below = (z + 0.5) * (jnp.log1p(z) - jnp.log(z)) - 1
    return _series(1 / upper) / upper + jnp.where(low, below, 0)


def _series(w: Array) -> Array:
    """z·B(z) at w = 1/z in [0, 1], by Clenshaw's recurrence; its terms fall below the float's last digit."""
    count = 11 if w.dtype == jnp.float32 else len(_BINET)
    x, ahead, behind = 2 * w - 1, jnp.zeros_like(w), jnp.zeros_like(w)
    for coefficient in reversed(_BINET[1:count]):
        ahead, behind = 2 * x * ahead - behind + coefficient, ahead
    return x * ahead - behind + _BINET[0]


@jax.custom_jvp
def log1p_excess(x: Array) -> Array:
    """x − log(1 + x) for x > −1, to 16 ULPs also where it is ½x²; derivative x/(1 + x).

    With y = x/(2 + x), log(1 + x) = 2(y + y³/3 + y⁵/5 + ...) and x − 2y = x·y.
    """
    near = jnp.clip(x, -0.5, 0.5)
    y = near / (2 + near)
    square, series = y * y, jnp.zeros_like(y)
    for power in range(33 if x.dtype == jnp.float64 else 15, 1, -2):
        series = 1 / power + square * series
    return jnp.where(jnp.abs(x) <= 0.5, y * (near - 2 * square * series), x - log1p(x))


@log1p_excess.defjvp
def _log1p_excess_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return log1p_excess(x), x / (1 + x) * dx


def gamma_half_step(x: Array) -> Array:
    """Log Γ(x) − log Γ(x + ½) + ½ log x, to 16 ULPs from tiny x to the largest, where it is 1/(8x).

    x (h − log(1 + h)) + B(x) − B(x + ½) with h = 1/(2x): nothing cancels.
    """
    half = divide(jnp.full_like(x, 0.5), x)
    return x * log1p_excess(half) + (binet(x) - binet(x + 0.5))


@jax.custom_jvp
def square_over(x: Array, y: Array) -> Array:
    """x²/y for y > 0, to 2 ULPs; derivatives 2x/y and −(x/y)², which autodiff has as x²·y⁻²."""
    return x * (x / y)


def _square_over_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (x, y), (dx, dy) = primals, tangents
    from_x = term(lambda: 2 * divide(x, y), dx)
    return square_over(x, y), from_x - term(lambda: jnp.square(divide(x, y)), dy)


square_over.defjvp(_square_over_jvp, symbolic_zeros=True)


# --- a square under a logarithm -----------------------------------------------------------------


def _shares_of_squares(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """x and y over the larger of the two, and the larger, a constant under differentiation."""
    larger = lax.stop_gradient(jnp.maximum(jnp.abs(x), y))
    return x / larger, y / larger, larger


@jax.custom_jvp
def heavy_tail(x: Array, scale: Array, df: Array) -> Array:
    """½(ν + 1) log(1 + x²/(ν s²)), the tail of Student's t, for s, ν > 0.

    It keeps to 8 ULPs where x²/(ν s²) does not underflow.
    With the share q = x²/(ν s² + x²): ∂/∂x = (ν + 1) q/x, ∂/∂s = −(ν + 1) q/s,
    ∂/∂ν = ½(−log(1 − q) − q − q/ν), where autodiff's terms cancel for large ν.
    """
    return 0.5 * (df + 1) * log1p_square(x, jnp.sqrt(df) * scale)


def _heavy_tail_jvp(primals: tuple[Array, Array, Array], tangents: tuple[Any, Any, Any]) -> tuple[Array, Any]:
    (x, scale, df), (dx, dscale, ddf) = primals, tangents
    width = jnp.sqrt(df) * scale
    a, b, larger = _shares_of_squares(x, width)
    total = a * a + b * b
    share = a * a / total

    def slope() -> Array:
        # −log(1 − q) is log(1 + x²/(ν s²)).
        excess = jnp.where(share < 0.5, log1p_excess(-share), log1p_square(x, width) - share)
        return 0.5 * (excess - share / df)

    from_x = term(lambda: (df + 1) * (a / total / larger), dx)
    from_scale = term(lambda: (df + 1) * (share / scale), dscale)
    return heavy_tail(x, scale, df), from_x - from_scale + term(slope, ddf)


heavy_tail.defjvp(_heavy_tail_jvp, symbolic_zeros=True)


# --- counts ---------------------------------------------------------------------------------------


def _count_terms(counts: Array) -> Array:
    """½ log 2πk + B(k), what Stirling leaves of log k!; 0 for k = 0."""
    positive = jnp.maximum(counts, 1)
    return jnp.where(counts > 0, 0.5 * jnp.log(positive) + HALF_LOG_TWO_PI + binet(positive), 0)


@jax.custom_jvp
def poisson_nll(log_rate: Array, counts: Array) -> Array:
    """e^η − kη + log k!, for whole k ≥ 0; ∂/∂η = e^η − k, ∂/∂k = ψ(k + 1) − η.

    Right to 16 ULPs of itself and of |e^η − k|·|η|, which a rounding of η makes of it. Of the plain
    formula's terms, 1e7 each at k = 10⁶, float32 leaves none of the 8 that are their sum: with
    d = η − log k it is k (e^d − 1 − d) + ½ log 2πk + B(k).
    """
    distance = log_rate - jnp.log(jnp.maximum(counts, 1))
    near = counts * log1p_excess(jnp.expm1(jnp.clip(distance, -1, 1)))
    far = (jnp.exp(log_rate) - counts) - counts * distance
    return jnp.where((jnp.abs(distance) <= 0.5) & (counts > 0), near, far) + _count_terms(counts)


def _poisson_nll_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (log_rate, counts), (drate, dcounts) = primals, tangents
    from_rate = term(lambda: jnp.exp(log_rate) - counts, drate)
    return poisson_nll(log_rate, counts), from_rate + term(
        lambda: lax.digamma(counts + 1) - log_rate, dcounts
    )


poisson_nll.defjvp(_poisson_nll_jvp, symbolic_zeros=True)


# --- the normal distribution ----------------------------------------------------------------------


@jax.custom_jvp
def gaussian_crps(residual: Array, scale: Array) -> Array:
    """r erf(z/√2) + s (2φ(z) − 1/√π) with z = r/s, for s > 0, to 16 ULPs.

    ∂/∂r = erf(z/√2), ∂/∂s = 2φ(z) − 1/√π. Autodiff has z erf(z/√2) twice in
    ∂/∂s, with opposite signs: nothing is left at large z.
    """
    z = residual / scale
    return residual * lax.erf(z * math.sqrt(0.5)) + scale * _crps_bump(z)


def _crps_bump(z: Array) -> Array:
    """2φ(z) − 1/√π."""
    return math.sqrt(2 / math.pi) * jnp.exp(-0.5 * jnp.square(z)) - math.sqrt(1 / math.pi)


def _gaussian_crps_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (residual, scale), (dresidual, dscale) = primals, tangents
    z = divide(residual, scale)
    from_residual = term(lambda: lax.erf(z * math.sqrt(0.5)), dresidual)
    return gaussian_crps(residual, scale), from_residual + term(lambda: _crps_bump(z), dscale)


gaussian_crps.defjvp(_gaussian_crps_jvp, symbolic_zeros=True)
