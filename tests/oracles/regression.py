"""Losses of a residual by hand: Gauss, Laplace, Vapnik, Hyndman & Koehler, Makridakis, Salton."""

import functools

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

# --- draws --------------------------------------------------------------------------------------

TARGETS = st.sampled_from([0.0, 0.0, 1.0, -1.0, 1e4, 1e-20]) | floats(-10, 10)
RESIDUALS = [0.0, 1e-12, -1e-7, 1e-3, 17.0, -80.0, 1e4, 1e15, -1e15]


@st.composite
def residual_draws(draw, options=None, kink: str | None = None) -> tuple[Data, Options]:
    """Targets and residuals, the residual at an option's value among them."""
    chosen = draw(options) if options is not None else {}
    at_kink = [] if kink is None else [float(chosen[kink]), -float(chosen[kink])]
    targets = draw(one_each(TARGETS))
    residuals = draw(one_each(st.sampled_from([*at_kink, *RESIDUALS]) | floats(-10, 10)))
    return (targets + residuals, targets), chosen


@st.composite
def calm_draws(draw, low=-3.0, high=3.0, item=(), options=None) -> tuple[Data, Options]:
    """Predictions and targets of moderate size."""
    chosen = draw(options) if options is not None else {}
    return (draw(one_each(floats(low, high), *item)), draw(one_each(floats(low, high), *item))), chosen


@st.composite
def ratio_draws(draw, options=None) -> tuple[Data, Options]:
    """Both of any magnitude, both zero too."""
    (predictions, targets), chosen = draw(residual_draws(options))
    shrunk = draw(one_each(st.sampled_from([0.0, 1e-12, 1.0, 1.0])))
    return (shrunk * predictions, targets), chosen


@st.composite
def log_draws(draw) -> tuple[Data, Options]:
    """Above −1: close to it, close to each other, and far apart."""
    elements = st.sampled_from([0.0, -0.999, 1e-12, 1e6, 1e15, 3e15]) | floats(-0.9, 10)
    targets = draw(one_each(elements))
    nearly = targets + draw(one_each(st.sampled_from([0.0, 1e-9, -1e-7]))) * (1 + targets)
    predictions = np.where(draw(one_each(st.booleans(), dtype=np.bool_)), nearly, draw(one_each(elements)))
    return (predictions, targets), {}


FEATURES = 3


@st.composite
def vector_draws(draw, options=None) -> tuple[Data, Options]:
    """Vectors of any length, zero, parallel, opposite and nearly equal."""
    chosen = draw(options) if options is not None else {}
    entries = one_each(st.sampled_from([0.0, 1.0]) | floats(-10, 10), FEATURES)
    lengths = one_each(st.sampled_from([0.0, 1.0, 1.0, 1e-6, 1e15]))
    targets = draw(entries) * draw(lengths)[:, None]
    factors = draw(one_each(st.sampled_from([1.0, 2.0, -1.0])))[:, None]
    nudged = factors * targets * (1 + draw(one_each(st.sampled_from([0.0, 1e-9, 1e-4]), FEATURES)))
    related = draw(one_each(st.booleans(), dtype=np.bool_))[:, None]
    return (np.where(related, nudged, draw(entries) * draw(lengths)[:, None]), targets), chosen


HARD = {
    "prediction on target": any_row(lambda p, t, **_: p == t),
    "huge residual": any_row(lambda p, t, **_: np.abs(p - t) > 1e14),
    "tiny residual": any_row(lambda p, t, **_: (np.abs(p - t) < 1e-6) & (p != t)),
}


def at(option: str) -> dict:
    """The residual exactly at an option's value."""
    return {
        **HARD,
        f"residual at {option}": any_row(lambda p, t, **options: np.abs(p - t) == options[option]),
    }


residual_case = functools.partial(Case, draws=residual_draws(), calm=calm_draws(), hard=HARD)


def case_with(name: str, option: str, strategy: st.SearchStrategy, **fields) -> Case:
    """The same loss with its hyperparameter drawn."""
    options = each(**{option: strategy})
    return Case(
        f"{name}/{option}",
        draws=residual_draws(options, option),
        calm=calm_draws(options=options),
        hard=at(option),
        with_options=True,
        **fields,
    )


# --- formulas: Gauss (1821), Laplace (1774), Vapnik (1995) sec. 6.1 -----------------------------


def at_zero(p, t, **_):
    return abs(p - t)


def tube(p, t, epsilon="0.1"):
    return max(abs(p - t) - _default(epsilon), mpf(0))


def tube_slope(p, t, epsilon="0.1"):
    return sign(p - t) if abs(p - t) > _default(epsilon) else 0


def tube_kink(p, t, epsilon="0.1"):
    return abs(abs(p - t) - _default(epsilon))


def tube_scale(p, t, epsilon="0.1"):
    # |r| − ε: the residual is rounded before ε is taken off it.
    return abs(p - t) if tube(p, t, epsilon) else 0


def squared_tube_scale(p, t, epsilon="0.1"):
    return 2 * tube(p, t, epsilon) * abs(p - t)


def squared_tube_slope_scale(p, t, epsilon="0.1"):
    return 2 * tube_scale(p, t, epsilon)


def _default(option):
    """An option not given has its float64 default, bit for bit."""
    return mpf(float(option)) if isinstance(option, str) else option


# --- formulas: Hyndman & Koehler (2006) sec. 2.2, Makridakis et al. (2020) sec. 2.4 --------------


def percentage(p, t, epsilon="1e-7"):
    return abs(p - t) / max(abs(t), _default(epsilon))


def percentage_slope(p, t, epsilon="1e-7"):
    return sign(p - t) / max(abs(t), _default(epsilon))


def percentage_in_targets(p, t, epsilon="1e-7"):
    below = abs(t) <= _default(epsilon)
    return -sign(p - t) * (1 / _default(epsilon) if below else p / t / abs(t))


def percentage_in_epsilon(p, t, epsilon):
    return -abs(p - t) / epsilon**2 if abs(t) < epsilon else 0


def smape(p, t):
    return 2 * abs(p - t) / (abs(p) + abs(t)) if p or t else 0


def smape_slope(p, t):
    size = abs(p) + abs(t)
    return 2 * (sign(p - t) * size - sign(p) * abs(p - t)) / size**2 if size else 0


def log_ratio(p, t):
    return mp.log(1 + p) - mp.log(1 + t)


# --- formulas: vectors ---------------------------------------------------------------------------


def minus(p, t):
    return [a - b for a, b in zip(p, t, strict=True)]


def relative(p, t, epsilon="1e-8"):
    return norm(minus(p, t)) / (norm(t) + _default(epsilon)) if p != t else 0


def relative_slope(p, t, epsilon="1e-8"):
    if p == t:
        return [0] * len(p)
    size = norm(minus(p, t)) * (norm(t) + _default(epsilon))
    return [entry / size for entry in minus(p, t)]


def cosine(p, t):
    return (
        sum(a * b for a, b in zip(p, t, strict=True)) / (norm(p) * norm(t)) if any(p) and any(t) else mpf(0)
    )


def cosine_slope(p, t):
    if not (any(p) and any(t)):
        return [0] * len(p)
    return [-(b / norm(t) - cosine(p, t) * a / norm(p)) / norm(p) for a, b in zip(p, t, strict=True)]


def cosine_scale(p, t):
    # Half the square of a chord between unit vectors whose entries are rounded once.
    distance = 1 - cosine(p, t)
    return distance + mp.sqrt(2 * max(distance, mpf(0)))


def cosine_slope_scale(p, t):
    # t/‖t‖ and its shadow on p/‖p‖ cancel for nearly parallel vectors: their size is what rounding sees.
    return [1 / norm(p) if any(p) else mpf(0) for _ in p]


VECTOR_HARD = {
    "zero prediction": any_row(lambda p, t, **_: np.all(p == 0, axis=-1) & np.any(t != 0, axis=-1)),
    "zero target": any_row(lambda p, t, **_: np.all(t == 0, axis=-1) & np.any(p != 0, axis=-1)),
    "both zero": any_row(lambda p, t, **_: np.all((t == 0) & (p == 0), axis=-1)),
    "prediction on target": any_row(lambda p, t, **_: np.all(p == t, axis=-1) & np.any(t != 0, axis=-1)),
    "opposite": any_row(lambda p, t, **_: np.all(p == -t, axis=-1) & np.any(t != 0, axis=-1)),
    "huge": any_row(lambda p, t, **_: np.abs(p).max(axis=-1) > 1e14),
}

# At |t| = ε the derivative by ε is the mean of its two sides, which no draw is to meet.
OFF_TARGETS = number(1e-3, low=0.01, high=4.0).map(lambda epsilon: epsilon * (1 + 1e-3 * np.pi))

CASES = (
    residual_case(
        "regression.squared_error", value=lambda p, t: (p - t) ** 2, gradient=lambda p, t: 2 * (p - t)
    ),
    residual_case(
        "regression.half_squared_error", value=lambda p, t: (p - t) ** 2 / 2, gradient=lambda p, t: p - t
    ),
    residual_case(
        "regression.absolute_error",
        value=lambda p, t: abs(p - t),
        gradient=lambda p, t: sign(p - t),
        kinks=at_zero,
    ),
    Case(
        "regression.squared_log_error",
        value=lambda p, t: log_ratio(p, t) ** 2,
        gradient=lambda p, t: 2 * log_ratio(p, t) / (1 + p),
        draws=log_draws(),
        calm=calm_draws(-0.5, 3.0),
        hard={
            "equal": any_row(lambda p, t: p == t),
            "nearly equal": any_row(lambda p, t: (np.abs(p - t) < 1e-6 * (1 + t)) & (p != t)),
            "both huge": any_row(lambda p, t: (p > 1e14) & (t > 1e14) & (p != t)),
            "near −1": any_row(lambda p, t: p < -0.99),
        },
        violations={"predictions": (0, -2.0), "targets": (1, -1.0)},
    ),
    Case(
        "regression.absolute_percentage_error",
        value=percentage,
        gradient=percentage_slope,
        more_gradients={1: percentage_in_targets},
        more_scales={1: percentage_in_targets},
        kinks=at_zero,
        draws=ratio_draws(),
        calm=calm_draws(),
        hard={
            **HARD,
            "zero target": any_row(lambda p, t: (t == 0) & (p != 0)),
            "nearly no prediction": any_row(lambda p, t: (p != 0) & (np.abs(p) < 1e-9 * np.abs(t))),
        },
    ),
    Case(
        "regression.absolute_percentage_error/epsilon",
        value=percentage,
        gradient=percentage_slope,
        option_gradients={"epsilon": percentage_in_epsilon},
        kinks=at_zero,
        draws=ratio_draws(each(epsilon=OFF_TARGETS)),
        calm=calm_draws(options=each(epsilon=OFF_TARGETS)),
        with_options=True,
        hard={"target below epsilon": any_row(lambda p, t, epsilon: (np.abs(t) < epsilon) & (p != t))},
    ),
    Case(
        "regression.symmetric_absolute_percentage_error",
        value=smape,
        gradient=smape_slope,
        kinks=lambda p, t: min(abs(p - t), abs(p)),
        draws=ratio_draws(),
        calm=calm_draws(),
        hard={
            **HARD,
            "both zero": any_row(lambda p, t: (p == 0) & (t == 0)),
            "zero prediction": any_row(lambda p, t: (p == 0) & (t != 0)),
            "opposite signs": any_row(lambda p, t: p * t < 0),
        },
    ),
    residual_case(
        "regression.log_cosh",
        value=lambda p, t: mp.log(mp.cosh(p - t)) if abs(p - t) < 200 else abs(p - t) - mp.log(2),
        gradient=lambda p, t: mp.tanh(p - t) if abs(p - t) < 200 else sign(p - t),
    ),
    residual_case(
        "regression.epsilon_insensitive",
        value=tube,
        gradient=tube_slope,
        kinks=tube_kink,
        scale=tube_scale,
    ),
    case_with(
        "regression.epsilon_insensitive",
        "epsilon",
        number(0.0, 1.0, low=0.0, high=4.0),
        value=tube,
        gradient=tube_slope,
        kinks=tube_kink,
        scale=tube_scale,
        option_gradients={"epsilon": lambda p, t, epsilon: -1 if abs(p - t) > epsilon else 0},
    ),
    residual_case(
        "regression.squared_epsilon_insensitive",
        value=lambda p, t: tube(p, t) ** 2,
        gradient=lambda p, t: 2 * tube(p, t) * sign(p - t),
        kinks=tube_kink,
        scale=squared_tube_scale,
        gradient_scale=squared_tube_slope_scale,
    ),
    case_with(
        "regression.squared_epsilon_insensitive",
        "epsilon",
        number(0.0, 1.0, low=0.0, high=4.0),
        value=lambda p, t, epsilon: tube(p, t, epsilon) ** 2,
        gradient=lambda p, t, epsilon: 2 * tube(p, t, epsilon) * sign(p - t),
        kinks=tube_kink,
        scale=squared_tube_scale,
        gradient_scale=squared_tube_slope_scale,
        option_gradients={"epsilon": lambda p, t, epsilon: -2 * tube(p, t, epsilon)},
    ),
    Case(
        "regression.relative_l2",
        value=relative,
        gradient=relative_slope,
        kinks=lambda p, t: norm(minus(p, t)),
        draws=vector_draws(),
        calm=calm_draws(item=(FEATURES,)),
        item_ndim=1,
        hard=VECTOR_HARD,
    ),
    Case(
        "regression.relative_l2/epsilon",
        with_options=True,
        value=relative,
        gradient=relative_slope,
        kinks=lambda p, t, epsilon: norm(minus(p, t)),
        option_gradients={"epsilon": lambda p, t, epsilon: -norm(minus(p, t)) / (norm(t) + epsilon) ** 2},
        draws=vector_draws(each(epsilon=number(1.0, low=1e-3, high=4.0))),
        calm=calm_draws(item=(FEATURES,), options=each(epsilon=number(1.0, low=1e-3, high=4.0))),
        item_ndim=1,
        hard=VECTOR_HARD,
    ),
    Case(
        "regression.cosine_distance",
        value=lambda p, t: 1 - cosine(p, t),
        gradient=cosine_slope,
        scale=cosine_scale,
        gradient_scale=cosine_slope_scale,
        quadratic=True,
        kinks=lambda p, t: min(norm(p), norm(t)),
        draws=vector_draws(),
        calm=calm_draws(item=(FEATURES,)),
        item_ndim=1,
        hard={
            **VECTOR_HARD,
            "nearly parallel": any_row(
                lambda p, t: (
                    (np.abs(p - t).max(axis=-1) < 1e-3) & np.any(p != t, axis=-1) & np.any(t != 0, axis=-1)
                )
            ),
        },
    ),
)


# --- what decides the claims ------------------------------------------------------------------

SAMPLE = np.array([-1.0, 0.0, 0.0, 1.0, 1.5, 7.0, 20.0])


def rows(p, t) -> Data:
    """One pair for every row."""
    return tuple(np.broadcast_to(np.asarray(x, float), (ROWS, *np.shape(x))) for x in (p, t))


BEYOND = {"lipschitz": rows(1e6, 0.0), "bounded": rows(1e6, 0.0)}
CORNER = (rows(1e-9, 0.0), rows(-1e-9, 0.0))
SHIFTED = (rows(1.0, 2.0), 3.0)
BENT = (rows(0.0, 0.0), rows(1e-6, 0.0))

EVIDENCE = {
    "regression.squared_error": Evidence(attained={"smooth": BENT}, refuted_by=BEYOND),
    "regression.half_squared_error": Evidence(attained={"smooth": BENT}, refuted_by=BEYOND),
    "regression.absolute_error": Evidence(
        attained={"lipschitz": rows(2.0, 0.0)}, refuted_by={"bounded": rows(1e6, 0.0), "smooth": CORNER}
    ),
    "regression.squared_log_error": Evidence(
        refuted_by={
            "convex": (rows(10.0, 0.0), rows(1000.0, 0.0)),
            "lipschitz": rows(-1 + 1e-9, 0.0),
            "smooth": (rows(-1 + 1e-9, 0.0), rows(-1 + 2e-9, 0.0)),
            "bounded": rows(1e300, 0.0),
            "shift_invariant": SHIFTED,
        }
    ),
    "regression.absolute_percentage_error": Evidence(
        attained={"lipschitz": rows(1.0, 0.0)},
        refuted_by={
            "symmetric": rows(1.0, 2.0),
            "smooth": CORNER,
            "bounded": rows(1e6, 1.0),
            "shift_invariant": SHIFTED,
        },
        sample=np.array([1.0, 2.0, 3.0, 7.0, 20.0]),
    ),
    "regression.symmetric_absolute_percentage_error": Evidence(
        attained={"bounded": rows(1.0, -1.0)},
        refuted_by={
            "convex": (rows(1.0, 1.0), rows(100.0, 1.0)),
            "lipschitz": rows(1e-9, 2e-9),
            "smooth": (rows(1 + 1e-9, 1.0), rows(1 - 1e-9, 1.0)),
            "shift_invariant": SHIFTED,
        },
        sample=np.array([1.0, 2.0, 30.0, 40.0, 50.0]),
    ),
    "regression.log_cosh": Evidence(
        attained={"lipschitz": rows(20.0, 0.0), "smooth": (rows(1e-3, 0.0), rows(-1e-3, 0.0))},
        refuted_by={"bounded": rows(1e6, 0.0)},
        sample=SAMPLE,
    ),
    "regression.epsilon_insensitive": Evidence(
        attained={"lipschitz": rows(2.0, 0.0)},
        refuted_by={"bounded": rows(1e6, 0.0), "smooth": (rows(0.1 + 1e-9, 0.0), rows(0.1 - 1e-9, 0.0))},
        # The median is a best constant of any odd sample whose spacing exceeds the tube; not of this.
        sample=np.array([0.0, 0.0, 0.0, 0.15, 0.16, 0.17, 0.18, 9.0, 9.0]),
    ),
    "regression.squared_epsilon_insensitive": Evidence(
        attained={"smooth": (rows(2.0, 0.0), rows(3.0, 0.0))}, refuted_by=BEYOND, sample=SAMPLE
    ),
    "regression.relative_l2": Evidence(
        attained={"lipschitz": rows([1.0, 2.0, 2.0], [0.0, 0.0, 0.0])},
        refuted_by={
            "symmetric": rows([1.0, 0.0, 0.0], [2.0, 0.0, 0.0]),
            "smooth": (rows([1e-9, 0.0, 0.0], [0.0] * 3), rows([-1e-9, 0.0, 0.0], [0.0] * 3)),
            "bounded": rows([1e6, 0.0, 0.0], [1.0, 0.0, 0.0]),
            "shift_invariant": (rows([1.0, 0.0, 0.0], [2.0, 0.0, 0.0]), 3.0),
        },
        sample=np.array([[10.0, 0, 0], [0, 3.0, 0], [0, 0, 9.0], [1.0, 1, 1], [4.0, -1, 0]]),
    ),
    "regression.cosine_distance": Evidence(
        attained={"bounded": rows([1.0, 2.0, 2.0], [-1.0, -2.0, -2.0])},
        refuted_by={
            "zero_at_target": rows([0.0] * 3, [0.0] * 3),
            "convex": (rows([1.0, 0.1, 0.0], [-1.0, 0.0, 0.0]), rows([0.0, 0.1, 0.0], [-1.0, 0.0, 0.0])),
            "lipschitz": rows([0.0, 1e-6, 0.0], [1.0, 0.0, 0.0]),
            "smooth": (rows([0.0, 1e-6, 0.0], [1.0, 0.0, 0.0]), rows([0.0, -1e-6, 1e-6], [1.0, 0.0, 0.0])),
            "shift_invariant": (rows([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]), 3.0),
        },
        sample=np.array([[1.0, 0, 0], [0, 3.0, 0], [0, 0, 9.0], [1.0, 1, 1], [4.0, -1, 0]]),
    ),
}
