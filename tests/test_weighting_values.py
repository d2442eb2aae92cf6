"""The weighers that see losses alone, against their papers' updates in NumPy and what defines each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import weighting

COURSE = np.array(
    [[2.0, 0.5, 30.0], [1.8, 0.45, 10.0], [1.5, 0.5, 5.0], [1.6, 0.2, 4.0], [1.2, 0.1, 4.5], [0.7, 0.3, 1.0]]
)


def run(weigher, course=COURSE):
    """The weights at each step of a course of losses, and the last state."""
    course = jnp.asarray(course)
    state = weigher.init(course.shape[1])

    def step(state, losses):
        weights, state = weigher.update(losses, state)
        return state, weights

    state, weights = jax.lax.scan(step, state, course)
    return np.asarray(weights), state


def softmax(x):
    terms = np.exp(x - np.max(x))
    return terms / np.sum(terms)


# --- fixed and random ---------------------------------------------------------------------------


def test_fixed_weights_are_given_at_each_step():
    weights, _ = run(weighting.fixed([1.0, 2.0, 0.0]))
    np.testing.assert_array_equal(weights, np.tile([1.0, 2.0, 0.0], (len(COURSE), 1)))


def test_fixed_weights_may_be_a_schedule_of_the_step():
    weights, _ = run(weighting.fixed(lambda step: 1.0 / (1.0 + step.astype(float))))
    np.testing.assert_allclose(weights, np.tile(1 / np.arange(1, 7)[:, None], (1, 3)), rtol=1e-15)


def test_random_weights_are_the_softmax_of_normal_numbers():
    # The mean of softmax(z) is 1 / K by symmetry; of K = 2 its log-odds are N(0, 2).
    weights, _ = run(weighting.random(7), np.ones((4000, 2)))
    odds = np.log(weights[:, 0] / weights[:, 1])
    np.testing.assert_allclose(np.sum(weights, axis=1), 1, rtol=1e-12)
    assert abs(np.mean(odds)) < 4 * np.sqrt(2 / 4000)
    assert abs(np.var(odds) - 2) < 4 * 2 * np.sqrt(2 / 4000)
    assert np.ptp(np.sort(odds)[:2]) > 0


@pytest.mark.parametrize("make", [weighting.random, weighting.relobralo])
def test_one_seed_draws_one_course(make):
    old_key = jax.random.PRNGKey(3)
    first, again, other = (run(make(key))[0] for key in (3, old_key, 4))
    np.testing.assert_array_equal(first, again)
    assert make is weighting.relobralo or np.any(first != other)


# --- uncertainty --------------------------------------------------------------------------------


def test_uncertainty_descends_kendalls_objective():
    factor, rate, s = np.array([0.5, 1.0, 0.5]), 0.1, np.zeros(3)
    wanted = []
    for losses in COURSE:
        wanted.append(factor * np.exp(-s))

        def objective(s, losses=losses):
            return np.sum(factor * np.exp(-s) * losses + 0.5 * s)

        h = 1e-6
        slope = [(objective(s + h * e) - objective(s - h * e)) / (2 * h) for e in np.eye(3)]
        s = s - rate * np.array(slope)
    weights, state = run(weighting.uncertainty(factor=factor, learning_rate=rate))
    np.testing.assert_allclose(weights, wanted, rtol=1e-8)
    np.testing.assert_allclose(state.log_variances, s, rtol=1e-8)


def test_uncertainty_rests_where_the_variance_is_the_mean_squared_error():
    losses = np.array([0.3, 2.0, 5.0])
    weights, state = run(weighting.uncertainty(learning_rate=0.2), np.tile(losses, (400, 1)))
    np.testing.assert_allclose(np.exp(state.log_variances), losses, rtol=1e-8)
    np.testing.assert_allclose(weights[-1] * losses, 0.5, rtol=1e-8)


# --- FAMO ---------------------------------------------------------------------------------------


AUTHORS_LOGITS = [0.06727937490307379, 0.05043187147283381, -0.064938811731302]
AUTHORS_WEIGHTS = [0.10849742551379571, 0.8534785748419069, 0.038023999644297354]


def famo_by_hand(course, rate, decay, epsilon=1e-8):
    """Algorithm 1 with ∇z as a matrix, the losses after a step being the next ones."""
    logits, weights = np.zeros(course.shape[1]), []
    for before, losses in zip([None, *course[:-1]], course, strict=True):
        if before is not None:
            z = softmax(logits)
            jacobian = np.diag(z) - np.outer(z, z)
            delta = jacobian.T @ (np.log(before + epsilon) - np.log(losses + epsilon))
            logits = logits - rate * (delta + decay * logits)
        z = softmax(logits)
        c = 1 / np.sum(z / (losses + epsilon))
        weights.append(c * z / (losses + epsilon))
    return np.array(weights), logits


def test_famo_is_algorithm_1():
    wanted, logits = famo_by_hand(COURSE, 0.5, 0.1)
    weights, state = run(weighting.famo(learning_rate=0.5, decay=0.1))
    np.testing.assert_allclose(weights, wanted, rtol=1e-12)
    np.testing.assert_allclose(state.logits, logits, rtol=1e-12)


class Adam:
    """An optimizer as Optax's are, here Kingma & Ba's Algorithm 1 without Optax."""

    def __init__(self, rate):
        self.rate = rate

    def init(self, values):
        return jnp.zeros(()), jnp.zeros_like(values), jnp.zeros_like(values)

    def update(self, slope, state, values):
        count, mean, square = state[0] + 1, 0.9 * state[1] + 0.1 * slope, 0.999 * state[2] + 0.001 * slope**2
        corrected = mean / (1 - 0.9**count), square / (1 - 0.999**count)
        return -self.rate * corrected[0] / (jnp.sqrt(corrected[1]) + 1e-8), (count, mean, square)


def test_famo_with_adam_is_the_authors_update():
    # Three steps of the authors' famo.py in torch 2.13: Adam(lr=0.025, weight_decay=0.01), computed apart.
    weights, state = run(weighting.famo(optimizer=Adam(0.025)), COURSE[:4])
    np.testing.assert_allclose(state.logits, AUTHORS_LOGITS, rtol=1e-10)
    np.testing.assert_allclose(weights[-1], AUTHORS_WEIGHTS, rtol=1e-10)


def test_famo_learns_from_the_losses_it_is_told_of_after_a_step():
    weigher = weighting.famo(learning_rate=0.5, decay=0.1)
    told, other_batch = COURSE[1], 7 * COURSE[2]
    _, state = weigher.update(jnp.asarray(COURSE[0]), weigher.init(3))
    _, state = weigher.update(jnp.asarray(other_batch), weighting.observe(jnp.asarray(told), state))
    _, wanted = famo_by_hand(COURSE[:2], 0.5, 0.1)
    np.testing.assert_allclose(state.logits, wanted, rtol=1e-12)
    assert not state.observed
    np.testing.assert_array_equal(state.before, other_batch)


def test_famo_gives_weight_to_the_loss_that_does_not_fall():
    course = np.stack([0.9 ** np.arange(30), np.ones(30)], axis=1)
    _, state = run(weighting.famo(learning_rate=0.5, decay=0.0), course)
    assert state.logits[1] > state.logits[0]


# --- the course of the losses -------------------------------------------------------------------


def test_the_dynamic_average_is_equation_7():
    weights, _ = run(weighting.dynamic_average(temperature=2.0))
    np.testing.assert_array_equal(weights[:2], 1)
    for t in range(2, len(COURSE)):
        wanted = 3 * softmax(COURSE[t - 1] / COURSE[t - 2] / 2.0)
        np.testing.assert_allclose(weights[t], wanted, rtol=1e-12)


def test_the_dynamic_average_compares_the_means_of_two_periods():
    course = np.concatenate([COURSE, COURSE[::-1]])
    weights, _ = run(weighting.dynamic_average(temperature=2.0, period=3), course)
    means = course.reshape(4, 3, 3).mean(axis=1)
    wanted = [np.ones(3), np.ones(3), *(3 * softmax(means[i] / means[i - 1] / 2.0) for i in (1, 2))]
    np.testing.assert_allclose(weights, np.repeat(wanted, 3, axis=0), rtol=1e-12)


def test_softadapt_is_the_softmax_of_the_rises():
    weights, _ = run(weighting.softadapt(beta=0.3))
    np.testing.assert_allclose(weights[0], 1 / 3, rtol=1e-15)
    for t in range(1, len(COURSE)):
        np.testing.assert_allclose(weights[t], softmax(0.3 * (COURSE[t] - COURSE[t - 1])), rtol=1e-12)


def test_normalized_softadapt_does_not_know_the_unit_of_all_losses():
    weights, _ = run(weighting.softadapt_normalized(beta=0.3))
    scaled, _ = run(weighting.softadapt_normalized(beta=0.3), 1000 * COURSE)
    rise = COURSE[3] - COURSE[2]
    np.testing.assert_allclose(weights[3], softmax(0.3 * rise / np.sum(np.abs(rise))), rtol=1e-12)
    np.testing.assert_allclose(scaled, weights, rtol=1e-12)


def test_loss_weighted_softadapt_multiplies_by_the_losses():
    weights, _ = run(weighting.softadapt_loss_weighted(beta=0.3))
    np.testing.assert_allclose(weights[0], COURSE[0] / np.sum(COURSE[0]), rtol=1e-12)
    terms = COURSE[3] * np.exp(0.3 * (COURSE[3] - COURSE[2]))
    np.testing.assert_allclose(weights[3], terms / np.sum(terms), rtol=1e-12)


@pytest.mark.parametrize("rho", [0.0, 1.0])
def test_relobralo_is_the_papers_update_whether_it_looks_back_or_not(rho):
    alpha, heat = 0.7, 0.5
    weights, _ = run(weighting.relobralo(0, temperature=heat, alpha=alpha, rho=rho))
    wanted = np.ones(3)
    np.testing.assert_array_equal(weights[0], wanted)
    for t in range(1, len(COURSE)):
        since_start = 3 * softmax(COURSE[t] / (heat * COURSE[0]))
        since_last = 3 * softmax(COURSE[t] / (heat * COURSE[t - 1]))
        kept = wanted if rho == 1 else since_start
        wanted = alpha * kept + (1 - alpha) * since_last
        np.testing.assert_allclose(weights[t], wanted, rtol=1e-12)


def test_relobralo_looks_back_as_often_as_it_is_told():
    # The loss stays at its double: with alpha = 1 the weights are the last ones, or a look at the start.
    course = np.array([[1.0, 1.0], *[[2.0, 1.0]] * 2000])
    weigher = weighting.relobralo(0, alpha=1.0, rho=lambda step: jnp.where(step == 1, 1.0, 0.75))

    def step(carry, losses):
        state = carry._replace(weights=jnp.ones(2))  # each step starts from even weights
        weights, state = weigher.update(losses, state)
        return state, weights[0] > 1

    _, back = jax.lax.scan(step, weigher.init(2), jnp.asarray(course))
    assert abs(np.mean(np.asarray(back)[2:]) - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 2000)


# --- the edges ----------------------------------------------------------------------------------

EVERY = {
    "fixed": weighting.fixed(),
    "random": weighting.random(0),
    "uncertainty": weighting.uncertainty(),
    "famo": weighting.famo(),
    "dynamic_average": weighting.dynamic_average(),
    "softadapt": weighting.softadapt(),
    "softadapt_normalized": weighting.softadapt_normalized(),
    "softadapt_loss_weighted": weighting.softadapt_loss_weighted(),
    "relobralo": weighting.relobralo(0, alpha=0.5),
}
every = pytest.mark.parametrize("weigher", EVERY.values(), ids=EVERY)


@every
def test_a_loss_of_exactly_0_leaves_every_weight_finite(weigher):
    course = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [2.0, 0.0]])
    weights, _ = run(weigher, course)
    assert np.all(np.isfinite(weights))
    assert np.all(weights >= 0)


@pytest.mark.parametrize("name", ["random", "famo", "softadapt", "softadapt_normalized", "fixed"])
def test_one_task_has_weight_1(name):
    weights, _ = run(EVERY[name], COURSE[:, :1])
    np.testing.assert_allclose(weights, 1, rtol=1e-15)


@pytest.mark.parametrize(
    "name", ["uncertainty", "famo", "dynamic_average", "softadapt", "softadapt_loss_weighted", "relobralo"]
)
def test_a_loss_that_is_nan_is_nan_in_the_weights_that_come_of_it(name):
    course = COURSE.copy()
    course[2, 1] = np.nan
    weights, _ = run(EVERY[name], course)
    assert np.any(np.isnan(weights[2:4]))


@every
def test_the_state_keeps_its_form_so_that_a_loop_can_carry_it(weigher):
    start = weigher.init(3)
    _, state = jax.eval_shape(weigher.update, jax.ShapeDtypeStruct((3,), jnp.float32), start)
    assert jax.tree.structure(state) == jax.tree.structure(start)
    assert [(a.shape, a.dtype) for a in jax.tree.leaves(state)] == [
        (a.shape, a.dtype) for a in jax.tree.leaves(start)
    ]


def test_a_hyperparameter_may_be_traced_and_mapped_over():
    def second(beta):
        weigher = weighting.softadapt(beta=beta)
        _, state = weigher.update(jnp.asarray(COURSE[0]), weigher.init(3))
        return weigher.update(jnp.asarray(COURSE[1]), state)[0]

    betas = jnp.array([0.0, 0.1, 2.0])
    wanted = [softmax(beta * (COURSE[1] - COURSE[0])) for beta in (0.0, 0.1, 2.0)]
    np.testing.assert_allclose(jax.jit(jax.vmap(second))(betas), wanted, rtol=1e-12)


def test_a_hyperparameter_may_be_a_schedule_of_the_step():
    cooling = weighting.dynamic_average(temperature=lambda step: 1.0 + step.astype(float))
    weights, _ = run(cooling)
    np.testing.assert_allclose(weights[4], 3 * softmax(COURSE[3] / COURSE[2] / 5.0), rtol=1e-12)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: weighting.famo(decay=-1.0), ValueError, r"weighting.famo: `decay` must be in \[0, inf\)"),
        (lambda: weighting.famo(learning_rate=0.0), ValueError, "famo: `learning_rate` must be in"),
        (
            lambda: weighting.famo(learning_rate=0.1, optimizer=object()),
            ValueError,
            "famo: give `learning_rate` .* got both",
        ),
        (lambda: weighting.dynamic_average(temperature=0.0), ValueError, "`temperature` must be in"),
        (
            lambda: weighting.dynamic_average(period=0),
            ValueError,
            "weighting.dynamic_average: `period` must be at least 1, got 0",
        ),
        (
            lambda: weighting.dynamic_average(period=2.5),
            TypeError,
            "`period` must be a Python integer, got 2.5",
        ),
        (lambda: weighting.relobralo(0, alpha=1.5), ValueError, r"`alpha` must be in \[0, 1\], got 1.5"),
        (lambda: weighting.fixed("even"), TypeError, "fixed: `weights` must be a number, an array, or"),
        (lambda: weighting.random(0.5), TypeError, "random: `key` must be one random key or an integer"),
        (lambda: weighting.fixed().init(0), ValueError, "number of losses, at least 1, got 0"),
        (lambda: weighting.fixed().init(jnp.ones(3)), TypeError, r"for three losses call `init\(3\)`"),
        (lambda: run(weighting.fixed([1.0, 2.0])), ValueError, r"`weights` \(2,\) must be one number or one"),
    ],
)
def test_an_option_that_cannot_be_is_refused_in_words(make, error, words):
    with pytest.raises(error, match=words):
        make()


@every
def test_losses_of_another_number_are_refused(weigher):
    with pytest.raises(ValueError, match=r"`losses` \(64,\) must be one number for each of the 3 tasks"):
        weigher.update(jnp.ones(64), weigher.init(3))


def test_integer_losses_are_refused():
    with pytest.raises(TypeError, match="`losses` must be floating, got int64"):
        weighting.famo().update(jnp.arange(3), weighting.famo().init(3))
