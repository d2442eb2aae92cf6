"""Divergences between distributions over the last axis."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxloss._contracts import DISTRIBUTION, LOG_DISTRIBUTION, distributions
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
    peers=("optax.losses.kl_divergence", "torch.nn.KLDivLoss", "keras.losses.KLDivergence"),
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
