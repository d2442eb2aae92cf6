"""Training in pieces that can be watched, interrupted, saved and resumed."""

import contextlib
import inspect
import json
import os
import signal
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxloss import _problem
from jaxloss._problem import Params, Problem
from jaxloss._sources import BadInput, closest
from jaxloss.training import minimize

PARAMETERS, PLOT = "parameters.npz", "loss.png"
BY_HAND = "gradient_descent"

# A piece is what Ctrl-C waits for: a fiftieth of the run, and never long.
_PIECES, _LONGEST_PIECE = 50, 1000


class Run(NamedTuple):
    """Where a descent is: the optimizer's state at `params`, and the loss at every step so far."""

    params: Params
    state: Any
    history: np.ndarray
    reason: str = "max_steps"

    @property
    def steps(self) -> int:
        """How many updates made `params`."""
        return max(0, len(self.history) - 1)


class Method(NamedTuple):
    """How `minimize` takes its steps: a learning rate of its own, or an Optax optimizer."""

    name: str
    rate: float | None
    arguments: dict[str, Any]

    def init(self, params: Params) -> object:
        """The optimizer's state before its first step."""
        return self.arguments["optimizer"].init(params) if "optimizer" in self.arguments else ()


# --- the optimizer ----------------------------------------------------------------------------


def method(name: str, rate: float | None, problem: Problem) -> Method:
    """Gradient descent by hand, or the Optax optimizer of that name, with its learning rate.

    Raises:
        BadInput: Optax has no such optimizer, or it needs more than a learning rate.

    """
    if name == BY_HAND:
        rate = rate or _problem.safe_rate(problem)
        return Method(name, rate, {"learning_rate": rate})
    import optax

    names = _optimizers(optax)
    if name not in names:
        msg = f"no optimizer is called `{name}`{closest(name, names)} ({BY_HAND}, {', '.join(names)})"
        raise BadInput(msg)
    if rate is None and name != "lbfgs":  # whose line search needs none
        rate = _problem.safe_rate(problem) if name in _PLAIN else 0.05
    return Method(name, rate, {"optimizer": getattr(optax, name)(learning_rate=rate)})


_PLAIN = ("sgd",)
# One needs a random key, the other parameters that are no scalars.
_UNFIT = ("noisy_sgd", "sm3")


def _optimizers(optax: ModuleType) -> list[str]:
    """What Optax has that a learning rate alone makes an optimizer."""
    return [name for name in dir(optax) if _is_optimizer(name, getattr(optax, name))]


def _is_optimizer(name: str, candidate: object) -> bool:
    if not inspect.isfunction(candidate) or name.startswith(("scale_", "_", *_UNFIT)):
        return False
    parameters = inspect.signature(candidate).parameters
    needed = {p.name for p in parameters.values() if p.default is p.empty and p.kind is not p.VAR_KEYWORD}
    return "learning_rate" in parameters and needed <= {"learning_rate"}


# --- the descent ------------------------------------------------------------------------------


def begin(problem: Problem, how: Method) -> Run:
    """At the best constant prediction, before the first step."""
    params = _problem.start(problem)
    return Run(params, how.init(params), np.zeros(0))


def descend(
    problem: Problem,
    run: Run,
    how: Method,
    *,
    steps: int,
    threshold: float | None,
    report: Callable[[Run], None],
    asked_to_stop: Callable[[], bool],
) -> Run:
    """Go on from `run` for at most `steps` steps, in pieces, and report after each."""
    fraction = _problem.objective(problem)
    limit = None if threshold is None else threshold / problem.unit
    piece = min(-(-steps // _PIECES), _LONGEST_PIECE)
    end, run = run.steps + steps, run._replace(reason="max_steps")
    while run.steps < end and run.reason == "max_steps":
        try:
            found = minimize(
                fraction,
                run.params,
                *problem.train,
                **how.arguments,
                max_steps=min(piece, end - run.steps),
                threshold=limit,
                state=run.state,
            )
        except KeyboardInterrupt:
            return run._replace(reason="interrupted")
        # The first loss of a piece is the last of the piece before.
        losses = np.asarray(found.history)[min(len(run.history), 1) :] * problem.unit
        history = np.concatenate([run.history, losses])
        run = Run(found.params, found.state, history, str(found.reason))
        report(run)
        if asked_to_stop() and run.reason == "max_steps" and run.steps < end:
            return run._replace(reason="interrupted")
    return run


@contextlib.contextmanager
def interrupts_held() -> Iterator[threading.Event]:
    """Ctrl-C sets the event, so that what is running ends whole; a second one interrupts it."""
    asked = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or before is None or before is signal.SIG_IGN:
        yield asked
        return

    def ask(*_: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


# --- saved runs -------------------------------------------------------------------------------


def save(folder: Path, problem: Problem, run: Run, settings: dict[str, Any]) -> Path:
    """Write `parameters.npz`: the model, its units, the history, and what `--resume` needs.

    A row x is predicted by link(x @ coefficients + intercept), the link named in `settings`. The
    file appears whole or not at all.
    """
    path, partial = folder / PARAMETERS, folder / f"{PARAMETERS}.partial"
    try:
        with partial.open("wb") as file:
            np.savez(file, **_arrays(problem, run, settings))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _arrays(problem: Problem, run: Run, settings: dict[str, Any]) -> dict[str, Any]:
    coefficients, intercept = in_own_units(problem, run.params)
    classes = np.zeros(0) if problem.classes is None else problem.classes
    arrays: dict[str, Any] = {
        "coefficients": coefficients,
        "intercept": intercept,
        "weights": np.asarray(run.params["weights"]),
        "bias": np.asarray(run.params["bias"]),
        "feature_names": np.array(problem.table.feature_names),
        "feature_means": problem.means,
        "feature_scales": problem.scales,
        "target_location": np.array(problem.location),
        "target_scale": np.array(problem.scale),
        "classes": classes,
        "history": run.history,
        "settings": np.array(json.dumps(settings)),
    }
    for i, leaf in enumerate(jax.tree.leaves(run.state)):
        arrays[f"state_{i}"] = np.asarray(leaf)
    return arrays


def in_own_units(problem: Problem, params: Params) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients and intercept of the line over the features as they came."""
    weights = problem.scale * np.asarray(params["weights"])
    coefficients = (weights.T / problem.scales).T
    intercept = problem.location + problem.scale * np.asarray(params["bias"])
    return coefficients, intercept - problem.means @ coefficients


def saved(path: str) -> dict[str, np.ndarray]:
    """The arrays of a saved run, from its file or its folder.

    Raises:
        BadInput: there is none, or the file is something else.

    """
    file = Path(path) / PARAMETERS if Path(path).is_dir() else Path(path)
    try:
        with np.load(file, allow_pickle=False) as arrays:
            found = dict(arrays)
        json.loads(str(found["settings"]))["loss"]
    except OSError:
        msg = f"--resume: no saved run at {path}; `train` writes {PARAMETERS} into its --output"
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        msg = f"--resume: {file} is not a run saved by jaxloss"
    else:
        return found
    raise BadInput(msg)


def resumed(arrays: dict[str, np.ndarray], problem: Problem, how: Method) -> Run:
    """The saved run, over the same rows under the same loss.

    Raises:
        BadInput: the rows are not those it was trained on.

    """
    now = {
        "feature_names": np.array(problem.table.feature_names),
        "feature_means": problem.means,
        "feature_scales": problem.scales,
        "target_location": np.array(problem.location),
        "target_scale": np.array(problem.scale),
        "classes": np.zeros(0) if problem.classes is None else problem.classes,
    }
    changed = [name for name, value in now.items() if not _alike(value, arrays[name])]
    if changed:
        msg = f"--resume: the saved run was trained on other rows; {changed[0]} differs"
        raise BadInput(msg)
    params = {name: jnp.asarray(arrays[name]) for name in ("bias", "weights")}
    leaves = [jnp.asarray(arrays[f"state_{i}"]) for i in range(sum(n.startswith("state_") for n in arrays))]
    structure = jax.tree.structure(jax.eval_shape(how.init, params))
    return Run(params, jax.tree.unflatten(structure, leaves), arrays["history"])


def _alike(first: np.ndarray, second: np.ndarray) -> bool:
    if first.shape != second.shape or first.dtype.kind != second.dtype.kind:
        return False
    if first.dtype.kind == "f":
        return bool(np.allclose(first, second, rtol=1e-9, atol=0))
    return bool(np.all(first == second))
