"""Losses of K labels a row by hand: Crammer & Singer (2003), Ridnik et al. (2021), Su et al. (2022)."""

import numpy as np
from hypothesis import strategies as st
from mpmath import mp

from oracles._case import ROWS, Case, Evidence, any_row, each, floats, nearest_kink, number, one_each
from oracles.categorical import CLASSES, WEIGHTS

# --- draws --------------------------------------------------------------------------------------

SOFT = st.sampled_from([0.0, 1.0, 0.0, 1.0]) | floats(0, 1)
FLAGS = st.sampled_from([0.0, 1.0])


@st.composite
def labelled(draw, labels, options=None, calm=False):
    """Logits from undecided to certain, right and wrong."""
    chosen = draw(options) if options is not None else {}
    logits = (
        floats(-2, 2) if calm else st.sampled_from([0.0, 17.0, -17.0, 80.0, -80.0, 300.0]) | floats(-5, 5)
    )
    return (draw(one_each(logits, CLASSES)), draw(one_each(labels, CLASSES))), chosen


# --- formulas -------------------------------------------------------------------------------------

ONES = (1,) * CLASSES


def softplus(z):
    return max(z, mp.mpf(0)) + mp.log1p(mp.exp(-abs(z)))


def sigmoid(z):
    return 1 / (1 + mp.exp(-z))


def entropy(z, y):
    """Of one binary label."""
    return y * softplus(-z) + (1 - y) * softplus(z)


def entropy_slope(z, y):
    return (1 - y) * sigmoid(z) - y * sigmoid(-z)


def _soft(z, y, class_weights=ONES):
    return mp.fsum(w * entropy(a, b) for w, a, b in zip(class_weights, z, y, strict=True)) / len(z)


def _soft_slope(z, y, class_weights=ONES):
    return [w * entropy_slope(a, b) / len(z) for w, a, b in zip(class_weights, z, y, strict=True)]


def _soft_slope_size(z, y, class_weights=ONES):
    return [
        w * ((1 - b) * sigmoid(a) + b * sigmoid(-a)) / len(z)
        for w, a, b in zip(class_weights, z, y, strict=True)
    ]


def _soft_in_weights(z, y, class_weights):
    return [entropy(a, b) / len(z) for a, b in zip(z, y, strict=True)]


def _leads(z, y):
    """1 less the lead of each class that holds over each that does not, and who they are."""
    holding, absent = ([i for i, b in enumerate(y) if b == kind] for kind in (1, 0))
    return [(1 - (z[i] - z[j]), i, j) for i in holding for j in absent]


def _margin(z, y):
    return mp.fsum(max(lack, 0) for lack, *_ in _leads(z, y)) / len(z)


def _margin_slope(z, y):
    slope = [mp.mpf(0)] * len(z)
    for lack, i, j in _leads(z, y):
        if lack > 0:
            slope[i] -= mp.mpf(1) / len(z)
            slope[j] += mp.mpf(1) / len(z)
    return slope


def _margin_size(z, y):
    # The lead and its distance from 1 are rounded.
    return mp.fsum(1 + abs(z[i]) + abs(z[j]) for lack, i, j in _leads(z, y) if lack > 0) / len(z)


def _margin_slope_size(z, y):
    slope = [mp.mpf(0)] * len(z)
    for lack, i, j in _leads(z, y):
        if lack > 0:
            slope[i] += mp.mpf(1) / len(z)
            slope[j] += mp.mpf(1) / len(z)
    return slope


def _held(z, gamma_pos):
    return sigmoid(-z) ** gamma_pos * softplus(-z)


def _held_slope(z, gamma_pos):
    return -(sigmoid(-z) ** gamma_pos) * (gamma_pos * sigmoid(z) * softplus(-z) + sigmoid(-z))


def _unclipped(z, clip):
    return sigmoid(z) - clip


def _absent(z, gamma_neg, clip):
    q = _unclipped(z, clip)
    return -(q**gamma_neg) * mp.log(sigmoid(-z) + clip) if q > 0 else mp.mpf(0)


def _absent_slope(z, gamma_neg, clip):
    q, spread = _unclipped(z, clip), sigmoid(z) * sigmoid(-z)
    if q <= 0:
        return mp.mpf(0)
    rest = sigmoid(-z) + clip
    return spread * (q**gamma_neg / rest - gamma_neg * q ** (gamma_neg - 1) * mp.log(rest))


def _lost(z, gamma_neg, clip):
    """How many times larger than q the probability is that m was taken from, with the power of q."""
    q = _unclipped(z, clip)
    return 1 + (1 + gamma_neg) * sigmoid(z) / q if q > 0 else 1


def per_class(formula):
    """Weighted by what each class's label has of both."""

    def of_row(z, y, gamma_pos=1, gamma_neg=4, clip=0.05):
        return [formula(a, b, gamma_pos, gamma_neg, clip) for a, b in zip(z, y, strict=True)]

    return of_row


def total(formula):
    return lambda *data, **options: mp.fsum(formula(*data, **options))


_asymmetric = per_class(lambda z, y, g, h, m: y * _held(z, g) + (1 - y) * _absent(z, h, m))
_asymmetric_slope = per_class(lambda z, y, g, h, m: y * _held_slope(z, g) + (1 - y) * _absent_slope(z, h, m))
_asymmetric_size = per_class(
    lambda z, y, g, h, m: y * _held(z, g) * (1 + g) + (1 - y) * _absent(z, h, m) * _lost(z, h, m)
)
_asymmetric_slope_size = per_class(
    lambda z, y, g, h, m: (
        y * abs(_held_slope(z, g)) * (1 + g) + (1 - y) * abs(_absent_slope(z, h, m)) * _lost(z, h, m)
    )
)
_in_gamma_pos = per_class(lambda z, y, g, h, m: y * _held(z, g) * mp.log(sigmoid(-z)))
_in_gamma_neg = per_class(
    lambda z, y, g, h, m: (1 - y) * _absent(z, h, m) * mp.log(_unclipped(z, m)) if sigmoid(z) > m else 0
)
_in_clip = per_class(
    lambda z, y, g, h, m: (
        -(1 - y) * _absent_slope(z, h, m) / (sigmoid(z) * sigmoid(-z)) if sigmoid(z) > m else 0
    )
)


def _to_clip(z, y, gamma_pos=1, gamma_neg=4, clip=0.05):
    return min(abs(a - mp.log(clip / (1 - clip))) if clip else mp.inf for a in z)


def _sums(z, y):
    return (
        1 + mp.fsum(mp.exp(a) for a, b in zip(z, y, strict=True) if b == 0),
        1 + mp.fsum(mp.exp(-a) for a, b in zip(z, y, strict=True) if b == 1),
    )


def _zlpr(z, y):
    return mp.fsum(mp.log(part) for part in _sums(z, y))


def _zlpr_slope(z, y):
    absent, holding = _sums(z, y)
    return [mp.exp(a) / absent if b == 0 else -mp.exp(-a) / holding for a, b in zip(z, y, strict=True)]


def _zlpr_slope_size(z, y):
    # Both ends of each exponent are rounded.
    return [
        slope * (1 + abs(a) + max(abs(c) for c in z)) for slope, a in zip(_zlpr_slope(z, y), z, strict=True)
    ]


# --- cases ------------------------------------------------------------------------------------------

HARD = {
    "certain and wrong": any_row(lambda z, y, **_: np.any((z >= 80) & (y == 0), axis=-1)),
    "certain and right": any_row(lambda z, y, **_: np.any((z >= 80) & (y == 1), axis=-1)),
    "nothing holds": any_row(lambda z, y, **_: np.all(y == 0, axis=-1)),
}
SOFT_HARD = {**HARD, "soft": any_row(lambda z, y, **_: np.any((y > 0) & (y < 1), axis=-1))}
BAD_SHARE = {"labels": (1, [0.0, 1.0, 1.5, 0.0, 1.0]), "negative labels": (1, [0.0, 1.0, -0.5, 0.0, 1.0])}
BAD_FLAG = {"labels": (1, [0.0, 1.0, 0.5, 0.0, 1.0])}
GAMMA = number(0.0, 0.5, 1.0, 4.0, low=0.1, high=5.0)
WITH = each(gamma_pos=GAMMA, gamma_neg=GAMMA, clip=number(0.0, 0.05, low=0.01, high=0.5))


def case(name, value, slope, labels, options=None, **fields):
    soft = labels is SOFT
    return Case(
        name,
        value=value,
        gradient=slope,
        draws=labelled(labels, options),
        calm=labelled(labels, options, calm=True),
        item_ndim=1,
        with_options=options is not None,
        hard=SOFT_HARD if soft else HARD,
        violations=BAD_SHARE if soft else BAD_FLAG,
        **fields,
    )


SIZES = {"scale": total(_asymmetric_size), "gradient_scale": _asymmetric_slope_size, "kinks": _to_clip}
CASES = (
    case("multilabel.soft_margin", _soft, _soft_slope, SOFT, gradient_scale=_soft_slope_size),
    case(
        "multilabel.soft_margin/with class weights",
        _soft,
        _soft_slope,
        SOFT,
        each(class_weights=WEIGHTS),
        gradient_scale=_soft_slope_size,
        option_gradients={"class_weights": _soft_in_weights},
    ),
    case(
        "multilabel.margin",
        _margin,
        _margin_slope,
        FLAGS,
        scale=_margin_size,
        gradient_scale=_margin_slope_size,
        kinks=lambda z, y: nearest_kink(*(abs(lack) for lack, *_ in _leads(z, y))),
    ),
    case("multilabel.asymmetric", total(_asymmetric), _asymmetric_slope, SOFT, **SIZES),
    case(
        "multilabel.asymmetric/with options",
        total(_asymmetric),
        _asymmetric_slope,
        SOFT,
        WITH,
        option_gradients={
            "gamma_pos": total(_in_gamma_pos),
            "gamma_neg": total(_in_gamma_neg),
            "clip": total(_in_clip),
        },
        **SIZES,
    ),
    case("multilabel.zlpr", _zlpr, _zlpr_slope, FLAGS, gradient_scale=_zlpr_slope_size),
)

# --- what decides the claims ------------------------------------------------------------------


def row(z, y):
    """One row of logits and its labels, for every row."""
    z, y = np.asarray(z, np.float64), np.asarray(y, np.float64)
    return np.broadcast_to(z, (ROWS, z.size)), np.broadcast_to(y, (ROWS, y.size))


FAR = {"bounded": row([-1e6, 0.0], [1.0, 0.0])}
MANY = 2_000_000
EVIDENCE = {
    "multilabel.soft_margin": Evidence(
        attained={"lipschitz": row([-40.0], [1.0]), "smooth": (row([1e-3], [1.0]), row([-1e-3], [1.0]))},
        refuted_by=FAR,
    ),
    "multilabel.margin": Evidence(
        refuted_by={"smooth": (row([1 - 1e-9, 0.0], [1.0, 0.0]), row([1 + 1e-9, 0.0], [1.0, 0.0])), **FAR}
    ),
    "multilabel.asymmetric": Evidence(
        attained={"smooth": (row([0.96], [0.0]), row([0.97], [0.0]))},
        refuted_by={
            "symmetric": row([1.0, 0.0], [0.0, 1.0]),
            "convex": (row([3.0], [0.0]), row([13.0], [0.0])),
            "lipschitz": row(np.full(MANY, -40.0), np.ones(MANY)),
            **FAR,
        },
    ),
    "multilabel.zlpr": Evidence(
        attained={
            "lipschitz": row([-40.0, 40.0], [1.0, 0.0]),
            "smooth": (row([40.0, 40.002], [0.0, 0.0]), row([40.002, 40.0], [0.0, 0.0])),
        },
        refuted_by=FAR,
    ),
}
