"""Losses of K logits a row against a class id or a distribution over the classes, by line of thought.

`_likelihood`: of the label's probability under a softmax. `_imbalance`: the softmax told how often each
class occurs. `_noise`: forgiving of wrong labels. `_margins`: how far the label leads its rivals.
`_fenchel_young`: whose gradient is a projection onto the distributions, less the label.
"""

from jaxloss.losses.categorical._fenchel_young import entmax15, fenchel_young, sparsemax
from jaxloss.losses.categorical._imbalance import balanced_softmax, ldam, logit_adjusted
from jaxloss.losses.categorical._likelihood import cross_entropy, focal, nll, poly1
from jaxloss.losses.categorical._margins import hinge, perceptron, weston_watkins
from jaxloss.losses.categorical._noise import (
    bi_tempered_logistic,
    generalized_cross_entropy,
    symmetric_cross_entropy,
)

__all__ = [
    "balanced_softmax",
    "bi_tempered_logistic",
    "cross_entropy",
    "entmax15",
    "fenchel_young",
    "focal",
    "generalized_cross_entropy",
    "hinge",
    "ldam",
    "logit_adjusted",
    "nll",
    "perceptron",
    "poly1",
    "sparsemax",
    "symmetric_cross_entropy",
    "weston_watkins",
]
