"""What a model is to learn first: easy rows before hard ones, one loss before another, focus in stages."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Bool, Float

from jaxloss._contracts.checks import compute_dtype, own_mask, real
from jaxloss._loss import card_of
from jaxloss.training._wrapping import RowLoss, dressed

Weighting = Literal["hard", "linear"]


class PaceState(NamedTuple):
    """How far self-paced learning has come.

    Attributes:
        threshold: λ, the loss from which a row is too hard; NaN until an update has found it.
        updates: how many there were so far.
    """

    threshold: Array
    updates: Array


class Pace(NamedTuple):
    """`init() -> state` and `update(losses, state, where=None) -> (weights, state)`; see `self_paced`."""

    init: Callable[[], PaceState]
    update: Callable[..., tuple[Array, PaceState]]


class PlateauState(NamedTuple):
    """Which loss is in use, and how long its value has not improved.

    Attributes:
        stage: the index of the loss in use.
        best: the lowest value since this loss came into use.
        waited: the number of values since then that were no improvement.
    """

    stage: Array
    best: Array
    waited: Array


class Switch(NamedTuple):
    """`init() -> state`, `update(value, state) -> state`, and `loss(*data, stage=state.stage)`."""

    init: Callable[[], PlateauState]
    update: Callable[[ArrayLike, PlateauState], PlateauState]
    loss: RowLoss


# --- rows: the easy ones first --------------------------------------------------------------------


def self_paced(
    threshold: ArrayLike | None = None,
    *,
    growth: ArrayLike = 1.3,
    every: int = 1,
    weighting: Weighting = "hard",
) -> Pace:
    """Self-paced learning: weights that let in a row once its loss is below a threshold that grows.

        v = 1 where ℓ < λ, else 0       ("hard",    the minimiser over v in [0, 1] of v ℓ − λ v)
        v = max(0, 1 − ℓ/λ)             ("linear",  the minimiser of v ℓ + λ (½ v² − v))
        λ ← μ λ                         after every so many updates

    The weights are constants to every derivative: Σ v ℓ is minimised in turn over v and the model.

        pace = self_paced()
        weights, state = pace.update(loss(predictions, targets), state)
        jl.mean(loss)(predictions, targets, weights=weights)

    A mean over the rows let in weighs them as many as they are; the papers' objective is `jl.sum`.

    Args:
        threshold: the first λ > 0, in the unit of the loss; None for the median of the first losses, where
            half of the rows begin: those up to it, itself included. While that is no positive number (no row
            is there, or half of the losses are 0) all rows weigh 1 and λ stays NaN.
        growth: μ ≥ 1, by which λ grows.
        every: the number of updates from one growth to the next, an epoch's batches say.
        weighting: "hard" or "linear".

    Returns:
        `Pace(init, update)`. `update(losses, state, where=None)` takes losses one a row, and a mask of the
        rows there are: the others weigh 0, whatever they hold. A loss that is NaN in a kept row makes
        its weight NaN, for it must not be hidden. Pure functions, to be called inside `jax.jit`.

    Raises:
        TypeError: (of `update`) losses that are not floating, a mask that is not bool.
        ValueError: a number out of its range, another weighting; (of `update`) shapes that differ.

    Reference: Kumar, Packer & Koller (2010), Self-Paced Learning for Latent Variable Models, NeurIPS, where
    λ is 1/K; Jiang et al. (2014), Easy Samples First, ACM MM, for "linear".
    """
    who = "self_paced"
    if weighting not in ("hard", "linear"):
        msg = f'{who}: `weighting` must be "hard" or "linear", got {weighting!r}; give one of them.'
        raise ValueError(msg)
    _at_least(who, "growth", growth, 1.0)
    _at_least(who, "every", every, 1)
    known = threshold is not None and not isinstance(threshold, Tracer)
    if known and not 0 < float(np.asarray(threshold)) < math.inf:
        msg = f"{who}: `threshold` must be positive and finite, got {threshold}; None takes the median."
        raise ValueError(msg)

    def init() -> PaceState:
        first = math.nan if threshold is None else threshold
        return PaceState(jnp.asarray(first, dtype=float), jnp.zeros((), jnp.int32))

    def update(
        losses: Float[ArrayLike, "*rows"],
        state: PaceState,
        where: Bool[ArrayLike, "*rows"] | None = None,
    ) -> tuple[Float[Array, "*rows"], PaceState]:
        (rows,) = real(who, losses=losses)
        rows, kept = lax.stop_gradient(rows), own_mask(who, where, rows.shape)
        now = state.threshold.astype(rows.dtype)
        easy, begun = rows < now, jnp.ones((), bool)
        if threshold is None:
            sought = jnp.isnan(now)
            now = jnp.where(sought, jnp.nanmedian(jnp.where(kept, rows, jnp.nan)), now)
            easy = jnp.where(sought, rows <= now, easy)
            begun = ~sought | (now > 0) & (now < jnp.inf)
        weights = easy.astype(rows.dtype) if weighting == "hard" else jnp.where(easy, 1 - rows / now, 0)
        weights = jnp.where(jnp.isnan(rows), jnp.nan, jnp.where(begun, weights, 1))
        updates = state.updates + 1
        grown = jnp.where(updates % every == 0, now * jnp.asarray(growth, rows.dtype), now)
        grown = jnp.where(begun, grown, jnp.nan)
        return jnp.where(kept, weights, 0), PaceState(grown.astype(state.threshold.dtype), updates)

    return Pace(init, update)


# --- focus ----------------------------------------------------------------------------------------


def stages(values: Sequence[float], boundaries: Sequence[int]) -> Callable[[ArrayLike], Array]:
    """A schedule of constants, each from its boundary on.

        s(k) = v_j   for b_j ≤ k < b_{j+1}

    The focal curriculum of Mukhoti et al. is `stages((5.0, 3.0, 2.0), boundaries=(100, 250))` in epochs:
    `scheduled(jl.categorical.focal, gamma=stages(...))`.

    Args:
        values: v, one more than boundaries.
        boundaries: b, the steps from which the next value holds, increasing.

    Returns:
        A function of the step, traced or not.

    Raises:
        ValueError: numbers of values and boundaries that do not fit; boundaries that do not increase.

    Reference: Mukhoti et al. (2020), Calibrating Deep Neural Networks using Focal Loss, NeurIPS, and its
    code: γ = 5, 3, 2 from epochs 0, 100, 250 of 350.
    """
    if len(values) != len(boundaries) + 1:
        msg = (
            f"stages: `values` must be one more than `boundaries`, got {len(values)} and {len(boundaries)}; "
            "the first value holds from step 0."
        )
        raise ValueError(msg)
    if list(boundaries) != sorted(set(boundaries)):
        msg = f"stages: `boundaries` must increase, got {tuple(boundaries)}; sort them, each once."
        raise ValueError(msg)

    def schedule(step: ArrayLike) -> Array:
        step, ends = jnp.asarray(step), np.asarray(boundaries)
        # Whole numbers as such: float32 knows no odd ones above 2²⁴.
        whole = jnp.issubdtype(step.dtype, jnp.integer) and ends.dtype.kind == "i"
        kind = int if whole else float
        passed = jnp.asarray(ends, kind) <= step.astype(kind)
        return jnp.asarray(values, dtype=float)[jnp.sum(passed)]

    return schedule


def focal_gamma(
    probabilities: Float[ArrayLike, "*rows"],
    *,
    boundary: float | Array = 0.2,
    hard: float | Array = 5.0,
    easy: float | Array = 3.0,
) -> Float[Array, "*rows"]:
    """A focal gamma for each row, from the probability of its label (FLSD-53).

        γ = γ_hard where p < p₀, else γ_easy

    A constant to every derivative, as in the paper's code.

        p = jnp.exp(-jl.categorical.cross_entropy(logits, labels))
        jl.mean(jl.categorical.focal)(logits, labels, gamma=focal_gamma(p))

    Args:
        probabilities: p in [0, 1] of the right class, floating point.
        boundary: p₀, below which a row is hard.
        hard: γ ≥ 0 of a hard row.
        easy: γ ≥ 0 of any other.

    Returns:
        γ of each row, in the dtype of the probabilities.

    Raises:
        TypeError: probabilities that are not floating point.
        ValueError: a concrete gamma that is negative.

    Reference: Mukhoti et al. (2020), Calibrating Deep Neural Networks using Focal Loss, NeurIPS (FLSD-53).
    """
    (p,) = real("focal_gamma", probabilities=probabilities)
    _at_least("focal_gamma", "hard", hard, 0.0)
    _at_least("focal_gamma", "easy", easy, 0.0)
    hard, easy = (jnp.asarray(gamma, p.dtype) for gamma in (hard, easy))
    return lax.stop_gradient(jnp.where(p < jnp.asarray(boundary, p.dtype), hard, easy))


def neutral_gamma(probability: float) -> float:
    """The gamma at which a focal loss pulls as hard as the cross-entropy at one probability of the label.

        g(p, γ) = (1 − p)^γ − γ p (1 − p)^(γ − 1) log p = 1

    g is the ratio of the two gradients. Above p a focal loss of this gamma pulls less, below it more:
    it keeps a model from confidence beyond p, which is how the paper chooses γ.

    Args:
        probability: p, strictly between 0 and 0.5, beyond which the answer tends to the root γ = 0.

    Returns:
        The γ > 0 of which this holds.

    Raises:
        ValueError: a probability outside (0, 0.5).

    Reference: Mukhoti et al. (2020), Calibrating Deep Neural Networks using Focal Loss, NeurIPS, whose code
    has this root by Lambert's W.
    """
    p = float(probability)
    if not 0.0 < p < 0.5:
        msg = f"neutral_gamma: `probability` must be in (0, 0.5), got {probability}; give one inside."
        raise ValueError(msg)
    keep = math.log1p(-p)
    slope = -p * math.log(p) / (1 - p)

    def excess(gamma: float) -> float:
        return gamma * keep + math.log1p(slope * gamma)  # log g

    low = -1 / keep - 1 / slope  # where log g is largest; it is concave, and 0 at γ = 0
    high = 2 * low
    while excess(high) > 0:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return high


# --- losses: the next when this one helps no more ---------------------------------------------------


def switch_on_plateau(
    *losses: RowLoss,
    patience: ArrayLike = 10,
    rtol: ArrayLike = 1e-4,
    atol: ArrayLike = 0.0,
) -> Switch:
    """Go on to the next loss when a watched value has stopped improving.

        improved  ⇔  value < best − rtol |best| − atol
        waited    ←  0 if improved, else waited + 1
        stage     ←  stage + 1, with best = ∞ and waited = 0, once waited reaches the patience

    Any loss but the last is left so, once; two losses on different scales cannot be compared, so the
    best begins anew. A NaN is no improvement.

        switch = switch_on_plateau(jl.regression.squared_error, jl.robust.welsch, patience=20)
        value = jl.mean(switch.loss)(predictions, targets, stage=state.stage)
        state = switch.update(value, state)

    Args:
        *losses: row losses, in their order, that take the same data and options.
        patience: the number of values without improvement to wait for, ≥ 1.
        rtol: the relative improvement that counts, ≥ 0.
        atol: the absolute improvement that counts, ≥ 0.

    Returns:
        `Switch(init, update, loss)`, pure functions to be called inside `jax.jit`: the stage is traced, and
        one compiled function holds all losses, of which it runs one.

    Raises:
        TypeError: fewer than two losses, or one that is not callable; (of the loss) no stage.
        ValueError: a number out of its range; losses of which some take a `where` of their own; (of the
            loss) an `ignore_index` that not all of them know; (of `update`) a value with a shape.
    """
    who = "switch_on_plateau"
    if len(losses) < 2 or not all(map(callable, losses)):
        msg = f"{who}: `losses` must be two functions or more, got {losses!r}; pass them one by one."
        raise TypeError(msg)
    _at_least(who, "patience", patience, 1)
    _at_least(who, "rtol", rtol, 0.0)
    _at_least(who, "atol", atol, 0.0)

    def init() -> PlateauState:
        return PlateauState(jnp.zeros((), jnp.int32), jnp.asarray(jnp.inf, float), jnp.zeros((), jnp.int32))

    def update(value: ArrayLike, state: PlateauState) -> PlateauState:
        if jnp.shape(value) != ():
            msg = f"{who}: `value` must be one number, got shape {jnp.shape(value)}; take a `jl.mean`."
            raise ValueError(msg)
        best = state.best
        now = jnp.asarray(value).astype(best.dtype)
        finite = jnp.where(jnp.isfinite(best), best, 0)
        needed = jnp.asarray(rtol, best.dtype) * jnp.abs(finite) + jnp.asarray(atol, best.dtype)
        improved = now < best - needed
        waited = jnp.where(improved, 0, state.waited + 1)
        leave = (waited >= patience) & (state.stage < len(losses) - 1)
        best = jnp.where(leave, jnp.inf, jnp.where(improved, now, best))
        return PlateauState(jnp.where(leave, state.stage + 1, state.stage), best, jnp.where(leave, 0, waited))

    return Switch(init, update, _switched(who, losses))


def _switched(who: str, losses: tuple[RowLoss, ...]) -> RowLoss:
    cards = [card_of(loss) for loss in losses]
    if len({card.masks_itself if card else False for card in cards}) > 1:
        msg = (
            f"{who}: `losses` must all take a `where` of their own or none, for a mean gives the mask to one "
            "kind and keeps it from the other; switch between their means with `jax.lax.switch`."
        )
        raise ValueError(msg)
    alike = None not in cards and len({card.counts for card in cards if card}) == 1
    counting = [] if alike else [card.counts for card in cards if card and card.counts]

    def loss(*data: Any, stage: ArrayLike | None = None, **options: Any) -> Array:
        if stage is None:
            msg = f"{who}: `stage` must be given, which loss is in use; pass `stage=state.stage`."
            raise TypeError(msg)
        if any(counts(*map(jnp.asarray, data), **options) is not None for counts in counting):
            msg = (
                f"{who}: the options leave rows out of the mean of some of `losses` and not of others; "
                "leave them out by `where`."
            )
            raise ValueError(msg)
        calls = [functools.partial(of, *data, **options) for of in losses]
        # One dtype for all, that in which ours are computed: a lambda of bfloat16 rows stays in it.
        wide = compute_dtype(*map(jax.eval_shape, calls))
        return lax.switch(jnp.asarray(stage), [lambda of=of: of().astype(wide) for of in calls])

    first = cards[0]
    if not alike or first is None:
        return loss
    return dressed(losses[0], lambda _: loss, unranged=first.options, added="stage")


def _at_least(who: str, name: str, value: Any, least: float) -> None:
    """Refuse a known number below its least, NaN too."""
    if not isinstance(value, Tracer) and not np.all(np.asarray(value) >= least):
        msg = f"{who}: `{name}` must be at least {least:g}, got {value}; give a larger one."
        raise ValueError(msg)
