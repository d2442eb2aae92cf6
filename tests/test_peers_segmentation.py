"""The segmentation losses beside Optax's and Keras's: equal wherever the peer is right."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import LAID_OUT

import jaxloss as jl
from jaxloss.losses import segmentation

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(3, 4, 5, 3))
IDS = RANDOM.integers(0, 3, size=(3, 4, 5))
ONE_HOT = np.eye(3)[IDS]


def same_value_and_gradient(ours, theirs, tolerance=1e-12):
    """Of both functions of the logits, one value an example."""

    @jax.jit
    def both(logits):
        found = [jax.vjp(f, logits) for f in (ours, theirs)]
        return [(losses, back(jnp.ones_like(losses))[0]) for losses, back in found]

    (losses, slopes), (their_losses, their_slopes) = both(LOGITS)
    np.testing.assert_allclose(losses, their_losses, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(slopes, their_slopes, rtol=1e-6, atol=tolerance)


@pytest.fixture
def optax():
    return pytest.importorskip("optax", minversion="0.2.6", reason="Optax has these losses from 0.2.6 on")


@pytest.fixture
def keras():
    os.environ["KERAS_BACKEND"] = "jax"
    return pytest.importorskip("keras", reason="Keras is the peer")


@pytest.mark.parametrize("smooth", [1.0, 0.1])
def test_dice_is_optaxs(optax, smooth):
    same_value_and_gradient(
        lambda z: segmentation.dice(z, IDS, smooth=smooth),
        lambda z: optax.losses.dice_loss(z, ONE_HOT, smooth=smooth),
    )


def test_tversky_is_optaxs(optax):
    options = {"alpha": 0.3, "beta": 0.7, "smooth": 0.5}
    same_value_and_gradient(
        lambda z: segmentation.tversky(z, IDS, **options),
        lambda z: optax.losses.dice_loss(z, ONE_HOT, **options),
    )


def test_jaccard_is_tversky_at_one_and_one():
    same_value_and_gradient(
        lambda z: segmentation.jaccard(z, IDS),
        lambda z: segmentation.tversky(z, IDS, alpha=1.0, beta=1.0),
    )


def of_each_class(loss, **options):
    """A loss of Keras, of each class by itself, and the mean over the classes."""

    def run(logits):
        return jnp.mean(loss(ONE_HOT, jax.nn.softmax(logits), axis=(1, 2), **options), axis=-1)

    return run


# Keras adds 1e-7 below.
KERAS = 1e-7


def test_dice_is_keras(keras):
    same_value_and_gradient(
        lambda z: segmentation.dice(z, IDS, smooth=0.0), of_each_class(keras.losses.dice), KERAS
    )


def test_tversky_is_keras_with_the_prices_in_each_others_place(keras):
    """Its alpha is said to be that of false positives, and multiplies t (1 − p), which is missed."""
    same_value_and_gradient(
        lambda z: segmentation.tversky(z, IDS, alpha=0.3, beta=0.7, smooth=0.0),
        of_each_class(keras.losses.tversky, alpha=0.7, beta=0.3),
        KERAS,
    )


def test_a_false_positive_costs_alpha_and_in_keras_beta(keras):
    """One pixel there and found, one not there and found: Salehi (2017), eq. 2 gives 1 − 1 / (1 + α)."""
    found = np.array([[[30.0, 0.0], [30.0, 0.0]]])
    ours = segmentation.tversky(found, np.array([[0, 1]]), alpha=0.5, beta=0.25, smooth=0.0)
    there, predicted = np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]])
    theirs = keras.losses.tversky(there, predicted, alpha=0.5, beta=0.25)
    # The second class is missed altogether: it costs 1.
    np.testing.assert_allclose(ours, [(0.5 / 1.5 + 1) / 2], rtol=1e-9)
    np.testing.assert_allclose(theirs, 0.25 / 1.25, rtol=1e-6)


def test_optax_is_blind_when_a_class_is_absent(optax):
    """Two classes in each other's place in every pixel, a third nowhere: all is wrong."""
    ids = np.arange(8).reshape(1, 2, 4) % 2
    swapped = 60 * np.eye(3)[1 - ids]
    ours = segmentation.generalized_dice(swapped, ids)
    with jax.numpy_rank_promotion("allow"):
        theirs = jax.jit(optax.losses.multiclass_generalized_dice_loss)(swapped, np.eye(3)[ids])
    np.testing.assert_allclose(ours, [1.0], rtol=1e-12)
    assert theirs < 1e-6
    total = jax.grad(lambda z: jnp.sum(segmentation.generalized_dice(z, ids)))
    slope = jax.jit(total)(swapped / 30)
    assert np.all(np.abs(slope[..., :2]) > 1e-3)


def test_optax_has_no_digit_left_of_an_image_that_is_all_but_right(optax):
    logits = np.float32(20 * np.eye(2))[None]
    ids = np.array([[0, 1]])
    expected = 1 / (1 + 2 * np.exp(20.0))  # ½(F + M) = e^−20 of each class, over 2
    np.testing.assert_allclose(segmentation.dice(logits, ids), [expected], rtol=1e-5)
    assert optax.losses.dice_loss(logits, np.eye(2, dtype=np.float32)[ids]) == 0


# --- what is masked is not there --------------------------------------------------------------------

ALL = ("dice", "generalized_dice", "tversky", "focal_tversky", "jaccard", "lovasz_softmax")


@functools.cache
def of_all_pixels(name):
    loss = getattr(jl.segmentation, name)
    return jax.jit(jax.value_and_grad(lambda z: jnp.sum(loss(z, IDS))))(LOGITS)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("by", ["where", "ignore_index"])
def test_padded_is_dropped(name, by):
    """NaN in padded columns reaches no value and no gradient."""
    loss = getattr(jl.segmentation, name)
    padded = np.concatenate([LOGITS, np.full((3, 4, 2, 3), np.nan)], axis=2)
    ids = np.concatenate([IDS, np.full((3, 4, 2), 9)], axis=2)
    mask = {"where": (np.arange(7) < 5)[None, None, :]} if by == "where" else {"ignore_index": 9}
    value, slope = jax.jit(jax.value_and_grad(lambda z: jnp.sum(loss(z, ids, **mask))))(padded)
    expected, expected_slope = of_all_pixels(name)
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    np.testing.assert_allclose(slope[:, :, :5], expected_slope, rtol=1e-10, atol=1e-15)
    assert not np.any(slope[:, :, 5:])


@pytest.mark.parametrize("name", ALL)
def test_one_hot_rows_are_their_ids(name):
    loss = getattr(jl.segmentation, name)
    np.testing.assert_allclose(loss(LOGITS, ONE_HOT), loss(LOGITS, IDS), rtol=1e-14)


def test_a_mask_of_rows_is_refused_where_one_of_pixels_is_meant():
    with pytest.raises(ValueError, match=r"`where` \(3,\) must have the shape \(3, 4, 5\)"):
        segmentation.dice(LOGITS, IDS, where=np.ones(3, bool))


def test_one_class_is_refused_in_words():
    with pytest.raises(ValueError, match=r"two classes or more, got \(3, 4, 5, 1\)"):
        segmentation.dice(LOGITS[..., :1], IDS)


def test_a_soft_label_is_no_set_for_the_lovasz_extension():
    soft = np.full((3, 4, 5, 3), 1 / 3)
    assert np.all(np.isnan(segmentation.lovasz_softmax(LOGITS, soft)))


def test_an_image_without_foreground_costs_its_largest_error():
    logits = np.array([[0.5, -0.25, -3.0]])
    np.testing.assert_array_equal(segmentation.lovasz_hinge(logits, np.zeros((1, 3))), [1.5])


def test_the_lovasz_losses_sort_and_never_compare_all_pixels_with_all():
    logits = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    ids = jax.ShapeDtypeStruct((1, 256, 256), jnp.int32)
    run = jax.jit(jax.value_and_grad(lambda z, y: jnp.sum(segmentation.lovasz_softmax(z, y))))
    memory = run.lower(logits, ids).compile(LAID_OUT).memory_analysis()
    pixels = 256 * 256
    assert memory.temp_size_in_bytes < 32 * pixels * 3 * 4
