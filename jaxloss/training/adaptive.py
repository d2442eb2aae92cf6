"""A loss whose hyperparameters move while it trains: by a schedule of the step, or learned with the model."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxloss._contracts import compute_dtype
from jaxloss._loss import card_of, name_of
from jaxloss.numerics import sigmoid, softplus
from jaxloss.training._wrapping import RowLoss, dressed, parameters, refuse_unknown, require_options

Schedule = Callable[[Array], ArrayLike]
Bounds = tuple[float | None, float | None]


class Learned(NamedTuple):
    """A loss and the hyperparameters that are learned with it; see `learned`.

    Attributes:
        init: `init(**start) -> raw`, the parameters to begin with: a dict of arrays, one a hyperparameter.
        loss: the loss, which takes each raw parameter under its hyperparameter's name: `loss(*data, **raw)`.
        values: `values(raw)`, the hyperparameters themselves, each inside its range.
    """

    init: Callable[..., dict[str, Array]]
    loss: RowLoss
    values: Callable[[Mapping[str, ArrayLike]], dict[str, Array]]


# --- by a schedule --------------------------------------------------------------------------------


def scheduled(loss: RowLoss, **schedules: Schedule) -> RowLoss:
    """Turn a loss with hyperparameters into one whose hyperparameters are functions of the step.

        scheduled(loss, delta=s)(*data, step=k, ...) = loss(*data, delta=s(k), ...)

    The step is an explicit argument, traced: one compiled function serves all steps, nothing is kept
    between calls, and a run that is resumed needs only its step again. It passes through `jl.mean` and
    `adapters.optax.train_step` as any option does: `step(params, opt_state, *batch, step=k)`.

        objective = jl.mean(scheduled(jl.robust.huber, delta=optax.linear_schedule(10.0, 1.0, 1000)))
        objective(predictions, targets, step=k)

    Args:
        loss: any row loss.
        **schedules: for each hyperparameter its schedule, Optax's or any function of the step in terms of
            `jax.numpy`.

    Returns:
        The loss, with `step` for an option in place of those scheduled; all else as before, and a fused
        loss is still fused. A loss that takes `step` itself is given it, so schedules may be put on one by
        one. Make it once, outside the loop: what `jl.mean` compiles for it is kept, as for any loss of ours.

    Raises:
        TypeError: a schedule that is not callable; (of the result) no step, or a scheduled option given.
        ValueError: a hyperparameter that the loss does not have; (of the result) a step with a shape, and a
            value outside the loss's range, which under `jax.jit` makes the loss NaN.

    """
    who = f"scheduled({name_of(loss)})"
    require_options(who, loss, schedules)
    for name, schedule in schedules.items():
        if not callable(schedule):
            msg = (
                f"{who}: `{name}` must be a schedule, a function of the step, got {schedule!r}; give a "
                "constant to the loss when it is called."
            )
            raise TypeError(msg)

    takes_step = "step" in parameters(loss)  # as one that is scheduled already does

    def at_step(of: RowLoss) -> RowLoss:
        def call(*data: Any, step: ArrayLike | None = None, **options: Any) -> Array:
            _refuse_given(who, schedules, options)
            at = _one_step(who, step)
            values = {name: schedule(at) for name, schedule in schedules.items()}
            return of(*data, **options, **({"step": at} if takes_step else {}) | values)

        return call

    return dressed(loss, at_step, unranged=schedules, removed=schedules, added="step")


def _one_step(who: str, step: ArrayLike | None) -> Array:
    if step is None:
        msg = f"{who}: `step` must be given, the number of updates so far; pass `step=k`."
        raise TypeError(msg)
    if jnp.shape(step) != ():
        msg = f"{who}: `step` must be one number, got shape {jnp.shape(step)}; one step serves all rows."
        raise ValueError(msg)
    return jnp.asarray(step)


def _refuse_given(who: str, schedules: Iterable[str], options: Mapping[str, Any]) -> None:
    for name in schedules:
        if name in options:
            msg = f"{who}: `{name}` must not be given, for its schedule sets it; drop it, or the schedule."
            raise TypeError(msg)


# --- learned --------------------------------------------------------------------------------------


def learned(loss: RowLoss, **ranges: Bounds) -> Learned:
    """Make hyperparameters of a loss into parameters to train, each kept inside its range.

        v = l σ(−w) + h σ(w)   in (l, h),    ∂v/∂w = (h − l) σ(w) σ(−w)
        v = l + log(1 + e^w)   in (l, ∞),    ∂v/∂w = σ(w)
        v = h − log(1 + e^−w)  in (−∞, h),   ∂v/∂w = σ(−w)

    and v = w without bounds. w is any real number, the *raw* parameter an optimizer moves. The value lies
    strictly inside at every float w, also where rounding would have put it on an end; its derivative
    is the true one there too, so that an optimizer can bring it back.

        alive = learned(jl.robust.adaptive_nll, alpha=(0, 2), scale=(1e-3, None))
        params = {"model": model, "loss": alive.init(scale=50.0)}
        jl.mean(alive.loss)(predictions, targets, **params["loss"])
        alive.values(params["loss"])["alpha"]

    Learn only what the loss makes pay for itself: the normaliser in a negative log-likelihood does, but
    the delta of `robust.huber` would simply shrink.

    Args:
        loss: any row loss.
        **ranges: for each hyperparameter its bounds (low, high), None for none.

    Returns:
        `Learned(init, loss, values)`. `init` takes start values by name, the loss's defaults for others; a
        start value with a shape, one a column say, gives a raw parameter of that shape. Half precision is
        computed in float32.

    Raises:
        TypeError: a range that is not a pair; (of the loss) a raw parameter missing or not floating.
        ValueError: a range that is empty or leaves the loss's own; a hyperparameter that the loss does not
            have; (of `init`) a start value that is not strictly inside, or none and no default.

    Reference: Barron (2019), A General and Adaptive Robust Loss Function, CVPR, and its code: the shape by a
    sigmoid, the scale by a softplus.
    """
    who = f"learned({name_of(loss)})"
    require_options(who, loss, ranges)
    for name, bounds in ranges.items():
        _require_range(who, loss, name, bounds)

    def init(**start: ArrayLike) -> dict[str, Array]:
        refuse_unknown(who, ranges, start)
        defaults = _defaults(loss) | start
        return {name: _raw(who, name, defaults.get(name), ranges[name]) for name in ranges}

    def values(raw: Mapping[str, ArrayLike]) -> dict[str, Array]:
        return {name: _value(who, name, raw.get(name), bounds) for name, bounds in ranges.items()}

    def at_values(of: RowLoss) -> RowLoss:
        return lambda *data, **options: of(*data, **(options | values(options)))

    return Learned(init, dressed(loss, at_values, unranged=ranges), values)


def _value(who: str, name: str, raw: ArrayLike | None, bounds: Bounds) -> Array:
    """What a raw parameter stands for."""
    if raw is None:
        msg = f"{who}: `{name}` must be its raw parameter; pass `**params`, with params from `init()`."
        raise TypeError(msg)
    w = jnp.asarray(raw)
    if not jnp.issubdtype(w.dtype, jnp.floating):
        msg = f"{who}: `{name}` must be floating point, got {w.dtype}; pass what `init()` returns."
        raise TypeError(msg)
    w = w.astype(compute_dtype(w))
    low, high = bounds
    if low is not None and high is not None:
        return _held(low * sigmoid(-w) + high * sigmoid(w), bounds)
    if low is not None:
        return _held(low + softplus(w), bounds)
    if high is not None:
        return _held(high - softplus(-w), bounds)
    return w


def _held(value: Array, bounds: Bounds) -> Array:
    """`value`, moved strictly inside its bounds, with the derivative it had.

    A clip's derivative is zero at the ends: a parameter that rounding has put there would never leave.
    """
    least, most = _inside(bounds, value.dtype)

    @jax.custom_jvp
    def hold(value: Array) -> Array:
        return jnp.clip(value, least, most)

    hold.defjvp(lambda primals, tangents: (hold(*primals), *tangents))
    return hold(value)


def _inside(bounds: Bounds, dtype: Any) -> tuple[Any, Any]:
    """The least and the largest number of a dtype that lie inside, and that no machine flushes to zero."""
    limits = np.finfo(dtype)

    def next_to(end: float | None, towards: float) -> Any:
        if end is None:
            return np.copysign(limits.max, -towards).astype(dtype)
        near = np.nextafter(np.asarray(end, dtype), np.asarray(towards, dtype))
        return near if abs(near) >= limits.tiny else np.copysign(limits.tiny, towards).astype(dtype)

    low, high = bounds
    return next_to(low, math.inf), next_to(high, -math.inf)


def _raw(who: str, name: str, start: Any, bounds: Bounds) -> Array:
    """The raw parameter of a start value, in the default floating dtype."""
    if start is None:
        msg = (
            f"{who}: `{name}` must have a start value, for the loss has no default; pass `init({name}=...)`."
        )
        raise ValueError(msg)
    value, dtype = np.asarray(start, np.float64), jnp.result_type(float)
    low, high = bounds
    inside = (value > (-math.inf if low is None else low)) & (value < (math.inf if high is None else high))
    if not np.all(inside):
        msg = (
            f"{who}: `{name}` must start strictly inside {_words(bounds)}, got {start}; give a value inside."
        )
        raise ValueError(msg)
    if low is not None and high is not None:
        raw = _log_ratio(value / 2 - low / 2, high / 2 - value / 2)  # halves, for the width may overflow
    elif low is not None:
        raw = _inverse_softplus(value - low)
    elif high is not None:
        raw = -_inverse_softplus(high - value)
    else:
        raw = value
    return jnp.asarray(raw, dtype)


def _log_ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """log(a/b) for a, b > 0: of the quotient, for two logarithms cancel, unless that overflows."""
    with np.errstate(over="ignore", under="ignore"):
        ratio = a / b
    usable = (ratio > 1e-300) & (ratio < 1e300)
    return np.where(usable, np.log(np.where(usable, ratio, 1.0)), np.log(a) - np.log(b))


def _inverse_softplus(y: np.ndarray) -> np.ndarray:
    """log(e^y − 1) for y > 0, by the better of two forms: one cancels near zero, one overflows."""
    small = np.minimum(y, 1.0)
    return np.where(y < 1, np.log(np.expm1(small)), y + np.log1p(-np.exp(-np.maximum(y, 1.0))))


def _require_range(who: str, loss: RowLoss, name: str, bounds: Any) -> None:
    if not isinstance(bounds, tuple) or len(bounds) != 2:
        msg = f"{who}: `{name}` must be a pair (low, high), None for no bound, got {bounds!r}; give a pair."
        raise TypeError(msg)
    low, high = (end if end is None else float(end) for end in bounds)
    ends = [end for end in (low, high) if end is not None]
    if not all(map(math.isfinite, ends)) or ends != sorted(set(ends)):
        msg = (
            f"{who}: `{name}` must have finite bounds, low < high, got {_words(bounds)}; write None for none."
        )
        raise ValueError(msg)
    card = card_of(loss)
    own = card.options.get(name) if card else None
    lowest, highest = (getattr(own, "low", -math.inf), getattr(own, "high", math.inf))
    if (-math.inf if low is None else low) < lowest or (math.inf if high is None else high) > highest:
        msg = f"{who}: `{name}` must stay in {own}, got the range {_words(bounds)}; give one inside."
        raise ValueError(msg)


def _words(bounds: Bounds) -> str:
    low, high = bounds
    return f"({'−∞' if low is None else f'{low:g}'}, {'∞' if high is None else f'{high:g}'})"


def _defaults(loss: RowLoss) -> dict[str, Any]:
    return {name: p.default for name, p in parameters(loss).items() if p.default is not p.empty}
