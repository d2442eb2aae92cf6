"""From a loss to a trained model: the step by hand, the compiled loop, streams of batches."""

from jaxloss.training._stream import BatchError
from jaxloss.training.accumulation import Accumulated
from jaxloss.training.descent import Minimum, StopReason, gradient_descent_step, minimize
from jaxloss.training.evaluation import evaluate
from jaxloss.training.loop import Epoch, Fit, fit

__all__ = [
    "Accumulated",
    "BatchError",
    "Epoch",
    "Fit",
    "Minimum",
    "StopReason",
    "evaluate",
    "fit",
    "gradient_descent_step",
    "minimize",
]
