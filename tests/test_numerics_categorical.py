"""The primitives of the losses of classes against mpmath, each within the ULPs its docstring states."""

import functools
from itertools import accumulate

import jax
import mpmath
import numpy as np
import pytest
from mpmath import mp, mpf
from programs import as_users_do

from jaxloss import numerics

# 1 − e^−x of the smallest double has its first digit at the 308th.
DIGITS = 700

every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def surprises(dtype):
    """From the smallest whose terms are all normal to the largest, and where a formula changes."""
    limits = np.finfo(dtype)
    size = np.exp(np.linspace(np.log(8 * limits.tiny), np.log(limits.max) - 1, 60))
    return np.unique(
        np.concatenate([[0], size, np.linspace(0.01, 2, 80), [17, 80, 88.8, 104, 746]]).astype(dtype)
    )


def off(found, truth, dtype):
    """The largest error in ULPs; what underflows in the truth may be flushed to zero."""
    found, tiny = np.asarray(found), float(np.finfo(dtype).tiny)
    errors = [
        0.0
        if abs(t) < 2 * tiny and abs(f) < 4 * tiny
        else float(abs(mpf(float(f)) - t) / abs(t) / mpf(float(np.finfo(dtype).eps)))
        for f, t in zip(found.ravel(), truth, strict=True)
    ]
    return max(errors)


@functools.cache
def with_slopes(function):
    """The value, and the derivative by each of two arguments, of which the second is one number."""
    slopes = [jax.vmap(jax.grad(function, position), in_axes=(0, None)) for position in range(2)]
    return as_users_do(lambda x, y: (function(x, y), *(slope(x, y) for slope in slopes)))


@every_dtype
@pytest.mark.parametrize("epsilon", [-1.0, -0.75, 0.0, 2.0])
def test_poly_surprise_and_its_derivatives_keep_to_their_ulps(dtype, epsilon):
    s, e = surprises(dtype), dtype(epsilon)
    s = s[s < np.finfo(dtype).max / 4]
    with mpmath.workdps(DIGITS):
        exact = [mpf(float(x)) for x in s]
        value = [x + epsilon * -mp.expm1(-x) for x in exact]
        slope = [1 + epsilon * mp.exp(-x) for x in exact]
        other = [-mp.expm1(-x) for x in exact]
        found = with_slopes(numerics.poly_surprise)(s, e)
        for got, true in zip(found, (value, slope, other), strict=True):
            assert off(got, true, dtype) <= 4


@every_dtype
@pytest.mark.parametrize("rate", [1e-3, 0.5, 1.0])
def test_saturated_and_its_derivatives_keep_to_their_ulps(dtype, rate):
    x, r = surprises(dtype), dtype(rate)
    kept = (x < 80 / rate) & ((x > np.sqrt(np.finfo(dtype).tiny) * 2) | (x == 0))
    found, in_x, in_r = (np.asarray(each)[kept] for each in with_slopes(numerics.saturated)(x, r))
    with mpmath.workdps(DIGITS):
        exact, q = [mpf(float(a)) for a in x[kept]], mpf(float(r))
        value = [-mp.expm1(-q * a) / q for a in exact]
        slope = [mp.exp(-q * a) for a in exact]
        in_rate = [(mp.exp(-q * a) * (1 + q * a) - 1) / q**2 for a in exact]
        assert off(found, value, dtype) <= 4
        # A rounding of rx is as many ULPs of e^−rx as rx is large.
        assert off(in_x, slope, dtype) <= 4 + 80
        assert off(in_r, in_rate, dtype) <= 8


def test_saturated_at_rate_zero_is_its_argument():
    x = np.array([0.0, 0.5, 3.0])
    found, _, in_rate = with_slopes(numerics.saturated)(x, 0.0)
    np.testing.assert_array_equal(found, x)
    np.testing.assert_array_equal(in_rate, -0.5 * x**2)


def sorted_projection(row, order):
    """Of one row, by the k largest that agree with their threshold."""
    x = sorted((mpf(float(a)) / order for a in row), reverse=True)
    sums, squares = list(accumulate(x)), list(accumulate(a * a for a in x))
    for k in range(len(x), 0, -1):
        mean = sums[k - 1] / k
        spread = squares[k - 1] - k * mean**2
        if order == 2 and spread > 1:
            continue
        tau = mean - (mpf(1) / k if order == 1 else mp.sqrt((1 - spread) / k))
        if x[k - 1] > tau:
            break
    return [float(max(mpf(0), mpf(float(a)) / order - tau) ** order) for a in row]


@every_dtype
@pytest.mark.parametrize("classes", [1, 2, 7, 200])
def test_a_projection_is_right_to_ulps_of_one_for_any_number_of_classes(dtype, classes):
    rng = np.random.default_rng(classes)
    rows = np.concatenate(
        [size * rng.normal(size=(3, classes)) for size in (1e-3, 0.3, 5.0, 1e3)] + [np.zeros((1, classes))]
    ).astype(dtype)
    eps, orders = np.finfo(dtype).eps, (1, 2)
    both = as_users_do(lambda rows: [numerics.projection(rows, order) for order in orders])(rows)
    for order, found in zip(orders, map(np.asarray, both), strict=True):
        with mpmath.workdps(60):
            expected = [sorted_projection(row, order) for row in rows]
        np.testing.assert_allclose(found, expected, rtol=0, atol=4 * eps)
        np.testing.assert_allclose(found.sum(axis=-1, dtype=np.float64), 1, atol=classes * eps)


@pytest.mark.parametrize("order", [1, 2])
def test_the_jacobian_of_a_projection_is_symmetric_and_flat_along_a_shift(order):
    rows = np.random.default_rng(4).normal(size=(20, 6))
    modes = [jax.vmap(mode(lambda z: numerics.projection(z, order))) for mode in (jax.jacrev, jax.jacfwd)]
    slopes, forward = map(np.asarray, jax.jit(lambda rows: [mode(rows) for mode in modes])(rows))
    np.testing.assert_allclose(slopes, np.swapaxes(slopes, 1, 2), atol=1e-14)
    np.testing.assert_allclose(slopes, forward, atol=1e-14)
    np.testing.assert_allclose(slopes.sum(axis=-1), 0, atol=1e-14)


@pytest.mark.parametrize("order", [1, 2])
def test_a_projection_loss_keeps_its_digits_where_it_is_small(order):
    step = np.array([1e-3, 1e-5, 1e-7])
    logits = np.stack([order - step, 0 * step], axis=-1)
    found = jax.jit(numerics.projection_loss, static_argnums=2)(logits, np.array([[1.0, 0.0]] * 3), order)
    # Two classes, the lead short of the one that costs nothing: the definition, in 60 digits.
    with mpmath.workdps(60):
        expected = []
        for lead in logits[:, 0]:
            z = [mpf(float(lead)), mpf(0)]
            alpha = 1 + mpf(1) / order
            x = [a / order for a in z]
            mean = sum(x) / 2
            spread = sum((a - mean) ** 2 for a in x)
            tau = mean - (mpf(1) / 2 if order == 1 else mp.sqrt((1 - spread) / 2))
            p = [(a - tau) ** order for a in x]
            negentropy = (sum(a**alpha for a in p) - 1) / (alpha * (alpha - 1))
            expected.append(float(sum(a * b for a, b in zip(p, z, strict=True)) - negentropy - z[0]))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
