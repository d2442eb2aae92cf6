"""Several losses to one gradient by any weigher: its use, its cost without a clock, the page, the example."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import at_home

import jaxloss as jl
from jaxloss import weighting

HOME = Path(__file__).parents[1]
WEIGHERS = {
    "cagrad": weighting.cagrad(),
    "dynamic_average": weighting.dynamic_average(),
    "famo": weighting.famo(),
    "fixed": weighting.fixed([1.0, 2.0, 0.5]),
    "gradnorm": weighting.gradnorm(),
    "imtl_g": weighting.imtl_g(),
    "mgda": weighting.mgda(),
    "nash_mtl": weighting.nash_mtl(),
    "pcgrad": weighting.pcgrad(0),
    "random": weighting.random(0),
    "relobralo": weighting.relobralo(0),
    "softadapt": weighting.softadapt(),
    "softadapt_loss_weighted": weighting.softadapt_loss_weighted(),
    "softadapt_normalized": weighting.softadapt_normalized(),
    "uncertainty": weighting.uncertainty(),
}
every = pytest.mark.parametrize("name", WEIGHERS)
RANDOM = np.random.default_rng(0)
X = jnp.asarray(RANDOM.normal(size=(16, 4)))


def parameters(dtype=jnp.float64):
    draw = np.random.default_rng(1).normal
    tree = {"trunk": draw(size=(4, 5)), "heads": (draw(size=5), draw(size=5)), "bias": np.zeros(())}
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def objective(params, x):
    """Three losses of a trunk, two of them with a head of their own."""
    hidden = jnp.tanh(x.astype(params["trunk"].dtype) @ params["trunk"])
    first, second = (hidden @ head + params["bias"] for head in params["heads"])
    return {
        "first": jnp.mean((first - 1) ** 2),
        "second": jnp.mean((second + 1) ** 2),
        "size": jnp.mean(hidden**2),
    }


def row_of_losses(params, x):
    return jnp.stack(list(objective(params, x).values()))


@functools.cache
def tasks_alone():
    """Each task's gradient, and its loss, where all begin."""
    run = jax.jit(lambda params: (jax.jacrev(row_of_losses)(params, X), row_of_losses(params, X)))
    return jax.tree.map(np.asarray, run(parameters()))


@functools.cache
def program(name):
    """One evaluation of all tasks by a weigher, whose state is given away."""
    evaluate = weighting.value_and_grad(objective, WEIGHERS[name])
    return jax.jit(lambda state, params, x: evaluate(params, state, x), donate_argnums=0)


@functools.cache
def evaluated(name):
    """The first of them."""
    return program(name)(WEIGHERS[name].init(3), parameters(), X)


# --- one use for all ----------------------------------------------------------------------------


@every
def test_the_gradient_is_the_weighted_sum_of_the_tasks_gradients(name):
    found, (rows, losses) = evaluated(name), tasks_alone()
    weights = np.array([found.weights[task] for task in ("first", "second", "size")])
    for got, row in zip(jax.tree.leaves(found.grads), jax.tree.leaves(rows), strict=True):
        np.testing.assert_allclose(got, np.tensordot(weights, row, 1), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(list(found.losses.values()), losses, rtol=1e-12)


def test_the_weights_are_those_of_the_gram_matrix_of_all_parameters():
    flat = np.hstack([row.reshape(3, -1) for row in jax.tree.leaves(tasks_alone()[0])])
    wanted = weighting.gram.min_norm(flat @ flat.T)
    np.testing.assert_allclose(list(evaluated("mgda").weights.values()), wanted, rtol=1e-10)


def test_shared_takes_the_gram_matrix_over_the_parameters_it_picks():
    params, weigher = parameters(), weighting.imtl_g()
    evaluate = weighting.value_and_grad(objective, weigher, shared=lambda params: params["trunk"])
    found = jax.jit(evaluate)(params, weigher.init(3), X)
    rows, _ = tasks_alone()
    trunk = np.reshape(rows["trunk"], (3, -1))
    weights = weighting.gram.impartial(jnp.asarray(trunk @ trunk.T))
    np.testing.assert_allclose(list(found.weights.values()), weights, rtol=1e-9)
    np.testing.assert_allclose(found.grads["heads"][0], np.tensordot(weights, rows["heads"][0], 1), rtol=1e-9)


@pytest.mark.parametrize("form", [tuple, list, jnp.stack, lambda losses: dict(enumerate(losses))])
def test_the_losses_may_be_any_tree_of_scalars_or_one_array(form):
    def formed(params, x):
        return form(list(objective(params, x).values()))

    weigher = weighting.famo()
    found = jax.jit(weighting.value_and_grad(formed, weigher))(parameters(), weigher.init(3), X)
    assert jax.tree.structure(found.weights) == jax.tree.structure(found.losses)
    np.testing.assert_allclose(np.hstack(jax.tree.leaves(found.weights)).sum(), 1, rtol=1e-12)


def test_what_else_the_objective_returns_comes_along():
    def with_aux(params, x, *, scale):
        return objective(params, x), {"rows": scale * x.shape[0]}

    weigher = weighting.fixed()
    evaluate = weighting.value_and_grad(with_aux, weigher, has_aux=True)
    assert evaluate(parameters(), weigher.init(3), X, scale=2).aux == {"rows": 32}


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("name", ["famo", "pcgrad"])
def test_gradients_keep_the_parameters_dtype_and_are_weighed_in_float32_at_least(name, dtype):
    weigher = WEIGHERS[name]
    found = jax.jit(weighting.value_and_grad(objective, weigher))(parameters(dtype), weigher.init(3), X)
    assert {leaf.dtype for leaf in jax.tree.leaves(found.grads)} == {jnp.dtype(dtype)}
    wide = jax.tree.leaves(evaluated(name).grads)
    for got, wanted in zip(jax.tree.leaves(found.grads), wide, strict=True):
        tolerance = 64 * jnp.finfo(dtype).eps * (1 + np.max(np.abs(wanted)))
        np.testing.assert_allclose(np.asarray(got, float), wanted, atol=float(tolerance))


def test_a_float16_gram_matrix_does_not_overflow():
    gram = weighting.inner_products({"w": jnp.full((2, 100), 300, jnp.float16)})
    np.testing.assert_array_equal(gram, np.full((2, 2), 9e6, np.float32))


def test_one_program_serves_every_step_and_every_hyperparameter():
    def step(params, state, alpha):
        return weighting.value_and_grad(objective, weighting.gradnorm(alpha=alpha))(params, state, X)

    compiled, state = jax.jit(step), weighting.gradnorm().init(3)
    found = compiled(parameters(), state, 1.5)
    compiled(parameters(), found.state, 0.5)
    assert compiled._cache_size() == 1


@every
def test_a_state_may_be_given_away_at_every_step_and_in_every_run(name):
    courses = []
    for _ in range(2):
        state, course = WEIGHERS[name].init(3), []
        for _ in range(3):
            found = program(name)(state, parameters(), X)
            state = found.state
            course.append([float(weight) for weight in found.weights.values()])
        courses.append(course)
    assert courses[0] == courses[1]


def test_a_state_that_famo_made_outside_jit_may_be_given_away():
    losses = jnp.array([1.0, 2.0, 3.0])
    _, state = weighting.famo().update(losses, weighting.famo().init(3))
    jax.jit(weighting.famo().update, donate_argnums=1)(losses, state)
    np.testing.assert_array_equal(losses, [1, 2, 3])


def test_a_partial_mean_is_one_loss():
    def parts(params, x):
        of = jl.partial_mean(jl.regression.squared_error)
        hidden = jnp.tanh(x @ params["trunk"])
        return {"a": of(hidden @ params["heads"][0], x[:, 0]), "b": of(hidden @ params["heads"][1], x[:, 1])}

    def means(params, x):
        return {name: part.value() for name, part in parts(params, x).items()}

    weigher = weighting.mgda()
    found, wanted = (
        jax.jit(weighting.value_and_grad(losses, weigher))(parameters(), weigher.init(2), X)
        for losses in (parts, means)
    )
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_a_nan_loss_is_not_hidden():
    def broken(params, x):
        return objective(params, x) | {"first": jnp.nan * jnp.sum(params["trunk"])}

    for name in ("famo", "pcgrad", "fixed"):
        evaluate = jax.jit(weighting.value_and_grad(broken, WEIGHERS[name]))
        found = evaluate(parameters(), WEIGHERS[name].init(3), X)
        assert np.isnan(found.losses["first"])
        assert np.all(np.isnan(found.grads["trunk"]))


def test_a_step_against_each_gradient_weighers_gradient_lowers_what_it_promises():
    # MGDA, CAGrad and Nash-MTL lower every loss where one step can; the mean's gradient here does not.
    def unlike(params):
        return jnp.sum((params - 1) ** 2) * 100, jnp.sum((params - jnp.array([3.0, -1.0])) ** 2)

    def lowers_both(weigher):
        grads = jax.jit(weighting.value_and_grad(unlike, weigher))(start, weigher.init(2)).grads
        return np.all(np.array(unlike(start - 1e-4 * grads)) < before)

    start = jnp.array([1.4, 1.0])
    before = np.array(unlike(start))
    assert all(map(lowers_both, (weighting.mgda(), weighting.nash_mtl(), weighting.imtl_g())))
    assert not lowers_both(weighting.fixed())


# --- the cost, without a clock --------------------------------------------------------------------


def many(tasks):
    """So many losses of one deep trunk, each of which costs next to nothing beyond it."""

    def losses(params, x):
        for matrix in params:
            x = jnp.tanh(x @ matrix)
        return jnp.stack([jnp.mean((x - i) ** 2) for i in range(tasks)])

    return losses


def operations(function, *args):
    """The floating-point operations of a program, before the compiler saves any."""
    return jax.jit(function).lower(*args).cost_analysis()["flops"]


TRUNK = [jnp.ones((64, 64))] * 3
ROWS = jnp.ones((128, 64))
VALUE_ONLY = [name for name, weigher in WEIGHERS.items() if isinstance(weigher, weighting.LossWeigher)]


@pytest.mark.parametrize("tasks", [2, 9])
def test_a_loss_weigher_takes_one_backward_pass_however_many_losses_there_are(tasks):
    plain = operations(jax.value_and_grad(lambda params, x: jnp.sum(many(tasks)(params, x))), TRUNK, ROWS)
    weigher = weighting.famo()
    ours = operations(weighting.value_and_grad(many(tasks), weigher), TRUNK, weigher.init(tasks), ROWS)
    assert 0 < ours <= 1.02 * plain


@pytest.mark.parametrize("name", VALUE_ONLY)
def test_no_loss_weigher_multiplies_a_matrix_more_than_plain_descent_does(name):
    def dots(function, *args):
        return str(jax.make_jaxpr(function)(*args)).count("dot_general[")

    weigher = WEIGHERS[name]
    state = weigher.init(3)
    plain = dots(jax.grad(lambda params, x: jnp.sum(many(3)(params, x))), TRUNK, ROWS)
    ours = dots(weighting.value_and_grad(many(3), weigher), TRUNK, state, ROWS)
    small = dots(weigher.update, jnp.ones(3), state)
    assert ours - small == plain


def test_a_gradient_weigher_takes_one_backward_pass_a_loss_and_no_more():
    weigher = weighting.mgda()
    two, four = (
        operations(weighting.value_and_grad(many(k), weigher), TRUNK, weigher.init(k), ROWS) for k in (2, 4)
    )
    forward = operations(many(2), TRUNK, ROWS)
    both = operations(jax.grad(lambda params, x: jnp.sum(many(2)(params, x))), TRUNK, ROWS)
    assert abs((four - two) / (2 * (both - forward)) - 1) < 0.15


def test_shared_prunes_the_backward_passes_before_the_last_layer():
    weigher = weighting.mgda()
    whole, last = (
        operations(weighting.value_and_grad(many(8), weigher, shared=shared), TRUNK, weigher.init(8), ROWS)
        for shared in (None, lambda params: params[-1])
    )
    assert last < 0.5 * whole


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "error", "words"),
    [
        (
            lambda p: {"rows": p["x"] ** 2, "b": p["x"].sum()},
            ValueError,
            r"shape \(3,\) at `losses\['rows'\]`; a loss",
        ),
        (lambda p: p["x"] ** 2, ValueError, r"`losses` \(3,\) must be one number for each of the 2 tasks"),
        (lambda p: (p["x"].sum(), jnp.array(1)), TypeError, r"got int64 at `losses\[1\]`"),
        (lambda p: (p["x"].sum(), "one"), TypeError, r"got str at `losses\[1\]`"),
        (lambda _: {}, ValueError, "`objective` returned no loss"),
        (lambda p: (p["x"].sum(),) * 3, ValueError, r"`losses` \(3,\) must be one number for each of the 2"),
    ],
)
def test_losses_that_are_no_floating_scalars_are_refused(losses, error, words):
    evaluate = weighting.value_and_grad(losses, weighting.famo())
    with pytest.raises(error, match=words):
        evaluate({"x": jnp.ones(3)}, weighting.famo().init(2))


def test_an_integer_parameter_is_refused():
    evaluate = weighting.value_and_grad(lambda p: (p["x"], p["x"]), weighting.famo())
    with pytest.raises(TypeError, match=r"value_and_grad: `params\['n'\]` must be floating, got int64"):
        evaluate({"x": jnp.ones(()), "n": 3}, weighting.famo().init(2))


def test_a_weigher_that_was_not_made_is_refused():
    with pytest.raises(
        TypeError, match=r"`weigher` must be a weigher, got .*; call it: `weighting.famo\(\)`"
    ):
        weighting.value_and_grad(objective, weighting.famo)


@pytest.mark.parametrize("shared", [lambda params: params["trunk"] * 2.5, lambda _: ()])
def test_a_choice_that_picks_no_parameters_is_refused(shared):
    evaluate = weighting.value_and_grad(objective, weighting.mgda(), shared=shared)
    with pytest.raises(TypeError, match="`shared` must pick whole parameters, at least one"):
        evaluate(parameters(), weighting.mgda().init(3), X)


# --- the page and the example -------------------------------------------------------------------

PAGE = (HOME / "docs" / "weighting.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def printed():
    """What the page's last block makes, and what its example learns, with JAX as it is installed."""
    pytest.importorskip("optax", reason="the page and the example train with Optax")
    pytest.importorskip("sklearn", reason="the example's data are scikit-learn's")
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 4
    script = "\n".join(
        [
            "import jax; jax.config.update('jax_platforms', 'cpu')",
            *blocks,
            "print(weights.tolist())",
            "import sys; sys.path.insert(0, 'examples'); import two_tasks",
            "print([two_tasks.train(method, steps=100)[:2] for method in ('fixed', 'nash_mtl')])",
        ]
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=HOME, env=at_home(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [eval(line) for line in done.stdout.splitlines()]


def test_the_pages_blocks_run(printed):
    np.testing.assert_allclose(printed[0], [0.8, 0.2], rtol=1e-6)


def test_the_example_learns_both_tasks(printed):
    (plain, slant), (digits, also) = printed[1]
    assert plain > 0.6
    assert digits > plain + 0.03
    assert min(slant, also) > 0.4


def test_the_page_has_a_row_for_every_method():
    rows = set(re.findall(r"^\| `(\w+)", PAGE, re.MULTILINE))
    made = (weighting.LossWeigher, weighting.GradientWeigher)
    methods = {name for name in weighting.__all__ if name in WEIGHERS}
    assert rows == methods
    assert all(isinstance(weigher, made) for weigher in WEIGHERS.values())


def test_every_method_is_tried_here():
    apart = {
        "Evaluation",
        "GradientWeigher",
        "LossWeigher",
        "gram",
        "inner_products",
        "observe",
        "value_and_grad",
    }
    assert set(weighting.__all__) - apart == set(WEIGHERS)
