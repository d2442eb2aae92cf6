"""Divergences between distributions, by hand: Shannon (1948) sec. 6, Kullback & Leibler (1951) eq. 2.4."""

import numpy as np
from hypothesis import strategies as st
from mpmath import mp

from oracles._case import Case, Evidence, any_row
from oracles.categorical import CLASSES, SHARP, UNIFORM, distributions, dot, log_probable, row


@st.composite
def pairs(draw, calm=False):
    """Two distributions, the first positive where the second is: elsewhere the loss is ∞."""
    (logs, targets), _ = draw(log_probable(distributions(awkward=not calm), calm=calm))
    return (np.exp(logs), targets), {}


def _entropy(p, t):
    return dot(t, [-mp.log(a) if a else mp.inf for a in p])


def _kl(s, t):
    return dot(t, [(mp.log(b) if b else 0) - a for a, b in zip(s, t, strict=True)])


def _kl_scale(s, t):
    # The entropy and the cross-entropy, which the divergence is the difference of.
    return dot(t, [(abs(mp.log(b)) if b else 0) + abs(a) for a, b in zip(s, t, strict=True)])


HARD = {
    "class that neither expects": any_row(lambda p, t: np.any((t == 0) & (np.exp(p) <= 1), axis=-1)),
    "one-hot": any_row(lambda p, t: np.max(t, axis=-1) == 1),
}
TWICE = [0.4] * CLASSES
BAD_TARGETS = {"targets": (1, TWICE), "negative targets": (1, [1.5, -0.5, 0.0, 0.0, 0.0])}

CASES = (
    Case(
        "divergence.cross_entropy",
        value=_entropy,
        gradient=lambda p, t: [-b / a if b else 0 for a, b in zip(p, t, strict=True)],
        # log p next to p = 1 is as exact as p: the sum's largest term sets the scale.
        draws=pairs(),
        calm=pairs(calm=True),
        item_ndim=1,
        hard={**HARD, "zero probability": any_row(lambda p, t: np.any(p == 0, axis=-1))},
        violations={"predictions": (0, TWICE), **BAD_TARGETS},
    ),
    Case(
        "divergence.kl",
        value=_kl,
        gradient=lambda s, t: [-b for b in t],
        scale=_kl_scale,
        draws=log_probable(distributions()),
        calm=log_probable(distributions(awkward=False), calm=True),
        item_ndim=1,
        hard={**HARD, "zero probability": any_row(lambda s, t: np.any(s == -np.inf, axis=-1))},
        violations={"log_predictions": (0, [0.0] * CLASSES), **BAD_TARGETS},
    ),
)

TINY = [1e-9, 0.25, 0.25, 0.25, 0.25 - 1e-9]
TINIER = [1e-10, 0.25, 0.25, 0.25, 0.25 - 1e-10]
ONE = [1.0, 0.0, 0.0, 0.0, 0.0]
EVIDENCE = {
    "divergence.cross_entropy": Evidence(
        refuted_by={
            "zero_at_target": row(UNIFORM, UNIFORM),
            "symmetric": row(np.exp(SHARP), UNIFORM),
            "lipschitz": row(TINY, ONE),
            "smooth": (row(TINY, ONE), row(TINIER, ONE)),
            "bounded": row([0.0, 0.25, 0.25, 0.25, 0.25], ONE),
            "shift_invariant": (row(UNIFORM, UNIFORM), 0.1),
        }
    ),
    "divergence.kl": Evidence(
        attained={"lipschitz": row(SHARP, ONE), "smooth": (row(SHARP, ONE), row(np.log(UNIFORM), ONE))},
        refuted_by={
            "symmetric": row(SHARP, UNIFORM),
            "bounded": row([-1e6, *np.log([0.25] * 4)], ONE),
            "shift_invariant": (row(np.log(UNIFORM), UNIFORM), 0.1),
        },
    ),
}
