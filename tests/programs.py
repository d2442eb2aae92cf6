"""Programs without a clock: how they are compiled, how many, and whether two compute the same numbers."""

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import pytest
from jax.extend.core import Literal

# A test's program runs once, on little: what it costs is its compilation, a third as much with these.
QUICKLY = {"xla_backend_optimization_level": 0, "xla_cpu_parallel_codegen_split_count": 1}
# XLA's own choice, for what is promised of a compiled program: its rounding, its memory.
AS_USERS_DO = {"xla_backend_optimization_level": 3, "xla_cpu_parallel_codegen_split_count": 32}
if jax.__version_info__ < (0, 11, 0):  # a flag that XLA does not know ends the process
    QUICKLY["xla_cpu_use_fusion_emitters"], AS_USERS_DO["xla_cpu_use_fusion_emitters"] = False, True
# And what a program stores, and of which operations it is, is settled before its code is made.
LAID_OUT = AS_USERS_DO | {"xla_backend_optimization_level": 0}
# Of what the compiler makes of a program, how much it stores and how often it multiplies.
COUNTED = pytest.mark.skipif(
    jax.__version_info__ < (0, 10), reason="counted for the XLA of JAX 0.10 and later"
)
as_users_do = functools.partial(jax.jit, compiler_options=AS_USERS_DO)


def xla_flags(options: Mapping[str, Any]) -> str:
    """Options of the compiler as the environment gives them."""
    return " ".join(f"--{name}={str(value).lower()}" for name, value in options.items())


def at_home() -> dict[str, str]:
    """The environment of a program of its own: compiled as quickly, but on one device, not on eight."""
    kept = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if "device_count" not in flag]
    return os.environ | {"XLA_FLAGS": " ".join(kept)}


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
            how = sorted(item for item in equation.params.items() if item[0] != "sharding")  # says where
            operation = (equation.primitive.name, *given, str(how))
            results = [number((operation, place)) for place in range(len(equation.outvars))]
        numbers |= dict(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


_EVENTS: list[str] = []


@functools.cache
def _listening() -> None:
    """For good: JAX 0.7 has no public way to stop."""
    jax.monitoring.register_event_duration_secs_listener(lambda event, _seconds, **_: _EVENTS.append(event))


def events(function, *arguments, **options) -> list[str]:
    """What JAX reports the time of in a call: traces, lowerings, compilations."""
    _listening()
    before = len(_EVENTS)
    jax.block_until_ready(function(*arguments, **options))
    return _EVENTS[before:]


def compilations(function, *arguments, **options) -> int:
    """How many programs a call compiles."""
    return events(function, *arguments, **options).count("/jax/core/compile/backend_compile_duration")
