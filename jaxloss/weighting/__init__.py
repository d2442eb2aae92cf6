"""How much each of several losses counts, adapted while training: pairs `(init, update)`, as Optax's are.

`value_and_grad(objective, weigher)` gives one gradient of several losses, inside jit, for any optimizer.
"""

from jaxloss.weighting import gram
from jaxloss.weighting.evaluation import Evaluation, inner_products, value_and_grad
from jaxloss.weighting.gradients import cagrad, gradnorm, imtl_g, mgda, nash_mtl, pcgrad
from jaxloss.weighting.pairs import GradientWeigher, LossWeigher
from jaxloss.weighting.values import (
    dynamic_average,
    famo,
    fixed,
    observe,
    random,
    relobralo,
    softadapt,
    softadapt_loss_weighted,
    softadapt_normalized,
    uncertainty,
)

__all__ = [
    "Evaluation",
    "GradientWeigher",
    "LossWeigher",
    "cagrad",
    "dynamic_average",
    "famo",
    "fixed",
    "gradnorm",
    "gram",
    "imtl_g",
    "inner_products",
    "mgda",
    "nash_mtl",
    "observe",
    "pcgrad",
    "random",
    "relobralo",
    "softadapt",
    "softadapt_loss_weighted",
    "softadapt_normalized",
    "uncertainty",
    "value_and_grad",
]
