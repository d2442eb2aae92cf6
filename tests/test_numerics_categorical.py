"""The primitives of the losses of classes against mpmath, each within the ULPs its docstring states."""

import jax
import jax.numpy as jnp
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


def by_argument(function, position, *arguments):
    return jax.vmap(jax.grad(lambda *xs: function(*xs), position), in_axes=(0, None))(*arguments)


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
        assert off(numerics.poly_surprise(s, e), value, dtype) <= 4
        assert off(by_argument(numerics.poly_surprise, 0, s, e), slope, dtype) <= 4
        assert off(by_argument(numerics.poly_surprise, 1, s, e), other, dtype) <= 4


@every_dtype
@pytest.mark.parametrize("rate", [1e-3, 0.5, 1.0])
def test_saturated_and_its_derivatives_keep_to_their_ulps(dtype, rate):
    x, r = surprises(dtype), dtype(rate)
    x = x[(x < 80 / rate) & ((x > np.sqrt(np.finfo(dtype).tiny) * 2) | (x == 0))]
    with mpmath.workdps(DIGITS):
        exact, q = [mpf(float(a)) for a in x], mpf(float(r))
        value = [-mp.expm1(-q * a) / q for a in exact]
        slope = [mp.exp(-q * a) for a in exact]
        in_rate = [(mp.exp(-q * a) * (1 + q * a) - 1) / q**2 for a in exact]
        assert off(numerics.saturated(x, r), value, dtype) <= 4
        # A rounding of rx is as many ULPs of e^−rx as rx is large.
        assert off(by_argument(numerics.saturated, 0, x, r), slope, dtype) <= 4 + 80
        assert off(by_argument(numerics.saturated, 1, x, r), in_rate, dtype) <= 8


def test_saturated_at_rate_zero_is_its_argument():
    x = jnp.array([0.0, 0.5, 3.0])
    np.testing.assert_array_equal(numerics.saturated(x, 0.0), x)
    np.testing.assert_array_equal(
        jax.grad(lambda r: numerics.saturated(x, r).sum())(0.0), -0.5 * (x**2).sum()
    )


def sorted_projection(row, order):
    """Of one row, by the k largest that agree with their threshold."""
    x = sorted((mpf(float(a)) / order for a in row), reverse=True)
    for k in range(len(x), 0, -1):
        mean = mp.fsum(x[:k]) / k
        spread = mp.fsum((a - mean) ** 2 for a in x[:k])
        if order == 2 and spread > 1:
            continue
        tau = mean - (mpf(1) / k if order == 1 else mp.sqrt((1 - spread) / k))
        if x[k - 1] > tau:
            break
    return [float(max(mpf(0), mpf(float(a)) / order - tau) ** order) for a in row]


@every_dtype
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("classes", [1, 2, 7, 200])
def test_a_projection_is_right_to_ulps_of_one_for_any_number_of_classes(dtype, order, classes):
    rng = np.random.default_rng(classes)
    rows = np.concatenate(
        [size * rng.normal(size=(3, classes)) for size in (1e-3, 0.3, 5.0, 1e3)] + [np.zeros((1, classes))]
    ).astype(dtype)
    with mpmath.workdps(50):
        expected = [sorted_projection(row, order) for row in rows]
    found = np.asarray(as_users_do(numerics.projection, static_argnums=1)(rows, order))
    np.testing.assert_allclose(found, expected, rtol=0, atol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(found.sum(axis=-1, dtype=np.float64), 1, atol=classes * np.finfo(dtype).eps)


@pytest.mark.parametrize("order", [1, 2])
def test_the_jacobian_of_a_projection_is_symmetric_and_flat_along_a_shift(order):
    rows = jnp.asarray(np.random.default_rng(4).normal(size=(20, 6)))
    slopes = jax.vmap(jax.jacrev(lambda z: numerics.projection(z, order)))(rows)
    forward = jax.vmap(jax.jacfwd(lambda z: numerics.projection(z, order)))(rows)
    np.testing.assert_allclose(slopes, np.swapaxes(slopes, 1, 2), atol=1e-14)
    np.testing.assert_allclose(slopes, forward, atol=1e-14)
    np.testing.assert_allclose(slopes.sum(axis=-1), 0, atol=1e-14)


@pytest.mark.parametrize("order", [1, 2])
def test_a_projection_loss_keeps_its_digits_where_it_is_small(order):
    step = np.array([1e-3, 1e-5, 1e-7])
    logits = jnp.asarray(np.stack([order - step, 0 * step], axis=-1))
    found = numerics.projection_loss(logits, jnp.array([[1.0, 0.0]] * 3), order)
    # Two classes, the lead short of the one that costs nothing: the definition, in 60 digits.
    with mpmath.workdps(60):
        expected = []
        for lead in np.asarray(logits[:, 0]):
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
