"""Every loss of jaxopt: equal where it is right, value and gradient."""

import importlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss as jl

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it says that it is no longer developed
    jaxopt = pytest.importorskip("jaxopt.loss", reason="the peer is jaxopt: `pip install jaxopt`")

RNG = np.random.default_rng(0)
ROWS, CLASSES = 16, 5
SCORES = RNG.normal(0, 2, ROWS)
TARGETS = RNG.normal(0, 2, ROWS)
FLAGS = RNG.integers(0, 2, ROWS)
LOGITS = RNG.normal(0, 2, (ROWS, CLASSES))
IDS = RNG.integers(0, CLASSES, ROWS)
SIGNS = 2.0 * FLAGS - 1

# Ours, their name, their labels, our predictions, our labels.
SAME = {
    "binary.cross_entropy": (jl.binary.cross_entropy, "binary_logistic_loss", FLAGS, SCORES, FLAGS),
    "binary.sparsemax": (jl.binary.sparsemax, "binary_sparsemax_loss", FLAGS, SCORES, FLAGS),
    "binary.hinge": (jl.binary.hinge, "binary_hinge_loss", FLAGS, SCORES, SIGNS),
    "binary.perceptron": (jl.binary.perceptron, "binary_perceptron_loss", FLAGS, SCORES, SIGNS),
    "robust.huber": (jl.robust.huber, "huber_loss", TARGETS, SCORES, TARGETS),
    "categorical.cross_entropy": (
        jl.categorical.cross_entropy,
        "multiclass_logistic_loss",
        IDS,
        LOGITS,
        IDS,
    ),
    "categorical.sparsemax": (jl.categorical.sparsemax, "multiclass_sparsemax_loss", IDS, LOGITS, IDS),
    "categorical.hinge": (jl.categorical.hinge, "multiclass_hinge_loss", IDS, LOGITS, IDS),
    "categorical.perceptron": (jl.categorical.perceptron, "multiclass_perceptron_loss", IDS, LOGITS, IDS),
}


def value_and_gradient(rows, predictions):
    """Of each row, and of their sum in the predictions."""

    @jax.jit
    def run(predictions):
        losses, pullback = jax.vjp(rows, predictions)
        return losses, pullback(jnp.ones_like(losses))[0]

    return run(predictions)


def theirs(name, labels, predictions):
    one = getattr(jaxopt, name)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return value_and_gradient(lambda x: jax.vmap(one)(jnp.asarray(labels), x), jnp.asarray(predictions))


def same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", SAME)
def test_value_and_gradient_are_jaxopts(name):
    loss, peer, their_labels, predictions, labels = SAME[name]
    found = value_and_gradient(lambda x: loss(x, labels), jnp.asarray(predictions))
    same(found, theirs(peer, their_labels, predictions))


def test_a_fenchel_young_loss_is_jaxopts():
    shares = jnp.asarray(RNG.dirichlet(np.ones(CLASSES), ROWS))
    made = jaxopt.make_fenchel_young_loss(jax.nn.logsumexp)
    found = value_and_gradient(
        lambda x: jl.categorical.fenchel_young(x, shares, max_fun=jax.nn.logsumexp), jnp.asarray(LOGITS)
    )
    same(found, value_and_gradient(lambda x: jax.vmap(made)(shares, x), jnp.asarray(LOGITS)))


def test_every_loss_of_jaxopt_is_compared():
    named = {name for name in vars(importlib.import_module("jaxopt.loss")) if name.endswith("_loss")}
    assert named == {peer for _, peer, *_ in SAME.values()} | {"make_fenchel_young_loss"}


def test_jaxopt_takes_an_id_that_names_no_class_for_one_without_a_score():
    scores = jnp.asarray(LOGITS[0])
    assert np.isfinite(jaxopt.multiclass_hinge_loss(CLASSES, scores))
    assert np.isnan(jl.categorical.hinge(scores, CLASSES))
    with jax.numpy_dtype_promotion("standard"):
        last = jaxopt.multiclass_logistic_loss(-1, scores)
    np.testing.assert_allclose(last, jl.categorical.cross_entropy(scores, CLASSES - 1))
    assert np.isnan(jl.categorical.cross_entropy(scores, -1))
