"""What one class adds to a divergence of distributions, given log p and t; and e^x less its tangent."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero

from jaxloss.numerics.classes import expected_surprise, surprises
from jaxloss.numerics.derivatives import term
from jaxloss.numerics.pairs import divide, multiply


def _series(x: Array, coefficients: list[float]) -> Array:
    """Σ c_k x^k, by Horner's rule."""
    total = jnp.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total


@jax.custom_jvp
def expm1_excess(x: Array) -> Array:
    """e^x − 1 − x, to 8 ULPs also where it is ½x²; derivative e^x − 1."""
    inside = jnp.clip(x, -1, 1)
    near = inside * (inside * _series(inside, [1 / math.factorial(k + 2) for k in range(18)]))
    return jnp.where(jnp.abs(x) < 1, near, jnp.expm1(x) - x)


@expm1_excess.defjvp
def _expm1_excess_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return expm1_excess(x), jnp.expm1(x) * dx


def _log1p_excess(x: Array) -> Array:
    """X − log(1 + x) for x in (−0.4, 0.5): with w = x/(2 + x) it is x·w − 2(w³/3 + w⁵/5 + ...)."""
    w = x / (2 + x)
    return x * w - 2 * w * w * w * _series(w * w, [1 / (2 * k + 3) for k in range(13)])


def entropy_excess(x: Array, y: Array, difference: Array) -> Array:
    """y − x − x log(y/x) for y = x + difference ≥ 0, to 16 ULPs also where y ≈ x."""
    ratio = divide(difference, x)
    near = (ratio > -0.4) & (ratio < 0.5)
    bent = x * _log1p_excess(jnp.where(near, ratio, 0))
    return jnp.where(near, bent, difference - multiply(x, jnp.log(divide(y, x))))


@jax.custom_jvp
def surplus_entropy(logs: Array, y: Array) -> Array:
    """y (log y − x) − y + e^x for y ≥ 0: never negative, though its terms cancel where e^x ≈ y.

    ∂/∂x = e^x − y, ∂/∂y = log y − x, both 0 where y and e^x are 0. Right to 8 ULPs, and to what a
    rounding of e^x makes of it.
    """
    difference = jnp.exp(logs) - y
    ratio = divide(difference, y)
    near = (ratio > -0.4) & (ratio < 0.5)
    bent = y * _log1p_excess(jnp.where(near, ratio, 0))
    return jnp.where(near, bent, multiply(y, _log_ratio(logs, y)) + difference)


def _log_ratio(logs: Array, y: Array) -> Array:
    """Log y − x, 0 where both are logarithms of nothing."""
    return jnp.where((y == 0) & (logs == -jnp.inf), 0, jnp.log(y) - logs)


def _surplus_entropy_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (logs, y), (dlogs, dy) = primals, tangents
    from_logs = term(lambda: jnp.exp(logs) - y, dlogs)
    return surplus_entropy(logs, y), from_logs + term(lambda: _log_ratio(logs, y), dy)


surplus_entropy.defjvp(_surplus_entropy_jvp, symbolic_zeros=True)


@jax.custom_jvp
def mixture_entropy(logs: Array, y: Array, share: Array) -> Array:
    """β y log(y/m) + (1 − β) x log(x/m), m = β y + (1 − β) x, for x given as log x and 0 < β < 1.

    A class of the Jensen-Shannon divergence, never negative. ∂/∂log x = (1 − β) x log(x/m), ∂/∂y =
    β log(y/m), both 0 where neither expects the class; ∂/∂β = y log(y/m) − x log(x/m) − y + x. Right to
    16 ULPs, and to what a rounding of e^x makes of it.
    """
    x = jnp.exp(logs)
    mixed, towards, back = share * y + (1 - share) * x, (1 - share) * (x - y), share * (y - x)
    return share * entropy_excess(y, mixed, towards) + (1 - share) * entropy_excess(x, mixed, back)


def _mixture_entropy_jvp(
    primals: tuple[Array, Array, Array], tangents: tuple[Any, Any, Any]
) -> tuple[Array, Any]:
    (logs, y, share), (dlogs, dy, dshare) = primals, tangents
    x = jnp.exp(logs)
    mixed, towards, back = share * y + (1 - share) * x, (1 - share) * (x - y), share * (y - x)
    # Where x is 0 nothing changes with its logarithm, to any order.
    from_logs = term(lambda: (1 - share) * x * _over_mixture(jnp.where(x == 0, 1, x), y, share), dlogs)
    from_y = term(lambda: share * _over_mixture(y, x, 1 - share), dy)
    # Less y − x, as a difference of two numbers that have no term in common with it.
    from_share = term(lambda: entropy_excess(y, mixed, towards) - entropy_excess(x, mixed, back), dshare)
    return mixture_entropy(logs, y, share), from_logs + from_y + from_share


mixture_entropy.defjvp(_mixture_entropy_jvp, symbolic_zeros=True)


@jax.custom_jvp
def _over_mixture(x: Array, y: Array, share: Array) -> Array:
    """log(x/m), m = β y + (1 − β) x; derivatives β y / (m x), −β/m and (x − y)/m.

    Autodiff's x⁻² is infinite from 1e-19 down in float32, and a share that small is no rarity.
    """
    return -jnp.log1p(divide(share * (y - x), x))


def _over_mixture_jvp(
    primals: tuple[Array, Array, Array], tangents: tuple[Any, Any, Any]
) -> tuple[Array, Any]:
    (x, y, share), (dx, dy, dshare) = primals, tangents
    mixed = share * y + (1 - share) * x
    from_x = term(lambda: divide(divide(share * y, mixed), x), dx)
    from_share = term(lambda: divide(x - y, mixed), dshare)
    return _over_mixture(x, y, share), from_x - term(lambda: divide(share, mixed), dy) + from_share


_over_mixture.defjvp(_over_mixture_jvp, symbolic_zeros=True)


@jax.custom_jvp
def root_distance(logs: Array, y: Array) -> Array:
    """½(√x − √y)² for x given as log x; ∂/∂log x = ½√x (√x − √y), ∂/∂y = ½ − ½√(x/y), ½ at 0/0."""
    return 0.5 * jnp.square(jnp.exp(0.5 * logs) - jnp.sqrt(y))


def _root_distance_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (logs, y), (dlogs, dy) = primals, tangents
    root = jnp.exp(0.5 * logs)
    from_logs = term(lambda: 0.5 * root * (root - jnp.sqrt(y)), dlogs)
    return root_distance(logs, y), from_logs + term(lambda: 0.5 - 0.5 * divide(root, jnp.sqrt(y)), dy)


root_distance.defjvp(_root_distance_jvp, symbolic_zeros=True)


@jax.custom_jvp
def softmax_divergence(logits: Array, others: Array) -> Array:
    """Σ q log(q/p) for p = softmax(logits), q = softmax(others), to 16 ULPs of Σ q |log q| + q |log p|.

    Derivatives p − q, as of `expected_surprise`, and q (log(q/p) − Σ q log(q/p)), which are 0 where
    the two agree.
    """
    shares, gaps = _shares_and_gaps(logits, others)
    return jnp.sum(shares * gaps, axis=-1)


def _shares_and_gaps(logits: Array, others: Array) -> tuple[Array, Array]:
    """q and log(q/p), the latter 0 where q is."""
    own = surprises(others)
    shares = jnp.exp(-own)
    return shares, jnp.where(shares == 0, 0, surprises(logits) - own)


def _softmax_divergence_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (logits, others), (dlogits, dothers) = primals, tangents
    value = softmax_divergence(logits, others)
    shares, gaps = _shares_and_gaps(logits, others)
    moved = jnp.sum(
        jnp.zeros_like(shares) + term(lambda: shares * (gaps - value[..., None]), dothers), axis=-1
    )
    if not isinstance(dlogits, SymbolicZero):
        moved = moved + jax.jvp(lambda z: expected_surprise(z, shares), (logits,), (dlogits,))[1]
    return value, moved


softmax_divergence.defjvp(_softmax_divergence_jvp, symbolic_zeros=True)
