"""The ranking losses beside Optax's and Rax's, in value and gradient."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss as jl

RNG = np.random.default_rng(0)
SCORES, GRADES = RNG.normal(size=(6, 5)), RNG.permuted(np.tile(np.arange(5.0), (6, 1)), axis=-1)
SOME = RNG.random((6, 5)) < 0.7
SOME[:, 0] = True
MASKS = pytest.mark.parametrize("where", [None, SOME], ids=["all items", "some items"])


@pytest.fixture(autouse=True)
def _promotion_as_the_peers_need_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def agree(ours, theirs, *, scores=SCORES):
    mine_and_other = (jax.jit(jax.value_and_grad(loss))(scores) for loss in (ours, theirs))
    for mine, other in zip(*mine_and_other, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-12)


@MASKS
def test_softmax_is_optaxs(where):
    optax = pytest.importorskip("optax", reason="the peer is Optax")
    agree(
        lambda s: jl.mean(jl.ranking.softmax)(s, GRADES, where=where),
        lambda s: optax.losses.ranking_softmax_loss(s, jnp.asarray(GRADES), where=where),
    )


def test_softmax_keeps_a_nan_behind_the_mask_out_of_the_gradient():
    broken = jnp.where(SOME, SCORES, jnp.nan)
    gradient = jax.grad(lambda s: jl.mean(jl.ranking.softmax)(s, GRADES, where=SOME))(broken)
    assert np.all(np.isfinite(gradient))


PEERS = {"softmax": "softmax_loss", "listmle": "listmle_loss", "pairwise_logistic": "pairwise_logistic_loss",
         "pairwise_hinge": "pairwise_hinge_loss"}  # fmt: skip


@MASKS
@pytest.mark.parametrize("name", PEERS)
def test_the_sum_over_lists_is_raxs(name, where):
    rax = pytest.importorskip("rax", reason="the peer is Rax")
    agree(
        lambda s: jl.sum(getattr(jl.ranking, name))(s, GRADES, where=where),
        lambda s: getattr(rax, PEERS[name])(s, jnp.asarray(GRADES), where=where, reduce_fn=jnp.sum),
    )


@MASKS
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_approx_ndcg_is_raxs(temperature, where):
    rax = pytest.importorskip("rax", reason="the peer is Rax")
    if importlib.util.find_spec("jax.util") is None:
        pytest.skip("Rax 0.4.0 makes it with jax.util, which this JAX has no longer")
    theirs = rax.approx_t12n(rax.ndcg_metric, temperature)
    agree(
        lambda s: jl.mean(jl.ranking.approx_ndcg)(s, GRADES, temperature=temperature, where=where),
        lambda s: theirs(s, jnp.asarray(GRADES), where=where),
    )


def test_bpr_is_the_mean_over_pairs_of_raxs_logistic_loss():
    rax = pytest.importorskip("rax", reason="the peer is Rax")
    chosen = jnp.asarray([1.0, 0.0, 1.0, 0.0, 0.0])
    agree(
        lambda s: jl.mean(jl.ranking.bpr)(s[:1], chosen[None]),
        lambda s: rax.pairwise_logistic_loss(s[0], chosen),
    )
