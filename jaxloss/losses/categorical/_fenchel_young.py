"""Fenchel-Young losses: Ω*(z) + Ω(t) − Σtz, whose gradient is a prediction p(z) less the label."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxloss import numerics
from jaxloss._contracts import CLASSES, REAL, Labels, classified, counted, has_ids, shares_of, unless
from jaxloss._loss import Claims, loss

_LOGITS = {"logits": REAL, "labels": CLASSES}


@loss(
    "categorical",
    domain=_LOGITS,
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        convex=True,
        lipschitz=2.0**0.5,
        smooth=1.0,
        shift_invariant=True,
        elicits="mean",
    ),
    source="Martins & Astudillo (2016), From Softmax to Sparsemax, eq. 16 and sec. 3.4.",
    counts=counted,
    peers=(
        "optax.losses.multiclass_sparsemax_loss",
        "jaxopt.loss.multiclass_sparsemax_loss",
    ),
)
def sparsemax(
    logits: Float[ArrayLike, "*rows classes"],
    labels: Labels,
    *,
    ignore_index: int | Array | None = None,
) -> Float[Array, "*rows"]:
    """The loss of a prediction that is the nearest distribution to the logits, with zeros in it.

        ℓ = ½ Σ_S (z² − τ²) + ½ Σt² − Σtz,    ∂ℓ/∂z = p − t,    p = max(0, z − τ), Σp = 1

    With t the label's distribution and S the classes with p > 0. It is 0 as soon as p = t: for a class
    id, from a lead of 1 over every rival on.

    Args:
        logits: floating point, `[*rows, classes]`.
        labels: class ids, integer `[*rows]`, or distributions, floating `[*rows, classes]`.
        ignore_index: a class id whose rows have loss 0, and which a `jl.mean` leaves out.

    Returns:
        The loss of each row; NaN in a row whose id is out of range.

    Raises:
        TypeError: logits that are not floating point; integer labels of the logits' shape.
        ValueError: shapes that do not fit.

    """
    logits, labels, verdict = classified(
        "categorical.sparsemax", ignore_index, (), logits=logits, labels=labels
    )
    return unless(verdict, numerics.projection_loss(logits, shares_of(logits, labels), 1))


@loss(
    "categorical",
    domain=_LOGITS,
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        convex=True,
        lipschitz=2.0**0.5,
        smooth=0.5**0.5,
        shift_invariant=True,
        elicits="mean",
    ),
    source="Peters, Niculae & Martins (2019), Sparse Sequence-to-Sequence Models, eq. 7, with α = 1.5.",
    counts=counted,
)
def entmax15(
    logits: Float[ArrayLike, "*rows classes"],
    labels: Labels,
    *,
    ignore_index: int | Array | None = None,
) -> Float[Array, "*rows"]:
    """Between the cross-entropy and the sparsemax loss: a smoother prediction that still has zeros.

        ℓ = 4/3 Σ (t^1.5 − p^1.5) − Σ (t − p) z,    ∂ℓ/∂z = p − t,    p = max(0, z/2 − τ)², Σp = 1

    With t the label's distribution. It is 0 as soon as p = t: for a class id, from a lead of 2 over every
    rival on.

    Args:
        logits: floating point, `[*rows, classes]`.
        labels: class ids, integer `[*rows]`, or distributions, floating `[*rows, classes]`.
        ignore_index: a class id whose rows have loss 0, and which a `jl.mean` leaves out.

    Returns:
        The loss of each row; NaN in a row whose id is out of range.

    Raises:
        TypeError: logits that are not floating point; integer labels of the logits' shape.
        ValueError: shapes that do not fit.

    """
    logits, labels, verdict = classified(
        "categorical.entmax15", ignore_index, (), logits=logits, labels=labels
    )
    return unless(verdict, numerics.projection_loss(logits, shares_of(logits, labels), 2))


@loss(
    "categorical",
    domain=_LOGITS,
    claims=Claims(
        non_negative=True,
        symmetric=True,
        convex=True,
        lipschitz=2.0**0.5,
        smooth=0.5,
        shift_invariant=True,
        elicits="mean",
    ),
    source="Blondel, Martins & Niculae (2020), Learning with Fenchel-Young Losses, eq. 14.",
    counts=counted,
    peers=(
        "optax.losses.make_fenchel_young_loss",
        "jaxopt.loss.make_fenchel_young_loss",
    ),
)
def fenchel_young(
    logits: Float[ArrayLike, "*rows classes"],
    labels: Labels,
    *,
    max_fun: Callable[[Array], Array] = numerics.logsumexp,
    ignore_index: int | Array | None = None,
) -> Float[Array, "*rows"]:
    """The loss that a maximum makes: a smooth one of the logits, less the label's logit.

        ℓ = F(z) − Σtz,    ∂ℓ/∂z = ∇F(z) − t

    With F the maximum, convex, and t the label's distribution. F = log Σ e^z gives the cross-entropy, up
    to the label's entropy. The label's own term Ω(t), a constant, is left out.

    Args:
        logits: floating point, `[*rows, classes]`.
        labels: class ids, integer `[*rows]`, or distributions, floating `[*rows, classes]`.
        max_fun: F, from one vector `[classes]` to a number; compiled in.
        ignore_index: a class id whose rows have loss 0, and which a `jl.mean` leaves out.

    Returns:
        The loss of each row; NaN in a row whose id is out of range.

    Raises:
        TypeError: logits that are not floating point; integer labels of the logits' shape.
        ValueError: shapes that do not fit.

    """
    logits, labels, verdict = classified(
        "categorical.fenchel_young", ignore_index, (), logits=logits, labels=labels
    )
    highest = jnp.vectorize(max_fun, signature="(n)->()")(logits)
    if has_ids(logits, labels):
        return unless(verdict, highest - numerics.pick(logits, labels))
    # Both terms less the largest logit, which a label that sums to 1 gives back: they share its digits.
    pivot = numerics.class_pivot(logits)
    mean_gap = jnp.sum(numerics.multiply(labels, logits - pivot[..., None]), axis=-1)
    return unless(verdict, (highest - pivot) - mean_gap)
