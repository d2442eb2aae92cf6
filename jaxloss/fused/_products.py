"""A head: the logits that it makes, and what moves it from what moves them, in products of matrices."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

# Bytes of the kernel's gradient, or of the slopes it is made of, at a time: on a CPU for its cache.
_BLOCK = {"cpu": 1 << 23}
_ACCELERATOR_BLOCK = 1 << 30
# Classes that the gradient filter keeps, in one product.
_KEPT = 1024


class Head(NamedTuple):
    """What makes logits: features `[N, D]`, a kernel `[D, V]` or `[V, D]`, a bias `[V]`."""

    features: Array
    kernel: Array
    bias: Array | None


class Axes(NamedTuple):
    """The kernel's axis of features, and that of classes."""

    features: int
    classes: int


def parts(size: int, most: int) -> int:
    """How many parts of at most so much: as few as can be, or a few more where these then are equal."""
    fewest = max(-(-size // max(most, 1)), 1)
    return next((count for count in range(fewest, fewest + fewest // 2 + 1) if size % count == 0), fewest)


def logits_of(head: Head, axes: Axes, dtype: Any) -> Array:
    """`features @ kernel + bias`, `[N, V]`."""
    logits = _product(head.features, head.kernel, (1, axes.features), dtype)
    return logits if head.bias is None else logits + head.bias[None, :]


def slopes_of_head(
    head: Head, axes: Axes, slopes: Array, asked: Head, so_far: Array | None, bound: Array | None
) -> Head:
    """From the slopes of the logits those that are asked for of what made them; a scalar 0 for the others.

    The kernel's is added to that of the rows before, which is `so_far`. With a `bound`, `[N]`, the classes
    in which no slope is above its row's are left out of both products.
    """
    nothing, dtype = jnp.zeros((), slopes.dtype), slopes.dtype
    bias = head.bias if head.bias is None else jnp.sum(slopes, axis=0) if asked.bias else nothing
    matters = None if bound is None else ~jnp.all(jnp.abs(slopes) <= bound[:, None], axis=0)  # a NaN does
    # Rounded once, after the 1 at the label was taken off; both products then run at the inputs' rate.
    slopes = slopes.astype(head.features.dtype)
    if matters is not None:
        return Head(*_of_some_classes(head, axes, slopes, matters, asked, so_far, dtype), bias)
    features = _product(slopes, head.kernel, (1, axes.classes), dtype) if asked.features else nothing
    kernel = _kernel_slopes(head.features, axes, slopes, so_far, dtype) if asked.kernel else nothing
    return Head(features, kernel, bias)


def _product(x: Array, y: Array, over: tuple[int, int], dtype: Any) -> Array:
    """The product of two matrices, summed over an axis of each."""
    return lax.dot_general(x, y, (((over[0],), (over[1],)), ((), ())), preferred_element_type=dtype)


def _of_kernel(features: Array, axes: Axes, slopes: Array, dtype: Any) -> Array:
    pair = (features, slopes) if axes.features == 0 else (slopes, features)
    return _product(*pair, (0, 0), dtype)


def _kernel_slopes(features: Array, axes: Axes, slopes: Array, so_far: Array | None, dtype: Any) -> Array:
    """The kernel's slopes so far and those of these rows, whose own array is never whole."""
    if so_far is None:
        return _of_kernel(features, axes, slopes, dtype)
    classes, height = slopes.shape[1], max(features.shape)
    budget = _BLOCK.get(jax.default_backend(), _ACCELERATOR_BLOCK)
    size = -(-classes // parts(classes, budget // (height * so_far.dtype.itemsize)))
    whole, left = divmod(classes, size)

    def added(total: Array, start: Array | int, size: int) -> Array:
        own = lax.dynamic_slice_in_dim(slopes, start, size, axis=1)
        old = lax.dynamic_slice_in_dim(total, start, size, axis=axes.classes)
        new = old + _of_kernel(features, axes, own, dtype)
        return lax.dynamic_update_slice_in_dim(total, new, start, axis=axes.classes)

    if whole == 1 and not left:
        return added(so_far, 0, size)
    starts = size * jnp.arange(whole, dtype=jnp.int32)
    total, _ = lax.scan(lambda total, start: (added(total, start, size), None), so_far, starts)
    return added(total, whole * size, left) if left else total


def _of_some_classes(
    head: Head, axes: Axes, slopes: Array, matters: Array, asked: Head, so_far: Array | None, dtype: Any
) -> tuple[Array, Array]:
    """The slopes of features and kernel by the classes alone that matter, gathered a block at a time."""
    nothing, classes = jnp.zeros((), dtype), slopes.shape[1]
    size = min(_KEPT, classes)
    count = -(-classes // size)
    taken = functools.partial(jnp.take, mode="fill", fill_value=0)
    # Those that matter come first; what fills the rest is no class: 0 where read, nothing where added.
    (places,) = jnp.nonzero(matters, size=count * size, fill_value=classes)

    def step(carry: tuple[Array, Array], index: Array) -> tuple[tuple[Array, Array], None]:
        own = lax.dynamic_slice_in_dim(places, index * size, size)

        def add(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            features, kernel = carry
            part = taken(slopes, own, 1)
            if asked.features:
                columns = taken(head.kernel, own, axes.classes)
                features = features + _product(part, columns, (1, axes.classes), dtype)
            if asked.kernel:
                at = kernel.at[own] if axes.classes == 0 else kernel.at[:, own]
                new = _of_kernel(head.features, axes, part, dtype)
                kernel = at.add(new, mode="drop", indices_are_sorted=True)
            return features, kernel

        return lax.cond(own[0] < classes, add, lambda carry: carry, carry), None

    features = jnp.zeros(head.features.shape, dtype) if asked.features else nothing
    kernel = jnp.zeros(head.kernel.shape, dtype) if asked.kernel else nothing
    carry = (features, kernel if so_far is None else so_far)
    return lax.scan(step, carry, jnp.arange(count, dtype=jnp.int32))[0]
