"""How a derivative passes: a term of a rule, values kept apart, rows cut off from it or spoiled."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero
from jax.experimental.xla_metadata import set_xla_metadata


def term(factor: Callable[[], Array], tangent: Any) -> Array | float:
    """`factor() * tangent`, or nothing where the argument is not differentiated.

    A zero tangent is not multiplied: ∞·0 would put a NaN into forward mode.
    """
    return 0.0 if isinstance(tangent, SymbolicZero) else factor() * tangent


def summed(rows: Callable[..., Array]) -> Callable[..., Array]:
    """Σ rows(...), a sum whose value and whose derivative share no array when compiled for a CPU.

    XLA's CPU compiler stores what both read (a residual, even a broadcast constant) as an array of its
    own, and a reduction then runs over stored arrays: ten times the time of reading the data twice.
    A call that it may not inline is a program of its own, in which nothing is shared. The calls inside it,
    such as every `jnp.where`, are inlined as ever: else each of them would store what it is given.
    """

    def total(*args: Any) -> Array:
        return jnp.sum(rows(*args))

    def within(*args: Any) -> Array:
        with set_xla_metadata(inlineable=None):
            return jnp.sum(_settled(rows, *args))

    def alone(*args: Any) -> Array:
        with set_xla_metadata(inlineable="false"):
            return jax.jit(within)(*args)

    @jax.custom_jvp
    def call(*args: Any) -> Array:
        return lax.platform_dependent(*args, cpu=alone, default=total)

    def rule(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
        return call(*primals), _along(total, primals, tangents)[1]

    call.defjvp(rule, symbolic_zeros=True)
    return call


def _settled(rows: Callable[..., Array], *args: Any) -> Array:
    """The rows; where their formula makes a choice, as an array of their own before they are added up.

    XLA's CPU sums take the last steps of a formula into themselves, back to the choices in it, and what
    these choose from is stored: three arrays for one, or twenty. A choice at the end leaves them nothing.
    """
    formula = jax.make_jaxpr(rows)(*args)
    values = rows(*args)
    return jnp.where(values == values, values, jnp.nan) if _chooses(formula.jaxpr) else values


def _chooses(jaxpr: Any) -> bool:
    parts = (part for equation in jaxpr.eqns for part in jax.tree.leaves(list(equation.params.values())))
    inner = (getattr(part, "jaxpr", None) for part in parts)
    return any(e.primitive is lax.select_n_p for e in jaxpr.eqns) or any(map(_chooses, filter(None, inner)))


def whole(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function with autodiff's derivative, as one step of a rule that may be differentiated.

    In reverse mode a rule is split into what depends on its tangents and what does not, and a scan among
    the latter loses in that the rules and the `jax.checkpoint` of what it holds: its second derivative
    would store every step. What has a rule of its own is not split.
    """
    call = jax.custom_jvp(function)
    call.defjvp(partial(_along, function), symbolic_zeros=True)
    return call


def _along(
    function: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Any, Any]:
    """`jax.jvp` in those leaves of the arguments that move: the others are known, not moved by zeros."""
    leaves, tree = jax.tree.flatten(primals)
    moves = jax.tree.leaves(tangents, is_leaf=lambda move: isinstance(move, SymbolicZero))
    moving = [i for i, move in enumerate(moves) if not isinstance(move, SymbolicZero)]

    def of_moving(*values: Any) -> Any:
        changed = dict(zip(moving, values, strict=True))
        return function(*tree.unflatten([changed.get(i, leaf) for i, leaf in enumerate(leaves)]))

    return jax.jvp(of_moving, [leaves[i] for i in moving], [moves[i] for i in moving])


@jax.custom_jvp
def spoil(values: Array, margin: Array) -> Array:
    """`values` where margin ≥ 0; NaN, with NaN derivative, where it is negative.

    The value adds √min(margin, 0), 0 or NaN, for a mask would not fuse into a sum.
    """
    return values + jnp.sqrt(jnp.minimum(margin, 0))


def nan_below_zero(margin: Array) -> Array:
    """1 where margin ≥ 0, NaN where it is negative: what the derivative of a spoiled value is times.

    Compared with the smallest negative number, for the zero would be stored to be shared.
    """
    return jnp.where(margin > -jnp.finfo(margin.dtype).tiny, 1, jnp.nan)


def _spoil_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (values, margin), (dvalues, _) = primals, tangents
    return spoil(values, margin), term(lambda: nan_below_zero(margin), dvalues)


spoil.defjvp(_spoil_jvp, symbolic_zeros=True)


@jax.custom_jvp
def cut(x: Array, kept: Array) -> Array:
    """x, whose derivative is 0 where it is not kept, whatever comes back from there."""
    del kept
    return x


def _cut_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Any]:
    (x, kept), (dx, _) = primals, tangents
    return cut(x, kept), jnp.where(kept, dx, 0)


cut.defjvp(_cut_jvp, symbolic_zeros=True)
