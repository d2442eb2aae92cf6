"""Losses of the order that scores give a list: the items of a row depend on each other, the rows do not."""

import math

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Real

from jaxloss._contracts import FLAGS, LISTS, NON_NEGATIVE, POSITIVE, REAL, listed, lists_with_items
from jaxloss._loss import Claims, loss
from jaxloss.numerics import class_pivot, divide, expected_surprise, relu, sigmoid, softplus, squared_leads

_LISTS = {"scores": REAL, "labels": LISTS}
_CONVEX = Claims(non_negative=True, convex=True, shift_invariant=True)


@loss(
    "ranking",
    domain=_LISTS,
    claims=_CONVEX,
    source="Cao et al. (2007), Learning to Rank: From Pairwise Approach to Listwise Approach, sec. 5.",
    counts=lists_with_items,
    peers=(
        "optax.losses.ranking_softmax_loss",
        "rax.softmax_loss",
    ),
)
def softmax(
    scores: Float[ArrayLike, "*rows items"],
    labels: Real[ArrayLike, "*rows items"],
    *,
    where: Bool[ArrayLike, "*rows items"] | None = None,
) -> Float[Array, "*rows"]:
    """Cross-entropy of the softmax of a list's scores with its relevances (ListNet).

        ℓ = −Σ y log p,    ∂ℓ/∂s = p Σ y − y,    p = softmax s

    The relevances are taken as they are: divide them by their sum for a distribution. The mean of
    Optax's and Rax's softmax losses is that of `jl.mean`.

    Args:
        scores: s, floating point, `[*rows, items]`, one list a row.
        labels: y ≥ 0, of the same shape, the relevance of each item.
        where: bool, of the same shape, the items that there are; the others may hold NaN. A
            `jl.mean` given it leaves out the lists that have none.

    Returns:
        The loss of each list, in nats; 0 for one without items, NaN for one with a negative label.

    Raises:
        TypeError: scores that are not floating point; a mask that is not bool.
        ValueError: shapes that do not fit.

    """
    scores, labels, kept = listed("ranking.softmax", where, NON_NEGATIVE, scores=scores, labels=labels)
    # A list without items keeps its zeros: a softmax over nothing is none.
    gone = ~kept & jnp.any(kept, axis=-1, keepdims=True)
    return expected_surprise(jnp.where(gone, -jnp.inf, scores), labels)


@loss(
    "ranking",
    domain=_LISTS,
    claims=_CONVEX,
    source="Xia et al. (2008), Listwise Approach to Learning to Rank: Theory and Algorithm, sec. 4.3.",
    counts=lists_with_items,
    peers=("rax.listmle_loss",),
)
def listmle(
    scores: Float[ArrayLike, "*rows items"],
    labels: Real[ArrayLike, "*rows items"],
    *,
    where: Bool[ArrayLike, "*rows items"] | None = None,
) -> Float[Array, "*rows"]:
    """Negative log-likelihood of the labels' order under the Plackett-Luce model of the scores.

        ℓ = Σ_i log Σ_{j≥i} e^{s_j − s_i},    ∂ℓ/∂s_k = Σ_{i≤k} e^{s_k} / Σ_{j≥i} e^{s_j} − 1

    with the items in order of falling label; equal labels keep the order in which they are given.
    The cost is that of a sort.

    Args:
        scores: s, floating point, `[*rows, items]`, one list a row.
        labels: of the same shape; only their order counts.
        where: as for `softmax`.

    Returns:
        The loss of each list, in nats; 0 for one of fewer than two items.

    Raises:
        TypeError: scores that are not floating point; a mask that is not bool.
        ValueError: shapes that do not fit.

    """
    scores, labels, kept = listed("ranking.listmle", where, REAL, scores=scores, labels=labels)
    order = jnp.argsort(jnp.where(kept, -labels, jnp.inf), axis=-1, stable=True)
    scores, kept = (jnp.take_along_axis(x, order, axis=-1) for x in (scores, kept))
    # From the largest score, or an offset that all share would cost the sums its digits.
    scores = scores - class_pivot(jnp.where(kept, scores, -jnp.inf))[..., None]
    # No −∞ for the items that are not there: logaddexp has no second derivative at it.
    lowest = jnp.finfo(scores.dtype).min
    finite = jnp.where(kept & (scores != -jnp.inf), scores, lowest)
    rest = lax.associative_scan(jnp.logaddexp, finite, reverse=True, axis=scores.ndim - 1)[..., 1:]
    # L_i − s_i as softplus(L_{i+1} − s_i): no digit is lost where one item leads the rest by far.
    ahead = rest - scores[..., :-1]
    # Scores of −∞ tie: where no others are left, with as many as come after.
    tied, place = (
        (rest == lowest) & jnp.isinf(scores[..., :-1]),
        lax.broadcasted_iota(int, rest.shape, rest.ndim - 1),
    )
    after = jnp.sum(kept, axis=-1, keepdims=True) - 1 - place
    ahead = jnp.where(tied, jnp.log(after.astype(rest.dtype)), ahead)
    losses = softplus(jnp.where(kept[..., 1:], ahead, -jnp.inf))
    return jnp.sum(losses, axis=-1) + _nothing(scores)


def _nothing(scores: Array) -> Array:
    """0, but NaN for a list that is NaN: also one in which no two items are compared must show it."""
    return 0 * jnp.sign(scores[..., 0])


def _leads(scores: Array, labels: Array, kept: Array) -> tuple[Array, Array]:
    """s_i − s_j for each two items of which i has the higher label, ∞ for others; and which those are.

    A lead of ∞ costs nothing in value or derivative.
    """
    better = labels[..., :, None] > labels[..., None, :]
    pairs = better & kept[..., :, None] & kept[..., None, :]
    return jnp.where(pairs, _apart(scores), jnp.inf), pairs


def _apart(scores: Array) -> Array:
    """s_i − s_j of every two items; of infinite scores that are equal 0, which is a tie."""
    first, second = scores[..., :, None], scores[..., None, :]
    return jnp.where((first == second) & jnp.isinf(first), 0, first - second)


@loss(
    "ranking",
    domain=_LISTS,
    claims=_CONVEX,
    source="Burges et al. (2005), Learning to Rank using Gradient Descent (RankNet), sec. 3.",
    counts=lists_with_items,
    peers=("rax.pairwise_logistic_loss",),
)
def pairwise_logistic(
    scores: Float[ArrayLike, "*rows items"],
    labels: Real[ArrayLike, "*rows items"],
    *,
    where: Bool[ArrayLike, "*rows items"] | None = None,
) -> Float[Array, "*rows"]:
    """Logistic loss of every lead that an item should have over one of lower label (RankNet).

        ℓ = Σ_{y_i > y_j} log(1 + e^{s_j − s_i})
        ∂ℓ/∂s_k = Σ_{y_i > y_k} σ(s_k − s_i) − Σ_{y_k > y_j} σ(s_j − s_k)

    It is the sum over the pairs of a list, as Rax with `reduce_fn=jnp.sum`.

    Args:
        scores: s, floating point, `[*rows, items]`, one list a row.
        labels: y, of the same shape; only their order counts.
        where: as for `softmax`.

    Returns:
        The loss of each list, in nats; 0 for one without a pair.

    Raises:
        TypeError: scores that are not floating point; a mask that is not bool.
        ValueError: shapes that do not fit.

    """
    scores, *others = listed("ranking.pairwise_logistic", where, REAL, scores=scores, labels=labels)
    leads, _ = _leads(scores, *others)
    return jnp.sum(softplus(-leads), axis=(-2, -1)) + _nothing(scores)


@loss(
    "ranking",
    domain=_LISTS,
    options={"margin": NON_NEGATIVE},
    claims=_CONVEX,
    source="Joachims (2002), Optimizing Search Engines using Clickthrough Data, sec. 4.2.",
    counts=lists_with_items,
    peers=("rax.pairwise_hinge_loss",),
)
def pairwise_hinge(
    scores: Float[ArrayLike, "*rows items"],
    labels: Real[ArrayLike, "*rows items"],
    *,
    margin: float | Array = 1.0,
    where: Bool[ArrayLike, "*rows items"] | None = None,
) -> Float[Array, "*rows"]:
    """Hinge loss of every lead that an item should have over one of lower label.

        ℓ = Σ_{y_i > y_j} max(0, m − (s_i − s_j)),    ∂ℓ/∂s_i = −1, ∂ℓ/∂s_j = 1 for each lead below m

    At a lead of exactly m the derivative is taken as 0. It is the sum over the pairs of a list, as Rax with
    `reduce_fn=jnp.sum`.

    Args:
        scores: s, floating point, `[*rows, items]`, one list a row.
        labels: y, of the same shape; only their order counts.
        margin: m ≥ 0, the lead from which a pair costs nothing, in the scores' unit.
        where: as for `softmax`.

    Returns:
        The loss of each list, in the scores' unit; 0 for one without a pair.

    Raises:
        TypeError: scores that are not floating point; a mask that is not bool.
        ValueError: shapes that do not fit; a concrete margin below 0.

    """
    scores, *others = listed("ranking.pairwise_hinge", where, REAL, scores=scores, labels=labels)
    leads, _ = _leads(scores, *others)
    return jnp.sum(relu(margin - leads), axis=(-2, -1)) + _nothing(scores)


@loss(
    "ranking",
    domain=_LISTS,
    claims=_CONVEX,
    source="Rendle et al. (2009), BPR: Bayesian Personalized Ranking from Implicit Feedback, sec. 4.1.",
    counts=lists_with_items,
)
def bpr(
    scores: Float[ArrayLike, "*rows items"],
    labels: Real[ArrayLike, "*rows items"],
    *,
    where: Bool[ArrayLike, "*rows items"] | None = None,
) -> Float[Array, "*rows"]:
    """Logistic loss of the lead of a chosen item over one not chosen, in the mean over both.

        ℓ = mean of −log σ(s_i − s_j) over i chosen, j not,    ∂ℓ/∂s_i = −mean of σ(s_j − s_i) / chosen

    That is the expectation of a triple (user, i, j) drawn as LearnBPR draws it, without its
    regulariser; lists of any length weigh the same.

    Args:
        scores: s, floating point, `[*rows, items]`, the items of one user a row.
        labels: of the same shape, 1 for an item that was chosen, 0 for one that was not.
        where: as for `softmax`.

    Returns:
        The loss of each list, in nats; 0 for one without a pair, NaN for one with another label.

    Raises:
        TypeError: scores that are not floating point; a mask that is not bool.
        ValueError: shapes that do not fit.

    """
    scores, *others = listed("ranking.bpr", where, FLAGS, scores=scores, labels=labels)
    leads, pairs = _leads(scores, *others)
    count = jnp.sum(pairs, axis=(-2, -1), keepdims=True, dtype=leads.dtype)
    return jnp.sum(softplus(-leads) / jnp.maximum(count, 1), axis=(-2, -1)) + _nothing(scores)


@loss(
    "ranking",
    domain=_LISTS,
    options={"temperature": POSITIVE},
    claims=Claims(bounded=0.0, shift_invariant=True),
    source="Qin, Liu & Li (2010), A General Approximation Framework for Direct Optimization of Information "
    "Retrieval Measures, sec. 4; Järvelin & Kekäläinen (2002) (DCG).",
    counts=lists_with_items,
)
def approx_ndcg(
    scores: Float[ArrayLike, "*rows items"],
    labels: Real[ArrayLike, "*rows items"],
    *,
    temperature: float | Array = 1.0,
    where: Bool[ArrayLike, "*rows items"] | None = None,
) -> Float[Array, "*rows"]:
    """Minus the normalised discounted cumulative gain of smoothed ranks.

        ℓ = −Σ g_i / log₂(1 + r_i) / ideal,    r_i = 1 + Σ_{j≠i} σ((s_j − s_i) / τ),    g = 2^y − 1
        ∂ℓ/∂r_i = g_i ln 2 / ((1 + r_i) log²(1 + r_i)) / ideal

    where ideal is the sum at the ranks that the labels give. A small τ is close to the metric, with
    little gradient.

    Args:
        scores: s, floating point, `[*rows, items]`, one list a row.
        labels: y ≥ 0, of the same shape, the relevance of each item.
        temperature: τ > 0, the lead that is told from a tie, in the scores' unit.
        where: as for `softmax`.

    Returns:
        The loss of each list, in [−1, 0]; 0 for one without a relevant item, NaN for one with a
        negative label.

    Raises:
        TypeError: scores that are not floating point; a mask that is not bool.
        ValueError: shapes that do not fit; a concrete temperature that is not positive.

    """
    scores, labels, kept = listed("ranking.approx_ndcg", where, NON_NEGATIVE, scores=scores, labels=labels)
    leads = _apart(scores)
    others = kept[..., None, :] & ~jnp.broadcast_to(jnp.eye(scores.shape[-1], dtype=bool), leads.shape)
    ahead = sigmoid(-jnp.where(others, leads, 0) / temperature)
    ranks = 1 + jnp.sum(jnp.where(others, ahead, 0), axis=-1) + _nothing(scores)[..., None]
    # As shares of the largest 2^y: a grade of 128 is beyond float32.
    top = lax.stop_gradient(jnp.max(labels, axis=-1, keepdims=True))
    gains = jnp.exp((labels - top) * math.log(2)) * -jnp.expm1(-labels * math.log(2))
    places = 1 + lax.broadcasted_iota(gains.dtype, gains.shape, gains.ndim - 1)
    # Items that are not there come last: among items without a gain too, where it has a derivative.
    best = jnp.sort(jnp.where(kept, gains, -1), axis=-1, descending=True)
    ideal = jnp.sum(jnp.where(best < 0, 0, best) / jnp.log1p(places), axis=-1)
    return divide(-jnp.sum(gains / jnp.log1p(ranks), axis=-1), ideal)


@loss(
    "ranking",
    domain=_LISTS,
    options={"margin": NON_NEGATIVE},
    claims=_CONVEX,
    source="Rust & Hocking (2023), A Log-linear Gradient Descent Algorithm for Unbalanced Binary "
    "Classification using the All Pairs Squared Hinge Loss, eq. 2; Yan et al. (2003) for the surrogate.",
    counts=lists_with_items,
)
def auc_squared_hinge(
    scores: Float[ArrayLike, "*rows items"],
    labels: Real[ArrayLike, "*rows items"],
    *,
    margin: float | Array = 1.0,
    where: Bool[ArrayLike, "*rows items"] | None = None,
) -> Float[Array, "*rows"]:
    """Squared hinge of the lead of a positive over a negative, in the mean over both: 1 − AUC, convex.

        ℓ = mean of max(0, m − (s_i − s_j))² over i positive, j negative
        ∂ℓ/∂s_i = −2 Σ_j max(0, m − (s_i − s_j)) / pairs,    ∂ℓ/∂s_j = 2 Σ_i max(0, m − (s_i − s_j)) / pairs

    Its cost is that of a sort: no array of pairs is formed. At m = 1 it bounds the share of pairs in the
    wrong order, which is 1 − AUC, from above.

    Args:
        scores: s, floating point, `[*rows, items]`, one list (or batch) a row.
        labels: of the same shape, 1 for a positive, 0 for a negative.
        margin: m ≥ 0, the lead from which a pair costs nothing, in the scores' unit.
        where: as for `softmax`.

    Returns:
        The loss of each list, in the scores' squared unit; 0 for one without a pair, NaN for one with
        another label.

    Raises:
        TypeError: scores that are not floating point; a mask that is not bool.
        ValueError: shapes that do not fit; a concrete margin below 0.

    """
    scores, labels, kept = listed("ranking.auc_squared_hinge", where, FLAGS, scores=scores, labels=labels)
    positive, negative = kept & (labels == 1), kept & (labels == 0)
    shift = jnp.where(negative, jnp.asarray(margin, scores.dtype)[..., None], 0)
    positives, negatives = (jnp.sum(x, axis=-1, dtype=scores.dtype) for x in (positive, negative))
    leads = squared_leads(scores, jnp.broadcast_to(shift, scores.shape), negative, positive)
    # A margin out of range spoils every list.
    return leads / jnp.maximum(positives * negatives, 1) + 0 * margin
