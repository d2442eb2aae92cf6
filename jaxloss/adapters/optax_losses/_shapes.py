"""Optax's shapes: what broadcasts, which axes an item has, which entries a mask keeps."""

import operator

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Real

from jaxloss._contracts import paired

Axis = int | tuple[int, ...] | None
Number = float | int | Array
Floats = Float[ArrayLike, "..."]
Reals = Real[ArrayLike, "..."] | Bool[ArrayLike, "..."]
Mask = Bool[ArrayLike, "..."] | None


def together(who: str, **arrays: ArrayLike) -> list[Array]:
    """Arrays broadcast as Optax broadcasts them, but for a shape that no array has the axes of.

    `(3, 4)` and `(4,)` are `(3, 4)`, `(3, 1)` and `(1, 4)` too; `(4, 1)` and `(4,)` are refused: the `(4, 4)`
    they make is a forgotten axis far more often than a wish.
    """
    given = [jnp.asarray(array) for array in arrays.values()]
    shapes = [array.shape for array in given]
    if len(set(shapes)) == 1:
        return given
    named = " and ".join(f"`{name}` {shape}" for name, shape in zip(arrays, shapes, strict=True))
    try:
        whole = np.broadcast_shapes(*shapes)
    except ValueError:
        msg = f"{who}: {named} do not broadcast; give them one shape."
        raise ValueError(msg) from None
    if np.broadcast_shapes(*(shape for shape in shapes if len(shape) == len(whole))) != whole:
        msg = (
            f"{who}: {named} would make {whole}; squeeze the longer, or give the shorter its axes of size 1."
        )
        raise ValueError(msg)
    return [jnp.broadcast_to(array, whole) for array in given]


def pair_together(who: str, **arrays: ArrayLike) -> tuple[Array, Array]:
    """Two arrays broadcast together, the first of them floating point, in the dtype to compute in."""
    return paired(who, **dict(zip(arrays, together(who, **arrays), strict=True)))


def item_last(array: Array, axis: Axis) -> Array:
    """The axes of an item moved to the end, in their order, and made one; None means all there are."""
    axes = range(array.ndim) if axis is None else axis if isinstance(axis, tuple) else (operator.index(axis),)
    count = len(axes)
    moved = jnp.moveaxis(array, tuple(axes), tuple(range(-count, 0)))
    return moved.reshape(*moved.shape[: moved.ndim - count], -1)


def mask_like(array: Array, where: ArrayLike) -> Array:
    """A mask that broadcasts to the array, in its shape."""
    return jnp.broadcast_to(jnp.asarray(where, bool), array.shape)
