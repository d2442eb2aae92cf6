"""Images: one value an example, of many pixels, some of which may not be there."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxloss import numerics
from jaxloss._contracts.checks import number, own_mask, poison, wide, with_items
from jaxloss._contracts.classes import classified, has_ids
from jaxloss._contracts.domains import FLAGS
from jaxloss._contracts.rows import paired


def segmented(
    who: str, where: ArrayLike | None, ignore_index: int | Array | None, **arrays: ArrayLike
) -> tuple[Array, Array, Array]:
    """Logits `[batch, *space, K]`, with class ids `[batch, *space]` or distributions of the logits' shape.

    Both come back as shares of K classes, the labels one-hot; NaN where one is none. Third come the
    pixels kept: a removed one is 0 in both, out of reach of any derivative.
    """
    (first, a), (second, b) = arrays.items()
    logits, labels = jnp.asarray(a), number(who, second, b)
    _at_least_two_classes(who, first, logits)
    pixels = logits.shape[:-1]
    kept = pixels_kept(who, labels, pixels, where, ignore_index)
    if jnp.issubdtype(labels.dtype, jnp.integer) and labels.shape == pixels:
        labels = jnp.where(kept, labels, 0)
    elif labels.shape == logits.shape and labels.dtype != jnp.bool_:
        # What stands in for a removed distribution is one.
        labels = jnp.where(kept[..., None], labels, 1 / logits.shape[-1])
    logits = jnp.where(kept[..., None], logits, 0)
    logits, labels, _ = classified(who, None, (), **{first: logits, second: labels})
    shares = numerics.one_hot(labels, logits) if has_ids(logits, labels) else labels
    shares = jnp.where(kept[..., None], shares, 0)
    return _spoil_examples(logits, shares), shares, kept


def segmented_whole(
    who: str, where: ArrayLike | None, ignore_index: int | Array | None, **arrays: ArrayLike
) -> tuple[Array, Array, Array]:
    """The same of labels that give every pixel to one class whole: ids, or one-hot rows."""
    logits, shares, kept = segmented(who, where, ignore_index, **arrays)
    whole = jnp.all((shares == 0) | (shares == 1) | jnp.isnan(shares), axis=-1, keepdims=True)
    _, second = arrays
    shares = poison(who, second, shares, jnp.broadcast_to(whole, shares.shape), "one-hot rows")
    return _spoil_examples(logits, shares), shares, kept


def binary_segmented(
    who: str, where: ArrayLike | None, ignore_index: int | Array | None, **arrays: ArrayLike
) -> tuple[Array, Array, Array]:
    """Logits and labels 0 or 1 of one shape `[batch, *space]`; third come the pixels kept, as above."""
    (_, second), (logits, labels) = arrays, paired(who, **arrays)
    with_items(who, next(iter(arrays)), logits, "pixels")
    kept = pixels_kept(who, labels, logits.shape, where, ignore_index)
    logits, labels = jnp.where(kept, logits, 0), jnp.where(kept, labels, 0)
    labels = poison(who, second, labels, FLAGS.holds(labels), FLAGS)
    return _spoil_examples(logits, labels), labels, kept


def _spoil_examples(logits: Array, labels: Array) -> Array:
    """The logits, NaN with NaN derivative in an example with a pixel whose label is NaN."""
    unsound = jnp.any(jnp.isnan(labels), axis=tuple(range(1, labels.ndim)), keepdims=True)
    return logits * jnp.where(unsound, jnp.nan, jnp.ones((), logits.dtype))


def pixels_kept(
    who: str,
    labels: Array,
    pixels: tuple[int, ...],
    where: ArrayLike | None,
    ignore_index: int | Array | None,
) -> Array:
    """The pixels `where` holds whose label, if it is one number, is not the one to ignore."""
    kept, labels = own_mask(who, where, pixels), wide(labels)
    if ignore_index is None or labels.shape != pixels:
        return kept
    return kept & (labels != jnp.asarray(ignore_index, labels.dtype))


def _at_least_two_classes(who: str, name: str, logits: Array) -> None:
    if logits.ndim < 2 or logits.shape[-1] < 2:
        fix = "of one class `z`, pass `jnp.stack([jnp.zeros_like(z), z], axis=-1)`"
        wanted = "[batch, *space, classes] with two classes or more"
        msg = f"{who}: `{name}` must have shape {wanted}, got {logits.shape}; {fix}."
        raise ValueError(msg)
