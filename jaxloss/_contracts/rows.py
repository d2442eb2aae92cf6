"""One number or one vector a row, and parameters beside them."""

from collections.abc import Mapping

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxloss._contracts.checks import (
    compute_dtype,
    number,
    of_rows,
    one_a_row,
    poison,
    real,
    refuse,
    same_shape,
    with_items,
)
from jaxloss._contracts.domains import REAL, TRIANGULAR, Domain, Named


def paired(who: str, **arrays: ArrayLike) -> tuple[Array, Array]:
    """Two arrays of one shape, predictions first, `[*rows]`: regression and its like."""
    (first, a), (second, b) = arrays.items()
    (predictions,), targets = real(who, **{first: a}), number(who, second, b)
    same_shape(who, **{first: predictions, second: targets})
    dtype = compute_dtype(predictions, targets)
    return predictions.astype(dtype), targets.astype(dtype)


def alike(who: str, **arrays: ArrayLike) -> list[Array]:
    """Parameters, floating point, and last the targets, all of one shape `[*rows]`: likelihoods."""
    *names, last = arrays
    parameters = real(who, **{name: arrays[name] for name in names})
    given = [*parameters, number(who, last, arrays[last])]
    for name, array in zip((*names[1:], last), given[1:], strict=True):
        same_shape(who, **{names[0]: given[0], name: array})
    dtype = compute_dtype(*given)
    return [array.astype(dtype) for array in given]


def mixed(who: str, **arrays: ArrayLike) -> list[Array]:
    """Parameters of one shape `[*rows, components]`, and last the targets `[*rows]`."""
    *names, last = arrays
    given = alike(who, **{name: arrays[name] for name in names})
    targets = number(who, last, arrays[last])
    real(who, **{name: arrays[name] for name in names})
    with_items(who, names[0], given[0], "components")
    of_rows(who, names[0], given[0], last, targets, 1)
    dtype = compute_dtype(*given, targets)
    return [array.astype(dtype) for array in (*given, targets)]


def ensemble(who: str, items: int, **arrays: ArrayLike) -> tuple[Array, Array]:
    """Samples `[*rows, samples, *item]` and targets `[*rows, *item]`, an item of so many axes."""
    (first, a), (second, b) = arrays.items()
    (samples,), targets = real(who, **{first: a}), number(who, second, b)
    if samples.ndim <= items or 0 in samples.shape[samples.ndim - 1 - items :]:
        axes = ", ".join(["*rows", "samples", "features"][: 2 + items])
        msg = f"{who}: `{first}` must have shape [{axes}], got {samples.shape}; give each row samples."
        raise ValueError(msg)
    of_rows(who, first, samples, second, targets, 1 + items)
    dtype = compute_dtype(samples, targets)
    return samples.astype(dtype), targets.astype(dtype)


def factored(who: str, **arrays: ArrayLike) -> tuple[Array, Array, Array]:
    """Means and targets `[*rows, D]`, between them triangular factors `[*rows, D, D]`.

    A factor without a positive diagonal is NaN.
    """
    (first, a), (second, b), (third, c) = arrays.items()
    (factors,) = real(who, **{second: b})
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
    with_items(who, next(iter(arrays)), first, "features")
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
    labels = number(who, third, c)
    one_a_row(who, first, x, third, labels, "label")
    return x, y, labels.astype(x.dtype)


def scalar_pairs(who: str, **arrays: ArrayLike) -> tuple[Array, Array, Array]:
    """Two numbers and a label −1 or +1 a row, all of one shape `[*rows]`; flags are refused."""
    (first, a), (second, b), (third, c) = arrays.items()
    _refuse_flags(who, third, c)
    x, y = paired(who, **{first: a, second: b})
    x, labels = paired(who, **{first: x, third: c})
    return x, y.astype(x.dtype), labels


def margins(who: str, **arrays: ArrayLike) -> tuple[Array, Array]:
    """Scores and labels of one shape, `[*rows]`; labels are −1 and +1, which flags are not."""
    _, second = arrays
    _refuse_flags(who, second, arrays[second])
    return paired(who, **arrays)


def _refuse_flags(who: str, name: str, labels: ArrayLike) -> None:
    if jnp.result_type(labels) == jnp.bool_:
        refuse(who, name, "−1 or +1", "bool", f"pass `2 * {name}.astype(int) - 1`")
