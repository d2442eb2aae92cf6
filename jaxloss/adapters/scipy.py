"""An objective as `scipy.optimize.minimize` calls one: a flat vector in, double precision throughout."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxloss._loss import divided
from jaxloss.adapters._precision import double_precision, widened
from jaxloss.training._contracts import require_floating
from jaxloss.training.descent import scalar_objective

__all__ = ["Problem", "objective"]

PyTree = Any


class Problem(NamedTuple):
    """What SciPy's minimisers take; see `objective`.

    Attributes:
        fun: `fun(x) -> (value, gradient)`, for `jac=True`.
        x0: the parameters as one vector, float64.
        hessp: `hessp(x, v)`, the Hessian times v.
        params: `params(x)`, the pytree that a vector stands for, in the dtypes of the parameters given.
    """

    fun: Callable[[np.ndarray], tuple[float, np.ndarray]]
    x0: np.ndarray
    hessp: Callable[[np.ndarray, np.ndarray], np.ndarray]
    params: Callable[[np.ndarray], PyTree]


def objective(
    objective: Callable[..., Any], params: PyTree, *data: PyTree, double: bool = True, **options: Any
) -> Problem:
    """Turn an objective over a pytree into the functions of `scipy.optimize.minimize`.

        f(x),    ∇f(x) by reverse mode,    ∇²f(x) v by forward over reverse, without the matrix

        problem = objective(loss_of, params, x, y)
        found = minimize(problem.fun, problem.x0, jac=True, hessp=problem.hessp, method="trust-ncg")
        params = problem.params(found.x)

    One compiled function each, into which the data are passed, not built in. By default it computes in
    float64, whatever the parameters' dtype and JAX's own setting: in float32 the difference of two values
    is rounding long before SciPy's line searches are content, and they stop with an error.

    Args:
        objective: `objective(params, *data, **options)` -> floating scalar, or a `PartialMean` to
            divide, as for `training.minimize`; `jl.mean(loss)` is one over the loss's predictions.
        params: pytree of floating arrays, where to start.
        *data: what else it takes; floating arrays in it are converted as the parameters are.
        double: compute in float64; otherwise in the dtypes given.
        **options: the objective's own; strings, flags, callables and `chunk_size` are static.

    Returns:
        `Problem(fun, x0, hessp, params)`.

    Raises:
        TypeError: parameters or a loss that are not floating.
        ValueError: no parameters; (of `fun`) a loss that is not a scalar, a vector of another length.

    Reference: Pearlmutter (1994), Fast Exact Multiplication by the Hessian, Neural Computation 6(1).
    """
    require_floating("scipy.objective", params)
    precision = double_precision if double else nullcontext
    scalar = scalar_objective("scipy.objective", objective)
    static, traced = divided(options)
    dtypes = jax.tree.map(jnp.result_type, params)
    with precision():
        wide = (lambda tree: jax.tree.map(widened, tree)) if double else (lambda tree: tree)
        flat, unravel = ravel_pytree(wide(params))
        data, traced = wide(data), wide(traced)

        def value(x: Array, data: PyTree, traced: PyTree) -> Array:
            return scalar(unravel(x), *data, **static, **traced)

        both = jax.jit(jax.value_and_grad(value))
        product = jax.jit(lambda x, v, *rest: jax.jvp(lambda x: jax.grad(value)(x, *rest), (x,), (v,))[1])

    def vector(x: np.ndarray) -> Array:
        if np.shape(x) != flat.shape:
            msg = f"scipy.objective: `x` must have shape {flat.shape}, got {np.shape(x)}; start from `x0`."
            raise ValueError(msg)
        return jnp.asarray(x, flat.dtype)

    def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
        with precision():
            loss, gradient = both(vector(x), data, traced)
            return float(loss), np.array(gradient, np.float64)

    def hessp(x: np.ndarray, v: np.ndarray) -> np.ndarray:
        with precision():
            return np.array(product(vector(x), vector(v), data, traced), np.float64)

    def tree(x: np.ndarray) -> PyTree:
        with precision():
            found = unravel(vector(x))
        return jax.tree.map(lambda leaf, dtype: jnp.asarray(np.asarray(leaf).astype(dtype)), found, dtypes)

    return Problem(fun, np.array(flat, np.float64), hessp, tree)
