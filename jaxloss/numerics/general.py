"""Barron's family of robust kernels, one function of its shape from −∞ to ∞, and the integral of its laws.

Barron (2019), A General and Adaptive Robust Loss Function, CVPR, eq. 1. With w = x/s, β = |2 − α| and
h² = 1 + w²/β the kernel is β/α (h^α − 1). Its limits at α = 0 and ±∞ need no case of their own in the form
½βL·(e^u − 1)/u with L = 2 log h and u = ½αL; α = 2, where β is 0, is one. Powers of h are taken by
`power` where h is large, for e^u would turn a rounding of u into u of them.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxloss.numerics.derivatives import term
from jaxloss.numerics.elementwise import smooth_abs
from jaxloss.numerics.robust import hypotenuse


class _Shape(NamedTuple):
    """What the kernel and its derivatives are made of; h is kept times `shrink` where it would overflow."""

    w: Array
    alpha: Array
    beta: Array
    near: Array
    sine: Array
    shrunk: Array
    shrink: Array
    log_h: Array
    bent: Array

    def exponent(self, p: Array) -> Array:
        """p log h, as a multiple of w² where β may be so large that h − 1 underflows."""
        return jnp.where(self.near, 0.5 * (p / self.beta) * self.bent, p * self.log_h)

    def power(self, p: Array) -> Array:
        """h^p."""
        large = jnp.power(self.shrunk, p) * jnp.power(1 / self.shrink, p)
        return jnp.where(self.log_h > 1, large, jnp.exp(self.exponent(p)))


def _shape(x: Array, scale: Array, alpha: Array) -> _Shape:
    limits = jnp.finfo(x.dtype)
    scale = jnp.asarray(scale, x.dtype)
    # To the last digit ±∞ is a number whose double is finite; beside 2 (but for 2 itself) β is eps or more.
    alpha = jnp.clip(jnp.asarray(alpha, x.dtype), -limits.max / 4, limits.max / 4)
    beta = jnp.maximum(jnp.abs(alpha - 2), limits.eps)
    width = scale * jnp.sqrt(beta)
    huge = jnp.abs(x) > width * 2.0 ** int(0.8 * limits.maxexp)
    shrink = jnp.where(huge, jnp.asarray(2.0 ** (-limits.maxexp // 2), x.dtype), 1)
    y = x * shrink / width
    shrunk = hypotenuse(y, shrink)
    log_h = jnp.log1p(jnp.where(huge, shrunk, smooth_abs(jnp.where(huge, 1, y)))) - jnp.log(shrink)
    near, w = jnp.abs(y) < shrink, x / scale
    z = jnp.where(near, y * y, 1)
    # Of a z so small log(1 + z)/z is 1; autodiff of it divides by z², which underflows.
    small = z < limits.eps
    flattened = jnp.where(small, 1, jnp.log1p(z) / jnp.where(small, 1, z))
    bent = jnp.where(near, w * (w * flattened), 2 * beta * log_h)
    return _Shape(w, alpha, beta, near, y / shrunk, shrunk, shrink, log_h, bent)


@jax.custom_jvp
def barron(x: Array, scale: Array, alpha: Array) -> Array:
    """β/α ((1 + w²/β)^½α − 1) with w = x/s and β = |2 − α|, to 16 ULPs, at α = 0, 2 and ±∞ its limits.

    ∂/∂x = (w/s) h^(α−2), ∂/∂s = −w ∂/∂x, and ∂/∂α ≥ 0, right between the limits and at them. At α = 2
    that one is infinite, as ¼w² log(1/β): there it is taken as its value at the float next to 2. Where the
    kernel grows as e^½w² (α → ∞) a rounding of w is w² of them.
    """
    shape = _shape(x, scale, alpha)
    u = shape.exponent(shape.alpha)
    small = 0.5 * shape.bent * _expm1_ratio(u)
    by_power = (shape.log_h > 1) & (jnp.abs(u) > 1)
    ratio = shape.beta / jnp.where(by_power, shape.alpha, 1)
    values = jnp.where(by_power, ratio * (shape.power(shape.alpha) - 1), small)
    return jnp.where(shape.alpha == 2, 0.5 * shape.w * shape.w, values)


def _barron_jvp(primals: tuple[Array, Array, Array], tangents: tuple[Any, Any, Any]) -> tuple[Array, Any]:
    (x, scale, alpha), (dx, dscale, dalpha) = primals, tangents
    inverse = 1 / jnp.asarray(scale, x.dtype)

    def from_scale() -> Array:
        return influence(x, scale, alpha) * (x * inverse) * inverse

    from_x = term(lambda: influence(x, scale, alpha) * inverse, dx)
    beside_2 = jnp.where(jnp.asarray(alpha) == 2, 2 - jnp.finfo(x.dtype).eps, alpha)
    from_alpha = term(lambda: _in_alpha(_shape(x, scale, beside_2)), dalpha)
    return barron(x, scale, alpha), from_x - term(from_scale, dscale) + from_alpha


barron.defjvp(_barron_jvp, symbolic_zeros=True)


@jax.custom_jvp
def influence(x: Array, scale: Array, alpha: Array) -> Array:
    """w h^(α−2), the derivative of the kernel in w = x/s, to 16 ULPs.

    Its own are h^(α−2) (1 + sign(α−2) (w/h)²) in w, and itself times log h − ½(w²/β)/h² in α.
    """
    return _influence(_shape(x, scale, alpha))


def _influence(shape: _Shape) -> Array:
    # Of h^(α−2) the whole powers are taken apart, so that none overflows, or underflows, before its time.
    whole = jnp.where(shape.alpha < 0.5, 0, jnp.where(shape.alpha < 1.5, 1, 2))
    bounded = jnp.sqrt(shape.beta) * shape.sine
    factor = jnp.where(whole == 0, bounded * (shape.shrink / shape.shrunk), bounded)
    far = jnp.where(whole == 2, shape.w, factor) * shape.power(shape.alpha - whole)
    pulled = jnp.where(shape.near, shape.w * shape.power(shape.alpha - 2), far)
    return jnp.where(shape.alpha == 2, shape.w, pulled)


def _influence_jvp(primals: tuple[Array, Array, Array], tangents: tuple[Any, Any, Any]) -> tuple[Array, Any]:
    (x, scale, alpha), (dx, dscale, dalpha) = primals, tangents
    shape, inverse = _shape(x, scale, alpha), 1 / jnp.asarray(scale, x.dtype)

    def in_w() -> Array:
        weight = jnp.where(shape.alpha == 2, 1, shape.power(shape.alpha - 2))
        bend = jnp.where(shape.near, shape.w, jnp.sqrt(shape.beta)) * jnp.where(
            shape.near, shape.shrink / shape.shrunk, shape.sine
        )
        return weight * (1 + jnp.sign(shape.alpha - 2) * bend * bend)

    from_w = term(lambda: in_w() * inverse, dx) - term(lambda: in_w() * shape.w * inverse, dscale)
    from_alpha = term(lambda: _influence(shape) * (shape.log_h - 0.5 * shape.sine * shape.sine), dalpha)
    return influence(x, scale, alpha), from_w + from_alpha


influence.defjvp(_influence_jvp, symbolic_zeros=True)


# --- the derivative in α -----------------------------------------------------------------------


def _in_alpha(shape: _Shape) -> Array:
    length = jnp.where(shape.near, shape.bent / shape.beta, 2 * shape.log_h)
    u, e_u = shape.exponent(shape.alpha), shape.power(shape.alpha)
    return _tilt(u, e_u, length, jnp.where(shape.alpha > 2, -shape.bent, shape.bent))


def _tilt(u: Array, e_u: Array, length: Array, bent: Array) -> Array:
    """The derivative in α, ¼|b|L²·Φ: Φ is the divided difference of e^t at −v, 0, u and u; v = ½b = L − u.

    From the kernel's formula it is ½|L² ∫ t e^(ut) (1 − e^(−v(1−t))) dt| over [0, 1]: one sign throughout,
    while the terms that differentiation gives cancel as L → 0, as α → 0 and as α → 2.
    """
    v = 0.5 * bent
    small = (length <= 1) & (jnp.abs(u) <= 1)
    clustered = (length > 1) & (jnp.abs(v) < 0.5 * length)
    by_series = _near_zero(jnp.where(small, u, 0), jnp.where(small, v, 0))
    u = jnp.where(small, 1, u)
    phi, long = _phi(u, jnp.where(small, math.e, e_u)), jnp.where(clustered, length, 1)
    in_pairs = (long * phi - _expm1_ratio(u) + _expm1_ratio(jnp.where(clustered, -v, 0))) / (long * long)
    apart = (phi - e_u * _psi(length)) / jnp.where(small | clustered, 1, v)
    difference = jnp.where(small, by_series, jnp.where(clustered, in_pairs, apart))
    slope = 0.25 * jnp.abs(bent) * difference * length * length
    return jnp.where(jnp.isinf(e_u), jnp.inf, slope)


@jax.custom_jvp
def _expm1_ratio(x: Array) -> Array:
    """(e^x − 1)/x, 1 at 0."""
    return jnp.where(x == 0, 1, jnp.expm1(x) / jnp.where(x == 0, 1, x))


@_expm1_ratio.defjvp
def _expm1_ratio_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return _expm1_ratio(x), _phi(x, jnp.exp(x)) * dx


_TERMS = 20


def _series(x: Array, coefficients: list[float]) -> Array:
    total = jnp.zeros_like(x)
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total


def _near_zero(u: Array, v: Array) -> Array:
    """The divided difference of e^t at −v, 0, u, u as a series, for |u| ≤ 1 and |v| ≤ 2."""
    power, symmetric, total = jnp.ones_like(u), jnp.zeros_like(u), jnp.zeros_like(u)
    for k in range(_TERMS + 4):
        symmetric = (k + 1) * power - v * symmetric
        total = total + symmetric / float(math.factorial(k + 3))
        power = power * u
    return total


def _phi(u: Array, e_u: Array) -> Array:
    """∫ t e^(ut) dt over [0, 1] = (e^u (u − 1) + 1) / u², given e^u."""
    small = jnp.abs(u) < 1
    terms = _series(jnp.where(small, u, 0), [1 / (math.factorial(k) * (k + 2)) for k in range(_TERMS)])
    large = jnp.where(small, 1, u)
    return jnp.where(small, terms, e_u / large * ((large - 1) / large) + 1 / (large * large))


def _psi(length: Array) -> Array:
    """∫ (1 − t) e^(−Lt) dt over [0, 1] = (L − 1 + e^(−L)) / L², for L ≥ 0."""
    small = length < 1
    terms = _series(jnp.where(small, -length, 0), [1 / math.factorial(k + 2) for k in range(_TERMS)])
    large = jnp.where(small, 1, length)
    return jnp.where(small, terms, (large - 1 + jnp.exp(-large)) / (large * large))


# --- the integral of e^−kernel -----------------------------------------------------------------

# The trapezoidal rule in τ, where x = √β sinh τ: the integrand is analytic about the real line and falls as
# e^−τ at least, so that steps of 1/12 up to 42 leave an error below 1e-17 for every α in [0, 2].
_STEP = 1 / 12
_TAU = np.arange(0, 42, _STEP)
_LOG_COSH = _TAU + np.log1p(np.exp(-2 * _TAU)) - math.log(2)
_WEIGHTS = np.where(_TAU == 0, _STEP, 2 * _STEP)


@jax.custom_jvp
def log_partition(alpha: Array) -> Array:
    """log ∫ e^(−barron(x, 1, α)) dx for α in [0, 2], to 16 ULPs: from log π√2 down to log √2π.

    By quadrature: as much work as five hundred exponentials for each α. The derivative is the mean of the
    kernel's, with the other sign, under the law whose density it normalises; at α = 2 that is −∞, and taken
    as for `barron`.
    """
    terms, beta, *_ = _law(alpha)
    return jnp.log(jnp.sum(terms, axis=-1)) + 0.5 * jnp.log(beta)


def _law(alpha: Array) -> tuple[Array, ...]:
    """The terms of the integral over √β; β; and, at each node, L, u and βL, as for the kernel."""
    alpha = jnp.asarray(alpha)
    nodes = (1,) * alpha.ndim + _TAU.shape
    log_h = jnp.asarray(_LOG_COSH, alpha.dtype).reshape(nodes)
    weights = jnp.asarray(_WEIGHTS, alpha.dtype).reshape(nodes)
    beta = jnp.maximum(2 - alpha, jnp.finfo(alpha.dtype).eps)
    u, bent = alpha[..., None] * log_h, 2 * beta[..., None] * log_h
    terms = weights * jnp.exp(log_h - 0.5 * bent * _expm1_ratio(u))
    return terms, beta, 2 * log_h, u, bent


@log_partition.defjvp
def _log_partition_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (alpha,), (dalpha,) = primals, tangents
    terms, _, length, u, bent = _law(alpha)
    slopes = jnp.where(terms > 0, terms * _tilt(u, jnp.exp(u), length, bent), 0)
    return log_partition(alpha), -jnp.sum(slopes, axis=-1) / jnp.sum(terms, axis=-1) * dalpha
