"""Sequence losses beside Optax's, torch's and Keras's, and the inputs at which a peer is wrong."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxloss as jl

ROWS, FRAMES, LABELS, CLASSES = 6, 12, 4, 5


@functools.cache
def spoken():
    """Logits, labels, and how many there are of each: a row has none of the latter, another one twice."""
    random = np.random.default_rng(3)
    logits = 2 * random.standard_normal((ROWS, FRAMES, CLASSES))
    labels = random.integers(1, CLASSES, (ROWS, LABELS))
    labels[2, 1] = labels[2, 0]
    return logits, labels, np.array([12, 12, 10, 9, 11, 8]), np.array([4, 0, 3, 1, 4, 2])


def masks():
    _, _, frames, labels = spoken()
    return {
        "logit_where": np.arange(FRAMES) < frames[:, None],
        "label_where": np.arange(LABELS) < labels[:, None],
    }


@functools.cache
def ours(blank=0):
    logits, labels, *_ = spoken()

    def total(z):
        losses = jl.sequence.ctc(z, (labels - (blank > 0)) % CLASSES, blank=blank, **masks())
        return jnp.sum(losses), losses

    gradient, losses = jax.jit(jax.grad(total, has_aux=True))(logits)
    return np.asarray(losses), np.asarray(gradient)


def same(found, expected, tolerance=1e-9):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=tolerance, atol=tolerance)


def test_ctc_is_optaxs():
    logits, labels, *_ = spoken()
    gone = [1.0 - mask for mask in masks().values()]

    def total(z):
        losses = optax.ctc_loss(z, gone[0], labels, gone[1])
        return jnp.sum(losses), losses

    # Optax adds Python floats to float64 and 1e-5 of a wrong path where a label is repeated.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        gradient, losses = jax.jit(jax.grad(total, has_aux=True))(logits)
    same(ours(), (losses, gradient), 1e-6)


@pytest.mark.parametrize("blank", [0, CLASSES - 1])
def test_ctc_is_torchs(blank):
    torch = pytest.importorskip("torch", reason="the peer is torch's ctc_loss")
    logits, labels, frames, lengths = spoken()
    leaf = torch.tensor(logits, requires_grad=True)
    losses = torch.nn.functional.ctc_loss(
        torch.log_softmax(leaf, -1).transpose(0, 1),
        torch.tensor((labels - (blank > 0)) % CLASSES),
        torch.tensor(frames),
        torch.tensor(lengths),
        blank=blank,
        reduction="none",
    )
    losses.sum().backward()
    same(ours(blank), (losses.detach(), leaf.grad))


def test_ctc_is_kerass():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras", reason="the peer is Keras's ctc_loss")
    logits, labels, frames, lengths = spoken()
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        losses = jax.jit(lambda z: keras.ops.ctc_loss(labels, z, lengths, frames, mask_index=0))(logits)
    same(ours()[:1], (losses,), 1e-5)


# --- where a peer is wrong ------------------------------------------------------------------------


def confident():
    """Frames that say blank and a label with certainty: the loss is some 1e-7, and not below 0."""
    names = np.array([[1, 1, 0, 2, 2, 0, 3, 3]])
    return (17 * np.eye(CLASSES)[names]).astype(np.float32), np.array([[1, 2, 3]])


def optaxs(logits, labels):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return jax.jit(optax.ctc_loss)(logits, np.zeros(logits.shape[:2]), labels, np.zeros(labels.shape))


def test_optax_is_negative_on_a_confident_alignment():
    logits, labels = confident()
    exact = jl.sequence.ctc(logits.astype(np.float64), labels)[0]
    assert 0 < exact < 1e-5
    found = optaxs(logits, labels)[0]
    assert found < 0 or abs(found / exact - 1) > 0.1


def test_ours_is_right_on_a_confident_alignment():
    logits, labels = confident()
    exact = jl.sequence.ctc(logits.astype(np.float64), labels)
    np.testing.assert_allclose(jl.sequence.ctc(logits, labels), exact, rtol=1e-5)


def test_an_impossible_alignment_costs_infinity_where_optax_says_a_number():
    logits, labels = np.zeros((1, 2, CLASSES), np.float32), np.array([[1, 1]])
    assert jl.sequence.ctc(logits, labels)[0] == np.inf
    assert optaxs(logits, labels)[0] < 2e5


def test_a_label_out_of_range_is_nan_where_optax_says_a_number():
    logits, labels = np.zeros((1, 4, CLASSES), np.float32), np.array([[9, 1]])
    assert np.isnan(jl.sequence.ctc(logits, labels)[0])
    assert np.isfinite(optaxs(logits, labels)[0])


# --- what no peer has -----------------------------------------------------------------------------


def test_an_impossible_alignment_has_no_gradient_unless_asked():
    logits, labels = np.zeros((2, 3, CLASSES)), np.array([[1, 1, 2], [1, 2, 3]])
    slopes = jax.jit(jax.grad(lambda z, zero: jnp.sum(jl.sequence.ctc(z, labels, zero_infinity=zero))))
    lost, kept = (slopes(logits, zero) for zero in (False, True))
    assert np.all(np.isnan(lost[0]))
    assert not np.any(kept[0])
    np.testing.assert_array_equal(lost[1], kept[1])
    assert jl.sequence.ctc(logits, labels, zero_infinity=True)[0] == 0


def test_no_labels_are_said_by_blanks_alone():
    logits = spoken()[0]
    expected = -np.sum(logits[..., 0] - np.logaddexp.reduce(logits, axis=-1), axis=-1)
    np.testing.assert_allclose(jl.sequence.ctc(logits, np.zeros((ROWS, 0), int)), expected, rtol=1e-12)


@pytest.mark.parametrize("labels", [[], [1]])
def test_what_is_certain_costs_zero_without_a_sign(labels):
    labels = np.array(labels, int)
    frames = np.full((2, 3), -1e4)
    frames[:, labels[0] if labels.size else 0] = 1e4
    turns = np.broadcast_to(frames[:, None], (2, 1, 3))
    certain = [jl.sequence.ctc(frames, labels)]
    certain += [] if labels.size else [jl.sequence.transducer(turns, labels)]
    assert not np.any(certain)
    assert not np.any(np.signbit(certain))


def test_no_frames_say_no_labels():
    empty = np.zeros((2, 0, CLASSES))
    np.testing.assert_array_equal(jl.sequence.ctc(empty, np.zeros((2, 0), int)), [0, 0])
    np.testing.assert_array_equal(jl.sequence.ctc(empty, np.ones((2, 1), int)), [np.inf, np.inf])


def test_masked_frames_and_labels_may_hold_anything():
    logits, labels, *_ = spoken()
    mask = masks()
    spoiled = np.where(mask["logit_where"][..., None], logits, np.nan)
    wrong = np.where(mask["label_where"], labels, 99)

    def total(z, y):
        return jnp.sum(jl.sequence.ctc(z, y, **mask))

    run = jax.jit(jax.value_and_grad(total))
    for found, expected in zip(run(spoiled, wrong), run(logits, labels), strict=True):
        np.testing.assert_array_equal(found, expected)
    bent = jax.jit(lambda z: jax.jvp(jax.grad(lambda z: total(z, wrong)), (z,), (jnp.ones_like(z),))[1])
    curvature = bent(spoiled)
    assert np.all(np.isfinite(curvature))


def test_a_mask_takes_frames_and_labels_out_of_the_middle():
    logits, labels, *_ = spoken()
    kept, there = np.array([0, 1, 3, 4, 6, 8, 9, 11]), np.array([0, 2, 3])
    found = jl.sequence.ctc(
        logits,
        labels,
        logit_where=np.broadcast_to(np.isin(np.arange(FRAMES), kept), (ROWS, FRAMES)),
        label_where=np.broadcast_to(np.isin(np.arange(LABELS), there), (ROWS, LABELS)),
    )
    np.testing.assert_allclose(found, jl.sequence.ctc(logits[:, kept], labels[:, there]), rtol=1e-12)


def test_a_masked_mean_of_rows_sees_no_impossible_one():
    logits, labels = np.zeros((2, 3, CLASSES)), np.array([[1, 1, 2], [1, 2, 3]])
    keep = np.array([False, True])
    mean = jax.value_and_grad(lambda z: jl.mean(jl.sequence.ctc)(z, labels, where=keep))
    value, slope = jax.jit(mean)(logits)
    np.testing.assert_allclose(value, jl.sequence.ctc(logits, labels)[1])
    assert not np.any(slope[0])


@pytest.mark.parametrize(
    ("logits", "labels", "options"),
    [
        ((2, 5, 3), (3, 2), {}),
        ((5, 3), (1, 2), {}),
        ((2, 5, 3), (2, 2), {"logit_where": np.ones((2, 4), bool)}),
        ((2, 5, 3), (2, 2), {"label_where": np.ones((2, 5), bool)}),
    ],
)
def test_shapes_that_do_not_fit_are_refused_in_words(logits, labels, options):
    with pytest.raises(ValueError, match=r"sequence.ctc: `\w+` .* must have"):
        jl.sequence.ctc(np.zeros(logits), np.ones(labels, int), **options)


@pytest.mark.parametrize(
    ("labels", "options", "match"),
    [
        (np.ones((2, 2)), {}, "class ids"),
        (np.ones((2, 2), int), {"label_where": np.ones((2, 2), int)}, "bool"),
    ],
)
def test_types_that_do_not_fit_are_refused_in_words(labels, options, match):
    with pytest.raises(TypeError, match=match):
        jl.sequence.ctc(np.zeros((2, 5, 3)), labels, **options)
