"""Losses of a batch told apart, by hand: Chen, Khosla (2020), van den Oord (2018), Radford (2021).

Each is a function of a matrix of cosines. A formula gives its value for each anchor, and for each
anchor the derivative by its row of cosines; the rest, through the norms, they share.
"""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mpmath import mp, mpf

from oracles._case import ROWS, Case, Evidence, each, floats, norm, number, one_each
from oracles.categorical import costs, dot, gaps
from oracles.categorical import softmax as shares

FEATURES = 3

# --- draws --------------------------------------------------------------------------------------


@st.composite
def vectors(draw, calm=False):
    """Vectors of any length, some of them of one direction, some zero."""
    if calm:
        return draw(one_each(floats(0.3, 2), FEATURES)) * draw(
            one_each(st.sampled_from([-1.0, 1.0]), FEATURES)
        )
    found = draw(one_each(st.sampled_from([0.0, 1.0]) | floats(-2, 2), FEATURES))
    length = draw(one_each(st.sampled_from([1.0, 1.0, 1e-6, 1e6])))[:, None]
    copied = draw(one_each(st.sampled_from([False, False, True]), dtype=np.bool_))[:, None]
    return np.where(copied, found[:1], found) * length


@st.composite
def batches(draw, labelled=True, options=None, calm=False):
    chosen = draw(options) if options is not None else {}
    second = draw(one_each(st.integers(0, 3), dtype=np.int64) if labelled else vectors(calm=calm))
    return (draw(vectors(calm=calm)), second), chosen


SOME = arrays(np.bool_, (ROWS,), fill=st.nothing()).map(lambda a: a | (np.arange(ROWS) == 2))
TEMPERATURE = number(0.07, 0.5, low=0.05, high=2.0)
LOGIT_SCALE = number(10.0, 1 / 0.07, 1.0, low=0.5, high=20.0)
BIAS = number(-10.0, 0.0, low=-10.0, high=4.0)

# --- cosines and what comes through them -----------------------------------------------------------


def unit(x):
    length = norms(x)
    return np.where(length > 0, x, 0) / np.where(length > 0, length, 1)


def norms(x):
    return np.sqrt(np.sum(x * x, axis=-1, keepdims=True))


def through_norm(direction, x, size=False):
    """The derivative by x of what has the derivative `direction` by x/‖x‖; or the size of its terms."""
    length, u = norms(x), unit(x)
    along = np.sum(np.abs(u * direction) if size else u * direction, axis=-1, keepdims=True)
    found = direction + np.abs(u) * along if size else direction - u * along
    return np.where(length > 0, found, 0) / np.where(length > 0, length, 1)


def of_cosines(formula, sharpness, labelled=True):
    """The fields of a case whose loss is `formula(cosines, second or None, **options)` -> values, slopes.

    `sharpness(**options)`: how many times over the logits have the rounding of a cosine.
    """

    def cosines(first, second):
        return unit(first) @ unit(first if labelled else second).T

    def parts(first, second, **options):
        return formula(cosines(first, second), second if labelled else None, **options)

    def value(first, second, **options):
        return parts(first, second, **options)[0]

    def scale(first, second, **options):
        values, slopes = parts(first, second, **options)
        return values + np.sum(np.abs(slopes), axis=-1)

    def gradient(first, second, **options):
        slopes = parts(first, second, **options)[1]
        if labelled:
            return through_norm((slopes + slopes.T) @ unit(first), first)
        return through_norm(slopes @ unit(second), first)

    def gradient_scale(first, second, **options):
        slopes = np.abs(parts(first, second, **options)[1])
        slopes = slopes + slopes.T if labelled else slopes
        other = np.abs(unit(first if labelled else second))
        return through_norm(slopes @ other, first, size=True) * (1 + 2 * sharpness(**options))

    def by_second(first, second, **options):
        return through_norm(parts(first, second, **options)[1].T @ unit(first), second)

    def by_second_scale(first, second, **options):
        slopes = np.abs(parts(first, second, **options)[1]).T
        return through_norm(slopes @ np.abs(unit(first)), second, size=True) * (1 + 2 * sharpness(**options))

    fields = {"value": value, "gradient": gradient, "scale": scale, "gradient_scale": gradient_scale}
    also = {"more_gradients": {1: by_second}, "more_scales": {1: by_second_scale}}
    return fields | ({} if labelled else also)


def in_scaling(formula, change, labelled=True):
    """The derivative by an option that multiplies the cosines: Σ ∂ℓ/∂cos · cos, times its change per unit."""

    def derivative(first, second, **options):
        cosines = unit(first) @ unit(first if labelled else second).T
        slopes = formula(cosines, second if labelled else None, **options)[1]
        return np.sum(slopes * cosines, axis=-1) * change(**options)

    return derivative


# --- formulas ------------------------------------------------------------------------------------


# An anchor without a rival has a sum of nothing, whose logarithm is −∞.
ALONE = np.errstate(divide="ignore", over="ignore")


def grouped(labels):
    same = labels[:, None] == labels[None, :]
    return same & ~np.eye(len(labels), dtype=bool), ~same


def softmax(z, among):
    """Over those of each row that `among` holds; zeros where it holds none."""
    top = np.max(np.where(among, z, -np.inf), axis=-1, keepdims=True, initial=-1e9)
    parts = np.where(among, np.exp(np.where(among, z - top, -1e4)), 0)
    total = np.sum(parts, axis=-1, keepdims=True)
    return parts / np.where(total > 0, total, 1)


def log_sum(z, among):
    top = np.max(np.where(among, z, -np.inf), axis=-1, initial=-1e9)
    return top + np.log(np.sum(np.where(among, np.exp(np.where(among, z - top[:, None], -1e4)), 0), axis=-1))


@ALONE
def _nt_xent(cosines, labels, temperature=np.longdouble("0.07")):
    z = cosines / temperature
    same, different = grouped(labels)
    partners = np.maximum(same.sum(axis=-1), 1)
    ahead = log_sum(z, different)[:, None] - z
    missed = np.where(same, 1 / (1 + np.exp(-ahead)), 0)
    values = np.sum(np.where(same, np.logaddexp(0, ahead), 0), axis=-1) / partners
    slopes = softmax(z, different) * missed.sum(axis=-1, keepdims=True) - missed
    return values, slopes / partners[:, None] / temperature


@ALONE
def _supcon(cosines, labels, temperature=np.longdouble("0.07")):
    z = cosines / temperature
    same, different = grouped(labels)
    share = same / np.maximum(same.sum(axis=-1, keepdims=True), 1)
    costs = log_sum(z, same | different)[:, None] - z
    values = np.sum(share * np.where(same, costs, 0), axis=-1)
    slopes = softmax(z, same | different) * share.sum(axis=-1, keepdims=True) - share
    return values, slopes / temperature


def _own(z):
    everything = np.ones(z.shape, bool)
    return log_sum(z, everything) - np.diag(z), softmax(z, everything) - np.eye(len(z))


def _info_nce(cosines, _, temperature=np.longdouble("0.07")):
    values, slopes = _own(cosines / temperature)
    return values, slopes / temperature


def _clip(cosines, _, logit_scale=1 / np.longdouble("0.07")):
    (rows, by_rows), (columns, by_columns) = _own(cosines * logit_scale), _own(cosines.T * logit_scale)
    # The derivative of the sum over anchors: a column's belongs to no one row.
    return (rows + columns) / 2, (by_rows + by_columns.T) / 2 * logit_scale


def _clip_in_scale(first, second, logit_scale):
    cosines = unit(first) @ unit(second).T
    (_, by_rows), (_, by_columns) = _own(cosines * logit_scale), _own(cosines.T * logit_scale)
    return np.sum(by_rows * cosines + by_columns * cosines.T, axis=-1) / 2


def _siglip_in_bias(first, second, logit_scale, bias):
    cosines = unit(first) @ unit(second).T
    return np.sum(_siglip(cosines, None, logit_scale, bias)[1], axis=-1) / logit_scale


def _siglip(cosines, _, logit_scale=10, bias=-10):
    z = cosines * logit_scale + bias
    signs = 2 * np.eye(len(z)) - 1
    return np.sum(np.logaddexp(0, -signs * z), axis=-1), -signs / (1 + np.exp(signs * z)) * logit_scale


def _siglip_scale(first, second, logit_scale=10, bias=-10):
    values, slopes = _siglip(unit(first) @ unit(second).T, None, logit_scale, bias)
    return values + np.sum(np.abs(slopes), axis=-1) * (1 + abs(bias / logit_scale))


# --- cases ----------------------------------------------------------------------------------------


def some(predicate):
    return lambda data, options: bool(np.any(predicate(*data)))


HARD = {
    "a vector of zeros": some(lambda a, b: ~np.any(a, axis=-1)),
    "two of one direction": some(
        lambda a, b: np.triu(np.abs((a / (norms(a) + 1e-30)) @ (a / (norms(a) + 1e-30)).T - 1) < 1e-6, 1)
    ),
    "lengths far apart": some(lambda a, b: norms(a).max() > 1e5 * norms(a)[norms(a) > 0].min(initial=1)),
}
GROUPS_HARD = {
    "an anchor without a partner": some(lambda a, y: np.bincount(y) == 1),
    "groups of two sizes": some(lambda a, y: np.ptp(np.bincount(y)[np.bincount(y) > 0]) > 0),
}


def two_cases(name, formula, reason, options, of_options, labelled=True, sharpness=None, **changed):
    """The loss at its default options, and with all of them and a mask."""
    fields = of_cosines(formula, sharpness, labelled) | changed
    common = {"item_ndim": 1, "couples": reason, "hard": HARD | (GROUPS_HARD if labelled else {})} | fields
    chosen = each(where=SOME, **options)
    return (
        Case(name, draws=batches(labelled), calm=batches(labelled, calm=True), **common),
        Case(
            f"{name}/with options",
            draws=batches(labelled, chosen),
            calm=batches(labelled, chosen, calm=True),
            with_options=True,
            option_gradients=of_options,
            **common,
        ),
    )


def by_temperature(temperature=np.longdouble("0.07")):
    return -1 / temperature


RIVALS = "the other rows are each anchor's rivals"
COOL = {"sharpness": lambda temperature=0.07: 1 / temperature, "options": {"temperature": TEMPERATURE}}

CASES = (
    *two_cases(
        "contrastive.nt_xent",
        _nt_xent,
        RIVALS,
        of_options={"temperature": in_scaling(_nt_xent, by_temperature)},
        **COOL,
    ),
    *two_cases(
        "contrastive.supcon",
        _supcon,
        RIVALS,
        of_options={"temperature": in_scaling(_supcon, by_temperature)},
        **COOL,
    ),
    *two_cases(
        "contrastive.info_nce",
        _info_nce,
        RIVALS,
        of_options={"temperature": in_scaling(_info_nce, by_temperature, labelled=False)},
        labelled=False,
        **COOL,
    ),
    *two_cases(
        "contrastive.clip",
        _clip,
        RIVALS,
        options={"logit_scale": LOGIT_SCALE},
        of_options={"logit_scale": _clip_in_scale},
        labelled=False,
        sharpness=lambda logit_scale=14: logit_scale,
    ),
    *two_cases(
        "contrastive.siglip",
        _siglip,
        RIVALS,
        options={"logit_scale": LOGIT_SCALE, "bias": BIAS},
        of_options={
            "logit_scale": in_scaling(_siglip, lambda logit_scale, bias: 1 / logit_scale, labelled=False),
            "bias": _siglip_in_bias,
        },
        labelled=False,
        sharpness=lambda logit_scale=10, bias=-10: logit_scale + abs(bias),
        scale=_siglip_scale,
    ),
)

# --- what decides the claims ------------------------------------------------------------------

FOUR = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
CLUSTERS = np.repeat(FOUR, 2, axis=0)
PAIRS = np.repeat(np.arange(4), 2)
EVERY = np.tile(FOUR, (2, 1)) * np.repeat([[1.0], [-1.0]], 4, axis=0)
ASKEW = np.random.default_rng(0).normal(size=(ROWS, FEATURES))
TINY = 1e-15


def refuted(right, wrong, second):
    """Directions are all that counts: gradients grow without bound towards 0, and no chord is above."""
    near = (TINY * ASKEW, second), (TINY * (ASKEW + 0.01 * CLUSTERS), second)
    return Evidence(
        refuted_by={
            "convex": ((right, second), (wrong, second)),
            "lipschitz": near[0],
            "smooth": near,
        }
    )


OFFSET = np.array([0.03, 0.02, 0.01])
EVIDENCE = {
    f"contrastive.{name}": refuted(OFFSET + CLUSTERS, OFFSET - CLUSTERS, PAIRS)
    for name in ("nt_xent", "supcon")
} | {f"contrastive.{name}": refuted(0.5 * EVERY, -EVERY, EVERY) for name in ("info_nce", "clip", "siglip")}

# --- losses of rows ------------------------------------------------------------------------------


def direction(p):
    return [a / norm(p) if norm(p) else mpf(0) for a in p]


def _byol(p, t):
    return mp.fsum((a - b) ** 2 for a, b in zip(direction(p), direction(t), strict=True))


def _simsiam(p, t):
    return -dot(direction(p), direction(t))


def _simsiam_slope(p, t):
    u, cosine = direction(p), -_simsiam(p, t)
    return [(cosine * a - b) / norm(p) if norm(p) else mpf(0) for a, b in zip(u, direction(t), strict=True)]


def _simsiam_slope_scale(p, t):
    u = direction(p)
    size = mp.fsum(abs(a * b) for a, b in zip(u, direction(t), strict=True))
    return [
        (size * abs(a) + abs(b) + abs(a)) / norm(p) if norm(p) else mpf(0)
        for a, b in zip(u, direction(t), strict=True)
    ]


def twice(formula):
    return lambda p, t: [2 * a for a in formula(p, t)]


def _taught(s, t, centre=0, student_temperature=mpf("0.1"), teacher_temperature=mpf("0.04")):
    """The student's logits and the teacher's shares; how sharp the teacher is."""
    centre = centre if isinstance(centre, list) else [centre] * len(t)
    z = [(a - b) / teacher_temperature for a, b in zip(t, centre, strict=True)]
    return [a / student_temperature for a in s], shares(z), 1 + max(gaps(z))


def _dino(s, t, **options):
    z, q, _ = _taught(s, t, **options)
    return dot(q, costs(z))


def _dino_slope(s, t, student_temperature=mpf("0.1"), **options):
    z, q, _ = _taught(s, t, student_temperature=student_temperature, **options)
    return [(a - b) / student_temperature for a, b in zip(shares(z), q, strict=True)]


def _dino_scale(s, t, **options):
    z, q, sharpness = _taught(s, t, **options)
    apart = dot([a + b for a, b in zip(shares(z), q, strict=True)], gaps(z))
    return (dot(q, costs(z)) + apart) * sharpness


def _dino_slope_scale(s, t, student_temperature=mpf("0.1"), **options):
    z, q, sharpness = _taught(s, t, student_temperature=student_temperature, **options)
    width = 1 + max(gaps(z))
    sizes = [(a + b) * width * sharpness for a, b in zip(shares(z), q, strict=True)]
    return [size / student_temperature for size in sizes]


def _dino_in_temperature(s, t, student_temperature, **options):
    slope = _dino_slope(s, t, student_temperature=student_temperature, **options)
    return -dot(slope, s) / student_temperature


@st.composite
def taught(draw, options=None, calm=False):
    chosen = draw(options) if options is not None else {}
    teacher = draw(one_each(floats(-0.2, 0.2), FEATURES))
    if calm:
        return (draw(one_each(floats(-0.3, 0.3), FEATURES)), teacher), chosen
    offset = draw(one_each(st.sampled_from([0.0, 0.0, 1e3, -1e3])))[:, None]
    student = draw(one_each(st.sampled_from([0.0, 3.0]) | floats(-1, 1), FEATURES))
    return (student + offset, teacher + draw(one_each(st.sampled_from([0.0, 3.0]), FEATURES))), chosen


WARM = number(0.1, 0.2, low=0.05, high=1.0)
CENTRE = arrays(np.float64, (FEATURES,), elements=floats(-0.2, 0.2), fill=st.nothing())
DINO = {
    "value": _dino,
    "gradient": _dino_slope,
    "scale": _dino_scale,
    "gradient_scale": _dino_slope_scale,
    "item_ndim": 1,
    "hard": {
        "offset of 1e3": some(lambda s, t: np.min(s, axis=-1) > 9e2),
        "a sure teacher": some(lambda s, t: np.ptp(t, axis=-1) > 2),
    },
}
SURE = {"student_temperature": WARM, "teacher_temperature": WARM, "centre": CENTRE}

CASES += (
    Case(
        "contrastive.byol",
        value=_byol,
        gradient=twice(_simsiam_slope),
        gradient_scale=twice(_simsiam_slope_scale),
        more_gradients={1: lambda p, t: [mpf(0)] * len(t)},
        quadratic=True,
        scale=lambda p, t: _byol(p, t) + mp.sqrt(_byol(p, t)),
        draws=batches(labelled=False),
        calm=batches(labelled=False, calm=True),
        item_ndim=1,
        hard=HARD,
    ),
    Case(
        "contrastive.simsiam",
        value=_simsiam,
        gradient=_simsiam_slope,
        gradient_scale=_simsiam_slope_scale,
        more_gradients={1: lambda p, t: [mpf(0)] * len(t)},
        scale=lambda p, t: mpf(1),
        draws=batches(labelled=False),
        calm=batches(labelled=False, calm=True),
        item_ndim=1,
        hard=HARD,
    ),
    Case("contrastive.dino", draws=taught(), calm=taught(calm=True), **DINO),
    Case(
        "contrastive.dino/with options",
        draws=taught(each(**SURE)),
        calm=taught(each(**SURE), calm=True),
        with_options=True,
        more_gradients={1: lambda s, t, **_: [mpf(0)] * len(t)},
        option_gradients={
            "student_temperature": _dino_in_temperature,
            "teacher_temperature": lambda s, t, **_: mpf(0),
            "centre": lambda s, t, **_: [mpf(0)] * len(t),
        },
        **DINO,
    ),
)

LEFT = np.broadcast_to(np.array([1.0, 0.0, 0.0]), (ROWS, FEATURES))
FAR = np.broadcast_to(np.array([1e4, 0.0, 0.0]), (ROWS, FEATURES))
SIDE = np.roll(LEFT, 1, axis=-1)
SMALL = (TINY * SIDE, LEFT), (TINY * (SIDE + 0.01 * LEFT), LEFT)
ACUTE = {"convex": ((0.5 * LEFT, LEFT), (-LEFT, LEFT)), "lipschitz": SMALL[0], "smooth": SMALL}
TILT = np.array([[1e-4, -1e-4, -9.0]]).repeat(ROWS, axis=0)
EVIDENCE |= {
    "contrastive.byol": Evidence(attained={"bounded": (-LEFT, LEFT)}, refuted_by=ACUTE),
    "contrastive.simsiam": Evidence(
        attained={"bounded": (-LEFT, LEFT)}, refuted_by=ACUTE | {"non_negative": (LEFT, LEFT)}
    ),
    "contrastive.dino": Evidence(
        attained={"lipschitz": (FAR, SIDE), "smooth": ((TILT, LEFT), (TILT[:, [1, 0, 2]], LEFT))},
        refuted_by={"bounded": (FAR, SIDE)},
    ),
}
