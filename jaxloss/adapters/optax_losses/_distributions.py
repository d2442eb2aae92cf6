"""Divergences of numbers that need not sum to 1, along one axis or several."""

import warnings

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxloss import numerics
from jaxloss.adapters.optax_losses._shapes import (
    Axis,
    Floats,
    Mask,
    item_last,
    mask_like,
    one_call,
    pair_together,
)
from jaxloss.losses import divergence


@one_call("axis")
def kl_divergence(
    log_predictions: Floats, targets: Floats, axis: Axis = -1, where: Mask = None
) -> Float[Array, "..."]:
    """`divergence.kl` of any numbers: Σ t (log t − log p), 0 where t = 0 also if p = 0."""
    logs, shares = _entries("kl_divergence", axis, where, 1, log_predictions=log_predictions, targets=targets)
    return jnp.sum(numerics.relative_entropy(logs, shares), axis=-1)


def _entries(
    who: str, axis: Axis, where: ArrayLike | None, neutral: int, **arrays: ArrayLike
) -> tuple[Array, Array]:
    """Two arrays, items last; an entry left out is what costs nothing: log p = 0 and the neutral target."""
    logs, targets = pair_together(who, **arrays)
    if where is not None:
        kept = mask_like(who, logs, where)
        logs, targets = jnp.where(kept, logs, 0), jnp.where(kept, targets, neutral)
    return item_last(logs, axis), item_last(targets, axis)


@one_call("axis")
def kl_divergence_with_log_targets(
    log_predictions: Floats, log_targets: Floats, axis: Axis = -1, where: Mask = None
) -> Float[Array, "..."]:
    """`divergence.kl_log_targets` of any numbers: Σ e^u (u − log p), 0 where u = −∞."""
    logs, targets = _entries(
        "kl_divergence_with_log_targets",
        axis,
        where,
        0,
        log_predictions=log_predictions,
        log_targets=log_targets,
    )
    shares = jnp.exp(targets)
    return jnp.sum(shares * jnp.where(shares == 0, 0, targets - logs), axis=-1)


@one_call("axis")
def generalized_kl_divergence(
    log_predictions: Floats, targets: Floats, axis: Axis = -1, where: Mask = None
) -> Float[Array, "..."]:
    """`divergence.generalized_kl`: never below 0, and no term cancels another where p ≈ t."""
    return divergence.generalized_kl(
        *_entries(
            "generalized_kl_divergence", axis, where, 1, log_predictions=log_predictions, targets=targets
        )
    )


def convex_kl_divergence(
    log_predictions: Floats, targets: Floats, axis: Axis = -1, where: Mask = None
) -> Float[Array, "..."]:
    """The old name of `generalized_kl_divergence`, deprecated as it is in Optax."""
    msg = "convex_kl_divergence is deprecated; use generalized_kl_divergence."
    warnings.warn(msg, DeprecationWarning, stacklevel=2)
    return generalized_kl_divergence(log_predictions, targets, axis, where)
