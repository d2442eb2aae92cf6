"""Losses of ranked lists by hand: Cao (2007), Xia (2008), Burges (2005), Joachims (2002), Rendle (2009)."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mpmath import mp, mpf

from oracles._case import ROWS, Case, Evidence, any_row, each, floats, nearest_kink, number, one_each
from oracles.categorical import costs, dot, gaps, softmax

ITEMS = 4

# --- draws --------------------------------------------------------------------------------------

GRADES = st.sampled_from([0.0, 0.0, 1.0, 2.0, 3.0]) | floats(0, 3)
FLAGS = st.sampled_from([0.0, 1.0])


@st.composite
def lists(draw, labels=GRADES, options=None, calm=False):
    """Scores with an offset, ties, and one item far ahead; labels with ties."""
    chosen = draw(options) if options is not None else {}
    relevances = draw(one_each(labels, ITEMS))
    if calm:
        return (draw(one_each(floats(-2, 2), ITEMS)), relevances), chosen
    offset = draw(one_each(st.sampled_from([0.0, 0.0, 1e4, -1e4])))[:, None]
    ahead = np.arange(ITEMS) == draw(one_each(st.integers(0, ITEMS - 1)))[:, None]
    lead = draw(one_each(st.sampled_from([0.0, 17.0, 80.0])))[:, None] * ahead
    scores = draw(one_each(st.sampled_from([0.0, 1.0]) | floats(-5, 5), ITEMS))
    return (scores + offset + lead, relevances), chosen


SOME = arrays(np.bool_, (ROWS, ITEMS), fill=st.nothing())
POSITIVE = number(1.0, 0.5, low=0.25, high=4.0)
MARGIN = number(1.0, 0.0, 0.5, low=0.1, high=4.0)

# --- formulas of the items that there are -----------------------------------------------------------


def there(formula):
    """A number of a list: of the items that there are."""

    def of_list(s, y, where=None, **options):
        kept = [k for k in range(len(s)) if where is None or where[k]]
        return formula([s[k] for k in kept], [y[k] for k in kept], **options) if kept else mpf(0)

    return of_list


def spread_out(formula):
    """A derivative by each item of a list: 0 by one that is not there."""

    def of_list(s, y, where=None, **options):
        kept = [k for k in range(len(s)) if where is None or where[k]]
        found = formula([s[k] for k in kept], [y[k] for k in kept], **options) if kept else []
        return [found[kept.index(k)] if k in kept else mpf(0) for k in range(len(s))]

    return of_list


def width(s):
    return max(s) - min(s)


def logistic(x):
    return 1 / (1 + mp.exp(-x))


def _softmax(s, y):
    return dot(y, costs(s))


def _softmax_slope(s, y):
    return [p * mp.fsum(y) - t for p, t in zip(softmax(s), y, strict=True)]


def _softmax_scale(s, y):
    return _softmax(s, y) + dot([abs(g) for g in _softmax_slope(s, y)], gaps(s))


def _softmax_slope_scale(s, y):
    p, total = softmax(s), mp.fsum(y)
    distance = dot(p, gaps(s))
    return [a * total + t + a * total * (g + distance) for a, t, g in zip(p, y, gaps(s), strict=True)]


def _in_order(s, y):
    order = sorted(range(len(s)), key=lambda k: -y[k])  # a stable sort
    return [s[k] for k in order], order


def _listmle(s, y):
    ordered, _ = _in_order(s, y)
    return mp.fsum(costs(ordered[i:])[0] for i in range(len(s)))


def _listmle_terms(s, y):
    """What each item's slope is a sum of: its shares among the items below others, and 1 − its own."""
    ordered, order = _in_order(s, y)
    shares = [softmax(ordered[i:]) for i in range(len(s))]
    pulls = [mpf(0)] * len(s)
    for place, k in enumerate(order):
        pulls[k] = mp.fsum(shares[i][place - i] for i in range(place)), mp.fsum(shares[place][1:])
    return pulls


def _listmle_slope(s, y):
    return [up - down for up, down in _listmle_terms(s, y)]


def _listmle_slope_scale(s, y):
    return [(up + down) * (1 + 2 * width(s)) for up, down in _listmle_terms(s, y)]


def _listmle_scale(s, y):
    return _listmle(s, y) + mp.fsum(up + down for up, down in _listmle_terms(s, y)) * width(s)


def pairs(y):
    return [(i, j) for i in range(len(y)) for j in range(len(y)) if y[i] > y[j]]


def of_pairs(cost, mean=False):
    """Σ cost(s_i − s_j), or the mean, over the pairs."""

    def value(s, y, **options):
        found = [cost(s[i] - s[j], **options) for i, j in pairs(y)]
        return mp.fsum(found) / (max(len(found), 1) if mean else 1)

    return value


def slope_of_pairs(pull, mean=False, sign=-1):
    """Each item's slope: −pull (in a scale, +) for each pair it should lead, + for each it should not."""

    def gradient(s, y, **options):
        found = [mpf(0)] * len(s)
        for i, j in pairs(y):
            force = pull(s[i] - s[j], **options)
            found[i] += sign * force
            found[j] += force
        return [f / (max(len(pairs(y)), 1) if mean else 1) for f in found]

    return gradient


def _cost(x):
    return mp.log(1 + mp.exp(-x))


def _pull(x):
    return logistic(-x)


def _pull_scale(x):
    return logistic(-x) * (1 + abs(x))


def _cost_scale(x):
    return _cost(x) + abs(x) * logistic(-x)


def _hinge(x, margin=1):
    return max(margin - x, mpf(0))


def _hinge_scale(x, margin=1):
    return (margin + abs(x)) * (x < margin)


def _hinge_pull(x, margin=1):
    return mpf(x < margin)


def _hinge_kinks(s, y, margin=1):
    return nearest_kink(*(abs(margin - (s[i] - s[j])) for i, j in pairs(y)))


def _square(x, margin=1):
    return _hinge(x, margin) ** 2


def _square_scale(x, margin=1):
    return _hinge_scale(x, margin) ** 2


def _square_pull(x, margin=1):
    return 2 * _hinge(x, margin)


def _square_pull_scale(x, margin=1):
    return 2 * _hinge_scale(x, margin)


def _ranks(s, temperature):
    return [
        1 + mp.fsum(logistic((b - a) / temperature) for j, b in enumerate(s) if j != i)
        for i, a in enumerate(s)
    ]


def _ideal(y):
    ordered = sorted(y, reverse=True)
    return mp.fsum((2**t - 1) / mp.log(2 + k, 2) for k, t in enumerate(ordered))


def _ndcg(s, y, temperature=1):
    found = mp.fsum((2**t - 1) / mp.log(1 + r, 2) for t, r in zip(y, _ranks(s, temperature), strict=True))
    return -found / _ideal(y) if found else mpf(0)


def _in_ranks(s, y, temperature):
    return [
        (2**t - 1) * mp.log(2) / ((1 + r) * mp.log(1 + r) ** 2) / (_ideal(y) or 1)
        for t, r in zip(y, _ranks(s, temperature), strict=True)
    ]


def _bend(x):
    return logistic(x) * logistic(-x)


def _ndcg_slope(s, y, temperature=1):
    pull = _in_ranks(s, y, temperature)
    return [
        mp.fsum((pull[j] - pull[i]) * _bend((b - a) / temperature) for j, b in enumerate(s) if j != i)
        / temperature
        for i, a in enumerate(s)
    ]


def _ndcg_slope_scale(s, y, temperature=1):
    pull = _in_ranks(s, y, temperature)
    return [
        mp.fsum(
            (pull[j] + pull[i]) * _bend((b - a) / temperature) * (1 + abs(b - a) / temperature)
            for j, b in enumerate(s)
            if j != i
        )
        / temperature
        for i, a in enumerate(s)
    ]


def _ndcg_in_temperature(s, y, temperature):
    pull = _in_ranks(s, y, temperature)
    return mp.fsum(
        pull[i] * _bend((b - a) / temperature) * (a - b) / temperature**2
        for i, a in enumerate(s)
        for j, b in enumerate(s)
        if j != i
    )


# --- cases ----------------------------------------------------------------------------------------

HARD = {
    "offset of 1e4": any_row(lambda s, y, **_: np.min(s, axis=-1) > 9e3),
    "one item leads": any_row(lambda s, y, **_: np.ptp(s, axis=-1) > 60),
    "tied scores": any_row(lambda s, y, **_: s[:, 0] == s[:, 1]),
    "tied labels": any_row(lambda s, y, **_: np.ptp(y, axis=-1) == 0),
}
MASKED = {
    "no item": lambda data, options: bool(np.any(~options["where"].any(axis=-1))),
    "all items": lambda data, options: bool(np.any(options["where"].all(axis=-1))),
}


def two_cases(name, labels=GRADES, bad=None, options=None, of_options=None, in_labels=None, **formulas):
    """The loss at its default options, and with all of them and a mask."""
    numbers = {"value", "scale", "kinks"}
    common = {
        key: (there if key in numbers else spread_out)(formula) for key, formula in formulas.items()
    } | {"item_ndim": 1, "mask_ndim": 1}
    common |= {"more_gradients": {1: spread_out(in_labels)} if in_labels else {}}
    chosen = each(where=SOME, **(options or {}))
    some_item = {"counted": lambda s, y, where, **_: any(where)}
    return (
        Case(
            name,
            draws=lists(labels),
            calm=lists(labels, calm=True),
            hard=HARD,
            violations={} if bad is None else {"labels": (1, [1.0, bad, 0.0, 1.0])},
            **common,
        ),
        Case(
            f"{name}/with options",
            draws=lists(labels, chosen),
            calm=lists(labels, chosen, calm=True),
            hard=HARD | MASKED,
            with_options=True,
            option_gradients={key: there(formula) for key, formula in (of_options or {}).items()},
            **some_item,
            **common,
        ),
    )


CASES = (
    *two_cases(
        "ranking.softmax",
        bad=-1.0,
        value=_softmax,
        gradient=_softmax_slope,
        scale=_softmax_scale,
        gradient_scale=_softmax_slope_scale,
        in_labels=lambda s, y: costs(s),
    ),
    *two_cases(
        "ranking.listmle",
        value=_listmle,
        gradient=_listmle_slope,
        scale=_listmle_scale,
        gradient_scale=_listmle_slope_scale,
    ),
    *two_cases(
        "ranking.pairwise_logistic",
        value=of_pairs(_cost),
        gradient=slope_of_pairs(_pull),
        scale=of_pairs(_cost_scale),
        gradient_scale=slope_of_pairs(_pull_scale, sign=1),
    ),
    *two_cases(
        "ranking.pairwise_hinge",
        options={"margin": MARGIN},
        of_options={"margin": of_pairs(_hinge_pull)},
        value=of_pairs(_hinge),
        gradient=slope_of_pairs(_hinge_pull),
        scale=of_pairs(_hinge_scale),
        kinks=_hinge_kinks,
    ),
    *two_cases(
        "ranking.bpr",
        FLAGS,
        bad=2.0,
        value=of_pairs(_cost, mean=True),
        gradient=slope_of_pairs(_pull, mean=True),
        scale=of_pairs(_cost_scale, mean=True),
        gradient_scale=slope_of_pairs(_pull_scale, mean=True, sign=1),
    ),
    *two_cases(
        "ranking.auc_squared_hinge",
        FLAGS,
        bad=2.0,
        options={"margin": MARGIN},
        of_options={"margin": of_pairs(_square_pull, mean=True)},
        value=of_pairs(_square, mean=True),
        gradient=slope_of_pairs(_square_pull, mean=True),
        scale=of_pairs(_square_scale, mean=True),
        gradient_scale=slope_of_pairs(_square_pull_scale, mean=True, sign=1),
        kinks=_hinge_kinks,
    ),
    *two_cases(
        "ranking.approx_ndcg",
        bad=-1.0,
        options={"temperature": POSITIVE},
        of_options={"temperature": _ndcg_in_temperature},
        value=_ndcg,
        gradient=_ndcg_slope,
        gradient_scale=_ndcg_slope_scale,
    ),
)

# --- what decides the claims ------------------------------------------------------------------


def row(s, y):
    """One list of scores and its labels, for every row."""
    return tuple(np.broadcast_to(np.asarray(x, np.float64), (ROWS, len(x))) for x in (s, y))


FIRST = [1.0, 0.0, 0.0, 0.0]
WRONG = [-1e6, 0.0, 0.0, 0.0]
EVIDENCE = {
    f"ranking.{name}": Evidence(refuted_by={"bounded": row(WRONG, FIRST)})
    for name in ("softmax", "listmle", "pairwise_logistic", "pairwise_hinge", "bpr", "auc_squared_hinge")
} | {
    "ranking.approx_ndcg": Evidence(
        attained={"bounded": row(FIRST, [0.0] * ITEMS)},
        refuted_by={
            "non_negative": row(FIRST, FIRST),
            "convex": (row([-8.0, 0.0, 0.0, 0.0], FIRST), row([0.0, 0.0, 0.0, 0.0], FIRST)),
        },
    ),
}
