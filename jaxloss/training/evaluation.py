"""The mean loss of more rows than fit in memory, to the last digits."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxloss.reduction import PartialMean
from jaxloss.training._contracts import require_partial
from jaxloss.training._progress import progress_bar
from jaxloss.training._stream import WHENCE, BatchError, arguments, in_order, length

PyTree = Any


def evaluate(
    objective: Callable[..., Any], params: PyTree, batches: Iterable[PyTree], *, progress: bool = True
) -> Any:
    """The mean loss over a stream of batches, as if all rows were in one.

        Σ_batches Σ w ℓ / Σ_batches Σ w

    Each batch is summed on the device, in one compiled call; the sums of batches are added on the host in
    float64, with what each addition rounds away (Neumaier), so that their number costs no digit:
    10⁸ rows in float32 agree with float64 to 1e-7, and to 1e-6 is promised. The next batches are read
    and copied to the device while one is computed, two ahead and no more.

    Args:
        objective: `objective(params, *batch)` -> `PartialMean`, such as `jl.partial_mean(loss)` after a
            model; or a tree of them, to have several means from one pass.
        params: what is evaluated; any pytree of arrays.
        batches: any iterable: a list, a generator, a Grain or PyTorch loader, a NumPy memmap (along its
            first axis). A tuple or list is a batch of several arguments, anything else is one. The last
            may be shorter; each new shape compiles once. Arrays are copied, a loader may reuse its own.
        progress: show a bar, where the standard error is a terminal and Rich is installed.

    Returns:
        The mean as a Python float (a tree of them, if the objective returns one); 0 where no row is kept.

    Raises:
        BatchError: a batch could not be read or computed, or its sums are not finite; `index` names it and
            `partial` is what the batches before it add up to: `PartialMean`s of float64.
        TypeError, ValueError: the objective returns no `PartialMean`; there are no batches.

    Reference:
        Neumaier (1974), Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen, method IV.
    """
    compiled = _compiled(objective)
    started = (compiled(params, *arguments(batch)) for batch in batches)
    sums, done = None, 0

    def failure(why: str) -> BatchError:
        return BatchError(_failed(why, done), done, _partial(sums))

    with progress_bar("evaluate", length(batches), shown=progress) as advance:
        for parts in in_order(started, failure):
            _require_partials(parts)
            if not all(np.isfinite(leaf) for leaf in jax.tree.leaves(parts)):
                raise failure(_not_finite(parts))
            sums = _added(_zero(parts) if sums is None else sums, parts)
            done += 1
            advance("")
    if sums is None:
        raise ValueError(_EMPTY)
    return jax.tree.map(_mean, _partial(sums), is_leaf=_is_part)


_EMPTY = (
    "evaluate: `batches` is empty; pass at least one batch. A generator is used up by its first pass: make a "
    "new one for each evaluation."
)


def _not_finite(parts: PyTree) -> str:
    return f"its sums are not finite: {parts}; {WHENCE}"


def _failed(why: str, index: int) -> str:
    kept = f" The sums of the {index} batches before it are in this error's `partial`." if index else ""
    return f"evaluate: batch {index} failed: {why.rstrip('.')}.{kept}"


def _compiled(objective: Callable[..., Any]) -> Callable[..., Any]:
    """One program an objective, however often it is evaluated: `jax.jit` knows it again by its hash.

    One without, as a module that holds arrays, is compiled at each evaluation.
    """
    try:
        hash(objective)
    except TypeError:
        return jax.jit(lambda *args: objective(*args))
    return jax.jit(objective)


# --- sums in float64, with what rounding took -------------------------------------------------------


class _Sum(NamedTuple):
    """A sum and what has been rounded away from it; their sum is right to float64's last digit."""

    value: float
    lost: float


def _plus(total: _Sum, number: np.ndarray) -> _Sum:
    term = float(number)
    value = total.value + term
    large, small = (total.value, term) if abs(total.value) >= abs(term) else (term, total.value)
    return _Sum(value, total.lost + ((large - value) + small))


def _zero(parts: PyTree) -> PyTree:
    return jax.tree.map(lambda _: _Sum(0.0, 0.0), parts)


def _added(sums: PyTree, parts: PyTree) -> PyTree:
    return jax.tree.map(_plus, sums, parts, is_leaf=lambda node: isinstance(node, _Sum))


def _partial(sums: PyTree) -> PyTree:
    """The sums so far, rounded to float64 once; None before the first."""
    return jax.tree.map(
        lambda total: np.float64(total.value + total.lost), sums, is_leaf=lambda node: isinstance(node, _Sum)
    )


# --- what the objective returned --------------------------------------------------------------------


def _is_part(node: object) -> bool:
    return isinstance(node, PartialMean)


def _mean(part: PartialMean) -> float:
    """As `PartialMean.value`, in float64 whether or not JAX has it enabled."""
    total, weight = float(part.total), float(part.weight)
    return 0.0 if total == weight == 0 else total / weight


def _require_partials(returned: PyTree) -> None:
    for part in jax.tree.leaves(returned, is_leaf=_is_part) or [returned]:
        require_partial("evaluate", part)
