"""What the training loop refuses, in words."""

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import PyTree

from jaxloss.reduction import PartialMean


def require_floating(who: str, tree: PyTree, name: str = "params") -> None:
    """Refuse a tree that gradient descent cannot move, naming the first leaf at fault."""
    leaves = jax.tree.leaves_with_path(tree)
    if not leaves:
        msg = f"{who}: `{name}` has no array in it, so there is nothing to update; got {tree!r}."
        raise ValueError(msg)
    for path, leaf in leaves:
        kind = _kind(leaf)
        if not jnp.issubdtype(kind, jnp.floating):
            msg = (
                f"{who}: `{name}{jax.tree_util.keystr(path)}` must be floating, got {kind}; keep "
                "what is not trained out of it (`eqx.partition(model, eqx.is_inexact_array)` with "
                "Equinox, `nnx.split(model, nnx.Param, ...)` with Flax)."
            )
            raise TypeError(msg)


def _kind(leaf: object) -> np.dtype | type:
    """The dtype of a leaf, or the type of one that is not a number."""
    if isinstance(leaf, (Array, np.ndarray, np.generic, bool, int, float, complex)):
        return jnp.result_type(leaf)
    return type(leaf)


def require_alike(who: str, params: PyTree, grads: PyTree) -> None:
    wanted, given = _shapes(params), _shapes(grads)
    for path in wanted | given:
        if wanted.get(path) != given.get(path):
            msg = (
                f"{who}: `params` and `grads` must have one structure and one shape a leaf; "
                f"`params{path}` has {wanted.get(path, 'no array')}, "
                f"`grads{path}` has {given.get(path, 'no array')}."
            )
            raise ValueError(msg)
    if jax.tree.structure(params) != jax.tree.structure(grads):
        msg = (
            f"{who}: `params` and `grads` must have one structure, got "
            f"{jax.tree.structure(params)} and {jax.tree.structure(grads)}."
        )
        raise ValueError(msg)


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}


def require_one_method(learning_rate: ArrayLike | None, optimizer: object) -> None:
    if (learning_rate is None) == (optimizer is None):
        got = "neither" if optimizer is None else "both"
        msg = (
            f"minimize: give `learning_rate` (gradient descent by hand) or `optimizer` (any Optax "
            f"optimizer), got {got}."
        )
        raise ValueError(msg)


def require_scalar(who: str, loss: object) -> None:
    if not isinstance(loss, (Array, np.ndarray, np.generic, float)):
        msg = f"{who}: `objective` must return a scalar loss, got {type(loss).__name__}."
        raise TypeError(msg)
    if jnp.shape(loss) != ():
        msg = (
            f"{who}: `objective` must return a scalar, got shape {jnp.shape(loss)}; a loss of rows "
            "becomes one with `jl.mean(loss)`."
        )
        raise ValueError(msg)
    if not jnp.issubdtype(jnp.result_type(loss), jnp.floating):
        msg = f"{who}: `objective` must return a floating loss, got {jnp.result_type(loss)}."
        raise TypeError(msg)


def pair(who: str, returned: object) -> tuple:
    """What an objective with `has_aux` returns: the loss, and anything."""
    if not isinstance(returned, (tuple, list)) or len(returned) != 2:
        msg = (
            f"{who}: with `has_aux` the `objective` must return a pair, the loss and what else is wanted, "
            f"got {_described(returned)}; return `loss, aux`, or leave `has_aux` out."
        )
        raise TypeError(msg)
    return tuple(returned)


def require_partial(who: str, part: object) -> None:
    """Refuse what is not a mean yet to be divided, whose parts would not add up."""
    if not isinstance(part, PartialMean):
        msg = (
            f"{who}: `objective` must return a `PartialMean`, got {_described(part)}; parts of a batch add "
            "up only before they are divided: write `jl.partial_mean(loss)` for `jl.mean(loss)`."
        )
        raise TypeError(msg)
    for name, leaf in (("total", part.total), ("weight", part.weight)):
        if jnp.shape(leaf) != ():
            msg = (
                f"{who}: the {name} of the `PartialMean` must be a scalar, got shape {jnp.shape(leaf)}; "
                "sum it over its rows, as `jl.partial_mean(loss)` does."
            )
            raise ValueError(msg)
    if not jnp.issubdtype(jnp.result_type(part.total), jnp.floating):
        msg = f"{who}: the total of the `PartialMean` must be floating, got {jnp.result_type(part.total)}."
        raise TypeError(msg)


def _described(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, (Array, np.ndarray, np.generic, int, float)):
        return f"{jnp.result_type(value)}{list(jnp.shape(value))}"
    return type(value).__name__


def require_microbatches(who: str, batch: tuple, microbatches: int) -> None:
    """Refuse a batch that does not fall into that many microbatches of one size."""
    leaves = jax.tree.leaves_with_path(batch)
    if not leaves:
        msg = (
            f"{who}: `microbatches` is {microbatches} but there is no batch to divide; pass its arrays by "
            "position, `step(params, opt_state, x, y)`."
        )
        raise ValueError(msg)
    first = jnp.shape(leaves[0][1])
    for path, leaf in leaves:
        name, shape = f"batch{jax.tree_util.keystr(path)}", jnp.shape(leaf)
        if not shape or shape[0] != first[0]:
            msg = (
                f"{who}: `microbatches` divides the rows of a batch, and `{name}` {shape} has other rows "
                f"than `batch{jax.tree_util.keystr(leaves[0][0])}` {first}; pass what is no row by name."
            )
            raise ValueError(msg)
    if first[0] % microbatches:
        msg = (
            f"{who}: `microbatches` = {microbatches} must divide the {first[0]} rows of the batch; pad it to "
            f"{-(-first[0] // microbatches) * microbatches} rows and remove these by `where`, or choose a "
            f"divisor of {first[0]}."
        )
        raise ValueError(msg)


def positive_rate(who: str, learning_rate: ArrayLike) -> ArrayLike:
    """The learning rate, refused in words if it is known not to be one positive number."""
    if callable(learning_rate):
        msg = (
            f"{who}: `learning_rate` must be a number; for a schedule pass "
            "`jaxloss.adapters.optax.gradient_descent(schedule)` as the optimizer."
        )
        raise TypeError(msg)
    rate = _known_number(who, "learning_rate", learning_rate)
    if rate is not None and not 0.0 < rate < math.inf:
        msg = f"{who}: `learning_rate` must be positive and finite, got {learning_rate}."
        raise ValueError(msg)
    return learning_rate


def limit_or_none(name: str, value: ArrayLike | None, *, lowest: float) -> Array:
    """An optional stopping rule's number; -inf, which nothing reaches, for none."""
    if value is None:
        return traced(-math.inf)
    number = _known_number("minimize", name, value)
    if number is not None and not number >= lowest:
        wanted = "not be NaN" if lowest == -math.inf else f"be at least {lowest:g}"
        msg = f"minimize: `{name}` must {wanted}, got {value}."
        raise ValueError(msg)
    return traced(value)


def _known_number(who: str, name: str, value: ArrayLike) -> float | None:
    """The value of a scalar option; None while it is traced."""
    if jnp.shape(value) != ():
        msg = f"{who}: `{name}` must be one number, got shape {jnp.shape(value)}."
        raise ValueError(msg)
    return None if isinstance(value, Tracer) else float(np.asarray(value))


def traced(number: ArrayLike) -> Array:
    """A number of one dtype however it was written, so that it does not compile the loop again."""
    return jnp.asarray(number, dtype=float)


def positive_count(who: str, name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        msg = f"{who}: `{name}` must be a Python integer, got {value!r}."
        raise TypeError(msg)
    if value < 1:
        msg = f"{who}: `{name}` must be at least 1, got {value}."
        raise ValueError(msg)
    return int(value)


def require_epochs(epochs: int, batches: object, validation: object, patience: int | None) -> None:
    """Refuse epochs that are no count, and batches that are none or do not last for them."""
    positive_count("fit", "epochs", epochs)
    if patience is not None:
        positive_count("fit", "patience", patience)
        if validation is None:
            msg = "fit: `patience` counts epochs without a lower validation loss; give `validation` batches."
            raise ValueError(msg)
    given = (
        (("batches", batches),) if validation is None else (("batches", batches), ("validation", validation))
    )
    for name, source in given:
        # `iter` itself would start a loader's workers.
        if not any(hasattr(source, form) for form in ("__iter__", "__getitem__", "__call__")):
            msg = (
                f"fit: `{name}` must be an iterable of batches, or a function of the epoch's number, got "
                f"{type(source).__name__}; for one batch write `[(x, y)]`."
            )
            raise TypeError(msg)
        if epochs > 1 and isinstance(source, Iterator):
            msg = (
                f"fit: `{name}` is used up by its first pass, and `epochs` is {epochs}; pass a list, a "
                "loader, or a function of the epoch's number that makes it anew."
            )
            raise ValueError(msg)


def require_saving(checkpoint: object, save_every: int | None) -> None:
    """Refuse a number of batches between saves that are saved nowhere."""
    if save_every is None:
        return
    positive_count("fit", "save_every", save_every)
    if checkpoint is None:
        msg = "fit: `save_every` needs a directory to save to; give `checkpoint`."
        raise ValueError(msg)
