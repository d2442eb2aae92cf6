"""The binary losses against other libraries, in value and gradient, and where those are wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss as jl

LOGITS = np.concatenate([np.linspace(-6, 6, 25), [-1.0, 1.0, 17.0, -17.0, 60.0, -60.0]])
LABELS = (np.arange(LOGITS.size) % 3 == 0).astype(float)
SIGNS = 2 * LABELS - 1


def compare(loss, peer, first, second, **options):
    """Value, and gradient of the sum, wherever the peer is differentiable."""
    ours = loss(first, second, **options)
    np.testing.assert_allclose(ours, peer(first, second), rtol=1e-9, atol=1e-15)
    slopes = [jax.grad(lambda x, f=f: jnp.sum(f(x, second)))(first) for f in (loss, peer)]
    np.testing.assert_allclose(*slopes, rtol=1e-9, atol=1e-15)


def off_zero(scores):
    return np.where(scores == 0, 0.5, scores)


@pytest.fixture
def optax():
    return pytest.importorskip("optax.losses", reason="compares with Optax")


def test_perceptron_is_optaxs_away_from_its_kink(optax):
    compare(jl.binary.perceptron, optax.perceptron_loss, off_zero(LOGITS), SIGNS)


def test_sparsemax_is_optaxs(optax):
    compare(jl.binary.sparsemax, optax.sparsemax_loss, LOGITS, LABELS)


def test_optax_rounds_a_soft_label_of_sparsemax_to_one(optax):
    # At z = 2p − 1 the prediction is the label, and a Fenchel-Young loss is 0.
    assert optax.sparsemax_loss(np.float64(-0.5), np.float64(0.25)) == pytest.approx(0.5625)
    assert jl.binary.sparsemax(np.float64(-0.5), np.float64(0.25)) == 0


def test_optaxs_poly_loss_of_two_logits_is_poly1(optax):
    def two_logits(z, y):
        with jax.numpy_rank_promotion("allow"):
            pair = jnp.stack([jnp.zeros_like(z), z], axis=-1)
            return optax.poly_loss_cross_entropy(pair, jnp.stack([1 - y, y], axis=-1), epsilon=0.5)

    moderate = np.linspace(-6, 6, 25)
    soft = np.linspace(0, 1, 25)
    np.testing.assert_allclose(
        jl.binary.poly1(moderate, soft, epsilon=0.5), two_logits(moderate, soft), rtol=1e-9
    )


def test_poly1_without_its_first_term_keeps_the_digits_that_optax_loses(optax):
    z, y = np.float32(9), np.float32(1)
    pair, labels = np.array([[0, z]], np.float32), np.array([[0, y]], np.float32)
    true = 7.6137370e-9
    with jax.numpy_rank_promotion("allow"):
        theirs = float(optax.poly_loss_cross_entropy(pair, labels, epsilon=-1.0)[0])
    assert float(jl.binary.poly1(z, y, epsilon=-1.0)) == pytest.approx(true, rel=1e-3)
    assert abs(theirs - true) > 0.5 * true


@pytest.fixture
def sgd():
    return pytest.importorskip("sklearn.linear_model._sgd_fast", reason="compares with scikit-learn's SGD")


def test_modified_huber_is_scikit_learns(sgd):
    peer = sgd.ModifiedHuber()
    values = [peer.py_loss(z, y) for z, y in zip(LOGITS, SIGNS, strict=True)]
    slopes = [peer.py_dloss(z, y) for z, y in zip(LOGITS, SIGNS, strict=True)]
    np.testing.assert_allclose(jl.binary.modified_huber(LOGITS, SIGNS), values, rtol=1e-14)
    found = jax.grad(lambda z: jnp.sum(jl.binary.modified_huber(z, SIGNS)))(LOGITS)
    np.testing.assert_allclose(found, slopes, rtol=1e-14)


def test_perceptron_is_scikit_learns_hinge_without_margin(sgd):
    peer, scores = sgd.Hinge(0.0), off_zero(LOGITS)
    values = [peer.py_loss(z, y) for z, y in zip(scores, SIGNS, strict=True)]
    np.testing.assert_allclose(jl.binary.perceptron(scores, SIGNS), values, rtol=1e-14)


def test_exponential_is_scikit_learns_with_labels_of_zero_and_one():
    losses = pytest.importorskip("sklearn._loss.loss", reason="compares with scikit-learn's losses")
    values, slopes = losses.ExponentialLoss().loss_gradient(y_true=LABELS, raw_prediction=LOGITS)
    np.testing.assert_allclose(jl.binary.exponential(LOGITS, SIGNS), values, rtol=1e-14)
    found = jax.grad(lambda z: jnp.sum(jl.binary.exponential(z, SIGNS)))(LOGITS)
    np.testing.assert_allclose(found, slopes, rtol=1e-14)


def test_the_mean_of_brier_is_scikit_learns_score():
    metrics = pytest.importorskip("sklearn.metrics", reason="compares with scikit-learn's Brier score")
    probabilities = 1 / (1 + np.exp(-LOGITS))
    np.testing.assert_allclose(
        jl.mean(jl.binary.brier)(LOGITS, LABELS), metrics.brier_score_loss(LABELS, probabilities), rtol=1e-12
    )


def test_savage_is_brier_of_twice_the_score():
    np.testing.assert_allclose(
        jl.binary.savage(LOGITS, SIGNS), jl.binary.brier(2 * LOGITS, LABELS), rtol=1e-14, atol=1e-300
    )
