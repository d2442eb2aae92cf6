"""Softmax losses by hand: Leng (2022), Zhang (2018), Wang (2019), Menon (2021), Ren (2020), Cao (2019)."""

import dataclasses
import math

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mpmath import mp, mpf

from oracles._case import Evidence, each, floats, number
from oracles.categorical import (
    CLASSES,
    EXCLUDED,
    FLAT,
    IGNORE,
    IGNORED_ROW,
    LOGITS_HARD,
    SAMPLE,
    TWO,
    UNIFORM,
    case,
    costs,
    distributions,
    dot,
    gaps,
    gradients,
    ids,
    one_hot,
    row,
    softmax,
)


def of_surprise(cost, pull):
    """Value, gradient and their scales of Σ t φ(−log p), from φ and φ′ as functions of p."""

    def value(z, y, **options):
        return dot(one_hot(y), [cost(p, s, **options) for p, s in zip(softmax(z), costs(z), strict=True)])

    def pulls(z, y, options):
        return [t * pull(p, **options) if t else mpf(0) for t, p in zip(one_hot(y), softmax(z), strict=True)]

    def slope(z, y, **options):
        p, pulled = softmax(z), pulls(z, y, options)
        # p_j Σ_{c≠j} − (1 − p_j) of its own: at 80 digits the same as p_j Σ_c less its own.
        return [p_j * mp.fsum(pulled) - own for p_j, own in zip(p, pulled, strict=True)]

    def scale(z, y, **options):
        return value(z, y, **options) + dot([abs(g) for g in slope(z, y, **options)], gaps(z))

    def slope_scale(z, y, **options):
        p, pulled = softmax(z), pulls(z, y, options)
        total, mean_gap = mp.fsum(pulled), dot(p, gaps(z))
        of_ids = not isinstance(y, list)
        # An id has (1 − p) of its own; of a distribution autodiff subtracts p Σ and t. A rounded surprise
        # turns φ′ by as many ULPs as it is large.
        return [
            (p_j * (total - own) + own * (1 - p_j) if of_ids else p_j * total + own)
            * (1 + gap + mean_gap + (max(gaps(z)) if own or of_ids else 0))
            for p_j, own, gap in zip(p, pulled, gaps(z), strict=True)
        ]

    return value, slope, scale, slope_scale


def in_option(term):
    """Σ t times a term of p and the surprise."""

    def derivative(z, y, **options):
        return dot(one_hot(y), [term(p, s, **options) for p, s in zip(softmax(z), costs(z), strict=True)])

    return derivative


POLY = of_surprise(lambda p, s, epsilon=2: s + epsilon * (1 - p), lambda p, epsilon=2: 1 + epsilon * p)
HALF = mpf(1) / 2
GENERALIZED = of_surprise(lambda p, s, q=HALF: (1 - p**q) / q, lambda p, q=HALF: p**q)
Q_GRADIENT = in_option(lambda p, s, q: ((q * s * p**q if p else 0) - 1 + p**q) / q**2)


# --- the reverse cross-entropy -------------------------------------------------------------------

LOG_ZERO = mpf(math.log(1e-4))


def floored(t, log_zero):
    return [max(mp.log(a), log_zero) if a else log_zero for a in t]


def symmetric(z, y, alpha=mpf(0.1), beta=1, log_zero=LOG_ZERO):
    t = one_hot(y)
    return alpha * dot(t, costs(z)) - beta * dot(softmax(z), floored(t, log_zero))


def symmetric_slope(z, y, alpha=mpf(0.1), beta=1, log_zero=LOG_ZERO):
    t, p = one_hot(y), softmax(z)
    logs = floored(t, log_zero)
    mean = dot(p, logs)
    return [
        alpha * (p_j * mp.fsum(t) - t_j) + beta * p_j * (mean - a)
        for p_j, t_j, a in zip(p, t, logs, strict=True)
    ]


def symmetric_scale(z, y, **options):
    slope = symmetric_slope(z, y, **options)
    return symmetric(z, y, **options) + dot([abs(g) for g in slope], gaps(z))


def symmetric_slope_scale(z, y, alpha=mpf(0.1), beta=1, log_zero=LOG_ZERO):
    t, p = one_hot(y), softmax(z)
    logs, of_ids = floored(t, log_zero), not isinstance(y, list)
    mean, mean_gap = dot(p, [abs(a) for a in logs]), dot(p, gaps(z))
    rounded = [1 + gap + mean_gap + (max(gaps(z)) if of_ids else 0) for gap in gaps(z)]
    # Of an id, (1 − p) of its own; of a distribution autodiff takes p Σ from t, and p log t from its mean.
    return [
        (
            alpha * (p_j * (1 - t_j) + t_j * (1 - p_j) if of_ids else p_j + t_j)
            + beta * p_j * (mean + abs(a) * (1 - t_j if of_ids else 1))
        )
        * size
        for p_j, t_j, a, size in zip(p, t, logs, rounded, strict=True)
    ]


def in_log_zero(z, y, alpha, beta, log_zero):
    rare = [mpf(not t or mp.log(t) < log_zero) for t in one_hot(y)]
    return -beta * dot(softmax(z), rare)


IN_SYMMETRIC = gradients(
    alpha=lambda z, y, **_: dot(one_hot(y), costs(z)),
    beta=lambda z, y, alpha, beta, log_zero: -dot(softmax(z), floored(one_hot(y), log_zero)),
    log_zero=in_log_zero,
)

# --- logits that know the classes' frequencies ------------------------------------------------------


def surprises(z):
    """−log p of each class, from what the others have: 80 digits end where a lead of 200 begins."""
    return [mp.log1p(mp.fsum(mp.exp(b - a) for k, b in enumerate(z) if k != j)) for j, a in enumerate(z)]


def residues(z, t):
    """p Σt − t, from what the others have."""
    p, total = softmax(z), mp.fsum(t)
    return [
        p_j * (total - t_j) - t_j * mp.fsum(b for k, b in enumerate(p) if k != j)
        for j, (p_j, t_j) in enumerate(zip(p, t, strict=True))
    ]


def shifted_entropy(shift, size=1):
    """Cross-entropy of s(z + shift): its value, gradient and their scales."""

    def moved(z, y, options):
        s = size(**options) if callable(size) else size
        by = shift(y, **options)
        sizes = [s * (gap + abs(a)) for gap, a in zip(gaps(z), by, strict=True)]
        return s, [s * (a + b) for a, b in zip(z, by, strict=True)], sizes

    def value(z, y, **options):
        return dot(one_hot(y), surprises(moved(z, y, options)[1]))

    def slope(z, y, **options):
        s, adjusted, _ = moved(z, y, options)
        return [s * g for g in residues(adjusted, one_hot(y))]

    def scale(z, y, **options):
        _, adjusted, sizes = moved(z, y, options)
        # Every adjusted logit is rounded: what that can change is the gradient times its size.
        errors = [a + b for a, b in zip(sizes, gaps(adjusted), strict=True)]
        s = moved(z, y, options)[0]
        return value(z, y, **options) + dot([abs(g) / s for g in slope(z, y, **options)], errors)

    def slope_scale(z, y, **options):
        s, adjusted, sizes = moved(z, y, options)
        p, t, of_ids = softmax(adjusted), one_hot(y), not isinstance(y, list)
        errors = [1 + a + b for a, b in zip(sizes, gaps(adjusted), strict=True)]
        total, mean = mp.fsum(t), dot(p, errors)
        # The sum of the others' shares, beside a label that has nearly all, is as wrong as the worst.
        return [
            s * (abs(g) if of_ids else p_j * total + t_j) * (error + mean + (max(errors) if of_ids else 0))
            for p_j, t_j, g, error in zip(p, t, residues(adjusted, t), errors, strict=True)
        ]

    return value, slope, scale, slope_scale


def log_priors(y, priors, temperature=1):
    return [temperature * mp.log(a) for a in priors]


def log_counts(y, class_counts):
    return [mp.log(n) for n in class_counts]


def residue(z, y, shift):
    return residues([a + b for a, b in zip(z, shift, strict=True)], one_hot(y))


def in_priors(z, y, priors, temperature=1):
    slopes = residue(z, y, log_priors(y, priors, temperature))
    return [temperature * g / a for g, a in zip(slopes, priors, strict=True)]


def in_temperature(z, y, priors, temperature=1):
    return dot(residue(z, y, log_priors(y, priors, temperature)), [mp.log(a) for a in priors])


def in_counts(z, y, class_counts):
    return [g / n for g, n in zip(residue(z, y, log_counts(y, class_counts)), class_counts, strict=True)]


def label_margin(y, class_counts, margin=HALF, scale=1):
    width = margin * (min(class_counts) / class_counts[y]) ** (mpf(1) / 4)
    return [-width * t for t in one_hot(y)]


def missing(z, y, class_counts, margin, scale):
    """1 − p of the label."""
    lead = label_margin(y, class_counts, margin)
    return -residues([scale * (a + b) for a, b in zip(z, lead, strict=True)], one_hot(y))[y]


def ldam_in_margin(z, y, class_counts, margin, scale):
    width = (min(class_counts) / class_counts[y]) ** (mpf(1) / 4)
    return scale * missing(z, y, class_counts, margin, scale) * width


def ldam_in_scale(z, y, class_counts, margin, scale):
    moved = [a + b for a, b in zip(z, label_margin(y, class_counts, margin), strict=True)]
    return dot(residues([scale * a for a in moved], one_hot(y)), moved)


def ldam_in_counts(z, y, class_counts, margin, scale):
    least = min(class_counts)
    width = margin * (least / class_counts[y]) ** (mpf(1) / 4)
    pull = scale * missing(z, y, class_counts, margin, scale) * width / 4
    ties = sum(n == least for n in class_counts)
    return [
        pull * ((mpf(n == least) / (ties * least)) - (mpf(k == y) / n)) for k, n in enumerate(class_counts)
    ]


# --- cases ----------------------------------------------------------------------------------------

FREQUENCIES = arrays(
    np.float64, (CLASSES,), elements=st.sampled_from([1.0, 1000.0]) | floats(0.5, 50), fill=st.nothing()
)
COUNTS = np.array([900.0, 300.0, 60.0, 10.0, 2.0])
PRIORS = COUNTS / COUNTS.sum()
EPSILON = number(-1.0, 0.0, 2.0, low=-0.99, high=4.0)
QS = number(0.5, 1.0, 0.7, low=0.01, high=0.99)


def with_options(name, formulas, options, labels=None, **fields):
    kind = "ids" if labels is None else "distributions"
    ignoring = IGNORE if labels is None else {}
    return case(
        f"categorical.{name}/{kind} with options",
        formulas,
        ids() if labels is None else labels,
        each(**options, **ignoring),
        hard=LOGITS_HARD | (IGNORED_ROW if labels is None else {}),
        **fields,
    )


def plain(name, formulas, labels, options=None, **fields):
    """At default options, or at the one choice of what has no default."""
    kind = "ids" if labels is None else "distributions"
    chosen = case(
        f"categorical.{name}/{kind}",
        formulas,
        ids() if labels is None else labels,
        None if options is None else each(**{key: st.just(value) for key, value in options.items()}),
        hard=LOGITS_HARD | (EXCLUDED if fields.get("excluded") else {}),
        **fields,
    )
    return dataclasses.replace(chosen, with_options=False)


SYMMETRIC = (symmetric, symmetric_slope, symmetric_scale, symmetric_slope_scale)
SYMMETRIC_OPTIONS = {
    "alpha": number(0.1, 1.0, low=0.01, high=3.0),
    "beta": number(0.0, 1.0, low=0.01, high=3.0),
    "log_zero": number(-4.0, -9.0, low=-12.0, high=-1.0),
}
ADJUSTED = shifted_entropy(log_priors)
BALANCED = shifted_entropy(log_counts)
LDAM = shifted_entropy(label_margin, size=lambda class_counts, margin=0, scale=1: scale)
TEMPERATURES = number(1.0, 0.0, low=0.1, high=3.0)

CASES = (
    plain("poly1", POLY, distributions(), excluded=True),
    with_options(
        "poly1",
        POLY,
        {"epsilon": EPSILON},
        option_gradients=gradients(epsilon=in_option(lambda p, s, epsilon: 1 - p)),
    ),
    plain("generalized_cross_entropy", GENERALIZED, distributions(), excluded=True),
    with_options(
        "generalized_cross_entropy", GENERALIZED, {"q": QS}, option_gradients=gradients(q=Q_GRADIENT)
    ),
    plain("symmetric_cross_entropy", SYMMETRIC, distributions(), excluded=True),
    with_options("symmetric_cross_entropy", SYMMETRIC, SYMMETRIC_OPTIONS, option_gradients=IN_SYMMETRIC),
    plain("logit_adjusted", ADJUSTED, distributions(), {"priors": PRIORS}),
    with_options(
        "logit_adjusted",
        ADJUSTED,
        {"priors": FREQUENCIES, "temperature": TEMPERATURES},
        option_gradients={
            "priors": gradients(class_weights=in_priors)["class_weights"],
            **gradients(temperature=in_temperature),
        },
    ),
    plain("balanced_softmax", BALANCED, distributions(), {"class_counts": COUNTS}),
    with_options(
        "balanced_softmax",
        BALANCED,
        {"class_counts": FREQUENCIES},
        option_gradients={"class_counts": gradients(class_weights=in_counts)["class_weights"]},
    ),
    plain("ldam", LDAM, None, {"class_counts": COUNTS}),
    with_options(
        "ldam",
        LDAM,
        {
            "class_counts": FREQUENCIES,
            "margin": number(0.5, 0.0, low=0.01, high=2.0),
            "scale": number(1.0, 30.0, low=0.1, high=5.0),
        },
        option_gradients={
            "class_counts": gradients(class_weights=ldam_in_counts)["class_weights"],
            **gradients(margin=ldam_in_margin, scale=ldam_in_scale),
        },
    ),
)

# --- what decides the claims ------------------------------------------------------------------------

FAR = row([0.0, 1e6, *TWO], 0)


def lead(by):
    """Logits whose label, the first of two that matter, leads by so much."""
    return row([by / 2, -by / 2, *TWO], 0)


def steepest(doubt):
    """Where the label's probability falls short of 1 by so much."""
    return lead(float(np.log1p(-doubt) - np.log(doubt)))


def bent(doubt):
    return steepest(doubt - 1e-4), steepest(doubt + 1e-4)


UNSAID = {"zero_at_target": row(FLAT, UNIFORM)}
NOT_CONVEX = {"convex": (lead(-3.0), lead(-12.0))}
ENTROPY_LIKE = {
    "attained": {"lipschitz": FAR, "smooth": bent(0.5)},
    "refuted_by": {**UNSAID, "bounded": FAR, "symmetric": row([1.0, 0.0, 0.0, 0.0, 0.0], 0)},
    "sample": SAMPLE,
}


def under(shift):
    """The same evidence for logits that the loss shifts: shifted back."""

    def back(data):
        return (data[0] - shift, data[1])

    attained = ENTROPY_LIKE["attained"]
    return ENTROPY_LIKE | {
        "attained": {"lipschitz": FAR, "smooth": tuple(map(back, attained["smooth"]))},
    }


# Its labels are ids.
LED = under(-0.5 * (COUNTS[-1] / COUNTS[0]) ** 0.25 * np.eye(CLASSES)[0])
EVIDENCE = {
    "categorical.poly1": Evidence(
        attained={"lipschitz": steepest(0.75), "smooth": bent(0.28287)},
        refuted_by={**UNSAID, **NOT_CONVEX, "bounded": FAR},
        sample=SAMPLE,
    ),
    "categorical.generalized_cross_entropy": Evidence(
        attained={"lipschitz": steepest(2 / 3), "smooth": bent(0.2945), "bounded": FAR},
        refuted_by={**UNSAID, **NOT_CONVEX},
        sample=SAMPLE,
    ),
    "categorical.symmetric_cross_entropy": Evidence(
        attained={"lipschitz": steepest(0.50543), "smooth": bent(0.21313)},
        refuted_by={**UNSAID, **NOT_CONVEX, "bounded": FAR},
        sample=SAMPLE,
    ),
    "categorical.logit_adjusted": Evidence(**under(np.log(PRIORS)), options={"priors": PRIORS}),
    "categorical.balanced_softmax": Evidence(**under(np.log(COUNTS)), options={"class_counts": COUNTS}),
    "categorical.ldam": Evidence(
        **LED | {"refuted_by": LED["refuted_by"] | {"zero_at_target": row(FLAT, 0)}},
        options={"class_counts": COUNTS},
    ),
}
