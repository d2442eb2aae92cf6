"""What every weigher is, a pair `(init, update)`, and what the pairs share: memory and a way to learn."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import PyTree

from jaxloss.weighting._contracts import Option, at, key_of, one_method, option, task_count


class LossWeigher(NamedTuple):
    """A method that needs the values of the losses alone.

    Attributes:
        init: `init(tasks) -> state`, where `tasks` is the number of losses.
        update: `update(losses, state) -> (weights, state)`: the weights for the gradients of these losses.
    """

    init: Callable[[int], Any]
    update: Callable[[ArrayLike, Any], tuple[Array, Any]]


class GradientWeigher(NamedTuple):
    """A method that needs the inner products of the tasks' gradients.

    Attributes:
        init: `init(tasks) -> state`, where `tasks` is the number of losses.
        update: `update(losses, state, gram) -> (weights, state)`, where `gram` is `[tasks, tasks]`.
    """

    init: Callable[[int], Any]
    update: Callable[[ArrayLike, Any, ArrayLike], tuple[Array, Any]]


class StepState(NamedTuple):
    """The memory of a method without any: how many updates there were, and the last one's weights."""

    step: Array
    weights: Array


class KeyState(NamedTuple):
    """The memory of a method that draws: the key of the next draw, and the last weights."""

    key: Array
    weights: Array


def count() -> Array:
    """No updates yet."""
    return jnp.zeros((), jnp.int32)


def ones(tasks: int) -> Array:
    """1 for each task, in JAX's default float: what all arithmetic of a weigher is done in."""
    return jnp.ones(task_count(tasks), float)


def first_step(tasks: int) -> StepState:
    """The start of a method without memory."""
    return StepState(count(), ones(tasks))


def first_key(who: str, key: ArrayLike) -> Callable[[int], KeyState]:
    """The start of a method that draws with this key."""
    start = key_of(who, key)
    # A copy: a step that is given the state for its own may not take the key of the next `init` with it.
    return lambda tasks: KeyState(jnp.array(start, copy=True), ones(tasks))


class Learner(NamedTuple):
    """How a method that learns its weights takes a step: by hand or by an Optax optimizer."""

    init: Callable[[Array], Any]
    step: Callable[[Array, Array, Any, Array], tuple[Array, Any]]


def learner(who: str, learning_rate: Option | None, optimizer: Any) -> Learner:
    """Gradient descent by hand at this rate (0.025 unless told), or the optimizer given."""
    one_method(who, learning_rate, optimizer)
    if optimizer is not None:
        return Learner(optimizer.init, _step_of(optimizer))
    chosen = 0.025 if learning_rate is None else learning_rate
    rate = option(who, "learning_rate", chosen, low=0, strict="low")

    def descend(values: Array, slope: Array, state: Any, step: Array) -> tuple[Array, Any]:
        return values - at(who, "learning_rate", rate, step, values) * slope, state

    return Learner(lambda _: (), descend)


def _step_of(optimizer: Any) -> Callable[[Array, Array, Any, Array], tuple[Array, Any]]:
    def step(values: Array, slope: Array, state: Any, _: Array) -> tuple[Array, Any]:
        updates, state = optimizer.update(slope, state, values)
        return values + updates.astype(values.dtype), state

    return step


def where(chosen: Array, new: PyTree, old: PyTree) -> PyTree:
    """One of two trees of one structure."""
    return jax.tree.map(lambda a, b: jnp.where(chosen, a, b), new, old)
