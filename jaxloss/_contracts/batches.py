"""Lists of items and batches of rows that depend on each other, some of which may not be there."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxloss._contracts.checks import compute_dtype, one_a_row, own_mask, real, refuse, report, with_items
from jaxloss._contracts.domains import Choice, Interval
from jaxloss._contracts.rows import paired, vectors


def listed(
    who: str, where: ArrayLike | None, domain: Interval | Choice, **arrays: ArrayLike
) -> tuple[Array, Array, Array]:
    """Scores and labels `[*rows, items]` of one list a row; third, which of the items there are.

    An item that is not there is 0 in both, out of reach of any derivative. The scores of a list are all
    NaN, with NaN derivative, where one that is there is NaN or has a label outside its domain.
    """
    first, second = arrays
    scores, labels = paired(who, **arrays)
    with_items(who, first, scores, "items")
    kept = own_mask(who, where, scores.shape)
    scores, labels = jnp.where(kept, scores, 0), jnp.where(kept, labels, 0)
    report(who, second, labels, domain.holds(labels), domain)
    sound = jnp.all(domain.holds(labels) & ~jnp.isnan(scores), axis=-1, keepdims=True)
    return scores * jnp.where(sound, jnp.ones((), scores.dtype), jnp.nan), labels, kept


def lists_with_items(
    scores: Array, labels: Array, *, where: ArrayLike | None = None, **_: object
) -> Array | None:
    """The lists a mean counts: those with any item."""
    del labels
    return None if where is None else jnp.any(own_mask("mean", where, scores.shape), axis=-1)


def batched(who: str, where: ArrayLike | None, **arrays: ArrayLike) -> tuple[Array, Array, Array]:
    """Two arrays of vectors `[*batches, rows, D]`, whose rows are one batch; third, which rows there are.

    A row that is not there is 0 in both, out of reach of any derivative.
    """
    first, second = vectors(who, **arrays)
    kept = _batch(who, next(iter(arrays)), first, where)
    return jnp.where(kept[..., None], first, 0), jnp.where(kept[..., None], second, 0), kept


def grouped(who: str, where: ArrayLike | None, **arrays: ArrayLike) -> tuple[Array, Array, Array]:
    """Vectors `[*batches, rows, D]` as `batched` has them; which two rows are of one id, and which of two.

    A row and itself are neither, nor are two rows of which one is not there.
    """
    embeddings, labels, kept = clustered(who, where, **arrays)
    same, both = _of_one_id(labels, kept)
    rows = jnp.arange(kept.shape[-1])
    others = jnp.broadcast_to(rows[:, None] != rows[None, :], both.shape)
    return embeddings, same & others, both & ~same


def clustered(who: str, where: ArrayLike | None, **arrays: ArrayLike) -> tuple[Array, Array, Array]:
    """Vectors `[*batches, rows, D]` as `batched` has them, one id for each; third, which rows there are."""
    (first, a), (second, b) = arrays.items()
    (embeddings,) = real(who, **{first: a})
    with_items(who, first, embeddings, "features")
    kept = _batch(who, first, embeddings, where)
    labels = _group_ids(who, first, embeddings, second, b)
    return jnp.where(kept[..., None], embeddings.astype(compute_dtype(embeddings)), 0), labels, kept


def matched(who: str, where: ArrayLike | None, **arrays: ArrayLike) -> tuple[Array, Array, Array, Array]:
    """Two arrays of vectors as `batched` has them, and one id for each row of both.

    Third come which first and which second are of one id, and fourth which two there are; a row's own
    second is one of both.
    """
    (first, a), (second, b), (third, c) = arrays.items()
    x, y, kept = batched(who, where, **{first: a, second: b})
    return x, y, *_of_one_id(_group_ids(who, first, x, third, c), kept)


def _group_ids(who: str, first: str, embeddings: Array, second: str, labels: ArrayLike) -> Array:
    """Integers, one for each of the embeddings."""
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        refuse(who, second, "integer ids", str(labels.dtype), "number the groups")
    one_a_row(who, first, embeddings, second, labels, "id")
    return labels


def _of_one_id(labels: Array, kept: Array) -> tuple[Array, Array]:
    """Which two rows that there are have one id, and which two there are at all."""
    both = kept[..., :, None] & kept[..., None, :]
    return both & (labels[..., :, None] == labels[..., None, :]), both


def _batch(who: str, name: str, array: Array, where: ArrayLike | None) -> Array:
    if array.ndim < 2:
        msg = f"{who}: `{name}` {array.shape} must have shape [*batches, rows, features]; give a batch."
        raise ValueError(msg)
    return own_mask(who, where, array.shape[:-1])


def coupled_rows(first: Array, *_: Array, where: ArrayLike | None = None, **__: object) -> Array | None:
    """The rows a mean counts, of a loss that couples them: those that its own mask holds."""
    return None if where is None else own_mask("mean", where, first.shape[:-1])
