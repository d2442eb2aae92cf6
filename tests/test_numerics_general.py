"""Barron's kernel and its log-partition against mpmath, at the limits of alpha and beside them."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from accuracy_table import ulps
from mpmath import mpf
from oracles import robust as by_hand
from programs import as_users_do

import jaxloss as jl
from jaxloss import numerics

INF = np.inf
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
BELOW_2 = float(np.nextafter(2, 0))
ALPHAS = [-INF, -1e30, -1e9, -10, -2, -0.1, -1e-9, 0, 1e-12, 0.05, 0.5, 1, 1.9, 2 - 1e-6, BELOW_2, 2, 2.01, 4]
X = np.array([0, 1e-9, 1e-3, 0.03, 0.3, 0.7, 1, 1.4, 2, 3, 5, 8, 20, 1e3, 1e8])
kernel = as_users_do(numerics.barron)
alone = [jax.vmap(jax.grad(numerics.barron, i), (0, None, None)) for i in range(3)]
slopes = as_users_do(lambda *x_scale_alpha: [slope(*x_scale_alpha) for slope in alone])
BOUND = 16


def judged(found, formula, alpha, scale, sensitivity):
    """The largest error, in ULPs of the truth, or of what a rounding of x/s makes of it."""
    dtype = found.dtype
    with mpmath.workdps(240):
        rows = [(mpf(float(x)), mpf(0), mpf(float(alpha)), mpf(float(scale))) for x in X.astype(dtype)]
        true = [formula(*row) for row in rows]
        against = [abs(t) * sensitivity(row[0] / row[3]) for t, row in zip(true, rows, strict=True)]
        return ulps(found, true, against).max()


def sensitivity(alpha):
    """As a power |α| roundings are one, as an exponential w² of them."""
    return lambda w: 1 + (w * w if abs(alpha) > 20 else abs(float(alpha)))


@every_dtype
@pytest.mark.parametrize("alpha", ALPHAS)
def test_value_and_derivatives_keep_to_their_ulps(alpha, dtype):
    x, alpha, scale = X.astype(dtype), dtype(alpha), dtype(0.5)
    of_rounding = sensitivity(alpha)
    assert judged(kernel(x, scale, alpha), by_hand.general, alpha, scale, of_rounding) <= BOUND
    in_x, in_scale, in_alpha = slopes(x, scale, alpha)
    assert judged(in_x, by_hand.general_slope, alpha, scale, of_rounding) <= BOUND
    assert judged(in_scale, by_hand.general_in_scale, alpha, scale, of_rounding) <= BOUND
    if alpha != 2 or dtype == np.float64:  # the float next to 2 is another one in float32
        assert judged(in_alpha, by_hand.general_in_alpha, alpha, scale, of_rounding) <= BOUND


def test_at_plus_infinity_it_is_the_exponential():
    x, scale, alpha = np.linspace(-6, 6, X.size), np.float64(1), np.float64(INF)
    in_x, _, in_alpha = slopes(x, scale, alpha)
    np.testing.assert_allclose(kernel(x, scale, alpha), np.expm1(x * x / 2), rtol=1e-14)
    np.testing.assert_allclose(in_x, x * np.exp(x * x / 2), rtol=1e-14)
    np.testing.assert_array_equal(in_alpha, np.zeros(X.size))


@pytest.mark.parametrize(
    ("alpha", "loss"),
    [(0.0, jl.robust.cauchy), (-2.0, jl.robust.geman_mcclure), (-INF, jl.robust.welsch)],
    ids=["cauchy", "geman_mcclure", "welsch"],
)
@pytest.mark.parametrize("scale", [0.3, 1.0, 7.0])
def test_a_named_loss_is_the_general_one_at_its_alpha_and_the_same_scale(alpha, loss, scale):
    p, t = np.concatenate([X, -X]), np.zeros(2 * X.size)
    general = jax.value_and_grad(lambda p: jnp.sum(jl.robust.general(p, t, alpha=alpha, scale=scale)))
    named = jax.value_and_grad(lambda p: jnp.sum(loss(p, t, scale=scale)))
    np.testing.assert_allclose(
        jl.robust.general(p, t, alpha=alpha, scale=scale), loss(p, t, scale=scale), rtol=1e-13
    )
    np.testing.assert_allclose(general(p)[1], named(p)[1], rtol=1e-12, atol=1e-300)


def test_at_alpha_1_it_is_pseudo_huber():
    p, t = X, np.zeros(X.size)
    expected = jl.robust.pseudo_huber(p, t, delta=3.0) / 9
    np.testing.assert_allclose(jl.robust.general(p, t, alpha=1.0, scale=3.0), expected, rtol=1e-13)


@pytest.mark.parametrize("alpha", [-INF, -2.0, 0.0, 0.5, 1.0, 1.9, 2.0])
def test_the_largest_floats_have_finite_slopes(alpha):
    x = np.resize(np.float32([1e30, 3e38, -3e38]), X.size)
    for scale in (np.float32(0.5), np.float32(1e-3)):
        values = kernel(x, scale, np.float32(alpha))
        expected = [by_hand.general(mpf(float(r)), 0, mpf(alpha), mpf(float(scale))) for r in x]
        assert ulps(values, expected).max() <= 64
        assert not np.any(np.isnan(slopes(x, scale, np.float32(alpha))[0]))


SHAPES = [0.05, 0.7, 1.5, 1.95, 1.9999]


@every_dtype
def test_the_log_partition_and_its_derivative_keep_to_their_ulps(dtype):
    alphas = np.array(SHAPES, dtype)
    true = [by_hand.integral(float(alpha)) for alpha in alphas]
    found, slope = as_users_do(jax.vmap(jax.value_and_grad(numerics.log_partition)))(alphas)
    assert ulps(found, [value for value, _ in true]).max() <= BOUND
    assert ulps(slope, [derivative for _, derivative in true]).max() <= BOUND


def test_the_log_partition_is_the_known_one_of_cauchy_charbonnier_and_gauss():
    bessel = float(mpmath.log(2 * mpmath.e * mpmath.besselk(1, 1)))
    expected = [np.log(np.pi * np.sqrt(2)), bessel, np.log(2 * np.pi) / 2]
    found = jax.jit(numerics.log_partition)(np.array([0.0, 1.0, 2.0]))
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize(
    "of_alpha", [numerics.log_partition, lambda alpha: numerics.barron(*np.float64([3, 0.7]), alpha)]
)
def test_the_second_derivatives_in_alpha_are_differences_of_the_first(of_alpha):
    slope_and_curvature, step = jax.jit(jax.value_and_grad(jax.grad(of_alpha))), 1e-5
    for alpha in (0.05, 0.3, 1.0, 1.7):
        (behind, _), (_, found), (ahead, _) = map(slope_and_curvature, (alpha - step, alpha, alpha + step))
        np.testing.assert_allclose(found, (ahead - behind) / (2 * step), rtol=1e-6)


@pytest.mark.parametrize("nested", [jax.jacfwd, jax.jacrev])
def test_small_residuals_and_any_alpha_have_all_second_derivatives(nested):
    alphas = np.float32([-INF, -1e9, -2, 0, 1e-7, 1, 2 - 1e-6, 2.1, 4, INF])
    x, alpha = (grid.ravel() for grid in np.meshgrid(np.float32([0, 1e-20, 1e-10, 1e-3, 1]), alphas))
    curvatures = as_users_do(jax.vmap(nested(jax.grad(numerics.barron, (0, 1, 2)), (0, 1, 2))))
    found = np.array(curvatures(x, np.ones_like(x), alpha))
    assert np.all(np.isfinite(found))
    np.testing.assert_allclose(found[0, 0, x < 1e-5], 1, rtol=1e-6)


def test_alpha_and_scale_are_learned_and_the_location_found_among_outliers():
    random = np.random.default_rng(5)
    targets = np.concatenate([3 + 0.5 * random.normal(size=160), 40 + 10 * random.normal(size=40)])

    def objective(params, targets):
        predictions = jnp.full(targets.shape, 1.0) * params["location"]
        alpha, scale = 2 * jax.nn.sigmoid(params["alpha"]), jax.nn.softplus(params["scale"])
        return jl.mean(jl.robust.adaptive_nll)(predictions, targets, alpha=alpha, scale=scale)

    start = {"location": jnp.asarray(np.mean(targets)), "alpha": jnp.asarray(0.0), "scale": jnp.asarray(1.0)}
    found = jl.training.minimize(objective, start, targets, learning_rate=0.2, max_steps=3000)
    alpha, scale = 2 * jax.nn.sigmoid(found.params["alpha"]), jax.nn.softplus(found.params["scale"])
    assert np.abs(found.params["location"] - 3) < 0.1
    assert np.abs(np.mean(targets) - 3) > 5
    assert alpha < 0.3
    assert 0.2 < scale < 0.8
