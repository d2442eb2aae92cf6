"""Products, ratios and logarithms of two numbers, where one of them meets zero or the other."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

from jaxloss.numerics.derivatives import nan_below_zero, term
from jaxloss.numerics.elementwise import absolute, clip, log1p, relu, sigmoid


@jax.custom_jvp
def multiply(x: Array, y: Array) -> Array:
    """x·y, where 0·(±∞) = 0; derivatives y and x, the first taken as 0 at 0·(±∞).

    The product of a probability with a log-probability: a class nobody expects costs nothing.
    """
    return x * beside(x, y)


def beside(x: Array, y: Array) -> Array:
    """y, where 0·(±∞) is to be 0."""
    return jnp.where((x == 0) & jnp.isinf(y), 0, y)


def _multiply_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (x, y), (dx, dy) = primals, tangents
    return multiply(x, y), term(lambda: x, dy) + term(lambda: beside(x, y), dx)


multiply.defjvp(_multiply_jvp, symbolic_zeros=True)


@jax.custom_jvp
def xlogy(x: Array, y: Array) -> Array:
    """x·log y, where 0·log 0 = 0, to 2 ULPs; derivatives log y and x/y, the latter 0 at x = 0."""
    return multiply(x, jnp.log(y))


def _xlogy_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (x, y), (dx, dy) = primals, tangents
    from_x = term(lambda: jnp.log(y), dx)
    return xlogy(x, y), from_x + term(lambda: divide(x, y), dy)


xlogy.defjvp(_xlogy_jvp, symbolic_zeros=True)


@jax.custom_jvp
def xlog1py(x: Array, y: Array) -> Array:
    """x·log(1 + y), where 0·log 0 = 0, to 4 ULPs; derivatives log(1 + y) and x/(1 + y), 0 at x = 0."""
    return multiply(x, log1p(y))


def _xlog1py_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (x, y), (dx, dy) = primals, tangents
    from_x = term(lambda: log1p(y), dx)
    return xlog1py(x, y), from_x + term(lambda: divide(x, 1 + y), dy)


xlog1py.defjvp(_xlog1py_jvp, symbolic_zeros=True)


@jax.custom_jvp
def divide(x: Array, y: Array) -> Array:
    """X / y, where 0 / 0 = 0 with zero derivatives, to 2 ULPs; x / 0 stays ±∞ for any other x.

    Derivatives 1/y and −(x/y)/y, to 2 ULPs. Autodiff's −x·y⁻² is infinite from y = 1e-19 down in
    float32: a mean whose weights are that small would have no gradient in them.
    """
    both_zero = (x == 0) & (y == 0)
    return jnp.where(both_zero, 0, x) / jnp.where(both_zero, 1, y)


def _divide_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (x, y), (dx, dy) = primals, tangents
    quotient, both_zero = divide(x, y), (x == 0) & (y == 0)
    from_x = 0.0 if isinstance(dx, SymbolicZero) else jnp.where(both_zero, 0, dx) / jnp.where(both_zero, 1, y)
    return quotient, from_x - term(lambda: divide(quotient, y), dy)


divide.defjvp(_divide_jvp, symbolic_zeros=True)


@jax.custom_jvp
def relative_distance(x: Array, y: Array) -> Array:
    """2|x − y| / (|x| + |y|), to 4 ULPs, 0 at 0/0.

    ∂/∂x = 4|y| sign(x − y) / (|x| + |y|)² where x and y have one sign, else 0. Autodiff finds that
    slope as a difference of two terms, of which no digit is left where |x| ≫ |y|. At a kink (x = y,
    x = 0) it is the mean of the slopes on either side.
    """
    # Halves, so that neither the difference nor the sum of two large magnitudes overflows; 0/0 is 0 over
    # the smallest number, for a mask would not fuse into a sum.
    return 2 * (jnp.abs(0.5 * x - 0.5 * y) / jnp.maximum(_mean_size(x, y), jnp.finfo(x.dtype).tiny))


def _mean_size(x: Array, y: Array) -> Array:
    return 0.5 * absolute(x) + 0.5 * absolute(y)


@relative_distance.defjvp
def _relative_distance_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    (x, y), (dx, dy) = primals, tangents
    size = _mean_size(x, y)
    size = jnp.where(size == 0, 1, size)
    agreement = jnp.sign(x - y) * (1 + jnp.sign(x) * jnp.sign(y)) / size
    towards, away = 0.5 * absolute(y) / size, 0.5 * absolute(x) / size
    return relative_distance(x, y), agreement * (towards * dx - away * dy)


@jax.custom_jvp
def distance_over(x: Array, y: Array, least: Array) -> Array:
    """|x − y| / max(|y|, ε), ε > 0, to 2 ULPs; ∂/∂x = sign(x − y) / max(|y|, ε).

    ∂/∂y = −sign(x − y) (x/y)/|y| where |y| > ε, else −sign(x − y)/ε; ∂/∂ε = −(|x − y|/ε)/ε where |y| ≤ ε,
    else 0. Autodiff's terms of the former cancel where |x| ≪ |y|, and it squares the denominator.
    """
    return jnp.abs(x - y) / jnp.maximum(jnp.abs(y), least)


def _distance_over_jvp(primals: tuple[Array, ...], tangents: tuple[Any, ...]) -> tuple[Array, Any]:
    (x, y, least), (dx, dy, dleast) = primals, tangents
    side, own = jnp.sign(x - y), jnp.abs(y) > least
    size = jnp.where(own, absolute(y), least)
    from_x = term(lambda: divide(side, size), dx)
    from_y = term(lambda: -divide(side * jnp.where(own, divide(x, jnp.where(own, y, 1)), 1), size), dy)
    from_least = term(lambda: -divide(jnp.where(own, 0, divide(absolute(x - y), size)), size), dleast)
    return distance_over(x, y, least), from_x + from_y + from_least


distance_over.defjvp(_distance_over_jvp, symbolic_zeros=True)


@jax.custom_jvp
def power(x: Array, exponent: Array) -> Array:
    """x^exponent for x ≥ 0; derivatives exponent·x^exponent / x and x^exponent·log x, both 0 at x = 0.

    Autodiff's exponent·x^(exponent − 1) is infinite at zero for an exponent below one, and the
    factor that would have cancelled it comes too late. Right to 2 ULPs where x^exponent neither
    overflows nor underflows; beyond, the derivative does as the value. NaN⁰ is 1, as IEEE has it.
    """
    return jnp.power(x, exponent)


def _power_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (x, exponent), (dx, dexponent) = primals, tangents
    powered = power(x, exponent)
    logarithm = jnp.log(jnp.where(x == 0, 1, x))
    # `divide`, or the second derivative would be an infinite x⁻² times a number that is 0 or nearly so.
    from_x = term(lambda: divide(exponent * jnp.where(x == 0, 0, powered), x), dx)
    return powered, from_x + term(lambda: powered * logarithm, dexponent)


power.defjvp(_power_jvp, symbolic_zeros=True)


@jax.custom_jvp
def log1p_difference(x: Array, y: Array) -> Array:
    """log(1 + x) − log(1 + y), to 8 ULPs also where x ≈ y; derivatives 1/(1 + x) and −1/(1 + y)."""
    # log((1 + high) / (1 + low)): no logarithm is taken of a number below 1, and none from another. What
    # the distance has beyond `far` it has as a factor, for the ratio not to overflow.
    distance, low = jnp.abs(x - y), jnp.minimum(x, y)
    far = jnp.finfo(x.dtype).max * (jnp.finfo(x.dtype).eps / 8) * jnp.maximum(1 + low, 1)
    near = jnp.log1p(jnp.minimum(distance, far) / (1 + low))
    return jnp.sign(x - y) * (near + jnp.log(jnp.maximum(distance / far, 1)))


@log1p_difference.defjvp
def _log1p_difference_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (x, y), (dx, dy) = primals, tangents
    return log1p_difference(x, y), dx / (1 + x) - dy / (1 + y)


@jax.custom_jvp
def bernoulli_miss(logits: Array, labels: Array) -> Array:
    """(1 − y) σ(z) + y σ(−z), the probability of the other label, to 8 ULPs, by one exponential.

    Derivatives (1 − 2y) σ(z) σ(−z) and −tanh(z/2). Where the former is 0 nothing comes back, not even ∞.
    """
    decayed = jnp.exp(-jnp.abs(logits))
    above = 0.5 + 0.5 * jnp.sign(logits)  # 1 or 0, as a `where`, which would not fuse into a sum
    likelier = labels + above * (1 - 2 * labels)
    return (likelier + decayed * (1 - likelier)) / (1 + decayed)


def _bernoulli_miss_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (z, y), (dz, dy) = primals, tangents

    certain = jnp.abs(z) > 800  # σ(z) σ(−z) is 0 there in every dtype

    def of_logits() -> Array:
        decayed = jnp.exp(-jnp.where(certain, 800, jnp.abs(z)))
        return (1 - 2 * y) * (decayed / jnp.square(1 + decayed))

    if not isinstance(dz, SymbolicZero):
        dz = jnp.where(certain, 0, dz)
    return bernoulli_miss(z, y), term(of_logits, dz) + term(lambda: -jnp.tanh(0.5 * z), dy)


bernoulli_miss.defjvp(_bernoulli_miss_jvp, symbolic_zeros=True)


@jax.custom_jvp
def bernoulli_fading(logits: Array, labels: Array, exponent: Array) -> Array:
    """`bernoulli_miss` to a power, q^γ, γ ≥ 0; ∂/∂z = γ q^γ ∂log q/∂z, ∂/∂γ = q^γ log q.

    By the logarithm, for where γ < 1 and q is 1e-26 the second derivative of q^γ in q is no float32; that
    in z is γ² q^γ.
    """
    return jnp.power(bernoulli_miss(logits, labels), exponent)


def _bernoulli_fading_jvp(
    primals: tuple[Array, Array, Array], tangents: tuple[Any, Any, Any]
) -> tuple[Array, Any]:
    (z, y, exponent), (dz, dy, dexponent) = primals, tangents
    faded, miss = bernoulli_fading(z, y, exponent), bernoulli_miss(z, y)
    if not isinstance(dz, SymbolicZero):
        dz = jnp.where(jnp.abs(z) > 800, 0, dz)  # as for `bernoulli_miss`

    def of_labels() -> Array:
        return divide(exponent * jnp.where(miss == 0, 0, faded), miss) * -jnp.tanh(0.5 * z)

    from_logits = term(lambda: exponent * (faded * _log_miss_slope(z, y)), dz)
    of_exponent = term(lambda: faded * jnp.log(jnp.where(miss == 0, 1, miss)), dexponent)
    return faded, from_logits + term(of_labels, dy) + of_exponent


bernoulli_fading.defjvp(_bernoulli_fading_jvp, symbolic_zeros=True)


@jax.custom_jvp
def _log_miss_slope(z: Array, y: Array) -> Array:
    """∂/∂z of log q, q = (1 − y) σ(z) + y σ(−z): (1 − 2y) σ(z) σ(−z) / q, between −1 and 1.

    Derivatives −(1 − 2y) σ(z) σ(−z) ((1 − y) σ(z)² − y σ(−z)²) / q² and −σ(z) σ(−z) / q².
    """
    decayed, _, _, share = _of_miss(z, y)
    return (1 - 2 * y) * share / (1 + decayed)


def _of_miss(z: Array, y: Array) -> tuple[Array, Array, Array, Array]:
    """d = e^−|z|; l, with q = (l + (1 − l) d)/(1 + d); l/d; and 1/(l/d + 1 − l), which is d/((1 + d) q)."""
    decayed = jnp.exp(-jnp.minimum(jnp.abs(z), -math.log(jnp.finfo(z.dtype).tiny)))  # l/d is a float
    likelier = jnp.where(z < 0, y, 1 - y)
    odds = likelier / decayed
    return decayed, likelier, odds, 1 / (odds + (1 - likelier))


def _log_miss_slope_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (z, y), (dz, dy) = primals, tangents
    decayed, likelier, odds, share = _of_miss(z, y)

    def of_logits() -> Array:
        bent = (odds - (1 - likelier) * decayed) * share * share
        return jnp.where(z < 0, 1, -1) * (1 - 2 * y) * bent / jnp.square(1 + decayed)

    of_labels = term(lambda: -(share / decayed) * share, dy)
    return _log_miss_slope(z, y), term(of_logits, dz) + of_labels


_log_miss_slope.defjvp(_log_miss_slope_jvp, symbolic_zeros=True)


@jax.custom_jvp
def bernoulli_nll(logits: Array, labels: Array) -> Array:
    """(1 − y) log(1 + e^z) + y log(1 + e^−z), to 8 ULPs; ∂/∂z = (1 − y) σ(z) − y σ(−z), ∂/∂y = −z.

    One exponential serves both logarithms, and no term cancels another: the familiar
    log(1 + e^z) − z is zero from z = 17 on in float32, and so is σ(z) − 1.
    """
    return _bernoulli_line(logits, labels) + jnp.log1p(jnp.exp(-jnp.abs(logits)))


@bernoulli_nll.defjvp
def _bernoulli_nll_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (z, y), (dz, dy) = primals, tangents
    return bernoulli_nll(z, y), _bernoulli_slope(z, y) * dz - z * dy


@jax.custom_jvp
def bernoulli_nll_or_nan(logits: Array, labels: Array) -> Array:
    """`bernoulli_nll`, and NaN with NaN derivatives where a label lies outside [0, 1]; to 8 ULPs.

    The logarithm says so, of what is below −1 then: less work than the √ of `spoil`.
    """
    outside = jnp.finfo(logits.dtype).max * jnp.minimum(_inside_unit(labels), 0)
    return _bernoulli_line(logits, labels) + jnp.log1p(jnp.exp(-jnp.abs(logits)) + outside)


@bernoulli_nll_or_nan.defjvp
def _bernoulli_nll_or_nan_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    _, slope = _bernoulli_nll_jvp(primals, tangents)
    return bernoulli_nll_or_nan(*primals), nan_below_zero(_inside_unit(primals[1])) * slope


def _inside_unit(y: Array) -> Array:
    """How far y lies inside [0, 1]: negative just where it is outside."""
    return y * (1 - y)


def _bernoulli_line(z: Array, y: Array) -> Array:
    """(1 − y) z above zero, −y z below."""
    above = jnp.minimum(jnp.maximum(z, 0) * jnp.finfo(z.dtype).max, 1)  # in less time than by `sign`
    return z * (above - y)


@jax.custom_jvp
def _bernoulli_slope(z: Array, y: Array) -> Array:
    """(1 − y) σ(z) − y σ(−z); derivatives σ(z) σ(−z) and −1: autodiff's of the quotient squares e^−z."""
    # e^−z is written apart from the value's e^−|z|: the compiler recomputes it instead of carrying an
    # array from the value to the gradient. It is kept finite, for ∞/∞ where z is far below zero, and NaN
    # where z is, in a long sum as well: see `relu`.
    odds = jnp.minimum(jnp.exp(-z), jnp.finfo(z.dtype).max) + 0 * jnp.sign(z)
    return ((1 - y) - y * odds) / (1 + odds)


@_bernoulli_slope.defjvp
def _bernoulli_slope_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (z, y), (dz, dy) = primals, tangents
    return _bernoulli_slope(z, y), sigmoid(z) * sigmoid(-z) * dz - dy


@jax.custom_jvp
def clipped_square(x: Array, limit: Array) -> Array:
    """½x² where |x| ≤ limit, its tangent line beyond, to 2 ULPs; ∂/∂x = clip(x, −limit, limit).

    The derivative in the limit is max(|x| − limit, 0). In absolute values and minima the value is one
    pass over x; a clamp there would be stored first.
    """
    distance = jnp.abs(x)
    bent = jnp.minimum(distance, limit)
    return bent * (distance - 0.5 * bent)


def _clipped_square_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (x, limit), (dx, dlimit) = primals, tangents
    bound = lax.optimization_barrier(jnp.asarray(limit, x.dtype))  # apart from the value's, as above
    from_x = term(lambda: clip(x, -bound, bound), dx)
    return clipped_square(x, limit), from_x + term(lambda: relu(jnp.abs(x) - limit), dlimit)


clipped_square.defjvp(_clipped_square_jvp, symbolic_zeros=True)
