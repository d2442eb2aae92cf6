"""Softmax losses that forgive wrong labels: a label hardly believed pulls less than in the cross-entropy."""

import math

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxloss import numerics
from jaxloss._contracts import (
    ABOVE_ZERO_TO_ONE,
    AT_LEAST_ONE,
    CLASSES,
    NON_NEGATIVE,
    NON_POSITIVE,
    REAL,
    UNIT,
    Labels,
    classified,
    counted,
    has_ids,
    unless,
)
from jaxloss._loss import Claims, loss

_LOG_ZERO = math.log(1e-4)
_LOGITS = {"logits": REAL, "labels": CLASSES}


@loss(
    "categorical",
    domain=_LOGITS,
    options={"q": ABOVE_ZERO_TO_ONE},
    claims=Claims(
        non_negative=True,
        symmetric=True,
        # (1 − p) √p at p = ⅓ and √p (1 − p) (3p − 1) / 2 at its largest, where two logits move apart.
        lipschitz=2 / 27**0.5 * 2**0.5,
        smooth=2 * 0.1380900987,
        bounded=2.0,
        shift_invariant=True,
    ),
    source="Zhang & Sabuncu (2018), Generalized Cross Entropy Loss for Training Deep Neural Networks with "
    "Noisy Labels, eq. 6.",
    counts=counted,
    peers=("keras.losses.CategoricalGeneralizedCrossEntropy",),
)
def generalized_cross_entropy(
    logits: Float[ArrayLike, "*rows classes"],
    labels: Labels,
    *,
    q: float | Array = 0.5,
    ignore_index: int | Array | None = None,
) -> Float[Array, "*rows"]:
    """Between the cross-entropy (q → 0) and the absolute error (q = 1), and bounded by 1/q.

        ℓ = Σ t (1 − p^q) / q,    ∂ℓ/∂z_j = Σ_c t_c p_c^q (p_j − [c = j])

    With p the softmax of the logits and t the label's distribution. A label of probability p pulls p^q
    times as hard as it pulls the cross-entropy: a wrong one, once disbelieved, is let go.

    Args:
        logits: floating point, `[*rows, classes]`.
        labels: class ids, integer `[*rows]`, or distributions, floating `[*rows, classes]`.
        q: in (0, 1], how forgiving it is; the authors train with 0.7.
        ignore_index: a class id whose rows have loss 0, and which a `jl.mean` leaves out.

    Returns:
        The loss of each row, in [0, 1/q]; NaN in a row whose id is out of range.

    Raises:
        TypeError: logits that are not floating point; integer labels of the logits' shape.
        ValueError: shapes that do not fit; a concrete q outside (0, 1].

    """
    logits, labels, verdict = classified(
        "categorical.generalized_cross_entropy", ignore_index, (q,), logits=logits, labels=labels
    )
    return unless(verdict, numerics.expected_cost(logits, labels, lambda s: numerics.saturated(s, q)))


@loss(
    "categorical",
    domain=_LOGITS,
    options={"alpha": NON_NEGATIVE, "beta": NON_NEGATIVE, "log_zero": NON_POSITIVE},
    claims=Claims(
        non_negative=True,
        symmetric=True,
        # w(α + βA(1 − w)) and w(1 − w)(α + βA(1 − 2w)) at their largest, w = 1 − p, A = log 10⁴.
        lipschitz=2.352856527046 * 2**0.5,
        smooth=2 * 0.902984101901,
        shift_invariant=True,
    ),
    source="Wang et al. (2019), Symmetric Cross Entropy for Robust Learning with Noisy Labels, eq. 7.",
    counts=counted,
)
def symmetric_cross_entropy(
    logits: Float[ArrayLike, "*rows classes"],
    labels: Labels,
    *,
    alpha: float | Array = 0.1,
    beta: float | Array = 1.0,
    log_zero: float | Array = _LOG_ZERO,
    ignore_index: int | Array | None = None,
) -> Float[Array, "*rows"]:
    """Cross-entropy plus its reverse, in which prediction and label change places.

        ℓ = −α Σ t log p − β Σ p log t,    ∂ℓ/∂z = α (p Σ t − t) + β p (Σ p log t − log t)

    With p the softmax of the logits, t the label's distribution, and log t never below `log_zero`: for a
    class id the reverse is |log_zero| (1 − p), bounded, and the same for every wrong class.

    Args:
        logits: floating point, `[*rows, classes]`.
        labels: class ids, integer `[*rows]`, or distributions, floating `[*rows, classes]`.
        alpha: ≥ 0, what the cross-entropy counts.
        beta: ≥ 0, what the reverse counts.
        log_zero: ≤ 0, what the logarithm of zero is taken for; log 10⁻⁴ in the authors' code.
        ignore_index: a class id whose rows have loss 0, and which a `jl.mean` leaves out.

    Returns:
        The loss of each row, in nats; NaN in a row whose id is out of range.

    Raises:
        TypeError: logits that are not floating point; integer labels of the logits' shape.
        ValueError: shapes that do not fit; a concrete option out of range.

    """
    who = "categorical.symmetric_cross_entropy"
    logits, labels, verdict = classified(
        who, ignore_index, (alpha, beta, log_zero), logits=logits, labels=labels
    )
    forward = numerics.expected_cost(logits, labels, lambda s: s)
    if has_ids(logits, labels):
        reverse = log_zero * jnp.expm1(-numerics.surprise(logits, labels))
    else:
        shares = jnp.exp(-numerics.surprises(logits))
        reverse = -jnp.sum(shares * _floored_log(labels, log_zero), axis=-1)
    return unless(verdict, numerics.multiply(alpha, forward) + beta * reverse)


def _floored_log(shares: Array, log_zero: float | Array) -> Array:
    """The logarithm, never below that of zero."""
    return jnp.where(shares == 0, log_zero, jnp.maximum(jnp.log(jnp.where(shares == 0, 1, shares)), log_zero))


@loss(
    "categorical",
    domain=_LOGITS,
    options={"t1": UNIT, "t2": AT_LEAST_ONE},
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        # Between two classes, where the label's probability is 0.266 and where it is 0.590.
        lipschitz=0.681046552796332,
        smooth=0.3659527625807935,
        bounded=5.0,
        shift_invariant=True,
        elicits="mean",
    ),
    source="Amid et al. (2019), Robust Bi-Tempered Logistic Loss Based on Bregman Divergences, eq. 5 and 7.",
    counts=counted,
)
def bi_tempered_logistic(
    logits: Float[ArrayLike, "*rows classes"],
    labels: Labels,
    *,
    t1: float | Array = 0.8,
    t2: float | Array = 1.2,
    ignore_index: int | Array | None = None,
) -> Float[Array, "*rows"]:
    """Cross-entropy with a bound (t₁ < 1) on what a row costs and a heavy tail (t₂ > 1) of its softmax.

        ℓ = Σ y (log_t₁ y − log_t₁ p) − (y^(2−t₁) − p^(2−t₁)) / (2 − t₁),    p = exp_t₂(z − λ), Σ p = 1
        ∂ℓ/∂z_i = Σ_j (p_j − y_j) p_j^(t₂−t₁) ([i = j] − q_i),    q ∝ p^t₂

    With log_t x = (x^(1−t) − 1)/(1 − t) and exp_t its inverse, log and exp at t = 1: there it is the
    cross-entropy less the label's entropy. A row costs 1/(1 − t₁) at most; an outlier's pull dies away.

    Args:
        logits: z, floating point, `[*rows, classes]`.
        labels: class ids, integer `[*rows]`, or distributions y, floating `[*rows, classes]`.
        t1: in [0, 1], the temper of the logarithm.
        t2: ≥ 1, the temper of the softmax.
        ignore_index: a class id whose rows have loss 0, and which a `jl.mean` leaves out.

    Returns:
        The loss of each row; NaN in a row whose id is out of range.

    Raises:
        TypeError: logits that are not floating point; integer labels of the logits' shape.
        ValueError: shapes that do not fit; a concrete temper out of range.

    """
    who = "categorical.bi_tempered_logistic"
    logits, labels, verdict = classified(who, ignore_index, (t1, t2), logits=logits, labels=labels)
    shares = numerics.one_hot(labels, logits) if has_ids(logits, labels) else labels
    bound, tail = (
        numerics.broadcast_as(jnp.asarray(t, logits.dtype)[..., None], logits) for t in (1 - t1, t2 - 1)
    )
    surprises = numerics.tempered_surprises(logits, tail)
    return unless(verdict, jnp.sum(numerics.tempered_divergence(surprises, shares, bound), axis=-1))
