"""From a loss to a trained model: the hand-written gradient-descent step and the compiled loop."""

from jaxloss.training.adaptive import Learned, learned, scheduled
from jaxloss.training.descent import Minimum, StopReason, gradient_descent_step, minimize

__all__ = [
    "Learned",
    "Minimum",
    "StopReason",
    "gradient_descent_step",
    "learned",
    "minimize",
    "scheduled",
]
