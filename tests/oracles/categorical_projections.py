"""Fenchel-Young losses by hand: Martins & Astudillo (2016), Peters et al. (2019), Blondel et al. (2020)."""

import numpy as np
from mpmath import mp, mpf

from oracles._case import Evidence, any_row, each
from oracles.categorical import (
    FLAT,
    IGNORE,
    IGNORED_ROW,
    LOGITS_HARD,
    SAMPLE,
    TWO,
    UNIFORM,
    case,
    distributions,
    gaps,
    ids,
    log_normaliser,
    one_hot,
    row,
    softmax,
)


def threshold(x, order):
    """τ with Σ max(0, x − τ)ⁿ = 1, from the support that agrees with it: the k largest, for some k."""
    ordered = sorted(x, reverse=True)
    for k in range(len(x), 0, -1):
        held = ordered[:k]
        mean = mp.fsum(held) / k
        spread = mp.fsum((a - mean) ** 2 for a in held)
        if order == 2 and spread > 1:
            continue
        tau = mean - (mpf(1) / k if order == 1 else mp.sqrt((1 - spread) / k))
        if held[-1] > tau:
            return tau
    raise AssertionError


def excess(z, order):
    x = [-gap / order for gap in gaps(z)]
    tau = threshold(x, order)
    return [a - tau for a in x]


def projected(z, order):
    return [max(mpf(0), a) ** order for a in excess(z, order)]


def entropy(p, alpha):
    """−Ω: Tsallis' entropy, as Peters et al. define it."""
    return mp.fsum(a - a**alpha for a in p) / (alpha * (alpha - 1))


def tsallis(order):
    """⟨p − t, z⟩ + H(p) − H(t), its gradient p − t, and what their rounding is measured against."""
    alpha = 1 + mpf(1) / order

    def value(z, y):
        t = one_hot(y)
        t = [a / mp.fsum(t) for a in t]
        p, shifted = projected(z, order), [-gap for gap in gaps(z)]
        return (
            mp.fsum((a - b) * c for a, b, c in zip(p, t, shifted, strict=True) if a or b)
            + entropy(p, alpha)
            - entropy(t, alpha)
        )

    def scale(z, y):
        # A sum of squares of numbers right to an ULP of 1, and of t times a gap.
        loss = max(value(z, y), mpf(0))
        return loss + mp.sqrt(loss) + mpf(10) ** -16

    def slope(z, y):
        return [p - t for p, t in zip(projected(z, order), one_hot(y), strict=True)]

    def slope_scale(z, y):
        return [
            mpf(1) if p or abs(p - t) else mpf(0)
            for p, t in zip(projected(z, order), one_hot(y), strict=True)
        ]

    return value, slope, scale, slope_scale


def edge(order):
    """How far the nearest logit is from entering or leaving the support."""
    return lambda z, y, **_: order * min(abs(a) for a in excess(z, order))


def young(z, y):
    return log_normaliser(z) - mp.fsum(t * a for t, a in zip(one_hot(y), z, strict=True) if t)


def young_slope(z, y):
    t = one_hot(y)
    return [p - b for p, b in zip(softmax(z), t, strict=True)]


def young_scale(z, y):
    # The maximum and the label's logit are rounded at their own size, whatever is left of them.
    return abs(log_normaliser(z)) + mp.fsum(t * abs(a) for t, a in zip(one_hot(y), z, strict=True) if t)


def young_slope_scale(z, y):
    mean_gap = mp.fsum(p * gap for p, gap in zip(softmax(z), gaps(z), strict=True))
    return [p * (1 + gap + mean_gap) + t for p, t, gap in zip(softmax(z), one_hot(y), gaps(z), strict=True)]


YOUNG = (young, young_slope, young_scale, young_slope_scale)
SPARSE = {
    "several": any_row(lambda z, y, **_: np.sum(np.max(z, axis=-1, keepdims=True) - z < 1, axis=-1) > 2)
}


def two_cases(name, formulas, **fields):
    return (
        case(
            f"categorical.{name}/ids",
            formulas,
            ids(),
            each(**IGNORE),
            hard=LOGITS_HARD | SPARSE | IGNORED_ROW,
            **fields,
        ),
        case(
            f"categorical.{name}/distributions",
            formulas,
            distributions(),
            hard=LOGITS_HARD | SPARSE,
            **fields,
        ),
    )


CASES = (
    *two_cases("sparsemax", tsallis(1), kinks=edge(1), quadratic=True),
    *two_cases("entmax15", tsallis(2), kinks=edge(2), quadratic=True),
    *two_cases("fenchel_young", YOUNG),
)

FAR = row([0.0, 1e6, *TWO], 0)
EVEN = (row([1e-3, -1e-3, *TWO], 0), row([-1e-3, 1e-3, *TWO], 0))
EVIDENCE = {
    **{
        f"categorical.{name}": Evidence(
            attained={"lipschitz": FAR, "smooth": EVEN}, refuted_by={"bounded": FAR}
        )
        for name in ("sparsemax", "entmax15")
    },
    "categorical.fenchel_young": Evidence(
        attained={"lipschitz": FAR, "smooth": EVEN},
        refuted_by={"bounded": FAR, "zero_at_target": row(FLAT, UNIFORM)},
        sample=SAMPLE,
    ),
}
