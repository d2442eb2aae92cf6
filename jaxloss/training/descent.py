"""Gradient descent by hand, θ ← θ − η ∂L/∂θ, and the compiled loop around it or any optimizer.

An *objective* is any function `objective(params, *data) -> scalar` over a pytree of floating
parameters: a mean of a loss, `jl.mean(loss)`, after a model.
"""

import math
import weakref
from collections.abc import Callable, Mapping
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxloss._contracts import compute_dtype
from jaxloss.reduction import PartialMean
from jaxloss.training._contracts import (
    limit_or_none,
    pair,
    positive_count,
    positive_rate,
    require_alike,
    require_floating,
    require_one_method,
    require_partial,
    require_scalar,
    traced,
)

Params = TypeVar("Params")
Objective = Callable[..., Any]
PyTree = Any  # jaxtyping's says no more, and takes a sixth of `import jaxloss`


@runtime_checkable
class Optimizer(Protocol):
    """What an Optax `GradientTransformation` has."""

    @property
    def init(self) -> Callable[..., PyTree]:
        """`init(params) -> state`."""
        ...

    @property
    def update(self) -> Callable[..., tuple[PyTree, PyTree]]:
        """`update(grads, state, params, **extra) -> updates, state`."""
        ...


_RUNNING = 0  # what the loop carries until it has a StopReason


class StopReason(IntEnum):
    """Why `minimize` stopped; its `str` is the word, e.g. `"threshold"`."""

    THRESHOLD = 1
    TOLERANCE = 2
    MAX_STEPS = 3
    DIVERGED = 4

    def __str__(self) -> str:
        return self.name.lower()

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


class Minimum(NamedTuple):
    """What `minimize` found; `history[-1]` is always the loss at `params`.

    Attributes:
        params: the parameters reached; of a diverged run, the last whose loss was finite.
        history: the losses at θ₀ ... θ_steps, of length `steps + 1`. Under `jit` or `vmap`, where a
            length cannot depend on a value, of length `max_steps + 1` and NaN after `steps`.
        steps: the number of updates that made `params`.
        reason: why the loop stopped: a `StopReason` (under `jit` its number).
        state: the optimizer's state, to be given back to `minimize` to go on from here.
    """

    params: PyTree
    history: Array
    steps: int | Array
    reason: StopReason | Array
    state: PyTree


# --- the step ----------------------------------------------------------------------------------


def gradient_descent_step(params: Params, grads: Params, learning_rate: ArrayLike) -> Params:
    """One step of gradient descent, over every leaf of a pytree.

        θ ← θ − η g

    Each leaf keeps its dtype; one narrower than float32 is computed in float32 and rounded once.

    Args:
        params: pytree of floating arrays, θ.
        grads: the gradient g, with the structure and the shapes of `params`.
        learning_rate: the step size η > 0: a number, or a traced scalar (which is not checked).

    Returns:
        The new parameters, with the structure, shapes and dtypes of `params`.

    Raises:
        TypeError: a leaf is not floating.
        ValueError: the trees do not match, or η is not one positive finite number.
    """
    require_floating("gradient_descent_step", params)
    require_floating("gradient_descent_step", grads, "grads")
    require_alike("gradient_descent_step", params, grads)
    return _step(params, grads, positive_rate("gradient_descent_step", learning_rate))


@jax.jit
def _step(params: Params, grads: Params, learning_rate: ArrayLike) -> Params:
    return jax.tree.map(partial(_descend, learning_rate=learning_rate), params, grads)


def _descend(parameter: ArrayLike, gradient: ArrayLike, learning_rate: ArrayLike) -> Array:
    parameter = jnp.asarray(parameter)
    wide = parameter.astype(compute_dtype(parameter))
    step = scaled(jnp.asarray(gradient).astype(wide.dtype), learning_rate)
    return (wide - step).astype(parameter.dtype)


def scaled(gradient: ArrayLike, learning_rate: ArrayLike) -> Array:
    """η g in the dtype of g, the product taken in float32 at least."""
    gradient = jnp.asarray(gradient)
    dtype = compute_dtype(gradient)
    return (jnp.asarray(learning_rate).astype(dtype) * gradient.astype(dtype)).astype(gradient.dtype)


# --- the loop ----------------------------------------------------------------------------------


def minimize(
    objective: Objective,
    params: PyTree,
    *data: PyTree,
    learning_rate: ArrayLike | None = None,
    optimizer: Optimizer | None = None,
    max_steps: int,
    threshold: ArrayLike | None = None,
    tolerance: ArrayLike | None = None,
    state: PyTree = None,
) -> Minimum:
    """Follow the gradient of `objective` from `params` until a stopping rule holds.

    At each step k the loss L_k = objective(θ_k, *data) and its gradient are computed, then, in this
    order: a loss that is not finite stops the loop ("diverged"), so does L_k <= `threshold`, a
    gradient that is not finite ("diverged"), |L_k - L_{k-1}| <= `tolerance`, k = `max_steps`;
    otherwise θ_{k+1} = θ_k − η ∂L/∂θ_k, or the optimizer's update.

    The whole loop is one compiled `lax.while_loop`. A second call with the same objective and the
    same optimizer *objects*, and arguments of the same shapes, reuses it whatever the values of the
    data, the learning rate, the threshold and the tolerance; a new `max_steps` compiles again. So
    create both once, and pass arrays as `data` rather than capture them. Nothing is kept once the
    objective or the optimizer is garbage.

    To show progress, run in pieces; two pieces of 50 steps are one run of 100:

        run = partial(minimize, objective, optimizer=adam, max_steps=50)
        piece = run(params, x, y)
        piece = run(piece.params, x, y, state=piece.state)

    It may itself be jitted, and vmapped over the start, the data or the learning rate.

    Args:
        objective: `objective(params, *data)` -> floating scalar, differentiable in `params`.
        params: the start θ₀, a pytree of floating arrays; not modified or donated.
        *data: pytrees of arrays, the same at every step.
        learning_rate: step size η > 0 of gradient descent by hand; this or `optimizer`.
        optimizer: any Optax `GradientTransformation`, also one that needs `value`, `grad` or
            `value_fn`.
        max_steps: the largest number of updates, at least 1; a Python integer.
        threshold: stop once the loss is at or below it.
        tolerance: stop once a step changes the loss by no more than this, absolutely; >= 0.
        state: a `Minimum.state` to continue from; by default a fresh start.

    Returns:
        A `Minimum`: params, history, steps, reason, state. Where even the first loss is not finite,
        `params` are those given and `steps` is 0.

    Raises:
        TypeError: a parameter or the loss is not floating, or the loss is not an array.
        ValueError: neither or both of `learning_rate` and `optimizer`; no parameters at all; a loss
            that is not a scalar; an option out of range.
    """
    require_one_method(learning_rate, optimizer)
    require_floating("minimize", params)
    # Held here for the whole call: the compiled loop itself holds it weakly.
    update = gradient_descent_step if optimizer is None else optimizer.update
    extra = optimizer is not None and takes_extra_args(optimizer)
    run = _compiled(objective, update, extra=extra)
    if state is None:
        state = () if optimizer is None else jax.jit(optimizer.init)(params)
    found = run(
        params,
        state,
        data,
        None if learning_rate is None else traced(positive_rate("minimize", learning_rate)),
        limit_or_none("threshold", threshold, lowest=-math.inf),
        limit_or_none("tolerance", tolerance, lowest=0.0),
        max_steps=positive_count("minimize", "max_steps", max_steps),
    )
    return found if isinstance(found.steps, Tracer) else _settled(found)


def _settled(found: Minimum) -> Minimum:
    """The result outside `jit`: Python numbers, and the history without its unused end."""
    steps = int(found.steps)
    history = found.history[: steps + 1]
    return found._replace(history=history, steps=steps, reason=StopReason(int(found.reason)))


class _Run(NamedTuple):
    """The loop's memory at θ_k."""

    current: PyTree  # (θ_k, the optimizer's state there)
    finite: PyTree  # the latest such pair whose loss is known to be finite; the result, once stopped
    loss: Array  # L_{k-1}; NaN before the first
    history: Array
    step: Array  # k
    reason: Array


class _Limits(NamedTuple):
    threshold: Array
    tolerance: Array
    max_steps: int


def _loop(evaluate: Callable, advance: Callable, start: PyTree, limits: _Limits, dtype: np.dtype) -> Minimum:
    """Evaluate, decide, advance: all inside the body, so that a resumed run does the same again."""

    def body(run: _Run) -> _Run:
        loss, grad = evaluate(*run.current, run.step)
        reason = _reason(run, loss, grad, limits)

        def proceed() -> tuple[PyTree, PyTree, Array]:
            return advance(*run.current, loss, grad), run.current, run.step + 1

        def halt() -> tuple[PyTree, PyTree, Array]:
            finite = jnp.isfinite(loss)
            return (
                run.current,
                where(finite, run.current, run.finite),
                jnp.where(finite, run.step, jnp.maximum(run.step - 1, 0)),
            )

        current, finite, step = lax.cond(reason == _RUNNING, proceed, halt)
        return _Run(current, finite, loss, run.history.at[run.step].set(loss), step, reason)

    blank = jnp.full(limits.max_steps + 1, jnp.nan, dtype)
    first = _Run(start, start, blank[0], blank, jnp.int32(0), jnp.int32(_RUNNING))
    last = lax.while_loop(lambda run: run.reason == _RUNNING, body, first)
    # A loss that was not finite is not of the parameters returned.
    history = jnp.where(jnp.arange(blank.size, dtype=last.step.dtype) <= last.step, last.history, blank)
    params, state = last.finite
    return Minimum(params, history, last.step, last.reason, state)


def _reason(run: _Run, loss: Array, grad: PyTree, limits: _Limits) -> Array:
    """The first stopping rule that holds at θ_k, or `_RUNNING`."""
    rules = (
        (StopReason.DIVERGED, ~jnp.isfinite(loss)),
        (StopReason.THRESHOLD, loss <= limits.threshold.astype(loss.dtype)),
        (StopReason.DIVERGED, ~all_finite(grad)),
        (StopReason.TOLERANCE, abs(loss - run.loss) <= limits.tolerance.astype(loss.dtype)),
        (StopReason.MAX_STEPS, run.step >= limits.max_steps),
    )
    holds = [rule for _, rule in rules]
    return jnp.select(holds, [jnp.int32(reason) for reason, _ in rules], jnp.int32(_RUNNING))


def all_finite(tree: PyTree) -> Array:
    """Whether no number in the tree is NaN or infinite."""
    return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]))


def where(chosen: Array, new: PyTree, old: PyTree) -> PyTree:
    """One of two trees of one structure."""
    return jax.tree.map(lambda a, b: jnp.where(chosen, a, b), new, old)


# --- one compiled loop an objective and an optimizer ----------------------------------------------

_runs: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _compiled(objective: Objective, update: Callable[..., PyTree], *, extra: bool) -> Callable[..., Minimum]:
    """The compiled loop of this objective and this update, kept for as long as both live.

    The loop reaches them through weak references: held strongly, a value of the dictionary would
    keep its own key alive. The optimizer itself is a tuple, which cannot be referenced weakly.
    """
    try:
        runs = _runs.setdefault(objective, weakref.WeakKeyDictionary())
        if update not in runs:
            runs[update] = _compile(weakref.ref(objective), weakref.ref(update), extra=extra)
        return runs[update]
    except TypeError:  # not hashable or not weakly referable: compiled at each call
        return _compile(lambda: objective, lambda: update, extra=extra)


def _compile(
    objective_of: Callable[[], Any], update_of: Callable[[], Any], *, extra: bool
) -> Callable[..., Minimum]:
    def run(
        params: PyTree,
        state: PyTree,
        data: tuple,
        learning_rate: Array | None,
        threshold: Array,
        tolerance: Array,
        max_steps: int,
    ) -> Minimum:
        value_fn = _on(scalar_objective("minimize", objective_of()), data)
        value_and_grad = jax.value_and_grad(value_fn)

        def evaluate(params: PyTree, state: PyTree, step: Array) -> tuple[Array, PyTree]:
            # What a state given by the caller remembers may be of other data, hence `step > 0`.
            return recalled(value_and_grad, params, state, trusted=step > 0)

        def advance(params: PyTree, state: PyTree, value: Array, grad: PyTree) -> tuple[PyTree, PyTree]:
            if learning_rate is not None:
                return _step(params, grad, learning_rate), state
            return apply_update(update_of(), params, state, value, grad, value_fn, extra=extra)

        limits = _Limits(threshold, tolerance, max_steps)
        dtype = jax.eval_shape(value_fn, params).dtype
        return _loop(evaluate, advance, (params, state), limits, dtype)

    return jax.jit(run, static_argnames="max_steps")


def _on(objective: Objective, data: tuple) -> Callable[[PyTree], Array]:
    return lambda params: objective(params, *data)


# --- the update path shared with `jaxloss.adapters.optax` -----------------------------------------


def takes_extra_args(optimizer: Optimizer) -> bool:
    """Whether the optimizer's update accepts `value`, `grad` and `value_fn`."""
    import optax

    return isinstance(optimizer, optax.GradientTransformationExtraArgs)


def apply_update(
    update: Callable[..., tuple[PyTree, PyTree]],
    params: PyTree,
    state: PyTree,
    value: Array,
    grad: PyTree,
    value_fn: Callable[[PyTree], Array],
    *,
    extra: bool,
) -> tuple[PyTree, PyTree]:
    """One update of an Optax optimizer, with the extra arguments if it takes them."""
    known = {"value": value, "grad": grad, "value_fn": value_fn} if extra else {}
    return moved(update, params, state, grad, known)


def moved(
    update: Callable[..., tuple[PyTree, PyTree]],
    params: PyTree,
    state: PyTree,
    grad: PyTree,
    known: Mapping[str, Any],
) -> tuple[PyTree, PyTree]:
    """The parameters after one update of an Optax optimizer that is told what is known."""
    import optax

    updates, state = update(grad, state, params, **known)
    return optax.apply_updates(params, updates), state


def recalled(
    value_and_grad: Callable[[PyTree], tuple[Array, PyTree]],
    params: PyTree,
    state: PyTree,
    *,
    trusted: ArrayLike,
) -> tuple[Array, PyTree]:
    """The value and gradient at `params`, from the line search that ended there if one did.

    Args:
        value_and_grad: what computes them otherwise.
        params: where.
        state: the optimizer's state, which may remember them.
        trusted: whether it would remember those of this very function.
    """
    memory = _searched(state)
    if memory is None or _avals(memory) != _avals(jax.eval_shape(value_and_grad, params)):
        return value_and_grad(params)
    usable = trusted & jnp.isfinite(memory[0])
    return lax.cond(usable, lambda: memory, lambda: value_and_grad(params))


def _searched(state: PyTree) -> tuple[Array, PyTree] | None:
    """The value and gradient kept by a line search, if it has the last word in the chain.

    A transformation after it would move the parameters away from the point it evaluated.
    """
    last = _last(state)
    if last is None:  # gradient descent by hand, which needs no Optax
        return None
    import optax

    zoom, backtracking = optax.ScaleByZoomLinesearchState, optax.ScaleByBacktrackingLinesearchState
    if not isinstance(last, (zoom, backtracking)) or last.grad is None:
        return None
    return jnp.asarray(last.value), last.grad


def _last(state: PyTree) -> object:
    """The state of the last transformation in a chain, a plain tuple; None if there is none."""
    while type(state) is tuple:
        state = state[-1] if state else None
    return state


def _avals(tree: PyTree) -> tuple[object, list]:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def scalar_objective(who: str, objective: Objective, *, has_aux: bool = False) -> Objective:
    """`objective`, its `PartialMean` divided, refusing in words a loss that is not a floating scalar."""

    def checked(*args: PyTree, **options: PyTree) -> PyTree:
        returned = objective(*args, **options)
        loss, aux = pair(who, returned) if has_aux else (returned, None)
        if isinstance(loss, PartialMean):
            require_partial(who, loss)
            loss = loss.value()
        require_scalar(who, loss)
        return (loss, aux) if has_aux else loss

    return checked
