"""Learn how robust a loss must be, one column at a time, on real measurements with wrong entries among them.

Three columns of scikit-learn's diabetes data (progression, body-mass index, blood pressure) are predicted
from the others. One is left clean; in the others one entry in ten and three in ten are wrong by twenty
deviations, as a swapped unit would make them. A fixed loss has one shape and one scale for all
three. `robust.adaptive_nll` learns a shape and a scale for each column with the model's weights.

    python examples/learned_robust_loss.py
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_diabetes

import jaxloss as jl

WRONG = (0.0, 0.1, 0.3)  # the share of wrong entries in each column
GRID: dict[str, tuple[Callable[..., jax.Array], dict[str, float]]] = {
    "squared error": (jl.regression.squared_error, {}),
    "absolute error": (jl.regression.absolute_error, {}),
    **{f"huber, delta {d}": (jl.robust.huber, {"delta": d}) for d in (0.03, 0.1, 0.3, 1.0)},
    **{f"cauchy, scale {s}": (jl.robust.cauchy, {"scale": s}) for s in (0.03, 0.1, 0.3, 1.0)},
    **{f"geman_mcclure, scale {s}": (jl.robust.geman_mcclure, {"scale": s}) for s in (0.03, 0.1, 0.3, 1.0)},
    **{f"welsch, scale {s}": (jl.robust.welsch, {"scale": s}) for s in (0.03, 0.1, 0.3, 1.0)},
}


def splits(count: int) -> list[np.ndarray]:
    """Training and test rows of several random splits: x, y, test x, test y, and y's mean and deviation."""
    features, progression = load_diabetes(return_X_y=True)
    columns = np.c_[progression, features[:, 2], features[:, 3]]
    x = np.delete(features, [2, 3], axis=1)
    x, columns = ((a - a.mean(axis=0)) / a.std(axis=0) for a in (x, columns))
    x = np.c_[x, np.ones(len(x))]

    def split(seed: int) -> tuple[np.ndarray, ...]:
        rng = np.random.default_rng(seed)
        train, test = np.split(rng.permutation(len(x)), [300])
        wrong = rng.random((300, 3)) < np.array(WRONG)
        y = columns[train] + np.where(wrong, rng.normal(0, 20, (300, 3)), 0)
        mean, deviation = y.mean(axis=0), y.std(axis=0)
        return x[train], (y - mean) / deviation, x[test], columns[test], mean, deviation

    return [np.stack(arrays).astype(np.float32) for arrays in zip(*map(split, range(count)), strict=True)]


def fit(objective: Callable[..., jax.Array], params: Any, x: np.ndarray, y: np.ndarray, steps: int) -> Any:
    """The parameters after so many steps of Adam, of each split, in one compiled program."""
    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, steps))

    def of_split(x: jax.Array, y: jax.Array) -> Any:
        def step(carry: Any, _: None) -> tuple[Any, None]:
            params, state = carry
            updates, state = optimizer.update(jax.grad(objective)(params, x, y), state)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), length=steps)[0][0]

    return jax.jit(jax.vmap(of_split))(x, y)


def compare(count: int = 10, steps: int = 1000) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """The error of each loss on clean test rows, in deviations, and the shapes and scales learned."""
    x, y, test_x, test_y, mean, deviation = splits(count)
    start = jnp.zeros((x.shape[-1], 3), jnp.float32)

    def error(weights: jax.Array) -> float:
        predicted = (
            np.einsum("snf,sfk->snk", test_x, np.asarray(weights)) * deviation[:, None] + mean[:, None]
        )
        return float(np.mean(np.sqrt(np.mean((predicted - test_y) ** 2, axis=1))))

    alive = jl.training.learned(jl.robust.adaptive_nll, alpha=(0, 2), scale=(1e-3, None))
    raw = jax.tree.map(jnp.float32, alive.init(alpha=np.ones(3), scale=np.ones(3)))
    params = {"weights": start, "loss": raw}
    found = fit(lambda p, x, y: jl.mean(alive.loss)(x @ p["weights"], y, **p["loss"]), params, x, y, steps)
    errors = {"learned": error(found["weights"])}
    for name, (loss, options) in GRID.items():
        mean_loss = jl.mean(loss)
        weights = fit(lambda w, x, y, f=mean_loss, o=options: f(x @ w, y, **o), start, x, y, steps)
        errors[name] = error(weights)
    values = jax.vmap(alive.values)(found["loss"])
    return errors, {name: np.mean(array, axis=0) for name, array in values.items()}


def main() -> None:
    """Print the errors, the best first, and what was learned."""
    errors, learned = compare()
    for name, value in sorted(errors.items(), key=lambda item: item[1]):
        print(f"{value:.4f}  {name}")
    for name, array in learned.items():
        print(f"{name} learned of the columns: {np.round(array, 3)}")


if __name__ == "__main__":
    main()
