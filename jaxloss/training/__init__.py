"""From a loss to a trained model: the hand-written gradient-descent step and the compiled loop."""

from jaxloss.training.descent import Minimum, StopReason, gradient_descent_step, minimize

__all__ = ["Minimum", "StopReason", "gradient_descent_step", "minimize"]
