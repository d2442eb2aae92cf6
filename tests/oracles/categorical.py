"""Losses of K logits by hand: Bridle (1990), Szegedy (2016), Chowdhery (2022), Lin (2017)."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mpmath import mp, mpf

from oracles._case import ROWS, Case, Evidence, any_row, each, floats, number, one_each

CLASSES = 5
IGNORED = 3

# --- draws --------------------------------------------------------------------------------------


def distributions(awkward: bool = True) -> st.SearchStrategy[np.ndarray]:
    """One distribution a row: soft, one-hot, uniform, with zeros."""
    parts = st.sampled_from([0.0, 0.0, 1.0, 1e-6]) | floats(0.01, 1) if awkward else floats(0.2, 1)
    return one_each(parts, CLASSES).map(_normalised)


def _normalised(parts: np.ndarray) -> np.ndarray:
    empty = np.sum(parts, axis=-1, keepdims=True) == 0
    parts = np.where(empty & (np.arange(CLASSES) == 0), 1.0, parts)
    return parts / np.sum(parts, axis=-1, keepdims=True)


def ids() -> st.SearchStrategy[np.ndarray]:
    return one_each(st.integers(0, CLASSES - 1), dtype=np.int64)


@st.composite
def logits(draw, labels: np.ndarray, excluded: bool) -> np.ndarray:
    """Logits with a common offset, one class far ahead, and classes excluded by −∞."""
    offset = draw(one_each(st.sampled_from([0.0, 0.0, 1e4, -1e4])))[:, None]
    ahead = np.arange(CLASSES) == draw(ids())[:, None]
    lead = draw(one_each(st.sampled_from([0.0, 17.0, 80.0])))[:, None] * ahead
    z = draw(one_each(st.sampled_from([0.0]) | floats(-5, 5), CLASSES)) + offset + lead
    wanted = labels > 0 if labels.ndim > 1 else np.arange(CLASSES) == labels[:, None]
    gone = draw(one_each(st.sampled_from([False, False, excluded]), CLASSES, dtype=np.bool_))
    return np.where(gone & ~wanted, -np.inf, z)


@st.composite
def classified(draw, labels, options=None, excluded=False, calm=False):
    chosen = draw(options) if options is not None else {}
    drawn = draw(labels)
    if "class_where" in chosen:
        drawn, chosen = _among_present(drawn, chosen)
    z = draw(one_each(floats(-2, 2), CLASSES)) if calm else draw(logits(drawn, excluded))
    return (z, drawn), chosen


def _among_present(labels: np.ndarray, options: dict) -> tuple[np.ndarray, dict]:
    """Labels of classes that are there: a class that is not costs ∞."""
    if labels.ndim > 1:
        return _normalised(
            np.where(options["class_where"], labels, 0.0) + 1e-3 * options["class_where"]
        ), options
    named = np.arange(CLASSES) == labels[:, None]
    return labels, {
        **options,
        "class_where": options["class_where"]
        | (named if options["class_where"].ndim > 1 else named.any(axis=0)),
    }


@st.composite
def log_probable(draw, labels, options=None, calm=False):
    """Log-probabilities, −∞ where the label gives nothing."""
    chosen = draw(options) if options is not None else {}
    drawn = draw(labels)
    shares = draw(distributions(awkward=not calm))
    wanted = drawn > 0 if drawn.ndim > 1 else np.arange(CLASSES) == drawn[:, None]
    floor = np.where(wanted & (shares == 0), 1e-9, shares)
    with np.errstate(divide="ignore"):
        return (np.log(floor / floor.sum(axis=-1, keepdims=True)), drawn), chosen


WEIGHTS = arrays(
    np.float64, (CLASSES,), elements=st.sampled_from([0.0, 1.0]) | floats(0.1, 3), fill=st.nothing()
)
PRESENT = arrays(np.bool_, (CLASSES,), fill=st.nothing()).map(lambda a: a | (np.arange(CLASSES) == 1))
PRESENT_A_ROW = arrays(np.bool_, (ROWS, CLASSES), fill=st.nothing()).map(
    lambda a: a | (np.arange(CLASSES) == 1)
)
SMOOTHING = number(0.0, 0.1, low=0.01, high=0.9)
Z_LOSS = number(0.0, 1e-4, low=1e-4, high=1.0)
GAMMA = number(0.0, 1.0, 2.0, low=0.1, high=5.0)

# --- formulas ------------------------------------------------------------------------------------


def softmax(z):
    top = max(z)
    parts = [mp.exp(entry - top) for entry in z]
    return [part / mp.fsum(parts) for part in parts]


def log_normaliser(z):
    return max(z) + mp.log(mp.fsum(mp.exp(entry - max(z)) for entry in z))


def one_hot(y):
    return y if isinstance(y, list) else [mpf(c == y) for c in range(CLASSES)]


def there(z, class_where):
    return (
        z if class_where is None else [a if b else mpf("-inf") for a, b in zip(z, class_where, strict=True)]
    )


def smoothed(t, alpha, class_where):
    present = class_where or [True] * CLASSES
    return [(1 - alpha) * a + (alpha / sum(present) if b else 0) for a, b in zip(t, present, strict=True)]


def weighted(y, class_weights, label_smoothing, class_where):
    t = smoothed(one_hot(y), label_smoothing, class_where)
    return [a * b for a, b in zip(class_weights or [1] * CLASSES, t, strict=True)]


def costs(z):
    return [-mp.log(p) if p else mp.inf for p in softmax(z)]


def dot(t, costs):
    """0·∞ = 0: a class nobody expects costs nothing."""
    return mp.fsum(a * b for a, b in zip(t, costs, strict=True) if a)


def ignoring(formula, empty=0):
    """Nothing in a row whose label is the one to ignore."""

    def of_row(z, y, ignore_index=None, **options):
        return empty if ignore_index is not None and y == ignore_index else formula(z, y, **options)

    return of_row


NOTHING = [0] * CLASSES


def _entropy(z, y, class_weights=None, label_smoothing=0, z_loss=0, class_where=None):
    z = there(z, class_where)
    return (
        dot(weighted(y, class_weights, label_smoothing, class_where), costs(z))
        + z_loss * log_normaliser(z) ** 2
    )


def _entropy_slope(z, y, class_weights=None, label_smoothing=0, z_loss=0, class_where=None):
    z = there(z, class_where)
    t = weighted(y, class_weights, label_smoothing, class_where)
    pull = mp.fsum(t) + 2 * z_loss * log_normaliser(z)
    return [p * pull - a for p, a in zip(softmax(z), t, strict=True)]


def gaps(z):
    return [max(z) - entry if entry != mpf("-inf") else mpf(0) for entry in z]


def _entropy_scale(z, y, **options):
    # Every difference of logits is rounded once: what that can change is the gradient times the gap.
    slope, value = _entropy_slope(z, y, **options), _entropy(z, y, **options)
    return (
        value
        + dot([abs(g) for g in slope], gaps(there(z, options.get("class_where"))))
        + _normaliser_scale(z, **options)
    )


def _normaliser_scale(z, z_loss=0, class_where=None, **_):
    # Z = max + log Σ: near 0 the two cancel.
    z = there(z, class_where)
    return 2 * z_loss * abs(log_normaliser(z)) * (abs(max(z)) + abs(log_normaliser(z) - max(z)))


def _entropy_slope_scale(z, y, class_weights=None, label_smoothing=0, z_loss=0, class_where=None):
    z = there(z, class_where)
    t = weighted(y, class_weights, label_smoothing, class_where)
    total = mp.fsum(t)
    p, distance = softmax(z), gaps(z)
    mean_gap = dot(p, distance)
    size = 2 * z_loss * (abs(max(z)) + abs(log_normaliser(z) - max(z)))
    of_ids = not isinstance(y, list)
    return [
        # (1 − p) t from an id; p Σt and t apart from a distribution, which autodiff subtracts.
        (p_j * (total - t_j) + t_j * (1 - p_j) if of_ids else p_j * total + t_j)
        + p_j * (total + size) * (gap + mean_gap)
        + p_j * size
        for p_j, t_j, gap in zip(p, t, distance, strict=True)
    ]


def _in_smoothing(z, y, class_weights=None, label_smoothing=0, z_loss=0, class_where=None):
    surprise = costs(there(z, class_where))
    uniform = weighted(y, class_weights, 1, class_where)
    return dot(uniform, surprise) - dot(weighted(y, class_weights, 0, class_where), surprise)


def _in_weights(z, y, class_weights=None, label_smoothing=0, z_loss=0, class_where=None):
    t = smoothed(one_hot(y), label_smoothing, class_where)
    return [a * b if a else 0 for a, b in zip(t, costs(there(z, class_where)), strict=True)]


def _in_z_loss(z, y, class_where=None, **_):
    return log_normaliser(there(z, class_where)) ** 2


def _nll(s, y, class_weights=None):
    return dot(weighted(y, class_weights, 0, None), [-entry for entry in s])


def _nll_slope(s, y, class_weights=None):
    return [-entry for entry in weighted(y, class_weights, 0, None)]


def _nll_in_weights(s, y, class_weights=None):
    return [-a * b if a else 0 for a, b in zip(one_hot(y), s, strict=True)]


def _focal(z, y, gamma=2, class_weights=None):
    faded = [(1 - p) ** gamma * cost if p else mp.inf for p, cost in zip(softmax(z), costs(z), strict=True)]
    return dot(weighted(y, class_weights, 0, None), faded)


def _focal_pull(p, gamma):
    """∂/∂log p of −(1 − p)^γ log p."""
    if p == 1:
        return mpf(0) if gamma else mpf(-1)
    return -((1 - p) ** gamma) + gamma * (1 - p) ** (gamma - 1) * p * mp.log(p)


def _focal_slope(z, y, gamma=2, class_weights=None):
    p, t = softmax(z), weighted(y, class_weights, 0, None)
    pulls = [a * _focal_pull(p_c, gamma) if a else 0 for a, p_c in zip(t, p, strict=True)]
    return [pull - p_j * mp.fsum(pulls) for pull, p_j in zip(pulls, p, strict=True)]


def _focal_scale(z, y, **options):
    slope, value = _focal_slope(z, y, **options), _focal(z, y, **options)
    return value + dot([abs(g) for g in slope], gaps(z))


def _focal_slope_scale(z, y, gamma=2, class_weights=None):
    p, t = softmax(z), weighted(y, class_weights, 0, None)
    pulls = [-a * _focal_pull(p_c, gamma) if a else mpf(0) for a, p_c in zip(t, p, strict=True)]
    total, mean_gap = mp.fsum(pulls), dot(p, gaps(z))
    of_ids = not isinstance(y, list)
    return [
        (p_j * (total - pull) + pull * (1 - p_j) if of_ids else p_j * total + pull)
        + (p_j * total + pull) * (gap + mean_gap + max(gaps(z)) * (pull != 0)) * (1 + gamma)
        for p_j, pull, gap in zip(p, pulls, gaps(z), strict=True)
    ]


def _focal_in_gamma(z, y, gamma=2, class_weights=None):
    t = weighted(y, class_weights, 0, None)
    terms = [
        (1 - p) ** gamma * cost * mp.log(1 - p) if p != 1 else 0
        for p, cost in zip(softmax(z), costs(z), strict=True)
    ]
    return dot(t, terms)


def _focal_in_weights(z, y, gamma=2, class_weights=None):
    faded = [(1 - p) ** gamma * cost for p, cost in zip(softmax(z), costs(z), strict=True)]
    return [a * b if a else 0 for a, b in zip(one_hot(y), faded, strict=True)]


# --- cases ----------------------------------------------------------------------------------------


def _leads(z, by):
    ordered = np.sort(z, axis=-1)
    return (ordered[..., -1] - ordered[..., -2] >= by) & (ordered[..., -2] > -np.inf)


LOGITS_HARD = {
    "offset of 1e4": any_row(lambda z, y, **_: np.max(z, axis=-1) > 9e3),
    "confident": any_row(lambda z, y, **_: _leads(z, 70)),
}
EXCLUDED = {"excluded class": any_row(lambda z, y, **_: np.any(z == -np.inf, axis=-1))}
IDS_HARD = {
    "right by 17": any_row(lambda z, y, **_: _leads(z, 10) & (np.argmax(z, axis=-1) == y)),
    "wrong by 80": any_row(lambda z, y, **_: _leads(z, 70) & (np.argmax(z, axis=-1) != y)),
}
SHARES_HARD = {
    "one-hot": any_row(lambda z, t, **_: np.max(t, axis=-1) == 1),
    "soft": any_row(lambda z, t, **_: np.max(t, axis=-1) < 0.9),
}
BAD_IDS = {"labels": (1, CLASSES), "negative labels": (1, -1)}
BAD_SHARES = {
    "labels": (1, [0.5, 0.5, 0.5, 0.0, 0.0]),
    "negative labels": (1, [1.5, -0.5, 0.0, 0.0, 0.0]),
}


def case(
    name, formulas, labels, options=None, *, kind=classified, excluded=False, hard=None, **fields
) -> Case:
    of_ids = "ids" in name
    value, gradient, scale, gradient_scale = formulas
    extra = {"excluded": True} if excluded else {}
    return Case(
        name,
        value=ignoring(value),
        gradient=ignoring(gradient, NOTHING),
        scale=None if scale is None else ignoring(scale),
        gradient_scale=None if gradient_scale is None else ignoring(gradient_scale, NOTHING),
        draws=kind(labels, options, **extra),
        calm=kind(labels, options, calm=True),
        counted=lambda z, y, ignore_index=None, **_: ignore_index is None or y != ignore_index,
        item_ndim=1,
        with_options=options is not None,
        violations=BAD_IDS if of_ids else BAD_SHARES,
        hard={
            **(hard or {}),
            **(IDS_HARD if of_ids and kind is classified else {}),
            **({} if of_ids else SHARES_HARD),
        },
        **fields,
    )


def gradients(**formulas):
    """Each derivative by an option, nothing in a row to ignore."""
    return {
        name: ignoring(formula, NOTHING if name == "class_weights" else 0)
        for name, formula in formulas.items()
    }


ENTROPY = (_entropy, _entropy_slope, _entropy_scale, _entropy_slope_scale)
FOCAL = (_focal, _focal_slope, _focal_scale, _focal_slope_scale)
NLL = (_nll, _nll_slope, None, None)
OPTIONS = {"label_smoothing": SMOOTHING, "class_weights": WEIGHTS, "z_loss": Z_LOSS}
IN_OPTIONS = gradients(label_smoothing=_in_smoothing, class_weights=_in_weights, z_loss=_in_z_loss)
IGNORE = {"ignore_index": st.just(IGNORED)}
FOCAL_IN = gradients(gamma=_focal_in_gamma, class_weights=_focal_in_weights)
IGNORED_ROW = {"ignored row": lambda data, options: bool(np.any(data[1] == options["ignore_index"]))}

CASES = (
    case(
        "categorical.cross_entropy/ids",
        ENTROPY,
        ids(),
        excluded=True,
        hard=LOGITS_HARD | EXCLUDED,
        own_path=True,
    ),
    case(
        "categorical.cross_entropy/distributions",
        ENTROPY,
        distributions(),
        excluded=True,
        hard=LOGITS_HARD | EXCLUDED,
    ),
    case(
        "categorical.cross_entropy/ids smoothed",
        ENTROPY,
        ids(),
        each(label_smoothing=SMOOTHING),
        option_gradients={"label_smoothing": IN_OPTIONS["label_smoothing"]},
        hard=LOGITS_HARD,
        own_path=True,
    ),
    case(
        "categorical.cross_entropy/ids weighted",
        ENTROPY,
        ids(),
        each(class_weights=WEIGHTS),
        option_gradients={"class_weights": IN_OPTIONS["class_weights"]},
        hard=LOGITS_HARD,
        own_path=True,
    ),
    case(
        "categorical.cross_entropy/ids with options",
        ENTROPY,
        ids(),
        each(**OPTIONS, **IGNORE, class_where=PRESENT),
        option_gradients=IN_OPTIONS,
        hard=LOGITS_HARD | IGNORED_ROW,
    ),
    case(
        "categorical.cross_entropy/ids among a row's classes",
        ENTROPY,
        ids(),
        each(class_where=PRESENT_A_ROW),
        hard=LOGITS_HARD,
    ),
    case(
        "categorical.cross_entropy/distributions with options",
        ENTROPY,
        distributions(),
        each(**OPTIONS, class_where=PRESENT),
        option_gradients=IN_OPTIONS,
        hard=LOGITS_HARD,
    ),
    case(
        "categorical.nll/ids",
        NLL,
        ids(),
        kind=log_probable,
        hard={"the last class": any_row(lambda z, y: y == z.shape[-1] - 1)},
    ),
    case("categorical.nll/distributions", NLL, distributions(), kind=log_probable),
    case(
        "categorical.nll/ids with options",
        NLL,
        ids(),
        each(class_weights=WEIGHTS, **IGNORE),
        kind=log_probable,
        option_gradients=gradients(class_weights=_nll_in_weights),
        hard=IGNORED_ROW,
    ),
    case(
        "categorical.nll/distributions with options",
        NLL,
        distributions(),
        each(class_weights=WEIGHTS),
        kind=log_probable,
        option_gradients=gradients(class_weights=_nll_in_weights),
    ),
    case("categorical.focal/ids", FOCAL, ids(), excluded=True, hard=LOGITS_HARD | EXCLUDED),
    case(
        "categorical.focal/distributions", FOCAL, distributions(), excluded=True, hard=LOGITS_HARD | EXCLUDED
    ),
    case(
        "categorical.focal/ids with options",
        FOCAL,
        ids(),
        each(gamma=GAMMA, class_weights=WEIGHTS, **IGNORE),
        option_gradients=FOCAL_IN,
        hard=LOGITS_HARD | IGNORED_ROW,
    ),
    case(
        "categorical.focal/distributions with options",
        FOCAL,
        distributions(),
        each(gamma=GAMMA, class_weights=WEIGHTS),
        option_gradients=FOCAL_IN,
        hard=LOGITS_HARD,
    ),
)

# --- what decides the claims ------------------------------------------------------------------


def row(z, y):
    """One row of logits and its label, for every row."""
    kind = np.int64 if np.ndim(y) == 0 else np.float64
    return (
        np.broadcast_to(np.asarray(z, np.float64), (ROWS, CLASSES)),
        np.broadcast_to(np.asarray(y, kind), (ROWS, *np.shape(y))),
    )


UNIFORM = [0.2] * CLASSES
FLAT = [0.0] * CLASSES
TWO = [-1e3] * (CLASSES - 2)
SAMPLE = np.array([0, 0, 0, 1, 1, 2, 3])
SHARP = np.log([0.96, 0.01, 0.01, 0.01, 0.01])

EVIDENCE = {
    "categorical.cross_entropy": Evidence(
        attained={
            "lipschitz": row([0.0, 40.0, *TWO], 0),
            "smooth": (
                row(
                    [
                        1e-3,
                        0.0,
                        *TWO,
                    ][:CLASSES],
                    0,
                ),
                row([0.0, 1e-3, *TWO], 0),
            ),
        },
        refuted_by={"zero_at_target": row(FLAT, UNIFORM), "bounded": row([0.0, 1e6, *TWO], 0)},
    ),
    "categorical.nll": Evidence(
        attained={"lipschitz": row(SHARP, 0), "smooth": (row(SHARP, 0), row(np.log(UNIFORM), 0))},
        refuted_by={
            "zero_at_target": row(np.log(UNIFORM), UNIFORM),
            "bounded": row([-1e6, 0.0, *TWO], 0),
            "shift_invariant": (row(np.log(UNIFORM), 0), 1.0),
        },
    ),
    "categorical.focal": Evidence(
        attained={
            "lipschitz": row([0.0, 2.79, *TWO], 0),
            "smooth": (row([-0.30, 0.30, *TWO], 0), row([-0.305, 0.305, *TWO], 0)),
        },
        refuted_by={
            "zero_at_target": row(FLAT, UNIFORM),
            "convex": (row([0.0, 3.0, *TWO], 0), row([0.0, 8.0, *TWO], 0)),
            "bounded": row([0.0, 1e6, *TWO], 0),
        },
        sample=SAMPLE,
    ),
}
