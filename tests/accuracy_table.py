"""How far each loss is from the truth in float32, beside Optax: `python tests/accuracy_table.py`.

The truth is mpmath's, to 60 digits, of the very floats a loss is given. An error is counted in units
in the last place (ULPs) of what it is measured against: the truth itself, unless the case says why not.
"""

import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
from mpmath import mpf
from programs import as_users_do

import jaxloss as jl

mpmath.mp.dps = 60

ZERO, ONE = mpf(0), mpf(1)


def ulps(got: Any, true: Iterable[Any], against: Iterable[Any] | None = None) -> np.ndarray:
    """The error of each number of `got`, in ULPs of `true` (or of `against`, where it is larger).

    XLA flushes what is smaller than the smallest normal number to zero, in the middle of a formula
    as well as at its end: near it, an error of a few such numbers is no error. A result must
    overflow where the truth does, and nowhere else.
    """
    got, true = np.asarray(got), list(true)
    limits, found = np.finfo(got.dtype), got.ravel().astype(np.float64)
    tiny, largest = float(limits.tiny), float(limits.max)
    nearest, rest = _in_floats(true)
    size, above = nearest, rest
    if against is not None:
        size, above = _in_floats([max(abs(t), abs(a)) for t, a in zip(true, against, strict=True)])
    # From the largest float that is no larger: just below a power of two the units are half as large.
    size = np.where(np.sign(size) * above < 0, np.nextafter(size, 0), size)
    _, exponent = np.frexp(np.maximum(abs(size), tiny))
    with np.errstate(invalid="ignore", over="ignore"):
        error = abs((found - nearest) - rest)
        in_ulps = np.ldexp(error, limits.nmant + 1 - exponent)
    in_ulps[(error <= 8 * tiny) & (abs(nearest) <= 1024 * tiny)] = 0
    overflows = abs(nearest) > largest * (1 - 8 * float(limits.eps))
    right = np.where(np.isnan(found), np.isnan(nearest), overflows & (found == np.copysign(np.inf, nearest)))
    return np.where(np.isfinite(found) & np.isfinite(nearest), in_ulps, np.where(right, 0, np.inf))


def _in_floats(numbers: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """The nearest floats, and how much the numbers are above them: more digits than any float has."""
    nearest = [float(number) for number in numbers]
    above = [float(number - near) for number, near in zip(numbers, nearest, strict=True)]
    return np.array(nearest), np.array(above)


# --- the truth ------------------------------------------------------------------------------------


def exact(array: Any) -> list[Any]:
    """The very numbers of an array, nested as it is."""
    nested = np.asarray(array).tolist()
    return [exact(row) for row in nested] if isinstance(nested, list) else mpf(nested)


def sigmoid(z: Any) -> Any:
    """1 / (1 + e^−z)."""
    return 1 / (1 + mpmath.exp(-z))


def softplus(z: Any) -> Any:
    """log(1 + e^z)."""
    return max(z, ZERO) + mpmath.log1p(mpmath.exp(-abs(z)))


def log_cosh(r: Any) -> Any:
    """Log cosh r."""
    return mpmath.log1p(2 * mpmath.sinh(r / 2) ** 2) if abs(r) < 1 else softplus(2 * r) - r - mpmath.log(2)


def surprise(z: Sequence[Any], label: int) -> Any:
    """−log softmax(z)[label], through log1p, so that 60 digits are enough at any gap."""
    return mpmath.log1p(mpmath.fsum(mpmath.exp(v - z[label]) for j, v in enumerate(z) if j != label))


def softmax(z: Sequence[Any]) -> list[Any]:
    """e^z / Σ e^z."""
    top = max(z)
    terms = [mpmath.exp(v - top) for v in z]
    return [t / mpmath.fsum(terms) for t in terms]


def doubt(z: Sequence[Any], label: int) -> Any:
    """1 − softmax(z)[label], without the subtraction."""
    return mpmath.fsum(p for j, p in enumerate(softmax(z)) if j != label)


def _cross_entropy_slope(z: Sequence[Any], label: int) -> list[Any]:
    return [-doubt(z, label) if j == label else p for j, p in enumerate(softmax(z))]


def _focal_slope(z: Sequence[Any], label: int) -> list[Any]:
    q, h = doubt(z, label), surprise(z, label)
    return [(q**2 + 2 * q * h * (1 - q)) * slope for slope in _cross_entropy_slope(z, label)]


def _binary_focal(z: Any, y: Any) -> Any:
    against = z * (1 - 2 * y)
    return sigmoid(against) ** 2 * softplus(against)


def _binary_focal_slope(z: Any, y: Any) -> list[Any]:
    against = z * (1 - 2 * y)
    q = sigmoid(against)
    return [(1 - 2 * y) * (q**3 + 2 * q**2 * sigmoid(-against) * softplus(against))]


def _dot(a: Sequence[Any], b: Sequence[Any]) -> Any:
    return mpmath.fsum(x * y for x, y in zip(a, b, strict=True))


def _norm(a: Sequence[Any]) -> Any:
    return mpmath.sqrt(_dot(a, a))


def _cosine_distance(p: Sequence[Any], t: Sequence[Any]) -> Any:
    return 1 - _dot(p, t) / (_norm(p) * _norm(t))


def _cosine_slope(p: Sequence[Any], t: Sequence[Any]) -> list[Any]:
    cosine = 1 - _cosine_distance(p, t)
    return [(cosine * a / _norm(p) - b / _norm(t)) / _norm(p) for a, b in zip(p, t, strict=True)]


def _kl(log_p: Sequence[Any], t: Sequence[Any]) -> Any:
    return mpmath.fsum(b * (mpmath.log(b) - a) if b else ZERO for a, b in zip(log_p, t, strict=True))


# --- the cases ------------------------------------------------------------------------------------


class Case(NamedTuple):
    """A loss where it is hard: its data, its truth, and the ULPs it keeps to.

    The truth takes a row's data and gives the value; `slope` the gradient in the first argument.
    `against` gives what a row's errors are measured against, where no formula in float32 could
    keep to ULPs of the truth: the condition of the problem, in the words of `why`.
    """

    where: str
    loss: Callable[..., Any]
    peer: str
    data: tuple[np.ndarray, ...]
    truth: Callable[..., Any]
    slope: Callable[..., list[Any]]
    value_ulps: float
    slope_ulps: float
    against: Callable[..., Any] | None = None
    slope_against: Callable[..., Any] | None = None
    why: str = ""

    @property
    def name(self) -> str:
        """The loss and the place."""
        return f"{self.loss.card.name}: {self.where}"  # type: ignore[attr-defined]


RNG = np.random.default_rng(0)


def magnitudes(low: float, high: float, count: int = 60) -> np.ndarray:
    """Numbers of both signs, evenly spread over the orders of magnitude."""
    positive = np.geomspace(low, high, count)
    return np.concatenate([positive, -positive]).astype(np.float32)


def from_zero(residuals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predictions that are their residuals, exactly."""
    return residuals, np.zeros_like(residuals)


def each_label(scores: np.ndarray, labels: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Every score with every label."""
    return np.tile(scores, len(labels)), np.repeat(np.array(labels, np.int32), len(scores))


def gap(size: float, offset: float = 0.0, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """One class `size` above the others, whose logits are a few eighths apart; each class as label."""
    others = np.arange(classes) / 8
    rows = np.stack([others + np.where(np.arange(classes) == leader, size, 0) for leader in range(classes)])
    labels = np.tile(np.arange(classes, dtype=np.int32), classes)
    return (np.repeat(rows, classes, axis=0) + offset).astype(np.float32), labels


def excluded() -> tuple[np.ndarray, np.ndarray]:
    """Logits of −∞ at classes that are not there, and labels that are."""
    inf = np.inf
    rows = [
        [0, -inf, 1, -inf, 3],
        [5, -inf, -inf, -inf, -inf],
        [-inf, 17, 0.25, -inf, -inf],
        [-2, -1, 0, 1, -inf],
    ]
    return np.array(rows, np.float32), np.array([2, 0, 1, 3], np.int32)


def nearly_equal() -> tuple[np.ndarray, np.ndarray]:
    """Predictions one part in 10 to 10⁷ away from targets of every magnitude."""
    targets = np.repeat(np.geomspace(1e-6, 1e6, 25), 7).astype(np.float32)
    return (targets * (1 + np.tile(np.geomspace(1e-7, 1e-1, 7), 25))).astype(np.float32), targets


def nearly_parallel() -> tuple[np.ndarray, np.ndarray]:
    """Vectors at angles from 1e-5 to 1, of different lengths."""
    targets = RNG.normal(size=(40, 16))
    turned = targets + np.geomspace(1e-5, 1, 40)[:, None] * RNG.normal(size=(40, 16))
    return (3 * turned).astype(np.float32), targets.astype(np.float32)


def nearly_the_same() -> tuple[np.ndarray, np.ndarray]:
    """Log-distributions near the distributions they are compared with."""
    logits = RNG.normal(size=(30, 6)) * 3
    away = logits + np.geomspace(1e-6, 3, 30)[:, None] * RNG.normal(size=(30, 6))
    log_p = away - np.log(np.sum(np.exp(away), axis=-1, keepdims=True))
    shares = np.exp(logits)
    return log_p.astype(np.float32), (shares / shares.sum(axis=-1, keepdims=True)).astype(np.float32)


def _largest(slope: Callable[..., list[Any]], *row: Any) -> Any:
    return max(abs(s) for s in slope(*row))


GAPS = np.concatenate([np.arange(0, 84, 0.5), -np.arange(0, 84, 0.5)]).astype(np.float32)

CROSS_ENTROPY = functools.partial(
    Case,
    loss=jl.categorical.cross_entropy,
    peer="softmax_cross_entropy_with_integer_labels",
    truth=lambda z, y: surprise(z, int(y)),
    slope=lambda z, y: _cross_entropy_slope(z, int(y)),
)
FOCAL = functools.partial(
    Case,
    loss=jl.categorical.focal,
    peer="",
    truth=lambda z, y: doubt(z, int(y)) ** 2 * surprise(z, int(y)),
    slope=lambda z, y: _focal_slope(z, int(y)),
)
LOG_COSH = functools.partial(
    Case,
    loss=jl.regression.log_cosh,
    peer="log_cosh",
    truth=lambda p, t: log_cosh(p - t),
    slope=lambda p, t: [mpmath.tanh(p - t) if abs(p - t) < 1000 else mpmath.sign(p - t)],
)
PSEUDO_HUBER = functools.partial(
    Case,
    loss=jl.robust.pseudo_huber,
    peer="",
    truth=lambda p, t: (p - t) ** 2 / (1 + mpmath.sqrt(1 + (p - t) ** 2)),
    slope=lambda p, t: [(p - t) / mpmath.sqrt(1 + (p - t) ** 2)],
)

CASES = [
    LOG_COSH("residuals below 1e-4", data=from_zero(magnitudes(1e-18, 1e-4)), value_ulps=6, slope_ulps=6),
    LOG_COSH("residuals up to 1e38", data=from_zero(magnitudes(1e-4, 3e38)), value_ulps=6, slope_ulps=6),
    PSEUDO_HUBER("residuals below 1e-4", data=from_zero(magnitudes(1e-18, 1e-4)), value_ulps=4, slope_ulps=4),
    PSEUDO_HUBER("residuals up to 1e38", data=from_zero(magnitudes(1e-4, 3e38)), value_ulps=4, slope_ulps=4),
    Case(
        "residuals up to 1e19",
        jl.robust.huber,
        "huber_loss",
        from_zero(magnitudes(1e-18, 1e19)),
        lambda p, t: (p - t) ** 2 / 2 if abs(p - t) <= 1 else abs(p - t) - ONE / 2,
        lambda p, t: [max(min(p - t, ONE), -ONE)],
        value_ulps=2,
        slope_ulps=1,
    ),
    Case(
        "predictions near targets",
        jl.regression.squared_log_error,
        "",
        nearly_equal(),
        lambda p, t: mpmath.log((1 + p) / (1 + t)) ** 2,
        lambda p, t: [2 * mpmath.log((1 + p) / (1 + t)) / (1 + p)],
        value_ulps=8,
        slope_ulps=8,
    ),
    Case(
        "nearly parallel vectors",
        jl.regression.cosine_distance,
        "cosine_distance",
        nearly_parallel(),
        _cosine_distance,
        _cosine_slope,
        value_ulps=8,
        slope_ulps=8,
        against=lambda p, t: mpmath.sqrt(_cosine_distance(p, t)),
        slope_against=lambda p, _: 1 / _norm(p),
        why="a ULP of a vector turns it by one: ULPs of the angle",
    ),
    Case(
        "logits up to 84",
        jl.binary.cross_entropy,
        "sigmoid_binary_cross_entropy",
        each_label(GAPS, (0, 1)),
        lambda z, y: softplus(z * (1 - 2 * y)),
        lambda z, y: [(1 - 2 * y) * sigmoid(z * (1 - 2 * y))],
        value_ulps=4,
        slope_ulps=4,
    ),
    Case(
        "scores up to 84",
        jl.binary.logistic,
        "",
        each_label(GAPS, (-1, 1)),
        lambda z, y: softplus(-z * y),
        lambda z, y: [-y * sigmoid(-z * y)],
        value_ulps=4,
        slope_ulps=4,
    ),
    Case(
        "logits up to 40",
        jl.binary.focal,
        "sigmoid_focal_loss",
        each_label(GAPS[np.abs(GAPS) <= 40], (0, 1)),
        _binary_focal,
        _binary_focal_slope,
        value_ulps=8,
        slope_ulps=12,
    ),
    CROSS_ENTROPY("one class leads by 0", data=gap(0), value_ulps=4, slope_ulps=8),
    CROSS_ENTROPY("one class leads by 17", data=gap(17), value_ulps=4, slope_ulps=8),
    CROSS_ENTROPY("one class leads by 80", data=gap(80), value_ulps=4, slope_ulps=8),
    CROSS_ENTROPY("offset 1e4", data=gap(1, 1e4), value_ulps=4, slope_ulps=8),
    CROSS_ENTROPY("offset 1e4, one leads by 17", data=gap(17, -1e4), value_ulps=8, slope_ulps=8),
    CROSS_ENTROPY("classes excluded by -inf", data=excluded(), value_ulps=4, slope_ulps=8),
    FOCAL("one class leads by 0", data=gap(0), value_ulps=4, slope_ulps=4),
    FOCAL("one class leads by 17", data=gap(17), value_ulps=8, slope_ulps=24),
    FOCAL("classes excluded by -inf", data=excluded(), value_ulps=8, slope_ulps=8),
    Case(
        "targets near predictions",
        jl.divergence.kl,
        "kl_divergence",
        nearly_the_same(),
        _kl,
        lambda _, t: [-b for b in t],
        value_ulps=4,
        slope_ulps=0,
        against=lambda log_p, t: -_dot(log_p, t),
        why="the sum of terms that cancel: ULPs of the cross-entropy",
    ),
]


# --- the measurement ------------------------------------------------------------------------------


def _labelled(peer: Callable[..., Any]) -> Callable[..., Any]:
    def call(scores: jax.Array, labels: jax.Array) -> jax.Array:
        # What Optax promotes, strict promotion would refuse.
        return peer(scores, labels if scores.ndim > labels.ndim else labels.astype(scores.dtype))

    return call


@functools.cache
def _with_gradients(loss: Callable[..., Any]) -> Callable[..., Any]:
    def total(first: jax.Array, *rest: jax.Array) -> tuple[jax.Array, jax.Array]:
        values = loss(first, *rest)
        return jnp.sum(values), values

    return as_users_do(jax.grad(total, has_aux=True))


def errors(case: Case, loss: Callable[..., Any]) -> tuple[float, float]:
    """The largest error of the value and of the gradient, in ULPs."""
    rows = list(zip(*(exact(array) for array in case.data), strict=True))
    gradients, values = _with_gradients(loss)(*case.data)
    true, slopes = [case.truth(*row) for row in rows], [case.slope(*row) for row in rows]
    against = case.against and [case.against(*row) for row in rows]
    slope_against = case.slope_against and [case.slope_against(*row) for row in rows for _ in slopes[0]]
    flat = [slope for row in slopes for slope in row]
    return float(ulps(values, true, against).max()), float(ulps(gradients, flat, slope_against).max())


def peer_of(case: Case) -> Callable[..., Any] | None:
    """Optax's function for the same loss, if it has one."""
    if not case.peer:
        return None
    import optax

    options = {"gamma": 2.0} if "focal" in case.peer else {}
    return _labelled(functools.partial(getattr(optax, case.peer), **options))


def _number(error: float) -> str:
    return "∞" if error == np.inf else f"{error:.1f}" if error < 100 else f"{error:.1e}"


def table() -> str:
    """The measurement as a Markdown table: ours and Optax's, value and gradient."""
    lines = [
        "| loss | where | ULPs, value | ULPs, gradient | Optax, value | Optax, gradient |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for case in CASES:
        peer = peer_of(case)
        theirs = ("—", "—") if peer is None else tuple(map(_number, errors(case, peer)))
        where = f"{case.where} ({case.why})" if case.why else case.where
        ours = tuple(map(_number, errors(case, case.loss)))
        lines.append("| " + " | ".join((case.loss.card.name, where, *ours, *theirs)) + " |")  # type: ignore[attr-defined]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
