"""Negative log densities and masses of the targets, exact to their constants, and scores beside them.

The parameters come first and the targets last. A likelihood elicits every parameter it is given; it is
negative where the density exceeds one.
"""

import math

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxloss._contracts import COUNTS, POSITIVE, REAL, alike
from jaxloss._loss import Claims, loss
from jaxloss.numerics import (
    HALF_LOG_TWO_PI,
    absolute,
    divide,
    gamma_half_step,
    gaussian_crps,
    heavy_tail,
    log_cosh,
    poisson_nll,
    square_over,
)

_LOCATED = {"loc": REAL, "scale": POSITIVE, "targets": REAL}


@loss(
    "likelihood",
    domain={"mean": REAL, "variance": POSITIVE, "targets": REAL},
    claims=Claims(convex=True),
    source="Nix & Weigend (1994), Estimating the mean and variance of the target distribution, eq. 1.",
)
def gaussian(
    mean: Float[ArrayLike, "*rows"], variance: Float[ArrayLike, "*rows"], targets: Real[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """Normal targets whose mean and variance are predicted.

        ℓ = ½ log 2πv + ½ r²/v, r = m − t,    ∂ℓ/∂m = r/v,    ∂ℓ/∂v = ½ (1/v − r²/v²)

    torch's GaussianNLLLoss(full=True), without its floor under the variance.

    Args:
        mean: m, floating point, any unit u.
        variance: v > 0, of the same shape, in u².
        targets: t, of the same shape, in u.

    Returns:
        The loss of each row, in nats; NaN in a row whose variance is not positive.

    Raises:
        TypeError: a mean or variance that is not floating point.
        ValueError: arrays of different shapes.

    """
    mean, variance, targets = alike("likelihood.gaussian", mean=mean, variance=variance, targets=targets)
    return 0.5 * (jnp.log(variance) + square_over(mean - targets, variance)) + HALF_LOG_TWO_PI


@loss(
    "likelihood",
    domain=_LOCATED,
    claims=Claims(convex=True),
    source="Laplace (1774), Mémoire sur la probabilité des causes par les évènements.",
)
def laplace(
    loc: Float[ArrayLike, "*rows"], scale: Float[ArrayLike, "*rows"], targets: Real[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """Laplace's double exponential distribution around a median.

        ℓ = log 2b + |r|/b, r = m − t,    ∂ℓ/∂m = sign(r)/b,    ∂ℓ/∂b = (1 − |r|/b)/b

    At r = 0 the derivative in m is taken as 0.

    Args:
        loc: m, floating point, any unit.
        scale: b > 0, of the same shape, in that unit: the mean of |r|.
        targets: t, of the same shape and unit.

    Returns:
        The loss of each row, in nats; NaN in a row whose scale is not positive.

    Raises:
        TypeError: a parameter that is not floating point.
        ValueError: arrays of different shapes.

    """
    loc, scale, targets = alike("likelihood.laplace", loc=loc, scale=scale, targets=targets)
    return jnp.log(scale) + math.log(2) + divide(absolute(loc - targets), scale)


@loss(
    "likelihood",
    domain=_LOCATED,
    claims=Claims(convex=True),
    source="Balakrishnan (1991), Handbook of the Logistic Distribution, eq. 1.2.",
)
def logistic(
    loc: Float[ArrayLike, "*rows"], scale: Float[ArrayLike, "*rows"], targets: Real[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """The logistic distribution: a normal one's shape with the tails of Laplace's.

        ℓ = log 4s + 2 log cosh ½z, z = (m − t)/s,    ∂ℓ/∂m = tanh(½z)/s,    ∂ℓ/∂s = (1 − z tanh ½z)/s

    Args and errors as for `laplace`; the standard deviation is sπ/√3.
    """
    loc, scale, targets = alike("likelihood.logistic", loc=loc, scale=scale, targets=targets)
    return jnp.log(scale) + math.log(4) + 2 * log_cosh(0.5 * divide(loc - targets, scale))


@loss(
    "likelihood",
    domain={"loc": REAL, "scale": POSITIVE, "df": POSITIVE, "targets": REAL},
    claims=Claims(),
    source="Lange, Little & Taylor (1989), Robust Statistical Modeling Using the t Distribution, sec. 2.",
)
def student_t(
    loc: Float[ArrayLike, "*rows"],
    scale: Float[ArrayLike, "*rows"],
    df: Float[ArrayLike, "*rows"],
    targets: Real[ArrayLike, "*rows"],
) -> Float[Array, "*rows"]:
    """Student's t distribution: normal with outliers, Cauchy at one degree of freedom.

        ℓ = log Γ(½ν) − log Γ(½(ν + 1)) + ½ log νπ + log s + ½(ν + 1) log(1 + r²/(ν s²)),    r = m − t,
        ∂ℓ/∂m = (ν + 1) r/(ν s² + r²),    ∂ℓ/∂s = (1 − r ∂ℓ/∂m)/s,
        ∂ℓ/∂ν = ½(ψ(½ν) − ψ(½(ν + 1)) + 1/ν + log(1 + r²/(ν s²)) − r ∂ℓ/∂m / ν)

    Args:
        loc: m, floating point, any unit.
        scale: s > 0, of the same shape, in that unit.
        df: ν > 0, the degrees of freedom, of the same shape.
        targets: t, of the same shape and unit.

    Returns:
        The loss of each row, in nats; NaN in a row whose scale or df is not positive.

    Raises:
        TypeError: a parameter that is not floating point.
        ValueError: arrays of different shapes.

    """
    loc, scale, df, targets = alike("likelihood.student_t", loc=loc, scale=scale, df=df, targets=targets)
    constant = HALF_LOG_TWO_PI + gamma_half_step(0.5 * df)
    return constant + jnp.log(scale) + heavy_tail(loc - targets, scale, df)


@loss(
    "likelihood",
    domain={"log_rate": REAL, "targets": COUNTS},
    claims=Claims(non_negative=True, convex=True),
    source="Loader (2000), Fast and accurate computation of binomial probabilities, eq. 5.",
)
def poisson(log_rate: Float[ArrayLike, "*rows"], targets: Real[ArrayLike, "*rows"]) -> Float[Array, "*rows"]:
    """Counts of a Poisson distribution whose logarithmic rate is predicted.

        ℓ = e^η − kη + log k!,    ∂ℓ/∂η = e^η − k

    torch's PoissonNLLLoss(full=True) has Stirling's first terms for log k!, and 0 for k = 1.

    Args:
        log_rate: η, floating point, the logarithm of the expected count.
        targets: k, whole numbers ≥ 0, of the same shape.

    Returns:
        The loss of each row, in nats; NaN in a row whose target is no count.

    Raises:
        TypeError: a log_rate that is not floating point.
        ValueError: arrays of different shapes.

    """
    return poisson_nll(*alike("likelihood.poisson", log_rate=log_rate, targets=targets))


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
