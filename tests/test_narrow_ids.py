"""Class ids in eight bits are the same ids, also where there are more classes than eight bits count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss as jl

CLASSES = 300
LOGITS = np.random.default_rng(0).normal(size=(2, CLASSES))
IDS = np.array([5, 100])
# One loss for each contract that takes ids.
LOSSES = {
    "categorical.cross_entropy": jl.categorical.cross_entropy,
    "metric.arcface": lambda z, ids: jl.metric.arcface(jnp.tanh(z), ids),
    "ordinal.coral": jl.ordinal.coral,
    "segmentation.dice": lambda z, ids: jl.segmentation.dice(z[:, None], ids[:, None]),
    "sequence.ctc": lambda z, ids: jl.sequence.ctc(jnp.stack([z, z], axis=1), ids[:, None]),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8])
def test_narrow_ids_are_the_ids_they_say(name, dtype):
    def found(ids):
        return jax.value_and_grad(lambda z: jnp.sum(LOSSES[name](z, ids)))(jnp.asarray(LOGITS))

    jax.tree.map(np.testing.assert_array_equal, found(jnp.asarray(IDS, dtype)), found(jnp.asarray(IDS)))


def test_an_id_to_ignore_need_not_fit_the_dtype_of_the_labels():
    losses = jl.categorical.cross_entropy(jnp.asarray(LOGITS), jnp.asarray(IDS, jnp.uint8), ignore_index=-100)
    assert np.all(losses > 0)


PIXELS = np.array([[156, 156], [156, 5]])
MEANS = {
    "categorical.cross_entropy": (jl.categorical.cross_entropy, (LOGITS, np.array([156, 5]))),
    "fused.linear_cross_entropy": (jl.fused.linear_cross_entropy, (LOGITS, np.eye(CLASSES), PIXELS[1])),
    "segmentation.dice": (jl.segmentation.dice, (np.stack([LOGITS, LOGITS]), PIXELS)),
}


@pytest.mark.parametrize("name", MEANS)
def test_a_mean_ignores_no_class_that_would_be_the_id_to_ignore_in_fewer_bits(name):
    loss, (*scores, ids) = MEANS[name]
    found = jl.mean(loss)(*scores, jnp.asarray(ids, jnp.uint8), ignore_index=-100)
    np.testing.assert_allclose(found, jl.mean(loss)(*scores, ids), rtol=1e-14)


def test_a_mean_of_flags_ignores_none_for_another_number():
    scores, flags = np.array([[0.5, 2.0], [0.0, -1.0]]), np.array([[True, True], [False, True]])
    loss = jl.mean(jl.segmentation.lovasz_hinge)
    np.testing.assert_array_equal(loss(scores, flags, ignore_index=255), loss(scores, flags))
