"""How a removed row is kept out of every value and every derivative, whatever it holds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss.numerics import cut, is_spread


def cut_off(data: tuple[Array, ...], kept: Array) -> tuple[Array, ...]:
    """Let no derivative into a removed row. Its value is left as it is, so the data are read in place."""
    return tuple(
        cut(array, _over_items(kept, array)) if is_differentiable(array) else array for array in data
    )


def is_differentiable(value: Any) -> bool:
    """Whether it is an array that may have a derivative."""
    return isinstance(value, Array) and jnp.issubdtype(value.dtype, jnp.inexact)


def _over_items(kept: Array, array: Array) -> Array:
    return kept.reshape(kept.shape + (1,) * (array.ndim - kept.ndim))


class KeptRow(NamedTuple):
    """Where one of the rows that are kept stands, and whether there is one."""

    place: tuple[Array, ...]
    exists: Array


def kept_row(kept: Array) -> KeptRow:
    """One row that is kept, or any where none is."""
    # Without the barrier a mask known when compiling is searched then, for minutes if it is large.
    mask = lax.optimization_barrier(kept)
    if is_spread(kept):
        nth = 1 + lax.iota(jnp.int32, kept.size).reshape(kept.shape)
        last = jnp.max(mask.astype(jnp.int32) * nth)
        return KeptRow(jnp.unravel_index(jnp.maximum(last, 1) - 1, kept.shape), last > 0)
    place = jnp.unravel_index(jnp.argmax(mask), kept.shape) if kept.ndim else ()
    return KeptRow(place, _row_at(place, kept, kept))


def _row_at(place: tuple[Array, ...], kept: Array, array: Array) -> Array:
    """The entry of a row that is kept."""
    if is_spread(array):
        here = kept
        for axis, index in enumerate(place):
            here &= lax.broadcasted_iota(index.dtype, kept.shape, axis) == index
        alone = jnp.where(_over_items(here, array), array, jnp.zeros((), array.dtype))
        return jnp.sum(alone, axis=tuple(range(kept.ndim)), dtype=array.dtype)
    if not place:
        return array
    # From each of some groups of rows, then from one of those: where the rows are spread over devices, an
    # index into all of them would first gather them on each.
    first, *others = place
    size = array.shape[0] // math.gcd(array.shape[0], 64)
    of_groups = array.reshape(-1, size, *array.shape[1:])[:, first % size]
    return of_groups[(first // size, *others)]


def beside(
    data: tuple[Array, ...], options: dict[str, Any], kept: Array, row: KeptRow
) -> tuple[tuple[Array, ...], dict[str, Any]]:
    """Put a kept row in the place of every removed one, out of reach of any derivative.

    Cutting off its own derivative is not enough where rows share something to differentiate, a
    hyperparameter or what a lambda closes over: the row's part in that may be NaN, and 0·NaN is NaN. A
    kept row lies in the loss's domain whatever the loss is. Where none is kept, one half does, and
    the hyperparameters are cut off as well.
    """

    def rowwise(array: Array) -> Array:
        if array.ndim == 0:
            return _unless_none(row.exists, array)
        half = jnp.asarray(0.5 if jnp.issubdtype(array.dtype, jnp.inexact) else 0, array.dtype)
        spare = lax.stop_gradient(jnp.where(row.exists, _row_at(row.place, kept, array), half))
        return jnp.where(_over_items(kept, array), array, jnp.expand_dims(spare, tuple(range(kept.ndim))))

    # An option of one number a row goes with it: a target stands in beside its own trials.
    single = kept.ndim and all(array.ndim == kept.ndim for array in data)

    def option(value: Any) -> Any:
        of_rows = single and isinstance(value, Array) and value.shape == kept.shape
        return rowwise(value) if of_rows else _unless_none(row.exists, value)

    return tuple(map(rowwise, data)), jax.tree.map(option, options)


def inside(
    data: tuple[Array, ...],
    options: dict[str, Any],
    kept: Array,
    row: None = None,
    *,
    domains: Sequence[float],
    ranges: Mapping[str, float],
) -> tuple[tuple[Array, ...], dict[str, Any]]:
    """The same with a number of each argument's domain: no row is looked for, nor fetched from a device."""
    del row

    def number(array: Array, spare: float) -> Array:
        real = jnp.issubdtype(array.dtype, jnp.inexact)
        return jnp.where(kept, array, jnp.asarray(spare if real else math.ceil(spare), array.dtype))

    def option(name: str, value: Array) -> Array:
        of_rows = kept.ndim and value.shape == kept.shape and name in ranges
        return number(value, ranges[name]) if of_rows else _unless_none(jnp.any(kept), value)

    stood_in = tuple(number(*each) for each in zip(data, domains, strict=False))
    return stood_in, {name: option(name, value) for name, value in options.items()}


def _unless_none(any_kept: Array, value: Any) -> Any:
    """What all rows share, which has no derivative where none is kept."""
    return jnp.where(any_kept, value, lax.stop_gradient(value)) if is_differentiable(value) else value
