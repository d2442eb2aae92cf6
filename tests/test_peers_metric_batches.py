"""The metric losses that couple a batch, beside Keras and beside loops over all of its pairs."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss as jl

RNG = np.random.default_rng(0)
EMBEDDINGS, POSITIVES = RNG.normal(size=(2, 8, 3))
UNITS = EMBEDDINGS / np.linalg.norm(EMBEDDINGS, axis=-1, keepdims=True)
GROUPS = np.array([0, 0, 0, 1, 1, 2, 2, 2])
ALONE = np.array([0, 0, 0, 1, 2, 3, 3, 3])


@pytest.fixture(scope="module")
def circle():
    """Keras' loss of each row, in float64, through the normalisation it leaves to the model."""
    keras = pytest.importorskip("keras", reason="the peer is Keras")
    if keras.config.backend() != "jax":
        pytest.skip("Keras was imported before with another backend")

    def rows(x, labels, **options):
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            unit = x / jnp.linalg.norm(x, axis=-1, keepdims=True)
            return keras.losses.circle(jnp.asarray(labels), unit, **options)

    return rows


@pytest.mark.parametrize(("margin", "scale"), [(0.4, 80.0), (0.25, 8.0)])
def test_circle_is_keras_in_value_and_gradient(circle, margin, scale):
    def ours(x):
        return jnp.sum(jl.metric.circle(x, GROUPS, margin=margin, scale=scale))

    def theirs(x):
        return jnp.sum(circle(x, GROUPS, margin=margin, gamma=scale))

    both = [jax.value_and_grad(loss) for loss in (ours, theirs)]
    for mine, other in zip(*jax.jit(lambda x: [loss(x) for loss in both])(EMBEDDINGS), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-12)


def test_circle_of_an_anchor_alone_is_zero_as_in_keras(circle):
    found = jl.metric.circle(EMBEDDINGS, ALONE)
    np.testing.assert_allclose(found, circle(jnp.asarray(EMBEDDINGS), ALONE), rtol=1e-12)
    np.testing.assert_array_equal(found[3:5], [0, 0])


def test_keras_mean_is_weighted_by_who_has_anyone_to_compare_with():
    keras = pytest.importorskip("keras", reason="the peer is Keras")
    paired = np.float64(ALONE == 0) + (ALONE == 3)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        theirs = keras.losses.Circle(dtype="float64")(ALONE, UNITS)
    np.testing.assert_allclose(jl.mean(jl.metric.circle)(UNITS, ALONE, weights=paired), theirs, rtol=1e-12)


def test_keras_mean_forgets_the_rows_that_are_solved():
    """It takes a loss that underflows for that of a row alone: the mean does not fall as rows are learned."""
    keras = pytest.importorskip("keras", reason="it is Keras that is shown wrong")
    solved, labels = np.repeat(np.eye(4, dtype=np.float32), 2, axis=0), np.repeat(np.arange(4), 2)
    solved[7] = solved[0]
    losses = jl.metric.circle(solved, labels, scale=1024.0)
    assert np.sum(np.asarray(losses) == 0) == 4
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        theirs = keras.losses.Circle(gamma=1024.0)(labels, solved)
    np.testing.assert_allclose(theirs, np.sum(losses) / 4, rtol=1e-6)
    np.testing.assert_allclose(
        jl.mean(jl.metric.circle)(solved, labels, scale=1024.0), np.mean(losses), rtol=1e-6
    )


# --- from the papers, one pair at a time -----------------------------------------------------------


def test_circle_is_the_papers_sum_over_all_pairs_of_pairs():
    cosines, margin, scale = UNITS @ UNITS.T, 0.4, 8.0
    found = jl.metric.circle(EMBEDDINGS, GROUPS, margin=margin, scale=scale)
    for a, group in enumerate(GROUPS):
        total = 1.0
        for p in np.flatnonzero((group == GROUPS) & (a != np.arange(8))):
            for n in np.flatnonzero(group != GROUPS):
                near = max(1 + margin - cosines[a, p], 0) * (cosines[a, p] - (1 - margin))
                far = max(cosines[a, n] + margin, 0) * (cosines[a, n] - margin)
                total += np.exp(scale * (far - near))
        np.testing.assert_allclose(found[a], np.log(total), rtol=1e-12)


def test_multi_similarity_is_the_papers_two_sums():
    cosines, alpha, beta, margin = UNITS @ UNITS.T, 2.0, 10.0, 0.5
    options = {"alpha": alpha, "beta": beta, "margin": margin}
    for a, found in enumerate(jl.metric.multi_similarity(EMBEDDINGS, ALONE, **options)):
        near, far = 1.0, 1.0
        for b in range(8):
            if b != a and ALONE[b] == ALONE[a]:
                near += np.exp(-alpha * (cosines[a, b] - margin))
            elif b != a:
                far += np.exp(beta * (cosines[a, b] - margin))
        np.testing.assert_allclose(found, np.log(near) / alpha + np.log(far) / beta, rtol=1e-12)


def test_n_pairs_of_labels_that_come_once_is_the_papers():
    found = jl.metric.n_pairs(EMBEDDINGS, POSITIVES, np.arange(8))
    for i in range(8):
        ahead = [EMBEDDINGS[i] @ (POSITIVES[j] - POSITIVES[i]) for j in range(8) if j != i]
        np.testing.assert_allclose(found[i], np.log1p(np.sum(np.exp(ahead))), rtol=1e-12)


def test_n_pairs_of_labels_that_come_more_than_once_is_a_cross_entropy_with_equal_shares():
    logits = EMBEDDINGS @ POSITIVES.T
    same = (GROUPS[:, None] == GROUPS).astype(float)
    shares = same / same.sum(axis=-1, keepdims=True)
    expected = jl.categorical.cross_entropy(logits, shares)
    np.testing.assert_allclose(jl.metric.n_pairs(EMBEDDINGS, POSITIVES, GROUPS), expected, rtol=1e-12)


# --- what no pair should cost -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["circle", "multi_similarity"])
def test_a_batch_of_one_row_costs_nothing_and_moves_nothing(name):
    def total(x):
        return jnp.sum(getattr(jl.metric, name)(x, GROUPS[:1]))

    value, slope = jax.jit(jax.value_and_grad(total))(EMBEDDINGS[:1])
    assert value == 0
    np.testing.assert_array_equal(slope, np.zeros((1, 3)))
