"""Functions of one real number."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


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


def clip(x: Array, low: Any, high: Any) -> Array:
    """x between low and high, and NaN where x is, in a long sum as well: see `relu`."""
    return jnp.clip(x, low, high) + 0 * jnp.sign(x)


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
    """Log cosh x, to 14 ULPs from the smallest x (where it is ½x²) to the largest; derivative tanh x.

    cosh x − 1 = ½e²/(1 + e) with e = e^|x| − 1, where nothing cancels; where e² would overflow,
    log cosh x goes on as a line.
    """
    distance = jnp.abs(x)
    # Few operations, for XLA's CPU sums run them one by one: the same in −½ (e^x − 1)(e^−x − 1) would be
    # faster yet, but 0.10.2 takes the second for the first (also of log and log1p: op(ax) beside op(bx)).
    bent = jnp.minimum(distance, 0.5 * math.log(jnp.finfo(x.dtype).max) - 0.5)
    grown = jnp.expm1(bent)
    return jnp.log1p(grown * grown / (2 + 2 * grown)) + (distance - bent)


@log_cosh.defjvp
def _log_cosh_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return log_cosh(x), jnp.tanh(x) * dx


@jax.custom_jvp
def expm1(x: Array) -> Array:
    """e^x − 1; derivative e^x. Autodiff adds 1 to the value, where no digit is left below −17 in float32."""
    return jnp.expm1(x)


@expm1.defjvp
def _expm1_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return expm1(x), jnp.exp(x) * dx


@jax.custom_jvp
def log1mexp(x: Array) -> Array:
    """log(1 − e^x) for x ≤ 0, to 7 ULPs; derivative −e^x / (1 − e^x); −∞ at zero, NaN above.

    Mächler (2012), "Accurately computing log(1 − exp(−|a|))", eq. 7: the better of two forms on
    either side of −log 2.
    """
    return jnp.where(x > -0.6931472, jnp.log(-jnp.expm1(x)), log1p(-jnp.exp(x)))


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
def log1p(x: Array) -> Array:
    """log(1 + x), right in float64 as well: there XLA's loses two digits near −0.41 on CPUs.

    https://github.com/jax-ml/jax/issues/39707. Below −¼ the sum 1 + x is rounded by no more than the
    logarithm is.
    """
    if x.dtype != jnp.float64:
        return jnp.log1p(x)
    return jnp.where(x < -0.25, jnp.log(1 + x), jnp.log1p(x))


@log1p.defjvp
def _log1p_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return log1p(x), dx / (1 + x)
