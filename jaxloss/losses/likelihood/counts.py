"""Negative log masses of counts, exact to their factorials."""

from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxloss._contracts import COUNTS, POSITIVE, REAL, alike
from jaxloss._loss import Claims, loss
from jaxloss.numerics import negative_binomial_nll, poisson_nll, zero_inflated_nll


@loss(
    "likelihood",
    domain={"log_rate": REAL, "targets": COUNTS},
    claims=Claims(non_negative=True, convex=True),
    source="Loader (2000), Fast and accurate computation of binomial probabilities, eq. 5.",
    peers=(
        "torch.nn.PoissonNLLLoss",
        "keras.losses.Poisson",
        "scipy.stats.poisson",
    ),
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
    domain={"mean": POSITIVE, "dispersion": POSITIVE, "targets": COUNTS},
    claims=Claims(non_negative=True),
    source="Cameron & Trivedi (1998), Regression Analysis of Count Data, eq. 3.26 (NB2); Loader (2000).",
    peers=("scipy.stats.nbinom",),
)
def negative_binomial(
    mean: Float[ArrayLike, "*rows"], dispersion: Float[ArrayLike, "*rows"], targets: Real[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """Counts that vary more than Poisson's: of mean μ and variance μ + αμ².

        ℓ = log Γ(r) + log k! − log Γ(k + r) + (k + r) log(1 + αμ) − k log αμ, r = 1/α,
        ∂ℓ/∂μ = (μ − k)/(μ (1 + αμ)),    ∂ℓ/∂α = r² (ψ(k + r) − ψ(r) − log(1 + αμ)) + r (μ − k)/(1 + αμ)

    As α → 0 it is Poisson's. SciPy's nbinom has n = r and p = 1/(1 + αμ).

    Args:
        mean: μ > 0, floating point, the expected count.
        dispersion: α > 0, of the same shape.
        targets: k, whole numbers ≥ 0, of the same shape.

    Returns:
        The loss of each row, in nats; NaN in a row outside these domains.

    Raises:
        TypeError: a parameter that is not floating point.
        ValueError: arrays of different shapes.

    """
    return negative_binomial_nll(
        *alike("likelihood.negative_binomial", mean=mean, dispersion=dispersion, targets=targets)
    )


@loss(
    "likelihood",
    domain={"logits": REAL, "log_rate": REAL, "targets": COUNTS},
    claims=Claims(non_negative=True, lipschitz=1.0, smooth=0.25),
    source="Lambert (1992), Zero-Inflated Poisson Regression, Technometrics 34(1), sec. 2.",
)
def zero_inflated_poisson(
    logits: Float[ArrayLike, "*rows"], log_rate: Float[ArrayLike, "*rows"], targets: Real[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """Poisson counts among which further zeros are mixed.

        ℓ = −log(σ(a) + σ(−a) e^−λ) where k = 0, else log(1 + e^a) + λ − kη + log k!, λ = e^η,
        ∂ℓ/∂a = −σ(a + λ) σ(−a) (1 − e^−λ) where k = 0, else σ(a),
        ∂ℓ/∂η = λ σ(−a − λ) where k = 0, else λ − k

    Args:
        logits: a, floating point, the log-odds of a zero that is no event's absence.
        log_rate: η, of the same shape, the logarithm of the expected count of the others.
        targets: k, whole numbers ≥ 0, of the same shape.

    Returns:
        The loss of each row, in nats; NaN in a row whose target is no count.

    Raises:
        TypeError: logits or a log_rate that are not floating point.
        ValueError: arrays of different shapes.

    """
    return zero_inflated_nll(
        *alike("likelihood.zero_inflated_poisson", logits=logits, log_rate=log_rate, targets=targets)
    )
