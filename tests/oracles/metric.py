"""Losses of pairs and triplets by hand: Hadsell (2006), Balntas (2016), Wang (2018), Deng (2019), torch."""

import numpy as np
from hypothesis import strategies as st
from mpmath import mp, mpf

from oracles._case import (
    ROWS,
    Case,
    Data,
    Evidence,
    Options,
    any_row,
    each,
    floats,
    norm,
    number,
    one_each,
    sign,
)
from oracles.regression import (
    TARGETS,
    cosine,
    cosine_scale,
    cosine_slope,
    cosine_slope_scale,
    minus,
    vector_draws,
)

FEATURES = 3
CLASSES = 4
NOTHING = [mpf(0)] * FEATURES
# A tie of two rounded numbers is decided by their rounding: nearer than any distance that counts.
UNDECIDED = mpf(10) ** -300

# --- draws --------------------------------------------------------------------------------------

SIGNS = one_each(st.sampled_from([1.0, -1.0]))
MARGIN = number(0.0, 1.0, low=0.01, high=4.0)
COSINE_MARGIN = number(0.0, 0.5, -1.0, 1.0, low=-0.9, high=0.9)
DEGREE = st.sampled_from([1.0, 2.0, 3.0, np.inf]).map(np.float64) | floats(1, 8).map(np.float64)


@st.composite
def pair_draws(draw, options=None) -> tuple[Data, Options]:
    """Pairs of vectors, some alike, some a margin apart, and whether they belong together."""
    (first, second), chosen = draw(vector_draws(options))
    near = draw(one_each(st.booleans(), dtype=np.bool_))[:, None]
    step = draw(one_each(st.sampled_from([0.0, 0.25, 1.0, 1e-9]) | floats(-1, 1), FEATURES))
    return (np.where(near, second + step, first), second, draw(SIGNS)), chosen


@st.composite
def calm_pairs(draw, options=None) -> tuple[Data, Options]:
    chosen = draw(options) if options is not None else {}
    vectors = (draw(one_each(floats(-2, 2), FEATURES)) for _ in range(2))
    return (*vectors, draw(SIGNS)), chosen


@st.composite
def triplet_draws(draw, options=None) -> tuple[Data, Options]:
    """An anchor of any size, and two others at it, near it, or far from it."""
    chosen = draw(options) if options is not None else {}
    anchors = draw(one_each(floats(-4, 4), FEATURES))
    steps = st.sampled_from([0.0, 1.0, -1.0, 2.0, 1e-7]) | floats(-4, 4)
    lengths = one_each(st.sampled_from([0.0, 1.0, 1.0, 1e-4, 1e3]))
    others = (anchors + draw(one_each(steps, FEATURES)) * draw(lengths)[:, None] for _ in range(2))
    return (anchors, *others), chosen


@st.composite
def calm_triplets(draw, options=None) -> tuple[Data, Options]:
    chosen = draw(options) if options is not None else {}
    return tuple(draw(one_each(floats(-2, 2), FEATURES)) for _ in range(3)), chosen


@st.composite
def number_draws(draw, count: int, options=None, calm=False) -> tuple[Data, Options]:
    """Numbers, apart by a margin too, and a sign."""
    chosen = draw(options) if options is not None else {}
    labels = draw(SIGNS)
    if calm:
        return (*(draw(one_each(floats(-3, 3))) for _ in range(count)), labels), chosen
    margin = float(chosen.get("margin", 1.0))
    second = draw(one_each(TARGETS)) if count > 1 else np.zeros(ROWS)
    gaps = st.sampled_from([0.0, margin, -margin, 1e-7, 80.0, -1e4, 1e15]) | floats(-10, 10)
    first = second + draw(one_each(gaps))
    return ((first, second, labels) if count > 1 else (first, labels)), chosen


@st.composite
def angular_draws(draw, options=None, calm=False) -> tuple[Data, Options]:
    """Cosines, ±1 among them, with class ids."""
    chosen = draw(options) if options is not None else {}
    inside = floats(-0.95, 0.95)
    elements = inside if calm else st.sampled_from([0.0, 1.0, -1.0, 0.999999, -0.999]) | inside
    ids = one_each(st.integers(0, CLASSES - 1), dtype=np.int64)
    return (draw(one_each(elements, CLASSES)), draw(ids)), chosen


# --- pairs: Hadsell (2006), eq. 4 without its ½ -------------------------------------------------


def lack(a, b, margin):
    return max(margin - norm(minus(a, b)), 0)


def contrastive(a, b, y, margin=mpf(1)):
    return norm(minus(a, b)) ** 2 if y > 0 else lack(a, b, margin) ** 2


def contrastive_slope(a, b, y, margin=mpf(1)):
    if y > 0:
        return [2 * d for d in minus(a, b)]
    distance = norm(minus(a, b))
    return [-2 * lack(a, b, margin) * d / distance for d in minus(a, b)] if distance else NOTHING


def contrastive_scale(a, b, y, margin=mpf(1)):
    # m − d: the distance is rounded before it is taken off the margin.
    return contrastive(a, b, y) if y > 0 else 2 * lack(a, b, margin) * (margin + norm(minus(a, b)))


def contrastive_slope_scale(a, b, y, margin=mpf(1)):
    if y > 0 or not lack(a, b, margin):
        return contrastive_slope(a, b, y, margin)
    return [2 * (margin + norm(minus(a, b))) for _ in a]


def contrastive_kinks(a, b, y, margin=mpf(1)):
    distance = norm(minus(a, b))
    return mp.inf if y > 0 else nearest(abs(margin - distance), distance)


def nearest(*distances):
    """The nearest kink; at one (0) only where no other is so near that rounding decides it."""
    positive = min((d for d in distances if d > 0), default=mp.inf)
    return positive if positive < mpf("1e-3") or all(distances) else mpf(0)


def opposite(slope):
    return lambda *data, **options: [-entry for entry in slope(*data, **options)]


# --- pairs: torch's CosineEmbeddingLoss --------------------------------------------------------


def cosine_pair(a, b, y, margin=mpf(0)):
    return 1 - cosine(a, b) if y > 0 else max(cosine(a, b) - margin, 0)


def cosine_pair_slope(a, b, y, margin=mpf(0)):
    if y > 0:
        return cosine_slope(a, b)
    return [-entry for entry in cosine_slope(a, b)] if cosine(a, b) > margin else NOTHING


def cosine_pair_scale(a, b, y, margin=mpf(0)):
    return cosine_scale(a, b) if y > 0 else (1 + abs(margin)) * (cosine(a, b) - margin > mpf("-1e-5"))


def cosine_pair_slope_scale(a, b, y, margin=mpf(0)):
    return cosine_slope_scale(a, b) if y > 0 or cosine(a, b) > margin else NOTHING


def cosine_pair_kinks(a, b, y, margin=mpf(0)):
    if not (any(a) and any(b)):
        return mpf(0)
    # Measured as the data are: a cosine has no unit, and the doubt of it is the data's.
    size = max(map(abs, a + b)) / 4
    corner = mp.inf if y > 0 else max(size * abs(cosine(a, b) - margin), UNDECIDED)
    return min(corner, norm(a), norm(b))


# --- triplets: Balntas (2016), sec. 2.2 ----------------------------------------------------------


def p_norm(x, p):
    size = max(map(abs, x))
    return size if p == mp.inf or not size else size * mp.fsum((abs(e) / size) ** p for e in x) ** (1 / p)


def p_unit(x, p):
    size = p_norm(x, p)
    if not size:
        return NOTHING
    if p == mp.inf:
        largest = [abs(e) == size for e in x]
        return [mpf(sign(e) * is_largest) / sum(largest) for e, is_largest in zip(x, largest, strict=True)]
    return [sign(e) * (abs(e) / size) ** (p - 1) for e in x]


def p_norm_in_p(x, p):
    size = p_norm(x, p)
    if not size or p == mp.inf:
        return mpf(0)
    shares = [(abs(e) / size) ** p for e in x if e]
    return size * mp.fsum(s * mp.log(s) for s in shares) / p**2


def triplet(a, b, c, margin=mpf(1), p=mpf(2)):
    return max(p_norm(minus(a, b), p) - p_norm(minus(a, c), p) + margin, 0)


def triplet_slope(a, b, c, margin=mpf(1), p=mpf(2)):
    return minus(p_unit(minus(a, b), p), p_unit(minus(a, c), p)) if triplet(a, b, c, margin, p) else NOTHING


def triplet_in_positive(a, b, c, margin=mpf(1), p=mpf(2)):
    return [-e for e in p_unit(minus(a, b), p)] if triplet(a, b, c, margin, p) else NOTHING


def triplet_in_negative(a, b, c, margin=mpf(1), p=mpf(2)):
    return p_unit(minus(a, c), p) if triplet(a, b, c, margin, p) else NOTHING


def triplet_in_p(a, b, c, margin=mpf(1), p=mpf(2)):
    if not triplet(a, b, c, margin, p):
        return mpf(0)
    return p_norm_in_p(minus(a, b), p) - p_norm_in_p(minus(a, c), p)


def triplet_scale(a, b, c, margin=mpf(1), p=mpf(2)):
    size = p_norm(minus(a, b), p) + p_norm(minus(a, c), p) + margin
    return size if triplet(a, b, c, margin, p) > -size * mpf("1e-5") else mpf(0)


def triplet_slope_scale(a, b, c, margin=mpf(1), p=mpf(2)):
    if not triplet(a, b, c, margin, p):
        return NOTHING
    units = zip(p_unit(minus(a, b), p), p_unit(minus(a, c), p), strict=True)
    return [abs(u) + abs(v) for u, v in units]


def triplet_kinks(a, b, c, margin=mpf(1), p=mpf(2)):
    apart = minus(a, b), minus(a, c)
    corner = abs(p_norm(apart[0], p) - p_norm(apart[1], p) + margin)
    entries = [abs(e) for x in apart for e in x] if p != 2 else []
    ties = [s[-1] - s[-2] for s in (sorted(map(abs, x)) for x in apart)] if p == mp.inf else []
    return nearest(corner, *(p_norm(x, p) for x in apart), *entries, *ties)


# --- numbers: torch's HingeEmbeddingLoss and MarginRankingLoss -----------------------------------


def hinge(d, y, margin=mpf(1)):
    return d if y > 0 else max(margin - d, 0)


def hinge_scale(d, y, margin=mpf(1)):
    return d if y > 0 else (margin + abs(d)) * (d < margin)


def ranked(a, b, y, margin=mpf(0)):
    return max(margin - y * (a - b), 0)


# --- angles: Deng (2019), eq. 3; Wang (2018), eq. 4 ----------------------------------------------


def turned(c, margin):
    """cos(θ + m), continued by its authors where θ + m > π; and its derivative in cos θ."""
    if c <= -mp.cos(margin):
        return c - margin * mp.sin(margin), mpf(1)
    sine = mp.sqrt(1 - c * c)
    slope = mp.cos(margin) + (c * mp.sin(margin) / sine if sine else 0)
    return c * mp.cos(margin) - sine * mp.sin(margin), slope


def turned_in_margin(c, margin):
    if c <= -mp.cos(margin):
        return -mp.sin(margin) - margin * mp.cos(margin)
    return -c * mp.sin(margin) - mp.sqrt(1 - c * c) * mp.cos(margin)


def lowered(c, margin):
    return c - margin, mpf(1)


def angular(target, target_in_margin, default_margin, chain_size):
    """Formulas of a softmax whose label's cosine is made smaller."""

    def logits(c, y, margin, scale):
        return [scale * (target(e, margin)[0] if j == y else e) for j, e in enumerate(c)]

    def shares(c, y, margin, scale):
        z = logits(c, y, margin, scale)
        parts = [mp.exp(e - max(z)) for e in z]
        return [part / mp.fsum(parts) for part in parts]

    def value(c, y, margin=default_margin, scale=mpf(64)):
        return -mp.log(shares(c, y, margin, scale)[y])

    def rest(c, y, margin, scale):
        return mp.fsum(p for j, p in enumerate(shares(c, y, margin, scale)) if j != y)

    def gradient(c, y, margin=default_margin, scale=mpf(64)):
        p = shares(c, y, margin, scale)
        at_label = -rest(c, y, margin, scale) * target(c[y], margin)[1]
        return [scale * (at_label if j == y else e) for j, e in enumerate(p)]

    def value_scale(c, y, margin=default_margin, scale=mpf(64)):
        # A logit is rounded at the size of the scale, and the loss moves with each by its share.
        return value(c, y, margin, scale) + 4 * scale * rest(c, y, margin, scale)

    def gradient_scale(c, y, margin=default_margin, scale=mpf(64)):
        p = shares(c, y, margin, scale)
        at_label = rest(c, y, margin, scale) * chain_size(c[y], margin)
        # A share below the smallest float is nothing before the scale multiplies it.
        flushed = scale * mpf("1e-32")
        return [scale * (1 + 2 * scale) * (at_label if j == y else e) + flushed for j, e in enumerate(p)]

    def in_margin(c, y, margin, scale):
        return -scale * rest(c, y, margin, scale) * target_in_margin(c[y], margin)

    def in_scale(c, y, margin, scale):
        p, z = shares(c, y, margin, scale), logits(c, y, margin, scale)
        return mp.fsum(p[j] * (e - z[y]) for j, e in enumerate(z)) / scale

    return {
        "value": value,
        "gradient": gradient,
        "scale": value_scale,
        "gradient_scale": gradient_scale,
    }, {"margin": in_margin, "scale": in_scale}


def turned_size(c, margin):
    sine = mp.sqrt(1 - c * c)
    return 1 + (abs(c) * mp.sin(margin) / sine if sine else 0)


def turning_kinks(c, y, margin=mpf(1) / 2, **_):
    # The end of the sine matters only where there is an angle to add.
    return nearest(abs(c[y] + mp.cos(margin)), 1 - abs(c[y]))


ARCFACE, ARCFACE_OPTIONS = angular(turned, turned_in_margin, mpf(1) / 2, turned_size)
COSFACE, COSFACE_OPTIONS = angular(lowered, lambda c, m: mpf(-1), mpf(0.35), lambda c, m: mpf(1))

# --- cases ----------------------------------------------------------------------------------------


def apart(a, b):
    return np.linalg.norm(a - b, axis=-1)


PAIR_HARD = {
    "coincident strangers": any_row(lambda a, b, y, **_: (apart(a, b) == 0) & (y < 0)),
    "coincident friends": any_row(lambda a, b, y, **_: (apart(a, b) == 0) & (y > 0)),
    "near strangers": any_row(lambda a, b, y, **_: (apart(a, b) < 0.5) & (apart(a, b) > 0) & (y < 0)),
    "zero vector": any_row(lambda a, b, y, **_: np.all(a == 0, axis=-1) & np.any(b != 0, axis=-1)),
    "far": any_row(lambda a, b, y, **_: apart(a, b) > 1e13),
}
TRIPLET_HARD = {
    "anchor on positive": any_row(lambda a, b, c, **_: (apart(a, b) == 0) & (apart(a, c) > 0)),
    "anchor on negative": any_row(lambda a, b, c, **_: (apart(a, c) == 0) & (apart(a, b) > 0)),
    "a difference of zero": any_row(lambda a, b, c, **_: np.any(a == b, axis=-1) & (apart(a, b) > 0)),
    "far": any_row(lambda a, b, c, **_: apart(a, b) > 900),
}
HINGE_HARD = {
    "at the margin": any_row(lambda d, y, margin=1.0, **_: (d == margin) & (y < 0)),
    "huge": any_row(lambda d, y, **_: d > 1e14),
}
RANKED_HARD = {
    "tied": any_row(lambda a, b, y, **_: a == b),
    "huge": any_row(lambda a, b, y, **_: np.abs(a - b) > 1e14),
}
ANGULAR_HARD = {
    "on its centre": any_row(lambda c, y, **_: np.take_along_axis(c, y[:, None], -1)[:, 0] == 1),
    "opposite its centre": any_row(lambda c, y, **_: np.take_along_axis(c, y[:, None], -1)[:, 0] == -1),
    "on another centre": any_row(lambda c, y, **_: (c.max(axis=-1) == 1) & (c.argmax(axis=-1) != y)),
}
BAD_SIGN = {"labels": (2, 0.0), "other labels": (2, 2.0)}
BAD_IDS = {
    "labels": (1, CLASSES),
    "negative labels": (1, -1),
    "cosines": (0, [1.5, 1.5, 1.5, 1.5]),
}


def both(name, draws, calm, options, option_gradients, **fields) -> tuple[Case, Case]:
    """A loss at its default options, and with all of them drawn."""
    chosen = each(**options)
    return (
        Case(name, draws=draws(), calm=calm(), **fields),
        Case(
            f"{name}/options",
            draws=draws(chosen),
            calm=calm(chosen),
            with_options=True,
            option_gradients=option_gradients,
            **fields,
        ),
    )


def angular_case(name, formulas, option_gradients, **fields) -> tuple[Case, Case]:
    return both(
        name,
        angular_draws,
        lambda options=None: angular_draws(options, calm=True),
        {"margin": number(0.0, 0.5, low=0.01, high=1.4), "scale": number(1.0, 64.0, low=0.5, high=64.0)},
        option_gradients,
        item_ndim=1,
        hard=ANGULAR_HARD,
        violations=BAD_IDS,
        **formulas,
        **fields,
    )


CASES: tuple[Case, ...] = (
    *both(
        "metric.contrastive_pair",
        pair_draws,
        calm_pairs,
        {"margin": MARGIN},
        {"margin": lambda a, b, y, margin: 2 * lack(a, b, margin) if y < 0 else mpf(0)},
        value=contrastive,
        gradient=contrastive_slope,
        scale=contrastive_scale,
        gradient_scale=contrastive_slope_scale,
        more_gradients={1: opposite(contrastive_slope)},
        kinks=contrastive_kinks,
        item_ndim=1,
        hard=PAIR_HARD,
        violations=BAD_SIGN,
    ),
    *both(
        "metric.triplet_margin",
        triplet_draws,
        calm_triplets,
        {"margin": MARGIN, "p": DEGREE},
        {
            "margin": lambda a, b, c, margin, p: mpf(triplet(a, b, c, margin, p) > 0),
            "p": triplet_in_p,
        },
        value=triplet,
        gradient=triplet_slope,
        scale=triplet_scale,
        gradient_scale=triplet_slope_scale,
        more_gradients={1: triplet_in_positive, 2: triplet_in_negative},
        kinks=triplet_kinks,
        item_ndim=1,
        hard=TRIPLET_HARD,
    ),
    *both(
        "metric.cosine_embedding",
        pair_draws,
        calm_pairs,
        {"margin": COSINE_MARGIN},
        {"margin": lambda a, b, y, margin: mpf(-(y < 0 and cosine(a, b) > margin))},
        value=cosine_pair,
        gradient=cosine_pair_slope,
        scale=cosine_pair_scale,
        gradient_scale=cosine_pair_slope_scale,
        kinks=cosine_pair_kinks,
        quadratic=True,
        item_ndim=1,
        hard=PAIR_HARD,
        violations=BAD_SIGN,
    ),
    *both(
        "metric.hinge_embedding",
        lambda options=None: number_draws(1, options),
        lambda options=None: number_draws(1, options, calm=True),
        {"margin": MARGIN},
        {"margin": lambda d, y, margin: mpf(y < 0 and d < margin)},
        value=hinge,
        gradient=lambda d, y, margin=1: mpf(1) if y > 0 else -mpf(d < margin),
        scale=hinge_scale,
        kinks=lambda d, y, margin=1: mp.inf if y > 0 else abs(d - margin),
        hard=HINGE_HARD,
        violations={"labels": (1, 0.0)},
    ),
    *both(
        "metric.margin_ranking",
        lambda options=None: number_draws(2, options),
        lambda options=None: number_draws(2, options, calm=True),
        {"margin": MARGIN},
        {"margin": lambda a, b, y, margin: mpf(ranked(a, b, y, margin) > 0)},
        value=ranked,
        gradient=lambda a, b, y, margin=0: -y * (ranked(a, b, y, margin) > 0),
        scale=lambda a, b, y, margin=0: (margin + abs(a - b)) * (ranked(a, b, y, margin) > 0),
        more_gradients={1: lambda a, b, y, margin=0: y * (ranked(a, b, y, margin) > 0)},
        kinks=lambda a, b, y, margin=0: abs(margin - y * (a - b)),
        hard=RANKED_HARD,
        violations=BAD_SIGN,
    ),
    *angular_case("metric.arcface", ARCFACE, ARCFACE_OPTIONS, kinks=turning_kinks),
    *angular_case("metric.cosface", COSFACE, COSFACE_OPTIONS),
)


# --- what decides the claims ------------------------------------------------------------------


def rows(*data) -> Data:
    """One example for every row."""
    return tuple(np.broadcast_to(np.asarray(x), (ROWS, *np.shape(x))).copy() for x in data)


X, ZERO = np.array([1.0, 0.0, 0.0]), np.zeros(3)
JUST = 1e-9
# The label's cosine at which it ties with one of 0, which is 0.35 for cosface.
TIE = [0.35, 0.0, -1.0, -1.0]

EVIDENCE = {
    "metric.contrastive_pair": Evidence(
        refuted_by={
            "convex": (rows(X, ZERO, -1.0), rows(-X, ZERO, -1.0)),
            "lipschitz": rows(1e6 * X, ZERO, 1.0),
            "smooth": (rows(JUST * X, ZERO, -1.0), rows(-JUST * X, ZERO, -1.0)),
            "bounded": rows(1e6 * X, ZERO, 1.0),
        }
    ),
    "metric.triplet_margin": Evidence(
        attained={"lipschitz": rows(ZERO, X, -X)},
        refuted_by={
            "convex": (rows(2 * X, 2 * X, ZERO), rows(-2 * X, 2 * X, ZERO)),
            "smooth": (rows(X, X * (1 + JUST), X / 2), rows(X * (1 + 2 * JUST), X * (1 + JUST), X / 2)),
            "bounded": rows(ZERO, 1e6 * X, ZERO),
        },
    ),
    "metric.cosine_embedding": Evidence(
        attained={"bounded": rows(X, -X, 1.0)},
        refuted_by={
            "convex": (
                rows([1.0, 0.1, 0.0], [-1.0, 0.0, 0.0], 1.0),
                rows([0.0, 0.1, 0.0], [-1.0, 0.0, 0.0], 1.0),
            ),
            "lipschitz": rows([0.0, 1e-6, 0.0], X, 1.0),
            "smooth": (rows([0.0, 1e-6, 0.0], X, 1.0), rows([0.0, -1e-6, 1e-6], X, 1.0)),
        },
    ),
    "metric.hinge_embedding": Evidence(
        attained={"lipschitz": rows(2.0, 1.0)},
        refuted_by={
            "non_negative": rows(-1.0, 1.0),
            "smooth": (rows(1 - JUST, -1.0), rows(1 + JUST, -1.0)),
            "bounded": rows(1e6, 1.0),
        },
    ),
    "metric.margin_ranking": Evidence(
        attained={"lipschitz": rows(0.0, 1.0, 1.0)},
        refuted_by={
            "smooth": (rows(JUST, 0.0, 1.0), rows(-JUST, 0.0, 1.0)),
            "bounded": rows(0.0, 1e6, 1.0),
        },
    ),
    "metric.arcface": Evidence(
        refuted_by={
            "convex": (rows([0.1, 0.9, -1.0], 0), rows([0.9999, 0.9, -1.0], 0)),
            "lipschitz": rows([1 - 1e-8, 1.0, -1.0], 0),
            "smooth": (rows([1 - 1e-8, 1.0, -1.0], 0), rows([1 - 2e-8, 1.0, -1.0], 0)),
        }
    ),
    "metric.cosface": Evidence(
        attained={
            "lipschitz": rows([-1.0, 1.0, 0.0], 0),
            "smooth": (rows(TIE, 0), rows([0.35 + 1e-5, -1e-5, -1.0, -1.0], 0)),
        }
    ),
}
