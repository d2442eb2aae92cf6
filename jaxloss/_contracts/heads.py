"""Features of rows and the matrix that makes logits of them, before any logit is made."""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxloss._contracts.checks import (
    CHECKING,
    compute_dtype,
    one_a_row,
    real,
    refuse,
    report,
    wide,
    with_items,
)
from jaxloss._contracts.distributions import distribution

# Which axis of a kernel is which: features ("d") and classes ("v").
LAYOUTS = ("dv", "vd")


def headed(
    who: str, layout: str, bias: ArrayLike | None, **arrays: ArrayLike
) -> tuple[Array, Array, Array | None]:
    """Features `[*rows, D]` and a kernel `[D, V]`, or `[V, D]` as `layout` says, in one dtype; a bias."""
    first, second = arrays
    features, kernel = real(who, **arrays)
    if layout not in LAYOUTS:
        msg = f"{who}: `kernel_layout` must be one of {', '.join(LAYOUTS)}, got {layout!r}; give one of them."
        raise ValueError(msg)
    with_items(who, first, features, "features")
    wanted, width = f"[{', '.join(layout.upper())}]", features.shape[-1]
    if kernel.ndim != 2 or kernel.shape[1] == 0 or kernel.shape[0] == 0:
        msg = f"{who}: `{second}` must have shape {wanted}, got {kernel.shape}; give one matrix for all rows."
        raise ValueError(msg)
    axis = layout.index("d")
    if kernel.shape[axis] != width:
        other = LAYOUTS[1 - LAYOUTS.index(layout)]
        turned = kernel.shape[1 - axis] == width
        fix = f"say `kernel_layout={other!r}`" if turned else "give them one D"
        msg = (
            f"{who}: `{second}` {kernel.shape} must have shape {wanted} with D = {width}, the last axis of "
            f"`{first}` {features.shape}; {fix}."
        )
        raise ValueError(msg)
    if features.dtype != kernel.dtype:
        dtype = compute_dtype(features, kernel)
        features, kernel = features.astype(dtype), kernel.astype(dtype)
    named = "bias" if first == "features" else first.replace("features", "bias")
    return features, kernel, for_classes(who, named, bias, kernel.shape[1 - axis], compute_dtype(features))


def same_heads(who: str, axis: int, **arrays: ArrayLike) -> None:
    """Refuse two heads, features and kernel each, that differ in rows or in classes."""
    (first, a), (_, b), (second, c), (other, d) = arrays.items()
    rows, classes = jnp.shape(a)[:-1], jnp.shape(b)[axis]
    if jnp.shape(c)[:-1] != rows:
        msg = f"{who}: `{second}` {jnp.shape(c)} must have the rows {rows} of `{first}`; give one a row."
        raise ValueError(msg)
    if jnp.shape(d)[axis] != classes:
        msg = f"{who}: `{other}` {jnp.shape(d)} must have {classes} classes as the first kernel; give one V."
        raise ValueError(msg)


def for_classes(who: str, name: str, option: ArrayLike | None, classes: int, dtype: Any) -> Array | None:
    """One number for each class, `[V]`, if any are given."""
    if option is None:
        return None
    array = jnp.asarray(option)
    if array.shape != (classes,):
        msg = f"{who}: `{name}` {array.shape} must have shape {(classes,)}, as there are classes; reshape it."
        raise ValueError(msg)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        refuse(who, name, "floating point", str(array.dtype), "convert it with `.astype(jnp.float32)`")
    return array.astype(dtype)


def labelled(
    who: str,
    labels: ArrayLike,
    classes: int,
    where: Array | None,
    ignore_index: ArrayLike | None = None,
    **beside: Array,
) -> tuple[Array, Array | None]:
    """Class ids, integer `[*rows]`, or distributions, floating `[*rows, V]`, beside logits not yet there.

    Returned on one axis of rows, an id that is not kept 0; with the rows that are kept, None for all.
    """
    ((name, features),) = beside.items()
    rows, labels = features.shape[:-1], wide(jnp.asarray(labels))
    kept = None if where is None else where.reshape(-1)
    if jnp.issubdtype(labels.dtype, jnp.floating):
        if labels.shape != (*rows, classes):
            wanted = f"distributions of shape {(*rows, classes)}, or integer class ids of shape {rows}"
            msg = f"{who}: `labels` {labels.shape} must be {wanted}; reshape or convert it."
            raise ValueError(msg)
        labels = labels.reshape(-1, classes)
        if CHECKING.get():
            named = labels if kept is None else jnp.where(kept[:, None], labels, 1 / classes)
            distribution(who, "labels", named)
        return labels, kept
    if not jnp.issubdtype(labels.dtype, jnp.integer) or labels.shape == (*rows, classes):
        fix = "a one-hot row becomes a distribution with `.astype(jnp.float32)`"
        refuse(who, "labels", "class ids or distributions", f"{labels.dtype} of shape {labels.shape}", fix)
    one_a_row(who, name, features, "labels", labels, "id")
    labels = labels.reshape(-1)
    if ignore_index is not None:
        named = labels != ignore_index
        kept = named if kept is None else kept & named
    labels = labels if kept is None else jnp.where(kept, labels, 0)
    report(who, "labels", labels, (labels >= 0) & (labels < classes), f"[0, {classes})")
    return labels, kept
