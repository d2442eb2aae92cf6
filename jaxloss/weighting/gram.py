"""Weights as plain functions of the Gram matrix G_ij = ⟨g_i, g_j⟩ of the tasks' gradients.

However many parameters a model has, these see `[tasks, tasks]` numbers. Where a method does not care how
long a gradient is, neither does the arithmetic, as far as squares of lengths are normal numbers: in float32
a gradient below 1e-19 counts as none, and one above 1e19 as infinite.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int

_MOST_STEPS = 200  # of any loop that rounding could keep from its end


def norms(gram: Float[Array, "tasks tasks"]) -> Float[Array, "tasks"]:
    """The lengths ‖g_i‖ of the gradients."""
    return jnp.sqrt(jnp.diagonal(gram))


# --- PCGrad -------------------------------------------------------------------------------------


@jax.jit
def without_conflicts(
    gram: Float[Array, "tasks tasks"], order: Int[Array, "tasks tasks"]
) -> Float[Array, "tasks tasks"]:
    """Project each gradient off those it conflicts with, in the order given for it.

        g_i ← g_i − min(0, ⟨g_i, g_j⟩) / ‖g_j‖² g_j    for j = order[i, 0], order[i, 1], ..., j ≠ i

    where g_j is as it was. Two tasks are left without any negative inner product ⟨g_i^PC, g_j⟩. Of more,
    only the last projection is sure to hold: it may bring back a conflict that an earlier one removed.

    Args:
        gram: of the gradients.
        order: in row i a permutation of the tasks.

    Returns:
        The projected gradients in terms of the given ones: g_i^PC = Σ_j C_ij g_j.

    Reference:
        Yu, Kumar, Gupta, Levine, Hausman & Finn (2020), Gradient Surgery for Multi-Task Learning,
        Algorithm 1.
    """
    tasks = jnp.arange(gram.shape[0], dtype=order.dtype)

    def project(rows: Array, other: Array) -> tuple[Array, None]:
        inner = jnp.sum(rows * gram[other], axis=-1)
        square = jnp.diagonal(gram)[other]
        conflict = (inner < 0) & (other != tasks)
        share = jnp.where(conflict, inner / jnp.where(square > 0, square, 1), 0)
        return rows - share[:, None] * jax.nn.one_hot(other, rows.shape[0], dtype=rows.dtype), None

    rows, _ = lax.scan(project, jnp.eye(gram.shape[0], dtype=gram.dtype), order.T)
    return rows


# --- MGDA ---------------------------------------------------------------------------------------


@jax.jit
def min_norm(gram: Float[Array, "tasks tasks"]) -> Float[Array, "tasks"]:
    """The convex combination of the gradients that is shortest.

        argmin ‖Σ w_i g_i‖²  over  w_i >= 0, Σ w_i = 1

    At the minimum ⟨g_i, Σ w_j g_j⟩ >= ‖Σ w_j g_j‖² for each task: a step against it lowers every loss, or
    is 0 where none can fall without another rising. Two tasks have a closed form; of more, the set of
    tasks with weight is found exactly, one at a time, so that the others have weight 0 to the last bit.

    Args:
        gram: of the gradients.

    Returns:
        The weights. The point is unique; weights of gradients that depend on each other are not, and
        two equal gradients share equally only if there are no others.

    Reference:
        Désidéri (2012), Multiple-gradient descent algorithm (MGDA) for multiobjective optimization;
        Sener & Koltun (2018), Multi-Task Learning as Multi-Objective Optimization, Eq. 3 and Algorithm
        1 (two tasks); Wolfe (1976), Finding the nearest point in a polytope (the active set).
    """
    if gram.shape[0] == 1:
        return jnp.ones(1, gram.dtype)
    if gram.shape[0] == 2:
        return _nearer_of_two(gram)
    return _nearest_in_hull(gram)


def _nearer_of_two(gram: Array) -> Array:
    apart = (gram[0, 0] - gram[0, 1]) + (gram[1, 1] - gram[0, 1])  # ‖g_1 − g_2‖²
    first = jnp.where(apart > 0, (gram[1, 1] - gram[0, 1]) / jnp.where(apart > 0, apart, 1), 0.5)
    first = jnp.clip(first, 0, 1)
    return jnp.stack([first, 1 - first])


class _Corner(NamedTuple):
    """Wolfe's memory: the weights, the tasks that may have any, and whether no other should."""

    weights: Array
    support: Array
    done: Array
    step: Array


def _nearest_in_hull(gram: Array) -> Array:
    """Wolfe's active set: go to the nearest point of the support's plane, as far as weights stay positive."""
    tasks = gram.shape[0]
    lengths, cosines, _ = _cosines(gram)

    def body(at: _Corner) -> _Corner:
        aim = _nearest_in_plane(cosines, lengths, at.support)
        inside = jnp.all(~at.support | (aim > 0))
        grown, shrunk = _grow(gram, aim, at.support), _shrink(at.weights, aim, at.support)
        weights, support, done = (jnp.where(inside, a, b) for a, b in zip(grown, shrunk, strict=True))
        return _Corner(weights, support, done, at.step + 1)

    shortest = jax.nn.one_hot(jnp.argmin(jnp.diagonal(gram)), tasks, dtype=gram.dtype)
    start = _Corner(shortest, shortest > 0, jnp.zeros((), bool), jnp.int32(0))
    # Far more than it takes; the bound is for rounding that adds and removes one task forever.
    return lax.while_loop(lambda at: ~at.done & (at.step < 10 * tasks), body, start).weights


def _nearest_in_plane(cosines: Array, lengths: Array, support: Bool[Array, "tasks"]) -> Array:
    """The weights, of sum 1 and of any sign, of the point nearest to 0 in the plane of the support."""
    # In terms of unit vectors: a short gradient among long ones keeps all its digits.
    share = jnp.where(support, 1 / lengths, 0)
    share = share / jnp.max(share)
    both = support[:, None] & support[None, :]
    # (C + ttᵀ)⁻¹ t is that direction, and C + ttᵀ is regular where C alone is not: at the origin itself.
    matrix = jnp.where(both, cosines, jnp.eye(support.size, dtype=cosines.dtype)) + jnp.outer(share, share)
    direction = jnp.linalg.solve(matrix, share) * share
    return direction / jnp.sum(direction)


def _grow(gram: Array, weights: Array, support: Array) -> tuple[Array, Array, Array]:
    """Take the point, and the task that would shorten it most into the support; done if none would."""
    inner = gram @ weights
    square = weights @ inner
    noise = 8 * support.size * jnp.finfo(gram.dtype).eps * (jnp.abs(gram) @ weights + jnp.abs(square))
    gain = jnp.where(support, -jnp.inf, (square - inner - noise) / norms(gram))
    best = jnp.argmax(gain)
    joins = jnp.arange(support.size) == best
    done = ~(gain[best] > 0)
    return weights, jnp.where(done, support, support | joins), done


def _shrink(weights: Array, aim: Array, support: Array) -> tuple[Array, Array, Array]:
    """Go towards the point until the first weight is 0, and take that task out of the support."""
    falling = support & (aim <= 0)
    reach = jnp.where(falling, weights / jnp.where(falling, weights - aim, 1), jnp.inf)
    first = jnp.arange(support.size) == jnp.argmin(reach)
    kept = support & ~first
    moved = jnp.where(kept, jnp.maximum(weights + jnp.min(reach) * (aim - weights), 0), 0)
    return moved / jnp.sum(moved), kept, jnp.zeros((), bool)


# --- CAGrad -------------------------------------------------------------------------------------


@jax.jit
def conflict_averse(gram: Float[Array, "tasks tasks"], c: ArrayLike) -> Float[Array, "tasks"]:
    """The step that helps the worst-off task most, in a ball about the mean gradient g_0 = Σ g_i / K.

        d = argmax min_i ⟨g_i, d⟩  over  ‖d − g_0‖ <= c ‖g_0‖
          = g_0 + c ‖g_0‖ g_w / ‖g_w‖,   g_w = Σ w_i g_i
        w = argmin ⟨g_w, g_0⟩ + c ‖g_0‖ ‖g_w‖  over  w_i >= 0, Σ w_i = 1

    The second line is the first one's dual, in K numbers. With κ = ‖g_w‖ / (c ‖g_0‖) it is the shortest
    vector of the hull of all g_i + κ g_0, which `min_norm` knows: what is sought is κ.

    Args:
        gram: of the gradients.
        c: radius of the ball as a share of ‖g_0‖, in [0, 1); 0 is the mean gradient.

    Returns:
        The weights of d = Σ weights_i g_i: all 1 / K where g_0 = 0, and where g_w = 0, as then no step in
        the ball raises the least ⟨g_i, d⟩ above 0 and g_0 attains it.

    Reference:
        Liu, Liu, Jin, Stone & Liu (2021), Conflict-Averse Gradient Descent for Multi-task Learning,
        Algorithm 1 (the authors' code shrinks the step, mostly by 1 + c²; their paper and this do not).
    """
    tasks = gram.shape[0]
    eps = jnp.finfo(gram.dtype).eps
    mean = jnp.full(tasks, 1 / tasks, gram.dtype)
    square = mean @ gram @ mean
    moving = square > eps * jnp.max(jnp.diagonal(gram)) / tasks
    gram = gram / jnp.where(moving, square, 1)  # from here on, ‖g_0‖ = 1
    c = jnp.asarray(c, gram.dtype)
    radius = jnp.where(c > 0, c, 1)
    pull = gram @ mean

    def shortest(shift: Array) -> tuple[Array, Array]:
        """The weights at κ² = shift, and ‖g_w‖² − c² κ² there, which falls and is linear in pieces."""
        kappa = jnp.sqrt(shift)
        weights = min_norm(gram + kappa * (pull[:, None] + pull[None, :]) + shift)
        return weights, weights @ gram @ weights - radius**2 * shift

    # c κ = ‖g_w‖ is no less than the shortest of the hull. Where gradients cancel to that, the rest is
    # rounding: of those that cancel, which may be far shorter than g_0.
    nearest = min_norm(gram)
    least, terms = nearest @ gram @ nearest, nearest @ jnp.abs(gram) @ nearest
    lowest = jnp.maximum(least / 2, eps ** (2 / 3) * terms) / radius**2
    highest = 2 * jnp.max(jnp.diagonal(gram)) / radius**2
    shift = _root(lambda shift: shortest(shift)[1], lowest, jnp.maximum(highest, 2 * lowest), -highest)
    averse = mean + shortest(shift)[0] / jnp.sqrt(shift)
    return jnp.where(moving & (c > 0) & (shift > lowest), averse, mean)


class _Bracket(NamedTuple):
    """Where a falling function is positive, where it is not, and which end moved last."""

    low: Array
    high: Array
    above: Array
    below: Array
    rose: Array
    step: Array


def _root(falling: Callable[[Array], Array], low: ArrayLike, high: Array, below: Array) -> Array:
    """Where a falling function is 0, or the lower end, by the Illinois rule: chords, and no end left behind.

    At the upper end it is negative; `below` is a guess of how much.
    """
    eps = jnp.finfo(high.dtype).eps
    low = jnp.asarray(low, high.dtype)

    def body(at: _Bracket) -> _Bracket:
        middle = at.low + (at.high - at.low) * (at.above / (at.above - at.below))
        value = falling(middle)
        up = value > 0
        return _Bracket(
            jnp.where(up, middle, at.low),
            jnp.where(up, at.high, middle),
            jnp.where(up, value, jnp.where(at.rose, at.above, at.above / 2)),
            jnp.where(up, jnp.where(at.rose, at.below / 2, at.below), value),
            up,
            at.step + 1,
        )

    def wide(at: _Bracket) -> Array:
        return (at.high - at.low > 4 * eps * at.high) & (at.below < 0) & (at.step < _MOST_STEPS)

    above = falling(low)
    start = _Bracket(low, high, above, below, jnp.zeros((), bool), jnp.int32(0))
    ended = lax.while_loop(lambda at: wide(at) & (above > 0), body, start)
    return jnp.where(above > 0, jnp.where(ended.below < 0, ended.low, ended.high), low)


# --- IMTL-G -------------------------------------------------------------------------------------


@jax.jit
def impartial(gram: Float[Array, "tasks tasks"]) -> Float[Array, "tasks"]:
    """The combination that is as long along one task's gradient as along another's.

        ⟨Σ w_j g_j, g_i⟩ / ‖g_i‖ = p  for each task i,   Σ w_i = 1

    A weight may be negative. Where gradients depend on each other there are many solutions, and that is
    taken of which (w_1 ‖g_1‖, ..., w_K ‖g_K‖, p) is shortest: equal gradients share equally, and opposite
    ones cancel.

    Args:
        gram: of the gradients.

    Returns:
        The weights. A task without a gradient has 1 / K, and the others the rest.

    Reference:
        Liu, Li, Kuang, Xue, Chen, Yang, Liao & Zhang (2021), Towards Impartial Multi-task Learning,
        section 3.1: α = g_1 Uᵀ (D Uᵀ)⁻¹, of which this is the same with no task singled out.
    """
    tasks = gram.shape[0]
    lengths, cosines, moving = _cosines(gram)
    share = jnp.where(moving, 1 / lengths, 0)
    share = share / jnp.maximum(jnp.sum(share), jnp.finfo(gram.dtype).tiny)
    along = moving.astype(gram.dtype)
    # Unknown are w_i ‖g_i‖ and p; the rows say that all projections are p, and that the weights sum to 1.
    system = jnp.block([[cosines, -along[:, None]], [share[None, :], jnp.zeros((1, 1), gram.dtype)]])
    wanted = jnp.zeros(tasks + 1, gram.dtype).at[-1].set(1)
    solved = jnp.linalg.lstsq(system, wanted)[0][:-1] * share
    count = jnp.sum(along)
    return jnp.where(moving, solved * count / tasks, 1 / tasks)


# --- Nash-MTL -----------------------------------------------------------------------------------


@jax.jit
def bargain(gram: Float[Array, "tasks tasks"]) -> Float[Array, "tasks"]:
    """The Nash bargaining solution: each task gains the same share of what it would gain alone.

        G α = 1 / α,  α_i > 0   ⇔   α = argmin ½ αᵀGα − Σ log α_i

    The minimum is unique and is found by damped Newton steps, which converge from anywhere. The step
    Σ α_i g_i has length √K whatever the gradients' lengths, and ⟨g_i, Σ α_j g_j⟩ = 1 / α_i > 0.

    Args:
        gram: of the gradients.

    Returns:
        The weights α. Where gradients cancel there is no solution, and weights are large and in the ratio
        that cancels. A task without a gradient has the others' mean.

    Reference:
        Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik & Fetaya (2022), Multi-Task Learning as a
        Bargaining Game, Claim 3.1 (there solved by a sequence of convex programs).
    """
    tasks = gram.shape[0]
    lengths, cosines, moving = _cosines(gram)
    eps = jnp.finfo(gram.dtype).eps
    matrix = cosines + 8 * tasks * eps * jnp.eye(tasks, dtype=gram.dtype)

    def body(at: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        alpha, _, count = at
        slope = matrix @ alpha - 1 / alpha
        # In units of α the Hessian's diagonal is at least 1, however small an α.
        scaled = alpha[:, None] * matrix * alpha[None, :] + jnp.eye(tasks, dtype=gram.dtype)
        step = jnp.linalg.solve(scaled, alpha * slope)
        decrement = jnp.sqrt(jnp.maximum(step @ (alpha * slope), 0))
        # Nesterov's damping for a self-concordant function: α stays positive, and each step descends.
        rate = jnp.where(decrement > 0.25, 1 / (1 + decrement), 1)
        return alpha * (1 - rate * step), decrement, count + 1

    def unsolved(at: tuple[Array, Array, Array]) -> Array:
        return (at[1] > 4 * eps) & (at[2] < _MOST_STEPS)

    start = (jnp.ones(tasks, gram.dtype), jnp.asarray(jnp.inf, gram.dtype), jnp.int32(0))
    alpha = lax.while_loop(unsolved, body, start)[0] / lengths
    count = jnp.maximum(jnp.sum(moving), 1).astype(gram.dtype)
    others = jnp.where(jnp.any(moving), jnp.sum(jnp.where(moving, alpha, 0)) / count, 1)
    return jnp.where(moving, alpha, others)


def _cosines(gram: Array) -> tuple[Array, Array, Array]:
    """Lengths (1 for 0), cosines (a task without a gradient is at right angles to all), and which move."""
    moving = jnp.diagonal(gram) > 0
    lengths = jnp.where(moving, norms(gram), 1)
    cosines = gram / lengths[:, None] / lengths[None, :]
    diagonal = jnp.eye(gram.shape[0], dtype=bool)
    return lengths, jnp.where(diagonal, 1, cosines), moving
