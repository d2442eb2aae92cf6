"""jaxloss with Optax: the hand-written step, exact accumulation, and a compiled training step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import PyTree

from jaxloss._contracts import compute_dtype
from jaxloss.numerics import divide
from jaxloss.training import accumulation, descent
from jaxloss.training._contracts import positive_count, positive_rate, require_floating
from jaxloss.training._step import step_of, unshared

try:
    import optax
except ImportError as error:
    msg = "jaxloss.adapters.optax needs Optax: `pip install jaxloss[optax]`."
    raise ImportError(msg) from error

__all__ = ["accumulate", "gradient_descent", "train_step"]


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


def accumulate(
    optimizer: optax.GradientTransformation, *, every: int
) -> optax.GradientTransformationExtraArgs:
    """Update once in `every` steps, with the gradient of the mean over all their rows.

        u = optimizer's update of  Σ_steps ∂(Σ w ℓ)/∂θ / Σ_steps Σ w   after every k-th step, else 0

    `optax.MultiSteps` averages the gradients of the steps' means, which counts a row of a step that
    keeps few rows for more than one of a full step. Here totals add up, and are divided once.

    In `train_step`, with an objective that returns a `PartialMean`, there is nothing else to do:

        step = train_step(objective, accumulate(optax.adam(1e-3), every=8))

    In a loop of your own, `update` takes the gradient *of the total*, not of the mean, and the weight:

        def total(params, x, y):
            part = jl.partial_mean(loss)(model(params, x), y)
            return part.total, part.weight

        totals, weight = jax.grad(total, has_aux=True)(params, x, y)
        updates, state = accumulated.update(totals, state, params, weight=weight)

    It is the outermost transformation: what belongs to the mean's gradient, as a clip, goes inside,
    `accumulate(optax.chain(optax.clip_by_global_norm(1.0), adam), every=8)`.

    Args:
        optimizer: any Optax optimizer; one that takes extra arguments is given `grad` and `value`, the
            mean loss of those rows. A line search evaluates the objective anew, and is refused unless
            `update` is given a `value_fn` of your own.
        every: how many steps make one update, at least 1.

    Returns:
        An `optax.GradientTransformationExtraArgs`, whose state is a `training.Accumulated`: one tree more
        of the parameters' size, in float32 at least. Its `update(totals, state, params, *, weight,
        loss=None, **extra)` returns zeros but in every k-th step; `loss` is the step's Σwℓ, from which
        an optimizer inside gets its `value`; other extra arguments are passed on as they are.

    Raises:
        TypeError, ValueError: `every` is not a positive integer; the update is not given the weight, nor a
            line search inside the `value_fn` that it needs.
    """
    every = positive_count("accumulate", "every", every)
    inside = optax.with_extra_args_support(optimizer)

    def init(params: PyTree) -> accumulation.Accumulated:
        totals = jax.tree.map(lambda leaf: jnp.zeros(jnp.shape(leaf), compute_dtype(leaf)), params)
        steps, weight, loss = jnp.zeros((), jnp.int32), jnp.zeros((), float), jnp.zeros((), float)
        return accumulation.Accumulated(steps, totals, weight, loss, optimizer.init(params))

    def update(
        updates: PyTree,
        state: PyTree,
        params: PyTree = None,
        *,
        weight: ArrayLike | None = None,
        loss: ArrayLike | None = None,
        **extra: Any,
    ) -> tuple[PyTree, accumulation.Accumulated]:
        if weight is None:
            raise ValueError(_NO_WEIGHT)
        if "value_fn" not in extra and _searches(state.inner):
            raise TypeError(_NO_SEARCH)
        sums = accumulation.added(state, updates, weight, loss)
        like = updates if params is None else params

        def emit() -> tuple[PyTree, accumulation.Accumulated]:
            grad = accumulation.mean_gradient(sums.totals, sums.weight, like)
            known = {} if loss is None else {"value": divide(sums.loss, sums.weight), "grad": grad}
            mean_updates, inner = inside.update(grad, sums.inner, params, **known, **extra)
            blank = jax.tree.map(jnp.zeros_like, sums._replace(inner=None))
            return mean_updates, blank._replace(inner=inner)

        def wait() -> tuple[PyTree, accumulation.Accumulated]:
            blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(emit)[0])
            return blank, sums

        return lax.cond(sums.steps == every, emit, wait)

    return optax.GradientTransformationExtraArgs(init, update)


_NO_WEIGHT = (
    "accumulate: `update` needs `weight`, the Σw of this step's rows. With `train_step` it must be the "
    "outermost transformation, `accumulate(optax.chain(...), every=k)`, and the objective return a "
    "`PartialMean`."
)


_SEARCH = (optax.ScaleByZoomLinesearchState, optax.ScaleByBacktrackingLinesearchState)
_NO_SEARCH = (
    "accumulate: `optimizer` must not search along a line, got one that does, as `optax.lbfgs()`: it "
    "evaluates the objective anew, on rows that are gone. Give it `linesearch=None` and a learning rate, or "
    "the whole batch to `train_step(..., microbatches=k)`."
)


def _searches(state: PyTree) -> bool:
    """Whether this is the state of a line search, or holds one."""
    leaves = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, _SEARCH))
    return any(isinstance(leaf, _SEARCH) for leaf in leaves)


def train_step(
    objective: Callable[..., Any],
    optimizer: descent.Optimizer,
    *,
    has_aux: bool = False,
    donate: bool = True,
    microbatches: int = 1,
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

    With `microbatches=k` the batch passes through the model in k parts, one after another, in the
    memory of one. The objective returns a `PartialMean`, and

        g = Σ_parts ∂(Σ w ℓ)/∂θ / Σ_parts Σ w

    is the gradient of the mean of the whole batch to rounding, however unevenly masks fall.

    Args:
        objective: `objective(params, *batch, **options)` -> floating scalar or `PartialMean`, or with
            `has_aux` (that, anything). Arrays among the options are traced.
        optimizer: any Optax optimizer, or `accumulate` of one.
        has_aux: whether the objective returns more than the loss, as in `jax.value_and_grad`. Of k > 1
            microbatches, that has a leading axis of length k more.
        donate: give the memory of `params` and `opt_state` to the new ones. The step deletes the
            old ones: copy what you need again.
        microbatches: k, which divides the rows, the leading axis of every array in the batch; masks and
            weights belong to it, and what is not one a row is an option. Microbatch i holds rows i,
            i + k, i + 2k, ...; a loss that couples rows sees those alone.

    Returns:
        `step(params, opt_state, *batch, **options) -> (params, opt_state, loss)`; the loss is that
        of the parameters given, and with `has_aux` `(loss, aux)`. The step raises a TypeError for
        a parameter or a loss that is not floating, for one that is no `PartialMean` where parts add up,
        and with `has_aux` for an objective that returns no pair; a ValueError for a loss that is not a
        scalar, a batch that k does not divide, and a weight that depends on the parameters where parts
        add up.
    """
    microbatches = positive_count("train_step", "microbatches", microbatches)
    compiled = jax.jit(
        step_of(objective, optimizer, has_aux=has_aux, microbatches=microbatches),
        donate_argnums=(0, 1) if donate else (),
    )

    def step(
        params: PyTree, opt_state: PyTree, *batch: PyTree, **options: PyTree
    ) -> tuple[PyTree, PyTree, PyTree]:
        if donate:
            params, opt_state = unshared((params, opt_state), (batch, options))
        try:
            return compiled(params, opt_state, *batch, **options)
        except TypeError:
            require_floating("train_step", params)  # a leaf that is no array at all
            raise

    return step
