"""Projections onto the distributions over the last axis, and the losses whose gradients they are.

Blondel, Martins & Niculae (2020), "Learning with Fenchel-Young Losses", sec. 4: the loss of logits z for
a distribution t, by Tsallis' entropy, is 0 where the projection of z is t, and its gradient is the
projection less t.
"""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss.numerics.classes import class_pivot
from jaxloss.numerics.derivatives import term
from jaxloss.numerics.elementwise import relu
from jaxloss.numerics.pairs import beside, multiply

# The exponent n of max(0, z/n − τ)ⁿ: 1 for sparsemax, 2 for 1.5-entmax.
Order = Literal[1, 2]
# Newton's steps end when none moves a threshold any more, long before this.
_STEPS = 100


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _threshold(x: Array, order: Order) -> Array:
    """τ with Σ max(0, x − τ)ⁿ = 1, for x whose largest entry is 0.

    Newton's method on a convex function that decreases: from τ = −1, which is below the root, no step
    passes it, and for n = 1 each ends at the threshold of the entries still above. No sort is needed.
    Derivative: the mean of ẋ weighted by max(0, x − τ)ⁿ⁻¹; autodiff has none for a loop in reverse.
    """

    def moved(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        tau, _, count = state
        excess = jnp.maximum(x - tau[..., None], 0)
        slope = order * jnp.sum(_weights(excess, order), axis=-1)
        step = (jnp.sum(excess**order, axis=-1) - 1) / slope
        higher = jnp.maximum(tau, tau + step)
        return higher, jnp.any(higher > tau), count + 1

    def goes_on(state: tuple[Array, Array, Array]) -> Array:
        return state[1] & (state[2] < _STEPS)

    start = jnp.full_like(x[..., 0], -1)
    return lax.while_loop(goes_on, moved, (start, jnp.array(True), jnp.array(0)))[0]


def _weights(excess: Array, order: Order) -> Array:
    """max(0, x − τ)ⁿ⁻¹, where 0⁰ = 0."""
    return jnp.where(excess > 0, 1, 0 * excess) if order == 1 else excess


@_threshold.defjvp
def _threshold_jvp(order: Order, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    tau = _threshold(x, order)
    weights = _weights(relu(x - tau[..., None]), order)
    return tau, jnp.sum(weights * dx, axis=-1) / jnp.sum(weights, axis=-1)


def _excess(logits: Array, order: Order) -> Array:
    """z/n − τ: the n-th root of an entry's share where it is positive, and how far it is from having one."""
    x = (logits - class_pivot(logits)[..., None]) / order
    return x - _threshold(x, order)[..., None]


def projection(logits: Array, order: Order) -> Array:
    """max(0, z/n − τ)ⁿ with the τ for which it sums to 1, n the order: each entry to 4 ULPs of 1.

    n = 1 is sparsemax, the Euclidean projection; n = 2 is 1.5-entmax. Derivative s (ż − Σsż/Σs) with
    s = p^{1 − 1/n}; 0 outside the support, its edge included.
    """
    return relu(_excess(logits, order)) ** order


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def projection_loss(logits: Array, shares: Array, order: Order) -> Array:
    """Ω*(z) + Ω(t) − Σtz with Ω(p) = n²/(n + 1) (Σp^{1 + 1/n} − 1), for the distribution t of `shares`.

    Derivative: the projection less t. It is computed as a sum of terms ≥ 0, with q = max(0, z/n − τ):
    ½(t − q)², or ⅔(√t − q)² (2√t + q) for n = 2, and n t max(0, τ − z/n). The terms of the definition
    cancel where the loss is small.
    """
    excess, root = _excess(logits, order), _root(shares, order)
    reached = relu(excess)
    weight = 0.5 if order == 1 else (2 * root + reached) / 1.5
    beyond = multiply(shares, order * relu(-excess))
    return jnp.sum(jnp.square(root - reached) * weight + beyond, axis=-1)


def _root(shares: Array, order: Order) -> Array:
    return shares if order == 1 else jnp.sqrt(shares)


def _projection_loss_jvp(
    order: Order, primals: tuple[Array, Array], tangents: tuple[Any, Any]
) -> tuple[Array, Any]:
    (logits, shares), (dlogits, dshares) = primals, tangents
    from_logits = term(lambda: projection(logits, order) - shares, dlogits)

    def in_shares() -> Array:
        return beside(shares, order * (_root(shares, order) - _excess(logits, order)))

    tangent = jnp.sum(from_logits + term(in_shares, dshares), axis=-1)
    return projection_loss(logits, shares, order), tangent


projection_loss.defjvp(_projection_loss_jvp, symbolic_zeros=True)
