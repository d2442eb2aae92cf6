"""Logarithms of sums of exponentials over the classes of the last axis, and the class an id names."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss.numerics.derivatives import term
from jaxloss.numerics.pairs import beside, multiply

# Below this many elements a second pass over the data is cheaper than deciding whether to make it.
_SMALL = 1 << 20


def logsumexp(x: Array, where: Array | None = None) -> Array:
    """log Σ e^x over the last axis, over the entries `where` holds; −∞ over none of them.

    Right to 2 ULPs of the larger of itself and max x. Derivative: softmax, zero at entries left out
    whatever they hold; e^x turns a rounding of x into |x| of them, so a share p has 1 + |log p| times
    those ULPs.
    """
    if where is not None:
        x = jnp.where(where, x, -jnp.inf)
    pivot = class_pivot(x)
    return log_normaliser(x, pivot) + pivot


def class_pivot(logits: Array) -> Array:
    """The largest logit of each row, a constant under differentiation; 0 where it is −∞."""
    largest = lax.stop_gradient(jnp.max(logits, axis=-1, initial=-jnp.inf))
    return jnp.where(largest == -jnp.inf, 0, largest)


def among_present(change: Callable[[Array], Array], logits: Array) -> Array:
    """`change(logits)`, where a class excluded by −∞ stays so: it has no part in any derivative, no ∞·0."""
    excluded = logits == -jnp.inf
    return jnp.where(excluded, -jnp.inf, change(jnp.where(excluded, 0, logits)))


@jax.custom_jvp
def pick(values: Array, ids: Array) -> Array:
    """values[..., id]: the entry each row's id names, NaN for an id that names none.

    A negative id names none: it does not count from the end. The derivative is a dense select, so
    no gradient scatters; it is NaN for an id that names none.
    """
    classes = values.shape[-1]
    # Not left to the fill: an id of 2³² − 1 would wrap to −1, and that to the last class.
    named = jnp.where((ids < 0) | (ids >= classes), classes, ids)[..., None]
    return jnp.take_along_axis(values, named, axis=-1, mode="fill", fill_value=jnp.nan)[..., 0]


def _pick_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (values, ids), (dvalues, _) = primals, tangents
    valid = (ids >= 0) & (ids < values.shape[-1])
    elsewhere = jnp.where(valid, jnp.zeros((), values.dtype), jnp.nan)[..., None]
    slopes = jnp.where(_names(ids, values), 1, elsewhere)
    return pick(values, ids), jnp.sum(slopes * dvalues, axis=-1)


pick.defjvp(_pick_jvp, symbolic_zeros=True)


def one_hot(ids: Array, values: Array) -> Array:
    """1 at the entry of `values` each row's id names, 0 elsewhere; NaN in a row whose id names none."""
    named = (ids >= 0) & (ids < values.shape[-1])
    return jnp.where(named[..., None], _names(ids, values).astype(values.dtype), jnp.nan)


def _names(ids: Array, values: Array) -> Array:
    """One-hot of the ids, as a comparison that fuses into what uses it."""
    return lax.broadcasted_iota(ids.dtype, values.shape, values.ndim - 1) == ids[..., None]


@jax.custom_jvp
def surprise(logits: Array, ids: Array) -> Array:
    """−log softmax(z)[id], to 4 ULPs whatever offset the logits share and however far one leads.

    Derivative: the softmax, less 1 at the label, where it is −(1 − p) = expm1(−surprise): p − 1 would
    be zero from a lead of 17 on in float32. NaN, with NaN derivative, for an id that names no class.
    """
    pivot = class_pivot(logits)
    lead = pick(logits, ids) - pivot
    log_sum = log_normaliser(logits, pivot, _at_pivot(lead))
    return log_sum - _settled(lead, log_sum)


def _surprise_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (logits, ids), (dlogits, _) = primals, tangents
    value, pivot = surprise(logits, ids), class_pivot(logits)
    log_sum = log_normaliser(logits, pivot, _at_pivot(pick(logits, ids) - pivot))
    normaliser = jnp.where(jnp.isnan(value), value, log_sum)
    shares = _shares(logits, pivot, normaliser)
    slopes = jnp.where(_names(ids, logits), jnp.expm1(-value)[..., None], shares)
    return value, jnp.sum(slopes * dlogits, axis=-1)


surprise.defjvp(_surprise_jvp, symbolic_zeros=True)


@jax.custom_jvp
def surprise_and_log_normaliser(logits: Array, ids: Array) -> tuple[Array, Array]:
    """`surprise`, and `log_normaliser` of the row's pivot, from one pass, inside a loop as well.

    Derivatives as of `surprise`, and the softmax.
    """
    pivot = class_pivot(logits)
    lead = pick(logits, ids) - pivot
    log_sum = log_normaliser(logits, pivot, _at_pivot(lead))
    return log_sum - _settled(lead, log_sum), log_sum


def _surprise_and_log_normaliser_jvp(
    primals: tuple[Array, Array], tangents: tuple[Any, Any]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    (logits, ids), (dlogits, _) = primals, tangents
    value, log_sum = surprise_and_log_normaliser(logits, ids)
    normaliser = jnp.where(jnp.isnan(value), value, log_sum)
    shares = _shares(logits, class_pivot(logits), normaliser)
    # As one row of ids behind a barrier: a loop would store all of `_names`, which it finds unchanging.
    classes = lax.optimization_barrier(jnp.arange(logits.shape[-1], dtype=ids.dtype))
    labelled = jnp.expand_dims(classes, tuple(range(ids.ndim))) == ids[..., None]
    slopes = jnp.where(labelled, jnp.expm1(-value)[..., None], shares)
    return (value, log_sum), (jnp.sum(slopes * dlogits, axis=-1), jnp.sum(shares * dlogits, axis=-1))


surprise_and_log_normaliser.defjvp(_surprise_and_log_normaliser_jvp, symbolic_zeros=True)


@jax.custom_jvp
def surprises_of(logits: Array, ids: Array) -> Array:
    """`surprise` of several ids of each row, `[..., n]`, from one pass over the classes."""
    return _surprises_of(logits, ids)[0]


def _surprises_of(logits: Array, ids: Array) -> tuple[Array, Array]:
    """The surprises, and the softmax."""
    pivot = class_pivot(logits)
    each = [pick(logits, ids[..., n]) for n in range(ids.shape[-1])]
    leads = jnp.stack(each, axis=-1) - pivot[..., None]
    log_sum = log_normaliser(logits, pivot, jnp.any(_at_pivot(leads), axis=-1))
    return log_sum[..., None] - _settled(leads, log_sum[..., None]), _shares(logits, pivot, log_sum)


def _surprises_of_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (logits, ids), (dlogits, _) = primals, tangents
    value, shares = _surprises_of(logits, ids)
    at_ids = jnp.expm1(-value)

    def moved(n: int) -> Array:
        named = _names(ids[..., n], logits)
        return jnp.sum(jnp.where(named, at_ids[..., n, None], shares) * dlogits, axis=-1)

    return value, jnp.stack([moved(n) for n in range(ids.shape[-1])], axis=-1)


surprises_of.defjvp(_surprises_of_jvp, symbolic_zeros=True)


def surprises(logits: Array) -> Array:
    """−log softmax(z) of every class, never negative: a difference of two terms that have its sign."""
    pivot = class_pivot(logits)
    log_sum = log_normaliser(logits, pivot)[..., None]
    return log_sum - _settled(logits - pivot[..., None], log_sum)


def _at_pivot(lead: Array) -> Array:
    """Whether a class is the pivot, of which z − pivot is 0, or a rounding where the compiler fuses z = s·x.

    A class that is not, and is that close, has the pivot's share: then the sum is above 1.5.
    """
    return lead > -0.5


def _settled(lead: Array, log_sum: Array) -> Array:
    """z − pivot without its rounding, but with its derivative, at the pivot where one class has it all."""
    return lead - lax.stop_gradient(jnp.where(_at_pivot(lead) & (log_sum < 0.4), lead, 0))


def expected_cost(logits: Array, labels: Array, cost: Callable[[Array], Array]) -> Array:
    """The mean over a row's label, an id or a distribution, of a function of the label's surprise."""
    if labels.ndim < logits.ndim:
        return cost(surprise(logits, labels))
    return jnp.sum(multiply(labels, cost(surprises(logits))), axis=-1)


@jax.custom_jvp
def expected_surprise(logits: Array, shares: Array) -> Array:
    """Σ_c s_c (−log softmax(z)_c) for shares s ≥ 0, to 8 ULPs; a class without a share costs nothing.

    ∂/∂z_j = p_j Σ_{c≠j} s_c − s_j (1 − p_j). Autodiff's p_j Σ s_c − s_j has no digit left where one class
    has all of both. ∂/∂s_c = −log p_c.
    """
    return jnp.sum(multiply(shares, surprises(logits)), axis=-1)


def _expected_surprise_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (logits, shares), (dlogits, dshares) = primals, tangents
    each = surprises(logits)

    def slopes() -> Array:
        return jnp.exp(-each) * sum_of_others(shares, beside=shares) + shares * jnp.expm1(-each)

    from_logits, from_shares = term(slopes, dlogits), term(lambda: beside(shares, each), dshares)
    return expected_surprise(logits, shares), jnp.sum(from_logits + from_shares, axis=-1)


expected_surprise.defjvp(_expected_surprise_jvp, symbolic_zeros=True)


def class_surprise(
    logits: Array,
    labels: Array,
    weights: Array | None,
    smoothing: float | Array | None,
    present: Array | None = None,
) -> Array:
    """Σ_c w_c t_c (−log softmax(z)_c) for ids or distributions t, smoothed to (1 − α) t + α/K.

    `weights` and `present`, which holds the classes that there are, have the logits' shape; None for ones.
    """
    has_ids = labels.ndim < logits.ndim
    if has_ids and (weights is None or smoothing is None):
        return _of_ids(logits, labels, weights, smoothing, present)
    shares = one_hot(labels, logits) if has_ids else labels
    if smoothing is not None:
        shares = (1 - smoothing) * shares + smoothing * _uniform(logits, present)
    return expected_surprise(logits, shares if weights is None else weights * shares)


def _of_ids(
    logits: Array,
    ids: Array,
    weights: Array | None,
    smoothing: float | Array | None,
    present: Array | None,
) -> Array:
    """−w_y log p_y, or smoothed: −log p_c = −log p_y + z_y − z_c, and the mean of the differences counts α.

    Weighted differences would cancel where the label counts less than a class that leads: weights and
    smoothing together go by distributions.
    """
    own = surprise(logits, ids)
    if weights is not None:
        return multiply(pick(weights, ids), own)
    if smoothing is None:
        return own
    named = pick(logits, ids)
    # An impossible label is infinitely far ahead in `own` already: ∞ less ∞ would be none.
    lead = jnp.where(named == -jnp.inf, 0, named)[..., None] - logits
    # Divided before they are summed: K leads of the largest float have no sum.
    return own + jnp.sum(lead * (smoothing * _uniform(logits, present)), axis=-1, where=present)


def _uniform(logits: Array, present: Array | None) -> Array:
    """The share of each class when all that are there have one."""
    there = jnp.ones_like(logits) if present is None else present.astype(logits.dtype)
    return there / jnp.sum(there, axis=-1, keepdims=True)


def sum_of_others(terms: Array, *, beside: Array) -> Array:
    """Σ_{c≠j} x_c for each j: only beside the largest share does the sum less x_j lose digits."""
    if not terms.size:
        return terms  # there is no largest of nothing
    largest = _names(jnp.argmax(beside, axis=-1), terms)
    rest = jnp.sum(jnp.where(largest, 0, terms), axis=-1, keepdims=True)
    return jnp.where(largest, rest, jnp.sum(terms, axis=-1, keepdims=True) - terms)


@jax.custom_jvp
def log_normaliser(logits: Array, pivot: Array, closely: Array | bool = True) -> Array:
    """log Σ e^{z_j − pivot} for the pivot of `class_pivot`, to 4 ULPs also where one class has it all.

    Derivative in the logits: the softmax. The pivot is a constant. Where not `closely`, to 1 ULP of 1:
    enough beside a label that is not at the pivot, for where one class has it all that label is far.
    """
    total, rest = _exponential_sums(logits, pivot, closely)
    return jnp.where(closely & (total > 0) & (total < 1.5), jnp.log1p(rest), jnp.log(total))


@log_normaliser.defjvp
def _log_normaliser_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    (logits, pivot, closely), (dlogits, _, _) = primals, tangents
    value = log_normaliser(logits, pivot, closely)
    return value, jnp.sum(_shares(logits, pivot, value) * dlogits, axis=-1)


def _shares(logits: Array, pivot: Array, log_sum: Array) -> Array:
    """e^{z_j − pivot − log_sum}, the share of each class; zeros where the sum is of nothing.

    Or of nothing but underflow: e^{x − (−∞)} would be NaN, or ∞ and NaN after it.
    """
    log_sum = jnp.where(log_sum == -jnp.inf, 0, log_sum)
    alone = lax.optimization_barrier(pivot)  # or z − pivot is stored, for the sum to read as well
    return jnp.exp((logits - alone[..., None]) - log_sum[..., None])


def _exponential_sums(logits: Array, pivot: Array, closely: Array | bool) -> tuple[Array, Array]:
    """Σ e^{z_j − pivot}, and the same without the class at the pivot, right where the first is < 1.5.

    The first is 1 + 1e−8 = 1 in float32 where one class leads by 18; its logarithm is in the second.
    On large inputs the second is computed only if some row needs it.
    """
    total = jnp.sum(jnp.exp(logits - pivot[..., None]), axis=-1)

    def rest() -> Array:
        # e^x, but 0 next to x = 0, in operations that fuse into the reduction: no mask, no copy. Where it
        # is read the others lie below −0.69. The barrier keeps the compiler from storing e^x to share it.
        distance = logits - lax.optimization_barrier(pivot)[..., None]
        return jnp.sum(jnp.minimum(jnp.exp(distance), 8 * jnp.maximum(-0.5 - distance, 0)), axis=-1)

    if logits.size < _SMALL:
        return total, rest()
    return total, lax.cond(jnp.any(closely & (total < 1.5)), rest, lambda: jnp.zeros_like(total))
