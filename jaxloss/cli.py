"""The command line: `jaxloss train SOURCE`, `jaxloss list`, `jaxloss show NAME`.

Bad input is one line on stderr and exit code 2; a run that diverged exits with 1, an interrupted
one with 130, both with what they learned saved.
"""

import argparse
import importlib.util
import json
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import jax

from jaxloss import _problem, _runs, _sources
from jaxloss._loss import CARDS
from jaxloss._problem import Problem
from jaxloss._runs import Method, Run
from jaxloss._sources import BadInput, Table

N = TypeVar("N", int, float)

_FOLDER = "jaxloss-run"
_DIVERGED, _BAD_INPUT, _INTERRUPTED = 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code.

    Args:
        argv: the words after the program's name; by default those it was started with.

    """
    try:
        arguments = _parser().parse_args(argv)
        return arguments.run(arguments)
    except BadInput as error:
        sys.stderr.write(f"jaxloss: error: {error}\n")
        return _BAD_INPUT
    except KeyboardInterrupt:
        sys.stderr.write("jaxloss: interrupted\n")
        return _INTERRUPTED


# --- the arguments ----------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        msg = f"{message} (`{self.prog} --help` explains)"
        raise BadInput(msg)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="jaxloss", description="Losses for JAX: train a model, list losses, show one.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = commands.add_parser("list", help="every loss, by family", allow_abbrev=False)
    listing.set_defaults(run=_list)
    showing = commands.add_parser("show", help="all that is known of one loss", allow_abbrev=False)
    showing.add_argument("name", metavar="NAME", help="robust.huber, or huber")
    showing.set_defaults(run=_show)
    training = commands.add_parser(
        "train", help="train a linear model, plot its loss and save it", allow_abbrev=False
    )
    _add_training(training)
    training.set_defaults(run=_train)
    return parser


def _add_training(parser: argparse.ArgumentParser) -> None:
    bundled = ", ".join(_sources.BUNDLED)
    sources = f"{_sources.LINE} (y = 2x + 3 + noise), {bundled}, or the path of a CSV file"
    parser.add_argument("source", metavar="SOURCE", help=sources)
    for name, value, explanation in _WORDS:
        action = "append" if name in _REPEATED else "store"
        parser.add_argument(name, metavar=value, action=action, help=explanation)
    for name, value, kind, explanation in _NUMBERS:
        parser.add_argument(name, metavar=value, type=kind, help=explanation)
    parser.set_defaults(steps=1000)


def _number(text: str, kind: type[N], holds: Callable[[N], bool], wanted: str) -> N:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not holds(value):
        msg = f"{text!r} is not {wanted}"
        raise argparse.ArgumentTypeError(msg)
    return value


def _positive(text: str) -> float:
    return _number(text, float, lambda x: 0 < x < math.inf, "a positive number")


def _finite(text: str) -> float:
    return _number(text, float, math.isfinite, "a finite number")


def _share(text: str) -> float:
    return _number(text, float, lambda x: 0 < x < 1, "a number between 0 and 1")


def _count(text: str) -> int:
    return _number(text, int, lambda n: n >= 1, "a whole number, 1 or more")


def _natural(text: str) -> int:
    return _number(text, int, lambda n: n >= 0, "a whole number, 0 or more")


_WORDS = (
    ("--target", "COLUMN", "the column of the CSV file to predict"),
    ("--drop", "COLUMN", "a column of the CSV file to leave out"),
    ("--loss", "NAME", "any that fits the target (default: squared error or cross-entropy)"),
    ("--option", "NAME=VALUE", "a hyperparameter of the loss, such as delta=2"),
    ("--optimizer", "NAME", "gradient_descent, by hand (default), or Optax's: adam, lbfgs, ..."),
    ("--output", "FOLDER", f"to save in (default {_FOLDER}, or the resumed run's)"),
    ("--resume", "PATH", "go on from a saved run: its folder or its file"),
)
_REPEATED = ("--drop", "--option")
_NUMBERS = (
    ("--learning-rate", "RATE", _positive, "default: one safe for these rows; 0.05 for most of Optax"),
    ("--steps", "N", _count, "how many (more) steps to take (default 1000)"),
    ("--threshold", "LOSS", _finite, "stop once the training loss is at or below this"),
    ("--test-fraction", "SHARE", _share, "of the rows, held out (default 0.2)"),
    ("--seed", "N", _natural, "of the split and of the line's noise (default 0)"),
)


def _require(*packages: str) -> None:
    """Refuse in one line where an optional package is missing, before any work is done."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        names = ", ".join("scikit-learn" if name == "sklearn" else name for name in missing)
        msg = f"{names} is not installed; run: pip install 'jaxloss[cli]'"
        raise BadInput(msg)


# --- the commands -----------------------------------------------------------------------------


def _list(_: argparse.Namespace) -> int:
    _require("rich")
    from jaxloss import _tables

    _tables.catalogue(CARDS.values())
    return 0


def _show(arguments: argparse.Namespace) -> int:
    _require("rich")
    from jaxloss import _tables

    cards = _problem.named(arguments.name)
    for card in cards:
        _tables.card(card)
    return 0


def _train(arguments: argparse.Namespace) -> int:
    optax = arguments.optimizer not in (None, _runs.BY_HAND)
    sklearn = arguments.source in _sources.BUNDLED
    _require("rich", "matplotlib", *["optax"] * optax, *["sklearn"] * sklearn)
    with _float64(), jax.numpy_dtype_promotion("standard"):  # Optax is not strict
        arrays = None if arguments.resume is None else _runs.saved(arguments.resume)
        settings = _settings(arguments, arrays)
        table = _sources.read(
            arguments.source,
            target=settings["target"],
            drop=settings["drop"],
            seed=settings["seed"],
        )
        problem = _posed(table, settings)
        how = _runs.method(settings["optimizer"], settings["learning_rate"], problem)
        settings |= {
            "loss": problem.card.name,
            "learning_rate": how.rate,
            "link": problem.link.name,
        }
        run = _runs.begin(problem, how) if arrays is None else _runs.resumed(arrays, problem, how)
        return _trained(arguments, problem, how, run, settings)


def _float64() -> AbstractContextManager[Any]:
    """JAX in float64 for a while: the table's own precision, whatever its units."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax import experimental  # pragma: no cover - the older spelling

    return experimental.enable_x64()  # pragma: no cover # pyright: ignore[reportAttributeAccessIssue]


_DEFAULTS: dict[str, Any] = {
    "target": None,
    "drop": [],
    "loss": None,
    "option": [],
    "optimizer": _runs.BY_HAND,
    "seed": 0,
    "test_fraction": 0.2,
}


def _settings(arguments: argparse.Namespace, arrays: dict[str, Any] | None) -> dict[str, Any]:
    """What was asked for, else what the resumed run had, else the default.

    Only the learning rate may change on the way: with another loss, split or optimizer the history
    and the optimizer's state would be of another run.
    """
    before = _DEFAULTS if arrays is None else json.loads(str(arrays["settings"]))
    given = {name: value for name in _DEFAULTS if (value := getattr(arguments, name)) is not None}
    for name, value in given.items():
        same = value == before[name] or (name == "loss" and str(before[name]).endswith(f".{value}"))
        if arrays is not None and not same:
            option = name.replace("_", "-")
            had = f"the resumed run has {before[name]}; only the learning rate may change"
            msg = f"--{option} {value}: {had}"
            raise BadInput(msg)
    settings = {name: before[name] for name in _DEFAULTS}
    settings |= {} if arrays is not None else given
    settings["learning_rate"] = arguments.learning_rate or before.get("learning_rate")
    return settings


def _posed(table: Table, settings: dict[str, Any]) -> Problem:
    card = _problem.choose(table, settings["loss"])
    options = _problem.parse_options(card, settings["option"])
    return _problem.pose(table, card, options, fraction=settings["test_fraction"], seed=settings["seed"])


def _trained(
    arguments: argparse.Namespace, problem: Problem, how: Method, run: Run, settings: dict[str, Any]
) -> int:
    """Train, save, and tell; what was trained is saved whatever stopped it."""
    from jaxloss import _tables

    with _runs.interrupts_held() as asked:
        folder = _folder(arguments)
        _tables.opening(problem, how, run)
        with _tables.progress(run, arguments.steps) as report:
            run = _runs.descend(
                problem,
                run,
                how,
                steps=arguments.steps,
                threshold=arguments.threshold,
                report=report,
                asked_to_stop=asked.is_set,
            )
        _save(folder, problem, run, settings)
    _tables.closing(problem, how, run, folder)
    return {"diverged": _DIVERGED, "interrupted": _INTERRUPTED}.get(run.reason, 0)


def _folder(arguments: argparse.Namespace) -> Path:
    """Where to save, made before any training."""
    resumed = Path(arguments.resume or _FOLDER)
    folder = Path(arguments.output or (resumed if resumed.suffix != ".npz" else resumed.parent))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"--output {folder}: {error.strerror}"
        raise BadInput(msg) from None
    return folder


def _save(folder: Path, problem: Problem, run: Run, settings: dict[str, Any]) -> None:
    """The parameters first: a picture can be drawn again."""
    from jaxloss import plots

    try:
        _runs.save(folder, problem, run, settings)
        plots.loss_curve(
            folder / _runs.PLOT,
            run.history,
            loss=f"mean {problem.card.name}",
            baseline=problem.unit,
            test=_problem.loss_on(problem, run.params, problem.test),
            title=f"{problem.table.name}: {run.steps} steps of {settings['optimizer']}",
        )
    except OSError as error:
        msg = f"cannot write to {folder}: {error.strerror}"
        raise BadInput(msg) from None
