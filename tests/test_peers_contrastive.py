"""The contrastive losses beside Optax's, in value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss as jl

RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.normal(size=(8, 3))
EVEN, UNEVEN = np.array([0, 0, 1, 1, 2, 2, 3, 3]), np.array([0, 0, 0, 1, 1, 2, 2, 3])


@pytest.fixture(autouse=True)
def _promotion_as_the_peer_needs_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize("labels", [EVEN, UNEVEN], ids=["groups of one size", "of several sizes"])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_nt_xent_weighted_by_partners_is_optaxs(labels, temperature):
    optax = pytest.importorskip("optax", reason="the peer is Optax")
    partners = np.sum(labels[:, None] == labels, axis=-1) - 1.0

    def ours(x):
        return jl.mean(jl.contrastive.nt_xent)(x, labels, weights=partners, temperature=temperature)

    def theirs(x):
        return optax.losses.ntxent(x, jnp.asarray(labels), temperature)

    both = [jax.value_and_grad(loss) for loss in (ours, theirs)]
    # Optax adds the smallest number to a squared norm.
    for mine, other in zip(*jax.jit(lambda x: [loss(x) for loss in both])(EMBEDDINGS), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-11)


def test_nt_xent_without_a_pair_is_zero_where_optaxs_is_nan():
    optax = pytest.importorskip("optax", reason="the peer is Optax")
    alone = np.arange(8)
    assert np.isnan(optax.losses.ntxent(jnp.asarray(EMBEDDINGS), jnp.asarray(alone)))
    assert jl.mean(jl.contrastive.nt_xent)(EMBEDDINGS, alone) == 0
