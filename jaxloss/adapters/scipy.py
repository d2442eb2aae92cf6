"""An objective as `scipy.optimize.minimize` calls one: a flat vector in, double precision throughout."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxloss.training._contracts import require_floating, require_scalar

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
    objective: Callable[..., Array], params: PyTree, *data: PyTree, double: bool = True, **options: Any
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
        objective: `objective(params, *data, **options)` -> floating scalar, as for `training.minimize`; a
            mean of a loss, `jl.mean(loss)`, is one over its predictions.
        params: pytree of floating arrays, where to start.
        *data: what else it takes; floating arrays in it are converted as the parameters are.
        double: compute in float64; otherwise in the dtypes given.
        **options: the objective's own; strings, flags and callables are static.

    Returns:
        `Problem(fun, x0, hessp, params)`.

    Raises:
        TypeError: parameters or a loss that are not floating.
        ValueError: no parameters; (of `fun`) a loss that is not a scalar, a vector of another length.

    Reference: Pearlmutter (1994), Fast Exact Multiplication by the Hessian, Neural Computation 6(1).
    """
    require_floating("scipy.objective", params)
    precision = _double_precision if double else nullcontext
    static = {
        name: value for name, value in options.items() if isinstance(value, (str, bool)) or callable(value)
    }
    traced = {name: value for name, value in options.items() if name not in static}
    dtypes = jax.tree.map(jnp.result_type, params)
    with precision():
        wide = (lambda tree: jax.tree.map(_widened, tree)) if double else (lambda tree: tree)
        flat, unravel = ravel_pytree(wide(params))
        data, traced = wide(data), wide(traced)

        def value(x: Array, data: PyTree, traced: PyTree) -> Array:
            loss = objective(unravel(x), *data, **static, **traced)
            require_scalar("scipy.objective", loss)
            return loss

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


def _widened(leaf: Any) -> Any:
    """A floating array in float64; anything else as it is."""
    is_floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    return jnp.asarray(leaf, jnp.float64) if is_floating else leaf


def _double_precision() -> AbstractContextManager[None]:
    """Sixty-four bits inside, by the name this release of JAX has for it."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64  # pyright: ignore[reportAttributeAccessIssue]

    return enable_x64(True)
