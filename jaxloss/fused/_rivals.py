"""What some rows of similarities cost, and the derivative: a block of rows beside all columns.

Each formula takes logits `[block, columns]` and the marks of both, and gives the rows' losses, and their
slopes ∂ℓ_a/∂s_ab. A slope is written out, for a block is differentiated where it is made.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxloss.numerics import class_pivot, sigmoid, softplus, surprises


class Marks(NamedTuple):
    """What is known of each row: its place in the batch, whether it is there, and its group."""

    place: Array
    kept: Array
    label: Any


Rated = tuple[Array, Array]


def own_among_rivals(logits: Array, rows: Marks, columns: Marks) -> Rated:
    """−log softmax of a row's own entry: log(1 + Σ_b e^{s_ab − s_aa}), right in both tails."""
    own, rivals = own_and_rivals(rows, columns)
    log_sum, found = log_sum_of(logits, rivals)
    losses, missed = beaten(log_sum - jnp.sum(jnp.where(own, logits, 0), axis=-1), found)
    shares = shares_of(logits, rivals, log_sum[:, None])
    return losses, jnp.where(own, -missed[:, None], missed[:, None] * shares)


def signed(logits: Array, rows: Marks, columns: Marks) -> Rated:
    """log(1 + e^{−z s}) of every pair, z = 1 for a row's own and −1 for another."""
    own, rivals = own_and_rivals(rows, columns)
    signs = jnp.where(own, 1, -1).astype(logits.dtype)
    there = own | rivals
    losses = jnp.sum(jnp.where(there, softplus(-signs * logits), 0), axis=-1)
    return losses, jnp.where(there, -signs * sigmoid(-signs * logits), 0)


def partners_among_rivals(logits: Array, rows: Marks, columns: Marks) -> Rated:
    """The mean over partners p of log(1 + Σ_n e^{s_an − s_ap}), n over the rows of other groups."""
    partners, rivals = partners_and_rivals(rows, columns)
    log_sum, found = log_sum_of(logits, rivals)
    behind = log_sum[:, None] - logits
    losses, missed = beaten(behind, found[:, None] & (partners | jnp.isnan(behind)))
    shares = shares_of(logits, rivals, log_sum[:, None])
    count = _count(partners, logits)
    slopes = (shares * jnp.sum(missed, axis=-1, keepdims=True) - missed) / count
    return jnp.sum(losses, axis=-1) / count[:, 0], slopes


def partners_among_others(logits: Array, rows: Marks, columns: Marks) -> Rated:
    """The mean over partners p of −log softmax of p among all other rows."""
    partners, rivals = partners_and_rivals(rows, columns)
    others = partners | rivals
    # A row without any other keeps its own, and has a loss of 0 for it.
    among = jnp.where(others | ~jnp.any(others, axis=-1, keepdims=True), logits, -jnp.inf)
    each = surprises(among)
    costs = jnp.where(partners | jnp.isnan(each), each, 0)
    count = _count(partners, logits)
    share = partners.astype(logits.dtype) / count
    rest = jnp.any(partners, axis=-1, keepdims=True).astype(logits.dtype) - share
    return jnp.sum(costs, axis=-1) / count[:, 0], rest * jnp.exp(-each) + share * jnp.expm1(-each)


def own_and_rivals(rows: Marks, columns: Marks) -> tuple[Array, Array]:
    """Which entry is a row's own, and which is another row's; neither where one of the two is not there."""
    there = rows.kept[:, None] & columns.kept[None, :]
    own = jnp.equal(rows.place[:, None], columns.place[None, :])
    return there & own, there & ~own


def partners_and_rivals(rows: Marks, columns: Marks) -> tuple[Array, Array]:
    """Which other row is of the same group, and which is of another."""
    _, others = own_and_rivals(rows, columns)
    same = jnp.equal(rows.label[:, None], columns.label[None, :])
    return others & same, others & ~same


def _count(partners: Array, logits: Array) -> Array:
    """How many partners each row has, 1 where it has none: nothing is divided by it then."""
    return jnp.maximum(jnp.sum(partners, axis=-1, keepdims=True, dtype=logits.dtype), 1)


def beaten(behind: Array, found: Array) -> Rated:
    """log(1 + e^x) of how far ahead the rivals are, and its derivative; 0 where none is found."""
    behind = jnp.where(found, behind, 0)
    return jnp.where(found, softplus(behind), 0), jnp.where(found, sigmoid(behind), 0)


def log_sum_of(logits: Array, among: Array) -> Rated:
    """log Σ e^s over some of each row, 0 over none; and whether there are any."""
    some = jnp.where(among, logits, -jnp.inf)
    pivot = class_pivot(some)
    return logarithm(jnp.sum(jnp.exp(some - pivot[:, None]), axis=-1), pivot)


def logarithm(total: Array, pivot: Array) -> Rated:
    """pivot + log(total), 0 for a total of nothing; and whether it is of anything: beside the largest, 1."""
    found = total != 0
    return jnp.where(found, pivot + jnp.log(jnp.where(found, total, 1)), 0), found


def shares_of(logits: Array, among: Array, log_sum: Array) -> Array:
    """e^{s − log Σ}, the share of each of those that were summed; 0 of the others."""
    return jnp.exp(jnp.where(among, logits - log_sum, -jnp.inf))
