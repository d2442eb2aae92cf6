"""What is left of a function when its neighbour is taken away: differences whose two terms nearly agree."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss.numerics.elementwise import log1p, sigmoid, softplus

# Terms of the series below that float32 and float64 need where w ≤ 1/9.
_TERMS = {4: 7, 8: 16}


@jax.custom_jvp
def less_log1p(x: Array) -> Array:
    """X − log(1 + x) for x ≥ −1, to 8 ULPs, also near zero, where it is ½x²; derivative x / (1 + x).

    With s = x / (2 + x), log(1 + x) is 2 (s + s³/3 + s⁵/5 + ...), and x − 2s is x·s without a
    subtraction: the idea of bd0 in Loader (2000), "Fast and accurate computation of binomial probabilities".
    """
    near = jnp.clip(x, -0.5, 1)
    s = near / (2 + near)
    w = s * s
    series = jnp.zeros_like(x)
    for k in reversed(range(_TERMS[x.dtype.itemsize])):
        series = series * w + 1 / (2 * k + 3)
    return jnp.where(x == near, s * (near - 2 * w * series), x - log1p(x))


@less_log1p.defjvp
def _less_log1p_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return less_log1p(x), x / (1 + x) * dx


@jax.custom_jvp
def softplus_less_sigmoid(x: Array) -> Array:
    """log(1 + e^x) − σ(x), to 16 ULPs, also far below zero, where it is ½e^2x; derivative σ(x)².

    The logarithm is −log(1 − σ(x)): what is left beside its first term σ(x).
    """
    bounded = jnp.minimum(x, 0)
    return jnp.where(x <= 0, less_log1p(-sigmoid(bounded)), softplus(x) - sigmoid(x))


@softplus_less_sigmoid.defjvp
def _softplus_less_sigmoid_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return softplus_less_sigmoid(x), jnp.square(sigmoid(x)) * dx
