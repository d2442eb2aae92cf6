"""Logarithms and exponentials of a temper: the softmax with a heavy tail, and its Bregman divergence."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss.numerics.costs import bend, saturated
from jaxloss.numerics.derivatives import term
from jaxloss.numerics.divergences import expm1_excess
from jaxloss.numerics.pairs import divide, multiply

# Newton's steps rise to the normaliser and double its digits; a row that needs more than these has none.
_STEPS = 60


@jax.custom_jvp
def tempered_surprises(logits: Array, temper: Array) -> Array:
    """−log p for p = exp_t(z − λ), Σ p = 1, with t = 1 + `temper` ≥ 1 and λ the normaliser.

    exp_t(x) = (1 − (t − 1) x)^(−1/(t − 1)), the exponential at t = 1. Right to 16 ULPs of itself where
    p nears 1, as of a tail. Derivatives p_j^(t−1) (q_i − [i = j]) with q ∝ p^t, and by the temper.
    """
    gaps, _ = _gaps(logits)
    return _cooled(_normaliser(gaps, temper) + gaps, temper)


def _gaps(logits: Array) -> tuple[Array, Array]:
    """How far each logit lies below the largest, and which is the largest: there exactly 0."""
    largest = jnp.argmax(logits, axis=-1, keepdims=True)
    top = lax.broadcasted_iota(largest.dtype, logits.shape, logits.ndim - 1) == largest
    below = jnp.take_along_axis(logits, largest, axis=-1) - logits
    return jnp.where(top & ~jnp.isnan(logits), 0, below), top


def _cooled(x: Array, temper: Array) -> Array:
    """log(1 + a x) / a, which is x at a = 0."""
    return jnp.where(temper == 0, x, jnp.log1p(multiply(temper, x)) / jnp.where(temper == 0, 1, temper))


def _normaliser(gaps: Array, temper: Array) -> Array:
    """λ above the largest logit: Newton on the (1 − t)th power of Σ p, straight where all are alike."""

    def ahead(normaliser: Array) -> Array:
        surprises = _cooled(normaliser + gaps, temper)
        # Less 1, without its digits: the largest's share less 1, and the others'.
        top = gaps == 0
        first = jnp.argmax(top, axis=-1, keepdims=True)
        alone = lax.broadcasted_iota(first.dtype, gaps.shape, gaps.ndim - 1) == first
        parts = jnp.where(alone, jnp.expm1(-surprises), jnp.exp(-surprises))
        excess = jnp.sum(parts, axis=-1, keepdims=True)
        slope = jnp.sum(jnp.exp(-(1 + temper) * surprises), axis=-1, keepdims=True)
        step = multiply(temper[..., :1], jnp.log1p(excess))
        log_step = jnp.where(
            temper[..., :1] == 0,
            jnp.log1p(excess),
            jnp.expm1(step) / jnp.where(temper[..., :1] == 0, 1, temper[..., :1]),
        )
        return (1 + excess) * log_step / slope

    def moved(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        count, normaliser, step = state
        # A row that has settled stays: how many steps another takes is not to move it.
        normaliser = normaliser + jnp.where(far(normaliser, step), step, 0)
        return count + 1, normaliser, ahead(normaliser)

    def far(normaliser: Array, step: Array) -> Array:
        return jnp.abs(step) > jnp.finfo(gaps.dtype).eps * normaliser

    def unsettled(state: tuple[Array, Array, Array]) -> Array:
        count, normaliser, step = state
        return (count < _STEPS) & jnp.any(far(normaliser, step))

    start = jnp.zeros_like(gaps[..., :1])
    _, normaliser, _ = lax.while_loop(unsettled, moved, (jnp.int32(0), start, ahead(start)))
    return normaliser


def _tempered_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (logits, temper), (dlogits, dtemper) = primals, tangents
    surprises = tempered_surprises(logits, temper)
    _, top = _gaps(logits)
    tail = jnp.exp(-(1 + temper) * surprises)
    total = jnp.sum(tail, axis=-1, keepdims=True)
    beside = jnp.sum(jnp.where(top, 0, tail), axis=-1, keepdims=True) / total
    cooling = jnp.exp(-multiply(temper, surprises))

    def towards(moves: Array) -> Array:
        """Σ q m − m_j; for the largest of the others' alone, for it has all but none of q of them."""
        others = jnp.sum(jnp.where(top, 0, tail * moves), axis=-1, keepdims=True) / total
        largest = jnp.sum(jnp.where(top, moves, 0), axis=-1, keepdims=True)
        return jnp.where(top, others - beside * moves, others + (1 - beside) * largest - moves)

    def by_temper() -> Array:
        reach = jnp.minimum(multiply(temper, surprises), 800)
        near = reach < 1
        small = jnp.where(near & (surprises < jnp.inf), surprises, 0)
        far = expm1_excess(-jnp.where(near, 1, reach)) / jnp.square(jnp.where(near, 1, temper))
        still = jnp.where(near, jnp.square(small) * bend(jnp.minimum(reach, 1)), far)
        shared = jnp.sum(multiply(jnp.exp(-surprises), still), axis=-1, keepdims=True) / total
        return cooling * shared - still

    moves = jnp.zeros_like(logits) + term(lambda: jnp.ones_like(logits), dlogits)
    from_logits = jnp.where(cooling == 0, 0, cooling * towards(moves))
    return surprises, from_logits + term(by_temper, dtemper)


tempered_surprises.defjvp(_tempered_jvp, symbolic_zeros=True)


@jax.custom_jvp
def tempered_divergence(surprise: Array, share: Array, temper: Array) -> Array:
    """y (log_t y − log_t p) − (y^b − p^b)/b for p = e^−s, t = 1 − `temper` in [0, 1], b = 1 + temper.

    log_t x = (x^(1−t) − 1)/(1 − t), the logarithm at t = 1. Never negative, 0 where p = y: there no term
    cancels another. Derivatives (y − p) p^(1−t) in s, log_t y − log_t p in y, and by the temper.
    """
    own = -jnp.log(share)
    apart = surprise - own
    near = jnp.abs(apart) < 1
    small = jnp.where(near, apart, 0)
    degree = 1 + temper
    bent = expm1_excess(-degree * small) / degree - divide(expm1_excess(-temper * small), temper)
    gap = saturated(surprise, temper) - saturated(own, temper)
    far = multiply(share, gap) + (jnp.exp(-degree * surprise) - jnp.exp(-degree * own)) / degree
    return jnp.where(near, jnp.exp(-degree * own) * bent, far)


def _divergence_jvp(primals: tuple[Array, Array, Array], tangents: tuple[Any, Any, Any]) -> tuple[Array, Any]:
    (surprise, share, temper), (dsurprise, dshare, dtemper) = primals, tangents
    own, degree = -jnp.log(share), 1 + temper

    def by_surprise() -> Array:
        missing = jnp.where(surprise < 0.5, (share - 1) - jnp.expm1(-surprise), share - jnp.exp(-surprise))
        return missing * jnp.exp(-multiply(temper, surprise))

    def by_share() -> Array:
        return saturated(surprise, temper) - saturated(own, temper)

    def by_temper() -> Array:
        def rate(x: Array, r: Array) -> Array:
            return jax.jvp(lambda rate: saturated(x, rate), (r,), (jnp.ones_like(r),))[1]

        gaps = multiply(share, rate(surprise, temper) - rate(own, temper))
        close = (surprise < 1) & (own < 1)
        masses = rate(own, degree) - rate(surprise, degree)
        return gaps + jnp.where(close, masses, _mass_rate(surprise, degree) - _mass_rate(own, degree))

    moved = term(by_surprise, dsurprise) + term(by_share, dshare) + term(by_temper, dtemper)
    return tempered_divergence(surprise, share, temper), moved


tempered_divergence.defjvp(_divergence_jvp, symbolic_zeros=True)


def _mass_rate(x: Array, rate: Array) -> Array:
    """The derivative of e^−rx / r by r."""
    mass = jnp.exp(-rate * x)
    return -(multiply(mass, x) + mass / rate) / rate
