"""What two sets share: probabilities with their complements, shares of a sum, the Lovász extension."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

from jaxloss.numerics.classes import sum_of_others, surprises
from jaxloss.numerics.derivatives import term
from jaxloss.numerics.elementwise import relu
from jaxloss.numerics.ranks import places


@jax.custom_jvp
def probabilities(logits: Array) -> tuple[Array, Array]:
    """softmax(z) = p and 1 − p over the last axis: the second keeps its digits where a class has it all.

    ∂p_j/∂z = p_j (1 − p_j) at z_j, −p_j p_c elsewhere. Autodiff's p_j − p_j² has no digit left there.
    """
    surprise = surprises(logits)
    return jnp.exp(-surprise), -jnp.expm1(-surprise)


@probabilities.defjvp
def _probabilities_jvp(
    primals: tuple[Array], tangents: tuple[Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    (logits,), (dlogits,) = primals, tangents
    shares, rest = probabilities(logits)
    largest = lax.stop_gradient(shares)
    change = shares * (rest * dlogits - sum_of_others(shares * dlogits, beside=largest))
    return (shares, rest), (change, -change)


@jax.custom_jvp
def share(x: Array, y: Array) -> Array:
    """x / (x + y) for x, y ≥ 0, to 2 ULPs; 0 at 0/0, with zero derivatives.

    ∂/∂x = y / (x + y)², ∂/∂y = −x / (x + y)². Autodiff finds the first as 1/(x + y) − x/(x + y)², of which
    no digit is left where x ≫ y.
    """
    return x / jnp.where((x == 0) & (y == 0), 1, x + y)


def _share_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (x, y), (dx, dy) = primals, tangents
    total = jnp.where((x == 0) & (y == 0), 1, x + y)
    from_x = term(lambda: share(y, x) / total, dx)
    return share(x, y), from_x - term(lambda: share(x, y) / total, dy)


share.defjvp(_share_jvp, symbolic_zeros=True)


@jax.custom_jvp
def lovasz_jaccard(errors: Array, members: Array) -> Array:
    """The Lovász extension of the Jaccard loss at the positive errors of the last axis, by one sort.

    Σ_k e_(k) g_k, the errors in descending order. Where the k-th belongs to the set (1, not 0), g_k is
    one over the union of the set and the errors up to it; elsewhere what that takes off the Jaccard
    index, i / (u (u − 1)): closed forms of the difference of two indices. ∂/∂e is g at each error's
    place, 0 where e ≤ 0; at a tie the first comes first. g is constant: there is no second derivative.
    """
    return _by_rank(errors, members)[0]


def _by_rank(errors: Array, members: Array) -> tuple[Array, Array, Array]:
    """The extension, the order of the errors, and g in that order."""
    place = places(errors)
    falling, order, inside = lax.sort((-errors, place, members.astype(jnp.int32)), num_keys=1)
    # Counted in integers: a float32 stops at 16 million pixels.
    within = jnp.cumsum(inside, axis=-1, dtype=jnp.int32)
    size = within[..., -1:]
    union = (size + place + 1 - within).astype(errors.dtype)
    left = (size - within).astype(errors.dtype)
    # Of an empty set the first error is the whole loss.
    gains = jnp.where(inside == 1, 1 / union, left / (union * jnp.maximum(union - 1, 1)))
    gains = jnp.where((size == 0) & (place == 0), 1, gains)
    return jnp.sum(relu(-falling) * gains, axis=-1), order, gains


def _lovasz_jaccard_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (errors, members), (derrors, _) = primals, tangents
    _, order, gains = _by_rank(*map(lax.stop_gradient, (errors, members)))
    # A second sort takes each gain back to its place: a scatter is serial on a CPU.
    _, weights = lax.sort((order, gains), num_keys=1)
    slopes = lax.stop_gradient(jnp.where(errors > 0, weights, jnp.where(errors <= 0, 0, errors)))
    change = 0.0 if isinstance(derrors, SymbolicZero) else jnp.sum(slopes * derrors, axis=-1)
    return lovasz_jaccard(errors, members), change


lovasz_jaccard.defjvp(_lovasz_jaccard_jvp, symbolic_zeros=True)
