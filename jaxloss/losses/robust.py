"""Losses of the residual r = predictions − targets that grow more slowly than its square."""

import dataclasses
import math

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxloss._contracts import POSITIVE, REAL, Interval, paired
from jaxloss._loss import Claims, loss
from jaxloss.numerics import (
    barron,
    bell_depth,
    biweight,
    clipped_square,
    divide,
    log1p_square,
    log_partition,
    rounded_square,
    saturation,
)

_REALS = {"predictions": REAL, "targets": REAL}
_CONVEX = Claims(
    non_negative=True,
    zero_at_target=True,
    symmetric=True,
    convex=True,
    lipschitz=1.0,
    smooth=1.0,
    shift_invariant=True,
)


@loss(
    "regression",
    domain=_REALS,
    options={"delta": POSITIVE},
    claims=_CONVEX,
    source="Huber (1964), Robust Estimation of a Location Parameter, Ann. Math. Statist. 35(1).",
    peers=(
        "optax.losses.huber_loss",
        "torch.nn.HuberLoss",
        "keras.losses.Huber",
        "jaxopt.loss.huber_loss",
        "sklearn._loss.HuberLoss",
        "scipy.special.huber",
    ),
)
def huber(
    predictions: Float[ArrayLike, "*rows"],
    targets: Real[ArrayLike, "*rows"],
    *,
    delta: float | Array = 1.0,
) -> Float[Array, "*rows"]:
    """Half the squared error near zero, a straight line beyond delta.

        ℓ = ½r² where |r| ≤ δ, else δ(|r| − ½δ),    ∂ℓ/∂p = clip(r, −δ, δ)

    Args:
        predictions: floating point, any unit u.
        targets: of the same shape, in the same unit.
        delta: the residual from which the loss is linear, in that unit, > 0.

    Returns:
        The loss of each row, in u².

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes; a concrete delta that is not positive.

    """
    predictions, targets = paired("robust.huber", predictions=predictions, targets=targets)
    return clipped_square(predictions - targets, delta)


@loss(
    "regression",
    domain=_REALS,
    options={"beta": POSITIVE},
    claims=_CONVEX,
    source="Girshick (2015), Fast R-CNN, eq. 3; torch's SmoothL1Loss for beta.",
    peers=("torch.nn.SmoothL1Loss",),
)
def smooth_l1(
    predictions: Float[ArrayLike, "*rows"],
    targets: Real[ArrayLike, "*rows"],
    *,
    beta: float | Array = 1.0,
) -> Float[Array, "*rows"]:
    """Absolute error with its corner rounded off within beta: huber(delta=beta) / beta.

        ℓ = ½r²/β where |r| ≤ β, else |r| − ½β,    ∂ℓ/∂p = clip(r/β, −1, 1)

    Args:
        predictions: floating point, any unit.
        targets: of the same shape and unit.
        beta: the residual from which the loss is linear, in that unit, > 0; for 0 there is
            `regression.absolute_error`.

    Returns:
        The loss of each row, in the same unit.

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes; a concrete beta that is not positive.

    """
    predictions, targets = paired("robust.smooth_l1", predictions=predictions, targets=targets)
    residual = predictions - targets
    near = jnp.abs(residual) < beta
    slope = jnp.where(near, divide(jnp.where(near, residual, 0), beta), jnp.sign(residual))
    return slope * (residual - 0.5 * beta * slope)  # huber(...) / beta, without its overflow


@loss(
    "regression",
    domain=_REALS,
    options={"delta": POSITIVE},
    claims=_CONVEX,
    source="Charbonnier et al. (1994), Two deterministic half-quadratic regularization algorithms.",
    peers=("scipy.special.pseudo_huber",),
)
def pseudo_huber(
    predictions: Float[ArrayLike, "*rows"],
    targets: Real[ArrayLike, "*rows"],
    *,
    delta: float | Array = 1.0,
) -> Float[Array, "*rows"]:
    """A smooth Huber loss (Charbonnier): ½r² near zero, δ|r| far away.

        ℓ = δ² (√(1 + (r/δ)²) − 1),    ∂ℓ/∂p = r / √(1 + (r/δ)²)

    Args and errors as for `huber`; delta is where the one turns into the other.
    """
    predictions, targets = paired("robust.pseudo_huber", predictions=predictions, targets=targets)
    return rounded_square(predictions - targets, delta)


# --- redescending: an outlier pulls the less the farther it lies --------------------------------


@loss(
    "regression",
    domain=_REALS,
    options={"scale": POSITIVE},
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        lipschitz=math.sqrt(0.5),
        smooth=1.0,
        shift_invariant=True,
    ),
    source="Black & Anandan (1996), The Robust Estimation of Multiple Motions; Barron (2019), α = 0.",
)
def cauchy(
    predictions: Float[ArrayLike, "*rows"],
    targets: Real[ArrayLike, "*rows"],
    *,
    scale: float | Array = 1.0,
) -> Float[Array, "*rows"]:
    """A loss that grows as a logarithm (Lorentzian): the negative log-density of a Cauchy law, from its mode.

        ℓ = log(1 + ½(r/c)²),    ∂ℓ/∂p = (r/c²) / (1 + ½(r/c)²)

    Near zero it is ½(r/c)². It is `general` at alpha = 0 and the same scale; the Cauchy law whose
    density it measures has scale √2·c.

    Args:
        predictions: floating point, any unit u.
        targets: of the same shape, in the same unit.
        scale: c, the residual of an inlier, in that unit, > 0.

    Returns:
        The loss of each row, without unit.

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes; a concrete scale that is not positive.

    """
    predictions, targets = paired("robust.cauchy", predictions=predictions, targets=targets)
    return log1p_square(predictions - targets, math.sqrt(2) * scale)


@loss(
    "regression",
    domain=_REALS,
    options={"scale": POSITIVE},
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        lipschitz=math.sqrt(27) / 8,
        smooth=1.0,
        bounded=2.0,
        shift_invariant=True,
    ),
    source="Geman & McClure (1985), Bayesian image analysis, an application to SPECT; Barron (2019), α = −2.",
)
def geman_mcclure(
    predictions: Float[ArrayLike, "*rows"],
    targets: Real[ArrayLike, "*rows"],
    *,
    scale: float | Array = 1.0,
) -> Float[Array, "*rows"]:
    """A loss that saturates at 2: an outlier costs the same however far it lies.

        ℓ = 2(r/c)² / ((r/c)² + 4),    ∂ℓ/∂p = (r/c²) / (1 + ¼(r/c)²)²

    Near zero it is ½(r/c)². It is `general` at alpha = −2 and the same scale. Others write
    r²/(r² + c²): that is half of this at half the scale.

    Args and errors as for `cauchy`.
    """
    predictions, targets = paired("robust.geman_mcclure", predictions=predictions, targets=targets)
    return 2 * saturation(predictions - targets, 2 * scale)


@loss(
    "regression",
    domain=_REALS,
    options={"scale": POSITIVE},
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        lipschitz=math.exp(-0.5),
        smooth=1.0,
        bounded=1.0,
        shift_invariant=True,
    ),
    source="Dennis & Welsch (1978), Techniques for nonlinear least squares; Barron (2019), α = −∞.",
)
def welsch(
    predictions: Float[ArrayLike, "*rows"],
    targets: Real[ArrayLike, "*rows"],
    *,
    scale: float | Array = 1.0,
) -> Float[Array, "*rows"]:
    """A loss that saturates at 1 as fast as a bell curve falls (Leclerc, correntropy).

        ℓ = 1 − exp(−½(r/c)²),    ∂ℓ/∂p = (r/c²) exp(−½(r/c)²)

    Near zero it is ½(r/c)². It is `general` at alpha = −∞ and the same scale.

    Args and errors as for `cauchy`.
    """
    predictions, targets = paired("robust.welsch", predictions=predictions, targets=targets)
    return bell_depth(predictions - targets, scale)


@loss(
    "regression",
    domain=_REALS,
    options={"c": POSITIVE},
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        lipschitz=4.685 * 16 / (25 * math.sqrt(5)),
        smooth=1.0,
        bounded=4.685**2 / 6,
        shift_invariant=True,
    ),
    source="Beaton & Tukey (1974), The fitting of power series, Technometrics 16(2).",
)
def tukey_biweight(
    predictions: Float[ArrayLike, "*rows"],
    targets: Real[ArrayLike, "*rows"],
    *,
    c: float | Array = 4.685,
) -> Float[Array, "*rows"]:
    """A loss that is constant beyond c: a farther outlier has no influence at all.

        ℓ = c²/6 (1 − (1 − (r/c)²)³) where |r| ≤ c, else c²/6,    ∂ℓ/∂p = r (1 − (r/c)²)², else 0

    Near zero it is ½r². A prediction farther than c from its target gets no gradient: begin from a
    fit by another loss.

    Args:
        predictions: floating point, any unit u.
        targets: of the same shape, in the same unit.
        c: the residual from which the loss is constant, in that unit, > 0. At 4.685 deviations of a
            normal error the fit has 95 % of least squares' efficiency.

    Returns:
        The loss of each row, in u².

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes; a concrete c that is not positive.

    """
    predictions, targets = paired("robust.tukey_biweight", predictions=predictions, targets=targets)
    return biweight(predictions - targets, c)


# --- one family that holds most of the others -----------------------------------------------------


@loss(
    "regression",
    domain=_REALS,
    options={"alpha": REAL, "scale": POSITIVE},
    claims=_CONVEX,
    source="Barron (2019), A General and Adaptive Robust Loss Function, CVPR, eq. 1 and its limits.",
    peers=("robust_loss_pytorch.general.lossfun",),
)
def general(
    predictions: Float[ArrayLike, "*rows"],
    targets: Real[ArrayLike, "*rows"],
    *,
    alpha: float | Array = 1.0,
    scale: float | Array = 1.0,
) -> Float[Array, "*rows"]:
    """Barron's family: from the squared error through the Cauchy loss to the Welsch loss by one number.

        ℓ = |2 − α|/α ((1 + (r/c)²/|2 − α|)^½α − 1),    ∂ℓ/∂p = (r/c²) (1 + (r/c)²/|2 − α|)^(½α − 1)

    with its limits: ½(r/c)² at alpha = 2, `cauchy` at 0, `welsch` at −∞, exp(½(r/c)²) − 1 at ∞. At −2 it
    is `geman_mcclure`, at 1 `pseudo_huber` in units of c. The derivatives in alpha and scale are
    right there too, and between; but in alpha at 2, where the true one is infinite, as ¼(r/c)² log 1/|2 − α|,
    it is that of the next float.

    Args:
        predictions: floating point, any unit u.
        targets: of the same shape, in the same unit.
        alpha: any real number, −∞ and ∞ too: the less, the less an outlier counts.
        scale: c, the residual from which alpha matters, in that unit, > 0.

    Returns:
        The loss of each row, without unit.

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes; a concrete scale that is not positive.

    """
    predictions, targets = paired("robust.general", predictions=predictions, targets=targets)
    alpha, scale = (jnp.asarray(option, predictions.dtype) for option in (alpha, scale))
    return barron(predictions - targets, scale, alpha)


@loss(
    "regression",
    domain=_REALS,
    options={"alpha": Interval(0.0, 2.0, closed_low=True, closed_high=True), "scale": POSITIVE},
    claims=dataclasses.replace(_CONVEX, zero_at_target=False),
    source="Barron (2019), A General and Adaptive Robust Loss Function, CVPR, eq. 16.",
    peers=("robust_loss_pytorch.adaptive.AdaptiveLossFunction",),
)
def adaptive_nll(
    predictions: Float[ArrayLike, "*rows"],
    targets: Real[ArrayLike, "*rows"],
    *,
    alpha: float | Array = 1.0,
    scale: float | Array = 1.0,
) -> Float[Array, "*rows"]:
    """Barron's loss as a negative log-density, so that alpha and scale can be learned with the model.

        ℓ = general(p, t) + log c + log Z(α),    ∂ℓ/∂p = (r/c²) (1 + (r/c)²/(2 − α))^(½α − 1)

    where Z(α) = ∫ exp(−ℓ_general(x)) dx at c = 1. It is a Cauchy density of scale √2·c at alpha = 0, a
    normal one of deviation c at 2. A small alpha forgives outliers and pays for it in log Z. The
    derivative in alpha at 2 is infinite, and taken as for `general`. Learn w and v in alpha = 2σ(w),
    scale = softplus(v).

    Args:
        predictions: floating point, any unit.
        targets: of the same shape and unit.
        alpha: in [0, 2]; Z is found by quadrature, so one alpha for all rows, or one a column, costs less
            than one a row.
        scale: c, in that unit, > 0.

    Returns:
        The loss of each row, in nats, of a density in 1/unit: it may be negative.

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes; a concrete option out of its range.

    """
    predictions, targets = paired("robust.adaptive_nll", predictions=predictions, targets=targets)
    alpha, scale = (jnp.asarray(option, predictions.dtype) for option in (alpha, scale))
    return barron(predictions - targets, scale, alpha) + (jnp.log(scale) + log_partition(alpha))
