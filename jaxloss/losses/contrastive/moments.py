"""Two views of a batch, compared by the moments of their features."""

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Bool, Float

from jaxloss._contracts import NON_NEGATIVE, POSITIVE, VECTORS, batched, coupled_rows
from jaxloss._loss import Claims, loss
from jaxloss.numerics import products, relu

_VIEWS = {"first": VECTORS, "second": VECTORS}


@loss(
    "contrastive",
    domain=_VIEWS,
    options={"off_diagonal_weight": NON_NEGATIVE, "epsilon": POSITIVE},
    claims=Claims(non_negative=True),
    source="Zbontar et al. (2021), Barlow Twins: Self-Supervised Learning via Redundancy Reduction, "
    "eq. 1 and 2.",
    counts=coupled_rows,
)
def barlow_twins(
    first: Float[ArrayLike, "*rows features"],
    second: Float[ArrayLike, "*rows features"],
    *,
    off_diagonal_weight: float | Array = 5e-3,
    epsilon: float | Array = 1e-5,
    where: Bool[ArrayLike, "*rows"] | None = None,
) -> Float[Array, "*rows"]:
    """How far the correlations of two views' features are from the identity; the batch's value in every row.

        ℓ = Σ_i (1 − C_ii)² + λ Σ_{i≠j} C_ij²,    C = z ᵀz′ / rows,    z = (x − mean) / √(variance + ε)
        ∂ℓ/∂C_ii = −2 (1 − C_ii),    ∂ℓ/∂C_ij = 2λ C_ij

    Mean and variance (over rows, not rows − 1) are each feature's, as in the paper's batch normalisation. In
    every row stands the loss of the whole batch, of which the mean is that loss.

    Args:
        first: x, floating point, `[*rows, features]`, one view of each row; the last axis of the rows is the
            batch.
        second: x′, of the same shape, the other view.
        off_diagonal_weight: λ ≥ 0.
        epsilon: ε > 0, for a feature that is the same in all rows.
        where: bool, `[*rows]`, the rows that there are; the others may hold NaN, and have loss 0.

    Returns:
        The loss of the batch, once for each row.

    Raises:
        TypeError: a view that is not floating point; a mask that is not bool.
        ValueError: shapes that do not fit; a concrete option out of range.

    """
    first, second, kept = batched("contrastive.barlow_twins", where, first=first, second=second)
    count = jnp.maximum(jnp.sum(kept, axis=-1, dtype=first.dtype), 1)[..., None, None]
    columns = [_standardised(view, kept, count, epsilon) for view in (first, second)]
    correlations = products(*(jnp.swapaxes(view, -1, -2) for view in columns)) / count
    identity = jnp.broadcast_to(jnp.eye(first.shape[-1], dtype=first.dtype), correlations.shape)
    weights = identity + off_diagonal_weight * (1 - identity)
    total = jnp.sum(weights * jnp.square(correlations - identity), axis=(-2, -1))
    return jnp.where(kept, total[..., None], 0)


def _centred(view: Array, kept: Array, count: Array) -> Array:
    """Each feature less its mean over the rows that there are; 0 in the others."""
    return jnp.where(kept[..., None], view - jnp.sum(view / count, axis=-2, keepdims=True), 0)


def _standardised(view: Array, kept: Array, count: Array, epsilon: float | Array) -> Array:
    centred = _centred(view, kept, count)
    # From 1e19 on the square of a float32 is infinite.
    scale = jnp.maximum(lax.stop_gradient(jnp.max(jnp.abs(centred), axis=-2, keepdims=True, initial=0)), 1)
    centred = centred / scale
    variance = jnp.sum(jnp.square(centred), axis=-2, keepdims=True) / count
    return centred / jnp.sqrt(variance + epsilon / scale / scale)


@loss(
    "contrastive",
    domain=_VIEWS,
    options={
        "invariance_weight": NON_NEGATIVE,
        "variance_weight": NON_NEGATIVE,
        "covariance_weight": NON_NEGATIVE,
        "epsilon": POSITIVE,
    },
    claims=Claims(non_negative=True),
    source="Bardes, Ponce & LeCun (2022), VICReg: Variance-Invariance-Covariance Regularization, eq. 1 to 6.",
    counts=coupled_rows,
)
def vicreg(
    first: Float[ArrayLike, "*rows features"],
    second: Float[ArrayLike, "*rows features"],
    *,
    invariance_weight: float | Array = 25.0,
    variance_weight: float | Array = 25.0,
    covariance_weight: float | Array = 1.0,
    epsilon: float | Array = 1e-4,
    where: Bool[ArrayLike, "*rows"] | None = None,
) -> Float[Array, "*rows"]:
    """Two views' distance, and the batch's penalties of features that do not vary, or vary together.

        ℓ = λ/D ‖x_a − x′_a‖² + Σ over views of [μ/2D Σ_j max(0, 1 − √(C_jj + ε)) + ν/D Σ_{i≠j} C_ij²]
        ∂ℓ/∂x_a = 2λ/D (x_a − x′_a) + what comes through the covariances C

    with the rows' covariances C over rows − 1. The distance is taken over D, and the deviations halved,
    as in the authors' program, for which the weights were found. At a deviation of 1 the derivative is 0.

    Args:
        first: x, floating point, `[*rows, features]`, one view of each row; the last axis of the rows is the
            batch.
        second: x′, of the same shape, the other view.
        invariance_weight: λ ≥ 0.
        variance_weight: μ ≥ 0.
        covariance_weight: ν ≥ 0.
        epsilon: ε > 0, for a feature that is the same in all rows.
        where: bool, `[*rows]`, the rows that there are; the others may hold NaN, and have loss 0.

    Returns:
        The loss of each row: its own distance, and the penalties of the batch.

    Raises:
        TypeError: a view that is not floating point; a mask that is not bool.
        ValueError: shapes that do not fit; a concrete option out of range.

    """
    first, second, kept = batched("contrastive.vicreg", where, first=first, second=second)
    count = jnp.sum(kept, axis=-1, dtype=first.dtype)[..., None, None]
    penalty = jnp.zeros((), first.dtype)
    for view in (first, second):
        centred = jnp.swapaxes(_centred(view, kept, jnp.maximum(count, 1)), -1, -2)
        covariances = products(centred, centred) / jnp.maximum(count - 1, 1)
        identity = jnp.broadcast_to(jnp.eye(first.shape[-1], dtype=bool), covariances.shape)
        deviations = jnp.sqrt(jnp.sum(jnp.where(identity, covariances, 0), axis=-1) + epsilon)
        varying = 0.5 * variance_weight * jnp.mean(relu(1 - deviations), axis=-1)
        together = jnp.sum(jnp.where(identity, 0, jnp.square(covariances)), axis=(-2, -1)) / first.shape[-1]
        penalty = penalty + varying + covariance_weight * together
    distances = jnp.mean(jnp.square(first - second), axis=-1)
    return jnp.where(kept, invariance_weight * distances + penalty[..., None], 0)
