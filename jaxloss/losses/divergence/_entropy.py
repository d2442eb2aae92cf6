"""Relative entropies: what is lost in the mean by taking one distribution for the other."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxloss import numerics
from jaxloss._contracts import (
    DISTRIBUTION,
    LOG_DISTRIBUTION,
    NON_NEGATIVE,
    REAL,
    distributions,
    log_distributions,
    sound_rows,
    vectors,
)
from jaxloss._loss import Claims, loss
from jaxloss.numerics import xlogy


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
    predictions, targets, sound = distributions(
        "divergence.cross_entropy", predictions=predictions, targets=targets
    )
    return sound_rows(sound, -jnp.sum(xlogy(targets, predictions), axis=-1))


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
    log_predictions, targets, sound = distributions(
        "divergence.kl", logarithms=True, log_predictions=log_predictions, targets=targets
    )
    return sound_rows(sound, jnp.sum(numerics.relative_entropy(log_predictions, targets), axis=-1))


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
    log_predictions, log_targets, sound = log_distributions(
        "divergence.kl_log_targets", log_predictions=log_predictions, log_targets=log_targets
    )
    return sound_rows(sound, _relative_entropy(log_targets, log_predictions))


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
    log_predictions, targets, sound = distributions(
        "divergence.reverse_kl", logarithms=True, log_predictions=log_predictions, targets=targets
    )
    # Where p = 0 the derivative of log t would be ∞·0.
    expected = jnp.where(jnp.exp(log_predictions) == 0, 1, targets)
    return sound_rows(sound, _relative_entropy(log_predictions, jnp.log(expected)))


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
