"""What can run a fused head, as data."""

from collections.abc import Callable
from typing import NamedTuple

from jax import Array

from jaxloss.fused import _heads


class Backend(NamedTuple):
    """A way to run a fused head; `refuses` says in words why it cannot run here, None where it can."""

    name: str
    weighted_total: Callable[[_heads.Plan, _heads.Rows], Array]
    row_losses: Callable[[_heads.Plan, _heads.Rows], Array]
    refuses: Callable[[], str | None]


BACKENDS = (Backend("xla", _heads.weighted_total, _heads.row_losses, lambda: None),)


def chosen(who: str, name: str) -> Backend:
    """The backend of that name; for "auto" the first that does not refuse."""
    able = [backend for backend in BACKENDS if name in ("auto", backend.name)]
    refusals = {backend.name: backend.refuses() for backend in able}
    for backend in able:
        if refusals[backend.name] is None:
            return backend
    names = ", ".join(['"auto"', *(f'"{backend.name}"' for backend in BACKENDS)])
    reasons = (
        "; ".join(f"{name}: {reason}" for name, reason in refusals.items()) or "there is none of that name"
    )
    msg = (
        f"{who}: `backend` must be one of {names} that can run here, got {name!r} ({reasons}); give another."
    )
    raise ValueError(msg)
