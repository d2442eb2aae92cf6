"""Sums over the ways in which frames may take turns with labels, in logarithms."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss.numerics.chains import scaled
from jaxloss.numerics.classes import surprises_of
from jaxloss.numerics.derivatives import cut
from jaxloss.numerics.sequences import log_add
from jaxloss.numerics.vectors import broadcast_as


def turns_surprise(
    logits: Array, labels: Array, blank: Array, frames: Array, there: Array, lost: Array
) -> Array:
    """−log of the probability that frames, each of which ends with a blank, say the labels; never negative.

    logits `[*rows, T, 1 + N, K]`, of frame t once n labels are said; labels and `there` `[*rows, N]`;
    `frames` `[*rows, T]`, which there are. A label that is not there takes the state after it with it. ∞
    where no alignment is possible; the derivative there is `lost`.
    """
    count = labels.shape[-1]
    places = lax.broadcasted_iota(labels.dtype, labels.shape, labels.ndim - 1)
    coming = lax.cummin(jnp.where(there, places, count), axis=labels.ndim - 1, reverse=True)
    coming = _with(coming, count, after=True)
    ids = jnp.take_along_axis(_with(labels, blank.astype(labels.dtype), after=True), coming, axis=-1)
    states, more = _with(there, True, after=False)[..., None, :], (coming < count)[..., None, :]
    held = frames[..., None] & states
    ids = jnp.stack([broadcast_as(blank.astype(ids.dtype), ids), ids], axis=-1)
    ids = jnp.broadcast_to(ids[..., None, :, :], (*held.shape, 2))
    costs = surprises_of(cut(logits, held[..., None]), ids)
    # What is not there is passed by at no cost: a frame by a blank, a state by the label in front of it, the
    # last states once all frames are over.
    here = jnp.broadcast_to(frames[..., None], held.shape)
    blanks = jnp.where(here, jnp.where(held, costs[..., 0], jnp.inf), 0)
    spoken = jnp.where(here & more, jnp.where(held, costs[..., 1], 0), jnp.inf)
    over = jnp.where(more, jnp.inf, 0).astype(blanks.dtype)
    blanks, spoken = (
        jnp.concatenate([x, end], axis=-2)
        for x, end in ((blanks, jnp.full_like(over, jnp.inf)), (spoken, over))
    )
    return _lattice_surprise(_by_diagonal(blanks), _by_diagonal(spoken), lost)


def _with(x: Array, end: Any, *, after: bool) -> Array:
    """One more entry of the last axis, after the others or before them."""
    end = jnp.full_like(jnp.sum(x, axis=-1, keepdims=True), end, dtype=x.dtype)
    return jnp.concatenate([x, end] if after else [end, x], axis=-1)


def _by_diagonal(x: Array) -> Array:
    """The entries [t, n] of `[*rows, T, N]` as [t + n, n] of `[T + N − 2, *rows, N]`, ∞ where there is none.

    Rows padded by as many as there are, and read as rows that are one shorter, move on by one each. The
    last diagonal, of one entry that nothing leaves, is left out.
    """
    frames, states = x.shape[-2:]
    padding = [(0, 0)] * (x.ndim - 1) + [(0, states)]
    long = jnp.pad(jnp.swapaxes(x, -1, -2), padding, constant_values=jnp.inf)
    flat = long.reshape((*x.shape[:-2], states * (frames + states)))[..., :-states]
    return jnp.moveaxis(flat.reshape((*x.shape[:-2], states, frames + states - 1)), -1, 0)[:-1]


@jax.custom_jvp
def _lattice_surprise(blanks: Array, spoken: Array, lost: Array) -> Array:
    """−log Σ e^{−cost} over the paths of a lattice, diagonal by diagonal, from its first to its last corner.

    Costs `[D, *rows, N]` of going to the next frame and of saying the next label. Derivative in a cost: the
    share of the paths that pay it. Each path leaves each diagonal once: the shares are made to add up to 1
    on it, whatever the length of the path.
    """
    del lost
    return _forwards(blanks, spoken)[0]


@_lattice_surprise.defjvp
def _lattice_surprise_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    blanks, spoken, lost = primals
    value, passed = _forwards(blanks, spoken)
    gone = (value == jnp.inf)[..., None]
    tangent = jnp.zeros_like(value)
    for shares, change in zip(_backwards(blanks, spoken, passed), tangents[:2], strict=True):
        shares = jnp.where(jnp.broadcast_to(gone, shares.shape), lost, shares)
        tangent += jnp.sum(shares * change, axis=(0, -1))
    return value, tangent


def _corner(costs: Array, *, first: bool) -> Array:
    """The logarithms of being at the first or at the last state alone."""
    states = lax.broadcasted_iota(jnp.int32, costs.shape[1:], costs.ndim - 2)
    corner = states == (0 if first else costs.shape[-1] - 1)
    return jnp.where(corner, jnp.zeros_like(jnp.sum(costs, axis=0)), -jnp.inf)


def _moved(x: Array, by: int) -> Array:
    """The entries of the last axis one further on, or back; −∞ where none has come from."""
    nothing = jnp.full_like(x[..., :1], -jnp.inf)
    parts = [nothing, x[..., :-1]] if by > 0 else [x[..., 1:], nothing]
    return jnp.concatenate(parts, axis=-1)


def _forwards(blanks: Array, spoken: Array) -> tuple[Array, Array]:
    """The surprise, and the logarithms of the paths up to each diagonal, to a constant each."""

    def step(state: Array, costs: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        blank, label = costs
        after, scale = scaled(log_add(state - blank, _moved(state - label, 1)))
        return after, (scale, state)

    state, (scales, passed) = lax.scan(step, _corner(blanks, first=True), (blanks, spoken))
    surprise = -(jnp.sum(scales, axis=0) + state[..., -1])
    return jnp.where(surprise <= 0, 0, surprise), passed  # −0 of certainty is 0 as well


def _backwards(blanks: Array, spoken: Array, passed: Array) -> tuple[Array, Array]:
    """Of the paths, those that leave each state by a blank, and by a label."""

    def step(rest: Array, inputs: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
        blank, label, state = inputs
        by_blank, by_label = rest - blank, _moved(rest, -1) - label
        both, _ = scaled(jnp.concatenate([state + by_blank, state + by_label], axis=-1))
        shares = jnp.exp(both)
        total = jnp.sum(shares, axis=-1, keepdims=True)
        shares = shares / jnp.where(total == 0, 1, total)
        states = state.shape[-1]
        return scaled(log_add(by_blank, by_label))[0], (shares[..., :states], shares[..., states:])

    inputs = (blanks, spoken, passed)
    return lax.scan(step, _corner(blanks, first=False), inputs, reverse=True)[1]
