"""The weighers of a Gram matrix against brute force, SciPy and the property that defines each."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxloss import weighting
from jaxloss.weighting import gram as of_gram

# Four kinds of gradients [draws, tasks, parameters]: in general, in too few dimensions, of unlike lengths,
# and with two alike.
RANDOM = np.random.default_rng(0)
GENERAL = RANDOM.normal(size=(12, 4, 7))
FLAT = RANDOM.normal(size=(12, 4, 2))
UNLIKE = RANDOM.normal(size=(12, 4, 7)) * 10.0 ** RANDOM.uniform(-4, 4, (12, 4, 1))
ALIKE = GENERAL[:, [0, 1, 0, 2]]
KINDS = {"general": GENERAL, "flat": FLAT, "unlike": UNLIKE, "alike": ALIKE}
PAIRS = np.concatenate([GENERAL[:, :2], UNLIKE[:, :2], np.pad(FLAT[:, :2], ((0, 0), (0, 0), (0, 5)))])
kinds = pytest.mark.parametrize("grads", KINDS.values(), ids=KINDS)


def products(grads):
    return grads @ np.swapaxes(grads, -1, -2)


_min_norm = jax.jit(jax.vmap(of_gram.min_norm))
_averse = jax.jit(jax.vmap(of_gram.conflict_averse, in_axes=(0, None)))
_impartial = jax.jit(jax.vmap(of_gram.impartial))
_bargain = jax.jit(jax.vmap(of_gram.bargain))


def combined(weights, grads):
    return np.einsum("nk,nkd->nd", np.asarray(weights), grads)


def along(grads, step):
    return np.einsum("nkd,nd->nk", grads, step)


def lengths(vectors):
    return np.linalg.norm(vectors, axis=-1)


# --- MGDA ---------------------------------------------------------------------------------------


def nearest_by_nnls(grads):
    """The quadratic program as non-negative least squares: min ‖[G; 1ᵀ] y − [0; 1]‖, w = y / Σ y."""
    scale = np.max(lengths(grads))
    system = np.vstack([grads.T / scale, np.ones(len(grads))])
    y, _ = scipy.optimize.nnls(system, np.r_[np.zeros(grads.shape[1]), 1])
    return y / np.sum(y)


@pytest.mark.parametrize("grads", [GENERAL, FLAT, ALIKE, PAIRS], ids=["general", "flat", "alike", "pairs"])
def test_mgda_is_the_quadratic_program_that_scipy_solves(grads):
    point = combined(_min_norm(products(grads)), grads)
    wanted = np.array([nearest_by_nnls(g) @ g for g in grads])
    scale = np.max(lengths(grads), axis=-1, keepdims=True)
    np.testing.assert_allclose(point / scale, wanted / scale, atol=1e-10, rtol=0)


@kinds
def test_no_loss_rises_against_the_min_norm_point(grads):
    # ⟨g_i, p⟩ >= ‖p‖² for every task is what makes p the shortest: it needs no other solver to compare with.
    weights = np.asarray(_min_norm(products(grads)))
    point = combined(weights, grads)
    length = np.maximum(lengths(point), 1e-9 * np.max(lengths(grads), axis=-1))[:, None]
    excess = (along(grads, point) - np.sum(point**2, axis=-1, keepdims=True)) / lengths(grads) / length
    assert np.min(excess) > -1e-6 if grads is FLAT else np.min(excess) > -1e-12
    assert np.all(weights >= 0)
    np.testing.assert_allclose(np.sum(weights, axis=-1), 1, rtol=1e-14)


def test_the_min_norm_point_of_two_is_the_closed_form():
    # ½ of two at right angles and alike; the shorter one alone where the longer has it on its way.
    cases = [[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [3.0, 1.0]], [[2.0, 0.0], [0.0, 1.0]], [[1.0, 0.0]] * 2]
    weights = _min_norm(products(np.array(cases)))
    np.testing.assert_allclose(weights, [[0.5, 0.5], [1, 0], [0.2, 0.8], [0.5, 0.5]], rtol=1e-15)


def test_mgda_leaves_tasks_on_no_face_without_any_weight():
    grads = np.array([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [5.0, 0.0, 1.0], [4.0, 0.3, 0.0]])
    weights = np.asarray(of_gram.min_norm(jnp.asarray(products(grads))))
    np.testing.assert_allclose(weights[:2], 0.5, rtol=1e-14)
    np.testing.assert_array_equal(weights[2:], 0)


# --- CAGrad -------------------------------------------------------------------------------------


MILD = GENERAL * 10.0 ** RANDOM.uniform(-1, 1, (12, 4, 1))


@pytest.mark.parametrize("c", [0.4, 0.9])
@pytest.mark.parametrize("grads", [GENERAL, FLAT, ALIKE, MILD], ids=["general", "flat", "alike", "mild"])
def test_cagrad_helps_the_worst_off_task_as_much_as_any_step_in_the_ball_could(grads, c):
    # The dual at the weights bounds what any step can do; the step itself reaches that.
    step = combined(_averse(products(grads), c), grads)
    mean = np.mean(grads, axis=1)
    length, away = lengths(mean), lengths(step - mean)
    assert np.all(away <= c * length * (1 + 1e-9))
    reached = np.min(along(grads, step), axis=-1)
    weights = np.asarray(_averse(products(grads), c)) - 1 / 4
    total = np.sum(weights, axis=-1, keepdims=True)
    weights = np.where(
        total > 0, weights / np.where(total > 0, total, 1), np.asarray(_min_norm(products(grads)))
    )
    towards = combined(weights, grads)
    bound = np.sum(towards * mean, axis=-1) + c * length * lengths(towards)
    # Where gradients cancel, the bound is flat at 0 and the step is the mean: then to 1e-5.
    close = np.where(away < 0.5 * c * length, 1e-4, 1e-8)
    assert np.all(bound - reached <= close * length * np.max(lengths(grads), axis=-1))


UNEVEN = GENERAL * np.array([1e-4, 1.0, 1e2, 1e3])[:, None]


@pytest.mark.parametrize("c", [0.4, 0.9])
@pytest.mark.parametrize("grads", [UNLIKE, PAIRS], ids=["unlike", "pairs"])
def test_cagrad_helps_a_task_of_a_short_gradient_as_much_as_one_of_a_long(grads, c):
    # As above, in the unit of the shortest gradient: the bound's own sums are rounded in that of the longest.
    given, tasks = np.asarray(_averse(products(grads), c)), grads.shape[1]
    step, mean = combined(given, grads), np.mean(grads, axis=1)
    towards = np.maximum(given - 1 / tasks, 0)
    towards = combined(towards / np.sum(towards, axis=1, keepdims=True), grads)
    bound = np.sum(towards * mean, axis=-1) + c * lengths(mean) * lengths(towards)
    gap = bound - np.min(along(grads, step), axis=-1)
    assert np.max(gap / (c * lengths(mean) * np.min(lengths(grads), axis=-1))) < 1e-9


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cagrad_of_gradients_at_right_angles_is_its_closed_form(dtype):
    # From 1 and r at right angles, r so short that all help is for it: the weight c ‖g_0‖ / r, beside 1/2.
    weights = of_gram.conflict_averse(jnp.asarray(np.diag([1.0, 1e-8]), dtype), 0.4)
    np.testing.assert_allclose(weights, [0.5, 0.5 + 0.4 * 0.5 / 1e-4], rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("short", [1.0, 1e-2, 1e-4])
def test_cagrad_of_opposite_gradients_goes_towards_the_short_one(short, dtype):
    # In one dimension the ball ends at (1 − c) g_0, where the short task loses least.
    gram = np.array([[4, -2 * short], [-2 * short, short**2]], dtype)
    weights = np.asarray(of_gram.conflict_averse(jnp.asarray(gram), 0.4), float)
    np.testing.assert_allclose(weights @ np.array([2, -short]), 0.6 * (2 - short) / 2, rtol=1e-5)


def test_cagrad_in_a_plane_is_what_a_search_of_the_circle_finds():
    grads = np.array([[1.0, 0.0], [-0.5, 1.0]])
    step = combined(_averse(products(grads)[None], 0.5), grads[None])[0]
    mean = np.mean(grads, axis=0)
    angle = np.linspace(0, 2 * np.pi, 200_001)
    circle = mean + 0.5 * np.linalg.norm(mean) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    best = circle[np.argmax(np.min(circle @ grads.T, axis=1))]
    np.testing.assert_allclose(step, best, atol=1e-4)


def test_cagrad_with_a_ball_of_no_size_is_the_mean():
    np.testing.assert_array_equal(_averse(products(GENERAL), 0.0), np.full((12, 4), 0.25))


# --- IMTL-G and Nash-MTL ------------------------------------------------------------------------


def test_the_impartial_step_is_equally_long_along_every_gradient():
    weights = _impartial(products(GENERAL))
    projections = along(GENERAL, combined(weights, GENERAL)) / lengths(GENERAL)
    np.testing.assert_allclose(projections, np.tile(projections[:, :1], 4), rtol=1e-9)
    np.testing.assert_allclose(np.sum(weights, axis=-1), 1, rtol=1e-12)


def test_the_impartial_step_is_the_papers_closed_form():
    for grads, weights in zip(GENERAL, _impartial(products(GENERAL)), strict=True):
        units = grads / lengths(grads)[:, None]
        differences, turns = grads[0] - grads[1:], units[0] - units[1:]
        rest = grads[0] @ turns.T @ np.linalg.inv(differences @ turns.T)
        np.testing.assert_allclose(weights, [1 - np.sum(rest), *rest], rtol=1e-8)


@pytest.mark.parametrize(
    "grads", [GENERAL, UNLIKE, ALIKE, PAIRS], ids=["general", "unlike", "alike", "pairs"]
)
def test_the_bargain_solves_its_equation(grads):
    weights = np.asarray(_bargain(products(grads)))
    step = combined(weights, grads)
    assert np.all(weights > 0)
    np.testing.assert_allclose(weights * along(grads, step), 1, rtol=1e-8)
    np.testing.assert_allclose(lengths(step), np.sqrt(grads.shape[1]), rtol=1e-8)


def test_the_bargain_is_the_maximum_of_the_product_of_gains():
    # The Nash solution maximises Σ log ⟨g_i, d⟩ over directions; no direction near it does better.
    best = combined(_bargain(products(GENERAL)), GENERAL)
    others = best[:, None] + 0.05 * RANDOM.normal(size=(12, 500, 7))
    others *= lengths(best)[:, None, None] / lengths(others)[..., None]
    gains = np.einsum("nkd,nmd->nmk", GENERAL, others)
    products_of = np.where(
        np.all(gains > 0, axis=-1), np.sum(np.log(np.maximum(gains, 1e-300)), axis=-1), -np.inf
    )
    assert np.all(products_of <= np.sum(np.log(along(GENERAL, best)), axis=-1)[:, None])


# --- PCGrad -------------------------------------------------------------------------------------


def surgery_by_hand(grads, order):
    """Algorithm 1 on the vectors themselves."""
    projected = grads.copy()
    for i, others in enumerate(order):
        for j in others:
            if j != i and projected[i] @ grads[j] < 0:
                projected[i] -= projected[i] @ grads[j] / (grads[j] @ grads[j]) * grads[j]
    return projected


def test_pcgrad_in_weights_is_pcgrad_on_vectors():
    order = np.array([RANDOM.permuted(np.tile(np.arange(4), (4, 1)), axis=1) for _ in range(12)])
    rows = jax.vmap(of_gram.without_conflicts)(jnp.asarray(products(FLAT)), jnp.asarray(order))
    wanted = [surgery_by_hand(*pair) for pair in zip(FLAT, order, strict=True)]
    assert np.any(np.abs(np.asarray(rows) - np.eye(4)) > 0.1)
    np.testing.assert_allclose(np.asarray(rows) @ FLAT, wanted, atol=1e-12)


def test_pcgrad_leaves_two_tasks_no_negative_inner_product():
    order = jnp.array([[0, 1], [1, 0]])
    rows = jax.vmap(of_gram.without_conflicts, in_axes=(0, None))(jnp.asarray(products(PAIRS)), order)
    projected = np.asarray(rows) @ PAIRS
    inner = projected @ np.swapaxes(PAIRS, 1, 2) / lengths(PAIRS)[:, :, None] / lengths(PAIRS)[:, None, :]
    assert np.min(products(PAIRS)[:, 0, 1]) < 0
    assert np.min(inner) > -1e-14


def test_pcgrad_may_leave_three_tasks_a_negative_inner_product_but_not_with_the_last():
    # g_0 off g_1 and then off g_2 is against g_1 again: what the docstring admits.
    grads = np.array([[0.0, -1.0], [1.0, 0.2], [-0.8, 1.0]])
    order = jnp.array([[0, 1, 2], [1, 0, 2], [2, 0, 1]])
    projected = np.asarray(of_gram.without_conflicts(jnp.asarray(products(grads)), order)) @ grads
    assert projected[0] @ grads[1] < -0.1
    assert abs(projected[0] @ grads[2]) < 1e-15


def test_pcgrad_draws_its_orders_anew_at_each_step():
    weigher, gram = weighting.pcgrad(0), jnp.asarray(products(FLAT[0]))
    every_order = jnp.asarray(list(itertools.permutations(range(4))))
    of_first = jax.vmap(lambda order: of_gram.without_conflicts(gram, jnp.tile(order, (4, 1))))(every_order)
    outcomes = np.asarray(of_first)  # [orders, tasks, tasks]: row i depends on task i's order alone
    state, seen = weigher.init(4), []
    for _ in range(8):
        weights, state = weigher.update(jnp.ones(4), state, gram)
        seen.append(np.asarray(weights))
    sums = [
        np.sum(rows, axis=0)
        for rows in itertools.product(*(np.unique(o, axis=0) for o in outcomes.swapaxes(0, 1)))
    ]
    assert len({tuple(np.round(weights, 9)) for weights in seen}) > 1
    assert all(np.min(np.max(np.abs(np.array(sums) - weights), axis=1)) < 1e-12 for weights in seen)


# --- GradNorm -----------------------------------------------------------------------------------

LENGTHS = np.array([1.0, 10.0, 0.3])


def balance(weigher, steps, losses=None):
    """The weights after so many steps at gradients of fixed lengths."""
    gram = jnp.asarray(np.diag(LENGTHS**2))
    losses = np.ones((steps, 3)) if losses is None else losses

    def step(state, losses):
        weights, state = weigher.update(losses, state, gram)
        return state, weights

    return np.asarray(jax.lax.scan(step, weigher.init(3), jnp.asarray(losses))[1])


def test_gradnorm_takes_the_papers_step():
    losses = np.array([[1.0, 2.0, 4.0], [0.5, 2.0, 1.0], [0.4, 1.0, 1.0]])
    got = balance(weighting.gradnorm(alpha=1.5, learning_rate=0.01), 3, losses)
    w, wanted = np.ones(3), []
    for now in losses:
        wanted.append(w)
        ratio = now / losses[0]
        target = np.mean(w * LENGTHS) * (ratio / np.mean(ratio)) ** 1.5

        def distance(w, target=target):
            return np.sum(np.abs(w * LENGTHS - target))

        slope = [(distance(w + 1e-6 * e) - distance(w - 1e-6 * e)) / 2e-6 for e in np.eye(3)]
        w = w - 0.01 * np.array(slope)
        w = 3 * w / np.sum(w)
    np.testing.assert_allclose(got, wanted, rtol=1e-7)


def test_gradnorm_brings_the_weighted_gradients_to_one_length():
    falling = weighting.gradnorm(alpha=0.0, learning_rate=lambda step: 0.05 / (1 + step.astype(float)) ** 0.7)
    weighted = balance(falling, 4000)[-1] * LENGTHS
    np.testing.assert_allclose(weighted, np.mean(weighted), rtol=0.02)


def test_gradnorm_brings_them_to_the_rates_of_training_where_alpha_is_not_0():
    losses = np.tile([[1.0, 0.5, 2.0]], (4000, 1))
    losses[0] = 1
    falling = weighting.gradnorm(alpha=1.0, learning_rate=lambda step: 0.05 / (1 + step.astype(float)) ** 0.7)
    weighted = balance(falling, 4000, losses)[-1] * LENGTHS
    np.testing.assert_allclose(weighted / np.mean(weighted), 3 * losses[-1] / np.sum(losses[-1]), rtol=0.02)


def test_gradnorm_keeps_weights_at_0_or_above_and_their_sum():
    weights = balance(weighting.gradnorm(learning_rate=5.0), 50)
    assert np.all(weights >= 0)
    np.testing.assert_allclose(np.sum(weights, axis=1), 3, rtol=1e-12)


# --- the edges ----------------------------------------------------------------------------------

EVERY = {
    "gradnorm": weighting.gradnorm(),
    "pcgrad": weighting.pcgrad(0),
    "mgda": weighting.mgda(),
    "cagrad": weighting.cagrad(),
    "imtl_g": weighting.imtl_g(),
    "nash_mtl": weighting.nash_mtl(),
}
every = pytest.mark.parametrize("weigher", EVERY.values(), ids=EVERY)
EDGES = {
    "opposite": [[1.0, -2.0], [-1.0, 2.0]],
    "equal": [[1.0, -2.0], [1.0, -2.0]],
    "one zero": [[1.0, -2.0], [0.0, 0.0]],
    "all zero": [[0.0, 0.0], [0.0, 0.0]],
}


def weigh(weigher, grads, dtype=float):
    grads = np.asarray(grads, dtype)
    return weigher.update(jnp.ones(len(grads)), weigher.init(len(grads)), jnp.asarray(products(grads)))[0]


@pytest.mark.parametrize("grads", EDGES.values(), ids=EDGES)
@every
def test_zero_equal_and_opposite_gradients_leave_every_weight_finite(weigher, grads):
    assert np.all(np.isfinite(weigh(weigher, grads)))


@every
def test_equal_tasks_weigh_alike(weigher):
    weights = weigh(weigher, EDGES["equal"])
    np.testing.assert_allclose(weights, np.tile(weights[0], 2), rtol=1e-12)


@pytest.mark.parametrize("name", ["mgda", "imtl_g", "nash_mtl"])
def test_opposite_gradients_cancel(name):
    weights = weigh(EVERY[name], EDGES["opposite"])
    np.testing.assert_allclose(weights @ np.array(EDGES["opposite"]), 0, atol=1e-7)


@every
def test_a_task_without_a_gradient_takes_no_other_task_with_it(weigher):
    weights = np.asarray(weigh(weigher, [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
    assert np.all(np.isfinite(weights))
    assert abs(weights[0] - weights[1]) < 1e-12
    assert np.max(weights) < 10


@every
def test_a_gradient_that_is_not_finite_is_nan_in_the_weights_that_come_of_it(weigher):
    gram = jnp.asarray(products(np.array([[1.0, 2.0], [np.nan, 1.0], [0.5, 0.5]])))
    weights, state = weigher.update(jnp.ones(3), weigher.init(3), gram)
    assert np.any(np.isnan(state.weights))
    assert np.any(np.isnan(weights)) or weigher is EVERY["gradnorm"]  # whose weights are of steps before


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("gradnorm", 1), ("pcgrad", 1), ("mgda", 1), ("cagrad", 1.4), ("imtl_g", 1), ("nash_mtl", 0.2)],
)
def test_one_task_is_that_task(name, wanted):
    np.testing.assert_allclose(weigh(EVERY[name], [[3.0, 4.0]]), [wanted], rtol=1e-12)


@pytest.mark.parametrize("grads", [GENERAL, UNEVEN], ids=["general", "uneven"])
@pytest.mark.parametrize("solve", [_min_norm, _impartial, _bargain, lambda gram: _averse(gram, 0.4)])
def test_float32_agrees_with_float64(solve, grads):
    wide, narrow = solve(products(grads)), solve(products(grads).astype(np.float32))
    assert narrow.dtype == jnp.float32
    np.testing.assert_allclose(narrow, wide, rtol=2e-3, atol=2e-3)


@every
def test_losses_of_exactly_0_leave_every_weight_finite(weigher):
    # A loss at its least has no gradient either.
    state = weigher.init(2)
    for losses in ([1.0, 2.0], [0.0, 2.0], [0.0, 0.0], [1.0, 0.0], [1.0, 1.0]):
        gram = jnp.asarray(products(np.array(EDGES["opposite"]) * np.sign(losses)[:, None]))
        weights, state = weigher.update(jnp.array(losses), state, gram)
        assert np.all(np.isfinite(weights))
    assert np.all(np.isfinite(weigher.update(jnp.ones(2), state, gram)[0]))


@every
def test_a_gram_matrix_of_another_size_is_refused(weigher):
    with pytest.raises(
        ValueError, match=r"`gram` \(3, 7\) must be the inner products of 3 gradients, \(3, 3\)"
    ):
        weigher.update(jnp.ones(3), weigher.init(3), jnp.ones((3, 7)))


def test_a_radius_that_reaches_0_is_refused():
    with pytest.raises(
        ValueError, match=r"weighting.cagrad: `c` must be in \[0, 1\), got 1.0; give a value in"
    ):
        weighting.cagrad(c=1.0)
