"""Half deviances of exponential families: how much less likely a target is under a mean than under itself."""

import dataclasses

from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxloss import numerics
from jaxloss._contracts import NON_NEGATIVE, POSITIVE, REAL, UNIT, linked, on_trailing_axes, poison
from jaxloss._loss import Claims, loss

_COUNTS = {"predictions": REAL, "targets": NON_NEGATIVE}
_SIZES = {"predictions": REAL, "targets": POSITIVE}
_CONVEX = Claims(non_negative=True, zero_at_target=True, convex=True)
_MEANS = {"log": REAL, "identity": POSITIVE}
_SHARES = {"logit": REAL, "identity": UNIT}


@loss(
    "deviance",
    domain=_COUNTS,
    claims=_CONVEX,
    source="McCullagh & Nelder (1989), Generalized Linear Models, sec. 2.3.3, table 2.1.",
    peers=(
        "sklearn.metrics.mean_poisson_deviance",
        "sklearn._loss.HalfPoissonLoss",
    ),
)
def poisson(
    predictions: Float[ArrayLike, "*rows"], targets: Real[ArrayLike, "*rows"], *, link: str = "log"
) -> Float[Array, "*rows"]:
    """Half the Poisson deviance, of counts whose variance is their mean.

        ℓ = y log(y/μ) − y + μ,    ∂ℓ/∂μ = (μ − y)/μ,    ∂ℓ/∂z = μ − y for z = log μ

    The Poisson negative log-likelihood less its least value: scikit-learn's HalfPoissonLoss drops
    y log y − y, Keras's Poisson (μ given, 1e-7 added inside its logarithm) and torch's PoissonNLLLoss
    drop the same. mean_poisson_deviance is twice the mean of this.

    Args:
        predictions: floating point, log μ; the mean μ > 0 itself where `link` is "identity".
        targets: y ≥ 0, of the same shape.
        link: "log" or "identity", what a prediction is of the mean.

    Returns:
        The loss of each row, in nats; NaN where a target is negative, or a mean not positive.

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes; another link.

    """
    predictions, targets = linked("deviance.poisson", link, _MEANS, predictions=predictions, targets=targets)
    if link == "identity":
        return numerics.poisson_deviance(predictions, targets)
    return numerics.poisson_deviance_of_log(predictions, targets)


@loss(
    "deviance",
    domain=_SIZES,
    claims=_CONVEX,
    source="McCullagh & Nelder (1989), Generalized Linear Models, sec. 2.3.3, table 2.1.",
    peers=(
        "sklearn.metrics.mean_gamma_deviance",
        "sklearn._loss.HalfGammaLoss",
    ),
)
def gamma(
    predictions: Float[ArrayLike, "*rows"], targets: Real[ArrayLike, "*rows"], *, link: str = "log"
) -> Float[Array, "*rows"]:
    """Half the gamma deviance, of sizes whose standard deviation is in proportion to their mean.

        ℓ = y/μ − 1 − log(y/μ),    ∂ℓ/∂μ = (μ − y)/μ²,    ∂ℓ/∂z = 1 − y/μ for z = log μ

    Only the ratio of target and mean counts. scikit-learn's HalfGammaLoss drops −log y − 1;
    mean_gamma_deviance is twice the mean of this.

    Args and errors as for `poisson`, but targets are positive.
    """
    predictions, targets = linked("deviance.gamma", link, _MEANS, predictions=predictions, targets=targets)
    if link == "identity":
        return numerics.gamma_deviance(predictions, targets)
    return numerics.gamma_deviance_of_log(predictions, targets)


@loss(
    "deviance",
    domain=_SIZES,
    claims=Claims(non_negative=True, zero_at_target=True),
    source="McCullagh & Nelder (1989), Generalized Linear Models, sec. 2.3.3, table 2.1.",
)
def inverse_gaussian(
    predictions: Float[ArrayLike, "*rows"], targets: Real[ArrayLike, "*rows"], *, link: str = "log"
) -> Float[Array, "*rows"]:
    """Half the inverse Gaussian deviance, of sizes whose variance is the cube of their mean.

        ℓ = (y/μ − 1)² / 2y,    ∂ℓ/∂μ = (μ − y)/μ³,    ∂ℓ/∂z = (1 − y/μ)/μ for z = log μ

    Tweedie's at power 3, where scikit-learn's HalfTweedieLoss drops 1/2y. Its derivative fades as the
    mean grows: a prediction far too large is hardly called back.

    Args and errors as for `poisson`, but targets are positive.
    """
    predictions, targets = linked(
        "deviance.inverse_gaussian", link, _MEANS, predictions=predictions, targets=targets
    )
    if link == "identity":
        return numerics.inverse_gaussian_deviance(predictions, targets)
    return numerics.inverse_gaussian_deviance_of_log(predictions, targets)


@loss(
    "deviance",
    domain=_COUNTS,
    options={"power": REAL},
    claims=_CONVEX,
    source="Jørgensen (1987), Exponential Dispersion Models, J. R. Statist. Soc. B 49(2), sec. 4.",
    peers=(
        "sklearn.metrics.mean_tweedie_deviance",
        "sklearn._loss.HalfTweedieLoss",
        "sklearn._loss.HalfTweedieLossIdentity",
    ),
)
def tweedie(
    predictions: Float[ArrayLike, "*rows"],
    targets: Real[ArrayLike, "*rows"],
    *,
    power: float | Array = 1.5,
    link: str = "log",
) -> Float[Array, "*rows"]:
    """Half the Tweedie deviance, of amounts whose variance is a power of their mean.

        ℓ = y^(2−p)/((1 − p)(2 − p)) − y μ^(1−p)/(1 − p) + μ^(2−p)/(2 − p),    ∂ℓ/∂μ = (μ − y) μ^−p

    and ∂ℓ/∂z = (μ − y) μ^(1−p) for z = log μ. Smooth in p, so that p can be learned: ½(μ − y)² at 0,
    `poisson` at 1, `gamma` at 2, `inverse_gaussian` at 3, and as accurate at and near each, in ∂ℓ/∂p too.
    From p = 2 on, a target of 0 costs ∞. scikit-learn's HalfTweedieLossIdentity is this for every p, and at
    p ≤ 0 takes negative targets too, by a formula with a step at 0; its HalfTweedieLoss drops the first
    term, y log y − y at p = 1, −log y − 1 at 2, nothing at 0; mean_tweedie_deviance is twice the mean.

    Args:
        predictions: floating point, log μ; the mean μ > 0 itself where `link` is "identity".
        targets: y ≥ 0, of the same shape.
        power: p, any real number; a scalar, or one a row. No distribution has one between 0 and 1, but the
            loss still is least at the mean.
        link: "log" or "identity", what a prediction is of the mean.

    Returns:
        The loss of each row; NaN where a target is negative, or a mean not positive.

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes; another link.

    """
    predictions, targets = linked("deviance.tweedie", link, _MEANS, predictions=predictions, targets=targets)
    power = on_trailing_axes("deviance.tweedie", "power", power, predictions).astype(predictions.dtype)
    if link == "identity":
        return numerics.tweedie_deviance(predictions, targets, power)
    return numerics.tweedie_deviance_of_log(predictions, targets, power)


@loss(
    "deviance",
    domain={"predictions": REAL, "targets": dataclasses.replace(NON_NEGATIVE, up_to="trials")},
    options={"trials": POSITIVE},
    claims=Claims(non_negative=True, zero_at_target=True, convex=True, lipschitz=1.0, smooth=0.25),
    source="McCullagh & Nelder (1989), Generalized Linear Models, sec. 4.4.3.",
    peers=("sklearn._loss.HalfBinomialLoss",),
)
def binomial(
    predictions: Float[ArrayLike, "*rows"],
    targets: Real[ArrayLike, "*rows"],
    *,
    trials: float | Array = 1.0,
    link: str = "logit",
) -> Float[Array, "*rows"]:
    """Half the binomial deviance, of y successes in n trials.

        ℓ = y log(y/np) + (n − y) log((n − y)/(n − np)),    ∂ℓ/∂p = (np − y)/(p (1 − p))

    and ∂ℓ/∂z = (n − y) σ(z) − y σ(−z) for z = log(p/(1 − p)). scikit-learn's HalfBinomialLoss is this for
    n = 1 without y log y + (1 − y) log(1 − y): the cross-entropy.

    Args:
        predictions: floating point, the log-odds of a success; its probability p in [0, 1] where `link`
            is "identity".
        targets: y in [0, n], of the same shape: counts, not shares.
        trials: n > 0; a scalar, or one a row.
        link: "logit" or "identity", what a prediction is of the probability.

    Returns:
        The loss of each row, in nats; NaN where a target or a probability lies outside.

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes; another link; trials that are not positive.

    """
    who = "deviance.binomial"
    predictions, targets = linked(who, link, _SHARES, predictions=predictions, targets=targets)
    trials = on_trailing_axes(who, "trials", trials, predictions).astype(predictions.dtype)
    targets = poison(who, "targets", targets, targets <= trials, "[0, trials]")
    if link == "identity":
        return numerics.binomial_deviance(predictions, targets, trials)
    return numerics.binomial_deviance_of_logits(predictions, targets, trials)
