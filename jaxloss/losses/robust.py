"""Losses of the residual r = predictions − targets that grow more slowly than its square."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxloss._contracts import POSITIVE, REAL, paired
from jaxloss._loss import Claims, loss
from jaxloss.numerics import clipped_square, smooth_abs

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
    peers=("optax.losses.huber_loss", "torch.nn.HuberLoss", "keras.losses.Huber"),
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
    clipped = jnp.clip(residual, -beta, beta)
    return clipped / beta * (residual - 0.5 * clipped)  # huber(...) / beta, without its overflow


@loss(
    "regression",
    domain=_REALS,
    options={"delta": POSITIVE},
    claims=_CONVEX,
    source="Charbonnier et al. (1994), Two deterministic half-quadratic regularization algorithms.",
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
    return delta * (delta * smooth_abs((predictions - targets) / delta))
