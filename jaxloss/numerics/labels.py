"""Probabilities whose derivative keeps its digits where one class has all, and what a clipped one costs."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss.numerics.classes import surprises
from jaxloss.numerics.derivatives import term
from jaxloss.numerics.elementwise import relu, sigmoid, softplus
from jaxloss.numerics.pairs import divide


@jax.custom_jvp
def clipped_softplus(x: Array, clip: Array | float) -> Array:
    """−log(1 − max(σ(x) − m, 0)) for 0 ≤ m < 1: softplus with m taken off the probability.

    ∂/∂x = σ(x) σ(−x) / (σ(−x) + m), ∂/∂m = −1 / (σ(−x) + m) where σ(x) > m, 0 elsewhere. Right to 16 ULPs,
    and to what a rounding of σ(x) makes of it.
    """
    clip = jnp.asarray(clip, x.dtype)
    low = -jnp.log1p(-jnp.maximum(sigmoid(jnp.minimum(x, 0)) - clip, 0))
    high = -jnp.logaddexp(jnp.log(clip) + jnp.zeros_like(x), -softplus(x))
    return jnp.where(x < 0, low, jnp.maximum(high, 0))


def _clipped_softplus_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (x, clip), (dx, dclip) = primals, tangents
    clip = jnp.asarray(clip, x.dtype)
    costs = jnp.where(sigmoid(x) <= clip, 0, 1)  # not >, for a NaN to pass
    # Divided through by σ(−x), which underflows; m e^x, where e^x alone overflows, by a logarithm. It stays
    # finite, for a second derivative that is 0 there, and not ∞/∞.
    limit = math.log(jnp.finfo(x.dtype).max) - 1
    far = jnp.exp(jnp.minimum(x + jnp.log(clip), limit))
    odds = jnp.where(x > limit, far, clip * jnp.exp(jnp.minimum(x, limit)))
    from_x = term(lambda: costs * sigmoid(x) / (1 + (clip + odds)), dx)
    from_clip = term(lambda: -divide(costs.astype(x.dtype), sigmoid(-x) + clip), dclip)
    return clipped_softplus(x, clip), from_x + from_clip


clipped_softplus.defjvp(_clipped_softplus_jvp, symbolic_zeros=True)


@jax.custom_jvp
def clipped_fading(x: Array, clip: Array | float, exponent: Array | float) -> Array:
    """q^γ for q = max(σ(x) − m, 0), 0 ≤ m < 1, γ ≥ 0; 0 with zero derivatives where q is, or 1 for γ = 0.

    ∂/∂x = γ q^γ σ(x) σ(−x)/q, ∂/∂m = −γ q^γ/q, ∂/∂γ = q^γ log q. By the logarithm: see `bernoulli_fading`.
    """
    return jnp.power(_clipped(x, clip), exponent)


def _clipped(x: Array, clip: Array | float) -> Array:
    return relu(sigmoid(x) - clip)


def _clipped_fading_jvp(
    primals: tuple[Array, Array, Array], tangents: tuple[Any, Any, Any]
) -> tuple[Array, Any]:
    (x, clip, exponent), (dx, dclip, dexponent) = primals, tangents
    faded, left = clipped_fading(x, clip, exponent), _clipped(x, clip)
    nothing = left == 0

    def of_logits() -> Array:
        return exponent * (faded * divide(jnp.where(nothing, 0, sigmoid(x) * sigmoid(-x)), left))

    def of_clip() -> Array:
        return -divide(exponent * jnp.where(nothing, 0, faded), left)

    from_exponent = term(lambda: faded * jnp.log(jnp.where(nothing, 1, left)), dexponent)
    return faded, term(of_logits, dx) + term(of_clip, dclip) + from_exponent


clipped_fading.defjvp(_clipped_fading_jvp, symbolic_zeros=True)


@jax.custom_jvp
def softmax(logits: Array) -> Array:
    """e^{z_j} / Σ e^z over the last axis; ∂p_j/∂z_c = p_j ([c = j] Σ_{i≠j} p_i − [c ≠ j] p_c).

    Right to 8 ULPs and, as of `logsumexp`, 1 + |log p| of them. Autodiff's p_j (ż_j − Σ p ż) has no
    digit left where one class has it all. The derivative makes K² numbers a row: for a few classes.
    """
    return jnp.exp(-surprises(logits))


@softmax.defjvp
def _softmax_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (logits,), (dlogits,) = primals, tangents
    each = surprises(logits)
    shares = jnp.exp(-each)
    apart = 1 - jnp.eye(logits.shape[-1], dtype=logits.dtype)
    others = jnp.einsum("...c,cj->...j", shares * dlogits, apart)
    return softmax(logits), shares * (-jnp.expm1(-each) * dlogits - others)
