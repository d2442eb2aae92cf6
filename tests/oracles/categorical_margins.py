"""Losses of the label's lead by hand: Crammer & Singer (2001), Weston & Watkins (1999), Collins (2002)."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mpmath import mp, mpf

from oracles._case import Evidence, any_row, each, floats, nearest_kink, number
from oracles.categorical import (
    CLASSES,
    IGNORE,
    IGNORED_ROW,
    LOGITS_HARD,
    SAMPLE,
    TWO,
    UNIFORM,
    case,
    distributions,
    gaps,
    gradients,
    ids,
    one_hot,
    row,
)


def behind(z, y):
    """z_j − z_y of each rival."""
    return [a - z[y] for j, a in enumerate(z) if j != y]


def hinge(z, y, margin=1):
    return max(mpf(0), margin + max(behind(z, y)))


def hinge_slope(z, y, margin=1):
    strongest, active = z[y] + max(behind(z, y)), hinge(z, y, margin) > 0
    ties = sum(a == strongest for j, a in enumerate(z) if j != y)
    return [
        mpf(0) if not active else mpf(-1) if j == y else mpf(a == strongest) / ties for j, a in enumerate(z)
    ]


def hinge_scale(z, y, margin=1):
    return margin + abs(max(behind(z, y)))


def hinge_kinks(z, y, margin=1, ignore_index=None):
    rivals = sorted(behind(z, y))
    return nearest_kink(abs(margin + rivals[-1]), *(rivals[-1] - a for a in rivals[:-1]))


def lacking(z, y, margin):
    return [mpf(0) if j == y else max(mpf(0), margin + a - z[y]) for j, a in enumerate(z)]


def weight_of(y, class_weights):
    return mpf(1) / CLASSES * (1 if class_weights is None else class_weights[y])


def weston(z, y, margin=1, power=1, class_weights=None):
    return weight_of(y, class_weights) * mp.fsum(r**power for r in lacking(z, y, margin) if r)


def weston_slope(z, y, margin=1, power=1, class_weights=None):
    each_rival = [
        weight_of(y, class_weights) * power * r ** (power - 1) if r else mpf(0) for r in lacking(z, y, margin)
    ]
    return [-mp.fsum(each_rival) if j == y else g for j, g in enumerate(each_rival)]


def weston_scale(z, y, margin=1, power=1, class_weights=None):
    # Each r is a rounded difference, of this size before the margin is added.
    sizes = [margin + abs(a - z[y]) for a in z]
    slopes = [abs(g) for g in weston_slope(z, y, margin, power, class_weights)]
    inactive = [weight_of(y, class_weights) * size for size in sizes] if power == 1 else []
    return (
        weston(z, y, margin, power, class_weights)
        + mp.fsum(g * s for j, (g, s) in enumerate(zip(slopes, sizes, strict=True)) if j != y)
        + mp.fsum(inactive)
    )


def weston_slope_scale(z, y, margin=1, power=1, class_weights=None):
    weight = weight_of(y, class_weights) * power
    each_rival = [
        weight * (r ** (power - 1) + (power - 1) * r ** (power - 2) * (margin + abs(a - z[y])))
        if r
        else mpf(0)
        for r, a in zip(lacking(z, y, margin), z, strict=True)
    ]
    return [mp.fsum(each_rival) if j == y else g for j, g in enumerate(each_rival)]


def weston_kinks(z, y, margin=1, ignore_index=None, **_):
    return nearest_kink(*(abs(margin + a) for a in behind(z, y)))


def weston_in_margin(z, y, margin=1, power=1, class_weights=None):
    return -weston_slope(z, y, margin, power, class_weights)[y]


def weston_in_power(z, y, margin=1, power=1, class_weights=None):
    terms = [r**power * mp.log(r) for r in lacking(z, y, margin) if r]
    return weight_of(y, class_weights) * mp.fsum(terms)


def weston_in_weights(z, y, margin=1, power=1, class_weights=None):
    return [t * weston(z, y, margin, power) for t in one_hot(y)]


def perceptron(z, y):
    return mp.fsum(t * gap for t, gap in zip(one_hot(y), gaps(z), strict=True))


def perceptron_slope(z, y):
    t = one_hot(y)
    leads = [mpf(a == max(z)) for a in z]
    return [lead / sum(leads) * mp.fsum(t) - b for lead, b in zip(leads, t, strict=True)]


def perceptron_slope_scale(z, y):
    return [mpf(1)] * CLASSES


def perceptron_kinks(z, y, ignore_index=None):
    apart = sorted(max(z) - a for a in z)
    return nearest_kink(*apart[1:])


HINGE = (hinge, hinge_slope, hinge_scale, None)
WESTON = (weston, weston_slope, weston_scale, weston_slope_scale)
PERCEPTRON = (perceptron, perceptron_slope, None, perceptron_slope_scale)
MARGIN = number(1.0, 0.5, low=0.01, high=4.0)
TIED = {"rivals tie": any_row(lambda z, y, **_: np.sum(z == np.max(z, axis=-1, keepdims=True), axis=-1) > 1)}
HARD = LOGITS_HARD | TIED
# Above 0: a class that counts nothing has no gradient for a mutant to change.
WEIGHTS = arrays(
    np.float64, (CLASSES,), elements=st.sampled_from([1.0, 0.5]) | floats(0.1, 3), fill=st.nothing()
)

CASES = (
    case("categorical.hinge/ids", HINGE, ids(), kinks=hinge_kinks, hard=HARD),
    case(
        "categorical.hinge/ids with options",
        HINGE,
        ids(),
        each(margin=MARGIN, **IGNORE),
        kinks=hinge_kinks,
        option_gradients=gradients(margin=lambda z, y, margin: mpf(hinge(z, y, margin) > 0)),
        hard=HARD | IGNORED_ROW,
    ),
    case("categorical.weston_watkins/ids", WESTON, ids(), kinks=weston_kinks, hard=HARD),
    case(
        "categorical.weston_watkins/ids with options",
        WESTON,
        ids(),
        each(margin=MARGIN, power=number(1.0, 2.0, low=1.1, high=3.0), class_weights=WEIGHTS, **IGNORE),
        kinks=weston_kinks,
        option_gradients=gradients(
            margin=weston_in_margin, power=weston_in_power, class_weights=weston_in_weights
        ),
        hard=HARD | IGNORED_ROW,
    ),
    case("categorical.perceptron/ids", PERCEPTRON, ids(), each(**IGNORE), kinks=perceptron_kinks, hard=HARD),
    case(
        "categorical.perceptron/distributions",
        PERCEPTRON,
        distributions(),
        kinks=perceptron_kinks,
        hard=HARD,
    ),
)

FAR = row([0.0, 1e6, *TWO], 0)
MANY = 200
CROWD = (np.zeros((8, MANY)), np.zeros(8, np.int64))


def beside(z, y):
    """Either side of a kink."""
    return row([1e-9, *z], y), row([-1e-9, *z], y)


# The prediction that a median names must not be the flat one, which costs a perceptron nothing.
MAJORITY = np.array([0, 0, 0, 0, 1, 2, 3])
EVIDENCE = {
    "categorical.hinge": Evidence(
        attained={"lipschitz": FAR},
        refuted_by={"bounded": FAR, "smooth": beside([0.0, *TWO], 2)},
    ),
    "categorical.weston_watkins": Evidence(
        attained={"lipschitz": CROWD},
        refuted_by={"bounded": FAR, "smooth": beside([1.0, *TWO], 1)},
        sample=SAMPLE,
    ),
    "categorical.perceptron": Evidence(
        attained={"lipschitz": FAR},
        refuted_by={"bounded": FAR, "smooth": beside([0.0, *TWO], UNIFORM)},
        sample=MAJORITY,
    ),
}
