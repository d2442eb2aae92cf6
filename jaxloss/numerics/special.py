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
from jax.scipy.special import i0e, i1e

from jaxloss.numerics.derivatives import term
from jaxloss.numerics.elementwise import log1p, sigmoid, softplus
from jaxloss.numerics.pairs import divide, multiply
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
        near = log1p_excess(-jnp.minimum(share, 0.5))  # of a share that rounds to 1 it has an infinite slope
        excess = jnp.where(share < 0.5, near, log1p_square(x, width) - share)
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


# --- counts that vary more than Poisson's -----------------------------------------------------------


@jax.custom_jvp
def negative_binomial_nll(mean: Array, dispersion: Array, counts: Array) -> Array:
    """−log of the mass of k whose mean is μ and variance μ + αμ², for μ, α > 0, whole k ≥ 0.

    Right to 16 ULPs of itself and of what a rounding of μ or k makes of it. With r = 1/α the plain
    log Γ(r) − log Γ(k + r) and its derivative lose all digits as α → 0, where the mass is Poisson's.
    Derivatives, with e = α(k − μ)/(1 + αμ) and h = log1p_excess: ∂/∂μ = (μ − k)/(μ (1 + αμ)),
    ∂/∂α = −h(e)/α² + ½k/(1 + αk) + (B′(r + k) − B′(r))/α².
    """
    dispersion, over, under = _overdispersed(mean, dispersion, counts)
    positive = jnp.maximum(counts, 1)
    # log of μ (1 + αk)/(k (1 + αμ)), which is 1 + excess/k.
    log_ratio = jnp.log(mean / positive) + (jnp.log1p(dispersion * counts) - jnp.log1p(dispersion * mean))
    excess = -over / (dispersion * positive)
    of_count = jnp.where(excess < -0.5, excess - log_ratio, log1p_excess(excess))
    size = 1 / dispersion
    remainder = binet(size) - binet(size + counts) + 0.5 * jnp.log1p(dispersion * counts)
    none = mean / (1 + dispersion * mean)  # of no count: there the two remainders are one
    of_counts = jnp.where(counts > 0, counts * of_count + _count_terms(counts) + remainder, none)
    return of_counts + under / dispersion


def _overdispersed(mean: Array, dispersion: Array, counts: Array) -> tuple[Array, Array, Array]:
    """α, then e = α(k − μ)/(1 + αμ), the share by which k + r is larger than μ + r, and e − log(1 + e).

    An α below ε² says nothing of a count that is a float; its square must not be zero.
    """
    dispersion = jnp.maximum(dispersion, jnp.finfo(dispersion.dtype).eps ** 2)
    mean_more, count_more = dispersion * mean, dispersion * counts
    over = dispersion * (counts - mean) / (1 + mean_more)
    apart = over - (jnp.log1p(count_more) - jnp.log1p(mean_more))
    return dispersion, over, jnp.where(over < -0.5, apart, log1p_excess(jnp.maximum(over, -0.5)))


def _negative_binomial_nll_jvp(
    primals: tuple[Array, Array, Array], tangents: tuple[Any, Any, Any]
) -> tuple[Array, Any]:
    (mean, dispersion, counts), (dmean, ddispersion, dcounts) = primals, tangents

    def by_dispersion() -> Array:
        alpha, _, excess = _overdispersed(mean, dispersion, counts)
        size, more = 1 / alpha, 1 + alpha * counts
        curved = _scaled_slope(size + counts) / more / more - _scaled_slope(size)
        # Of no event it is rounding: −h(e)/α² may be 1e-18.
        curved = curved * jnp.minimum(counts, 1)
        return 0.5 * counts / more + curved - excess / alpha / alpha

    def by_count() -> Array:
        size = 1 / jnp.maximum(dispersion, jnp.finfo(dispersion.dtype).eps ** 2)
        return lax.digamma(counts + 1) - lax.digamma(counts + size) + jnp.log1p(size / mean)

    from_mean = term(lambda: (1 - counts / mean) / (1 + dispersion * mean), dmean)
    from_dispersion = term(by_dispersion, ddispersion)
    return negative_binomial_nll(mean, dispersion, counts), from_mean + from_dispersion + term(
        by_count, dcounts
    )


negative_binomial_nll.defjvp(_negative_binomial_nll_jvp, symbolic_zeros=True)


def _scaled_slope(z: Array) -> Array:
    """z² B′(z), which is −1/12 for large z, −½z for small."""
    low = z < 1
    upper = jnp.where(low, z + 1, z)
    value, slope = jax.jvp(_series, (1 / upper,), (jnp.ones_like(z),))
    ratio = z / upper
    below = jnp.square(z) * (jnp.log1p(z) - jnp.log(z)) - (z + 0.5) * (z / (z + 1))
    return -(value + slope / upper) * jnp.square(ratio) + jnp.where(low, below, 0)


@jax.custom_jvp
def zero_inflated_nll(logits: Array, log_rate: Array, counts: Array) -> Array:
    """−log of the mass of k that is 0 with chance σ(a), else Poisson's with log rate η; whole k ≥ 0.

    For k = 0 it is −log(1 − σ(−a)(1 − e^−λ)), λ = e^η: −log1p of a number while that is far from −1, and
    the sum of two logarithms near it, to 4 ULPs but for what a rounding of η makes.
    Derivatives at k = 0: −σ(a + λ) σ(−a) (1 − e^−λ) and λ σ(−a − λ).
    """
    rate = jnp.exp(log_rate)
    missing = sigmoid(-logits) * -jnp.expm1(-rate)
    always, by_chance = -softplus(-logits), -(softplus(logits) + rate)
    larger, smaller = jnp.maximum(always, by_chance), jnp.minimum(always, by_chance)
    both = larger + jnp.log1p(jnp.exp(smaller - larger))
    none = -jnp.where(missing < 0.5, log1p(-jnp.minimum(missing, 0.5)), both)
    some = softplus(logits) + poisson_nll(log_rate, counts)
    return jnp.where(counts == 0, none, some)  # a NaN is not 0


def _zero_inflated_nll_jvp(
    primals: tuple[Array, Array, Array], tangents: tuple[Any, Any, Any]
) -> tuple[Array, Any]:
    (logits, log_rate, counts), (dlogits, drate, dcounts) = primals, tangents
    rate, some = jnp.exp(log_rate), counts != 0

    def by_logits() -> Array:
        none = sigmoid(logits + rate) * sigmoid(-logits) * jnp.expm1(-rate)
        return jnp.where(some, sigmoid(logits), none)

    def by_rate() -> Array:
        return jnp.where(some, rate - counts, multiply(sigmoid(-logits - rate), rate))

    change = term(by_logits, dlogits) + term(by_rate, drate)
    change = change + term(lambda: lax.digamma(counts + 1) - log_rate, dcounts)
    return zero_inflated_nll(logits, log_rate, counts), change


zero_inflated_nll.defjvp(_zero_inflated_nll_jvp, symbolic_zeros=True)


# --- the Bessel function ----------------------------------------------------------------------------


@jax.custom_jvp
def log_bessel(x: Array) -> Array:
    """log I₀(x) − x for x ≥ 0, to 4 ULPs of 1; derivative I₁(x)/I₀(x) − 1, to 64 ULPs.

    The ratio is 1 − 1/(2x) − 1/(8x²) − ... for large x, where the two functions differ in no digit.
    """
    return jnp.log(i0e(x))


@log_bessel.defjvp
def _log_bessel_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    near = jnp.minimum(x, _FAR)
    below = (i1e(near) - i0e(near)) / i0e(near)
    w, series = 1 / jnp.maximum(x, _FAR), jnp.zeros_like(x)
    for coefficient in reversed(_BESSEL_RATIO):
        series = coefficient + w * series
    return log_bessel(x), jnp.where(x < _FAR, below, -w * series) * dx


# 1 − I₁(x)/I₀(x) in powers of 1/x, from the asymptotic series of both (DLMF 10.40.1).
_FAR = 32.0
_BESSEL_RATIO = (
    1 / 2,
    1 / 8,
    1 / 8,
    25 / 128,
    13 / 32,
    1073 / 1024,
    103 / 32,
    375733 / 32768,
    46.478515625,
    211.27614974975586,
    1064.67822265625,
    5892.0457146167755,
    35528.87744140625,
    231884.6359563172,
    1628749.4532470703,
)


# --- shares of a whole --------------------------------------------------------------------------------


@jax.custom_jvp
def beta_nll(first: Array, second: Array, x: Array) -> Array:
    """log B(a, b) − (a − 1) log x − (b − 1) log(1 − x) for a, b > 0, x in [0, 1], where 0·log 0 = 0.

    Right to 16 ULPs of itself, of its logarithms and of what a rounding of x makes of it, also where
    a and b are so large that the plain terms cancel. Derivatives: ψ(a) − ψ(a + b) − log x,
    ψ(b) − ψ(a + b) − log(1 − x), to 16 ULPs of either term or of a tenth; (b − 1)/(1 − x) − (a − 1)/x.
    """
    over = second * x - first * (1 - x)
    whole = first + second
    terms = _share_term(first, whole, over / first, x) + _share_term(second, whole, -over / second, 1 - x)
    return terms + 0.5 * jnp.log(whole) - binet(whole) - HALF_LOG_TWO_PI


def _share_term(part: Array, whole: Array, excess: Array, x: Array) -> Array:
    """What one share x of a part a of a whole n adds, where n x = a (1 + excess).

    a (e − log(1 + e)) + log x − ½ log a + ½ log 2π + B(a), written out where the share is far too small,
    for 0·log 0 to be 0.
    """
    near = part * log1p_excess(excess) + jnp.log(x)
    far = part * (excess + jnp.log(part / whole)) - multiply(part - 1, jnp.log(x))
    return jnp.where(excess < -0.5, far, near) - 0.5 * jnp.log(part) + HALF_LOG_TWO_PI + binet(part)


def _digamma_step(x: Array, step: Array) -> Array:
    """ψ(x + h) − ψ(x) for h ≥ 0, to 16 ULPs of itself or of a tenth, the size of B′ at one.

    Below one it is h/(x (x + h)) more than ψ(x + 1 + h) − ψ(x + 1).
    """
    low = x < 1
    start = jnp.where(low, x + 1, x)
    end = start + step
    curved = _scaled_slope(end) / end / end - _scaled_slope(start) / start / start
    above = jnp.log1p(step / start) + 0.5 * (step / end) / start + curved
    return above + jnp.where(low, (step / (x + step)) / x, 0)


def _beta_nll_jvp(primals: tuple[Array, Array, Array], tangents: tuple[Any, Any, Any]) -> tuple[Array, Any]:
    (first, second, x), (dfirst, dsecond, dx) = primals, tangents
    from_first = term(lambda: -jnp.log(x) - _digamma_step(first, second), dfirst)
    from_second = term(lambda: -jnp.log1p(-x) - _digamma_step(second, first), dsecond)
    from_x = term(lambda: divide(second - 1, 1 - x) - divide(first - 1, x), dx)
    return beta_nll(first, second, x), from_first + from_second + from_x


beta_nll.defjvp(_beta_nll_jvp, symbolic_zeros=True)


@jax.custom_jvp
def dirichlet_nll(concentration: Array, shares: Array) -> Array:
    """Σ log Γ(α_i) − log Γ(Σ α) − Σ (α_i − 1) log x_i over the last axis, where 0·log 0 = 0.

    As `beta_nll`, but for a rounding of Σ x, of which there is no complement: Σ α of them. Derivatives:
    ψ(α_i) − ψ(Σ α) − log x_i and −(α_i − 1)/x_i.
    """
    whole = jnp.sum(concentration, axis=-1, keepdims=True)
    excess = (whole * shares - concentration) / concentration
    terms = _share_term(concentration, whole, excess, shares)
    too_much = whole[..., 0] * (jnp.sum(shares, axis=-1) - 1)
    rest = 0.5 * jnp.log(whole) - binet(whole) - HALF_LOG_TWO_PI
    return jnp.sum(terms, axis=-1) - too_much + rest[..., 0]


def _dirichlet_nll_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (concentration, shares), (dconcentration, dshares) = primals, tangents
    others = jnp.sum(concentration, axis=-1, keepdims=True) - concentration
    from_first = term(lambda: -jnp.log(shares) - _digamma_step(concentration, others), dconcentration)
    from_shares = term(lambda: -divide(concentration - 1, shares), dshares)
    return dirichlet_nll(concentration, shares), jnp.sum(from_first + from_shares, axis=-1)


dirichlet_nll.defjvp(_dirichlet_nll_jvp, symbolic_zeros=True)
