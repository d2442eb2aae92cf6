"""One network, two tasks on real data: which digit an image shows, and how its ink is slanted.

    python examples/two_tasks.py [METHOD ...]

The images are scikit-learn's 1,797 handwritten digits, 8 × 8. The second target is measured on the image:
the covariance of row and column of its ink. Of each image the network sees the left half alone, so that
neither task is trivial. The slant is in thirtieths of a pixel², which makes its loss much the larger and
drowns the digits where both count alike: what the weighers are for.
"""

import sys
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxloss as jl

WEIGHERS: dict[str, Callable] = {
    "fixed": jl.weighting.fixed,
    "uncertainty": lambda: jl.weighting.uncertainty(factor=[1.0, 0.5], optimizer=optax.adam(0.02)),
    "dynamic_average": lambda: jl.weighting.dynamic_average(period=10),
    "random": lambda: jl.weighting.random(0),
    "softadapt": jl.weighting.softadapt_normalized,
    "relobralo": lambda: jl.weighting.relobralo(0, alpha=0.95),
    "famo": lambda: jl.weighting.famo(optimizer=optax.adam(0.025)),
    "gradnorm": lambda: jl.weighting.gradnorm(optimizer=optax.adam(0.025)),
    "pcgrad": lambda: jl.weighting.pcgrad(0),
    "mgda": jl.weighting.mgda,
    "cagrad": jl.weighting.cagrad,
    "imtl_g": jl.weighting.imtl_g,
    "nash_mtl": jl.weighting.nash_mtl,
}
UNIT = 30.0  # of the slant: thirtieths of a pixel²
HIDDEN = 64


class Result(NamedTuple):
    """On images never trained on: the share of digits right, and of the slant's variance explained."""

    accuracy: float
    explained: float
    weights: dict[str, float]


class Digits(NamedTuple):
    """Left halves of images, the digits they are of, and the slant of the whole."""

    images: np.ndarray
    digits: np.ndarray
    slants: np.ndarray


def slant(images: np.ndarray) -> np.ndarray:
    """The covariance of row and column of an image's ink."""
    ink = images / np.sum(images, axis=(1, 2), keepdims=True)
    rows, columns = np.arange(8.0)[:, None], np.arange(8.0)[None, :]
    middle_row, middle_column = np.sum(ink * rows, axis=(1, 2)), np.sum(ink * columns, axis=(1, 2))
    return np.sum(ink * rows * columns, axis=(1, 2)) - middle_row * middle_column


def data() -> tuple[Digits, Digits]:
    """Images to train on, and others to judge by."""
    source = load_digits()
    halves = source.images[:, :, :4].reshape(-1, 32) / 16
    targets = UNIT * slant(source.images)
    everything = Digits(halves.astype(np.float32), source.target.astype(np.int32), targets.astype(np.float32))
    order = np.random.default_rng(0).permutation(len(halves))
    return tuple(Digits(*(array[rows] for array in everything)) for rows in (order[:1400], order[1400:]))


def start(key: jax.Array) -> dict:
    """A trunk of two layers, and a head for each task."""
    keys = jax.random.split(key, 4)
    sizes = {"first": (32, HIDDEN), "second": (HIDDEN, HIDDEN), "digit": (HIDDEN, 10), "slant": (HIDDEN, 1)}
    layers = {
        name: {"matrix": jax.random.normal(key, size) * (2 / size[0]) ** 0.5, "bias": jnp.zeros(size[1])}
        for key, (name, size) in zip(keys, sizes.items(), strict=True)
    }
    return {"trunk": {name: layers.pop(name) for name in ("first", "second")}, "heads": layers}


def predict(params: dict, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Logits of the digit, and the slant."""
    hidden = images
    for layer in params["trunk"].values():
        hidden = jax.nn.relu(hidden @ layer["matrix"] + layer["bias"])
    digit, slanted = (hidden @ head["matrix"] + head["bias"] for head in params["heads"].values())
    return digit, slanted[:, 0]


def objective(params: dict, batch: Digits) -> dict[str, jax.Array]:
    """Two losses, in units of their own."""
    logits, slants = predict(params, batch.images)
    return {
        "digit": jl.cross_entropy(logits, batch.digits),
        "slant": jl.mse(slants, batch.slants),
    }


def train(method: str, *, steps: int = 300, rate: float = 3e-3) -> Result:
    """Train on the whole set at each step, all methods from one start and with one optimizer."""
    weigher, optimizer = WEIGHERS[method](), optax.adam(rate)
    evaluate = jl.weighting.value_and_grad(objective, weigher, shared=lambda params: params["trunk"])
    train_set, test_set = data()
    params = start(jax.random.key(0))

    @jax.jit
    def run(params: dict, state: tuple, opt_state: tuple, batch: Digits) -> tuple:
        def step(carry: tuple, _: None) -> tuple:
            params, state, opt_state = carry
            found = evaluate(params, state, batch)
            updates, opt_state = optimizer.update(found.grads, opt_state, params)
            return (optax.apply_updates(params, updates), found.state, opt_state), found.weights

        return jax.lax.scan(step, (params, state, opt_state), length=steps)

    (params, _, _), weights = run(params, weigher.init(2), optimizer.init(params), train_set)
    logits, slants = predict(params, test_set.images)
    missed = np.mean((np.asarray(slants) - test_set.slants) ** 2)
    return Result(
        accuracy=float(np.mean(np.argmax(logits, axis=1) == test_set.digits)),
        explained=float(1 - missed / np.var(test_set.slants)),
        weights={task: float(weight[-1]) for task, weight in weights.items()},
    )


def main(methods: list[str]) -> None:
    """Print a line for each method, some of them unless told; any of `WEIGHERS` may be named."""
    print(f"{'method':16} {'digits right':>12} {'slant explained':>16}   last weights")
    for method in methods or ("fixed", "uncertainty", "famo", "cagrad", "nash_mtl"):
        result = train(method)
        weights = ", ".join(f"{task} {weight:.3g}" for task, weight in result.weights.items())
        print(f"{method:16} {result.accuracy:12.1%} {result.explained:16.1%}   {weights}")


if __name__ == "__main__":
    main(sys.argv[1:])
