"""Batches whose rows are each other's rivals: in blocks, with all pairs at once, and Optax's."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxloss as jl
from benchmarks.harness import LIMIT, OURS, Case, Contender, Inputs, Target, compiled

ALL_PAIRS = "all pairs"
_FEATURES, _BLOCK = 256, 512
_TEMPERATURE = 0.07

# --- data -------------------------------------------------------------------------------------


def _groups(batch: int) -> Callable[..., Inputs]:
    """Embeddings, and a label that every two of them share."""

    def inputs(*, quick: bool) -> Inputs:
        rows = 64 if quick else batch
        embeddings = np.random.default_rng(0).standard_normal((rows, _FEATURES), np.float32)
        return embeddings, (np.arange(rows) // 2).astype(np.int32)

    return inputs


def _views(batch: int) -> Callable[..., Inputs]:
    """Two views of each row."""

    def inputs(*, quick: bool) -> Inputs:
        shape = 2, 64 if quick else batch, _FEATURES
        first, noise = np.random.default_rng(0).standard_normal(shape, np.float32)
        return first, first + noise

    return inputs


# --- the truth, in float64: the mean and its gradient by the first argument ----------------------


def _unit(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = x.astype(np.float64)
    norms = np.sqrt(np.sum(x * x, axis=-1, keepdims=True))
    return x / norms, norms


def _through_norm(slopes: np.ndarray, unit: np.ndarray, norms: np.ndarray) -> np.ndarray:
    return (slopes - unit * np.sum(unit * slopes, axis=-1, keepdims=True)) / norms


def _nt_xent_truth(x: np.ndarray, ids: np.ndarray) -> tuple[float, np.ndarray]:
    """In blocks as well: all pairs of the largest batch are 8 GB in float64."""
    u, norms = _unit(x)
    total, slopes = 0.0, np.zeros_like(u)
    for start in range(0, len(x), _BLOCK):
        block = slice(start, start + _BLOCK)
        logits = u[block] @ u.T / _TEMPERATURE
        same = ids[block, None] == ids[None]
        place = np.arange(len(logits))
        partner = np.arange(len(x))[block] ^ 1
        rivals = np.where(same, 0, np.exp(logits))
        summed, own = rivals.sum(axis=-1), np.exp(logits[place, partner])
        total += np.sum(np.log1p(summed / own))
        by_logits = rivals / (summed + own)[:, None]
        by_logits[place, partner] = -summed / (summed + own)
        slopes[block] += by_logits @ u
        slopes += by_logits.T @ u[block]
    return total / len(x), _through_norm(slopes / (_TEMPERATURE * len(x)), u, norms)


def _of_logits(
    slopes_of: Callable[[np.ndarray], tuple[float, np.ndarray]], scale: float, offset: float
) -> Callable[..., Any]:
    """The truth of a mean whose value and slopes are those of a matrix of logits."""

    def truth(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
        (u, norms), (v, _) = _unit(x), _unit(y)
        value, slopes = slopes_of(scale * (u @ v.T) + offset)
        return value, _through_norm(scale * (slopes @ v), u, norms)

    return truth


def _clip_slopes(z: np.ndarray) -> tuple[float, np.ndarray]:
    own, value, slopes = np.eye(len(z)), 0.0, np.zeros_like(z)
    for axis in (0, 1):
        sums = np.log(np.sum(np.exp(z), axis=axis, keepdims=True))
        value += 0.5 * (np.mean(sums) - np.mean(np.diag(z)))
        slopes += 0.5 * (np.exp(z - sums) - own) / len(z)
    return value, slopes


def _siglip_slopes(z: np.ndarray) -> tuple[float, np.ndarray]:
    signs = 2 * np.eye(len(z)) - 1
    return np.sum(np.logaddexp(0, -signs * z)) / len(z), -signs / (1 + np.exp(signs * z)) / len(z)


# --- contenders ---------------------------------------------------------------------------------


def _differentiated(name: str, objective: Callable[..., Any]) -> Contender:
    return Contender(name, jax.value_and_grad(objective), compiled)


def _products(count: int) -> Contender:
    """So many products of matrices in blocks, and nothing else: what no formula can be faster than."""

    def bare(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = y if y.ndim == x.ndim else x

        def body(carry: jax.Array, block: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits = block @ y.T
            carry = carry + logits.T @ block if count > 2 else carry + jnp.sum(logits)
            return carry, logits @ y

        start = jnp.zeros_like(y) if count > 2 else jnp.zeros((), y.dtype)
        return jax.lax.scan(body, start, x.reshape(-1, min(_BLOCK, len(x)), x.shape[-1]))

    return Contender(LIMIT, bare, compiled, answers=False)


def _nt_xent_case(batch: int, *, peers: tuple[Contender, ...], targets: tuple[Target, ...]) -> Case:
    ours = _differentiated(OURS, jl.mean(jl.fused.contrastive.nt_xent))
    title = f"NT-Xent in blocks, {batch} rows, value and gradient of the mean"
    return Case(
        f"nt_xent_{batch}",
        title,
        _groups(batch),
        _nt_xent_truth,
        (ours, *peers, _products(3)),
        targets,
    )


def _views_case(name: str, truth: Callable[..., Any], products: int) -> Case:
    loss, in_blocks = getattr(jl.contrastive, name), getattr(jl.fused.contrastive, name)
    return Case(
        f"{name}_4096",
        f"{name} in blocks, 4096 rows, value and gradient of the mean by the images",
        _views(4096),
        truth,
        (
            _differentiated(OURS, jl.mean(in_blocks)),
            _differentiated(ALL_PAIRS, jl.mean(loss)),
            _products(products),
        ),
        (Target(1.0, ALL_PAIRS),),
    )


_ALL_PAIRS = _differentiated(ALL_PAIRS, jl.mean(jl.contrastive.nt_xent))
_OPTAX = _differentiated("optax", optax.losses.ntxent)

# Optax stores the features of every two rows: 2 GB at 1024 rows, 33 GB at 4096.
CASES = (
    _nt_xent_case(1024, peers=(_ALL_PAIRS, _OPTAX), targets=(Target(0.2, "optax"),)),
    _nt_xent_case(4096, peers=(_ALL_PAIRS,), targets=(Target(1.0, ALL_PAIRS),)),
    _nt_xent_case(32_768, peers=(), targets=(Target(1.5, LIMIT),)),
    _views_case("clip", _of_logits(_clip_slopes, 1 / 0.07, 0.0), 2),
    _views_case("siglip", _of_logits(_siglip_slopes, 10.0, -10.0), 2),
)
