"""Losses of labelled images: how much of what is predicted and what is there is not shared."""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxloss import numerics
from jaxloss._contracts import UNIT, paired, poison
from jaxloss.adapters.optax_losses._shapes import Floats, Number, Reals, one_call

_REDUCTIONS = {"mean": jnp.mean, "sum": jnp.sum, "none": None}
# How far from 1 the sum of given probabilities may be: rounding in half precision, not another scale.
_SLACK = 1e-2


@one_call("apply_softmax", "reduction", "ignore_background", "axis")
def dice_loss(
    predictions: Floats,
    targets: Reals,
    *,
    class_weights: Floats | None = None,
    smooth: Number = 1.0,
    alpha: Number = 0.5,
    beta: Number = 0.5,
    apply_softmax: bool = True,
    reduction: str = "mean",
    ignore_background: bool = False,
    axis: Any = None,
) -> Float[Array, "..."]:
    """`segmentation.tversky`, also of one class, by a sigmoid, and of given probabilities.

    (αF + βM) / (I + αF + βM + s), without the difference that leaves no digit of an image all but right.
    Probabilities that do not sum to 1 make NaN, also under `jit`; 0/0 is 0.
    """
    if reduction not in _REDUCTIONS:
        msg = f"dice_loss: `reduction` must be one of {', '.join(_REDUCTIONS)}, got {reduction!r}; give one."
        raise ValueError(msg)
    given, there = jnp.asarray(predictions), jnp.asarray(targets)
    if given.ndim == there.ndim - 1:
        given = given[..., None]
    if there.ndim == given.ndim - 1:
        there = there[..., None]
    given, there = paired("dice_loss", predictions=given, targets=there)
    weights = None if class_weights is None else _each_class(class_weights, given)
    predicted, rest = _of_logits(given) if apply_softmax else _of_probabilities(given)
    axis = tuple(range(1, given.ndim - 1)) if axis is None else axis
    shared, false, missed = (
        jnp.sum(pixels, axis=axis) for pixels in (predicted * there, predicted * (1 - there), rest * there)
    )
    smooth, alpha, beta = (jnp.asarray(option, given.dtype) for option in (smooth, alpha, beta))
    losses = numerics.share(alpha * false + beta * missed, shared + smooth)
    if weights is not None:
        losses = losses * jnp.broadcast_to(weights, losses.shape)
    if ignore_background and given.shape[-1] > 1:
        losses = losses[..., 1:]
    reduce = _REDUCTIONS[reduction]
    return losses if reduce is None else reduce(losses, axis=-1)


def _of_logits(logits: Array) -> tuple[Array, Array]:
    """Probabilities and their complements, each with its own digits; of one class those of a sigmoid."""
    if logits.shape[-1] == 1:
        return numerics.sigmoid(logits), numerics.sigmoid(-logits)
    return numerics.probabilities(logits)


def _of_probabilities(given: Array) -> tuple[Array, Array]:
    """The same of probabilities, NaN where they are none."""
    valid = UNIT.holds(given)
    if given.shape[-1] > 1:
        valid &= jnp.abs(jnp.sum(given, axis=-1, keepdims=True) - 1) <= _SLACK
    predicted = poison("dice_loss", "predictions", given, valid, "probabilities that sum to 1")
    return predicted, 1 - predicted


def _each_class(weights: ArrayLike, given: Array) -> Array:
    weights = jnp.asarray(weights, given.dtype)
    if weights.shape != given.shape[-1:]:
        wanted = given.shape[-1:]
        msg = f"dice_loss: `class_weights` {weights.shape} must have shape {wanted}; give one a class."
        raise ValueError(msg)
    return weights


@one_call("apply_softmax", "ignore_background")
def multiclass_generalized_dice_loss(
    predictions: Floats,
    targets: Reals,
    *,
    smooth: Number = 1.0,
    apply_softmax: bool = True,
    ignore_background: bool = False,
) -> Float[Array, ""]:
    """The mean of `dice_loss` weighted by 1/n² for n pixels; an absent class has the weight of the rarest.

    `segmentation.generalized_dice` is the paper's, one ratio for all classes of each image.
    """
    given, there = paired("multiclass_generalized_dice_loss", predictions=predictions, targets=targets)
    sizes = jnp.sum(there, axis=tuple(range(there.ndim - 1)))
    rarest = jnp.min(jnp.where(sizes > 0, sizes, jnp.inf))
    sizes = jnp.where(sizes > 0, sizes, jnp.where(jnp.isinf(rarest), 1, rarest))
    weights = 1 / (sizes * sizes + 1e-7)
    losses = dice_loss(
        given,
        there,
        class_weights=weights / jnp.mean(weights),
        smooth=smooth,
        apply_softmax=apply_softmax,
        reduction="none",
        ignore_background=ignore_background,
    )
    return jnp.mean(losses)


@one_call("apply_sigmoid")
def binary_dice_loss(
    predictions: Floats, targets: Reals, *, smooth: Number = 1.0, apply_sigmoid: bool = True
) -> Float[Array, "..."]:
    """`dice_loss` of one class, of logits or of probabilities."""
    given, there = jnp.asarray(predictions), jnp.asarray(targets)
    if given.ndim == there.ndim and given.shape[-1] != 1:
        given, there = given[..., None], there[..., None]
    return dice_loss(given, there, smooth=smooth, apply_softmax=apply_sigmoid)
