"""One step of training with an Optax optimizer, as a pure function: what `train_step` and `fit` compile."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss.training import accumulation, descent
from jaxloss.training._contracts import require_floating

PyTree = Any
Step = Callable[..., tuple[PyTree, PyTree, PyTree]]


def step_of(
    objective: Callable[..., Any], optimizer: descent.Optimizer, *, has_aux: bool, microbatches: int
) -> Step:
    """`step(params, opt_state, *batch, **options) -> (params, opt_state, loss)`."""
    whole = _whole_step(objective, optimizer, has_aux=has_aux)
    parted = _parted_step(objective, optimizer, has_aux=has_aux, microbatches=microbatches)

    def step(
        params: PyTree, opt_state: PyTree, *batch: PyTree, **options: PyTree
    ) -> tuple[PyTree, PyTree, PyTree]:
        require_floating("train_step", params)
        adds_up = microbatches > 1 or isinstance(opt_state, accumulation.Accumulated)
        return (parted if adds_up else whole)(params, opt_state, *batch, **options)

    return step


def _whole_step(objective: Callable[..., Any], optimizer: descent.Optimizer, *, has_aux: bool) -> Step:
    """The gradient of the mean of the batch."""
    checked = descent.scalar_objective("train_step", objective, has_aux=has_aux)
    extra = descent.takes_extra_args(optimizer)

    def step(
        params: PyTree, opt_state: PyTree, *batch: PyTree, **options: PyTree
    ) -> tuple[PyTree, PyTree, PyTree]:
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


def _parted_step(
    objective: Callable[..., Any], optimizer: descent.Optimizer, *, has_aux: bool, microbatches: int
) -> Step:
    """The gradient of totals, added up over the microbatches and, by `accumulate`, over steps."""
    extra = descent.takes_extra_args(optimizer)

    def step(
        params: PyTree, opt_state: PyTree, *batch: PyTree, **options: PyTree
    ) -> tuple[PyTree, PyTree, PyTree]:
        parts = accumulation.parts_of("train_step", objective, options, has_aux=has_aux)
        part, totals, aux = accumulation.partial_gradient(parts, params, batch, microbatches)
        value = part.value()
        if isinstance(opt_state, accumulation.Accumulated):
            known = {"weight": part.weight, "loss": part.total}
            params, opt_state = descent.moved(optimizer.update, params, opt_state, totals, known)
        else:
            grad = accumulation.mean_gradient(totals, part.weight, params)

            def value_fn(params: PyTree) -> Array:
                return accumulation.partial_value(parts, params, batch, microbatches).value()

            params, opt_state = descent.apply_update(
                optimizer.update, params, opt_state, value, grad, value_fn, extra=extra
            )
        return params, opt_state, ((value, aux) if has_aux else value)

    return step


def unshared(donated: PyTree, kept: PyTree) -> PyTree:
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
