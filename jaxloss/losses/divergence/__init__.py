"""Divergences between distributions over the last axis, by line of thought.

`_entropy`: of one distribution relative to another. `_families`: alike or finite from both sides, or by an
order. `_models`: of the parameters or logits that models put out.
"""

from jaxloss.losses.divergence._entropy import (
    cross_entropy,
    generalized_kl,
    kl,
    kl_log_targets,
    reverse_kl,
)
from jaxloss.losses.divergence._families import alpha, hellinger, jensen_shannon, renyi, total_variation
from jaxloss.losses.divergence._models import distillation, gaussian_kl

__all__ = [
    "alpha",
    "cross_entropy",
    "distillation",
    "gaussian_kl",
    "generalized_kl",
    "hellinger",
    "jensen_shannon",
    "kl",
    "kl_log_targets",
    "renyi",
    "reverse_kl",
    "total_variation",
]
