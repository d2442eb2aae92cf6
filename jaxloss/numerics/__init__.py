"""Functions that are right at every float, each with the derivative rule autodiff cannot find.

The danger of a loss lives here, once: a logarithm next to one, an exponential about to overflow,
a norm at zero. Each function is accurate to the ULPs in its docstring (to one, where it names none),
in value and in derivative, wherever the true one is finite; a loss is then a plain formula over them
and its gradient is the closed form.

Every rule is a `jax.custom_jvp`, so forward mode, Hessians and Hessian-vector products work, and
the primal under differentiation is the plain primal. None of them hides a NaN that was given.
"""

from jaxloss.numerics.classes import (
    class_pivot,
    expected_surprise,
    log_normaliser,
    logsumexp,
    one_hot,
    pick,
    surprise,
    surprises,
)
from jaxloss.numerics.derivatives import apart, cut, spoil
from jaxloss.numerics.elementwise import (
    absolute,
    expm1,
    log1mexp,
    log_cosh,
    relu,
    sigmoid,
    smooth_abs,
    softplus,
)
from jaxloss.numerics.pairs import (
    bernoulli_nll,
    clipped_square,
    divide,
    log1p_difference,
    multiply,
    power,
    relative_distance,
    xlog1py,
    xlogy,
)
from jaxloss.numerics.remainders import less_log1p, softplus_less_sigmoid
from jaxloss.numerics.robust import bell_depth, biweight, log1p_square, saturation, tilted_square
from jaxloss.numerics.special import (
    HALF_LOG_TWO_PI,
    binet,
    gamma_half_step,
    gaussian_crps,
    heavy_tail,
    log1p_excess,
    poisson_nll,
    square_over,
)
from jaxloss.numerics.vectors import safe_norm, unit

__all__ = [
    "HALF_LOG_TWO_PI",
    "absolute",
    "apart",
    "bell_depth",
    "bernoulli_nll",
    "binet",
    "biweight",
    "class_pivot",
    "clipped_square",
    "cut",
    "divide",
    "expected_surprise",
    "expm1",
    "gamma_half_step",
    "gaussian_crps",
    "heavy_tail",
    "less_log1p",
    "log1mexp",
    "log1p_difference",
    "log1p_excess",
    "log1p_square",
    "log_cosh",
    "log_normaliser",
    "logsumexp",
    "multiply",
    "one_hot",
    "pick",
    "poisson_nll",
    "power",
    "relative_distance",
    "relu",
    "safe_norm",
    "saturation",
    "sigmoid",
    "smooth_abs",
    "softplus",
    "softplus_less_sigmoid",
    "spoil",
    "square_over",
    "surprise",
    "surprises",
    "tilted_square",
    "unit",
    "xlog1py",
    "xlogy",
]
