"""The deviances against mpmath, from a rounding apart to twenty orders of magnitude, within their ULPs."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from accuracy_table import exact, ulps
from mpmath import mpf
from oracles import deviance as by_hand
from programs import as_users_do
from test_numerics import pairs, stated

from jaxloss import numerics

every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])

POWERS = [-1.0, 0.0, 0.5, 1 - 1e-5, 1.0, 1 + 1e-6, 1.5, 2 - 1e-6, 2.0, 2 + 1e-9, 3.0, 4.0]


def means_and_targets(dtype):
    """Targets next to their means, on both sides of every turn of a formula, and far away."""
    eps = float(np.finfo(dtype).eps)
    near = [eps, 3 * eps, 1e-6, 1e-3, 0.1, 0.33, 0.499, 0.501, 0.7]
    apart = 1 + np.array(
        [0.0, *near, *np.negative(near), 0.99, 1.01, 3.0, 30.0, 1e6, -0.9, -0.9999, -1 + 1e-9]
    )
    mean, factor = pairs(np.array([1e-6, 0.02, 0.9, 1.0, 7.3, 1e5]), apart)
    return mean.astype(dtype), (mean.astype(dtype) * factor).astype(dtype)


def far_apart(dtype):
    """Means whose cubes, or whose products with the targets, are no float32."""
    points = np.array([(1e-13, 1.2e-18), (2e-12, 1e-5), (3e12, 1e15), (3e12, 1e27), (1e9, 1e29)])
    return tuple(points.T.astype(dtype))


def with_powers(dtype):
    mean, target = means_and_targets(dtype)
    index, power = pairs(np.arange(mean.size), np.array(POWERS, dtype))
    return mean[index], target[index], power


def target_slope(mean, y, power):
    return by_hand.power_integral(y, -power) - by_hand.power_integral(mean, -power)


in_power = functools.cache(by_hand.tweedie_in_power)


def power_scale(mean, y, power):
    """Its two terms may cancel; 2 − p is rounded."""
    return by_hand.tweedie(mean, y, power) * (1 + abs(mpmath.log(mean))) + abs(in_power(mean, y, power))


# The function, its data, the truth, and of each derivative the truth and what it is measured against.
CASES = {
    "poisson": (
        numerics.poisson_deviance,
        means_and_targets,
        by_hand.poisson,
        [(lambda m, y: (m - y) / m, None), (lambda m, y: mpmath.log(y / m), None)],
    ),
    "gamma": (
        numerics.gamma_deviance,
        means_and_targets,
        by_hand.gamma,
        [(lambda m, y: (m - y) / m**2, None), (lambda m, y: (y - m) / (m * y), None)],
    ),
    "inverse_gaussian": (
        numerics.inverse_gaussian_deviance,
        lambda dtype: tuple(
            map(np.concatenate, zip(means_and_targets(dtype), far_apart(dtype), strict=True))
        ),
        by_hand.inverse_gaussian,
        [(lambda m, y: (m - y) / m**3, None), (lambda m, y: (1 / m**2 - 1 / y**2) / 2, None)],
    ),
    "tweedie": (
        numerics.tweedie_deviance,
        with_powers,
        by_hand.tweedie,
        [
            (by_hand.tweedie_slope, None),
            (target_slope, None),
            (in_power, power_scale),
        ],
    ),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def truths(formula, data):
    with mpmath.workdps(80):
        return [formula(*row) for row in zip(*map(exact, data), strict=True)]


@every_dtype
@every_case
def test_the_value_keeps_to_its_ulps(case, dtype):
    function, draws, true, _ = case
    data = draws(dtype)
    assert ulps(as_users_do(function)(*data), truths(true, data)).max() <= stated(function)


@every_dtype
@every_case
def test_each_derivative_keeps_to_its_ulps(case, dtype):
    function, draws, _, derivatives = case
    data = draws(dtype)
    each = [jax.grad(lambda *a: jnp.sum(function(*a)), position) for position in range(len(derivatives))]
    found = as_users_do(lambda *data: [gradient(*data) for gradient in each])(*data)
    for position, (got, (slope, against)) in enumerate(zip(found, derivatives, strict=True)):
        measure = against and truths(against, data)
        assert ulps(got, truths(slope, data), measure).max() <= stated(function), position


OF_LINKS = [
    (numerics.poisson_deviance_of_log, numerics.poisson_deviance, jnp.exp, ()),
    (numerics.gamma_deviance_of_log, numerics.gamma_deviance, jnp.exp, ()),
    (numerics.tweedie_deviance_of_log, numerics.tweedie_deviance, jnp.exp, (1.3,)),
    (numerics.binomial_deviance_of_logits, numerics.binomial_deviance, numerics.sigmoid, (3.0,)),
]
through_every_link = pytest.mark.parametrize("case", OF_LINKS, ids=lambda case: case[0].__name__)


@through_every_link
def test_through_its_link_a_deviance_and_all_its_derivatives_are_those_of_the_mean(case):
    of_link, of_mean, inverse, rest = case
    arguments = (0.3, 1.7, *rest)

    def composed(x, *others):
        return of_mean(inverse(x), *others)

    def derivatives(function, *at):
        """By every argument, and twice by the first, in forward and in reverse mode."""
        every = tuple(range(len(at)))
        first, second = jax.jvp(lambda x: jax.grad(function)(x, *at[1:]), at[:1], (1.0,))
        others = [jax.grad(function, position)(*at) for position in every[1:]]
        return first, *others, *jax.jacfwd(function, every)(*at), second, jax.jacrev(jax.grad(function))(*at)

    found, true = jax.jit(lambda *at: [derivatives(of, *at) for of in (of_link, composed)])(*arguments)
    np.testing.assert_allclose(found, true, rtol=1e-12)


@functools.cache
def value_and_slope(function):
    return jax.jit(jax.value_and_grad(function))


@through_every_link
@pytest.mark.parametrize("x", [1000.0, -1000.0, 3e38, -3e38])
@pytest.mark.parametrize("y", [0.0, 1e-30, 2.0])
def test_the_largest_predictions_give_no_nan(case, x, y):
    of_link, _, _, rest = case
    y = max(y, 1e-30 * ("gamma" in of_link.__name__))
    value, slope = value_and_slope(of_link)(*map(np.float32, (x, y, *rest)))
    assert not np.isnan(value)
    assert not np.isnan(slope)


def test_the_gamma_deviance_of_a_mean_that_is_no_float_is_finite():
    assert numerics.gamma_deviance_of_log(np.float32(1000), np.float32(2)) == pytest.approx(999 - np.log(2))


def test_learning_the_power_descends_through_one_and_two():
    slope = jax.jit(jax.grad(numerics.tweedie_deviance, 2))
    for power in (1.0, 2.0):
        around = [slope(3.0, 2.0, power + step) for step in (-1e-8, 0.0, 1e-8)]
        np.testing.assert_allclose(around, float(by_hand.tweedie_in_power(mpf(3), mpf(2), power)), rtol=1e-7)


@pytest.mark.parametrize(("mean", "target"), [(1e25, 3e25), (3e19, 1e-6), (1e-25, 1.5e-25), (2e-21, 1.5e-34)])
def test_the_slopes_of_gamma_deviance_square_no_mean(mean, target):
    slopes = jax.jit(jax.grad(numerics.gamma_deviance, (0, 1)))(np.float32(mean), np.float32(target))
    exact = (mean - target) / mean / mean, (target - mean) / mean / target
    np.testing.assert_allclose(slopes, exact, rtol=1e-6)
