"""Batches from anywhere to the device, a few ahead of what is computed; and the error of one of them."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np

PyTree = Any
Result = TypeVar("Result")

# Batches given to the device before the oldest must be done: the next are read and copied while one is
# computed, and no more than these lie in memory.
AHEAD = 2


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


def in_order(started: Iterable[Result]) -> Iterator[Result]:
    """Each result on the host, `AHEAD` later ones having been started; a failure after all before it."""
    waiting, failure, source = deque[Result](), None, iter(started)
    while failure is None:
        try:
            waiting.append(next(source))
        except StopIteration:
            break
        except Exception as error:  # raised below, in its turn
            failure = error
        if len(waiting) > AHEAD:
            yield jax.device_get(waiting.popleft())
    while waiting:
        yield jax.device_get(waiting.popleft())
    if failure is not None:
        raise failure


def length(batches: Iterable[PyTree]) -> int | None:
    """How many there are, if that is known."""
    try:
        return len(batches)  # pyright: ignore[reportArgumentType]
    except TypeError:
        return None
