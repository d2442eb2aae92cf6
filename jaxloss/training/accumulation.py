"""Totals over parts of a batch: they add up, and are divided once, by the weight of the whole.

The mean of microbatches' means is not the mean of their rows wherever the parts hold different
weights, and its gradient is not either. Σwℓ, Σw and ∂Σwℓ/∂θ add up exactly.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

from jaxloss._contracts import compute_dtype
from jaxloss.numerics import divide
from jaxloss.reduction import PartialMean
from jaxloss.training._contracts import pair, require_microbatches, require_partial

PyTree = Any
Parts = Callable[..., tuple[PartialMean, PyTree]]


class Accumulated(NamedTuple):
    """The state of `adapters.optax.accumulate`: what the steps since the last update add up to.

    Attributes:
        steps: how many there were, fewer than `every`.
        totals: Σ over them of ∂(Σwℓ)/∂θ, in float32 at least.
        weight: Σ over them of Σw.
        loss: Σ over them of Σwℓ.
        inner: the state of the optimizer inside.
    """

    steps: Array
    totals: PyTree
    weight: Array
    loss: Array
    inner: PyTree


def parts_of(who: str, objective: Callable[..., Any], options: dict[str, Any], *, has_aux: bool) -> Parts:
    """The objective as `parts(params, *rows) -> (PartialMean, aux)`, refused in words if it is not."""

    def parts(params: PyTree, *rows: PyTree) -> tuple[PartialMean, PyTree]:
        returned = objective(params, *rows, **options)
        part, aux = pair(who, returned) if has_aux else (returned, None)
        require_partial(who, part)
        dtype = compute_dtype(part.total)
        total, weight = jnp.asarray(part.total), jnp.asarray(part.weight)
        return PartialMean(total.astype(dtype), weight.astype(dtype)), aux

    return parts


def partial_value(parts: Parts, params: PyTree, batch: tuple, microbatches: int) -> PartialMean:
    """Σwℓ and Σw over the whole batch, a microbatch at a time; differentiable in the memory of one."""
    if microbatches == 1:
        return parts(params, *batch)[0]
    rows = interleaved("train_step", batch, microbatches)

    @jax.checkpoint
    def body(sums: PartialMean, rows: tuple) -> tuple[PartialMean, None]:
        return sums + parts(params, *rows)[0], None

    return lax.scan(body, _zeros(lambda *rows: parts(params, *rows)[0], rows), rows)[0]


def partial_gradient(
    parts: Parts, params: PyTree, batch: tuple, microbatches: int
) -> tuple[PartialMean, PyTree, PyTree]:
    """Σwℓ and Σw over the whole batch, ∂(Σwℓ)/∂θ in float32 at least, and what else the parts returned.

    With more than one microbatch the latter have one leading axis more.
    """

    # Autodiff adds the rows up in the dtype of the parameters: in float16 the total over a few thousand
    # overflows where the mean does not. So each part is divided by its weight, and multiplied when wide.
    def mean(params: PyTree, rows: tuple) -> tuple[Array, tuple[PartialMean, Array, PyTree]]:
        part, aux = parts(params, *rows)
        weight = _independent(part.weight)
        scale = jnp.where(weight == 0, 1, weight)
        return part.total / scale, (PartialMean(part.total, weight), scale, aux)

    def one(*rows: PyTree) -> tuple[tuple[PartialMean, PyTree], PyTree]:
        grad, (part, scale, aux) = jax.grad(mean, has_aux=True)(params, rows)
        return (part, jax.tree.map(lambda leaf: _total(leaf, scale), grad)), aux

    if microbatches == 1:
        (sums, grad), aux = one(*batch)
        return sums, grad, aux
    rows = interleaved("train_step", batch, microbatches)

    def body(sums: PyTree, rows: tuple) -> tuple[PyTree, PyTree]:
        found, aux = one(*rows)
        return jax.tree.map(jnp.add, sums, found), aux

    (sums, grad), aux = lax.scan(body, _zeros(lambda *rows: one(*rows)[0], rows), rows)
    return sums, grad, aux


def mean_gradient(totals: PyTree, weight: Array, params: PyTree) -> PyTree:
    """∂(Σwℓ)/∂θ / Σw, divided once and rounded once to the dtypes of `params`; 0 where no row is kept."""

    def mean(total: Array, parameter: Array) -> Array:
        return divide(total, weight.astype(total.dtype)).astype(jnp.result_type(parameter))

    return jax.tree.map(mean, totals, params)


def added(state: Accumulated, totals: PyTree, weight: Any, loss: Any) -> Accumulated:
    """The state after one step more."""
    dtype = state.weight.dtype
    return Accumulated(
        state.steps + 1,
        jax.tree.map(lambda total, grad: total + grad.astype(total.dtype), state.totals, totals),
        state.weight + jnp.asarray(weight).astype(dtype),
        state.loss if loss is None else state.loss + jnp.asarray(loss).astype(dtype),
        state.inner,
    )


def interleaved(who: str, batch: tuple, microbatches: int) -> tuple:
    """The batch under a leading axis of microbatches, of which number i holds rows i, i + k, i + 2k, ...

    In turn, not in runs: where a batch is spread over devices by its rows, so is each microbatch.
    """
    require_microbatches(who, batch, microbatches)

    def split(array: Array) -> Array:
        rows = array.shape[0] // microbatches
        return jnp.swapaxes(array.reshape(rows, microbatches, *array.shape[1:]), 0, 1)

    return jax.tree.map(split, batch)


def _total(grad: Array, weight: Array) -> Array:
    """The gradient of a mean times the weight it was divided by."""
    wide = grad.astype(compute_dtype(grad))
    return wide * weight.astype(wide.dtype)


def _zeros(function: Callable[..., PyTree], rows: tuple) -> PyTree:
    """What the sums of `function` over microbatches begin with."""
    shapes = jax.eval_shape(function, *jax.tree.map(lambda array: array[0], rows))
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


@jax.custom_jvp
def _independent(weight: Array) -> Array:
    """The weight, which has no derivative; autodiff comes to the rule only if it has one."""
    return weight


@partial(_independent.defjvp, symbolic_zeros=True)
def _independent_jvp(primals: tuple[Array], tangents: tuple[Any]) -> tuple[Array, Any]:
    (weight,), (tangent,) = primals, tangents
    if not isinstance(tangent, SymbolicZero):
        msg = (
            "train_step: the weight of the `PartialMean` depends on the parameters, so gradients of totals "
            "do not add up to that of the mean; pass the weights through `jax.lax.stop_gradient`, or take "
            "the batch whole (`microbatches=1`, no `accumulate`)."
        )
        raise ValueError(msg)
    return weight, tangent
