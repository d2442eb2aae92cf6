"""Losses of labelled images by hand: Milletari, Salehi, Sudre, Abraham & Khan, Rahman & Wang, Berman."""

import itertools

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mpmath import mp, mpf

from oracles._case import ROWS, Case, Data, Evidence, Options, any_row, each, floats, number, one_each

SPACE = (2, 2)
PIXELS = 4
CLASSES = 3
IGNORED = 2
# Nearer than any distance that counts: which of two equal errors is the larger, rounding decides.
UNDECIDED = mpf(10) ** -300

# --- draws --------------------------------------------------------------------------------------

KEPT = arrays(np.bool_, (ROWS, *SPACE), elements=st.sampled_from([True, True, False]), fill=st.nothing())
SMOOTH = number(1.0, 0.0, low=0.01, high=4.0)
PRICE = number(0.5, 1.0, low=0.05, high=3.0)
GAMMA = number(1.0, 4 / 3, low=0.4, high=3.0)
WEIGHTS = arrays(
    np.float64, CLASSES, elements=st.sampled_from([0.0, 1.0, 2.0]) | floats(0.1, 3), fill=st.nothing()
)
IGNORE = st.sampled_from([IGNORED, -1])


def masked(draw, options) -> Options:
    """Hyperparameters, with the pixels to keep: none of one example."""
    if options is None:
        return {}
    chosen = dict(draw(options))
    if "where" in chosen:
        chosen["where"] = chosen["where"] & (np.arange(ROWS) != 1)[:, None, None]
    return chosen


@st.composite
def image_draws(draw, options=None, calm=False, soft=False) -> tuple[Data, Options]:
    """Logits, one class far ahead in some pixels, of images with a class that is not there."""
    shape = (*SPACE, CLASSES)
    ids = draw(one_each(st.integers(0, CLASSES - 1), *SPACE, dtype=np.int64))
    logits = draw(one_each(floats(-2, 2), *shape))
    if not calm:
        right = draw(one_each(st.sampled_from([0.0, 0.0, 4.0, 17.0, 40.0, -30.0]), *SPACE))
        logits = logits + right[..., None] * np.eye(CLASSES)[ids]
        logits = logits + draw(one_each(st.sampled_from([0.0, 0.0, 1e4])))[:, None, None, None]
    parts = np.eye(CLASSES)[ids]
    if soft:
        parts = parts + draw(one_each(st.sampled_from([0.0, 0.0, 0.3]), *shape))
    labels = parts / parts.sum(axis=-1, keepdims=True) if soft else ids
    return (logits, labels), masked(draw, options)


@st.composite
def foreground_draws(draw, options=None, calm=False) -> tuple[Data, Options]:
    """Logits of one class, with errors of 0 and equal ones, and images without foreground."""
    spread = floats(-0.9, 0.9) if calm else st.sampled_from([1.0, -1.0, 0.0, 30.0, -1e15]) | floats(-4, 4)
    labels = draw(one_each(st.sampled_from([0.0, 1.0]), *SPACE))
    return (draw(one_each(spread, *SPACE)), labels), masked(draw, options)


# --- formulas of an image --------------------------------------------------------------------------


def flat(image):
    return [pixel for line in image for pixel in line]


def nested(pixels):
    return [pixels[:2], pixels[2:]]


def softmax(z):
    parts = [mp.exp(e - max(z)) for e in z]
    return [part / mp.fsum(parts) for part in parts]


def shares(y):
    return y if isinstance(y, list) else [mpf(c == y) for c in range(CLASSES)]


def kept(y, where=None, ignore_index=None):
    mask = flat(where) if where is not None else [True] * PIXELS
    return [a and (isinstance(b, list) or b != ignore_index) for a, b in zip(mask, flat(y), strict=True)]


def counted(z, y, where=None, ignore_index=None, **_):
    return any(kept(y, where, ignore_index))


def read(z, y, where, ignore_index):
    """Softmax and shares of the pixels kept, and which they are."""
    mask = kept(y, where, ignore_index)
    pairs = [(softmax(a), shares(b)) for a, b, k in zip(flat(z), flat(y), mask, strict=True) if k]
    return [p for p, _ in pairs], [t for _, t in pairs], mask


def confusion(p, t, c):
    """Shared, falsely there, missed: of one class."""
    pairs = [(a[c], b[c]) for a, b in zip(p, t, strict=True)]
    return (
        mp.fsum(a * b for a, b in pairs),
        mp.fsum(a * (1 - b) for a, b in pairs),
        mp.fsum((1 - a) * b for a, b in pairs),
    )


def through_softmax(slopes, p, mask, size=False):
    """∂/∂z from ∂/∂p, nothing at removed pixels; `size` adds what would cancel."""
    rows = iter(zip(slopes, p, strict=True))
    found = []
    for keep in mask:
        if not keep:
            found.append([mpf(0)] * CLASSES)
            continue
        g, s = next(rows)
        if size:
            total = mp.fsum(abs(a) * b for a, b in zip(g, s, strict=True))
            found.append([b * (abs(a) + total) for a, b in zip(g, s, strict=True)])
        else:
            mean = mp.fsum(a * b for a, b in zip(g, s, strict=True))
            found.append([b * (a - mean) for a, b in zip(g, s, strict=True)])
    return nested(found)


def ratio(x, y):
    return x / (x + y) if x + y else mpf(0)


def tversky_like(default_alpha, default_beta, default_gamma=None):
    """mean_c w (E/(I + E + s))^(1/γ), E = αF + βM: value, gradients, what rounding sees."""

    def parts(
        z,
        y,
        where=None,
        ignore_index=None,
        alpha=default_alpha,
        beta=default_beta,
        smooth=mpf(1),
        class_weights=None,
    ):
        p, t, mask = read(z, y, where, ignore_index)
        found = []
        for c in range(CLASSES):
            shared, false, missed = confusion(p, t, c)
            weight = class_weights[c] if class_weights else mpf(1)
            found.append((alpha * false + beta * missed, shared + smooth, false, missed, weight))
        return p, t, mask, found, (alpha, beta)

    def outer(x, y, gamma):
        """The power and its derivative, 0 at 0."""
        tau, power = ratio(x, y), 1 / gamma
        return (tau**power, power * tau ** (power - 1)) if tau else (mpf(0), mpf(gamma == 1))

    def value(z, y, gamma=default_gamma or mpf(1), **options):
        *_, found, _ = parts(z, y, **options)
        return mp.fsum(w * outer(e, i, gamma)[0] for e, i, *_, w in found) / CLASSES

    def slopes(z, y, gamma, options):
        p, t, mask, found, (alpha, beta) = parts(z, y, **options)
        per_pixel = []
        for b in t:
            row = []
            for c in range(CLASSES):
                e, i, *_, w = found[c]
                rise = alpha * (1 - b[c]) - beta * b[c]
                tau_slope = (rise * i - e * b[c]) / (e + i) ** 2 if e + i else mpf(0)
                row.append(w * outer(e, i, gamma)[1] * tau_slope / CLASSES)
            per_pixel.append(row)
        return per_pixel, p, mask

    def gradient(z, y, gamma=default_gamma or mpf(1), **options):
        return through_softmax(*slopes(z, y, gamma, options))

    def gradient_scale(z, y, gamma=default_gamma or mpf(1), **options):
        per_pixel, p, mask = slopes(z, y, gamma, options)
        gap = reach(z)
        return scaled(through_softmax(per_pixel, p, mask, size=True), gap)

    def value_scale(z, y, gamma=default_gamma or mpf(1), **options):
        return value(z, y, gamma=gamma, **options) * reach(z)

    def by(term):
        def in_option(z, y, gamma=default_gamma or mpf(1), **options):
            *_, found, _ = parts(z, y, **options)
            total = mpf(0)
            for e, i, false, missed, w in found:
                if e + i:
                    total += w * outer(e, i, gamma)[1] * term(e, i, false, missed) / (e + i) ** 2
            return total / CLASSES

        return in_option

    def in_gamma(z, y, gamma, **options):
        *_, found, _ = parts(z, y, **options)
        taus = [(w, ratio(e, i)) for e, i, *_, w in found]
        return -mp.fsum(w * x ** (1 / gamma) * mp.log(x) for w, x in taus if x) / gamma**2 / CLASSES

    def in_weights(z, y, gamma=default_gamma or mpf(1), **options):
        *_, found, _ = parts(z, y, **options)
        return [outer(e, i, gamma)[0] / CLASSES for e, i, *_ in found]

    in_options = {
        "class_weights": in_weights,
        "alpha": by(lambda e, i, false, missed: false * i),
        "beta": by(lambda e, i, false, missed: missed * i),
        "smooth": by(lambda e, i, false, missed: -e),
        "gamma": in_gamma,
    }
    formulas = {"value": value, "gradient": gradient, "scale": value_scale, "gradient_scale": gradient_scale}
    return formulas, in_options


def reach(z):
    """What a rounding of two logits' difference comes to in an exponential, and again in a ratio."""
    return 4 + 2 * max(max(pixel) - min(pixel) for pixel in flat(z))


def scaled(array, by):
    return [scaled(entry, by) for entry in array] if isinstance(array, list) else array * by


# --- Sudre (2017), sec. 2.1; a class that is absent weighs what the rarest does ------------------


def generalised(z, y, where=None, ignore_index=None):
    p, t, mask = read(z, y, where, ignore_index)
    sizes = [mp.fsum(b[c] for b in t) for c in range(CLASSES)]
    rarest = min((s for s in sizes if s), default=mpf(1))
    weights = [1 / (s or rarest) ** 2 for s in sizes]
    each_class = [confusion(p, t, c) for c in range(CLASSES)]
    wrong = mp.fsum(w * (f + m) for w, (_, f, m) in zip(weights, each_class, strict=True))
    right = mp.fsum(2 * w * i for w, (i, *_) in zip(weights, each_class, strict=True))
    return p, t, mask, weights, wrong, right


def generalised_dice(z, y, **options):
    *_, wrong, right = generalised(z, y, **options)
    return ratio(wrong, right)


def generalised_slopes(z, y, **options):
    p, t, mask, weights, wrong, right = generalised(z, y, **options)
    total = (wrong + right) ** 2
    return (
        [
            [w * ((1 - 2 * b) * right - 2 * b * wrong) / total for w, b in zip(weights, row, strict=True)]
            for row in t
        ],
        p,
        mask,
    )


GENERALISED = {
    "value": generalised_dice,
    "gradient": lambda z, y, **o: through_softmax(*generalised_slopes(z, y, **o)),
    "scale": lambda z, y, **o: generalised_dice(z, y, **o) * reach(z),
    "gradient_scale": lambda z, y, **o: scaled(
        through_softmax(*generalised_slopes(z, y, **o), size=True), reach(z)
    ),
}

# --- Berman (2018), alg. 1 -------------------------------------------------------------------------


def jaccard_loss(wrong, inside):
    """Of a set of wrong pixels: one minus what is left of the set, over its union with them."""
    members = {i for i, b in enumerate(inside) if b}
    return 1 - mpf(len(members - wrong)) / len(members | wrong) if members | wrong else mpf(0)


def gains(errors, inside):
    """What each pixel adds to the Jaccard loss of those whose error is larger."""
    order = sorted(range(len(errors)), key=lambda i: (-errors[i], i))
    found, wrong = [mpf(0)] * len(errors), set()
    for i in order:
        found[i] = jaccard_loss(wrong | {i}, inside) - jaccard_loss(wrong, inside)
        wrong = wrong | {i}
    return found


def extension(errors, inside):
    return mp.fsum(max(e, 0) * g for e, g in zip(errors, gains(errors, inside), strict=True))


def closest(errors):
    """How far the nearest two errors are apart."""
    ordered = sorted(errors)
    apart = [b - a for a, b in itertools.pairwise(ordered)]
    return min((max(d, UNDECIDED) for d in apart), default=mp.inf)


def hinge_errors(z, y, where, ignore_index):
    mask = kept(y, where, ignore_index)
    pairs = [(a, b) for a, b, k in zip(flat(z), flat(y), mask, strict=True) if k]
    return [1 - a * (2 * b - 1) for a, b in pairs], [b for _, b in pairs], mask


def lovasz_hinge(z, y, where=None, ignore_index=None):
    return extension(*hinge_errors(z, y, where, ignore_index)[:2])


def lovasz_hinge_slope(z, y, where=None, ignore_index=None):
    errors, inside, mask = hinge_errors(z, y, where, ignore_index)
    steps = iter(
        -(2 * b - 1) * g * (e > 0) for b, g, e in zip(inside, gains(errors, inside), errors, strict=True)
    )
    return nested([next(steps) if keep else mpf(0) for keep in mask])


def lovasz_hinge_scale(z, y, where=None, ignore_index=None):
    # 1 − z is rounded at the size of its terms.
    errors, inside, _ = hinge_errors(z, y, where, ignore_index)
    sizes = [(1 + abs(1 - e)) * g for e, g in zip(errors, gains(errors, inside), strict=True)]
    return mp.fsum(a for a, e in zip(sizes, errors, strict=True) if e > 0)


def lovasz_hinge_kinks(z, y, where=None, ignore_index=None):
    errors, *_ = hinge_errors(z, y, where, ignore_index)
    wrong = [e for e in errors if e > mpf("-1e-2")]
    return min([closest(wrong), *(max(abs(e), UNDECIDED) for e in wrong)])


def class_errors(z, y, where, ignore_index):
    """For each class that is there: the errors and who belongs to it."""
    p, t, mask = read(z, y, where, ignore_index)
    found = {}
    for c in range(CLASSES):
        inside = [b[c] for b in t]
        if any(inside):
            found[c] = [1 - a[c] if b else a[c] for a, b in zip(p, inside, strict=True)], inside
    return found, p, mask


def lovasz_softmax(z, y, where=None, ignore_index=None):
    found, *_ = class_errors(z, y, where, ignore_index)
    return mp.fsum(extension(*pair) for pair in found.values()) / len(found) if found else mpf(0)


def lovasz_softmax_slopes(z, y, where, ignore_index):
    found, p, mask = class_errors(z, y, where, ignore_index)
    slopes = [[mpf(0)] * CLASSES for _ in p]
    for c, (errors, inside) in found.items():
        for i, g in enumerate(gains(errors, inside)):
            slopes[i][c] = (-g if inside[i] else g) / len(found)
    return slopes, p, mask


def lovasz_softmax_slope(z, y, where=None, ignore_index=None):
    return through_softmax(*lovasz_softmax_slopes(z, y, where, ignore_index))


def lovasz_softmax_slope_scale(z, y, where=None, ignore_index=None):
    slopes = lovasz_softmax_slopes(z, y, where, ignore_index)
    return scaled(through_softmax(*slopes, size=True), reach(z))


def lovasz_softmax_kinks(z, y, where=None, ignore_index=None):
    found, *_ = class_errors(z, y, where, ignore_index)
    return min([mp.inf, *(closest(errors) for errors, _ in found.values())])


# --- cases ----------------------------------------------------------------------------------------


def per_image(found):
    """Whether any pixel of an image is so."""
    return np.any(found.reshape(ROWS, -1), axis=-1)


def leads(z, y):
    return np.take_along_axis(z, y[..., None], -1)[..., 0] - np.sort(z, axis=-1)[..., -2]


def has_all(y):
    return np.all([per_image(y == c) for c in range(CLASSES)], axis=0)


HARD = {
    "right by 17": any_row(lambda z, y, **_: per_image(leads(z, y) > 13)),
    "wrong by 30": any_row(lambda z, y, **_: per_image(leads(z, y) < -25)),
    "an absent class": any_row(lambda z, y, **_: ~has_all(y)),
    "every class": any_row(lambda z, y, **_: has_all(y)),
}
MASKED = {"no pixel": any_row(lambda z, y, where, **_: ~per_image(where))}
FOREGROUND_HARD = {
    "an error of 0": any_row(lambda z, y, **_: per_image(z == 2 * y - 1)),
    "no foreground": any_row(lambda z, y, **_: ~per_image(y == 1)),
    "all foreground": any_row(lambda z, y, **_: ~per_image(y == 0)),
}
BAD_IDS = {"labels": (1, [[0, CLASSES], [1, 0]]), "negative labels": (1, [[0, 0], [-1, 0]])}
_HALF = [0.5, 0.5, 0.0]
BAD_SHARES = {"labels": (1, [[_HALF, _HALF], [_HALF, [0.5, 0.0, 0.0]]])}


def cases(
    name,
    formulas,
    options=None,
    option_gradients=None,
    *,
    draw=image_draws,
    ignore=IGNORE,
    hard=HARD,
    **fields,
) -> tuple[Case, ...]:
    """At default options; with all of them, of ids with pixels left out."""
    chosen = each(where=KEPT, ignore_index=ignore, **(options or {}))
    common = {"counted": counted, "item_ndim": 3, "mask_ndim": 2, "violations": BAD_IDS, **formulas, **fields}
    return (
        Case(name, draws=draw(), calm=draw(calm=True), hard=hard, **common),
        Case(
            f"{name}/options",
            draws=draw(chosen),
            calm=draw(chosen, calm=True),
            with_options=True,
            option_gradients={n: (option_gradients or {})[n] for n in options or {}},
            hard={**hard, **MASKED},
            **common,
        ),
    )


_DICE, _IN_DICE = tversky_like(mpf(1) / 2, mpf(1) / 2)
_JACCARD, _IN_JACCARD = tversky_like(mpf(1), mpf(1))
_FOCAL, _IN_FOCAL = tversky_like(mpf(0.3), mpf(0.7), mpf(4 / 3))

CASES: tuple[Case, ...] = (
    *cases("segmentation.dice", _DICE, {"class_weights": WEIGHTS, "smooth": SMOOTH}, _IN_DICE),
    Case(
        "segmentation.dice/distributions",
        draws=image_draws(soft=True),
        calm=image_draws(calm=True, soft=True),
        item_ndim=3,
        mask_ndim=2,
        with_options=True,
        hard={"soft": any_row(lambda z, t: per_image((t > 0) & (t < 1)))},
        violations=BAD_SHARES,
        **_DICE,
    ),
    *cases("segmentation.generalized_dice", GENERALISED),
    *cases(
        "segmentation.tversky",
        _DICE,
        {"alpha": PRICE, "beta": PRICE, "class_weights": WEIGHTS, "smooth": SMOOTH},
        _IN_DICE,
    ),
    *cases(
        "segmentation.focal_tversky",
        _FOCAL,
        {"alpha": PRICE, "beta": PRICE, "gamma": GAMMA, "class_weights": WEIGHTS, "smooth": SMOOTH},
        _IN_FOCAL,
    ),
    *cases("segmentation.jaccard", _JACCARD, {"class_weights": WEIGHTS, "smooth": SMOOTH}, _IN_JACCARD),
    *cases(
        "segmentation.lovasz_softmax",
        {
            "value": lovasz_softmax,
            "gradient": lovasz_softmax_slope,
            "scale": lambda z, y, **o: lovasz_softmax(z, y, **o) * reach(z),
            "gradient_scale": lovasz_softmax_slope_scale,
            "kinks": lovasz_softmax_kinks,
        },
    ),
    *cases(
        "segmentation.lovasz_hinge",
        {
            "value": lovasz_hinge,
            "gradient": lovasz_hinge_slope,
            "scale": lovasz_hinge_scale,
            "kinks": lovasz_hinge_kinks,
        },
        draw=foreground_draws,
        ignore=st.sampled_from([-1, 1]),
        item_ndim=2,
        mask_ndim=2,
        hard=FOREGROUND_HARD,
        violations={"labels": (1, [[0.0, 2.0], [1.0, 0.0]])},
    ),
)


# --- what decides the claims ------------------------------------------------------------------


def rows(logits, labels) -> Data:
    """One image for every row."""
    return tuple(np.broadcast_to(np.asarray(x), (ROWS, *np.shape(x))).copy() for x in (logits, labels))


def wrong_by(lead, count=1000):
    """An image of the first class, taken for the second."""
    return rows(np.broadcast_to([0.0, float(lead)], (count, 2)), np.zeros(count, int))


_NEVER_ALL = {"convex": (wrong_by(1.0), wrong_by(40.0))}
EVIDENCE = {
    f"segmentation.{name}": Evidence(attained={"bounded": wrong_by(60)}, refuted_by=_NEVER_ALL)
    for name in ("dice", "generalized_dice", "tversky", "focal_tversky", "jaccard")
}

# Two pixels that are none of the first class, equally near to it but for a hair; a third is all but right.
_TIE = np.array([[0.0, 0.0], [1e-9, 0.0], [9.0, 0.0]])
_FAR = np.array([1e6, 0.0, 0.0])
EVIDENCE |= {
    "segmentation.lovasz_hinge": Evidence(
        attained={"lipschitz": rows([0.0, -5.0, -5.0], [0.0, 0.0, 0.0])},
        refuted_by={
            "symmetric": rows([0.5, 0.0, 0.2], [1.0, 0.0, 0.0]),
            "smooth": (rows([0.0, 1e-9], [0.0, 0.0]), rows([1e-9, 0.0], [0.0, 0.0])),
            "bounded": rows(_FAR, [0.0, 0.0, 0.0]),
        },
    ),
    "segmentation.lovasz_softmax": Evidence(
        attained={"bounded": wrong_by(60, 3), "lipschitz": rows([[0.0, 0.0]], [0])},
        refuted_by={
            "convex": (wrong_by(1.0, 3), wrong_by(40.0, 3)),
            "smooth": (rows(_TIE, [1, 1, 0]), rows(_TIE[[1, 0, 2]], [1, 1, 0])),
        },
    ),
}
