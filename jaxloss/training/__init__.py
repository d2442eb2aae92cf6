"""From a loss to a trained model: the step by hand, the compiled loop, streams of batches."""

from jaxloss.training._stream import BatchError
from jaxloss.training.accumulation import Accumulated
from jaxloss.training.adaptive import Learned, learned, scheduled
from jaxloss.training.curricula import (
    Pace,
    PaceState,
    PlateauState,
    Switch,
    focal_gamma,
    neutral_gamma,
    self_paced,
    stages,
    switch_on_plateau,
)
from jaxloss.training.descent import Minimum, StopReason, gradient_descent_step, minimize
from jaxloss.training.evaluation import evaluate
from jaxloss.training.loop import Epoch, Fit, fit

__all__ = [
    "Accumulated",
    "BatchError",
    "Epoch",
    "Fit",
    "Learned",
    "Minimum",
    "Pace",
    "PaceState",
    "PlateauState",
    "StopReason",
    "Switch",
    "evaluate",
    "fit",
    "focal_gamma",
    "gradient_descent_step",
    "learned",
    "minimize",
    "neutral_gamma",
    "scheduled",
    "self_paced",
    "stages",
    "switch_on_plateau",
]
