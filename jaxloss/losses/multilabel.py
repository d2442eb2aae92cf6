"""Losses of K logits a row against K labels, each 0 or 1 on its own."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Real

from jaxloss import numerics
from jaxloss._contracts import FLAGS, HALF_OPEN_UNIT, NON_NEGATIVE, REAL, UNIT, each_class, vectors
from jaxloss._loss import Claims, loss

Labels = Real[ArrayLike, "*rows classes"] | Bool[ArrayLike, "*rows classes"]


@loss(
    "multilabel",
    domain={"logits": REAL, "labels": UNIT},
    options={"class_weights": NON_NEGATIVE},
    claims=Claims(non_negative=True, symmetric=True, convex=True, lipschitz=1.0, smooth=0.25),
    source="Good (1952), Rational Decisions; torch's MultiLabelSoftMarginLoss.",
    peers=("torch.nn.MultiLabelSoftMarginLoss",),
)
def soft_margin(
    logits: Float[ArrayLike, "*rows classes"],
    labels: Labels,
    *,
    class_weights: Float[ArrayLike, " classes"] | None = None,
) -> Float[Array, "*rows"]:
    """The mean over the classes of the binary cross-entropy of each.

        ℓ = 1/K Σ w (y log(1 + e^−z) + (1 − y) log(1 + e^z)),    ∂ℓ/∂z = w (σ(z) − y) / K

    Args:
        logits: floating point, `[*rows, classes]`, the log-odds z of each class.
        labels: y in [0, 1], of the same shape: 0, 1, or the probability of 1.
        class_weights: `[classes]`, w ≥ 0, what each class counts; their sum does not divide.

    Returns:
        The loss of each row, in nats; NaN in a row with a label outside [0, 1].

    Raises:
        TypeError: logits that are not floating point.
        ValueError: two shapes, or no last axis; a concrete weight that is negative.

    """
    logits, labels = vectors("multilabel.soft_margin", logits=logits, labels=labels)
    weights = each_class("multilabel.soft_margin", "class_weights", class_weights, logits)
    losses = numerics.bernoulli_nll(logits, labels)
    return jnp.mean(losses if weights is None else weights * losses, axis=-1)


@loss(
    "multilabel",
    domain={"logits": REAL, "labels": FLAGS},
    claims=Claims(non_negative=True, symmetric=True, convex=True),
    source="Crammer & Singer (2003), A Family of Additive Online Algorithms for Category Ranking, sec. 3; "
    "torch's MultiLabelMarginLoss.",
    peers=("torch.nn.MultiLabelMarginLoss",),
)
def margin(logits: Float[ArrayLike, "*rows classes"], labels: Labels) -> Float[Array, "*rows"]:
    """What each class that holds lacks of a lead of 1 over each that does not, summed.

        ℓ = 1/K Σ_{y_i = 1, y_j = 0} max(0, 1 − z_i + z_j),
        ∂ℓ/∂z_i = −1/K #{j: y_j = 0, z_i − z_j < 1} where y_i = 1, and likewise + where y_j = 0

    The derivative at a lead of just 1 is taken as 0. Labels are a 0/1 array, not torch's list of class
    ids that ends with −1. All pairs of classes are compared: K² numbers a row.

    Args:
        logits: floating point, `[*rows, classes]`.
        labels: 0 or 1, of the same shape.

    Returns:
        The loss of each row, in the logits' unit; NaN in a row with another label.

    Raises:
        TypeError: logits that are not floating point.
        ValueError: two shapes, or no last axis.

    """
    logits, labels = vectors("multilabel.margin", logits=logits, labels=labels)
    lacking = numerics.relu(1 - (logits[..., :, None] - logits[..., None, :]))
    pairs = labels[..., :, None] * (1 - labels)[..., None, :]
    # Divided before they are summed: pairs of the largest floats have no sum.
    return jnp.sum(pairs / logits.shape[-1] * lacking, axis=(-2, -1))


@loss(
    "multilabel",
    domain={"logits": REAL, "labels": UNIT},
    options={"gamma_pos": NON_NEGATIVE, "gamma_neg": NON_NEGATIVE, "clip": HALF_OPEN_UNIT},
    # The largest curvature of what a class that does not hold costs, at z = 0.9653.
    claims=Claims(non_negative=True, smooth=0.4419711332),
    source="Ridnik et al. (2021), Asymmetric Loss For Multi-Label Classification, eq. 7.",
)
def asymmetric(
    logits: Float[ArrayLike, "*rows classes"],
    labels: Labels,
    *,
    gamma_pos: float | Array = 1.0,
    gamma_neg: float | Array = 4.0,
    clip: float | Array = 0.05,
) -> Float[Array, "*rows"]:
    """Focal loss whose classes that do not hold fade faster, and are let go once they are unlikely.

        ℓ = −Σ y (1 − p)^γ₊ log p + (1 − y) q^γ₋ log(1 − q),    p = σ(z),  q = max(p − m, 0),
        ∂ℓ/∂z = p (1 − p) (γ₊ (1 − p)^(γ₊ − 1) log p − (1 − p)^γ₊ / p) where y = 1,
        ∂ℓ/∂z = p (1 − p) (q^γ₋ / (1 − q) − γ₋ q^(γ₋ − 1) log(1 − q)) where y = 0 and p > m, else 0

    Summed over the classes, as in the authors' code. The derivative at p = m is taken as 0.

    Args:
        logits: floating point, `[*rows, classes]`, the log-odds z of each class.
        labels: y in [0, 1], of the same shape: 0, 1, or the probability of 1.
        gamma_pos: γ₊ ≥ 0, how fast a class that holds fades as p nears 1.
        gamma_neg: γ₋ ≥ 0, how fast one that does not fades as p nears m.
        clip: m in [0, 1), the probability up to which one that does not hold costs nothing.

    Returns:
        The loss of each row, in nats; NaN in a row with a label outside [0, 1].

    Raises:
        TypeError: logits that are not floating point.
        ValueError: two shapes, or no last axis; a concrete option out of range.

    """
    logits, labels = vectors("multilabel.asymmetric", logits=logits, labels=labels)
    present = numerics.clipped_fading(-logits, 0.0, gamma_pos) * numerics.softplus(-logits)
    absent = numerics.clipped_fading(logits, clip, gamma_neg) * numerics.clipped_softplus(logits, clip)
    return jnp.sum(labels * present + (1 - labels) * absent, axis=-1)


@loss(
    "multilabel",
    domain={"logits": REAL, "labels": FLAGS},
    claims=Claims(non_negative=True, symmetric=True, convex=True, lipschitz=2.0**0.5, smooth=0.5),
    source="Su et al. (2022), ZLPR: A Novel Loss for Multi-label Classification, eq. 6.",
)
def zlpr(logits: Float[ArrayLike, "*rows classes"], labels: Labels) -> Float[Array, "*rows"]:
    """Every class that holds is to lead zero, and zero every class that does not: softly, and together.

        ℓ = log(1 + Σ_{y = 0} e^z) + log(1 + Σ_{y = 1} e^−z),
        ∂ℓ/∂z_j = −e^−z_j / (1 + Σ_{y = 1} e^−z) where y_j = 1, else e^z_j / (1 + Σ_{y = 0} e^z)

    Unlike a sum of binary cross-entropies it is not outweighed by the many classes that do not hold;
    for prediction the threshold is z = 0.

    Args:
        logits: floating point, `[*rows, classes]`.
        labels: 0 or 1, of the same shape.

    Returns:
        The loss of each row, in nats; NaN in a row with another label.

    Raises:
        TypeError: logits that are not floating point.
        ValueError: two shapes, or no last axis.

    """
    logits, labels = vectors("multilabel.zlpr", logits=logits, labels=labels)
    # A label that is neither stands in one of the sums, for its NaN to reach every class.
    return _above_zero(logits, labels == 0) + _above_zero(-logits, labels != 0)


def _above_zero(logits: Array, where: Array) -> Array:
    """log(1 + Σ e^z) over the classes of `where`."""
    zero = jnp.zeros_like(logits[..., :1])
    padded = jnp.concatenate([zero, jnp.where(where, logits, -jnp.inf)], axis=-1)
    return numerics.logsumexp(padded)
