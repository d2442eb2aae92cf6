"""Divergences that are finite or alike from both sides, and families of them by an order."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxloss import numerics
from jaxloss._contracts import (
    DISTRIBUTION,
    LOG_DISTRIBUTION,
    OPEN_UNIT,
    POSITIVE,
    REAL,
    distributions,
    sound_rows,
)
from jaxloss._loss import Claims, loss


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
    log_predictions, targets, sound = distributions(
        "divergence.jensen_shannon", logarithms=True, log_predictions=log_predictions, targets=targets
    )
    share = jnp.broadcast_to(jnp.asarray(beta, targets.dtype)[..., None], targets.shape)
    return sound_rows(sound, jnp.sum(numerics.mixture_entropy(log_predictions, targets, share), axis=-1))


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
    log_predictions, targets, sound = distributions(
        "divergence.total_variation", logarithms=True, log_predictions=log_predictions, targets=targets
    )
    return sound_rows(sound, 0.5 * jnp.sum(numerics.absolute(jnp.exp(log_predictions) - targets), axis=-1))


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
    log_predictions, targets, sound = distributions(
        "divergence.hellinger", logarithms=True, log_predictions=log_predictions, targets=targets
    )
    return sound_rows(sound, jnp.sum(numerics.root_distance(log_predictions, targets), axis=-1))


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
    log_predictions, targets, alpha, sound = _of_degree("divergence.renyi", log_predictions, targets, alpha)
    return sound_rows(sound, numerics.renyi_divergence(log_predictions, targets, alpha - 1))


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
    log_predictions, targets, alpha, sound = _of_degree("divergence.alpha", log_predictions, targets, alpha)
    return sound_rows(sound, jnp.sum(numerics.power_divergence(log_predictions, targets, alpha), axis=-1))


def _of_degree(
    who: str, logs: ArrayLike, targets: ArrayLike, alpha: ArrayLike
) -> tuple[Array, Array, Array, Array]:
    """Two distributions, the order beside each class, and which rows are sound."""
    logs, targets, sound = distributions(who, logarithms=True, log_predictions=logs, targets=targets)
    return logs, targets, numerics.broadcast_as(jnp.asarray(alpha, logs.dtype)[..., None], logs), sound
