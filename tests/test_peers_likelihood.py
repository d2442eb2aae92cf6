"""Each likelihood is SciPy's negative log density or mass, integrates to one, and is its peer elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss as jl

stats = pytest.importorskip("scipy.stats", reason="the densities are SciPy's")
integrate = pytest.importorskip("scipy.integrate", reason="SciPy integrates")

RNG = np.random.default_rng(0)
COUNT = 40


def positive(low=0.3, high=4.0):
    return RNG.uniform(low, high, COUNT)


def real():
    return RNG.normal(size=COUNT) * 3


def whole(high=12):
    return RNG.integers(0, high, COUNT).astype(float)


# The loss, its parameters, its targets, and what SciPy says of them.
DENSITIES = {
    "gaussian": ((real(), positive()), real(), lambda x, m, v: stats.norm.logpdf(x, m, np.sqrt(v))),
    "laplace": ((real(), positive()), real(), stats.laplace.logpdf),
    "logistic": ((real(), positive()), real(), stats.logistic.logpdf),
    "student_t": ((real(), positive(), positive()), real(), lambda x, m, s, df: stats.t.logpdf(x, df, m, s)),
    "von_mises": (
        (real(), positive()),
        RNG.uniform(-3, 3, COUNT),
        lambda x, m, k: stats.vonmises.logpdf(x, k, m),
    ),
    "beta": ((positive(), positive()), RNG.uniform(0.05, 0.95, COUNT), stats.beta.logpdf),
    "evidential": (
        (real(), positive(), positive(), positive()),
        real(),
        lambda x, m, nu, a, b: stats.t.logpdf(x, 2 * a, m, np.sqrt(b * (1 + nu) / (nu * a))),
    ),
}
MASSES = {
    "poisson": ((RNG.normal(size=COUNT),), whole(), lambda k, eta: stats.poisson.logpmf(k, np.exp(eta))),
    "negative_binomial": (
        (positive(), positive()),
        whole(),
        lambda k, mu, alpha: stats.nbinom.logpmf(k, 1 / alpha, 1 / (1 + alpha * mu)),
    ),
    "zero_inflated_poisson": (
        (real(), RNG.normal(size=COUNT)),
        whole(4),
        lambda k, a, eta: np.log(
            (k == 0) / (1 + np.exp(-a)) + stats.poisson.pmf(k, np.exp(eta)) / (1 + np.exp(a))
        ),
    ),
}
BOUNDS = {"von_mises": (-np.pi, np.pi), "beta": (0, 1)}


def loss_of(name):
    return getattr(jl.likelihood, name)


@pytest.mark.parametrize("name", [*DENSITIES, *MASSES])
def test_it_is_scipys_logarithm(name):
    parameters, targets, logarithm = (DENSITIES | MASSES)[name]
    found = loss_of(name)(*parameters, targets)
    np.testing.assert_allclose(found, -logarithm(targets, *parameters), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", DENSITIES)
def test_the_density_integrates_to_one(name):
    parameters, _, _ = DENSITIES[name]
    loss = jax.jit(loss_of(name))
    first = [np.float64(p[0]) for p in parameters]
    low, high = BOUNDS.get(name, (-np.inf, np.inf))
    total, _ = integrate.quad(lambda t: np.exp(-float(loss(*first, np.float64(t)))), low, high, limit=200)
    np.testing.assert_allclose(total, 1, rtol=1e-7)


@pytest.mark.parametrize("name", MASSES)
def test_the_masses_sum_to_one(name):
    parameters, _, _ = MASSES[name]
    targets = np.arange(4000.0)
    first = [np.full(targets.shape, p[0]) for p in parameters]
    np.testing.assert_allclose(np.exp(-loss_of(name)(*first, targets)).sum(), 1, rtol=1e-12)


# --- torch ----------------------------------------------------------------------------------------


def value_and_slopes(loss, *data):
    @jax.jit
    def run(*data):
        losses, pullback = jax.vjp(lambda *parameters: loss(*parameters, data[-1]), *data[:-1])
        return losses, pullback(jnp.ones_like(losses))

    return run(*data)


def torchs(loss, *data):
    torch = pytest.importorskip("torch", reason="the peer is torch's")
    leaves = [torch.tensor(array, requires_grad=True) for array in data[:-1]]
    values = loss(torch, *leaves, torch.tensor(data[-1]))
    values.sum().backward()
    return values.detach().numpy(), [leaf.grad.numpy() for leaf in leaves]


def agree(ours, theirs):
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-12, atol=1e-12)
    for slope, other in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_allclose(slope, other, rtol=1e-10, atol=1e-12)


def torch_gaussian(torch, mean, variance, targets):
    options = {"full": True, "eps": 0.0, "reduction": "none"}
    return torch.nn.functional.gaussian_nll_loss(mean, targets, variance, **options)


def test_gaussian_is_torchs_with_full():
    data = (real(), positive(), real())
    agree(value_and_slopes(jl.likelihood.gaussian, *data), torchs(torch_gaussian, *data))


def torch_student(torch, loc, scale, df, targets):
    return -torch.distributions.StudentT(df, loc, scale).log_prob(targets)


def test_student_t_is_torchs_distribution():
    data = (real(), positive(), positive(), real())
    agree(value_and_slopes(jl.likelihood.student_t, *data), torchs(torch_student, *data))


def torch_poisson(torch, log_rate, targets):
    return torch.nn.functional.poisson_nll_loss(log_rate, targets, full=True, reduction="none")


def test_poisson_has_torchs_gradient():
    data = (RNG.normal(size=COUNT), whole())
    (_, ours), (_, theirs) = value_and_slopes(jl.likelihood.poisson, *data), torchs(torch_poisson, *data)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-12, atol=1e-12)


def test_torchs_poisson_has_no_factorial_at_one_and_stirlings_beyond():
    counts = np.array([1.0, 2.0, 5.0])
    data = (np.zeros(3), counts)
    ours, (theirs, _) = jl.likelihood.poisson(*data), torchs(torch_poisson, *data)
    exact = -stats.poisson.logpmf(counts, 1.0)
    np.testing.assert_allclose(ours, exact, rtol=1e-13)
    np.testing.assert_allclose(theirs - exact, [0, -0.0413, -0.0166], atol=1e-4)


def torch_distribution(name, *arguments):
    """−log of one of torch.distributions, its parameters in its own order."""

    def values(torch, *data):
        return -getattr(torch.distributions, name)(*(data[i] for i in arguments)).log_prob(data[-1])

    return values


@pytest.mark.parametrize(
    ("name", "torch_name", "data"),
    [
        ("laplace", "Laplace", (real(), positive(), real())),
        ("von_mises", "VonMises", (real(), positive(), RNG.uniform(-3, 3, COUNT))),
        ("beta", "Beta", (positive(), positive(), RNG.uniform(0.05, 0.95, COUNT))),
        ("dirichlet", "Dirichlet", (RNG.uniform(0.3, 4, (COUNT, 3)), RNG.dirichlet([2, 2, 2], COUNT))),
    ],
)
def test_it_is_torchs_distribution(name, torch_name, data):
    theirs = torchs(torch_distribution(torch_name, *range(len(data) - 1)), *data)
    ours = value_and_slopes(getattr(jl.likelihood, name), *data)
    # torch's Bessel functions are right to 1e-7.
    rtol = 1e-6 if name == "von_mises" else 1e-10
    np.testing.assert_allclose(ours[0], theirs[0], rtol=rtol, atol=1e-12)
    for slope, other in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_allclose(slope, other, rtol=rtol, atol=rtol)


def test_beta_gaussian_has_the_gradient_of_the_weighted_likelihood():
    data, beta = (real(), positive(), real()), 0.3
    weight = data[1] ** beta
    (value, slopes), (plain, plain_slopes) = (
        value_and_slopes(lambda *d: jl.likelihood.beta_gaussian(*d, beta=beta), *data),
        value_and_slopes(jl.likelihood.gaussian, *data),
    )
    np.testing.assert_allclose(value, weight * plain, rtol=1e-12)
    np.testing.assert_allclose(slopes, [weight * slope for slope in plain_slopes], rtol=1e-10, atol=1e-12)


# --- vectors and mixtures -------------------------------------------------------------------------


def triangles(count, size):
    below = np.tril(RNG.normal(size=(count, size, size)), -1)
    return below + np.eye(size) * RNG.uniform(0.5, 2, (count, 1, size))


def test_multivariate_gaussian_is_scipys_and_reads_nothing_above_the_diagonal():
    mean, targets, factors = RNG.normal(size=(8, 3)), RNG.normal(size=(8, 3)), triangles(8, 3)
    expected = [
        -stats.multivariate_normal.logpdf(t, m, f @ f.T)
        for m, f, t in zip(mean, factors, targets, strict=True)
    ]
    above = np.triu(np.full((3, 3), np.pi), 1)
    found = jl.likelihood.multivariate_gaussian(mean, factors + above, targets)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_a_diagonal_multivariate_gaussian_is_the_sum_of_its_gaussians():
    mean, targets, widths = RNG.normal(size=(8, 3)), RNG.normal(size=(8, 3)), RNG.uniform(0.5, 2, (8, 3))
    found = jl.likelihood.multivariate_gaussian(mean, np.eye(3) * widths[:, None, :], targets)
    np.testing.assert_allclose(found, jl.likelihood.gaussian(mean, widths**2, targets).sum(-1), rtol=1e-12)


def test_dirichlet_is_scipys():
    concentration, targets = RNG.uniform(0.3, 4, (8, 3)), RNG.dirichlet([2.0, 2.0, 2.0], 8)
    expected = [-stats.dirichlet.logpdf(t / t.sum(), a) for a, t in zip(concentration, targets, strict=True)]
    np.testing.assert_allclose(jl.likelihood.dirichlet(concentration, targets), expected, rtol=1e-9)


def test_a_mixture_is_the_sum_of_its_densities_and_integrates_to_one():
    logits, means, scales = RNG.normal(size=(3, 3))
    scales, shares = np.exp(scales), np.exp(logits) / np.exp(logits).sum()

    def density(t):
        return float(np.sum(shares * stats.norm.pdf(t, means, scales)))

    loss = jax.jit(jl.likelihood.gaussian_mixture)
    np.testing.assert_allclose(
        loss(logits, means, scales, np.float64(0.7)), -np.log(density(0.7)), rtol=1e-12
    )
    total, _ = integrate.quad(
        lambda t: np.exp(-float(loss(logits, means, scales, np.float64(t)))), -40, 40, limit=200
    )
    np.testing.assert_allclose(total, 1, rtol=1e-7)


def test_a_component_excluded_is_as_good_as_none():
    logits, means, scales = (
        np.array([0.3, -np.inf, 1.0]),
        np.array([0.0, 5.0, 1.0]),
        np.array([1.0, 1.0, 2.0]),
    )
    kept = np.array([0, 2])
    whole = jax.value_and_grad(jl.likelihood.gaussian_mixture, argnums=(0, 1, 2))(logits, means, scales, 0.4)
    few = jax.value_and_grad(jl.likelihood.gaussian_mixture, argnums=(0, 1, 2))(
        logits[kept], means[kept], scales[kept], 0.4
    )
    np.testing.assert_allclose(whole[0], few[0], rtol=1e-14)
    for slope, other in zip(whole[1], few[1], strict=True):
        np.testing.assert_allclose(slope, [other[0], 0, other[1]], rtol=1e-13)


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("concentration", [0.5, 1.0, 2.0])
def test_a_share_at_the_end_costs_what_scipy_says(share, concentration):
    found = jl.likelihood.beta(concentration, concentration, share)
    np.testing.assert_allclose(found, -stats.beta.logpdf(share, concentration, concentration), atol=1e-14)


# --- in float32 -----------------------------------------------------------------------------------


def test_a_million_events_leave_digits_in_float32():
    log_rate, counts = np.float32(np.log(1e6)), np.float32(1e6)
    exact = -stats.poisson.logpmf(1e6, np.exp(np.float64(log_rate)))
    np.testing.assert_allclose(jl.likelihood.poisson(log_rate, counts), exact, rtol=1e-6)
    jax_scipy = -jax.scipy.stats.poisson.logpmf(counts, np.exp(log_rate))
    assert abs(float(jax_scipy) - exact) > 0.1


def test_a_dispersion_of_next_to_nothing_is_poissons():
    mean, counts = np.float32([0.5, 3.0, 1000.0]), np.float32([1.0, 3.0, 990.0])
    found = jl.likelihood.negative_binomial(mean, np.full(3, 1e-12, np.float32), counts)
    np.testing.assert_allclose(found, -stats.poisson.logpmf(counts, mean), rtol=2e-6)


def test_the_plain_formula_of_the_negative_binomial_would_lose_these_digits():
    mean, alpha, counts = (jnp.float32(x) for x in (3.0, 1e-7, 3.0))
    exact = -stats.nbinom.logpmf(3, 1e7, 1 / (1 + 3e-7))
    size, log_gamma = 1 / alpha, jax.scipy.special.gammaln
    plain = log_gamma(size) + log_gamma(counts + 1) - log_gamma(counts + size)
    plain = plain + (counts + size) * jnp.log1p(alpha * mean) - counts * jnp.log(alpha * mean)
    assert abs(float(plain) - exact) > 0.1
    np.testing.assert_allclose(jl.likelihood.negative_binomial(mean, alpha, counts), exact, rtol=1e-6)


# --- scores ---------------------------------------------------------------------------------------


def test_crps_of_a_normal_is_the_integral_of_its_definition():
    mean, scale, target = 0.4, 1.7, -0.9

    def squared(x):
        return (stats.norm.cdf(x, mean, scale) - (x >= target)) ** 2

    left, right = (integrate.quad(squared, *ends)[0] for ends in ((-30, target), (target, 30)))
    np.testing.assert_allclose(jl.likelihood.crps_gaussian(mean, scale, target), left + right, rtol=1e-9)


def brute_force(samples, target, fair):
    count = len(samples)
    distance = lambda a, b: np.linalg.norm(np.atleast_1d(a - b))  # noqa: E731
    gaps = sum(distance(a, b) for a in samples for b in samples)
    pairs = count * (count - 1) if fair else count**2
    return np.mean([distance(a, target) for a in samples]) - gaps / (2 * pairs)


SCORES = {"crps_ensemble": (), "energy_score": (3,)}


@pytest.mark.parametrize("estimator", ["pwm", "fair", "nrg"])
@pytest.mark.parametrize("name", SCORES)
def test_an_estimator_is_its_sum_over_pairs(name, estimator):
    samples, targets = RNG.normal(size=(6, 5, *SCORES[name])), RNG.normal(size=(6, *SCORES[name]))
    expected = [brute_force(x, t, estimator != "nrg") for x, t in zip(samples, targets, strict=True)]
    np.testing.assert_allclose(loss_of(name)(samples, targets, estimator=estimator), expected, rtol=1e-12)


def test_nrg_is_the_integral_of_the_definition_for_the_samples_as_a_distribution():
    samples, target = np.array([-1.0, 0.3, 0.4, 2.0]), 0.9
    ends = np.sort([*samples, target])
    heights = [(np.mean(samples <= left) - (left >= target)) ** 2 for left in ends[:-1]]
    found = jl.likelihood.crps_ensemble(samples, target, estimator="nrg")
    np.testing.assert_allclose(found, np.sum(np.diff(ends) * heights), rtol=1e-13)


@pytest.mark.parametrize("name", SCORES)
def test_the_fair_estimator_of_many_samples_of_a_normal_is_its_crps(name):
    if SCORES[name]:
        samples = RNG.normal(size=(1, 400, 1))
        found = jl.likelihood.energy_score(samples, np.array([[0.5]]))
        expected = jl.likelihood.crps_ensemble(samples[..., 0], np.array([0.5]))
        np.testing.assert_allclose(found, expected, rtol=1e-11)
    else:
        found = jl.likelihood.crps_ensemble(RNG.normal(size=(1, 10**5)), np.array([0.5]))
        np.testing.assert_allclose(found, jl.likelihood.crps_gaussian(0.0, 1.0, 0.5), atol=5e-3)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize(("estimator", "words"), [("fair", "two or more"), ("quantile", "estimator")])
def test_one_sample_or_an_unknown_estimator_is_refused_in_words(name, estimator, words):
    item = SCORES[name]
    with pytest.raises(ValueError, match=words):
        loss_of(name)(np.zeros((2, 1, *item)), np.zeros((2, *item)), estimator=estimator)
