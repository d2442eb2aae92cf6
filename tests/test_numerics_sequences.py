"""`log_add` against mpmath."""

import jax
import mpmath
import numpy as np
import pytest
from programs import as_users_do

from jaxloss.numerics import log_add

POINTS = [-np.inf, -3e38, -1e4, -50.0, -1.0, -1e-8, 0.0, 1e-8, 0.5, 30.0, 1e4, 3e38]
PAIRS = [(x, y) for x in POINTS for y in POINTS]
EVERY = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def exact(x, y):
    with mpmath.workdps(60):
        x, y = max(x, y), min(x, y)
        return (
            float(x) if y == -np.inf else float(mpmath.mpf(x) + mpmath.log1p(mpmath.exp(mpmath.mpf(y) - x)))
        )


@EVERY
def test_log_add_is_within_two_ulps(dtype):
    x, y = np.array(PAIRS, dtype).T
    found = np.asarray(as_users_do(log_add)(x, y), np.float64)
    expected = np.array([exact(float(a), float(b)) for a, b in zip(x, y, strict=True)])
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(found[~finite], expected[~finite])
    found, expected, larger = found[finite], expected[finite], np.maximum(x, y)[finite].astype(np.float64)
    scale = np.maximum(np.abs(expected), np.abs(larger))
    assert np.all(np.abs(found - expected) <= 2 * np.finfo(dtype).eps * scale)


@EVERY
def test_the_derivatives_of_log_add_are_shares(dtype):
    x, y = np.array(PAIRS, dtype).T
    by_x, by_y = (as_users_do(jax.vmap(jax.grad(log_add, argnums=position)))(x, y) for position in (0, 1))
    both_gone = (x == -np.inf) & (y == -np.inf)
    np.testing.assert_allclose(by_x + by_y, np.where(both_gone, 0, 1), rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(by_x[(x == y) & ~both_gone], 0.5)
    np.testing.assert_array_equal(by_x[(x > -np.inf) & (y == -np.inf)], 1)


def test_log_add_keeps_a_nan():
    assert np.isnan(log_add(np.float32(np.nan), np.float32(0)))
    assert np.isnan(log_add(np.float32(0), np.float32(np.nan)))
