"""What an argument may be: one function a kind of input, and the only worded errors.

Shapes and dtypes are checked when a loss is traced. What only values reveal is NaN in the row that
holds it, and an error in words under `jl.checked`.
"""

import contextvars
import dataclasses
import functools
import math
from typing import Any, NoReturn

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import checkify
from jax.typing import ArrayLike

from jaxloss import numerics


@dataclasses.dataclass(frozen=True)
class Interval:
    """Real numbers between two bounds, each of them in or out."""

    low: float = -math.inf
    high: float = math.inf
    closed_low: bool = False
    closed_high: bool = False

    def holds(self, x: Any) -> Any:
        """Whether x lies inside, elementwise, for NumPy and JAX alike. NaN lies in no interval."""
        above = x >= self.low if self.closed_low or self.low == -math.inf else x > self.low
        below = x <= self.high if self.closed_high or self.high == math.inf else x < self.high
        return above & below

    def margin(self, x: Array) -> Array:
        """How far inside x lies, in arithmetic alone: negative just where x is outside."""
        if (self.low, self.high) == (0, 1):
            return x - x * x
        # The first number inside an open end is as good as the last outside.
        low = self.low if self.closed_low else _next_normal(self.low, np.inf, x.dtype)
        high = self.high if self.closed_high else _next_normal(self.high, -np.inf, x.dtype)
        ends = [x - low] if self.low > -math.inf else []
        ends += [high - x] if self.high < math.inf else []
        return functools.reduce(jnp.minimum, ends)

    def __str__(self) -> str:
        left, right = "[" if self.closed_low else "(", "]" if self.closed_high else ")"
        low, high = (f"{x:g}".replace("inf", "∞") for x in (self.low, self.high))
        return f"{left}{low}, {high}{right}"


def _next_normal(end: float, towards: float, dtype: Any) -> Any:
    """The next number that no machine flushes to zero."""
    return np.nextafter(end, towards, dtype=dtype) if end else np.copysign(np.finfo(dtype).tiny, towards)


@dataclasses.dataclass(frozen=True)
class Counts:
    """The whole numbers from zero on."""

    def holds(self, x: Any) -> Any:
        """Whether x is one of them, elementwise, for NumPy and JAX alike."""
        return (x >= 0) & (x % 1 == 0)

    def margin(self, x: Array) -> Array:
        """Minus the distance to the whole number below, or to zero: negative just where x is none."""
        return jnp.minimum(x, jnp.floor(x) - x)

    def __str__(self) -> str:
        return "{0, 1, 2, ...}"


@dataclasses.dataclass(frozen=True)
class Choice:
    """A few numbers, such as the labels −1 and +1."""

    values: tuple[float, ...]

    def holds(self, x: Any) -> Any:
        """Whether x is one of them, elementwise."""
        return functools.reduce(
            lambda found, value: found | (x == value), self.values[1:], x == self.values[0]
        )

    def margin(self, x: Array) -> Array:
        """Minus the distance to the nearest of them: negative just where x is none."""
        return -functools.reduce(jnp.minimum, [jnp.abs(x - value) for value in self.values])

    def __str__(self) -> str:
        return "{" + ", ".join(f"{value:g}" for value in self.values) + "}"


@dataclasses.dataclass(frozen=True)
class Named:
    """A domain that is not a set of numbers, said in words."""

    words: str

    def __str__(self) -> str:
        return self.words


Domain = Interval | Counts | Choice | Named

REAL = Interval()
POSITIVE = Interval(low=0.0)
NON_NEGATIVE = Interval(low=0.0, closed_low=True)
UNIT = Interval(0.0, 1.0, closed_low=True, closed_high=True)
HALF_OPEN_UNIT = Interval(0.0, 1.0, closed_low=True)
ABOVE_MINUS_ONE = Interval(low=-1.0)
COUNTS = Counts()
SIGNS = Choice((-1.0, 1.0))
CLASSES = Named("class ids in [0, K), or distributions over the K classes")
DISTRIBUTION = Named("a distribution over the last axis")
LOG_DISTRIBUTION = Named("the logarithms of a distribution over the last axis")

# How far from 1 the sum of given probabilities may be: rounding in bfloat16, not another scale.
_SUM_SLACK = 1e-2


# --- dtypes -----------------------------------------------------------------------------------


def compute_dtype(*arrays: ArrayLike) -> Any:
    """float64 if any array is, float32 otherwise: half precision is never computed in."""
    wide = any(jnp.result_type(array) == jnp.float64 for array in arrays)
    return jnp.dtype(jnp.float64 if wide else jnp.float32)


def _refuse(who: str, name: str, wanted: str, got: str, fix: str) -> NoReturn:
    msg = f"{who}: `{name}` must be {wanted}, got {got}; {fix}."
    raise TypeError(msg)


def _real(who: str, **arrays: ArrayLike) -> list[Array]:
    """Predictions: floating point as they come, computed in float32 at least."""
    converted = [jnp.asarray(array) for array in arrays.values()]
    for name, array in zip(arrays, converted, strict=True):
        if not jnp.issubdtype(array.dtype, jnp.floating):
            _refuse(
                who,
                name,
                "floating point",
                str(array.dtype),
                "convert it with `.astype(jnp.float32)`",
            )
    return converted


def _number(who: str, name: str, array: ArrayLike) -> Array:
    """Targets: any real number; integers and booleans are converted later."""
    array = jnp.asarray(array)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        _refuse(who, name, "real", str(array.dtype), "split it into real and imaginary parts")
    return array


# --- shapes -----------------------------------------------------------------------------------


def _same_shape(who: str, **arrays: Array) -> None:
    """Refuse to broadcast: two shapes that differ are a mistake far more often than a wish."""
    (first, a), (second, b) = arrays.items()
    if a.shape != b.shape:
        fix = _likely_fix(first, a, second, b)
        msg = f"{who}: `{first}` {a.shape} and `{second}` {b.shape} must have one shape; {fix}."
        raise ValueError(msg)


def _likely_fix(first: str, a: Array, second: str, b: Array) -> str:
    if a.shape == (*b.shape, 1):
        return f"squeeze the last axis of `{first}`"
    if b.shape == (*a.shape, 1):
        return f"squeeze the last axis of `{second}`"
    if a.size == b.size:
        return f"reshape `{second}` to {a.shape}"
    return "broadcast one of them with `jnp.broadcast_to`"


def _with_items(who: str, name: str, array: Array, items: str) -> None:
    if array.ndim == 0 or array.shape[-1] == 0:
        msg = (
            f"{who}: `{name}` must have shape [*rows, {items}], got {array.shape}; {items} are the last axis."
        )
        raise ValueError(msg)


# --- values -----------------------------------------------------------------------------------


def poison(who: str, name: str, array: Array, valid: Array, wanted: object) -> Array:
    """`array`, NaN with NaN derivative where not `valid`; under `jl.checked` an error names the first."""
    _report(who, name, array, valid, wanted)
    return array * jnp.where(valid, jnp.ones((), array.dtype), jnp.nan)


# Whether a loss is being traced under `jl.checked`. Outside it no check is left in the program: a
# check is an effect, and a compiled call with an effect takes ten times as long to dispatch.
CHECKING: contextvars.ContextVar[bool] = contextvars.ContextVar("checking", default=False)


def _report(who: str, name: str, array: Array, valid: Array, wanted: object) -> None:
    if not CHECKING.get() or valid.size == 0:
        return
    first = jnp.argmin(valid.reshape(-1))
    wanted = str(wanted).replace("{", "{{").replace("}", "}}")
    message = f"{who}: `{name}` must be in {wanted}, got {{value}} at flat index {{index}}"
    checkify.check(jnp.all(valid), message, value=array.reshape(-1)[first], index=first)


def spoil_outside(who: str, name: str, losses: Array, array: Array, domain: Domain) -> Array:
    """The losses, NaN with NaN derivative where the argument of that row is outside its domain."""
    if isinstance(domain, Named) or domain == REAL:
        return losses
    array = array.astype(losses.dtype)
    _report(who, name, array, domain.holds(array), domain)
    margin = domain.margin(array)
    items = tuple(range(losses.ndim, array.ndim))
    return numerics.spoil(losses, jnp.min(margin, axis=items) if items else margin)


# --- the kinds of input -----------------------------------------------------------------------


def paired(who: str, **arrays: ArrayLike) -> tuple[Array, Array]:
    """Two arrays of one shape, predictions first, `[*rows]`: regression and its like."""
    (first, a), (second, b) = arrays.items()
    (predictions,), targets = _real(who, **{first: a}), _number(who, second, b)
    _same_shape(who, **{first: predictions, second: targets})
    dtype = compute_dtype(predictions, targets)
    return predictions.astype(dtype), targets.astype(dtype)


def alike(who: str, **arrays: ArrayLike) -> list[Array]:
    """Parameters, floating point, and last the targets, all of one shape `[*rows]`: likelihoods."""
    *names, last = arrays
    parameters = _real(who, **{name: arrays[name] for name in names})
    given = [*parameters, _number(who, last, arrays[last])]
    for name, array in zip((*names[1:], last), given[1:], strict=True):
        _same_shape(who, **{names[0]: given[0], name: array})
    dtype = compute_dtype(*given)
    return [array.astype(dtype) for array in given]


def vectors(who: str, **arrays: ArrayLike) -> tuple[Array, Array]:
    """Two arrays of one shape `[*rows, D]` whose last axis is one vector a row."""
    first, second = paired(who, **arrays)
    _with_items(who, next(iter(arrays)), first, "features")
    return first, second


def margins(who: str, **arrays: ArrayLike) -> tuple[Array, Array]:
    """Scores and labels of one shape, `[*rows]`; labels are −1 and +1, which flags are not."""
    _, second = arrays
    if jnp.result_type(arrays[second]) == jnp.bool_:
        _refuse(who, second, "−1 or +1", "bool", f"pass `2 * {second}.astype(int) - 1`")
    return paired(who, **arrays)


def classified(
    who: str, ignore_index: int | Array | None, shared: tuple[Any, ...], **arrays: ArrayLike
) -> tuple[Array, Array, Array | None]:
    """Logits `[*rows, K]`, with class ids `[*rows]` (integer) or distributions `[*rows, K]` (floating).

    Ids come back as they are, out of range or not; distributions in the logits' dtype, NaN where a
    row is none. Third come the rows to ignore, None without `ignore_index`: no derivative
    reaches their logits, nor, through them, the hyperparameters that the rows share.
    """
    (first, a), (second, b) = arrays.items()
    (logits,), labels = _real(who, **{first: a}), _number(who, second, b)
    _with_items(who, first, logits, "classes")
    if labels.dtype == jnp.bool_:
        fix = "a one-hot row becomes a distribution with `.astype(jnp.float32)`"
        _refuse(who, second, "class ids or distributions", "bool", fix)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        _same_shape(who, **{first: logits, second: labels})
        dtype = compute_dtype(logits, labels)
        return logits.astype(dtype), _distribution(who, second, labels.astype(dtype)), None
    _check_ids(who, first, logits, second, labels)
    logits, ignored = logits.astype(compute_dtype(logits)), None
    if ignore_index is not None:
        ignored = labels == ignore_index
        labels, absent = jnp.where(ignored, 0, labels), ignored[..., None]
        # Only what rows share needs other logits there: a select stores them all on some backends.
        traced = any(isinstance(option, Array) for option in shared)
        logits = jnp.where(absent, 0, logits) if traced else numerics.cut(logits, ~absent)
    classes = logits.shape[-1]
    _report(who, second, labels, (labels >= 0) & (labels < classes), f"[0, {classes})")
    return logits, labels, ignored


def has_ids(scores: Array, labels: Array) -> bool:
    """Whether the labels are class ids, one a row, rather than distributions."""
    return labels.ndim < scores.ndim


def each_class(who: str, name: str, option: ArrayLike | None, scores: Array) -> Array | None:
    """An option given for each class, `[K]` or the scores' shape, in the scores' shape."""
    return None if option is None else on_trailing_axes(who, name, option, scores)


def on_trailing_axes(who: str, name: str, option: ArrayLike, data: Array) -> Array:
    """An option that is a scalar or stands against the trailing axes of the data, broadcast to it."""
    option = jnp.asarray(option)
    if option.shape != data.shape[data.ndim - option.ndim :] or option.ndim > data.ndim:
        msg = (
            f"{who}: `{name}` {option.shape} must be a scalar or have the shape of the trailing axes "
            f"of the data {data.shape}; reshape it."
        )
        raise ValueError(msg)
    return jnp.broadcast_to(option, data.shape)


def is_off(option: float | Array) -> bool:
    """Whether an option is known, when traced, to be zero: then its term need not be computed."""
    return isinstance(option, (int, float)) and option == 0


def _check_ids(who: str, first: str, logits: Array, second: str, labels: Array) -> None:
    if labels.shape == logits.shape:
        _refuse(
            who,
            second,
            f"class ids {logits.shape[:-1]} or floating distributions {logits.shape}",
            f"{labels.dtype} {labels.shape}",
            "convert one-hot rows with `.astype(jnp.float32)`",
        )
    rows = logits.shape[:-1]
    if labels.shape != rows:
        fix = "squeeze its last axis" if labels.shape == (*rows, 1) else "give one id a row"
        wanted = f"the rows' shape {rows} of `{first}` {logits.shape}"
        msg = f"{who}: `{second}` {labels.shape} must have {wanted}; {fix}."
        raise ValueError(msg)


_A_DISTRIBUTION = "distributions: non-negative, each row summing to 1"


def _distribution(who: str, name: str, array: Array) -> Array:
    """`array`, NaN in whole rows that are negative somewhere or do not sum to 1."""
    return poison(who, name, array, _are_distributions(array), _A_DISTRIBUTION)


def _are_distributions(shares: Array) -> Array:
    """Whether each entry stands in a row that is a distribution."""
    sums_to_one = jnp.abs(jnp.sum(shares, axis=-1, keepdims=True) - 1) <= _SUM_SLACK
    valid = sums_to_one & jnp.all(shares >= 0, axis=-1, keepdims=True)
    return jnp.broadcast_to(valid, shares.shape)


def distributions(who: str, *, logarithms: bool = False, **arrays: ArrayLike) -> tuple[Array, Array]:
    """Two distributions `[*rows, K]`, the first one's logarithms where `logarithms` says so."""
    first, second = arrays
    predictions, targets = vectors(who, **arrays)
    targets = _distribution(who, second, targets)
    if not logarithms:
        return _distribution(who, first, predictions), targets
    valid, wanted = _are_distributions(jnp.exp(predictions)), "log-probabilities whose exponentials sum to 1"
    return poison(who, first, predictions, valid, wanted), targets
