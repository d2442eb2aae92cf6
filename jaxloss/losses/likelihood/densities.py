"""Negative log densities of real targets, exact to their constants.

The parameters come first and the targets last. A density may exceed one: its negative logarithm is
negative there.
"""

import math

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxloss._contracts import (
    DISTRIBUTION,
    NON_NEGATIVE,
    POSITIVE,
    REAL,
    TRIANGULAR,
    UNIT,
    alike,
    composed,
    factored,
    is_off,
    mixed,
)
from jaxloss._loss import Claims, loss
from jaxloss.numerics import (
    HALF_LOG_TWO_PI,
    absolute,
    beta_nll,
    dirichlet_nll,
    divide,
    gamma_half_step,
    heavy_tail,
    log1p_square,
    log_bessel,
    log_cosh,
    logsumexp,
    power,
    square_over,
    surprises,
)

_LOCATED = {"loc": REAL, "scale": POSITIVE, "targets": REAL}


@loss(
    "likelihood",
    domain={"mean": REAL, "variance": POSITIVE, "targets": REAL},
    claims=Claims(convex=True),
    source="Nix & Weigend (1994), Estimating the mean and variance of the target distribution, eq. 1.",
    peers=(
        "torch.nn.GaussianNLLLoss",
        "scipy.stats.norm",
    ),
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
    domain={"mean": REAL, "variance": POSITIVE, "targets": REAL},
    options={"beta": UNIT},
    claims=Claims(convex=True),
    source="Seitzer et al. (2022), On the Pitfalls of Heteroscedastic Uncertainty Estimation, eq. 5.",
)
def beta_gaussian(
    mean: Float[ArrayLike, "*rows"],
    variance: Float[ArrayLike, "*rows"],
    targets: Real[ArrayLike, "*rows"],
    *,
    beta: float | Array = 0.5,
) -> Float[Array, "*rows"]:
    """The normal likelihood weighted by a power of its variance, so that no point is explained as noise.

        ℓ = ⌊v^β⌋ (½ log 2πv + ½ r²/v), r = m − t,    ∂ℓ/∂m = v^β r/v,    ∂ℓ/∂v = ½ v^β (1/v − r²/v²)

    The weight ⌊v^β⌋ is a constant under differentiation in v: β = 0 is `gaussian`, and β = 1 has the
    gradient of half the squared error in m.

    Args:
        mean: m, floating point, any unit u.
        variance: v > 0, of the same shape, in u².
        targets: t, of the same shape, in u.
        beta: β in [0, 1].

    Returns:
        The loss of each row; NaN in a row whose variance is not positive.

    Raises:
        TypeError: a mean or variance that is not floating point.
        ValueError: arrays of different shapes; a concrete beta outside [0, 1].

    """
    mean, variance, targets = alike("likelihood.beta_gaussian", mean=mean, variance=variance, targets=targets)
    root = power(lax.stop_gradient(variance), jnp.asarray(0.5 * beta, variance.dtype))
    constant = 0.5 * jnp.log(variance) + HALF_LOG_TWO_PI
    # The root goes inside the square: r²/v may overflow where v^β r²/v does not.
    return root * root * constant + 0.5 * square_over(root * (mean - targets), variance)


@loss(
    "likelihood",
    domain={"mean": REAL, "scale_tril": TRIANGULAR, "targets": REAL},
    claims=Claims(convex=True),
    source="Dorta et al. (2018), Structured Uncertainty Prediction Networks, eq. 3 to 5.",
    peers=("scipy.stats.multivariate_normal",),
)
def multivariate_gaussian(
    mean: Float[ArrayLike, "*rows features"],
    scale_tril: Float[ArrayLike, "*rows features features"],
    targets: Real[ArrayLike, "*rows features"],
) -> Float[Array, "*rows"]:
    """Normal vectors whose mean and covariance LLᵀ are predicted.

        ℓ = ½‖z‖² + Σ log L_ii + ½ D log 2π, z = L⁻¹(m − t),
        ∂ℓ/∂m = L⁻ᵀz,    ∂ℓ/∂L = diag(1/L_ii) − the lower triangle of L⁻ᵀz zᵀ

    Args:
        mean: m, floating point, `[*rows, features]`, any unit.
        scale_tril: L, `[*rows, features, features]`, in that unit: what stands above its diagonal is
            not read, and the diagonal is positive.
        targets: t, `[*rows, features]`, in that unit.

    Returns:
        The loss of each row, in nats; NaN in a row whose L has no positive diagonal.

    Raises:
        TypeError: a parameter that is not floating point.
        ValueError: arrays whose shapes do not fit.

    """
    mean, scale_tril, targets = factored(
        "likelihood.multivariate_gaussian", mean=mean, scale_tril=scale_tril, targets=targets
    )
    residual = (mean - targets)[..., None]
    whitened = lax.linalg.triangular_solve(scale_tril, residual, left_side=True, lower=True)[..., 0]
    widths = jnp.diagonal(scale_tril, axis1=-2, axis2=-1)
    return jnp.sum(0.5 * jnp.square(whitened) + jnp.log(widths) + HALF_LOG_TWO_PI, axis=-1)


@loss(
    "likelihood",
    domain={"logits": REAL, "means": REAL, "scales": POSITIVE, "targets": REAL},
    claims=Claims(lipschitz=math.sqrt(2), smooth=0.5),
    source="Bishop (1994), Mixture Density Networks, eq. 22 and 28.",
)
def gaussian_mixture(
    logits: Float[ArrayLike, "*rows components"],
    means: Float[ArrayLike, "*rows components"],
    scales: Float[ArrayLike, "*rows components"],
    targets: Real[ArrayLike, "*rows"],
) -> Float[Array, "*rows"]:
    """Targets of a mixture of normal distributions.

        ℓ = −log Σ_j p_j N(t; m_j, s_j²), p = softmax(a),    ∂ℓ/∂a = p − q,
        ∂ℓ/∂m_j = q_j (m_j − t)/s_j²,    ∂ℓ/∂s_j = q_j (1 − z_j²)/s_j, z_j = (m_j − t)/s_j

    q are the shares of the components once t is known. A component whose logit is −∞ is not there.

    Args:
        logits: a, floating point, `[*rows, components]`.
        means: m, of the same shape, any unit.
        scales: s > 0, of the same shape, in that unit.
        targets: t, `[*rows]`, in that unit.

    Returns:
        The loss of each row, in nats; NaN in a row with a scale that is not positive.

    Raises:
        TypeError: a parameter that is not floating point.
        ValueError: arrays whose shapes do not fit.

    """
    logits, means, scales, targets = mixed(
        "likelihood.gaussian_mixture", logits=logits, means=means, scales=scales, targets=targets
    )
    squares = jnp.square(divide(means - targets[..., None], scales))
    return HALF_LOG_TWO_PI - logsumexp(-(surprises(logits) + jnp.log(scales) + 0.5 * squares))


@loss(
    "likelihood",
    domain=_LOCATED,
    claims=Claims(convex=True),
    source="Laplace (1774), Mémoire sur la probabilité des causes par les évènements.",
    peers=("scipy.stats.laplace",),
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
    peers=("scipy.stats.logistic",),
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
    peers=("scipy.stats.t",),
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
    domain={"loc": REAL, "evidence": POSITIVE, "shape": POSITIVE, "scale": POSITIVE, "targets": REAL},
    options={"evidence_penalty": NON_NEGATIVE},
    claims=Claims(),
    source="Amini et al. (2020), Deep Evidential Regression, eq. 8 and 9.",
)
def evidential(
    loc: Float[ArrayLike, "*rows"],
    evidence: Float[ArrayLike, "*rows"],
    shape: Float[ArrayLike, "*rows"],
    scale: Float[ArrayLike, "*rows"],
    targets: Real[ArrayLike, "*rows"],
    *,
    evidence_penalty: float | Array = 0.0,
) -> Float[Array, "*rows"]:
    """Normal targets whose mean and variance have a normal-inverse-gamma distribution.

        ℓ = log Γ(α) − log Γ(α + ½) + ½ log πω + (α + ½) log(1 + r²/ω) + λ|r|(2ν + α),
        ω = 2β(1 + ν)/ν, r = m − t,    ∂ℓ/∂m = (2α + 1) r/(ω + r²) + λ(2ν + α) sign(r)

    Student's t with 2α degrees of freedom and scale √(β(1 + ν)/(να)), and the penalty on evidence for a
    wrong location, whose derivative in m at r = 0 is taken as 0. The other derivatives follow through
    ∂ℓ/∂ω = (½ − (α + ½) r²/(ω + r²))/ω and ∂ℓ/∂α = ψ(α) − ψ(α + ½) + log(1 + r²/ω) + λ|r|.

    Args:
        loc: m, floating point, any unit u.
        evidence: ν > 0, how many observations the location is worth, of the same shape.
        shape: α > 0, half the observations the variance is worth, of the same shape.
        scale: β > 0, half their sum of squares, of the same shape, in u².
        targets: t, of the same shape, in u.
        evidence_penalty: λ ≥ 0, in 1/u; the paper's experiments have 0.01.

    Returns:
        The loss of each row; NaN in a row whose evidence, shape or scale is not positive.

    Raises:
        TypeError: a parameter that is not floating point.
        ValueError: arrays of different shapes; a concrete penalty below zero.

    """
    loc, evidence, shape, scale, targets = alike(
        "likelihood.evidential", loc=loc, evidence=evidence, shape=shape, scale=scale, targets=targets
    )
    width = math.sqrt(2) * jnp.sqrt(scale) * jnp.sqrt(1 + divide(jnp.ones_like(evidence), evidence))
    constant = 0.5 * math.log(math.pi) + gamma_half_step(shape) - 0.5 * jnp.log(shape)
    surprise = constant + jnp.log(width) + (shape + 0.5) * log1p_square(loc - targets, width)
    if is_off(evidence_penalty):
        return surprise
    return surprise + evidence_penalty * absolute(loc - targets) * (2 * evidence + shape)


@loss(
    "likelihood",
    domain={"loc": REAL, "concentration": NON_NEGATIVE, "targets": REAL},
    claims=Claims(),
    source="Mardia & Jupp (2000), Directional Statistics, eq. 3.5.17.",
    peers=("scipy.stats.vonmises",),
)
def von_mises(
    loc: Float[ArrayLike, "*rows"],
    concentration: Float[ArrayLike, "*rows"],
    targets: Real[ArrayLike, "*rows"],
) -> Float[Array, "*rows"]:
    """Angles around a direction: the normal distribution of the circle.

        ℓ = log 2πI₀(κ) − κ cos(m − t),    ∂ℓ/∂m = κ sin(m − t),    ∂ℓ/∂κ = I₁(κ)/I₀(κ) − cos(m − t)

    Computed from 1 − cos = 2 sin²½(m − t) and log I₀(κ) − κ, which no κ makes overflow.

    Args:
        loc: m, floating point, in radians, whatever the turn.
        concentration: κ ≥ 0, of the same shape: 0 for all directions alike, 1/κ a small variance.
        targets: t, of the same shape, in radians.

    Returns:
        The loss of each row, in nats; NaN in a row whose concentration is negative.

    Raises:
        TypeError: a parameter that is not floating point.
        ValueError: arrays of different shapes.

    """
    loc, concentration, targets = alike(
        "likelihood.von_mises", loc=loc, concentration=concentration, targets=targets
    )
    half_angle = 0.5 * (loc - targets)
    return math.log(2 * math.pi) + log_bessel(concentration) + 2 * concentration * jnp.sin(half_angle) ** 2


@loss(
    "likelihood",
    domain={"concentration1": POSITIVE, "concentration0": POSITIVE, "targets": UNIT},
    claims=Claims(convex=True),
    source="Ferrari & Cribari-Neto (2004), Beta Regression for Modelling Rates and Proportions, eq. 1.",
    peers=("scipy.stats.beta",),
)
def beta(
    concentration1: Float[ArrayLike, "*rows"],
    concentration0: Float[ArrayLike, "*rows"],
    targets: Real[ArrayLike, "*rows"],
) -> Float[Array, "*rows"]:
    """Shares of a whole, between 0 and 1.

        ℓ = log B(a, b) − (a − 1) log t − (b − 1) log(1 − t),
        ∂ℓ/∂a = ψ(a) − ψ(a + b) − log t,    ∂ℓ/∂b = ψ(b) − ψ(a + b) − log(1 − t)

    With 0·log 0 = 0; a share of 0 or 1 has infinite derivatives.

    Args:
        concentration1: a > 0, floating point, which draws towards 1.
        concentration0: b > 0, of the same shape, which draws towards 0.
        targets: t in [0, 1], of the same shape.

    Returns:
        The loss of each row, in nats; NaN in a row outside these domains.

    Raises:
        TypeError: a parameter that is not floating point.
        ValueError: arrays of different shapes.

    """
    return beta_nll(
        *alike(
            "likelihood.beta", concentration1=concentration1, concentration0=concentration0, targets=targets
        )
    )


@loss(
    "likelihood",
    domain={"concentration": POSITIVE, "targets": DISTRIBUTION},
    claims=Claims(convex=True),
    source="Minka (2000), Estimating a Dirichlet distribution, eq. 1 to 4.",
    peers=("scipy.stats.dirichlet",),
)
def dirichlet(
    concentration: Float[ArrayLike, "*rows classes"], targets: Float[ArrayLike, "*rows classes"]
) -> Float[Array, "*rows"]:
    """Distributions over the last axis.

        ℓ = Σ log Γ(α_i) − log Γ(Σ α) − Σ (α_i − 1) log t_i,    ∂ℓ/∂α_i = ψ(α_i) − ψ(Σ α) − log t_i

    With 0·log 0 = 0; a share of 0 has infinite derivatives.

    Args:
        concentration: α > 0, floating point, `[*rows, classes]`.
        targets: t, of the same shape: non-negative, each row summing to 1.

    Returns:
        The loss of each row, in nats; NaN in a row outside these domains.

    Raises:
        TypeError: a concentration that is not floating point.
        ValueError: two shapes, or no last axis.

    """
    return dirichlet_nll(*composed("likelihood.dirichlet", concentration=concentration, targets=targets))
