"""Losses of the residual r = predictions − targets."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxloss import numerics
from jaxloss._contracts import ABOVE_MINUS_ONE, NON_NEGATIVE, POSITIVE, REAL, paired, vectors
from jaxloss._loss import Claims, loss
from jaxloss.numerics import absolute, distance_over, log1p_difference, relative_distance, relu, safe_norm
from jaxloss.numerics import log_cosh as log_cosh_of

_REALS = {"predictions": REAL, "targets": REAL}


@loss(
    "regression",
    domain=_REALS,
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        convex=True,
        smooth=2.0,
        shift_invariant=True,
        elicits="mean",
    ),
    source="Gauss (1821), Theoria combinationis observationum erroribus minimis obnoxiae.",
    peers=(
        "optax.losses.squared_error",
        "torch.nn.MSELoss",
        "keras.losses.MeanSquaredError",
        "sklearn.metrics.mean_squared_error",
    ),
)
def squared_error(
    predictions: Float[ArrayLike, "*rows"], targets: Real[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """Squared error.

        ℓ = r²,    ∂ℓ/∂p = 2r

    Args:
        predictions: floating point, any unit u.
        targets: of the same shape, in the same unit.

    Returns:
        The loss of each row, in u².

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes.

    """
    predictions, targets = paired("regression.squared_error", predictions=predictions, targets=targets)
    residual = predictions - targets
    return residual * residual


@loss(
    "regression",
    domain=_REALS,
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        convex=True,
        smooth=1.0,
        shift_invariant=True,
        elicits="mean",
    ),
    source="Bishop (2006), Pattern Recognition and Machine Learning, eq. 1.2.",
    peers=("optax.losses.l2_loss", "sklearn._loss.HalfSquaredError"),
)
def half_squared_error(
    predictions: Float[ArrayLike, "*rows"], targets: Real[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """Half the squared error, whose derivative is the residual.

        ℓ = ½r²,    ∂ℓ/∂p = r

    Args and errors as for `squared_error`.
    """
    predictions, targets = paired("regression.half_squared_error", predictions=predictions, targets=targets)
    residual = predictions - targets
    return 0.5 * residual * residual


@loss(
    "regression",
    domain=_REALS,
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        convex=True,
        lipschitz=1.0,
        shift_invariant=True,
        elicits="median",
    ),
    source="Laplace (1774), Mémoire sur la probabilité des causes par les événements.",
    peers=(
        "torch.nn.L1Loss",
        "keras.losses.MeanAbsoluteError",
        "sklearn._loss.AbsoluteError",
        "sklearn.metrics.mean_absolute_error",
    ),
)
def absolute_error(
    predictions: Float[ArrayLike, "*rows"], targets: Real[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """Absolute error.

        ℓ = |r|,    ∂ℓ/∂p = sign r

    At r = 0 the derivative is taken as 0.

    Args and errors as for `squared_error`; the loss is in the targets' unit.
    """
    predictions, targets = paired("regression.absolute_error", predictions=predictions, targets=targets)
    return absolute(predictions - targets)


@loss(
    "regression",
    domain={"predictions": ABOVE_MINUS_ONE, "targets": ABOVE_MINUS_ONE},
    claims=Claims(non_negative=True, zero_at_target=True, symmetric=True, elicits="log1p mean"),
    source="Keras, losses.MeanSquaredLogarithmicError; Kaggle's RMSLE without mean and root.",
    peers=(
        "keras.losses.MeanSquaredLogarithmicError",
        "sklearn.metrics.mean_squared_log_error",
    ),
)
def squared_log_error(
    predictions: Float[ArrayLike, "*rows"], targets: Real[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """Squared difference of logarithms, for targets that spread over magnitudes.

        ℓ = (log(1 + p) − log(1 + t))²,    ∂ℓ/∂p = 2 (log(1 + p) − log(1 + t)) / (1 + p)

    Right also where p ≈ t, where the difference of the two logarithms has no digit left.

    Args:
        predictions: floating point, above −1.
        targets: of the same shape, above −1.

    Returns:
        The loss of each row; NaN where an argument is −1 or less.

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes.

    """
    predictions, targets = paired("regression.squared_log_error", predictions=predictions, targets=targets)
    difference = log1p_difference(predictions, targets)
    return difference * difference


@loss(
    "regression",
    domain=_REALS,
    options={"epsilon": POSITIVE},
    claims=Claims(non_negative=True, zero_at_target=True, convex=True, lipschitz=1e7),
    source="Hyndman & Koehler (2006), Another look at measures of forecast accuracy, sec. 2.2.",
    peers=("keras.losses.MeanAbsolutePercentageError", "sklearn.metrics.mean_absolute_percentage_error"),
)
def absolute_percentage_error(
    predictions: Float[ArrayLike, "*rows"],
    targets: Real[ArrayLike, "*rows"],
    *,
    epsilon: float | Array = 1e-7,
) -> Float[Array, "*rows"]:
    """Absolute error as a fraction of the target.

        ℓ = |r| / max(|t|, ε),    ∂ℓ/∂p = sign r / max(|t|, ε)

    A fraction, not a percentage: Keras's value is 100 times this. At r = 0 the derivative is taken
    as 0, at |t| = ε as where ε counts.

    Args:
        predictions: floating point, any unit.
        targets: of the same shape and unit.
        epsilon: the smallest magnitude a target is taken to have, in that unit, > 0.

    Returns:
        The loss of each row, without unit.

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes; a concrete epsilon that is not positive.

    """
    predictions, targets = paired(
        "regression.absolute_percentage_error", predictions=predictions, targets=targets
    )
    return distance_over(predictions, targets, epsilon)


@loss(
    "regression",
    domain=_REALS,
    claims=Claims(non_negative=True, zero_at_target=True, symmetric=True, bounded=2.0),
    source="Makridakis, Spiliotis & Assimakopoulos (2020), The M4 Competition, sec. 2.4 (sMAPE).",
)
def symmetric_absolute_percentage_error(
    predictions: Float[ArrayLike, "*rows"], targets: Real[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """Absolute error as a fraction of the mean of the two magnitudes, between 0 and 2.

        ℓ = 2|r| / (|p| + |t|),    ∂ℓ/∂p = 2 (sign r − sign p · |r| / (|p| + |t|)) / (|p| + |t|)

    A fraction, not a percentage. Where p = t = 0 the loss and its derivative are 0; at the kinks
    r = 0 and p = 0 the sign is taken as 0.

    Args and errors as for `squared_error`; the loss has no unit.
    """
    predictions, targets = paired(
        "regression.symmetric_absolute_percentage_error", predictions=predictions, targets=targets
    )
    return relative_distance(predictions, targets)


@loss(
    "regression",
    domain=_REALS,
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        convex=True,
        lipschitz=1.0,
        smooth=1.0,
        shift_invariant=True,
    ),
    source="Saleh & Saleh (2022), Statistical properties of the log-cosh loss function, eq. 1.",
    peers=("optax.losses.log_cosh", "keras.losses.LogCosh"),
)
def log_cosh(
    predictions: Float[ArrayLike, "*rows"], targets: Real[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """Logarithm of the hyperbolic cosine: ½r² near zero, |r| − log 2 far away.

        ℓ = log cosh r,    ∂ℓ/∂p = tanh r

    Right to the last digits also below 1e-4, where log(cosh r) is 0 in float32.

    Args and errors as for `squared_error`.
    """
    predictions, targets = paired("regression.log_cosh", predictions=predictions, targets=targets)
    return log_cosh_of(predictions - targets)


@loss(
    "regression",
    domain=_REALS,
    options={"epsilon": NON_NEGATIVE},
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        convex=True,
        lipschitz=1.0,
        shift_invariant=True,
    ),
    source="Vapnik (1995), The Nature of Statistical Learning Theory, sec. 6.1.",
    peers=("sklearn.svm.LinearSVR",),
)
def epsilon_insensitive(
    predictions: Float[ArrayLike, "*rows"],
    targets: Real[ArrayLike, "*rows"],
    *,
    epsilon: float | Array = 0.1,
) -> Float[Array, "*rows"]:
    """Absolute error beyond a tube in which nothing is lost: support-vector regression.

        ℓ = max(|r| − ε, 0),    ∂ℓ/∂p = sign r where |r| > ε, else 0

    At |r| = ε the derivative is taken as 0.

    Args:
        predictions: floating point, any unit.
        targets: of the same shape and unit.
        epsilon: half the width of the tube, in that unit, ≥ 0.

    Returns:
        The loss of each row, in the same unit.

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes; a concrete negative epsilon.

    """
    predictions, targets = paired("regression.epsilon_insensitive", predictions=predictions, targets=targets)
    return relu(jnp.abs(predictions - targets) - epsilon)


@loss(
    "regression",
    domain=_REALS,
    options={"epsilon": NON_NEGATIVE},
    claims=Claims(
        non_negative=True,
        zero_at_target=True,
        symmetric=True,
        convex=True,
        smooth=2.0,
        shift_invariant=True,
    ),
    source="Vapnik (1995), The Nature of Statistical Learning Theory, sec. 6.1; scikit-learn's SVR.",
    peers=("sklearn.svm.LinearSVR",),
)
def squared_epsilon_insensitive(
    predictions: Float[ArrayLike, "*rows"],
    targets: Real[ArrayLike, "*rows"],
    *,
    epsilon: float | Array = 0.1,
) -> Float[Array, "*rows"]:
    """Squared error beyond a tube in which nothing is lost.

        ℓ = max(|r| − ε, 0)²,    ∂ℓ/∂p = 2 sign r · max(|r| − ε, 0)

    Args and errors as for `epsilon_insensitive`; the loss is in the unit squared.
    """
    predictions, targets = paired(
        "regression.squared_epsilon_insensitive", predictions=predictions, targets=targets
    )
    excess = relu(jnp.abs(predictions - targets) - epsilon)
    return excess * excess


@loss(
    "vector",
    domain=_REALS,
    options={"epsilon": NON_NEGATIVE},
    claims=Claims(non_negative=True, zero_at_target=True, convex=True, lipschitz=1e8),
    source="Li et al. (2021), Fourier Neural Operator for Parametric PDEs, sec. 5 (relative error).",
    peers=("neuralop.losses.LpLoss",),
)
def relative_l2(
    predictions: Float[ArrayLike, "*rows features"],
    targets: Real[ArrayLike, "*rows features"],
    *,
    epsilon: float | Array = 1e-8,
) -> Float[Array, "*rows"]:
    """Euclidean distance as a fraction of the target's norm, one value a vector.

        ℓ = ‖p − t‖ / (‖t‖ + ε),    ∂ℓ/∂p = (p − t) / (‖p − t‖ (‖t‖ + ε))

    At p = t the derivative is taken as 0.

    Args:
        predictions: floating point, one vector a row along the last axis.
        targets: of the same shape.
        epsilon: added to the target's norm, in its unit, ≥ 0.

    Returns:
        The loss of each row, without unit.

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes, or no last axis; a concrete negative epsilon.

    """
    predictions, targets = vectors("regression.relative_l2", predictions=predictions, targets=targets)
    return safe_norm(predictions - targets) / (safe_norm(targets) + epsilon)


@loss(
    "vector",
    domain=_REALS,
    claims=Claims(non_negative=True, symmetric=True, bounded=2.0),
    source="Salton & McGill (1983), Introduction to Modern Information Retrieval, sec. 4.",
    peers=("optax.losses.cosine_distance", "keras.losses.CosineSimilarity"),
)
def cosine_distance(
    predictions: Float[ArrayLike, "*rows features"], targets: Real[ArrayLike, "*rows features"]
) -> Float[Array, "*rows"]:
    """One minus the cosine of the angle between two vectors, between 0 and 2.

        ℓ = 1 − p·t / (‖p‖ ‖t‖),    ∂ℓ/∂p = −(t/‖t‖ − cos · p/‖p‖) / ‖p‖

    A zero vector has cosine 0 with every vector, and derivative 0. Half the squared distance of the
    two unit vectors is what is computed: never negative, and right for nearly parallel vectors.

    Args:
        predictions: floating point, one vector a row along the last axis.
        targets: of the same shape.

    Returns:
        The loss of each row, without unit.

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes, or no last axis.

    """
    predictions, targets = vectors("regression.cosine_distance", predictions=predictions, targets=targets)
    return numerics.cosine_distance(predictions, targets)
