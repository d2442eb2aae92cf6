"""What a weigher and its options may be, in words."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import PyTree

from jaxloss._contracts import compute_dtype

Option = ArrayLike | Callable[[Array], ArrayLike]


def option(
    who: str, name: str, value: Option, *, low: float = -np.inf, high: float = np.inf, strict: str = ""
) -> Option:
    """A hyperparameter: a number or array, checked where it is known, or a schedule of the step.

    `strict` names the ends, "low" or "high", that do not belong to the range.
    """
    if callable(value) or isinstance(value, Tracer):
        return value
    value = np.asarray(value) if isinstance(value, (list, tuple)) else value
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "fiu" and not jnp.issubdtype(numbers.dtype, jnp.floating):
        msg = (
            f"weighting.{who}: `{name}` must be a number, an array, or a schedule `step -> number`, "
            f"got {value!r}; convert it with `jnp.asarray(..., float)`."
        )
        raise TypeError(msg)
    numbers = numbers.astype(float)
    above = numbers > low if "low" in strict else numbers >= low
    below = numbers < high if "high" in strict else numbers <= high
    if not np.all(above & below):
        opening = "(" if "low" in strict or low == -np.inf else "["
        closing = ")" if "high" in strict or high == np.inf else "]"
        msg = (
            f"weighting.{who}: `{name}` must be in {opening}{low:g}, {high:g}{closing}, got {value}; "
            "give a value inside."
        )
        raise ValueError(msg)
    return value


def at(who: str, name: str, value: Option, step: Array, like: Array) -> Array:
    """A hyperparameter at this step: one number, or one for each task."""
    now = value(step) if callable(value) else value
    if jnp.shape(now) not in ((), like.shape):
        msg = (
            f"weighting.{who}: `{name}` {jnp.shape(now)} must be one number or one for each task "
            f"{like.shape}; give as many as there are losses."
        )
        raise ValueError(msg)
    return jnp.asarray(now, like.dtype)


def key_of(who: str, key: ArrayLike) -> Array:
    """A key of JAX's, new or old, or an integer to make one of."""
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        return jax.random.key(key)
    array = jnp.asarray(key)
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key) and array.shape == ():
        return array
    if array.dtype == jnp.uint32 and array.shape == (2,):
        return jax.random.wrap_key_data(array)
    msg = (
        f"weighting.{who}: `key` must be one random key or an integer seed, got {array.dtype}"
        f"{list(array.shape)}; pass `jax.random.key(0)`."
    )
    raise TypeError(msg)


def task_count(tasks: int) -> int:
    """How many losses there are, for an `init`."""
    if isinstance(tasks, bool) or not isinstance(tasks, (int, np.integer)):
        msg = (
            f"weighting: `init` takes the number of losses, an integer, got {type(tasks).__name__}; "
            "for three losses call `init(3)`."
        )
        raise TypeError(msg)
    if tasks < 1:
        msg = f"weighting: `init` takes the number of losses, at least 1, got {tasks}; count the losses."
        raise ValueError(msg)
    return int(tasks)


def one_a_task(losses: ArrayLike, like: Array) -> Array:
    """The losses, as many as the state is for, in its dtype: a copy, for the state may be given away."""
    losses = jnp.asarray(losses)
    if losses.shape != like.shape:
        msg = (
            f"weighting: `losses` {losses.shape} must be one number for each of the {like.size} tasks of "
            f"`init({like.size})`; a loss of rows becomes one number with `jl.mean(loss)`."
        )
        raise ValueError(msg)
    if not jnp.issubdtype(losses.dtype, jnp.floating):
        msg = (
            f"weighting: `losses` must be floating, got {losses.dtype}; convert with `.astype(jnp.float32)`."
        )
        raise TypeError(msg)
    return jnp.array(losses, like.dtype)


def matching_gram(gram: ArrayLike, like: Array) -> Array:
    """The Gram matrix of as many gradients as the state is for, in its dtype."""
    gram = jnp.asarray(gram)
    if gram.shape != (like.size, like.size):
        msg = (
            f"weighting: `gram` {gram.shape} must be the inner products of {like.size} gradients, "
            f"{(like.size, like.size)}; `weighting.value_and_grad` makes it."
        )
        raise ValueError(msg)
    return gram.astype(like.dtype)


def as_vector(losses: PyTree) -> Array:
    """An objective's losses, a tree of floating scalars or one array of them, as one vector."""
    leaves = jax.tree.leaves(losses)
    alone = len(leaves) == 1 and jnp.ndim(leaves[0]) == 1
    for path, leaf in jax.tree.leaves_with_path(losses):
        name = jax.tree_util.keystr(path)
        if not isinstance(leaf, (Array, np.ndarray, np.generic, float)):
            msg = (
                f"weighting.value_and_grad: `objective` must return floating losses, got "
                f"{type(leaf).__name__} at `losses{name}`; return a tuple or dict of scalars."
            )
            raise TypeError(msg)
        if jnp.ndim(leaf) and not alone:
            msg = (
                f"weighting.value_and_grad: `objective` must return one number a task, got shape "
                f"{jnp.shape(leaf)} at `losses{name}`; a loss of rows becomes one with `jl.mean(loss)`."
            )
            raise ValueError(msg)
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            msg = (
                f"weighting.value_and_grad: `objective` must return floating losses, got "
                f"{jnp.result_type(leaf)} at `losses{name}`; convert it with `.astype(jnp.float32)`."
            )
            raise TypeError(msg)
    if not leaves:
        msg = "weighting.value_and_grad: `objective` returned no loss; return a tuple or dict of scalars."
        raise ValueError(msg)
    wide = [jnp.asarray(leaf).astype(compute_dtype(*leaves)) for leaf in leaves]
    return wide[0] if alone else jnp.stack(wide)


def known_weigher(weigher: object, kinds: tuple[type, ...]) -> None:
    """Refuse what is not a weigher: most often a constructor that was not called."""
    if not isinstance(weigher, kinds):
        fix = "call it: `weighting.famo()`" if callable(weigher) else "pass one of `jaxloss.weighting`"
        msg = f"weighting.value_and_grad: `weigher` must be a weigher, got {weigher!r}; {fix}."
        raise TypeError(msg)


def one_method(who: str, learning_rate: object, optimizer: object) -> None:
    """Refuse two ways of learning the weights at once."""
    if learning_rate is not None and optimizer is not None:
        msg = (
            f"weighting.{who}: give `learning_rate` (gradient descent) or `optimizer` (any Optax optimizer), "
            "got both; leave one out."
        )
        raise ValueError(msg)
