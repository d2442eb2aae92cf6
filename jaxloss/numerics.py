"""Functions that are right at every float, each with the derivative rule autodiff cannot find.

The danger of a loss lives here, once: a logarithm next to one, an exponential about to overflow,
a norm at zero. Each function is accurate to the ULPs in its docstring (to one, where it names none),
in value and in derivative, wherever the true one is finite; a loss is then a plain formula over them
and its gradient is the closed form.

Every rule is a `jax.custom_jvp`, so forward mode, Hessians and Hessian-vector products work, and
the primal under differentiation is the plain primal. None of them hides a NaN that was given.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero
from jax.experimental.xla_metadata import set_xla_metadata

# Below this many elements a second pass over the data is cheaper than deciding whether to make it.
_SMALL = 1 << 20


def _term(factor: Callable[[], Array], tangent: Any) -> Array | float:
    """`factor() * tangent`, or nothing where the argument is not differentiated.

    A zero tangent is not multiplied: ∞·0 would put a NaN into forward mode.
    """
    return 0.0 if isinstance(tangent, SymbolicZero) else factor() * tangent


def apart(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, whose value and whose derivative share no array when compiled for a CPU.

    XLA's CPU compiler stores what both read (a residual, even a broadcast constant) as an array of its
    own, and a reduction then runs over stored arrays: ten times the time of reading the data twice.
    A call that it may not inline is a program of its own, in which nothing is shared.
    """

    def alone(*args: Any) -> Any:
        with set_xla_metadata(inlineable="false"):
            return jax.jit(function)(*args)

    @jax.custom_jvp
    def call(*args: Any) -> Any:
        return lax.platform_dependent(*args, cpu=alone, default=function)

    def rule(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
        leaves, tree = jax.tree.flatten(primals)
        moves = jax.tree.leaves(tangents, is_leaf=lambda t: isinstance(t, SymbolicZero))
        moving = [i for i, move in enumerate(moves) if not isinstance(move, SymbolicZero)]

        def of_moving(*values: Any) -> Any:
            changed = dict(zip(moving, values, strict=True))
            return function(*tree.unflatten([changed.get(i, leaf) for i, leaf in enumerate(leaves)]))

        _, tangent = jax.jvp(of_moving, [leaves[i] for i in moving], [moves[i] for i in moving])
        return call(*primals), tangent

    call.defjvp(rule, symbolic_zeros=True)
    return call


# --- one real argument -----------------------------------------------------------------------


@jax.custom_jvp
def absolute(x: Array) -> Array:
    """|x|, to the last digit, whose derivative is the sign of x: 0 at zero, where `jnp.abs` answers 1."""
    return jnp.abs(x)


@absolute.defjvp
def _absolute_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return absolute(x), jnp.sign(x) * dx


@jax.custom_jvp
def relu(x: Array) -> Array:
    """max(x, 0), whose derivative is 1 where x > 0 and 0 elsewhere, at zero too.

    `jnp.maximum` would split the derivative at a tie and answer ½ there.
    """
    # Over some 4096 elements XLA's CPU sums take max(NaN, 0) for 0; sign keeps the NaN.
    return jnp.maximum(x, 0) + 0 * jnp.sign(x)


@relu.defjvp
def _relu_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return relu(x), jnp.where(x <= 0, 0, jnp.where(x > 0, 1, x)) * dx


@jax.custom_jvp
def sigmoid(x: Array) -> Array:
    """1 / (1 + e^−x), to 4 ULPs in both tails; derivative σ(x)·σ(−x).

    Autodiff's σ·(1 − σ) is zero from x = 17 on in float32.
    """
    return 1 / (1 + jnp.exp(-x))


@sigmoid.defjvp
def _sigmoid_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return sigmoid(x), sigmoid(x) * sigmoid(-x) * dx


@jax.custom_jvp
def softplus(x: Array) -> Array:
    """log(1 + e^x), to 4 ULPs; derivative σ(x)."""
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


@softplus.defjvp
def _softplus_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return softplus(x), sigmoid(x) * dx


@jax.custom_jvp
def log_cosh(x: Array) -> Array:
    """Log cosh x, to 6 ULPs from the smallest x (where it is ½x²) to the largest; derivative tanh x.

    cosh x = 1 + (1 − e^−|x|)² / (2 e^−|x|). Beyond |x| = 40 the function is |x| − log 2 to the last
    digit, so the exponential stops there and a straight line goes on.
    """
    distance = jnp.abs(x)
    bent = jnp.minimum(distance, 40)
    shrunk = jnp.expm1(-bent)
    return jnp.log1p(shrunk * (shrunk * 0.5) * jnp.exp(bent)) + (distance - bent)


@log_cosh.defjvp
def _log_cosh_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return log_cosh(x), jnp.tanh(x) * dx


@jax.custom_jvp
def log1mexp(x: Array) -> Array:
    """log(1 − e^x) for x ≤ 0, to 4 ULPs; derivative −e^x / (1 − e^x); −∞ at zero, NaN above.

    Mächler (2012), "Accurately computing log(1 − exp(−|a|))", eq. 7: the better of two forms on
    either side of −log 2.
    """
    return jnp.where(x > -0.6931472, jnp.log(-jnp.expm1(x)), _log1p(-jnp.exp(x)))


@log1mexp.defjvp
def _log1mexp_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return log1mexp(x), jnp.exp(x) / jnp.expm1(x) * dx


def _hypot1(x: Array) -> Array:
    """√(1 + x²), without overflow, in operations that fuse into a reduction (jnp.hypot's masks do not)."""
    distance = jnp.abs(x)
    larger = jnp.maximum(distance, 1)
    return larger * jnp.sqrt(1 + jnp.square(jnp.minimum(distance, 1) / larger))


@jax.custom_jvp
def smooth_abs(x: Array) -> Array:
    """√(1 + x²) − 1, to 4 ULPs from the smallest x (where it is ½x²); derivative x / √(1 + x²)."""
    return x * (x / (1 + _hypot1(x)))


@smooth_abs.defjvp
def _smooth_abs_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return smooth_abs(x), x / _hypot1(x) * dx


@jax.custom_jvp
def _log1p(x: Array) -> Array:
    """log(1 + x), right in float64 as well: there XLA's loses two digits near −0.41 on CPUs.

    https://github.com/jax-ml/jax/issues/39707. Below −¼ the sum 1 + x is rounded by no more than the
    logarithm is.
    """
    if x.dtype != jnp.float64:
        return jnp.log1p(x)
    return jnp.where(x < -0.25, jnp.log(1 + x), jnp.log1p(x))


@_log1p.defjvp
def _log1p_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return _log1p(x), dx / (1 + x)


# --- two arguments: products, ratios and logarithms that meet zero ----------------------------


@jax.custom_jvp
def multiply(x: Array, y: Array) -> Array:
    """x·y, where 0·(±∞) = 0; derivatives y and x, the first taken as 0 at 0·(±∞).

    The product of a probability with a log-probability: a class nobody expects costs nothing.
    """
    return x * _beside(x, y)


def _beside(x: Array, y: Array) -> Array:
    """y, where 0·(±∞) is to be 0."""
    return jnp.where((x == 0) & jnp.isinf(y), 0, y)


@multiply.defjvp
def _multiply_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Any, Any]:
    (x, y), (dx, dy) = primals, tangents
    return multiply(x, y), x * dy + _beside(x, y) * dx


@jax.custom_jvp
def xlogy(x: Array, y: Array) -> Array:
    """x·log y, where 0·log 0 = 0, to 2 ULPs; derivatives log y and x/y, the latter 0 at x = 0."""
    return multiply(x, jnp.log(y))


def _xlogy_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (x, y), (dx, dy) = primals, tangents
    from_x = _term(lambda: jnp.log(y), dx)
    return xlogy(x, y), from_x + _term(lambda: divide(x, y), dy)


xlogy.defjvp(_xlogy_jvp, symbolic_zeros=True)


@jax.custom_jvp
def xlog1py(x: Array, y: Array) -> Array:
    """x·log(1 + y), where 0·log 0 = 0, to 4 ULPs; derivatives log(1 + y) and x/(1 + y), 0 at x = 0."""
    return multiply(x, _log1p(y))


def _xlog1py_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (x, y), (dx, dy) = primals, tangents
    from_x = _term(lambda: _log1p(y), dx)
    return xlog1py(x, y), from_x + _term(lambda: divide(x, 1 + y), dy)


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
    return quotient, from_x - _term(lambda: divide(quotient, y), dy)


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
    from_x = _term(lambda: exponent * (jnp.where(x == 0, 0, powered) / jnp.where(x == 0, 1, x)), dx)
    return powered, from_x + _term(lambda: powered * logarithm, dexponent)


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
def bernoulli_nll(logits: Array, labels: Array) -> Array:
    """(1 − y) log(1 + e^z) + y log(1 + e^−z), to 8 ULPs; ∂/∂z = (1 − y) σ(z) − y σ(−z), ∂/∂y = −z.

    One exponential serves both logarithms, and no term cancels another: the familiar
    log(1 + e^z) − z is zero from z = 17 on in float32, and so is σ(z) − 1.
    """
    return (jnp.maximum(logits, 0) - logits * labels) + jnp.log1p(jnp.exp(-jnp.abs(logits)))


@bernoulli_nll.defjvp
def _bernoulli_nll_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (z, y), (dz, dy) = primals, tangents
    # e^−z is written apart from the value's e^−|z|: the compiler recomputes it instead of carrying an
    # array from the value to the gradient. It is kept finite, for ∞/∞ where z is far below zero.
    odds = jnp.minimum(jnp.exp(-z), jnp.finfo(z.dtype).max)
    slope = ((1 - y) - y * odds) / (1 + odds)
    return bernoulli_nll(z, y), slope * dz - z * dy


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
    from_x = _term(lambda: jnp.clip(x, -bound, bound), dx)
    return clipped_square(x, limit), from_x + _term(lambda: relu(jnp.abs(x) - limit), dlimit)


clipped_square.defjvp(_clipped_square_jvp, symbolic_zeros=True)


@jax.custom_jvp
def spoil(values: Array, margin: Array) -> Array:
    """`values` where margin ≥ 0; NaN, with NaN derivative, where it is negative.

    The value adds √min(margin, 0), 0 or NaN, for a mask would not fuse into a sum; the derivative
    compares with the smallest negative number, for the zero would be stored to be shared.
    """
    return values + jnp.sqrt(jnp.minimum(margin, 0))


def _spoil_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (values, margin), (dvalues, _) = primals, tangents
    smallest = jnp.finfo(margin.dtype).tiny
    return spoil(values, margin), _term(lambda: jnp.where(margin > -smallest, 1, jnp.nan), dvalues)


spoil.defjvp(_spoil_jvp, symbolic_zeros=True)


@jax.custom_jvp
def cut(x: Array, kept: Array) -> Array:
    """x, whose derivative is 0 where it is not kept, whatever comes back from there."""
    del kept
    return x


def _cut_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (x, kept), (dx, _) = primals, tangents
    return cut(x, kept), jnp.where(kept, dx, 0)


cut.defjvp(_cut_jvp, symbolic_zeros=True)


# --- the last axis: norms ---------------------------------------------------------------------


@jax.custom_jvp
def safe_norm(x: Array) -> Array:
    """Euclidean norm over the last axis, to 4 ULPs, without overflow; derivative x/‖x‖, 0 at zero."""
    scale = _magnitude(x)
    return jnp.sqrt(jnp.sum(jnp.square(x / scale), axis=-1)) * scale[..., 0]


@safe_norm.defjvp
def _safe_norm_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return safe_norm(x), jnp.sum(unit(x) * dx, axis=-1)


def _magnitude(x: Array) -> Array:
    """What a vector is divided by before its entries are squared, a constant under differentiation."""
    largest = lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True, initial=0))
    # The reciprocal of the very largest floats is subnormal, and flushed to zero.
    return jnp.where(largest == 0, 1, jnp.minimum(largest, jnp.finfo(x.dtype).max / 128))


def unit(x: Array) -> Array:
    """x / ‖x‖ over the last axis, to 4 ULPs; at zero it is zero, with zero derivative."""
    x = x / _magnitude(x)
    norm = safe_norm(x)[..., None]
    at_zero = norm == 0
    return jnp.where(at_zero, 0, x) / jnp.where(at_zero, 1, norm)


# --- the last axis: logarithms of sums of exponentials over classes ---------------------------


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


@jax.custom_jvp
def pick(values: Array, ids: Array) -> Array:
    """values[..., id]: the entry each row's id names, NaN for an id that names none.

    A negative id names none: it does not count from the end. The derivative is a dense select, so
    no gradient scatters; it is NaN for an id that names none.
    """
    classes = values.shape[-1]
    named = jnp.where(ids < 0, classes, ids)[..., None]
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
    return log_normaliser(logits, pivot, lead >= 0) - lead


def _surprise_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (logits, ids), (dlogits, _) = primals, tangents
    value, pivot = surprise(logits, ids), class_pivot(logits)
    normaliser = jnp.where(jnp.isnan(value), value, log_normaliser(logits, pivot, pick(logits, ids) >= pivot))
    shares = _shares(logits, pivot, normaliser)
    slopes = jnp.where(_names(ids, logits), jnp.expm1(-value)[..., None], shares)
    return value, jnp.sum(slopes * dlogits, axis=-1)


surprise.defjvp(_surprise_jvp, symbolic_zeros=True)


def surprises(logits: Array) -> Array:
    """−log softmax(z) of every class, never negative: a difference of two terms that have its sign."""
    pivot = class_pivot(logits)
    return log_normaliser(logits, pivot)[..., None] - (logits - pivot[..., None])


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
        return jnp.exp(-each) * _sum_of_others(shares) + shares * jnp.expm1(-each)

    from_logits, from_shares = _term(slopes, dlogits), _term(lambda: _beside(shares, each), dshares)
    return expected_surprise(logits, shares), jnp.sum(from_logits + from_shares, axis=-1)


expected_surprise.defjvp(_expected_surprise_jvp, symbolic_zeros=True)


def _sum_of_others(shares: Array) -> Array:
    """Σ_{c≠j} s_c for each j: only beside the largest share does the sum less s_j lose digits."""
    largest = _names(jnp.argmax(shares, axis=-1), shares)
    rest = jnp.sum(jnp.where(largest, 0, shares), axis=-1, keepdims=True)
    return jnp.where(largest, rest, jnp.sum(shares, axis=-1, keepdims=True) - shares)


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
    """Σ e^{z_j − pivot}, and the same without the classes at the pivot, right where the first is < 1.5.

    The first is 1 + 1e−8 = 1 in float32 where one class leads by 18; its logarithm is in the second.
    On large inputs the second is computed only if some row needs it.
    """
    total = jnp.sum(jnp.exp(logits - pivot[..., None]), axis=-1)

    def rest() -> Array:
        # e^x, but 0 at x = 0, in operations that fuse into the reduction: no mask, no copy. The
        # barrier keeps the compiler from storing e^x to share it with the sum above.
        distance = logits - lax.optimization_barrier(pivot)[..., None]
        steepest = jnp.finfo(logits.dtype).max
        return jnp.sum(jnp.minimum(jnp.exp(distance), jnp.abs(distance) * steepest), axis=-1)

    if logits.size < _SMALL:
        return total, rest()
    return total, lax.cond(jnp.any(closely & (total < 1.5)), rest, lambda: jnp.zeros_like(total))
