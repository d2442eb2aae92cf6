"""Rows that are distributions, given as shares or as logarithms."""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxloss._contracts.checks import poison
from jaxloss._contracts.rows import vectors

# How far from 1 the sum of given probabilities may be: rounding in bfloat16, not another scale.
_SUM_SLACK = 1e-2


def composed(who: str, **arrays: ArrayLike) -> tuple[Array, Array]:
    """Parameters of one shape `[*rows, K]` with distributions, which come second."""
    _, second = arrays
    parameters, targets = vectors(who, **arrays)
    return parameters, distribution(who, second, targets)


_A_DISTRIBUTION = "distributions: non-negative, each row summing to 1"


def distribution(who: str, name: str, array: Array) -> Array:
    """`array`, NaN in whole rows that are negative somewhere or do not sum to 1."""
    return poison(who, name, array, are_distributions(array), _A_DISTRIBUTION)


def are_distributions(shares: Array) -> Array:
    """Whether each entry stands in a row that is a distribution."""
    sums_to_one = jnp.abs(jnp.sum(shares, axis=-1, keepdims=True) - 1) <= _SUM_SLACK
    valid = sums_to_one & jnp.all(shares >= 0, axis=-1, keepdims=True)
    return jnp.broadcast_to(valid, shares.shape)


def sound(shares: Array, dtype: Any) -> Array:
    """Distributions in a dtype, NaN with NaN derivative in rows that are none."""
    return shares.astype(dtype) * jnp.where(are_distributions(shares), jnp.ones((), dtype), jnp.nan)


def distributions(who: str, *, logarithms: bool = False, **arrays: ArrayLike) -> tuple[Array, Array]:
    """Two distributions `[*rows, K]`, the first one's logarithms where `logarithms` says so."""
    first, second = arrays
    predictions, targets = vectors(who, **arrays)
    targets = distribution(who, second, targets)
    if not logarithms:
        return distribution(who, first, predictions), targets
    return _log_distribution(who, first, predictions), targets


def log_distributions(who: str, **arrays: ArrayLike) -> tuple[Array, Array]:
    """The logarithms of two distributions, `[*rows, K]`."""
    first, second = arrays
    predictions, targets = vectors(who, **arrays)
    return _log_distribution(who, first, predictions), _log_distribution(who, second, targets)


def _log_distribution(who: str, name: str, array: Array) -> Array:
    """`array`, NaN in whole rows whose exponentials do not sum to 1."""
    valid, wanted = are_distributions(jnp.exp(array)), "log-probabilities whose exponentials sum to 1"
    return poison(who, name, array, valid, wanted)
