"""Scores of K classes a row, against class ids, distributions or ranks."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float, Integer

from jaxloss import numerics
from jaxloss._contracts.checks import (
    compute_dtype,
    number,
    on_trailing_axes,
    one_a_row,
    poison,
    real,
    refuse,
    report,
    same_shape,
    wide,
    with_items,
)
from jaxloss._contracts.distributions import distribution
from jaxloss._contracts.domains import COSINES

# What a categorical loss takes for labels: ids, or a distribution a row.
Labels = Integer[ArrayLike, "*rows"] | Float[ArrayLike, "*rows classes"]
# How far beyond ±1 the cosine of two rounded unit vectors may be, in half precision.
_COSINE_SLACK = 1e-2


def similarities(who: str, **arrays: ArrayLike) -> tuple[Array, Array]:
    """Cosines `[*rows, K]` with class ids `[*rows]`; NaN where one is none, ±1 where it is more."""
    (first, a), (second, b) = arrays.items()
    (cosines,), labels = real(who, **{first: a}), wide(number(who, second, b))
    with_items(who, first, cosines, "classes")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        refuse(who, second, "class ids, integer", str(labels.dtype), "convert it with `.astype(int)`")
    _check_ids(who, first, cosines, second, labels)
    cosines, classes = cosines.astype(compute_dtype(cosines)), cosines.shape[-1]
    report(who, second, labels, (labels >= 0) & (labels < classes), f"[0, {classes})")
    cosines = poison(who, first, cosines, jnp.abs(cosines) <= 1 + _COSINE_SLACK, COSINES)
    # The derivative of what was rounded is that of the cosine: a clip has none beyond, and half of it at ±1.
    return cosines + lax.stop_gradient(jnp.clip(cosines, -1, 1) - cosines), labels


def classified(
    who: str, ignore_index: int | Array | None, shared: tuple[Any, ...], **arrays: ArrayLike
) -> tuple[Array, Array, Array | None]:
    """Logits `[*rows, K]`, with class ids `[*rows]` (integer) or distributions `[*rows, K]` (floating).

    Ids come back as they are, out of range or not; distributions in the logits' dtype, NaN where a
    row is none. Third come the rows to ignore, None without `ignore_index`: no derivative
    reaches their logits, nor, through them, the hyperparameters that the rows share.
    """
    (first, a), (second, b) = arrays.items()
    (logits,), labels = real(who, **{first: a}), wide(number(who, second, b))
    with_items(who, first, logits, "classes")
    if labels.dtype == jnp.bool_:
        fix = "a one-hot row becomes a distribution with `.astype(jnp.float32)`"
        refuse(who, second, "class ids or distributions", "bool", fix)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        same_shape(who, **{first: logits, second: labels})
        dtype = compute_dtype(logits, labels)
        return logits.astype(dtype), distribution(who, second, labels.astype(dtype)), None
    _check_ids(who, first, logits, second, labels)
    logits, ignored = logits.astype(compute_dtype(logits)), None
    if ignore_index is not None:
        ignored = labels == ignore_index
        labels, absent = jnp.where(ignored, 0, labels), ignored[..., None]
        # Only what rows share needs other logits there: a select stores them all on some backends.
        traced = any(isinstance(option, Array) for option in shared)
        logits = jnp.where(absent, 0, logits) if traced else numerics.cut(logits, ~absent)
    classes = logits.shape[-1]
    report(who, second, labels, (labels >= 0) & (labels < classes), f"[0, {classes})")
    return logits, labels, ignored


def identified(
    who: str, ignore_index: int | Array | None, shared: tuple[Any, ...], **arrays: ArrayLike
) -> tuple[Array, Array, Array | None]:
    """As `classified`, of a loss that means nothing for a distribution: its labels are class ids."""
    (_, a), (second, b) = arrays.items()
    dtype, fix = jnp.result_type(b), "take the ids of one-hot rows with `jnp.argmax(..., axis=-1)`"
    if jnp.issubdtype(dtype, jnp.floating) and jnp.issubdtype(jnp.result_type(a), jnp.floating):
        refuse(who, second, f"class ids {jnp.shape(a)[:-1]}", f"{dtype} {jnp.shape(b)}", fix)
    return classified(who, ignore_index, shared, **arrays)


def class_ids(who: str, targets: np.ndarray) -> np.ndarray:
    """The class ids that a library keeps among other numbers, as integers; what is none is refused."""
    with np.errstate(invalid="ignore"):  # NaN and infinity are no ids, and found out below
        ids = targets.astype(np.int32)
    if not np.array_equal(ids, targets):
        msg = (
            f"{who}: targets must be class ids 0, 1, 2, ..., got {targets[ids != targets].flat[0]}; encode "
            "the classes with `sklearn.preprocessing.LabelEncoder`."
        )
        raise ValueError(msg)
    return ids


def has_ids(scores: Array, labels: Array) -> bool:
    """Whether the labels are class ids, one a row, rather than distributions."""
    return labels.ndim < scores.ndim


def shares_of(scores: Array, labels: Array) -> Array:
    """What each class has of a row's label: the distribution itself, or one-hot; NaN where it is neither."""
    return numerics.one_hot(labels, scores) if has_ids(scores, labels) else labels


def counted(
    logits: Array, labels: Array, *, ignore_index: int | Array | None = None, **_: object
) -> Array | None:
    """The rows of a mean: all but those whose label is the one to ignore."""
    # In as many bits as the loss compares in: −100 in eight of them is class 156.
    return None if ignore_index is None or not has_ids(logits, labels) else wide(labels) != ignore_index


def unless(ignored: Array | None, losses: Array) -> Array:
    """The losses, 0 in the rows to ignore."""
    return losses if ignored is None else jnp.where(ignored, 0, losses)


def each_class(who: str, name: str, option: ArrayLike | None, scores: Array) -> Array | None:
    """An option given for each class, `[K]` or the scores' shape, in the scores' shape."""
    return None if option is None else on_trailing_axes(who, name, option, scores)


def classes_there(who: str, class_where: ArrayLike | None, scores: Array) -> Array | None:
    """The mask of the classes that there are, in the scores' shape."""
    if class_where is not None and jnp.result_type(class_where) != jnp.bool_:
        got = str(jnp.result_type(class_where))
        refuse(who, "class_where", "bool", got, "pass `class_where != 0`")
    return each_class(who, "class_where", class_where, scores)


def _check_ids(who: str, first: str, logits: Array, second: str, labels: Array) -> None:
    if labels.shape == logits.shape:
        refuse(
            who,
            second,
            f"class ids {logits.shape[:-1]} or floating distributions {logits.shape}",
            f"{labels.dtype} {labels.shape}",
            "convert one-hot rows with `.astype(jnp.float32)`",
        )
    one_a_row(who, first, logits, second, labels, "id")


def ranked(who: str, extra: int, **arrays: ArrayLike) -> tuple[Array, Array, Array]:
    """Logits `[*rows, items]` and ranks `[*rows]` below items + extra.

    Ranks out of range come back as the first above all. Third come, for each k < K − 1, 1 where the rank
    is above k and 0 elsewhere, NaN in a row whose rank is out of range.
    """
    (first, a), (second, b) = arrays.items()
    (logits,) = real(who, **{first: a})
    with_items(who, first, logits, "thresholds" if extra else "classes")
    ranks = _ranks(who, second, b, first, logits, 1)
    count = logits.shape[-1] + extra
    valid = (ranks >= 0) & (ranks < count)
    report(who, second, ranks, valid, f"[0, {count})")
    logits = logits.astype(compute_dtype(logits))
    below = lax.broadcasted_iota(ranks.dtype, (*ranks.shape, count - 1), ranks.ndim)
    above = (below < ranks[..., None]).astype(logits.dtype)
    return logits, jnp.where(valid, ranks, count), jnp.where(valid[..., None], above, jnp.nan)


def scored(who: str, ranks: int, **arrays: ArrayLike) -> tuple[Array, Array]:
    """Logits and integer ranks of one shape, `[*rows]`; the ranks come back as they are."""
    (first, a), (second, b) = arrays.items()
    (logits,) = real(who, **{first: a})
    labels = _ranks(who, second, b, first, logits, 0)
    report(who, second, labels, (labels >= 0) & (labels < ranks), f"[0, {ranks})")
    return logits.astype(compute_dtype(logits)), labels


def _ranks(who: str, name: str, labels: ArrayLike, first: str, logits: Array, items: int) -> Array:
    labels = wide(jnp.asarray(labels))
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        refuse(who, name, "integer ranks", str(labels.dtype), "convert it with `.astype(int)`")
    one_a_row(who, first, logits, name, labels, "rank", items)
    return labels
