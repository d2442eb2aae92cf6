"""A loss made from another: what it is called, what it takes, and which rows its mean leaves out."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from jax import Array

from jaxloss._loss import card_of, fusion_of

RowLoss = Callable[..., Array]


def dressed(
    loss: RowLoss,
    around: Callable[[Callable[..., Any]], RowLoss],
    *,
    unranged: Iterable[str],
    removed: Iterable[str] = (),
    added: str = "",
) -> RowLoss:
    """`around(loss)` with the name, the signature and the card of the loss it is made from.

    With its card a mean leaves out the same rows; of a fused loss, `around` its total is the total. The
    ranges are those of the loss's own options: `unranged` names those in whose place something else is given.
    """
    call = around(loss)
    made = functools.wraps(loss, updated=())(call) if hasattr(loss, "__name__") else call
    kept = [p for name, p in parameters(loss).items() if name not in set(removed)]
    if added and added not in {p.name for p in kept}:
        at = len(kept) - any(p.kind is p.VAR_KEYWORD for p in kept)
        kept.insert(at, inspect.Parameter(added, inspect.Parameter.KEYWORD_ONLY))
    vars(made)["__signature__"] = inspect.Signature(kept)
    card, fusion = card_of(loss), fusion_of(loss)
    facts = card or fusion
    own = facts.options if facts else {}
    ranges = {name: domain for name, domain in own.items() if name not in set(unranged)}
    if card is not None:
        vars(made)["card"] = dataclasses.replace(card, options=ranges)
    if fusion is not None:
        total, counts = around(fusion.weighted_total), fusion.counts and around(fusion.counts)
        vars(made)["fusion"] = fusion._replace(weighted_total=total, options=ranges, counts=counts)
    return made


def parameters(loss: RowLoss) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(loss).parameters)
    except (TypeError, ValueError):  # a callable without a signature takes what it takes
        anything = (("data", inspect.Parameter.VAR_POSITIONAL), ("options", inspect.Parameter.VAR_KEYWORD))
        return {name: inspect.Parameter(name, kind) for name, kind in anything}


def require_options(who: str, loss: RowLoss, names: Iterable[str]) -> None:
    """Refuse a name that is no option of the loss."""
    found = parameters(loss).values()
    if any(p.kind is p.VAR_KEYWORD for p in found):
        return
    refuse_unknown(
        who, [p.name for p in found if p.kind is p.KEYWORD_ONLY or p.default is not p.empty], names
    )


def refuse_unknown(who: str, known: Iterable[str], names: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            listed = ", ".join(known) or "none"
            msg = f"{who}: there is no hyperparameter `{name}`; there is {listed}."
            raise ValueError(msg)
