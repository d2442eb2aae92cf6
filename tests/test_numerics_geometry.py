"""Norms of any degree, sines and signed powers against mpmath, each within the ULPs its docstring states."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from accuracy_table import exact, ulps
from mpmath import mpf
from programs import as_users_do
from test_numerics import every_dtype, magnitudes, pairs, stated, vectors

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
    x, degree = vectors(dtype)[::3], jnp.asarray(p, dtype)
    total = as_users_do(jax.grad(lambda x: jnp.sum(numerics.norm_of_degree(x, degree))))
    value = as_users_do(lambda x: numerics.norm_of_degree(x, degree))(x)
    rows = exact(x)
    assert ulps(value, [norm(row, p) for row in rows]).max() <= stated(numerics.norm_of_degree)
    slopes = [v for row in rows for v in unit(row, p)]
    assert ulps(total(x), slopes).max() <= stated(numerics.norm_of_degree)


@pytest.mark.parametrize("p", DEGREES)
@pytest.mark.parametrize("derivative", [jax.jacfwd, jax.jacrev, jax.hessian])
def test_at_the_zero_vector_a_norm_has_zero_derivatives(p, derivative):
    assert not jnp.any(derivative(lambda x: numerics.norm_of_degree(x, jnp.asarray(p)))(jnp.zeros(3)))


def test_the_hessian_of_the_norm_of_degree_two_is_that_of_safe_norm_at_a_zero_entry_too():
    x = jnp.array([3.0, 0.0, -4.0])
    found = jax.hessian(lambda x: numerics.norm_of_degree(x, jnp.asarray(2.0)))(x)
    np.testing.assert_allclose(found, jax.hessian(numerics.safe_norm)(x), rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize("degree", [1.0, np.inf])
def test_a_norm_hides_no_nan(degree):
    assert jnp.isnan(numerics.norm_of_degree(jnp.array([1.0, jnp.nan]), jnp.asarray(degree)))


def test_a_degree_that_is_none_gives_no_norm():
    assert jnp.isnan(numerics.norm_of_degree(jnp.array([1.0]), jnp.asarray(jnp.nan)))


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
    np.testing.assert_array_equal(jax.grad(numerics.sine_of_cosine)(cosine), 0.0)
