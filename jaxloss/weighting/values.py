"""Weighers that need the values of the losses alone: one backward pass, however many losses."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxloss.training._contracts import positive_count
from jaxloss.weighting._contracts import Option, at, one_a_task, option
from jaxloss.weighting.pairs import (
    KeyState,
    LossWeigher,
    StepState,
    count,
    first_key,
    first_step,
    learner,
    ones,
    where,
)

# --- without memory -----------------------------------------------------------------------------


def fixed(weights: Option = 1.0) -> LossWeigher:
    """The same weights at each step, or a schedule of them.

        w_i = weights_i

    Args:
        weights: one number, one for each task, or a function of the number of steps so far.

    Returns:
        A `LossWeigher`.

    Raises:
        TypeError: `weights` are not numbers.
    """
    weights = option("fixed", "weights", weights)

    def update(losses: ArrayLike, state: StepState) -> tuple[Array, StepState]:
        one_a_task(losses, state.weights)
        now = at("fixed", "weights", weights, state.step, state.weights)
        now = jnp.broadcast_to(now, state.weights.shape)
        return now, StepState(state.step + 1, now)

    return LossWeigher(first_step, update)


def random(key: ArrayLike) -> LossWeigher:
    """New weights at each step, drawn and not learned: what any cleverer method has to beat.

        w = softmax(z),  z_i ~ N(0, 1);   Σ w_i = 1,  E w_i = 1 / K

    Args:
        key: a JAX random key, or an integer seed.

    Returns:
        A `LossWeigher`.

    Raises:
        TypeError: `key` is neither.

    Reference:
        Lin, Ye, Zhang & Tsang (2022), Reasonable Effectiveness of Random Weighting: A Litmus Test for
        Multi-Task Learning, section 3 (random loss weighting with a normal distribution).
    """

    def update(losses: ArrayLike, state: KeyState) -> tuple[Array, KeyState]:
        one_a_task(losses, state.weights)
        key, draw = jax.random.split(state.key)
        shape, dtype = state.weights.shape, state.weights.dtype
        weights = jax.nn.softmax(jax.random.normal(draw, shape, dtype))
        return weights, KeyState(key, weights)

    return LossWeigher(first_key("random", key), update)


# --- learned ------------------------------------------------------------------------------------


class UncertaintyState(NamedTuple):
    """The memory of `uncertainty`: s_i = log σ_i² and what its optimizer keeps."""

    step: Array
    log_variances: Array
    learner: Any


def uncertainty(
    *, factor: Option = 0.5, learning_rate: Option | None = None, optimizer: Any = None
) -> LossWeigher:
    """Each loss over the variance of its task's noise, which is learned along.

        Σ factor_i exp(−s_i) ℓ_i + s_i / 2  is minimised in s as in the parameters
        w_i = factor_i exp(−s_i),   ∂/∂s_i = 1/2 − w_i ℓ_i

    So it comes to rest where each w_i ℓ_i = 1/2, at σ_i² = 2 factor_i ℓ_i.

    Args:
        factor: 1/2 for a mean squared error, 1 for a cross-entropy (the paper's Eq. 7 and 10); one
            number or one for each task.
        learning_rate: of gradient descent on s, 0.025 unless told; a number or a schedule. The slope
            grows with the loss, so give large losses an optimizer instead.
        optimizer: any Optax optimizer of s, such as `optax.adam(1e-3)`.

    Returns:
        A `LossWeigher`, of which the state's `log_variances` are s.

    Raises:
        ValueError: both ways of learning, or an option out of range.

    Reference:
        Kendall, Gal & Cipolla (2018), Multi-Task Learning Using Uncertainty to Weigh Losses for Scene
        Geometry and Semantics, Eq. 7 and 10.
    """
    factor = option("uncertainty", "factor", factor, low=0, strict="low")
    learn = learner("uncertainty", learning_rate, optimizer)

    def init(tasks: int) -> UncertaintyState:
        start = jnp.zeros_like(ones(tasks))
        return UncertaintyState(count(), start, learn.init(jnp.zeros_like(start)))

    def update(losses: ArrayLike, state: UncertaintyState) -> tuple[Array, UncertaintyState]:
        s = state.log_variances
        losses = one_a_task(losses, s)
        weights = at("uncertainty", "factor", factor, state.step, s) * jnp.exp(-s)
        s, memory = learn.step(s, 0.5 - weights * losses, state.learner, state.step)
        return weights, UncertaintyState(state.step + 1, s, memory)

    return LossWeigher(init, update)


class FamoState(NamedTuple):
    """The memory of `famo`: its logits ξ, and the losses before the last step and, if observed, after it."""

    step: Array
    logits: Array
    learner: Any
    before: Array
    after: Array
    observed: Array


def famo(
    *,
    decay: Option = 0.01,
    lower: Option = 0.0,
    epsilon: Option = 1e-8,
    learning_rate: Option | None = None,
    optimizer: Any = None,
) -> LossWeigher:
    """Lower all losses at one rate, by what the last step did to them and not by their gradients.

        z = softmax(ξ),   D_i = ℓ_i − lower_i + epsilon
        w_i = (z_i / D_i) / Σ z_j / D_j          Σ w_i = 1
        ξ ← ξ − η (J(ξ)ᵀ [log D_i(before) − log D_i(after)] + decay ξ),   J = ∂z / ∂ξ

    "After" is the next losses it is given: those of the next batch, at no cost. Where batches are small,
    what differs between them drowns what the step did: then compute the losses of the same batch again
    after the step, forward only, as the authors' code does, and give them to `observe`.

    Args:
        decay: γ, which draws the logits back together: in the authors' code 0.01, in the paper 0.001.
        lower: the least that each loss can be; below it weights are NaN.
        epsilon: keeps a loss at its least finite: it then has all of the weight.
        learning_rate: η of gradient descent on ξ, 0.025 unless told; a number or a schedule.
        optimizer: any Optax optimizer of ξ; the authors' code has `optax.adam(0.025)`.

    Returns:
        A `LossWeigher`, of which the state's `logits` are ξ.

    Raises:
        ValueError: both ways of learning, or an option out of range.

    Reference:
        Liu, Feng, Stone & Liu (2023), FAMO: Fast Adaptive Multitask Optimization, Algorithm 1.
    """
    decay = option("famo", "decay", decay, low=0)
    lower = option("famo", "lower", lower)
    epsilon = option("famo", "epsilon", epsilon, low=0)
    learn = learner("famo", learning_rate, optimizer)

    def init(tasks: int) -> FamoState:
        start = jnp.zeros_like(ones(tasks))
        memory = learn.init(jnp.zeros_like(start))
        return FamoState(count(), start, memory, ones(tasks), ones(tasks), jnp.zeros((), bool))

    def update(losses: ArrayLike, state: FamoState) -> tuple[Array, FamoState]:
        losses = one_a_task(losses, state.logits)

        def now(name: str, value: Option) -> Array:
            return at("famo", name, value, state.step, state.logits)

        def above(losses: Array) -> Array:
            return losses - now("lower", lower) + now("epsilon", epsilon)

        after = jnp.where(state.observed, state.after, losses)
        fallen = jnp.log(above(state.before)) - jnp.log(above(after))
        shares = jax.nn.softmax(state.logits)
        slope = shares * (fallen - shares @ fallen) + now("decay", decay) * state.logits
        learned = learn.step(state.logits, slope, state.learner, state.step)
        # Of the first losses nothing is known yet.
        logits, memory = where(state.step > 0, learned, (state.logits, state.learner))
        log_weights = jax.nn.log_softmax(logits) - jnp.log(above(losses))
        unknown = jnp.zeros_like(losses)
        new = FamoState(state.step + 1, logits, memory, losses, unknown, jnp.zeros((), bool))
        return jax.nn.softmax(log_weights), new

    return LossWeigher(init, update)


def observe(losses: ArrayLike, state: FamoState) -> FamoState:
    """Tell `famo` the losses of the same batch after the step.

    Args:
        losses: one for each task, as `update` was given them before the step.
        state: what that update returned.

    Returns:
        The state that learns from these at its next update, whatever batch that is of.
    """
    after = one_a_task(losses, state.logits)
    return state._replace(after=after, observed=jnp.ones((), bool))


# --- from the course of the losses --------------------------------------------------------------


class AverageState(NamedTuple):
    """The memory of `dynamic_average`: the sum of this period, the mean of the last, and the weights."""

    step: Array
    total: Array
    last: Array
    weights: Array


def dynamic_average(*, temperature: Option = 2.0, period: int = 1) -> LossWeigher:
    """More weight to a loss that falls more slowly than the others.

        w_i(t) = K softmax_i(r / temperature),   r_i = ℓ_i(t−1) / ℓ_i(t−2)      Σ w_i = K

    where ℓ_i(t) is the mean over a period, in the paper an epoch; all 1 in the first two.

    Args:
        temperature: how even the weights are.
        period: the number of steps that are averaged and weighed alike: set it to the batches of an epoch.

    Returns:
        A `LossWeigher`. A loss that was 0 and is not has all the weight; one that stays 0 has r = 1.

    Raises:
        TypeError: `period` is not an integer.
        ValueError: an option out of range.

    Reference:
        Liu, Johns & Davison (2019), End-to-End Multi-Task Learning with Attention, Eq. 7.
    """
    temperature = option("dynamic_average", "temperature", temperature, low=0, strict="low")
    period = positive_count("weighting.dynamic_average", "period", period)

    def init(tasks: int) -> AverageState:
        return AverageState(count(), jnp.zeros_like(ones(tasks)), ones(tasks), ones(tasks))

    def update(losses: ArrayLike, state: AverageState) -> tuple[Array, AverageState]:
        losses = one_a_task(losses, state.weights)
        total, step = state.total + losses, state.step + 1
        heat = at("dynamic_average", "temperature", temperature, step, losses)
        # What comes next: this period's mean against the last one's, where there are two.
        mean = total / period
        next_weights = losses.size * jax.nn.softmax(_ratio(mean, state.last) / heat)
        next_weights = jnp.where(step >= 2 * period, next_weights, 1)
        closed = (jnp.zeros_like(total), mean, next_weights)
        kept = where(step % period == 0, closed, (total, state.last, state.weights))
        return state.weights, AverageState(step, *kept)

    return LossWeigher(init, update)


def _ratio(now: Array, before: Array) -> Array:
    """now / before, 1 where both are 0, and finite where only the latter is."""
    still = (now == 0) & (before == 0)
    most = jnp.sqrt(jnp.finfo(now.dtype).max)
    return jnp.where(still, 1, jnp.minimum(now / jnp.where(still, 1, before), most))


class CourseState(NamedTuple):
    """The memory of the SoftAdapt methods: the losses of the last step."""

    step: Array
    last: Array


def softadapt(*, beta: Option = 0.1) -> LossWeigher:
    """More weight to a loss that rises, or falls more slowly, than the others.

        w = softmax(beta s),   s_i = ℓ_i(t) − ℓ_i(t−1)      Σ w_i = 1

    and s = 0 at the first step. The losses' units matter; of those of `softadapt_normalized`, each one's
    beside the others'.

    Args:
        beta: how much a rise counts; below 0 weight goes to the loss that falls fastest.

    Returns:
        A `LossWeigher`.

    Raises:
        ValueError: an option that is not a number.

    Reference:
        Heydari, Thompson & Mehmood (2019), SoftAdapt: Techniques for Adaptive Loss Weighting of Neural
        Networks with Multi-Part Loss Functions, section 3.1.
    """
    return _softadapt("softadapt", beta, lambda beta, rise, _: beta * rise)


def softadapt_normalized(*, beta: Option = 0.1) -> LossWeigher:
    """`softadapt` of rises as shares of all that changed.

        w = softmax(beta s / Σ |s_j|),   s_i = ℓ_i(t) − ℓ_i(t−1)      Σ w_i = 1

    Args and reference as for `softadapt`. Where no loss changed all weights are alike.
    The authors' later code divides by Σ s_j, which turns the order round where all losses fall.

    Returns:
        A `LossWeigher`.
    """

    def shares(beta: Array, rise: Array, _: Array) -> Array:
        total = jnp.sum(jnp.abs(rise))
        return beta * rise / jnp.where(total == 0, 1, total)

    return _softadapt("softadapt_normalized", beta, shares)


def softadapt_loss_weighted(*, beta: Option = 0.1) -> LossWeigher:
    """`softadapt` that counts how large a loss is as well.

        w_i = ℓ_i exp(beta s_i) / Σ ℓ_j exp(beta s_j),   s_i = ℓ_i(t) − ℓ_i(t−1)      Σ w_i = 1

    Args and reference (the loss-weighted variant) as for `softadapt`; the authors' code has the mean of the
    last losses for ℓ_i. Losses are positive; where all are 0 all weights are alike.

    Returns:
        A `LossWeigher`.
    """

    def sized(beta: Array, rise: Array, losses: Array) -> Array:
        return beta * rise + jnp.log(jnp.where(jnp.all(losses == 0), 1, losses))

    return _softadapt("softadapt_loss_weighted", beta, sized)


def _softadapt(who: str, beta: Option, score: Callable[[Array, Array, Array], Array]) -> LossWeigher:
    """The softmax of a score of beta, the rises and the losses."""
    beta = option(who, "beta", beta)

    def init(tasks: int) -> CourseState:
        return CourseState(count(), ones(tasks))

    def update(losses: ArrayLike, state: CourseState) -> tuple[Array, CourseState]:
        losses = one_a_task(losses, state.last)
        rise = jnp.where(state.step > 0, losses - state.last, 0)
        now = at(who, "beta", beta, state.step, losses)
        return jax.nn.softmax(score(now, rise, losses)), CourseState(state.step + 1, losses)

    return LossWeigher(init, update)


class LookbackState(NamedTuple):
    """The memory of `relobralo`: the first losses, the last ones, the weights and the next key."""

    step: Array
    first: Array
    last: Array
    weights: Array
    key: Array


def relobralo(
    key: ArrayLike, *, temperature: Option = 1.0, alpha: Option = 0.999, rho: Option = 0.9999
) -> LossWeigher:
    """More weight to a loss that falls more slowly, since the last step and now and then since the first.

        b_i(t, t') = K softmax_i(ℓ(t) / (temperature ℓ(t')))
        w(t) = alpha (ρ w(t−1) + (1 − ρ) b(t, 0)) + (1 − alpha) b(t, t−1),   ρ ~ Bernoulli(rho)
        Σ w_i = K

    and all 1 at the first step. Its memory is long: 1 / (1 − alpha) steps.

    Args:
        key: a JAX random key, or an integer seed.
        temperature: how even the weights are.
        alpha: how much of the weights is kept.
        rho: how often what is kept is the last weights; otherwise it looks back to the start.

    Returns:
        A `LossWeigher`. A loss that was 0 and is not counts infinitely slow; one that stays 0, as still.

    Raises:
        TypeError: `key` is no key.
        ValueError: an option out of range.

    Reference:
        Bischof & Kraus (2021), Multi-Objective Loss Balancing for Physics-Informed Deep Learning, the
        section on relative loss balancing with random lookback.
    """
    temperature = option("relobralo", "temperature", temperature, low=0, strict="low")
    alpha = option("relobralo", "alpha", alpha, low=0, high=1)
    rho = option("relobralo", "rho", rho, low=0, high=1)
    first = first_key("relobralo", key)

    def init(tasks: int) -> LookbackState:
        start = first(tasks)
        return LookbackState(count(), ones(tasks), ones(tasks), start.weights, start.key)

    def update(losses: ArrayLike, state: LookbackState) -> tuple[Array, LookbackState]:
        losses = one_a_task(losses, state.weights)

        def now(name: str, value: Option) -> Array:
            return at("relobralo", name, value, state.step, losses)

        def balanced(since: Array) -> Array:
            return losses.size * jax.nn.softmax(_ratio(losses, since) / now("temperature", temperature))

        next_key, draw = jax.random.split(state.key)
        keeps = jax.random.bernoulli(draw, now("rho", rho))
        start = jnp.where(state.step > 0, state.first, losses)
        kept, share = jnp.where(keeps, state.weights, balanced(start)), now("alpha", alpha)
        weights = share * kept + (1 - share) * balanced(state.last)
        weights = jnp.where(state.step > 0, weights, 1)
        return weights, LookbackState(state.step + 1, start, losses, weights, next_key)

    return LossWeigher(init, update)
