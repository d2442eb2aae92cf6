"""Losses whose best constant prediction is a quantile of the targets, or its smoother relatives."""

from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxloss._contracts import POSITIVE, REAL, UNIT, Interval, alike, on_trailing_axes, paired
from jaxloss._loss import Claims, loss
from jaxloss.numerics import relu, tilted_square

_REALS = {"predictions": REAL, "targets": REAL}


@loss(
    "regression",
    domain=_REALS,
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


@loss(
    "regression",
    domain=_REALS,
    options={"quantile": UNIT, "delta": POSITIVE},
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        convex=True,
        lipschitz=0.5,
        smooth=0.5,
        shift_invariant=True,
    ),
    source="Dabney et al. (2018), Distributional RL with Quantile Regression, AAAI, eq. 10.",
)
def quantile_huber(
    predictions: Float[ArrayLike, "*rows"],
    targets: Real[ArrayLike, "*rows"],
    *,
    quantile: float | Array = 0.5,
    delta: float | Array = 1.0,
) -> Float[Array, "*rows"]:
    """Pinball loss with its corner rounded off within delta: a Huber loss, tilted.

        ℓ = w H(|r|),    ∂ℓ/∂p = w clip(r, −δ, δ),    w = τ where p ≤ t, else 1 − τ

    where H(x) = ½x² for x ≤ δ, else δ(x − ½δ). As δ → 0, ℓ/δ is the pinball loss; some divide by δ.
    At τ = ½ it is half the Huber loss.

    Args:
        predictions: floating point, any unit u.
        targets: of the same shape, in the same unit.
        quantile: τ in [0, 1]; an array stands against the trailing axes, one quantile a column.
        delta: the residual from which the loss is linear, in that unit, > 0.

    Returns:
        The loss of each row, in u².

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes; a concrete option out of its range; a quantile that fits no trailing axes.

    """
    predictions, targets = paired("quantile.quantile_huber", predictions=predictions, targets=targets)
    quantile = on_trailing_axes("quantile.quantile_huber", "quantile", quantile, predictions)
    return tilted_square(predictions - targets, quantile, delta)


@loss(
    "regression",
    domain=_REALS,
    options={"expectile": UNIT},
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        convex=True,
        smooth=1.0,
        shift_invariant=True,
        elicits="mean",
    ),
    source="Newey & Powell (1987), Asymmetric Least Squares Estimation and Testing, Econometrica 55(4).",
)
def expectile(
    predictions: Float[ArrayLike, "*rows"],
    targets: Real[ArrayLike, "*rows"],
    *,
    expectile: float | Array = 0.5,
) -> Float[Array, "*rows"]:
    """Squared error tilted so that its best constant prediction is an expectile.

        ℓ = w r²,    ∂ℓ/∂p = 2w r,    w = τ where p ≤ t, else 1 − τ

    At τ = ½ it is half the squared error, and the expectile is the mean. As a value loss of implicit
    Q-learning, p is the value and t the action value.

    Args:
        predictions: floating point, any unit u.
        targets: of the same shape, in the same unit.
        expectile: τ in [0, 1]; an array stands against the trailing axes, one expectile a column.

    Returns:
        The loss of each row, in u².

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes; a concrete expectile outside [0, 1], or one that fits no trailing axes.

    """
    predictions, targets = paired("quantile.expectile", predictions=predictions, targets=targets)
    expectile = on_trailing_axes("quantile.expectile", "expectile", expectile, predictions)
    below, above = relu(targets - predictions), relu(predictions - targets)
    return expectile * below * below + (1 - expectile) * above * above


@loss(
    "regression",
    domain={"lower": REAL, "upper": REAL, "targets": REAL},
    options={"alpha": Interval(0.0, 1.0)},
    claims=Claims(non_negative=True, convex=True, lipschitz=39.0, shift_invariant=True),
    source="Winkler (1972); Gneiting & Raftery (2007), Strictly Proper Scoring Rules, JASA 102, eq. 43.",
)
def interval_score(
    lower: Float[ArrayLike, "*rows"],
    upper: Float[ArrayLike, "*rows"],
    targets: Real[ArrayLike, "*rows"],
    *,
    alpha: float | Array = 0.05,
) -> Float[Array, "*rows"]:
    """Winkler's score of a central 1 − alpha interval: its width, and a penalty for missing the target.

        ℓ = (u − l) + 2/α (max(l − t, 0) + max(t − u, 0)),
        ∂ℓ/∂l = −1, and 2/α more where t < l,    ∂ℓ/∂u = 1, and 2/α less where t > u

    At an end (t = l, t = u) the target is inside. The best constants are the α/2 and 1 − α/2 quantiles of
    the targets: ℓ is 2/α times the sum of their pinball losses. Ends that have changed places are no
    error; they cost more than no width at all.

    Args:
        lower: l, floating point, any unit.
        upper: u, of the same shape and unit.
        targets: t, of the same shape and unit.
        alpha: in (0, 1), the share of targets that may lie outside: 0.05 for a 95 % interval.

    Returns:
        The loss of each row, in the same unit.

    Raises:
        TypeError: lower or upper that are not floating point.
        ValueError: two shapes; a concrete alpha outside (0, 1).

    """
    lower, upper, targets = alike("quantile.interval_score", lower=lower, upper=upper, targets=targets)
    return (upper - lower) + 2 / alpha * (relu(lower - targets) + relu(targets - upper))
