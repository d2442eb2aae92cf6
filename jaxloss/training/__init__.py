"""From a loss to a trained model: the hand-written gradient-descent step and the compiled loop."""

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

__all__ = [
    "Learned",
    "Minimum",
    "Pace",
    "PaceState",
    "PlateauState",
    "StopReason",
    "Switch",
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
