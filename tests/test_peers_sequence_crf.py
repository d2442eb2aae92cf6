"""Chains of labels beside every chain counted out, and beside the same written step by step in NumPy."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import LAID_OUT

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


def derivatives(f):
    """The value, its gradient and its Hessian by logits and scores."""

    def run(logits, scores):
        derived = jax.value_and_grad(f, argnums=(0, 1)), jax.hessian(f, argnums=(0, 1))
        return [of(logits, scores) for of in derived]

    return jax.jit(run)


def test_crf_is_every_chain_counted_out_whatever_a_place_that_is_not_there_holds():
    logits, _, scores, where = tagged()
    found = derivatives(functools.partial(total, where=where))(spoiled(), scores)
    expected = derivatives(counted_out)(logits, scores)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


def test_the_second_order_is_the_same_in_every_mode():
    _, _, scores, where = tagged()
    modes = [(jax.jacfwd, jax.jacrev), (jax.jacrev, jax.jacrev), (jax.jacfwd, jax.jacfwd)]

    def of_transitions(steps):
        return total(spoiled(), scores | {"transitions": steps}, where)

    run = jax.jit(lambda steps: [outer(inner(of_transitions))(steps) for outer, inner in modes])
    hessian, *others = run(scores["transitions"])
    for other in others:
        np.testing.assert_allclose(other, hessian, atol=1e-13)


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
    run = jax.jit(jax.value_and_grad(jl.sequence.crf))
    (found, slopes), (exact, exact_slopes) = (run(z, labels) for z in (logits.astype(np.float32), logits))
    assert 0 < exact < 1e-6
    np.testing.assert_allclose(found, exact, rtol=1e-6)
    np.testing.assert_allclose(slopes, exact_slopes, rtol=1e-5)


def test_a_forbidden_transition_is_taken_by_no_chain():
    logits = np.zeros((3, 2))
    forbidden = np.array([[0.0, 0.0], [-np.inf, 0.0]])
    # 000, 001, 011 and 111 are left.

    @jax.jit
    def crf(labels):
        def of(logits, steps):
            return jl.sequence.crf(logits, labels, transitions=steps)

        return jax.value_and_grad(of, argnums=(0, 1))(logits, forbidden)

    value, (_, by_steps) = crf(np.array([0, 0, 1]))
    np.testing.assert_allclose(value, np.log(4), rtol=1e-14)
    np.testing.assert_allclose(by_steps, [[-0.25, 0.0 - 0.5], [0.0, 0.75]], atol=1e-14)
    value, (of_logits, _) = crf(np.array([1, 0, 0]))
    assert value == np.inf
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
    total = jax.grad(lambda z: jnp.sum(jl.sequence.crf(z, wrong, where=where, **scores)))
    slopes = jax.jit(total)(logits)
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


@functools.cache
def program(loss):
    shapes = (
        jax.ShapeDtypeStruct((16, 256, 32), jnp.float32),
        jax.ShapeDtypeStruct((32, 32), jnp.float32),
        jax.ShapeDtypeStruct((16, 256), jnp.int32),
    )
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).lower(*shapes).compile(LAID_OUT)


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
    of_logits = 4 * 16 * 256 * 32
    found, measure = (program(loss).memory_analysis().temp_size_in_bytes for loss in (mean_crf, by_autodiff))
    assert found <= 5 * of_logits
    assert measure >= 32 * of_logits


def test_the_gradient_of_crf_does_not_scatter():
    assert "scatter(" not in program(mean_crf).as_text()
