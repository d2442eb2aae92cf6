"""Objectives of gradient boosting, in XGBoost, LightGBM and CatBoost themselves."""

import copy
import pickle
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss as jl
from jaxloss.adapters import boosting

RNG = np.random.default_rng(3)
X = RNG.normal(size=(240, 4))
Y = 2 * X[:, 0] - X[:, 1] ** 2 + RNG.normal(size=240) / 2
CLASSES = np.digitize(X[:, 0] + X[:, 1] / 2, [-0.5, 0.5])
WEIGHTS = RNG.uniform(0.2, 3, 240)
WHY = "the adapter is tested with the real library"
xgboost = pytest.importorskip("xgboost", reason=WHY)
lightgbm = pytest.importorskip("lightgbm", reason=WHY)

XGB = {"max_depth": 3, "eta": 0.3, "nthread": 1, "base_score": 0.0}
LGB = {"num_leaves": 7, "verbose": -1, "num_threads": 1, "boost_from_average": False, "deterministic": True}
half_square = boosting.objective(jl.regression.half_squared_error)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-5)


def xgb(params, labels, weights=None, obj=None, rounds=8):
    data = xgboost.DMatrix(X, labels, weight=weights)
    return xgboost.train(XGB | params, data, rounds, obj=obj).predict(data, output_margin=True)


# --- the derivatives, against closed forms --------------------------------------------------------


def softmax(z):
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_elementwise_loss_gives_its_first_and_second_derivative(dtype):
    z, y = RNG.normal(size=20).astype(dtype) * 4, (np.arange(20) % 2).astype(dtype)
    p = 1 / (1 + np.exp(-z.astype(float)))
    gradient, curvature = boosting.objective(jl.binary.cross_entropy)(y, z)
    assert gradient.dtype == curvature.dtype == dtype
    np.testing.assert_allclose(gradient, p - y, rtol=1e-5)
    np.testing.assert_allclose(curvature, p * (1 - p), rtol=1e-5)


@pytest.mark.parametrize(
    ("curvature", "expected"), [("diagonal", lambda p: p * (1 - p)), ("dominant", lambda p: 2 * p * (1 - p))]
)
def test_a_loss_of_rows_gives_the_curvature_of_each_output(curvature, expected):
    z, y = RNG.normal(size=(9, 5)), np.arange(9.0) % 5
    objective = boosting.objective(jl.categorical.cross_entropy, curvature=curvature)
    gradient, found = objective(y, z)
    p = softmax(z)
    np.testing.assert_allclose(gradient, p - np.eye(5)[y.astype(int)], rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(found, expected(p), rtol=1e-10)


def test_a_row_without_positive_curvature_steps_as_plain_gradient_boosting_does():
    r = np.array([-3.0, -0.5, 0.2, 5.0])
    gradient, curvature = boosting.objective(jl.robust.huber, delta=1.0, flat=0.5)(np.zeros(4), r)
    np.testing.assert_array_equal(gradient, np.clip(r, -1, 1))
    np.testing.assert_array_equal(curvature, [0.5, 1, 1, 0.5])
    # Beyond √2 the Cauchy loss is concave: its curvature (1 − r²/2)/(1 + r²/2)² is negative there.
    _, curvature = boosting.objective(jl.robust.cauchy)(np.zeros(4), r)
    exact = (1 - r**2 / 2) / (1 + r**2 / 2) ** 2
    np.testing.assert_allclose(curvature, np.where(exact > 0, exact, 1.0), rtol=1e-12)


def test_a_positive_curvature_is_kept_however_small_and_one_that_is_none_is_flat():
    z = np.array([30.0, 40.0, -80.0, 200.0], np.float32)
    _, curvature = boosting.objective(jl.binary.cross_entropy, flat=0.5)(np.array([1, 1, 0, 1.0]), z)
    # e^-40 and e^-80 are below the 1e-16 at which XGBoost's own logistic loss ends; e^-200 is 0 in float32.
    np.testing.assert_allclose(curvature, [np.exp(-30.0), 1e-16, 1e-16, 0.5], rtol=1e-5)


def test_weights_multiply_both():
    z, w = RNG.normal(size=(2, 6))
    plain = boosting.objective(jl.robust.pseudo_huber)(np.zeros(6), z)
    weighted = boosting.objective(jl.robust.pseudo_huber)(np.zeros(6), z, np.abs(w))
    for a, b in zip(plain, weighted, strict=True):
        np.testing.assert_allclose(b, a * np.abs(w), rtol=1e-14)


def test_options_may_be_strings_and_arrays():
    objective = boosting.objective(jl.deviance.poisson, link="log")
    z, y = np.array([0.3, -1.0]), np.array([2.0, 0.0])
    gradient, curvature = objective(y, z)
    np.testing.assert_allclose(gradient, np.exp(z) - y, rtol=1e-12)
    np.testing.assert_allclose(curvature, np.exp(z), rtol=1e-12)


# --- XGBoost ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
def test_half_the_squared_error_is_the_model_of_xgboost(weights):
    wanted = xgb({"objective": "reg:squarederror"}, Y, weights)
    close(xgb({}, Y, weights, half_square), wanted)


def test_the_whole_squared_error_is_it_at_twice_the_regularisation():
    wanted = xgb({"objective": "reg:squarederror", "lambda": 1.0, "min_child_weight": 4.0}, Y)
    whole = boosting.objective(jl.regression.squared_error)
    close(xgb({"lambda": 2.0, "min_child_weight": 8.0}, Y, obj=whole), wanted)


def test_cross_entropy_is_the_logistic_model_of_xgboost():
    labels = (Y > 0).astype(float)
    wanted = xgb({"objective": "binary:logistic", "base_score": 0.5}, labels, WEIGHTS)
    close(xgb({}, labels, WEIGHTS, boosting.objective(jl.binary.cross_entropy)), wanted)


@pytest.mark.parametrize("start", [30.0, 40.0, 80.0])
def test_rows_that_are_right_beyond_doubt_leave_the_step_to_those_that_are_wrong(start):
    labels = np.ones(100)
    margins = np.where(np.arange(100) == 0, -3.0, start)
    data = xgboost.DMatrix(np.zeros((100, 1)), labels, base_margin=margins)
    params = {"eta": 1.0, "lambda": 0.0, "min_child_weight": 0.0, "max_depth": 1, "nthread": 1}

    def step(params, objective=None):
        model = xgboost.train(params, data, 1, obj=objective)
        return (model.predict(data, output_margin=True) - margins)[0]

    wanted = step(params | {"objective": "binary:logistic"})
    close(step(params, boosting.objective(jl.binary.cross_entropy)), wanted)
    assert wanted > 20  # Newton's step of the wrong row alone


def test_cross_entropy_of_classes_is_the_softmax_model_of_xgboost():
    wanted = xgb({"objective": "multi:softprob", "num_class": 3}, CLASSES, WEIGHTS)
    dominant = boosting.objective(jl.categorical.cross_entropy, curvature="dominant")
    close(xgb({"num_class": 3}, CLASSES, WEIGHTS, dominant), wanted)


def test_several_targets_are_fitted_each():
    both = np.stack([Y, -Y], axis=1)
    wanted = xgb({"objective": "reg:squarederror"}, both, WEIGHTS)
    close(xgb({}, both, WEIGHTS, half_square), wanted)


def test_the_scikit_learn_interface_of_xgboost_trains_the_same_model():
    arguments = {"n_estimators": 8, "max_depth": 3, "learning_rate": 0.3, "n_jobs": 1, "base_score": 0.0}
    model = xgboost.XGBRegressor(objective=half_square, **arguments).fit(X, Y, sample_weight=WEIGHTS)
    close(model.predict(X), xgb({"objective": "reg:squarederror"}, Y, WEIGHTS))


def test_a_classifier_of_xgboost_learns_the_classes():
    objective = boosting.objective(jl.categorical.cross_entropy, curvature="dominant")
    model = xgboost.XGBClassifier(objective=objective, n_estimators=20, max_depth=3, n_jobs=1).fit(X, CLASSES)
    assert np.mean(model.predict(X) == CLASSES) > 0.95


# --- any loss: what it is known to estimate -------------------------------------------------------


def trained_by_xgboost(objective, labels=Y):
    data = xgboost.DMatrix(X, labels)
    return xgboost.train(XGB, data, 50, obj=objective).predict(data)


def trained_by_lightgbm(objective, labels=Y):
    return lightgbm.train(LGB | {"objective": objective}, lightgbm.Dataset(X, labels), 50).predict(X)


def pinball(predicted, quantile):
    return np.mean(np.maximum(quantile * (Y - predicted), (quantile - 1) * (Y - predicted)))


either = pytest.mark.parametrize("trained", [trained_by_xgboost, trained_by_lightgbm])


@either
@pytest.mark.parametrize("quantile", [0.1, 0.9])
def test_pinball_trains_a_quantile(trained, quantile):
    predicted = trained(boosting.objective(jl.quantile.pinball, quantile=quantile, flat=0.2))
    # Four standard errors of a share of 240; and far better than the best constant.
    assert abs(np.mean(predicted >= Y) - quantile) < 4 * np.sqrt(quantile * (1 - quantile) / 240)
    assert pinball(predicted, quantile) < 0.5 * pinball(np.quantile(Y, quantile), quantile)


@either
def test_huber_trains_past_outliers_that_carry_squared_error_away(trained):
    spoiled = np.where(np.arange(240) % 10 == 0, Y + 200, Y)
    robust, square = (
        np.median(np.abs(trained(objective, spoiled) - Y))
        for objective in (boosting.objective(jl.robust.huber), half_square)
    )
    assert robust < 0.5 < square


# --- LightGBM ---------------------------------------------------------------------------------------


def lgb(params, labels, weights=None, rounds=8):
    data = lightgbm.Dataset(X, labels, weight=weights)
    return lightgbm.train(LGB | params, data, rounds).predict(X, raw_score=True)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
def test_half_the_squared_error_is_the_model_of_lightgbm(weights):
    close(lgb({"objective": half_square}, Y, weights), lgb({"objective": "regression"}, Y, weights))


def test_cross_entropy_is_the_binary_model_of_lightgbm():
    labels = (Y > 0).astype(float)
    objective = boosting.objective(jl.binary.cross_entropy)
    close(lgb({"objective": objective}, labels, WEIGHTS), lgb({"objective": "binary"}, labels, WEIGHTS))


def test_cross_entropy_of_classes_trains_in_lightgbm():
    objective = boosting.objective(jl.categorical.cross_entropy, curvature="dominant")
    scores = lgb({"objective": objective, "num_class": 3}, CLASSES, WEIGHTS, rounds=30)
    assert np.mean(scores.argmax(axis=1) == CLASSES) > 0.95


def test_the_scikit_learn_interface_of_lightgbm_trains_the_same_model():
    arguments = {"n_estimators": 8, "num_leaves": 7, "verbose": -1, "n_jobs": 1}
    model = lightgbm.LGBMRegressor(objective=half_square, **arguments).fit(X, Y, sample_weight=WEIGHTS)
    close(model.predict(X), lgb({"objective": "regression"}, Y, WEIGHTS))


# --- CatBoost ---------------------------------------------------------------------------------------


def cat(loss_function, labels, weights=None, *, kind="CatBoostRegressor", rounds=8, **arguments):
    catboost = pytest.importorskip("catboost", reason=WHY)
    arguments = {"leaf_estimation_method": "Newton", "leaf_estimation_iterations": 1} | arguments
    model = getattr(catboost, kind)(
        iterations=rounds, depth=3, learning_rate=0.3, thread_count=1, verbose=0, allow_writing_files=False,
        loss_function=loss_function, random_seed=0, boosting_type="Plain", bootstrap_type="No",
        random_strength=0, boost_from_average=False, **arguments,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Failed to import numba")
        model.fit(X, labels, sample_weight=weights)
    return model.predict(X, prediction_type="RawFormulaVal")


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
def test_half_the_squared_error_is_the_model_of_catboost(weights):
    close(cat(half_square, Y, weights, eval_metric="RMSE"), cat("RMSE", Y, weights))


def test_cross_entropy_is_the_logistic_model_of_catboost():
    labels = (Y > 0).astype(float)
    objective = boosting.objective(jl.binary.cross_entropy)
    found = cat(objective, labels, WEIGHTS, kind="CatBoostClassifier", eval_metric="Logloss")
    close(found, cat("Logloss", labels, WEIGHTS, kind="CatBoostClassifier"))


def test_cross_entropy_of_classes_trains_in_catboost():
    objective = boosting.objective(jl.categorical.cross_entropy, curvature="dominant")
    arguments = {"kind": "CatBoostClassifier", "eval_metric": "MultiClass", "classes_count": 3, "rounds": 6}
    scores = cat(objective, CLASSES, leaf_estimation_method="Gradient", **arguments)
    assert np.mean(scores.argmax(axis=1) == CLASSES) > 0.9


def test_catboost_is_given_the_derivatives_of_minus_the_loss():
    objective = boosting.objective(jl.regression.half_squared_error)
    assert objective.calc_ders_range([1.0, 3.0], [2.0, 1.0], [1.0, 2.0]) == [(1.0, -1.0), (-4.0, -2.0)]
    gradient, hessian = boosting.objective(jl.categorical.cross_entropy).calc_ders_multi([0.0, 0.0], 1.0, 2.0)
    np.testing.assert_allclose(gradient, [-1.0, 1.0], rtol=1e-12)
    np.testing.assert_allclose(hessian, [[-0.5, 0], [0, -0.5]], rtol=1e-12)


# --- as an object -----------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_is_the_same_objective(copied):
    objective = boosting.objective(jl.quantile.pinball, quantile=0.3, flat=2.0)
    data = (Y[:5], np.zeros(5))
    for a, b in zip(objective(*data), copied(objective)(*data), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: boosting.objective(jl.robust.huber, flat=0.0), "`flat` must be positive and finite, got 0"),
        pytest.param(
            lambda: boosting.objective(jl.robust.huber, curvature="full"),
            '`curvature` must be "diagonal" or',
            marks=pytest.mark.worded,
        ),
        (
            lambda: boosting.objective(jl.mean(jl.robust.huber))(Y, Y),
            r"must be one number a row, got shape \(\) of predictions \(240,\); give the row loss",
        ),
        (
            lambda: boosting.objective(jl.categorical.cross_entropy)(np.array([0.5]), np.zeros((1, 2))),
            "targets must be class ids 0, 1, 2, ..., got 0.5",
        ),
        (
            lambda: boosting.objective(jl.categorical.cross_entropy)(np.array([0, np.nan]), np.zeros((2, 2))),
            "targets must be class ids 0, 1, 2, ..., got nan",
        ),
        (
            lambda: boosting.objective(jl.categorical.cross_entropy)(np.array([0, 7]), np.zeros((2, 2))),
            r"row 1, of target 7, has the gradient \[nan nan\]",
        ),
        (
            lambda: boosting.objective(jl.binary.cross_entropy)(np.array([0.0, 2.0]), np.zeros(2)),
            "row 1, of target 2.0, has the gradient nan",
        ),
        (lambda: boosting.objective(jl.robust.huber, delta=-1.0)(Y, Y), r"`delta` must be in \(0, ∞\)"),
    ],
)
def test_an_objective_that_cannot_be_boosted_is_refused_in_words(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_loss_of_ones_own_may_be_boosted():
    def cube(p, t):
        return jnp.abs(p - t) ** 3

    gradient, curvature = boosting.objective(cube)(np.zeros(3), np.array([-2.0, 1.0, 3.0]))
    np.testing.assert_allclose(gradient, [-12, 3, 27], rtol=1e-12)
    np.testing.assert_allclose(curvature, [12, 6, 18], rtol=1e-12)
