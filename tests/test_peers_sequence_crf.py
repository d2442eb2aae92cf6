"""Chains of labels beside every chain counted out, and beside the same written step by step in NumPy."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import AS_USERS_DO

import jaxloss as jl

ROWS, PLACES, CLASSES = 4, 5, 3


@functools.cache
def tagged():
    """Scores, labels, and the places of each row: a prefix, as lengths are, but for the last row."""
    random = np.random.default_rng(5)
    scores = {
        "transitions": random.standard_normal((CLASSES, CLASSES)),
        "start_scores": random.standard_normal(CLASSES),
        "end_scores": random.standard_normal(CLASSES),
    }
    where = np.arange(PLACES) < np.array([5, 3, 1, 5])[:, None]
    where[3] = [False, True, False, True, True]
    logits = random.standard_normal((ROWS, PLACES, CLASSES))
    return logits, random.integers(0, CLASSES, (ROWS, PLACES)), scores, where


def ours(logits, scores, where=None):
    return jl.sequence.crf(logits, tagged()[1], where=where, **scores)


def total(logits, scores, where=None):
    return jnp.vdot(jnp.arange(1.0, ROWS + 1), ours(logits, scores, where))


@functools.cache
def made_of(row):
    """How often each chain of a row has each place's class, each transition and each end; and the labels'."""
    _, labels, _, where = tagged()
    places = np.flatnonzero(where[row])
    chains = [*itertools.product(range(CLASSES), repeat=len(places)), tuple(labels[row, places])]
    of_places, of_steps = np.zeros((len(chains), PLACES, CLASSES)), np.zeros((len(chains), CLASSES, CLASSES))
    for n, chain in enumerate(chains):
        of_places[n, places, chain] = 1
        np.add.at(of_steps[n], (chain[:-1], chain[1:]), 1)
    starts, ends = (np.eye(CLASSES)[[chain[end] for chain in chains]] for end in (0, -1))
    return of_places, {"transitions": of_steps, "start_scores": starts, "end_scores": ends}


def counted_out(logits, scores):
    """The same total over all the chains of each row."""
    losses = []
    for row in range(ROWS):
        of_places, others = made_of(row)
        each = jnp.tensordot(of_places, logits[row], 2)
        each += sum(jnp.tensordot(others[name], scores[name], scores[name].ndim) for name in scores)
        losses.append(jax.nn.logsumexp(each[:-1]) - each[-1])
    return jnp.vdot(jnp.arange(1.0, ROWS + 1), jnp.stack(losses))


@functools.cache
def spoiled():
    """The logits with NaN where there is no place."""
    logits, _, _, where = tagged()
    return np.where(where[..., None], logits, np.nan)


@pytest.mark.parametrize("derivative", ["value", "gradient", "hessian"])
def test_crf_is_every_chain_counted_out_whatever_a_place_that_is_not_there_holds(derivative):
    logits, _, scores, where = tagged()
    scores = jax.tree.map(jnp.asarray, scores)
    of = {
        "value": lambda f: f,
        "gradient": lambda f: jax.grad(f, argnums=(0, 1)),
        "hessian": lambda f: jax.hessian(f, argnums=(0, 1)),
    }[derivative]
    found = of(functools.partial(total, where=where))(jnp.asarray(spoiled()), scores)
    expected = jax.jit(of(counted_out))(jnp.asarray(logits), scores)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    "modes", [(jax.jacfwd, jax.jacrev), (jax.jacrev, jax.jacrev), (jax.jacfwd, jax.jacfwd)]
)
def test_the_second_order_is_the_same_in_every_mode(modes):
    _, _, scores, where = tagged()
    outer, inner = modes

    def of_transitions(steps):
        return total(spoiled(), scores | {"transitions": steps}, where)

    found = outer(inner(of_transitions))(scores["transitions"])
    np.testing.assert_allclose(found, jax.hessian(of_transitions)(scores["transitions"]), atol=1e-13)


def step_by_step(logits, labels, transitions):
    """The forward algorithm over one row, as in torchcrf, less the score of the labels."""
    prefix = logits[0]
    for z in logits[1:]:
        prefix = z + np.logaddexp.reduce(prefix[:, None] + transitions, axis=0)
    made = np.sum(np.take_along_axis(logits, labels[:, None], axis=-1))
    return np.logaddexp.reduce(prefix) - made - np.sum(transitions[labels[:-1], labels[1:]])


def test_crf_is_the_forward_algorithm_over_a_long_chain():
    random = np.random.default_rng(6)
    logits, steps = random.standard_normal((300, 7)), random.standard_normal((7, 7))
    labels = random.integers(0, 7, 300)
    found = jl.sequence.crf(logits, labels, transitions=steps)
    np.testing.assert_allclose(found, step_by_step(logits, labels, steps), rtol=1e-12)


def test_a_step_goes_from_the_row_of_the_transitions_to_the_column():
    steps = np.array([[0.0, 5.0], [0.0, 0.0]])
    there, back = (
        jl.sequence.crf(np.zeros((2, 2)), np.array(y), transitions=steps) for y in ([0, 1], [1, 0])
    )
    assert back - there == pytest.approx(5)


def test_without_transitions_crf_is_the_sum_of_cross_entropies():
    logits, labels, _, where = tagged()
    each = np.where(where, jl.categorical.cross_entropy(logits, labels), 0)
    np.testing.assert_allclose(ours(spoiled(), {}, where), each.sum(axis=-1), rtol=1e-13)


def test_a_confident_chain_in_float32_loses_no_digit():
    labels = np.array([0, 2, 1, 1])
    logits = 17 * np.eye(3)[labels]
    exact = jl.sequence.crf(logits, labels)
    assert 0 < exact < 1e-6
    narrow = logits.astype(np.float32)
    np.testing.assert_allclose(jl.sequence.crf(narrow, labels), exact, rtol=1e-6)
    slopes = [jax.grad(jl.sequence.crf)(z, labels) for z in (narrow, logits)]
    np.testing.assert_allclose(*slopes, rtol=1e-5)


def test_a_forbidden_transition_is_taken_by_no_chain():
    logits, labels = np.zeros((3, 2)), np.array([0, 0, 1])
    forbidden = np.array([[0.0, 0.0], [-np.inf, 0.0]])
    # 000, 001, 011 and 111 are left.
    np.testing.assert_allclose(jl.sequence.crf(logits, labels, transitions=forbidden), np.log(4), rtol=1e-14)
    by_steps = jax.grad(lambda steps: jl.sequence.crf(logits, labels, transitions=steps))(forbidden)
    np.testing.assert_allclose(by_steps, [[-0.25, 0.0 - 0.5], [0.0, 0.75]], atol=1e-14)
    assert jl.sequence.crf(logits, np.array([1, 0, 0]), transitions=forbidden) == np.inf
    of_logits = jax.grad(jl.sequence.crf)(logits, np.array([1, 0, 0]), transitions=forbidden)
    np.testing.assert_allclose(of_logits[0], [0.75, -0.75], atol=1e-14)


def test_a_sequence_without_places_costs_nothing_and_counts_for_no_mean():
    logits, labels, scores, where = tagged()
    none = where & (np.arange(ROWS) != 1)[:, None]
    losses = ours(logits, scores, none)
    assert losses[1] == 0
    mean = jl.mean(jl.sequence.crf)(logits, labels, where=none, **scores)
    np.testing.assert_allclose(mean, np.sum(losses) / (ROWS - 1), rtol=1e-14)
    np.testing.assert_array_equal(jl.sequence.crf(np.zeros((2, 0, 3)), np.zeros((2, 0), int)), [0, 0])


def test_a_label_at_a_place_that_is_not_there_may_be_anything():
    logits, labels, scores, where = tagged()
    found = jl.sequence.crf(logits, np.where(where, labels, 99), where=where, **scores)
    np.testing.assert_array_equal(found, ours(logits, scores, where))


def test_a_wrong_label_spoils_all_derivatives_of_its_row_and_no_other_row():
    logits, labels, scores, where = tagged()
    wrong = np.where(np.arange(ROWS)[:, None] == 1, -1, labels)
    slopes = jax.grad(lambda z: jnp.sum(jl.sequence.crf(z, wrong, where=where, **scores)))(logits)
    assert np.all(np.isnan(slopes[1]))
    assert not np.any(np.isnan(np.delete(slopes, 1, axis=0)))


@pytest.mark.parametrize(
    ("labels", "options"),
    [
        ((2, 4), {}),
        ((2, 5), {"transitions": np.zeros((3, 4))}),
        ((2, 5), {"start_scores": np.zeros((1, 3))}),
        ((2, 5), {"end_scores": np.zeros(())}),
        ((2, 5), {"where": np.ones((2, 4), bool)}),
    ],
)
def test_shapes_that_do_not_fit_are_refused_in_words(labels, options):
    with pytest.raises(ValueError, match=r"sequence.crf: `\w+` .* must have"):
        jl.sequence.crf(np.zeros((2, 5, 3)), np.zeros(labels, int), **options)


# --- what is stored: no clock is read -------------------------------------------------------------


def program(loss, rows, places, classes):
    shapes = (
        jax.ShapeDtypeStruct((rows, places, classes), jnp.float32),
        jax.ShapeDtypeStruct((classes, classes), jnp.float32),
        jax.ShapeDtypeStruct((rows, places), jnp.int32),
    )
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).lower(*shapes).compile(AS_USERS_DO)


def mean_crf(logits, steps, labels):
    return jl.mean(jl.sequence.crf)(logits, labels, transitions=steps)


def by_autodiff(logits, steps, labels):
    """The textbook's scan, which autodiff stores every step of."""
    del labels
    steps = jnp.broadcast_to(steps, (logits.shape[0], *steps.shape))

    def step(prefix, z):
        return z + jax.nn.logsumexp(prefix[..., None] + steps, axis=-2), None

    first, rest = logits[:, 0], jnp.moveaxis(logits[:, 1:], 1, 0)
    return jnp.mean(jax.nn.logsumexp(jax.lax.scan(step, first, rest)[0], axis=-1))


def test_the_gradient_of_crf_stores_no_pair_of_classes_a_place():
    rows, places, classes = 16, 256, 32
    of_logits = 4 * rows * places * classes
    found, measure = (
        program(loss, rows, places, classes).memory_analysis().temp_size_in_bytes
        for loss in (mean_crf, by_autodiff)
    )
    assert found <= 5 * of_logits
    assert measure >= classes * of_logits


def test_the_gradient_of_crf_does_not_scatter():
    assert "scatter(" not in program(mean_crf, 4, 8, 5).as_text()
