"""Divergences by hand: Shannon (1948), Kullback & Leibler (1951), Bregman (1967), Lin (1991)."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mpmath import mp

from oracles._case import ROWS, Case, Evidence, any_row, each, floats, number, one_each, sign
from oracles.categorical import (
    CLASSES,
    FLAT,
    SHARP,
    TWO,
    UNIFORM,
    costs,
    distributions,
    dot,
    gaps,
    ids,
    log_probable,
    logits,
    one_hot,
    row,
    softmax,
)


@st.composite
def pairs(draw, calm=False):
    """Two distributions, the first positive where the second is: elsewhere the loss is ∞."""
    (logs, targets), _ = draw(log_probable(distributions(awkward=not calm), calm=calm))
    return (np.exp(logs), targets), {}


def _entropy(p, t):
    return dot(t, [-mp.log(a) if a else mp.inf for a in p])


def _kl(s, t):
    return dot(t, [(mp.log(b) if b else 0) - a for a, b in zip(s, t, strict=True)])


def _kl_scale(s, t):
    # The entropy and the cross-entropy, which the divergence is the difference of.
    return dot(t, [(abs(mp.log(b)) if b else 0) + abs(a) for a, b in zip(s, t, strict=True)])


def log(x):
    return mp.log(x) if x else mp.mpf("-inf")


def each_class(formula):
    """A formula of one class's log p and t, for every class of a row."""
    return lambda s, t, **options: [formula(a, b, **options) for a, b in zip(s, t, strict=True)]


def summed(formula):
    return lambda s, t, **options: mp.fsum(formula(a, b, **options) for a, b in zip(s, t, strict=True))


def _times_log_ratio(x, log_x, log_y):
    """x (log x − log y), 0 where x = 0."""
    return x * (log_x - log_y) if x else mp.mpf(0)


def _log_targets(s, u):
    return _times_log_ratio(mp.exp(u), u, s)


def _in_log_targets(s, u):
    return mp.exp(u) * (u - s + 1) if u != mp.mpf("-inf") else 0


def _reverse(s, t):
    return _times_log_ratio(mp.exp(s), s, log(t))


def _reverse_size(s, t):
    return mp.exp(s) * (abs(s) + abs(log(t))) if s != mp.mpf("-inf") else mp.mpf(0)


def _reverse_slope(s, t):
    return mp.exp(s) * (s - log(t) + 1) if s != mp.mpf("-inf") else 0


def _reverse_slope_size(s, t):
    return _reverse_size(s, t) + mp.exp(s)


def _generalized(s, t):
    return _times_log_ratio(t, log(t), s) - t + mp.exp(s)


def _generalized_size(s, t):
    # log t is rounded once, and so is e^s: what that can change is p − t times as much.
    return _generalized(s, t) + abs(mp.exp(s) - t) * (1 + (abs(log(t)) if t else 0))


def _mixed(s, t, beta):
    return mp.exp(s), beta * t + (1 - beta) * mp.exp(s)


def _jensen(s, t, beta=0.5):
    p, m = _mixed(s, t, beta)
    return beta * _times_log_ratio(t, log(t), log(m)) + (1 - beta) * _times_log_ratio(p, s, log(m))


def _jensen_slope(s, t, beta=0.5):
    p, m = _mixed(s, t, beta)
    return (1 - beta) * _times_log_ratio(p, s, log(m))


def _jensen_in_beta(s, t, beta):
    p, m = _mixed(s, t, beta)
    return _times_log_ratio(t, log(t), log(m)) - _times_log_ratio(p, s, log(m)) - t + p


def _jensen_size(s, t, beta=0.5):
    # e^s is rounded once: what that can change is the derivative in s.
    return abs(_jensen(s, t, beta)) + abs(_jensen_slope(s, t, beta))


def _jensen_slope_size(s, t, beta=0.5):
    p, m = _mixed(s, t, beta)
    return abs(_jensen_slope(s, t, beta)) + ((1 - beta) * p * beta * t / m if p else 0)


def _to_equality(s, t):
    # At p = t exactly (both 0, both 1) every float knows it: another class decides.
    distances = [abs(mp.exp(a) - b) for a, b in zip(s, t, strict=True)]
    return min((distance for distance in distances if distance), default=mp.inf)


def _roots(s, t):
    return mp.exp(s / 2), mp.sqrt(t)


def _hellinger(s, t):
    a, b = _roots(s, t)
    return (a - b) ** 2 / 2


def _hellinger_slope(s, t):
    a, b = _roots(s, t)
    return a * (a - b) / 2


def _hellinger_size(s, t):
    a, b = _roots(s, t)
    return (a - b) ** 2 / 2 + abs(a - b) * (a + b)


def _expected(s, t):
    """The classes a target expects: where, log p and t as a share."""
    total = mp.fsum(t)
    return [(i, a, b / total, mp.log(b)) for i, (a, b) in enumerate(zip(s, t, strict=True)) if b]


def _renyi(s, t, alpha=0.5):
    if alpha == 1:
        return mp.fsum(share * (log_t - a) for _, a, share, log_t in _expected(s, t))
    affinity = mp.fsum(share * mp.exp((alpha - 1) * (log_t - a)) for _, a, share, log_t in _expected(s, t))
    return mp.log(affinity) / (alpha - 1) if affinity else mp.inf


def _renyi_weights(s, t, alpha=0.5):
    parts = [mp.mpf(0)] * len(t)
    for i, a, share, log_t in _expected(s, t):
        parts[i] = share * mp.exp((alpha - 1) * (log_t - a))
    return [part / mp.fsum(parts) for part in parts]


def _renyi_slope(s, t, alpha=0.5):
    return [-weight for weight in _renyi_weights(s, t, alpha)]


def _renyi_in_targets(s, t, alpha=0.5):
    loss = _renyi(s, t, alpha)

    def slope(a, b):
        if not b and a > -mp.inf:  # its weight is of a higher order for alpha > 1, of a lower one below
            return -1 / (alpha - 1) if alpha > 1 else -mp.inf
        distance = (mp.log(b) - a if b else 0) - loss
        if alpha == 1:
            return distance + 1
        return (alpha * mp.exp((alpha - 1) * distance) - 1) / (alpha - 1)

    return [slope(a, b) for a, b in zip(s, t, strict=True)]


def _renyi_in_alpha(s, t, alpha):
    weights, gaps = _renyi_weights(s, t, alpha), {i: log_t - a for i, a, _, log_t in _expected(s, t)}
    mean = mp.fsum(weights[i] * gap for i, gap in gaps.items())
    if alpha == 1:
        return mp.fsum(weights[i] * (gap - mean) ** 2 for i, gap in gaps.items()) / 2
    return (mean - _renyi(s, t, alpha)) / (alpha - 1)


def _renyi_size(s, t, alpha=0.5):
    # What the weights' mean of |log t| and |log p| is, to which roundings of both are relative.
    weights = _renyi_weights(s, t, alpha)
    return mp.fsum(weights[i] * (1 + abs(a) + abs(log_t)) for i, a, _, log_t in _expected(s, t))


def _renyi_slope_size(s, t, alpha=0.5):
    weights, size = _renyi_weights(s, t, alpha), _renyi_size(s, t, alpha)
    sizes = [mp.mpf(0)] * len(t)
    for i, a, _, log_t in _expected(s, t):
        sizes[i] = weights[i] * (1 + (1 + abs(alpha - 1)) * (size + abs(a) + abs(log_t)))
    return sizes


def _mixed_power(p, t, alpha):
    """t^α p^(1−α), also where one of them is 0."""
    if p and t:
        return mp.exp(alpha * mp.log(t) + (1 - alpha) * mp.log(p))
    return mp.inf if (p and alpha < 0) or (t and alpha > 1) else 0


def _power(s, t, alpha=0.5):
    p = mp.exp(s)
    if alpha == 1:
        return _times_log_ratio(t, log(t), s) - t + p
    if alpha == 0:
        return _times_log_ratio(p, s, log(t)) - p + t
    return (alpha * t + (1 - alpha) * p - _mixed_power(p, t, alpha)) / (alpha * (1 - alpha))


def _power_slope(s, t, alpha=0.5):
    p = mp.exp(s)
    return _times_log_ratio(p, s, log(t)) if alpha == 0 else (p - _mixed_power(p, t, alpha)) / alpha


def _power_in_alpha(s, t, alpha):
    # A difference with a step far below its digits: the formula has a gap at 0 and at 1.
    step = mp.mpf(10) ** -20
    return (_power(s, t, alpha + step) - _power(s, t, alpha - step)) / (2 * step)


def _power_size(s, t, alpha=0.5):
    # e^s is rounded once: what that can change is the derivative in s.
    rounding = (1 + abs(s)) * abs(_power_slope(s, t, alpha)) if s > -mp.inf else 0
    return abs(_power(s, t, alpha)) + rounding


def _power_slope_size(s, t, alpha=0.5):
    if s == -mp.inf:
        return abs(_power_slope(s, t, alpha))
    p, slope = mp.exp(s), abs(_power_slope(s, t, alpha))
    return slope + (1 + abs(alpha)) * (1 + abs(s)) * (p + abs(alpha) * slope)


def _gaussian(m, v, prior_mean=(0,) * CLASSES, prior_log_variance=(0,) * CLASSES):
    return mp.fsum(
        (mp.exp(b - w) - 1 - (b - w) + (a - e) ** 2 * mp.exp(-w)) / 2
        for a, b, e, w in zip(m, v, prior_mean, prior_log_variance, strict=True)
    )


def _gaussian_slope(m, v, prior_mean=(0,) * CLASSES, prior_log_variance=(0,) * CLASSES):
    return [(a - e) * mp.exp(-w) for a, e, w in zip(m, prior_mean, prior_log_variance, strict=True)]


def _gaussian_in_variance(m, v, prior_mean=(0,) * CLASSES, prior_log_variance=(0,) * CLASSES):
    return [(mp.exp(b - w) - 1) / 2 for b, w in zip(v, prior_log_variance, strict=True)]


def _gaussian_in_prior_variance(m, v, prior_mean, prior_log_variance):
    return [
        -(mp.exp(b - w) - 1) / 2 - (a - e) ** 2 * mp.exp(-w) / 2
        for a, b, e, w in zip(m, v, prior_mean, prior_log_variance, strict=True)
    ]


def _softened(s, r, temperature):
    """p, q and their logarithms' negatives at the temperature."""
    s, r = ([a / temperature for a in z] for z in (s, r))
    return softmax(s), softmax(r), costs(s), costs(r)


def _soft(s, r, temperature=1):
    _, q, of_p, of_q = _softened(s, r, temperature)
    return temperature**2 * mp.fsum(a * (x - y) for a, x, y in zip(q, of_p, of_q, strict=True) if a)


def _distilled(s, r, y=None, temperature=1, alpha=1):
    hard = (1 - alpha) * dot(one_hot(y), costs(s)) if y is not None else 0
    return alpha * _soft(s, r, temperature) + hard


def _distilled_slope(s, r, y=None, temperature=1, alpha=1):
    p, q, *_ = _softened(s, r, temperature)
    hard = [a - b for a, b in zip(softmax(s), one_hot(y), strict=True)] if y is not None else [0] * CLASSES
    return [alpha * temperature * (a - b) + (1 - alpha) * h for a, b, h in zip(p, q, hard, strict=True)]


def _in_teacher(s, r, y=None, temperature=1, alpha=1):
    _, q, of_p, of_q = _softened(s, r, temperature)
    mean = _soft(s, r, temperature) / temperature**2
    return [
        alpha * temperature * a * (x - z - mean) if a else 0 for a, x, z in zip(q, of_p, of_q, strict=True)
    ]


def _in_temperature(s, r, y=None, temperature=1, alpha=1):
    moved = dot(_distilled_slope(s, r, None, temperature, 1), s) + dot(
        _in_teacher(s, r, None, temperature), r
    )
    return alpha * (2 * _soft(s, r, temperature) - moved) / temperature


def _in_alpha(s, r, y=None, temperature=1, alpha=1):
    return _soft(s, r, temperature) - (dot(one_hot(y), costs(s)) if y is not None else 0)


def _rounded_shares(z):
    """What a rounding of each gap between logits makes of a share."""
    p, distance = softmax(z), gaps(z)
    mean = dot(p, distance)
    return [a * (1 + gap + mean) for a, gap in zip(p, distance, strict=True)]


def _distilled_size(s, r, y=None, temperature=1, alpha=1):
    # The entropy and the cross-entropy, which the divergence is the difference of.
    _, _, of_p, of_q = _softened(s, r, temperature)
    shares = _rounded_shares([a / temperature for a in r])
    far = mp.fsum(_rounded_shares([a / temperature for a in s]))
    soft = far + mp.fsum(a * (x + z) for a, x, z in zip(shares, of_p, of_q, strict=True))
    hard = dot(one_hot(y), costs(s)) + mp.fsum(_rounded_shares(s)) if y is not None else 0
    return alpha * temperature**2 * soft + (1 - alpha) * hard


def _distilled_slope_size(s, r, y=None, temperature=1, alpha=1):
    soft = zip(*(_rounded_shares([a / temperature for a in z]) for z in (s, r)), strict=True)
    hard = _rounded_shares(s)
    label = one_hot(y) if y is not None else [0] * CLASSES
    return [
        alpha * temperature * (a + b) + (1 - alpha) * (c + d)
        for (a, b), c, d in zip(soft, hard, label, strict=True)
    ]


@st.composite
def log_pairs(draw, calm=False):
    """Two distributions as logarithms."""
    (logs, targets), _ = draw(log_probable(distributions(awkward=not calm), calm=calm))
    with np.errstate(divide="ignore"):
        return (logs, np.log(targets)), {}


@st.composite
def supported(draw, calm=False):
    """Log p and t, the second positive where the first is: elsewhere the loss is ∞."""
    (logs, targets), _ = draw(log_probable(distributions(awkward=not calm), calm=calm))
    with np.errstate(divide="ignore"):
        return (np.log(targets), np.exp(logs)), {}


@st.composite
def apart(draw, options=None, calm=False):
    """Two distributions that may rule out what the other expects, or be the same."""
    chosen = draw(options) if options is not None else {}
    first, targets = draw(distributions(awkward=not calm)), draw(distributions(awkward=not calm))
    same = draw(one_each(st.sampled_from([False, False, not calm]), dtype=np.bool_))[:, None]
    first = np.where(same, targets, first)
    if chosen:
        # The derivative by an option is a difference of squares: where log p is p only to a rounding of it,
        # none of its digits is known. Both exact, or apart.
        close = np.max(np.abs(first - targets), axis=-1, keepdims=True) < 1e-6
        first = np.where(close, np.eye(CLASSES)[0], first)
    with np.errstate(divide="ignore"):
        return (np.log(first), targets), chosen


@st.composite
def orders(draw, *awkward, low=0.0, high=0.0, calm=False):
    """Two distributions that expect the same classes or rather more, or all but the same; and an order."""
    chosen = {"alpha": draw(number(*awkward, low=low, high=high))} if awkward else {}
    floor = 0.01 if calm or low < 0 else 0.0
    targets = draw(distributions(awkward=not calm)) + floor
    targets /= targets.sum(axis=-1, keepdims=True)
    (logs, targets), _ = draw(log_probable(st.just(targets), calm=calm or low < 0))
    same = draw(one_each(st.sampled_from([False, False, not (calm or chosen)]), dtype=np.bool_))[:, None]
    with np.errstate(divide="ignore"):
        return (np.where(same, np.log(targets), logs), targets), chosen


@st.composite
def measures(draw, calm=False):
    """Logarithms of any positive numbers, and numbers that need not sum to 1."""
    if calm:
        return (draw(one_each(floats(-2, 2), CLASSES)), draw(one_each(floats(0.2, 3), CLASSES))), {}
    targets = draw(one_each(st.sampled_from([0.0, 1.0, 1e-6]) | floats(0.01, 50), CLASSES))
    same = draw(one_each(st.sampled_from([False, False, True]), CLASSES, dtype=np.bool_)) & (targets > 0)
    logs = draw(one_each(st.sampled_from([0.0, -60.0, 20.0]) | floats(-5, 5), CLASSES))
    return (np.where(same, np.log(np.where(same, targets, 1.0)), logs), targets), {}


@st.composite
def gaussians(draw, options=None, calm=False):
    chosen = draw(options) if options is not None else {}
    if calm:
        return (draw(one_each(floats(-2, 2), CLASSES)), draw(one_each(floats(-1, 1), CLASSES))), chosen
    means = draw(one_each(st.sampled_from([0.0, 1e3]) | floats(-5, 5), CLASSES))
    variances = st.sampled_from([0.0, 1e-6, -1e-6, 20.0, -60.0]) | floats(-3, 3)
    return (means, draw(one_each(variances, CLASSES))), chosen


def _prior(*awkward):
    return arrays(
        np.float64, (CLASSES,), elements=st.sampled_from(awkward) | floats(-2, 2), fill=st.nothing()
    )


@st.composite
def students(draw, labels=None, options=None, calm=False):
    """Logits of a student and a teacher who may agree, or differ widely."""
    chosen = draw(options) if options is not None else {}
    if calm:
        both = draw(one_each(floats(-2, 2), CLASSES)), draw(one_each(floats(-2, 2), CLASSES))
    else:
        anything = np.ones((ROWS, CLASSES))
        student, teacher = draw(logits(anything, False)), draw(logits(anything, False))
        same = draw(one_each(st.sampled_from([False, False, True]), dtype=np.bool_))[:, None]
        both = np.where(same, teacher, student), teacher
    return (both if labels is None else (*both, draw(labels))), chosen


HARD = {
    "class that neither expects": any_row(lambda p, t: np.any((t == 0) & (np.exp(p) <= 1), axis=-1)),
    "one-hot": any_row(lambda p, t: np.max(t, axis=-1) == 1),
}
TWICE = [0.4] * CLASSES
BAD_TARGETS = {"targets": (1, TWICE), "negative targets": (1, [1.5, -0.5, 0.0, 0.0, 0.0])}

CASES = (
    Case(
        "divergence.cross_entropy",
        value=_entropy,
        gradient=lambda p, t: [-b / a if b else 0 for a, b in zip(p, t, strict=True)],
        # log p next to p = 1 is as exact as p: the sum's largest term sets the scale.
        draws=pairs(),
        calm=pairs(calm=True),
        item_ndim=1,
        hard={**HARD, "zero probability": any_row(lambda p, t: np.any(p == 0, axis=-1))},
        violations={"predictions": (0, TWICE), **BAD_TARGETS},
    ),
    Case(
        "divergence.kl",
        value=_kl,
        gradient=lambda s, t: [-b for b in t],
        scale=_kl_scale,
        draws=log_probable(distributions()),
        calm=log_probable(distributions(awkward=False), calm=True),
        item_ndim=1,
        hard={**HARD, "zero probability": any_row(lambda s, t: np.any(s == -np.inf, axis=-1))},
        violations={"log_predictions": (0, [0.0] * CLASSES), **BAD_TARGETS},
    ),
)

BAD_LOGS = {"log_predictions": (0, [0.0] * CLASSES)}
SAME = any_row(lambda s, t, **_: np.all(np.abs(np.exp(s) - t) < 1e-15, axis=-1))
RULED_OUT = {
    "ruled out by p": any_row(lambda s, t, **_: np.any((s == -np.inf) & (t > 0), axis=-1)),
    "ruled out by t": any_row(lambda s, t, **_: np.any((s > -np.inf) & (t == 0), axis=-1)),
    "the same": SAME,
}
BETA = number(0.5, 0.1, low=0.01, high=0.99)


def of_pairs(name, value, slope, size, slope_size, options=None, **fields):
    """A divergence that is finite whatever its distributions are."""
    return Case(
        name,
        value=summed(value),
        gradient=each_class(slope),
        scale=summed(size),
        gradient_scale=each_class(slope_size),
        draws=apart(options),
        calm=apart(options, calm=True),
        item_ndim=1,
        with_options=options is not None,
        hard=RULED_OUT,
        violations={**BAD_LOGS, **BAD_TARGETS},
        **fields,
    )


POWER = (_power, _power_slope, _power_size, _power_slope_size)
JENSEN = (_jensen, _jensen_slope, _jensen_size, _jensen_slope_size)
PRIOR = each(prior_mean=_prior(0.0, 10.0), prior_log_variance=_prior(0.0, 20.0, -20.0))
HEATED = each(temperature=number(1.0, 2.0, low=0.5, high=8.0), alpha=number(0.0, 0.5, 1.0, low=0.0, high=1.0))
STUDENTS_HARD = {
    "the same": any_row(lambda s, r, *_, **__: np.all(s == r, axis=-1)),
    "offset of 1e4": any_row(lambda s, r, *_, **__: np.max(s, axis=-1) > 9e3),
    "of other opinion": any_row(
        lambda s, r, *_, **__: (
            np.abs((s - s.max(-1, keepdims=True)) - (r - r.max(-1, keepdims=True))).max(-1) > 70
        )
    ),
}
DISTILLED = {
    "value": _distilled,
    "gradient": _distilled_slope,
    "scale": _distilled_size,
    "gradient_scale": _distilled_slope_size,
    "more_gradients": {1: _in_teacher},
    "item_ndim": 1,
    "hard": STUDENTS_HARD,
}

CASES += (
    Case(
        "divergence.kl_log_targets",
        value=summed(_log_targets),
        gradient=each_class(lambda s, u: -mp.exp(u)),
        scale=summed(lambda s, u: abs(_log_targets(s, u))),
        more_gradients={1: each_class(_in_log_targets)},
        draws=log_pairs(),
        calm=log_pairs(calm=True),
        item_ndim=1,
        hard={"neither expects": any_row(lambda s, u: np.any((s == -np.inf) & (u == -np.inf), axis=-1))},
        violations={**BAD_LOGS, "log_targets": (1, [0.0] * CLASSES)},
    ),
    Case(
        "divergence.reverse_kl",
        value=summed(_reverse),
        gradient=each_class(_reverse_slope),
        scale=summed(_reverse_size),
        gradient_scale=each_class(_reverse_slope_size),
        more_gradients={1: each_class(lambda s, t: -mp.exp(s) / t if mp.exp(s) else 0)},
        draws=supported(),
        calm=supported(calm=True),
        item_ndim=1,
        hard={"neither expects": any_row(lambda s, t: np.any((s == -np.inf) & (t == 0), axis=-1))},
        violations={**BAD_LOGS, **BAD_TARGETS},
    ),
    Case(
        "divergence.generalized_kl",
        value=summed(_generalized),
        gradient=each_class(lambda s, t: mp.exp(s) - t),
        scale=summed(_generalized_size),
        gradient_scale=each_class(lambda s, t: mp.exp(s) + t),
        quadratic=True,
        draws=measures(),
        calm=measures(calm=True),
        item_ndim=1,
        hard={
            "no target": any_row(lambda s, t: np.any(t == 0, axis=-1)),
            "all but the same": any_row(lambda s, t: np.any(np.abs(np.exp(s) - t) < 1e-12, axis=-1)),
        },
        violations={"targets": (1, [0.4, -0.4, 0.5, 0.5, 0.0])},
    ),
    of_pairs("divergence.jensen_shannon", *JENSEN, quadratic=True),
    of_pairs(
        "divergence.jensen_shannon/with beta",
        *JENSEN,
        each(beta=BETA),
        quadratic=True,
        option_gradients={"beta": summed(_jensen_in_beta)},
    ),
    of_pairs(
        "divergence.total_variation",
        lambda s, t: abs(mp.exp(s) - t) / 2,
        lambda s, t: mp.exp(s) * sign(mp.exp(s) - t) / 2,
        lambda s, t: (abs(mp.exp(s) - t) + mp.exp(s)) / 2,
        lambda s, t: mp.exp(s) / 2,
        kinks=_to_equality,
    ),
    of_pairs(
        "divergence.hellinger",
        _hellinger,
        _hellinger_slope,
        _hellinger_size,
        lambda s, t: sum(_roots(s, t)) * mp.exp(s / 2) / 2,
        quadratic=True,
    ),
    of_pairs("divergence.alpha", *POWER, quadratic=True),
    of_pairs(
        "divergence.alpha/with alpha",
        *POWER,
        each(alpha=number(0.5, 0.999, 0.001, low=0.1, high=0.9)),
        quadratic=True,
        option_gradients={"alpha": summed(_power_in_alpha)},
    ),
    Case(
        "divergence.alpha/beyond",
        value=summed(_power),
        gradient=each_class(_power_slope),
        scale=summed(_power_size),
        gradient_scale=each_class(_power_slope_size),
        quadratic=True,
        draws=orders(-1.0, 0.0, 1.0, 2.0, low=-2.0, high=3.0),
        calm=orders(-1.0, 0.0, 1.0, 2.0, low=-2.0, high=3.0, calm=True),
        option_gradients={"alpha": summed(_power_in_alpha)},
        item_ndim=1,
        with_options=True,
        hard={
            "reverse": lambda data, options: options["alpha"] == 0,
            "forward": lambda data, options: options["alpha"] == 1,
        },
    ),
    *(
        Case(
            f"divergence.renyi{'/with alpha' * with_alpha}",
            value=_renyi,
            gradient=_renyi_slope,
            scale=_renyi_size,
            gradient_scale=_renyi_slope_size,
            more_gradients={1: _renyi_in_targets},
            option_gradients={"alpha": _renyi_in_alpha} if with_alpha else {},
            draws=orders(1.0, 2.0, 0.5, 1 + 1e-9, low=0.05, high=4.0) if with_alpha else orders(),
            calm=orders(1.0, 2.0, 0.5, low=0.2, high=3.0, calm=True) if with_alpha else orders(calm=True),
            item_ndim=1,
            with_options=with_alpha,
            hard={
                "the same": SAME,
                "unexpected": any_row(lambda s, t, **_: np.any((t == 0) & (s > -np.inf), axis=-1)),
                **({"forward": lambda data, options: options["alpha"] == 1} if with_alpha else {}),
            },
            violations={**BAD_LOGS, **BAD_TARGETS},
        )
        for with_alpha in (False, True)
    ),
    *(
        Case(
            f"divergence.gaussian_kl{'/with a prior' * (prior is not None)}",
            value=_gaussian,
            gradient=_gaussian_slope,
            more_gradients={1: _gaussian_in_variance},
            option_gradients={}
            if prior is None
            else {
                "prior_mean": lambda *data, **options: [-a for a in _gaussian_slope(*data, **options)],
                "prior_log_variance": _gaussian_in_prior_variance,
            },
            draws=gaussians(prior),
            calm=gaussians(prior, calm=True),
            item_ndim=1,
            with_options=prior is not None,
            hard={"the prior, almost": any_row(lambda m, v, **_: np.any(np.abs(v) == 1e-6, axis=-1))},
        )
        for prior in (None, PRIOR)
    ),
    Case("divergence.distillation", draws=students(), calm=students(calm=True), **DISTILLED),
    Case(
        "divergence.distillation/with labels",
        draws=students(ids(), HEATED),
        calm=students(ids(), HEATED, calm=True),
        option_gradients={"temperature": _in_temperature, "alpha": _in_alpha},
        with_options=True,
        violations={"labels": (2, CLASSES), "negative labels": (2, -1)},
        **DISTILLED,
    ),
)

TINY = [1e-9, 0.25, 0.25, 0.25, 0.25 - 1e-9]
TINIER = [1e-10, 0.25, 0.25, 0.25, 0.25 - 1e-10]
ONE = [1.0, 0.0, 0.0, 0.0, 0.0]
EVIDENCE = {
    "divergence.cross_entropy": Evidence(
        refuted_by={
            "zero_at_target": row(UNIFORM, UNIFORM),
            "symmetric": row(np.exp(SHARP), UNIFORM),
            "lipschitz": row(TINY, ONE),
            "smooth": (row(TINY, ONE), row(TINIER, ONE)),
            "bounded": row([0.0, 0.25, 0.25, 0.25, 0.25], ONE),
            "shift_invariant": (row(UNIFORM, UNIFORM), 0.1),
        }
    ),
    "divergence.kl": Evidence(
        attained={"lipschitz": row(SHARP, ONE), "smooth": (row(SHARP, ONE), row(np.log(UNIFORM), ONE))},
        refuted_by={
            "symmetric": row(SHARP, UNIFORM),
            "bounded": row([-1e6, *np.log([0.25] * 4)], ONE),
            "shift_invariant": (row(np.log(UNIFORM), UNIFORM), 0.1),
        },
    ),
}
FAR = [-800.0] * (CLASSES - 1)
OTHER_ONE = [0.0, 1.0, 0.0, 0.0, 0.0]
SHIFT = {"shift_invariant": (row(np.log(UNIFORM), UNIFORM), 0.1)}
# A class of which p has far too little: there each is concave in log p, between two distributions so close
# that what lies between them is one as well, to the slack allowed.
LITTLE, LESS = [0.021, 0.978, *[1e-3 / 3] * 3], [0.001, 0.998, *[1e-3 / 3] * 3]
EXPECTED = [0.9, 0.1 - 1e-3, *[1e-3 / 3] * 3]
RISES = (row(np.log(LITTLE), EXPECTED), row(np.log(LESS), EXPECTED))
MEASURED = np.random.default_rng(5).dirichlet([0.5] * CLASSES, 11)
DISJOINT = row([0.0, *FAR], OTHER_ONE)
HALVES, LOG_HALVES = [0.5, 0.5, 0.0, 0.0, 0.0], [*np.log([0.5, 0.5]), *FAR[1:]]
ALMOST_HALVES = [*np.log([0.5 + 1e-4, 0.5 - 1e-4]), *FAR[1:]]
ONE_STEP = (row([0.0, *FAR], OTHER_ONE), row([-1e-4, *FAR], OTHER_ONE))

EVIDENCE |= {
    "divergence.kl_log_targets": Evidence(
        attained={
            "lipschitz": row(SHARP, [0.0, *FAR]),
            "smooth": (row(SHARP, [0.0, *FAR]), row(np.log(UNIFORM), [0.0, *FAR])),
        },
        refuted_by={
            "symmetric": row(SHARP, np.log(UNIFORM)),
            "bounded": row([-1e6, *np.log([0.25] * 4)], [0.0, *FAR]),
            "shift_invariant": (row(np.log(UNIFORM), np.log(UNIFORM)), 0.1),
        },
    ),
    "divergence.reverse_kl": Evidence(
        refuted_by={
            "symmetric": row(SHARP, UNIFORM),
            "convex": RISES,
            "lipschitz": row(np.log(UNIFORM), OTHER_ONE),
            "smooth": (row(np.log(UNIFORM), OTHER_ONE), row([-800.0, 0.0, *FAR[1:]], OTHER_ONE)),
            "bounded": row(np.log(UNIFORM), OTHER_ONE),
            **SHIFT,
        },
        sample=MEASURED,
    ),
    "divergence.generalized_kl": Evidence(
        refuted_by={
            "symmetric": row(SHARP, UNIFORM),
            "lipschitz": row([10.0, *FAR], UNIFORM),
            "smooth": (row([20.0, *FAR], UNIFORM), row([20.1, *FAR], UNIFORM)),
            "bounded": row([10.0, *FAR], UNIFORM),
            "shift_invariant": (row(np.log(UNIFORM), UNIFORM), 0.1),
        },
    ),
    "divergence.jensen_shannon": Evidence(
        attained={"lipschitz": DISJOINT, "smooth": ONE_STEP, "bounded": DISJOINT},
        refuted_by={"convex": RISES, **SHIFT},
        sample=MEASURED,
    ),
    "divergence.total_variation": Evidence(
        attained={"lipschitz": DISJOINT, "bounded": DISJOINT},
        refuted_by={
            "convex": RISES,
            "smooth": (
                row(np.log([0.2 + 1e-9, *UNIFORM[1:]]), UNIFORM),
                row(np.log([0.2 - 1e-9, *UNIFORM[1:]]), UNIFORM),
            ),
            **SHIFT,
        },
        sample=MEASURED,
    ),
    "divergence.hellinger": Evidence(
        attained={"lipschitz": DISJOINT, "smooth": ONE_STEP, "bounded": DISJOINT},
        refuted_by={"convex": RISES, **SHIFT},
        sample=MEASURED,
    ),
    "divergence.renyi": Evidence(
        attained={
            "lipschitz": row(SHARP, ONE),
            "smooth": (row(ALMOST_HALVES, HALVES), row(LOG_HALVES, HALVES)),
        },
        refuted_by={"convex": RISES, "bounded": row([0.0, *[-1e4] * 4], OTHER_ONE), **SHIFT},
        sample=MEASURED,
    ),
    "divergence.alpha": Evidence(
        attained={"lipschitz": DISJOINT, "smooth": ONE_STEP, "bounded": DISJOINT},
        refuted_by={"convex": RISES, **SHIFT},
        sample=MEASURED,
    ),
    "divergence.gaussian_kl": Evidence(
        attained={"smooth": (row([1.0, *FLAT[1:]], FLAT), row([0.0, *FLAT[1:]], FLAT))},
        refuted_by={"lipschitz": row([1e4, *FLAT[1:]], FLAT), "bounded": row([1e4, *FLAT[1:]], FLAT)},
    ),
    "divergence.distillation": Evidence(
        attained={
            "lipschitz": row([0.0, 40.0, *TWO], [40.0, 0.0, *TWO]),
            "smooth": (row([1e-3, 0.0, *TWO], FLAT), row([0.0, 1e-3, *TWO], FLAT)),
        },
        refuted_by={"bounded": row([0.0, 1e6, *TWO], [1e6, 0.0, *TWO])},
    ),
}
