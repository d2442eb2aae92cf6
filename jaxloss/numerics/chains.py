"""Sums over the chains of classes that places may be named by, in logarithms."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

from jaxloss.numerics.classes import logsumexp, pick


def chain_surprise(
    logits: Array, labels: Array, there: Array, transitions: Array, start: Array, end: Array
) -> Array:
    """log Σ_c e^{s(c) − s(y)} over the chains c of classes, one for each place that is there; never negative.

    logits `[*rows, T, K]`; labels y and `there` `[*rows, T]`; transitions `[K, K]`; start and end `[K]`. s
    adds up the logits of a chain's classes, its transitions, `start` of its first class, `end` of its last.
    Every score is taken as its lead over the label's, so that no digit is lost where the labels have it all.
    ∞ where the labels' score is −∞, also under differentiation; 0 of no places.
    """
    labels = jnp.where(there, jnp.clip(labels, 0, logits.shape[-1] - 1), 0)
    order = jnp.cumsum(there, axis=-1)
    leads = _leads(logits, labels)
    for scores, place in ((start, 1), (end, order[..., -1:])):
        chosen = (there & (order == place))[..., None]
        leads = leads + jnp.where(chosen, _leads(jnp.broadcast_to(scores, leads.shape), labels), 0)
    return _chain_surprise(jnp.where(there[..., None], leads, 0), transitions, labels, there)


def _leads(scores: Array, labels: Array) -> Array:
    """How far each score is ahead of the label's, which is a constant to all of them."""
    return scores - _finite(pick(lax.stop_gradient(scores), labels))[..., None]


def _finite(x: Array) -> Array:
    """x, 0 where it is −∞."""
    return jnp.where(x == -jnp.inf, 0, x)


@jax.custom_jvp
def _chain_surprise(leads: Array, transitions: Array, labels: Array, there: Array) -> Array:
    """The same of leads over the label, which are 0 at the label: autodiff would store K² numbers a place.

    Derivative in a lead: the share of the chains that have the class there, less 1 at the label, where it is
    −(the shares of all others); so too in a transition, for each two places that follow each other.
    """
    return _forwards(_Chain.of(leads, transitions, labels, there), transitions)[0]


def _chain_surprise_jvp(primals: tuple[Array, ...], tangents: tuple[Any, ...]) -> tuple[Array, Any]:
    leads, transitions, labels, there = primals
    chain = _Chain.of(leads, transitions, labels, there)
    value, state, passed = _forwards(chain, transitions)
    by_transitions = not isinstance(tangents[1], SymbolicZero)
    slopes, counts = _backwards(chain, transitions, state, passed, counted=by_transitions)
    tangent = jnp.zeros_like(value)
    if not isinstance(tangents[0], SymbolicZero):
        tangent += jnp.sum(slopes * tangents[0], axis=(-1, -2))
    if by_transitions:
        tangent += jnp.sum(counts * jnp.broadcast_to(tangents[1], counts.shape), axis=(-1, -2))
    return value, tangent


_chain_surprise.defjvp(_chain_surprise_jvp, symbolic_zeros=True)


class _Chain(NamedTuple):
    """What chains are made of, place by place: the first axis of each is T.

    leads: `[T, *rows, K]`. own: `[T, *rows]`, the transition that the labels make to a place. labels, here.
    before: the label of the place before. begun: whether the place is there and there is one before it.
    """

    leads: Array
    own: Array
    labels: Array
    before: Array
    here: Array
    begun: Array

    @classmethod
    def of(cls, leads: Array, transitions: Array, labels: Array, there: Array) -> "_Chain":
        # The number of the last place that is there, up to and with each, and then before each.
        places = lax.broadcasted_iota(labels.dtype, labels.shape, labels.ndim - 1) + 1
        last = lax.cummax(places * there.astype(places.dtype), axis=there.ndim - 1)
        last = jnp.roll(last, 1, axis=-1) * (places > 1).astype(places.dtype)
        before = jnp.take_along_axis(labels, jnp.maximum(last - 1, 0), axis=-1)
        # Each row has the transitions to itself: JAX shards no gather of what all rows have in common.
        classes = transitions.shape[0]
        flat = lax.stop_gradient(transitions).reshape(-1)
        of_rows = jnp.broadcast_to(flat, (*labels.shape[:-1], classes**2))
        made = jnp.take_along_axis(of_rows, before * classes + labels, axis=-1)
        by_row = (jnp.where(there & (last > 0), made, 0), labels, before, there, there & (last > 0))
        return cls(jnp.moveaxis(leads, -2, 0), *(jnp.moveaxis(x, -1, 0) for x in by_row))

    @property
    def impossible(self) -> Array:
        """Whether a score of the labels is −∞."""
        alone = pick(lax.stop_gradient(self.leads), self.labels)
        return jnp.any((self.here & (alone == -jnp.inf)) | (self.own == -jnp.inf), axis=0)


def _onward(transitions: Array, own: Array) -> Array:
    """How far every transition is ahead of the labels' own, `[*rows, K, K]`."""
    return jnp.broadcast_to(transitions, (*own.shape, *transitions.shape)) - _finite(own)[..., None, None]


def _log_sum(x: Array) -> Array:
    """log Σ e^x over the last axis, right where one term has it all; −∞ over none.

    `logsumexp` in operations whose own derivative is right. Of a scan that a rule runs, JAX's reverse mode
    drops the rules within it: then the second order differentiates what stands here.
    """
    largest = _is(jnp.argmax(x, axis=-1), x.shape[-1])
    pivot = jnp.sum(jnp.where(largest, x, 0), axis=-1)
    below = jnp.where(largest | (pivot == -jnp.inf)[..., None], -jnp.inf, x - pivot[..., None])
    return pivot + jnp.log1p(jnp.sum(jnp.exp(below), axis=-1))


def _is(ids: Array, count: int) -> Array:
    """One-hot of the ids over a new last axis, as a comparison."""
    return lax.broadcasted_iota(ids.dtype, (*ids.shape, count), ids.ndim) == ids[..., None]


def scaled(state: Array) -> tuple[Array, Array]:
    """Logarithms of which the largest is 0, and the constant that they were above it."""
    scale = lax.stop_gradient(_finite(jnp.max(state, axis=-1)))
    return state - scale[..., None], scale


def _forwards(chain: _Chain, transitions: Array) -> tuple[Array, Array, Array]:
    """The surprise, and logarithms of the chains by their last class: of whole ones, and up to each place."""

    def step(state: Array, place: _Chain) -> tuple[Array, tuple[Array, Array]]:
        moved = _log_sum(state[..., None, :] + _onward(transitions.T, place.own))
        reached = jnp.where(place.begun[..., None], moved, 0) + place.leads
        after, scale = scaled(jnp.where(place.here[..., None], reached, state))
        return after, (scale, state)

    start = jnp.zeros_like(jnp.sum(chain.leads, axis=0))
    state, (scales, passed) = lax.scan(step, start, chain)
    surprise = jnp.sum(scales, axis=0) + logsumexp(state)
    # Nothing is below the labels' own chain but rounding, and of no places there is no other.
    surprise = jnp.where((surprise < 0) | ~jnp.any(chain.here, axis=0), 0, surprise)
    return jnp.where(chain.impossible, jnp.inf, surprise), state, passed


def _backwards(
    chain: _Chain, transitions: Array, state: Array, passed: Array, *, counted: bool
) -> tuple[Array, Array]:
    """The derivatives in the leads `[*rows, T, K]`, and in the transitions `[*rows, K, K]` if counted."""
    classes = state.shape[-1]

    def step(carry: tuple[Array, ...], inputs: tuple[_Chain, Array]) -> tuple[tuple[Array, ...], Array]:
        (rest, state, counts), (place, before) = carry, inputs
        slopes = jnp.where(place.here[..., None], _less_one_hot(state + rest, place.labels), 0)
        onward = _onward(transitions, place.own) + (place.leads + rest)[..., None, :]
        if counted:
            pairs = (before[..., :, None] + onward).reshape((*rest.shape[:-1], classes * classes))
            pairs = _less_one_hot(pairs, place.before * classes + place.labels).reshape(onward.shape)
            counts = counts + jnp.where(place.begun[..., None, None], pairs, 0)
        rest, _ = scaled(jnp.where(place.begun[..., None], _log_sum(onward), rest))
        return (rest, before, counts), slopes

    nothing = jnp.zeros_like(state)
    counts = jnp.broadcast_to(nothing[..., None], (*state.shape, classes if counted else 0))
    carry = (nothing, state, counts)
    (*_, counts), slopes = lax.scan(step, carry, (chain, passed), reverse=True)
    return jnp.moveaxis(slopes, 0, -2), counts


def _less_one_hot(logs: Array, ids: Array) -> Array:
    """softmax less 1 at the id, where it is −(the sum of all others): of a share near 1 no digit is lost."""
    shares = jnp.exp(scaled(logs)[0])
    own = _is(ids, logs.shape[-1])
    total = jnp.sum(shares, axis=-1, keepdims=True)
    others = jnp.sum(jnp.where(own, 0, shares), axis=-1, keepdims=True)
    slopes = jnp.where(own, -others, shares) / jnp.where(total == 0, 1, total)
    return jnp.where(total == 0, jnp.nan, slopes)
