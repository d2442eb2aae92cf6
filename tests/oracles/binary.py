"""Losses of one score and two labels, by hand: Good, Lin et al., Friedman et al., Cortes & Vapnik."""

import numpy as np
from hypothesis import strategies as st
from mpmath import mp, mpf

from oracles._case import Case, Evidence, any_row, each, floats, number, one_each
from oracles.regression import rows

# --- draws --------------------------------------------------------------------------------------

SCORES = st.sampled_from([0.0, 1.0, -1.0, 17.0, -17.0, 80.0, -80.0, 1e4, -1e4, 1e-9]) | floats(-10, 10)
SOFT = st.sampled_from([0.0, 1.0, 0.0, 1.0, 0.5, 1e-6]) | floats(0, 1)
SIGNS = st.sampled_from([-1.0, 1.0])
CALM_SCORES = floats(-3, 3)


@st.composite
def labelled(draw, scores, labels, options=None):
    chosen = draw(options) if options is not None else {}
    return (draw(one_each(scores)), draw(one_each(labels))), chosen


@st.composite
def probable(draw):
    """Probabilities at their ends only where the label agrees: elsewhere the loss is ∞."""
    (p, y), _ = draw(labelled(st.sampled_from([1e-6, 0.5, 1e-20]) | floats(1e-6, 1 - 1e-6), SOFT))
    hard = (y == np.round(y)) & draw(one_each(st.booleans(), dtype=np.bool_))
    return (np.where(hard, y, p), y), {}


HARD = {
    "nearly certain and right": any_row(lambda z, y, **_: (z == 17) & (y == 1)),
    "certain and right": any_row(lambda z, y, **_: (z == 80) & (y == 1)),
    "certain and wrong": any_row(lambda z, y, **_: (z > 1e3) & (y < 1)),
    "undecided": any_row(lambda z, y, **_: z == 0),
}
SOFT_HARD = {**HARD, "soft label": any_row(lambda z, y, **_: (y > 0) & (y < 1))}
MARGIN_HARD = {**HARD, "at the margin": any_row(lambda z, y, **_: z * y == 1)}

# --- formulas ------------------------------------------------------------------------------------


def softplus(z):
    return max(z, mpf(0)) + mp.log1p(mp.exp(-abs(z)))


def sigma(z):
    return 1 / (1 + mp.exp(-z))


def smoothed(y, alpha):
    return (1 - alpha) * y + alpha / 2


def entropy(z, y, pos_weight=1, label_smoothing=0):
    """Good (1952): −w y log σ(z) − (1 − y) log σ(−z)."""
    s = smoothed(y, label_smoothing)
    return pos_weight * s * softplus(-z) + (1 - s) * softplus(z)


def entropy_slope(z, y, pos_weight=1, label_smoothing=0):
    s = smoothed(y, label_smoothing)
    return (1 - s) * sigma(z) - pos_weight * s * sigma(-z)


def entropy_slope_scale(z, y, pos_weight=1, label_smoothing=0):
    # For a soft label the two terms cancel where the prediction is right: their sizes are the scale.
    s = smoothed(y, label_smoothing)
    return (1 - s) * sigma(z) + pos_weight * s * sigma(-z)


def in_smoothing(z, y, pos_weight=1, label_smoothing=0):
    return (mpf(1) / 2 - y) * (pos_weight * softplus(-z) - softplus(z))


def probability_entropy(p, y):
    return (-y * mp.log(p) if y else 0) + (-(1 - y) * mp.log(1 - p) if y != 1 else 0)


def probability_slope(p, y):
    return (-y / p if y else 0) + ((1 - y) / (1 - p) if y != 1 else 0)


def probability_slope_scale(p, y):
    return (y / p if y else 0) + ((1 - y) / (1 - p) if y != 1 else 0)


def wrongness(z, y):
    return (1 - y) * sigma(z) + y * sigma(-z)


def balance(y, alpha):
    return 1 if alpha is None else alpha * y + (1 - alpha) * (1 - y)


def focal(z, y, gamma=2, alpha=None):
    """Lin et al. (2017), eq. 4 and 5: −α_t (1 − p_t)^γ log p_t."""
    return balance(y, alpha) * wrongness(z, y) ** gamma * entropy(z, y)


def _focal_slope_terms(z, y, gamma, alpha):
    q, h = wrongness(z, y), entropy(z, y)
    inner = gamma * q ** (gamma - 1) * (1 - 2 * y) * sigma(z) * sigma(-z) * h
    a = balance(y, alpha)
    return a * q**gamma * (1 - y) * sigma(z), -a * q**gamma * y * sigma(-z), a * inner


def focal_slope(z, y, gamma=2, alpha=None):
    return sum(_focal_slope_terms(z, y, gamma, alpha))


def focal_scale(z, y, gamma=2, alpha=None):
    return focal(z, y, gamma, alpha)


def focal_slope_scale(z, y, gamma=2, alpha=None):
    return sum(map(abs, _focal_slope_terms(z, y, gamma, alpha)))


def hinge(z, y):
    return max(1 - y * z, mpf(0))


def _poly1_terms(z, y, epsilon):
    return (
        (1 - y) * sigma(z) * (1 + epsilon * sigma(-z)),
        -y * sigma(-z) * (1 + epsilon * sigma(z)),
    )


def poly1(z, y, epsilon=2):
    """Leng et al. (2022), eq. 6: −log p_t + ε (1 − p_t)."""
    return entropy(z, y) + epsilon * wrongness(z, y)


def poly1_scale(z, y, epsilon=2):
    # All terms positive but the last, below ε = −1, where the loss itself changes its sign.
    return entropy(z, y) - wrongness(z, y) + abs(1 + epsilon) * wrongness(z, y)


def poly1_slope(z, y, epsilon=2):
    return sum(_poly1_terms(z, y, epsilon))


def poly1_slope_scale(z, y, epsilon=2):
    # σ(z) (1 + ε σ(−z)) is σ(z) (σ(z) + (1 + ε) σ(−z)).
    wrong, right = sigma(z), sigma(-z)
    return (1 - y) * wrong * (wrong + abs(1 + epsilon) * right) + y * right * (
        right + abs(1 + epsilon) * wrong
    )


def brier(z, y):
    return (sigma(z) - y) ** 2


def brier_scale(z, y):
    return brier(z, y) + abs(sigma(z) - y) * ((1 - y) * sigma(z) + y * sigma(-z))


def brier_slope(z, y):
    return 2 * (sigma(z) - y) * sigma(z) * sigma(-z)


def brier_slope_scale(z, y):
    return 2 * ((1 - y) * sigma(z) + y * sigma(-z)) * sigma(z) * sigma(-z)


def sparse_sigma(z):
    return max(mpf(0), min((z + 1) / 2, mpf(1)))


def sparsemax(z, y):
    """Blondel et al. (2020), sec. 4.4: Ω*(z) + Ω(y) − zy with Ω(p) = p² − p, Ω* attained at p(z)."""
    p = sparse_sigma(z)
    return (z * p - (p * p - p)) + (y * y - y) - z * y


def sparsemax_slope(z, y):
    return sparse_sigma(z) - y


def sparsemax_slope_scale(z, y):
    # 2y − 1 is rounded where y is neither 0 nor 1, the cases everyone trains on.
    return abs(sparsemax_slope(z, y)) + (0 < y < 1)


def sparsemax_scale(z, y):
    # So is 1 − y, and a loss of a label near 0 or 1 changes by z + 1 − 2y times its rounding.
    return sparsemax(z, y) + (0 < y < 1) * (abs(sparsemax_slope(z, y)) + abs(z + 1 - 2 * y))


def modified_huber(z, y):
    return hinge(z, y) ** 2 if y * z >= -1 else -4 * y * z


def modified_huber_slope(z, y):
    return -2 * y * min(hinge(z, y), 2)


def savage(z, y):
    """Masnadi-Shirazi & Vasconcelos (2008): a score is half the log-odds."""
    return 1 / (1 + mp.exp(2 * y * z)) ** 2


def savage_slope(z, y):
    return -4 * y * mp.exp(2 * y * z) / (1 + mp.exp(2 * y * z)) ** 3


LABELS = {"labels": (1, 2.0), "negative labels": (1, -0.5), "an infinite label": (1, np.inf)}
NOT_SIGNS = {"labels": (1, 0.0), "half": (1, 0.5)}


def soft_case(name: str, options: st.SearchStrategy | None = None, **fields) -> Case:
    return Case(
        name,
        draws=labelled(SCORES, SOFT, options),
        calm=labelled(CALM_SCORES, SOFT, options),
        hard=SOFT_HARD,
        violations=LABELS,
        with_options=options is not None,
        **fields,
    )


def margin_case(name: str, scores=SCORES, hard=MARGIN_HARD, **fields) -> Case:
    return Case(
        name,
        draws=labelled(scores, SIGNS),
        calm=labelled(CALM_SCORES, SIGNS),
        hard=hard,
        violations=NOT_SIGNS,
        **fields,
    )


# Its values span the floats between these.
EXPONENTS = st.sampled_from([0.0, 1.0, 17.0, -17.0, 80.0, -80.0, 1e-9]) | floats(-10, 10)
EXPONENTIAL_HARD = {
    "certain and right": any_row(lambda z, y: z * y == 80),
    "certain and wrong": any_row(lambda z, y: z * y == -80),
    "undecided": any_row(lambda z, y: z == 0),
}


WEIGHT = number(0.0, 1.0, low=0.0, high=5.0)
SMOOTHING = number(0.0, 0.1, low=0.01, high=0.9)
ENTROPY = {"value": entropy, "gradient": entropy_slope, "gradient_scale": entropy_slope_scale}
IN_OPTIONS = {
    "pos_weight": lambda z, y, pos_weight, label_smoothing: smoothed(y, label_smoothing) * softplus(-z),
    "label_smoothing": in_smoothing,
}

CASES = (
    soft_case("binary.cross_entropy", own_path=True, **ENTROPY),
    soft_case(
        "binary.cross_entropy/options",
        each(pos_weight=WEIGHT, label_smoothing=SMOOTHING),
        option_gradients=IN_OPTIONS,
        row_options=("pos_weight",),
        **ENTROPY,
    ),
    soft_case(
        "binary.cross_entropy/weight a row",
        each(pos_weight=one_each(floats(0, 5)), label_smoothing=SMOOTHING),
        option_gradients=IN_OPTIONS,
        row_options=("pos_weight",),
        **ENTROPY,
    ),
    Case(
        "binary.probability_cross_entropy",
        value=probability_entropy,
        gradient=probability_slope,
        gradient_scale=probability_slope_scale,
        draws=probable(),
        calm=labelled(floats(0.1, 0.9), SOFT),
        hard={
            "probability 0": any_row(lambda p, y: p == 0),
            "probability 1": any_row(lambda p, y: p == 1),
            "tiny": any_row(lambda p, y: (p < 1e-19) & (y > 0)),
        },
        violations={"probabilities": (0, 1.5), **LABELS},
    ),
    soft_case(
        "binary.focal",
        value=focal,
        gradient=focal_slope,
        scale=focal_scale,
        gradient_scale=focal_slope_scale,
    ),
    soft_case(
        "binary.focal/options",
        each(
            gamma=number(0.0, 0.5, 1.0, 2.0, low=0.1, high=5.0),
            alpha=number(0.0, 1.0, 0.25, low=0.0, high=1.0),
        ),
        value=focal,
        gradient=focal_slope,
        scale=focal_scale,
        gradient_scale=focal_slope_scale,
        option_gradients={
            "gamma": lambda z, y, gamma, alpha: focal(z, y, gamma, alpha) * mp.log(wrongness(z, y)),
            "alpha": lambda z, y, gamma, alpha: (2 * y - 1) * focal(z, y, gamma),
        },
    ),
    margin_case(
        "binary.logistic", value=lambda z, y: softplus(-y * z), gradient=lambda z, y: -y * sigma(-y * z)
    ),
    margin_case(
        "binary.hinge",
        value=hinge,
        gradient=lambda z, y: -y if y * z < 1 else 0,
        kinks=lambda z, y: abs(1 - y * z),
    ),
    margin_case(
        "binary.squared_hinge",
        value=lambda z, y: hinge(z, y) ** 2,
        gradient=lambda z, y: -2 * y * hinge(z, y),
        kinks=lambda z, y: abs(1 - y * z),
    ),
    soft_case(
        "binary.poly1",
        value=poly1,
        gradient=poly1_slope,
        scale=poly1_scale,
        gradient_scale=poly1_slope_scale,
    ),
    soft_case(
        "binary.poly1/epsilon",
        each(epsilon=number(-1.0, 0.0, 2.0, -2.0, low=-1.0, high=5.0)),
        value=poly1,
        gradient=poly1_slope,
        scale=poly1_scale,
        gradient_scale=poly1_slope_scale,
        option_gradients={"epsilon": lambda z, y, epsilon: wrongness(z, y)},
    ),
    soft_case(
        "binary.brier",
        value=brier,
        gradient=brier_slope,
        scale=brier_scale,
        gradient_scale=brier_slope_scale,
        quadratic=True,
    ),
    soft_case(
        "binary.sparsemax",
        value=sparsemax,
        gradient=sparsemax_slope,
        scale=sparsemax_scale,
        gradient_scale=sparsemax_slope_scale,
        quadratic=True,
        kinks=lambda z, y: abs(abs(z) - 1),
    ),
    margin_case(
        "binary.modified_huber",
        value=modified_huber,
        gradient=modified_huber_slope,
        kinks=lambda z, y: abs(1 - abs(z)),
    ),
    margin_case(
        "binary.exponential",
        scores=EXPONENTS,
        hard=EXPONENTIAL_HARD,
        value=lambda z, y: mp.exp(-y * z),
        gradient=lambda z, y: -y * mp.exp(-y * z),
    ),
    margin_case(
        "binary.perceptron",
        value=lambda z, y: max(-y * z, mpf(0)),
        gradient=lambda z, y: -y if y * z < 0 else 0,
        kinks=lambda z, y: abs(z),
    ),
    margin_case("binary.savage", value=savage, gradient=savage_slope),
)

# --- what decides the claims ------------------------------------------------------------------

_SHIFTED = (rows(0.5, 1.0), 1.0)
_MIDDLE = (rows(1e-3, 1.0), rows(-1e-3, 1.0))
_SAMPLE = np.array([0.0, 0.0, 0.0, 0.0, 1.0])
EVIDENCE = {
    "binary.cross_entropy": Evidence(
        attained={"lipschitz": rows(40.0, 0.0), "smooth": _MIDDLE},
        refuted_by={
            "zero_at_target": rows(0.0, 0.5),
            "bounded": rows(1e6, 0.0),
            "shift_invariant": (rows(0.5, 1.0), 1.0),
        },
    ),
    "binary.probability_cross_entropy": Evidence(
        refuted_by={
            "zero_at_target": rows(0.5, 0.5),
            "lipschitz": rows(1e-9, 1.0),
            "smooth": (rows(1e-9, 1.0), rows(2e-9, 1.0)),
            "bounded": rows(0.0, 1.0),
            "shift_invariant": (rows(0.25, 0.0), 0.5),
        }
    ),
    "binary.focal": Evidence(
        attained={"lipschitz": rows(2.79, 0.0), "smooth": (rows(0.60, 0.0), rows(0.61, 0.0))},
        refuted_by={
            "zero_at_target": rows(0.0, 0.5),
            "convex": (rows(3.0, 0.0), rows(8.0, 0.0)),
            "bounded": rows(1e6, 0.0),
            "shift_invariant": _SHIFTED,
        },
        sample=_SAMPLE,
    ),
    "binary.logistic": Evidence(
        attained={"lipschitz": rows(40.0, -1.0), "smooth": _MIDDLE},
        refuted_by={"bounded": rows(1e6, -1.0), "shift_invariant": _SHIFTED},
    ),
    "binary.hinge": Evidence(
        attained={"lipschitz": rows(0.0, 1.0)},
        refuted_by={
            "bounded": rows(1e6, -1.0),
            "smooth": (rows(1 - 1e-9, 1.0), rows(1 + 1e-9, 1.0)),
            "shift_invariant": (rows(0.0, 1.0), 0.5),
        },
    ),
    "binary.squared_hinge": Evidence(
        attained={"smooth": (rows(-2.0, 1.0), rows(-1.0, 1.0))},
        refuted_by={
            "bounded": rows(1e6, -1.0),
            "lipschitz": rows(1e6, -1.0),
            "shift_invariant": (rows(0.0, 1.0), 0.5),
        },
    ),
    "binary.poly1": Evidence(
        attained={"lipschitz": rows(np.log(3), 0.0), "smooth": (rows(-0.9303, 0.0), rows(-0.9301, 0.0))},
        refuted_by={
            "zero_at_target": rows(0.0, 0.5),
            "convex": (rows(2.0, 0.0), rows(8.0, 0.0)),
            "bounded": rows(1e6, 0.0),
            "shift_invariant": _SHIFTED,
        },
        sample=_SAMPLE,
    ),
    "binary.brier": Evidence(
        attained={
            "lipschitz": rows(np.log(2), 0.0),
            "smooth": (rows(-0.4658, 0.0), rows(-0.4656, 0.0)),
            "bounded": rows(40.0, 0.0),
        },
        refuted_by={"convex": (rows(1.0, 0.0), rows(8.0, 0.0)), "shift_invariant": _SHIFTED},
    ),
    "binary.sparsemax": Evidence(
        attained={"lipschitz": rows(2.0, 0.0), "smooth": _MIDDLE},
        refuted_by={"bounded": rows(1e6, 0.0), "shift_invariant": (rows(0.0, 1.0), 0.5)},
    ),
    "binary.modified_huber": Evidence(
        attained={"lipschitz": rows(-2.0, 1.0), "smooth": (rows(-0.5, 1.0), rows(0.5, 1.0))},
        refuted_by={"bounded": rows(1e6, -1.0), "shift_invariant": (rows(0.0, 1.0), 0.5)},
    ),
    "binary.exponential": Evidence(
        refuted_by={
            "bounded": rows(40.0, -1.0),
            "lipschitz": rows(40.0, -1.0),
            "smooth": (rows(40.0, -1.0), rows(41.0, -1.0)),
            "shift_invariant": _SHIFTED,
        },
    ),
    "binary.perceptron": Evidence(
        attained={"lipschitz": rows(-2.0, 1.0)},
        refuted_by={
            "bounded": rows(1e6, -1.0),
            "smooth": (rows(-1e-9, 1.0), rows(1e-9, 1.0)),
            "shift_invariant": (rows(-1.0, 1.0), 0.5),
        },
        sample=np.array([-1.0, 1.0, 1.0, 1.0, 1.0]),
    ),
    "binary.savage": Evidence(
        attained={
            "lipschitz": rows(-np.log(2) / 2, 1.0),
            "smooth": (rows(0.2328, 1.0), rows(0.2329, 1.0)),
            "bounded": rows(-20.0, 1.0),
        },
        refuted_by={"convex": (rows(-0.5, 1.0), rows(-4.0, 1.0)), "shift_invariant": _SHIFTED},
    ),
}
