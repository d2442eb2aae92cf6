"""Tilted losses by hand: Koenker & Bassett (1978), sec. 3; Dabney et al. (2018); Newey & Powell (1987)."""

import functools

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mpmath import mpf

from oracles._case import ROWS, Case, Evidence, any_row, each, floats, number, one_each, sign
from oracles.regression import BENT, HARD, SAMPLE, at_zero, calm_draws, residual_case, residual_draws, rows
from oracles.robust import POSITIVE, huber, huber_slope

HALF = mpf(1) / 2


def pinball(p, t, quantile=HALF):
    return quantile * (t - p) if t > p else (1 - quantile) * (p - t)


def slope(p, t, quantile=HALF):
    return {-1: -quantile, 0: mpf(0), 1: 1 - quantile}[sign(p - t)]


def tilt(p, t, level):
    return level if t > p else 1 - level


def tilted_huber(p, t, quantile=HALF, delta=1):
    return tilt(p, t, quantile) * huber(p, t, delta)


def tilted_huber_slope(p, t, quantile=HALF, delta=1):
    return tilt(p, t, quantile) * huber_slope(p, t, delta)


def tilted_square(p, t, expectile=HALF):
    return tilt(p, t, expectile) * (p - t) ** 2


def tilted_square_slope(p, t, expectile=HALF):
    return tilt(p, t, expectile) * 2 * (p - t)


def bends(p, t, delta=1, **_):
    # Second derivatives jump where the prediction passes the target, and delta away from it.
    return min(abs(p - t), abs(abs(p - t) - delta))


# --- Winkler (1972); Gneiting & Raftery (2007), eq. 43 --------------------------------------------


def winkler(low, high, t, alpha=mpf(0.05)):
    return high - low + 2 / alpha * (max(low - t, 0) + max(t - high, 0))


def winkler_scale(low, high, t, alpha=mpf(0.05)):
    # Ends that have changed places: their distance is taken off a penalty for it. And each difference
    # is rounded before the others are added.
    return abs(high - low) + winkler(low, high, t, alpha)


def in_lower(low, high, t, alpha=mpf(0.05)):
    return -1 + (2 / alpha if t < low else 0)


def in_upper(low, high, t, alpha=mpf(0.05)):
    return 1 - (2 / alpha if t > high else 0)


def in_target(low, high, t, alpha=mpf(0.05)):
    return 2 / alpha * ((t > high) - (t < low))


def in_alpha(low, high, t, alpha):
    return -2 / alpha**2 * (max(low - t, 0) + max(t - high, 0))


def ends(low, high, t, **_):
    return min(abs(low - t), abs(high - t))


@st.composite
def intervals(draw, calm: bool, options=None):
    """Ends and targets: on an end, inside, outside, far outside, and ends that have changed places."""
    chosen = draw(options) if options is not None else {}
    values = floats(-3, 3) if calm else st.sampled_from([0.0, 0.0, 1.0, 1e-7, -80.0, 1e15]) | floats(-10, 10)
    return tuple(draw(one_each(values)) for _ in range(3)), chosen


SHARES = number(0.05, 0.5, low=0.01, high=0.99)
interval_case = functools.partial(
    Case,
    value=winkler,
    gradient=in_lower,
    more_gradients={1: in_upper, 2: in_target},
    scale=winkler_scale,
    kinks=ends,
    hard={
        "target on an end": any_row(lambda low, high, t, **_: (t == low) | (t == high)),
        "target inside": any_row(lambda low, high, t, **_: (low < t) & (t < high)),
        "ends changed places": any_row(lambda low, high, t, **_: (high < t) & (t < low)),
    },
)

IN_QUANTILE = {"quantile": lambda p, t, quantile: t - p}
LEVELS = st.sampled_from([0.0, 1.0, 0.5]) | floats(0.01, 0.99)
QUANTILES = 3


@st.composite
def columns(draw, calm: bool):
    """One column a quantile, `[rows, quantiles]`: the rows have two axes."""
    item = (QUANTILES,)
    values = floats(-3, 3) if calm else st.sampled_from([0.0, 0.0, 1e-7, -80.0, 1e15]) | floats(-10, 10)
    data = (draw(one_each(values, *item)), draw(one_each(values, *item)))
    return data, {"quantile": draw(arrays(np.float64, item, elements=LEVELS, fill=st.nothing()))}


def with_quantile(kind: str, strategy: st.SearchStrategy) -> Case:
    options = each(quantile=strategy)
    return Case(
        f"quantile.pinball/{kind}",
        value=pinball,
        gradient=slope,
        option_gradients=IN_QUANTILE,
        kinks=at_zero,
        draws=residual_draws(options),
        calm=calm_draws(options=options),
        row_options=("quantile",),
        with_options=True,
        hard={**HARD, "quantile at its end": lambda _, options: bool(np.any(options["quantile"] == 1))},
    )


LEVEL = number(0.0, 1.0, low=0.01, high=0.99)
TILTED = each(quantile=LEVEL, delta=POSITIVE)

CASES = (
    residual_case("quantile.pinball", value=pinball, gradient=slope, kinks=at_zero),
    with_quantile("quantile", LEVEL),
    with_quantile("one a row", arrays(np.float64, (ROWS,), elements=LEVELS, fill=st.nothing())),
    Case(
        "quantile.pinball/one a column",
        value=pinball,
        gradient=slope,
        option_gradients=IN_QUANTILE,
        kinks=at_zero,
        draws=columns(calm=False),
        calm=columns(calm=True),
        row_options=("quantile",),
        with_options=True,
        hard={"prediction on target": lambda data, _: bool(np.any(data[0] == data[1]))},
    ),
    residual_case("quantile.quantile_huber", value=tilted_huber, gradient=tilted_huber_slope, kinks=bends),
    Case(
        "quantile.quantile_huber/quantile and delta",
        value=tilted_huber,
        gradient=tilted_huber_slope,
        option_gradients={
            "quantile": lambda p, t, quantile, delta: sign(t - p) * huber(p, t, delta),
            "delta": lambda p, t, quantile, delta: tilt(p, t, quantile) * max(abs(p - t) - delta, 0),
        },
        kinks=bends,
        draws=residual_draws(TILTED, "delta"),
        calm=calm_draws(options=TILTED),
        with_options=True,
        hard={**HARD, "quantile at its end": lambda _, options: bool(options["quantile"] == 1)},
    ),
    residual_case("quantile.expectile", value=tilted_square, gradient=tilted_square_slope, kinks=at_zero),
    Case(
        "quantile.expectile/expectile",
        value=tilted_square,
        gradient=tilted_square_slope,
        option_gradients={"expectile": lambda p, t, expectile: sign(t - p) * (p - t) ** 2},
        kinks=at_zero,
        draws=residual_draws(each(expectile=LEVEL)),
        calm=calm_draws(options=each(expectile=LEVEL)),
        with_options=True,
        hard={**HARD, "expectile at its end": lambda _, options: bool(options["expectile"] == 1)},
    ),
    interval_case("quantile.interval_score", draws=intervals(calm=False), calm=intervals(calm=True)),
    interval_case(
        "quantile.interval_score/alpha",
        option_gradients={"alpha": in_alpha},
        draws=intervals(calm=False, options=each(alpha=SHARES)),
        calm=intervals(calm=True, options=each(alpha=SHARES)),
        with_options=True,
    ),
)


def three(low, high, t):
    """One interval and its target, for every row."""
    return tuple(np.full(ROWS, float(x)) for x in (low, high, t))


EVIDENCE = {
    "quantile.pinball": Evidence(
        attained={"lipschitz": rows(2.0, 0.0)},
        refuted_by={"bounded": rows(1e7, 0.0), "smooth": (rows(1e-9, 0.0), rows(-1e-9, 0.0))},
    ),
    "quantile.quantile_huber": Evidence(
        attained={"lipschitz": rows(2.0, 0.0), "smooth": (rows(0.5, 0.0), rows(-0.5, 0.0))},
        refuted_by={"bounded": rows(1e6, 0.0)},
        sample=SAMPLE,
    ),
    "quantile.interval_score": Evidence(
        attained={"lipschitz": three(2.0, 3.0, 0.0)},
        refuted_by={
            "bounded": three(0.0, 1e6, 0.0),
            "smooth": (three(1e-9, 1.0, 0.0), three(-1e-9, 1.0, 0.0)),
        },
    ),
    "quantile.expectile": Evidence(
        attained={"smooth": BENT},
        refuted_by={"bounded": rows(1e6, 0.0), "lipschitz": rows(1e6, 0.0)},
    ),
}
