"""Weighers that need the inner products of the tasks' gradients: as many backward passes as losses."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxloss.weighting import gram as of_gram
from jaxloss.weighting._contracts import Option, at, matching_gram, one_a_task, option
from jaxloss.weighting.pairs import (
    GradientWeigher,
    KeyState,
    StepState,
    count,
    first_key,
    first_step,
    learner,
    ones,
    where,
)


class GradNormState(NamedTuple):
    """The memory of `gradnorm`: its weights, the losses it started from, and what its optimizer keeps."""

    step: Array
    weights: Array
    first: Array
    learner: Any


def gradnorm(
    *, alpha: Option = 1.5, learning_rate: Option | None = None, optimizer: Any = None
) -> GradientWeigher:
    """Bring the weighted gradients to one length, longer for the tasks that learn more slowly.

        G_i = w_i ‖g_i‖,   Ḡ = Σ G_i / K,   r_i = (ℓ_i / ℓ_i(0)) / mean_j (ℓ_j / ℓ_j(0))
        w_i ← w_i − η ∂/∂w_i Σ |G_j − T_j|,   T_j = Ḡ r_j^alpha held constant
        w ← K w / Σ w_j

    So G_i = Ḡ r_i^alpha up to a common factor is where it comes to rest. The slope, ± ‖g_i‖, does not
    shrink on the way there: a rate that falls, or an optimizer, settles. A weight stays at 0 or above.

    Args:
        alpha: how much longer a slow task's gradient is to be; 0 makes all alike.
        learning_rate: of gradient descent on w, 0.025 unless told; a number or a schedule.
        optimizer: any Optax optimizer of w.

    Returns:
        A `GradientWeigher`. Take the gradients over the last layer that the tasks share, as the paper
        does, by `shared=` of `value_and_grad`. A loss that starts at 0 counts as never having moved, and
        losses that are all 0 as equally far.

    Raises:
        ValueError: both ways of learning, or an option out of range.

    Reference:
        Chen, Badrinarayanan, Lee & Rabinovich (2018), GradNorm: Gradient Normalization for Adaptive Loss
        Balancing in Deep Multitask Networks, Eq. 1-2 and Algorithm 1.
    """
    alpha = option("gradnorm", "alpha", alpha)
    learn = learner("gradnorm", learning_rate, optimizer)

    def init(tasks: int) -> GradNormState:
        return GradNormState(count(), ones(tasks), ones(tasks), learn.init(ones(tasks)))

    def update(losses: ArrayLike, state: GradNormState, gram: ArrayLike) -> tuple[Array, GradNormState]:
        weights = state.weights
        losses, gram = one_a_task(losses, weights), matching_gram(gram, weights)
        first = jnp.where(state.step > 0, state.first, losses)
        lengths = of_gram.norms(gram)
        progress = jnp.where(first == 0, 1, losses / jnp.where(first == 0, 1, first))
        mean = jnp.mean(progress)
        rate = jnp.where(mean == 0, 1, progress / jnp.where(mean == 0, 1, mean))
        weighted = weights * lengths
        target = jnp.mean(weighted) * rate ** at("gradnorm", "alpha", alpha, state.step, weights)
        slope = jnp.sign(weighted - target) * lengths
        moved, memory = learn.step(weights, slope, state.learner, state.step)
        moved = jnp.where(moved < 0, 0, moved)
        total = jnp.sum(moved)
        moved = jnp.where(total == 0, weights, losses.size * moved / jnp.where(total == 0, 1, total))
        return weights, GradNormState(state.step + 1, moved, first, memory)

    return GradientWeigher(init, update)


def pcgrad(key: ArrayLike) -> GradientWeigher:
    """Project each task's gradient off those it conflicts with, in random order, and add them up.

        g_i^PC = g_i;  for j ≠ i in random order, where ⟨g_i^PC, g_j⟩ < 0:
        g_i^PC ← g_i^PC − ⟨g_i^PC, g_j⟩ / ‖g_j‖² g_j
        the step is Σ g_i^PC;  w_i = 1 without conflicts

    Two tasks are left without a conflict: ⟨g_i^PC, g_j⟩ >= 0. Among three or more a later projection may
    bring back what an earlier one removed, and only the last one is sure to hold.

    Args:
        key: a JAX random key, or an integer seed.

    Returns:
        A `GradientWeigher`.

    Raises:
        TypeError: `key` is no key.

    Reference:
        Yu, Kumar, Gupta, Levine, Hausman & Finn (2020), Gradient Surgery for Multi-Task Learning,
        Algorithm 1.
    """

    def update(losses: ArrayLike, state: KeyState, gram: ArrayLike) -> tuple[Array, KeyState]:
        one_a_task(losses, state.weights)
        gram = matching_gram(gram, state.weights)
        key, draw = jax.random.split(state.key)
        order = jnp.argsort(jax.random.uniform(draw, gram.shape), axis=1)
        weights = jnp.sum(of_gram.without_conflicts(gram, order), axis=0)
        weights = _seen(gram, weights)
        return weights, KeyState(key, weights)

    return GradientWeigher(first_key("pcgrad", key), update)


def mgda() -> GradientWeigher:
    """The shortest convex combination of the gradients, against which no loss rises.

        w = argmin ‖Σ w_i g_i‖²  over  w_i >= 0, Σ w_i = 1

    It is 0 where no loss can fall without another rising. A short gradient has much weight: of losses in
    unlike units, the smallest rules.

    Returns:
        A `GradientWeigher` of `gram.min_norm`.

    Reference:
        Désidéri (2012), Multiple-gradient descent algorithm (MGDA) for multiobjective optimization;
        Sener & Koltun (2018), Multi-Task Learning as Multi-Objective Optimization, Eq. 3.
    """
    return _by_gram(lambda gram, _: of_gram.min_norm(gram))


def cagrad(*, c: Option = 0.4) -> GradientWeigher:
    """The step that helps the worst-off task most, not far from the mean gradient g_0.

        d = argmax min_i ⟨g_i, d⟩  over  ‖d − g_0‖ <= c ‖g_0‖

    Args:
        c: the radius as a share of ‖g_0‖, in [0, 1), where descent of the mean loss is sure; 0 is the mean.

    Returns:
        A `GradientWeigher` of `gram.conflict_averse`, whose weights sum to 1 and more.

    Raises:
        ValueError: `c` is out of range.

    Reference:
        Liu, Liu, Jin, Stone & Liu (2021), Conflict-Averse Gradient Descent for Multi-task Learning,
        Algorithm 1.
    """
    c = option("cagrad", "c", c, low=0, high=1, strict="high")

    def solve(gram: Array, state: StepState) -> Array:
        return of_gram.conflict_averse(gram, at("cagrad", "c", c, state.step, gram[0, 0]))

    return _by_gram(solve)


def imtl_g() -> GradientWeigher:
    """The combination whose projections on all tasks' gradients are equally long.

        ⟨Σ w_j g_j, g_i⟩ / ‖g_i‖ = p  for each task i,   Σ w_i = 1

    The losses' units do not change the step's direction, only its length. A weight may be negative.

    Returns:
        A `GradientWeigher` of `gram.impartial`.

    Reference:
        Liu, Li, Kuang, Xue, Chen, Yang, Liao & Zhang (2021), Towards Impartial Multi-task Learning,
        section 3.1.
    """
    return _by_gram(lambda gram, _: of_gram.impartial(gram))


def nash_mtl() -> GradientWeigher:
    """The Nash bargaining solution: the step that all tasks gain from in proportion.

        G w = 1 / w,  w_i > 0

    The losses' units change nothing but the weights. The step's length is √K wherever it is taken, so let
    the rate fall, or clip it by `optax.clip_by_global_norm(1.0)` as the authors do.

    Returns:
        A `GradientWeigher` of `gram.bargain`.

    Reference:
        Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik & Fetaya (2022), Multi-Task Learning as a
        Bargaining Game, Claim 3.1 and Algorithm 1.
    """
    return _by_gram(lambda gram, _: of_gram.bargain(gram))


def _by_gram(solve: Callable[[Array, StepState], Array]) -> GradientWeigher:
    """A method that is a function of this step's Gram matrix."""

    def update(losses: ArrayLike, state: StepState, gram: ArrayLike) -> tuple[Array, StepState]:
        one_a_task(losses, state.weights)
        gram = matching_gram(gram, state.weights)
        weights = _seen(gram, solve(gram, state))
        return weights, StepState(state.step + 1, weights)

    return GradientWeigher(first_step, update)


def _seen(gram: Array, weights: Array) -> Array:
    """The weights, NaN if anything they come from is not finite: no gradient is left out in silence."""
    return where(jnp.all(jnp.isfinite(gram)), weights, jnp.full_like(weights, jnp.nan))
