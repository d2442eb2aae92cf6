"""Each row of a batch is an anchor, and the others are its partners or its rivals.

The last axis but one of the embeddings is the batch; axes before it are batches of their own.
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Integer

from jaxloss._contracts import (
    GROUPS,
    POSITIVE,
    REAL,
    VECTORS,
    batched,
    coupled_rows,
    grouped,
    one_number,
)
from jaxloss._loss import Claims, loss
from jaxloss.numerics import expected_surprise, logsumexp, products, softplus, unit

_GROUPED = {"embeddings": VECTORS, "labels": GROUPS}
_NON_NEGATIVE = Claims(non_negative=True)
_TEMPERATURE = {"temperature": POSITIVE}


@loss(
    "contrastive",
    domain=_GROUPED,
    options=_TEMPERATURE,
    claims=_NON_NEGATIVE,
    source="Chen et al. (2020), A Simple Framework for Contrastive Learning of Visual Representations, "
    "eq. 1.",
    counts=coupled_rows,
    peers=("optax.losses.ntxent",),
)
def nt_xent(
    embeddings: Float[ArrayLike, "*rows features"],
    labels: Integer[ArrayLike, "*rows"],
    *,
    temperature: float | Array = 0.07,
    where: Bool[ArrayLike, "*rows"] | None = None,
) -> Float[Array, "*rows"]:
    """Each anchor's cross-entropy of its partners among the rows of other groups (SimCLR).

        ℓ = mean over partners p of log(1 + Σ_n e^{s_an − s_ap}),    s = cos / τ
        ∂ℓ/∂s_ap = −(1 − q_p) / partners,    ∂ℓ/∂s_an = mean of e^{s_an} / (e^{s_ap} + Σ e^{s_an})

    with q_p the softmax of p among itself and the rows n of other groups. Optax's, the mean over all
    pairs, is `jl.mean` with each anchor's number of partners as `weights`: the same where groups are of
    one size.

    Args:
        embeddings: floating point, `[*rows, features]`, of any length: only directions count. The last
            axis of the rows is the batch; one of zeros has no similarity to any.
        labels: integer, `[*rows]`: rows of one label are partners.
        temperature: τ > 0.
        where: bool, `[*rows]`, the rows that there are; the others may hold NaN, and have loss 0.

    Returns:
        The loss of each row as an anchor, in nats; 0 for one without a partner.

    Raises:
        TypeError: embeddings that are not floating point, labels not integer, a mask not bool.
        ValueError: shapes that do not fit; a temperature that is not one number or not positive.

    """
    one_number("contrastive.nt_xent", temperature=temperature)
    embeddings, same, different = grouped("contrastive.nt_xent", where, embeddings=embeddings, labels=labels)
    logits = _cosines(embeddings, embeddings, 1 / temperature)
    rivals = _log_sum(logits, different)[..., None]
    return _mean_over(same, softplus(rivals - logits))


def _cosines(first: Array, second: Array, scale: float | Array) -> Array:
    """The cosine of every two rows, times a scale: before the product, for one rounding of the logits."""
    return products(scale * unit(first), unit(second))


def _log_sum(logits: Array, among: Array) -> Array:
    """log Σ e^z over some of each row; a number so low that it counts for nothing over none of them."""
    found = logsumexp(logits, where=among)
    return jnp.where(jnp.any(among, axis=-1), found, jnp.finfo(logits.dtype).min / 2)


def _mean_over(partners: Array, losses: Array) -> Array:
    """The mean of each row's losses over its partners, 0 where it has none; NaN is never left out."""
    counted = jnp.where(partners | jnp.isnan(losses), losses, 0)
    count = jnp.sum(partners, axis=-1, dtype=losses.dtype)
    return jnp.sum(counted, axis=-1) / jnp.maximum(count, 1)


@loss(
    "contrastive",
    domain=_GROUPED,
    options=_TEMPERATURE,
    claims=_NON_NEGATIVE,
    source="Khosla et al. (2020), Supervised Contrastive Learning, eq. 2.",
    counts=coupled_rows,
)
def supcon(
    embeddings: Float[ArrayLike, "*rows features"],
    labels: Integer[ArrayLike, "*rows"],
    *,
    temperature: float | Array = 0.07,
    where: Bool[ArrayLike, "*rows"] | None = None,
) -> Float[Array, "*rows"]:
    """Each anchor's cross-entropy of its partners among all other rows (supervised contrastive).

        ℓ = mean over partners p of −log q_p,    q = softmax over k ≠ a of s = cos / τ
        ∂ℓ/∂s_ak = q_k − [k partner] / partners

    The partners compete with each other: with more than one the loss is never 0.

    Args:
        embeddings: floating point, `[*rows, features]`, of any length: only directions count. The last
            axis of the rows is the batch; one of zeros has no similarity to any.
        labels: integer, `[*rows]`: rows of one label are partners.
        temperature: τ > 0.
        where: bool, `[*rows]`, the rows that there are; the others may hold NaN, and have loss 0.

    Returns:
        The loss of each row as an anchor, in nats; 0 for one without a partner.

    Raises:
        TypeError: embeddings that are not floating point, labels not integer, a mask not bool.
        ValueError: shapes that do not fit; a temperature that is not one number or not positive.

    """
    one_number("contrastive.supcon", temperature=temperature)
    embeddings, same, different = grouped("contrastive.supcon", where, embeddings=embeddings, labels=labels)
    logits = _cosines(embeddings, embeddings, 1 / temperature)
    partners = same.astype(logits.dtype)
    shares = partners / jnp.maximum(jnp.sum(partners, axis=-1, keepdims=True), 1)
    return expected_surprise(_among(logits, same | different), shares)


def _among(logits: Array, others: Array) -> Array:
    """Logits of −∞ where there is no rival; a row without any keeps its own, and has a loss of 0 for it."""
    return jnp.where(others | ~jnp.any(others, axis=-1, keepdims=True), logits, -jnp.inf)


@loss(
    "contrastive",
    domain={"queries": VECTORS, "keys": VECTORS},
    options=_TEMPERATURE,
    claims=_NON_NEGATIVE,
    source="van den Oord, Li & Vinyals (2018), Representation Learning with Contrastive Predictive Coding, "
    "eq. 4; He et al. (2020), Momentum Contrast, eq. 1 (cosines, temperature).",
    counts=coupled_rows,
)
def info_nce(
    queries: Float[ArrayLike, "*rows features"],
    keys: Float[ArrayLike, "*rows features"],
    *,
    temperature: float | Array = 0.07,
    where: Bool[ArrayLike, "*rows"] | None = None,
) -> Float[Array, "*rows"]:
    """Each query's cross-entropy of its own key among the keys of the batch.

        ℓ = −log p_aa,    p = softmax over keys of cos / τ,    ∂ℓ/∂s_ak = p_ak − [k = a]

    Args:
        queries: floating point, `[*rows, features]`, of any length: only directions count. The last axis of
            the rows is the batch; a vector of zeros has no similarity to any.
        keys: of the same shape, the key of each query in its row.
        temperature: τ > 0.
        where: bool, `[*rows]`, the rows that there are; the others may hold NaN, and have loss 0.

    Returns:
        The loss of each row, in nats.

    Raises:
        TypeError: queries that are not floating point; a mask that is not bool.
        ValueError: shapes that do not fit; a temperature that is not one number or not positive.

    """
    one_number("contrastive.info_nce", temperature=temperature)
    queries, keys, kept = batched("contrastive.info_nce", where, queries=queries, keys=keys)
    return _own_surprise(_cosines(queries, keys, 1 / temperature), kept)


def _own_surprise(logits: Array, kept: Array) -> Array:
    """−log softmax of each row's own entry among the entries that there are, 0 in a row that is not."""
    own = jnp.broadcast_to(jnp.eye(logits.shape[-1], dtype=logits.dtype), logits.shape)
    both = kept[..., :, None] & kept[..., None, :]
    return expected_surprise(_among(logits, both), own * kept[..., None].astype(logits.dtype))


@loss(
    "contrastive",
    domain={"image": VECTORS, "text": VECTORS},
    options={"logit_scale": POSITIVE},
    claims=_NON_NEGATIVE,
    source="Radford et al. (2021), Learning Transferable Visual Models From Natural Language "
    "Supervision, fig. 3.",
    counts=coupled_rows,
)
def clip(
    image: Float[ArrayLike, "*rows features"],
    text: Float[ArrayLike, "*rows features"],
    *,
    logit_scale: float | Array = 1 / 0.07,
    where: Bool[ArrayLike, "*rows"] | None = None,
) -> Float[Array, "*rows"]:
    """Cross-entropy of each image's text among the texts, and of each text's image, halved.

        ℓ = −½ log p_aa − ½ log q_aa,    ∂ℓ/∂s_ab = ½(p_ab − [a = b]) + ½(q_ab − [a = b]),    s = t cos

    with p the softmax of s over the texts and q that over the images. A learned scale is e^θ, for it to stay
    positive; CLIP keeps it at 100 or less.

    Args:
        image: floating point, `[*rows, features]`, of any length: only directions count. The last axis of
            the rows is the batch; a vector of zeros has no similarity to any.
        text: of the same shape, the text of each image in its row.
        logit_scale: t > 0, one over a temperature.
        where: bool, `[*rows]`, the rows that there are; the others may hold NaN, and have loss 0.

    Returns:
        The loss of each row, in nats.

    Raises:
        TypeError: images that are not floating point; a mask that is not bool.
        ValueError: shapes that do not fit; a scale that is not one number or not positive.

    """
    one_number("contrastive.clip", logit_scale=logit_scale)
    image, text, kept = batched("contrastive.clip", where, image=image, text=text)
    logits = _cosines(image, text, logit_scale)
    return 0.5 * (_own_surprise(logits, kept) + _own_surprise(jnp.swapaxes(logits, -1, -2), kept))


@loss(
    "contrastive",
    domain={"image": VECTORS, "text": VECTORS},
    options={"logit_scale": POSITIVE, "bias": REAL},
    claims=_NON_NEGATIVE,
    source="Zhai et al. (2023), Sigmoid Loss for Language Image Pre-Training, eq. in sec. 3.2.",
    counts=coupled_rows,
)
def siglip(
    image: Float[ArrayLike, "*rows features"],
    text: Float[ArrayLike, "*rows features"],
    *,
    logit_scale: float | Array = 10.0,
    bias: float | Array = -10.0,
    where: Bool[ArrayLike, "*rows"] | None = None,
) -> Float[Array, "*rows"]:
    """Logistic loss of whether an image and a text belong together, over every text of the batch.

        ℓ = Σ_b log(1 + e^{−z_ab (t cos_ab + c)}),    ∂ℓ/∂s_ab = −z σ(−z s),    z = 1 where a = b, else −1

    Args:
        image: floating point, `[*rows, features]`, of any length: only directions count. The last axis of
            the rows is the batch; a vector of zeros has no similarity to any.
        text: of the same shape, the text of each image in its row.
        logit_scale: t > 0.
        bias: c, which at first makes up for there being far more pairs that do not belong together.
        where: bool, `[*rows]`, the rows that there are; the others may hold NaN, and have loss 0.

    Returns:
        The loss of each row, in nats, summed over the texts.

    Raises:
        TypeError: images that are not floating point; a mask that is not bool.
        ValueError: shapes that do not fit; a scale or bias that is not one number; a scale not positive.

    """
    one_number("contrastive.siglip", logit_scale=logit_scale, bias=bias)
    image, text, kept = batched("contrastive.siglip", where, image=image, text=text)
    logits = _cosines(image, text, logit_scale) + bias
    signs = 2 * jnp.eye(logits.shape[-1], dtype=logits.dtype) - 1
    losses = softplus(-jnp.broadcast_to(signs, logits.shape) * logits)
    return jnp.sum(jnp.where(kept[..., :, None] & kept[..., None, :], losses, 0), axis=-1)
