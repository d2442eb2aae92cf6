"""The losses of `contrastive` whose rows are each other's rivals, in blocks of rows.

Each is the loss of that name there, with its arguments, values and gradients: in memory for a block of rows
beside the batch, where that one has an entry for every two rows.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int

from jaxloss._contracts import POSITIVE, REAL, batched, clustered, coupled_rows, rows_a_chunk
from jaxloss._loss import fused
from jaxloss.fused import _blocks
from jaxloss.fused._blocks import Pairs
from jaxloss.fused._rivals import (
    Marks,
    own_among_rivals,
    partners_among_others,
    partners_among_rivals,
    signed,
)
from jaxloss.numerics import unit

_FAMILY = "fused.contrastive"

# Logits of a block: on a CPU they are to stay in its cache, elsewhere to fill the processor.
_LOGITS = {"cpu": 1 << 21}
_LOGITS_ELSEWHERE = 1 << 26
_FEWEST_ROWS = 128


class _Way(NamedTuple):
    """How a loss is made of a size of blocks and the pairs of a batch: its rows, and their Σwℓ."""

    who: str
    rows: Callable[[int, Pairs], Array]
    total: Callable[[int, Pairs, Array], Array]


def _row_by_row(who: str, formula: _blocks.Formula) -> _Way:
    return _Way(who, functools.partial(_blocks.rows, formula), functools.partial(_blocks.total, formula))


def _rows(way: _Way, pairs: Pairs, chunk_size: int | str) -> Array:
    size = _block_rows(way.who, chunk_size, pairs.first.shape)
    return _batchwise(functools.partial(way.rows, size), pairs)


def _total_of(way: _Way, prepare: Callable[..., Pairs]) -> Callable[..., Array]:
    """Σwℓ of what `prepare` makes of the data and the options."""

    def total(*data: ArrayLike, weights: Array, chunk_size: int | str = "auto", **options: Any) -> Array:
        pairs = prepare(*data, **options)
        size = _block_rows(way.who, chunk_size, pairs.first.shape)
        return jnp.sum(_batchwise(functools.partial(way.total, size), pairs, weights))

    return total


def _batchwise(function: Callable[..., Array], pairs: Pairs, *rows: Array) -> Array:
    """The function of one batch, over the axes before the batch; places and an offset belong to all."""

    def of_batch(first: Array, second: Array, kept: Array, label: Array | None, *rows: Array) -> Array:
        marks = Marks(pairs.marks.place, kept, label)
        return function(Pairs(first, second, pairs.offset, marks), *rows)

    for _ in pairs.first.shape[:-2]:
        of_batch = jax.vmap(of_batch)
    return of_batch(pairs.first, pairs.second, pairs.marks.kept, pairs.marks.label, *rows)


def _pairs(
    first: Array,
    second: Array,
    kept: Array,
    scale: float | Array,
    *,
    offset: Array | None = None,
    labels: Array | None = None,
) -> Pairs:
    """Directions, whose products are cosines times a scale: before the product, as in `contrastive`."""
    places = jnp.arange(kept.shape[-1])
    return Pairs(scale * unit(first), unit(second), offset, Marks(places, kept, labels))


def _block_rows(who: str, chunk_size: int | str, shape: tuple[int, ...]) -> int:
    """How many rows a block has: as many as the last one, or a few more."""
    *batches, batch, _ = shape
    size = rows_a_chunk(who, chunk_size)
    if size is None:
        logits = _LOGITS.get(jax.default_backend(), _LOGITS_ELSEWHERE)
        size = max(logits // max(batch * math.prod(batches), 1), _FEWEST_ROWS)
        blocks = -(-batch // size)
        return -(-batch // max(blocks, 1)) or 1
    return max(min(size, batch), 1)


# --- groups of rows -------------------------------------------------------------------------------

_TEMPERATURE = {"temperature": POSITIVE}
_NT_XENT = _row_by_row(f"{_FAMILY}.nt_xent", partners_among_rivals)
_SUPCON = _row_by_row(f"{_FAMILY}.supcon", partners_among_others)


def _nt_xent(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: float | Array = 0.07,
    where: ArrayLike | None = None,
) -> Pairs:
    embeddings, labels, kept = clustered(_NT_XENT.who, where, embeddings=embeddings, labels=labels)
    return _pairs(embeddings, embeddings, kept, 1 / temperature, labels=labels)


@fused(
    total=_total_of(_NT_XENT, _nt_xent),
    options=_TEMPERATURE,
    counts=coupled_rows,
    masks_itself=True,
    family=_FAMILY,
)
def nt_xent(
    embeddings: Float[ArrayLike, "*rows features"],
    labels: Int[ArrayLike, "*rows"],
    *,
    temperature: float | Array = 0.07,
    where: Bool[ArrayLike, "*rows"] | None = None,
    chunk_size: int | str = "auto",
) -> Float[Array, "*rows"]:
    """Each anchor's cross-entropy of its partners among the rows of other groups (SimCLR).

        ℓ = mean over partners p of log(1 + Σ_n e^{s_an − s_ap}),    s = cos / τ
        ∂ℓ/∂s_ap = −(1 − q_p) / partners,    ∂ℓ/∂s_an = mean of e^{s_an} / (e^{s_ap} + Σ e^{s_an})

    `contrastive.nt_xent` in blocks: the value of a mean is one product of matrices, with the gradient three.

    Args:
        embeddings: floating point, `[*rows, features]`, of any length: only directions count. The last
            axis of the rows is the batch; one of zeros has no similarity to any.
        labels: integer, `[*rows]`: rows of one label are partners.
        temperature: τ > 0.
        where: bool, `[*rows]`, the rows that there are; the others may hold NaN, and have loss 0.
        chunk_size: how many rows at a time, or "auto".

    Returns:
        The loss of each row as an anchor, in nats; 0 for one without a partner.

    Raises:
        TypeError: embeddings that are not floating point, labels not integer, a mask not bool, or a size
            that is no integer.
        ValueError: shapes that do not fit; a concrete temperature that is not positive, or such a size.

    """
    pairs = _nt_xent(embeddings, labels, temperature=temperature, where=where)
    return _rows(_NT_XENT, pairs, chunk_size)


def _supcon(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: float | Array = 0.07,
    where: ArrayLike | None = None,
) -> Pairs:
    embeddings, labels, kept = clustered(_SUPCON.who, where, embeddings=embeddings, labels=labels)
    return _pairs(embeddings, embeddings, kept, 1 / temperature, labels=labels)


@fused(
    total=_total_of(_SUPCON, _supcon),
    options=_TEMPERATURE,
    counts=coupled_rows,
    masks_itself=True,
    family=_FAMILY,
)
def supcon(
    embeddings: Float[ArrayLike, "*rows features"],
    labels: Int[ArrayLike, "*rows"],
    *,
    temperature: float | Array = 0.07,
    where: Bool[ArrayLike, "*rows"] | None = None,
    chunk_size: int | str = "auto",
) -> Float[Array, "*rows"]:
    """Each anchor's cross-entropy of its partners among all other rows (supervised contrastive).

        ℓ = mean over partners p of −log q_p,    q = softmax over k ≠ a of s = cos / τ
        ∂ℓ/∂s_ak = q_k − [k partner] / partners

    `contrastive.supcon` in blocks: the value of a mean is one product of matrices, with the gradient three.

    Args:
        embeddings: floating point, `[*rows, features]`, of any length: only directions count. The last
            axis of the rows is the batch; one of zeros has no similarity to any.
        labels: integer, `[*rows]`: rows of one label are partners.
        temperature: τ > 0.
        where: bool, `[*rows]`, the rows that there are; the others may hold NaN, and have loss 0.
        chunk_size: how many rows at a time, or "auto".

    Returns:
        The loss of each row as an anchor, in nats; 0 for one without a partner.

    Raises:
        TypeError: embeddings that are not floating point, labels not integer, a mask not bool, or a size
            that is no integer.
        ValueError: shapes that do not fit; a concrete temperature that is not positive, or such a size.

    """
    pairs = _supcon(embeddings, labels, temperature=temperature, where=where)
    return _rows(_SUPCON, pairs, chunk_size)


# --- two views of each row ------------------------------------------------------------------------

_INFO_NCE = _row_by_row(f"{_FAMILY}.info_nce", own_among_rivals)
_CLIP = _Way(f"{_FAMILY}.clip", _blocks.rows_both_ways, _blocks.total_both_ways)
_SIGLIP = _row_by_row(f"{_FAMILY}.siglip", signed)


def _info_nce(
    queries: ArrayLike,
    keys: ArrayLike,
    *,
    temperature: float | Array = 0.07,
    where: ArrayLike | None = None,
) -> Pairs:
    queries, keys, kept = batched(_INFO_NCE.who, where, queries=queries, keys=keys)
    return _pairs(queries, keys, kept, 1 / temperature)


@fused(
    total=_total_of(_INFO_NCE, _info_nce),
    options=_TEMPERATURE,
    counts=coupled_rows,
    masks_itself=True,
    family=_FAMILY,
)
def info_nce(
    queries: Float[ArrayLike, "*rows features"],
    keys: Float[ArrayLike, "*rows features"],
    *,
    temperature: float | Array = 0.07,
    where: Bool[ArrayLike, "*rows"] | None = None,
    chunk_size: int | str = "auto",
) -> Float[Array, "*rows"]:
    """Each query's cross-entropy of its own key among the keys of the batch.

        ℓ = log(1 + Σ_{k≠a} e^{s_ak − s_aa}),    s = cos / τ,    ∂ℓ/∂s_ak = p_ak − [k = a]

    `contrastive.info_nce` in blocks: the value of a mean is one product of matrices, with the gradients
    three, and two where only queries or only keys are differentiated.

    Args:
        queries: floating point, `[*rows, features]`, of any length: only directions count. The last axis of
            the rows is the batch; a vector of zeros has no similarity to any.
        keys: of the same shape, the key of each query in its row.
        temperature: τ > 0.
        where: bool, `[*rows]`, the rows that there are; the others may hold NaN, and have loss 0.
        chunk_size: how many rows at a time, or "auto".

    Returns:
        The loss of each row, in nats.

    Raises:
        TypeError: queries that are not floating point; a mask that is not bool; a size that is no integer.
        ValueError: shapes that do not fit; a concrete temperature that is not positive, or such a size.

    """
    pairs = _info_nce(queries, keys, temperature=temperature, where=where)
    return _rows(_INFO_NCE, pairs, chunk_size)


def _clip(
    image: ArrayLike,
    text: ArrayLike,
    *,
    logit_scale: float | Array = 1 / 0.07,
    where: ArrayLike | None = None,
) -> Pairs:
    image, text, kept = batched(_CLIP.who, where, image=image, text=text)
    return _pairs(image, text, kept, logit_scale)


@fused(
    total=_total_of(_CLIP, _clip),
    options={"logit_scale": POSITIVE},
    counts=coupled_rows,
    masks_itself=True,
    family=_FAMILY,
)
def clip(
    image: Float[ArrayLike, "*rows features"],
    text: Float[ArrayLike, "*rows features"],
    *,
    logit_scale: float | Array = 1 / 0.07,
    where: Bool[ArrayLike, "*rows"] | None = None,
    chunk_size: int | str = "auto",
) -> Float[Array, "*rows"]:
    """Cross-entropy of each image's text among the texts, and of each text's image, halved.

        ℓ = −½ log p_aa − ½ log q_aa,    ∂ℓ/∂s_ab = ½(p_ab − [a = b]) + ½(q_ab − [a = b]),    s = t cos

    with p the softmax of s over the texts and q that over the images. `contrastive.clip` in blocks: the value
    of a mean is one product of matrices, with the gradients four, for a text's sum over the images is known
    after the last of them.

    Args:
        image: floating point, `[*rows, features]`, of any length: only directions count. The last axis of
            the rows is the batch; a vector of zeros has no similarity to any.
        text: of the same shape, the text of each image in its row.
        logit_scale: t > 0, one over a temperature.
        where: bool, `[*rows]`, the rows that there are; the others may hold NaN, and have loss 0.
        chunk_size: how many rows at a time, or "auto".

    Returns:
        The loss of each row, in nats.

    Raises:
        TypeError: images that are not floating point; a mask that is not bool; a size that is no integer.
        ValueError: shapes that do not fit; a concrete scale that is not positive, or such a size.

    """
    pairs = _clip(image, text, logit_scale=logit_scale, where=where)
    return _rows(_CLIP, pairs, chunk_size)


def _siglip(
    image: ArrayLike,
    text: ArrayLike,
    *,
    logit_scale: float | Array = 10.0,
    bias: float | Array = -10.0,
    where: ArrayLike | None = None,
) -> Pairs:
    image, text, kept = batched(_SIGLIP.who, where, image=image, text=text)
    if jnp.ndim(bias) != 0:
        shape = jnp.shape(bias)
        msg = f"{_SIGLIP.who}: `bias` must be one number, got shape {shape}; give one for all pairs."
        raise ValueError(msg)
    return _pairs(image, text, kept, logit_scale, offset=jnp.asarray(bias, image.dtype))


@fused(
    total=_total_of(_SIGLIP, _siglip),
    options={"logit_scale": POSITIVE, "bias": REAL},
    counts=coupled_rows,
    masks_itself=True,
    family=_FAMILY,
)
def siglip(
    image: Float[ArrayLike, "*rows features"],
    text: Float[ArrayLike, "*rows features"],
    *,
    logit_scale: float | Array = 10.0,
    bias: float | Array = -10.0,
    where: Bool[ArrayLike, "*rows"] | None = None,
    chunk_size: int | str = "auto",
) -> Float[Array, "*rows"]:
    """Logistic loss of whether an image and a text belong together, over every text of the batch.

        ℓ = Σ_b log(1 + e^{−z_ab (t cos_ab + c)}),    ∂ℓ/∂s_ab = −z σ(−z s),    z = 1 where a = b, else −1

    `contrastive.siglip` in blocks: the value of a mean is one product of matrices, with the gradients three.

    Args:
        image: floating point, `[*rows, features]`, of any length: only directions count. The last axis of
            the rows is the batch; a vector of zeros has no similarity to any.
        text: of the same shape, the text of each image in its row.
        logit_scale: t > 0.
        bias: c, which at first makes up for there being far more pairs that do not belong together.
        where: bool, `[*rows]`, the rows that there are; the others may hold NaN, and have loss 0.
        chunk_size: how many rows at a time, or "auto".

    Returns:
        The loss of each row, in nats, summed over the texts.

    Raises:
        TypeError: images that are not floating point; a mask that is not bool; a size that is no integer.
        ValueError: shapes that do not fit; a concrete scale that is not positive, or such a size.

    """
    pairs = _siglip(image, text, logit_scale=logit_scale, bias=bias, where=where)
    return _rows(_SIGLIP, pairs, chunk_size)
