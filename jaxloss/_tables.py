"""What the command line prints: the cards, and a training run from its rows to its result."""

import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from jaxloss import _problem
from jaxloss._loss import Card
from jaxloss._problem import Params, Problem
from jaxloss._runs import PARAMETERS, PLOT, Method, Run, in_own_units
from jaxloss._sources import INTERCEPT, LINE, SLOPE


def _console() -> Console:
    """Made anew for each use, so that it follows stdout and the terminal's width."""
    return Console(highlight=False)


def _table(title: str | None = None) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


# --- the cards --------------------------------------------------------------------------------


def catalogue(cards: Iterable[Card]) -> None:
    """One table a family and task: each loss, its options and its first sentence."""
    console = _console()
    groups: dict[str, list[Card]] = {}
    for one in cards:
        title = one.family if one.task == one.family else f"{one.family}, for the task {one.task}"
        groups.setdefault(title, []).append(one)
    for title, members in groups.items():
        table = _table(title)
        table.add_column("loss", style="cyan", no_wrap=True)
        table.add_column("what it is", overflow="fold")
        for one in members:
            about = Text(one.summary)
            if one.options:
                about.append(f" ({', '.join(one.options)})", style="dim")
            table.add_row(one.name.split(".")[1], about)
        console.print(table)
    console.print(Text("jaxloss show NAME tells all of one.", style="dim"))


def card(one: Card) -> None:
    """All that is known of one loss."""
    console = _console()
    console.print(Text(f"jaxloss.{one.name}", style="bold cyan"), Text(_arguments(one)), sep="")
    console.print(Text(f"{one.summary}\n"))
    for part in re.sub(",  +", "\n", one.formula).splitlines():  # the value, then its derivative
        console.print(Padding(Text(part.strip(), style="green"), (0, 4)))
    console.print()
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column()
    for name, value in _facts(one):
        facts.add_row(name, value)
    console.print(facts, "")


def _arguments(one: Card) -> str:
    """The call, options with their defaults."""
    words = []
    for p in inspect.signature(one.loss).parameters.values():
        keyword = p.kind is p.KEYWORD_ONLY
        words += ["*"] if keyword and "*" not in words else []
        words.append(p.name if p.default is p.empty else f"{p.name}={p.default}")
    return f"({', '.join(words)})"


def _facts(one: Card) -> Iterator[tuple[str, RenderableType]]:
    for i, (name, domain) in enumerate(one.domain.items()):
        yield "" if i else "takes", Text(f"{name} in {domain}")
    parameters = inspect.signature(one.loss).parameters
    for i, (name, domain) in enumerate(one.options.items()):
        default = parameters[name].default
        yield "" if i else "options", Text(f"{name} in {domain}, {default} by default")
    yield "claims", Text(", ".join(_claims(one)) or "none")
    yield "source", Text(one.source)
    if one.peers:
        yield "elsewhere", Text("\n".join(one.peers))


def _claims(one: Card) -> Iterator[str]:
    """The claims in words, those not made left out."""
    claims = one.claims
    for name in ("non_negative", "zero_at_target", "symmetric", "convex", "shift_invariant"):
        if getattr(claims, name):
            yield name.replace("_", " ")
    if claims.lipschitz is not None:
        yield f"gradient at most {claims.lipschitz:g}"
    if claims.smooth is not None:
        yield f"curvature at most {claims.smooth:g}"
    if claims.bounded is not None:
        yield f"at most {claims.bounded:g}"
    if claims.elicits is not None:
        yield f"its best constant prediction is the {claims.elicits}"


# --- a run ------------------------------------------------------------------------------------


def opening(problem: Problem, how: Method, run: Run) -> None:
    """Which rows, which loss, which method."""
    table, rows = problem.table, len(problem.table.target)
    kind = "a number" if problem.classes is None else f"{len(problem.classes)} classes"
    features = f"{len(table.feature_names)} feature{'s' * (len(table.feature_names) > 1)}"
    rate = "" if how.rate is None else f", learning rate {how.rate:.3g}"
    options = "".join(f", {name} {value}" for name, value in problem.options.items())
    facts = [
        ("rows", f"{table.name}: {rows} rows, {features}; `{table.target_name}` is {kind}"),
        ("split", f"{len(problem.train.features)} to train, {len(problem.test.features)} to test"),
        ("loss", f"{problem.card.name}{options}"),
        (
            "method",
            f"{how.name}{rate}" + (f", going on from step {run.steps}" if run.steps else ""),
        ),
    ]
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    for name, value in facts:
        grid.add_row(name, Text(value))
    _console().print(grid, "", sep="\n")


@contextmanager
def progress(run: Run, steps: int) -> Iterator[Callable[[Run], None]]:
    """A bar of the steps and the latest loss; where stdout is no terminal, its last state alone."""
    columns = (
        TextColumn("training"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=_console(), expand=True) as bar:
        task = bar.add_task("", total=run.steps + steps, completed=run.steps, loss="")

        def report(now: Run) -> None:
            bar.update(task, completed=now.steps, loss=_figures(now.history[-1]))

        yield report


def closing(problem: Problem, how: Method, run: Run, folder: Path) -> None:
    """How well it predicts, beside the best constant; why it stopped; where it is."""
    console = _console()
    console.print("", _scores(problem, run.params), sep="\n")
    if problem.table.name == LINE and problem.classes is None:
        console.print(_estimates(problem, run.params))
    console.print(Text(_ending(problem, how, run)))
    console.print(Text(f"saved {folder / PARAMETERS} and {folder / PLOT}"), soft_wrap=True)


def _scores(problem: Problem, params: Params) -> Table:
    """The model beside the best constant, by the loss and by the score people know."""
    if problem.classes is None:
        name, score, written = "R²", _problem.r_squared, _decimals
    else:
        name, score, written = "accuracy", _problem.accuracy, "{:.1%}".format
    table = _table(problem.card.name)
    table.add_column("")
    for column in ("train loss", "test loss", f"train {name}", f"test {name}"):
        table.add_column(column, justify="right")
    for row, which in (("best constant", _problem.start(problem)), ("this model", params)):
        parts = (problem.train, problem.test)
        losses = [_figures(_problem.loss_on(problem, which, rows)) for rows in parts]
        scores = [written(score(problem, which, rows)) for rows in parts]
        table.add_row(row, *losses, *scores)
    return table


def _decimals(value: float) -> str:
    """Four decimals, but no more than a table can hold of a run that diverged."""
    return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.2e}"


def _figures(value: float) -> str:
    """Five significant figures, the trailing zeros among them."""
    return f"{value:#.5g}".rstrip(".")


def _estimates(problem: Problem, params: Params) -> Table:
    """Slope and intercept beside the truth, with the standard errors of least squares."""
    coefficients, intercept = in_own_units(problem, params)
    x = np.asarray(problem.train.features)[:, 0] * problem.scales[0] + problem.means[0]
    residual = np.asarray(problem.train.targets) - (coefficients[0] * x + intercept)
    design = np.stack([x, np.ones_like(x)], axis=1)
    variance = residual @ residual / (len(x) - 2)
    errors = np.sqrt(np.diag(np.linalg.inv(design.T @ design)) * variance)
    table = _table()
    for name in ("", "estimate", "standard error", "truth"):
        table.add_column(name, justify="right" if name else "left")
    rows = (("slope", coefficients[0], SLOPE), ("intercept", float(intercept), INTERCEPT))
    for (name, estimate, truth), error in zip(rows, errors, strict=True):
        table.add_row(name, _decimals(estimate), _decimals(error), f"{truth:g}")
    return table


def _ending(problem: Problem, how: Method, run: Run) -> str:
    """Why it stopped, and what to do about it."""
    if run.reason == "diverged":
        rate = min((how.rate or math.inf) / 10, _problem.safe_rate(problem))
        return (
            f"diverged after step {run.steps}: the loss is no longer finite; saved are the last "
            f"parameters for which it was. Try a smaller step: --learning-rate {rate:.2g}"
        )
    reasons = {
        "interrupted": f"interrupted after step {run.steps}; --resume goes on from here",
        "threshold": f"reached the threshold at step {run.steps}",
        "tolerance": f"stopped moving at step {run.steps}",
    }
    return reasons.get(run.reason, f"all {run.steps} steps taken")
