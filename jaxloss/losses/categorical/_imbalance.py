"""Softmax losses told how often each class occurs, for rare classes not to be lost among frequent ones."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Integer, Real

from jaxloss import numerics
from jaxloss._contracts import (
    CLASS_IDS,
    CLASSES,
    NON_NEGATIVE,
    POSITIVE,
    REAL,
    Labels,
    classified,
    counted,
    has_ids,
    identified,
    on_trailing_axes,
    shares_of,
    unless,
)
from jaxloss._loss import Claims, loss

_LOGITS = {"logits": REAL, "labels": CLASSES}
_ENTROPY = Claims(non_negative=True, convex=True, lipschitz=2.0**0.5, smooth=0.5, shift_invariant=True)


@loss(
    "categorical",
    domain=_LOGITS,
    options={"priors": NON_NEGATIVE, "temperature": NON_NEGATIVE},
    claims=_ENTROPY,
    source="Menon et al. (2021), Long-tail Learning via Logit Adjustment, eq. 10.",
    counts=counted,
)
def logit_adjusted(
    logits: Float[ArrayLike, "*rows classes"],
    labels: Labels,
    *,
    priors: Real[ArrayLike, " classes"],
    temperature: float | Array = 1.0,
    ignore_index: int | Array | None = None,
) -> Float[Array, "*rows"]:
    """Cross-entropy of logits to which the logarithms of the classes' priors are added.

        ℓ = −Σ t log p,    ∂ℓ/∂z = p Σ t − t,    p = softmax(z + τ log π)

    With t the label's distribution. Trained so, the logits themselves (without the priors) rank the
    classes for the balanced error: a frequent class is not preferred for being frequent.

    Args:
        logits: floating point, `[*rows, classes]`.
        labels: class ids, integer `[*rows]`, or distributions, floating `[*rows, classes]`.
        priors: π, `[classes]`, ≥ 0: shares or counts of the classes, for their scale changes nothing. A
            class of prior 0 is not there, at any temperature: ∞ in a row that it labels.
        temperature: τ ≥ 0; 1 makes the adjustment consistent for the balanced error.
        ignore_index: a class id whose rows have loss 0, and which a `jl.mean` leaves out.

    Returns:
        The loss of each row, in nats; NaN in a row whose id is out of range.

    Raises:
        TypeError: logits that are not floating point; integer labels of the logits' shape.
        ValueError: shapes that do not fit; a concrete option out of range.

    """
    who = "categorical.logit_adjusted"
    logits, labels, ignored = classified(
        who, ignore_index, (priors, temperature), logits=logits, labels=labels
    )
    priors = on_trailing_axes(who, "priors", priors, logits)
    return unless(ignored, _adjusted(logits, labels, ignored, priors, temperature))


@loss(
    "categorical",
    domain=_LOGITS,
    options={"class_counts": NON_NEGATIVE},
    claims=_ENTROPY,
    source="Ren et al. (2020), Balanced Meta-Softmax for Long-Tailed Visual Recognition, eq. 3.",
    counts=counted,
)
def balanced_softmax(
    logits: Float[ArrayLike, "*rows classes"],
    labels: Labels,
    *,
    class_counts: Real[ArrayLike, " classes"],
    ignore_index: int | Array | None = None,
) -> Float[Array, "*rows"]:
    """Cross-entropy of a softmax in which each class counts as often as it occurs in training.

        ℓ = −Σ t log p,    ∂ℓ/∂z = p Σ t − t,    p_j = n_j e^{z_j} / Σ n e^z

    With t the label's distribution. It is `logit_adjusted` with the counts for priors, at temperature 1.

    Args:
        logits: floating point, `[*rows, classes]`.
        labels: class ids, integer `[*rows]`, or distributions, floating `[*rows, classes]`.
        class_counts: n, `[classes]`, ≥ 0: how often each class occurs, in any unit. A class of count 0 is
            not there: ∞ in a row that it labels.
        ignore_index: a class id whose rows have loss 0, and which a `jl.mean` leaves out.

    Returns:
        The loss of each row, in nats; NaN in a row whose id is out of range.

    Raises:
        TypeError: logits that are not floating point; integer labels of the logits' shape.
        ValueError: shapes that do not fit; concrete counts that are negative.

    """
    who = "categorical.balanced_softmax"
    logits, labels, ignored = classified(who, ignore_index, (class_counts,), logits=logits, labels=labels)
    counts = on_trailing_axes(who, "class_counts", class_counts, logits)
    return unless(ignored, _adjusted(logits, labels, ignored, counts, 1.0))


def _adjusted(
    logits: Array, labels: Array, ignored: Array | None, priors: Array, temperature: float | Array
) -> Array:
    """Cross-entropy of z + τ log π, added to the gap to the largest logit: an offset costs no digit."""
    absent = priors == 0
    if ignored is not None:
        absent &= ~ignored[..., None]
    adjustment = temperature * jnp.log(jnp.where(priors == 0, 1, priors))
    present = jnp.where(absent, -jnp.inf, logits)
    adjusted = (present - numerics.class_pivot(present)[..., None]) + adjustment
    if has_ids(logits, labels):
        return numerics.surprise(adjusted, labels)
    return numerics.expected_surprise(adjusted, labels)


@loss(
    "categorical",
    domain={"logits": REAL, "labels": CLASS_IDS},
    options={"class_counts": POSITIVE, "margin": NON_NEGATIVE, "scale": POSITIVE},
    claims=_ENTROPY,
    source="Cao et al. (2019), Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, "
    "eq. 13.",
    counts=counted,
)
def ldam(
    logits: Float[ArrayLike, "*rows classes"],
    labels: Integer[ArrayLike, "*rows"],
    *,
    class_counts: Real[ArrayLike, " classes"],
    margin: float | Array = 0.5,
    scale: float | Array = 1.0,
    ignore_index: int | Array | None = None,
) -> Float[Array, "*rows"]:
    """Cross-entropy in which the label must lead by a margin, the wider the rarer its class.

        ℓ = −log softmax(s (z − Δ))_y,    ∂ℓ/∂z = s (p − [j = y]),    Δ_y = m (min n / n_y)^¼, else 0

    With p that softmax. The margin is m for the rarest class.

    Args:
        logits: floating point, `[*rows, classes]`.
        labels: class ids, integer `[*rows]`: a distribution has no class to lead.
        class_counts: n, `[classes]`, > 0: how often each class occurs in training.
        margin: m ≥ 0, in the logits' unit.
        scale: s > 0, what the logits are multiplied by; the authors take 30 for logits that are cosines.
        ignore_index: a class id whose rows have loss 0, and which a `jl.mean` leaves out.

    Returns:
        The loss of each row, in nats; NaN in a row whose id is out of range.

    Raises:
        TypeError: logits that are not floating point; labels that are no ids.
        ValueError: shapes that do not fit; a concrete option out of range.

    """
    who = "categorical.ldam"
    logits, labels, ignored = identified(
        who, ignore_index, (class_counts, margin, scale), logits=logits, labels=labels
    )
    counts = on_trailing_axes(who, "class_counts", class_counts, logits)
    rarity = numerics.power(jnp.min(counts, axis=-1, keepdims=True) / counts, 0.25)
    led = logits - numerics.class_pivot(logits)[..., None] - shares_of(logits, labels) * (margin * rarity)
    # The largest is 0 before it is scaled: a compiler that fuses the product with the next difference
    # rounds it elsewhere than its copy, and it would be the largest no more.
    led -= numerics.class_pivot(led)[..., None]
    scaled = numerics.among_present(lambda gaps: scale * gaps, led)
    return unless(ignored, numerics.surprise(scaled, labels))
