"""Robust and tilted losses beside the functions other libraries have for them: value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss as jl

RNG = np.random.default_rng(0)
PREDICTIONS, TARGETS = 4 * RNG.normal(size=(2, 200))
RESIDUALS = PREDICTIONS - TARGETS


def value_and_slope(loss, **options):
    """Each row's loss and its derivative by the prediction."""
    slopes = jax.grad(lambda p: jnp.sum(loss(p, TARGETS, **options)))(PREDICTIONS)
    return np.asarray(loss(PREDICTIONS, TARGETS, **options)), np.asarray(slopes)


@pytest.mark.parametrize("scale", [0.3, 1.0, 5.0])
def test_cauchy_is_scipys_log_density_from_its_mode(scale):
    law = pytest.importorskip("scipy.stats", reason="the density is SciPy's").cauchy(scale=np.sqrt(2) * scale)
    values, _ = value_and_slope(jl.robust.cauchy, scale=scale)
    np.testing.assert_allclose(values, law.logpdf(0) - law.logpdf(RESIDUALS), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("delta", [0.5, 2.0])
@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.8])
def test_quantile_huber_is_torchs_huber_tilted(quantile, delta):
    torch = pytest.importorskip("torch", reason="the Huber loss is PyTorch's")
    predictions = torch.tensor(PREDICTIONS, requires_grad=True)
    tilt = torch.tensor(np.where(RESIDUALS > 0, 1 - quantile, quantile))
    losses = tilt * torch.nn.functional.huber_loss(
        predictions, torch.tensor(TARGETS), delta=delta, reduction="none"
    )
    losses.sum().backward()
    values, slopes = value_and_slope(jl.quantile.quantile_huber, quantile=quantile, delta=delta)
    np.testing.assert_allclose(values, losses.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(slopes, predictions.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.8])
def test_quantile_huber_over_a_small_delta_is_sklearns_pinball(quantile):
    module = pytest.importorskip("sklearn._loss.loss", reason="the pinball loss is scikit-learn's")
    theirs = module.PinballLoss(quantile=quantile).loss(y_true=TARGETS, raw_prediction=PREDICTIONS)
    values, _ = value_and_slope(jl.quantile.quantile_huber, quantile=quantile, delta=1e-9)
    np.testing.assert_allclose(values / 1e-9, theirs, atol=1e-9)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.97])
def test_no_gradient_is_left_at_scipys_expectile(level):
    stats = pytest.importorskip("scipy.stats", reason="the expectile is SciPy's")
    best = np.full_like(TARGETS, stats.expectile(TARGETS, alpha=level))
    slopes = jax.grad(lambda p: jnp.sum(jl.quantile.expectile(p, TARGETS, expectile=level)))(best)
    np.testing.assert_allclose(np.sum(slopes), 0, atol=1e-9)


@pytest.mark.parametrize("alpha", [0.05, 0.5])
def test_interval_score_is_sklearns_pinball_losses_of_both_ends(alpha):
    metrics = pytest.importorskip("sklearn.metrics", reason="the pinball loss is scikit-learn's")
    lower, upper = PREDICTIONS - 1, PREDICTIONS + 2
    score = jl.mean(jl.quantile.interval_score)(lower, upper, TARGETS, alpha=alpha)
    ends = [(lower, alpha / 2), (upper, 1 - alpha / 2)]
    theirs = sum(metrics.mean_pinball_loss(TARGETS, end, alpha=level) for end, level in ends)
    np.testing.assert_allclose(score, 2 / alpha * theirs, rtol=1e-12)
