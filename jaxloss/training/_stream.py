"""Batches from anywhere to the device, a few ahead of what is computed; and the error of one of them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np

PyTree = Any
Result = TypeVar("Result")

# Batches given to the device before the oldest must be done: the next are read and copied while one is
# computed, and no more than these lie in memory.
AHEAD = 2

# What to do about a number that is not finite, of whatever it came.
WHENCE = (
    "`jl.checked(objective)` on that batch names a value outside a loss's domain, `jax.debug_nans(True)` the "
    "operation that any other comes from"
)


class BatchError(RuntimeError):
    """A batch could not be read or computed, or gave a number that is not finite.

    Attributes:
        index: which one, counted from 0 in its pass over the batches.
        partial: what all batches before it gave; of `evaluate` the sums, of `fit` the whole `Fit`.
    """

    def __init__(self, message: str, index: int, partial: PyTree) -> None:
        super().__init__(message)
        self.index = index
        self.partial = partial

    def __reduce__(self) -> tuple[type, tuple]:
        """So that it may come from another process."""
        return type(self), (str(self), self.index, self.partial)


def arguments(batch: PyTree) -> tuple:
    """The positional arguments a batch is: what a tuple or a list holds, else the one thing it is.

    Copied by NumPy, at once: a loader may write the next batch into the same memory while this one is
    computed, and JAX reads NumPy's memory in place, or copies it later.
    """
    parts = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
    return jax.tree.map(_copied, parts)


def _copied(leaf: Any) -> jax.Array:
    return leaf if isinstance(leaf, jax.Array) else jax.device_put(np.array(np.asarray(leaf)))


def in_order(started: Iterable[Result], failure: Callable[[str], BatchError]) -> Iterator[Result]:
    """Each result on the host, `AHEAD` later ones having been started.

    What fails, fails after all before it have been yielded, as `failure` words it.
    """
    waiting, source, more, failed = deque[Result](), iter(started), True, None
    while more or waiting:
        try:
            if more:
                waiting.append(next(source))
        except StopIteration:
            more = False
        except Exception as error:  # raised below, in its turn
            more, failed = False, error
        if waiting and (len(waiting) > AHEAD or not more):
            try:
                result = jax.device_get(waiting.popleft())
            except Exception as error:
                raise failure(_words(error)) from error
            yield result
    if failed is not None:
        raise failure(_words(failed)) from failed


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def length(batches: Iterable[PyTree]) -> int | None:
    """How many there are, if that is known."""
    try:
        return len(batches)  # pyright: ignore[reportArgumentType]
    except TypeError:
        return None
