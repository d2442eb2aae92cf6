"""Divergences between distributions over the last axis."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Integer, Real

from jaxloss import numerics
from jaxloss._contracts import (
    CLASSES,
    DISTRIBUTION,
    LOG_DISTRIBUTION,
    NON_NEGATIVE,
    OPEN_UNIT,
    POSITIVE,
    REAL,
    UNIT,
    classified,
    distributions,
    has_ids,
    log_distributions,
    on_trailing_axes,
    vectors,
)
from jaxloss._loss import Claims, loss
from jaxloss.numerics import multiply, xlogy


@loss(
    "divergence",
    domain={"predictions": DISTRIBUTION, "targets": DISTRIBUTION},
    claims=Claims(non_negative=True, convex=True, elicits="mean"),
    source="Shannon (1948), A Mathematical Theory of Communication, sec. 6; Good (1952).",
)
def cross_entropy(
    predictions: Float[ArrayLike, "*rows classes"], targets: Float[ArrayLike, "*rows classes"]
) -> Float[Array, "*rows"]:
    """Cross-entropy of two distributions given as probabilities.

        ℓ = −Σ t log p,    ∂ℓ/∂p = −t / p

    With 0·log 0 = 0, and a zero derivative for it; an outcome with t > 0 that p rules out costs ∞. At
    p = t it is the entropy of t. From logits, `categorical.cross_entropy` is the more accurate.

    Args:
        predictions: p, floating point, `[*rows, classes]`: non-negative, each row summing to 1.
        targets: t, of the same shape, likewise.

    Returns:
        The loss of each row, in nats; NaN in a row where either is no distribution.

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes, or no last axis.

    """
    predictions, targets = distributions("divergence.cross_entropy", predictions=predictions, targets=targets)
    return -jnp.sum(xlogy(targets, predictions), axis=-1)


@loss(
    "divergence",
    domain={"log_predictions": LOG_DISTRIBUTION, "targets": DISTRIBUTION},
    claims=Claims(
        non_negative=True, zero_at_target=True, convex=True, lipschitz=1.0, smooth=0.0, elicits="mean"
    ),
    source="Kullback & Leibler (1951), On Information and Sufficiency, eq. 2.4.",
    peers=(
        "optax.losses.kl_divergence",
        "torch.nn.KLDivLoss",
        "keras.losses.KLDivergence",
        "scipy.special.rel_entr",
    ),
)
def kl(
    log_predictions: Float[ArrayLike, "*rows classes"], targets: Float[ArrayLike, "*rows classes"]
) -> Float[Array, "*rows"]:
    """Kullback-Leibler divergence of the targets from predictions given as logarithms.

        ℓ = Σ t (log t − log p),    ∂ℓ/∂log p = −t,    ∂ℓ/∂t = log t + 1 − log p

    With 0·log 0 = 0; an outcome with t > 0 that p rules out costs ∞. The derivative in a target that
    is 0 is −∞: there is no finite one.

    Args:
        log_predictions: log p, floating point, `[*rows, classes]`: exponentials summing to 1.
        targets: t, of the same shape: non-negative, each row summing to 1.

    Returns:
        The loss of each row, in nats; NaN in a row where either is no distribution.

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes, or no last axis.

    """
    log_predictions, targets = distributions(
        "divergence.kl", logarithms=True, log_predictions=log_predictions, targets=targets
    )
    return jnp.sum(xlogy(targets, targets) - multiply(targets, log_predictions), axis=-1)


@loss(
    "divergence",
    domain={"log_predictions": LOG_DISTRIBUTION, "log_targets": LOG_DISTRIBUTION},
    claims=Claims(
        non_negative=True, zero_at_target=True, convex=True, lipschitz=1.0, smooth=0.0, elicits="mean"
    ),
    source="Kullback & Leibler (1951), On Information and Sufficiency, eq. 2.4; torch's log_target.",
    peers=(
        "optax.losses.kl_divergence_with_log_targets",
        "torch.nn.KLDivLoss",
    ),
)
def kl_log_targets(
    log_predictions: Float[ArrayLike, "*rows classes"], log_targets: Float[ArrayLike, "*rows classes"]
) -> Float[Array, "*rows"]:
    """Kullback-Leibler divergence of the targets from predictions, both given as logarithms.

        ℓ = Σ t (log t − log p),    ∂ℓ/∂log p = −t,    ∂ℓ/∂log t = t (log t + 1 − log p)

    An outcome with log t = −∞ costs nothing, and has no derivative; one with t > 0 that p rules out
    costs ∞. No digit is lost between log p and log t, however small p and t are.

    Args:
        log_predictions: log p, floating point, `[*rows, classes]`: exponentials summing to 1.
        log_targets: log t, of the same shape, likewise.

    Returns:
        The loss of each row, in nats; NaN in a row where either is no distribution.

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes, or no last axis.

    """
    log_predictions, log_targets = log_distributions(
        "divergence.kl_log_targets", log_predictions=log_predictions, log_targets=log_targets
    )
    return _relative_entropy(log_targets, log_predictions)


def _relative_entropy(logs: Array, others: Array) -> Array:
    """Σ e^x (x − y): nothing where e^x = 0, whatever x and y are there."""
    shares = jnp.exp(logs)
    return jnp.sum(shares * jnp.where(shares == 0, 0, logs - others), axis=-1)


@loss(
    "divergence",
    domain={"log_predictions": LOG_DISTRIBUTION, "targets": DISTRIBUTION},
    claims=Claims(non_negative=True, zero_at_target=True),
    source="Kullback & Leibler (1951), On Information and Sufficiency, eq. 2.4; "
    "Minka (2005), Divergence Measures and Message Passing, sec. 2.",
    peers=("scipy.special.rel_entr",),
)
def reverse_kl(
    log_predictions: Float[ArrayLike, "*rows classes"], targets: Float[ArrayLike, "*rows classes"]
) -> Float[Array, "*rows"]:
    """Kullback-Leibler divergence of the predictions from the targets: it seeks a mode of them.

        ℓ = Σ p (log p − log t),    ∂ℓ/∂log p = p (log p + 1 − log t),    ∂ℓ/∂t = −p / t

    With 0·log 0 = 0, and a zero derivative for it; an outcome with p > 0 that t rules out costs ∞.

    Args and errors as for `kl`.
    """
    log_predictions, targets = distributions(
        "divergence.reverse_kl", logarithms=True, log_predictions=log_predictions, targets=targets
    )
    # Where p = 0 the derivative of log t would be ∞·0.
    expected = jnp.where(jnp.exp(log_predictions) == 0, 1, targets)
    return _relative_entropy(log_predictions, jnp.log(expected))


@loss(
    "divergence",
    domain={"log_predictions": REAL, "targets": NON_NEGATIVE},
    claims=Claims(non_negative=True, zero_at_target=True, convex=True, elicits="mean"),
    source="Bregman (1967), The relaxation method of finding the common point of convex sets; "
    "Lee & Seung (2001), Algorithms for Non-negative Matrix Factorization, eq. 3.",
    peers=(
        "optax.losses.generalized_kl_divergence",
        "scipy.special.kl_div",
    ),
)
def generalized_kl(
    log_predictions: Float[ArrayLike, "*rows classes"], targets: Real[ArrayLike, "*rows classes"]
) -> Float[Array, "*rows"]:
    """Kullback-Leibler divergence of non-negative numbers that need not sum to 1.

        ℓ = Σ t (log t − log p) − t + p,    ∂ℓ/∂log p = p − t,    ∂ℓ/∂t = log t − log p

    Zero just where p = t, and never below: no term cancels another there. On distributions it is
    `kl`; the derivative in a target that is 0 is −∞.

    Args:
        log_predictions: log p, floating point, `[*rows, classes]`: any real numbers.
        targets: t ≥ 0, of the same shape.

    Returns:
        The loss of each row, in nats; NaN in a row with a negative target.

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes, or no last axis.

    """
    log_predictions, targets = vectors(
        "divergence.generalized_kl", log_predictions=log_predictions, targets=targets
    )
    return jnp.sum(numerics.surplus_entropy(log_predictions, targets), axis=-1)


@loss(
    "divergence",
    domain={"log_predictions": LOG_DISTRIBUTION, "targets": DISTRIBUTION},
    options={"beta": OPEN_UNIT},
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        # The gradient and its change are largest where p is sure of what t rules out: ½ log 2.
        lipschitz=0.34657359027997264,
        smooth=0.34657359027997264,
        bounded=0.6931471805599453,
    ),
    source="Lin (1991), Divergence Measures Based on the Shannon Entropy, eq. 4.1; "
    "Agarwal et al. (2024), On-Policy Distillation of Language Models, eq. 1, for beta.",
    peers=("scipy.spatial.distance.jensenshannon",),
)
def jensen_shannon(
    log_predictions: Float[ArrayLike, "*rows classes"],
    targets: Float[ArrayLike, "*rows classes"],
    *,
    beta: float | Array = 0.5,
) -> Float[Array, "*rows"]:
    """How far targets and predictions are from their mixture.

        ℓ = Σ β t log(t/m) + (1 − β) p log(p/m),    m = β t + (1 − β) p,
        ∂ℓ/∂log p = (1 − β) p log(p/m),    ∂ℓ/∂t = β log(t/m)

    Finite also where one rules out what the other expects; no term cancels another where p ≈ t.
    Divided by β it tends to `kl` as β → 0, divided by 1 − β to `reverse_kl` as β → 1. At β = ½ its
    root is a metric, and is what SciPy's jensenshannon returns.

    Args:
        log_predictions: log p, floating point, `[*rows, classes]`: exponentials summing to 1.
        targets: t, of the same shape: non-negative, each row summing to 1.
        beta: β in (0, 1), the share of the targets in the mixture.

    Returns:
        The loss of each row, in nats; NaN in a row where either is no distribution.

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes, or no last axis; a concrete beta outside (0, 1).

    """
    log_predictions, targets = distributions(
        "divergence.jensen_shannon", logarithms=True, log_predictions=log_predictions, targets=targets
    )
    share = jnp.broadcast_to(jnp.asarray(beta, targets.dtype)[..., None], targets.shape)
    return jnp.sum(numerics.mixture_entropy(log_predictions, targets, share), axis=-1)


@loss(
    "divergence",
    domain={"log_predictions": LOG_DISTRIBUTION, "targets": DISTRIBUTION},
    claims=Claims(non_negative=True, zero_at_target=True, symmetric=True, lipschitz=0.5, bounded=1.0),
    source="Levin & Peres (2017), Markov Chains and Mixing Times, prop. 4.2.",
)
def total_variation(
    log_predictions: Float[ArrayLike, "*rows classes"], targets: Float[ArrayLike, "*rows classes"]
) -> Float[Array, "*rows"]:
    """The largest difference between the probabilities of one event.

        ℓ = ½ Σ |p − t|,    ∂ℓ/∂log p = ½ p sign(p − t)

    The derivative at p = t is taken as 0.

    Args and errors as for `kl`.
    """
    log_predictions, targets = distributions(
        "divergence.total_variation", logarithms=True, log_predictions=log_predictions, targets=targets
    )
    return 0.5 * jnp.sum(numerics.absolute(jnp.exp(log_predictions) - targets), axis=-1)


@loss(
    "divergence",
    domain={"log_predictions": LOG_DISTRIBUTION, "targets": DISTRIBUTION},
    claims=Claims(
        non_negative=True, zero_at_target=True, symmetric=True, lipschitz=0.5, smooth=0.5, bounded=1.0
    ),
    source="Hellinger (1909), Neue Begründung der Theorie quadratischer Formen; "
    "Le Cam & Yang (2000), Asymptotics in Statistics, sec. 4.2.",
)
def hellinger(
    log_predictions: Float[ArrayLike, "*rows classes"], targets: Float[ArrayLike, "*rows classes"]
) -> Float[Array, "*rows"]:
    """The squared Hellinger distance: 1 less the affinity Σ √(p t), without its cancellation.

        ℓ = ½ Σ (√p − √t)²,    ∂ℓ/∂log p = ½ √p (√p − √t),    ∂ℓ/∂t = ½ − ½ √(p/t)

    Its root is the Hellinger distance, a metric. The derivative in a target that is 0 is −∞, or ½
    where p is 0 too.

    Args and errors as for `kl`.
    """
    log_predictions, targets = distributions(
        "divergence.hellinger", logarithms=True, log_predictions=log_predictions, targets=targets
    )
    return jnp.sum(numerics.root_distance(log_predictions, targets), axis=-1)


@loss(
    "divergence",
    domain={"log_predictions": LOG_DISTRIBUTION, "targets": DISTRIBUTION},
    options={"alpha": POSITIVE},
    claims=Claims(non_negative=True, zero_at_target=True, symmetric=True, lipschitz=1.0, smooth=0.25),
    source="Rényi (1961), On Measures of Entropy and Information, eq. 3.3; "
    "van Erven & Harremoës (2014), Rényi Divergence and Kullback-Leibler Divergence, def. 2.",
)
def renyi(
    log_predictions: Float[ArrayLike, "*rows classes"],
    targets: Float[ArrayLike, "*rows classes"],
    *,
    alpha: float | Array = 0.5,
) -> Float[Array, "*rows"]:
    """Rényi's divergence of order α of the targets from the predictions.

        ℓ = log(Σ t^α p^(1−α)) / (α − 1),    ∂ℓ/∂log p = −w,    w = t^α p^(1−α) / Σ t^α p^(1−α)

    At α = 1 it is `kl`, with no gap on the way there; it grows with α. At α = ½ it is symmetric,
    and −2 log of Bhattacharyya's affinity. An outcome that p rules out costs ∞ from α = 1 on, and
    before it only where p rules out all that t expects.

    Args:
        log_predictions: log p, floating point, `[*rows, classes]`: exponentials summing to 1.
        targets: t, of the same shape: non-negative, each row summing to 1.
        alpha: α > 0, the order.

    Returns:
        The loss of each row, in nats; NaN in a row where either is no distribution.

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes, or no last axis; a concrete alpha that is not positive.

    """
    log_predictions, targets, alpha = _of_degree("divergence.renyi", log_predictions, targets, alpha)
    return numerics.renyi_divergence(log_predictions, targets, alpha - 1)


@loss(
    "divergence",
    domain={"log_predictions": LOG_DISTRIBUTION, "targets": DISTRIBUTION},
    options={"alpha": REAL},
    claims=Claims(
        non_negative=True, zero_at_target=True, symmetric=True, lipschitz=2.0, smooth=2.0, bounded=4.0
    ),
    source="Amari (1985), Differential-Geometrical Methods in Statistics, eq. 3.32; "
    "Minka (2005), Divergence Measures and Message Passing, eq. 1, whose α this is.",
)
def alpha(
    log_predictions: Float[ArrayLike, "*rows classes"],
    targets: Float[ArrayLike, "*rows classes"],
    *,
    alpha: float | Array = 0.5,
) -> Float[Array, "*rows"]:
    """The alpha-divergence of the targets from the predictions: between and beyond the two `kl`.

        ℓ = Σ (α t + (1 − α) p − t^α p^(1−α)) / (α (1 − α)),    ∂ℓ/∂log p = −p ((t/p)^α − 1) / α,
        ∂ℓ/∂t = (1 − (p/t)^(1−α)) / (1 − α)

    At α = 1 it is `kl`, at α = 0 `reverse_kl`, at α = ½ four times `hellinger`, at α = 2 and −1 half
    of Pearson's and Neyman's χ²; no order is a gap. The smaller α is, the more it seeks a mode.

    Args:
        log_predictions: log p, floating point, `[*rows, classes]`: exponentials summing to 1.
        targets: t, of the same shape: non-negative, each row summing to 1.
        alpha: α, the order: any real number.

    Returns:
        The loss of each row; NaN in a row where either is no distribution.

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes, or no last axis; a concrete alpha that is not finite.

    """
    log_predictions, targets, alpha = _of_degree("divergence.alpha", log_predictions, targets, alpha)
    return jnp.sum(numerics.power_divergence(log_predictions, targets, alpha), axis=-1)


def _of_degree(who: str, logs: ArrayLike, targets: ArrayLike, alpha: ArrayLike) -> tuple[Array, Array, Array]:
    """Two distributions, and the order beside each class."""
    logs, targets = distributions(who, logarithms=True, log_predictions=logs, targets=targets)
    return logs, targets, jnp.broadcast_to(jnp.asarray(alpha, logs.dtype)[..., None], logs.shape)


@loss(
    "divergence",
    domain={"mean": REAL, "log_variance": REAL},
    options={"prior_mean": REAL, "prior_log_variance": REAL},
    claims=Claims(non_negative=True, convex=True, smooth=1.0),
    source="Kingma & Welling (2014), Auto-Encoding Variational Bayes, app. B; Kullback (1959), ch. 9.",
)
def gaussian_kl(
    mean: Float[ArrayLike, "*rows features"],
    log_variance: Float[ArrayLike, "*rows features"],
    *,
    prior_mean: Float[ArrayLike, "..."] | float = 0.0,
    prior_log_variance: Float[ArrayLike, "..."] | float = 0.0,
) -> Float[Array, "*rows"]:
    """Kullback-Leibler divergence of a Gaussian with independent entries from its prior.

        ℓ = ½ Σ e^(v − w) − 1 − (v − w) + (μ − η)² e^−w,
        ∂ℓ/∂μ = (μ − η) e^−w,    ∂ℓ/∂v = ½ (e^(v − w) − 1)

    With v and w the logarithms of the variances. No term cancels another where v ≈ w.

    Args:
        mean: μ, floating point, `[*rows, features]`.
        log_variance: v, of the same shape.
        prior_mean: η, a scalar or against the trailing axes of the mean.
        prior_log_variance: w, likewise; the standard normal prior has 0 for both.

    Returns:
        The loss of each row, in nats.

    Raises:
        TypeError: a mean that is not floating point.
        ValueError: two shapes, or no last axis; a prior that stands against no trailing axes.

    """
    who = "divergence.gaussian_kl"
    mean, log_variance = vectors(who, mean=mean, log_variance=log_variance)
    prior_mean = on_trailing_axes(who, "prior_mean", prior_mean, mean)
    prior_log_variance = on_trailing_axes(who, "prior_log_variance", prior_log_variance, mean)
    distance = (mean - prior_mean.astype(mean.dtype)) * jnp.exp(-0.5 * prior_log_variance)
    spread = numerics.expm1_excess(log_variance - prior_log_variance)
    return 0.5 * jnp.sum(spread + jnp.square(distance), axis=-1)


@loss(
    "divergence",
    domain={"student_logits": REAL, "teacher_logits": REAL, "labels": CLASSES},
    options={"temperature": POSITIVE, "alpha": UNIT},
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        convex=True,
        lipschitz=2.0**0.5,
        smooth=0.5,
        shift_invariant=True,
    ),
    source="Hinton et al. (2015), Distilling the Knowledge in a Neural Network, sec. 2.",
)
def distillation(
    student_logits: Float[ArrayLike, "*rows classes"],
    teacher_logits: Float[ArrayLike, "*rows classes"],
    labels: Integer[ArrayLike, "*rows"] | Float[ArrayLike, "*rows classes"] | None = None,
    *,
    temperature: float | Array = 1.0,
    alpha: float | Array = 1.0,
) -> Float[Array, "*rows"]:
    """Divergence of the teacher's softened classes from the student's, beside the labels where given.

        ℓ = α T² Σ q (log q − log p) − (1 − α) log softmax(s)_y,
        ∂ℓ/∂s = α T (p − q) + (1 − α) (softmax(s) − e_y)

    With p = softmax(s/T) and q = softmax(r/T) for student and teacher. T² keeps the gradient's size
    as T grows. Without labels the second term is absent, whatever α is.

    Args:
        student_logits: s, floating point, `[*rows, classes]`.
        teacher_logits: r, of the same shape; wrap it in `jax.lax.stop_gradient` if it is not to learn.
        labels: class ids, integer `[*rows]`, or distributions, floating `[*rows, classes]`.
        temperature: T > 0, what both are divided by.
        alpha: α in [0, 1], what the teacher counts beside the labels.

    Returns:
        The loss of each row, in nats; NaN in a row whose id is out of range.

    Raises:
        TypeError: logits that are not floating point; integer labels of their shape.
        ValueError: shapes that do not fit; a concrete option out of range.

    """
    who = "divergence.distillation"
    student, teacher = vectors(who, student_logits=student_logits, teacher_logits=teacher_logits)
    temperature = jnp.asarray(temperature, student.dtype)
    # The differences of logits are divided: an offset they share would be rounded by the division.
    warmth = jnp.broadcast_to(temperature[..., None], student.shape)
    softer, target = (
        numerics.among_present(lambda gaps: gaps / warmth, z - numerics.class_pivot(z)[..., None])
        for z in (student, teacher)
    )
    divergence = temperature * (temperature * numerics.softmax_divergence(softer, target))
    softened = multiply(alpha, divergence)
    return softened if labels is None else softened + multiply(1 - alpha, _surprise(who, student, labels))


def _surprise(who: str, logits: Array, labels: ArrayLike) -> Array:
    """The cross-entropy of ids or distributions."""
    logits, labels, _ = classified(who, None, (), student_logits=logits, labels=labels)
    surprise = numerics.surprise if has_ids(logits, labels) else numerics.expected_surprise
    return surprise(logits, labels)
