"""Half deviances of exponential families in the mean and in the link: zero where mean and target agree.

Near there every textbook formula is a difference of terms that cancel. Each function takes the mean μ,
or what the link makes of it, and keeps its digits at both ends of the floats as well; under differentiation
an infinite slope is met only by an argument that moves.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss.numerics.derivatives import term
from jaxloss.numerics.elementwise import log1p, sigmoid, softplus
from jaxloss.numerics.pairs import divide
from jaxloss.numerics.remainders import less_log1p


def log_ratio(mean: Array, log_mean: Array, target: Array) -> Array:
    """log(y/μ), right where y ≈ μ, and where the ratio or the mean is no float."""
    ratio, gap = target / mean, (target - mean) / mean
    ordinary = (ratio >= jnp.finfo(mean.dtype).tiny) & (ratio < jnp.inf) & (mean < jnp.inf)
    far = jnp.where(ordinary, jnp.log(ratio), jnp.log(target) - log_mean)
    return jnp.where(ordinary & (jnp.abs(gap) <= 0.5), log1p(gap), far)


# --- Poisson --------------------------------------------------------------------------------------


def _poisson(mean: Array, log_mean: Array, target: Array) -> Array:
    excess = (mean - target) / target
    surprise = jnp.where(target == 0, 0, target * log_ratio(mean, log_mean, target))
    near = (excess >= -0.5) & (excess <= 1)
    far = jnp.where(mean == jnp.inf, mean, surprise + (mean - target))
    return jnp.where(near, target * less_log1p(excess), far)


@jax.custom_jvp
def poisson_deviance(mean: Array, target: Array) -> Array:
    """y log(y/μ) − (y − μ) for μ > 0 and y ≥ 0, to 8 ULPs; derivatives (μ − y)/μ and log(y/μ).

    It is bd0 of Loader (2000), "Fast and accurate computation of binomial probabilities".
    """
    return _poisson(mean, jnp.log(mean), target)


def _poisson_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (mean, target), (dmean, dtarget) = primals, tangents
    by_mean = term(lambda: (mean - target) / mean, dmean)
    return poisson_deviance(mean, target), by_mean + term(
        lambda: log_ratio(mean, jnp.log(mean), target), dtarget
    )


poisson_deviance.defjvp(_poisson_jvp, symbolic_zeros=True)


@jax.custom_jvp
def poisson_deviance_of_log(log_mean: Array, target: Array) -> Array:
    """The Poisson deviance of z = log μ, to the ULPs of e^z; derivatives e^z − y and log y − z."""
    return _poisson(jnp.exp(log_mean), log_mean, target)


def _poisson_of_log_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (log_mean, target), (dlog, dtarget) = primals, tangents
    by_log = term(lambda: jnp.exp(log_mean) - target, dlog)
    by_target = term(lambda: log_ratio(jnp.exp(log_mean), log_mean, target), dtarget)
    return poisson_deviance_of_log(log_mean, target), by_log + by_target


poisson_deviance_of_log.defjvp(_poisson_of_log_jvp, symbolic_zeros=True)


# --- gamma ----------------------------------------------------------------------------------------


def _gamma(mean: Array, log_mean: Array, ratio: Array, target: Array) -> Array:
    gap = (target - mean) / mean
    near = (gap >= -0.5) & (gap <= 1) & (mean < jnp.inf)
    return jnp.where(near, less_log1p(gap), (ratio - 1) - log_ratio(mean, log_mean, target))


@jax.custom_jvp
def gamma_deviance(mean: Array, target: Array) -> Array:
    """y/μ − 1 − log(y/μ) for positive y and μ, to 8 ULPs; derivatives (μ − y)/μ² and 1/μ − 1/y."""
    return _gamma(mean, jnp.log(mean), target / mean, target)


def _gamma_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (mean, target), (dmean, dtarget) = primals, tangents
    # By a reciprocal: the compiler makes (x/μ)/μ into x/μ², which over- or underflows.
    by_mean = term(lambda: (mean - target) / mean * (1 / mean), dmean)
    return gamma_deviance(mean, target), by_mean + term(
        lambda: (target - mean) / mean * (1 / target), dtarget
    )


gamma_deviance.defjvp(_gamma_jvp, symbolic_zeros=True)


def _ratio_of_log(log_mean: Array, target: Array) -> Array:
    """y e^−z, also where e^−z is no float."""
    half = jnp.exp(-0.5 * log_mean)
    return target * half * half


@jax.custom_jvp
def gamma_deviance_of_log(log_mean: Array, target: Array) -> Array:
    """The gamma deviance of z = log μ, to the ULPs of e^z; derivatives 1 − y e^−z and e^−z − 1/y."""
    return _gamma(jnp.exp(log_mean), log_mean, _ratio_of_log(log_mean, target), target)


def _gamma_of_log_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (log_mean, target), (dlog, dtarget) = primals, tangents
    by_log = term(lambda: 1 - _ratio_of_log(log_mean, target), dlog)
    by_target = term(lambda: jnp.exp(-log_mean) - 1 / target, dtarget)
    return gamma_deviance_of_log(log_mean, target), by_log + by_target


gamma_deviance_of_log.defjvp(_gamma_of_log_jvp, symbolic_zeros=True)


# --- inverse Gaussian -----------------------------------------------------------------------------


@jax.custom_jvp
def inverse_gaussian_deviance(mean: Array, target: Array) -> Array:
    """(y/μ − 1)²/2y for positive y and μ, to 8 ULPs; derivatives (μ − y)/μ³ and ½(1/μ² − 1/y²).

    Each a product of ratios that are floats where it is one: the compiler makes (x/μ)/μ into x/μ².
    """
    excess = (target - mean) / mean
    return 0.5 * excess * divide(excess, target)


def _inverse_gaussian_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (mean, target), (dmean, dtarget) = primals, tangents
    excess = (target - mean) / mean
    by_mean = term(lambda: -divide(divide(excess, mean), mean), dmean)
    by_target = term(lambda: 0.5 * divide(excess, target) * (1 / mean + 1 / target), dtarget)
    return inverse_gaussian_deviance(mean, target), by_mean + by_target


inverse_gaussian_deviance.defjvp(_inverse_gaussian_jvp, symbolic_zeros=True)


@jax.custom_jvp
def inverse_gaussian_deviance_of_log(log_mean: Array, target: Array) -> Array:
    """That of z = log μ, to the ULPs of e^z; derivatives (1 − y e^−z) e^−z and ½(e^−2z − 1/y²)."""
    excess = _ratio_of_log(log_mean, target) - 1
    return 0.5 * excess * divide(excess, target)


def _inverse_gaussian_of_log_jvp(
    primals: tuple[Array, Array], tangents: tuple[Any, Any]
) -> tuple[Array, Any]:
    (log_mean, target), (dlog, dtarget) = primals, tangents
    excess, rate = _ratio_of_log(log_mean, target) - 1, jnp.exp(-log_mean)
    by_log = term(lambda: -excess * rate, dlog)
    by_target = term(lambda: 0.5 * divide(excess, target) * (rate + 1 / target), dtarget)
    return inverse_gaussian_deviance_of_log(log_mean, target), by_log + by_target


inverse_gaussian_deviance_of_log.defjvp(_inverse_gaussian_of_log_jvp, symbolic_zeros=True)


# --- binomial -------------------------------------------------------------------------------------


@jax.custom_jvp
def binomial_deviance(share: Array, successes: Array, trials: Array) -> Array:
    """y log(y/np) + (n − y) log((n − y)/(n − np)) for p in [0, 1] and 0 ≤ y ≤ n, to the ULPs of np.

    Derivatives (n − y)/(1 − p) − y/p, log(y/np) − log((n − y)/(n − np)) and the latter logarithm.
    """
    means, logs = _means_of_share(share, trials)
    both = (successes, trials - successes)
    return sum((_poisson(*each) for each in zip(means, logs, both, strict=True)), jnp.zeros_like(share))


def _means_of_share(share: Array, trials: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    means = (trials * share, trials * (1 - share))
    return means, (jnp.log(means[0]), jnp.log(means[1]))


def _binomial_jvp(primals: tuple[Array, ...], tangents: tuple[Any, ...]) -> tuple[Array, Any]:
    (share, successes, trials), (dshare, dsuccesses, dtrials) = primals, tangents
    by_share = term(lambda: divide(trials - successes, 1 - share) - divide(successes, share), dshare)
    means, logs = _means_of_share(share, trials)

    def failing() -> Array:
        return log1p(-successes / trials) - log1p(-share)

    by_counts = _by_counts(means[0], logs[0], successes, failing, dsuccesses, dtrials)
    return binomial_deviance(share, successes, trials), by_share + by_counts


binomial_deviance.defjvp(_binomial_jvp, symbolic_zeros=True)


def _by_counts(
    mean: Array,
    log_mean: Array,
    successes: Array,
    failing: Callable[[], Array],
    dsuccesses: Any,
    dtrials: Any,
) -> Any:
    """What more successes and more trials change, by the logarithm of failures over those expected."""
    by_successes = term(lambda: log_ratio(mean, log_mean, successes) - failing(), dsuccesses)
    return by_successes + term(failing, dtrials)


@jax.custom_jvp
def binomial_deviance_of_logits(logits: Array, successes: Array, trials: Array) -> Array:
    """The binomial deviance of p = σ(z), to the ULPs of σ(z); ∂/∂z = (n − y) σ(z) − y σ(−z)."""
    means, logs = _means_of_logits(logits, trials)
    both = (successes, trials - successes)
    return sum((_poisson(*each) for each in zip(means, logs, both, strict=True)), jnp.zeros_like(logits))


def _means_of_logits(logits: Array, trials: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    means = (trials * sigmoid(logits), trials * sigmoid(-logits))
    return means, (jnp.log(trials) - softplus(-logits), jnp.log(trials) - softplus(logits))


def _binomial_of_logits_jvp(primals: tuple[Array, ...], tangents: tuple[Any, ...]) -> tuple[Array, Any]:
    (logits, successes, trials), (dlogits, dsuccesses, dtrials) = primals, tangents

    def slope() -> Array:
        return (trials - successes) * sigmoid(logits) - successes * sigmoid(-logits)

    def failing() -> Array:
        return log1p(-successes / trials) + softplus(logits)

    means, logs = _means_of_logits(logits, trials)
    by_counts = _by_counts(means[0], logs[0], successes, failing, dsuccesses, dtrials)
    return binomial_deviance_of_logits(logits, successes, trials), term(slope, dlogits) + by_counts


binomial_deviance_of_logits.defjvp(_binomial_of_logits_jvp, symbolic_zeros=True)
