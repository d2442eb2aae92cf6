"""Triplets found in a batch, beside all of its triplets, as the papers and TensorFlow Addons have them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss as jl

RNG = np.random.default_rng(3)
EMBEDDINGS = RNG.normal(size=(9, 4))
LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3])
PARTNERS = (LABELS[:, None] == LABELS) & ~np.eye(9, dtype=bool)
STRANGERS = LABELS[:, None] != LABELS
SQUARES = np.sum((EMBEDDINGS[:, None] - EMBEDDINGS) ** 2, axis=-1)
EACH = pytest.mark.parametrize("name", ["batch_hard_triplet", "semi_hard_triplet"])


@pytest.mark.parametrize("margin", [0.2, 1.0])
def test_batch_hard_is_the_papers_maximum_over_all_triplets(margin):
    found = jl.metric.batch_hard_triplet(EMBEDDINGS, LABELS, margin=margin)
    distances = np.sqrt(SQUARES)
    for a in range(8):
        triplets = [
            distances[a, p] - distances[a, n] + margin
            for p in np.flatnonzero(PARTNERS[a])
            for n in np.flatnonzero(STRANGERS[a])
        ]
        np.testing.assert_allclose(found[a], max(*triplets, 0), rtol=1e-13)
    assert found[8] == 0


@pytest.mark.parametrize("margin", [0.2, 1.0])
def test_semi_hard_weighted_by_partners_is_addons_mean_over_pairs(margin):
    total = 0.0
    for a, p in np.argwhere(PARTNERS):
        farther = STRANGERS[a] & (SQUARES[a] > SQUARES[a, p])
        negative = SQUARES[a][farther].min() if farther.any() else SQUARES[a][STRANGERS[a]].max()
        total += max(SQUARES[a, p] - negative + margin, 0)
    weights = PARTNERS.sum(axis=-1).astype(float)
    found = jl.mean(jl.metric.semi_hard_triplet)(EMBEDDINGS, LABELS, margin=margin, weights=weights)
    np.testing.assert_allclose(found, total / PARTNERS.sum(), rtol=1e-13)


def test_a_stranger_as_far_as_the_partner_is_not_semi_hard():
    """Distances 4 from the partner, 4 and 16 from strangers; whole numbers, for the tie to be one."""
    line, labels = np.array([[0.0], [2], [2], [4]]), np.array([0, 0, 1, 2])
    np.testing.assert_array_equal(jl.metric.semi_hard_triplet(line, labels, margin=13.0)[:1], [4 - 16 + 13])


def test_batch_hard_at_the_hinge_costs_nothing_and_moves_nothing():
    line, labels = np.array([[0.0], [1], [3], [4]]), np.array([0, 0, 1, 1])
    value, slope = jax.jit(jax.value_and_grad(lambda x: jnp.sum(jl.metric.batch_hard_triplet(x, labels))))(
        line
    )
    assert value == 0
    np.testing.assert_array_equal(slope, np.zeros_like(line))


@EACH
@pytest.mark.parametrize("labels", [np.zeros(9, int), np.arange(9)], ids=["no strangers", "no partners"])
def test_nothing_to_compare_with_costs_nothing_and_moves_nothing(name, labels):
    """Addons subtracts, where there is no stranger, the distance of the anchor to itself."""
    loss = getattr(jl.metric, name)
    value, slope = jax.jit(jax.value_and_grad(lambda x: jnp.sum(loss(x, labels))))(EMBEDDINGS)
    assert value == 0
    np.testing.assert_array_equal(slope, np.zeros_like(slope))


@EACH
def test_all_in_one_place_costs_the_margin_and_has_a_finite_gradient(name):
    def total(x):
        return jnp.sum(getattr(jl.metric, name)(x, LABELS, margin=0.5))

    first, second = jax.value_and_grad(total), jax.hessian(total)
    (value, slope), curvature = jax.jit(lambda x: (first(x), second(x)))(np.ones((9, 4)))
    assert value == 8 * 0.5
    np.testing.assert_array_equal(slope, np.zeros_like(slope))
    assert np.all(np.isfinite(curvature))


@EACH
def test_a_hundred_spreads_away_from_zero_no_digit_more_is_lost(name):
    """Squared distances as Addons has them, |a|² + |b|² − 2 a·b as they come, lose eight of them."""
    loss = getattr(jl.metric, name)
    near = EMBEDDINGS.astype(np.float32)
    far = near + np.float32(1000)
    exact = loss((far - np.float32(1000)).astype(np.float64), LABELS)
    np.testing.assert_allclose(loss(far, LABELS), exact, rtol=1e-6)


def test_the_distance_of_a_pair_that_all_but_coincides_is_right_to_its_last_digits():
    pair = np.array([[1.0, 0], [1 + 2.0**-20, 0], [9, 0]], np.float32)
    found = jl.metric.batch_hard_triplet(pair, np.array([0, 0, 1]), margin=8.0)
    np.testing.assert_array_equal(found[:1], np.float32([2.0**-20]))


@pytest.mark.parametrize("size", [1e-30, 3e37])
def test_batch_hard_is_of_its_unit_at_every_float(size):
    found = jl.metric.batch_hard_triplet(np.float32(EMBEDDINGS) * np.float32(size), LABELS, margin=0.0)
    expected = jl.metric.batch_hard_triplet(np.float32(EMBEDDINGS).astype(float), LABELS, margin=0.0) * size
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@EACH
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_embedding_that_is_not_finite_is_seen_by_all_of_its_batch(name, value):
    broken = np.stack([EMBEDDINGS, EMBEDDINGS])
    broken[1, 8, 0] = value
    found = getattr(jl.metric, name)(broken, np.stack([LABELS, LABELS]))
    assert np.all(np.isfinite(found[0]))
    assert np.all(np.isnan(found[1]))


@pytest.mark.parametrize("shape", [(0, 3), (0, 4, 3), (2, 0, 3)])
def test_an_empty_batch_has_no_losses(shape):
    found = jl.metric.batch_hard_triplet(np.zeros(shape), np.zeros(shape[:-1], int))
    assert found.shape == shape[:-1]


@pytest.mark.parametrize("name", ["circle", "multi_similarity"])
def test_a_nan_in_a_row_that_is_alone_is_not_hidden(name):
    loss = getattr(jl.metric, name)
    assert np.isnan(loss(np.array([[np.nan, 1.0]]), np.array([0]))[0])
    assert loss(np.array([[2.0, 1.0]]), np.array([0]))[0] == 0
