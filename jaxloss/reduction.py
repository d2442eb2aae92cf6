"""The only place where rows become a number: `mean`, `sum` and `partial_mean` of any row loss."""

import dataclasses
import functools
import inspect
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxloss._contracts import CHECKING, Named, compute_dtype, start_with_rows
from jaxloss._loss import Card, Fusion, card_of, check_options, compiled, fusion_of, name_of
from jaxloss._removed import KeptRow, beside, cut_off, inside, is_differentiable, kept_row
from jaxloss.numerics import divide, summed

RowLoss = Callable[..., Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PartialMean:
    """A mean not yet divided: Σwℓ and Σw over some of the rows.

    `a + b` merges microbatches, `.psum(axis_name)` merges devices, `.value()` divides once. A mean of
    means is wrong wherever the parts hold different weights; a sum of these never is.
    """

    total: Array
    weight: Array

    def __add__(self, other: "PartialMean") -> "PartialMean":
        return PartialMean(self.total + other.total, self.weight + other.weight)

    def psum(self, axis_name: str | Sequence[str]) -> "PartialMean":
        """The same over all devices (or vmapped examples) along the named axis."""
        return PartialMean(lax.psum(self.total, axis_name), lax.psum(self.weight, axis_name))

    def value(self) -> Array:
        """Σwℓ / Σw; 0 with zero gradient where nothing is kept."""
        return divide(self.total, self.weight)


def mean(loss: RowLoss) -> RowLoss:
    """Turn a row loss into its mean over rows, a scalar to differentiate.

        mean(loss)(predictions, targets, where=mask, weights=w, ...) = Σ w ℓ / Σ w   over kept rows
        ∂/∂ℓ_i = w_i / Σ w,    ∂/∂w_i = (ℓ_i − mean) / Σ w

    Any function of the form `loss(*data, **options)` will do, whose data are arrays that start with
    the rows' axes (or are scalars) and whose result is one value a row: ours, Optax's, a lambda.
    Two calls of `mean(f)` share one compiled function, which lives as long as f does.

    Args of the result:
        *data: what the loss takes, positionally or by name.
        where: bool, the rows to keep; the rows' shape, or of size 1 along some of its axes. A removed
            row may hold NaN or inf in data or weights: no value and no derivative sees it. A loss with
            a `where` of its own is given this one, and says what it removes.
        weights: real, one a row, shaped as `where`.
        **options: the loss's own; strings, flags and callables are static, numbers and arrays traced.

    Returns of the result:
        A scalar, in float32 at least; 0 with zero gradient where no row is kept.

    Raises:
        TypeError: a mask that is not bool, weights that are not real, data that are not arrays.
        ValueError: a mask, weights or data whose shape does not fit the rows'.

    """
    return _reduced("mean", loss)


def sum(loss: RowLoss) -> RowLoss:  # noqa: A001 - the field's name for it, in a namespace
    """Turn a row loss into its sum over rows: Σ w ℓ over kept rows. All else as for `mean`."""
    return _reduced("sum", loss)


def partial_mean(loss: RowLoss) -> Callable[..., PartialMean]:
    """Turn a row loss into the `PartialMean` of its rows, to be added up before it is divided.

    All else as for `mean`; `mean(f)(...)` is `partial_mean(f)(...).value()`.
    """
    return _reduced("partial_mean", loss)


# How to mend data whose rows are others.
_FIX = "give all data one leading shape, and close over parameters"

_FINISH: Mapping[str, Callable[[PartialMean], Any]] = {
    "mean": PartialMean.value,
    "sum": lambda partial: partial.total,
    "partial_mean": lambda partial: partial,
}


class _Remembered(NamedTuple):
    """What a loss has been turned into, and the loss's own compiled form of it."""

    run: Callable[..., Any]
    made: Callable[[], Callable[..., Any] | None]


# One compiled function a loss, which reaches the loss through a weak reference: a loss that nobody
# else holds is freed, and its compiled function with it.
_MEMO: Mapping[str, weakref.WeakKeyDictionary[RowLoss, _Remembered]] = {
    kind: weakref.WeakKeyDictionary() for kind in _FINISH
}


def _reduced(kind: str, loss: RowLoss) -> Callable[..., Any]:
    """The same object for as long as somebody holds it (one of ours: always), so that `jax.jit` knows it."""
    if isinstance(loss, functools.partial) and _facts_of(loss.func):
        # What is known of the loss needs its options: which rows an `ignore_index` leaves out.
        return functools.partial(_reduced(kind, loss.func), *loss.args, **loss.keywords)
    try:
        remembered = _MEMO[kind].get(loss)
        if remembered and (made := remembered.made()):
            return made
        run = remembered.run if remembered else _compile(kind, weakref.ref(loss))
        reduced = _wrapped(loss, run)
        # Ours live as long as the library does; anybody else's must not be held by what it became.
        made = weakref.ref(reduced) if _facts_of(loss) is None else lambda: reduced
        _MEMO[kind][loss] = _Remembered(run, made)
    except TypeError:  # not hashable or not weakly referable: nothing to remember it by
        reduced = _wrapped(loss, _compile(kind, lambda: loss))
    return reduced


def _wrapped(loss: RowLoss, run: Callable[..., Any]) -> Callable[..., Any]:
    """`run` behind the check of concrete hyperparameters; it holds the loss, which `run` does not."""
    facts = _facts_of(loss)

    @functools.wraps(loss, updated=())
    def reduced(*data: ArrayLike, **options: Any) -> Any:
        if facts is not None and options:
            check_options(facts.name, facts.options, options)
        return run(*data, **options)

    return reduced


def _facts_of(loss: RowLoss) -> Card | Fusion | None:
    """What is known of a loss of ours; None for anybody else's."""
    return card_of(loss) or fusion_of(loss)


def _compile(kind: str, loss: Callable[[], Any]) -> Callable[..., Any]:
    def run(*data: Any, where: Any = None, weights: Any = None, **options: Any) -> Any:
        reduce = _partial_mean if fusion_of(loss()) is None else _fused
        return _FINISH[kind](reduce(kind, loss(), data, options, where, weights))

    return compiled(run)


def _partial_mean(
    kind: str,
    loss: RowLoss,
    data: tuple[Any, ...],
    options: dict[str, Any],
    where: Any,
    weights: Any,
) -> PartialMean:
    card = card_of(loss)
    who = f"{kind}({name_of(loss)})"
    data, options = _positional(loss, data, options)
    if card is not None and card.masks_itself:
        options, where = options | {"where": where}, None
    kept = _kept(who, loss, data, options, where)
    stand_in, row = None, None
    if kept is not None and kept.size:
        data, stand_in, row = _without_removed(card, data, options, kept)
    static = {name: value for name, value in options.items() if not isinstance(value, Array)}
    traced = {name: value for name, value in options.items() if name not in static}

    def rows(data: tuple[Array, ...], traced: dict[str, Array]) -> Array:
        losses = loss(*data, **static, **traced)
        start_with_rows(who, data, losses.shape, _FIX)
        return losses.astype(compute_dtype(losses))

    shape = jax.eval_shape(rows, data, traced)
    weights, weight = _weights_of(who, weights, kept, shape)

    def weighted(
        data: tuple[Array, ...], traced: dict[str, Array], kept: Any, row: Any, weights: Any
    ) -> Array:
        losses = rows(*stand_in(data, traced, kept, row)) if stand_in else rows(data, traced)
        losses = losses if weights is None else losses * weights
        return losses if kept is None else jnp.where(kept, losses, 0)

    # One number in, one loss out: cheaper to compute twice than to store in between. Of an item, whose own
    # sums the derivative needs as well, it is not. Nor may a function be among the options: what that closes
    # over has its derivative only where no rule stands before it.
    alike = card is not None and all(array.ndim == shape.ndim for array in data)
    twice = alike and not any(map(callable, options.values()))
    total = summed(weighted) if twice else lambda *args: jnp.sum(weighted(*args))
    return PartialMean(total(data, traced, kept, row, weights), weight)


def _fused(
    kind: str,
    loss: RowLoss,
    data: tuple[Any, ...],
    options: dict[str, Any],
    where: Any,
    weights: Any,
) -> PartialMean:
    """Σwℓ and Σw of a loss that sums its rows itself, in the pass in which it computes them."""
    fusion = cast("Fusion", fusion_of(loss))
    who = f"{kind}({fusion.name})"
    data, options = _positional(loss, data, options)
    losses = jax.eval_shape(lambda *data: loss(*data, **options), *data)
    if where is not None:
        where = _mask(who, where, losses.shape)
    own = {"where": where} if fusion.masks_itself else {}
    kept = fusion.counts(*data, **options, **own) if fusion.counts else None
    if not fusion.masks_itself:
        where = kept = where if kept is None else kept if where is None else where & kept
    dtype = losses.dtype
    weights = jnp.ones(losses.shape, dtype) if weights is None else _weights(who, weights, losses)
    weights = weights if kept is None else jnp.where(kept, weights, 0)
    weight = jnp.sum(weights)
    if kind == "mean":
        # Each row by its share: no gradient as large as the parameters is to be divided afterwards.
        weights, weight = divide(weights, weight), jnp.ones((), dtype)
    return PartialMean(fusion.weighted_total(*data, weights=weights, where=where, **options), weight)


def _kept(
    who: str, loss: RowLoss, data: tuple[Array, ...], options: dict[str, Any], where: Any
) -> Array | None:
    """The rows to keep: those of `where` that the loss's own options count; None for all."""
    card = card_of(loss)
    counted = card.counts(*data, **options) if card and card.counts else None
    if where is None:
        return counted
    rows = jax.eval_shape(lambda *data: loss(*data, **options), *data).shape
    start_with_rows(who, data, rows, _FIX)
    mask = _mask(who, where, rows)
    return mask if counted is None else mask & counted


def _without_removed(
    card: Card | None, data: tuple[Array, ...], options: dict[str, Any], kept: Array
) -> tuple[tuple[Array, ...], Callable[..., Any] | None, KeptRow | None]:
    """The data, cut off where a row is removed; or whole, with what is to stand in there and of which row."""
    # A loss of ours shares nothing among its rows but its hyperparameters.
    # Under `checked` a removed row must not be found outside the domain; where rows are single numbers
    # a stand-in fuses better than the cut.
    small = all(array.ndim <= kept.ndim for array in data)
    numbers = _numbers_inside(card) if card is not None and small else None
    if card is not None and numbers:
        ranges = {name: interval.inside for name, interval in card.options.items()}
        return data, functools.partial(inside, domains=numbers, ranges=ranges), None
    if card is None or small or CHECKING.get() or any(map(is_differentiable, options.values())):
        return data, beside, kept_row(kept)
    return cut_off(data, kept), None, None


def _numbers_inside(card: Card) -> list[float] | None:
    """A number of each argument's domain; None where one is no set of numbers, or ends at an option."""
    fixed = [d for d in card.domain.values() if not isinstance(d, Named) and not getattr(d, "up_to", None)]
    return [domain.inside for domain in fixed] if len(fixed) == len(card.domain) else None


def _weights_of(
    who: str, weights: Any, kept: Array | None, losses: jax.ShapeDtypeStruct
) -> tuple[Array | None, Array]:
    """The weights of the rows, None where all that are kept weigh 1, and what they weigh together."""
    if weights is not None:
        weights = _weights(who, weights, losses)
        weights = weights if kept is None else jnp.where(kept, weights, 0)
        return weights, jnp.sum(weights)
    if kept is not None:
        return None, jnp.sum(kept, dtype=losses.dtype)
    return None, jnp.asarray(losses.size, losses.dtype)


# --- what the caller gave ---------------------------------------------------------------------


def _positional(
    loss: RowLoss, data: tuple[Any, ...], options: dict[str, Any]
) -> tuple[tuple[Array, ...], dict[str, Any]]:
    """Data given by name join those given by position, as the loss's signature orders them."""
    options = dict(options)
    given = list(data)
    for name in _positional_names(loss)[len(given) :]:
        if options.get(name) is None:
            break
        given.append(options.pop(name))
    while given and given[-1] is None:  # an argument that may be left out, and is
        given.pop()
    return tuple(jnp.asarray(array) for array in given), options


def _positional_names(loss: RowLoss) -> list[str]:
    try:
        parameters = inspect.signature(loss).parameters.values()
    except (TypeError, ValueError):  # a callable without a signature
        return []
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]


def _mask(who: str, where: Any, rows: tuple[int, ...]) -> Array:
    mask = jnp.asarray(where)
    if mask.dtype != jnp.bool_:
        msg = f"{who}: `where` must be bool, got {mask.dtype}; pass `mask != 0`."
        raise TypeError(msg)
    return _over_rows(who, "where", mask, rows)


def _weights(who: str, weights: Any, losses: Array | jax.ShapeDtypeStruct) -> Array:
    weights = jnp.asarray(weights)
    if not (jnp.issubdtype(weights.dtype, jnp.floating) or jnp.issubdtype(weights.dtype, jnp.integer)):
        fix = "pass a mask as `where`" if weights.dtype == jnp.bool_ else "pass real numbers"
        msg = f"{who}: `weights` must be real, got {weights.dtype}; {fix}."
        raise TypeError(msg)
    return _over_rows(who, "weights", weights.astype(losses.dtype), losses.shape)


def _over_rows(who: str, name: str, array: Array, rows: tuple[int, ...]) -> Array:
    """Broadcast along axes of size 1, and along no others."""
    fits = array.ndim == len(rows) and all(a in (1, b) for a, b in zip(array.shape, rows, strict=True))
    if not fits:
        fix = (
            "the loss returns one number, not one a row"
            if rows == ()
            else "size-1 axes broadcast, others must match"
        )
        msg = f"{who}: `{name}` {array.shape} must have the rows' shape {rows}; {fix}."
        raise ValueError(msg)
    return jnp.broadcast_to(array, rows)
