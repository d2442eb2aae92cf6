"""From several losses of the same parameters to one gradient, by any weigher."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import PyTree

from jaxloss._contracts import compute_dtype
from jaxloss.reduction import PartialMean
from jaxloss.training._contracts import require_floating
from jaxloss.weighting._contracts import as_vector, known_weigher
from jaxloss.weighting.pairs import GradientWeigher, LossWeigher


class Evaluation(NamedTuple):
    """What `value_and_grad` found.

    Attributes:
        losses: as the objective returned them, a `PartialMean` by its value.
        weights: of the losses' gradients, in the form of the losses.
        grads: Σ weights_i ∂losses_i/∂params, in the form and the dtypes of the parameters.
        state: the weigher's, for the next step.
        aux: what else the objective returned, with `has_aux`.
    """

    losses: PyTree
    weights: PyTree
    grads: PyTree
    state: PyTree
    aux: PyTree = None


def value_and_grad(
    objective: Callable[..., Any],
    weigher: LossWeigher | GradientWeigher,
    *,
    shared: Callable[[Any], Any] | None = None,
    has_aux: bool = False,
) -> Callable[..., Evaluation]:
    """The losses and one gradient of them all, weighed by `weigher`; `jax.value_and_grad` of several losses.

        Σ w_i ∂ℓ_i/∂θ,   w from the losses, or from G_ij = ⟨∂ℓ_i/∂θ, ∂ℓ_j/∂θ⟩

        evaluate = value_and_grad(objective, famo())
        found = evaluate(params, state, x, y)          # state = famo().init(2) before the first step
        updates, opt_state = optimizer.update(found.grads, opt_state, params)

    A `LossWeigher` costs one backward pass, however many losses there are. A `GradientWeigher` costs one
    for each loss and keeps their gradients; then one pass over them for the Gram matrix and one for the
    sum. The weights are constants to the derivative. A NaN loss makes all weights from it NaN: to skip
    such a step, keep the old state as well as the old parameters.

    Args:
        objective: `objective(params, *data, **options)` -> a tuple, list or dict of floating scalars (or
            of `PartialMean`s, each one loss), or one array `[tasks]`; with `has_aux` a pair of these and
            anything.
        weigher: a pair of `jaxloss.weighting`.
        shared: picks the parameters over which gradients are compared, `lambda params: params["trunk"]`;
            all of them unless told. A `GradientWeigher` then keeps the gradients of these alone, and takes
            one more backward pass for all parameters.
        has_aux: whether the objective returns more than the losses.

    Returns:
        `evaluate(params, state, *data, **options)` -> `Evaluation`, to be called inside `jax.jit`.

    Raises:
        TypeError: the weigher is none; (of the result) a parameter or a loss is not floating, or `shared`
            does not pick parameters.
        ValueError: (of the result) a loss is not a scalar, or there are not as many as the state is for.
    """
    known_weigher(weigher, (LossWeigher, GradientWeigher))

    def evaluate(params: PyTree, state: PyTree, *data: PyTree, **options: PyTree) -> Evaluation:
        require_floating("weighting.value_and_grad", params)

        def vector(params: PyTree) -> tuple[Array, tuple[PyTree, PyTree]]:
            returned = objective(params, *data, **options)
            losses, aux = returned if has_aux else (returned, None)
            losses = _divided(losses)
            return as_vector(losses), (losses, aux)

        values, pullback, (losses, aux) = jax.vjp(vector, params, has_aux=True)
        if isinstance(weigher, LossWeigher):
            weights, state = weigher.update(values, state)
            (grads,) = pullback(weights.astype(values.dtype))
        else:
            (rows,) = jax.vmap(pullback)(jnp.eye(values.size, dtype=values.dtype))
            chosen = rows if shared is None else _picked(shared, rows)
            weights, state = weigher.update(values, state, inner_products(chosen))
            weighted = weights.astype(values.dtype)
            grads = _weighted_sum(rows, weighted) if shared is None else pullback(weighted)[0]
        return Evaluation(losses, _like(losses, weights), grads, state, aux)

    return evaluate


def _divided(losses: PyTree) -> PyTree:
    """Each `PartialMean` as its value: it is one loss, and its total and its weight are not two."""

    def is_partial(node: Any) -> bool:
        return isinstance(node, PartialMean)

    return jax.tree.map(lambda loss: loss.value() if is_partial(loss) else loss, losses, is_leaf=is_partial)


def inner_products(grads: PyTree) -> Array:
    """The Gram matrix G_ij = ⟨g_i, g_j⟩ of gradients stacked along the first axis of each leaf.

    Args:
        grads: pytree of floating arrays `[tasks, ...]`, as `jax.jacrev` of a vector of losses returns.

    Returns:
        `[tasks, tasks]`, summed in float32 at least.
    """
    products = [_leaf_products(leaf) for leaf in jax.tree.leaves(grads)]
    return jnp.stack([product.astype(compute_dtype(*products)) for product in products]).sum(0)


def _leaf_products(leaf: Array) -> Array:
    axes, wide = tuple(range(1, leaf.ndim)), compute_dtype(leaf)
    # Full precision: an accelerator's default for a product may keep eight bits, and a conflict is a sign.
    return jnp.tensordot(
        leaf, leaf, (axes, axes), precision=lax.Precision.HIGHEST, preferred_element_type=wide
    )


def _weighted_sum(rows: PyTree, weights: Array) -> PyTree:
    def weigh(leaf: Array) -> Array:
        wide = compute_dtype(leaf)
        column = weights.astype(wide).reshape(-1, *(1,) * (leaf.ndim - 1))
        return jnp.sum(column * leaf.astype(wide), axis=0).astype(leaf.dtype)

    return jax.tree.map(weigh, rows)


def _picked(shared: Callable[[Any], Any], rows: PyTree) -> list[Array]:
    """The leaves that `shared` picks, told by picking from their numbers."""
    leaves, structure = jax.tree.flatten(rows)
    numbers = jax.tree.leaves(shared(jax.tree.unflatten(structure, range(len(leaves)))))
    if not numbers or not all(isinstance(number, int) for number in numbers):
        msg = (
            "weighting.value_and_grad: `shared` must pick whole parameters, at least one, got "
            f"{numbers!r}; `lambda params: params['trunk']` picks a branch."
        )
        raise TypeError(msg)
    return [leaves[number] for number in numbers]


def _like(losses: PyTree, weights: Array) -> PyTree:
    """The weights in the form of the losses."""
    leaves, structure = jax.tree.flatten(losses)
    shapes = [jnp.shape(leaf) for leaf in leaves]
    pieces = jnp.split(weights, np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1])
    return jax.tree.unflatten(structure, map(partial(jnp.reshape), pieces, shapes))
