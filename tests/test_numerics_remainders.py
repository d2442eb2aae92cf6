"""The differences that cancel, against mpmath over the whole float range, within the ULPs they state."""

import accuracy_table as truth
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from accuracy_table import exact, ulps
from mpmath import mpf
from programs import as_users_do
from test_numerics import above_minus_one, magnitudes, reals, stated

from jaxloss import numerics

every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def mp_less_log1p(x):
    """To 60 digits whatever x is: its own are counted from ½x² on."""
    with mpmath.workdps(60 + max(0, -2 * int(mpmath.log10(abs(x)))) if x else 60):
        return x - mpmath.log1p(x)


def mp_softplus_less_sigmoid(x):
    with mpmath.workdps(60 + max(0, min(1000, int(-x)))):
        return truth.softplus(x) - truth.sigmoid(x)


def around_the_turns(dtype):
    """Both sides of where the series ends."""
    turns = np.array([-0.5, 1, -0.75, 3], dtype)
    nudges = np.array([-1e-3, -np.finfo(dtype).eps, 0, np.finfo(dtype).eps, 1e-3], dtype)
    return np.concatenate([(turn * (1 + nudges)).astype(dtype) for turn in turns])


def of_less_log1p(dtype):
    small = magnitudes(dtype, 40, low=float(np.finfo(dtype).tiny) ** 0.5 * 4, high=0.5)
    dense = np.linspace(-0.99, 4, 401)
    return np.concatenate([small, -small, dense, around_the_turns(dtype), above_minus_one(dtype)]).astype(
        dtype
    )


def of_softplus(dtype):
    """Down to where e^2x is no float."""
    x = np.concatenate([reals(dtype), np.linspace(-40, 4, 221)]).astype(dtype)
    return x[(x > 0.49 * np.log(float(np.finfo(dtype).tiny))) | (x < -1000)]


CASES = {
    "less_log1p": (numerics.less_log1p, of_less_log1p, mp_less_log1p, lambda x: x / (1 + x)),
    "softplus_less_sigmoid": (
        numerics.softplus_less_sigmoid,
        of_softplus,
        mp_softplus_less_sigmoid,
        lambda x: truth.sigmoid(x) ** 2,
    ),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@every_dtype
@every_case
def test_the_value_keeps_to_its_ulps_over_the_whole_range(case, dtype):
    function, data, true, _ = case
    x = data(dtype)
    assert ulps(as_users_do(function)(x), map(true, exact(x))).max() <= stated(function)


@every_dtype
@every_case
def test_the_derivative_keeps_to_its_ulps_over_the_whole_range(case, dtype):
    function, data, _, slope = case
    x = data(dtype)
    got = as_users_do(jax.grad(lambda x: jnp.sum(function(x))))(x)
    assert ulps(got, map(slope, exact(x))).max() <= stated(function)


@every_case
def test_the_second_derivative_is_right_in_both_modes(case):
    function, _, _, slope = case
    points = np.array([-0.4, 0.0, 1e-9, 0.7, 3.0])
    true = [float(mpmath.diff(slope, mpf(point))) for point in points]
    modes = [jax.vmap(outer(jax.grad(function))) for outer in (jax.jacfwd, jax.jacrev)]
    for found in jax.jit(lambda points: [mode(points) for mode in modes])(points):
        np.testing.assert_allclose(found, true, rtol=1e-12)


@every_case
def test_no_nan_is_hidden(case):
    assert np.isnan(jax.jit(case[0])(np.float32(np.nan)))


def test_less_log1p_at_the_end_of_its_domain_is_infinite():
    assert numerics.less_log1p(jnp.float32(-1)) == jnp.inf
