"""The values and gradients of other losses, without the largest array that these would form."""

from jaxloss.fused import contrastive
from jaxloss.fused.distillation import linear_distillation, linear_jensen_shannon
from jaxloss.fused.linear import linear_cross_entropy

__all__ = ["contrastive", "linear_cross_entropy", "linear_distillation", "linear_jensen_shannon"]
