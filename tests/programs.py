"""Programs without a clock: whether two compute the same numbers, and how many are compiled."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

# Calls that compute what stands in them; a loop with a derivative of its own is another loop.
_CALLS = {"jit", "pjit", "custom_jvp_call", "custom_vjp_call"}


def identical(argument: Any, *functions: Callable[[Any], Any]) -> bool:
    """Whether all of them do the same with the argument, operation for operation, whatever it holds."""
    known = {"argument": 0}
    first, *others = (_numbered(jax.make_jaxpr(function)(argument), [0], known) for function in functions)
    return all(other == first for other in others)


def _numbered(closed: Any, arguments: list[int], known: dict) -> list[int]:
    """A number for each result; the same operation on values of the same numbers has the same one."""

    def number(expression: Any) -> int:
        return known.setdefault(expression, len(known))

    def constant(value: Any, dtype: Any = None) -> int:
        array = np.asarray(value, dtype)
        return number((array.shape, str(array.dtype), array.tobytes()))

    def read(variable: Any) -> int:
        is_literal = isinstance(variable, Literal)
        return constant(variable.val, variable.aval.dtype) if is_literal else numbers[variable]

    jaxpr = closed.jaxpr
    numbers = dict(zip(jaxpr.constvars, map(constant, closed.consts), strict=True))
    numbers |= dict(zip(jaxpr.invars, arguments, strict=True))
    for equation in jaxpr.eqns:
        given = [read(variable) for variable in equation.invars]
        if equation.primitive.name in _CALLS:
            called = equation.params.get("call_jaxpr") or equation.params["jaxpr"]
            results = _numbered(called, given, known)
        else:
            operation = (equation.primitive.name, *given, str(sorted(equation.params.items())))
            results = [number((operation, place)) for place in range(len(equation.outvars))]
        numbers |= dict(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def compilations(function, *arguments, **options) -> int:
    """How many programs a call compiles."""
    events = []

    def listen(event: str, _seconds: float, **_) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.block_until_ready(function(*arguments, **options))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return len(events)
