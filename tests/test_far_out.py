"""Batches so far out, or so small, that the square of an entry is no float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import contrastive, metric

RNG = np.random.default_rng(0)
FIRST = RNG.normal(size=(6, 3))
SECOND = FIRST + 0.3 * RNG.normal(size=(6, 3))
LABELS = np.array([0, 0, 1, 1, 2, 2])
FAR = pytest.mark.parametrize("size", [1e12, 1e20, 1e30])


def losses_and_slope(loss, x, dtype):
    losses, pullback = jax.vjp(loss, jnp.asarray(x, dtype))
    return losses, pullback(jnp.ones_like(losses))[0]


@FAR
def test_correlations_have_no_unit(size):
    def twins(first):
        return contrastive.barlow_twins(first, jnp.asarray(size * SECOND, first.dtype))

    found, slope = losses_and_slope(twins, size * FIRST, np.float32)
    expected, exact = losses_and_slope(twins, size * FIRST, np.float64)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    np.testing.assert_allclose(size * slope, size * exact, rtol=0, atol=1e-5)


@FAR
def test_a_triplet_is_found_and_pulled_however_far_its_square_is_out(size):
    for mine in (metric.batch_hard_triplet, metric.semi_hard_triplet):
        found, slope = losses_and_slope(lambda x, mine=mine: mine(x, LABELS), size * FIRST, np.float32)
        expected, exact = losses_and_slope(lambda x, mine=mine: mine(x, LABELS), size * FIRST, np.float64)
        with np.errstate(over="ignore"):
            np.testing.assert_allclose(found, np.asarray(expected).astype(np.float32), rtol=1e-5)
        np.testing.assert_allclose(slope, exact, rtol=0, atol=1e-5 * np.max(np.abs(exact)))


def test_the_stranger_that_is_farther_is_found_where_squares_underflow():
    found, exact = (
        losses_and_slope(lambda x: metric.semi_hard_triplet(x, LABELS), 1e-30 * FIRST, dtype)[1]
        for dtype in (np.float32, np.float64)
    )
    np.testing.assert_allclose(found * 1e30, exact * 1e30, rtol=0, atol=1e-5)


@pytest.mark.parametrize("offset", [1e4, 1e10, 1e30])
def test_a_teacher_may_be_sure_or_have_an_offset(offset):
    teacher = np.array([offset, offset, 0.0], np.float32)
    shares = np.array([0.5, 0.5, 0.0])
    found, slope = jax.value_and_grad(contrastive.dino)(jnp.zeros(3), jnp.asarray(teacher))
    np.testing.assert_allclose(found, np.log(3), rtol=1e-6)
    np.testing.assert_allclose(slope, 10 * (1 / 3 - shares), rtol=1e-5)
    near = teacher[:2] + np.float32(offset < 1e6) * np.array([0.0, 0.0625], np.float32)
    sharp = np.exp((near.astype(float) - near[1]) / 0.04)
    student = np.array([1.0, -1.0], np.float32)
    expected = np.sum(sharp / sharp.sum() * (np.logaddexp(10.0, -10.0) - 10.0 * student))
    np.testing.assert_allclose(contrastive.dino(student, near), expected, rtol=1e-5)
