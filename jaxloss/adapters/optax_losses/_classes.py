"""Losses of scores of K classes, or of the items of a list, along one axis or several."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Integer

from jaxloss import numerics
from jaxloss._contracts import compute_dtype
from jaxloss.adapters.optax_losses._shapes import (
    Axis,
    Floats,
    Mask,
    Number,
    Reals,
    item_last,
    mask,
    mask_like,
    one_call,
    pair_together,
    same_items,
    shape_together,
)
from jaxloss.losses import categorical, ranking

Ids = Integer[ArrayLike, "..."]


@one_call("axis")
def softmax_cross_entropy(
    logits: Floats, labels: Reals, axis: Axis = -1, where: Mask = None
) -> Float[Array, "..."]:
    """`categorical.cross_entropy` of labels t that need not sum to 1: Σ t (−log p), where 0·∞ = 0."""
    logits, labels = _among_classes("softmax_cross_entropy", logits, labels, axis, where)
    return numerics.expected_surprise(logits, labels)


@one_call()
def safe_softmax_cross_entropy(logits: Floats, labels: Reals) -> Float[Array, "..."]:
    """`softmax_cross_entropy`, which is as safe."""
    return softmax_cross_entropy(logits, labels)


def _among_classes(
    who: str, logits: ArrayLike, labels: ArrayLike, axis: Axis, where: ArrayLike | None
) -> tuple[Array, Array]:
    """Logits and labels, classes last; a class left out has a logit of −∞, and no label."""
    given = logits
    logits, labels = pair_together(who, logits=logits, labels=labels)
    same_items(who, "logits", given, logits, axis)
    kept = _kept_classes(who, logits, axis, where)
    logits, labels = item_last(logits, axis), item_last(labels, axis)
    return _without(logits, kept), labels if kept is None else jnp.where(kept, labels, 0)


def _kept_classes(who: str, logits: Array, axis: Axis, where: ArrayLike | None) -> Array | None:
    """Which classes there are, classes last; a mask of fewer axes than the logits is one of rows."""
    if where is None:
        return None
    where = mask(who, where)
    if where.ndim != logits.ndim:
        where = jnp.expand_dims(where, tuple(range(logits.ndim)) if axis is None else axis)
    return item_last(mask_like(who, logits, where), axis)


def _without(logits: Array, kept: Array | None) -> Array:
    """The logits, −∞ of classes left out; 0 in a row that has none left: a softmax over nothing is none."""
    if kept is None:
        return logits
    return jnp.where(kept, logits, jnp.where(jnp.any(kept, axis=-1, keepdims=True), -jnp.inf, 0))


@one_call("axis")
def softmax_cross_entropy_with_integer_labels(
    logits: Floats, labels: Ids, axis: int | tuple[int, ...] = -1, where: Mask = None
) -> Float[Array, "..."]:
    """`categorical.cross_entropy` of ids; NaN for one that names no class, ∞ for a class that is left out.

    Several axes of classes count as one, in their order; a row of which no class is left costs 0.
    """
    who = "softmax_cross_entropy_with_integer_labels"
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    kept = _kept_classes(who, logits, axis, where)
    logits = _without(item_last(logits, axis), kept)
    if labels.ndim == logits.ndim - 1:
        logits, labels = _with_ids(who, logits, labels)
    losses = categorical.cross_entropy(logits, labels)
    return losses if kept is None else jnp.where(jnp.any(kept, axis=-1), losses, 0)


def _with_ids(who: str, scores: ArrayLike, labels: ArrayLike) -> tuple[Array, Array]:
    """Scores and one id a row, either repeated as `together` does; one-hot rows are left to be refused."""
    scores, labels = jnp.asarray(scores), jnp.asarray(labels)
    if labels.shape == scores.shape:
        return scores, labels
    rows = shape_together(who, {"`labels`": labels.shape, "the rows of scores": scores.shape[:-1]})
    return jnp.broadcast_to(scores, (*rows, *scores.shape[-1:])), jnp.broadcast_to(labels, rows)


@one_call("axis")
def poly_loss_cross_entropy(
    logits: Floats, labels: Reals, *, epsilon: Number = 2.0, axis: Axis = -1, where: Mask = None
) -> Float[Array, "..."]:
    """`categorical.poly1` of labels t that need not sum to 1: Σ t (−log p + ε (1 − p)), for any ε.

    A mask of rows serves as it does in `softmax_cross_entropy`.
    """
    logits, labels = _among_classes("poly_loss_cross_entropy", logits, labels, axis, where)
    epsilon = jnp.asarray(epsilon, logits.dtype)
    return numerics.expected_cost(logits, labels, lambda s: numerics.poly_surprise(s, epsilon))


@one_call()
def multiclass_hinge_loss(scores: Floats, labels: Ids) -> Float[Array, "..."]:
    """`categorical.hinge`; NaN for an id that names no class, and slope 0 where the margin is just kept."""
    return categorical.hinge(*_with_ids("multiclass_hinge_loss", scores, labels))


@one_call()
def multiclass_perceptron_loss(scores: Floats, labels: Ids) -> Float[Array, "..."]:
    """`categorical.perceptron`; NaN for an id that names no class."""
    return categorical.perceptron(*_with_ids("multiclass_perceptron_loss", scores, labels))


@one_call()
def multiclass_sparsemax_loss(scores: Floats, labels: Ids) -> Float[Array, "..."]:
    """`categorical.sparsemax`, of rows along any axes; NaN for an id that names no class."""
    return categorical.sparsemax(*_with_ids("multiclass_sparsemax_loss", scores, labels))


def make_fenchel_young_loss(max_fun: Callable[..., Any]) -> Callable[..., Array]:
    """`categorical.fenchel_young` of a maximum, for targets t that need not sum to 1: F(z) − Σ t z."""
    over_last = jnp.vectorize(max_fun, signature="(n)->()")

    def fenchel_young_loss(scores: Floats, targets: Reals, *args: Any, **kwargs: Any) -> Float[Array, "..."]:
        given = scores
        scores, targets = pair_together("fenchel_young_loss", scores=scores, targets=targets)
        same_items("fenchel_young_loss", "scores", given, scores, -1)
        return over_last(scores, *args, **kwargs) - jnp.sum(numerics.multiply(targets, scores), axis=-1)

    return fenchel_young_loss


@one_call("axis")
def smooth_labels(
    labels: Floats, alpha: Number, *, axis: Axis = -1, where: Mask = None
) -> Float[Array, "..."]:
    """(1 − α) t + α / K over K classes: what `label_smoothing` does in `categorical.cross_entropy`."""
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.floating):
        msg = f"smooth_labels: `labels` must be floating point, got {labels.dtype}; make it so."
        raise TypeError(msg)
    labels = labels.astype(compute_dtype(labels))
    kept = None if where is None else mask_like("smooth_labels", labels, where)
    classes = jnp.sum(jnp.ones_like(labels), axis=axis, keepdims=True, where=kept)
    alpha = jnp.asarray(alpha, labels.dtype)
    return (1 - alpha) * labels + alpha / classes


def ranking_softmax_loss(
    logits: Floats,
    labels: Reals,
    *,
    where: Mask = None,
    weights: Reals | None = None,
    reduce_fn: Callable[..., ArrayLike] | None = jnp.mean,
) -> Float[Array, "..."]:
    """`ranking.softmax` of weighted relevances, reduced over the lists with an item; NaN for one below 0."""
    losses, lists = _of_lists(logits, labels, where, weights)
    if reduce_fn is None:
        return losses
    return _mean(losses, lists) if reduce_fn is jnp.mean else jnp.asarray(reduce_fn(losses, where=lists))


@one_call()
def _of_lists(
    logits: ArrayLike, labels: ArrayLike, where: ArrayLike | None, weights: ArrayLike | None
) -> tuple[Array, Array | None]:
    """The loss of each list, and which lists have an item: None for all."""
    who, given = "ranking_softmax_loss", logits
    logits, labels = pair_together(who, logits=logits, labels=labels)
    same_items(who, "logits", given, logits, -1)
    if weights is not None:
        labels = labels * jnp.broadcast_to(jnp.asarray(weights, labels.dtype), labels.shape)
    kept = None if where is None else mask_like(who, logits, where)
    losses = ranking.softmax(logits, labels, where=kept)
    return losses, None if kept is None else jnp.any(kept, axis=-1)


@one_call()
def _mean(losses: Array, lists: Array | None) -> Array:
    """The mean of no list is 0, with a gradient of 0: `jnp.mean` divides by zero."""
    return numerics.divide(jnp.sum(losses, where=lists), jnp.sum(jnp.ones_like(losses), where=lists))
