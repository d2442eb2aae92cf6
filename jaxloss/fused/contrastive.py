"""The losses of `contrastive` whose rows are each other's rivals, in blocks of rows.

Each is the loss of that name there, with its arguments, values and gradients: in memory for a block of rows
beside the batch, where that one has an entry for every two rows.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Integer

from jaxloss._contracts import (
    POSITIVE,
    REAL,
    Interval,
    batched,
    clustered,
    coupled_rows,
    one_number,
    rows_a_chunk,
)
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
from jaxloss.fused._sharding import spread
from jaxloss.numerics import unit

P = ParamSpec("P")

_FAMILY = "fused.contrastive"
_GROUPED, _PAIRED = ("embeddings", "labels"), ("image", "text")
_TEMPERATURE = {"temperature": POSITIVE}

# Logits of a block: on a CPU they are to stay in its cache, elsewhere to fill the processor.
_LOGITS = {"cpu": 1 << 21}
_LOGITS_ELSEWHERE = 1 << 26
_FEWEST_ROWS = 128


class _Loss(NamedTuple):
    """A name for errors, the names of its data, its numbers' defaults; its rows from pairs, and their Σwℓ."""

    who: str
    data: tuple[str, str]
    numbers: dict[str, float]
    of_rows: Callable[[int, Pairs], Array]
    of_total: Callable[[int, Pairs, Array], Array]

    def rows(self, *data: ArrayLike, chunk_size: int | str, **options: Any) -> Array:
        """One number a row."""
        pairs = self._pairs(*data, **options)
        size = _block_rows(self.who, chunk_size, pairs.first.shape)
        return _batchwise(functools.partial(self.of_rows, size), spread(pairs, pairs))

    def total(
        self, *data: ArrayLike, weights: Array, chunk_size: int | str = "auto", **options: Any
    ) -> Array:
        """Σ w ℓ over all rows."""
        pairs = self._pairs(*data, **options)
        size = _block_rows(self.who, chunk_size, pairs.first.shape)
        pairs, weights = spread((pairs, weights), (pairs, weights))
        return jnp.sum(_batchwise(functools.partial(self.of_total, size), pairs, weights))

    def _pairs(self, *data: ArrayLike, where: ArrayLike | None = None, **given: Any) -> Pairs:
        """Directions, whose products are cosines times a scale: before the product, as in `contrastive`."""
        numbers = self.numbers | given
        one_number(self.who, **numbers)
        arrays, labels = dict(zip(self.data, data, strict=True)), None
        if "labels" in arrays:
            first, labels, kept = clustered(self.who, where, **arrays)
            second = first
        else:
            first, second, kept = batched(self.who, where, **arrays)
        scale = numbers["logit_scale"] if "logit_scale" in numbers else 1 / numbers["temperature"]
        offset = jnp.asarray(numbers["bias"], first.dtype) if "bias" in numbers else None
        marks = Marks(jnp.arange(kept.shape[-1]), kept, labels)
        return Pairs(scale * unit(first), unit(second), offset, marks)


def _row_by_row(
    name: str, data: tuple[str, str], numbers: dict[str, float], formula: _blocks.Formula
) -> _Loss:
    rows, total = (functools.partial(of, formula) for of in (_blocks.rows, _blocks.total))
    return _Loss(f"{_FAMILY}.{name}", data, numbers, rows, total)


def _reduced_by(
    way: _Loss, options: dict[str, Interval]
) -> Callable[[Callable[P, Array]], Callable[P, Array]]:
    """Fused: its means are made of the total of all rows, which masks them itself."""
    return fused(total=way.total, options=options, counts=coupled_rows, masks_itself=True, family=_FAMILY)


def _batchwise(function: Callable[..., Array], pairs: Pairs, *rows: Array) -> Array:
    """The function of one batch, over the axes before the batch; places and an offset belong to all."""

    def of_batch(first: Array, second: Array, kept: Array, label: Array | None, *rows: Array) -> Array:
        marks = Marks(pairs.marks.place, kept, label)
        return function(Pairs(first, second, pairs.offset, marks), *rows)

    for _ in pairs.first.shape[:-2]:
        of_batch = jax.vmap(of_batch)
    return of_batch(pairs.first, pairs.second, pairs.marks.kept, pairs.marks.label, *rows)


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

_NT_XENT = _row_by_row("nt_xent", _GROUPED, {"temperature": 0.07}, partners_among_rivals)
_SUPCON = _row_by_row("supcon", _GROUPED, {"temperature": 0.07}, partners_among_others)


@_reduced_by(_NT_XENT, _TEMPERATURE)
def nt_xent(
    embeddings: Float[ArrayLike, "*rows features"],
    labels: Integer[ArrayLike, "*rows"],
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
        chunk_size: how many rows have similarities at a time; "auto" goes by their number.

    Returns:
        The loss of each row as an anchor, in nats; 0 for one without a partner.

    Raises:
        TypeError: embeddings that are not floating point, labels not integer, a mask not bool, or a size
            that is no integer.
        ValueError: shapes that do not fit; a temperature that is not one number or not positive.

    """
    return _NT_XENT.rows(embeddings, labels, temperature=temperature, where=where, chunk_size=chunk_size)


@_reduced_by(_SUPCON, _TEMPERATURE)
def supcon(
    embeddings: Float[ArrayLike, "*rows features"],
    labels: Integer[ArrayLike, "*rows"],
    *,
    temperature: float | Array = 0.07,
    where: Bool[ArrayLike, "*rows"] | None = None,
    chunk_size: int | str = "auto",
) -> Float[Array, "*rows"]:
    """Each anchor's cross-entropy of its partners among all other rows (supervised contrastive).

        ℓ = mean over partners p of −log q_p,    q = softmax over k ≠ a of s = cos / τ
        ∂ℓ/∂s_ak = q_k − [k partner] / partners

    `contrastive.supcon` in blocks: the value of a mean is one product of matrices, with the gradient three.

    Args and errors as for `nt_xent`.

    Returns:
        The loss of each row as an anchor, in nats; 0 for one without a partner.

    """
    return _SUPCON.rows(embeddings, labels, temperature=temperature, where=where, chunk_size=chunk_size)


# --- two views of each row ------------------------------------------------------------------------

_INFO_NCE = _row_by_row("info_nce", ("queries", "keys"), {"temperature": 0.07}, own_among_rivals)
_CLIP = _Loss(
    f"{_FAMILY}.clip", _PAIRED, {"logit_scale": 1 / 0.07}, _blocks.rows_both_ways, _blocks.total_both_ways
)
_SIGLIP = _row_by_row("siglip", _PAIRED, {"logit_scale": 10.0, "bias": -10.0}, signed)


@_reduced_by(_INFO_NCE, _TEMPERATURE)
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
        chunk_size: how many rows have similarities at a time; "auto" goes by their number.

    Returns:
        The loss of each row, in nats.

    Raises:
        TypeError: queries that are not floating point; a mask that is not bool; a size that is no integer.
        ValueError: shapes that do not fit; a temperature that is not one number or not positive.

    """
    return _INFO_NCE.rows(queries, keys, temperature=temperature, where=where, chunk_size=chunk_size)


@_reduced_by(_CLIP, {"logit_scale": POSITIVE})
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

    Args and errors as for `info_nce`, of an image and its text; logit_scale: t > 0, one over a temperature.

    Returns:
        The loss of each row, in nats.

    """
    return _CLIP.rows(image, text, logit_scale=logit_scale, where=where, chunk_size=chunk_size)


@_reduced_by(_SIGLIP, {"logit_scale": POSITIVE, "bias": REAL})
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

    Args and errors as for `clip`; bias: c, which at first makes up for there being far more pairs that do not
    belong together.

    Returns:
        The loss of each row, in nats, summed over the texts.

    """
    return _SIGLIP.rows(image, text, logit_scale=logit_scale, bias=bias, where=where, chunk_size=chunk_size)
