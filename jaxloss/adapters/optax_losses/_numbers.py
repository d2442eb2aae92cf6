"""Losses of a number a row: residuals and two labels."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxloss.adapters.optax_losses._shapes import Floats, Number, Reals, one_call, together
from jaxloss.losses import binary, regression, robust


def _or_zeros(predictions: ArrayLike, targets: ArrayLike | None) -> ArrayLike:
    return jnp.zeros_like(predictions) if targets is None else targets


@one_call()
def squared_error(predictions: Floats, targets: Reals | None = None) -> Float[Array, "..."]:
    """`regression.squared_error`, of zeros where there are no targets."""
    return regression.squared_error(predictions, _or_zeros(predictions, targets))


@one_call()
def l2_loss(predictions: Floats, targets: Reals | None = None) -> Float[Array, "..."]:
    """`regression.half_squared_error`, of zeros where there are no targets."""
    return regression.half_squared_error(predictions, _or_zeros(predictions, targets))


def huber_loss(
    predictions: Floats, targets: Reals | None = None, *, delta: Number = 1.0
) -> Float[Array, "..."]:
    """`robust.huber`, of zeros where there are no targets; delta must be positive."""
    targets = _or_zeros(predictions, targets)
    pair = together("huber_loss", predictions=predictions, targets=targets)
    return robust.huber(*pair, delta=delta)


@one_call()
def log_cosh(predictions: Floats, targets: Reals | None = None) -> Float[Array, "..."]:
    """`regression.log_cosh`, of zeros where there are no targets; no digit of a small residual is lost."""
    targets = _or_zeros(predictions, targets)
    return regression.log_cosh(*together("log_cosh", predictions=predictions, targets=targets))


@one_call()
def sigmoid_binary_cross_entropy(logits: Floats, labels: Reals) -> Float[Array, "..."]:
    """`binary.cross_entropy`; NaN for a label outside [0, 1]."""
    return binary.cross_entropy(*together("sigmoid_binary_cross_entropy", logits=logits, labels=labels))


def sigmoid_focal_loss(
    logits: Floats, labels: Reals, *, alpha: Number | None = None, gamma: Number = 2.0
) -> Float[Array, "..."]:
    """`binary.focal`; NaN for a label outside [0, 1]; gamma ≥ 0 and alpha in [0, 1]."""
    pair = together("sigmoid_focal_loss", logits=logits, labels=labels)
    return binary.focal(*pair, gamma=gamma, alpha=alpha)


@one_call()
def hinge_loss(predictor_outputs: Floats, targets: Reals) -> Float[Array, "..."]:
    """`binary.hinge`; NaN for a target other than −1 and +1, and slope 0 where the margin is just kept."""
    pair = together("hinge_loss", predictor_outputs=predictor_outputs, targets=targets)
    return binary.hinge(*pair)


@one_call()
def perceptron_loss(predictor_outputs: Floats, targets: Reals) -> Float[Array, "..."]:
    """`binary.perceptron`; NaN for a target other than −1 and +1, and slope 0 at a score of 0."""
    return binary.perceptron(predictor_outputs, targets)


@one_call()
def sparsemax_loss(logits: Floats, labels: Reals) -> Float[Array, "..."]:
    """`binary.sparsemax`; a label between 0 and 1 is the probability it says, not a 1."""
    return binary.sparsemax(*together("sparsemax_loss", logits=logits, labels=labels))
