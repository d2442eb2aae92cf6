"""Divergences that a degree runs through, Rényi's and Amari's, with no gap where it reaches 0 or 1."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss.numerics.derivatives import term
from jaxloss.numerics.divergences import entropy_excess, expm1_excess
from jaxloss.numerics.pairs import divide, multiply


def _gaps(logs: Array, y: Array) -> Array:
    """Log y − x, 0 where y = 0: a class nobody expects."""
    expected = y > 0
    return jnp.where(expected, jnp.log(jnp.where(expected, y, 1)) - logs, 0)


def _tilted(logs: Array, y: Array, degree: Array) -> Array:
    """The weights of Rényi's gradient: w ∝ y e^(degree·(log y − x)), those at ∞ in equal parts."""
    expected = y > 0
    exponent = jnp.log(y) + multiply(degree, _gaps(logs, y))
    pivot = lax.stop_gradient(jnp.max(exponent, axis=-1, keepdims=True, where=expected, initial=-jnp.inf))
    level = (exponent == pivot) & jnp.isinf(pivot)  # ∞ less ∞ would be none
    grown = jnp.where(expected, jnp.exp(jnp.where(level, 0, exponent - pivot)), 0)
    return grown / jnp.sum(grown, axis=-1, keepdims=True)


@jax.custom_jvp
def renyi_divergence(logs: Array, y: Array, degree: Array) -> Array:
    """log Σ y e^(θd) / θ for d = log y − x, Σ y = 1 and the degree θ > −1; Σ y d at θ = 0.

    It is Σ w d − Σ w log(w/y) / θ under the weights w of its gradient: no θ divides a sum of rounded
    terms. Derivatives −w in x, (e^v − 1)/θ + e^v in y for v = θ(d − ℓ), Σ (1 + (v − 1) e^v) y / θ²
    in θ. Right to 16 ULPs of Σ w |d| and of what a rounding of log y makes of it.
    """
    weights, gaps = _tilted(logs, y, degree), _gaps(logs, y)
    moved = jnp.sum(entropy_excess(weights, y, y - weights), axis=-1)
    order = degree[..., 0]
    return jnp.sum(multiply(weights, gaps), axis=-1) - jnp.where(order == 0, 0, divide(moved, order))


def _renyi_jvp(primals: tuple[Array, Array, Array], tangents: tuple[Any, Any, Any]) -> tuple[Array, Any]:
    (logs, y, degree), (dlogs, dy, ddegree) = primals, tangents
    value = renyi_divergence(logs, y, degree)

    def of_y() -> Array:
        neither = (y == 0) & (logs == -jnp.inf)
        gaps = jnp.where(neither, 0, jnp.log(y) - logs) - value[..., None]
        exponent = multiply(degree, gaps)
        # Far above, the two terms are one: ∞ less ∞ would be none.
        far = ((1 + degree) * jnp.exp(exponent) - 1) / jnp.where(exponent > 1, degree, 1)
        return jnp.where(exponent > 1, far, _slope(gaps, degree) + jnp.exp(exponent))

    def of_degree() -> Array:
        gaps = _gaps(logs, y) - value[..., None]
        return _bend(gaps, degree, y, _tilted(logs, y, degree))

    moved = term(lambda: -_tilted(logs, y, degree), dlogs) + term(of_y, dy) + term(of_degree, ddegree)
    return value, jnp.sum(jnp.zeros_like(y) + moved, axis=-1)


renyi_divergence.defjvp(_renyi_jvp, symbolic_zeros=True)


def _slope(x: Array, degree: Array) -> Array:
    """(e^(ax) − 1)/a, which is x at a = 0."""
    still = degree == 0
    return jnp.where(still, x, jnp.expm1(multiply(degree, x)) / jnp.where(still, 1, degree))


def _bend(gap: Array, degree: Array, x: Array, moved: Array) -> Array:
    """(x + (v − 1) x e^v)/a² for v = a·gap and `moved` = x e^v, which is ½ x gap² at a = 0."""
    gap = jnp.where(moved == 0, 0, gap)
    exponent = degree * gap
    near = (jnp.abs(exponent) < 1) & ((moved > 0) | (x == 0))
    small = jnp.where(near & (jnp.abs(exponent) > 1e-18), exponent, -1e-18)
    bent = moved * jnp.square(gap) * (expm1_excess(-small) / jnp.square(small))
    return jnp.where(near, bent, (x + moved * (exponent - 1)) / jnp.square(jnp.where(near, 1, degree)))


@jax.custom_jvp
def power_divergence(logs: Array, y: Array, degree: Array) -> Array:
    """(a y + (1 − a) x − y^a x^(1−a)) / (a (1 − a)) for x given as log x, never negative.

    y log(y/x) − y + x at a = 1, x log(x/y) − x + y at a = 0. Derivatives −x ((y/x)^a − 1)/a in log x,
    (1 − (x/y)^(1−a))/(1 − a) in y. Right to 16 ULPs, and to what a rounding of e^x makes of it.
    """
    return _amari(*_in_order(logs, y, degree))


def _in_order(logs: Array, y: Array, degree: Array) -> tuple[Array, ...]:
    """The two and the degree; in each other's place where it is more than ½, for there 1 − a is less."""
    log_y, x, first = jnp.log(y), jnp.exp(logs), degree <= 0.5
    pairs = ((logs, log_y), (x, y), (log_y, logs), (y, x), (degree, 1 - degree))
    return tuple(jnp.where(first, one, other) for one, other in pairs)


def _power_jvp(primals: tuple[Array, Array, Array], tangents: tuple[Any, Any, Any]) -> tuple[Array, Any]:
    (logs, y, degree), (dlogs, dy, ddegree) = primals, tangents
    log_y = jnp.log(y)
    gap = jnp.where((logs == -jnp.inf) & (y == 0), 0, log_y - logs)

    def of_logs() -> Array:
        x = jnp.exp(logs)
        exponent, moved = _moved(logs, log_y, degree)
        near = jnp.abs(exponent) < 1
        slope = _slope(jnp.where(near, gap, 0), degree)
        return -jnp.where(near, multiply(x, slope), divide(moved - x, degree))

    def of_degree() -> Array:
        log_x, x, log_other, _, a = _in_order(logs, y, degree)
        distance = jnp.where(degree <= 0.5, gap, -gap)
        bend = _bend(distance, a, x, _moved(log_x, log_other, a)[1])
        slope = (power_divergence(logs, y, degree) - bend) / (1 - a)
        return jnp.where(degree <= 0.5, slope, -slope)

    moved = term(of_logs, dlogs) + term(lambda: -_slope(-gap, 1 - degree), dy)
    return power_divergence(logs, y, degree), moved + term(of_degree, ddegree)


power_divergence.defjvp(_power_jvp, symbolic_zeros=True)


def _amari(log_x: Array, x: Array, log_y: Array, y: Array, a: Array) -> Array:
    """The power divergence for a ≤ ½."""
    exponent, moved = _moved(log_x, log_y, a)
    near = jnp.abs(exponent) < 1
    excess = x * divide(expm1_excess(jnp.where(near, exponent, 0)), a)
    return jnp.where(near, entropy_excess(x, y, y - x) - excess, y - x - divide(moved - x, a)) / (1 - a)


def _moved(log_x: Array, log_y: Array, a: Array) -> tuple[Array, Array]:
    """The exponent a log(y/x), and y^a x^(1−a); where x or y is 0, numbers without a derivative."""
    no_x, no_y = log_x == -jnp.inf, log_y == -jnp.inf
    log_x, log_y = jnp.where(no_x, 0, log_x), jnp.where(no_y, 0, log_y)
    endless = jnp.where((a > 0) == no_x, jnp.inf, -jnp.inf)
    exponent = jnp.where((no_x ^ no_y) & (a != 0), endless, a * jnp.where(no_x | no_y, 0, log_y - log_x))
    lost = (no_x & ((a < 1) | no_y)) | (no_y & (a > 0))
    endless = (no_x & (a > 1)) | (no_y & (a < 0))
    moved = jnp.exp(a * log_y + (1 - a) * log_x)
    return exponent, jnp.where(lost, 0, jnp.where(endless, jnp.inf, moved))
