"""Losses of the label's probability under the softmax of K logits."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float

from jaxloss import numerics
from jaxloss._contracts import (
    AT_LEAST_MINUS_ONE,
    CLASSES,
    HALF_OPEN_UNIT,
    LOG_DISTRIBUTION,
    NON_NEGATIVE,
    REAL,
    Labels,
    classes_there,
    classified,
    counted,
    each_class,
    has_ids,
    is_off,
    shares_of,
    unless,
)
from jaxloss._loss import Claims, loss


@loss(
    "categorical",
    domain={"logits": REAL, "labels": CLASSES},
    options={
        "label_smoothing": HALF_OPEN_UNIT,
        "class_weights": NON_NEGATIVE,
        "z_loss": NON_NEGATIVE,
    },
    claims=Claims(
        non_negative=True,
        symmetric=True,
        convex=True,
        lipschitz=2.0**0.5,
        smooth=0.5,
        shift_invariant=True,
        elicits="mean",
    ),
    source="Bridle (1990), Probabilistic Interpretation of Feedforward Classification Network Outputs; "
    "Szegedy et al. (2016), Rethinking the Inception Architecture, sec. 7 (smoothing); "
    "Chowdhery et al. (2022), PaLM, sec. 5 (z_loss).",
    peers=(
        "optax.losses.softmax_cross_entropy",
        "jaxopt.loss.multiclass_logistic_loss",
        "optax.losses.softmax_cross_entropy_with_integer_labels",
        "optax.losses.safe_softmax_cross_entropy",
        "torch.nn.CrossEntropyLoss",
        "keras.losses.CategoricalCrossentropy",
        "keras.losses.SparseCategoricalCrossentropy",
        "sklearn._loss.HalfMultinomialLoss",
    ),
    counts=counted,
)
def cross_entropy(
    logits: Float[ArrayLike, "*rows classes"],
    labels: Labels,
    *,
    label_smoothing: float | Array = 0.0,
    class_weights: Float[ArrayLike, " classes"] | None = None,
    z_loss: float | Array = 0.0,
    ignore_index: int | Array | None = None,
    class_where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*rows"]:
    """Negative log-likelihood of the label under the softmax of the logits.

        ℓ = −Σ w t log p + c Z²,    ∂ℓ/∂z = p Σ w t − w t + 2 c Z p

    with p = softmax z, Z = log Σ e^z, and t the label's distribution, smoothed to (1 − α) t + α/K. No
    digit is lost where the logits share an offset of 1e4, where the label leads by 17 (4e-8, not 0), or where
    classes are excluded by a logit of −∞.

    A torch weighted *mean* divides by the weights of the labels as well: that is
    `jl.mean(cross_entropy)(logits, labels, weights=class_weights[labels])`, without the option.

    Args:
        logits: floating point, `[*rows, classes]`.
        labels: class ids, integer `[*rows]`, or distributions, floating `[*rows, classes]`.
        label_smoothing: α in [0, 1), spread over the classes that there are.
        class_weights: `[classes]`, ≥ 0, what each class counts.
        z_loss: c ≥ 0, the coefficient that keeps the normaliser near 1.
        ignore_index: a class id whose rows have loss 0, and which a `jl.mean` leaves out.
        class_where: bool, `[classes]` or the logits' shape: the classes that there are.

    Returns:
        The loss of each row, in nats; NaN, with NaN gradient, in a row whose id is out of range or
        whose labels are no distribution; ∞ where the label is a class that is not there.

    Raises:
        TypeError: logits that are not floating point; integer labels of the logits' shape; a mask that is not
            bool.
        ValueError: shapes that do not fit; a concrete option out of range.

    """
    who = "categorical.cross_entropy"
    logits, labels, ignored = classified(
        who, ignore_index, (label_smoothing, class_weights, z_loss), logits=logits, labels=labels
    )
    weights = each_class(who, "class_weights", class_weights, logits)
    present = classes_there(who, class_where, logits)
    if present is not None:
        present |= _unlabelled(logits, labels, ignored)
        logits = jnp.where(present, logits, -jnp.inf)
    smoothing = None if is_off(label_smoothing) else label_smoothing
    losses = numerics.class_surprise(logits, labels, weights, smoothing, present)
    if not is_off(z_loss):
        normaliser = numerics.logsumexp(logits)
        losses = losses + z_loss * normaliser * normaliser  # in this order: 0·∞² would be NaN
    return unless(ignored, losses)


def _unlabelled(logits: Array, labels: Array, ignored: Array | None) -> Array:
    """Rows that end as NaN or as nothing: there no class is left out.

    A class left out is spared the NaN, and one that stands in for an ignored label has an infinite loss.
    """
    missing = jnp.isnan(shares_of(logits, labels))
    return missing if ignored is None else missing | ignored[..., None]


@loss(
    "categorical",
    domain={"log_probabilities": LOG_DISTRIBUTION, "labels": CLASSES},
    options={"class_weights": NON_NEGATIVE},
    claims=Claims(non_negative=True, symmetric=True, convex=True, lipschitz=1.0, smooth=0.0, elicits="mean"),
    source="Bishop (2006), Pattern Recognition and Machine Learning, eq. 4.108; torch's NLLLoss.",
    peers=(
        "torch.nn.NLLLoss",
        "sklearn.metrics.log_loss",
    ),
    counts=counted,
)
def nll(
    log_probabilities: Float[ArrayLike, "*rows classes"],
    labels: Labels,
    *,
    class_weights: Float[ArrayLike, " classes"] | None = None,
    ignore_index: int | Array | None = None,
) -> Float[Array, "*rows"]:
    """Negative log-probability of the label, given the logarithms of all of them.

        ℓ = −Σ w t log p,    ∂ℓ/∂log p = −w t

    With t the label's distribution. A class with t = 0 costs nothing, though its log p is −∞. The
    given numbers are taken at their word: no softmax is applied, and none is checked.

    Args:
        log_probabilities: floating point, `[*rows, classes]`.
        labels: class ids, integer `[*rows]`, or distributions, floating `[*rows, classes]`.
        class_weights: `[classes]`, w ≥ 0, what each class counts.
        ignore_index: a class id whose rows have loss 0, and which a `jl.mean` leaves out.

    Returns:
        The loss of each row, in nats; NaN in a row whose id is out of range.

    Raises:
        TypeError: log-probabilities that are not floating point; integer labels of their shape.
        ValueError: shapes that do not fit; concrete weights that are negative.

    """
    scores, labels, ignored = classified(
        "categorical.nll", ignore_index, (class_weights,), log_probabilities=log_probabilities, labels=labels
    )
    weights = each_class("categorical.nll", "class_weights", class_weights, scores)
    if has_ids(scores, labels):
        own = numerics.pick(scores, labels)
        losses = -own if weights is None else -numerics.multiply(numerics.pick(weights, labels), own)
    else:
        shares = labels if weights is None else weights * labels
        losses = -jnp.sum(numerics.multiply(shares, scores), axis=-1)
    return unless(ignored, losses)


@loss(
    "categorical",
    domain={"logits": REAL, "labels": CLASSES},
    options={"gamma": NON_NEGATIVE, "class_weights": NON_NEGATIVE},
    claims=Claims(
        non_negative=True,
        symmetric=True,
        # Those of binary.focal, in the direction that moves two logits apart.
        lipschitz=1.1289832185682 * 2**0.5,
        smooth=2 * 0.4961913461681,
        shift_invariant=True,
    ),
    source="Lin et al. (2017), Focal Loss for Dense Object Detection, eq. 4, over a softmax.",
    peers=("keras.losses.CategoricalFocalCrossentropy",),
    counts=counted,
)
def focal(
    logits: Float[ArrayLike, "*rows classes"],
    labels: Labels,
    *,
    gamma: float | Array = 2.0,
    class_weights: Float[ArrayLike, " classes"] | None = None,
    ignore_index: int | Array | None = None,
) -> Float[Array, "*rows"]:
    """Cross-entropy that fades as the label's probability nears 1.

        ℓ = −Σ w t (1 − p)^γ log p,
        ∂ℓ/∂z_j = Σ_c w_c t_c (1 − p_c)^γ (γ p_c log p_c / (1 − p_c) − 1) ([c = j] − p_j)

    With p the softmax of the logits and t the label's distribution. γ = 0 is the cross-entropy.

    Args:
        logits: floating point, `[*rows, classes]`.
        labels: class ids, integer `[*rows]`, or distributions, floating `[*rows, classes]`.
        gamma: γ ≥ 0, how fast it fades.
        class_weights: `[classes]`, w ≥ 0, what each class counts.
        ignore_index: a class id whose rows have loss 0, and which a `jl.mean` leaves out.

    Returns:
        The loss of each row, in nats; NaN in a row whose id is out of range.

    Raises:
        TypeError: logits that are not floating point; integer labels of the logits' shape.
        ValueError: shapes that do not fit; a concrete option out of range.

    """
    logits, labels, ignored = classified(
        "categorical.focal", ignore_index, (gamma, class_weights), logits=logits, labels=labels
    )
    weights = each_class("categorical.focal", "class_weights", class_weights, logits)
    if has_ids(logits, labels):
        surprise = numerics.surprise(logits, labels)
        losses = numerics.faded_surprise(surprise, gamma)
        if weights is not None:
            losses = numerics.multiply(numerics.pick(weights, labels), losses)
    else:
        surprise = numerics.surprises(logits)
        shares = labels if weights is None else weights * labels
        losses = jnp.sum(numerics.multiply(shares, numerics.faded_surprise(surprise, gamma)), axis=-1)
    return unless(ignored, losses)


@loss(
    "categorical",
    domain={"logits": REAL, "labels": CLASSES},
    options={"epsilon": AT_LEAST_MINUS_ONE},
    claims=Claims(
        non_negative=True,
        symmetric=True,
        # w(3 − 2w) and w(1 − w)(3 − 4w) at their largest, w = 1 − p, where two logits move apart.
        lipschitz=1.125 * 2**0.5,
        smooth=2 * 0.379037808246,
        shift_invariant=True,
    ),
    source="Leng et al. (2022), PolyLoss: A Polynomial Expansion Perspective, eq. 5 (Poly-1).",
    counts=counted,
    peers=("optax.losses.poly_loss_cross_entropy",),
)
def poly1(
    logits: Float[ArrayLike, "*rows classes"],
    labels: Labels,
    *,
    epsilon: float | Array = 2.0,
    ignore_index: int | Array | None = None,
) -> Float[Array, "*rows"]:
    """Cross-entropy with another coefficient of the first power of 1 − p.

        ℓ = Σ t (−log p + ε (1 − p)),    ∂ℓ/∂z_j = Σ_c t_c (1 + ε p_c) (p_j − [c = j])

    With p the softmax of the logits and t the label's distribution. −log p = Σ (1 − p)ʲ/j: the loss
    gives the term j = 1 the weight 1 + ε. ε = 0 is the cross-entropy, ε = −1 leaves the term out.

    Args:
        logits: floating point, `[*rows, classes]`.
        labels: class ids, integer `[*rows]`, or distributions, floating `[*rows, classes]`.
        epsilon: ε ≥ −1; 2 served the authors for images, −1 for detection.
        ignore_index: a class id whose rows have loss 0, and which a `jl.mean` leaves out.

    Returns:
        The loss of each row, in nats; NaN in a row whose id is out of range.

    Raises:
        TypeError: logits that are not floating point; integer labels of the logits' shape.
        ValueError: shapes that do not fit; a concrete epsilon below −1.

    """
    logits, labels, ignored = classified(
        "categorical.poly1", ignore_index, (epsilon,), logits=logits, labels=labels
    )
    losses = numerics.expected_cost(logits, labels, lambda s: numerics.poly_surprise(s, epsilon))
    return unless(ignored, losses)
