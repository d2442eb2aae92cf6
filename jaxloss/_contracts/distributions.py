"""Rows that are distributions, given as shares or as logarithms."""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxloss._contracts.checks import poison, report
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


def judged(who: str, name: str, array: Array) -> Array:
    """Whether each row is a distribution, `[*rows]`; under `jl.checked` an error names the first other."""
    valid = are_distributions(array)
    report(who, name, array, valid, _A_DISTRIBUTION)
    return valid[..., 0]


def are_distributions(shares: Array) -> Array:
    """Whether each row is a distribution, `[*rows, 1]`: in sums and minima, which store nothing."""
    sums_to_one = jnp.abs(jnp.sum(shares, axis=-1, keepdims=True) - 1) <= _SUM_SLACK
    return sums_to_one & (jnp.min(shares, axis=-1, keepdims=True, initial=0) >= 0)


def sound(shares: Array, dtype: Any) -> Array:
    """Distributions in a dtype, NaN with NaN derivative in rows that are none."""
    return shares.astype(dtype) * jnp.where(are_distributions(shares), jnp.ones((), dtype), jnp.nan)


def distributions(who: str, *, logarithms: bool = False, **arrays: ArrayLike) -> tuple[Array, Array, Array]:
    """Two distributions `[*rows, K]`, the first one's logarithms where `logarithms` says so.

    They come back as they are. Third comes which rows `[*rows]` are what they should be.
    """
    first, second = arrays
    predictions, targets = vectors(who, **arrays)
    of_first = _judged_logarithms if logarithms else judged
    return predictions, targets, judged(who, second, targets) & of_first(who, first, predictions)


def log_distributions(who: str, **arrays: ArrayLike) -> tuple[Array, Array, Array]:
    """The logarithms of two distributions, likewise."""
    first, second = arrays
    predictions, targets = vectors(who, **arrays)
    valid = _judged_logarithms(who, first, predictions) & _judged_logarithms(who, second, targets)
    return predictions, targets, valid


def _judged_logarithms(who: str, name: str, array: Array) -> Array:
    """Whether the exponentials of each row sum to 1."""
    valid = jnp.abs(jnp.sum(jnp.exp(array), axis=-1, keepdims=True) - 1) <= _SUM_SLACK
    report(who, name, array, valid, "log-probabilities whose exponentials sum to 1")
    return valid[..., 0]


def sound_rows(sound: Array, losses: Array) -> Array:
    """The losses, NaN with NaN derivative in rows that are not sound.

    The rows are judged and not the numbers in them: what is multiplied by NaN or 1 before several sums read
    it would be stored.
    """
    return losses * jnp.where(sound, jnp.ones((), losses.dtype), jnp.nan)
