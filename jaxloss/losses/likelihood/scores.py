"""Proper scores of predicted distributions that are no likelihoods: CRPS and the energy score."""

from typing import Literal, get_args

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxloss._contracts import POSITIVE, REAL, alike, ensemble
from jaxloss._loss import Claims, loss
from jaxloss.numerics import absolute, gaussian_crps, half_mean_gap, safe_norm

Estimator = Literal["pwm", "fair", "nrg"]


@loss(
    "likelihood",
    domain={"mean": REAL, "scale": POSITIVE, "targets": REAL},
    claims=Claims(non_negative=True, convex=True, lipschitz=1.0),
    source="Gneiting & Raftery (2007), Strictly Proper Scoring Rules, eq. 21.",
)
def crps_gaussian(
    mean: Float[ArrayLike, "*rows"], scale: Float[ArrayLike, "*rows"], targets: Real[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """Continuous ranked probability score of a normal distribution: absolute error for distributions.

        ℓ = s (z erf(z/√2) + 2φ(z) − 1/√π), z = (m − t)/s,    ∂ℓ/∂m = erf(z/√2),    ∂ℓ/∂s = 2φ(z) − 1/√π

    As s → 0 it is |m − t|.

    Args:
        mean: m, floating point, any unit.
        scale: s > 0, the standard deviation, of the same shape and unit.
        targets: t, of the same shape and unit.

    Returns:
        The loss of each row, in that unit; NaN in a row whose scale is not positive.

    Raises:
        TypeError: a parameter that is not floating point.
        ValueError: arrays of different shapes.

    """
    mean, scale, targets = alike("likelihood.crps_gaussian", mean=mean, scale=scale, targets=targets)
    return gaussian_crps(mean - targets, scale)


@loss(
    "likelihood",
    domain={"samples": REAL, "targets": REAL},
    claims=Claims(non_negative=True, lipschitz=1.0),
    source="Zamo & Naveau (2018), Estimation of the CRPS with Limited Information, eq. 2 to 6; Ferro (2014).",
)
def crps_ensemble(
    samples: Float[ArrayLike, "*rows samples"],
    targets: Real[ArrayLike, "*rows"],
    *,
    estimator: Estimator = "pwm",
) -> Float[Array, "*rows"]:
    """Continuous ranked probability score of an ensemble, in O(M log M).

        ℓ = (1/M) Σ_i |x_i − t| − c Σ_{i<j} |x_i − x_j|,    ∂ℓ/∂x_i = sign(x_i − t)/M − c (2 rank_i − M − 1)

    By ranks, of which equal samples have the mean; at x_i = t the sign is taken as 0.

    Args:
        samples: x, floating point, `[*rows, samples]`, any unit.
        targets: t, `[*rows]`, in that unit.
        estimator: "pwm" (probability-weighted moments) and "fair" are the same number, c = 1/(M(M − 1)):
            unbiased for the distribution the samples come from. "nrg" has c = 1/M²: the exact score of
            the samples as a distribution, as of a fixed set of quantiles.

    Returns:
        The loss of each row, in that unit.

    Raises:
        TypeError: samples that are not floating point.
        ValueError: arrays whose shapes do not fit; one sample, unless "nrg"; another estimator.

    """
    who = "likelihood.crps_ensemble"
    samples, targets = ensemble(who, 0, samples=samples, targets=targets)
    spread = _correction(who, estimator, samples.shape[-1]) * half_mean_gap(samples)
    return _mean(absolute(samples - targets[..., None])) - spread


@loss(
    "likelihood",
    domain={"samples": REAL, "targets": REAL},
    claims=Claims(non_negative=True, lipschitz=1.0),
    source="Gneiting & Raftery (2007), Strictly Proper Scoring Rules, eq. 22.",
)
def energy_score(
    samples: Float[ArrayLike, "*rows samples features"],
    targets: Real[ArrayLike, "*rows features"],
    *,
    estimator: Estimator = "fair",
) -> Float[Array, "*rows"]:
    """The CRPS of an ensemble of vectors: Euclidean distances for absolute differences.

        ℓ = (1/M) Σ_i ‖x_i − t‖ − c Σ_{i<j} ‖x_i − x_j‖,    ∂ℓ/∂x_i = u(x_i − t)/M − c Σ_j u(x_i − x_j)

    u(v) = v/‖v‖, taken as 0 at v = 0. It holds all M² differences of a row.

    Args:
        samples: x, floating point, `[*rows, samples, features]`, any unit.
        targets: t, `[*rows, features]`, in that unit.
        estimator: as for `crps_ensemble`: c = 1/(M(M − 1)), or 1/M² for "nrg".

    Returns:
        The loss of each row, in that unit.

    Raises:
        TypeError: samples that are not floating point.
        ValueError: arrays whose shapes do not fit; one sample, unless "nrg"; another estimator.

    """
    who = "likelihood.energy_score"
    samples, targets = ensemble(who, 1, samples=samples, targets=targets)
    count = samples.shape[-2]
    gaps = safe_norm(samples[..., :, None, :] - samples[..., None, :, :])
    spread = 0.5 * _correction(who, estimator, count) * _mean(_mean(gaps))
    return _mean(safe_norm(samples - targets[..., None, :])) - spread


def _mean(values: Array) -> Array:
    """The mean over the last axis; the sum of its terms cannot overflow."""
    return jnp.sum(values / values.shape[-1], axis=-1)


def _correction(who: str, estimator: str, count: int) -> float:
    """What makes of a mean over all M² pairs one over those of two samples, if that is wanted."""
    if estimator not in get_args(Estimator):
        msg = f'{who}: `estimator` must be "pwm", "fair" or "nrg", got {estimator!r}; give one of them.'
        raise ValueError(msg)
    if estimator == "nrg":
        return 1.0
    if count < 2:
        msg = f'{who}: `samples` must be two or more of each row, got {count}; or take estimator="nrg".'
        raise ValueError(msg)
    return count / (count - 1)
