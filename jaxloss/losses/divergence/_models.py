"""Divergences of what a model puts out: the parameters of Gaussians, the logits of two networks."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Integer

from jaxloss import numerics
from jaxloss._contracts import (
    CLASSES,
    POSITIVE,
    REAL,
    UNIT,
    classified,
    has_ids,
    on_trailing_axes,
    unless,
    vectors,
)
from jaxloss._loss import Claims, loss


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
    softened = numerics.multiply(alpha, divergence)
    return (
        softened
        if labels is None
        else softened + numerics.multiply(1 - alpha, _surprise(who, student, labels))
    )


def _surprise(who: str, logits: Array, labels: ArrayLike) -> Array:
    """The cross-entropy of ids or distributions."""
    logits, labels, verdict = classified(who, None, (), student_logits=logits, labels=labels)
    surprise = numerics.surprise if has_ids(logits, labels) else numerics.expected_surprise
    return unless(verdict, surprise(logits, labels))
