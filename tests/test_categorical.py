"""A class that is not there, excluded by a logit of −∞ or a mask, spoils no value and no derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import categorical, divergence

# The first class is not there.
LOGITS, TEACHER = np.array([-np.inf, 1.0, 2.0]), np.array([-np.inf, 2.0, 0.0])
THERE = np.array([False, True, True])
WITHOUT = np.array([0.0, 1.0, 1.0])


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"label_smoothing": 0.1, "z_loss": 0.1}])
@pytest.mark.parametrize("label", [0, np.array([1.0, 0.0, 0.0])], ids=["id", "one-hot"])
def test_a_label_that_is_not_there_costs_infinity_however_it_is_smoothed(label, options):
    of_logits = jax.value_and_grad(
        lambda z: categorical.cross_entropy(z, label, class_where=THERE, **options)
    )
    value, slopes = of_logits(np.array([0.0, 1.0, 2.0]))
    assert value == np.inf
    assert np.all(np.isfinite(slopes))


@pytest.mark.parametrize("loss", [categorical.cross_entropy, categorical.nll, categorical.focal])
@pytest.mark.parametrize("label", [0, np.array([1.0, 0.0, 0.0])], ids=["id", "one-hot"])
def test_a_class_that_counts_nothing_costs_nothing_though_it_is_not_there(loss, label):
    value, slopes = jax.value_and_grad(lambda z: loss(z, label, class_weights=WITHOUT))(LOGITS)
    np.testing.assert_array_equal(value, 0)
    np.testing.assert_array_equal(slopes, 0)


@pytest.mark.parametrize("leading", [0.0, 1e4, 1e12])
def test_the_logit_of_a_class_that_never_occurs_costs_the_others_no_digit(leading):
    logits = np.array([leading, 0.3, 0.2], np.float32)
    found = categorical.balanced_softmax(logits, 1, class_counts=np.array([0, 2, 1]))
    np.testing.assert_allclose(found, np.log1p(0.5 * np.exp(-0.1)), rtol=1e-6)


def test_hyperparameters_that_multiply_logits_have_their_derivative_beside_a_class_that_is_not_there():
    def of_three(scale):
        return (
            categorical.ldam(LOGITS, 1, class_counts=np.array([9, 2, 1]), scale=scale),
            divergence.distillation(LOGITS, TEACHER, temperature=scale),
        )

    def of_two(scale):
        return (
            categorical.ldam(LOGITS[1:], 0, class_counts=np.array([2, 1]), scale=scale),
            divergence.distillation(LOGITS[1:], TEACHER[1:], temperature=scale),
        )

    found, expected = (jax.jacrev(losses)(2.0) for losses in (of_three, of_two))
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize("label", [0, np.array([1.0, 0.0, 0.0])], ids=["id", "one-hot"])
def test_what_counts_nothing_costs_nothing_though_it_is_infinite(label):
    softened = divergence.distillation(LOGITS, TEACHER)
    np.testing.assert_array_equal(divergence.distillation(LOGITS, TEACHER, label, alpha=1.0), softened)
    impossible = np.array([0.0, 2.0, 0.0])  # a teacher who expects what the student excludes
    found = divergence.distillation(LOGITS, impossible, 1, alpha=0.0)
    np.testing.assert_array_equal(found, categorical.cross_entropy(LOGITS, 1))


@pytest.mark.parametrize(
    "loss",
    [
        categorical.cross_entropy,
        categorical.bi_tempered_logistic,
        categorical.focal,
        lambda z, y: divergence.renyi(jax.nn.log_softmax(z), y),
    ],
)
def test_the_curvature_is_that_of_the_classes_that_there_are(loss):
    share = np.array([0.0, 0.25, 0.75])
    found = jax.hessian(loss)(LOGITS, share)
    np.testing.assert_array_equal(jnp.isnan(found), False)
    np.testing.assert_allclose(found[1:, 1:], jax.hessian(loss)(LOGITS[1:], share[1:]), rtol=1e-12)
    np.testing.assert_array_equal(found[0], 0)


@pytest.mark.parametrize("dtype", [int, float])
def test_a_mask_of_classes_that_is_not_bool_is_refused_in_words(dtype):
    with pytest.raises(TypeError, match="cross_entropy: `class_where` must be bool, got"):
        categorical.cross_entropy(TEACHER, 1, class_where=THERE.astype(dtype))
