"""What the order of the last axis says: differences of all pairs without forming them."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss.numerics.derivatives import term
from jaxloss.numerics.vectors import broadcast_as


def places(x: Array) -> Array:
    """The index of each entry of the last axis, over the devices that x is over."""
    return broadcast_as(lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1), x)


@jax.custom_jvp
def half_mean_gap(x: Array) -> Array:
    """Half the mean of |x_i − x_j| over all pairs of the last axis, in O(M log M), to 8 ULPs of the widest.

    Σ_i (2i − M + 1) x_(i) / M² over the sorted numbers, i from 0. Derivative: (how many are below x_i less
    how many are above it) / M², so equal numbers have equal ones, and none where all are equal.
    """
    count = x.shape[-1]
    ordered = jnp.sort(x, axis=-1)
    # The weights sum to zero: from the middle, no offset is left to round.
    centred = ordered - ordered[..., count // 2, None]
    place = lax.broadcasted_iota(x.dtype, x.shape, x.ndim - 1)
    return jnp.sum((2 * place + 1 - count) / count * centred, axis=-1) / count


@half_mean_gap.defjvp
def _half_mean_gap_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    count = x.shape[-1]
    # A NaN has no place in the order: it spoils the derivatives of its row.
    slopes = _below_less_above(x).astype(x.dtype) / count**2 + 0 * jnp.sum(jnp.sign(x), -1, keepdims=True)
    return half_mean_gap(x), jnp.sum(slopes * dx, axis=-1)


def _below_less_above(x: Array) -> Array:
    """How many of its row are smaller than each number, less how many are larger."""
    count, axis = x.shape[-1], x.ndim - 1
    order = jnp.argsort(x, axis=-1)
    ordered = jnp.take_along_axis(x, order, axis=-1)
    place = places(x)
    step = ordered[..., 1:] != ordered[..., :-1]
    edge = jnp.ones_like(order[..., :1], bool)
    starts = jnp.where(jnp.concatenate([edge, step], axis=-1), place, 0)
    ends = jnp.where(jnp.concatenate([step, edge], axis=-1), place, count - 1)
    below, last = lax.cummax(starts, axis=axis), lax.cummin(ends, axis=axis, reverse=True)
    found = below - (count - 1 - last)
    return jnp.take_along_axis(found, jnp.argsort(order, axis=-1), axis=-1)


@jax.custom_jvp
def squared_leads(x: Array, shift: Array, upper: Array, lower: Array) -> Array:
    """Σ max(0, y_j − y_i)² over upper j and lower i of the last axis, y = x + shift, in O(M log M).

    Derivative by y: 2 Σ max(0, y_j − y_i) for an upper, −2 Σ for a lower. Going down the order, the
    sums of the leads and of their squares grow by positive terms alone: no digit is lost to an offset.
    """
    order, _, squares = _leads_down(x, shift, upper)
    counted = jnp.where(jnp.take_along_axis(lower, order, axis=-1), squares, 0)
    return jnp.sum(counted + 0 * jnp.sign(x), axis=-1)


def _squared_leads_jvp(
    primals: tuple[Array, Array, Array, Array], tangents: tuple[Any, Any, Any, Any]
) -> tuple[Array, Any]:
    (x, shift, upper, lower), (dx, dshift, *_) = primals, tangents

    def slopes() -> Array:
        # To an upper all lowers are above it once the order is turned over.
        ways = ((1, upper, lower), (-1, lower, upper))
        sums = []
        for sign, leading, led in ways:
            order, leads, _ = _leads_down(sign * x, sign * shift, leading)
            there = jnp.take_along_axis(leads, jnp.argsort(order, axis=-1), axis=-1)
            sums.append(jnp.where(led, 2 * there, 0))
        return sums[1] - sums[0] + 0 * jnp.sign(jnp.sum(x, axis=-1, keepdims=True))

    moved = term(slopes, dx) + term(slopes, dshift)
    return squared_leads(*primals), jnp.sum(jnp.zeros_like(x) + moved, axis=-1)


squared_leads.defjvp(_squared_leads_jvp, symbolic_zeros=True)


def _leads_down(x: Array, shift: Array, leading: Array) -> tuple[Array, Array, Array]:
    """The order down, and in it Σ (y_j − y_i) and Σ (y_j − y_i)² over the leading j so far."""
    # Infinite numbers that are equal are no distance apart.
    x = jnp.clip(x, jnp.finfo(x.dtype).min, jnp.finfo(x.dtype).max)
    # y and what its sum has rounded away: neither the order nor a step, nor a million of them, loses it.
    y = x + shift
    added = y - x
    rest = (x - (y - added)) + (shift - added)
    down, under, order = lax.sort((-y, -rest, places(x)), dimension=x.ndim - 1, num_keys=2)
    leading = jnp.take_along_axis(leading, order, axis=-1)
    steps = (down[..., 1:] - down[..., :-1]) + (under[..., 1:] - under[..., :-1])
    steps = jnp.concatenate([jnp.zeros_like(x[..., :1]), steps], axis=-1)
    nothing = jnp.zeros_like(x)
    stretches = steps, leading.astype(x.dtype), nothing, nothing
    _, _, leads, squares = lax.associative_scan(_joined, stretches, axis=x.ndim - 1)
    return order, leads, squares


def _joined(first: tuple[Array, ...], second: tuple[Array, ...]) -> tuple[Array, ...]:
    """Two stretches of the way down: their length, how many lead, their leads at its end, and squares."""
    (length, count, leads, squares), (further, others, more, squared) = first, second
    gained = count * further
    grown = squares + further * (2 * leads + gained)
    return length + further, count + others, leads + gained + more, grown + squared
