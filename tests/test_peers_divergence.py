"""Divergences, and losses of several labels or of ranks, against Optax, torch and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss as jl

RNG = np.random.default_rng(11)
P, T = RNG.dirichlet([0.7] * 5, 6), RNG.dirichlet([0.7] * 5, 6)
LOG_P, LOG_T = np.log(P), np.log(T)
Z, R = 3 * RNG.normal(size=(6, 5)), 3 * RNG.normal(size=(6, 5))
Y = RNG.integers(0, 2, (6, 5)).astype(float)
WEIGHTS = RNG.uniform(0.5, 2, 5)
NOTHING = [-np.inf, np.log(0.5), np.log(0.5)]


def with_slopes(loss, first, *rest):
    """Of each row, and of their sum in the first argument."""
    losses, pullback = jax.vjp(lambda x: loss(x, *rest), first)
    return losses, pullback(jnp.ones_like(losses))[0]


def agree(ours, theirs, *data):
    """Value and gradient in the first argument, of two functions of JAX."""
    found, expected = jax.jit(lambda *data: [with_slopes(loss, *data) for loss in (ours, theirs)])(*data)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-10, atol=1e-14)


def agree_with_torch(ours, theirs, *data):
    """The same where the other function is torch's."""
    torch = pytest.importorskip("torch", reason="the peer is torch")
    tensors = [torch.tensor(array) for array in data]
    tensors[0].requires_grad_()
    values = theirs(*tensors)
    values.sum().backward()
    found, slope = jax.jit(lambda *data: with_slopes(ours, *data))(*data)
    np.testing.assert_allclose(found, values.detach().numpy(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(slope, tensors[0].grad.numpy(), rtol=1e-10, atol=1e-14)


def test_kl_log_targets_is_optaxs():
    optax = pytest.importorskip("optax", reason="the peer is Optax")
    agree(jl.divergence.kl_log_targets, optax.losses.kl_divergence_with_log_targets, LOG_P, LOG_T)


def test_kl_log_targets_is_torchs():
    functional = pytest.importorskip("torch.nn.functional", reason="the peer is torch")
    agree_with_torch(
        jl.divergence.kl_log_targets,
        lambda s, u: functional.kl_div(s, u, reduction="none", log_target=True).sum(-1),
        LOG_P,
        LOG_T,
    )


def test_a_class_neither_expects_is_nan_in_optax_and_nothing_here():
    optax = pytest.importorskip("optax", reason="the peer is Optax")
    impossible = jnp.array(NOTHING)
    assert np.isnan(optax.losses.kl_divergence_with_log_targets(impossible, impossible))
    assert jl.divergence.kl_log_targets(impossible, impossible) == 0.0


def test_generalized_kl_is_optaxs():
    optax = pytest.importorskip("optax", minversion="0.2.6", reason="Optax has it from 0.2.6 on")
    agree(jl.divergence.generalized_kl, optax.losses.generalized_kl_divergence, Z, 4 * T)


def test_generalized_kl_keeps_the_digits_that_optax_loses():
    optax = pytest.importorskip("optax", minversion="0.2.6", reason="Optax has it from 0.2.6 on")
    targets = jnp.float32([1.0, 1.0, 1.0])
    logs = jnp.float32([1e-4, -1e-4, 2e-4])
    true = float(np.sum(np.expm1(np.float64(logs)) - np.float64(logs)))
    ours = jl.divergence.generalized_kl(logs, targets)
    theirs = optax.losses.generalized_kl_divergence(logs, targets)
    np.testing.assert_allclose(ours, true, rtol=2e-3)
    assert abs(theirs - true) > 0.1 * true


def test_generalized_kl_is_scipys():
    special = pytest.importorskip("scipy.special", reason="the peer is SciPy")
    expected = special.kl_div(4 * T, np.exp(Z)).sum(-1)
    np.testing.assert_allclose(jl.divergence.generalized_kl(Z, 4 * T), expected, rtol=1e-12)


def test_reverse_kl_is_scipys():
    special = pytest.importorskip("scipy.special", reason="the peer is SciPy")
    np.testing.assert_allclose(jl.divergence.reverse_kl(LOG_P, T), special.rel_entr(P, T).sum(-1), rtol=1e-12)


def test_the_root_of_jensen_shannon_is_scipys_distance():
    distance = pytest.importorskip("scipy.spatial.distance", reason="the peer is SciPy")
    root = np.sqrt(jl.divergence.jensen_shannon(LOG_P, T))
    np.testing.assert_allclose(root, distance.jensenshannon(P, T, axis=-1), rtol=1e-12)


def test_jensen_shannon_of_close_distributions_is_nan_in_scipy():
    distance = pytest.importorskip("scipy.spatial.distance", reason="the peer is SciPy")
    step = 1e-9 * np.array([1.0, -1.0, 0.0])
    targets = np.array([0.25, 0.25, 0.5])
    # Σ (p − t)² / 8t, to first order: 1e-9.
    root = np.sqrt(jl.divergence.jensen_shannon(np.log(targets + step), targets))
    np.testing.assert_allclose(root, np.sqrt(np.sum(step**2 / (8 * targets))), rtol=1e-6)
    with np.errstate(invalid="ignore"):
        assert np.isnan(distance.jensenshannon(targets + step, targets))


def test_total_variation_is_half_scipys_city_block():
    distance = pytest.importorskip("scipy.spatial.distance", reason="the peer is SciPy")
    expected = [0.5 * distance.cityblock(p, t) for p, t in zip(P, T, strict=True)]
    np.testing.assert_allclose(jl.divergence.total_variation(LOG_P, T), expected, rtol=1e-12)


def test_gaussian_kl_is_that_of_torchs_distributions():
    torch = pytest.importorskip("torch", reason="the peer is torch")

    def normal(mean, log_variance):
        return torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))

    def theirs(mean, log_variance):
        prior = normal(torch.tensor(WEIGHTS), torch.tensor(-WEIGHTS))
        return torch.distributions.kl_divergence(normal(mean, log_variance), prior).sum(-1)

    def ours(mean, log_variance):
        return jl.divergence.gaussian_kl(mean, log_variance, prior_mean=WEIGHTS, prior_log_variance=-WEIGHTS)

    agree_with_torch(ours, theirs, Z, R)


def test_distillation_is_torchs_divergence_times_the_squared_temperature():
    functional = pytest.importorskip("torch.nn.functional", reason="the peer is torch")

    def theirs(student, teacher):
        logs = [functional.log_softmax(z / 3, dim=-1) for z in (student, teacher)]
        return 9 * functional.kl_div(*logs, reduction="none", log_target=True).sum(-1)

    def ours(student, teacher):
        return jl.divergence.distillation(student, teacher, temperature=3.0)

    agree_with_torch(ours, theirs, Z, R)


def test_soft_margin_is_torchs():
    torch = pytest.importorskip("torch", reason="the peer is torch")
    agree_with_torch(
        lambda z, y: jl.multilabel.soft_margin(z, y, class_weights=WEIGHTS),
        torch.nn.MultiLabelSoftMarginLoss(torch.tensor(WEIGHTS), reduction="none"),
        Z,
        Y,
    )


def test_margin_is_torchs_whose_labels_are_a_list_of_ids():
    torch = pytest.importorskip("torch", reason="the peer is torch")

    def theirs(logits, labels):
        ids = [[*np.flatnonzero(row), *[-1] * int(5 - row.sum())] for row in labels.numpy()]
        return torch.nn.MultiLabelMarginLoss(reduction="none")(logits, torch.tensor(ids))

    agree_with_torch(jl.multilabel.margin, theirs, Z, Y)


def test_coral_is_torchs_cross_entropy_of_every_threshold():
    torch = pytest.importorskip("torch", reason="the peer is torch")
    ranks = RNG.integers(0, 6, 6)
    above = np.arange(5) < ranks[:, None]

    def theirs(logits, ranks):
        del ranks
        each = torch.nn.BCEWithLogitsLoss(reduction="none")(logits, torch.tensor(above, dtype=logits.dtype))
        return each.sum(-1)

    agree_with_torch(jl.ordinal.coral, theirs, Z, ranks)


def test_a_cumulative_link_is_a_difference_of_scipys_logistic_functions():
    stats = pytest.importorskip("scipy.stats", reason="the peer is SciPy")
    cuts, scores = np.array([-1.0, 0.5, 2.0]), np.array([-2.0, 0.1, 3.0, 1.0])
    ends = np.r_[-np.inf, cuts, np.inf]
    ranks = np.array([0, 1, 2, 3])
    shares = stats.logistic.cdf(ends[ranks + 1] - scores) - stats.logistic.cdf(ends[ranks] - scores)
    found = jl.ordinal.cumulative_link(scores, ranks, thresholds=cuts)
    np.testing.assert_allclose(found, -np.log(shares), rtol=1e-12)
