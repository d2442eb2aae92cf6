"""One harness for every case: right first, then timed side by side with its peers, in one process."""

import functools
import importlib.metadata
import importlib.util
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

OURS = "jaxloss"
LIMIT = "limit"

# A float32 mean of millions of rows and its gradient, against float64.
TOLERANCE = 3e-5


class WrongError(ValueError):
    """What was asked for is not timed, because it is wrong."""


class Prepared(NamedTuple):
    """A contender ready to run: what it answers, the seconds of one run, its scratch memory."""

    answer: Callable[[], Any]
    seconds: Callable[[], float]
    temp_bytes: int | None = None


Inputs = tuple[np.ndarray, ...]
Function = Callable[..., Any]


class Contender(NamedTuple):
    """One way to do what a case asks for; `needs` names a package it is left out without.

    A contender that does not answer the case's question, such as the limit, is there to compare
    times with, and is not checked.
    """

    name: str
    function: Any
    prepare: Callable[[Any, Inputs], Prepared]
    needs: str | None = None
    answers: bool = True


class Target(NamedTuple):
    """Ours takes at most this many times as long as `against`; or, against nobody, this many seconds."""

    at_most: float
    against: str | None = None


class Case(NamedTuple):
    """What is compared, as data: one contender is ours, one may be the limit.

    An answer may be off by the tolerance, as a fraction; more only where an approximation is what is timed.
    """

    name: str
    title: str
    inputs: Callable[..., Inputs]
    oracle: Callable[..., Any] | None
    contenders: tuple[Contender, ...]
    targets: tuple[Target, ...] = ()
    tolerance: float = TOLERANCE


# --- how a contender is run -------------------------------------------------------------------


def compiled(function: Callable[..., Any], inputs: Inputs) -> Prepared:
    """Compile ahead; the inputs are arguments, so nothing is folded into the program."""
    arrays = tuple(jnp.asarray(array) for array in inputs)
    program = jax.jit(function).lower(*arrays).compile()
    memory = program.memory_analysis()
    run = functools.partial(program, *arrays)
    return Prepared(
        answer=run,
        seconds=lambda: _elapsed(lambda: jax.block_until_ready(run())),
        temp_bytes=None if memory is None else int(memory.temp_size_in_bytes),
    )


def eager(function: Callable[..., Any], inputs: Inputs) -> Prepared:
    """Call as a user at a prompt does; the seconds are those of one call of many."""
    arrays = tuple(jnp.asarray(array) for array in inputs)
    calls = 50

    def many() -> None:
        for _ in range(calls):
            jax.block_until_ready(function(*arrays))

    return Prepared(answer=lambda: function(*arrays), seconds=lambda: _elapsed(many) / calls)


def torch_autograd(function: Callable[..., Any], inputs: Inputs, leaves: int = 1) -> Prepared:
    """PyTorch's value and gradient in the first arguments, on the device JAX uses."""
    import torch

    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    arrays = [torch.from_numpy(array).to(device) for array in inputs]
    differentiated = arrays[:leaves]
    for leaf in differentiated:
        leaf.requires_grad_()

    def run() -> tuple[Any, ...]:
        for leaf in differentiated:
            leaf.grad = None
        value = function(*arrays)
        value.backward()
        if device == "cuda":
            torch.cuda.synchronize()
        return value.detach(), *(leaf.grad for leaf in differentiated)

    return Prepared(answer=lambda: tuple(part.cpu().numpy() for part in run()), seconds=lambda: _elapsed(run))


def imported(module: str, _: Inputs) -> Prepared:
    """Import a module in a fresh interpreter that has imported JAX: the seconds are what it adds."""
    program = (
        "import time, jax, jax.numpy; start = time.perf_counter(); "
        f"import {module}; print(time.perf_counter() - start)"
    )
    command = [sys.executable, "-c", program]
    # What pip installs has its bytecode; a checkout may keep from writing it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def seconds() -> float:
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        return float(done.stdout)

    return Prepared(answer=lambda: None, seconds=seconds)


def _elapsed(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


# --- right first ------------------------------------------------------------------------------


def error(answer: Any, truth: Any) -> float:
    """The largest error of any number, as a fraction of its size and that array's typical one."""
    leaves = zip(jax.tree.leaves(answer), jax.tree.leaves(truth), strict=True)
    return max(_array_error(found, true) for found, true in leaves)


def _array_error(answer: Any, truth: np.ndarray) -> float:
    found, true = np.asarray(answer, np.float64), np.asarray(truth, np.float64)
    if found.shape != true.shape:
        return float("inf")
    scale = np.abs(true) + np.sqrt(np.mean(np.square(true)))
    # `max` drops a NaN that is not first; a wrong NaN is an infinite error.
    worst = np.max(np.abs(found - true) / np.where(scale == 0, 1, scale), initial=0.0)
    return float(worst) if np.isfinite(worst) else float("inf")


# --- then fast --------------------------------------------------------------------------------


def interleaved(runs: Sequence[Callable[[], float]], rounds: int) -> np.ndarray:
    """Seconds, `[rounds, runs]`: each round goes forwards and back (ABBA), so that a drift cancels."""
    for run in runs:  # caches, allocators, lazy initialisation
        run()
    seconds = np.empty((rounds, len(runs)))
    for row in seconds:
        there = [run() for run in runs]
        back = [run() for run in reversed(runs)]
        row[:] = 0.5 * (np.array(there) + np.array(back[::-1]))
    return seconds


def quartiles(samples: np.ndarray) -> list[float]:
    """First quartile, median, third."""
    return [float(x) for x in np.quantile(samples, (0.25, 0.5, 0.75))]


def measure(case: Case, *, rounds: int = 15, quick: bool = False) -> dict[str, Any]:
    """Check, time and judge one case; the record is one JSON line of the results."""
    inputs = case.inputs(quick=quick)
    able = [c for c in case.contenders if c.needs is None or importlib.util.find_spec(c.needs)]
    prepared = {c.name: c.prepare(c.function, inputs) for c in able}
    errors = _errors(case, able, prepared, inputs)
    right = [name for name, off in errors.items() if off is None or off <= case.tolerance]
    if OURS not in right:
        limit = f"more than {case.tolerance:.0e}"
        msg = f"{case.name}: {OURS} is off by {errors[OURS]:.1e}, {limit}; it is not timed."
        raise WrongError(msg)
    samples = interleaved([prepared[name].seconds for name in right], rounds)
    seconds = dict(zip(right, samples.T, strict=True))
    return {
        "case": case.name,
        "title": case.title,
        "inputs": [f"{array.dtype}[{','.join(map(str, array.shape))}]" for array in inputs],
        "quick": quick,
        "rounds": rounds,
        "device": device_slug(),
        "versions": versions(),
        "contenders": [_entry(name, prepared[name], errors[name], seconds) for name in prepared],
        "targets": [_judged(target, seconds) for target in case.targets],
    }


def _errors(
    case: Case, able: Sequence[Contender], prepared: dict[str, Prepared], inputs: Inputs
) -> dict[str, float | None]:
    """Each contender's error against the oracle; None where there is nothing to check."""
    truth = None if case.oracle is None else case.oracle(*inputs)
    return {
        c.name: error(prepared[c.name].answer(), truth) if c.answers and truth is not None else None
        for c in able
    }


def _entry(
    name: str, prepared: Prepared, off: float | None, seconds: dict[str, np.ndarray]
) -> dict[str, Any]:
    timed = seconds.get(name)
    return {
        "name": name,
        "error": off,
        "correct": timed is not None,
        "seconds": None if timed is None else quartiles(timed),
        "ours_over_this": None if timed is None else quartiles(seconds[OURS] / timed),
        "temp_bytes": prepared.temp_bytes,
    }


def _judged(target: Target, seconds: dict[str, np.ndarray]) -> dict[str, Any]:
    """What a target asks for and what was measured; None where its peer is absent or wrong."""
    if target.against is None:
        measured = quartiles(seconds[OURS])[1]
    elif target.against in seconds:
        measured = quartiles(seconds[OURS] / seconds[target.against])[1]
    else:
        measured = None
    met = None if measured is None else measured <= target.at_most
    return {"against": target.against, "at_most": target.at_most, "measured": measured, "met": met}


# --- on what ----------------------------------------------------------------------------------


def device_slug() -> str:
    """A name for this kind of machine: `cpu-2-cores`, `nvidia-h100`."""
    if jax.default_backend() == "cpu":
        return f"cpu-{len(os.sched_getaffinity(0))}-cores"
    kind = re.sub(r"[^a-z0-9]+", "-", jax.devices()[0].device_kind.lower()).strip("-")
    return re.sub(r"-\d+gb.*", "", kind)


def versions() -> dict[str, str]:
    """The versions the numbers belong to."""
    found = {"python": platform.python_version()}
    for name in ("jax", "jaxlib", "optax", "tokamax", "torch"):
        if importlib.util.find_spec(name):
            found[name] = importlib.metadata.version(name)
    return found
