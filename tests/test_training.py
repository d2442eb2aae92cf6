"""The step by hand against θ − ηg in NumPy, the loop against iterates known in closed form."""

import functools
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxloss.training import StopReason, gradient_descent_step, minimize

SHAPES = {"matrix": (2, 3), "bias": (3,), "scale": ()}
RATES = st.floats(2.0**-40, 2.0**10)


def trees(dtype):
    width = 32 if dtype == np.float32 else 64
    elements = st.floats(-(2.0**60), 2.0**60, width=width, allow_subnormal=False)
    return st.fixed_dictionaries(
        {name: arrays(dtype, shape, elements=elements) for name, shape in SHAPES.items()}
    )


# --- the step ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_a_step_is_theta_minus_eta_g(dtype, data):
    params, grads = data.draw(trees(dtype)), data.draw(trees(dtype))
    rate = data.draw(RATES)
    stepped = gradient_descent_step(params, grads, rate)
    for name in SHAPES:
        wanted = params[name].astype(np.float64) - rate * grads[name].astype(np.float64)
        scale = np.abs(params[name]) + np.abs(rate * grads[name])
        error = np.abs(np.asarray(stepped[name], np.float64) - wanted)
        # Below the smallest normal number a product may be flushed to zero.
        assert np.all(error <= 2 * np.finfo(dtype).eps * scale + np.finfo(dtype).tiny)


def test_bfloat16_parameters_are_stepped_in_float32_and_rounded_once():
    # In bfloat16 arithmetic η g would be rounded as well, and some results would be neighbours.
    theta = jnp.linspace(0.5, 3.0, 101).astype(jnp.bfloat16)
    g = jnp.linspace(-1.7, 2.3, 101).astype(jnp.bfloat16)
    wide = np.asarray(theta, np.float32) - np.float32(0.1) * np.asarray(g, np.float32)
    stepped = gradient_descent_step(theta, g, 0.1)
    np.testing.assert_array_equal(np.asarray(stepped), wide.astype(jnp.bfloat16))


def test_a_step_keeps_structure_and_dtypes():
    params = [{"half": jnp.ones(2, jnp.bfloat16)}, (jnp.ones(3, jnp.float32), None), jnp.ones(())]
    stepped = gradient_descent_step(params, params, 0.5)
    assert jax.tree.structure(stepped) == jax.tree.structure(params)
    assert [a.dtype for a in jax.tree.leaves(stepped)] == [a.dtype for a in jax.tree.leaves(params)]


def test_float32_gradients_step_bfloat16_parameters_without_being_rounded_first():
    stepped = gradient_descent_step(jnp.bfloat16(1.0), jnp.float32(0.0390626), 0.1)
    assert stepped == jnp.bfloat16(np.float32(1.0) - np.float32(0.1) * np.float32(0.0390626))


def test_the_learning_rate_may_be_traced_and_differentiated():
    g = jnp.array([1.0, -2.0])
    slope = jax.jit(jax.jacfwd(lambda rate: gradient_descent_step(jnp.zeros(2), g, rate)))(0.3)
    np.testing.assert_array_equal(slope, -g)


@pytest.mark.parametrize("rate", [0.0, -0.1, float("nan"), float("inf"), jnp.array(-1.0)])
def test_a_learning_rate_that_is_not_positive_is_refused(rate):
    with pytest.raises(ValueError, match="gradient_descent_step: `learning_rate` must be positive"):
        gradient_descent_step(jnp.ones(2), jnp.ones(2), rate)


def test_a_learning_rate_with_a_shape_is_refused():
    with pytest.raises(ValueError, match=r"`learning_rate` must be one number, got shape \(2,\)"):
        gradient_descent_step(jnp.ones(2), jnp.ones(2), jnp.ones(2))


def test_a_schedule_as_learning_rate_is_sent_to_the_adapter():
    with pytest.raises(TypeError, match=r"adapters\.optax\.gradient_descent\(schedule\)"):
        gradient_descent_step(jnp.ones(2), jnp.ones(2), lambda count: 0.1 / count)


@pytest.mark.parametrize(
    ("leaf", "kind"),
    [
        (jnp.arange(3), "int64"),
        (1, "int64"),
        (jnp.array([1j]), "complex128"),
        (jnp.tanh, "PjitFunction"),
        ("relu", "str"),
    ],
)
def test_a_parameter_that_is_not_floating_is_named_and_refused(leaf, kind):
    with pytest.raises(TypeError, match=rf"`params\['a'\]` must be floating, got .*{kind}"):
        gradient_descent_step({"a": leaf, "b": jnp.ones(2)}, {"a": leaf, "b": jnp.ones(2)}, 0.1)


@pytest.mark.parametrize(
    ("grads", "words"),
    [
        ({"a": jnp.ones(2)}, r"`params\['b'\]` has \(3, 1\), `grads\['b'\]` has no array"),
        ({"a": None, "b": jnp.ones((3, 1))}, r"`grads\['a'\]` has no array"),
        ({"a": jnp.ones(2), "b": jnp.ones(3)}, r"`grads\['b'\]` has \(3,\)"),
        (
            {"a": jnp.ones(2), "b": jnp.ones((3, 1)), "c": jnp.ones(1)},
            r"`params\['c'\]` has no array",
        ),
        ({"a": jnp.ones(2), "b": jnp.ones((3, 1)), "c": None}, "must have one structure, got"),
    ],
)
def test_gradients_of_another_structure_or_shape_are_named_and_refused(grads, words):
    params = {"a": jnp.ones(2), "b": jnp.ones((3, 1))}
    with pytest.raises(ValueError, match=words):
        gradient_descent_step(params, grads, 0.1)


def test_integer_gradients_are_refused():
    with pytest.raises(TypeError, match="`grads` must be floating, got int64"):
        gradient_descent_step(jnp.ones(2), jnp.arange(2), 0.1)


# --- the loop: where it goes ---------------------------------------------------------------------

A = np.array([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 1.0]])
CENTRE = np.array([1.0, -2.0, 0.5])
START = np.array([-1.0, 4.0, 2.0])


def quadratic(theta, matrix, centre):
    """½ (θ − c)ᵀ A (θ − c), whose iterates are θ_k = c + (I − ηA)^k (θ₀ − c)."""
    return 0.5 * (theta - centre) @ matrix @ (theta - centre)


def iterate(k, rate):
    return CENTRE + np.linalg.matrix_power(np.eye(3) - rate * A, k) @ (START - CENTRE)


def descend(**options):
    return minimize(quadratic, jnp.asarray(START), jnp.asarray(A), jnp.asarray(CENTRE), **options)


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.6])
def test_the_iterates_on_a_quadratic_are_the_closed_form(rate):
    found = descend(learning_rate=rate, max_steps=40)
    np.testing.assert_allclose(found.params, iterate(40, rate), rtol=1e-12)


def test_the_history_is_the_loss_before_each_update_and_at_the_end():
    found = descend(learning_rate=0.3, max_steps=10)
    wanted = [quadratic(iterate(k, 0.3), A, CENTRE) for k in range(11)]
    np.testing.assert_allclose(found.history, wanted, rtol=1e-11)


def test_linear_least_squares_reaches_the_solution_of_the_normal_equations():
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(200, 3)), rng.normal(size=200)
    y = x @ np.array([2.0, -1.0, 0.5]) + 3.0 + noise

    def objective(params, x, y):
        return jnp.mean((x @ params["slope"] + params["intercept"] - y) ** 2)

    start = {"slope": jnp.zeros(3), "intercept": jnp.zeros(())}
    found = minimize(objective, start, x, y, learning_rate=0.2, max_steps=2000, tolerance=0.0)
    solution, *_ = np.linalg.lstsq(np.c_[x, np.ones(200)], y, rcond=None)
    np.testing.assert_allclose(found.params["slope"], solution[:3], atol=1e-7)
    np.testing.assert_allclose(found.params["intercept"], solution[3], atol=1e-7)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_the_parameters_keep_their_dtype_through_the_loop(dtype):
    start = jnp.asarray(2.0, dtype)
    found = minimize(lambda p: (p * p).astype(jnp.float32), start, learning_rate=0.25, max_steps=3)
    assert found.params.dtype == dtype
    assert found.params == 0.25


def test_a_python_number_may_be_the_start():
    found = minimize(lambda p: (p["x"] - 1.0) ** 2, {"x": 3.0}, learning_rate=0.25, max_steps=1)
    assert found.params["x"] == 2.0


def test_the_start_survives():
    start = jnp.asarray(START)
    minimize(quadratic, start, A, CENTRE, learning_rate=0.1, max_steps=2)
    np.testing.assert_array_equal(start, START)


# --- the loop: when it stops ---------------------------------------------------------------------


def test_max_steps_is_the_number_of_updates():
    found = descend(learning_rate=0.1, max_steps=7)
    assert (found.steps, found.reason) == (7, StopReason.MAX_STEPS)


def test_the_threshold_stops_at_the_first_loss_at_or_below_it():
    everything = descend(learning_rate=0.1, max_steps=50).history
    found = descend(learning_rate=0.1, max_steps=50, threshold=everything[12])
    assert (found.steps, found.reason) == (12, StopReason.THRESHOLD)


def test_a_start_below_the_threshold_takes_no_step():
    found = descend(learning_rate=0.1, max_steps=50, threshold=1e6)
    assert (found.steps, found.reason) == (0, StopReason.THRESHOLD)
    np.testing.assert_array_equal(found.params, START)


def test_the_tolerance_stops_at_the_first_change_within_it():
    everything = np.asarray(descend(learning_rate=0.1, max_steps=50).history)
    changes = np.abs(np.diff(everything))
    found = descend(learning_rate=0.1, max_steps=50, tolerance=changes[8])
    assert (found.steps, found.reason) == (9, StopReason.TOLERANCE)


def test_a_rise_of_the_loss_is_no_small_change():
    found = descend(learning_rate=0.7, max_steps=5, tolerance=1e-3)
    assert found.history[-1] > found.history[-2]
    assert found.reason == StopReason.MAX_STEPS


def test_a_diverging_run_returns_the_last_parameters_whose_loss_was_finite():
    found = minimize(lambda p: p**4, 10.0, learning_rate=1.0, max_steps=100)
    p, visited = np.float64(10.0), []
    with np.errstate(over="ignore", invalid="ignore"):
        while np.isfinite(p**4):
            visited.append(p)
            p = p - 4 * p**3
    assert found.reason == StopReason.DIVERGED
    assert found.steps == len(visited) - 1
    np.testing.assert_allclose(found.params, visited[-1], rtol=1e-12)


def test_the_history_of_a_diverging_run_is_finite():
    found = minimize(lambda p: p**4, 10.0, learning_rate=1.0, max_steps=100)
    assert found.history.shape == (found.steps + 1,)
    assert np.all(np.isfinite(found.history))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_start_with_no_finite_loss_is_given_back(bad):
    found = minimize(lambda p: p + bad, 1.0, learning_rate=0.1, max_steps=5, threshold=0.0)
    assert (found.steps, found.reason, found.params) == (0, StopReason.DIVERGED, 1.0)
    np.testing.assert_array_equal(found.history, [bad])


def test_a_gradient_that_is_not_finite_stops_where_it_arises():
    # √|p| steps from 0.25 to 0 exactly, where its derivative is not finite.
    found = minimize(
        lambda p: jnp.sum(jnp.sqrt(jnp.abs(p))), jnp.array([0.25]), learning_rate=0.25, max_steps=5
    )
    assert (found.steps, found.reason, found.params[0]) == (1, StopReason.DIVERGED, 0.0)


def test_a_gradient_that_is_not_finite_is_said_at_the_last_step_too():
    found = minimize(
        lambda p: jnp.sum(jnp.sqrt(jnp.abs(p))), jnp.array([0.25]), learning_rate=0.25, max_steps=1
    )
    assert found.reason == StopReason.DIVERGED


def test_reaching_the_threshold_counts_even_where_the_gradient_is_not_finite():
    found = minimize(
        lambda p: jnp.sum(jnp.sqrt(jnp.abs(p))),
        jnp.array([0.25]),
        learning_rate=0.25,
        max_steps=5,
        threshold=0.0,
    )
    assert found.reason == StopReason.THRESHOLD


@pytest.mark.parametrize(
    ("reason", "options"),
    [
        ("max_steps", {"learning_rate": 0.1}),
        ("threshold", {"learning_rate": 0.1, "threshold": 0.5}),
        ("tolerance", {"learning_rate": 0.1, "tolerance": 0.1}),
        ("diverged", {"learning_rate": 1e60}),
    ],
)
def test_the_last_of_the_history_is_the_loss_of_the_parameters_returned(reason, options):
    found = descend(max_steps=30, **options)
    assert str(found.reason) == reason
    loss = quadratic(np.asarray(found.params), A, CENTRE)
    np.testing.assert_allclose(found.history[-1], loss, rtol=1e-10)
    assert len(found.history) == found.steps + 1


def test_a_reason_reads_as_a_word():
    assert f"{StopReason.MAX_STEPS} {StopReason.DIVERGED!s}" == "max_steps diverged"


# --- the loop: in pieces, transformed, compiled once ----------------------------------------------


def test_two_pieces_of_fifty_steps_are_one_run_of_a_hundred_bit_for_bit():
    whole = descend(learning_rate=0.01, max_steps=100)
    first = descend(learning_rate=0.01, max_steps=50)
    second = minimize(quadratic, first.params, A, CENTRE, learning_rate=0.01, max_steps=50, state=first.state)
    np.testing.assert_array_equal(second.params, whole.params)
    np.testing.assert_array_equal([*first.history, *second.history[1:]], whole.history)


def test_under_jit_the_history_is_padded_with_nan():
    options = {"learning_rate": 0.1, "max_steps": 50, "threshold": 1.0}
    padded, plain = jax.jit(lambda: descend(**options))(), descend(**options)
    assert padded.steps == plain.steps < 50
    np.testing.assert_allclose(padded.history[: plain.steps + 1], plain.history, rtol=1e-13)
    assert padded.history.shape == (51,)
    assert np.all(np.isnan(padded.history[plain.steps + 1 :]))


def test_vmapped_runs_each_stop_on_their_own():
    rates = jnp.array([0.05, 0.3, 1e150])

    def run(rate):
        return minimize(
            quadratic,
            jnp.asarray(START),
            A,
            CENTRE,
            learning_rate=rate,
            max_steps=60,
            threshold=1.0,
        )

    together = jax.vmap(run)(rates)
    for i, rate in enumerate(rates):
        alone = run(rate)
        assert (together.steps[i], together.reason[i]) == (alone.steps, alone.reason)
        np.testing.assert_allclose(together.params[i], alone.params, rtol=1e-12)


class Traced:
    """A quadratic objective that counts how often it is traced."""

    def __init__(self):
        self.traces = 0

    def __call__(self, p, centre):
        self.traces += 1
        return jnp.sum((p - centre) ** 2)


def test_new_values_of_every_argument_reuse_the_compiled_loop():
    objective = Traced()
    minimize(objective, jnp.ones(3), jnp.zeros(3), learning_rate=0.1, max_steps=5)
    compiled = objective.traces
    minimize(objective, jnp.zeros(3), jnp.ones(3), learning_rate=0.2, max_steps=5)
    minimize(objective, jnp.zeros(3), jnp.ones(3), learning_rate=np.float32(0.2), max_steps=5)
    minimize(objective, jnp.zeros(3), jnp.ones(3), learning_rate=0.2, max_steps=5, threshold=1e-9)
    minimize(objective, jnp.zeros(3), jnp.ones(3), learning_rate=0.2, max_steps=5, tolerance=1)
    assert objective.traces == compiled > 0


def test_a_result_goes_back_in_without_compiling_again():
    objective = Traced()
    weakly_typed = jnp.asarray(1.0)
    found = minimize(objective, weakly_typed, 0.0, learning_rate=0.1, max_steps=5)
    compiled = objective.traces
    minimize(objective, found.params, 0.0, learning_rate=0.1, max_steps=5, state=found.state)
    assert objective.traces == compiled


def test_two_objectives_keep_their_own_loops():
    up, down = (lambda p: (p - 1.0) ** 2), (lambda p: (p + 1.0) ** 2)
    found = [minimize(f, 0.0, learning_rate=0.5, max_steps=1).params for f in (up, down, up)]
    assert found == [1.0, -1.0, 1.0]


def test_a_dead_objective_is_not_held():
    captured = np.ones(3)

    def objective(p):
        return jnp.sum((p - captured) ** 2)

    minimize(objective, jnp.zeros(3), learning_rate=0.1, max_steps=3)
    alive = weakref.ref(objective)
    del objective
    gc.collect()
    assert alive() is None


class Model:
    """An objective that is a bound method, new at each access, of an object without a hash."""

    __hash__ = None

    def loss(self, p):
        return (p - 1.0) ** 2

    __call__ = loss


@pytest.mark.parametrize("objective", [Model().loss, Model(), functools.partial(Model().loss)])
def test_an_objective_may_be_any_callable(objective):
    assert minimize(objective, 0.0, learning_rate=0.5, max_steps=1).params == 1.0


# --- the loop: what it refuses -------------------------------------------------------------------


def square(p):
    return p * p


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, ValueError, "got neither"),
        ({"learning_rate": 0.1, "optimizer": object()}, ValueError, "got both"),
        ({"learning_rate": 0.0}, ValueError, "minimize: `learning_rate` must be positive"),
        ({"learning_rate": 0.1, "max_steps": 0}, ValueError, "`max_steps` must be at least 1"),
        ({"learning_rate": 0.1, "max_steps": 2.0}, TypeError, "`max_steps` must be a Python int"),
        ({"learning_rate": 0.1, "threshold": np.nan}, ValueError, "`threshold` must not be NaN"),
        ({"learning_rate": 0.1, "tolerance": -1.0}, ValueError, "`tolerance` must be at least 0"),
        ({"learning_rate": 0.1, "tolerance": np.nan}, ValueError, "`tolerance` must be at least 0"),
        (
            {"learning_rate": 0.1, "threshold": np.ones(2)},
            ValueError,
            "`threshold` must be one num",
        ),
    ],
)
def test_an_option_out_of_range_is_refused(options, error, words):
    with pytest.raises(error, match=words):
        minimize(square, 1.0, **{"max_steps": 3, **options})


@pytest.mark.parametrize(
    ("objective", "error", "words"),
    [
        (lambda p: p[None], ValueError, r"got shape \(1,\); a loss of rows .*jl.mean"),
        (lambda p: (p, p), TypeError, "must return a scalar loss, got tuple"),
        (lambda p: (p > 0).astype(int), TypeError, "must return a floating loss, got int64"),
    ],
)
def test_a_loss_that_is_no_floating_scalar_is_refused(objective, error, words):
    with pytest.raises(error, match=words):
        minimize(objective, 1.0, learning_rate=0.1, max_steps=3)


@pytest.mark.parametrize("params", [{}, None, [None, ()]])
def test_parameters_without_an_array_are_refused(params):
    with pytest.raises(ValueError, match="minimize: `params` has no array in it"):
        minimize(lambda _: jnp.ones(()), params, learning_rate=0.1, max_steps=3)


def test_an_integer_parameter_is_refused():
    with pytest.raises(TypeError, match=r"minimize: `params\['n'\]` must be floating, got int64"):
        minimize(lambda p: p["x"], {"x": 1.0, "n": 3}, learning_rate=0.1, max_steps=3)
