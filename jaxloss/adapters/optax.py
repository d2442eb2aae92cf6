"""jaxloss with Optax: the hand-written step as a transformation, and a compiled training step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import PyTree

from jaxloss.training import descent
from jaxloss.training._contracts import positive_rate, require_floating

try:
    import optax
except ImportError as error:
    msg = "jaxloss.adapters.optax needs Optax: `pip install jaxloss[optax]`."
    raise ImportError(msg) from error

__all__ = ["gradient_descent", "train_step"]


def gradient_descent(
    learning_rate: ArrayLike | Callable[[Array], ArrayLike],
) -> optax.GradientTransformation:
    """The hand-written step as an Optax transformation.

        u = −η g, so that optax.apply_updates(θ, u) = θ − η g

    It is `training.gradient_descent_step` to rounding, and chains with any other:
    `optax.chain(optax.clip_by_global_norm(1.0), gradient_descent(0.1))`.

    Args:
        learning_rate: the step size η > 0, or an Optax schedule: a function of the number of
            updates so far.

    Returns:
        An `optax.GradientTransformation`; the updates have the gradients' dtypes.

    Raises:
        ValueError: η is not one positive finite number.
    """
    schedule = learning_rate if callable(learning_rate) else _constant(learning_rate)

    def init(params: PyTree) -> optax.OptState:
        del params
        return optax.ScaleByScheduleState(count=jnp.zeros((), jnp.int32))

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, optax.OptState]:
        del params
        rate = schedule(state.count)
        updates = jax.tree.map(lambda gradient: -descent.scaled(gradient, rate), updates)
        return updates, optax.ScaleByScheduleState(optax.safe_increment(state.count))

    return optax.GradientTransformation(init, update)


def _constant(learning_rate: ArrayLike) -> Callable[[Array], ArrayLike]:
    rate = positive_rate("gradient_descent", learning_rate)
    return lambda _: rate


def train_step(
    objective: Callable[..., Any],
    optimizer: descent.Optimizer,
    *,
    has_aux: bool = False,
    donate: bool = True,
) -> Callable[..., tuple[PyTree, PyTree, PyTree]]:
    """One compiled step of training with an Optax optimizer.

        step = train_step(objective, optimizer)
        opt_state = optimizer.init(params)
        for x, y in batches:
            params, opt_state, loss = step(params, opt_state, x, y)

    It is the body of the plain Optax loop: value and gradient, `optimizer.update`,
    `optax.apply_updates`. An optimizer that accepts extra arguments is given `value`, `grad` and
    `value_fn`, so `optax.lbfgs`, `optax.polyak_sgd` and `optax.contrib.reduce_on_plateau` need
    nothing more. Where a line search ends the update, its value and gradient serve the next step if
    steps take no batch; with batches they would be those of the last one, and are computed anew.

    Args:
        objective: `objective(params, *batch, **options)` -> floating scalar, or with `has_aux`
            (scalar, anything). Arrays among the options are traced.
        optimizer: any Optax optimizer.
        has_aux: whether the objective returns more than the loss, as in `jax.value_and_grad`.
        donate: give the memory of `params` and `opt_state` to the new ones. The step deletes the
            old ones: copy what you need again.

    Returns:
        `step(params, opt_state, *batch, **options) -> (params, opt_state, loss)`; the loss is that
        of the parameters given, and with `has_aux` `(loss, aux)`. The step raises a TypeError for
        a parameter or a loss that is not floating, a ValueError for a loss that is not a scalar.
    """
    compiled = jax.jit(
        _plain_step(objective, optimizer, has_aux=has_aux), donate_argnums=(0, 1) if donate else ()
    )

    def step(
        params: PyTree, opt_state: PyTree, *batch: PyTree, **options: PyTree
    ) -> tuple[PyTree, PyTree, PyTree]:
        if donate:
            params, opt_state = _unshared((params, opt_state), (batch, options))
        try:
            return compiled(params, opt_state, *batch, **options)
        except TypeError:
            require_floating("train_step", params)  # a leaf that is no array at all
            raise

    return step


def _plain_step(
    objective: Callable[..., Any], optimizer: descent.Optimizer, *, has_aux: bool
) -> Callable[..., tuple[PyTree, PyTree, PyTree]]:
    checked = descent.scalar_objective("train_step", objective, has_aux=has_aux)
    extra = descent.takes_extra_args(optimizer)

    def step(
        params: PyTree, opt_state: PyTree, *batch: PyTree, **options: PyTree
    ) -> tuple[PyTree, PyTree, PyTree]:
        require_floating("train_step", params)

        def with_aux(params: PyTree) -> tuple[Array, PyTree]:
            returned = checked(params, *batch, **options)
            return (returned[0] if has_aux else returned), returned

        def value_fn(params: PyTree) -> Array:
            return with_aux(params)[0]

        if has_aux or batch or options:
            (value, returned), grad = jax.value_and_grad(with_aux, has_aux=True)(params)
        else:
            evaluate = jax.value_and_grad(value_fn)
            value, grad = descent.recalled(evaluate, params, opt_state, trusted=True)
            returned = value
        params, opt_state = descent.apply_update(
            optimizer.update, params, opt_state, value, grad, value_fn, extra=extra
        )
        return params, opt_state, returned

    return step


def _unshared(donated: PyTree, kept: PyTree) -> PyTree:
    """`donated`, with a copy of each array that stands in it twice or is kept as well.

    No buffer can be given away twice, and `optax.lbfgs().init` returns one array in two places, as
    tied weights do.
    """
    leaves, structure = jax.tree.flatten(donated)
    seen = {id(leaf) for leaf in jax.tree.leaves(kept)}
    if seen.isdisjoint(map(id, leaves)) and len(set(map(id, leaves))) == len(leaves):
        return donated
    for i, leaf in enumerate(leaves):
        if id(leaf) in seen and isinstance(leaf, Array):
            leaves[i] = jnp.copy(leaf)
        seen.add(id(leaf))
    return jax.tree.unflatten(structure, leaves)
