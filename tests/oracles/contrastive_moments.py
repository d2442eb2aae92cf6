"""Losses of two views' moments by hand: Zbontar et al. (2021), Bardes et al. (2022).

Formulas take a whole batch; what stands in every row, the batch's loss, is derived by it as often.
"""

import numpy as np
from hypothesis import strategies as st

from oracles._case import ROWS, Case, Evidence, each, floats, number, one_each
from oracles.contrastive import FEATURES, SOME

ROUND = np.longdouble("0.005"), np.longdouble("1e-5")


def centred(x):
    return x - _mean(x)


def _mean(x):
    """Each feature's, over the rows that there are, if any."""
    return np.sum(x, axis=0, keepdims=True) / max(len(x), 1)


def _deviation(x, epsilon):
    return np.sqrt(_mean(centred(x) ** 2) + epsilon)


def _correlations(first, second, epsilon):
    z, other = (centred(x) / _deviation(x, epsilon) for x in (first, second))
    return z, other, z.T @ other / max(len(z), 1)


def _twins_weights(off_diagonal_weight):
    return np.where(np.eye(FEATURES, dtype=bool), 1, off_diagonal_weight)


def _twins(first, second, off_diagonal_weight=ROUND[0], epsilon=ROUND[1]):
    _, _, found = _correlations(first, second, epsilon)
    total = np.sum(_twins_weights(off_diagonal_weight) * (found - np.eye(FEATURES)) ** 2)
    return np.full(len(first), total)


def _twins_scale(first, second, off_diagonal_weight=ROUND[0], epsilon=ROUND[1]):
    # A correlation is rounded as a number near 1 is, times what its centring costs.
    _, _, found = _correlations(first, second, epsilon)
    slopes = _twins_weights(off_diagonal_weight) * np.abs(found - np.eye(FEATURES))
    cost = 1 + sum(np.max(np.abs(x) / _deviation(x, epsilon), initial=0) for x in (first, second))
    return np.full(len(first), np.sum(slopes * (np.abs(found - np.eye(FEATURES)) + 4 * cost)))


def _through_deviation(slope, x, epsilon):
    """The derivative by x of what has the derivative `slope` by its standardised form."""
    c, s = centred(x), _deviation(x, epsilon)
    return centred(slope / s - c * _mean(slope * c) / s**3)


def _twins_slopes(first, second, off_diagonal_weight, epsilon):
    z, other, found = _correlations(first, second, epsilon)
    slopes = 2 * _twins_weights(off_diagonal_weight) * (found - np.eye(FEATURES))
    return other @ slopes.T, z @ slopes  # of the sum over rows: each mean times the rows


def _twins_slope(first, second, off_diagonal_weight=ROUND[0], epsilon=ROUND[1]):
    return _through_deviation(_twins_slopes(first, second, off_diagonal_weight, epsilon)[0], first, epsilon)


def _twins_by_second(first, second, off_diagonal_weight, epsilon):
    return _through_deviation(_twins_slopes(first, second, off_diagonal_weight, epsilon)[1], second, epsilon)


def _twins_slope_scale(first, second, off_diagonal_weight=ROUND[0], epsilon=ROUND[1]):
    z, other, found = _correlations(first, second, epsilon)
    slopes = 2 * _twins_weights(off_diagonal_weight) * (np.abs(found - np.eye(FEATURES)) + 1)
    # What is left of a number less a mean of numbers as large is rounded as they are.
    z, other = (np.abs(a) + np.abs(x) / _deviation(x, epsilon) for a, x in ((z, first), (other, second)))
    size = other @ slopes.T
    cost = 1 + sum(np.max(np.abs(x) / _deviation(x, epsilon), initial=0) for x in (first, second))
    whole = (size + z * _mean(size * z)) / _deviation(first, epsilon)
    return (whole + _mean(whole)) * cost


def _twins_in_weight(first, second, off_diagonal_weight, epsilon):
    _, _, found = _correlations(first, second, epsilon)
    return np.full(len(first), np.sum(np.where(np.eye(FEATURES, dtype=bool), 0, found) ** 2))


def _twins_in_epsilon(first, second, off_diagonal_weight, epsilon):
    slopes = _twins_slopes(first, second, off_diagonal_weight, epsilon)
    by_each = [
        -np.sum(slope * centred(x) / _deviation(x, epsilon) ** 3) / 2
        for slope, x in zip(slopes, (first, second), strict=True)
    ]
    return np.full(len(first), sum(by_each) / max(len(first), 1))


VIEWS = one_each(st.sampled_from([0.0, 1.0]) | floats(-2, 2), FEATURES)
CALM_VIEWS = one_each(floats(-2, 2), FEATURES)


@st.composite
def views(draw, options=None, calm=False):
    """Two views, at times of a feature that is the same in all rows, or of one view twice."""
    chosen = draw(options) if options is not None else {}
    first = draw(CALM_VIEWS if calm else VIEWS)
    if calm:
        spread = np.arange(ROWS)[:, None] % (2 + np.arange(FEATURES)) - 0.5
        return (first + spread, draw(CALM_VIEWS) - spread), chosen
    if draw(st.booleans()):
        first[:, 0] = first[0, 0]
    second = first.copy() if draw(st.booleans()) else draw(VIEWS)
    return (first, second), chosen


# --- variance, invariance, covariance -------------------------------------------------------------

WEIGHTS = {"invariance_weight": 25, "variance_weight": 25, "covariance_weight": 1}
DEFAULTS = {**WEIGHTS, "epsilon": np.longdouble("1e-4")}


def _covariances(x, epsilon):
    """Of a view: the features less their means, the covariances beside the diagonal, the deviations."""
    c = centred(x)
    whole = c.T @ c / max(len(x) - 1, 1)
    return c, np.where(np.eye(FEATURES, dtype=bool), 0, whole), np.sqrt(np.diag(whole) + epsilon)


def _part(name, first, second, epsilon):
    """What one weight weighs, in every row."""
    if name == "invariance_weight":
        return np.mean((first - second) ** 2, axis=-1)
    found = [_covariances(x, epsilon) for x in (first, second)]
    if name == "variance_weight":
        each_view = [np.mean(np.maximum(0, 1 - deviations)) / 2 for _, _, deviations in found]
    else:
        each_view = [np.sum(beside**2) / FEATURES for _, beside, _ in found]
    return np.full(len(first), sum(each_view))


def _vicreg(first, second, **options):
    chosen = DEFAULTS | options
    return sum(chosen[name] * _part(name, first, second, chosen["epsilon"]) for name in WEIGHTS)


def _vicreg_by(position):
    def slope(first, second, **options):
        chosen = DEFAULTS | options
        x, sign = (first, 1) if position == 0 else (second, -1)
        c, beside, deviations = _covariances(x, chosen["epsilon"])
        diagonal = -chosen["variance_weight"] * (deviations < 1) / (4 * FEATURES * deviations)
        through = np.diag(diagonal) + 2 * chosen["covariance_weight"] / FEATURES * beside
        penalties = len(x) * 2 * c @ through / max(len(x) - 1, 1)
        return 2 * chosen["invariance_weight"] / FEATURES * sign * (first - second) + penalties

    return slope


def _sizes(x, epsilon):
    """What centring leaves of the roundings: of a feature, and of a covariance."""
    rough = np.abs(centred(x)) + np.max(np.abs(x), axis=0, initial=0)
    return rough, rough.T @ rough / max(len(x) - 1, 1), _covariances(x, epsilon)[2]


def _vicreg_scale(first, second, **options):
    chosen = DEFAULTS | options
    size = chosen["invariance_weight"] * np.mean((first - second) ** 2, axis=-1)
    for x in (first, second):
        _, products, deviations = _sizes(x, chosen["epsilon"])
        vary = chosen["variance_weight"] * np.mean(1 + np.diag(products) / deviations)
        size = size + vary + chosen["covariance_weight"] * np.sum(products**2) / FEATURES
    return size


def _vicreg_slope_scale(first, second, **options):
    chosen = DEFAULTS | options
    rough, products, deviations = _sizes(first, chosen["epsilon"])
    steep = chosen["variance_weight"] / (4 * FEATURES * deviations) * (1 + np.diag(products) / deviations**2)
    through = np.diag(steep) + 2 * chosen["covariance_weight"] / FEATURES * products
    penalties = 2 * len(first) * rough @ through / max(len(first) - 1, 1)
    return 2 * chosen["invariance_weight"] / FEATURES * (np.abs(first) + np.abs(second)) + penalties


def _by_weight(name):
    return lambda first, second, **options: _part(name, first, second, (DEFAULTS | options)["epsilon"])


def _vicreg_in_epsilon(first, second, **options):
    chosen = DEFAULTS | options
    total = np.longdouble(0)
    for x in (first, second):
        _, _, deviations = _covariances(x, chosen["epsilon"])
        total -= chosen["variance_weight"] * np.mean((deviations < 1) / (4 * deviations))
    return np.full(len(first), total)


def _to_unit_deviation(first, second, **options):
    both = [_covariances(x, (DEFAULTS | options)["epsilon"])[2] for x in (first, second)]
    return np.full(len(first), np.min(np.abs(1 - np.stack(both))))


HARD = {
    "a feature that does not vary": lambda data, options: bool(np.ptp(data[0][:, 0]) == 0),
    "two views that agree": lambda data, options: bool(np.all(data[0] == data[1])),
}
TWINS = {
    "off_diagonal_weight": number(5e-3, 0.0, 1.0, low=1e-3, high=1.0),
    "epsilon": number(1e-5, 0.1, low=1e-3, high=1.0),
}
VICREG = {name: number(0.0, 1.0, 25.0, low=0.1, high=25.0) for name in WEIGHTS} | {
    "epsilon": number(1e-4, 0.1, low=1e-3, high=1.0)
}


def of_views(name, fields, chosen, gradients, by_second):
    """The loss as it is, and with every option and a mask."""
    options = each(where=SOME, **chosen)
    shared = {"item_ndim": 1, "couples": "the moments are the batch's", "quadratic": True, "hard": HARD}
    return (
        Case(name, draws=views(), calm=views(calm=True), **fields, **shared),
        Case(
            f"{name}/with options",
            draws=views(options),
            calm=views(options, calm=True),
            more_gradients={1: by_second},
            option_gradients=gradients,
            with_options=True,
            **fields,
            **shared,
        ),
    )


CASES = (
    *of_views(
        "contrastive.barlow_twins",
        {
            "value": _twins,
            "gradient": _twins_slope,
            "scale": _twins_scale,
            "gradient_scale": _twins_slope_scale,
        },
        TWINS,
        {"off_diagonal_weight": _twins_in_weight, "epsilon": _twins_in_epsilon},
        _twins_by_second,
    ),
    *of_views(
        "contrastive.vicreg",
        {
            "value": _vicreg,
            "gradient": _vicreg_by(0),
            "scale": _vicreg_scale,
            "gradient_scale": _vicreg_slope_scale,
            "kinks": _to_unit_deviation,
        },
        VICREG,
        {name: _by_weight(name) for name in WEIGHTS} | {"epsilon": _vicreg_in_epsilon},
        _vicreg_by(1),
    ),
)

# Three features that know nothing of each other, each at −1 or 1.
CUBE = np.array([[(-1.0) ** (row >> axis) for axis in range(FEATURES)] for row in range(ROWS)])
STILL = np.zeros((ROWS, FEATURES))
EVIDENCE = {
    "contrastive.barlow_twins": Evidence(refuted_by={"convex": ((-CUBE, CUBE), (0.1 * CUBE, CUBE))}),
    "contrastive.vicreg": Evidence(
        refuted_by={
            "convex": ((0.1 * CUBE, STILL), (-0.1 * CUBE, STILL)),
            "lipschitz": (1e3 * CUBE, STILL),
            "smooth": (
                (1e3 * np.roll(CUBE, 1, axis=-1) + 1e4 * CUBE[:, :1], STILL),
                (1e4 * CUBE[:, :1] + STILL, STILL),
            ),
        }
    ),
}
