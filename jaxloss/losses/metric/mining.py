"""Losses of triplets that are found in a batch: for each anchor the pairs that are hardest.

The last axis but one of the embeddings is the batch; axes before it are batches of their own. The pairs
are found by the squared distances of one matrix product, whose rounding is of the size of the batch's
spread: pairs that differ by less are as good as tied. No array has an entry for every triplet.
"""

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Integer

from jaxloss._contracts import GROUPS, NON_NEGATIVE, VECTORS, coupled_rows, grouped
from jaxloss._loss import Claims, loss
from jaxloss.numerics import batch_magnitude, pick_rows, relu, safe_norm, squared_distances, squared_gaps

_GROUPED = {"embeddings": VECTORS, "labels": GROUPS}


@loss(
    "contrastive",
    domain=_GROUPED,
    options={"margin": NON_NEGATIVE},
    claims=Claims(non_negative=True),
    source="Hermans, Beyer & Leibe (2017), In Defense of the Triplet Loss for Person Re-identification, "
    "eq. 5.",
    peers=("tensorflow_addons.losses.TripletHardLoss",),
    counts=coupled_rows,
)
def batch_hard_triplet(
    embeddings: Float[ArrayLike, "*rows features"],
    labels: Integer[ArrayLike, "*rows"],
    *,
    margin: float | Array = 1.0,
    where: Bool[ArrayLike, "*rows"] | None = None,
) -> Float[Array, "*rows"]:
    """What the distance to an anchor's nearest stranger lacks of that to its farthest partner and a margin.

        ℓ = max(max_p ‖a − p‖ − min_n ‖a − n‖ + m, 0)
        ∂ℓ/∂a = (a − p)/‖a − p‖ − (a − n)/‖a − n‖ where ℓ > 0,    ∂ℓ/∂p = −(a − p)/‖a − p‖

    At ℓ = 0 the derivative is taken as 0, and so is that of a distance of 0. Where several partners are the
    farthest, or strangers the nearest, it is that of one of them, the first but for rounding. The
    distances of the pairs found are right to their last digits, however near.

    Args:
        embeddings: floating point, `[*rows, features]`, any unit. The last axis of the rows is the batch.
        labels: integer, `[*rows]`: rows of one label are partners, of two strangers.
        margin: m ≥ 0, by how much strangers must be farther, in that unit.
        where: bool, `[*rows]`, the rows that there are; the others may hold NaN, and have loss 0.

    Returns:
        The loss of each row as an anchor, in the same unit; 0 for one without a partner or a stranger. All
        of a batch are NaN where an embedding is not finite.

    Raises:
        TypeError: embeddings that are not floating point, labels not integer, a mask not bool.
        ValueError: shapes that do not fit; a concrete margin that is negative.

    """
    who = "metric.batch_hard_triplet"
    embeddings, same, different = grouped(who, where, embeddings=embeddings, labels=labels)
    embeddings = _all_finite(embeddings)
    squares = _squares(embeddings, same, different)
    if not squares.size:
        return jnp.sum(squares, axis=-1)  # there is no farthest of none
    partner = pick_rows(embeddings, jnp.argmax(jnp.where(same, squares, -jnp.inf), axis=-1))
    stranger = pick_rows(embeddings, jnp.argmin(jnp.where(different, squares, jnp.inf), axis=-1))
    losses = relu(safe_norm(embeddings - partner) - safe_norm(embeddings - stranger) + margin)
    return _compared(losses, same, different)


def _all_finite(embeddings: Array) -> Array:
    """The embeddings, all NaN with NaN derivative in a batch where one is not finite."""
    sound = jnp.all(jnp.isfinite(embeddings), axis=(-2, -1), keepdims=True)
    return embeddings * jnp.where(sound, jnp.ones((), embeddings.dtype), jnp.nan)


def _squares(embeddings: Array, same: Array, different: Array) -> Array:
    """A constant multiple of every two rows' squared distance, out of reach of any derivative."""
    return lax.stop_gradient(
        squared_distances(embeddings / batch_magnitude(embeddings), _there(same, different))
    )


def _there(same: Array, different: Array) -> Array:
    """The rows that there are, if any is beside them."""
    return jnp.any(same | different, axis=-1)


def _compared(losses: Array, same: Array, different: Array) -> Array:
    """The losses of rows with a partner and a stranger, 0 for another; NaN is never left out."""
    compared = jnp.any(same, axis=-1) & jnp.any(different, axis=-1)
    return jnp.where(compared | jnp.isnan(losses), losses, 0)


@loss(
    "contrastive",
    domain=_GROUPED,
    options={"margin": NON_NEGATIVE},
    claims=Claims(non_negative=True),
    source="Schroff, Kalenichenko & Philbin (2015), FaceNet: A Unified Embedding for Face Recognition and "
    "Clustering, eq. 4; TensorFlow Addons' triplet_semihard_loss where no stranger is.",
    peers=("tensorflow_addons.losses.TripletSemiHardLoss",),
    counts=coupled_rows,
)
def semi_hard_triplet(
    embeddings: Float[ArrayLike, "*rows features"],
    labels: Integer[ArrayLike, "*rows"],
    *,
    margin: float | Array = 1.0,
    where: Bool[ArrayLike, "*rows"] | None = None,
) -> Float[Array, "*rows"]:
    """What the squared distance to a stranger lacks of that to a partner and a margin, over all partners.

        ℓ = mean over partners p of max(‖a − p‖² − ‖a − n‖² + m, 0)
        ∂ℓ/∂a = mean of 2 (n − p) where that is above 0,    n the nearest stranger farther than p

    Where no stranger is farther than a partner, n is the farthest stranger. At a kink the derivative is
    taken as 0, and where two strangers tie it is that of one of them. As a stranger comes nearer than a
    partner the loss jumps, to that of the next stranger. Addons' mean, over pairs, is `jl.mean` with each
    anchor's number of partners as `weights`.

    Args:
        embeddings: floating point, `[*rows, features]`, any unit u; FaceNet's are of length 1. The last
            axis of the rows is the batch.
        labels: integer, `[*rows]`: rows of one label are partners, of two strangers.
        margin: m ≥ 0, by how much strangers must be farther, in u².
        where: bool, `[*rows]`, the rows that there are; the others may hold NaN, and have loss 0.

    Returns:
        The loss of each row as an anchor, in u², to ULPs of the squared spread of the batch; 0 for one
        without a partner or a stranger. All of a batch are NaN where an embedding is not finite.

    Raises:
        TypeError: embeddings that are not floating point, labels not integer, a mask not bool.
        ValueError: shapes that do not fit; a concrete margin that is negative.

    """
    who = "metric.semi_hard_triplet"
    embeddings, same, different = grouped(who, where, embeddings=embeddings, labels=labels)
    embeddings = _all_finite(embeddings)
    stranger = _next_farther(_squares(embeddings, same, different), different)
    losses = relu(squared_gaps(embeddings, _there(same, different), stranger) + margin)
    partners = jnp.maximum(jnp.sum(same, axis=-1, dtype=losses.dtype), 1)
    total = jnp.sum(jnp.where(same | jnp.isnan(losses), losses, 0), axis=-1)
    return _compared(total / partners, same, different)


def _next_farther(squares: Array, among: Array) -> Array:
    """For each entry of a row the next larger one of some, or their largest where none is: its index."""
    ranked = jnp.where(among, squares, jnp.inf)
    order = jnp.argsort(ranked, axis=-1)
    ranked = jnp.take_along_axis(ranked, order, axis=-1)
    after = jnp.vectorize(_places_after, signature="(n),(m)->(m)")(ranked, squares)
    last = jnp.sum(among, axis=-1, keepdims=True, dtype=after.dtype) - 1
    return jnp.take_along_axis(order, jnp.clip(after, 0, jnp.maximum(last, 0)), axis=-1)


def _places_after(ranked: Array, squares: Array) -> Array:
    return jnp.searchsorted(ranked, squares, side="right")
