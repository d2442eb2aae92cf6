"""The training loop: epochs over batches, watched, kept and taken up again where it stopped."""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxloss.reduction import PartialMean
from jaxloss.training import _checkpoints
from jaxloss.training._contracts import (
    positive_count,
    require_epochs,
    require_floating,
    require_partial,
    require_saving,
)
from jaxloss.training._progress import progress_bar
from jaxloss.training._step import step_of
from jaxloss.training._stream import WHENCE, BatchError, arguments, in_order, length
from jaxloss.training.accumulation import Accumulated
from jaxloss.training.descent import Optimizer, all_finite, where
from jaxloss.training.evaluation import evaluate

PyTree = Any
Batches: TypeAlias = Iterable[PyTree] | Callable[[int], Iterable[PyTree]]


class Epoch(NamedTuple):
    """What one pass over the batches came to.

    Attributes:
        number: which pass, from 0.
        loss: the mean over its rows of the loss that each had before its own batch's update; of a scalar
            objective, which tells no weights, the mean over its batches.
        validation: the mean over all validation rows after the pass; None without any.
    """

    number: int
    loss: float
    validation: float | None


class Fit(NamedTuple):
    """What `fit` came to.

    Attributes:
        params: the parameters of the lowest validation loss; without validation the last.
        last: the parameters after the last update; None, and so is `opt_state`, if the device failed.
        opt_state: the optimizer's state after it.
        history: an `Epoch` for each whole pass.
        best: the number of the epoch `params` are of; None without validation, or before a whole pass.
        reason: why it ended: "epochs", "patience" or "callback"; of a `BatchError` "failed".
    """

    params: PyTree
    last: PyTree
    opt_state: PyTree
    history: tuple[Epoch, ...]
    best: int | None
    reason: str


class _Run(NamedTuple):
    """What lives on the device; from the first loss or update on that is not finite, nothing moves."""

    params: PyTree
    opt_state: PyTree
    fine: Array


class _Record(NamedTuple):
    """What is told of the run so far, as JSON can tell it."""

    batch: int = 0  # batches done in the epoch begun, whose number is that of the whole ones
    total: float = 0.0  # Σwℓ of their rows
    weight: float = 0.0  # Σw of them
    history: tuple[Epoch, ...] = ()
    best: int | None = None
    best_loss: float = math.inf


class _State(NamedTuple):
    """All there is of a run."""

    run: _Run
    best: PyTree  # the parameters of the lowest validation loss; None without validation
    record: _Record = _Record()


def fit(
    objective: Callable[..., Any],
    params: PyTree,
    batches: Batches,
    optimizer: Optimizer,
    *,
    epochs: int,
    validation: Batches | None = None,
    patience: int | None = None,
    callbacks: Iterable[Callable[[Epoch, PyTree], object]] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    save_every: int | None = None,
    microbatches: int = 1,
    progress: bool = True,
) -> Fit:
    """Train by an Optax optimizer over epochs of batches; `adapters.optax.train_step` is its every step.

        θ_{i+1} = θ_i + u(∂L/∂θ of batch i)     for each batch of each epoch

    A loss or an update that is not finite stops the run: a `BatchError` names the batch and carries the
    parameters before it. (A gradient that overflows the optimizer's own memory, Adam's g² in float32 from
    2e19 on, may leave an update of 0, which is finite and is not seen: clip it.) The next two batches are
    read and copied to the device while one is computed.

    Args:
        objective: `objective(params, *batch)` -> floating scalar or `PartialMean`; with `validation` or
            `microbatches` a `PartialMean`, `jl.partial_mean(loss)` after a model.
        params: the start, a pytree of floating arrays; copied, not donated.
        batches: what one epoch passes over, as `evaluate` takes it, and again for the next: a list or a
            loader; or a function of the epoch's number that returns it, as for a generator or a new
            shuffle.
        optimizer: any Optax optimizer, or `adapters.optax.accumulate` of one.
        epochs: how many passes in all, those of a run resumed included.
        validation: batches evaluated after each epoch; the parameters of the lowest loss are kept.
        patience: stop after so many epochs in a row that did not lower the validation loss.
        callbacks: functions of the `Epoch` and the parameters after it; one that returns True stops the
            run, and anything else does not. The parameters' memory is used again: copy what you keep.
        checkpoint: a directory where the run is saved after each epoch, and taken up again if it holds one.
            Resumed, it ends with the same bits as if it had not been stopped, provided that `batches` are
            the same again; those of a begun epoch that are done are read and left out. A run that a callback
            stopped goes on too, until the callback is asked after one epoch more.
        save_every: save after so many batches as well, for long epochs.
        microbatches: in how many parts each batch passes through the model; see `train_step`.
        progress: show a bar, where the standard error is a terminal and Rich is installed.

    Returns:
        A `Fit`: params, last, opt_state, history, best, reason.

    Raises:
        BatchError: a batch could not be read or computed, an objective that `train_step` refuses among the
            reasons; its loss or its update is not finite; or validation failed after an epoch. `partial` is
            the `Fit` up to there. Where the device itself failed, out of memory or in a callback, it took the
            parameters with it, since each step uses their memory again: `partial.last` is None, and
            `partial.params` those of the best epoch, if there was one. `checkpoint` keeps more.
        TypeError, ValueError: parameters or an option that `train_step` would refuse; no batches; before the
            first step, an objective or a validation batch that `evaluate` would refuse; `patience` without
            `validation`; a checkpoint of another model.
        ImportError: `checkpoint` without Orbax.
    """
    require_epochs(epochs, batches, validation, patience)
    require_saving(checkpoint, save_every)
    require_floating("fit", params)
    positive_count("fit", "microbatches", microbatches)
    callbacks = tuple(callbacks)
    step = _guarded(objective, optimizer, microbatches)
    state, reason = _start(params, optimizer, validated=validation is not None), None

    def trained(state: _State, source: Iterator[PyTree], advance: Callable[[str], None]) -> _State:
        """After what is left of the epoch begun, saved after each `save_every` batches."""
        while True:
            before = state.record.batch
            state = _segment(step, state, islice(source, save_every), advance)
            if not state.record.batch:
                raise ValueError(_EMPTY)
            if save_every is None or state.record.batch - before < save_every:
                return state
            store.save(state[:2], state.record._asdict())

    with _checkpoints.opened(checkpoint) as store:
        if saved := store.restore(state[:2]):
            (run, best), told = saved
            state = _State(run, best, _read(told))
        _require_validation(objective, state, validation)
        while (reason := reason or _over(state.record, epochs, patience)) is None:
            title = f"epoch {len(state.record.history) + 1}/{epochs}"
            total = None if callable(batches) else length(batches)
            with progress_bar(title, total, done=state.record.batch, shown=progress) as advance:
                state = trained(state, _of_epoch(batches, state.record), advance)
            state = _closed(state, _validated(objective, state, validation))
            store.save(state[:2], state.record._asdict())
            answers = [callback(state.record.history[-1], state.run.params) for callback in callbacks]
            reason = "callback" if any(map(_is_true, answers)) else None
    return _result(state, reason)


# --- on the device ----------------------------------------------------------------------------------


def _start(params: PyTree, optimizer: Optimizer, *, validated: bool) -> _State:
    # The step uses the memory of all this again. What `init` returns may be the optimizer's own, as a key is.
    start = _copied(params)
    run = _Run(start, _copied(optimizer.init(start)), jnp.asarray(True))
    return _State(run, _copied(start) if validated else None)


def _copied(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), tree)


class _Seen(NamedTuple):
    """What a step tells the host."""

    loss: Array
    weight: Array  # Σw of its rows
    fine: Array


def _guarded(
    objective: Callable[..., Any], optimizer: Optimizer, microbatches: int
) -> Callable[..., tuple[_Run, _Seen]]:
    """The compiled step that moves nothing by a loss or an update that is not finite, nor after it.

    What is kept must be told on the device: by the time the host has seen the loss, later steps have begun,
    in the memory of the parameters before.
    """
    step = step_of(_weighed(objective), optimizer, has_aux=True, microbatches=microbatches)

    def guarded(run: _Run, *batch: PyTree) -> tuple[_Run, _Seen]:
        params, opt_state, (loss, weight) = step(run.params, run.opt_state, *batch)
        added = opt_state.totals if isinstance(opt_state, Accumulated) else ()
        fine = run.fine & jnp.isfinite(loss) & all_finite((params, added))
        params, opt_state = where(fine, (params, opt_state), (run.params, run.opt_state))
        return _Run(params, opt_state, fine), _Seen(loss, jnp.sum(weight), fine)

    return jax.jit(guarded, donate_argnums=0)


def _weighed(objective: Callable[..., Any]) -> Callable[..., tuple[Any, Array]]:
    """The objective, and the weight of its rows beside it; 1 where it does not tell."""

    def weighed(params: PyTree, *batch: PyTree) -> tuple[Any, Array]:
        returned = objective(params, *batch)
        return returned, jnp.asarray(returned.weight if isinstance(returned, PartialMean) else 1.0)

    return weighed


# --- one epoch --------------------------------------------------------------------------------------


def _made(batches: Batches, number: int) -> Iterable[PyTree]:
    """What epoch number `number` passes over."""
    return batches(number) if callable(batches) else batches


def _of_epoch(batches: Batches, record: _Record) -> Iterator[PyTree]:
    """What is left of the epoch begun."""
    source = iter(_made(batches, len(record.history)))
    skipped = sum(1 for _ in islice(source, record.batch))
    if skipped < record.batch:
        msg = (
            f"fit: `batches` must be those the run was begun with, of which {record.batch} of this epoch are "
            f"done, got {skipped} in all; give the same again, or name an empty directory as `checkpoint`"
        )
        raise ValueError(msg)
    yield from source


def _segment(
    step: Callable[..., tuple[_Run, _Seen]],
    state: _State,
    batches: Iterator[PyTree],
    advance: Callable[[str], None],
) -> _State:
    run, best, record = state

    def started() -> Iterator[_Seen]:
        nonlocal run
        for batch in batches:
            run, seen = step(run, *arguments(batch))
            yield seen

    def failure(why: str) -> BatchError:
        return _failure(why, _State(run, best, record))

    for loss, weight, fine in in_order(started(), failure):
        if not fine:
            raise failure(_not_finite(float(loss)))
        total = record.total + float(loss) * float(weight)
        record = record._replace(batch=record.batch + 1, total=total, weight=record.weight + float(weight))
        advance(f"loss {loss:.4g}")
    return _State(run, best, record)


def _validated(objective: Callable[..., Any], state: _State, validation: Batches | None) -> float | None:
    """The validation loss of the epoch, all batches of which are done."""
    if validation is None:
        return None
    number = len(state.record.history)
    try:
        return evaluate(objective, state.run.params, _made(validation, number), progress=False)
    except Exception as error:  # whatever it is, the epoch is not lost
        msg = f"fit: validation after epoch {number} failed; {error}"
        raise BatchError(msg, getattr(error, "index", 0), _result(state, "failed")) from error


def _closed(state: _State, validation: float | None) -> _State:
    """After the epoch, all batches of which are done."""
    run, best, record = state
    number = len(record.history)
    loss = record.total / record.weight if record.weight else 0.0
    if validation is not None and validation < record.best_loss:
        best, record = _copied(run.params), record._replace(best=number, best_loss=validation)
    epoch = Epoch(number, loss, validation)
    told = record._replace(batch=0, total=0.0, weight=0.0, history=(*record.history, epoch))
    return _State(run, best, told)


def _over(record: _Record, epochs: int, patience: int | None) -> str | None:
    done = len(record.history)
    if patience is not None and record.best is not None and done - 1 - record.best >= patience:
        return "patience"
    return "epochs" if done >= epochs else None


def _is_true(answer: Any) -> bool:
    """Whether it is True, Python's or NumPy's or JAX's; not whatever equals it, and no array of many."""
    number = getattr(answer, "dtype", None) == np.bool_ and np.ndim(answer) == 0
    return answer is True or (number and bool(answer))


def _require_validation(objective: Callable[..., Any], state: _State, validation: Batches | None) -> None:
    """Refuse before the first step what `evaluate` would after a whole epoch, read off one batch.

    A batch of an iterator would be lost to the pass it is for.
    """
    if validation is None or isinstance(validation, Iterator):
        return
    batch = next(iter(_made(validation, len(state.record.history))), None)
    if batch is None:
        raise ValueError(_NO_VALIDATION)
    try:
        part = jax.eval_shape(objective, state.run.params, *arguments(batch))
    except (TypeError, ValueError) as error:
        error.add_note("fit: this is what the objective makes of the first batch of `validation`.")
        raise
    require_partial("fit", part)


# --- what is told -----------------------------------------------------------------------------------


def _read(saved: dict[str, Any]) -> _Record:
    return _Record(**saved)._replace(history=tuple(Epoch(*row) for row in saved["history"]))


def _result(state: _State, reason: str) -> Fit:
    (params, opt_state, _), best, record = state
    return Fit(
        params if record.best is None else best, params, opt_state, record.history, record.best, reason
    )


def _failure(why: str, state: _State) -> BatchError:
    record = state.record
    if lost := _is_lost(state.run):
        state = state._replace(run=_Run(None, None, state.run.fine))
    advice = _LOST if lost else _KEPT if record.batch or record.history else ""
    msg = f"fit: batch {record.batch} of epoch {len(record.history)} failed: {why.rstrip('.')}.{advice}"
    return BatchError(msg, record.batch, _result(state, "failed"))


def _is_lost(run: _Run) -> bool:
    """Whether the device failed in a step, which had been given the memory of the run before it."""
    try:
        jax.block_until_ready(run)
    except RuntimeError:
        return True
    return False


_KEPT = " The parameters before it are `partial.last` of this error."
_LOST = (
    " The parameters were lost in it: the step uses their memory again. Those of the best epoch, if "
    "`validation` found one, are `partial.params` of this error; `checkpoint` and `save_every` keep more."
)


def _not_finite(loss: float) -> str:
    what = "its gradient or update is not finite, with a loss of" if math.isfinite(loss) else "its loss is"
    return (
        f"{what} {loss}; {WHENCE}. Repair that batch, or remove rows by `where`; lower the learning rate, or "
        "clip the gradient"
    )


_EMPTY = "fit: `batches` is empty; pass at least one batch an epoch."
_NO_VALIDATION = "fit: `validation` is empty; pass at least one batch, or leave it out."
