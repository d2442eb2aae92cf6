"""The Optax adapter against the plain Optax loop, step for step."""

import functools
import gc
import importlib
import sys
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxloss.training import StopReason, gradient_descent_step, minimize

optax = pytest.importorskip("optax", reason="the adapter of Optax needs Optax")

from jaxloss.adapters import optax as adapter  # noqa: E402

gradient_descent, train_step = adapter.gradient_descent, adapter.train_step

OPTIMIZERS = {
    "gradient_descent": gradient_descent(0.1),
    "schedule": gradient_descent(optax.piecewise_constant_schedule(0.25, {5: 0.5})),
    "clipped": optax.chain(optax.clip_by_global_norm(1.0), gradient_descent(0.1)),
    "adam": optax.adam(0.1),
    "momentum": optax.sgd(0.05, momentum=0.9),
    "accumulated": optax.MultiSteps(optax.adam(0.1), 2),
    "polyak_sgd": optax.polyak_sgd(),
    "reduce_on_plateau": optax.chain(optax.adam(0.1), optax.contrib.reduce_on_plateau(patience=1)),
    "lbfgs": optax.lbfgs(),
    "backtracking": optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(10, store_grad=True)),
    "schedule_free": optax.contrib.schedule_free_adamw(0.1),
}
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


@pytest.fixture(autouse=True)
def _promotion_as_optax_needs_it():
    """Optax's own Adam and L-BFGS add int32 counts to floats, which "strict" refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield


RNG = np.random.default_rng(0)
X, NOISE = RNG.normal(size=(64, 3)), RNG.normal(size=64)
Y = X @ np.array([2.0, -1.0, 0.5]) + 3.0 + NOISE


def start():
    return {"slope": jnp.ones(3), "intercept": jnp.zeros(())}


def objective(params, x, y):
    return jnp.mean((x @ params["slope"] + params["intercept"] - y) ** 2)


@functools.cache
def plain_optax_step(name):
    """As in Optax's documentation; for the line searches too, whose extra arguments all accept."""
    optimizer = optax.with_extra_args_support(OPTIMIZERS[name])

    def step(params, state, x, y):
        loss, grad = jax.value_and_grad(objective)(params, x, y)
        updates, state = optimizer.update(
            grad, state, params, value=loss, grad=grad, value_fn=lambda p: objective(p, x, y)
        )
        return optax.apply_updates(params, updates), state, loss

    return jax.jit(step)


def plain_optax_loop(name, steps, batches):
    params, losses = start(), []
    state = OPTIMIZERS[name].init(params)
    for k in range(steps):
        params, state, loss = plain_optax_step(name)(params, state, *batches[k % len(batches)])
        losses.append(loss)
    return params, losses


def assert_trees_close(a, b, rtol):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol), a, b)


# --- the hand-written step as a transformation ----------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    theta=arrays(np.float64, (4,), elements=st.floats(-1e6, 1e6)),
    g=arrays(np.float64, (4,), elements=st.floats(-1e6, 1e6)),
    rate=st.floats(1e-6, 1e3),
)
def test_applying_its_update_is_the_step_by_hand(theta, g, rate):
    optimizer = gradient_descent(rate)
    params, grads = {"w": jnp.asarray(theta)}, {"w": jnp.asarray(g)}
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    applied, by_hand = (
        optax.apply_updates(params, updates),
        gradient_descent_step(params, grads, rate),
    )
    error = np.abs(applied["w"] - by_hand["w"])
    assert np.all(error <= 2 * np.finfo(float).eps * (np.abs(theta) + np.abs(rate * g)))


def test_a_schedule_is_read_at_the_number_of_updates_so_far():
    optimizer = gradient_descent(lambda count: 0.5 / (1.0 + count))
    state = optimizer.init(jnp.ones(()))
    rates = []
    for _ in range(3):
        update, state = optimizer.update(jnp.ones(()), state)
        rates.append(-float(update))
    np.testing.assert_allclose(rates, [0.5, 0.25, 0.5 / 3])


def test_it_chains_after_a_clip():
    optimizer = optax.chain(optax.clip(1.0), gradient_descent(0.5))
    update, _ = optimizer.update(jnp.array([3.0, -0.5]), optimizer.init(jnp.zeros(2)))
    np.testing.assert_array_equal(update, [-0.5, 0.25])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_its_updates_have_the_dtype_of_the_gradients(dtype):
    optimizer = gradient_descent(optax.constant_schedule(0.1))
    update, _ = optimizer.update(jnp.ones(2, dtype), optimizer.init(jnp.ones(2, dtype)))
    assert update.dtype == dtype


def test_its_learning_rate_may_be_a_hyperparameter_injected():
    optimizer = optax.inject_hyperparams(gradient_descent)(learning_rate=0.5)
    update, _ = optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)))
    np.testing.assert_array_equal(update, [-0.5, -0.5])


@pytest.mark.parametrize("rate", [0.0, -1.0, np.nan])
def test_a_rate_that_is_not_positive_is_refused(rate):
    with pytest.raises(ValueError, match="gradient_descent: `learning_rate` must be positive"):
        gradient_descent(rate)


# --- train_step -----------------------------------------------------------------------------------


@every_optimizer
def test_train_step_is_the_plain_optax_loop(name):
    optimizer = OPTIMIZERS[name]
    batches = [(X, Y), (X, 1 - Y)]
    step, params = train_step(objective, optimizer), start()
    state, losses = optimizer.init(params), []
    for k in range(12):
        params, state, loss = step(params, state, *batches[k % 2])
        losses.append(loss)
    wanted_params, wanted_losses = plain_optax_loop(name, 12, batches)
    np.testing.assert_allclose(losses, wanted_losses, rtol=1e-9)
    assert_trees_close(params, wanted_params, rtol=1e-9)


def test_the_old_parameters_and_state_are_donated():
    optimizer = optax.adam(0.1)
    params = start()
    state = optimizer.init(params)
    train_step(objective, optimizer)(params, state, X, Y)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((params, state)))


def test_nothing_is_donated_when_told_not_to():
    optimizer = optax.adam(0.1)
    params = start()
    state = optimizer.init(params)
    train_step(objective, optimizer, donate=False)(params, state, X, Y)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((params, state)))


def test_tied_parameters_are_donated_once_and_move_apart():
    tied = jnp.ones(3)
    step = train_step(lambda p: jnp.sum(p["in"] ** 2 - p["out"]), gradient_descent(0.25))
    params, _, _ = step({"in": tied, "out": tied}, gradient_descent(0.25).init(tied))
    np.testing.assert_array_equal(params["in"], [0.5] * 3)
    np.testing.assert_array_equal(params["out"], [1.25] * 3)


def test_parameters_that_are_also_the_batch_stay_readable():
    reference = jnp.ones(3)
    step = train_step(lambda p, q: jnp.sum((p - 2.0 * q) ** 2), gradient_descent(0.25))
    params, _, _ = step(reference, gradient_descent(0.25).init(reference), reference)
    np.testing.assert_array_equal(params - reference, [0.5] * 3)


def test_a_new_batch_of_the_same_shape_compiles_nothing():
    traces = []

    def counted(params, x, y):
        traces.append(1)
        return objective(params, x, y)

    step, params = train_step(counted, optax.sgd(0.1)), start()
    params, state, _ = step(params, optax.sgd(0.1).init(params), X, Y)
    compiled = len(traces)
    for k in range(3):
        params, state, _ = step(params, state, X + k, Y)
    assert len(traces) == compiled


def test_options_reach_the_objective_by_name():
    step = train_step(lambda p, *, scale: scale * jnp.sum(p), gradient_descent(1.0))
    params, _, loss = step(jnp.ones(2), gradient_descent(1.0).init(None), scale=jnp.asarray(0.5))
    assert loss == 1.0
    np.testing.assert_array_equal(params, [0.5, 0.5])


@pytest.mark.parametrize("name", ["adam", "lbfgs"])
def test_what_else_the_objective_returns_comes_back_beside_the_loss(name):
    def with_predictions(params, x, y):
        return objective(params, x, y), x @ params["slope"]

    optimizer, params = OPTIMIZERS[name], start()
    step = train_step(with_predictions, optimizer, has_aux=True)
    _, _, (loss, predictions) = step(params, optimizer.init(params), X, Y)
    np.testing.assert_allclose(predictions, X @ np.ones(3))
    np.testing.assert_allclose(loss, objective(start(), X, Y))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (
            {"w": 1.0, "n": jnp.arange(2)},
            r"train_step: `params\['n'\]` must be floating, got int64",
        ),
        (
            {"w": 1.0, "activation": jnp.tanh},
            r"`params\['activation'\]` must be floating.*eqx\.part",
        ),
    ],
)
def test_a_parameter_that_cannot_be_trained_is_named_and_refused(params, words):
    step = train_step(lambda p: p["w"] ** 2, gradient_descent(0.1))
    with pytest.raises(TypeError, match=words):
        step(params, gradient_descent(0.1).init(None))


def test_a_type_error_of_the_objective_comes_through():
    step = train_step(lambda p: len(p), gradient_descent(0.1))
    with pytest.raises(TypeError, match=r"len\(\) of unsized object"):
        step(jnp.ones(()), gradient_descent(0.1).init(None))


def test_a_loss_of_rows_is_refused():
    step = train_step(lambda p: p**2, gradient_descent(0.1))
    with pytest.raises(ValueError, match=r"train_step: `objective` .* shape \(2,\); .*jl\.mean"):
        step(jnp.ones(2), gradient_descent(0.1).init(None))


# --- a line search's value and gradient -----------------------------------------------------------


def rosenbrock(p):
    return jnp.sum(100.0 * (p[1:] - p[:-1] ** 2) ** 2 + (1.0 - p[:-1]) ** 2)


class Counted:
    """Rosenbrock's function, counting its evaluations at run time."""

    def __init__(self):
        self.evaluations = 0

    def _count(self):
        self.evaluations += 1

    def __call__(self, p):
        jax.debug.callback(self._count)
        return rosenbrock(p)

    def of(self, run):
        """The evaluations that `run()` makes."""
        before = self.evaluations
        jax.block_until_ready(run())
        jax.effects_barrier()
        return self.evaluations - before


def optax_loop_that_recalls(objective, optimizer, params, steps):
    evaluate = jax.jit(optax.value_and_grad_from_state(objective))
    update = jax.jit(lambda g, s, p, v: optimizer.update(g, s, p, value=v, grad=g, value_fn=objective))
    state = optimizer.init(params)
    for _ in range(steps):
        value, grad = evaluate(params, state=state)
        updates, state = update(grad, state, params, value)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("name", ["lbfgs", "backtracking"])
def test_without_a_batch_a_line_search_is_not_evaluated_twice(name):
    optimizer, counted = OPTIMIZERS[name], Counted()
    step = train_step(counted, optimizer)

    def run():
        params = jnp.zeros(4)
        state = optimizer.init(params)
        for _ in range(8):
            params, state, _ = step(params, state)
        return params

    wanted = counted.of(lambda: optax_loop_that_recalls(counted, optimizer, jnp.zeros(4), 8))
    assert counted.of(run) == wanted


def test_minimize_evaluates_no_point_of_a_line_search_twice():
    counted = Counted()
    wanted = counted.of(lambda: optax_loop_that_recalls(counted, optax.lbfgs(), jnp.zeros(4), 8))
    run = lambda: minimize(counted, jnp.zeros(4), optimizer=optax.lbfgs(), max_steps=8).params  # noqa: E731
    assert counted.of(run) == wanted


def test_what_a_line_search_remembers_of_the_last_batch_is_not_used():
    optimizer = optax.lbfgs()
    step = train_step(lambda p, c: jnp.sum((p - c) ** 2), optimizer)
    params = jnp.zeros(2)
    params, state, _ = step(params, optimizer.init(params), jnp.ones(2))
    wanted = jnp.sum((params - 5.0) ** 2)
    _, _, loss = step(params, state, jnp.full(2, 5.0))
    np.testing.assert_allclose(loss, wanted)


def test_what_a_line_search_remembers_is_not_used_where_the_update_goes_on_after_it():
    optimizer = optax.chain(optax.lbfgs(), optax.scale(0.5))
    step, params = train_step(rosenbrock, optimizer, donate=False), jnp.zeros(4)
    state = optimizer.init(params)
    for _ in range(3):
        before = params
        params, state, loss = step(params, state)
    np.testing.assert_allclose(loss, rosenbrock(before), rtol=1e-12)


def test_a_resumed_run_on_new_data_forgets_the_old_line_search():
    shifted, optimizer = (lambda p, c: jnp.sum((p - c) ** 2)), optax.lbfgs()
    first = minimize(shifted, jnp.zeros(2), 1.0, optimizer=optimizer, max_steps=2)
    second = minimize(shifted, first.params, 5.0, optimizer=optimizer, max_steps=1, state=first.state)
    np.testing.assert_allclose(second.history[0], 2 * 16.0)


# --- minimize with an optimizer -------------------------------------------------------------------


@every_optimizer
def test_minimize_is_the_plain_optax_loop(name):
    found = minimize(objective, start(), X, Y, optimizer=OPTIMIZERS[name], max_steps=12)
    params, losses = plain_optax_loop(name, 12, [(X, Y)])
    np.testing.assert_allclose(found.history[:-1], losses, rtol=1e-9)
    assert_trees_close(found.params, params, rtol=1e-7)


@every_optimizer
def test_two_pieces_are_one_run_bit_for_bit(name):
    optimizer = OPTIMIZERS[name]
    whole = minimize(objective, start(), X, Y, optimizer=optimizer, max_steps=12)
    first = minimize(objective, start(), X, Y, optimizer=optimizer, max_steps=6)
    second = minimize(objective, first.params, X, Y, optimizer=optimizer, max_steps=6, state=first.state)
    jax.tree.map(np.testing.assert_array_equal, second.params, whole.params)
    np.testing.assert_array_equal([*first.history, *second.history[1:]], whole.history)


def test_gradient_descent_through_optax_is_the_loop_by_hand():
    by_hand = minimize(objective, start(), X, Y, learning_rate=0.1, max_steps=50)
    adapted = minimize(objective, start(), X, Y, optimizer=gradient_descent(0.1), max_steps=50)
    assert_trees_close(adapted.params, by_hand.params, rtol=1e-13)


def test_the_state_of_a_diverged_run_is_that_of_its_parameters():
    optimizer = optax.sgd(1e3, momentum=0.9)
    found = minimize(objective, start(), X, Y, optimizer=optimizer, max_steps=500)
    to_there = minimize(objective, start(), X, Y, optimizer=optimizer, max_steps=found.steps)
    assert (found.reason, to_there.reason) == (StopReason.DIVERGED, StopReason.MAX_STEPS)
    jax.tree.map(np.testing.assert_array_equal, found.state, to_there.state)


def test_the_same_optimizer_compiles_once_and_another_again():
    traces = []

    def counted(p):
        traces.append(1)
        return jnp.sum(p**2)

    def traced(optimizer):
        before = len(traces)
        minimize(counted, jnp.ones(2), optimizer=optimizer, max_steps=3)
        return len(traces) > before

    adam, other = optax.adam(0.1), optax.adam(0.2)
    assert [traced(adam), traced(adam), traced(other), traced(adam)] == [True, False, True, False]


def test_two_optimizers_of_one_objective_keep_their_own_loops():
    slow, fast = optax.sgd(0.1), optax.sgd(0.5)
    found = [minimize(jnp.square, 1.0, optimizer=o, max_steps=1).params for o in (slow, fast, slow)]
    np.testing.assert_allclose(found, [0.8, 0.0, 0.8])


def test_a_dead_optimizer_is_not_held():
    def build():
        captured = optax.linear_schedule(0.1, 0.01, 5)
        return optax.sgd(lambda count: captured(count)), captured

    optimizer, captured = build()
    minimize(objective, start(), X, Y, optimizer=optimizer, max_steps=3)
    alive = weakref.ref(captured)
    del optimizer, captured
    gc.collect()
    assert alive() is None


# --- the lazy import ------------------------------------------------------------------------------


def test_an_unknown_adapter_is_an_attribute_error():
    import jaxloss.adapters

    with pytest.raises(AttributeError, match="its adapters are boosting, optax"):
        jaxloss.adapters.torch  # noqa: B018


def test_the_adapters_are_listed_before_they_are_imported():
    import jaxloss.adapters

    assert {"optax", "optax_losses"} <= set(dir(jaxloss.adapters))


def test_a_missing_optax_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optax", None)
    monkeypatch.delitem(sys.modules, "jaxloss.adapters.optax")
    with pytest.raises(ImportError, match=r"pip install jaxloss\[optax\]"):
        importlib.import_module("jaxloss.adapters.optax")
