"""What an argument may be: one function a kind of input, and the only worded errors.

Shapes and dtypes are checked when a loss is traced. What only values reveal is NaN in the row that
holds it, and an error in words under `jl.checked`.
"""

import contextvars
import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, NoReturn

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.experimental import checkify
from jax.typing import ArrayLike
from jaxtyping import Float, Int

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
OPEN_UNIT = Interval(0.0, 1.0)
HALF_OPEN_UNIT = Interval(0.0, 1.0, closed_low=True)
ABOVE_ZERO_TO_ONE = Interval(0.0, 1.0, closed_high=True)
AT_LEAST_ONE = Interval(low=1.0, closed_low=True)
AT_LEAST_MINUS_ONE = Interval(low=-1.0, closed_low=True)
NON_POSITIVE = Interval(high=0.0, closed_high=True)
ABOVE_MINUS_ONE = Interval(low=-1.0)
COUNTS = Counts()
SIGNS = Choice((-1.0, 1.0))
FLAGS = Choice((0.0, 1.0))
CLASSES = Named("class ids in [0, K), or distributions over the K classes")
CLASS_IDS = Named("class ids in [0, K)")
RANKS = Named("ranks in [0, K)")
DISTRIBUTION = Named("a distribution over the last axis")
LOG_DISTRIBUTION = Named("the logarithms of a distribution over the last axis")
VECTORS = Named("vectors along the last axis")
COSINES = Named("cosines in [−1, 1], up to rounding")
CLASS_IDS = Named("class ids in [0, K)")
CLASSES_OR_ONE_HOT = Named("class ids in [0, K), or one-hot rows over the K classes")
BINARY = Choice((0.0, 1.0))
FOREGROUND = Named("{0, 1}, one a pixel")
COSINE_RANGE = Interval(-1.0, 1.0, closed_low=True, closed_high=True)

TRIANGULAR = Named("lower triangular matrices with a positive diagonal")

# What a categorical loss takes for labels: ids, or a distribution a row.
Labels = Int[ArrayLike, "*rows"] | Float[ArrayLike, "*rows classes"]
LISTS = Named("numbers, one an item of the list")
GROUPS = Named("integer ids: rows of one id belong together")

# How far from 1 the sum of given probabilities may be: rounding in bfloat16, not another scale.
_SUM_SLACK = 1e-2
# How far beyond ±1 the cosine of two rounded unit vectors may be, in half precision.
_COSINE_SLACK = 1e-2


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


def _wide(ids: Array) -> Array:
    """Integer ids in a dtype that counts all classes and knows −1: 8 bits end at class 255."""
    narrow = jnp.issubdtype(ids.dtype, jnp.integer) and ids.dtype.itemsize < 4
    return ids.astype(jnp.int32) if narrow else ids


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


def mixed(who: str, **arrays: ArrayLike) -> list[Array]:
    """Parameters of one shape `[*rows, components]`, and last the targets `[*rows]`."""
    *names, last = arrays
    given = alike(who, **{name: arrays[name] for name in names})
    targets = _number(who, last, arrays[last])
    _real(who, **{name: arrays[name] for name in names})
    _with_items(who, names[0], given[0], "components")
    _of_rows(who, names[0], given[0], last, targets, 1)
    dtype = compute_dtype(*given, targets)
    return [array.astype(dtype) for array in (*given, targets)]


def ensemble(who: str, items: int, **arrays: ArrayLike) -> tuple[Array, Array]:
    """Samples `[*rows, samples, *item]` and targets `[*rows, *item]`, an item of so many axes."""
    (first, a), (second, b) = arrays.items()
    (samples,), targets = _real(who, **{first: a}), _number(who, second, b)
    if samples.ndim <= items or 0 in samples.shape[samples.ndim - 1 - items :]:
        axes = ", ".join(["*rows", "samples", "features"][: 2 + items])
        msg = f"{who}: `{first}` must have shape [{axes}], got {samples.shape}; give each row samples."
        raise ValueError(msg)
    _of_rows(who, first, samples, second, targets, 1 + items)
    dtype = compute_dtype(samples, targets)
    return samples.astype(dtype), targets.astype(dtype)


def _of_rows(who: str, first: str, a: Array, second: str, b: Array, axis: int) -> None:
    """Refuse a second array that has not the first one's shape without the axis so far from the end."""
    wanted = a.shape[: a.ndim - axis] + a.shape[a.ndim - axis + 1 :]
    if b.shape != wanted:
        fix = "squeeze its last axis" if b.shape == (*wanted, 1) else "give one for all of a row"
        msg = f"{who}: `{second}` {b.shape} must have the shape {wanted} beside `{first}` {a.shape}; {fix}."
        raise ValueError(msg)


def factored(who: str, **arrays: ArrayLike) -> tuple[Array, Array, Array]:
    """Means and targets `[*rows, D]`, between them triangular factors `[*rows, D, D]`.

    A factor without a positive diagonal is NaN.
    """
    (first, a), (second, b), (third, c) = arrays.items()
    (factors,) = _real(who, **{second: b})
    mean, targets = vectors(who, **{first: a, third: c})
    wanted = (*mean.shape, mean.shape[-1])
    if factors.shape != wanted:
        fix = "give one matrix a row, as wide as the mean is long"
        msg = (
            f"{who}: `{second}` {factors.shape} must have the shape {wanted} beside `{first}` {mean.shape}; "
            f"{fix}."
        )
        raise ValueError(msg)
    dtype = compute_dtype(mean, factors, targets)
    factors = factors.astype(dtype)
    widths = jnp.diagonal(factors, axis1=-2, axis2=-1)
    valid = jnp.broadcast_to(jnp.all(widths > 0, axis=-1)[..., None, None], factors.shape)
    return mean.astype(dtype), poison(who, second, factors, valid, TRIANGULAR), targets.astype(dtype)


def composed(who: str, **arrays: ArrayLike) -> tuple[Array, Array]:
    """Parameters of one shape `[*rows, K]` with distributions, which come second."""
    _, second = arrays
    parameters, targets = vectors(who, **arrays)
    return parameters, _distribution(who, second, targets)


def linked(who: str, link: str, links: Mapping[str, Domain], **arrays: ArrayLike) -> tuple[Array, Array]:
    """What a link makes of a mean, and targets, of one shape; `links` says in which domain it lies."""
    if link not in links:
        msg = f"{who}: `link` must be one of {', '.join(links)}, got {link!r}; give one of them."
        raise ValueError(msg)
    predictions, targets = paired(who, **arrays)
    domain = links[link]
    if isinstance(domain, Named) or domain == REAL:
        return predictions, targets
    return poison(who, next(iter(arrays)), predictions, domain.holds(predictions), domain), targets


def vectors(who: str, **arrays: ArrayLike) -> tuple[Array, Array]:
    """Two arrays of one shape `[*rows, D]` whose last axis is one vector a row."""
    first, second = paired(who, **arrays)
    _with_items(who, next(iter(arrays)), first, "features")
    return first, second


def triplets(who: str, **arrays: ArrayLike) -> list[Array]:
    """Three arrays of one shape `[*rows, D]`, in one dtype: the first is compared with both others."""
    (first, anchors), *others = arrays.items()
    compared = [vectors(who, **{first: anchors, name: array}) for name, array in others]
    dtype = compute_dtype(*(array for pair in compared for array in pair))
    return [array.astype(dtype) for array in (compared[0][0], *(other for _, other in compared))]


def vector_pairs(who: str, **arrays: ArrayLike) -> tuple[Array, Array, Array]:
    """Two arrays of one shape `[*rows, D]` and labels −1 or +1, one a row; flags are refused."""
    (first, a), (second, b), (third, c) = arrays.items()
    _refuse_flags(who, third, c)
    x, y = vectors(who, **{first: a, second: b})
    labels = _number(who, third, c)
    _one_a_row(who, first, x, third, labels, "label")
    return x, y, labels.astype(x.dtype)


def scalar_pairs(who: str, **arrays: ArrayLike) -> tuple[Array, Array, Array]:
    """Two numbers and a label −1 or +1 a row, all of one shape `[*rows]`; flags are refused."""
    (first, a), (second, b), (third, c) = arrays.items()
    _refuse_flags(who, third, c)
    x, y = paired(who, **{first: a, second: b})
    x, labels = paired(who, **{first: x, third: c})
    return x, y.astype(x.dtype), labels


def similarities(who: str, **arrays: ArrayLike) -> tuple[Array, Array]:
    """Cosines `[*rows, K]` with class ids `[*rows]`; NaN where one is none, ±1 where it is more."""
    (first, a), (second, b) = arrays.items()
    (cosines,), labels = _real(who, **{first: a}), _wide(_number(who, second, b))
    _with_items(who, first, cosines, "classes")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        _refuse(who, second, "class ids, integer", str(labels.dtype), "convert it with `.astype(int)`")
    _check_ids(who, first, cosines, second, labels)
    cosines, classes = cosines.astype(compute_dtype(cosines)), cosines.shape[-1]
    _report(who, second, labels, (labels >= 0) & (labels < classes), f"[0, {classes})")
    cosines = poison(who, first, cosines, jnp.abs(cosines) <= 1 + _COSINE_SLACK, COSINES)
    # The derivative of what was rounded is that of the cosine: a clip has none beyond, and half of it at ±1.
    return cosines + lax.stop_gradient(jnp.clip(cosines, -1, 1) - cosines), labels


def margins(who: str, **arrays: ArrayLike) -> tuple[Array, Array]:
    """Scores and labels of one shape, `[*rows]`; labels are −1 and +1, which flags are not."""
    _, second = arrays
    _refuse_flags(who, second, arrays[second])
    return paired(who, **arrays)


def _refuse_flags(who: str, name: str, labels: ArrayLike) -> None:
    if jnp.result_type(labels) == jnp.bool_:
        _refuse(who, name, "−1 or +1", "bool", f"pass `2 * {name}.astype(int) - 1`")


def classified(
    who: str, ignore_index: int | Array | None, shared: tuple[Any, ...], **arrays: ArrayLike
) -> tuple[Array, Array, Array | None]:
    """Logits `[*rows, K]`, with class ids `[*rows]` (integer) or distributions `[*rows, K]` (floating).

    Ids come back as they are, out of range or not; distributions in the logits' dtype, NaN where a
    row is none. Third come the rows to ignore, None without `ignore_index`: no derivative
    reaches their logits, nor, through them, the hyperparameters that the rows share.
    """
    (first, a), (second, b) = arrays.items()
    (logits,), labels = _real(who, **{first: a}), _wide(_number(who, second, b))
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


def identified(
    who: str, ignore_index: int | Array | None, shared: tuple[Any, ...], **arrays: ArrayLike
) -> tuple[Array, Array, Array | None]:
    """As `classified`, of a loss that means nothing for a distribution: its labels are class ids."""
    (_, a), (second, b) = arrays.items()
    dtype, fix = jnp.result_type(b), "take the ids of one-hot rows with `jnp.argmax(..., axis=-1)`"
    if jnp.issubdtype(dtype, jnp.floating) and jnp.issubdtype(jnp.result_type(a), jnp.floating):
        _refuse(who, second, f"class ids {jnp.shape(a)[:-1]}", f"{dtype} {jnp.shape(b)}", fix)
    return classified(who, ignore_index, shared, **arrays)


def has_ids(scores: Array, labels: Array) -> bool:
    """Whether the labels are class ids, one a row, rather than distributions."""
    return labels.ndim < scores.ndim


def shares_of(scores: Array, labels: Array) -> Array:
    """What each class has of a row's label: the distribution itself, or one-hot; NaN where it is neither."""
    return numerics.one_hot(labels, scores) if has_ids(scores, labels) else labels


def counted(
    logits: Array, labels: Array, *, ignore_index: int | Array | None = None, **_: object
) -> Array | None:
    """The rows of a mean: all but those whose label is the one to ignore."""
    return None if ignore_index is None or not has_ids(logits, labels) else labels != ignore_index


def unless(ignored: Array | None, losses: Array) -> Array:
    """The losses, 0 in the rows to ignore."""
    return losses if ignored is None else jnp.where(ignored, 0, losses)


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
    _one_a_row(who, first, logits, second, labels, "id")


def _one_a_row(who: str, first: str, data: Array, second: str, labels: Array, each: str) -> None:
    """Refuse labels that are not one a row of data whose last axis is one item."""
    rows = data.shape[:-1]
    if labels.shape != rows:
        fix = "squeeze its last axis" if labels.shape == (*rows, 1) else f"give one {each} a row"
        wanted = f"the rows' shape {rows} of `{first}` {data.shape}"
        msg = f"{who}: `{second}` {labels.shape} must have {wanted}; {fix}."
        raise ValueError(msg)


def ranked(who: str, extra: int, **arrays: ArrayLike) -> tuple[Array, Array, Array]:
    """Logits `[*rows, items]` and ranks `[*rows]` below items + extra.

    Ranks out of range come back as the first above all. Third come, for each k < K − 1, 1 where the rank
    is above k and 0 elsewhere, NaN in a row whose rank is out of range.
    """
    (first, a), (second, b) = arrays.items()
    (logits,) = _real(who, **{first: a})
    _with_items(who, first, logits, "thresholds" if extra else "classes")
    ranks = _ranks(who, second, b, first, logits, logits.shape[:-1])
    count = logits.shape[-1] + extra
    valid = (ranks >= 0) & (ranks < count)
    _report(who, second, ranks, valid, f"[0, {count})")
    logits = logits.astype(compute_dtype(logits))
    below = lax.broadcasted_iota(ranks.dtype, (*ranks.shape, count - 1), ranks.ndim)
    above = (below < ranks[..., None]).astype(logits.dtype)
    return logits, jnp.where(valid, ranks, count), jnp.where(valid[..., None], above, jnp.nan)


def scored(who: str, ranks: int, **arrays: ArrayLike) -> tuple[Array, Array]:
    """Logits and integer ranks of one shape, `[*rows]`; the ranks come back as they are."""
    (first, a), (second, b) = arrays.items()
    (logits,) = _real(who, **{first: a})
    labels = _ranks(who, second, b, first, logits, logits.shape)
    _report(who, second, labels, (labels >= 0) & (labels < ranks), f"[0, {ranks})")
    return logits.astype(compute_dtype(logits)), labels


def _ranks(who: str, name: str, labels: ArrayLike, first: str, logits: Array, rows: tuple[int, ...]) -> Array:
    labels = _wide(jnp.asarray(labels))
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        _refuse(who, name, "integer ranks", str(labels.dtype), "convert it with `.astype(int)`")
    if labels.shape != rows:
        fix = "squeeze its last axis" if labels.shape == (*rows, 1) else "give one rank a row"
        wanted = f"the rows' shape {rows} of `{first}` {logits.shape}"
        msg = f"{who}: `{name}` {labels.shape} must have {wanted}; {fix}."
        raise ValueError(msg)
    return labels


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
    return _log_distribution(who, first, predictions), targets


def log_distributions(who: str, **arrays: ArrayLike) -> tuple[Array, Array]:
    """The logarithms of two distributions, `[*rows, K]`."""
    first, second = arrays
    predictions, targets = vectors(who, **arrays)
    return _log_distribution(who, first, predictions), _log_distribution(who, second, targets)


def _log_distribution(who: str, name: str, array: Array) -> Array:
    """`array`, NaN in whole rows whose exponentials do not sum to 1."""
    valid, wanted = _are_distributions(jnp.exp(array)), "log-probabilities whose exponentials sum to 1"
    return poison(who, name, array, valid, wanted)


# --- images: one value an example, of many pixels ---------------------------------------------------


def segmented(
    who: str, where: ArrayLike | None, ignore_index: int | Array | None, **arrays: ArrayLike
) -> tuple[Array, Array, Array]:
    """Logits `[batch, *space, K]`, with class ids `[batch, *space]` or distributions of the logits' shape.

    Both come back as shares of K classes, the labels one-hot; NaN where one is none. Third come the
    pixels kept: a removed one is 0 in both, out of reach of any derivative.
    """
    (first, a), (second, b) = arrays.items()
    logits, labels = jnp.asarray(a), _wide(_number(who, second, b))
    _at_least_two_classes(who, first, logits)
    pixels = logits.shape[:-1]
    kept = pixels_kept(who, labels, pixels, where, ignore_index)
    if jnp.issubdtype(labels.dtype, jnp.integer) and labels.shape == pixels:
        labels = jnp.where(kept, labels, 0)
    elif labels.shape == logits.shape and labels.dtype != jnp.bool_:
        # What stands in for a removed distribution is one.
        labels = jnp.where(kept[..., None], labels, 1 / logits.shape[-1])
    logits = jnp.where(kept[..., None], logits, 0)
    logits, labels, _ = classified(who, None, (), **{first: logits, second: labels})
    shares = numerics.one_hot(labels, logits) if has_ids(logits, labels) else labels
    shares = jnp.where(kept[..., None], shares, 0)
    return _spoil_examples(logits, shares), shares, kept


def segmented_whole(
    who: str, where: ArrayLike | None, ignore_index: int | Array | None, **arrays: ArrayLike
) -> tuple[Array, Array, Array]:
    """The same of labels that give every pixel to one class whole: ids, or one-hot rows."""
    logits, shares, kept = segmented(who, where, ignore_index, **arrays)
    whole = jnp.all((shares == 0) | (shares == 1) | jnp.isnan(shares), axis=-1, keepdims=True)
    _, second = arrays
    shares = poison(who, second, shares, jnp.broadcast_to(whole, shares.shape), "one-hot rows")
    return _spoil_examples(logits, shares), shares, kept


def binary_segmented(
    who: str, where: ArrayLike | None, ignore_index: int | Array | None, **arrays: ArrayLike
) -> tuple[Array, Array, Array]:
    """Logits and labels 0 or 1 of one shape `[batch, *space]`; third come the pixels kept, as above."""
    (_, second), (logits, labels) = arrays, paired(who, **arrays)
    _with_items(who, next(iter(arrays)), logits, "pixels")
    kept = pixels_kept(who, labels, logits.shape, where, ignore_index)
    logits, labels = jnp.where(kept, logits, 0), jnp.where(kept, labels, 0)
    labels = poison(who, second, labels, BINARY.holds(labels), BINARY)
    return _spoil_examples(logits, labels), labels, kept


def _spoil_examples(logits: Array, labels: Array) -> Array:
    """The logits, NaN with NaN derivative in an example with a pixel whose label is NaN."""
    unsound = jnp.any(jnp.isnan(labels), axis=tuple(range(1, labels.ndim)), keepdims=True)
    return logits * jnp.where(unsound, jnp.nan, jnp.ones((), logits.dtype))


def pixels_kept(
    who: str,
    labels: Array,
    pixels: tuple[int, ...],
    where: ArrayLike | None,
    ignore_index: int | Array | None,
) -> Array:
    """The pixels `where` holds whose label, if it is one number, is not the one to ignore."""
    kept = own_mask(who, where, pixels)
    if ignore_index is None or labels.shape != pixels:
        return kept
    return kept & (labels != jnp.asarray(ignore_index, labels.dtype))


# --- lists and batches ---------------------------------------------------------------------------


def listed(
    who: str, where: ArrayLike | None, domain: Interval | Choice, **arrays: ArrayLike
) -> tuple[Array, Array, Array]:
    """Scores and labels `[*rows, items]` of one list a row; third, which of the items there are.

    An item that is not there is 0 in both, out of reach of any derivative. The scores of a list are all
    NaN, with NaN derivative, where one that is there is NaN or has a label outside its domain.
    """
    first, second = arrays
    scores, labels = paired(who, **arrays)
    _with_items(who, first, scores, "items")
    kept = own_mask(who, where, scores.shape)
    scores, labels = jnp.where(kept, scores, 0), jnp.where(kept, labels, 0)
    _report(who, second, labels, domain.holds(labels), domain)
    sound = jnp.all(domain.holds(labels) & ~jnp.isnan(scores), axis=-1, keepdims=True)
    return scores * jnp.where(sound, jnp.ones((), scores.dtype), jnp.nan), labels, kept


def own_mask(who: str, where: ArrayLike | None, shape: tuple[int, ...]) -> Array:
    """The mask that a loss takes itself, of what it masks the shape; all of it where none is given."""
    if where is None:
        return jnp.ones(shape, bool)
    mask = jnp.asarray(where)
    if mask.dtype != jnp.bool_:
        _refuse(who, "where", "bool", str(mask.dtype), "pass `mask != 0`")
    if mask.ndim != len(shape) or any(a not in (1, b) for a, b in zip(mask.shape, shape, strict=True)):
        fix = "size-1 axes broadcast, others must match"
        msg = f"{who}: `where` {mask.shape} must have the shape {shape}; {fix}."
        raise ValueError(msg)
    return jnp.broadcast_to(mask, shape)


def _at_least_two_classes(who: str, name: str, logits: Array) -> None:
    if logits.ndim < 2 or logits.shape[-1] < 2:
        fix = "of one class `z`, pass `jnp.stack([jnp.zeros_like(z), z], axis=-1)`"
        wanted = "[batch, *space, classes] with two classes or more"
        msg = f"{who}: `{name}` must have shape {wanted}, got {logits.shape}; {fix}."
        raise ValueError(msg)


def lists_with_items(
    scores: Array, labels: Array, *, where: ArrayLike | None = None, **_: object
) -> Array | None:
    """The lists a mean counts: those with any item."""
    del labels
    return None if where is None else jnp.any(own_mask("mean", where, scores.shape), axis=-1)


def batched(who: str, where: ArrayLike | None, **arrays: ArrayLike) -> tuple[Array, Array, Array]:
    """Two arrays of vectors `[*batches, rows, D]`, whose rows are one batch; third, which rows there are.

    A row that is not there is 0 in both, out of reach of any derivative.
    """
    first, second = vectors(who, **arrays)
    kept = _batch(who, next(iter(arrays)), first, where)
    return jnp.where(kept[..., None], first, 0), jnp.where(kept[..., None], second, 0), kept


def grouped(who: str, where: ArrayLike | None, **arrays: ArrayLike) -> tuple[Array, Array, Array]:
    """Vectors `[*batches, rows, D]` as `batched` has them; which two rows are of one id, and which of two.

    A row and itself are neither, nor are two rows of which one is not there.
    """
    (first, a), (second, b) = arrays.items()
    (embeddings,) = _real(who, **{first: a})
    _with_items(who, first, embeddings, "features")
    kept = _batch(who, first, embeddings, where)
    labels = _group_ids(who, first, embeddings, second, b)
    embeddings = jnp.where(kept[..., None], embeddings.astype(compute_dtype(embeddings)), 0)
    same, both = _of_one_id(labels, kept)
    rows = jnp.arange(kept.shape[-1])
    others = jnp.broadcast_to(rows[:, None] != rows[None, :], both.shape)
    return embeddings, same & others, both & ~same


def matched(who: str, where: ArrayLike | None, **arrays: ArrayLike) -> tuple[Array, Array, Array, Array]:
    """Two arrays of vectors as `batched` has them, and one id for each row of both.

    Third come which first and which second are of one id, and fourth which two there are; a row's own
    second is one of both.
    """
    (first, a), (second, b), (third, c) = arrays.items()
    x, y, kept = batched(who, where, **{first: a, second: b})
    return x, y, *_of_one_id(_group_ids(who, first, x, third, c), kept)


def _group_ids(who: str, first: str, embeddings: Array, second: str, labels: ArrayLike) -> Array:
    """Integers, one for each of the embeddings."""
    labels, rows = jnp.asarray(labels), embeddings.shape[:-1]
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        _refuse(who, second, "integer ids", str(labels.dtype), "number the groups")
    if labels.shape != rows:
        msg = (
            f"{who}: `{second}` {labels.shape} must have the rows' shape {rows} of `{first}` "
            f"{embeddings.shape}; give one id a row."
        )
        raise ValueError(msg)
    return labels


def _of_one_id(labels: Array, kept: Array) -> tuple[Array, Array]:
    """Which two rows that there are have one id, and which two there are at all."""
    both = kept[..., :, None] & kept[..., None, :]
    return both & (labels[..., :, None] == labels[..., None, :]), both


def _batch(who: str, name: str, array: Array, where: ArrayLike | None) -> Array:
    if array.ndim < 2:
        msg = f"{who}: `{name}` {array.shape} must have shape [*batches, rows, features]; give a batch."
        raise ValueError(msg)
    return own_mask(who, where, array.shape[:-1])


def coupled_rows(first: Array, *_: Array, where: ArrayLike | None = None, **__: object) -> Array | None:
    """The rows a mean counts, of a loss that couples them: those that its own mask holds."""
    return None if where is None else own_mask("mean", where, first.shape[:-1])


# --- sequences ---------------------------------------------------------------------------------


def sequences(who: str, item_ndim: int, **arrays: ArrayLike) -> tuple[Array, Array]:
    """Logits `[*rows, ..., K]`, an item of `item_ndim` axes, and class ids `[*rows, N]`, integer."""
    (first, a), (second, b) = arrays.items()
    (logits,), labels = _real(who, **{first: a}), _wide(jnp.asarray(b))
    _with_items(who, first, logits, "classes")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        _refuse(who, second, "class ids (integer)", str(labels.dtype), "convert it with `.astype(jnp.int32)`")
    rows = logits.shape[: logits.ndim - item_ndim]
    if logits.ndim < item_ndim or labels.ndim != len(rows) + 1 or labels.shape[:-1] != rows:
        msg = (
            f"{who}: `{first}` {logits.shape} and `{second}` {labels.shape} must have the same rows before "
            f"{item_ndim} axes of `{first}` and 1 of `{second}`; reshape one of them."
        )
        raise ValueError(msg)
    return logits.astype(compute_dtype(logits)), labels


def places(who: str, name: str, where: ArrayLike | None, shape: tuple[int, ...]) -> Array:
    """The places of a sequence that there are, bool; all of them where none are named."""
    there = jnp.ones(shape, bool) if where is None else jnp.asarray(where)
    if there.dtype != jnp.bool_:
        _refuse(who, name, "bool", str(there.dtype), "pass `mask != 0`")
    if there.shape != shape:
        msg = f"{who}: `{name}` {there.shape} must have shape {shape}, one flag a place; broadcast it."
        raise ValueError(msg)
    return there


def named(who: str, logits: Array, labels: Array, there: Array, blank: int | Array | None = None) -> Array:
    """1 for a row whose labels, those that are there, all name a class (not the blank); NaN for another."""
    classes = logits.shape[-1]
    valid, wanted = (labels >= 0) & (labels < classes), f"[0, {classes})"
    if blank is not None:
        blank = jnp.asarray(blank)
        valid &= (labels != blank) & (blank >= 0) & (blank < classes)
        wanted += " without the blank"
    _report(who, "labels", labels, valid | ~there, wanted)
    sound = jnp.all(valid | ~there, axis=-1)
    return jnp.where(sound, jnp.ones((), logits.dtype), jnp.nan)


def tagged(who: str, where: ArrayLike | None, **arrays: ArrayLike) -> tuple[Array, Array, Array]:
    """Logits `[*rows, T, K]` and a class id for each place `[*rows, T]`; third, which places there are."""
    first, second = arrays
    logits, labels = sequences(who, 2, **arrays)
    if labels.shape != logits.shape[:-1]:
        msg = (
            f"{who}: `{first}` {logits.shape} and `{second}` {labels.shape} must have the same places, the "
            f"last axis of `{second}`; give one label a place."
        )
        raise ValueError(msg)
    return logits, labels, own_mask(who, where, labels.shape)


def transduced(who: str, **arrays: ArrayLike) -> tuple[Array, Array]:
    """Logits `[*rows, T, 1 + N, K]` of each frame after each number of labels; labels `[*rows, N]`."""
    first, second = arrays
    logits, labels = sequences(who, 3, **arrays)
    if logits.shape[-2] != labels.shape[-1] + 1:
        msg = (
            f"{who}: `{first}` {logits.shape} must have a state for each number of labels said, one more "
            f"than `{second}` {labels.shape}, before the classes; give [*rows, frames, 1 + labels, classes]."
        )
        raise ValueError(msg)
    return logits, labels


def class_scores(who: str, logits: Array, **scores: tuple[ArrayLike | None, int]) -> list[Array]:
    """Scores that all rows share, each with as many axes of K as it says; zeros where none are given."""
    found = []
    for name, (given, ndim) in scores.items():
        shape = logits.shape[-1:] * ndim
        array = jnp.zeros(shape, logits.dtype) if given is None else jnp.asarray(given, logits.dtype)
        if array.shape != shape:
            msg = f"{who}: `{name}` {array.shape} must have shape {shape}, as there are classes; reshape it."
            raise ValueError(msg)
        found.append(array)
    return found


def sequences_with_places(
    logits: Array, labels: Array, *, where: ArrayLike | None = None, **_: object
) -> Array | None:
    """The sequences a mean counts: those with any place."""
    del labels
    return None if where is None else jnp.any(own_mask("mean", where, logits.shape[:-1]), axis=-1)
