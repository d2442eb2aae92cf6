"""Losses whose best constant prediction is a quantile of the targets."""

from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxloss._contracts import REAL, UNIT, on_trailing_axes, paired
from jaxloss._loss import Claims, loss
from jaxloss.numerics import relu


@loss(
    "regression",
    domain={"predictions": REAL, "targets": REAL},
    options={"quantile": UNIT},
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        convex=True,
        lipschitz=0.5,
        shift_invariant=True,
        elicits="median",
    ),
    source="Koenker & Bassett (1978), Regression Quantiles, Econometrica 46(1), sec. 3.",
    peers=("sklearn._loss.PinballLoss", "sklearn.metrics.mean_pinball_loss"),
)
def pinball(
    predictions: Float[ArrayLike, "*rows"],
    targets: Real[ArrayLike, "*rows"],
    *,
    quantile: float | Array = 0.5,
) -> Float[Array, "*rows"]:
    """Absolute error tilted so that its best constant prediction is a quantile.

        ℓ = τ max(t − p, 0) + (1 − τ) max(p − t, 0),    ∂ℓ/∂p = −τ where p < t, 1 − τ where p > t

    At p = t the derivative is taken as 0. At τ = ½ it is half the absolute error.

    Args:
        predictions: floating point, any unit.
        targets: of the same shape and unit.
        quantile: τ in [0, 1]; an array stands against the trailing axes, one quantile a column.

    Returns:
        The loss of each row, in the same unit.

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes; a concrete quantile outside [0, 1], or one that fits no trailing axes.

    """
    predictions, targets = paired("quantile.pinball", predictions=predictions, targets=targets)
    quantile = on_trailing_axes("quantile.pinball", "quantile", quantile, predictions)
    over = predictions - targets
    return quantile * relu(-over) + (1 - quantile) * relu(over)
