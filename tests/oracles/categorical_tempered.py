"""The bi-tempered logistic loss by hand: Amid, Warmuth, Anil & Koren (2019), eq. 2, 5 and 7."""

from mpmath import mp, mpf

from oracles._case import Evidence, number
from oracles.categorical import SAMPLE, distributions, gaps, gradients, one_hot
from oracles.categorical_softmax import FAR, NOT_CONVEX, lead, plain, with_options

# The float64 that each default is.
T1, T2 = mpf(0.8), mpf(1.2)


def log_t(x, t):
    if t == 1:
        return mp.log(x) if x else -mp.inf
    return (x ** (1 - t) - 1) / (1 - t) if x or t < 1 else -mp.inf


def exp_t(x, t):
    """For t ≥ 1, or so little less that its base is positive."""
    if x == -mp.inf:
        return mpf(0)
    return mp.exp(x) if t == 1 else (1 + (1 - t) * x) ** (1 / (1 - t))


def tempered_softmax(z, t):
    """The normaliser by Newton's method in all the digits, from below."""
    below = [a - max(z) for a in z]
    normaliser = mpf(0)
    for _ in range(200):
        parts = [exp_t(u - normaliser, t) for u in below]
        total, slope = mp.fsum(parts), mp.fsum(p**t for p in parts)
        # On log_t of the sum, which is straight where all are alike.
        step = log_t(total, t) * total**t / slope
        normaliser += step
        if abs(step) <= mpf(10) ** -60 * abs(normaliser):
            break
    return [exp_t(u - normaliser, t) for u in below]


def _value(z, y, t1=T1, t2=T2):
    p, shares, b = tempered_softmax(z, t2), one_hot(y), 2 - t1
    gained = mp.fsum(t * (log_t(t, t1) - log_t(a, t1)) for a, t in zip(p, shares, strict=True) if t)
    return gained - mp.fsum(t**b - a**b for a, t in zip(p, shares, strict=True)) / b


def _pulls(z, y, t1, t2):
    p = tempered_softmax(z, t2)
    return p, [(a - t) * a ** (t2 - t1) if a else mpf(0) for a, t in zip(p, one_hot(y), strict=True)]


def _escort(p, t2):
    parts = [a**t2 for a in p]
    return [part / mp.fsum(parts) for part in parts]


def _slope(z, y, t1=T1, t2=T2):
    p, pulls = _pulls(z, y, t1, t2)
    return [v - q * mp.fsum(pulls) for v, q in zip(pulls, _escort(p, t2), strict=True)]


def _sizes(p, y, t1, t2):
    """What roundings of a surprise, and of a soft share, make of each class's pull."""
    return [
        (1 - mp.log(a)) * (abs(a - t) + (a if 0 < t < 1 else 0)) * a ** (t2 - t1) if a else mpf(0)
        for a, t in zip(p, one_hot(y), strict=True)
    ]


def _scale(z, y, t1=T1, t2=T2):
    p = tempered_softmax(z, t2)
    found = zip(_sizes(p, y, t1, t2), p, gaps(z), one_hot(y), strict=True)
    rounded = mp.fsum(
        size * (1 + (gap if gap < mp.inf else 0) + (abs(mp.log(t)) if t else 0)) * a ** (1 - t2)
        for size, a, gap, t in found
        if a
    )
    return _value(z, y, t1, t2) + rounded


def _slope_scale(z, y, t1=T1, t2=T2):
    p = tempered_softmax(z, t2)
    q, sizes = _escort(p, t2), _sizes(p, y, t1, t2)
    distances = [gap if gap < mp.inf else mpf(0) for gap in gaps(z)]
    mean = mp.fsum(a * gap for a, gap in zip(q, distances, strict=True))
    total = mp.fsum(sizes)
    return [
        (size * (1 - b) + b * (total - size)) * (1 + gap + mean) + abs(g)
        for size, b, gap, g in zip(sizes, q, distances, _slope(z, y, t1, t2), strict=True)
    ]


STEP = mpf(10) ** -20


def _in_t1(z, y, t1, t2):
    return (_value(z, y, t1 + STEP, t2) - _value(z, y, t1 - STEP, t2)) / (2 * STEP)


def _in_t2(z, y, t1, t2):
    return (_value(z, y, t1, t2 + STEP) - _value(z, y, t1, t2 - STEP)) / (2 * STEP)


FORMULAS = (_value, _slope, _scale, _slope_scale)
CASES = (
    plain("bi_tempered_logistic", FORMULAS, distributions()),
    with_options(
        "bi_tempered_logistic",
        FORMULAS,
        {
            "t1": number(0.8, 1.0, 0.0, low=0.01, high=0.99),
            "t2": number(1.2, 1.0, 1.0 + 1e-9, low=1.01, high=3.0),
        },
        option_gradients=gradients(t1=_in_t1, t2=_in_t2),
    ),
)

# Where the pull of a label between two classes is largest, and where it changes fastest.
STEEPEST, BENDING = -1.1983637527527002, 0.4191077158417822
EVIDENCE = {
    "categorical.bi_tempered_logistic": Evidence(
        attained={
            "lipschitz": lead(STEEPEST),
            "smooth": (lead(BENDING - 1e-3), lead(BENDING + 1e-3)),
            "bounded": FAR,
        },
        refuted_by=NOT_CONVEX,
        sample=SAMPLE,
    )
}
