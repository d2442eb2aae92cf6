"""Losses of the label's lead over its rivals, piecewise straight: nothing is lost by a lead large enough."""

import dataclasses

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Integer

from jaxloss import numerics
from jaxloss._contracts import (
    AT_LEAST_ONE,
    CLASS_IDS,
    CLASSES,
    NON_NEGATIVE,
    REAL,
    Labels,
    classified,
    counted,
    each_class,
    has_ids,
    identified,
    shares_of,
    unless,
)
from jaxloss._loss import Claims, loss

_SHARP = Claims(
    non_negative=True,
    zero_at_target=True,
    symmetric=True,
    convex=True,
    lipschitz=2.0**0.5,
    shift_invariant=True,
)


@loss(
    "categorical",
    domain={"logits": REAL, "labels": CLASS_IDS},
    options={"margin": NON_NEGATIVE},
    # The best constant leads by a margin where a class has more than half the rows, and is flat elsewhere.
    claims=dataclasses.replace(_SHARP, elicits="median"),
    source="Crammer & Singer (2001), On the Algorithmic Implementation of Multiclass Kernel-based Vector "
    "Machines, eq. 4.",
    counts=counted,
    peers=(
        "optax.losses.multiclass_hinge_loss",
        "jaxopt.loss.multiclass_hinge_loss",
        "keras.losses.CategoricalHinge",
        "sklearn.metrics.hinge_loss",
    ),
)
def hinge(
    logits: Float[ArrayLike, "*rows classes"],
    labels: Integer[ArrayLike, "*rows"],
    *,
    margin: float | Array = 1.0,
    ignore_index: int | Array | None = None,
) -> Float[Array, "*rows"]:
    """What the label lacks of a margin over its strongest rival.

        ℓ = max(0, m + max_{j≠y} z_j − z_y),    ∂ℓ/∂z = [strongest rival] − [label] where ℓ > 0, else 0

    Rivals that tie share the derivative equally; where the margin is just kept it is taken as 0.

    Args:
        logits: scores in any unit, floating point, `[*rows, classes]`.
        labels: class ids, integer `[*rows]`.
        margin: m ≥ 0, in the scores' unit.
        ignore_index: a class id whose rows have loss 0, and which a `jl.mean` leaves out.

    Returns:
        The loss of each row, in the scores' unit; NaN in a row whose id is out of range.

    Raises:
        TypeError: logits that are not floating point; labels that are no ids.
        ValueError: shapes that do not fit; a concrete margin that is negative.

    """
    logits, labels, verdict = identified(
        "categorical.hinge", ignore_index, (margin,), logits=logits, labels=labels
    )
    rivals = jnp.where(shares_of(logits, labels) == 1, -jnp.inf, logits)
    lag = jnp.max(rivals, axis=-1) - numerics.pick(logits, labels)
    return unless(verdict, numerics.relu(margin + lag))


@loss(
    "categorical",
    domain={"logits": REAL, "labels": CLASS_IDS},
    options={"margin": NON_NEGATIVE, "power": AT_LEAST_ONE, "class_weights": NON_NEGATIVE},
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        convex=True,
        lipschitz=1.0,
        shift_invariant=True,
    ),
    source="Weston & Watkins (1999), Support Vector Machines for Multi-Class Pattern Recognition, eq. 5; "
    "torch's MultiMarginLoss for the mean over the classes.",
    counts=counted,
    peers=("torch.nn.MultiMarginLoss",),
)
def weston_watkins(
    logits: Float[ArrayLike, "*rows classes"],
    labels: Integer[ArrayLike, "*rows"],
    *,
    margin: float | Array = 1.0,
    power: float | Array = 1.0,
    class_weights: Float[ArrayLike, " classes"] | None = None,
    ignore_index: int | Array | None = None,
) -> Float[Array, "*rows"]:
    """What the label lacks of a margin over each rival, summed and divided by the number of classes.

        ℓ = w_y/K Σ_{j≠y} r_j^q,    r_j = max(0, m + z_j − z_y),
        ∂ℓ/∂z = q w_y/K (r^{q−1} − [label] Σ r^{q−1})

    With q the power. The derivative where a margin is just kept is taken as 0.

    Args:
        logits: scores in any unit, floating point, `[*rows, classes]`.
        labels: class ids, integer `[*rows]`.
        margin: m ≥ 0, in the scores' unit.
        power: q ≥ 1; 2 makes the derivative continuous.
        class_weights: `[classes]`, w ≥ 0, what each class counts.
        ignore_index: a class id whose rows have loss 0, and which a `jl.mean` leaves out.

    Returns:
        The loss of each row, in that unit to the power; NaN in a row whose id is out of range.

    Raises:
        TypeError: logits that are not floating point; labels that are no ids.
        ValueError: shapes that do not fit; a concrete option out of range.

    """
    who = "categorical.weston_watkins"
    logits, labels, verdict = identified(
        who, ignore_index, (margin, power, class_weights), logits=logits, labels=labels
    )
    weights = each_class(who, "class_weights", class_weights, logits)
    shares = shares_of(logits, labels)
    # A select, not `pick`, whose zeros would meet the infinite slopes of a large lag to a power.
    own = jnp.sum(jnp.where(shares == 1, logits, 0 * shares), axis=-1, keepdims=True)
    lacking = numerics.relu(jnp.where(shares == 1, -jnp.inf, margin + (logits - own)))
    # Divided before they are summed: K of the largest float have no sum.
    losses = jnp.sum(numerics.power(lacking, power) / logits.shape[-1], axis=-1)
    weight = 1.0 if weights is None else numerics.pick(weights, labels)
    return unless(verdict, weight * losses)


@loss(
    "categorical",
    domain={"logits": REAL, "labels": CLASSES},
    claims=_SHARP,
    source="Collins (2002), Discriminative Training Methods for Hidden Markov Models: Theory and Experiments "
    "with Perceptron Algorithms, fig. 1.",
    counts=counted,
    peers=("optax.losses.multiclass_perceptron_loss", "jaxopt.loss.multiclass_perceptron_loss"),
)
def perceptron(
    logits: Float[ArrayLike, "*rows classes"],
    labels: Labels,
    *,
    ignore_index: int | Array | None = None,
) -> Float[Array, "*rows"]:
    """How far the label is behind the class that leads.

        ℓ = max z − Σ t z,    ∂ℓ/∂z = [leading class] − t

    With t the label's distribution. Classes that tie for the lead share the derivative equally.

    Args:
        logits: scores in any unit, floating point, `[*rows, classes]`.
        labels: class ids, integer `[*rows]`, or distributions, floating `[*rows, classes]`.
        ignore_index: a class id whose rows have loss 0, and which a `jl.mean` leaves out.

    Returns:
        The loss of each row, in the scores' unit; NaN in a row whose id is out of range.

    Raises:
        TypeError: logits that are not floating point; integer labels of the logits' shape.
        ValueError: shapes that do not fit.

    """
    logits, labels, verdict = classified(
        "categorical.perceptron", ignore_index, (), logits=logits, labels=labels
    )
    highest = jnp.max(logits, axis=-1)
    if has_ids(logits, labels):
        return unless(verdict, highest - numerics.pick(logits, labels))
    return unless(verdict, jnp.sum(numerics.multiply(labels, highest[..., None] - logits), axis=-1))
