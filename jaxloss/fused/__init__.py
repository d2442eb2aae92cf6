"""The results of other losses, without their largest array."""

from jaxloss.fused import contrastive

__all__ = ["contrastive"]
