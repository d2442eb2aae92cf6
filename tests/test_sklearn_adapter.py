"""Scorers in scikit-learn's own model selection, against its metrics."""

import pickle
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss as jl

WHY = "the adapter is tested with the real library"
sklearn = pytest.importorskip("sklearn", reason=WHY)

from sklearn.base import BaseEstimator, ClassifierMixin  # noqa: E402
from sklearn.datasets import load_diabetes, load_iris  # noqa: E402
from sklearn.dummy import DummyRegressor  # noqa: E402
from sklearn.linear_model import LinearRegression, LogisticRegression  # noqa: E402
from sklearn.metrics import get_scorer, hinge_loss, log_loss, mean_pinball_loss  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

from jaxloss.adapters.sklearn import scorer  # noqa: E402

X, Y = (array[:120] for array in load_diabetes(return_X_y=True))
FLOWERS, KINDS = load_iris(return_X_y=True)
FLOWERS = FLOWERS - FLOWERS.mean(axis=0)
IRIS = LogisticRegression(max_iter=1000).fit(FLOWERS, KINDS)
WEIGHTS = np.random.default_rng(0).uniform(0.2, 3, 120)
LINE = LinearRegression().fit(X, Y)
NAMES = np.array(["setosa", "versicolor", "virginica"])
LINES = LinearRegression().fit(FLOWERS, np.eye(3)[KINDS])
PIPELINE = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
entropy = scorer(jl.categorical.cross_entropy, response="predict_proba")
pinball = scorer(jl.quantile.pinball, quantile=0.9)


def test_a_score_is_minus_the_mean_loss():
    np.testing.assert_allclose(
        pinball(LINE, X, Y), -mean_pinball_loss(Y, LINE.predict(X), alpha=0.9), rtol=1e-12
    )


def test_sample_weights_weigh():
    wanted = -mean_pinball_loss(Y, LINE.predict(X), alpha=0.9, sample_weight=WEIGHTS)
    np.testing.assert_allclose(pinball(LINE, X, Y, sample_weight=WEIGHTS), wanted, rtol=1e-12)


def test_weights_weigh_rows_of_several_columns():
    both = np.stack([Y, 2 * Y], axis=1)
    model = LinearRegression().fit(X, both)
    found = scorer(jl.regression.squared_error)(model, X, both, sample_weight=WEIGHTS)
    errors = (model.predict(X) - both) ** 2
    np.testing.assert_allclose(found, -np.average(errors.mean(axis=1), weights=WEIGHTS), rtol=1e-12)


def test_it_scores_in_cross_validation():
    found = cross_val_score(LINE, X, Y, scoring=pinball, cv=3)
    wanted = cross_val_score(LINE, X, Y, scoring="neg_mean_absolute_error", cv=3)
    half = cross_val_score(LINE, X, Y, scoring=scorer(jl.quantile.pinball, quantile=0.5), cv=3)
    np.testing.assert_allclose(half, wanted / 2, rtol=1e-12)
    assert np.all(found < 0)


def test_it_chooses_in_a_grid_search_what_the_loss_asks_for():
    search = GridSearchCV(
        DummyRegressor(strategy="quantile"), {"quantile": [0.1, 0.5, 0.9]}, scoring=pinball, cv=3
    )
    assert search.fit(X, Y).best_params_ == {"quantile": 0.9}


def test_probabilities_are_scored_as_their_logits():
    found = scorer(jl.categorical.cross_entropy, response="predict_proba")(IRIS, FLOWERS, KINDS)
    np.testing.assert_allclose(found, -log_loss(KINDS, IRIS.predict_proba(FLOWERS)), rtol=1e-10)
    margins = scorer(jl.categorical.cross_entropy, response="decision_function")(IRIS, FLOWERS, KINDS)
    np.testing.assert_allclose(margins, found, rtol=1e-10)


def test_two_classes_are_scored_by_the_probability_of_the_second():
    x, y = FLOWERS[50:, :2], KINDS[50:] - 1
    model = LogisticRegression().fit(x, y)
    found = scorer(jl.binary.cross_entropy, response="predict_proba")(model, x, y)
    np.testing.assert_allclose(found, -log_loss(y, model.predict_proba(x)), rtol=1e-10)


def assert_scored_as_log_loss(x, y, *losses):
    """Of either response, in the same folds."""
    ours = {
        f"{loss.__module__} of {response}": scorer(loss, response=response)
        for loss in losses
        for response in ("predict_proba", "decision_function")
    }
    scoring = ours | {"log loss": "neg_log_loss"}
    found = cross_validate(PIPELINE, x, y, scoring=scoring, error_score="raise")
    for name in ours:
        np.testing.assert_allclose(found[f"test_{name}"], found["test_log loss"], rtol=1e-10, err_msg=name)


@pytest.mark.parametrize("labels", [KINDS, KINDS + 1, KINDS * 10 - 7.0, NAMES[KINDS]])
def test_labels_of_any_kind_are_scored_as_the_classes_they_are(labels):
    assert_scored_as_log_loss(FLOWERS, labels, jl.categorical.cross_entropy)


def test_rows_without_the_last_class_are_scored_by_the_right_columns():
    model, kept = PIPELINE.fit(FLOWERS, KINDS + 1), KINDS < 2
    wanted = -log_loss(KINDS[kept] + 1, model.predict_proba(FLOWERS[kept]), labels=[1, 2, 3])
    np.testing.assert_allclose(entropy(model, FLOWERS[kept], KINDS[kept] + 1), wanted, rtol=1e-10)


def test_classes_need_not_be_in_order():
    class Shuffled(ClassifierMixin, BaseEstimator):
        classes_ = NAMES[[2, 0, 1]]

        def decision_function(self, x):
            return IRIS.decision_function(x)[:, [2, 0, 1]]

    found = scorer(jl.categorical.cross_entropy, response="decision_function")(
        Shuffled(), FLOWERS, NAMES[KINDS]
    )
    np.testing.assert_allclose(found, entropy(IRIS, FLOWERS, KINDS), rtol=1e-10)


@pytest.mark.parametrize("labels", [[0, 1], [1, 2], [-1, 1], ["no", "yes"]])
def test_two_classes_are_scored_by_losses_of_one_logit_and_of_two(labels):
    x, y = FLOWERS[50:, :2], np.array(labels)[KINDS[50:] - 1]
    assert_scored_as_log_loss(x, y, jl.categorical.cross_entropy, jl.binary.cross_entropy)


@pytest.mark.parametrize("labels", [[0, 1], [-1, 1], ["no", "yes"]])
def test_a_loss_of_signs_is_given_signs(labels):
    x, y = FLOWERS[50:, :2], np.array(labels)[KINDS[50:] - 1]
    model = LogisticRegression().fit(x, y)
    found = scorer(jl.binary.hinge, response="decision_function")(model, x, y)
    np.testing.assert_allclose(found, -hinge_loss(y, model.decision_function(x)), rtol=1e-12)


def test_a_loss_of_ones_own_says_that_it_takes_class_ids():
    def of_the_label(logits, ids):
        return -jnp.take_along_axis(logits, ids[:, None], axis=-1)[:, 0]

    own = scorer(of_the_label, response="predict_proba", class_ids=True)
    np.testing.assert_allclose(
        own(PIPELINE.fit(FLOWERS, NAMES[KINDS]), FLOWERS, NAMES[KINDS]),
        -log_loss(KINDS, PIPELINE.predict_proba(FLOWERS)),
        rtol=1e-10,
    )


def test_numbers_are_scored_as_logits_where_the_estimator_has_no_classes():
    logits = LINES.predict(FLOWERS)
    wanted = np.mean(logits[np.arange(150), KINDS] - np.log(np.exp(logits).sum(axis=1)))
    for labels in (KINDS, KINDS.astype(float)):
        found = scorer(jl.categorical.cross_entropy)(LINES, FLOWERS, labels)
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_weights_reach_the_scores_of_classes():
    weights = np.random.default_rng(1).uniform(0.2, 3, 150)
    found = entropy(IRIS, FLOWERS, KINDS, sample_weight=weights)
    wanted = -log_loss(KINDS, IRIS.predict_proba(FLOWERS), sample_weight=weights)
    np.testing.assert_allclose(found, wanted, rtol=1e-10)


def test_weights_are_routed_to_the_scores_of_classes():
    weights = np.random.default_rng(1).uniform(0.2, 3, 150)
    with sklearn.config_context(enable_metadata_routing=True):
        model = LogisticRegression(max_iter=1000).set_fit_request(sample_weight=False)
        ours = scorer(jl.categorical.cross_entropy, response="predict_proba")
        scoring = {
            "ours": ours.set_score_request(sample_weight=True),
            "theirs": get_scorer("neg_log_loss").set_score_request(sample_weight=True),
        }
        options = {"scoring": scoring, "params": {"sample_weight": weights}}
        found = cross_validate(model, FLOWERS, NAMES[KINDS], **options)
    np.testing.assert_allclose(found["test_ours"], found["test_theirs"], rtol=1e-10)


def test_a_search_weighs_the_scores_of_classes():
    weights = np.random.default_rng(1).uniform(0.2, 3, 150)
    scoring = {"ours": entropy, "theirs": "neg_log_loss"}
    search = GridSearchCV(LogisticRegression(max_iter=1000), {"C": [0.1, 1.0]}, scoring=scoring, refit="ours")
    found = search.fit(FLOWERS, NAMES[KINDS], sample_weight=weights).cv_results_
    np.testing.assert_allclose(found["mean_test_ours"], found["mean_test_theirs"], rtol=1e-10)
    wanted = -log_loss(KINDS, search.predict_proba(FLOWERS))
    np.testing.assert_allclose(search.score(FLOWERS, NAMES[KINDS]), wanted, rtol=1e-10)


def test_scores_are_computed_in_double_precision_in_a_python_of_single():
    # In float32 neither the targets nor their mean squared error have the digits.
    script = """
import jax, numpy as np, jaxloss as jl
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_score
from jaxloss.adapters.sklearn import scorer
assert not jax.config.jax_enable_x64
x, y = load_diabetes(return_X_y=True)
square = scorer(jl.regression.squared_error)
found, wanted = (
    cross_val_score(LinearRegression(), x, y + 1e7, scoring=scoring, error_score="raise")
    for scoring in (square, "neg_mean_squared_error")
)
np.testing.assert_allclose(found, wanted, rtol=1e-12)
huber = scorer(jl.robust.huber, delta=np.float32(1.0))
weights = list(np.linspace(0.1, 1, len(y)))
assert np.isfinite(huber(LinearRegression().fit(x, y), x, y, sample_weight=weights))
assert not jax.config.jax_enable_x64
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("scoring", "data"), [(pinball, (LINE, X, Y)), (entropy, (IRIS, FLOWERS, KINDS))], ids=["", "classes"]
)
def test_a_scorer_can_be_pickled(scoring, data):
    again = pickle.loads(pickle.dumps(scoring))
    assert again(*data) == scoring(*data)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        pytest.param(
            lambda: scorer(jl.robust.huber, response="score"),
            ValueError,
            '`response` must be "predict"',
            marks=pytest.mark.worded,
        ),
        (
            lambda: scorer(jl.mean(jl.robust.huber))(LINE, X, Y),
            ValueError,
            r"the loss must be one a row, got shape \(\); give the row loss",
        ),
        (
            lambda: scorer(jl.categorical.cross_entropy)(LINES, FLOWERS, KINDS.astype(str)),
            TypeError,
            "targets must be numbers.*LabelEncoder",
        ),
        (
            lambda: scorer(jl.categorical.cross_entropy)(LINES, FLOWERS, KINDS + 0.5),
            ValueError,
            "must be class ids 0, 1, 2, ..., got 0.5",
        ),
        (
            lambda: entropy(IRIS, FLOWERS, KINDS.astype(str)),
            ValueError,
            r"targets must be of the estimator's classes \[0 1 2\], got .*'0'.*; train on every class",
        ),
        (
            lambda: entropy(IRIS, FLOWERS, KINDS + 1),
            ValueError,
            r"scorer\(categorical.cross_entropy\): .* classes \[0 1 2\], got .*3.*",
        ),
        (
            lambda: entropy(IRIS, FLOWERS, np.where(KINDS == 2, np.nan, KINDS)),
            ValueError,
            r"classes \[0 1 2\], got .*nan",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused_in_words(make, error, words):
    with pytest.raises(error, match=words):
        make()
