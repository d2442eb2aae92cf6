"""Scheduled and learned hyperparameters, against the plain loss at values computed by hand."""

import functools
import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import jaxloss as jl
from jaxloss.training import learned, scheduled

optax = pytest.importorskip("optax", reason="hyperparameters are scheduled by Optax's schedules")

RNG = np.random.default_rng(5)
PREDICTIONS, TARGETS = RNG.normal(size=(2, 12)) * 3
WEIGHTS = RNG.uniform(0.5, 2, 12)
KEPT = np.arange(12) % 4 != 1
FALLING = optax.linear_schedule(4.0, 1.0, 10)


def huber(residual, delta):
    size = np.abs(residual)
    return np.where(size <= delta, residual**2 / 2, delta * (size - delta / 2))


# --- scheduled ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "delta"), [(0, 4.0), (5, 2.5), (10, 1.0), (99, 1.0)])
def test_a_scheduled_loss_is_the_loss_at_the_value_of_the_schedule(step, delta):
    losses = scheduled(jl.robust.huber, delta=FALLING)(PREDICTIONS, TARGETS, step=step)
    np.testing.assert_allclose(losses, huber(PREDICTIONS - TARGETS, delta), rtol=1e-6)


def test_one_program_serves_all_steps():
    objective = jax.jit(jl.mean(scheduled(jl.robust.huber, delta=lambda step: 1.0 + 0.5 * step)))
    values = [float(objective(PREDICTIONS, TARGETS, step=k)) for k in range(3)]
    assert objective._cache_size() == 1
    wanted = [huber(PREDICTIONS - TARGETS, 1 + 0.5 * k).mean() for k in range(3)]
    np.testing.assert_allclose(values, wanted, rtol=1e-12)


def test_masks_and_weights_reach_a_scheduled_loss_as_any_other():
    poisoned = np.where(KEPT, PREDICTIONS, np.nan)
    objective = jl.mean(scheduled(jl.robust.huber, delta=FALLING))
    given = {"where": KEPT, "weights": WEIGHTS, "step": 5}
    value, gradient = jax.value_and_grad(objective)(poisoned, TARGETS, **given)
    residual, weight = (PREDICTIONS - TARGETS), WEIGHTS * KEPT
    np.testing.assert_allclose(value, np.sum(weight * huber(residual, 2.5)) / weight.sum(), rtol=1e-6)
    slope = np.where(KEPT, weight * np.clip(residual, -2.5, 2.5) / weight.sum(), 0)
    np.testing.assert_allclose(gradient, slope, rtol=1e-6)


def test_rows_that_the_loss_ignores_are_left_out_of_the_mean():
    # Its card goes with it: without, the mean would divide by the ignored row too.
    logits, labels = jnp.zeros((4, 3)), jnp.array([0, 1, -1, 2])
    objective = jl.mean(scheduled(jl.categorical.focal, gamma=lambda step: 2.0 * step))
    np.testing.assert_allclose(objective(logits, labels, step=0, ignore_index=-1), math.log(3), rtol=1e-12)


def test_a_mask_that_the_loss_takes_itself_still_reaches_it():
    logits = jnp.array([[0.3, -1.0, 2.0], [0.0, 1.0, -1.0]])
    labels, there = jnp.array([[1, 0, 0], [0, 1, 1]]), jnp.array([[True, True, False], [True, True, True]])
    plain = jl.mean(jl.ranking.softmax)(logits, labels.astype(float), where=there)
    dressed = jl.mean(scheduled(jl.ranking.softmax))(logits, labels.astype(float), where=there, step=0)
    assert plain == dressed


def test_other_options_and_lambdas_pass():
    loss = scheduled(lambda p, t, *, a, b: a * (p - t) + b, a=lambda step: 2.0 * step)
    np.testing.assert_allclose(
        loss(PREDICTIONS, TARGETS, step=3, b=1.0), 6 * (PREDICTIONS - TARGETS) + 1, rtol=1e-12
    )


def test_two_schedules_move_two_hyperparameters():
    objective = jl.mean(
        scheduled(jl.robust.general, alpha=lambda k: 2.0 - k, scale=optax.constant_schedule(3.0))
    )
    wanted = jl.mean(jl.robust.general)(PREDICTIONS, TARGETS, alpha=1.0, scale=3.0)
    np.testing.assert_allclose(objective(PREDICTIONS, TARGETS, step=1), wanted, rtol=1e-12)


def test_schedules_may_be_put_on_one_by_one():
    one = scheduled(jl.robust.general, alpha=lambda k: 2.0 - k)
    both = jl.mean(scheduled(one, scale=lambda k: 3.0 * k))
    wanted = jl.mean(jl.robust.general)(PREDICTIONS, TARGETS, alpha=1.0, scale=3.0)
    np.testing.assert_allclose(both(PREDICTIONS, TARGETS, step=1), wanted, rtol=1e-12)


def test_a_loss_that_takes_the_step_itself_is_given_it():
    loss = scheduled(lambda p, t, *, a, step: a * (p - t) + step, a=lambda step: 2.0 * step)
    np.testing.assert_allclose(
        loss(PREDICTIONS, TARGETS, step=3), 6 * (PREDICTIONS - TARGETS) + 3, rtol=1e-12
    )


HEAD = (RNG.normal(size=(6, 4)), RNG.normal(size=(4, 5)), np.array([0, 4, 2, -1, 1, 3]))
FUSED = jl.fused.linear_cross_entropy
MOVED = {
    "scheduled": (scheduled(FUSED, label_smoothing=lambda k: 0.1 * k), {"step": 2}),
    "learned": (learned(FUSED, label_smoothing=(0, 1)).loss, {"label_smoothing": math.log(0.2 / 0.8)}),
}


@pytest.mark.parametrize(("loss", "given"), MOVED.values(), ids=MOVED)
@pytest.mark.parametrize("reduced", [jl.mean, jl.sum])
def test_a_fused_loss_is_still_fused(reduced, loss, given):
    also = {"where": np.array([1, 1, 0, 1, 1, 1], bool), "weights": np.arange(6.0), "ignore_index": -1}
    found = jax.value_and_grad(reduced(loss), (0, 1))(*HEAD, **given, **also)
    wanted = jax.value_and_grad(reduced(FUSED), (0, 1))(*HEAD, label_smoothing=0.2, **also)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13), found, wanted)


def test_a_train_step_passes_the_step_on():
    from jaxloss.adapters.optax import train_step

    loss = jl.mean(scheduled(jl.robust.huber, delta=FALLING))
    optimizer = optax.sgd(0.1)
    step = train_step(lambda w, x, y, *, step: loss(w * x, y, step=step), optimizer)
    w, state = jnp.asarray(0.5), optimizer.init(jnp.asarray(0.5))
    expected = 0.5
    for k in (0, 7):
        w, state, value = step(w, state, PREDICTIONS, TARGETS, step=k)
        residual, delta = expected * PREDICTIONS - TARGETS, 4.0 - 0.3 * k
        np.testing.assert_allclose(value, huber(residual, delta).mean(), rtol=1e-6)
        expected -= 0.1 * np.mean(np.clip(residual, -delta, delta) * PREDICTIONS)
    np.testing.assert_allclose(w, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: scheduled(jl.robust.huber, delta=1.0), TypeError, "`delta` must be a schedule.*constant"),
        (lambda: scheduled(jl.robust.huber, gamma=FALLING), ValueError, "no hyperparameter `gamma`.*delta"),
        (lambda: scheduled(jl.robust.huber, delta=FALLING)(1.0, 1.0), TypeError, "`step` must be given"),
        (
            lambda: scheduled(jl.robust.huber, delta=FALLING)(1.0, 1.0, step=0, delta=2.0),
            TypeError,
            "`delta` must not be given",
        ),
        (
            lambda: scheduled(jl.robust.huber, delta=FALLING)(1.0, 1.0, step=jnp.arange(2)),
            ValueError,
            r"one number, got shape \(2,\)",
        ),
        (
            lambda: scheduled(jl.robust.huber, delta=lambda k: 1.0 - k)(1.0, 1.0, step=1),
            ValueError,
            r"`delta` must be in \(0, ∞\)",
        ),
    ],
)
def test_a_schedule_that_cannot_be_followed_is_refused_in_words(make, error, words):
    with pytest.raises(error, match=words):
        make()


# --- learned: the map from raw to constrained -----------------------------------------------------

RANGES = {"both": (0.0, 2.0), "above": (1e-3, None), "below": (None, -2.0), "free": (None, None)}
RAW = st.floats(-60.0, 60.0)


def exact(raw, low, high):
    """The three maps in sixty digits."""
    with mpmath.workdps(60):
        w = mpmath.mpf(raw)
        if low is not None and high is not None:
            return low + (mpmath.mpf(high) - low) / (1 + mpmath.exp(-w))
        if low is not None:
            return low + mpmath.log1p(mpmath.exp(w))
        return w if high is None else high - mpmath.log1p(mpmath.exp(-w))


def exact_slope(raw, low, high):
    with mpmath.workdps(60):
        up = 1 / (1 + mpmath.exp(-mpmath.mpf(raw)))
        down = 1 / (1 + mpmath.exp(mpmath.mpf(raw)))
        if low is not None and high is not None:
            return float((mpmath.mpf(high) - low) * up * down)
        return float(up if low is not None else 1 if high is None else down)


def plain(p, t, *, x=1.0):
    """A loss that gives its hyperparameter back."""
    return p - t + x


@functools.cache
def jitted(bounds):
    found = learned(plain, x=bounds)
    one = jnp.ones(())
    return jax.jit(jax.value_and_grad(lambda raw: found.loss(one, one, x=raw)))


@pytest.mark.parametrize("bounds", [*RANGES.values(), (-1.0, 3.0)])
@given(raw=RAW)
@example(raw=-700.0)
@example(raw=700.0)
@example(raw=0.0)
def test_a_raw_parameter_stands_for_its_value(bounds, raw):
    low, high = bounds
    value, slope = jitted(bounds)(raw)
    scale = max(abs(end) for end in (low or 0.0, high or 0.0, float(value)))
    wanted = exact(raw, low, high)
    assert abs(value - float(wanted)) <= 8 * np.finfo(float).eps * scale
    # Below the smallest normal number a product may be flushed to zero.
    np.testing.assert_allclose(slope, exact_slope(raw, low, high), rtol=1e-14, atol=1e-307)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize(
    "bounds", [(0.0, 2.0), (0.0, None), (None, 0.0), (1e-3, None), (-2.0, -1.0), (0.1, 0.3)]
)
def test_every_float_stands_for_a_value_strictly_inside(dtype, bounds):
    most = jnp.finfo(dtype).max
    raw = jnp.asarray([-most, -1e30, -800, -104, -20, -1e-30, 0, 20, 104, 800, 1e30, most], dtype)
    value = learned(plain, x=bounds).values({"x": raw})["x"]
    low, high = (
        jnp.asarray(-jnp.inf if bounds[0] is None else bounds[0], dtype),
        jnp.asarray(jnp.inf if bounds[1] is None else bounds[1], dtype),
    )
    assert np.all((value > low) & (value < high))
    assert np.all(np.diff(value) >= 0)


def test_a_value_that_rounding_put_on_the_end_has_the_true_derivative():
    found = learned(plain, x=(0.0, 2.0))
    slope = jax.grad(lambda raw: found.values({"x": raw})["x"])(jnp.float32(30.0))
    np.testing.assert_allclose(slope, 2 * math.exp(-30.0), rtol=1e-6)


def test_a_wide_range_does_not_overflow():
    found = learned(plain, x=(-1.7e308, 1.7e308))
    raw = found.init(x=1.2e308)
    np.testing.assert_allclose(found.values(raw)["x"], 1.2e308, rtol=1e-14)


@pytest.mark.parametrize(
    ("bounds", "start"),
    [
        ((0, 2), 1.0),
        ((0, 2), 1e-12),
        ((0, 2), 2 - 1e-12),
        ((1e-3, None), 1e-3 + 1e-12),
        ((1e-3, None), 7e5),
        ((None, -2), -2.5),
        ((None, None), -3.0),
        ((0, None), 1e-290),
    ],
)
def test_a_wanted_start_value_is_found_again(bounds, start):
    found = learned(plain, x=bounds)
    value = found.values(found.init(x=start))["x"]
    ends = [abs(end) for end in bounds if end]
    # The raw parameter is rounded: as many ULPs of the distance to the end as it is large.
    raw = abs(float(found.init(x=start)["x"]))
    distance = min([abs(start - end) for end in bounds if end is not None], default=abs(start))
    tolerance = np.finfo(float).eps * (4 * (1 + raw) * distance + 2 * max([*ends, abs(start)]))
    assert abs(value - start) <= tolerance


# --- learned: as a loss ---------------------------------------------------------------------------


def test_a_learned_loss_is_the_loss_at_its_values():
    alive = learned(jl.robust.adaptive_nll, alpha=(0, 2), scale=(1e-3, None))
    raw = alive.init(scale=2.5)
    found = jl.mean(alive.loss)(PREDICTIONS, TARGETS, where=KEPT, weights=WEIGHTS, **raw)
    given = {"where": KEPT, "weights": WEIGHTS, "alpha": 1.0, "scale": 2.5}
    wanted = jl.mean(jl.robust.adaptive_nll)(PREDICTIONS, TARGETS, **given)
    np.testing.assert_allclose(found, wanted, rtol=1e-13)


def test_the_start_values_are_the_defaults_of_the_loss():
    values = learned(jl.robust.tukey_biweight, c=(0, None))
    np.testing.assert_allclose(values.values(values.init())["c"], 4.685, rtol=1e-14)


def test_a_start_value_a_column_gives_a_parameter_a_column():
    alive = learned(jl.robust.adaptive_nll, alpha=(0, 2), scale=(1e-3, None))
    raw = alive.init(alpha=np.full(3, 1.5), scale=[1.0, 2.0, 3.0])
    assert {name: array.shape for name, array in raw.items()} == {"alpha": (3,), "scale": (3,)}
    np.testing.assert_allclose(alive.values(raw)["scale"], [1, 2, 3], rtol=1e-14)


def test_nan_behind_a_mask_reaches_no_gradient_of_a_raw_parameter():
    alive = learned(jl.robust.adaptive_nll, alpha=(0, 2), scale=(1e-3, None))
    objective = jl.mean(alive.loss)

    def of(predictions, targets, where):
        return jax.grad(lambda raw: objective(predictions, targets, where=where, **raw))(alive.init())

    kept = of(PREDICTIONS[KEPT], TARGETS[KEPT], np.ones(KEPT.sum(), bool))
    masked = of(np.where(KEPT, PREDICTIONS, np.nan), np.where(KEPT, TARGETS, np.inf), KEPT)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), masked, kept)


def test_bfloat16_parameters_are_mapped_in_float32():
    raw = jnp.asarray([-3.0, 0.5, 4.0], jnp.bfloat16)
    value = learned(plain, x=(0, 2)).values({"x": raw})["x"]
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, 2 / (1 + np.exp(-np.float32(raw))), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: learned(jl.robust.huber, delta=1.0), TypeError, r"`delta` must be a pair \(low, high\)"),
        (lambda: learned(jl.robust.huber, delta=(2, 1)), ValueError, r"low < high, got \(2, 1\)"),
        (lambda: learned(jl.robust.huber, delta=(0, math.inf)), ValueError, "write None for none"),
        (lambda: learned(jl.robust.huber, delta=(-1, None)), ValueError, r"must stay in \(0, ∞\).*\(-1, ∞\)"),
        (lambda: learned(jl.robust.huber, delta=(None, 3)), ValueError, r"must stay in \(0, ∞\)"),
        (
            lambda: learned(jl.robust.huber, alpha=(0, 2)),
            ValueError,
            "no hyperparameter `alpha`; there is delta",
        ),
        (
            lambda: learned(jl.robust.adaptive_nll, alpha=(0, 2)).init(alpha=2.0),
            ValueError,
            r"`alpha` must start strictly inside \(0, 2\), got 2",
        ),
        (lambda: learned(jl.robust.huber, delta=(2, 3)).init(), ValueError, "must start strictly inside"),
        (
            lambda: learned(jl.categorical.ldam, class_counts=(0, None)).init(),
            ValueError,
            "no default; pass `init",
        ),
        (
            lambda: learned(jl.robust.huber, delta=(0, 3)).init(scale=1),
            ValueError,
            "no hyperparameter `scale`",
        ),
        (
            lambda: learned(jl.robust.huber, delta=(0, 3)).loss(1.0, 1.0),
            TypeError,
            r"`delta` must be its raw parameter; pass `\*\*params`",
        ),
        (
            lambda: learned(jl.robust.huber, delta=(0, 3)).loss(1.0, 1.0, delta=1),
            TypeError,
            "must be floating point, got int",
        ),
    ],
)
def test_a_range_that_cannot_be_kept_is_refused_in_words(make, error, words):
    with pytest.raises(error, match=words):
        make()
