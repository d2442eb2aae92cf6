"""The `@loss(...)` decorator: one compiled call, and the card that says what is true of a loss."""

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, ParamSpec

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.experimental import checkify
from jax.experimental.xla_metadata import set_xla_metadata

from jaxloss import _contracts
from jaxloss._contracts import Domain, Interval

P = ParamSpec("P")
Task = Literal[
    "regression",
    "vector",
    "binary",
    "margin",
    "categorical",
    "divergence",
    "likelihood",
    "deviance",
    "multilabel",
    "ordinal",
    "segmentation",
    "embedding",
    "contrastive",
    "ranking",
    "sequence",
]


@dataclasses.dataclass(frozen=True)
class Claims:
    """What holds of a loss at its default options, over its whole domain; each claim is attacked by a test.

    non_negative: ℓ ≥ 0. zero_at_target: ℓ = 0 where the prediction says what the target says.
    symmetric: predictions and targets may change places; for classes, the classes may be renamed.
    convex: in the predictions. lipschitz: the largest norm of a row's gradient. smooth: the largest
    ratio of a change of gradient to the change of prediction. bounded: the largest value.
    shift_invariant: a constant added to predictions and targets (to all logits) changes nothing.
    elicits: the statistic of the targets that the best constant prediction equals.
    """

    non_negative: bool = False
    zero_at_target: bool = False
    symmetric: bool = False
    convex: bool = False
    lipschitz: float | None = None
    smooth: float | None = None
    bounded: float | None = None
    shift_invariant: bool = False
    elicits: str | None = None


@dataclasses.dataclass(frozen=True)
class Card:
    """The facts about one loss, as data: for the docs, `jaxloss list`, the tests and the plots.

    `peers` names the same loss elsewhere, by its import path: equal where the peer is right.
    `counts` takes what the loss takes and says which rows its options leave in a mean: rows that
    `ignore_index` names have no loss, and a mean must not divide by them. None where all count.
    A loss with a `where` of its own, which changes its formula, says so there too: in a mean the mask
    given goes to the loss, and `counts` makes of it the rows to keep.
    """

    name: str
    task: Task
    loss: Callable[..., Array]
    domain: Mapping[str, Domain]
    options: Mapping[str, Interval]
    claims: Claims
    source: str
    peers: tuple[str, ...] = ()
    counts: Callable[..., Array | None] | None = None

    @property
    def masks_itself(self) -> bool:
        """Whether the loss takes a `where` of its own."""
        return "where" in inspect.signature(self.loss).parameters

    @property
    def family(self) -> str:
        """The module or package that holds it: "robust" for robust.huber."""
        return self.name.split(".")[0]

    @property
    def summary(self) -> str:
        """The first sentence of the docstring."""
        return (inspect.getdoc(self.loss) or "").split("\n")[0]

    @property
    def formula(self) -> str:
        """The indented block of the docstring: the value, then its derivative."""
        paragraphs = (inspect.getdoc(self.loss) or "").split("\n\n")
        return next((inspect.cleandoc(p) for p in paragraphs[1:] if p.startswith("    ")), "")


CARDS: dict[str, Card] = {}


def loss(
    task: Task,
    *,
    domain: Mapping[str, Domain],
    options: Mapping[str, Interval] | None = None,
    claims: Claims,
    source: str,
    peers: tuple[str, ...] = (),
    counts: Callable[..., Array | None] | None = None,
    judges: tuple[str, ...] = (),
) -> Callable[[Callable[P, Array]], Callable[P, Array]]:
    """Make a formula a public loss: compiled as one call, its hyperparameters checked, its card kept.

    `judges` names the arguments of which the formula itself makes a row NaN outside their domain.
    """

    def decorate(function: Callable[P, Array]) -> Callable[P, Array]:
        family = function.__module__.removeprefix("jaxloss.losses.").split(".")[0]
        name = f"{family}.{function.__name__}"
        ranges = dict(options or {})
        within = functools.partial(_within_domain, name, domain, ranges, judges, function)
        run = compiled(within, inline=True)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Array:
            if kwargs:
                check_options(name, ranges, kwargs)
            return run(*args, **kwargs)

        CARDS[name] = Card(name, task, call, dict(domain), ranges, claims, source, peers, counts)
        call.card = CARDS[name]  # pyright: ignore[reportAttributeAccessIssue]
        return call

    return decorate


def card_of(function: Callable[..., Any]) -> Card | None:
    """The card of a loss of ours; None for anybody else's."""
    return getattr(function, "card", None)


def name_of(function: Callable[..., Any]) -> str:
    """What messages call a loss: the name on its card, else that of the function."""
    card = card_of(function)
    return card.name if card else getattr(function, "__name__", "loss")


def domain_of_labels(function: Callable[..., Any]) -> Domain | None:
    """What a loss of ours takes last, for its labels or targets; None for anybody else's."""
    card = card_of(function)
    return None if card is None else list(card.domain.values())[-1]


class Fusion(NamedTuple):
    """How the rows of a fused loss become a number without ever being apart: its Σwℓ, in one pass.

    `weighted_total(*data, weights=w, where=kept, **options)` is Σ w ℓ over all rows, differentiable in
    data, options and weights. `weights` has the rows' shape and is 0 in every row that does not count.
    `where`, of the rows' shape or None for all, holds the rows that there are: what a removed one holds,
    NaN too, reaches no value and no derivative. `counts` and `masks_itself` are those of a card: rows
    that are there and do not count are left in `where` only of a loss that masks itself.
    """

    name: str
    weighted_total: Callable[..., Array]
    options: Mapping[str, Interval]
    counts: Callable[..., Array | None] | None
    masks_itself: bool


def fused(
    *,
    total: Callable[..., Array],
    options: Mapping[str, Interval] | None = None,
    counts: Callable[..., Array | None] | None = None,
    masks_itself: bool = False,
    family: str = "fused",
) -> Callable[[Callable[P, Array]], Callable[P, Array]]:
    """Make a function from rows to rows a fused loss: `mean`, `sum` and `partial_mean` hand it the weights.

    Its data need not all start with the rows' axes: rows may share a matrix of parameters. It has no
    card: it is another way to compute a loss that has one.
    """

    def decorate(function: Callable[P, Array]) -> Callable[P, Array]:
        name = f"{family}.{function.__name__}"
        ranges, positional = dict(options or {}), inspect.Parameter.POSITIONAL_OR_KEYWORD
        names = [n for n, p in inspect.signature(function).parameters.items() if p.kind is positional]

        def ranged(of: Callable[..., Array]) -> Callable[..., Array]:
            def within(*args: Any, **given: Any) -> Array:
                data = [*args, *(given[n] for n in names if n in given)]
                dtype = _contracts.compute_dtype(*(array for array in data if array is not None))
                return of(*args, **given | _poisoned(name, ranges, given, dtype))

            return within

        run = compiled(ranged(function), inline=True)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Array:
            if kwargs:
                check_options(name, ranges, kwargs)
            return run(*args, **kwargs)

        call.fusion = Fusion(name, ranged(total), ranges, counts, masks_itself)  # pyright: ignore[reportAttributeAccessIssue]
        return call

    return decorate


def fusion_of(function: Callable[..., Any]) -> Fusion | None:
    """How a fused loss is reduced; None for any other."""
    return getattr(function, "fusion", None)


def compiled(function: Callable[..., Any], *, inline: bool = False) -> Callable[..., Any]:
    """One compiled call: strings, flags, callables and sizes of parts are static, the rest is traced."""

    @functools.partial(jax.jit, static_argnums=0, inline=inline)
    def run(static: tuple[tuple[str, Any, type], ...], data: tuple[Any, ...], traced: dict[str, Any]) -> Any:
        return function(*data, **{name: value for name, value, _ in static}, **traced)

    def call(*data: Any, **options: Any) -> Any:
        static, traced = divided(options)
        # With their types: True is 1 where programs are looked up.
        return run(tuple((name, value, type(value)) for name, value in static.items()), data, traced)

    return call


def divided(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that a compiled program is made for, and those that it is given."""
    static = {name: value for name, value in options.items() if _is_static(name, value)}
    return static, {name: value for name, value in options.items() if name not in static}


def _is_static(name: str, value: Any) -> bool:
    # The program depends on how much is computed at a time; what is no integer is refused as it was given.
    size = name == "chunk_size" and isinstance(value, (int, float, np.number))
    return size or isinstance(value, (str, bool)) or callable(value)


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function say in words what it would otherwise answer with NaN.

        jl.checked(jl.mean(loss))(predictions, targets)
        jl.checked(jax.grad(objective))(params, batch)

    A label out of range, a target outside the domain, probabilities that do not sum to 1: the error
    names the loss, the argument, the domain, the value and where it stands. Wrap the outermost
    function, outside `jax.jit`; without the wrapper these checks cost nothing.

    Returns:
        The same function, compiled, that raises.

    Raises:
        ValueError: (of the result) the first value found outside its domain.

    """
    run = compiled(checkify.checkify(function, errors=checkify.user_checks))

    @functools.wraps(function, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        with _checking():
            error, result = run(*args, **kwargs)
        if message := error.get():
            raise ValueError(message.removesuffix(" (`check` failed)"))
        return result

    return call


@contextlib.contextmanager
def _checking() -> Iterator[None]:
    """Trace losses with their checks, also inside functions compiled before without them.

    The metadata changes no result. It is part of what `jax.jit` remembers a trace by, so a trace
    made outside is not taken for one made here.
    """
    token = _contracts.CHECKING.set(True)
    try:
        with set_xla_metadata(jaxloss="checked"):
            yield
    finally:
        _contracts.CHECKING.reset(token)


def check_options(who: str, ranges: Mapping[str, Interval], options: Mapping[str, Any]) -> None:
    """Refuse a concrete hyperparameter out of its range, before anything is traced."""
    for name, value in options.items():
        domain = ranges.get(name)
        if domain is None or value is None or isinstance(value, Tracer):
            continue
        if not np.all(domain.holds(np.asarray(value))):
            msg = f"{who}: `{name}` must be in {domain}, got {value}; give a value inside."
            raise ValueError(msg)


def _within_domain(
    who: str,
    domain: Mapping[str, Domain],
    ranges: Mapping[str, Interval],
    judges: tuple[str, ...],
    function: Callable[..., Array],
    *args: Any,
    **options: Any,
) -> Array:
    """Call the formula; what lies outside its domain makes a row NaN, a hyperparameter every row."""
    data = dict(zip(domain, args, strict=False)) | {n: options.pop(n) for n in domain if n in options}
    dtype = _contracts.compute_dtype(*data.values())
    losses = function(**data, **options | _poisoned(who, ranges, options, dtype))
    _one_a_row(who, losses, next(iter(domain)), data, options)
    for name, array in data.items():
        losses = _contracts.spoil_outside(
            who, name, losses, jnp.asarray(array), domain[name], judged=name in judges
        )
    return losses


def _one_a_row(
    who: str, losses: Array, first: str, data: Mapping[str, Any], options: Mapping[str, Any]
) -> None:
    """Refuse an option that has made more losses than there are rows: (n, 1) beside n of them makes n²."""
    wanted = jnp.shape(data[first])
    if losses.shape != wanted[: losses.ndim]:
        given = ", ".join(f"`{name}` {jnp.shape(a)}" for name, a in options.items() if np.ndim(a))
        fix = "squeeze its last axis, or `jax.vmap` over it"
        msg = f"{who}: {given} must not broadcast beyond the rows of `{first}` {wanted}; {fix}."
        raise ValueError(msg)


def _poisoned(
    who: str, ranges: Mapping[str, Interval], options: Mapping[str, Any], dtype: Any
) -> dict[str, Array]:
    """The hyperparameters that have a range, NaN where they are outside it."""
    found = {}
    for name in ranges.keys() & options.keys():
        if options[name] is not None:
            value = jnp.asarray(options[name], dtype)
            found[name] = _contracts.poison(who, name, value, ranges[name].holds(value), ranges[name])
    return found
