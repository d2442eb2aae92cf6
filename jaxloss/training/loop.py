"""The training loop: epochs over batches, watched, kept and taken up again where it stopped."""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss.training import _checkpoints
from jaxloss.training._contracts import positive_count, require_epochs, require_floating, require_saving
from jaxloss.training._progress import progress_bar
from jaxloss.training._step import step_of, unshared
from jaxloss.training._stream import BatchError, arguments, in_order, length
from jaxloss.training.accumulation import Accumulated
from jaxloss.training.descent import Optimizer, all_finite
from jaxloss.training.evaluation import evaluate

PyTree = Any
Batches: TypeAlias = Iterable[PyTree] | Callable[[int], Iterable[PyTree]]


class Epoch(NamedTuple):
    """What one pass over the batches came to.

    Attributes:
        number: which pass, from 0.
        loss: the mean over its batches of the loss that each had before its own update.
        validation: the mean over all validation rows after the pass; None without any.
    """

    number: int
    loss: float
    validation: float | None


class Fit(NamedTuple):
    """What `fit` came to.

    Attributes:
        params: the parameters of the lowest validation loss; without validation the last.
        last: the parameters after the last update.
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
    total: float = 0.0  # of their losses
    history: tuple[Epoch, ...] = ()
    best: int | None = None


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
    parameters before it. The next two batches are read and copied to the device while one is computed.

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
            run. The parameters' memory is used again: copy what you keep.
        checkpoint: a directory where the run is saved after each epoch, and taken up again if it holds one.
            Resumed, it ends with the same bits as if it had not been stopped, provided that `batches` are
            the same again; those of a begun epoch that are done are read and left out.
        save_every: save after so many batches as well, for long epochs.
        microbatches: in how many parts each batch passes through the model; see `train_step`.
        progress: show a bar, where the standard error is a terminal and Rich is installed.

    Returns:
        A `Fit`: params, last, opt_state, history, best, reason.

    Raises:
        BatchError: a batch could not be read or computed, its loss or its update is not finite, or a
            validation batch failed; `partial` is the `Fit` up to there.
        TypeError, ValueError: an objective, parameters or an option that `train_step` or `evaluate` would
            refuse; no batches; `patience` without `validation`; a checkpoint of another model.
        ImportError: `checkpoint` without Orbax.
    """
    require_epochs(epochs, batches, validation, patience)
    require_saving(checkpoint, save_every)
    require_floating("fit", params)
    positive_count("fit", "microbatches", microbatches)
    callbacks = tuple(callbacks)
    step = _guarded(step_of(objective, optimizer, has_aux=False, microbatches=microbatches))
    run = _start(params, optimizer)
    best, record, reason = (None if validation is None else _copied(run.params)), _Record(), None
    with _checkpoints.opened(checkpoint) as store:
        if saved := store.restore((run, best)):
            (run, best), record = saved[0], _read(saved[1])
        while (reason := reason or _over(record, epochs, patience)) is None:
            number, source = len(record.history), _of_epoch(batches, record)
            title = f"epoch {number + 1}/{epochs}"
            total = None if callable(batches) else length(batches)
            with progress_bar(title, total, done=record.batch, shown=progress) as advance:
                run, record = _pass(step, run, record, best, source, save_every, store.save, advance)
            epoch = _closed(objective, run, record, best, validation)
            if _is_better(epoch, record):
                best, record = _copied(run.params), record._replace(best=number)
            record = _Record(history=(*record.history, epoch), best=record.best)
            store.save((run, best), record._asdict())
            answers = [callback(epoch, run.params) for callback in callbacks]
            reason = "callback" if True in answers else None
    return _result(run, best, record, reason)


# --- on the device ----------------------------------------------------------------------------------


def _start(params: PyTree, optimizer: Optimizer) -> _Run:
    start = _copied(params)
    return _Run(start, jax.tree.map(jnp.asarray, optimizer.init(start)), jnp.asarray(True))


def _copied(params: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), params)


def _guarded(step: Callable[..., Any]) -> Callable[..., tuple[_Run, tuple[Array, Array]]]:
    """The compiled step that moves nothing by a loss or an update that is not finite, nor after it.

    What is kept must be told on the device: by the time the host has seen the loss, later steps have begun,
    in the memory of the parameters before.
    """

    def guarded(run: _Run, *batch: PyTree) -> tuple[_Run, tuple[Array, Array]]:
        params, opt_state, loss = step(run.params, run.opt_state, *batch)
        added = opt_state.totals if isinstance(opt_state, Accumulated) else ()
        fine = run.fine & jnp.isfinite(loss) & all_finite((params, added))
        old = (run.params, run.opt_state)
        moved = jax.tree.map(lambda new, old: jnp.where(fine, new, old), (params, opt_state), old)
        return _Run(moved[0], moved[1], fine), (loss, fine)

    compiled = jax.jit(guarded, donate_argnums=0)
    return lambda run, *batch: compiled(unshared(run, batch), *batch)


# --- one epoch --------------------------------------------------------------------------------------


def _of_epoch(batches: Batches, record: _Record) -> Iterator[PyTree]:
    """What is left of the epoch begun."""
    whole = batches(len(record.history)) if callable(batches) else batches
    return islice(whole, record.batch, None)


def _pass(
    step: Callable[..., Any],
    run: _Run,
    record: _Record,
    best: PyTree,
    source: Iterator[PyTree],
    save_every: int | None,
    save: Callable[[PyTree, dict[str, Any]], None],
    advance: Callable[[str], None],
) -> tuple[_Run, _Record]:
    """What is left of the epoch begun, saved after each `save_every` batches, when all of them are done."""
    while True:
        before = record.batch
        run, record = _segment(step, run, record, best, islice(source, save_every), advance)
        if not record.batch:
            raise ValueError(_EMPTY)
        if save_every is None or record.batch - before < save_every:
            return run, record
        save((run, best), record._asdict())


def _segment(
    step: Callable[..., Any],
    run: _Run,
    record: _Record,
    best: PyTree,
    batches: Iterator[PyTree],
    advance: Callable[[str], None],
) -> tuple[_Run, _Record]:
    def started() -> Iterator[tuple[Array, Array]]:
        nonlocal run
        for batch in batches:
            run, seen = step(run, *arguments(batch))
            yield seen

    def failure(why: str) -> BatchError:
        return BatchError(_failed(why, record), record.batch, _result(run, best, record, "failed"))

    for loss, fine in in_order(started(), failure):
        if not fine:
            raise failure(_not_finite(float(loss)))
        record = record._replace(batch=record.batch + 1, total=record.total + float(loss))
        advance(f"loss {loss:.4g}")
    return run, record


def _closed(
    objective: Callable[..., Any], run: _Run, record: _Record, best: PyTree, validation: Batches | None
) -> Epoch:
    """The epoch, all batches of which are done."""
    number, loss = len(record.history), record.total / record.batch
    if validation is None:
        return Epoch(number, loss, None)
    source = validation(number) if callable(validation) else validation
    try:
        return Epoch(number, loss, evaluate(objective, run.params, source, progress=False))
    except BatchError as error:
        msg = f"fit: validation after epoch {number} failed; {error}"
        raise BatchError(msg, error.index, _result(run, best, record, "failed")) from error


def _is_better(epoch: Epoch, record: _Record) -> bool:
    if epoch.validation is None or record.best is None:
        return epoch.validation is not None
    return epoch.validation < (record.history[record.best].validation or 0.0)


def _over(record: _Record, epochs: int, patience: int | None) -> str | None:
    done = len(record.history)
    if patience is not None and record.best is not None and done - 1 - record.best >= patience:
        return "patience"
    return "epochs" if done >= epochs else None


# --- what is told -----------------------------------------------------------------------------------


def _read(saved: dict[str, Any]) -> _Record:
    history = tuple(Epoch(*row) for row in saved["history"])
    return _Record(saved["batch"], saved["total"], history, saved["best"])


def _result(run: _Run, best: PyTree, record: _Record, reason: str) -> Fit:
    params = run.params if record.best is None else best
    return Fit(params, run.params, run.opt_state, record.history, record.best, reason)


def _not_finite(loss: float) -> str:
    what = "its gradient or update is not finite, with a loss of" if math.isfinite(loss) else "its loss is"
    return (
        f"{what} {loss}; `jl.checked(objective)` on that batch says where it comes from. Repair it, or "
        "remove rows by `where`; lower the learning rate, or clip the gradient"
    )


def _failed(why: str, record: _Record) -> str:
    return (
        f"fit: batch {record.batch} of epoch {len(record.history)} failed: {why}. The parameters before it "
        "are `partial.last` of this error."
    )


_EMPTY = "fit: `batches` is empty; pass at least one batch an epoch."
