"""The primitives of divergences and labels against mpmath, in value and in derivative."""

import functools
import re

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from accuracy_table import exact, ulps
from mpmath import mpf
from programs import as_users_do

from jaxloss import numerics

every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def stated(function) -> int:
    return int(re.search(r"to\s+(\d+) ULPs", function.__doc__)[1])


@functools.cache
def with_slopes(function):
    """The values, and the derivatives in each argument, elementwise."""

    def run(*arguments):
        values, pullback = jax.vjp(function, *arguments)
        return values, pullback(jnp.ones_like(values))

    return as_users_do(run)


@every_dtype
def test_expm1_excess_and_its_derivative(dtype):
    x = np.concatenate([s * np.geomspace(1e-12, 80, 60) for s in (1, -1)]).astype(dtype)
    with mpmath.workdps(60):
        true = [mpmath.exp(a) - 1 - a for a in exact(x)]
        slope = [mpmath.expm1(a) for a in exact(x)]
    found, (in_x,) = with_slopes(numerics.expm1_excess)(x)
    assert ulps(found, true).max() <= stated(numerics.expm1_excess)
    assert ulps(in_x, slope).max() <= stated(numerics.expm1_excess)


NEAR = np.array([0, 1e-9, -1e-6, 1e-3, -0.02, 0.3, -0.5, 0.7, 3, -5, 20])
LEVELS = np.array([1e-6, 0.01, 0.2, 0.5, 0.9, 1.0])


def pairs(dtype):
    """Logarithms, from next to those of the numbers beside them to far from them."""
    y, apart = (grid.ravel().astype(dtype) for grid in np.meshgrid(LEVELS, NEAR))
    return (np.log(y) + apart).astype(dtype), y


@every_dtype
def test_surplus_entropy_and_its_derivatives(dtype):
    logs, y = pairs(dtype)
    found, (in_logs, in_y) = with_slopes(numerics.surplus_entropy)(logs, y)
    with mpmath.workdps(60):
        both = list(zip(exact(logs), exact(y), strict=True))
        true = [b * (mpmath.log(b) - a) - b + mpmath.exp(a) for a, b in both]
        # A rounding of e^x, or of log y, makes this of them.
        size = [t + abs(mpmath.exp(a) - b) * (1 + abs(a)) for t, (a, b) in zip(true, both, strict=True)]
        of_logs = [mpmath.exp(a) - b for a, b in both]
        of_y = [mpmath.log(b) - a for a, b in both]
    bound = stated(numerics.surplus_entropy)
    assert ulps(found, true, size).max() <= bound
    assert np.all(np.asarray(found) >= 0)
    assert ulps(in_logs, of_logs, [mpmath.exp(a) + b for a, b in both]).max() <= bound
    assert ulps(in_y, of_y, [abs(a) + 1 for a, _ in both]).max() <= bound


@every_dtype
@pytest.mark.parametrize("share", [0.5, 0.01, 0.875])
def test_mixture_entropy_and_its_derivatives(dtype, share):
    logs, y = pairs(dtype)
    beta = np.full_like(y, share)
    found, (in_logs, in_y, _) = with_slopes(numerics.mixture_entropy)(logs, y, beta)
    b = mpf(float(beta[0]))
    true, size, of_logs, of_y, log_size = [], [], [], [], []
    with mpmath.workdps(60):
        for a, t in zip(exact(logs), exact(y), strict=True):
            p = mpmath.exp(a)
            m = b * t + (1 - b) * p
            of_logs.append((1 - b) * p * mpmath.log(p / m))
            of_y.append(b * mpmath.log(t / m))
            true.append(t * of_y[-1] + of_logs[-1])
            size.append(abs(true[-1]) + abs(of_logs[-1]) * 2 + abs(t * of_y[-1]))
            log_size.append(abs(of_logs[-1]) + (1 - b) * p * b * t / m)
    bound = stated(numerics.mixture_entropy)
    assert ulps(found, true, size).max() <= bound
    assert ulps(in_logs, of_logs, log_size).max() <= bound
    assert ulps(in_y, of_y, [abs(o) + b for o in of_y]).max() <= bound


def test_a_class_that_neither_expects_has_no_entropy_and_no_derivative():
    for function, rest in ((numerics.surplus_entropy, ()), (numerics.mixture_entropy, (0.3,))):
        value, slopes = with_slopes(function)(-np.inf, 0.0, *rest)
        np.testing.assert_array_equal(value, 0.0)
        np.testing.assert_array_equal(slopes, 0.0)


@every_dtype
def test_root_distance_and_its_derivatives(dtype):
    logs, y = pairs(dtype)
    found, (in_logs, _) = with_slopes(numerics.root_distance)(logs, y)
    with mpmath.workdps(60):
        roots = [(mpmath.exp(a / 2), mpmath.sqrt(b)) for a, b in zip(exact(logs), exact(y), strict=True)]
        true = [(a - b) ** 2 / 2 for a, b in roots]
        size = [(a + b) * (abs(a - b) + float(np.finfo(dtype).eps) * (a + b)) for a, b in roots]
        slope = [a * (a - b) / 2 for a, b in roots]
    assert ulps(found, true, size).max() <= 4
    assert ulps(in_logs, slope, [a * (a + b) for a, b in roots]).max() <= 4


@as_users_do
def clipped_softplus(x, clip):
    """The values, and the derivatives by x."""
    values, pullback = jax.vjp(lambda x: numerics.clipped_softplus(x, clip), x)
    return values, pullback(jnp.ones_like(values))[0]


@every_dtype
@pytest.mark.parametrize("clip", [0.0, 0.05, 0.5])
def test_clipped_softplus_and_its_derivative(dtype, clip):
    x = np.concatenate([np.linspace(-30, 30, 81), [80, 300, 3e38, -3e38]]).astype(dtype)
    m = mpf(float(dtype(clip)))
    found, slope = clipped_softplus(x, dtype(clip))
    true, slopes_, sizes = [], [], []
    with mpmath.workdps(60):
        for a in exact(x):
            share, rest = 1 / (1 + mpmath.exp(-a)), 1 / (1 + mpmath.exp(a))
            over = share > m
            true.append(-mpmath.log(rest + m) if over and rest + m else (a if over else mpf(0)))
            slopes_.append(share / (1 + m * (1 + mpmath.exp(a))) if over else mpf(0))
            sizes.append(abs(true[-1]) + share / (rest + m) * (share if a < 1 else rest + m))
    bound = stated(numerics.clipped_softplus)
    assert ulps(found, true, sizes).max() <= bound
    assert ulps(slope, slopes_).max() <= bound


def test_no_curvature_takes_a_share_to_the_power_of_minus_two():
    logs, y = np.log(np.array([1e-30], np.float32)), np.array([0.0, 1e-30, 0.5], np.float32)
    curvature = jax.vmap(jax.grad(jax.grad(numerics.mixture_entropy)), (None, 0, None))
    found = jax.jit(curvature)(logs[0], y, np.float32(0.5))
    with mpmath.workdps(60):
        (x,), shares = [mpmath.exp(a) for a in exact(logs)], exact(y)
        # ½ x (log(x/m) + y/(x + y))
        true = [x / 2 * (mpmath.log(2 * x / (x + b)) + b / (x + b)) for b in shares]
    np.testing.assert_allclose(found, [float(t) for t in true], rtol=1e-4)


def test_clipped_softplus_has_no_curvature_where_its_slope_underflows():
    curvature = jax.jit(jax.vmap(jax.grad(jax.grad(numerics.clipped_softplus)), (0, None)))
    found = curvature(np.array([92.0, 104.0, 1e30], np.float32), np.float32(0.05))
    np.testing.assert_allclose(found, 0, atol=1e-37)


@as_users_do
def pulled_softmax(z, pull):
    """The softmax, and the gradient of its product with `pull`."""
    values, pullback = jax.vjp(numerics.softmax, z)
    return values, pullback(pull)[0]


@every_dtype
@pytest.mark.parametrize("lead", [0, 3, 17, 40])
def test_softmax_keeps_the_digits_of_its_derivative(dtype, lead):
    z = np.array([lead, 0.5, -1, 0], dtype)
    pull = np.array([2.0, -1.0, 0.5, 3.0], dtype)
    found, slope = pulled_softmax(z, pull)
    with mpmath.workdps(60):
        parts = [mpmath.exp(a) for a in exact(z)]
        p = [a / sum(parts) for a in parts]
        g = exact(pull)
        true = [a * sum(c * (b - d) for c, d in zip(p, g, strict=True)) for a, b in zip(p, g, strict=True)]
        size = [
            a
            * (1 + lead)
            * sum(c * (abs(b) + abs(d)) for i, (c, d) in enumerate(zip(p, g, strict=True)) if i != j)
            for j, (a, b) in enumerate(zip(p, g, strict=True))
        ]
    assert ulps(found, p, [a * (1 + lead) for a in p]).max() <= stated(numerics.softmax)
    assert ulps(slope, true, size).max() <= 16


def test_softmax_divergence_of_a_student_who_agrees_is_nothing_to_the_last_digit():
    z = np.array([80.0, 0.0, -3.0])
    value, (of_student, of_teacher) = with_slopes(numerics.softmax_divergence)(z, z)
    np.testing.assert_array_equal(value, 0.0)
    np.testing.assert_allclose(of_student, 0.0, atol=1e-15)
    np.testing.assert_array_equal(of_teacher, 0.0)


renyi_curvature = jax.jit(jax.hessian(numerics.renyi_divergence))


@pytest.mark.parametrize("degree", [-0.8, -0.5, 0.0, 1.0])
def test_renyis_second_derivative_is_fishers_where_two_uniform_distributions_meet(degree):
    shares = np.full(5, 0.2)
    curvature = renyi_curvature(np.log(shares), shares, np.full(5, degree))
    fisher = np.diag(shares) - np.outer(shares, shares)
    np.testing.assert_allclose(curvature, degree * fisher, atol=1e-15)
