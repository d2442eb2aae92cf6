"""The suite is tested: every mutant of every loss is caught by the checks that judge the loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import support
from oracles import CASES, ROWS

import jaxloss as jl
from jaxloss._loss import CARDS

CASE_OF = {case.loss: case for case in CASES}
# A mean knows of a loss what it takes: one loss of each kind.
ONE_OF_A_KIND = pytest.mark.parametrize(
    "case", {CARDS[case.loss].task: case for case in CASES}.values(), ids=lambda case: case.loss
)
EACH_LOSS = pytest.mark.parametrize("case", CASE_OF.values(), ids=lambda case: case.loss)


def flipped_on_a_branch(losses, slope, first):
    """A wrong sign in the gradient where the prediction is below the other rows'."""
    return losses, np.where(first < np.median(first), -slope, slope)


# What each makes of the losses and their slope.
MUTANTS = {
    "negated": lambda losses, slope, _: (-losses, -slope),
    "larger by a millionth": lambda losses, slope, _: (losses * (1 + 1e-6), slope * (1 + 1e-6)),
    "shifted by a millionth": lambda losses, slope, _: (losses + 1e-6, slope),
    "halved": lambda losses, slope, _: (0.5 * losses, 0.5 * slope),
    "gradient stopped": lambda losses, slope, _: (losses, np.zeros_like(slope)),
    "gradient's sign flipped on a branch": flipped_on_a_branch,
}


def caught(loss, case) -> bool:
    """Whether a check of value or gradient refuses a loss."""
    for data, options in support.pool(case, calm=True):
        for check in (support.check_value, support.check_gradient):
            try:
                check(loss, case, data, options)
            except AssertionError:
                return True
    return False


@EACH_LOSS
def test_the_loss_itself_passes(case):
    assert not caught(support.loss_of(case), case)


@EACH_LOSS
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(case, name):
    assert caught(support.Mutant(support.loss_of(case), MUTANTS[name]), case)


def mean_that_zeroes_losses(loss):
    """A reduction that masks the loss alone: 0·NaN is NaN in the gradient."""

    def reduced(*data, where, weights, **options):
        kept = jnp.broadcast_to(where, weights.shape)
        losses = jnp.where(kept, loss(*data, **options), 0)
        weights = jnp.where(kept, weights, 0)
        return jnp.sum(jnp.where(kept, losses * weights, 0)) / jnp.sum(weights)

    return reduced


def judge_mean(case, change=None, reduction=jl.mean):
    data, options = support.examples(case, 1, calm=True)[0]
    # The id that a row is ignored for would be a second mask.
    options.pop("ignore_index", None)
    options.pop("where", None)
    weights = 1 + np.arange(ROWS) / 8
    loss, removed = support.loss_of(case), [1, 4, 6]
    support.check_masked(
        loss, case, data, options, removed, np.nan, weights, reduction=reduction, change=change
    )


def without_where(run):
    """A mean that forgets its mask."""
    return lambda data, options, where, weights: run(data, options, np.ones_like(where), weights)


def over_all_rows(run):
    """A mean that divides by the removed rows too."""

    def changed(data, options, where, weights):
        return jax.tree.map(lambda x: np.mean(where) * x, run(data, options, where, weights))

    return changed


MEANS = {"mask dropped": without_where, "divided by all rows": over_all_rows}


@ONE_OF_A_KIND
def test_the_mean_itself_passes(case):
    judge_mean(case)


@ONE_OF_A_KIND
@pytest.mark.parametrize("name", MEANS)
def test_a_mutant_of_the_mean_is_caught(case, name):
    with pytest.raises(AssertionError):
        judge_mean(case, MEANS[name])


def test_a_mask_over_the_loss_alone_is_caught():
    case = CASE_OF["robust.pseudo_huber"]
    with pytest.raises(AssertionError):
        judge_mean(case, reduction=mean_that_zeroes_losses)
