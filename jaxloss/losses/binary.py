"""Losses of a score against one of two labels: {0, 1} (or a probability), or −1 and +1 for a margin."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Integer, Real

from jaxloss import numerics
from jaxloss._contracts import (
    HALF_OPEN_UNIT,
    NON_NEGATIVE,
    REAL,
    SIGNS,
    UNIT,
    is_off,
    margins,
    on_trailing_axes,
    paired,
)
from jaxloss._loss import Claims, loss

_LOGITS = {"logits": REAL, "labels": UNIT}
_MARGIN = {"scores": REAL, "labels": SIGNS}
# Of (σ(z) − y)², with s = σ(z): 2s²(1 − s) at s = ⅔, and 2s²(1 − s)(2 − 3s) at (15 − √33)/24.
_BRIER_SLOPE, _BRIER_CURVATURE = 8 / 27, 0.15405857012136


@loss(
    "binary",
    domain=_LOGITS,
    options={"pos_weight": NON_NEGATIVE, "label_smoothing": HALF_OPEN_UNIT},
    claims=Claims(
        non_negative=True,
        symmetric=True,
        convex=True,
        lipschitz=1.0,
        smooth=0.25,
        elicits="mean",
    ),
    source="Good (1952), Rational Decisions; torch's BCEWithLogitsLoss for pos_weight.",
    judges=("labels",),
    peers=(
        "optax.losses.sigmoid_binary_cross_entropy",
        "jaxopt.loss.binary_logistic_loss",
        "torch.nn.BCEWithLogitsLoss",
        "keras.losses.BinaryCrossentropy",
        "sklearn._loss.HalfBinomialLoss",
    ),
)
def cross_entropy(
    logits: Float[ArrayLike, "*rows"],
    labels: Real[ArrayLike, "*rows"] | Bool[ArrayLike, "*rows"],
    *,
    pos_weight: float | Array | None = None,
    label_smoothing: float | Array = 0.0,
) -> Float[Array, "*rows"]:
    """Negative log-likelihood of a Bernoulli label under its log-odds.

        ℓ = w y log(1 + e^−z) + (1 − y) log(1 + e^z),    ∂ℓ/∂z = (1 − y) σ(z) − w y σ(−z)

    No digit is lost where the label is nearly certain: at z = 17 the loss is 4e-8, not 0.

    Args:
        logits: floating point, the log-odds z of label 1.
        labels: y in [0, 1], of the same shape: 0, 1, or the probability of 1.
        pos_weight: w ≥ 0, the weight of label 1; a scalar, or one against the trailing axes: one a class of
            `[*rows, classes]`, one a row.
        label_smoothing: α in [0, 1); y becomes (1 − α) y + α/2.

    Returns:
        The loss of each row, in nats; NaN where a label lies outside [0, 1].

    Raises:
        TypeError: logits that are not floating point.
        ValueError: two shapes; a concrete option out of range.

    """
    who = "binary.cross_entropy"
    logits, labels = paired(who, logits=logits, labels=labels)
    if is_off(label_smoothing) and pos_weight is None:
        return numerics.bernoulli_nll_or_nan(logits, labels)
    # Each smoothed from its own side: 1 − successes has lost the digits of a small α.
    successes = labels - label_smoothing * (labels - 0.5)
    failures = (1 - labels) - label_smoothing * (0.5 - labels)
    weight = 1.0 if pos_weight is None else on_trailing_axes(who, "pos_weight", pos_weight, logits)
    losses = weight * successes * numerics.softplus(-logits) + failures * numerics.softplus(logits)
    return numerics.spoil(losses, UNIT.margin(labels))


@loss(
    "binary",
    domain={"probabilities": UNIT, "labels": UNIT},
    claims=Claims(non_negative=True, symmetric=True, convex=True, elicits="mean"),
    source="Good (1952), Rational Decisions.",
    peers=(
        "torch.nn.BCELoss",
        "keras.losses.BinaryCrossentropy",
        "sklearn.metrics.log_loss",
    ),
)
def probability_cross_entropy(
    probabilities: Float[ArrayLike, "*rows"],
    labels: Real[ArrayLike, "*rows"] | Bool[ArrayLike, "*rows"],
) -> Float[Array, "*rows"]:
    """Negative log-likelihood of a Bernoulli label under its probability.

        ℓ = −y log p − (1 − y) log(1 − p),    ∂ℓ/∂p = −y/p + (1 − y)/(1 − p)

    With 0·log 0 = 0, and a zero derivative for it. A label that p rules out costs ∞, where torch says
    100. Prefer `cross_entropy` on logits: 1 − p has lost its digits before it gets here.

    Args:
        probabilities: floating point, p in [0, 1].
        labels: y in [0, 1], of the same shape.

    Returns:
        The loss of each row, in nats; NaN where an argument lies outside [0, 1].

    Raises:
        TypeError: probabilities that are not floating point.
        ValueError: two shapes.

    """
    probabilities, labels = paired(
        "binary.probability_cross_entropy", probabilities=probabilities, labels=labels
    )
    return -numerics.xlogy(labels, probabilities) - numerics.xlog1py(1 - labels, -probabilities)


@loss(
    "binary",
    domain=_LOGITS,
    options={"gamma": NON_NEGATIVE, "alpha": UNIT},
    claims=Claims(
        non_negative=True,
        symmetric=True,
        # The largest slope and curvature of σ(z)² log(1 + e^z), at z = 2.790 and 0.603.
        lipschitz=1.1289832185682,
        smooth=0.4961913461681,
    ),
    source="Lin et al. (2017), Focal Loss for Dense Object Detection, eq. 4 and 5.",
    peers=(
        "optax.losses.sigmoid_focal_loss",
        "keras.losses.BinaryFocalCrossentropy",
        "torchvision.ops.sigmoid_focal_loss",
    ),
)
def focal(
    logits: Float[ArrayLike, "*rows"],
    labels: Real[ArrayLike, "*rows"] | Bool[ArrayLike, "*rows"],
    *,
    gamma: float | Array = 2.0,
    alpha: float | Array | None = None,
) -> Float[Array, "*rows"]:
    """Cross-entropy that fades as the prediction comes to be right.

        ℓ = a q^γ h,    ∂ℓ/∂z = a q^γ (h′ + γ h σ(z) σ(−z) (1 − 2y) / q)

    with h the cross-entropy, q = (1 − y) σ(z) + y σ(−z) the probability of the other label, and
    a = α y + (1 − α)(1 − y), or 1 without alpha. γ = 0 is the cross-entropy.

    Args:
        logits: floating point, the log-odds z of label 1.
        labels: y in [0, 1], of the same shape.
        gamma: γ ≥ 0, how fast it fades.
        alpha: in [0, 1], the weight of label 1 against that of label 0.

    Returns:
        The loss of each row, in nats; NaN where a label lies outside [0, 1].

    Raises:
        TypeError: logits that are not floating point.
        ValueError: two shapes; a concrete option out of range.

    """
    logits, labels = paired("binary.focal", logits=logits, labels=labels)
    entropy = numerics.bernoulli_nll(logits, labels)
    faded = numerics.bernoulli_fading(logits, labels, gamma) * entropy
    return faded if alpha is None else faded * (alpha * labels + (1 - alpha) * (1 - labels))


@loss(
    "binary",
    domain=_LOGITS,
    options={"epsilon": REAL},
    # With s = σ(z): s(3 − 2s) and s(1 − s)(3 − 4s), the largest at s = ¾ and (7 − √13)/12.
    claims=Claims(non_negative=True, symmetric=True, lipschitz=1.125, smooth=0.37903780824552),
    source="Leng et al. (2022), PolyLoss, eq. 6 (Poly-1).",
)
def poly1(
    logits: Float[ArrayLike, "*rows"],
    labels: Real[ArrayLike, "*rows"] | Bool[ArrayLike, "*rows"],
    *,
    epsilon: float | Array = 2.0,
) -> Float[Array, "*rows"]:
    """Cross-entropy whose first term in the probability of being wrong has another weight.

        ℓ = h + ε q,    ∂ℓ/∂z = (1 − y) σ(z) − y σ(−z) + ε (1 − 2y) σ(z) σ(−z)

    with h the cross-entropy and q = (1 − y) σ(z) + y σ(−z) the probability of the other label. ε = 0 is
    the cross-entropy; at ε = −1, its first term gone, no digit is lost either. Below −1 the loss is
    negative where the prediction is nearly right.

    Args and errors as for `focal`; epsilon is any real number ε.
    """
    logits, labels = paired("binary.poly1", logits=logits, labels=labels)
    right, wrong = numerics.sigmoid(-logits), numerics.sigmoid(logits)
    beyond_first = (1 - labels) * numerics.softplus_less_sigmoid(logits)
    beyond_first += labels * numerics.softplus_less_sigmoid(-logits)
    return beyond_first + (1 + epsilon) * ((1 - labels) * wrong + labels * right)


@loss(
    "binary",
    domain=_LOGITS,
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        lipschitz=_BRIER_SLOPE,
        smooth=_BRIER_CURVATURE,
        bounded=1.0,
        elicits="mean",
    ),
    source="Brier (1950), Verification of Forecasts Expressed in Terms of Probability, eq. 2 (half of it).",
    peers=("sklearn.metrics.brier_score_loss",),
)
def brier(
    logits: Float[ArrayLike, "*rows"], labels: Real[ArrayLike, "*rows"] | Bool[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """Squared error of the probability of label 1.

        ℓ = (σ(z) − y)²,    ∂ℓ/∂z = 2 (σ(z) − y) σ(z) σ(−z)

    Brier sums over both labels, which is twice this. Of probabilities it is `regression.squared_error`.

    Args and errors as for `probability_cross_entropy`, on logits: floating point, the log-odds z.
    """
    logits, labels = paired("binary.brier", logits=logits, labels=labels)
    # σ(z) − y would be zero from z = 17 on in float32.
    error = (1 - labels) * numerics.sigmoid(logits) - labels * numerics.sigmoid(-logits)
    return error * error


@loss(
    "binary",
    domain=_LOGITS,
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        convex=True,
        lipschitz=1.0,
        smooth=0.5,
        elicits="mean",
    ),
    source="Blondel, Martins & Niculae (2020), Learning with Fenchel-Young Losses, JMLR 21(35), sec. 4.4.",
    peers=(
        "optax.losses.sparsemax_loss",
        "jaxopt.loss.binary_sparsemax_loss",
    ),
)
def sparsemax(
    logits: Float[ArrayLike, "*rows"], labels: Real[ArrayLike, "*rows"] | Bool[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """Fenchel-Young loss of a probability that is 0 or 1 from a finite logit on.

        ℓ = c (2r − c),    ∂ℓ/∂z = c = p − y

    with r = ½(z + 1) − y, p = clip(½(z + 1), 0, 1) the probability of label 1, and c = clip(r, −y, 1 − y)
    its error: c² where −1 ≤ z ≤ 1, linear beyond, 0 where the label is certain and right.

    Args and errors as for `focal`.
    """
    logits, labels = paired("binary.sparsemax", logits=logits, labels=labels)
    residual = 0.5 * (logits - (2 * labels - 1))  # nothing is rounded where y is 0 or 1
    error = jnp.clip(residual, -labels, 1 - labels)
    return error * (2 * residual - error)


@loss(
    "margin",
    domain=_MARGIN,
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        convex=True,
        lipschitz=1.0,
        smooth=0.25,
        elicits="mean",
    ),
    source="Friedman, Hastie & Tibshirani (2000), Additive Logistic Regression, sec. 3.",
    peers=("torch.nn.SoftMarginLoss",),
)
def logistic(
    scores: Float[ArrayLike, "*rows"], labels: Integer[ArrayLike, "*rows"] | Float[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """Cross-entropy of labels −1 and +1.

        ℓ = log(1 + e^−yz),    ∂ℓ/∂z = −y σ(−yz)

    Args:
        scores: floating point, the log-odds z of label +1.
        labels: y, −1 or +1, of the same shape.

    Returns:
        The loss of each row, in nats; NaN where a label is neither −1 nor +1.

    Raises:
        TypeError: scores that are not floating point; labels that are bool.
        ValueError: two shapes.

    """
    scores, labels = margins("binary.logistic", scores=scores, labels=labels)
    return numerics.softplus(-labels * scores)


@loss(
    "margin",
    domain=_MARGIN,
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        convex=True,
        lipschitz=1.0,
        elicits="mode",
    ),
    source="Cortes & Vapnik (1995), Support-Vector Networks, sec. 3.",
    peers=(
        "optax.losses.hinge_loss",
        "keras.losses.Hinge",
        "jaxopt.loss.binary_hinge_loss",
        "sklearn.metrics.hinge_loss",
    ),
)
def hinge(
    scores: Float[ArrayLike, "*rows"], labels: Integer[ArrayLike, "*rows"] | Float[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """How far a score falls short of the margin 1 on its label's side.

        ℓ = max(1 − yz, 0),    ∂ℓ/∂z = −y where yz < 1, else 0

    At yz = 1 the derivative is taken as 0.

    Args and errors as for `logistic`; the loss has the scores' unit.
    """
    scores, labels = margins("binary.hinge", scores=scores, labels=labels)
    return numerics.relu(1 - labels * scores)


@loss(
    "margin",
    domain=_MARGIN,
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        convex=True,
        smooth=2.0,
        elicits="mean",
    ),
    source="Cortes & Vapnik (1995), Support-Vector Networks, sec. 3 (σ = 2); Keras's SquaredHinge.",
    peers=("keras.losses.SquaredHinge",),
)
def squared_hinge(
    scores: Float[ArrayLike, "*rows"], labels: Integer[ArrayLike, "*rows"] | Float[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """The square of the hinge loss, smooth where that has its corner.

        ℓ = max(1 − yz, 0)²,    ∂ℓ/∂z = −2y max(1 − yz, 0)

    Its best constant score is the mean label.

    Args and errors as for `logistic`.
    """
    scores, labels = margins("binary.squared_hinge", scores=scores, labels=labels)
    shortfall = numerics.relu(1 - labels * scores)
    return shortfall * shortfall


@loss(
    "margin",
    domain=_MARGIN,
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        convex=True,
        lipschitz=4.0,
        smooth=2.0,
        elicits="mean",
    ),
    source="Zhang (2004), Solving Large Scale Linear Prediction Problems Using SGD Algorithms, sec. 2.",
    peers=("sklearn.linear_model.SGDClassifier",),
)
def modified_huber(
    scores: Float[ArrayLike, "*rows"], labels: Integer[ArrayLike, "*rows"] | Float[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """The squared hinge loss, linear for labels on the wrong side by more than the margin.

        ℓ = max(1 − yz, 0)² where yz ≥ −1, else −4yz,    ∂ℓ/∂z = −2y clip(1 − yz, 0, 2)

    Its best constant score is the mean label.

    Args and errors as for `logistic`.
    """
    scores, labels = margins("binary.modified_huber", scores=scores, labels=labels)
    return 2 * numerics.clipped_square(numerics.relu(1 - labels * scores), 2.0)


@loss(
    "margin",
    domain=_MARGIN,
    claims=Claims(non_negative=True, zero_at_target=True, symmetric=True, convex=True, elicits="mean"),
    source="Friedman, Hastie & Tibshirani (2000), Additive Logistic Regression, eq. 11.",
    peers=("sklearn._loss.loss.ExponentialLoss",),
)
def exponential(
    scores: Float[ArrayLike, "*rows"], labels: Integer[ArrayLike, "*rows"] | Float[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """The loss that AdaBoost descends.

        ℓ = e^−yz,    ∂ℓ/∂z = −y e^−yz

    Its best constant score is half the log-odds of label +1.

    Args and errors as for `logistic`; the loss has no unit.
    """
    scores, labels = margins("binary.exponential", scores=scores, labels=labels)
    return jnp.exp(-labels * scores)


@loss(
    "margin",
    domain=_MARGIN,
    claims=Claims(non_negative=True, zero_at_target=True, symmetric=True, convex=True, lipschitz=1.0),
    source="Rosenblatt (1958), The Perceptron: A Probabilistic Model, Psychological Review 65(6).",
    peers=("optax.losses.perceptron_loss", "jaxopt.loss.binary_perceptron_loss"),
)
def perceptron(
    scores: Float[ArrayLike, "*rows"], labels: Integer[ArrayLike, "*rows"] | Float[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """How far a score lies on the wrong side: the hinge loss with margin 0.

        ℓ = max(−yz, 0),    ∂ℓ/∂z = −y where yz < 0, else 0

    At z = 0 the derivative is taken as 0, where the loss is 0 as well: a model that starts there stays.

    Args and errors as for `logistic`; the loss has the scores' unit.
    """
    scores, labels = margins("binary.perceptron", scores=scores, labels=labels)
    return numerics.relu(-labels * scores)


@loss(
    "margin",
    domain=_MARGIN,
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        lipschitz=2 * _BRIER_SLOPE,
        smooth=4 * _BRIER_CURVATURE,
        bounded=1.0,
        elicits="mean",
    ),
    source="Masnadi-Shirazi & Vasconcelos (2008), On the Design of Loss Functions for Classification.",
)
def savage(
    scores: Float[ArrayLike, "*rows"], labels: Integer[ArrayLike, "*rows"] | Float[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """Brier's loss of a score that is half the log-odds: bounded, so that an outlier pulls at nothing.

        ℓ = 1 / (1 + e^2yz)²,    ∂ℓ/∂z = −4y σ(2yz) / (1 + e^2yz)²

    Its best constant score is half the log-odds of label +1. Where others write e^yz, pass half the score.

    Args and errors as for `logistic`; the loss has no unit.
    """
    scores, labels = margins("binary.savage", scores=scores, labels=labels)
    wrong = numerics.sigmoid(-2 * labels * scores)
    return wrong * wrong
