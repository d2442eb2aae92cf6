"""The loss library of the JAX ecosystem.

A loss is a pure function from rows to rows, `jl.robust.huber(predictions, targets, delta=1.0)`;
everything else is a transformation of losses: `jl.mean(loss)`, `jl.sum(loss)`, `jl.partial_mean(loss)`,
`jl.checked(function)`.
"""

from jaxloss import adapters, fused, numerics, training
from jaxloss._loss import checked
from jaxloss.losses import (
    binary,
    categorical,
    contrastive,
    deviance,
    divergence,
    likelihood,
    metric,
    multilabel,
    ordinal,
    quantile,
    ranking,
    regression,
    robust,
    segmentation,
    sequence,
)
from jaxloss.reduction import PartialMean, mean, partial_mean, sum  # noqa: A004

mse = mean(regression.squared_error)
mae = mean(regression.absolute_error)
cross_entropy = mean(categorical.cross_entropy)

__version__ = "0.1.0"

__all__ = [
    "PartialMean",
    "adapters",
    "binary",
    "categorical",
    "checked",
    "contrastive",
    "cross_entropy",
    "deviance",
    "divergence",
    "fused",
    "likelihood",
    "mae",
    "mean",
    "metric",
    "mse",
    "multilabel",
    "numerics",
    "ordinal",
    "partial_mean",
    "quantile",
    "ranking",
    "regression",
    "robust",
    "segmentation",
    "sequence",
    "sum",
    "training",
]
