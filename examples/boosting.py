"""Trees with jaxloss's losses: an interval by pinball, and a fit that wrong targets do not carry away.

XGBoost, LightGBM and CatBoost, whichever is installed, on scikit-learn's diabetes data.

    python examples/boosting.py
"""

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

import jaxloss as jl
from jaxloss.adapters import boosting

Fit = Callable[[boosting.Objective, np.ndarray, np.ndarray], Any]


def libraries() -> Iterator[tuple[str, Fit]]:
    """A function that fits one model, for each library there is."""
    if importlib.util.find_spec("xgboost"):
        import xgboost

        yield (
            "XGBoost",
            lambda objective, x, y: xgboost.XGBRegressor(
                objective=objective,
                n_estimators=60,
                max_depth=2,
                min_child_weight=40,
                n_jobs=1,
                base_score=0.0,
                learning_rate=0.1,
            ).fit(x, y),
        )
    if importlib.util.find_spec("lightgbm"):
        import lightgbm

        yield (
            "LightGBM",
            lambda objective, x, y: lightgbm.LGBMRegressor(
                objective=objective, n_estimators=60, num_leaves=4, min_child_samples=40, n_jobs=1, verbose=-1
            ).fit(x, y),
        )
    if importlib.util.find_spec("catboost"):
        import catboost

        yield "CatBoost", lambda objective, x, y: catboost.CatBoostRegressor(
            loss_function=objective, eval_metric="RMSE", iterations=60, depth=2, learning_rate=0.1,
            leaf_estimation_method="Newton", leaf_estimation_iterations=1,
            thread_count=1, verbose=0, allow_writing_files=False,
        ).fit(x, y)  # fmt: skip


def compare() -> dict[str, dict[str, float]]:
    """For each library: the test error of two losses, and how many targets the 80 % interval holds."""
    features, targets = load_diabetes(return_X_y=True)
    targets = (targets - targets.mean()) / targets.std()
    x, test_x, y, test_y = train_test_split(features, targets, test_size=0.3, random_state=0)
    wrong = np.random.default_rng(0).random(len(y)) < 0.1
    spoiled = np.where(wrong, y + 30, y)
    found = {}
    for name, fit in libraries():
        predicted = {
            "squared error": fit(boosting.objective(jl.regression.half_squared_error), x, spoiled),
            "huber": fit(boosting.objective(jl.robust.huber), x, spoiled),
            "low": fit(boosting.objective(jl.quantile.pinball, quantile=0.1), x, y),
            "high": fit(boosting.objective(jl.quantile.pinball, quantile=0.9), x, y),
        }
        predicted = {loss: np.asarray(model.predict(test_x)) for loss, model in predicted.items()}
        held = (predicted["low"] <= test_y) & (test_y <= predicted["high"])
        errors = {loss: np.mean(np.abs(predicted[loss] - test_y)) for loss in ("squared error", "huber")}
        found[name] = {loss: float(error) for loss, error in errors.items()} | {"held": float(np.mean(held))}
    return found


def main() -> None:
    """Print one line a library."""
    for name, row in compare().items():
        print(
            f"{name}: one target in ten wrong, mean absolute error {row['huber']:.2f} by huber, "
            f"{row['squared error']:.2f} by squared error; the 80 % interval holds {row['held']:.0%}"
        )


if __name__ == "__main__":
    main()
