"""The special functions of the likelihoods against mpmath, each within the ULPs its docstring states."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from accuracy_table import exact, ulps
from mpmath import mpf
from programs import QUICKLY, as_users_do, identical
from test_numerics import every_dtype, magnitudes, pairs, rows_of, stated, value_of

from jaxloss import numerics

HALF = mpf(1) / 2


class Spec(NamedTuple):
    """A primitive: its data, its truth, and its derivative by each argument.

    `against`: what an error of the value is measured against, and of each derivative, where terms cancel.
    """

    function: Callable[..., Any]
    data: Callable[[Any], tuple[np.ndarray, ...]]
    value: Callable[..., Any]
    slopes: tuple[Callable[..., Any], ...]
    against: tuple[Callable[..., Any] | None, ...] = ()


def positive(low: float, high: float, count: int = 60) -> Callable[[Any], tuple[np.ndarray]]:
    return lambda dtype: (magnitudes(dtype, count, low=low, high=high).astype(dtype),)


def above_minus_one(dtype: Any) -> tuple[np.ndarray]:
    size = magnitudes(dtype, 60, low=1e-15, high=1e15)
    near = -1 + magnitudes(dtype, 10, low=1e-6, high=0.9)
    points = [-0.5, -0.4999, 0.5, 0.5001, *np.linspace(-0.95, 1, 40)]
    return (np.concatenate([size, -size[size < 0.9], near, points]).astype(dtype),)


def residuals_and_scales(dtype: Any) -> tuple[np.ndarray, ...]:
    size = magnitudes(dtype, 16, low=1e-12, high=1e12)
    both = np.concatenate([size, -size, [0.3, 1, -2, 5, -9]]).astype(dtype)
    return pairs(both, np.concatenate([size[::2], [0.5, 1, 2]]).astype(dtype))


def with_degrees(dtype: Any) -> tuple[np.ndarray, ...]:
    x, scale = residuals_and_scales(dtype)
    kept = np.abs(np.log10(np.abs(x / scale))) < 10
    x, scale = x[kept], scale[kept]
    degrees = np.resize(np.array([1e-3, 0.5, 1, 2, 3.5, 30, 1e3, 1e6, 1e9], dtype), x.shape)
    return x, scale, degrees


def counts(dtype: Any) -> tuple[np.ndarray, ...]:
    """Every count with rates at it, near it and far from it."""
    whole = np.array([0, 1, 2, 3, 7, 20, 100, 1e3, 1e4, 1e6], dtype)
    apart = np.array([0, 1e-6, -1e-4, 0.01, -0.1, 0.4, -0.45, 0.55, -0.6, 1, -2, 5, -20], dtype)
    k, away = pairs(whole, apart)
    return (np.log(np.maximum(k, 1)) + away).astype(dtype), k


def dispersed(dtype: Any) -> tuple[np.ndarray, ...]:
    """Counts with means at them and far from them, nearly Poisson's and far from it."""
    (log_rate, k), alphas = counts(dtype), np.array([1e-10, 1e-5, 0.01, 0.5, 3, 100], dtype)
    index, alpha = pairs(np.arange(k.size), alphas)
    return np.exp(log_rate[index]).astype(dtype), alpha, k[index]


def inflated(dtype: Any) -> tuple[np.ndarray, ...]:
    (log_rate, k), logits = counts(dtype), np.array([-60, -20, -3, 0, 2, 30], dtype)
    index, a = pairs(np.arange(k.size), logits)
    return a, log_rate[index], k[index]


def shares(dtype: Any) -> tuple[np.ndarray, ...]:
    """Shares at the mean of their concentrations and far from it."""
    size = np.array([1e-3, 0.2, 1, 2.5, 30, 1e3, 1e6], dtype)
    (a, b), moves = pairs(size, size), np.array([1, 1.001, 0.9, 0.6, 0.3, 1e-4], dtype)
    index, move = pairs(np.arange(a.size), moves)
    x = (a[index] / (a[index] + b[index]) * move).astype(dtype)
    return a[index], b[index], np.clip(x, 1e-9, 1 - 1e-6).astype(dtype)


def negative_binomial(mu: Any, alpha: Any, k: Any) -> Any:
    r = 1 / alpha
    combinations = mpmath.loggamma(r) + mpmath.loggamma(k + 1) - mpmath.loggamma(k + r)
    return combinations + (k + r) * mpmath.log1p(alpha * mu) - k * mpmath.log(alpha * mu)


def by_dispersion(mu: Any, alpha: Any, k: Any) -> Any:
    r = 1 / alpha
    steps = mpmath.digamma(k + r) - mpmath.digamma(r) - mpmath.log1p(alpha * mu)
    return r * r * steps + r * (mu - k) / (1 + alpha * mu)


def zero_inflated(a: Any, eta: Any, k: Any) -> Any:
    missing = (1 - mpmath.exp(-mpmath.exp(eta))) / (1 + mpmath.exp(a))
    return mpmath.log1p(mpmath.exp(a)) + poisson(eta, k) if k else -mpmath.log1p(-missing)


def zero_inflated_slope(a: Any, eta: Any, k: Any) -> Any:
    rate, chance = mpmath.exp(eta), 1 / (1 + mpmath.exp(a))
    return 1 - chance if k else -chance * (1 - mpmath.exp(-rate)) / (1 + mpmath.exp(-a - rate))


def beta(a: Any, b: Any, x: Any) -> Any:
    constant = mpmath.loggamma(a) + mpmath.loggamma(b) - mpmath.loggamma(a + b)
    return constant - (a - 1) * mpmath.log(x) - (b - 1) * mpmath.log1p(-x)


def beta_terms(a: Any, b: Any, x: Any) -> Any:
    logs = sum(abs(mpmath.log(y)) for y in (x, 1 - x, a, b))
    return abs(beta(a, b, x)) + logs + abs((b - 1) * x - (a - 1) * (1 - x)) + 1


def binet(z: Any) -> Any:
    return mpmath.loggamma(z) - (z - HALF) * mpmath.log(z) + z - mpmath.log(2 * mpmath.pi) / 2


def half_step(x: Any) -> Any:
    return mpmath.loggamma(x) - mpmath.loggamma(x + HALF) + mpmath.log(x) / 2


def tail_share(x: Any, s: Any, df: Any) -> Any:
    return x**2 / (df * s**2 + x**2)


def poisson(eta: Any, k: Any) -> Any:
    return mpmath.exp(eta) - k * eta + mpmath.loggamma(k + 1)


def bump(z: Any) -> Any:
    return mpmath.sqrt(2 / mpmath.pi) * mpmath.exp(-z * z / 2) - 1 / mpmath.sqrt(mpmath.pi)


SPECS = [
    Spec(
        numerics.binet,
        positive(1e-6, 1e6),
        binet,
        (lambda z: mpmath.digamma(z) - mpmath.log(z) + 1 / (2 * z),),
        (None, lambda z: 1 / z if z < 1 else 0),
    ),
    Spec(
        numerics.log1p_excess,
        above_minus_one,
        lambda x: x - mpmath.log1p(x),
        (lambda x: x / (1 + x),),
    ),
    Spec(
        numerics.gamma_half_step,
        positive(1e-6, 1e6),
        half_step,
        (lambda x: mpmath.digamma(x) - mpmath.digamma(x + HALF) + 1 / (2 * x),),
        # A quarter of 1/x² is made of terms of which one is the half.
        (None, lambda x: 1 / x**2 if x > 1 else 1 / x),
    ),
    Spec(
        numerics.square_over,
        residuals_and_scales,
        lambda x, y: x * x / y,
        (lambda x, y: 2 * x / y, lambda x, y: -((x / y) ** 2)),
    ),
    Spec(
        numerics.log1p_square,
        residuals_and_scales,
        lambda x, y: mpmath.log1p((x / y) ** 2),
        (lambda x, y: 2 * x / (x**2 + y**2), lambda x, y: -2 * x**2 / (x**2 + y**2) / y),
    ),
    Spec(
        numerics.heavy_tail,
        with_degrees,
        lambda x, s, df: (df + 1) / 2 * mpmath.log1p((x / s) ** 2 / df),
        (
            lambda x, s, df: (df + 1) * x / (df * s**2 + x**2),
            lambda x, s, df: -(df + 1) * tail_share(x, s, df) / s,
            lambda x, s, df: (-mpmath.log1p(-tail_share(x, s, df)) - tail_share(x, s, df) * (1 + 1 / df)) / 2,
        ),
        (None, None, None, lambda x, s, df: tail_share(x, s, df) ** 2 + tail_share(x, s, df) / df),
    ),
    Spec(
        numerics.poisson_nll,
        counts,
        poisson,
        (lambda eta, k: mpmath.exp(eta) - k, lambda eta, k: mpmath.digamma(k + 1) - eta),
        (
            lambda eta, k: poisson(eta, k) + abs(mpmath.exp(eta) - k) * abs(eta),
            lambda eta, k: mpmath.exp(eta) + k,
            lambda eta, k: abs(eta) + 1,
        ),
    ),
    Spec(
        numerics.gaussian_crps,
        residuals_and_scales,
        lambda r, s: r * mpmath.erf(r / s / mpmath.sqrt(2)) + s * bump(r / s),
        (lambda r, s: mpmath.erf(r / s / mpmath.sqrt(2)), lambda r, s: bump(r / s)),
        (None, None, lambda r, s: 1),
    ),
]
SPECS += [
    Spec(
        numerics.negative_binomial_nll,
        dispersed,
        negative_binomial,
        (lambda mu, alpha, k: (mu - k) / (mu * (1 + alpha * mu)), by_dispersion),
        (
            lambda mu, alpha, k: negative_binomial(mu, alpha, k) + abs(mu - k) / (1 + alpha * mu),
            lambda mu, alpha, k: (mu + k) / (mu * (1 + alpha * mu)),
            # e²/2α² and ½k/(1 + αk), of opposite signs.
            lambda mu, alpha, k: abs(by_dispersion(mu, alpha, k)) + k / (1 + alpha * k),
        ),
    ),
    Spec(
        numerics.zero_inflated_nll,
        inflated,
        zero_inflated,
        (zero_inflated_slope,),
        (
            lambda a, eta, k: zero_inflated(a, eta, k) + abs(mpmath.exp(eta) - k) * abs(eta),
            lambda a, eta, k: abs(zero_inflated_slope(a, eta, k)) * (1 + abs(a)),
        ),
    ),
    Spec(
        numerics.log_bessel,
        positive(1e-6, 1e9),
        lambda x: mpmath.log(mpmath.besseli(0, x)) - x,
        (lambda x: mpmath.besseli(1, x) / mpmath.besseli(0, x) - 1,),
        (lambda x: 1,),
    ),
    Spec(
        numerics.beta_nll,
        shares,
        beta,
        (
            lambda a, b, x: mpmath.digamma(a) - mpmath.digamma(a + b) - mpmath.log(x),
            lambda a, b, x: mpmath.digamma(b) - mpmath.digamma(a + b) - mpmath.log1p(-x),
        ),
        (
            beta_terms,
            lambda a, b, x: mpmath.digamma(a + b) - mpmath.digamma(a) - mpmath.log(x) + mpf(1) / 10,
            lambda a, b, x: mpmath.digamma(a + b) - mpmath.digamma(b) - mpmath.log1p(-x) + mpf(1) / 10,
        ),
    ),
]
every_primitive = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.function.__name__)


def measured(spec: Spec, which: int, rows: list[tuple[Any, ...]]) -> list[Any] | None:
    measure = spec.against[which] if which < len(spec.against) else None
    return measure and [measure(*row) for row in rows]


@every_dtype
@every_primitive
def test_the_value_keeps_to_its_ulps(spec, dtype):
    rows = rows_of(spec, dtype)
    against = measured(spec, 0, rows)
    assert ulps(value_of(spec, dtype), [spec.value(*row) for row in rows], against).max() <= stated(
        spec.function
    )


@every_dtype
@every_primitive
def test_each_derivative_keeps_to_its_ulps(spec, dtype):
    data, rows = spec.data(dtype), rows_of(spec, dtype)
    each = [jax.grad(lambda *a: jnp.sum(spec.function(*a)), position) for position in range(len(spec.slopes))]
    found = as_users_do(lambda *data: [gradient(*data) for gradient in each])(*data)
    # A docstring that has another number for the derivative has it last.
    bound = int(re.findall(r"to (\d+) ULPs", spec.function.__doc__)[-1])
    for position, (slope, got) in enumerate(zip(spec.slopes, found, strict=True)):
        against = measured(spec, 1 + position, rows)
        assert ulps(got, [slope(*row) for row in rows], against).max() <= bound


@every_dtype
@every_primitive
def test_the_value_under_differentiation_is_the_plain_value(spec, dtype):
    def plain(data):
        return spec.function(*data)

    def under(data):
        return jax.jvp(plain, (data,), (jnp.ones_like(data),))[0]

    assert identical(np.stack(spec.data(dtype)), plain, under)


@every_primitive
@pytest.mark.parametrize("nan", range(3))
def test_no_special_function_hides_a_nan(spec, nan):
    count = len(spec.data(np.float32))
    point = [np.float32(np.nan if i == nan % count else 1) for i in range(count)]
    assert np.isnan(jax.jit(spec.function)(*point))


def test_the_log_of_a_square_of_1e76_does_not_overflow():
    got = numerics.log1p_square(jnp.float32(1e38), jnp.float32(2e-38))
    np.testing.assert_allclose(got, 152 * np.log(10) - 2 * np.log(2), rtol=1e-6)


# --- over the last axis -----------------------------------------------------------------------------


@every_dtype
def test_of_two_shares_the_dirichlet_is_the_beta(dtype):
    a, b, x = (np.asarray(array, np.float64) for array in shares(dtype))
    pair = np.stack([a, b], axis=-1), np.stack([x, 1 - x], axis=-1)
    scale = np.array([float(beta_terms(*row)) for row in zip(*map(exact, (a, b, x)), strict=True)]) + a + b
    found, expected = jax.jit(numerics.dirichlet_nll)(*pair), jax.jit(numerics.beta_nll)(a, b, x)
    assert np.max(np.abs(np.subtract(found, expected)) / scale) <= 16 * np.finfo(np.float64).eps


@jax.jit
def half_mean_gap(x):
    """Of each row, and the gradient of their sum."""
    values, pullback = jax.vjp(numerics.half_mean_gap, x)
    return values, pullback(jnp.ones_like(values))[0]


GAPS = np.random.default_rng(0).normal(size=(20, 7)) * 10.0 ** np.arange(-10, 10)[:, None]


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_half_the_mean_gap_is_that_of_all_pairs(offset):
    x = GAPS + offset
    pairs_of_all = np.abs(x[:, :, None] - x[:, None, :]).mean(axis=(1, 2)) / 2
    np.testing.assert_allclose(half_mean_gap(x)[0], pairs_of_all, rtol=1e-12)


@pytest.mark.parametrize("ties", [1, 2, 3, 7])
def test_the_gradient_of_half_the_mean_gap_is_that_of_all_pairs_also_of_ties(ties):
    x = np.repeat(GAPS[:, :7], ties, axis=-1)[:, :7]
    signs = np.sign(x[:, :, None] - x[:, None, :]).sum(axis=-1) / 49
    np.testing.assert_allclose(half_mean_gap(x)[1], signs, rtol=1e-14, atol=1e-16)


def test_half_the_mean_gap_hides_no_nan():
    value, slopes = half_mean_gap(np.array([1.0, np.nan, 2.0]))
    assert np.isnan(value)
    assert np.all(np.isnan(slopes))


def test_of_no_count_two_remainders_cancel_whatever_the_compiler_makes_of_them():
    run = jax.jit(numerics.negative_binomial_nll, compiler_options=QUICKLY)
    mean, dispersion = np.float32([2.0611537e-09]), np.float32([3.0])
    np.testing.assert_allclose(run(mean, dispersion, np.zeros_like(mean)), mean, rtol=1e-6)


FAR_OUT = {  # a share of 1 in float32: log(1 − share) has an infinite slope there
    "outliers of student's t": (numerics.heavy_tail, (5e3, 0.2, 0.7)),
    "no count where many were likely": (lambda *a: numerics.negative_binomial_nll(*a, 0.0), (1e4, 3e4)),
}


@pytest.mark.parametrize("name", FAR_OUT)
def test_far_out_the_curvatures_are_the_same_in_both_modes(name):
    function, point = FAR_OUT[name]
    slopes = jax.grad(function, tuple(range(len(point))))
    forward, reverse = (
        np.array(as_users_do(nested(slopes, tuple(range(len(point)))))(*map(np.float32, point)))
        for nested in (jax.jacfwd, jax.jacrev)
    )
    assert np.all(np.isfinite(reverse))
    np.testing.assert_allclose(forward, reverse, rtol=1e-5)


def test_half_the_mean_gap_holds_no_table_of_pairs():
    run = as_users_do(jax.grad(lambda x: jnp.sum(numerics.half_mean_gap(x))))
    count = 4096
    memory = run.lower(jnp.zeros((1, count))).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 64 * 8 * count
