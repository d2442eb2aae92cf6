"""Sums over the alignments of a sequence, in logarithms."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss.numerics.classes import class_pivot, log_normaliser, logsumexp, pick
from jaxloss.numerics.derivatives import cut
from jaxloss.numerics.vectors import broadcast_as


@jax.custom_jvp
def log_add(x: Array, y: Array) -> Array:
    """log(e^x + e^y), to 2 ULPs of the larger of itself and max(x, y); −∞ of two −∞.

    Derivatives e^x / (e^x + e^y) and e^y / (e^x + e^y), both 0 where both are −∞.
    """
    larger = jnp.maximum(x, y)
    return larger + jnp.log1p(jnp.exp(jnp.minimum(x, y) - _finite(larger)))


@log_add.defjvp
def _log_add_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (x, y), (dx, dy) = primals, tangents
    larger = lax.stop_gradient(_finite(jnp.maximum(x, y)))
    of_x, of_y = jnp.exp(x - larger), jnp.exp(y - larger)
    total = jnp.where((of_x == 0) & (of_y == 0), 1, of_x + of_y)
    return log_add(x, y), of_x / total * dx + of_y / total * dy


def _finite(x: Array) -> Array:
    """x, the lowest float where it is −∞: −∞ less that is −∞, and not NaN."""
    return jnp.maximum(x, jnp.finfo(x.dtype).min)


@jax.custom_jvp
def alignment_surprise(
    logits: Array, labels: Array, blank: Array, frames: Array, lengths: Array, lost: Array
) -> Array:
    """−log of the probability that frames spell the labels, blanks and repetitions taken out; never negative.

    logits `[*rows, T, K]`; labels `[*rows, N]`, of which the first `lengths` are meant; `frames`
    `[*rows, T]`, which frames there are. Derivative in a logit: p_k less the probability that the frame
    says k given the labels, to some ULPs of both and of 1 less both. ∞ where no alignment is possible;
    the derivative there is `lost`.

    Alignments are summed from both ends at once. Where the two sums meet they give the value; on
    their way on, each meets what the other left, and that is the derivative: no half is stored twice.
    Derivatives of higher order are autodiff's, of these two scans.
    """
    del lost
    return _meet(_Lattice.of(logits, labels, blank, frames, lengths))[0]


def _alignment_surprise_jvp(primals: tuple[Array, ...], tangents: tuple[Any, ...]) -> tuple[Array, Any]:
    logits, labels, blank, frames, lengths, lost = primals
    logits = cut(logits, frames[..., None])
    lattice = _Lattice.of(logits, labels, blank, frames, lengths)
    value, impossible, state, passed = _meet(lattice)
    shares = _part(lattice, state, passed)[..., : frames.shape[-1], :]
    symbols, total = _with_blank(labels, blank), jnp.sum(shares, axis=-1)
    top = _top(shares, symbols)
    others = jnp.sum(jnp.where(symbols[..., None, :] == top[..., None], 0, shares), axis=-1) / total
    classes = logits.shape[-1]
    # That a row has an alignment is known after the scans: made before, the array would be kept beside them.
    possible = jnp.any(total > 0, axis=-1)
    named = _is_class(symbols, classes) & possible[..., None, None]
    given = jnp.matmul(shares, named.astype(shares.dtype), precision="highest") / total[..., None]
    pivot = class_pivot(logits)
    normaliser = log_normaliser(logits, pivot)
    slopes = jnp.exp((logits - pivot[..., None]) - normaliser[..., None]) - given
    # Of a class that has nearly all of both, p − q has no digit left: there it is (1 − q) − (1 − p). The
    # select keeps the compiler from storing this as an array of the logits' shape.
    at_top = others + jnp.expm1((pick(logits, top) - pivot) - normaliser)
    at_top = jnp.where(top >= 0, at_top, jnp.nan)
    slopes = jnp.where(_is_class(top, classes), at_top[..., None], slopes)
    slopes = jnp.where(frames[..., None], slopes, 0)
    slopes = jnp.where(impossible[..., None, None], lost, slopes)
    return value, jnp.sum(slopes * tangents[0], axis=(-1, -2))


alignment_surprise.defjvp(_alignment_surprise_jvp, symbolic_zeros=True)


def _is_class(ids: Array, classes: int) -> Array:
    """One-hot of the ids over a new last axis, as a comparison."""
    shape = (*ids.shape, classes)
    return lax.broadcasted_iota(ids.dtype, shape, ids.ndim) == ids[..., None]


def _with_blank(labels: Array, blank: Array) -> Array:
    """The blank, then the labels."""
    first = jnp.full_like(jnp.sum(labels, axis=-1, keepdims=True), blank, dtype=labels.dtype)
    return jnp.concatenate([first, labels], axis=-1)


def _top(shares: Array, symbols: Array) -> Array:
    """The symbol of the largest share."""
    largest = shares == jnp.max(shares, axis=-1, keepdims=True)
    return jnp.max(jnp.where(largest, symbols[..., None, :], 0), axis=-1)


# Of having said n labels and then a blank, or the n-th label last.
_Pair = tuple[Array, Array]


class _Lattice(NamedTuple):
    """What alignments are made of. The first axis of `changes` and `start` is the way: forwards, backwards.

    logs: log-probabilities `[*rows, T, 1 + N]` of the blank and of each label, T even.
    frames: `[*rows, T]`, which there are.
    changes: `[2, *rows, 1 + N]`, whether the next label is another one: then no blank is needed between.
    start: two of `[2, *rows, 1 + N]`, log-probabilities of having said n labels and then a blank, or none.
    """

    logs: Array
    frames: Array
    changes: Array
    start: _Pair

    @classmethod
    def of(cls, logits: Array, labels: Array, blank: Array, frames: Array, lengths: Array) -> "_Lattice":
        symbols = _with_blank(labels, blank)
        pivot = class_pivot(logits)
        spoken = jnp.take_along_axis(logits, symbols[..., None, :], axis=-1, mode="clip")
        logs = (spoken - pivot[..., None]) - log_normaliser(logits, pivot)[..., None]
        logs = jnp.where(frames[..., None], logs, 0)
        steps = logits.shape[-2]
        absent = max(2 - steps, steps % 2)
        rows = [(0, 0)] * lengths.ndim
        ends = jnp.stack([symbols, _mirrored(symbols)])
        count = labels.shape[-1]
        # Backwards the last labels, which are not meant, are as good as said.
        lengths = broadcast_as(lengths, symbols[..., 0])
        starts = jnp.stack([jnp.zeros_like(lengths), count - lengths])
        said = jnp.where(_is_class(starts, count + 1), 0.0, -jnp.inf).astype(logs.dtype)
        return cls(
            jnp.pad(logs, [*rows, (0, absent), (0, 0)]),
            jnp.pad(frames, [*rows, (0, absent)]),
            ends != jnp.roll(ends, -1, axis=-1),
            (said, jnp.full_like(said, -jnp.inf)),
        )

    def at(self, step: Array, logs: Array) -> tuple[Array, Array]:
        """The frames that the two ways have come to, `[2, *rows, 1 + N]`, and whether they are there."""
        mirror = self.frames.shape[-1] - 1 - step
        ahead, behind = (lax.dynamic_index_in_dim(logs, i, -2, keepdims=False) for i in (step, mirror))
        there = [lax.dynamic_index_in_dim(self.frames, i, -1, keepdims=False) for i in (step, mirror)]
        return jnp.stack([ahead, _mirrored(behind)]), jnp.stack(there)[..., None]


def _mirrored(symbols: Array) -> Array:
    """The blank, then the labels from the last to the first."""
    return jnp.roll(jnp.flip(symbols, axis=-1), 1, axis=-1)


def _reach(lattice: _Lattice, state: _Pair) -> _Pair:
    """What can go on with a blank (first) or with the n-th label (second)."""
    blanks, spoken = state
    either = log_add(blanks, spoken)
    before = jnp.where(lattice.changes, either, blanks)[..., :-1]
    nothing = jnp.full_like(either[..., :1], -jnp.inf)
    return either, log_add(spoken, jnp.concatenate([nothing, before], axis=-1))


def _advance(state: _Pair, reach: _Pair, logs: Array, there: Array) -> tuple[_Pair, Array]:
    """One frame on, scaled so that the likeliest is 1, and the logarithm of that scale."""
    blanks = jnp.where(there, reach[0] + logs[..., :1], state[0])
    spoken = jnp.where(there, reach[1] + logs, state[1])
    scale = _largest(blanks, spoken)
    return (blanks - scale[..., None], spoken - scale[..., None]), scale


def _largest(blanks: Array, spoken: Array) -> Array:
    """The largest logarithm of a pair, a finite constant."""
    return lax.stop_gradient(_finite(jnp.maximum(jnp.max(blanks, axis=-1), jnp.max(spoken, axis=-1))))


def _meet(lattice: _Lattice) -> tuple[Array, Array, _Pair, _Pair]:
    """The surprise, whether it is of nothing, the state halfway from both ends, what could go on before."""

    def step(state: _Pair, i: Array) -> tuple[_Pair, tuple[Array, _Pair]]:
        reach = _reach(lattice, state)
        state, scale = _advance(state, reach, *lattice.at(i, lattice.logs))
        return state, (scale, reach)

    state, (scales, passed) = lax.scan(step, lattice.start, jnp.arange(lattice.frames.shape[-1] // 2))
    either, reached = _reach(lattice, state)
    through = _through((either[0], reached[0]), (state[0][1], state[1][1]))
    total = logsumexp(jnp.concatenate(through, axis=-1))
    surprise = -(jnp.sum(scales, axis=(0, 1)) + total)
    # −0 of certainty is 0 as well.
    return jnp.where(surprise <= 0, 0, surprise), total == -jnp.inf, state, passed


def _through(reach: _Pair, back: _Pair) -> _Pair:
    """What comes from one end and goes on to the other: n labels said, or the n-th being said."""
    return reach[0] + jnp.flip(back[0], axis=-1), reach[1] + _mirrored(back[1])


def _part(lattice: _Lattice, state: _Pair, passed: _Pair) -> Array:
    """How likely each symbol is at each frame, `[*rows, T, 1 + N]`, to a factor a frame: blanks as one."""
    steps = lattice.frames.shape[-1]

    def step(carry: tuple[_Pair, Array], inputs: tuple[Array, _Pair]) -> tuple[tuple[_Pair, Array], None]:
        (state, shares), (i, back) = carry, inputs
        logs, there = lattice.at(i, shares)
        reach = _reach(lattice, state)
        blanks, spoken = _through(reach, (jnp.flip(back[0], axis=0), jnp.flip(back[1], axis=0)))
        blanks, spoken = blanks + logs[..., :1], spoken + logs
        pivot = _largest(blanks, spoken)[..., None]
        said = jnp.sum(jnp.exp(blanks - pivot), axis=-1, keepdims=True)
        ahead, behind = jnp.concatenate([said, jnp.exp(spoken - pivot)[..., 1:]], axis=-1)
        # In the place of what was read: there is no third array of this size.
        shares = lax.dynamic_update_index_in_dim(shares, ahead, i, -2)
        shares = lax.dynamic_update_index_in_dim(shares, _mirrored(behind), steps - 1 - i, -2)
        return (_advance(state, reach, logs, there)[0], shares), None

    beyond = jnp.arange(steps - 1, steps // 2 - 1, -1)
    return lax.scan(step, (state, lattice.logs), (beyond, passed), reverse=True)[0][1]
