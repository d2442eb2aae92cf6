"""Squared distances of every two rows from one matrix product, and rows picked without a scatter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import numerics

ROWS, FEATURES = 32, 17
RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(ROWS, FEATURES))
ALL = np.ones(ROWS, bool)


def exact(x):
    wide = np.asarray(x).astype(np.longdouble)
    return np.sum((wide[:, None] - wide) ** 2, axis=-1)


def sizes(x):
    """What a squared distance is a difference of: squares of distances from the mean."""
    wide = np.asarray(x).astype(np.longdouble)
    squares = np.sum((wide - wide.mean(axis=0)) ** 2, axis=-1)
    return squares[:, None] + squares


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_squared_distances_keep_to_their_ulps_of_the_spread(dtype, offset):
    x = (POINTS + offset).astype(dtype)
    found = np.asarray(jax.jit(numerics.squared_distances)(x, ALL))
    assert np.max(np.abs(found - exact(x)) / sizes(x)) <= 8 * np.finfo(dtype).eps


def test_what_is_not_there_does_not_move_the_mean():
    x, there = (POINTS + 1e3).astype(np.float32), np.arange(ROWS) < 8
    found = np.asarray(numerics.squared_distances(jnp.where(there[:, None], x, 0), there))[:8, :8]
    assert np.max(np.abs(found - exact(x[:8])) / sizes(x[:8])) <= 8 * np.finfo(np.float32).eps


def test_the_derivative_of_squared_distances_is_that_of_differences():
    weights = RNG.normal(size=(ROWS, ROWS))
    slope = jax.jit(jax.grad(lambda x: jnp.sum(weights * numerics.squared_distances(x, ALL))))
    found = slope(POINTS + 1e3)
    both = (weights + weights.T)[..., None]
    expected = np.sum(2 * both * (POINTS[:, None] - POINTS), axis=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)


def test_rows_are_picked_by_their_ids_with_the_derivative_of_a_gather():
    ids, weights = RNG.integers(0, ROWS, ROWS), RNG.normal(size=(ROWS, FEATURES))

    def of(pick):
        return lambda x: jnp.sum(weights * jnp.sin(pick(x)))

    def picked(x):
        return numerics.pick_rows(x, ids)

    slopes = [jax.grad(of(pick)) for pick in (picked, lambda x: x[ids])]
    rows, found, expected = jax.jit(lambda x: (picked(x), *(slope(x) for slope in slopes)))(POINTS)
    np.testing.assert_array_equal(rows, POINTS[ids])
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-15)


def test_the_derivative_of_picked_rows_does_not_scatter():
    program = jax.jit(jax.grad(lambda x, ids: jnp.sum(numerics.pick_rows(x, ids) ** 2)))
    assert "scatter" not in program.lower(POINTS, np.arange(ROWS)).as_text()
    indexed = jax.jit(jax.grad(lambda x, ids: jnp.sum(x[ids] ** 2)))
    assert "scatter" in indexed.lower(POINTS, np.arange(ROWS)).as_text()
