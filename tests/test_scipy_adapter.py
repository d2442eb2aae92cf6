"""Objectives in `scipy.optimize.minimize`, against normal equations and matrices formed in NumPy."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import check_grad, minimize

import jaxloss as jl
from jaxloss.adapters import scipy as adapter

RNG = np.random.default_rng(2)
X = RNG.normal(size=(30, 3)).astype(np.float32)
Y = (X @ np.array([1.0, -2.0, 0.5]) + 3 + RNG.normal(size=30) / 10).astype(np.float32)
START = {"b": jnp.zeros((), jnp.float32), "w": jnp.zeros(3, jnp.float32)}


def line(params, x, y, **options):
    return jl.mean(jl.regression.squared_error)(x @ params["w"] + params["b"], y, **options)


def robust(params, x, y, *, delta=1.0):
    return jl.mean(jl.robust.pseudo_huber)(x @ params["w"] + params["b"], y, delta=delta)


def least_squares(weights=None):
    design = np.c_[np.ones(30), X].astype(np.float64)
    root = np.sqrt(np.ones(30) if weights is None else weights)[:, None]
    return np.linalg.lstsq(design * root, Y.astype(np.float64) * root[:, 0], rcond=None)[0]


@pytest.mark.parametrize("method", ["BFGS", "L-BFGS-B", "Newton-CG", "trust-ncg", "trust-krylov"])
def test_every_kind_of_method_finds_least_squares_in_double_precision(method):
    problem = adapter.objective(line, START, X, Y)
    second = {} if "BFGS" in method else {"hessp": problem.hessp}
    found = minimize(problem.fun, problem.x0, jac=True, method=method, **second)
    np.testing.assert_allclose(found.x, least_squares(), atol=1e-5)
    params = problem.params(found.x)
    assert {name: leaf.dtype for name, leaf in params.items()} == {"b": jnp.float32, "w": jnp.float32}
    np.testing.assert_allclose(params["w"], least_squares()[1:], atol=1e-5)


def test_value_gradient_and_product_are_those_of_the_formula():
    problem = adapter.objective(line, START, X, Y)
    design, x = np.c_[np.ones(30), X].astype(np.float64), RNG.normal(size=4)
    residual = design @ x - Y
    value, gradient = problem.fun(x)
    np.testing.assert_allclose(value, np.mean(residual**2), rtol=1e-13)
    np.testing.assert_allclose(gradient, 2 * design.T @ residual / 30, rtol=1e-12)
    v = RNG.normal(size=4)
    np.testing.assert_allclose(problem.hessp(x, v), 2 * design.T @ (design @ v) / 30, rtol=1e-12)
    assert gradient.dtype == np.float64
    assert gradient.flags.writeable


def test_scipy_finds_no_fault_with_the_gradient():
    problem = adapter.objective(robust, START, X, Y, delta=0.5)
    x = RNG.normal(size=4)
    assert check_grad(lambda x: problem.fun(x)[0], lambda x: problem.fun(x)[1], x) < 1e-6


def test_masks_and_weights_pass():
    weights = RNG.uniform(0.5, 2, 30)
    kept = np.arange(30) != 4
    problem = adapter.objective(line, START, X, np.where(kept, Y, np.nan), where=kept, weights=weights)
    found = minimize(
        problem.fun, problem.x0, jac=True, method="L-BFGS-B", options={"gtol": 1e-10, "ftol": 1e-16}
    )
    np.testing.assert_allclose(found.x, least_squares(weights * kept), rtol=1e-6)


def test_a_mean_not_yet_divided_is_divided():
    def parts(params, x, y):
        partial = jl.partial_mean(jl.regression.squared_error)
        predictions = x @ params["w"] + params["b"]
        return partial(predictions[:10], y[:10]) + partial(predictions[10:], y[10:])

    x = RNG.normal(size=4)
    found, wanted = (adapter.objective(f, START, X, Y) for f in (parts, line))
    np.testing.assert_allclose(found.fun(x)[0], wanted.fun(x)[0], rtol=1e-13)
    np.testing.assert_allclose(found.hessp(x, x), wanted.hessp(x, x), rtol=1e-12)


def test_a_size_of_chunks_is_part_of_the_program():
    def in_chunks(params, x, y, *, chunk_size):
        chunks = (x @ params["w"] + params["b"] - y).reshape(-1, chunk_size)
        return jnp.sum(chunks**2) / y.size

    x = RNG.normal(size=4)
    found = adapter.objective(in_chunks, START, X, Y, chunk_size=10)
    wanted = adapter.objective(line, START, X, Y)
    np.testing.assert_allclose(found.fun(x)[0], wanted.fun(x)[0], rtol=1e-13)


def test_double_precision_holds_in_a_python_of_single_precision():
    # L-BFGS-B in float32 stops far from the minimum: the loss changes by less than it is rounded by.
    script = """
import numpy as np, jax, jax.numpy as jnp, jaxloss as jl
from scipy.optimize import minimize
from jaxloss.adapters import scipy as adapter
assert not jax.config.jax_enable_x64
x = np.linspace(1, 2, 50, dtype=np.float32)
def objective(w, x, y):
    return jl.mse(w[0] + w[1] * x, y)
problem = adapter.objective(objective, jnp.zeros(2), x, 1e4 + x)
found = minimize(problem.fun, problem.x0, jac=True, hessp=problem.hessp, method="trust-ncg",
                 options={"gtol": 1e-9})
assert np.allclose(found.x, [1e4, 1.0], rtol=1e-9, atol=1e-5), found
assert problem.params(found.x).dtype == jnp.float32
assert not jax.config.jax_enable_x64 and jnp.ones(1).dtype == jnp.float32
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_single_precision_may_be_kept():
    problem = adapter.objective(line, START, X, Y, double=False)
    wanted = jax.value_and_grad(line)(START, X, Y)
    value, gradient = problem.fun(problem.x0)
    np.testing.assert_allclose(value, wanted[0], rtol=1e-6)
    np.testing.assert_allclose(gradient, np.r_[wanted[1]["b"], wanted[1]["w"]], rtol=1e-5)


def test_data_are_arguments_and_one_program_serves_all_points():
    traces = []

    def counted(params, x, y):
        traces.append(1)
        return line(params, x, y)

    problem = adapter.objective(counted, START, X, Y)
    for _ in range(4):
        problem.fun(RNG.normal(size=4))
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (
            lambda: adapter.objective(line, {"w": jnp.arange(3)}, X, Y),
            TypeError,
            r"`params\['w'\]` must be floating",
        ),
        (lambda: adapter.objective(line, {}, X, Y), ValueError, "`params` has no array"),
        (
            lambda: adapter.objective(lambda p, x, y: (x @ p["w"]) - y, START, X, Y).fun(np.zeros(4)),
            ValueError,
            r"scalar, got shape \(30,\); a loss of rows becomes one with `jl.mean\(loss\)`",
        ),
        (
            lambda: adapter.objective(line, START, X, Y).fun(np.zeros(3)),
            ValueError,
            r"`x` must have shape \(4,\), got \(3,\)",
        ),
    ],
)
def test_what_cannot_be_minimised_is_refused_in_words(make, error, words):
    with pytest.raises(error, match=words):
        make()
