"""What surrounds a loss in training: a step, a batch in parts, a stream of batches."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxloss as jl
from benchmarks.harness import LIMIT, OURS, Case, Contender, Inputs, Prepared, Target, compiled
from jaxloss.adapters.optax import train_step
from jaxloss.training import evaluate

RATE = 0.1
BY_HAND, WHOLE, ON_DEVICE = "by hand", "whole batch", f"{OURS}, on the device"

# --- data, and a network of one hidden layer ---------------------------------------------------------


def _network(rows: int, columns: int, hidden: int) -> Inputs:
    """Weights [columns, hidden] and [hidden], rows, and targets that they do not fit yet."""
    random = np.random.default_rng(0)
    first = random.standard_normal((columns, hidden), np.float32) / np.float32(columns**0.5)
    last = random.standard_normal(hidden, np.float32) / np.float32(hidden**0.5)
    x = random.standard_normal((rows, columns), np.float32)
    return first, last, x, np.sin(3 * x[:, 0])


def _small_network(*, quick: bool) -> Inputs:
    """A step of about a millisecond."""
    return _network(*((16, 4, 8) if quick else (512, 64, 256)))


def _wide_network(*, quick: bool) -> Inputs:
    """Hidden values of 64 MB, most of what a step keeps in memory."""
    return _network(*((64, 4, 8) if quick else (16_384, 64, 1024)))


def _masked_network(*, quick: bool) -> Inputs:
    """The same and a mask that keeps fewer and fewer rows towards the end."""
    first, last, x, y = _wide_network(quick=quick)
    return first, last, x, y, np.random.default_rng(1).random(len(y)) > np.linspace(0, 1, len(y))


def _stream(*, quick: bool) -> Inputs:
    """Batches of predictions and of targets."""
    random = np.random.default_rng(0)
    shape = (4, 1000) if quick else (64, 500_000)
    return random.standard_normal(shape, np.float32), random.standard_normal(shape, np.float32)


# --- the truth, in float64 ----------------------------------------------------------------------------


def _stepped(first: Any, last: Any, x: Any, y: Any, kept: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """The weights after a step of gradient descent on the mean of (tanh(x A) b − y)²."""
    first, last, x, y = (array.astype(np.float64) for array in (first, last, x, y))
    share = 1 / len(y) if kept is None else kept / np.sum(kept)
    values = np.tanh(x @ first)
    slope = 2 * (values @ last - y) * share
    to_hidden = slope[:, None] * last * (1 - values**2)
    return first - RATE * (x.T @ to_hidden), last - RATE * (values.T @ slope)


def _huber_mean(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    r = np.abs(p.astype(np.float64) - t)
    return np.mean(np.where(r <= 1, 0.5 * r * r, r - 0.5))


# --- contenders -----------------------------------------------------------------------------------------

_SQUARED = jl.partial_mean(jl.regression.squared_error)


def _squared(params: Any, x: jax.Array, y: jax.Array, where: jax.Array | None = None) -> jl.PartialMean:
    return _SQUARED(jnp.tanh(x @ params[0]) @ params[1], y, where=where)


_SGD = optax.sgd(RATE)


def _ours() -> Callable[..., Any]:
    return train_step(_squared, _SGD)


def _bare() -> Callable[..., Any]:
    """The plain Optax loop's body, in `jax.jit` and nothing else."""

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, opt_state: Any, x: jax.Array, y: jax.Array) -> tuple[Any, Any, jax.Array]:
        loss, grads = jax.value_and_grad(lambda params: _squared(params, x, y).value())(params)
        updates, opt_state = _SGD.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    return step


def _looped(build: Callable[[], Callable[..., Any]], inputs: Inputs) -> Prepared:
    """A loop of steps, as one trains: the seconds are those of a step."""
    step, calls = build(), 50
    x, y = (jnp.asarray(array) for array in inputs[2:])

    def run(times: int) -> Any:
        params = tuple(jnp.array(array) for array in inputs[:2])
        opt_state = _SGD.init(params)
        for _ in range(times):
            params, opt_state, _ = step(params, opt_state, x, y)
        return jax.block_until_ready(params)

    return Prepared(answer=lambda: run(1), seconds=lambda: _elapsed(lambda: run(calls)) / calls)


def _in_parts(microbatches: int) -> Callable[..., Any]:
    step = train_step(_squared, _SGD, donate=False, microbatches=microbatches)
    return lambda first, last, *batch: step((first, last), _SGD.init((first, last)), *batch)[0]


_HUBER = jl.partial_mean(jl.robust.huber)


def _huber(_: None, p: jax.Array, t: jax.Array) -> jl.PartialMean:
    return _HUBER(p, t)


def _evaluated(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    return np.asarray(evaluate(_huber, None, zip(p, t, strict=True), progress=False))


def _read_by_numpy(p: np.ndarray, t: np.ndarray) -> None:
    """Every byte copied once, which is what the stream has to do before anything is computed."""
    for batch in zip(p, t, strict=True):
        for array in batch:
            array.copy()


def _streamed(function: Callable[..., Any], inputs: Inputs) -> Prepared:
    run = functools.partial(function, *inputs)
    return Prepared(answer=run, seconds=lambda: _elapsed(run))


def _streamed_on_device(function: Callable[..., Any], inputs: Inputs) -> Prepared:
    return _streamed(function, tuple([jnp.asarray(batch) for batch in array] for array in inputs))


def _elapsed(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


# --- cases ----------------------------------------------------------------------------------------------

TRAINING_CASES: tuple[Case, ...] = (
    Case(
        "train_step",
        "a step of `train_step`, weights",
        _small_network,
        _stepped,
        (Contender(OURS, _ours, _looped), Contender(BY_HAND, _bare, _looped)),
        (Target(1.02, BY_HAND),),
    ),
    Case(
        "microbatches",
        "a step in 8 microbatches under an uneven mask, weights",
        _masked_network,
        _stepped,
        (Contender(OURS, _in_parts(8), compiled), Contender(WHOLE, _in_parts(1), compiled)),
        (Target(1.1, WHOLE),),
    ),
    Case(
        "evaluate",
        "`evaluate` of huber over a stream, batches",
        _stream,
        _huber_mean,
        (
            Contender(OURS, _evaluated, _streamed),
            Contender(ON_DEVICE, _evaluated, _streamed_on_device),
            Contender(LIMIT, _read_by_numpy, _streamed, answers=False),
        ),
        (Target(2.0, LIMIT),),
    ),
)
