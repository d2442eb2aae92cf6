"""What the items of a list that are not there hold reaches nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import support

import jaxloss as jl
from jaxloss._loss import CARDS

RNG = np.random.default_rng(1)
SCORES, LABELS = RNG.normal(size=(3, 5)), RNG.integers(0, 2, (3, 5)).astype(float)
KEPT = [0, 2, 3]
WHERE = np.broadcast_to(np.isin(np.arange(5), KEPT), (3, 5))
EACH = pytest.mark.parametrize(
    "card", [c for c in CARDS.values() if c.task == "ranking"], ids=lambda c: c.name
)


@functools.cache
def derivatives(loss):
    """The mean with its derivatives of both orders, compiled once for each shape."""

    def run(scores, labels, where):
        def mean(scores, labels):
            return jl.mean(loss)(scores, labels, where=where)

        def first_order(scores):
            value, gradients = jax.value_and_grad(mean, (0, 1))(scores, labels)
            return gradients[0], (value, *gradients)

        hessian, found = jax.jacfwd(first_order, has_aux=True)(scores)
        return *found, hessian

    return jax.jit(run)


@EACH
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_item_removed_is_an_item_dropped_in_value_and_both_orders(card, value):
    whole = derivatives(card.loss)(*(np.where(WHERE, array, value) for array in (SCORES, LABELS)), WHERE)
    few = derivatives(card.loss)(SCORES[:, KEPT], LABELS[:, KEPT], WHERE[:, KEPT])
    for of_all, of_few in zip(whole, few, strict=True):
        of_all = np.asarray(of_all)
        for axis in range(1, of_all.ndim, 2):
            assert not np.any(np.take(of_all, [1, 4], axis))
            of_all = np.take(of_all, KEPT, axis)
        support.close(of_all, of_few, 1.0, 1e-12)


@EACH
def test_a_nan_in_an_item_that_counts_for_no_pair_is_not_hidden(card):
    scores = np.array([0.0, np.nan, 1.0])
    assert np.isnan(card.loss(scores, np.ones(3)))
    assert np.isnan(card.loss(scores[1:2], np.ones(1)))


@pytest.mark.parametrize("name", ["pairwise_logistic", "pairwise_hinge", "bpr", "auc_squared_hinge"])
def test_items_ruled_out_by_a_score_of_minus_infinity_are_no_rivals(name):
    scores, labels = np.array([0.0, 1.0, -np.inf, -np.inf]), np.array([1.0, 0.0, 0.0, 0.0])
    loss = getattr(jl.ranking, name)
    value, slopes = jax.value_and_grad(loss)(scores, labels)
    expected, few = jax.value_and_grad(loss)(scores[:2], labels[:2])
    share = 3.0 if name in ("bpr", "auc_squared_hinge") else 1.0  # in the mean of three pairs
    np.testing.assert_allclose(value, expected / share, rtol=1e-12)
    np.testing.assert_allclose(slopes, np.append(few / share, [0, 0]), rtol=1e-12)


def test_the_auc_loss_of_a_common_offset_keeps_a_margin_below_its_rounding():
    scores, labels = np.full(4, 1e9, np.float32), np.array([1, 0, 0, 1], np.float32)
    assert jl.ranking.auc_squared_hinge(scores, labels) == 1
    assert jl.ranking.auc_squared_hinge(scores, 1 - labels) == 1


def test_the_auc_loss_of_many_items_loses_no_digit_to_their_number():
    random = np.random.default_rng(0)
    scores = random.normal(size=1 << 15).astype(np.float32)
    labels = (random.random(1 << 15) < 0.1).astype(np.float32)
    found = jl.ranking.auc_squared_hinge(scores, labels)
    leads = 1 - (scores[labels == 1].astype(float)[:, None] - scores[labels == 0])
    np.testing.assert_allclose(found, np.mean(np.maximum(leads, 0) ** 2), rtol=5e-7)


@EACH
def test_a_mask_of_lists_is_refused_in_words(card):
    with pytest.raises(ValueError, match="`where` "):
        card.loss(SCORES, LABELS, where=np.ones(3, bool))


def test_listmle_of_equal_labels_keeps_the_order_given():
    found = jl.ranking.listmle(np.array([1.0, 2.0]), np.zeros(2))
    np.testing.assert_allclose(found, jnp.log1p(jnp.exp(1.0)), rtol=1e-12)


TIED = {"listmle": np.log(24), "pairwise_logistic": 6 * np.log(2), "pairwise_hinge": 6.0}


@pytest.mark.parametrize("name", [*TIED, "approx_ndcg"])
def test_scores_of_minus_infinity_tie(name):
    loss, labels = getattr(jl.ranking, name), np.arange(4.0)
    infinite, moderate = (loss(np.full(4, score), labels) for score in (-np.inf, 0.0))
    np.testing.assert_allclose(infinite, moderate, rtol=1e-14)
    np.testing.assert_allclose(infinite, TIED.get(name, infinite), rtol=1e-14)
    scores = np.array([0.3, -np.inf, 1.0, -np.inf])
    for order in (jax.grad(loss), jax.hessian(loss)):
        found, far = order(scores, labels[::-1]), order(np.maximum(scores, -60), labels[::-1])
        tied = np.isinf(scores)
        assert np.all(np.isfinite(found))
        np.testing.assert_allclose(found[~tied], np.asarray(far)[~tied], atol=1e-12)


def test_grades_whose_gains_overflow_have_their_shares_of_them():
    scores, labels = np.array([1, 2, 0], np.float32), np.array([130, 129, 0], np.float32)
    exact = jl.ranking.approx_ndcg(scores.astype(np.float64), labels.astype(np.float64))
    np.testing.assert_allclose(jl.ranking.approx_ndcg(scores, labels), exact, rtol=1e-6)
