"""Losses of every two rows of a batch, each of which counts by how much it is wrong.

The last axis but one of the embeddings is the batch; axes before it are batches of their own.
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Integer, Real

from jaxloss._contracts import (
    COSINE_RANGE,
    GROUPS,
    NON_NEGATIVE,
    POSITIVE,
    VECTORS,
    coupled_rows,
    grouped,
    matched,
)
from jaxloss._loss import Claims, loss
from jaxloss.numerics import expected_surprise, logsumexp, products, relu, softplus, unit

_GROUPED = {"embeddings": VECTORS, "labels": GROUPS}


@loss(
    "contrastive",
    domain=_GROUPED,
    options={"margin": NON_NEGATIVE, "scale": POSITIVE},
    claims=Claims(non_negative=True),
    source="Sun et al. (2020), Circle Loss: A Unified Perspective of Pair Similarity Optimization, sec. 3.",
    peers=("keras.losses.Circle",),
    counts=coupled_rows,
)
def circle(
    embeddings: Float[ArrayLike, "*rows features"],
    labels: Integer[ArrayLike, "*rows"],
    *,
    margin: float | Array = 0.4,
    scale: float | Array = 80.0,
    where: Bool[ArrayLike, "*rows"] | None = None,
) -> Float[Array, "*rows"]:
    """How far each anchor's partners are from cosine 1 and strangers from 0, the worst pairs the most.

        ℓ = log(1 + Σ_n e^{s max(c_n + m, 0) (c_n − m)} Σ_p e^{s (1 + m − c_p) (1 − m − c_p)})
        ∂ℓ/∂c_n = 2 s σ q_n c_n where c_n > −m,    ∂ℓ/∂c_p = −2 s σ q_p (1 − c_p)

    with cosines c, 1 − σ = e^−ℓ, and q the softmax among the strangers n or the partners p. At c_n = −m the
    derivative is taken as 0. It is that of the value, as in Keras; the paper's holds the weights
    max(c_n + m, 0) and 1 + m − c_p constant, and then is s σ q_n max(c_n + m, 0) and −s σ q_p (1 + m − c_p).

    Args:
        embeddings: floating point, `[*rows, features]`, of any length: only directions count. The last
            axis of the rows is the batch; one of zeros has cosine 0 with any.
        labels: integer, `[*rows]`: rows of one label are partners, of two strangers.
        margin: m ≥ 0: partners should have a cosine above 1 − m, strangers one below m.
        scale: s > 0, the paper's γ.
        where: bool, `[*rows]`, the rows that there are; the others may hold NaN, and have loss 0.

    Returns:
        The loss of each row as an anchor; 0 for one without a partner or without a stranger.

    Raises:
        TypeError: embeddings that are not floating point, labels not integer, a mask not bool.
        ValueError: shapes that do not fit; a concrete margin that is negative, or scale not positive.

    """
    embeddings, same, different = grouped("metric.circle", where, embeddings=embeddings, labels=labels)
    directions = unit(embeddings)
    cosines = products(directions, directions)
    apart = 1 - cosines
    partners = logsumexp(scale * (margin + apart) * (apart - margin), where=same)
    strangers = logsumexp(scale * relu(cosines + margin) * (cosines - margin), where=different)
    return softplus(partners + strangers) + _nothing(directions)


def _nothing(directions: Array) -> Array:
    """0 for each row, NaN for one that is NaN: with no other beside it no pair would show it."""
    return 0 * jnp.sum(directions, axis=-1)


@loss(
    "contrastive",
    domain=_GROUPED,
    options={"alpha": POSITIVE, "beta": POSITIVE, "margin": COSINE_RANGE},
    claims=Claims(non_negative=True),
    source="Wang et al. (2019), Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning, "
    "sec. 4, without its mining.",
    peers=("pytorch_metric_learning.losses.MultiSimilarityLoss",),
    counts=coupled_rows,
)
def multi_similarity(
    embeddings: Float[ArrayLike, "*rows features"],
    labels: Integer[ArrayLike, "*rows"],
    *,
    alpha: float | Array = 2.0,
    beta: float | Array = 50.0,
    margin: float | Array = 0.5,
    where: Bool[ArrayLike, "*rows"] | None = None,
) -> Float[Array, "*rows"]:
    """How far each anchor's partners are below a cosine and strangers above it, the worst pairs the most.

        ℓ = log(1 + Σ_p e^{−α (c_p − m)}) / α + log(1 + Σ_n e^{β (c_n − m)}) / β
        ∂ℓ/∂c_p = −e^{−α (c_p − m)} / (1 + Σ_p),    ∂ℓ/∂c_n = e^{β (c_n − m)} / (1 + Σ_n)

    with cosines c. All pairs count: the paper leaves out those that its mining finds easy.

    Args:
        embeddings: floating point, `[*rows, features]`, of any length: only directions count. The last
            axis of the rows is the batch; one of zeros has cosine 0 with any.
        labels: integer, `[*rows]`: rows of one label are partners p, of two strangers n.
        alpha: α > 0, how much of the first sum the farthest partner has.
        beta: β > 0, how much of the second one the nearest stranger has.
        margin: m in [−1, 1], the cosine that partners should be above and strangers below.
        where: bool, `[*rows]`, the rows that there are; the others may hold NaN, and have loss 0.

    Returns:
        The loss of each row as an anchor; a sum over no partner or no stranger is 0.

    Raises:
        TypeError: embeddings that are not floating point, labels not integer, a mask not bool.
        ValueError: shapes that do not fit; a concrete option out of range.

    """
    who = "metric.multi_similarity"
    embeddings, same, different = grouped(who, where, embeddings=embeddings, labels=labels)
    directions = unit(embeddings)
    above = products(directions, directions) - margin
    partners = softplus(logsumexp(-alpha * above, where=same)) / alpha
    strangers = softplus(logsumexp(beta * above, where=different)) / beta
    return partners + strangers + _nothing(directions)


@loss(
    "contrastive",
    domain={"anchors": VECTORS, "positives": VECTORS, "labels": GROUPS},
    claims=Claims(non_negative=True, convex=True),
    source="Sohn (2016), Improved Deep Metric Learning with Multi-class N-pair Loss Objective, eq. 6; "
    "TensorFlow Addons' npairs_loss for labels that come more than once.",
    peers=("tensorflow_addons.losses.NpairsLoss", "pytorch_metric_learning.losses.NPairsLoss"),
    counts=coupled_rows,
)
def n_pairs(
    anchors: Float[ArrayLike, "*rows features"],
    positives: Real[ArrayLike, "*rows features"],
    labels: Integer[ArrayLike, "*rows"],
    *,
    where: Bool[ArrayLike, "*rows"] | None = None,
) -> Float[Array, "*rows"]:
    """Each anchor's cross-entropy of the positives of its label among all of the batch, by inner products.

        ℓ = mean over its positives p of −log q_p,    q = softmax over j of s = a·b_j
        ∂ℓ/∂s_j = q_j − [j positive] / positives

    Where every label comes once this is log(1 + Σ_{j ≠ i} e^{a_i·b_j − a_i·b_i}). Lengths count, and grow
    without bound if nothing holds them: the paper adds a multiple of mean(‖a‖² + ‖b‖²).

    Args:
        anchors: a, floating point, `[*rows, features]`. The last axis of the rows is the batch.
        positives: b, of the same shape: what the anchor of the same row belongs with.
        labels: integer, `[*rows]`, of anchor and positive alike; where no two rows belong together, any
            numbers of which none comes twice.
        where: bool, `[*rows]`, the rows that there are; the others may hold NaN, and have loss 0.

    Returns:
        The loss of each row, in nats.

    Raises:
        TypeError: anchors that are not floating point, labels not integer, a mask not bool.
        ValueError: shapes that do not fit.

    """
    data = {"anchors": anchors, "positives": positives, "labels": labels}
    anchors, positives, same, both = matched("metric.n_pairs", where, **data)
    logits, kept = products(anchors, positives), jnp.any(both, axis=-1, keepdims=True)
    shares = same.astype(logits.dtype)
    shares = shares / jnp.maximum(jnp.sum(shares, axis=-1, keepdims=True), 1)
    return expected_surprise(jnp.where(both | ~kept, logits, -jnp.inf), shares)
