"""The example's claim: a learned loss beats every fixed one of its grid on real data with wrong entries."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

pytest.importorskip("optax", reason="the example trains by Optax's optimizer")
pytest.importorskip("sklearn", reason="the example reads scikit-learn's data")

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name):
    """The module of an example."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def compared():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return example("learned_robust_loss").compare(count=10, steps=300)


def test_the_learned_loss_beats_every_fixed_loss_of_the_grid(compared):
    errors, _ = compared
    best = min((error, name) for name, error in errors.items() if name != "learned")
    assert len(errors) >= 18
    assert errors["learned"] < best[0], best


def test_a_clean_column_is_learned_to_be_normal_and_the_others_heavy_tailed(compared):
    _, learned = compared
    assert learned["alpha"][0] > 1.5
    assert np.all(learned["alpha"][1:] < 0.5)


def test_boosting_by_huber_is_not_carried_away_in_any_library():
    pytest.importorskip("xgboost", reason="the example boosts trees")
    pytest.importorskip("lightgbm", reason="the example boosts trees")
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Failed to import numba")
        found = example("boosting").compare()
    assert {"XGBoost", "LightGBM"} <= set(found)
    for row in found.values():
        assert row["huber"] < 0.5 * row["squared error"]
        assert 0.65 < row["held"] < 0.95
