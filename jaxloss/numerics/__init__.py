"""Functions that are right at every float, each with the derivative rule autodiff cannot find.

The danger of a loss lives here, once: a logarithm next to one, an exponential about to overflow,
a norm at zero. Each function is accurate to the ULPs in its docstring (to one, where it names none),
in value and in derivative, wherever the true one is finite; a loss is then a plain formula over them
and its gradient is the closed form.

Every rule is a `jax.custom_jvp`, so forward mode, Hessians and Hessian-vector products work, and
the primal under differentiation is the plain primal. None of them hides a NaN that was given.
"""

from jaxloss.numerics.alignments import turns_surprise
from jaxloss.numerics.caps import soft_cap
from jaxloss.numerics.chains import chain_surprise
from jaxloss.numerics.classes import (
    among_present,
    class_pivot,
    class_surprise,
    expected_cost,
    expected_surprise,
    log_normaliser,
    logsumexp,
    one_hot,
    pick,
    surprise,
    surprise_and_log_normaliser,
    surprises,
    surprises_of,
)
from jaxloss.numerics.costs import faded_surprise, poly_surprise, saturated
from jaxloss.numerics.degrees import power_divergence, renyi_divergence
from jaxloss.numerics.derivatives import cut, spoil, summed, whole
from jaxloss.numerics.deviances import (
    binomial_deviance,
    binomial_deviance_of_logits,
    gamma_deviance,
    gamma_deviance_of_log,
    inverse_gaussian_deviance,
    inverse_gaussian_deviance_of_log,
    poisson_deviance,
    poisson_deviance_of_log,
)
from jaxloss.numerics.distances import pick_rows, squared_distances
from jaxloss.numerics.divergences import (
    expm1_excess,
    mixture_entropy,
    root_distance,
    softmax_divergence,
    surplus_entropy,
)
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
from jaxloss.numerics.general import barron, log_partition
from jaxloss.numerics.geometry import cosine_distance, norm_of_degree, signed_power, sine_of_cosine
from jaxloss.numerics.labels import clipped_fading, clipped_softplus, softmax
from jaxloss.numerics.overlaps import lovasz_jaccard, probabilities, share
from jaxloss.numerics.pairs import (
    bernoulli_fading,
    bernoulli_miss,
    bernoulli_nll,
    bernoulli_nll_or_nan,
    clipped_square,
    distance_over,
    divide,
    log1p_difference,
    multiply,
    power,
    relative_distance,
    xlog1py,
    xlogy,
)
from jaxloss.numerics.projections import projection, projection_loss
from jaxloss.numerics.ranks import half_mean_gap, squared_leads
from jaxloss.numerics.remainders import less_log1p, softplus_less_sigmoid
from jaxloss.numerics.robust import (
    bell_depth,
    biweight,
    log1p_square,
    rounded_square,
    saturation,
    tilted_square,
)
from jaxloss.numerics.sequences import alignment_surprise, log_add
from jaxloss.numerics.special import (
    HALF_LOG_TWO_PI,
    beta_nll,
    binet,
    dirichlet_nll,
    gamma_half_step,
    gaussian_crps,
    heavy_tail,
    log1p_excess,
    log_bessel,
    negative_binomial_nll,
    poisson_nll,
    square_over,
    zero_inflated_nll,
)
from jaxloss.numerics.tempered import tempered_divergence, tempered_surprises
from jaxloss.numerics.tweedie import tweedie_deviance, tweedie_deviance_of_log
from jaxloss.numerics.vectors import magnitude, products, safe_norm, unit

__all__ = [
    "HALF_LOG_TWO_PI",
    "absolute",
    "alignment_surprise",
    "among_present",
    "barron",
    "bell_depth",
    "bernoulli_fading",
    "bernoulli_miss",
    "bernoulli_nll",
    "bernoulli_nll_or_nan",
    "beta_nll",
    "binet",
    "binomial_deviance",
    "binomial_deviance_of_logits",
    "biweight",
    "chain_surprise",
    "class_pivot",
    "class_surprise",
    "clipped_fading",
    "clipped_softplus",
    "clipped_square",
    "cosine_distance",
    "cut",
    "dirichlet_nll",
    "distance_over",
    "divide",
    "expected_cost",
    "expected_surprise",
    "expm1",
    "expm1_excess",
    "faded_surprise",
    "gamma_deviance",
    "gamma_deviance_of_log",
    "gamma_half_step",
    "gaussian_crps",
    "half_mean_gap",
    "heavy_tail",
    "inverse_gaussian_deviance",
    "inverse_gaussian_deviance_of_log",
    "less_log1p",
    "log1mexp",
    "log1p_difference",
    "log1p_excess",
    "log1p_square",
    "log_add",
    "log_bessel",
    "log_cosh",
    "log_normaliser",
    "log_partition",
    "logsumexp",
    "lovasz_jaccard",
    "magnitude",
    "mixture_entropy",
    "multiply",
    "negative_binomial_nll",
    "norm_of_degree",
    "one_hot",
    "pick",
    "pick_rows",
    "poisson_deviance",
    "poisson_deviance_of_log",
    "poisson_nll",
    "poly_surprise",
    "power",
    "power_divergence",
    "probabilities",
    "products",
    "projection",
    "projection_loss",
    "relative_distance",
    "relu",
    "renyi_divergence",
    "root_distance",
    "rounded_square",
    "safe_norm",
    "saturated",
    "saturation",
    "share",
    "sigmoid",
    "signed_power",
    "sine_of_cosine",
    "smooth_abs",
    "soft_cap",
    "softmax",
    "softmax_divergence",
    "softplus",
    "softplus_less_sigmoid",
    "spoil",
    "square_over",
    "squared_distances",
    "squared_leads",
    "summed",
    "surplus_entropy",
    "surprise",
    "surprise_and_log_normaliser",
    "surprises",
    "surprises_of",
    "tempered_divergence",
    "tempered_surprises",
    "tilted_square",
    "turns_surprise",
    "tweedie_deviance",
    "tweedie_deviance_of_log",
    "unit",
    "whole",
    "xlog1py",
    "xlogy",
    "zero_inflated_nll",
]
