"""Losses of all pairs of a batch, by hand: Sohn (2016), Wang (2019), Sun (2020).

The first two are functions of a matrix of cosines, as in `contrastive`; the third of inner products.
"""

import numpy as np
from hypothesis import strategies as st

from oracles._case import ROWS, Case, Evidence, any_row, each, floats, number, one_each
from oracles.contrastive import (
    ALONE,
    CLUSTERS,
    FEATURES,
    OFFSET,
    PAIRS,
    SOME,
    grouped,
    log_sum,
    refuted,
    softmax,
    through_norm,
    two_cases,
    unit,
    vectors,
)

FLUSHED = 1e-32

# --- Sun (2020), the weights differentiated as Keras does ---------------------------------------------


@ALONE
def circle_parts(cosines, labels, margin=np.longdouble(0.4), scale=80):
    """σ; the logits of partners and strangers with their shares, and with their slopes by the cosine."""
    same, different = grouped(labels)
    near = scale * (1 + margin - cosines) * (1 - margin - cosines)
    above = cosines > -margin
    far = np.where(above, scale * (cosines + margin) * (cosines - margin), 0)
    total = log_sum(near, same) + log_sum(far, different)
    partners = near, softmax(near, same), -2 * scale * (1 - cosines)
    strangers = far, softmax(far, different), np.where(above, 2 * scale * cosines, 0)
    return np.logaddexp(0, total), (1 / (1 + np.exp(-total)))[:, None], partners, strangers


def _circle(cosines, labels, **options):
    values, share, *sides = circle_parts(cosines, labels, **options)
    return values, share * sum(shares * slopes for _, shares, slopes in sides)


def _steepness(margin=np.longdouble(0.4), scale=80):
    """What a logit is rounded by: the cosine's rounding, and that of the two factors."""
    return 2 * scale * (1 + margin)


def _circle_scale(x, labels, **options):
    values, share, *_ = circle_parts(unit(x) @ unit(x).T, labels, **options)
    return values + share[:, 0] * _steepness(**options)


def _circle_slope_scale(x, labels, **options):
    _, share, *sides = circle_parts(unit(x) @ unit(x).T, labels, **options)
    return _through_cosines(share * sum(shares for _, shares, _ in sides), x, _steepness(**options))


def _through_cosines(shares, x, steepness):
    """The size of a gradient's terms, and of their rounding in an exponent, of pairs of these shares."""
    # A share below the smallest float is nothing before a factor multiplies it.
    sizes = (shares + shares.T + FLUSHED) * steepness
    return through_norm(sizes @ np.abs(unit(x)), x, size=True) * (1 + steepness)


def _circle_kinks(x, labels, margin=np.longdouble(0.4), **_):
    """Where a stranger's cosine is −m, in the unit of the embeddings; at m = 0 it is flat there."""
    _, different = grouped(labels)
    distance = np.min(np.abs(unit(x) @ unit(x).T + margin)[different], initial=np.inf)
    if not (margin > 0 and distance < np.inf):
        return np.full(len(x), np.inf)
    return np.maximum(np.max(np.abs(x), axis=-1), labels) * np.maximum(distance, 1e-300)


def _circle_in_margin(x, labels, margin, scale):
    cosines = unit(x) @ unit(x).T
    _, share, (_, near, _), (_, far, _) = circle_parts(cosines, labels, margin=margin, scale=scale)
    return -2 * margin * scale * share[:, 0] * np.sum(near + far * (cosines > -margin), axis=-1)


def _circle_in_scale(x, labels, scale, **options):
    _, share, *sides = circle_parts(unit(x) @ unit(x).T, labels, scale=scale, **options)
    return share[:, 0] * np.sum(sum(shares * logits for logits, shares, _ in sides), axis=-1) / scale


# --- Wang (2019) --------------------------------------------------------------------------------------


@ALONE
def similarity_parts(cosines, labels, alpha=2, beta=50, margin=np.longdouble(0.5)):
    """Of each sum, over partners and over strangers: log(1 + sum), and each term's share of 1 and the sum."""
    found = []
    for factor, among in zip((-alpha, beta), grouped(labels), strict=True):
        logits = factor * (cosines - margin)
        total = log_sum(logits, among)
        found.append((np.logaddexp(0, total), softmax(logits, among) / (1 + np.exp(-total))[:, None]))
    return found


def _multi_similarity(cosines, labels, alpha=2, beta=50, margin=np.longdouble(0.5)):
    (near, closer), (far, farther) = similarity_parts(cosines, labels, alpha, beta, margin)
    return near / alpha + far / beta, farther - closer


def _similarity_slope_scale(x, labels, alpha=2, beta=50, margin=np.longdouble(0.5)):
    parts = similarity_parts(unit(x) @ unit(x).T, labels, alpha, beta, margin)
    return _through_cosines(sum(shares for _, shares in parts), x, 1 + 2 * np.maximum(alpha, beta))


def _by_factor(which):
    def derivative(x, labels, margin, **options):
        cosines, factor = unit(x) @ unit(x).T, options[("alpha", "beta")[which]]
        total, shares = similarity_parts(cosines, labels, margin=margin, **options)[which]
        moved = np.sum(shares * (cosines - margin), axis=-1) * (-1, 1)[which]
        return moved / factor - total / factor**2

    return derivative


def _by_margin(x, labels, **options):
    return -np.sum(_multi_similarity(unit(x) @ unit(x).T, labels, **options)[1], axis=-1)


# --- Sohn (2016), eq. 6 --------------------------------------------------------------------------------


def pair_parts(a, b, labels):
    """The values; the two terms of each slope by an inner product, one of the softmax, one of the label."""
    logits = a @ b.T
    same = labels[:, None] == labels[None, :]
    share = same / same.sum(axis=-1, keepdims=True)
    ratios = np.exp(logits[:, None, :] - logits[:, :, None]) * (1 - np.eye(len(a)))
    costs = np.log1p(np.sum(ratios, axis=-1))
    others = -np.expm1(-costs)
    return np.sum(share * costs, axis=-1), np.exp(-costs) * others_of(share), share * others


def others_of(share):
    return np.sum(share[:, None, :] * (1 - np.eye(len(share))), axis=-1)


def _pair_slopes(a, b, labels):
    _, drawn, pulled = pair_parts(a, b, labels)
    return drawn - pulled


def _pair_sizes(a, b, labels):
    _, drawn, pulled = pair_parts(a, b, labels)
    return drawn + pulled, np.abs(a) @ np.abs(b).T


def _pair_scale(a, b, labels):
    slopes, rounded = _pair_sizes(a, b, labels)
    return pair_parts(a, b, labels)[0] + np.sum(slopes * rounded, axis=-1)


def _pair_slope_scale(a, b, labels):
    slopes, rounded = _pair_sizes(a, b, labels)
    return slopes @ np.abs(b) * (1 + 2 * np.max(rounded, axis=-1, keepdims=True, initial=0))


@st.composite
def pairs(draw, options=None, calm=False):
    """Anchors and positives, not all of one length; with labels that come more than once."""
    chosen = draw(options) if options is not None else {}
    long = st.sampled_from([1.0] if calm else [1.0, 1.0, 1e-6, 30.0])
    found = draw(one_each(st.sampled_from([0.0, 1.0]) | floats(-2, 2), FEATURES))
    positives = draw(one_each(floats(-2, 2), FEATURES)) * draw(one_each(long))[:, None]
    if calm:
        found = draw(vectors(calm=True))
    labels = draw(one_each(st.integers(0, 7), dtype=np.int64))
    return (found * draw(one_each(long))[:, None], positives, labels), chosen


# --- cases ----------------------------------------------------------------------------------------------

RIVALS = "each row is compared with all others"


PAIRS_HARD = {
    "a label that comes twice": any_row(lambda a, b, y, **_: np.bincount(y)[y] == 2),
    "an anchor of zeros": any_row(lambda a, b, y, **_: ~np.any(a, axis=-1)),
    "large products": any_row(lambda a, b, y, **_: np.abs(np.sum(a * b, axis=-1)) > 800),
}
PAIRWISE = {
    "value": lambda a, b, y: pair_parts(a, b, y)[0],
    "gradient": lambda a, b, y: _pair_slopes(a, b, y) @ b,
    "more_gradients": {1: lambda a, b, y: _pair_slopes(a, b, y).T @ a},
    "scale": _pair_scale,
    "gradient_scale": _pair_slope_scale,
    "item_ndim": 1,
    "couples": RIVALS,
    "hard": PAIRS_HARD,
}

CASES = (
    *two_cases(
        "metric.circle",
        _circle,
        RIVALS,
        options={
            "margin": number(0.4, 0.0, 0.25, low=0.05, high=1.0),
            "scale": number(80.0, 1.0, low=0.5, high=80.0),
        },
        of_options={"margin": _circle_in_margin, "scale": _circle_in_scale},
        scale=_circle_scale,
        gradient_scale=_circle_slope_scale,
        kinks=_circle_kinks,
    ),
    *two_cases(
        "metric.multi_similarity",
        _multi_similarity,
        RIVALS,
        options={
            "alpha": number(2.0, low=0.5, high=10.0),
            "beta": number(50.0, 2.0, low=0.5, high=50.0),
            "margin": number(0.5, 0.0, 1.0, -1.0, low=-0.9, high=0.9),
        },
        of_options={"alpha": _by_factor(0), "beta": _by_factor(1), "margin": _by_margin},
        gradient_scale=_similarity_slope_scale,
    ),
    Case("metric.n_pairs", draws=pairs(), calm=pairs(calm=True), **PAIRWISE),
    Case(
        "metric.n_pairs/masked",
        draws=pairs(each(where=SOME)),
        calm=pairs(each(where=SOME), calm=True),
        with_options=True,
        **PAIRWISE,
    ),
)

# --- what decides the claims -----------------------------------------------------------------------------

SINGLE = np.arange(ROWS)
LONG = 1e6 * np.arange(1.0, ROWS + 1)[:, None] * np.ones(FEATURES)
NONE = np.zeros((ROWS, FEATURES))

EVIDENCE = {
    f"metric.{name}": refuted(OFFSET + CLUSTERS, OFFSET - CLUSTERS, PAIRS)
    for name in ("circle", "multi_similarity")
} | {
    "metric.n_pairs": Evidence(
        refuted_by={
            "lipschitz": (NONE, LONG, SINGLE),
            "smooth": ((NONE, LONG, SINGLE), (NONE + 1e-7, LONG, SINGLE)),
        }
    )
}
