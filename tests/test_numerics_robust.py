"""The kernels of robust losses against mpmath over the whole float range, within the ULPs they state."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from accuracy_table import ulps
from mpmath import mpf
from programs import as_users_do
from test_numerics import Spec, magnitudes, pairs, rows_of, stated, truth_of, value_of

import jaxloss as jl
from jaxloss import numerics

every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def residuals_and_scales(dtype):
    """Residuals of every magnitude, over scales of ordinary ones."""
    size = magnitudes(dtype, 40)
    near = np.linspace(0.01, 12, 40)
    x = np.concatenate([size, -size, near, -near, [0]]).astype(dtype)
    return pairs(x, np.array([1e-6, 0.3, 1, 40, 1e6], dtype))


def ordinary_squares(dtype):
    """Those of them whose square, with that of the scale and with the exponential, is an ordinary float."""
    x, scale = residuals_and_scales(dtype)
    bound = float(np.finfo(dtype).max) ** 0.2
    kept = (np.abs(x) < bound) & (np.abs(x) < 12 * scale) & ((np.abs(x) > 1 / bound) | (x == 0))
    return x[kept], scale[kept]


def below_the_root(dtype):
    """Those of them whose fourth power, over that of the scale, is an ordinary float."""
    x, scale = residuals_and_scales(dtype)
    low = float(np.finfo(dtype).tiny) ** 0.25
    kept = (x == 0) | (np.abs(x) > 2 * low * np.maximum(scale, 1))
    return x[kept], scale[kept]


def moved(x, scale):
    """How far a rounding of x/s moves e^−½(x/s)², in roundings."""
    return 1 + (x / scale) ** 2


def bell(x, scale):
    return mpmath.exp(-((x / scale) ** 2) / 2)


def square(x, limit):
    return min((x / limit) ** 2, mpf(1))


def with_tilts(dtype):
    x, limit = below_the_root(dtype)
    tilts = np.array([0, 0.25, 0.5, 1 - 1e-3, 1], dtype)
    return x, np.resize(tilts, x.shape), limit


def huber(x, limit):
    return x * x / 2 if abs(x) <= limit else limit * (abs(x) - limit / 2)


def weight(x, tilt):
    return 1 - tilt if x > 0 else tilt


SPECS = [
    Spec(
        numerics.log1p_square,
        residuals_and_scales,
        lambda x, s: mpmath.log1p((x / s) ** 2),
        (lambda x, s: 2 * x / (x * x + s * s), lambda x, s: -2 * x * x / (x * x + s * s) / s),
    ),
    Spec(
        numerics.rounded_square,
        residuals_and_scales,
        lambda x, d: d * x * x / (d + mpmath.hypot(x, d)),
        (
            lambda x, d: d * x / mpmath.hypot(x, d),
            lambda x, d: (x * x / (d + mpmath.hypot(x, d))) ** 2 / mpmath.hypot(x, d),
        ),
    ),
    Spec(
        numerics.saturation,
        residuals_and_scales,
        lambda x, s: x * x / (s * s + x * x),
        (
            lambda x, s: 2 * x * (s / (s * s + x * x)) ** 2,
            lambda x, s: -2 * s * (x / (s * s + x * x)) ** 2,
        ),
    ),
    Spec(
        numerics.bell_depth,
        ordinary_squares,
        lambda x, s: -mpmath.expm1(-((x / s) ** 2) / 2),
        (lambda x, s: x / s**2 * bell(x, s), lambda x, s: -(x**2) / s**3 * bell(x, s)),
        against=lambda x, s: x / s**2 * bell(x, s) * moved(x, s),
    ),
    Spec(
        numerics.biweight,
        below_the_root,
        lambda x, c: c**2 / 6 * square(x, c) * (3 - 3 * square(x, c) + square(x, c) ** 2),
        (
            lambda x, c: x * (1 - square(x, c)) ** 2,
            lambda x, c: c / 3 * square(x, c) ** 2 * (3 - 2 * square(x, c)),
        ),
    ),
    Spec(
        numerics.tilted_square,
        with_tilts,
        lambda x, t, d: weight(x, t) * huber(x, d),
        (
            lambda x, t, d: weight(x, t) * max(min(x, d), -d),
            lambda x, t, d: -mpmath.sign(x) * huber(x, d),
            lambda x, t, d: weight(x, t) * max(abs(x) - d, mpf(0)),
        ),
    ),
]
every_kernel = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.function.__name__)


@every_dtype
@every_kernel
def test_the_value_keeps_to_its_ulps_over_the_whole_range(spec, dtype):
    assert ulps(value_of(spec, dtype), truth_of(spec, dtype)).max() <= stated(spec.function)


@every_dtype
@every_kernel
def test_each_derivative_keeps_to_its_ulps_over_the_whole_range(spec, dtype):
    rows = rows_of(spec, dtype)
    each = [jax.grad(lambda *a: jnp.sum(spec.function(*a)), position) for position in range(len(spec.slopes))]
    found = as_users_do(lambda *data: [gradient(*data) for gradient in each])(*spec.data(dtype))
    for position, (slope, got) in enumerate(zip(spec.slopes, found, strict=True)):
        true = [slope(*row) for row in rows]
        against = [t * moved(*row) for t, row in zip(true, rows, strict=True)] if spec.against else None
        assert ulps(got, true, against).max() <= stated(spec.function), position


@every_dtype
@every_kernel
def test_a_nan_among_a_hundred_thousand_is_not_hidden(spec, dtype):
    rest = [np.asarray(0.5, dtype)] * (len(spec.slopes) - 1)
    x = np.linspace(-2, 2, 100_003).astype(dtype)
    x[[5, 77_777]] = np.nan
    total, slopes = as_users_do(jax.value_and_grad(lambda x: jnp.sum(spec.function(x, *rest))))(x)
    assert np.isnan(total)
    np.testing.assert_array_equal(np.isnan(slopes), np.isnan(x))


@pytest.mark.parametrize(
    ("loss", "name", "expected"),
    [(jl.robust.pseudo_huber, "delta", 3e36), (jl.robust.smooth_l1, "beta", 3e38)],
    ids=["pseudo_huber", "smooth_l1"],
)
def test_beyond_all_measure_a_loss_of_a_small_scale_is_linear(loss, name, expected):
    far, scale = np.float32([3e38, -3e38]), np.float32(0.01)

    def half(predictions, scale):
        return jnp.sum(loss(predictions, jnp.zeros_like(predictions), **{name: scale})) / 2

    reverse, forward = jax.value_and_grad(half, argnums=(0, 1)), jax.jacfwd(half, argnums=1)
    (value, slopes), along = jax.jit(lambda *at: (reverse(*at), forward(*at)))(far / 2, scale)
    np.testing.assert_allclose(value, expected / 2, rtol=1e-6)
    np.testing.assert_allclose(slopes[0], np.sign(far) * (expected / 3e38) / 2, rtol=1e-6)
    for slope in (slopes[1], along):
        np.testing.assert_allclose(slope, -0.5 if name == "beta" else 1.5e38, rtol=1e-6)
