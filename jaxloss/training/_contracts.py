"""What the training loop refuses, in words."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import PyTree


def require_floating(who: str, tree: PyTree, name: str = "params") -> None:
    """Refuse a tree that gradient descent cannot move, naming the first leaf at fault."""
    leaves = jax.tree.leaves_with_path(tree)
    if not leaves:
        msg = f"{who}: `{name}` has no array in it, so there is nothing to update; got {tree!r}."
        raise ValueError(msg)
    for path, leaf in leaves:
        kind = _kind(leaf)
        if not jnp.issubdtype(kind, jnp.floating):
            msg = (
                f"{who}: `{name}{jax.tree_util.keystr(path)}` must be floating, got {kind}; keep "
                "what is not trained out of it (`eqx.partition(model, eqx.is_inexact_array)` with "
                "Equinox, `nnx.split(model, nnx.Param, ...)` with Flax)."
            )
            raise TypeError(msg)


def _kind(leaf: object) -> np.dtype | type:
    """The dtype of a leaf, or the type of one that is not a number."""
    if isinstance(leaf, (Array, np.ndarray, np.generic, bool, int, float, complex)):
        return jnp.result_type(leaf)
    return type(leaf)


def require_alike(who: str, params: PyTree, grads: PyTree) -> None:
    wanted, given = _shapes(params), _shapes(grads)
    for path in wanted | given:
        if wanted.get(path) != given.get(path):
            msg = (
                f"{who}: `params` and `grads` must have one structure and one shape a leaf; "
                f"`params{path}` has {wanted.get(path, 'no array')}, "
                f"`grads{path}` has {given.get(path, 'no array')}."
            )
            raise ValueError(msg)
    if jax.tree.structure(params) != jax.tree.structure(grads):
        msg = (
            f"{who}: `params` and `grads` must have one structure, got "
            f"{jax.tree.structure(params)} and {jax.tree.structure(grads)}."
        )
        raise ValueError(msg)


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}


def require_one_method(learning_rate: ArrayLike | None, optimizer: object) -> None:
    if (learning_rate is None) == (optimizer is None):
        got = "neither" if optimizer is None else "both"
        msg = (
            f"minimize: give `learning_rate` (gradient descent by hand) or `optimizer` (any Optax "
            f"optimizer), got {got}."
        )
        raise ValueError(msg)


def require_scalar(who: str, loss: object) -> None:
    if not isinstance(loss, (Array, np.ndarray, np.generic, float)):
        msg = f"{who}: `objective` must return a scalar loss, got {type(loss).__name__}."
        raise TypeError(msg)
    if jnp.shape(loss) != ():
        msg = (
            f"{who}: `objective` must return a scalar, got shape {jnp.shape(loss)}; a loss of rows "
            "becomes one with `jl.mean(loss)`."
        )
        raise ValueError(msg)
    if not jnp.issubdtype(jnp.result_type(loss), jnp.floating):
        msg = f"{who}: `objective` must return a floating loss, got {jnp.result_type(loss)}."
        raise TypeError(msg)


def positive_rate(who: str, learning_rate: ArrayLike) -> ArrayLike:
    """The learning rate, refused in words if it is known not to be one positive number."""
    if callable(learning_rate):
        msg = (
            f"{who}: `learning_rate` must be a number; for a schedule pass "
            "`jaxloss.adapters.optax.gradient_descent(schedule)` as the optimizer."
        )
        raise TypeError(msg)
    rate = _known_number(who, "learning_rate", learning_rate)
    if rate is not None and not 0.0 < rate < math.inf:
        msg = f"{who}: `learning_rate` must be positive and finite, got {learning_rate}."
        raise ValueError(msg)
    return learning_rate


def limit_or_none(name: str, value: ArrayLike | None, *, lowest: float) -> Array:
    """An optional stopping rule's number; -inf, which nothing reaches, for none."""
    if value is None:
        return traced(-math.inf)
    number = _known_number("minimize", name, value)
    if number is not None and not number >= lowest:
        wanted = "not be NaN" if lowest == -math.inf else f"be at least {lowest:g}"
        msg = f"minimize: `{name}` must {wanted}, got {value}."
        raise ValueError(msg)
    return traced(value)


def _known_number(who: str, name: str, value: ArrayLike) -> float | None:
    """The value of a scalar option; None while it is traced."""
    if jnp.shape(value) != ():
        msg = f"{who}: `{name}` must be one number, got shape {jnp.shape(value)}."
        raise ValueError(msg)
    return None if isinstance(value, Tracer) else float(np.asarray(value))


def traced(number: ArrayLike) -> Array:
    """A number of one dtype however it was written, so that it does not compile the loop again."""
    return jnp.asarray(number, dtype=float)


def positive_count(max_steps: int) -> int:
    if isinstance(max_steps, bool) or not isinstance(max_steps, (int, np.integer)):
        msg = f"minimize: `max_steps` must be a Python integer, got {max_steps!r}."
        raise TypeError(msg)
    if max_steps < 1:
        msg = f"minimize: `max_steps` must be at least 1, got {max_steps}."
        raise ValueError(msg)
    return int(max_steps)
