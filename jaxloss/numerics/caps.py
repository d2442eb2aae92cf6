"""A logit bent towards a cap that it never passes."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss.numerics.derivatives import term

# 2^(2k+3) / (2k+3)!, k = 0 to 11: sinh 2u − 2u over u³, to the last digit of a float64 for |u| ≤ 1.
_SERIES = tuple(2.0 ** (2 * k + 3) / math.factorial(2 * k + 3) for k in range(12))


@jax.custom_jvp
def soft_cap(x: Array, cap: Array) -> Array:
    """c tanh(x/c) for c > 0, to 4 ULPs; derivatives 1/cosh²(x/c) and tanh(x/c) − (x/c)/cosh²(x/c).

    Autodiff's 1 − tanh² has no digit left where the logit is far beyond the cap, nor has the second where
    it is far within it.
    """
    return cap * jnp.tanh(x / cap)


def _soft_cap_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (x, cap), (dx, dcap) = primals, tangents
    from_x = term(lambda: _slope(x / cap), dx)
    return soft_cap(x, cap), from_x + term(lambda: _slope_in_cap(x / cap), dcap)


def _slope(u: Array) -> Array:
    """1/cosh² u, by e^−2|u|, which may underflow and not overflow."""
    fading = jnp.exp(-2 * jnp.abs(u))
    return 4 * fading / jnp.square(1 + fading)


def _slope_in_cap(u: Array) -> Array:
    """(sinh 2u − 2u) / (2 cosh² u): by its series up to 1."""
    near = jnp.clip(u, -1, 1)
    total = jnp.full_like(near, _SERIES[-1])
    for coefficient in reversed(_SERIES[:-1]):
        total = total * (near * near) + coefficient
    bent = 0.5 * (near * near) * near * total * _slope(near)
    return jnp.where(jnp.abs(u) <= 1, bent, jnp.tanh(u) - u * _slope(u))


soft_cap.defjvp(_soft_cap_jvp, symbolic_zeros=True)
