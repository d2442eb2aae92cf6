"""Cases of the fused heads: the same value and gradients as of all logits, and what these cost at least."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxloss as jl
from benchmarks.harness import (
    LIMIT,
    OURS,
    Case,
    Contender,
    Function,
    Inputs,
    Target,
    compiled,
    torch_autograd,
)

_ROWS_OF_TRUTH = 512


# The slope below which Cut Your Losses leaves classes out.
_NEGLIGIBLE = 2.0**-12


def _head(rows: int, width: int, classes: int) -> Callable[..., Inputs]:
    """Features [rows, width], a kernel [width, classes] that makes logits of size 3, and class ids."""

    def inputs(*, quick: bool) -> Inputs:
        random = np.random.default_rng(0)
        n, d, v = (16, 8, 300) if quick else (rows, width, classes)
        kernel = random.standard_normal((d, v), np.float32) * np.float32(3 / d**0.5)
        return random.standard_normal((n, d), np.float32), kernel, random.integers(0, v, n, np.int32)

    return inputs


def _zipf_head(rows: int, width: int, classes: int) -> Callable[..., Inputs]:
    """A head whose classes are as frequent as words, and ids drawn from it, as if it were trained."""

    def inputs(*, quick: bool) -> Inputs:
        random = np.random.default_rng(0)
        n, d, v = (16, 8, 300) if quick else (rows, width, classes)
        x = random.standard_normal((n, d), np.float32)
        kernel = random.standard_normal((d, v), np.float32) * np.float32(1 / d**0.5)
        bias = -np.log(np.arange(1, v + 1, dtype=np.float32))
        ids = np.argmax(x @ kernel + bias + random.gumbel(size=(n, v)), axis=-1).astype(np.int32)
        return x, kernel, ids, bias

    return inputs


def _truth(
    x: np.ndarray, w: np.ndarray, ids: np.ndarray, bias: np.ndarray | float = 0.0
) -> tuple[Any, tuple[np.ndarray, np.ndarray]]:
    """The mean cross-entropy and both gradients in float64, some rows at a time."""
    x, w = x.astype(np.float64), w.astype(np.float64)
    total, of_x, of_w = 0.0, np.empty_like(x), np.zeros_like(w)
    for start in range(0, len(x), _ROWS_OF_TRUTH):
        part, own = x[start : start + _ROWS_OF_TRUTH], ids[start : start + _ROWS_OF_TRUTH]
        rows, z = np.arange(len(part)), part @ w + bias
        z -= z.max(axis=-1, keepdims=True)
        at_label = z[rows, own]
        shares = np.exp(z, out=z)
        sums = shares.sum(axis=-1)
        total += (np.log(sums) - at_label).sum()
        shares /= sums[:, None]
        shares[rows, own] -= 1
        of_x[start : start + _ROWS_OF_TRUTH] = shares @ w.T
        of_w += part.T @ shares
    return total / len(x), (of_x / len(x), of_w / len(x))


def _optax(x: jax.Array, w: jax.Array, ids: jax.Array) -> jax.Array:
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(x @ w, ids))


def _three_products(x: jax.Array, w: jax.Array, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The products of matrices that value and gradients need, and nothing between them."""
    del ids
    z = x @ w
    return z @ w.T, x.T @ z


def _torch(x: Any, w: Any, ids: Any) -> Any:
    import torch

    return torch.nn.functional.cross_entropy(x @ w, ids.long())


def _torch_fused(x: Any, w: Any, ids: Any) -> Any:
    import torch

    return torch.nn.functional.linear_cross_entropy(x, w.T, ids.long())


def _tokamax(x: jax.Array, w: jax.Array, ids: jax.Array) -> jax.Array:
    import tokamax
    from absl import flags

    flags.FLAGS(["benchmarks"])  # or it would read our command line for its own options
    return tokamax.linear_softmax_cross_entropy_loss(x, ids, w, reduction="mean")


def _all_classes(x: jax.Array, w: jax.Array, ids: jax.Array, bias: jax.Array) -> jax.Array:
    return jl.mean(jl.fused.linear_cross_entropy)(x, w, ids, bias=bias)


def _filtered(x: jax.Array, w: jax.Array, ids: jax.Array, bias: jax.Array) -> jax.Array:
    return jl.mean(jl.fused.linear_cross_entropy)(x, w, ids, bias=bias, gradient_filter=_NEGLIGIBLE)


def _both(name: str, objective: Function) -> Contender:
    return Contender(name, jax.value_and_grad(objective, (0, 1)), compiled)


def _case(name: str, rows: int, width: int, classes: int) -> Case:
    """value_and_grad, in features and kernel, of a head's mean cross-entropy."""
    return Case(
        name,
        f"linear head and cross-entropy of {classes} classes, value and both gradients of the mean",
        _head(rows, width, classes),
        _truth,
        (
            _both(OURS, jl.mean(jl.fused.linear_cross_entropy)),
            _both("optax", _optax),
            Contender("tokamax", jax.value_and_grad(_tokamax, (0, 1)), compiled, needs="tokamax"),
            Contender("torch", _torch, _torch_both, needs="torch"),
            Contender("torch fused", _torch_fused, _torch_both, needs="torch"),
            Contender(LIMIT, _three_products, compiled, answers=False),
        ),
        (Target(1.0, "optax"), Target(1.05, LIMIT)),
        tolerance=1e-4,  # a logit is rounded as a sum of hundreds of terms, by each library in its own order
    )


def _torch_both(function: Function, inputs: Inputs) -> Any:
    return torch_autograd(function, inputs, leaves=2)


FUSED_CASES = (
    _case("linear_cross_entropy", 2048, 512, 32_000),
    _case("linear_cross_entropy_large", 4096, 256, 128_256),
    Case(
        "gradient_filter",
        "linear head and cross-entropy of 32000 classes as frequent as words, slopes up to 2⁻¹² left out",
        _zipf_head(2048, 512, 32_000),
        _truth,
        (_both(OURS, _filtered), _both("all classes", _all_classes)),
        (Target(0.75, "all classes"),),
        # The approximation's own: the answer may be off by what was left out, and no more than its bound.
        tolerance=0.05,
    ),
)
