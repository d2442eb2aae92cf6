"""Losses of ranks by hand: McCullagh (1980), Hou et al. (2016), Epstein (1969), Cao (2020), Shi (2021)."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mpmath import mp

from oracles._case import ROWS, Case, Evidence, any_row, each, floats, one_each
from oracles.categorical import CLASSES, gaps, softmax
from oracles.multilabel import entropy, entropy_slope, sigmoid

CUTS = 3

# --- draws --------------------------------------------------------------------------------------


@st.composite
def ranked(draw, count, *item, options=None, calm=False):
    """Logits from undecided to certain, right and wrong, and a rank below `count`."""
    chosen = draw(options) if options is not None else {}
    logits = floats(-2, 2) if calm else st.sampled_from([0.0, 17.0, -17.0, 80.0, -80.0, 1e3]) | floats(-5, 5)
    return (draw(one_each(logits, *item)), draw(one_each(st.integers(0, count - 1), dtype=np.int64))), chosen


def _increasing(parts):
    return np.cumsum(parts) - 2.0


THRESHOLDS = arrays(
    np.float64,
    (CUTS,),
    elements=st.sampled_from([1.0, 1e-3, 40.0]) | floats(0.1, 3),
    fill=st.nothing(),
).map(_increasing)

# --- formulas -------------------------------------------------------------------------------------


def terms(formula, reached):
    """A formula of each logit and whether the rank is above it; nothing where it is not reached."""
    return lambda z, y: [formula(a, int(y > k)) if reached(y, k) else mp.mpf(0) for k, a in enumerate(z)]


def total(formula):
    return lambda *data: mp.fsum(formula(*data))


def _always(y, k):
    return True


def _once_above(y, k):
    return k <= y


def _ends(z, y, thresholds):
    cuts = [mp.mpf("-inf"), *thresholds, mp.mpf("inf")]
    return cuts[y] - z, cuts[y + 1] - z


def _link(z, y, thresholds=(0,)):
    low, high = _ends(z, y, thresholds)
    return -mp.log(sigmoid(high) - sigmoid(low))


def _link_slope(z, y, thresholds=(0,)):
    low, high = _ends(z, y, thresholds)
    return sigmoid(-high) - sigmoid(low)


def _link_slope_size(z, y, thresholds=(0,)):
    low, high = _ends(z, y, thresholds)
    return sigmoid(-high) * (1 + _finite(high)) + sigmoid(low) * (1 + _finite(low))


def _finite(end):
    return abs(end) if mp.isfinite(end) else 0


def _link_size(z, y, thresholds=(0,)):
    # The ends are rounded once, and so is the distance of two thresholds.
    low, high = _ends(z, y, thresholds)
    bent = 1 if mp.isinf(high - low) else (high - low) / mp.expm1(high - low)
    return _link(z, y, thresholds) + _link_slope_size(z, y, thresholds) + bent


def _in_thresholds(z, y, thresholds):
    low, high = _ends(z, y, thresholds)
    width = sigmoid(high) - sigmoid(low)
    slope = [mp.mpf(0)] * len(thresholds)
    if y > 0:
        slope[y - 1] = sigmoid(low) * sigmoid(-low) / width
    if y < len(thresholds):
        slope[y] = -sigmoid(high) * sigmoid(-high) / width
    return slope


def _excess(z, y):
    """The distribution function of the softmax less the label's."""
    p = softmax(z)
    return [mp.fsum(p[: k + 1]) - (y <= k) for k in range(len(z) - 1)]


def _pulls(z, y):
    found = _excess(z, y)
    return [2 * mp.fsum(found[j:]) for j in range(len(z))]


def _emd(z, y):
    return mp.fsum(gap**2 for gap in _excess(z, y))


def _emd_slope(z, y):
    p, g = softmax(z), _pulls(z, y)
    mean = mp.fsum(a * b for a, b in zip(p, g, strict=True))
    return [a * (b - mean) for a, b in zip(p, g, strict=True)]


def _one_sided(z, y):
    """2 Σ of the probabilities misplaced, for each j on the side that it is on."""
    wrong = [abs(gap) for gap in _excess(z, y)]
    between = [[k for k in range(len(wrong)) if j <= k < y or y <= k < j] for j in range(len(z))]
    return [2 * mp.fsum(wrong[k] for k in found) for found in between]


def _emd_slope_size(z, y):
    # Each share times the others' pull, with a rounding of each gap between logits.
    p, g, distance = softmax(z), _one_sided(z, y), gaps(z)
    mean_gap = mp.fsum(a * b for a, b in zip(p, distance, strict=True))
    rounded = [a * (1 + b + mean_gap) for a, b in zip(p, distance, strict=True)]
    return [
        2 * rounded[j] * g[j] * (1 - p[j])
        + p[j] * mp.fsum(rounded[i] * g[i] for i in range(len(z)) if i != j)
        for j in range(len(z))
    ]


def _emd_size(z, y):
    p, distance = softmax(z), gaps(z)
    mean_gap = mp.fsum(a * b for a, b in zip(p, distance, strict=True))
    slopes = [a * g * (b + mean_gap) for a, g, b in zip(p, _one_sided(z, y), distance, strict=True)]
    return _emd(z, y) + mp.fsum(slopes)


def averaged(formula):
    def of_row(z, y):
        found = formula(z, y)
        return [a / (len(z) - 1) for a in found] if isinstance(found, list) else found / (len(z) - 1)

    return of_row


# --- cases ------------------------------------------------------------------------------------------

OF_THRESHOLDS = {
    "the lowest rank": any_row(lambda z, y, **_: y == 0),
    "certain and wrong": any_row(lambda z, y, **_: (y == 0) & (np.max(z, axis=-1) >= 80)),
}


def case(name, value, slope, count, *item, options=None, hard=OF_THRESHOLDS, **fields):
    return Case(
        name,
        value=value,
        gradient=slope,
        draws=ranked(count, *item, options=options),
        calm=ranked(count, *item, options=options, calm=True),
        item_ndim=len(item),
        with_options=options is not None,
        hard=hard,
        violations={"labels": (1, count), "negative labels": (1, -1)},
        **fields,
    )


OF_SCORES = {"certain and wrong": any_row(lambda z, y, **_: (y == 0) & (z >= 80))}
OF_CLASSES = {
    "certain and wrong": any_row(lambda z, y: (y == 0) & (z[..., -1] >= 80)),
    "certain and right": any_row(lambda z, y: (y == CLASSES - 1) & (z[..., -1] >= 80)),
}
LINK = {"scale": _link_size, "gradient_scale": _link_slope_size, "hard": OF_SCORES}
CASES = (
    case("ordinal.coral", total(terms(entropy, _always)), terms(entropy_slope, _always), CUTS + 1, CUTS),
    case(
        "ordinal.corn", total(terms(entropy, _once_above)), terms(entropy_slope, _once_above), CUTS + 1, CUTS
    ),
    case("ordinal.cumulative_link", _link, _link_slope, 2, **LINK),
    case(
        "ordinal.cumulative_link/with thresholds",
        _link,
        _link_slope,
        CUTS + 1,
        options=each(thresholds=THRESHOLDS),
        option_gradients={"thresholds": _in_thresholds},
        **LINK,
    ),
    case(
        "ordinal.squared_emd",
        _emd,
        _emd_slope,
        CLASSES,
        CLASSES,
        scale=_emd_size,
        gradient_scale=_emd_slope_size,
        hard=OF_CLASSES,
    ),
    case(
        "ordinal.ranked_probability_score",
        averaged(_emd),
        averaged(_emd_slope),
        CLASSES,
        CLASSES,
        scale=averaged(_emd_size),
        gradient_scale=averaged(_emd_slope_size),
        hard=OF_CLASSES,
    ),
)

# --- what decides the claims ------------------------------------------------------------------


def row(z, y):
    """One row of logits and its rank, for every row."""
    z = np.asarray(z, np.float64)
    return np.broadcast_to(z, (ROWS, *z.shape)), np.full(ROWS, y, np.int64)


MANY = np.full(1_100_000, 40.0)
EVIDENCE = {
    "ordinal.coral": Evidence(
        attained={"smooth": (row([1e-3, 0.0, 0.0], 0), row([-1e-3, 0.0, 0.0], 0))},
        refuted_by={"lipschitz": row(MANY, 0), "bounded": row([1e6, 0.0, 0.0], 0)},
    ),
    "ordinal.corn": Evidence(
        attained={"smooth": (row([1e-3, 0.0, 0.0], 0), row([-1e-3, 0.0, 0.0], 0))},
        refuted_by={"lipschitz": row(-MANY, MANY.size), "bounded": row([1e6, 0.0, 0.0], 0)},
    ),
    "ordinal.cumulative_link": Evidence(
        attained={"lipschitz": row(40.0, 0), "smooth": (row(1e-3, 0), row(-1e-3, 0))},
        refuted_by={"bounded": row(1e6, 0)},
    ),
    "ordinal.squared_emd": Evidence(
        refuted_by={
            "convex": (row([0.0, 3.0], 0), row([0.0, 13.0], 0)),
            "bounded": row([*[0.0] * 1999, 40.0], 0),
        },
    ),
    "ordinal.ranked_probability_score": Evidence(
        attained={
            "lipschitz": row([0.0, np.log(2)], 0),
            "smooth": (row([0.2333, -0.2333], 0), row([0.2323, -0.2323], 0)),
            "bounded": row([0.0, 40.0], 0),
        },
        refuted_by={"convex": (row([0.0, 3.0], 0), row([0.0, 13.0], 0))},
    ),
}
