"""Losses of vectors: angles, distances, and which rows of a batch belong together."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Shaped

from jaxloss import numerics
from jaxloss._contracts import is_off, triplets
from jaxloss.adapters.optax_losses._shapes import (
    Axis,
    Floats,
    Mask,
    Number,
    item_last,
    mask_like,
    one_call,
    pair_together,
    same_items,
    together,
)
from jaxloss.losses import contrastive, metric


@one_call("axis")
def cosine_similarity(
    predictions: Floats,
    targets: Floats,
    *,
    epsilon: Number = 0.0,
    axis: Axis = -1,
    where: Mask = None,
) -> Float[Array, "..."]:
    """One less `cosine_distance`, not computed as that; 0 for a zero vector."""
    first, second = _vectors("cosine_similarity", predictions, targets, axis, where)
    if is_off(epsilon):
        return numerics.cosine(first, second)
    return jnp.sum(_shortened(first, epsilon)[0] * _shortened(second, epsilon)[0], axis=-1)


@one_call("axis")
def cosine_distance(
    predictions: Floats,
    targets: Floats,
    *,
    epsilon: Number = 0.0,
    axis: Axis = -1,
    where: Mask = None,
) -> Float[Array, "..."]:
    """`regression.cosine_distance`, with Optax's epsilon: the least that a squared norm counts as."""
    first, second = _vectors("cosine_distance", predictions, targets, axis, where)
    if is_off(epsilon):
        return numerics.cosine_distance(first, second)
    (first, lacking), (second, lacking_too) = _shortened(first, epsilon), _shortened(second, epsilon)
    # Half the squared distance of two unit vectors, and half of what their squared lengths lack of 1.
    return 0.5 * (jnp.sum(jnp.square(first - second), axis=-1) + lacking + lacking_too)


def _vectors(
    who: str, predictions: ArrayLike, targets: ArrayLike, axis: Axis, where: ArrayLike | None
) -> tuple[Array, Array]:
    """Two arrays, vectors last; an entry left out is 0."""
    first, second = pair_together(who, predictions=predictions, targets=targets)
    same_items(who, "predictions", predictions, first, axis)
    same_items(who, "targets", targets, second, axis)
    if where is not None:
        kept = mask_like(who, first, where)
        first, second = jnp.where(kept, first, 0), jnp.where(kept, second, 0)
    return item_last(first, axis), item_last(second, axis)


def _shortened(x: Array, epsilon: Number) -> tuple[Array, Array]:
    """x / max(‖x‖, √ε), 0 at zero, and what its squared length lacks of 1."""
    least = jnp.sqrt(jnp.asarray(epsilon, x.dtype))
    norm = numerics.safe_norm(x)
    short = norm < least
    small = jnp.where(short[..., None], x, 0) / jnp.where(least > 0, least, 1)
    vector = jnp.where(short[..., None], small, numerics.unit(x))
    return vector, jnp.where(short | (norm == 0), 1 - jnp.sum(small * small, axis=-1), 0)


def ntxent(
    embeddings: Float[ArrayLike, "rows features"],
    labels: Shaped[ArrayLike, " rows"],
    temperature: Number = 0.07,
) -> Float[Array, ""]:
    """The mean of `contrastive.nt_xent` over all pairs of partners, 0 without one; only directions count."""
    ids, partners = _groups(labels)
    return _weighted_mean(contrastive.nt_xent(embeddings, ids, temperature=temperature), partners)


@one_call()
def _groups(labels: ArrayLike) -> tuple[Array, Array]:
    """Of labels of any kind: the first row that has a row's label, and how many others have it."""
    labels = jnp.asarray(labels)
    same = labels[:, None] == labels[None, :]
    return jnp.argmax(same, axis=-1), jnp.sum(same, axis=-1) - 1


@one_call()
def _weighted_mean(losses: Array, partners: Array) -> Array:
    weights = partners.astype(losses.dtype)
    return numerics.divide(jnp.sum(weights * losses), jnp.sum(weights))


def triplet_margin_loss(
    anchors: Floats,
    positives: Floats,
    negatives: Floats,
    axis: int = -1,
    norm_degree: Number = 2,
    margin: Number = 1.0,
    eps: Number = 1e-6,
) -> Float[Array, "..."]:
    """`metric.triplet_margin`, its norm (Σ |d|^p + ε)^(1/p); margin ≥ 0 and degree ≥ 1."""
    a, b, c = _lengthened(anchors, positives, negatives, axis, norm_degree, eps)
    if isinstance(norm_degree, (int, float)) and norm_degree == 2:
        return metric.triplet_margin(a, b, c, margin=margin)
    return metric.triplet_margin(a, b, c, margin=margin, p=norm_degree)


@one_call("axis")
def _lengthened(
    anchors: ArrayLike, positives: ArrayLike, negatives: ArrayLike, axis: Axis, degree: Number, eps: Number
) -> tuple[Array, Array, Array]:
    """Vectors, last, of one entry more, ε^(1/p) in the anchors: the norm of a difference is Optax's."""
    who = "triplet_margin_loss"
    names = ("anchors", "positives", "negatives")
    arrays = together(who, **dict(zip(names, (anchors, positives, negatives), strict=True)))
    given = dict(zip(names, (item_last(array, axis) for array in arrays), strict=True))
    a, b, c = triplets(who, **given)
    root = numerics.power(jnp.asarray(eps, a.dtype), 1 / jnp.asarray(degree, a.dtype))
    ends = jnp.broadcast_to(root, (*a.shape[:-1], 1)), jnp.zeros((*a.shape[:-1], 1), a.dtype)
    a, b, c = (jnp.concatenate([x, end], axis=-1) for x, end in zip((a, b, c), (*ends, ends[1]), strict=True))
    return a, b, c
