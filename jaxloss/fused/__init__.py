"""The values and gradients of other losses, without the largest array that these would form."""

from jaxloss.fused import contrastive
from jaxloss.fused.linear import linear_cross_entropy

__all__ = ["contrastive", "linear_cross_entropy"]
