"""Sequences of places or frames, and the labels said along them."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxloss._contracts.checks import compute_dtype, own_mask, real, refuse, report, wide, with_items


def sequences(who: str, item_ndim: int, **arrays: ArrayLike) -> tuple[Array, Array]:
    """Logits `[*rows, ..., K]`, an item of `item_ndim` axes, and class ids `[*rows, N]`, integer."""
    (first, a), (second, b) = arrays.items()
    (logits,), labels = real(who, **{first: a}), wide(jnp.asarray(b))
    with_items(who, first, logits, "classes")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        refuse(who, second, "class ids (integer)", str(labels.dtype), "convert it with `.astype(jnp.int32)`")
    rows = logits.shape[: logits.ndim - item_ndim]
    if logits.ndim < item_ndim or labels.ndim != len(rows) + 1 or labels.shape[:-1] != rows:
        msg = (
            f"{who}: `{first}` {logits.shape} and `{second}` {labels.shape} must have the same rows before "
            f"{item_ndim} axes of `{first}` and 1 of `{second}`; reshape one of them."
        )
        raise ValueError(msg)
    return logits.astype(compute_dtype(logits)), labels


def named(who: str, logits: Array, labels: Array, there: Array, blank: int | Array | None = None) -> Array:
    """1 for a row whose labels, those that are there, all name a class (not the blank); NaN for another."""
    classes = logits.shape[-1]
    valid, wanted = (labels >= 0) & (labels < classes), f"[0, {classes})"
    if blank is not None:
        blank = jnp.asarray(blank)
        valid &= (labels != blank) & (blank >= 0) & (blank < classes)
        wanted += " without the blank"
    report(who, "labels", labels, valid | ~there, wanted)
    sound = jnp.all(valid | ~there, axis=-1)
    return jnp.where(sound, jnp.ones((), logits.dtype), jnp.nan)


def tagged(who: str, where: ArrayLike | None, **arrays: ArrayLike) -> tuple[Array, Array, Array]:
    """Logits `[*rows, T, K]` and a class id for each place `[*rows, T]`; third, which places there are."""
    first, second = arrays
    logits, labels = sequences(who, 2, **arrays)
    if labels.shape != logits.shape[:-1]:
        msg = (
            f"{who}: `{first}` {logits.shape} and `{second}` {labels.shape} must have the same places, the "
            f"last axis of `{second}`; give one label a place."
        )
        raise ValueError(msg)
    return logits, labels, own_mask(who, where, labels.shape)


def transduced(who: str, **arrays: ArrayLike) -> tuple[Array, Array]:
    """Logits `[*rows, T, 1 + N, K]` of each frame after each number of labels; labels `[*rows, N]`."""
    first, second = arrays
    logits, labels = sequences(who, 3, **arrays)
    if logits.shape[-2] != labels.shape[-1] + 1:
        msg = (
            f"{who}: `{first}` {logits.shape} must have a state for each number of labels said, one more "
            f"than `{second}` {labels.shape}, before the classes; give [*rows, frames, 1 + labels, classes]."
        )
        raise ValueError(msg)
    return logits, labels


def class_scores(who: str, logits: Array, **scores: tuple[ArrayLike | None, int]) -> list[Array]:
    """Scores that all rows share, each with as many axes of K as it says; zeros where none are given."""
    found = []
    for name, (given, ndim) in scores.items():
        shape = logits.shape[-1:] * ndim
        array = jnp.zeros(shape, logits.dtype) if given is None else jnp.asarray(given, logits.dtype)
        if array.shape != shape:
            msg = f"{who}: `{name}` {array.shape} must have shape {shape}, as there are classes; reshape it."
            raise ValueError(msg)
        found.append(array)
    return found


def sequences_with_places(
    logits: Array, labels: Array, *, where: ArrayLike | None = None, **_: object
) -> Array | None:
    """The sequences a mean counts: those with any place."""
    del labels
    return None if where is None else jnp.any(own_mask("mean", where, logits.shape[:-1]), axis=-1)
