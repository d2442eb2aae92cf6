"""Losses of a row whose label is a rank: 0 for the lowest of K, K − 1 for the highest."""

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float, Integer

from jaxloss import numerics
from jaxloss._contracts import RANKS, REAL, ranked, scored
from jaxloss._loss import Claims, loss

_RANKS = {"logits": REAL, "labels": RANKS}


@loss(
    "ordinal",
    domain=_RANKS,
    claims=Claims(non_negative=True, convex=True, smooth=0.25),
    source="Cao, Mirjalili & Raschka (2020), Rank Consistent Ordinal Regression for Neural Networks, eq. 4.",
)
def coral(
    logits: Float[ArrayLike, "*rows thresholds"], labels: Integer[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """Binary cross-entropies of "the rank is above k", for every k.

        ℓ = Σ_k log(1 + e^z_k) − [y > k] z_k,    ∂ℓ/∂z_k = σ(z_k) − [y > k]

    Ranks are consistent where the logits share their weights and differ by a bias alone, as CORAL's
    last layer has it; the loss does not ask for that.

    Args:
        logits: floating point, `[*rows, K − 1]`: the log-odds that the rank is above 0, 1, ...
        labels: ranks, integer `[*rows]`, 0 to K − 1.

    Returns:
        The loss of each row, in nats; NaN in a row whose rank is out of range.

    Raises:
        TypeError: logits that are not floating point; labels that are not integers.
        ValueError: shapes that do not fit.

    """
    logits, _, above = ranked("ordinal.coral", 1, logits=logits, labels=labels)
    return jnp.sum(numerics.bernoulli_nll(logits, above), axis=-1)


@loss(
    "ordinal",
    domain=_RANKS,
    claims=Claims(non_negative=True, convex=True, smooth=0.25),
    source="Shi, Cao & Raschka (2021), Deep Neural Networks for Rank-Consistent Ordinal Regression, eq. 7.",
)
def corn(
    logits: Float[ArrayLike, "*rows thresholds"], labels: Integer[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """Binary cross-entropies of "the rank is above k, given that it is above k − 1".

        ℓ = Σ_{k ≤ y} log(1 + e^z_k) − [y > k] z_k,    ∂ℓ/∂z_k = σ(z_k) − [y > k] where k ≤ y, else 0

    The probability that the rank is above k is the product σ(z_0) ⋯ σ(z_k), so ranks are consistent
    whatever the logits are, and ℓ is the negative log-likelihood of the rank. The authors' code divides
    the batch's sum by how many terms it has, not by its rows.

    Args and errors as for `coral`.
    """
    logits, ranks, above = ranked("ordinal.corn", 1, logits=logits, labels=labels)
    reached = lax.broadcasted_iota(ranks.dtype, logits.shape, ranks.ndim) <= ranks[..., None]
    return jnp.sum(jnp.where(reached, numerics.bernoulli_nll(logits, above), 0), axis=-1)


@loss(
    "ordinal",
    domain=_RANKS,
    options={"thresholds": REAL},
    claims=Claims(non_negative=True, convex=True, lipschitz=1.0, smooth=0.25),
    source="McCullagh (1980), Regression Models for Ordinal Data, sec. 2.2, eq. 2.4.",
)
def cumulative_link(
    logits: Float[ArrayLike, "*rows"],
    labels: Integer[ArrayLike, "*rows"],
    *,
    thresholds: Float[ArrayLike, " thresholds"] | float = 0.0,
) -> Float[Array, "*rows"]:
    """Negative log-likelihood of a rank in the proportional-odds model.

        ℓ = −log(σ(b) − σ(a)),    b = θ_y − z,  a = θ_{y−1} − z,    ∂ℓ/∂z = σ(−b) − σ(a)

    With θ_{−1} = −∞ and θ_{K−1} = ∞. Taken as log(1 + e^−b) + log(1 + e^a) − log(1 − e^(a − b)): the
    difference of two logistic functions would be 0 in the tails. With the one threshold 0 there are
    two ranks, and it is `binary.cross_entropy`.

    Args:
        logits: floating point, `[*rows]`: the one score z of a row; a higher one means a higher rank.
        labels: ranks, integer `[*rows]`, 0 to K − 1.
        thresholds: θ, `[K − 1]`, increasing, on the scale of the logits; a number for two ranks.

    Returns:
        The loss of each row, in nats; NaN in a row whose rank is out of range or lies between two
        thresholds that decrease, ∞ between two that are equal.

    Raises:
        TypeError: logits that are not floating point; labels that are not integers.
        ValueError: two shapes.

    """
    inner = jnp.atleast_1d(thresholds)
    logits, ranks = scored("ordinal.cumulative_link", inner.size + 1, logits=logits, labels=labels)
    ends = jnp.asarray([-jnp.inf, jnp.inf], logits.dtype)
    cuts = jnp.concatenate([ends[:1], inner.astype(logits.dtype), ends[1:]])
    cuts = jnp.broadcast_to(cuts, (*logits.shape, cuts.size))
    below, above = numerics.pick(cuts[..., :-1], ranks), numerics.pick(cuts[..., 1:], ranks)
    outside = numerics.softplus(logits - above) + numerics.softplus(below - logits)
    return outside - numerics.log1mexp(below - above)


@loss(
    "ordinal",
    domain=_RANKS,
    claims=Claims(non_negative=True),
    source="Hou, Yu & Samaras (2016), Squared Earth Mover's Distance-based Loss, eq. 6.",
)
def squared_emd(
    logits: Float[ArrayLike, "*rows classes"], labels: Integer[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """Squared distance of the softmax's distribution function from the label's, summed over the ranks.

        ℓ = Σ_k (P_k − [y ≤ k])²,    P_k = Σ_{j ≤ k} p_j,
        ∂ℓ/∂z_j = p_j (g_j − Σ p g),    g_j = 2 Σ_{k ≥ j} (P_k − [y ≤ k])

    P_k − 1 is taken as minus the probabilities above k, so no digit is lost where the label is all but
    certain. The gradient makes K² numbers a row.

    Args:
        logits: floating point, `[*rows, K]`.
        labels: ranks, integer `[*rows]`, 0 to K − 1.

    Returns:
        The loss of each row, from 0 to K − 1; NaN in a row whose rank is out of range.

    Raises:
        TypeError: logits that are not floating point; labels that are not integers.
        ValueError: shapes that do not fit.

    """
    logits, _, above = ranked("ordinal.squared_emd", 0, logits=logits, labels=labels)
    return jnp.sum(jnp.square(_misplaced(logits, above)), axis=-1)


@loss(
    "ordinal",
    domain=_RANKS,
    # A mean of squares P² of the probabilities of events, each with a gradient of at most 2√2 P² (1 − P).
    # It bends most where two ranks share the probability: 4 P² (1 − P)(2 − 3P), at P = 0.386.
    claims=Claims(non_negative=True, lipschitz=8 * 2.0**0.5 / 27, smooth=0.3081171402431, bounded=1.0),
    source="Epstein (1969), A Scoring System for Probability Forecasts of Ranked Categories; "
    "Murphy (1971), A Note on the Ranked Probability Score.",
)
def ranked_probability_score(
    logits: Float[ArrayLike, "*rows classes"], labels: Integer[ArrayLike, "*rows"]
) -> Float[Array, "*rows"]:
    """The Brier score of "the rank is above k", averaged over k, under the softmax of the logits.

        ℓ = 1/(K − 1) Σ_{k < K − 1} (P_k − [y ≤ k])²,    ∂ℓ/∂z as of `squared_emd`, over K − 1

    A proper score: the expected loss is least where the softmax is the distribution of the rank. Without
    the 1/(K − 1), as some have it, it is `squared_emd`.

    Args and errors as for `squared_emd`.
    """
    logits, _, above = ranked("ordinal.ranked_probability_score", 0, logits=logits, labels=labels)
    return jnp.sum(jnp.square(_misplaced(logits, above)), axis=-1) / max(logits.shape[-1] - 1, 1)


def _misplaced(logits: Array, above: Array) -> Array:
    """For each k < K − 1 the probability on the side of it where the rank is not."""
    shares = numerics.softmax(logits)
    lower = jnp.cumsum(shares, axis=-1)[..., :-1]
    upper = jnp.flip(jnp.cumsum(jnp.flip(shares, -1), axis=-1), -1)[..., 1:]
    return above * lower + (1 - above) * upper
