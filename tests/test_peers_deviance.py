"""The deviances against scikit-learn, Keras, torch and SciPy, in value and gradient."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss as jl

os.environ.setdefault("KERAS_BACKEND", "jax")

RNG = np.random.default_rng(0)
LOGS = RNG.normal(size=40)
MEANS = np.exp(LOGS)
TARGETS = MEANS * RNG.gamma(2.0, 0.5, 40)
COUNTS = np.floor(TARGETS)
SHARES = np.concatenate([[0.0, 1.0], RNG.uniform(size=38)])
POWERS = [-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0]


def slopes(loss, predictions, targets, **options):
    return jax.grad(lambda x: jnp.sum(loss(x, targets, **options)))(predictions)


def same(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-12)


@pytest.fixture
def sklearn_losses():
    return pytest.importorskip("sklearn._loss.loss", reason="compares with scikit-learn's losses")


def equals(peer, loss, predictions, targets, dropped=0.0, **options):
    """Ours is the peer's, plus what the peer drops; the gradients are equal."""
    theirs, their_slopes = peer.loss_gradient(y_true=targets, raw_prediction=predictions)
    same(loss(predictions, targets, **options), theirs + dropped)
    same(slopes(loss, predictions, targets, **options), their_slopes)


def test_poisson_is_half_poisson_loss_with_its_constant(sklearn_losses):
    from scipy.special import xlogy

    equals(
        sklearn_losses.HalfPoissonLoss(), jl.deviance.poisson, LOGS, COUNTS, xlogy(COUNTS, COUNTS) - COUNTS
    )


def test_gamma_is_half_gamma_loss_with_its_constant(sklearn_losses):
    equals(sklearn_losses.HalfGammaLoss(), jl.deviance.gamma, LOGS, TARGETS, -np.log(TARGETS) - 1)


@pytest.mark.parametrize("power", POWERS)
def test_tweedie_is_half_tweedie_loss_with_its_constant(sklearn_losses, power):
    peer = sklearn_losses.HalfTweedieLoss(power=power)
    dropped = peer.constant_to_optimal_zero(TARGETS)
    equals(peer, jl.deviance.tweedie, LOGS, TARGETS, dropped, power=power)


@pytest.mark.parametrize("power", POWERS)
def test_tweedie_of_means_is_half_tweedie_loss_identity(sklearn_losses, power):
    peer = sklearn_losses.HalfTweedieLossIdentity(power=power)
    equals(peer, jl.deviance.tweedie, MEANS, TARGETS, power=power, link="identity")


def test_inverse_gaussian_is_half_tweedie_loss_identity_of_power_three(sklearn_losses):
    peer = sklearn_losses.HalfTweedieLossIdentity(power=3.0)
    equals(peer, jl.deviance.inverse_gaussian, MEANS, TARGETS, link="identity")


def test_binomial_of_one_trial_is_half_binomial_loss_with_its_constant(sklearn_losses):
    peer = sklearn_losses.HalfBinomialLoss()
    equals(peer, jl.deviance.binomial, LOGS, SHARES, peer.constant_to_optimal_zero(SHARES))


def test_binomial_is_trials_times_the_deviance_of_the_share():
    trials = np.full(40, 7.0)
    same(jl.deviance.binomial(LOGS, trials * SHARES, trials=trials), 7 * jl.deviance.binomial(LOGS, SHARES))


@pytest.fixture
def metrics():
    return pytest.importorskip("sklearn.metrics", reason="compares with scikit-learn's metrics")


def test_poisson_is_half_of_mean_poisson_deviance(metrics):
    found = jl.mean(jl.deviance.poisson)(MEANS, COUNTS, link="identity")
    same(2 * found, metrics.mean_poisson_deviance(COUNTS, MEANS))


def test_gamma_is_half_of_mean_gamma_deviance(metrics):
    found = jl.mean(jl.deviance.gamma)(MEANS, TARGETS, link="identity")
    same(2 * found, metrics.mean_gamma_deviance(TARGETS, MEANS))


@pytest.mark.parametrize("power", [-1.0, 0.0, 1.0, 1.5, 2.0, 3.0])
def test_tweedie_is_half_of_mean_tweedie_deviance(metrics, power):
    found = jl.mean(jl.deviance.tweedie)(MEANS, TARGETS, power=power, link="identity")
    same(2 * found, metrics.mean_tweedie_deviance(TARGETS, MEANS, power=power))


def test_keras_drops_what_depends_on_the_target_alone():
    losses = pytest.importorskip("keras.losses", reason="compares with Keras's Poisson")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        theirs = np.asarray(losses.Poisson(reduction=None)(TARGETS[:, None], MEANS[:, None]), np.float64)
    dropped = TARGETS * np.log(TARGETS) - TARGETS
    # Keras adds 1e-7 inside the logarithm, and computes in float32.
    found = jl.deviance.poisson(MEANS, TARGETS, link="identity")
    np.testing.assert_allclose(found, theirs + dropped, rtol=2e-5, atol=2e-5)


def test_torch_drops_what_depends_on_the_target_alone():
    torch = pytest.importorskip("torch", reason="compares with torch's PoissonNLLLoss")
    peer = torch.nn.PoissonNLLLoss(log_input=True, full=False, reduction="none")
    theirs = peer(torch.tensor(LOGS), torch.tensor(TARGETS)).numpy()
    same(jl.deviance.poisson(LOGS, TARGETS), theirs + TARGETS * np.log(TARGETS) - TARGETS)


# --- where they are wrong ---------------------------------------------------------------------------


def test_scikit_learns_metric_is_noise_next_to_a_perfect_prediction(metrics):
    y, mean = np.array([1.0]), np.array([1.0 + 1e-9])
    true = 0.5e-18
    theirs = metrics.mean_poisson_deviance(y, mean) / 2
    assert abs(theirs - true) >= true  # 0 or noise: no digit is left
    assert float(jl.deviance.poisson(mean, y, link="identity")[0]) == pytest.approx(true, rel=1e-6)


def test_scikit_learns_tweedie_is_noise_next_to_power_one(metrics):
    y, mean, power = np.array([3.0]), np.array([2.0]), 1 + 1e-13
    true = 3 * np.log(1.5) - 1
    theirs = metrics.mean_tweedie_deviance(y, mean, power=power) / 2
    assert abs(theirs - true) > 1e-4 * true
    assert float(jl.deviance.tweedie(mean, y, power=power, link="identity")[0]) == pytest.approx(
        true, rel=1e-11
    )


# --- one family ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("power", "loss"),
    [(1.0, jl.deviance.poisson), (2.0, jl.deviance.gamma), (3.0, jl.deviance.inverse_gaussian)],
)
@pytest.mark.parametrize("link", ["log", "identity"])
def test_tweedie_is_the_named_deviance_at_its_power(power, loss, link):
    predictions = LOGS if link == "log" else MEANS
    same(
        jl.deviance.tweedie(predictions, TARGETS, power=power, link=link),
        loss(predictions, TARGETS, link=link),
    )


def test_the_mean_is_the_best_constant_mean():
    for loss in (jl.deviance.poisson, jl.deviance.gamma, jl.deviance.inverse_gaussian, jl.deviance.tweedie):
        best = np.full(40, np.log(TARGETS.mean()))
        assert abs(np.sum(slopes(loss, best, TARGETS))) < 1e-12 * np.sum(TARGETS)


@pytest.mark.parametrize("name", ["poisson", "binomial"])
def test_another_link_is_refused_in_words(name):
    with pytest.raises(ValueError, match=rf"deviance.{name}: `link` must be one of .*, got 'probit'"):
        getattr(jl.deviance, name)(LOGS, SHARES, link="probit")


def test_a_target_of_zero_costs_infinity_from_power_two_on():
    zero, one = np.zeros(1), np.ones(1)
    assert np.isinf(jl.deviance.tweedie(zero, zero, power=2.0)[0])
    same(jl.deviance.tweedie(zero, zero, power=1.9), one / 0.1)
    assert np.isfinite(slopes(jl.deviance.tweedie, zero, zero, power=2.5)[0])
