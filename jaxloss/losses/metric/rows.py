"""Losses of the distances and angles of each row, told who belongs together, and who does not."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Integer, Real

from jaxloss import numerics
from jaxloss._contracts import (
    CLASS_IDS,
    COSINE_RANGE,
    COSINES,
    NON_NEGATIVE,
    POSITIVE,
    REAL,
    SIGNS,
    VECTORS,
    Interval,
    margins,
    scalar_pairs,
    similarities,
    triplets,
    vector_pairs,
)
from jaxloss._loss import Claims, loss
from jaxloss.numerics import relu, safe_norm


@loss(
    "embedding",
    domain={"first": VECTORS, "second": VECTORS, "labels": SIGNS},
    options={"margin": NON_NEGATIVE},
    claims=Claims(non_negative=True),
    source="Hadsell, Chopra & LeCun (2006), Dimensionality Reduction by Learning an Invariant Mapping, "
    "eq. 4 (there with a factor ½).",
)
def contrastive_pair(
    first: Float[ArrayLike, "*rows features"],
    second: Real[ArrayLike, "*rows features"],
    labels: Real[ArrayLike, "*rows"],
    *,
    margin: float | Array = 1.0,
) -> Float[Array, "*rows"]:
    """Squared distance of a pair that belongs together; of one that does not, what it lacks of the margin.

        ℓ = d² where y = 1, max(m − d, 0)² where y = −1,    d = ‖a − b‖
        ∂ℓ/∂a = 2(a − b), −2 max(m − d, 0) (a − b)/d

    At a = b both derivatives are taken as 0.

    Args:
        first: a, floating point, one embedding a row along the last axis, any unit u.
        second: b, of the same shape and unit.
        labels: one a row, +1 for a pair that belongs together, −1 for one that does not.
        margin: m ≥ 0, the distance from which strangers cost nothing, in that unit.

    Returns:
        The loss of each row, in u².

    Raises:
        TypeError: embeddings that are not floating point; labels that are flags.
        ValueError: shapes that do not fit; a concrete margin that is negative.

    """
    who = "metric.contrastive_pair"
    first, second, labels = vector_pairs(who, first=first, second=second, labels=labels)
    apart, together = first - second, labels > 0
    # Each row is in one of the two terms, and nothing in the other: 0·∞ comes from neither.
    friends = jnp.sum(jnp.square(jnp.where(together[..., None], apart, 0)), axis=-1)
    strangers = relu(jnp.where(together, 0, margin) - safe_norm(jnp.where(together[..., None], 0, apart)))
    return friends + jnp.square(strangers) + 0 * margin  # one out of its range spoils every pair


@loss(
    "embedding",
    domain={"anchors": VECTORS, "positives": VECTORS, "negatives": VECTORS},
    options={"margin": NON_NEGATIVE, "p": Interval(low=1.0, closed_low=True)},
    claims=Claims(non_negative=True, lipschitz=2.0),
    source="Balntas et al. (2016), Learning Local Feature Descriptors with Triplets and Shallow CNNs, "
    "sec. 2.2 and 2.3 (swap); torch's TripletMarginLoss for p.",
    peers=(
        "optax.losses.triplet_margin_loss",
        "torch.nn.TripletMarginLoss",
        "torch.nn.TripletMarginWithDistanceLoss",
    ),
)
def triplet_margin(
    anchors: Float[ArrayLike, "*rows features"],
    positives: Real[ArrayLike, "*rows features"],
    negatives: Real[ArrayLike, "*rows features"],
    *,
    margin: float | Array = 1.0,
    p: float | Array = 2.0,
    swap: bool = False,
) -> Float[Array, "*rows"]:
    """What the distance to a negative lacks of the distance to a positive and a margin.

        ℓ = max(‖a − b‖_p − ‖a − c‖_p + m, 0)
        ∂ℓ/∂a = u(a − b) − u(a − c) where ℓ > 0,    u(x) = sign(x) (|x| / ‖x‖_p)^(p − 1)

    At ℓ = 0 the derivative is taken as 0; so is u at a zero vector, and for p < 2 at a zero entry. Nothing
    is added to the differences: torch adds 1e-6 to each, which its `eps=0` leaves out.

    Args:
        anchors: a, floating point, one embedding a row along the last axis, any unit.
        positives: b, of the same shape and unit: what an anchor belongs with.
        negatives: c, likewise: what it does not belong with.
        margin: m ≥ 0, by how much the negative must be farther, in that unit.
        p: in [1, ∞], the degree of the norm; ∞ takes the largest difference.
        swap: whether a negative nearer to the positive than to the anchor is measured from there.

    Returns:
        The loss of each row, in the same unit.

    Raises:
        TypeError: embeddings that are not floating point.
        ValueError: two shapes; a concrete margin that is negative, or p below 1.

    """
    who = "metric.triplet_margin"
    a, b, c = triplets(who, anchors=anchors, positives=positives, negatives=negatives)
    farther = _norm(a - c, p)
    if swap:
        farther = jnp.minimum(farther, _norm(b - c, p))
    return relu(_norm(a - b, p) - farther + margin)


def _norm(x: Array, p: float | Array) -> Array:
    """‖x‖_p; the square needs no power."""
    euclidean = isinstance(p, float) and p == 2
    return safe_norm(x) if euclidean else numerics.norm_of_degree(x, jnp.asarray(p, x.dtype))


@loss(
    "embedding",
    domain={"first": VECTORS, "second": VECTORS, "labels": SIGNS},
    options={"margin": COSINE_RANGE},
    claims=Claims(non_negative=True, bounded=2.0),
    source="torch's CosineEmbeddingLoss; Chopra, Hadsell & LeCun (2005), Learning a Similarity Metric "
    "Discriminatively, sec. 2.",
    peers=("torch.nn.CosineEmbeddingLoss",),
)
def cosine_embedding(
    first: Float[ArrayLike, "*rows features"],
    second: Real[ArrayLike, "*rows features"],
    labels: Real[ArrayLike, "*rows"],
    *,
    margin: float | Array = 0.0,
) -> Float[Array, "*rows"]:
    """One minus the cosine of a pair that belongs together; of one that does not, the cosine beyond a margin.

        ℓ = 1 − cos where y = 1, max(cos − m, 0) where y = −1,    cos = a·b / (‖a‖ ‖b‖)
        ∂ℓ/∂a = ∓(b/‖b‖ − cos · a/‖a‖) / ‖a‖

    A zero vector has cosine 0 with every vector, and derivative 0; at cos = m the derivative is 0.

    Args:
        first: a, floating point, one embedding a row along the last axis.
        second: b, of the same shape.
        labels: one a row, +1 for a pair that belongs together, −1 for one that does not.
        margin: m in [−1, 1], the cosine up to which strangers cost nothing.

    Returns:
        The loss of each row, without unit.

    Raises:
        TypeError: embeddings that are not floating point; labels that are flags.
        ValueError: shapes that do not fit; a concrete margin outside [−1, 1].

    """
    who = "metric.cosine_embedding"
    first, second, labels = vector_pairs(who, first=first, second=second, labels=labels)
    cosine = numerics.cosine(first, second)
    losses = jnp.where(labels > 0, numerics.cosine_distance(first, second), relu(cosine - margin))
    return losses + 0 * margin  # one out of its range spoils every pair


@loss(
    "embedding",
    domain={"distances": REAL, "labels": SIGNS},
    options={"margin": NON_NEGATIVE},
    claims=Claims(convex=True, lipschitz=1.0),
    source="torch's HingeEmbeddingLoss.",
    peers=("torch.nn.HingeEmbeddingLoss",),
)
def hinge_embedding(
    distances: Float[ArrayLike, "*rows"], labels: Real[ArrayLike, "*rows"], *, margin: float | Array = 1.0
) -> Float[Array, "*rows"]:
    """The distance of a pair that belongs together; of one that does not, what it lacks of the margin.

        ℓ = d where y = 1, max(m − d, 0) where y = −1,    ∂ℓ/∂d = 1, −1 where d < m

    At d = m the derivative is taken as 0.

    Args:
        distances: d, floating point, any unit; of what is no distance a negative number is no error.
        labels: of the same shape, +1 for a pair that belongs together, −1 for one that does not.
        margin: m ≥ 0, the distance from which strangers cost nothing, in that unit.

    Returns:
        The loss of each row, in the same unit.

    Raises:
        TypeError: distances that are not floating point; labels that are flags.
        ValueError: two shapes; a concrete margin that is negative.

    """
    distances, labels = margins("metric.hinge_embedding", distances=distances, labels=labels)
    losses = jnp.where(labels > 0, distances, relu(margin - distances))
    return losses + 0 * margin  # one out of its range spoils every pair


@loss(
    "embedding",
    domain={"first": REAL, "second": REAL, "labels": SIGNS},
    options={"margin": NON_NEGATIVE},
    claims=Claims(non_negative=True, convex=True, lipschitz=1.0),
    source="torch's MarginRankingLoss; Herbrich, Graepel & Obermayer (2000), Large Margin Rank Boundaries.",
    peers=("torch.nn.MarginRankingLoss",),
)
def margin_ranking(
    first: Float[ArrayLike, "*rows"],
    second: Real[ArrayLike, "*rows"],
    labels: Real[ArrayLike, "*rows"],
    *,
    margin: float | Array = 0.0,
) -> Float[Array, "*rows"]:
    """What the score that should be the higher lacks of the other one and a margin.

        ℓ = max(m − y (a − b), 0),    ∂ℓ/∂a = −y where y (a − b) < m

    At ℓ = 0 the derivative is taken as 0.

    Args:
        first: a, floating point, any unit.
        second: b, of the same shape and unit.
        labels: of the same shape, +1 where the first should be the higher, −1 where the second.
        margin: m ≥ 0, by how much it should be, in that unit.

    Returns:
        The loss of each row, in the same unit.

    Raises:
        TypeError: scores that are not floating point; labels that are flags.
        ValueError: two shapes; a concrete margin that is negative.

    """
    first, second, labels = scalar_pairs("metric.margin_ranking", first=first, second=second, labels=labels)
    return relu(margin - labels * (first - second))


_ANGULAR = {"cosines": COSINES, "labels": CLASS_IDS}


@loss(
    "embedding",
    domain=_ANGULAR,
    options={"margin": Interval(0.0, 1.5, closed_low=True, closed_high=True), "scale": POSITIVE},
    claims=Claims(non_negative=True),
    source="Deng et al. (2019), ArcFace: Additive Angular Margin Loss for Deep Face Recognition, eq. 3; "
    "beyond π its authors' code.",
)
def arcface(
    cosines: Float[ArrayLike, "*rows classes"],
    labels: Integer[ArrayLike, "*rows"],
    *,
    margin: float | Array = 0.5,
    scale: float | Array = 64.0,
) -> Float[Array, "*rows"]:
    """Cross-entropy of scaled cosines, whose label must be nearer than the others by an angle.

        ℓ = −log softmax(s t)[y],    t_y = cos(θ_y + m), t_j = cos θ_j elsewhere
        ∂ℓ/∂cos θ_j = s p_j,    ∂ℓ/∂cos θ_y = −s (1 − p_y) sin(θ_y + m) / sin θ_y

    Where θ_y + m > π the cosine would rise again: there t_y = cos θ_y − m sin m, with derivative 1. At
    cos θ_y = ±1, where the slope of the sine is infinite, it is taken as 0.

    Args:
        cosines: floating point, `[*rows, classes]`, of an embedding and each class's centre.
        labels: class ids, integer, `[*rows]`.
        margin: m in [0, 1.5], an angle in radians.
        scale: s > 0, what the cosines are multiplied by.

    Returns:
        The loss of each row, in nats; NaN in a row whose id is out of range, or with what is no cosine.
        Up to a hundredth beyond ±1 is rounding, and is ±1.

    Raises:
        TypeError: cosines that are not floating point; labels that are not integer.
        ValueError: shapes that do not fit; a concrete option out of range.

    """
    cosines, labels = similarities("metric.arcface", cosines=cosines, labels=labels)
    near, margin = numerics.pick(cosines, labels), jnp.asarray(margin, cosines.dtype)
    turned = near * jnp.cos(margin) - numerics.sine_of_cosine(near) * jnp.sin(margin)
    target = jnp.where(near > -jnp.cos(margin), turned, near - margin * jnp.sin(margin))
    return _surprise(cosines, labels, target, scale)


def _surprise(cosines: Array, labels: Array, target: Array, scale: float | Array) -> Array:
    """−log softmax(s t)[y] from the leads over the label, which is at 0 to the last bit.

    A logit that is computed may be rounded anew by each use of it. The label's would then not be the
    largest but one beside it, and the loss log 2 and not 1e-30.
    """
    leads = scale * (cosines - target[..., None])
    return numerics.surprise(jnp.where(numerics.one_hot(labels, cosines) > 0, 0, leads), labels)


@loss(
    "embedding",
    domain=_ANGULAR,
    options={"margin": NON_NEGATIVE, "scale": POSITIVE},
    claims=Claims(non_negative=True, convex=True, lipschitz=64 * 2**0.5, smooth=2048.0),
    source="Wang et al. (2018), CosFace: Large Margin Cosine Loss for Deep Face Recognition, eq. 4.",
)
def cosface(
    cosines: Float[ArrayLike, "*rows classes"],
    labels: Integer[ArrayLike, "*rows"],
    *,
    margin: float | Array = 0.35,
    scale: float | Array = 64.0,
) -> Float[Array, "*rows"]:
    """Cross-entropy of scaled cosines, whose label must lead the others by a margin.

        ℓ = −log softmax(s t)[y],    t_y = cos θ_y − m, t_j = cos θ_j elsewhere
        ∂ℓ/∂cos θ_j = s (p_j − [j = y])

    Args:
        cosines: floating point, `[*rows, classes]`, of an embedding and each class's centre.
        labels: class ids, integer, `[*rows]`.
        margin: m ≥ 0, a difference of cosines.
        scale: s > 0, what the cosines are multiplied by.

    Returns:
        The loss of each row, in nats; NaN in a row whose id is out of range, or with what is no cosine.
        Up to a hundredth beyond ±1 is rounding, and is ±1.

    Raises:
        TypeError: cosines that are not floating point; labels that are not integer.
        ValueError: shapes that do not fit; a concrete option out of range.

    """
    cosines, labels = similarities("metric.cosface", cosines=cosines, labels=labels)
    return _surprise(cosines, labels, numerics.pick(cosines, labels) - margin, scale)
