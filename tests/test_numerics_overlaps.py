"""Probabilities with their complements, shares of a sum and the Lovász extension, against mpmath."""

import accuracy_table as truth
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from accuracy_table import exact, ulps
from programs import as_users_do
from test_numerics import class_rows, every_dtype, magnitudes_of_both, stated

from jaxloss import numerics, segmentation


@every_dtype
def test_a_share_and_its_derivatives_keep_to_their_ulps_over_the_whole_range(dtype):
    x, y = (np.abs(a)[::7] for a in magnitudes_of_both(dtype))
    middle = (x > 1e-15) & (x < 1e15) & (y > 1e-15) & (y < 1e15)
    x, y = x[middle], y[middle]
    data = list(zip(exact(x), exact(y), strict=True))
    gradient = jax.grad(lambda x, y: jnp.sum(numerics.share(x, y)), argnums=(0, 1))
    found, slopes = as_users_do(lambda x, y: (numerics.share(x, y), gradient(x, y)))(x, y)
    allowed = 2 * stated(numerics.share)
    assert ulps(found, [a / (a + b) for a, b in data]).max() <= allowed
    assert ulps(slopes[0], [b / (a + b) ** 2 for a, b in data]).max() <= allowed
    assert ulps(slopes[1], [-a / (a + b) ** 2 for a, b in data]).max() <= allowed


def test_of_nothing_a_share_is_nothing_with_zero_derivatives():
    assert jax.jit(jax.value_and_grad(numerics.share, argnums=(0, 1)))(0.0, 0.0) == (0, (0, 0))


@every_dtype
def test_a_complement_has_its_digits_where_a_class_has_it_all(dtype):
    x = class_rows(dtype)
    _, rest = as_users_do(numerics.probabilities)(x)
    true = [
        mpmath.fsum(p for c, p in enumerate(truth.softmax(row)) if c != j)
        for row in exact(x)
        for j in range(5)
    ]
    reach = np.array([1 + abs(float(mpmath.log(t))) if t else 1.0 for t in true])
    assert np.max(ulps(rest, true) / reach) <= 8


@every_dtype
def test_the_slope_of_a_leading_class_has_its_digits(dtype):
    x = jnp.asarray([20.0, 0.0, 0.0], dtype)
    slope = as_users_do(jax.grad(lambda z: numerics.probabilities(z)[0][0]))(x)
    small = np.exp(-20.0) / (1 + 2 * np.exp(-20.0)) ** 2
    np.testing.assert_allclose(slope, [2 * small, -small, -small], rtol=20 * float(np.finfo(dtype).eps))


# --- the Lovász extension -------------------------------------------------------------------------


def extension(errors, members):
    """By its definition: what each pixel, the worst first, adds to the Jaccard loss of those before it."""
    order = np.argsort(-errors, kind="stable")
    size, losses = members.sum(), [0.0]
    for count in range(1, len(order) + 1):
        wrong = np.isin(np.arange(len(order)), order[:count])
        losses.append(1 - (members * ~wrong).sum() / np.maximum(size + ((1 - members) * wrong).sum(), 1))
    gains = np.zeros(len(order))
    gains[order] = np.diff(losses)
    return np.sum(np.maximum(errors, 0) * gains), np.where(errors > 0, gains, 0)


value_and_slopes = jax.jit(jax.value_and_grad(numerics.lovasz_jaccard))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_extension_and_its_slopes_are_those_of_the_definition(share):
    rng = np.random.default_rng(0)
    errors, members = rng.normal(size=40), (rng.random(40) < share).astype(float)
    value, slopes = value_and_slopes(errors, members)
    expected_value, expected_slopes = extension(errors, members)
    np.testing.assert_allclose(value, expected_value, rtol=1e-14)
    np.testing.assert_allclose(slopes, expected_slopes, rtol=1e-13, atol=1e-16)


def test_the_gains_have_their_digits_among_a_million_pixels():
    """A difference of two Jaccard indices near 1e-6 apart has none in float32."""
    pixels = 1 << 20
    errors = np.linspace(1, 2, pixels, dtype=np.float32)
    members = (np.arange(pixels) % 2).astype(np.float32)
    slopes = np.asarray(as_users_do(jax.grad(numerics.lovasz_jaccard))(errors, members), np.float64)
    inside = np.cumsum(members[::-1].astype(np.float64))
    union = (members.sum() + np.arange(1, pixels + 1) - inside)[::-1]
    left = (members.sum() - inside)[::-1]
    expected = np.where(members == 1, 1 / union, left / (union * np.maximum(union - 1, 1)))
    np.testing.assert_allclose(slopes, expected, rtol=4e-7)


def test_forward_mode_and_the_second_order_agree_with_reverse_mode():
    errors, members = np.array([0.5, -1.0, 2.0, 0.1]), np.array([1.0, 0.0, 0.0, 1.0])

    @jax.jit
    def derivatives(errors, members):
        def along(e):
            return jax.jvp(lambda e: numerics.lovasz_jaccard(e, members), (e,), (e,))[0]

        modes = [jax.jacfwd, jax.jacrev, jax.hessian]
        _, twice = jax.jvp(along, (errors,), (errors,))
        return *[mode(numerics.lovasz_jaccard)(errors, members) for mode in modes], twice

    forward, reverse, second, twice = derivatives(errors, members)
    np.testing.assert_array_equal(forward, reverse)
    assert not np.any(second)
    np.testing.assert_allclose(twice, forward @ errors, rtol=1e-15)


def test_the_extension_hides_no_nan():
    assert np.isnan(jax.jit(numerics.lovasz_jaccard)(np.array([1.0, np.nan]), np.array([1.0, 0.0])))


def test_the_memory_is_that_of_a_few_arrays_and_not_of_a_square():
    pixels = 1 << 16
    images = jax.ShapeDtypeStruct((2, pixels), jnp.float32)
    compiled = as_users_do(jax.value_and_grad(lambda e, m: jnp.sum(numerics.lovasz_jaccard(e, m)))).lower(
        images, images
    )
    assert compiled.compile().memory_analysis().temp_size_in_bytes < 24 * 2 * pixels * 4


@pytest.mark.parametrize("shape", [(0, 4), (0, 2, 3)])
def test_a_batch_of_no_images_has_no_lovasz_losses(shape):
    assert segmentation.lovasz_hinge(np.zeros(shape), np.zeros(shape)).shape == (0,)
    assert segmentation.lovasz_softmax(np.zeros((*shape, 3)), np.zeros(shape, int)).shape == (0,)


def test_an_image_of_no_pixels_has_a_lovasz_loss_of_nothing():
    found = segmentation.lovasz_softmax(np.zeros((2, 0, 3)), np.zeros((2, 0), int))
    np.testing.assert_array_equal(found, [0, 0])
