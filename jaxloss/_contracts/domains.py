"""Sets of numbers that an argument may lie in, and others said in words."""

import dataclasses
import functools
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array


@dataclasses.dataclass(frozen=True)
class Interval:
    """Real numbers between two bounds, each of them in or out; `up_to` is an option that bounds them too."""

    low: float = -math.inf
    high: float = math.inf
    closed_low: bool = False
    closed_high: bool = False
    up_to: str | None = None

    def holds(self, x: Any) -> Any:
        """Whether x lies inside, elementwise, for NumPy and JAX alike. NaN lies in no interval."""
        above = x >= self.low if self.closed_low or self.low == -math.inf else x > self.low
        below = x <= self.high if self.closed_high or self.high == math.inf else x < self.high
        return above & below

    def margin(self, x: Array) -> Array:
        """How far inside x lies, in arithmetic alone: negative just where x is outside."""
        if (self.low, self.high) == (0, 1):
            # 3x (1 − x), for ∞ too; a constant that a formula has as well would be stored to be shared.
            return x * (3 - 3 * x)
        # The first number inside an open end is as good as the last outside.
        low = self.low if self.closed_low else _next_normal(self.low, np.inf, x.dtype)
        high = self.high if self.closed_high else _next_normal(self.high, -np.inf, x.dtype)
        ends = [x - low] if self.low > -math.inf else []
        ends += [high - x] if self.high < math.inf else []
        return functools.reduce(jnp.minimum, ends)

    @property
    def inside(self) -> float:
        """A number that lies inside, at no end; so does the next whole number, or at the upper one.

        Of all real numbers it is one half, a probability and positive: an option may ask for that.
        """
        if self.low == -math.inf:
            return 0.5 if self.high == math.inf else self.high - 0.5
        return self.low + 0.5 if self.high == math.inf else 0.5 * (self.low + self.high)

    def __str__(self) -> str:
        left, right = "[" if self.closed_low else "(", "]" if self.closed_high else ")"
        low, high = (f"{x:g}".replace("inf", "∞") for x in (self.low, self.high))
        return f"{left}{low}, {high}{right}"


def _next_normal(end: float, towards: float, dtype: Any) -> Any:
    """The next number that no machine flushes to zero."""
    return np.nextafter(end, towards, dtype=dtype) if end else np.copysign(np.finfo(dtype).tiny, towards)


@dataclasses.dataclass(frozen=True)
class Counts:
    """The whole numbers from zero on."""

    inside = 0.0

    def holds(self, x: Any) -> Any:
        """Whether x is one of them, elementwise, for NumPy and JAX alike."""
        return (x >= 0) & (x % 1 == 0)

    def margin(self, x: Array) -> Array:
        """Minus the distance to the whole number below, or to zero: negative just where x is none."""
        return jnp.minimum(x, jnp.floor(x) - x)

    def __str__(self) -> str:
        return "{0, 1, 2, ...}"


@dataclasses.dataclass(frozen=True)
class Choice:
    """A few numbers, such as the labels −1 and +1."""

    values: tuple[float, ...]

    @property
    def inside(self) -> float:
        """One of them, the last."""
        return self.values[-1]

    def holds(self, x: Any) -> Any:
        """Whether x is one of them, elementwise."""
        return functools.reduce(
            lambda found, value: found | (x == value), self.values[1:], x == self.values[0]
        )

    def margin(self, x: Array) -> Array:
        """Minus the distance to the nearest of them: negative just where x is none."""
        return -functools.reduce(jnp.minimum, [jnp.abs(x - value) for value in self.values])

    def __str__(self) -> str:
        return "{" + ", ".join(f"{value:g}" for value in self.values) + "}"


@dataclasses.dataclass(frozen=True)
class Named:
    """A domain that is not a set of numbers, said in words."""

    words: str

    def __str__(self) -> str:
        return self.words


Domain = Interval | Counts | Choice | Named

REAL = Interval()
POSITIVE = Interval(low=0.0)
NON_NEGATIVE = Interval(low=0.0, closed_low=True)
UNIT = Interval(0.0, 1.0, closed_low=True, closed_high=True)
OPEN_UNIT = Interval(0.0, 1.0)
HALF_OPEN_UNIT = Interval(0.0, 1.0, closed_low=True)
ABOVE_ZERO_TO_ONE = Interval(0.0, 1.0, closed_high=True)
AT_LEAST_ONE = Interval(low=1.0, closed_low=True)
AT_LEAST_MINUS_ONE = Interval(low=-1.0, closed_low=True)
NON_POSITIVE = Interval(high=0.0, closed_high=True)
ABOVE_MINUS_ONE = Interval(low=-1.0)

COUNTS = Counts()
SIGNS = Choice((-1.0, 1.0))
FLAGS = Choice((0.0, 1.0))

CLASSES = Named("class ids in [0, K), or distributions over the K classes")
CLASS_IDS = Named("class ids in [0, K)")
RANKS = Named("ranks in [0, K)")
DISTRIBUTION = Named("a distribution over the last axis")
LOG_DISTRIBUTION = Named("the logarithms of a distribution over the last axis")
VECTORS = Named("vectors along the last axis")
COSINES = Named("cosines in [−1, 1], up to rounding")
CLASSES_OR_ONE_HOT = Named("class ids in [0, K), or one-hot rows over the K classes")
FOREGROUND = Named("{0, 1}, one a pixel")
COSINE_RANGE = Interval(-1.0, 1.0, closed_low=True, closed_high=True)
TRIANGULAR = Named("lower triangular matrices with a positive diagonal")
LISTS = Named("numbers, one an item of the list")
GROUPS = Named("integer ids: rows of one id belong together")


def takes_class_ids(labels: Domain | None) -> bool:
    """Whether labels of that domain may be class ids or ranks."""
    return labels in (CLASSES, CLASS_IDS, RANKS)
