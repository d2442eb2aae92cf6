"""Weights of rows, stages of a hyperparameter, changes of loss: against their definitions by brute force."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import lambertw

import jaxloss as jl
from jaxloss.training import focal_gamma, neutral_gamma, scheduled, self_paced, stages, switch_on_plateau

LOSSES = np.array([0.5, 3.0, 0.1, 2.0, 7.0, 1.0])

# --- self-paced learning --------------------------------------------------------------------------

REGULARISER = {"hard": lambda v, at: -at * v, "linear": lambda v, at: at * (v**2 / 2 - v)}


@functools.cache
def update(weighting):
    return jax.jit(self_paced(2.0, weighting=weighting).update)


@pytest.mark.parametrize("weighting", ["hard", "linear"])
@given(losses=arrays(np.float64, 6, elements=st.floats(0, 10)), threshold=st.floats(0.1, 10))
def test_the_weights_minimise_the_objective_of_the_paper(weighting, losses, threshold):
    state = self_paced(2.0).init()._replace(threshold=jnp.asarray(threshold))
    weights, _ = update(weighting)(losses, state)
    grid = np.linspace(0, 1, 201)[:, None]
    possible = grid * losses + REGULARISER[weighting](grid, threshold)
    reached = weights * losses + REGULARISER[weighting](np.asarray(weights), threshold)
    assert np.all((weights >= 0) & (weights <= 1))
    assert np.all(reached <= possible.min(axis=0) + 1e-12)


def test_the_first_threshold_is_the_median_of_the_rows_there_are():
    pace = self_paced()
    where = np.array([True, True, True, True, False, True])
    weights, state = pace.update(np.where(where, LOSSES, np.nan), pace.init(), where)
    np.testing.assert_array_equal(weights, [1, 0, 1, 0, 0, 1])  # the median is 1: half lie below or on it
    np.testing.assert_allclose(state.threshold, 1.3 * 1.0, rtol=1e-12)


@pytest.mark.parametrize("weighting", ["hard", "linear"])
@pytest.mark.parametrize(
    ("losses", "where"), [([1.0, 2.0, 3.0], False), ([0.0, 0.0, 3.0], True), ([-3.0, -2.0, 5.0], True)]
)
def test_until_a_positive_median_was_seen_all_rows_are_in(weighting, losses, where):
    pace, kept = self_paced(weighting=weighting), np.full(3, where)
    weights, state = pace.update(np.array(losses), pace.init(), kept)
    np.testing.assert_array_equal(weights, kept.astype(float))
    weights, state = pace.update(np.array([1.0, 2.0, 4.0]), state)
    np.testing.assert_array_equal(weights, [1, 1, 0] if weighting == "hard" else [0.5, 0, 0])
    np.testing.assert_allclose(state.threshold, 2.6, rtol=1e-12)


def test_rows_that_are_all_alike_all_begin():
    weights, _ = self_paced().update(np.full(4, 2.0), self_paced().init())
    np.testing.assert_array_equal(weights, 1)


def test_the_threshold_grows_until_all_rows_are_in():
    pace = self_paced(1.0, growth=2.0)
    state, let_in = pace.init(), []
    step = jax.jit(pace.update)
    for _ in range(5):
        weights, state = step(LOSSES, state)
        let_in.append(int(weights.sum()))
    assert let_in == [2, 3, 5, 6, 6]
    assert step._cache_size() == 1


def test_the_threshold_grows_only_every_so_many_updates():
    pace = self_paced(1.0, growth=2.0, every=3)
    state, thresholds = pace.init(), []
    for _ in range(7):
        _, state = pace.update(LOSSES, state)
        thresholds.append(float(state.threshold))
    assert thresholds == [1, 1, 2, 2, 2, 4, 4]


def test_no_derivative_passes_through_the_weights():
    pace = self_paced(4.0, weighting="linear")

    def objective(predictions):
        weights, _ = pace.update(jl.regression.squared_error(predictions, jnp.zeros(3)), pace.init())
        return jl.sum(jl.regression.squared_error)(predictions, jnp.zeros(3), weights=weights)

    p = np.array([0.5, 1.0, 3.0])
    np.testing.assert_allclose(jax.grad(objective)(p), np.maximum(1 - p**2 / 4, 0) * 2 * p, rtol=1e-12)


def test_a_nan_in_a_row_that_is_there_is_not_hidden():
    weights, _ = self_paced(1.0).update(np.array([0.5, np.nan]), self_paced(1.0).init())
    assert np.isnan(jl.sum(jl.regression.squared_error)(np.ones(2), np.zeros(2), weights=weights))


def test_self_paced_learning_passes_over_corrupted_rows_in_a_train_step():
    optax = pytest.importorskip("optax", reason="trains by Optax's optimizer")
    from jaxloss.adapters.optax import train_step

    x = np.linspace(-1, 1, 40)
    y = np.where(np.arange(40) % 5 == 0, 30.0, 3 * x)
    pace, loss = self_paced(growth=1.05), jl.regression.squared_error

    def objective(w, pace_state, x, y):
        weights, pace_state = pace.update(loss(w * x, y), pace_state)
        return jl.mean(loss)(w * x, y, weights=weights), pace_state

    optimizer = optax.sgd(0.5)
    step = train_step(objective, optimizer, has_aux=True)
    w, state, pace_state = jnp.asarray(0.0), optimizer.init(jnp.asarray(0.0)), pace.init()
    for _ in range(60):
        w, state, (_, pace_state) = step(w, state, pace_state, x, y)
    np.testing.assert_allclose(w, 3.0, rtol=1e-3)


# --- focus ----------------------------------------------------------------------------------------


def test_the_focal_curriculum_of_the_paper():
    gamma = stages((5.0, 3.0, 2.0), boundaries=(100, 250))
    found = [float(gamma(epoch)) for epoch in (0, 99, 100, 249, 250, 349)]
    assert found == [5, 5, 3, 3, 2, 2]


@pytest.mark.parametrize("step", [int, np.int32, jnp.int32])
def test_a_stage_begins_at_its_step_however_late(step):
    late = stages((1.0, 2.0), boundaries=(2**24 + 1,))
    assert [float(late(step(2**24))), float(late(step(2**24 + 1)))] == [1, 2]


def test_a_stage_may_begin_within_a_step():
    halves = stages((1.0, 2.0), boundaries=(2.5,))
    assert [float(halves(step)) for step in (2, 2.4, 2.5, 3)] == [1, 1, 2, 2]


def test_a_staged_gamma_is_the_loss_at_each_gamma():
    logits, labels = jnp.array([[0.3, -1.0, 2.0], [0.5, 1.0, -1.0]]), jnp.array([0, 1])
    objective = jax.jit(jl.mean(scheduled(jl.categorical.focal, gamma=stages((5.0, 2.0), boundaries=(3,)))))
    for step, gamma in ((2, 5.0), (3, 2.0)):
        p = np.exp(np.asarray(logits)) / np.exp(logits).sum(1, keepdims=True)
        p = np.asarray(p)[[0, 1], [0, 1]]
        wanted = np.mean(-((1 - p) ** gamma) * np.log(p))
        np.testing.assert_allclose(objective(logits, labels, step=step), wanted, rtol=1e-12)
    assert objective._cache_size() == 1


def test_a_gamma_a_row_follows_its_probability():
    p = jnp.array([0.0, 0.19, 0.2, 0.9])
    np.testing.assert_array_equal(focal_gamma(p), [5, 5, 3, 3])
    logits = jnp.stack([jnp.log(p.at[0].set(0.1)), jnp.log(1 - p.at[0].set(0.1))], axis=1)
    labels = jnp.zeros(4, int)

    def objective(logits):
        p = jnp.exp(-jl.categorical.cross_entropy(logits, labels))
        return jl.mean(jl.categorical.focal)(logits, labels, gamma=focal_gamma(p))

    q = np.array([0.1, 0.19, 0.2, 0.9])
    wanted = np.mean(-((1 - q) ** np.array([5, 5, 3, 3])) * np.log(q))
    np.testing.assert_allclose(objective(logits), wanted, rtol=1e-12)
    assert np.all(np.isfinite(jax.grad(objective)(logits)))


@pytest.mark.parametrize("probability", [1e-3, 0.05, 0.2, 0.25, 0.4, 0.49])
def test_the_neutral_gamma_is_the_closed_form_of_the_paper(probability):
    a, b = 1 - probability, probability * math.log(probability)
    branch = lambertw(-(a ** (1 - a / b) / b) * math.log(a), k=-1)
    np.testing.assert_allclose(neutral_gamma(probability), (a / b + branch / math.log(a)).real, rtol=1e-9)


def test_at_the_neutral_gamma_focal_and_cross_entropy_pull_alike():
    gamma, logit = neutral_gamma(0.2), math.log(0.2 / 0.8)
    pulls = [
        jax.grad(loss)(logit, 1.0)
        for loss in (functools.partial(jl.binary.focal, gamma=gamma), jl.binary.cross_entropy)
    ]
    np.testing.assert_allclose(*pulls, rtol=1e-12)


# --- losses ---------------------------------------------------------------------------------------


def test_the_loss_changes_once_the_value_has_not_improved_for_so_long():
    switch = switch_on_plateau(
        jl.regression.squared_error, jl.regression.absolute_error, jl.robust.cauchy, patience=2, rtol=0.01
    )
    step, state, stages_seen = jax.jit(switch.update), switch.init(), []
    #        better, better, no (0.5 %), better, no, no → 1, better, no, NaN → 2, worse, worse: the last stays
    for value in (9.0, 8.0, 7.96, 7.0, 7.5, 7.0, 20.0, 21.0, np.nan, 30.0, 31.0, 32.0):
        state = step(value, state)
        stages_seen.append(int(state.stage))
    assert stages_seen == [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert step._cache_size() == 1


@pytest.mark.parametrize("stage", [0, 1])
def test_the_loss_of_a_stage_is_that_loss(stage):
    both = (jl.regression.squared_error, jl.regression.absolute_error)
    switch = switch_on_plateau(*both)
    p, t, kept = LOSSES, np.ones(6), np.arange(6) != 4
    objective = jax.jit(jax.value_and_grad(jl.mean(switch.loss)))
    given = {"where": kept, "weights": np.arange(6.0)}
    found = objective(np.where(kept, p, np.nan), t, stage=jnp.asarray(stage), **given)
    wanted = jax.value_and_grad(jl.mean(both[stage]))(p, t, **given)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), found, wanted)


@pytest.mark.parametrize("stage", [0, 1])
def test_losses_of_unlike_dtypes_may_follow_each_other(stage):
    switch = switch_on_plateau(lambda p, t: (p - t) ** 2, jl.regression.squared_error)
    losses = switch.loss(jnp.full(3, 1.5, jnp.bfloat16), jnp.zeros(3, jnp.bfloat16), stage=stage)
    assert losses.dtype == jnp.float32
    np.testing.assert_array_equal(losses, 2.25)


def test_rows_that_all_its_losses_ignore_are_left_out_of_the_mean():
    switch = switch_on_plateau(jl.categorical.cross_entropy, jl.categorical.focal)
    value = jl.mean(switch.loss)(jnp.zeros((3, 2)), jnp.array([0, -1, 1]), stage=0, ignore_index=-1)
    np.testing.assert_allclose(value, math.log(2), rtol=1e-12)


def test_rows_that_not_all_its_losses_can_ignore_are_refused():
    focal = functools.partial(jl.categorical.focal, gamma=5.0)
    switch = switch_on_plateau(jl.categorical.cross_entropy, focal)
    data = (jnp.zeros((3, 2)), jnp.array([0, 1, 1]))
    np.testing.assert_allclose(jl.mean(switch.loss)(*data, stage=1), math.log(2) / 32, rtol=1e-12)
    with pytest.raises(ValueError, match="leave them out by `where`"):
        jl.mean(switch.loss)(*data, stage=0, ignore_index=-1)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: self_paced(0.0), ValueError, "`threshold` must be positive and finite, got 0"),
        (lambda: self_paced(growth=0.5), ValueError, "`growth` must be at least 1, got 0.5"),
        (lambda: self_paced(every=0), ValueError, "`every` must be at least 1, got 0"),
        (lambda: self_paced(weighting="soft"), ValueError, '`weighting` must be "hard" or "linear"'),
        (
            lambda: self_paced().update(np.ones(3), self_paced().init(), np.ones(3)),
            TypeError,
            "`where` must be bool",
        ),
        (
            lambda: self_paced().update(np.ones(3), self_paced().init(), np.ones(2, bool)),
            ValueError,
            r"`where` \(2,\) must have the shape \(3,\)",
        ),
        (lambda: self_paced().update(np.arange(3), self_paced().init()), TypeError, "must be floating point"),
        (lambda: stages((1.0, 2.0), (3, 4)), ValueError, "one more than `boundaries`, got 2 and 2"),
        (lambda: stages((1.0, 2.0, 3.0), (4, 3)), ValueError, r"must increase, got \(4, 3\)"),
        (lambda: focal_gamma(jnp.arange(3)), TypeError, "`probabilities` must be floating point"),
        (lambda: focal_gamma(jnp.ones(3), hard=-1.0), ValueError, "`hard` must be at least 0"),
        (lambda: neutral_gamma(0.5), ValueError, r"must be in \(0, 0.5\), got 0.5"),
        (lambda: switch_on_plateau(jl.robust.huber), TypeError, "must be two functions or more"),
        (
            lambda: switch_on_plateau(jl.robust.huber, jl.robust.welsch, patience=0),
            ValueError,
            "`patience` must be at least 1",
        ),
        (
            lambda: switch_on_plateau(jl.ranking.softmax, jl.binary.cross_entropy),
            ValueError,
            "must all take a `where` of their own or none",
        ),
        (
            lambda: switch_on_plateau(jl.robust.huber, jl.robust.welsch).loss(1.0, 1.0),
            TypeError,
            "`stage` must be given",
        ),
        (
            lambda: (s := switch_on_plateau(jl.robust.huber, jl.robust.welsch)).update(jnp.ones(2), s.init()),
            ValueError,
            r"`value` must be one number, got shape \(2,\)",
        ),
    ],
)
def test_what_cannot_be_a_curriculum_is_refused_in_words(make, error, words):
    with pytest.raises(error, match=words):
        make()
