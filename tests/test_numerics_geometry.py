"""Norms of any degree, sines and signed powers against mpmath, each within the ULPs its docstring states."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from accuracy_table import exact, ulps
from mpmath import mpf
from programs import as_users_do
from test_numerics import every_dtype, jacobians, magnitudes, pairs, stated, vectors

from jaxloss import numerics

DEGREES = (1.0, 1.5, 2.0, 3.0, np.inf)


def norm(row, p):
    size = max(map(abs, row))
    return size if p == np.inf else size * mpmath.fsum((abs(v) / size) ** mpf(p) for v in row) ** (1 / mpf(p))


def unit(row, p):
    size = norm(row, p)
    if p == np.inf:
        largest = [abs(v) == size for v in row]
        return [mpmath.sign(v) * is_it / sum(largest) for v, is_it in zip(row, largest, strict=True)]
    return [mpmath.sign(v) * (abs(v) / size) ** (mpf(p) - 1) for v in row]


@every_dtype
@pytest.mark.parametrize("p", DEGREES)
def test_a_norm_and_its_gradient_keep_to_their_ulps_over_the_whole_range(p, dtype):
    x = vectors(dtype)[::3]

    @as_users_do
    def with_slopes(x):
        values, pullback = jax.vjp(lambda x: numerics.norm_of_degree(x, jnp.asarray(p, dtype)), x)
        return values, pullback(jnp.ones_like(values))[0]

    rows, (values, slopes) = exact(x), with_slopes(x)
    assert ulps(values, [norm(row, p) for row in rows]).max() <= stated(numerics.norm_of_degree)
    true = [v for row in rows for v in unit(row, p)]
    assert ulps(slopes, true).max() <= stated(numerics.norm_of_degree)


@pytest.mark.parametrize("p", DEGREES)
def test_at_the_zero_vector_a_norm_has_zero_derivatives(p):
    for derivative in jacobians(numerics.norm_of_degree)(np.zeros(3), np.asarray(p)).values():
        np.testing.assert_array_equal(derivative, 0)


def test_the_hessian_of_the_norm_of_degree_two_is_that_of_safe_norm_at_a_zero_entry_too():
    x = np.array([3.0, 0.0, -4.0])
    found, expected = jacobians(numerics.norm_of_degree)(x, np.asarray(2.0)), jacobians(numerics.safe_norm)(x)
    np.testing.assert_allclose(found["second"], expected["second"], rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize("degree", [1.0, np.inf])
def test_a_norm_hides_no_nan(degree):
    assert np.isnan(jax.jit(numerics.norm_of_degree)(np.array([1.0, np.nan]), np.asarray(degree)))


def test_a_degree_that_is_none_gives_no_norm():
    assert np.isnan(jax.jit(numerics.norm_of_degree)(np.array([1.0]), np.asarray(np.nan)))


@every_dtype
def test_a_signed_power_keeps_to_its_ulps(dtype):
    size, exponent = pairs(
        magnitudes(dtype, 40, low=1e-6, high=1e6).astype(dtype), np.array([0.5, 1, 1.5, 2, 3], dtype)
    )
    got = as_users_do(numerics.signed_power)(-size, exponent)
    true = [-(a**b) for a, b in zip(exact(size), exact(exponent), strict=True)]
    assert ulps(got, true).max() <= stated(numerics.signed_power)


@every_dtype
def test_a_sine_keeps_to_its_ulps_up_to_the_end(dtype):
    near = 1 - magnitudes(dtype, 60, low=float(np.finfo(dtype).eps), high=1.0)
    x = np.concatenate([near, -near]).astype(dtype)
    true = [mpmath.sqrt((1 - c) * (1 + c)) for c in exact(x)]
    assert ulps(as_users_do(numerics.sine_of_cosine)(x), true).max() <= stated(numerics.sine_of_cosine)


@pytest.mark.parametrize("cosine", [1.0, -1.0, 1.1])
def test_at_its_end_a_sine_has_derivative_zero(cosine):
    np.testing.assert_array_equal(jax.jit(jax.grad(numerics.sine_of_cosine))(cosine), 0.0)
