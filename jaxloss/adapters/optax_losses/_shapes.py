"""Optax's shapes: what broadcasts, which axes an item has, which entries a mask keeps."""

import functools
import math
import operator
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Real

from jaxloss._contracts import paired
from jaxloss._contracts.checks import refuse

Axis = int | tuple[int, ...] | None
Number = float | int | Array
Floats = Float[ArrayLike, "..."]
Reals = Real[ArrayLike, "..."] | Bool[ArrayLike, "..."]
Mask = Bool[ArrayLike, "..."] | None
P = ParamSpec("P")
T = TypeVar("T")


def one_call(*static: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Make an eager call one compiled call; the arguments named here are part of the program."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        run = jax.jit(function, static_argnames=static, inline=True)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return run(*args, **kwargs)

        return call

    return decorate


def together(who: str, **arrays: ArrayLike) -> list[Array]:
    """Arrays broadcast as Optax broadcasts them, but for a shape that no array has the axes of.

    `(3, 4)` and `(4,)` are `(3, 4)`, `(3, 1)` and `(1, 4)` too; `(4, 1)` and `(4,)` are refused: the `(4, 4)`
    they make is a forgotten axis far more often than a wish.
    """
    given = {name: jnp.asarray(array) for name, array in arrays.items()}
    whole = shape_together(who, {f"`{name}`": array.shape for name, array in given.items()})
    return [jnp.broadcast_to(array, whole) for array in given.values()]


def shape_together(who: str, named: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """The shape that what has these shapes has `together`."""
    shapes = list(named.values())
    if len(set(shapes)) == 1:
        return shapes[0]
    told = " and ".join(f"{name} {shape}" for name, shape in named.items())
    try:
        whole = np.broadcast_shapes(*shapes)
    except ValueError:
        msg = f"{who}: {told} do not broadcast; give them one shape."
        raise ValueError(msg) from None
    if np.broadcast_shapes(*(shape for shape in shapes if len(shape) == len(whole))) != whole:
        msg = f"{who}: {told} would make {whole}; squeeze the longer, or give the shorter its axes of size 1."
        raise ValueError(msg)
    return whole


def pair_together(who: str, **arrays: ArrayLike) -> tuple[Array, Array]:
    """Two arrays broadcast together, the first of them floating point, in the dtype to compute in."""
    return paired(who, **dict(zip(arrays, together(who, **arrays), strict=True)))


def item_last(array: Array, axis: Axis) -> Array:
    """The axes of an item moved to the end, in their order, and made one; None means all there are."""
    axes = range(array.ndim) if axis is None else axis if isinstance(axis, tuple) else (operator.index(axis),)
    count = len(axes)
    moved = jnp.moveaxis(array, tuple(axes), tuple(range(-count, 0)))
    rows = moved.ndim - count
    # Not −1 for the last: of a batch without rows it could be anything.
    return moved.reshape(*moved.shape[:rows], math.prod(moved.shape[rows:]))


def same_items(who: str, name: str, given: ArrayLike, whole: Array, axis: Axis) -> None:
    """Refuse an array whose items became longer by `together`: copies of an entry are no other entries."""
    items, wanted = (jax.eval_shape(lambda x: item_last(x, axis), x).shape[-1] for x in (given, whole))
    if items != wanted:
        msg = f"{who}: `{name}` {jnp.shape(given)} has {items} of the {wanted} entries of an item; give all."
        raise ValueError(msg)


def mask_like(who: str, array: Array, where: ArrayLike) -> Array:
    """A mask that broadcasts to the array, in its shape."""
    return jnp.broadcast_to(mask(who, where), array.shape)


def mask(who: str, where: ArrayLike) -> Array:
    """A mask of booleans: a number may be a weight, of which a mask would make 1."""
    where = jnp.asarray(where)
    if where.dtype != jnp.bool_:
        refuse(who, "where", "bool", str(where.dtype), "pass `where != 0`")
    return where
