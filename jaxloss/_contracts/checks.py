"""What every kind of input is checked by: dtypes, shapes, masks and values, each refused in words."""

import contextvars
import operator
from typing import Any, NoReturn

import jax.numpy as jnp
from jax import Array
from jax.experimental import checkify
from jax.typing import ArrayLike

from jaxloss import numerics
from jaxloss._contracts.domains import REAL, Domain, Named


def compute_dtype(*arrays: ArrayLike) -> Any:
    """float64 if any array is, float32 otherwise: half precision is never computed in."""
    double = any(jnp.result_type(array) == jnp.float64 for array in arrays)
    return jnp.dtype(jnp.float64 if double else jnp.float32)


def refuse(who: str, name: str, wanted: str, got: str, fix: str) -> NoReturn:
    """Say who wanted what of which argument, what came, and what to do."""
    msg = f"{who}: `{name}` must be {wanted}, got {got}; {fix}."
    raise TypeError(msg)


def real(who: str, **arrays: ArrayLike) -> list[Array]:
    """Predictions: floating point as they come, computed in float32 at least."""
    converted = [jnp.asarray(array) for array in arrays.values()]
    for name, array in zip(arrays, converted, strict=True):
        if not jnp.issubdtype(array.dtype, jnp.floating):
            refuse(
                who,
                name,
                "floating point",
                str(array.dtype),
                "convert it with `.astype(jnp.float32)`",
            )
    return converted


def number(who: str, name: str, array: ArrayLike) -> Array:
    """Targets: any real number; integers and booleans are converted later."""
    array = jnp.asarray(array)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        refuse(who, name, "real", str(array.dtype), "split it into real and imaginary parts")
    return array


def wide(ids: Array) -> Array:
    """Integer ids in a dtype that counts all classes and knows −1: 8 bits end at class 255."""
    narrow = jnp.issubdtype(ids.dtype, jnp.integer) and ids.dtype.itemsize < 4
    return ids.astype(jnp.int32) if narrow else ids


def same_shape(who: str, **arrays: Array) -> None:
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


def with_items(who: str, name: str, array: Array, items: str) -> None:
    if array.ndim == 0 or array.shape[-1] == 0:
        msg = (
            f"{who}: `{name}` must have shape [*rows, {items}], got {array.shape}; {items} are the last axis."
        )
        raise ValueError(msg)


def poison(who: str, name: str, array: Array, valid: Array, wanted: object) -> Array:
    """`array`, NaN with NaN derivative where not `valid`; under `jl.checked` an error names the first.

    `valid` may have size 1 along axes that are judged as one: what is chosen row by row is not stored.
    """
    report(who, name, array, valid, wanted)
    return array * jnp.where(valid, jnp.ones((), array.dtype), jnp.nan)


# Whether a loss is being traced under `jl.checked`. Outside it no check is left in the program: a
# check is an effect, and a compiled call with an effect takes ten times as long to dispatch.
CHECKING: contextvars.ContextVar[bool] = contextvars.ContextVar("checking", default=False)


def report(who: str, name: str, array: Array, valid: Array, wanted: object) -> None:
    """Under `jl.checked` alone: an error that names the first value that is not valid."""
    if not CHECKING.get() or array.size == 0:
        return
    first = jnp.argmin(jnp.broadcast_to(valid, array.shape).reshape(-1))
    wanted = str(wanted).replace("{", "{{").replace("}", "}}")
    message = f"{who}: `{name}` must be in {wanted}, got {{value}} at flat index {{index}}"
    checkify.check(jnp.all(valid), message, value=array.reshape(-1)[first], index=first)


def spoil_outside(
    who: str, name: str, losses: Array, array: Array, domain: Domain, *, judged: bool = False
) -> Array:
    """The losses, NaN with NaN derivative where the argument of that row is outside its domain.

    `judged` where they are so already: then all that is done is to name it under `jl.checked`.
    """
    if isinstance(domain, Named) or domain == REAL:
        return losses
    array = array.astype(losses.dtype)
    report(who, name, array, domain.holds(array), domain)
    if judged:
        return losses
    margin = domain.margin(array)
    items = tuple(range(losses.ndim, array.ndim))
    return numerics.spoil(losses, jnp.min(margin, axis=items) if items else margin)


def of_rows(who: str, first: str, a: Array, second: str, b: Array, axis: int) -> None:
    """Refuse a second array that has not the first one's shape without the axis so far from the end."""
    wanted = a.shape[: a.ndim - axis] + a.shape[a.ndim - axis + 1 :]
    if b.shape != wanted:
        fix = "squeeze its last axis" if b.shape == (*wanted, 1) else "give one for all of a row"
        msg = f"{who}: `{second}` {b.shape} must have the shape {wanted} beside `{first}` {a.shape}; {fix}."
        raise ValueError(msg)


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


def one_number(who: str, **options: ArrayLike | None) -> None:
    """Refuse an option of more than one number, which would broadcast against whatever its shape fits."""
    for name, option in options.items():
        if option is not None and jnp.ndim(option) != 0:
            shape = jnp.shape(option)
            msg = f"{who}: `{name}` must be one number, got shape {shape}; give one for all rows."
            raise ValueError(msg)


def is_off(option: float | Array) -> bool:
    """Whether an option is known, when traced, to be zero: then its term need not be computed."""
    return isinstance(option, (int, float)) and option == 0


def one_a_row(
    who: str, first: str, data: Array, second: str, labels: Array, each: str, items: int = 1
) -> None:
    """Refuse labels that are not one a row of data, of which so many last axes are one item."""
    rows = data.shape[: data.ndim - items]
    if labels.shape != rows:
        fix = "squeeze its last axis" if labels.shape == (*rows, 1) else f"give one {each} a row"
        wanted = f"the rows' shape {rows} of `{first}` {data.shape}"
        msg = f"{who}: `{second}` {labels.shape} must have {wanted}; {fix}."
        raise ValueError(msg)


def start_with_rows(who: str, data: tuple[Array, ...], rows: tuple[int, ...], fix: str) -> None:
    """Refuse an argument of data that is neither one for each of the rows nor one for all."""
    for position, array in enumerate(data):
        if array.ndim and array.shape[: len(rows)] != rows:
            wanted = f"start with the rows' shape {rows} or be a scalar"
            msg = f"{who}: data argument {position} {array.shape} must {wanted}; {fix}."
            raise ValueError(msg)


def own_mask(who: str, where: ArrayLike | None, shape: tuple[int, ...], name: str = "where") -> Array:
    """The mask that a loss takes itself, of what it masks the shape; all of it where none is given."""
    if where is None:
        return jnp.ones(shape, bool)
    mask = jnp.asarray(where)
    if mask.dtype != jnp.bool_:
        refuse(who, name, "bool", str(mask.dtype), "pass `mask != 0`")
    if mask.ndim != len(shape) or any(a not in (1, b) for a, b in zip(mask.shape, shape, strict=True)):
        fix = "size-1 axes broadcast, others must match"
        msg = f"{who}: `{name}` {mask.shape} must have the shape {shape}; {fix}."
        raise ValueError(msg)
    return jnp.broadcast_to(mask, shape)


def rows_a_chunk(who: str, chunk_size: object) -> int | None:
    """A number of rows known when traced; None for "auto"."""
    if isinstance(chunk_size, str) and chunk_size == "auto":
        return None
    return row_count(who, "chunk_size", chunk_size, 'an integer or "auto"')


def row_count(who: str, name: str, rows: Any, wanted: str = "an integer") -> int:
    """A number of rows known when traced."""
    try:
        count = operator.index(rows)
    except TypeError:
        count = None
    if count is None or isinstance(rows, bool):
        refuse(who, name, wanted, repr(rows), "give a number of rows known when traced")
    if count < 1:
        msg = f"{who}: `{name}` must be 1 or more, got {rows}; give a number of rows."
        raise ValueError(msg)
    return count
