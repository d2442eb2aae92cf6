"""The primitives against mpmath over the whole float range, each within the ULPs its docstring states."""

import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import accuracy_table as truth
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from accuracy_table import exact, ulps
from mpmath import mpf
from programs import QUICKLY, as_users_do

from jaxloss import numerics

INF, NAN = np.inf, np.nan

every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def stated(function: Callable[..., Any]) -> int:
    """The ULPs a docstring states; one, a single rounding, where it states none."""
    number = re.search(r"to (\d+) ULPs", function.__doc__)
    return int(number[1]) if number else 1


# --- grids ----------------------------------------------------------------------------------------

# Where one of the formulas turns into another, overflows, underflows or saturates.
AWKWARD = [
    0,
    -0.6931472,
    -0.6931471,
    0.015526381,
    0.06076883,
    17,
    39.999,
    40,
    40.001,
    80,
    87.3,
    87.4,
    88.72,
    88.73,
    103.9,
    708.3,
    709.8,
    745,
]


def magnitudes(dtype: Any, count: int, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Positive numbers, evenly spread over the orders of magnitude of the float."""
    limits = np.finfo(dtype)
    low, high = low or float(limits.tiny), high or float(limits.max)
    return np.exp(np.linspace(np.log(low), np.log(high), count)).clip(low, high)


def reals(dtype: Any, count: int = 150) -> np.ndarray:
    """Both signs of every magnitude, and the points where something happens."""
    size = magnitudes(dtype, count)
    ordinary = [np.linspace(-6, 6, 181), np.linspace(-110, 110, 89)]
    return np.unique(np.concatenate([size, -size, AWKWARD, np.negative(AWKWARD), *ordinary]).astype(dtype))


def above_minus_one(dtype: Any, count: int = 24) -> np.ndarray:
    """Everything a logarithm of one plus it is taken of."""
    small = magnitudes(dtype, count, high=0.9)
    near = -1 + magnitudes(dtype, 12, low=float(np.finfo(dtype).eps), high=0.9)
    return np.concatenate([[0], magnitudes(dtype, count), -small, near, np.linspace(-0.6, -0.2, 25)]).astype(
        dtype
    )


def positives(dtype: Any, count: int = 30) -> np.ndarray:
    """Everything a logarithm is taken of, densest near one."""
    near = magnitudes(dtype, 10, low=float(np.finfo(dtype).eps), high=0.5)
    return np.concatenate([magnitudes(dtype, count), 1 + near, 1 - near, [1]]).astype(dtype)


def pairs(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, ...]:
    """Every one with every other."""
    return tuple(grid.ravel() for grid in np.meshgrid(first, second, indexing="ij"))


def magnitudes_of_both(dtype: Any) -> tuple[np.ndarray, ...]:
    both = np.concatenate([magnitudes(dtype, 24), -magnitudes(dtype, 24)]).astype(dtype)
    return pairs(both, both)


def near_pairs(dtype: Any) -> tuple[np.ndarray, ...]:
    """x and y up to one ULP apart, where both are above −1."""
    y = above_minus_one(dtype, 12)
    y = y[np.abs(y) < 1e30]
    apart = magnitudes(dtype, 12, low=float(np.finfo(dtype).eps), high=0.5)
    base, relative = pairs(y, np.concatenate([apart, -apart]).astype(dtype))
    x = (base + relative * (1 + base)).astype(dtype)
    return x[x > -1], base[x > -1]


def bernoulli(dtype: Any) -> tuple[np.ndarray, ...]:
    """Every logit with labels in [0, 1], near both ends as well."""
    labels = np.array([0, 1e-6, 0.1, 0.5, 0.9, 1 - 1e-6, 1], dtype)
    return pairs(np.concatenate([reals(dtype, 40)[::2], [0]]).astype(dtype), labels)


def below_the_root(dtype: Any) -> np.ndarray:
    """Numbers whose squares are floats."""
    limits = np.finfo(dtype)
    size = magnitudes(dtype, 60, low=float(limits.tiny) ** 0.5 * 64, high=float(limits.max) ** 0.5)
    return np.concatenate([size, -size]).astype(dtype)


# --- the truth ------------------------------------------------------------------------------------


class Spec(NamedTuple):
    """A primitive: its data, its truth, and its derivative in each argument that has one.

    `against` is what the derivatives' errors are measured against, where two terms cancel.
    """

    function: Callable[..., Any]
    data: Callable[[Any], tuple[np.ndarray, ...]]
    value: Callable[..., Any]
    slopes: tuple[Callable[..., Any] | None, ...]
    against: Callable[..., Any] | None = None


def on(grid: Callable[[Any], np.ndarray]) -> Callable[[Any], tuple[np.ndarray]]:
    return lambda dtype: (grid(dtype),)


def negatives(dtype: Any) -> np.ndarray:
    x = reals(dtype)
    return x[x < 0]


def of_power(dtype: Any) -> tuple[np.ndarray, ...]:
    """Bases and exponents whose power is an ordinary float, half the exponents left."""
    limits = np.finfo(dtype)
    x, exponent = pairs(positives(dtype), np.array([0.25, 0.5, 1, 1.5, 2, 3, 5, 10], dtype))
    size = exponent * np.log(x.astype(np.float64))
    kept = (size > np.log(float(limits.tiny)) + 9) & (size < np.log(float(limits.max)) - 9)
    return x[kept], exponent[kept]


def mp_log1mexp(x: Any) -> Any:
    return mpmath.log(-mpmath.expm1(x)) if x > -1 else mpmath.log1p(-mpmath.exp(x))


def mp_tanh(x: Any) -> Any:
    return mpmath.tanh(x) if abs(x) < 1000 else mpmath.sign(x)


def log1p_difference(x: Any, y: Any) -> Any:
    low, high = min(x, y), max(x, y)
    return mpmath.log1p((high - low) / (1 + low)) * (1 if x > y else -1)


def times(x: Any, y: Any) -> Any:
    return mpf(0) if x == 0 else x * y


def of_distances(dtype: Any) -> tuple[np.ndarray, ...]:
    """Of every size beside targets above and below the least, the squares of which are no float32."""
    sizes = np.array([1e-28, 1e-22, 1e-10, 0.3, 7.0, 1e12])
    signed = np.concatenate([sizes, -0.7 * sizes])
    x, y, least = (grid.ravel() for grid in np.meshgrid(signed, signed, np.array([1e-20, 1e-7, 2.0])))
    kept = np.abs(x - y) / least**2 < 1e37
    return tuple(a[kept].astype(dtype) for a in (x, y, least))


def distance_over(x: Any, y: Any, least: Any) -> Any:
    return abs(x - y) / max(abs(y), least)


def fading_surprises(dtype: Any) -> tuple[np.ndarray, ...]:
    """Surprises of classes nearly certain and all but excluded, and how fast they fade."""
    sizes = magnitudes(dtype, 60, low=1e-6, high=80).astype(dtype)
    return pairs(sizes, np.array([0, 0.5, 1, 2, 4], dtype))


SPECS = [
    Spec(numerics.relu, on(reals), lambda x: max(x, mpf(0)), (lambda x: mpf(x > 0),)),
    Spec(numerics.sigmoid, on(reals), truth.sigmoid, (lambda x: truth.sigmoid(x) * truth.sigmoid(-x),)),
    Spec(numerics.softplus, on(reals), truth.softplus, (truth.sigmoid,)),
    Spec(numerics.log_cosh, on(reals), truth.log_cosh, (mp_tanh,)),
    Spec(numerics.log1mexp, on(negatives), mp_log1mexp, (lambda x: -1 / mpmath.expm1(-x),)),
    Spec(
        numerics.smooth_abs,
        on(reals),
        lambda x: x * x / (1 + mpmath.sqrt(1 + x * x)),
        (lambda x: x / mpmath.sqrt(1 + x * x),),
    ),
    Spec(numerics.multiply, magnitudes_of_both, lambda x, y: x * y, (lambda _, y: y, lambda x, _: x)),
    Spec(
        numerics.xlogy,
        lambda dtype: pairs(reals(dtype, 12)[::8], positives(dtype)),
        lambda x, y: times(x, mpmath.log(y)),
        (lambda _, y: mpmath.log(y), lambda x, y: x / y),
    ),
    Spec(
        numerics.xlog1py,
        lambda dtype: pairs(reals(dtype, 12)[::8], above_minus_one(dtype)),
        lambda x, y: times(x, mpmath.log1p(y)),
        (lambda _, y: mpmath.log1p(y), lambda x, y: x / (1 + y)),
    ),
    Spec(
        numerics.divide, magnitudes_of_both, lambda x, y: x / y, (lambda _, y: 1 / y, lambda x, y: -x / y / y)
    ),
    Spec(
        numerics.distance_over,
        of_distances,
        distance_over,
        (
            lambda x, y, e: mpmath.sign(x - y) / max(abs(y), e),
            lambda x, y, e: -mpmath.sign(x - y) * (x / y / abs(y) if abs(y) > e else 1 / e),
            lambda x, y, e: -abs(x - y) / e / e if abs(y) <= e else mpf(0),
        ),
    ),
    Spec(
        numerics.faded_surprise,
        fading_surprises,
        lambda s, g: s * (-mpmath.expm1(-s)) ** g,
        (
            lambda s, g: (-mpmath.expm1(-s)) ** g * (1 + g * s / mpmath.expm1(s)),
            lambda s, g: s * (-mpmath.expm1(-s)) ** g * mp_log1mexp(-s),
        ),
    ),
    Spec(
        numerics.power,
        of_power,
        lambda x, a: x**a,
        (lambda x, a: a * x ** (a - 1), lambda x, a: x**a * mpmath.log(x)),
    ),
    Spec(
        numerics.log1p_difference,
        lambda dtype: pairs(above_minus_one(dtype), above_minus_one(dtype)),
        log1p_difference,
        (lambda x, _: 1 / (1 + x), lambda _, y: -1 / (1 + y)),
    ),
    Spec(
        numerics.log1p_difference,
        near_pairs,
        log1p_difference,
        (lambda x, _: 1 / (1 + x), lambda _, y: -1 / (1 + y)),
    ),
    *(
        Spec(
            function,
            bernoulli,
            lambda z, y: (1 - y) * truth.softplus(z) + y * truth.softplus(-z),
            (lambda z, y: (1 - y) * truth.sigmoid(z) - y * truth.sigmoid(-z), lambda z, _: -z),
            against=lambda z, y: max((1 - y) * truth.sigmoid(z), y * truth.sigmoid(-z)),
        )
        for function in (numerics.bernoulli_nll, numerics.bernoulli_nll_or_nan)
    ),
    Spec(
        numerics.bernoulli_miss,
        bernoulli,
        lambda z, y: (1 - y) * truth.sigmoid(z) + y * truth.sigmoid(-z),
        (
            lambda z, y: (1 - 2 * y) * truth.sigmoid(z) * truth.sigmoid(-z),
            lambda z, _: -mpmath.tanh(z / 2),
        ),
    ),
    Spec(
        numerics.clipped_square,
        lambda dtype: pairs(below_the_root(dtype), np.array([1e-6, 0.3, 1, 40, 1e6], dtype)),
        lambda x, d: x * x / 2 if abs(x) <= d else d * (abs(x) - d / 2),
        (lambda x, d: max(min(x, d), -d), lambda x, d: max(abs(x) - d, mpf(0))),
    ),
]
every_primitive = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.function.__name__)


@functools.cache
def rows_of(spec: Any, dtype: Any) -> list[tuple[Any, ...]]:
    """The very numbers of the data of a primitive."""
    return list(zip(*map(exact, spec.data(dtype)), strict=True))


@functools.cache
def truth_of(spec: Any, dtype: Any) -> list[Any]:
    return [spec.value(*row) for row in rows_of(spec, dtype)]


@functools.cache
def value_of(spec: Any, dtype: Any) -> np.ndarray:
    """The primitive on its data, a program of its own."""
    return np.asarray(as_users_do(spec.function)(*spec.data(dtype)))


@functools.cache
def differentiated(spec: Any, dtype: Any) -> tuple[Any, Any, Any]:
    """By each argument alone: the value under differentiation, the derivative forward and in reverse."""

    def run(*data):
        def by_one(position):
            def of_one(x):
                return spec.function(*data[:position], x, *data[position + 1 :])

            x = data[position]
            under, tangent = jax.jvp(of_one, (x,), (jnp.ones_like(x),))
            return under, tangent, jax.grad(lambda x: jnp.sum(of_one(x)))(x)

        return [by_one(position) for position in range(len(spec.slopes))]

    return tuple(zip(*as_users_do(run)(*spec.data(dtype)), strict=True))


@every_dtype
@every_primitive
def test_the_value_keeps_to_its_ulps_over_the_whole_range(spec, dtype):
    assert ulps(value_of(spec, dtype), truth_of(spec, dtype)).max() <= stated(spec.function)


@every_dtype
@every_primitive
def test_no_value_needs_a_multiply_add_that_rounds_once(spec, dtype):
    got = jax.jit(spec.function, compiler_options=QUICKLY)(*spec.data(dtype))
    assert ulps(got, truth_of(spec, dtype)).max() <= stated(spec.function)


@every_dtype
@every_primitive
def test_each_derivative_keeps_to_its_ulps_over_the_whole_range(spec, dtype):
    rows, (_, _, derivatives) = rows_of(spec, dtype), differentiated(spec, dtype)
    for position, (slope, got) in enumerate(zip(spec.slopes, derivatives, strict=True)):
        against = [spec.against(*row) for row in rows] if spec.against and position == 0 else None
        assert ulps(got, [slope(*row) for row in rows], against).max() <= stated(spec.function)


@every_dtype
@every_primitive
def test_the_value_under_differentiation_is_the_plain_value(spec, dtype):
    for under in differentiated(spec, dtype)[0]:
        np.testing.assert_array_equal(under, value_of(spec, dtype))


@every_dtype
@every_primitive
def test_forward_and_reverse_mode_agree(spec, dtype):
    # Underflow apart, which the order of two products decides.
    tiny, near = 8 * float(np.finfo(dtype).tiny), 4 * float(np.finfo(dtype).eps)
    _, *modes = differentiated(spec, dtype)
    for forward, reverse in zip(*modes, strict=True):
        np.testing.assert_allclose(forward, reverse, rtol=near, atol=tiny)


# Points away from kinks, where the true second derivative is finite; zero where the docstring says so.
SECOND = [
    (numerics.sigmoid, (-800.0, -40.0, 0.0, 3.0, 40.0, 800.0), lambda x: _sigmoid_second(x)),
    (
        numerics.softplus,
        (-800.0, -40.0, 0.0, 3.0, 40.0, 800.0),
        lambda x: truth.sigmoid(x) * truth.sigmoid(-x),
    ),
    (numerics.log_cosh, (-30.0, -1e-9, 0.0, 0.5, 10.0), lambda x: mpmath.sech(x) ** 2),
    (numerics.log1mexp, (-700.0, -40.0, -1.0, -0.5, -1e-6), lambda x: -mpmath.exp(x) / mpmath.expm1(x) ** 2),
    (numerics.smooth_abs, (-1e5, -1.0, 0.0, 1e-9, 3.0), lambda x: (1 + x * x) ** mpf(-1.5)),
]


def _sigmoid_second(x: Any) -> Any:
    return -mpmath.tanh(x / 2) * truth.sigmoid(x) * truth.sigmoid(-x)


@pytest.mark.parametrize(("function", "points", "second"), SECOND, ids=lambda a: getattr(a, "__name__", None))
def test_the_second_derivative_is_right_and_finite(function, points, second):
    twice = {
        "forward over reverse": jax.jacfwd(jax.jacrev(function)),
        "reverse over reverse": jax.jacrev(jax.jacrev(function)),
        "forward over forward": jax.jacfwd(jax.jacfwd(function)),
    }
    got = as_users_do(jax.vmap(lambda x: {nested: of(x) for nested, of in twice.items()}))(np.array(points))
    true = [float(second(mpf(x))) for x in points]
    for nested in twice:
        np.testing.assert_allclose(got[nested], true, rtol=1e-12, atol=1e-15, err_msg=nested)


# --- where a product, a ratio or a power meets zero -----------------------------------------------

AT_ZERO = {
    "multiply": (numerics.multiply, (0.0, INF), 0.0, (0.0, 0.0)),
    "multiply, minus infinity": (numerics.multiply, (0.0, -INF), 0.0, (0.0, 0.0)),
    "xlogy": (numerics.xlogy, (0.0, 0.0), 0.0, (-INF, 0.0)),
    "xlogy, x": (numerics.xlogy, (0.0, 3.0), 0.0, (np.log(3.0), 0.0)),
    "xlogy, y": (numerics.xlogy, (2.0, 0.0), -INF, (-INF, INF)),
    "xlog1py": (numerics.xlog1py, (0.0, -1.0), 0.0, (-INF, 0.0)),
    "xlog1py, y": (numerics.xlog1py, (2.0, -1.0), -INF, (-INF, INF)),
    "divide": (numerics.divide, (0.0, 0.0), 0.0, (0.0, 0.0)),
    "divide, x": (numerics.divide, (2.0, 0.0), INF, (INF, -INF)),
    "power": (numerics.power, (0.0, 2.0), 0.0, (0.0, 0.0)),
    "power below one": (numerics.power, (0.0, 0.5), 0.0, (0.0, 0.0)),
    "power zero": (numerics.power, (0.0, 0.0), 1.0, (0.0, 0.0)),
    "relu": (numerics.relu, (0.0,), 0.0, (0.0,)),
}
at_zero = pytest.mark.parametrize("limit", AT_ZERO.values(), ids=AT_ZERO)


@functools.cache
def with_derivatives(function):
    """The value, and the derivative by each argument in reverse and in forward mode."""

    # One argument at a time: the tangent of another is then known to be zero, and not multiplied.
    def run(*point):
        def derived(mode):
            return [mode(function, position)(*point) for position in range(len(point))]

        return function(*point), derived(jax.jacrev), derived(jax.jacfwd)

    return as_users_do(run)


@at_zero
def test_the_value_at_the_limit_is_the_stated_one(limit):
    function, point, value, _ = limit
    np.testing.assert_array_equal(with_derivatives(function)(*map(np.float64, point))[0], value)


@at_zero
def test_the_derivatives_at_the_limit_are_the_stated_ones(limit):
    function, point, _, slopes = limit
    for got in with_derivatives(function)(*map(np.float64, point))[1:]:
        np.testing.assert_allclose(got, slopes, rtol=1e-15)


def test_the_derivative_of_expm1_keeps_its_digits_far_below_zero():
    slope = as_users_do(jax.grad(numerics.expm1))(jnp.float32(-17.5))
    np.testing.assert_allclose(slope, np.exp(-17.5), rtol=2e-7)


def test_log1mexp_of_zero_is_minus_infinity():
    assert jax.jit(numerics.log1mexp)(0.0) == -INF


def test_log1mexp_above_zero_is_nan():
    assert np.isnan(jax.jit(numerics.log1mexp)(np.float32(1e-7)))


ONE_ARGUMENT = ["relu", "sigmoid", "softplus", "log_cosh", "log1mexp", "smooth_abs"]
TWO_ARGUMENTS = [
    "multiply",
    "xlogy",
    "xlog1py",
    "divide",
    "power",
    "log1p_difference",
    "bernoulli_nll",
    "bernoulli_nll_or_nan",
    "bernoulli_miss",
]


# A sum of thousands is another program than that of a few.
alone_or_in_a_long_sum = pytest.mark.parametrize("count", [1, 10_007])


def summed(name: str, count: int, *point: float) -> jax.Array:
    """A primitive summed over one point, and over others that are all the same and have a value."""
    rest = np.full(count - 1, -0.5 if name == "log1mexp" else 0.5)
    rows = [np.r_[value, rest].astype(np.float32) for value in point]
    return jax.jit(lambda *rows: jnp.sum(getattr(numerics, name)(*rows)))(*rows)


@alone_or_in_a_long_sum
@pytest.mark.parametrize("name", ONE_ARGUMENT)
def test_no_primitive_of_one_argument_hides_a_nan(name, count):
    assert np.isnan(summed(name, count, NAN))


@alone_or_in_a_long_sum
@pytest.mark.parametrize("name", TWO_ARGUMENTS)
@pytest.mark.parametrize("point", [(NAN, 0.5), (0.5, NAN), (NAN, 1.0), (0.0, NAN)])
def test_no_primitive_of_two_arguments_hides_a_nan(name, point, count):
    assert np.isnan(summed(name, count, *point))


OUTSIDE_THE_UNIT = [np.nextafter(np.float32(1), np.float32(2)), -np.finfo(np.float32).tiny, 2, -1, INF, -INF]


@alone_or_in_a_long_sum
@pytest.mark.parametrize("label", OUTSIDE_THE_UNIT)
def test_a_label_that_is_no_probability_has_no_bernoulli_nll(label, count):
    for logit in (0.0, 17.0, -200.0):
        assert np.isnan(summed("bernoulli_nll_or_nan", count, logit, label))


@pytest.mark.parametrize("label", OUTSIDE_THE_UNIT)
def test_a_label_that_is_no_probability_has_no_derivative_of_it_either(label):
    slopes = jax.grad(numerics.bernoulli_nll_or_nan, (0, 1))(np.float32(-200), np.float32(label))
    assert np.all(np.isnan(slopes))


# --- second derivatives where a square would over- or underflow -----------------------------------


def test_the_curvature_of_bernoulli_miss_takes_nothing_that_overflows_with_it():
    def faded(z):  # a focal loss whose entropy is as large as its logit
        return numerics.bernoulli_miss(z, jnp.float32(0)) ** 2 * z

    points = np.array([801.0, 1e30, 3e38], np.float32)
    slopes, curvatures = jax.jit(jax.vmap(jax.value_and_grad(jax.grad(faded))))(points)
    np.testing.assert_array_equal(slopes, 1)
    np.testing.assert_array_equal(curvatures, 0)


def test_the_curvature_of_bernoulli_nll_is_that_of_softplus_however_certain():
    z = np.array([-100.0, -75.0, -50.0, 50.0, 100.0])
    curvature = jax.jit(jax.vmap(jax.grad(jax.grad(numerics.bernoulli_nll))))
    got = curvature(z.astype(np.float32), np.ones_like(z, np.float32))
    np.testing.assert_allclose(got, 1 / (4 * np.cosh(z / 2) ** 2), rtol=1e-5, atol=1e-38)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 3.0])
def test_what_a_focal_loss_fades_by_has_its_curvatures_however_certain(exponent):
    def cost(z, y, exponent):  # of hard labels as small as the miss is: its square is no float32
        return numerics.bernoulli_fading(z, y, exponent) * numerics.bernoulli_nll(z, y)

    slopes = jax.grad(cost, (0, 2))
    z, y = pairs(np.array([-85.0, -60.0, -17.0, 0.0, 3.0, 60.0, 85.0]), np.array([0.0, 1e-6, 0.3, 1.0]))
    for nested in (jax.jacfwd, jax.jacrev):
        curvatures = jax.jit(jax.vmap(nested(slopes, (0, 2))))
        single, double = (
            np.array(curvatures(*(a.astype(dtype) for a in (z, y, np.full_like(z, exponent)))))
            for dtype in (np.float32, np.float64)
        )
        assert np.all(np.isfinite(single))
        np.testing.assert_allclose(single[0, 0], double[0, 0], rtol=2e-5, atol=1e-36)


FADING = {
    "a surprise": (numerics.faded_surprise, np.geomspace(1e-37, 1e3, 20)),
    "by an unclipped probability": (
        lambda z, exponent: numerics.clipped_fading(z, 0.0, exponent) * numerics.softplus(z),
        np.array([-1e3, -85.0, -60.0, -17.0, 0.0, 3.0, 60.0, 85.0]),
    ),
}


@pytest.mark.parametrize("nested", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("name", FADING)
def test_what_fades_slowly_has_its_curvature_however_certain(name, nested):
    function, points = FADING[name]
    x, exponent = pairs(points, np.array([0.0, 0.5, 1.0]))
    curvature = jax.jit(jax.vmap(nested(jax.grad(function))))
    single, double = (
        np.array(curvature(x.astype(dtype), exponent.astype(dtype))) for dtype in (np.float32, np.float64)
    )
    np.testing.assert_allclose(single, double, rtol=2e-5, atol=1e-36)


def test_a_power_of_a_small_number_has_its_second_derivative():
    x, exponent = 1e-22, np.array([0.0, 0.5, 1.0])
    curvature = jax.jit(jax.vmap(jax.grad(jax.grad(numerics.power)), (None, 0)))
    got = curvature(np.float32(x), exponent.astype(np.float32))
    np.testing.assert_allclose(got, exponent * (exponent - 1) * x ** (exponent - 2), rtol=1e-5)


# --- what is out of bounds ------------------------------------------------------------------------


def test_a_product_of_zero_and_infinity_has_only_the_derivative_that_is_asked_for():
    moved = jax.jvp(
        lambda y: numerics.multiply(jnp.array([0.5, 0.0]), y), [jnp.full(2, -jnp.inf)], [jnp.ones(2)]
    )
    np.testing.assert_array_equal(moved[1], [0.5, 0.0])


def test_spoil_leaves_a_value_where_the_margin_is_not_negative():
    found = jax.jit(numerics.spoil)(np.array([1.0, 2.0]), np.array([0.0, 5.0]))
    np.testing.assert_array_equal(found, [1.0, 2.0])


def test_spoil_makes_nan_where_the_margin_is_negative():
    assert np.isnan(jax.jit(numerics.spoil)(np.float32(1), np.float32(-1e-30)))


@pytest.mark.parametrize(("margin", "slope"), [(0.0, 1.0), (3.0, 1.0), (-1.0, NAN), (-1e-30, NAN)])
def test_the_derivative_is_spoiled_where_the_value_is(margin, slope):
    found = jax.jit(jax.grad(numerics.spoil))(np.float32(2), np.float32(margin))
    np.testing.assert_array_equal(found, slope)


def test_the_margin_has_no_derivative():
    assert jax.jit(jax.grad(numerics.spoil, 1))(2.0, 3.0) == 0


# --- the last axis: norms -------------------------------------------------------------------------


def vectors(dtype: Any) -> np.ndarray:
    """Vectors of one, three and 64 numbers, of every magnitude, with entries alike and far apart."""
    limits, rng = np.finfo(dtype), np.random.default_rng(0)
    rows = []
    for scale in magnitudes(dtype, 24, low=float(limits.tiny) * 2**24, high=float(limits.max) / 16):
        for width in (1, 3, 64):
            row = np.where(np.arange(64) < width, rng.normal(size=64), 0)
            rows.append(row * (scale / np.abs(row).max()))
    mixed = [rng.normal(size=64) * np.where(rng.random(64) < 0.5, a, 1) for a in np.geomspace(1e-7, 1e7, 12)]
    return np.array([*rows, *mixed]).astype(dtype)


def norms(x: np.ndarray) -> list[Any]:
    return [mpmath.sqrt(mpmath.fsum(v * v for v in row)) for row in exact(x)]


def units(x: np.ndarray) -> list[Any]:
    return [v / norm for row, norm in zip(exact(x), norms(x), strict=True) for v in row]


@every_dtype
def test_safe_norm_keeps_to_its_ulps_over_the_whole_range(dtype):
    x = vectors(dtype)
    assert ulps(as_users_do(numerics.safe_norm)(x), norms(x)).max() <= stated(numerics.safe_norm)


@every_dtype
def test_the_gradient_of_safe_norm_keeps_to_its_ulps(dtype):
    x = vectors(dtype)
    got = as_users_do(jax.grad(lambda x: jnp.sum(numerics.safe_norm(x))))(x)
    assert ulps(got, units(x)).max() <= stated(numerics.safe_norm)


@every_dtype
def test_unit_keeps_to_its_ulps_over_the_whole_range(dtype):
    x = vectors(dtype)
    assert ulps(as_users_do(numerics.unit)(x), units(x)).max() <= stated(numerics.unit)


@functools.cache
def jacobians(function):
    """By the first argument in forward and in reverse mode, and the second derivatives."""
    modes = {"forward": jax.jacfwd, "reverse": jax.jacrev, "second": jax.hessian}
    return as_users_do(lambda *given: {name: mode(function)(*given) for name, mode in modes.items()})


@pytest.mark.parametrize("function", [numerics.safe_norm, numerics.unit])
def test_at_the_zero_vector_norm_and_unit_have_zero_derivatives(function):
    for derivative in jacobians(function)(np.zeros(3)).values():
        np.testing.assert_array_equal(derivative, 0)


X = np.array([1.0, -2.0, 3.0])
UNIT = X / np.sqrt(14.0)
ACROSS = (np.eye(3) - np.outer(UNIT, UNIT)) / np.sqrt(14.0)


def test_unit_has_the_closed_jacobian():
    np.testing.assert_allclose(jacobians(numerics.unit)(X)["reverse"], ACROSS, rtol=1e-14, atol=1e-16)


def test_the_hessian_of_safe_norm_is_the_closed_form():
    np.testing.assert_allclose(jacobians(numerics.safe_norm)(X)["second"], ACROSS, rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("function", [numerics.safe_norm, numerics.unit])
def test_norm_and_unit_hide_no_nan(function):
    assert np.all(np.isnan(jax.jit(function)(np.array([1.0, NAN]))))


def test_the_norm_of_an_empty_axis_is_zero():
    np.testing.assert_array_equal(jax.jit(numerics.safe_norm)(np.zeros((2, 0))), [0.0, 0.0])


# --- the last axis: classes -----------------------------------------------------------------------


def class_rows(dtype: Any) -> np.ndarray:
    """Ties, gaps of 17 and 80, offsets of 1e4 and exclusions; every difference of two is a float."""
    rng = np.random.default_rng(0)
    rows = []
    for offset in (0, 1e4, -1e4):
        for gap in (0, 0.125, 0.5, 1, 5, 17, 30, 80):
            leads = np.where(np.arange(5) == rng.integers(5), gap, 0)
            rows += [leads + offset, leads + rng.integers(-24, 24, size=5) / 8 + offset]
            rows.append(-leads + rng.integers(-4, 4, size=5) / 8 + offset)
    rows += [[0, -INF, 1, -INF, 3], [5, -INF, -INF, -INF, -INF], [2, 2, -INF, -INF, 1]]
    return np.array(rows).astype(dtype)


def normaliser(row: list[Any]) -> Any:
    """Log Σ e^{z − max}, through log1p."""
    leader = row.index(max(row))
    return mpmath.log1p(mpmath.fsum(mpmath.exp(z - row[leader]) for j, z in enumerate(row) if j != leader))


def surprise_at(row: list[Any], label: int) -> Any:
    return normaliser(row) + (max(row) - row[label])


@every_dtype
def test_log_normaliser_keeps_to_its_ulps(dtype):
    x = class_rows(dtype)
    got = as_users_do(lambda x: numerics.log_normaliser(x, numerics.class_pivot(x)))(x)
    assert ulps(got, map(normaliser, exact(x))).max() <= stated(numerics.log_normaliser)


@every_dtype
def test_logsumexp_keeps_to_its_ulps(dtype):
    x = class_rows(dtype)
    true = [normaliser(row) + max(row) for row in exact(x)]
    # The sum of the pivot and a positive number: at a pivot of −3 it may cancel.
    against = [max(abs(max(row)), abs(t)) for row, t in zip(exact(x), true, strict=True)]
    assert ulps(as_users_do(numerics.logsumexp)(x), true, against).max() <= stated(numerics.logsumexp)


@every_dtype
def test_the_derivative_of_logsumexp_is_the_softmax_to_its_ulps(dtype):
    x = class_rows(dtype)
    got = as_users_do(jax.grad(lambda x: jnp.sum(numerics.logsumexp(x))))(x)
    true = [share for row in exact(x) for share in truth.softmax(row)]
    # e^x multiplies the error of x by |x|, the logarithm of the share.
    reach = np.array([float(-mpmath.log(share)) if share else 0 for share in true])
    assert np.max(ulps(got, true) / (1 + reach)) <= stated(numerics.logsumexp)


surprise = as_users_do(numerics.surprise)
surprise_slope = as_users_do(jax.grad(lambda x, ids: jnp.sum(numerics.surprise(x, ids))))
expected_surprise = as_users_do(numerics.expected_surprise)
expected_slope = as_users_do(jax.grad(lambda x, shares: jnp.sum(numerics.expected_surprise(x, shares))))


def of_label(dtype: Any, label: int, function: Callable[..., Any], *, one_hot: bool = False) -> np.ndarray:
    """Of all rows at once, and then of those in which the label is there."""
    x = class_rows(dtype)
    ids = np.full(len(x), label)
    return np.asarray(function(x, np.eye(5, dtype=dtype)[ids] if one_hot else ids))[x[:, label] != -INF]


SHARES = np.array([0.0, 1.0, 0.0, 0.5, 3.0])


@every_dtype
def test_expected_surprise_keeps_to_its_ulps(dtype):
    x = class_rows(dtype)
    finite = np.isfinite(x).all(axis=-1)
    got = np.asarray(expected_surprise(x, np.broadcast_to(SHARES.astype(dtype), x.shape)))[finite]
    true = [sum(s * surprise_at(row, c) for c, s in enumerate(SHARES) if s) for row in exact(x[finite])]
    assert ulps(got, true).max() <= stated(numerics.expected_surprise)


@every_dtype
@pytest.mark.parametrize("label", range(5))
def test_of_a_one_hot_label_the_expected_surprise_is_the_surprise_and_has_its_slope(dtype, label):
    value, found = (of_label(dtype, label, of, one_hot=True) for of in (expected_surprise, expected_slope))
    np.testing.assert_allclose(value, of_label(dtype, label, surprise), rtol=1e-6)
    limits, expected = np.finfo(dtype), of_label(dtype, label, surprise_slope)
    np.testing.assert_allclose(found, expected, rtol=300 * limits.eps, atol=limits.tiny)


def test_a_class_without_a_share_costs_nothing_though_it_is_excluded():
    logits, shares = np.array([0.5, -INF, 1.0]), np.array([1.0, 0.0, 0.0])
    value, slopes = jax.jit(jax.value_and_grad(numerics.expected_surprise, argnums=(0, 1)))(logits, shares)
    assert value == jax.jit(numerics.surprise)(logits, np.array(0))
    assert np.all(np.isfinite(slopes))


@every_dtype
@pytest.mark.parametrize("label", range(5))
def test_surprise_keeps_to_its_ulps(dtype, label):
    rows = [row for row in exact(class_rows(dtype)) if row[label] != -INF]
    got = of_label(dtype, label, surprise)
    assert ulps(got, [surprise_at(row, label) for row in rows]).max() <= stated(numerics.surprise)


@every_dtype
@pytest.mark.parametrize("label", range(5))
def test_the_derivative_of_surprise_is_the_softmax_less_one_at_the_label(dtype, label):
    rows = [row for row in exact(class_rows(dtype)) if row[label] != -INF]
    bound = 300 * float(np.finfo(dtype).eps)
    for row, slope in zip(rows, of_label(dtype, label, surprise_slope), strict=True):
        shares = truth.softmax(row)
        others = mpmath.fsum(share for j, share in enumerate(shares) if j != label)
        true = [float(-others if j == label else share) for j, share in enumerate(shares)]
        np.testing.assert_allclose(slope, true, rtol=bound, atol=float(np.finfo(dtype).tiny))


@pytest.mark.parametrize("gap", [87.0, 88.0, 104.0, 1e4])
def test_no_gap_makes_the_gradient_of_the_surprise_nan(gap):
    got = surprise_slope(np.array([gap, 0, -1], np.float32), np.array(0))
    assert np.all(np.isfinite(got))


@pytest.mark.parametrize("shares", [False, True], ids=["ids", "shares"])
def test_logits_that_the_compiler_computes_with_the_loss_are_as_good_as_given_ones(shares):
    """Fused, s·x − pivot is rounded once, and not 0 at the pivot."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 4, (4096, 5)).astype(np.float32)
    scale, ids = np.float32(14.285714), np.argmax(x, axis=-1)

    def loss(x, scale):
        logits = scale * x
        if shares:
            return numerics.expected_surprise(logits, jnp.eye(5, dtype=jnp.float32)[ids])
        return numerics.surprise(logits, ids)

    exactly = scale.astype(float) * x.astype(float)
    gaps = np.exp(exactly - exactly.max(axis=-1, keepdims=True))
    truth = np.log1p(np.sort(gaps, axis=-1)[:, :-1].sum(axis=-1))
    with jax.numpy_dtype_promotion("standard"):
        found = as_users_do(loss)(x, scale)
    # A logit is known to a rounding of its size, which a gap of 100 turns into 1e-5 of the share.
    np.testing.assert_allclose(found, truth, rtol=3e-5, atol=1e-37)


def test_a_label_that_is_excluded_is_infinitely_surprising():
    assert jax.jit(numerics.surprise)(np.array([0.5, -INF, 1.0]), np.array(1)) == INF


@pytest.mark.parametrize(
    ("function", "label"), [(numerics.logsumexp, []), (numerics.surprise, [np.array(2)])]
)
def test_an_excluded_class_has_zero_derivative(function, label):
    found = jacobians(function)(np.array([0.5, -INF, 1.0, 3.0]), *label)
    assert found["forward"][1] == found["reverse"][1] == 0


def test_the_hessian_of_logsumexp_is_the_softmax_covariance():
    x = np.array([0.5, 2.0, -1.0, 40.0])
    p = np.array([float(v) for v in truth.softmax(exact(x))])
    got = jacobians(numerics.logsumexp)(x)["second"]
    np.testing.assert_allclose(got, np.diag(p) - np.outer(p, p), rtol=1e-11, atol=1e-15)


def test_the_hessian_of_surprise_is_the_softmax_covariance():
    x = np.array([0.5, 2.0, -1.0, 3.0])
    p = np.array([float(v) for v in truth.softmax(exact(x))])
    got = jacobians(numerics.surprise)(x, np.array(0))["second"]
    np.testing.assert_allclose(got, np.diag(p) - np.outer(p, p), rtol=1e-12, atol=1e-15)


def test_logsumexp_over_no_class_is_minus_infinity():
    assert jax.jit(numerics.logsumexp)(np.array([1.0, 2.0]), np.array([False, False])) == -INF


def test_logsumexp_over_no_class_has_zero_derivatives():
    for derivative in jacobians(numerics.logsumexp)(np.array([1.0, 2.0]), np.array([False, False])).values():
        np.testing.assert_array_equal(derivative, 0)


def test_what_a_masked_class_holds_does_not_matter():
    x, where = np.array([1.0, NAN, 2.0, INF]), np.array([True, False, True, False])
    masked, kept = (jax.jit(numerics.logsumexp)(*given) for given in ((x, where), (np.array([1.0, 2.0]),)))
    np.testing.assert_array_equal(masked, kept)


def test_what_a_masked_class_holds_reaches_no_gradient():
    x, where = np.array([1.0, NAN, 2.0, INF]), np.array([True, False, True, False])
    shares = np.exp([1.0, 2.0]) / np.sum(np.exp([1.0, 2.0]))
    found = jax.jit(jax.grad(numerics.logsumexp))(x, where)
    np.testing.assert_allclose(found, [shares[0], 0, shares[1], 0], rtol=1e-15)


@pytest.mark.parametrize("function", [numerics.logsumexp, numerics.class_pivot])
def test_logsumexp_and_pivot_hide_no_nan(function):
    assert np.isnan(jax.jit(function)(np.array([1.0, NAN])))


def test_the_pivot_is_the_largest_logit():
    found = jax.jit(numerics.class_pivot)(np.array([[1.0, 3.0], [-INF, 2.0]]))
    np.testing.assert_array_equal(found, [3.0, 2.0])


def test_the_pivot_of_no_class_is_zero():
    assert jax.jit(numerics.class_pivot)(np.array([-INF, -INF])) == 0


def test_the_pivot_is_a_constant_under_differentiation():
    assert not np.any(jax.jit(jax.grad(numerics.class_pivot))(np.array([1.0, 3.0])))


@pytest.mark.parametrize("ids", [[0, 3, 1], [2, 2, 0]])
def test_pick_is_the_entry_each_id_names(ids):
    values = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(jax.jit(numerics.pick)(values, np.array(ids)), values[range(3), ids])


@pytest.mark.parametrize("id_", [-1, -4, 4, 5, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("function", [numerics.pick, numerics.surprise])
def test_an_id_that_names_no_class_is_nan(function, id_):
    assert np.isnan(jax.jit(function)(np.arange(4.0), np.array(id_, np.int32)))


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8, jnp.int32, jnp.int64])
def test_pick_takes_ids_of_any_integer_type(dtype):
    assert jax.jit(numerics.pick)(np.arange(4.0), np.array(3, dtype)) == 3


def test_the_derivative_of_pick_is_one_hot():
    got = jax.jit(jax.jacrev(numerics.pick))(np.arange(8.0).reshape(2, 4), np.array([1, 3]))
    np.testing.assert_array_equal(np.sum(got, axis=1), [[0, 1, 0, 0], [0, 0, 0, 1]])


def test_the_gradient_of_pick_does_not_scatter():
    gradient = jax.grad(lambda v, i: jnp.sum(numerics.pick(v, i)))
    assert "scatter" not in str(jax.make_jaxpr(gradient)(jnp.ones((2, 4)), jnp.array([1, 3])))


def test_the_only_class_is_no_surprise():
    assert jax.jit(numerics.surprise)(np.array([3.0]), np.array(0)) == 0


def test_the_only_class_has_zero_derivatives():
    for derivative in jacobians(numerics.surprise)(np.array([3.0]), np.array(0)).values():
        np.testing.assert_array_equal(derivative, 0)


def test_among_ties_the_surprise_is_the_logarithm_of_how_many():
    found = jax.jit(numerics.surprise)(np.full((3, 8), 1e4), np.array([0, 3, 7]))
    np.testing.assert_allclose(found, np.log([8, 8, 8]), rtol=1e-15)


# --- large inputs: the second sum is behind a branch ----------------------------------------------

LARGE = (1 << 20) // 8


def large_rows(gap: float) -> tuple[np.ndarray, np.ndarray]:
    """2²⁰ logits in rows of eight, one of them a clear leader where `gap` says so."""
    rng = np.random.default_rng(0)
    x = (rng.integers(-8, 8, size=(LARGE, 8)) / 64).astype(np.float32)
    x[LARGE // 2, 3] += np.float32(gap)
    ids = rng.integers(0, 8, size=LARGE)
    ids[LARGE // 2] = 3
    return x, ids


def test_the_branch_is_where_the_large_inputs_begin():
    assert LARGE * 8 == numerics.classes._SMALL


@jax.jit
def surprise_and_slope(x, ids):
    losses, pullback = jax.vjp(lambda x: numerics.surprise(x, ids), x)
    return losses, pullback(jnp.ones_like(losses))[0]


@pytest.mark.parametrize("gap", [0, 17, 80])
def test_a_large_input_has_the_values_and_the_gradients_of_small_ones(gap):
    x, ids = large_rows(gap)
    half = LARGE // 2 + 1
    (values, slopes), expected = surprise_and_slope(x, ids), surprise_and_slope(x[:half], ids[:half])
    np.testing.assert_allclose(values[:half], expected[0], rtol=1e-6)
    np.testing.assert_allclose(slopes[:half], expected[1], rtol=4e-5, atol=1e-37)


def test_the_branch_is_taken_only_by_large_inputs():
    count = lambda n: str(jax.make_jaxpr(numerics.logsumexp)(jnp.zeros((n, 8)))).count("cond[")  # noqa: E731
    assert (count(LARGE - 1), count(LARGE)) == (0, 1)


def test_the_branch_can_be_vmapped():
    x, ids = large_rows(17)
    stacked = jax.jit(jax.vmap(numerics.surprise))(np.stack([x, x]), np.stack([ids, ids]))
    np.testing.assert_array_equal(stacked[0], stacked[1])
