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
}
MASSES = {
    "poisson": ((RNG.normal(size=COUNT),), whole(), lambda k, eta: stats.poisson.logpmf(k, np.exp(eta))),
}
BOUNDS = {}


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
    def total(*data):
        return jnp.sum(loss(*data))

    return loss(*data), jax.grad(total, argnums=tuple(range(len(data) - 1)))(*data)


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


# --- in float32 -----------------------------------------------------------------------------------


def test_a_million_events_leave_digits_in_float32():
    log_rate, counts = np.float32(np.log(1e6)), np.float32(1e6)
    exact = -stats.poisson.logpmf(1e6, np.exp(np.float64(log_rate)))
    np.testing.assert_allclose(jl.likelihood.poisson(log_rate, counts), exact, rtol=1e-6)
    jax_scipy = -jax.scipy.stats.poisson.logpmf(counts, np.exp(log_rate))
    assert abs(float(jax_scipy) - exact) > 0.1


# --- scores ---------------------------------------------------------------------------------------


def test_crps_of_a_normal_is_the_integral_of_its_definition():
    mean, scale, target = 0.4, 1.7, -0.9

    def squared(x):
        return (stats.norm.cdf(x, mean, scale) - (x >= target)) ** 2

    left, right = (integrate.quad(squared, *ends)[0] for ends in ((-30, target), (target, 30)))
    np.testing.assert_allclose(jl.likelihood.crps_gaussian(mean, scale, target), left + right, rtol=1e-9)
