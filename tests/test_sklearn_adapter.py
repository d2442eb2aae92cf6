"""Scorers in scikit-learn's own model selection, against its metrics."""

import pickle

import numpy as np
import pytest

import jaxloss as jl

WHY = "the adapter is tested with the real library"
sklearn = pytest.importorskip("sklearn", reason=WHY)

from sklearn.datasets import load_diabetes, load_iris  # noqa: E402
from sklearn.dummy import DummyRegressor  # noqa: E402
from sklearn.linear_model import LinearRegression, LogisticRegression  # noqa: E402
from sklearn.metrics import log_loss, mean_pinball_loss  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402

from jaxloss.adapters.sklearn import scorer  # noqa: E402

X, Y = (array[:120] for array in load_diabetes(return_X_y=True))
FLOWERS, KINDS = load_iris(return_X_y=True)
FLOWERS = FLOWERS - FLOWERS.mean(axis=0)
IRIS = LogisticRegression(max_iter=1000).fit(FLOWERS, KINDS)
WEIGHTS = np.random.default_rng(0).uniform(0.2, 3, 120)
LINE = LinearRegression().fit(X, Y)
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


def test_a_scorer_can_be_pickled():
    again = pickle.loads(pickle.dumps(pinball))
    assert again(LINE, X, Y) == pinball(LINE, X, Y)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: scorer(jl.robust.huber, response="score"), ValueError, '`response` must be "predict"'),
        (
            lambda: scorer(jl.mean(jl.robust.huber))(LINE, X, Y),
            ValueError,
            r"the loss must be one a row, got shape \(\); give the row loss",
        ),
        (
            lambda: scorer(jl.categorical.cross_entropy, response="decision_function")(
                IRIS, FLOWERS, KINDS.astype(str)
            ),
            TypeError,
            "targets must be numbers.*LabelEncoder",
        ),
        (
            lambda: scorer(jl.categorical.cross_entropy, response="decision_function")(
                IRIS, FLOWERS, KINDS + 0.5
            ),
            ValueError,
            "must be class ids 0, 1, 2, ..., got 0.5",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused_in_words(make, error, words):
    with pytest.raises(error, match=words):
        make()
