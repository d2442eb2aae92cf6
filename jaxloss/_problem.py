"""A linear model from a table's features to its target, under one loss: what `train` minimises."""

import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxloss import _contracts
from jaxloss._loss import CARDS, Card
from jaxloss._sources import BadInput, Table, closest, hold_out, standardise
from jaxloss.reduction import mean
from jaxloss.training import minimize

Params = dict[str, Array]
Objective = Callable[[Params, Array, Array], Array]


class Link(NamedTuple):
    """How the line becomes a prediction in the loss's domain, and a target becomes a line."""

    name: str
    prediction: Callable[[Array], Array]
    line: Callable[[np.ndarray], np.ndarray] = np.asarray


class Rows(NamedTuple):
    """Standardised features, and targets as the loss takes them."""

    features: Array
    targets: Array


class Problem(NamedTuple):
    """A loss, its rows, and the units of its model: prediction = link(location + scale (Xw + b)).

    `unit` is the loss of the best constant prediction over the training rows: the objective is the
    loss as a fraction of it, so that one learning rate serves every loss and every target's unit.
    """

    table: Table
    card: Card
    options: dict[str, Any]
    link: Link
    classes: np.ndarray | None
    location: float
    scale: float
    train: Rows
    test: Rows
    means: np.ndarray
    scales: np.ndarray
    constant: Array
    unit: float


# --- which loss -------------------------------------------------------------------------------

_DEFAULT = {
    "regression": "regression.squared_error",
    "binary": "binary.cross_entropy",
    "categorical": "categorical.cross_entropy",
}


def choose(table: Table, name: str | None) -> Card:
    """The loss of that name that fits the target; the default for the target where name is None.

    Raises:
        BadInput: no such loss, none that fits, or several that fit equally well.

    """
    tasks = _tasks(table)
    if name is None:
        return CARDS[_DEFAULT[tasks[0]]]
    found = named(name)
    fitting = sorted((c for c in found if c.task in tasks), key=lambda card: tasks.index(card.task))
    best = [card for card in fitting if card.task == fitting[0].task]
    if not best:
        kind = _kind(table)
        takes = " and ".join(f"{card.name} is for {SERVED.get(card.task, card.task)}" for card in found)
        msg = f"`{name}` does not fit: {takes}, and the target `{table.target_name}` is {kind}"
    elif len(best) > 1:
        msg = f"`{name}` is ambiguous: say {' or '.join(card.name for card in best)}"
    else:
        return best[0]
    raise BadInput(msg)


def named(name: str) -> list[Card]:
    """Every loss of that name, whole ("robust.huber") or short ("huber").

    Raises:
        BadInput: there is none.

    """
    found = [card for card in CARDS.values() if name in (card.name, card.name.split(".")[1])]
    if found:
        return found
    short = [card.name.split(".")[1] for card in CARDS.values()]
    near = closest(name, [*CARDS, *short])
    msg = f"no loss is called `{name}`{near or '; `jaxloss list` shows them all'}"
    raise BadInput(msg)


# What a target must be for the losses of a task; a loss of another task is no table's.
SERVED = {
    "regression": "numbers",
    "vector": "vectors",
    "binary": "two classes",
    "margin": "two classes",
    "categorical": "classes",
    "divergence": "classes",
}


def _tasks(table: Table) -> list[str]:
    """The tasks the target can serve, the likeliest first."""
    tasks: list[str] = []
    for kind in table.kinds:
        if kind == "number":
            tasks += ["regression"]
        elif len(np.unique(table.target)) == 2:
            tasks += ["binary", "margin", "categorical", "divergence"]
        else:
            tasks += ["categorical", "divergence"]
    return tasks


def _kind(table: Table) -> str:
    if table.kinds[0] == "number":
        return "a number"
    return f"one of {len(np.unique(table.target))} classes"


def parse_options(card: Card, pairs: Sequence[str]) -> dict[str, Any]:
    """Hyperparameters of the loss from `NAME=VALUE`; a value is JSON, and a list an array."""
    options = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        if name not in card.options:
            known = ", ".join(card.options) or "none"
            near = closest(name, list(card.options))
            msg = f"{card.name} has no option `{name}`; its options: {known}{near}"
            raise BadInput(msg)
        try:
            value = json.loads(text)
            options[name] = np.array(value, float) if isinstance(value, list) else value
        except ValueError:
            msg = f"--option {pair}: {text!r} is not a number; write --option {name}=1.5"
            raise BadInput(msg) from None
    signature = inspect.signature(card.loss)
    for name in card.options:
        if name not in options and signature.parameters[name].default is inspect.Parameter.empty:
            msg = f"{card.name} needs `{name}`; give it with --option {name}=..., a number or a [list]"
            raise BadInput(msg)
    return options


# --- the problem ------------------------------------------------------------------------------

_IDENTITY = Link("identity", lambda line: line)
_LINKS: Mapping[_contracts.Domain, Link] = {
    _contracts.REAL: _IDENTITY,
    _contracts.ABOVE_MINUS_ONE: Link("expm1", jnp.expm1, np.log1p),
    _contracts.UNIT: Link("sigmoid", jax.nn.sigmoid),
    _contracts.DISTRIBUTION: Link("softmax", jax.nn.softmax),
    _contracts.LOG_DISTRIBUTION: Link("log_softmax", jax.nn.log_softmax),
}


def pose(table: Table, card: Card, options: dict[str, Any], *, fraction: float, seed: int) -> Problem:
    """Split, standardise and encode the rows, and fit the constant the model has to beat.

    Raises:
        BadInput: the loss's domain does not hold the target, or an option is out of range.

    """
    link = _link(card)
    classes = None if card.task == "regression" else np.unique(table.target)
    groups = np.zeros(len(table.target)) if classes is None else table.target
    kept, held = hold_out(groups, fraction, seed)
    targets = _encoded(table.target, classes, card)
    _check_domain(table, card, targets)
    location, scale = _units(link.line(targets[kept])) if classes is None else (0.0, 1.0)
    features, means, scales = standardise(table.features, kept)
    train, test = (Rows(jnp.asarray(features[i]), jnp.asarray(targets[i])) for i in (kept, held))
    problem = Problem(
        table,
        card,
        options,
        link,
        classes,
        location,
        scale,
        train,
        test,
        means,
        scales,
        jnp.zeros(()),
        1.0,
    )
    return _with_baseline(problem)


def _encoded(target: np.ndarray, classes: np.ndarray | None, card: Card) -> np.ndarray:
    """The target as the loss takes it: numbers, 0/1, −1/+1, class ids, or one-hot distributions."""
    if classes is None:
        return target
    ids = np.searchsorted(classes, target)
    encode = {
        "binary": lambda: ids.astype(float),
        "margin": lambda: 2.0 * ids - 1,
        "categorical": lambda: ids,
        "divergence": lambda: np.eye(len(classes))[ids],
    }
    return encode[card.task]()


def _link(card: Card) -> Link:
    domain = next(iter(card.domain.values()))
    *predicted, target = card.domain
    if target not in ("targets", "labels"):
        msg = f"{card.name} does not fit: no column of a table holds `{target}`"
        raise BadInput(msg)
    if len(predicted) > 1:
        msg = f"{card.name} does not fit: no linear model predicts both {' and '.join(predicted)}"
        raise BadInput(msg)
    if domain in _LINKS:
        return _LINKS[domain]
    msg = f"{card.name} does not fit: no linear model predicts {domain}"
    raise BadInput(msg)


def _check_domain(table: Table, card: Card, targets: np.ndarray) -> None:
    _, domain, *_ = card.domain.values()
    inside = True if isinstance(domain, _contracts.Named) else domain.holds(targets)
    if np.all(inside):
        return
    value = targets[~np.asarray(inside)][0]
    msg = (
        f"{card.name} does not fit: its targets must be in {domain}, and `{table.target_name}` "
        f"holds {value:g}"
    )
    raise BadInput(msg)


def _units(values: np.ndarray) -> tuple[float, float]:
    """Mean and deviation of the numbers to predict; a constant has deviation 1."""
    _, means, scales = standardise(values[:, None], np.arange(len(values)))
    return float(means[0]), float(scales[0])


# --- the model --------------------------------------------------------------------------------


def outputs(problem: Problem) -> tuple[int, ...]:
    """The shape of one row's line: () for a number or a logit, (K,) for K classes."""
    several = problem.card.task in ("categorical", "divergence")
    return (len(cast("np.ndarray", problem.classes)),) if several else ()


def start(problem: Problem) -> Params:
    """The best constant prediction: no weights yet."""
    width = problem.train.features.shape[1]
    return {"bias": problem.constant, "weights": jnp.zeros((width, *outputs(problem)))}


def line(params: Params, features: Array) -> Array:
    """Xw + b."""
    product = features @ params["weights"]
    return product + jnp.broadcast_to(params["bias"], product.shape)


def objective(problem: Problem) -> Objective:
    """The mean loss as a fraction of the best constant's."""

    def fraction(params: Params, features: Array, targets: Array) -> Array:
        return mean_loss(problem, line(params, features), targets) / problem.unit

    return fraction


def mean_loss(problem: Problem, lines: Array | np.ndarray, targets: ArrayLike, **weights: Array) -> Array:
    """The loss of these lines, in its own unit."""
    return mean(problem.card.loss)(predictions(problem, lines), targets, **problem.options, **weights)


def predictions(problem: Problem, lines: Array | np.ndarray) -> Array:
    """The line in the target's unit, or in the loss's domain."""
    return problem.link.prediction(jnp.asarray(problem.location + problem.scale * lines))


# --- how good it is, in NumPy: nothing to compile ---------------------------------------------


def _lines(params: Params, rows: Rows) -> np.ndarray:
    weights, bias = np.asarray(params["weights"]), np.asarray(params["bias"])
    return np.asarray(rows.features) @ weights + bias


def loss_on(problem: Problem, params: Params, rows: Rows) -> float:
    """The mean loss of a model over rows, in its own unit."""
    return float(mean_loss(problem, _lines(params, rows), rows.targets))


def accuracy(problem: Problem, params: Params, rows: Rows) -> float:
    """The share of rows whose likeliest class is theirs."""
    lines, targets = _lines(params, rows), np.asarray(rows.targets)
    if not outputs(problem):
        return float(np.mean((lines > 0) == (targets > 0)))
    ids = np.argmax(targets, axis=-1) if targets.ndim == 2 else targets
    return float(np.mean(np.argmax(lines, axis=-1) == ids))


def r_squared(problem: Problem, params: Params, rows: Rows) -> float:
    """1 − Σr² / Σ(t − t̄)²; NaN over targets that are all alike."""
    targets = np.asarray(rows.targets)
    residual = np.asarray(predictions(problem, _lines(params, rows))) - targets
    spread = np.sum((targets - np.mean(targets)) ** 2)
    return float(1 - np.sum(residual**2) / spread) if spread else math.nan


def safe_rate(problem: Problem) -> float:
    """½/L, a step at which gradient descent never climbs, where the loss's curvature is known.

    No less than a hundredth of 1/λ: to a Huber loss far narrower than the target's spread, L is the
    curvature of a few rows, and the others would hardly move.

    L = smooth · scale² · λ / unit, λ the largest eigenvalue of the features' second moments. Where
    the card claims no curvature, or the prediction is not the line itself, L is taken as λ for
    classes and 5λ for numbers, whose losses may have a kink to swing about.
    """
    x = np.asarray(problem.train.features)
    largest = max(1.0, float(np.linalg.eigvalsh(x.T @ x / len(x))[-1]))
    smooth = problem.card.claims.smooth
    if smooth is None or problem.options or problem.link is not _IDENTITY:
        return (0.1 if problem.classes is None else 0.5) / largest
    return max(0.5 * problem.unit / (smooth * problem.scale**2), 0.01) / largest


# --- the baseline -----------------------------------------------------------------------------


def _with_baseline(problem: Problem) -> Problem:
    """Fit the best constant prediction to the training rows, and measure losses by its loss."""
    card = problem.card
    try:
        constant = _best_logits(problem) if outputs(problem) else _best_number(problem)
        lines = jnp.broadcast_to(constant, (len(problem.train.features), *outputs(problem)))
        unit = float(mean_loss(problem, lines, problem.train.targets))
    except (TypeError, ValueError) as error:
        msg = " ".join(str(error).split())
        raise BadInput(msg) from None
    if not math.isfinite(unit):
        target = problem.table.target_name
        msg = f"{card.name} does not fit: no constant prediction of `{target}` has a finite loss"
        raise BadInput(msg)
    return problem._replace(constant=constant, unit=unit if unit > 0 else 1.0)


def _best_number(problem: Problem) -> Array:
    """The best constant line: the best of many, and again ever closer around it.

    It needs neither a gradient nor a curvature, so it is as right for a median as for a mean.
    """
    targets = problem.train.targets

    @jax.jit
    def losses(candidates: Array) -> Array:
        return jax.lax.map(lambda z: mean_loss(problem, jnp.full(targets.shape, z), targets), candidates)

    candidates = _candidates(problem)
    constant = candidates[0]
    for _ in range(10):
        found = np.nan_to_num(losses(jnp.asarray(candidates)), nan=np.inf, posinf=np.inf)
        best = int(np.argmin(found))
        low, high = candidates[max(best - 1, 0)], candidates[min(best + 1, len(candidates) - 1)]
        constant = candidates[best]
        candidates = np.sort([*np.linspace(low, high, 64), constant])
    return jnp.asarray(constant)


def _candidates(problem: Problem) -> np.ndarray:
    """Quantiles of the targets on the line's scale; for two classes, logits past their log-odds."""
    targets = np.asarray(problem.train.targets)
    if problem.classes is None:
        values = (problem.link.line(targets) - problem.location) / problem.scale
        return np.quantile(values, np.linspace(0, 1, 65))
    share = float(np.mean(targets > 0))
    farthest = 8 + abs(math.log(share / (1 - share)))
    return np.linspace(-farthest, farthest, 65)


def _best_logits(problem: Problem) -> Array:
    """The classes' log-shares, or whatever a descent from there finds better for this loss.

    Every row of a class has the same loss under a constant, so one row a class, weighted, will do.
    """
    targets = np.asarray(problem.train.targets)
    ids = np.argmax(targets, axis=-1) if targets.ndim == 2 else targets
    shares = jnp.asarray(np.bincount(ids) / len(ids))
    if problem.card.claims.elicits == "mean" and not problem.options:
        return jnp.log(shares)
    one_each = jnp.asarray(np.eye(len(shares)) if targets.ndim == 2 else np.arange(len(shares)))

    def loss(logits: Array) -> Array:
        lines = jnp.broadcast_to(logits, (len(shares), len(shares)))
        return mean_loss(problem, lines, one_each, weights=shares)

    return minimize(loss, jnp.log(shares), learning_rate=1.0, max_steps=500, tolerance=1e-12).params
