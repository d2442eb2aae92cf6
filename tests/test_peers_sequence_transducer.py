"""The transducer beside the recursion of its paper over states, in NumPy, and what it stores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import COUNTED, LAID_OUT

import jaxloss as jl

ROWS, FRAMES, LABELS, CLASSES = 3, 6, 4, 5


@functools.cache
def transduced():
    """Logits, labels, and how many there are of each frame and label: one row has none of the latter."""
    random = np.random.default_rng(7)
    logits = random.standard_normal((ROWS, FRAMES, LABELS + 1, CLASSES))
    return logits, random.integers(1, CLASSES, (ROWS, LABELS)), np.array([6, 4, 5]), np.array([4, 3, 0])


def masks():
    _, _, frames, labels = transduced()
    return {
        "logit_where": np.arange(FRAMES) < frames[:, None],
        "label_where": np.arange(LABELS) < labels[:, None],
    }


def lattice(logits, labels, blank=0):
    """Of one row, as in torchaudio: log-probabilities of coming to each state, and from each to the end."""
    log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    frames, states = log_p.shape[:2]
    ahead = np.full((frames, states), -np.inf)
    behind = np.full((frames + 1, states + 1), -np.inf)
    ahead[0, 0] = 0
    for t, n in np.ndindex(frames, states):
        if t:
            ahead[t, n] = ahead[t - 1, n] + log_p[t - 1, n, blank]
        if n:
            ahead[t, n] = np.logaddexp(ahead[t, n], ahead[t, n - 1] + log_p[t, n - 1, labels[n - 1]])
    behind[frames, states - 1] = 0
    for t, n in sorted(np.ndindex(frames, states), reverse=True):
        said = behind[t, n + 1] + log_p[t, n, labels[n]] if n < states - 1 else -np.inf
        behind[t, n] = np.logaddexp(behind[t + 1, n] + log_p[t, n, blank], said)
    return log_p, ahead, behind


def by_states(logits, labels, blank=0):
    """The loss of one row and its gradient, eq. 16 to 20 of Graves (2012)."""
    log_p, ahead, behind = lattice(logits, labels, blank)
    frames, states = ahead.shape
    slopes = np.zeros_like(log_p)
    for t, n in np.ndindex(frames, states):
        reached = ahead[t, n] - behind[0, 0]
        slopes[t, n] = np.exp(reached + behind[t, n] + log_p[t, n])
        slopes[t, n, blank] -= np.exp(reached + behind[t + 1, n] + log_p[t, n, blank])
        if n < states - 1:
            slopes[t, n, labels[n]] -= np.exp(reached + behind[t, n + 1] + log_p[t, n, labels[n]])
    return -behind[0, 0], slopes


def test_the_transducer_is_the_recursion_over_states_of_each_length():
    logits, labels, frames, lengths = transduced()

    @jax.jit
    def run(logits):
        found, back = jax.vjp(lambda z: jl.sequence.transducer(z, labels, **masks()), logits)
        return found, back(jnp.ones(ROWS))[0]

    found, slopes = run(logits)
    for row, (t, n) in enumerate(zip(frames, lengths, strict=True)):
        value, expected = by_states(logits[row, :t, : n + 1], labels[row, :n])
        np.testing.assert_allclose(found[row], value, rtol=1e-13)
        np.testing.assert_allclose(slopes[row, :t, : n + 1], expected, atol=1e-14)
        assert not np.any(slopes[row, t:])
        assert not np.any(slopes[row, :, n + 1 :])


def test_a_long_transducer_keeps_its_gradient_in_float32():
    random = np.random.default_rng(8)
    logits = 3 * random.standard_normal((150, 41, 4))
    labels = random.integers(1, 4, 40)
    value, expected = by_states(logits.astype(np.float32).astype(float), labels)
    found, slopes = jax.jit(jax.value_and_grad(jl.sequence.transducer))(logits.astype(np.float32), labels)
    np.testing.assert_allclose(found, value, rtol=1e-6)
    np.testing.assert_allclose(slopes, expected, atol=1e-5)


def test_another_blank_is_the_same_with_the_classes_renamed():
    logits, labels, *_ = transduced()
    turned = jl.sequence.transducer(np.roll(logits, -1, axis=-1), labels - 1, blank=CLASSES - 1)
    np.testing.assert_allclose(turned, jl.sequence.transducer(logits, labels), rtol=1e-14)


def test_log_probabilities_are_logits():
    logits, labels, *_ = transduced()
    logs = np.asarray(jax.nn.log_softmax(logits))
    expected = jl.sequence.transducer(logits, labels)
    np.testing.assert_allclose(jl.sequence.transducer(logs, labels), expected, rtol=1e-14)


def test_labels_leave_the_middle_with_the_state_after_them():
    logits, labels, *_ = transduced()
    kept, there = np.array([0, 2, 3, 5]), np.array([0, 3])
    found = jl.sequence.transducer(
        logits,
        labels,
        logit_where=np.broadcast_to(np.isin(np.arange(FRAMES), kept), (ROWS, FRAMES)),
        label_where=np.broadcast_to(np.isin(np.arange(LABELS), there), (ROWS, LABELS)),
    )
    states = np.array([0, 1, 4])
    few = jl.sequence.transducer(logits[:, kept][:, :, states], labels[:, there])
    np.testing.assert_allclose(found, few, rtol=1e-13)


def test_what_is_masked_may_hold_anything_in_every_derivative():
    logits, labels, *_ = transduced()
    mask = masks()
    states = np.concatenate([np.ones((ROWS, 1), bool), mask["label_where"]], axis=1)
    held = mask["logit_where"][:, :, None] & states[:, None]
    spoiled = np.where(held[..., None], logits, np.nan)
    wrong = np.where(mask["label_where"], labels, 99)

    def total(z, y):
        return jnp.sum(jl.sequence.transducer(z, y, **mask))

    direction = np.cos(np.arange(logits.size)).reshape(logits.shape)

    @jax.jit
    def derivatives(z, y):
        bent = jax.jvp(lambda z: jax.grad(total)(z, y), (z,), (direction,))[1]
        return *jax.value_and_grad(total)(z, y), bent

    for found, expected in zip(derivatives(spoiled, wrong), derivatives(logits, labels), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_no_labels_are_said_by_blanks_alone_and_no_frames_say_no_labels():
    logits = transduced()[0]
    silent = logits[:, :, 0]
    expected = -np.sum(silent[..., 0] - np.logaddexp.reduce(silent, axis=-1), axis=-1)
    none = np.zeros((ROWS, 0), int)
    np.testing.assert_allclose(jl.sequence.transducer(logits[:, :, :1], none), expected, rtol=1e-13)
    np.testing.assert_array_equal(jl.sequence.transducer(logits[:, :0, :1], none), np.zeros(ROWS))


def test_labels_without_frames_cost_infinity_unless_asked_and_have_no_gradient():
    logits, labels, *_ = transduced()
    heard = np.arange(ROWS)[:, None] > np.zeros(FRAMES)

    @jax.jit
    def losses_and_slopes(zero):
        losses, back = jax.vjp(
            lambda z: jl.sequence.transducer(z, labels, logit_where=heard, zero_infinity=zero), logits
        )
        return losses, back(jnp.ones(ROWS))[0]

    (infinite, lost), (nothing, kept) = (losses_and_slopes(zero) for zero in (False, True))
    assert infinite[0] == np.inf
    assert nothing[0] == 0
    assert not np.any([lost[0], kept[0]])
    np.testing.assert_array_equal(lost[1:], kept[1:])


def test_orders_that_are_all_ruled_out_have_a_nan_gradient_unless_asked():
    logits = np.zeros((1, 3, 3, CLASSES))
    logits[:, :, 0, 1] = -np.inf  # the first label is never said

    @jax.jit
    def loss_and_slopes(zero):
        loss = functools.partial(jl.sequence.transducer, labels=np.array([[1, 2]]), zero_infinity=zero)
        losses, back = jax.vjp(loss, logits)
        return losses[0], back(jnp.ones(1))[0]

    (infinite, lost), (nothing, kept) = map(loss_and_slopes, (False, True))
    assert (infinite, nothing) == (np.inf, 0)
    assert np.all(np.isnan(lost))
    assert not np.any(kept)


def test_a_confident_order_in_float32_is_not_negative_and_loses_no_digit():
    labels = np.array([1, 2])
    logits = 17 * np.broadcast_to(np.eye(3)[[1, 2, 0]], (3, 3, 3))
    run = jax.jit(jax.value_and_grad(jl.sequence.transducer))
    (found, slopes), (exact, exact_slopes) = (run(z, labels) for z in (logits.astype(np.float32), logits))
    assert 0 < exact < 1e-6
    np.testing.assert_allclose(found, exact, rtol=1e-5)
    # Of 4e-8: at the first states the share of blanks and the share that is not said cancel.
    np.testing.assert_allclose(slopes, exact_slopes, rtol=1e-4, atol=1e-13)


@pytest.mark.parametrize(
    ("logits", "labels"), [((2, 5, 3, 3), (2, 3)), ((2, 5, 3, 3), (3, 2)), ((5, 3), (2,))]
)
def test_shapes_that_do_not_fit_are_refused_in_words(logits, labels):
    with pytest.raises(ValueError, match=r"sequence.transducer: `\w+` .* must have"):
        jl.sequence.transducer(np.zeros(logits), np.ones(labels, int))


# --- what is stored: no clock is read -------------------------------------------------------------


@functools.cache
def program():
    shapes = (jax.ShapeDtypeStruct((4, 32, 17, 256), jnp.float32), jax.ShapeDtypeStruct((4, 16), jnp.int32))
    return jax.jit(jax.value_and_grad(jl.mean(jl.sequence.transducer))).lower(*shapes).compile(LAID_OUT)


@COUNTED
def test_the_transducer_stores_a_fraction_of_the_logits():
    assert program().memory_analysis().temp_size_in_bytes < 4 * 4 * 32 * 17 * 256 / 4


def test_the_transducer_does_not_scatter():
    assert "scatter(" not in program().as_text()
