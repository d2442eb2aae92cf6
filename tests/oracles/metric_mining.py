"""Losses of triplets found in a batch, by trying all of them: Hermans (2017), Schroff (2015).

Which pairs are hardest is for rounding to say where they all but tie. A kink is that near where the
squares of two distances differ by as little of the squared spread of the batch.
"""

import numpy as np
from hypothesis import strategies as st

from oracles._case import ROWS, Case, Evidence, each, number
from oracles.contrastive import ASKEW, CLUSTERS, EVERY, FEATURES, PAIRS, SOME, grouped

# --- draws --------------------------------------------------------------------------------------

# Of these no two distances that matter are alike.
STANDING = np.random.default_rng(101).normal(size=(ROWS, FEATURES)) / 2
SEVERAL = np.array([1, 1, 1, 2, 2, 2, 3, 3])
AWAY = 15.0


@st.composite
def batches(draw, options=None, calm=False):
    """Rows in no special place, but some pairs that coincide, away from the rest; a few in a group of one."""
    chosen = draw(options) if options is not None else {}
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if calm:
        return (STANDING + random.uniform(-0.005, 0.005, STANDING.shape), SEVERAL), chosen
    found = random.normal(size=(ROWS, FEATURES)) * draw(st.sampled_from([1.0, 0.1, 10.0, 1e-3]))
    labels = random.integers(1, draw(st.sampled_from([4, 8, 2])), ROWS)
    if draw(st.booleans()):
        found[6] += AWAY
        found[7] = found[6]
        labels[7] = draw(st.sampled_from([labels[6], 5, 6]))
    return (found + draw(st.sampled_from([0.0, 0.0, 1e3])), labels), chosen


MARGIN = number(1.0, 0.0, 0.2, low=0.01, high=4.0)

# --- distances ------------------------------------------------------------------------------------


def differences(x):
    return x[:, None, :] - x[None, :, :]


def squared(x):
    return np.sum(differences(x) ** 2, axis=-1)


def centred(x):
    return x - np.sum(x, axis=0) / max(len(x), 1)


def spread(x):
    """The largest square of a distance from the mean."""
    return np.max(np.sum(centred(x) ** 2, axis=-1), initial=1e-300)


def in_place(squares, x, labels):
    """Squares of distances as distances of rows, each seen at its own size: nearer ones are rounding's."""
    sizes = np.maximum(np.max(np.abs(x), axis=-1), labels)
    return sizes * min(nearest(squares) / (2 * spread(x)), np.inf)


def nearest(distances):
    """The nearest kink; one that is met counts only where no other is so near that rounding decides it."""
    distances = np.append(np.asarray(distances, np.longdouble), np.inf)
    positive = np.min(distances[distances > 0])
    return positive if positive < 1e-3 or np.all(distances) else 0.0


def each_anchor(x, labels):
    """The anchors with a partner and a stranger, and which rows these are."""
    same, different = grouped(labels)
    for a in range(len(x)):
        if np.any(same[a]) and np.any(different[a]):
            yield a, np.flatnonzero(same[a]), np.flatnonzero(different[a])


# --- Hermans (2017), eq. 5 ------------------------------------------------------------------------


def hardest(x, labels, margin):
    """Each anchor's farthest partner and nearest stranger, and what is above the hinge."""
    squares = squared(x)
    for a, partners, strangers in each_anchor(x, labels):
        p, n = partners[np.argmax(squares[a, partners])], strangers[np.argmin(squares[a, strangers])]
        yield a, p, n, np.sqrt(squares[a, p]) - np.sqrt(squares[a, n]) + margin


def _batch_hard(x, labels, margin=1):
    values = np.zeros(len(x), np.longdouble)
    for a, _, _, lack in hardest(x, labels, margin):
        values[a] = max(lack, 0)
    return values


def direction(x):
    length = np.sqrt(np.sum(x * x))
    return x / length if length else x


def _batch_hard_slope(x, labels, margin=1, size=False):
    found = np.zeros_like(x)
    for a, p, n, lack in hardest(x, labels, margin):
        if lack > 0:
            ends = (p, -direction(x[a] - x[p])), (n, direction(x[a] - x[n]))
            for end, pull in ends:
                found[end] += np.abs(pull) if size else pull
                found[a] += np.abs(pull) if size else -pull
    return found


def _batch_hard_scale(x, labels, margin=1):
    """What the distances are made of, and by what one that is all but the hardest may differ."""
    scale, squares = np.zeros(len(x), np.longdouble), squared(x)
    for (a, p, n, lack), (_, partners, strangers) in zip(
        hardest(x, labels, margin), each_anchor(x, labels), strict=True
    ):
        scale[a] = margin + np.sqrt(squares[a, p]) + np.sqrt(squares[a, n])
        if lack < -1e-5 * scale[a]:
            scale[a] = 0
        for chosen, others in ((p, partners), (n, strangers)):
            tied = squares[a, others][np.abs(squares[a, others] - squares[a, chosen]) < 1e-4 * spread(x)]
            doubts = spread(x) / (np.sqrt(tied[tied > 0]) + np.sqrt(squares[a, chosen]))
            scale[a] += np.max(doubts, initial=0) if len(tied) > 1 else 0
    return scale


def _batch_hard_kinks(x, labels, margin=1):
    squares, found = squared(x), []
    for a, p, n, lack in hardest(x, labels, margin):
        _, partners, strangers = next(anchor for anchor in each_anchor(x, labels) if anchor[0] == a)
        found.append(np.sqrt(spread(x)) * gap(lack))
        if lack > 0:
            found += [squares[a, p], squares[a, n]]
            found += [gap(squares[a, p] - squares[a, q]) for q in partners if q != p]
            found += [gap(squares[a, q] - squares[a, n]) for q in strangers if q != n]
    return in_place(found, x, labels)


def gap(distance):
    """How far two pairs are from a tie, or from the hinge; at one it is rounding that says on which side."""
    return max(abs(distance), 1e-300)


def _active(x, labels, margin):
    return (_batch_hard(x, labels, margin) > 0).astype(np.longdouble)


# --- Schroff (2015), eq. 4 ------------------------------------------------------------------------


def triplets(x, labels):
    """For each anchor and partner the nearest stranger farther than it, or the farthest of all."""
    squares = squared(x)
    for a, partners, strangers in each_anchor(x, labels):
        for p in partners:
            farther = strangers[squares[a, strangers] > squares[a, p]]
            near = farther[np.argmin(squares[a, farther])] if len(farther) else None
            n = strangers[np.argmax(squares[a, strangers])] if near is None else near
            yield a, p, n, len(partners), squares[a, p] - squares[a, n], squares[a, strangers]


def _semi_hard(x, labels, margin=1):
    values = np.zeros(len(x), np.longdouble)
    for a, _, _, count, ahead, _ in triplets(x, labels):
        values[a] += max(ahead + margin, 0) / count
    return values


def _semi_hard_slope(x, labels, margin=1):
    found = np.zeros_like(x)
    for a, p, n, count, ahead, _ in triplets(x, labels):
        if ahead + margin > 0:
            found[a] += 2 * (x[n] - x[p]) / count
            found[p] += 2 * (x[p] - x[a]) / count
            found[n] += 2 * (x[a] - x[n]) / count
    return found


def _semi_hard_slope_scale(x, labels, margin=1):
    found, sizes = np.zeros_like(x), np.abs(centred(x))
    for a, p, n, count, ahead, _ in triplets(x, labels):
        if ahead + margin > 0:
            for i, j in ((a, p), (a, n)):
                found[[i, j]] += 4 * (sizes[i] + sizes[j]) / count
    return found


def _semi_hard_scale(x, labels, margin=1):
    """The squared spread, and no bound where a stranger is as far as a partner: there the loss jumps."""
    scale, squares = np.zeros(len(x), np.longdouble), squared(x)
    for a, p, _, count, ahead, strangers in triplets(x, labels):
        jumps = np.any(np.abs(strangers - squares[a, p]) < 1e-5 * spread(x))
        scale[a] += np.inf if jumps else (margin + abs(ahead) + 4 * spread(x)) / count
    return scale


def _semi_hard_kinks(x, labels, margin=1):
    squares, found = squared(x), []
    for a, p, n, _, ahead, strangers in triplets(x, labels):
        found += [gap(ahead + margin), *map(gap, strangers - squares[a, p])]
        ranked = np.sort(np.abs(strangers - squares[a, n]))
        found += [gap(tie) for tie in ranked[1:]]
    return in_place(found, x, labels)


def _semi_hard_in_margin(x, labels, margin):
    found = np.zeros(len(x), np.longdouble)
    for a, _, _, count, ahead, _ in triplets(x, labels):
        found[a] += (ahead + margin > 0) / np.longdouble(count)
    return found


# --- cases ----------------------------------------------------------------------------------------


def some(predicate):
    return lambda data, options: bool(np.any(predicate(*data)))


def coincident(x, y, alike):
    return (squared(x) == 0) & ((y[:, None] == y[None, :]) == alike) & ~np.eye(len(x), dtype=bool)


HARD = {
    "a partner in the anchor's place": some(lambda x, y: coincident(x, y, alike=True)),
    "a stranger in the anchor's place": some(lambda x, y: coincident(x, y, alike=False)),
    "far from zero": some(lambda x, y: np.abs(x) > 9e2),
    "an anchor without a partner": some(lambda x, y: np.bincount(y) == 1),
    "no strangers at all": some(lambda x, y: np.ptp(y) == 0),
}


def both(name, option_gradient, **fields):
    common = {"item_ndim": 1, "couples": "triplets are of the whole batch", "hard": HARD} | fields
    chosen = each(margin=MARGIN, where=SOME)
    return (
        Case(name, draws=batches(), calm=batches(calm=True), **common),
        Case(
            f"{name}/with options",
            draws=batches(chosen),
            calm=batches(chosen, calm=True),
            with_options=True,
            option_gradients={"margin": option_gradient},
            **common,
        ),
    )


CASES = (
    *both(
        "metric.batch_hard_triplet",
        _active,
        value=_batch_hard,
        gradient=_batch_hard_slope,
        scale=_batch_hard_scale,
        gradient_scale=lambda *data, **options: _batch_hard_slope(*data, size=True, **options),
        kinks=_batch_hard_kinks,
    ),
    *both(
        "metric.semi_hard_triplet",
        _semi_hard_in_margin,
        value=_semi_hard,
        gradient=_semi_hard_slope,
        scale=_semi_hard_scale,
        gradient_scale=_semi_hard_slope_scale,
        kinks=_semi_hard_kinks,
    ),
)

# --- what decides the claims ------------------------------------------------------------------

# Pairs that are close, each far from the others: the loss is 0, and 1 where all is in one place.
APART = 5 * CLUSTERS + 1e-2 * np.random.default_rng(1).normal(size=CLUSTERS.shape)
# Pairs that are closer than any margin to the others, and a step along which two partners change places.
NEAR = 0.3 * CLUSTERS + np.repeat(np.random.default_rng(2).uniform(-0.02, 0.02, (4, 3)), 2, axis=0)
STEP = 1e-9 * np.tile([[1.0], [-1.0]], (4, 1)) * np.ones(FEATURES)
# Partners that are opposite, farther than any stranger.
OPPOSITE = np.tile(np.arange(4), 2)
# Squared distances that are just the margin from any stranger, and 0 from the partner.
HINGE = CLUSTERS / np.sqrt(8)
EVIDENCE = {
    "metric.batch_hard_triplet": Evidence(
        refuted_by={
            "convex": ((APART, PAIRS), (-APART, PAIRS)),
            "smooth": ((NEAR + STEP, PAIRS), (NEAR - STEP, PAIRS)),
        }
    ),
    "metric.semi_hard_triplet": Evidence(
        refuted_by={
            "convex": ((APART, PAIRS), (-APART, PAIRS)),
            "lipschitz": (1e5 * (EVERY + 0.1 * ASKEW), OPPOSITE),
            "smooth": ((HINGE * (1 - 1e-9), PAIRS), (HINGE * (1 + 1e-9), PAIRS)),
        }
    ),
}
