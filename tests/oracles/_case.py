"""What an oracle is: a loss by hand, one row at a time, in 80 decimal digits.

The formulas are the textbook's, with no care for cancellation: 80 digits take that care. Nothing here
imports jax.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import mpmath
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mpmath import mp, mpf

DIGITS = 80
ROWS = 8
Data = tuple[np.ndarray, ...]
Options = dict[str, Any]
RowFormula = Callable[..., Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One loss under one choice of options, judged row by row.

    value, gradient: of one row, ℓ and ∂ℓ/∂(first argument); an item is a list of numbers.
    more_gradients: ∂ℓ/∂(another argument) of one row, by the argument's position; more_scales: the size
    rounding errors of it are measured against, where it is not the derivative and the loss.
    option_gradients: ∂ℓ/∂option of one row, in the option's shape (a number where `row_options` has it).
    draws: data and options with every awkward point; calm: the same of moderate size.
    scale, gradient_scale: the size rounding errors are measured against, where it is not |ℓ| or |∂ℓ|;
    quadratic: a loss that is the square of a rounded quantity cannot be closer to 0 than its square.
    kinks: the distance of one row's data to the next kink of the loss.
    row_options: options that stand against the rows; the others belong to items or to everything.
    own_path: whether other options lead to another formula in the library, not to one with more in it.
    words: options that are words or flags, the same in every draw; the formulas know them already.
    mask_ndim: the axes of an item that a loss's own `where` has.
    couples: why the rows depend on each other, where they do: then the formulas take the whole batch, as
    NumPy arrays of extended precision, and give one value a row or the gradient of the sum.
    hard: what the draws must be able to reach. violations: one row's bad value for an argument.
    """

    name: str
    value: RowFormula
    gradient: RowFormula
    draws: st.SearchStrategy[tuple[Data, Options]]
    calm: st.SearchStrategy[tuple[Data, Options]]
    more_gradients: Mapping[int, RowFormula] = dataclasses.field(default_factory=dict)
    more_scales: Mapping[int, RowFormula] = dataclasses.field(default_factory=dict)
    option_gradients: Mapping[str, RowFormula] = dataclasses.field(default_factory=dict)
    scale: RowFormula | None = None
    gradient_scale: RowFormula | None = None
    quadratic: bool = False
    kinks: RowFormula | None = None
    counted: RowFormula | None = None
    row_options: tuple[str, ...] = ()
    words: Mapping[str, str | bool] = dataclasses.field(default_factory=dict)
    item_ndim: int = 0
    mask_ndim: int = 0
    couples: str = ""
    with_options: bool = False
    own_path: bool = False
    hard: Mapping[str, Callable[[Data, Options], bool]] = dataclasses.field(default_factory=dict)
    violations: Mapping[str, tuple[int, Any]] = dataclasses.field(default_factory=dict)
    ulps: int = 16
    ulps_reason: str = ""

    @property
    def loss(self) -> str:
        """The name of the card."""
        return self.name.split("/")[0]

    @property
    def plain(self) -> bool:
        """Whether it is the loss at its default options."""
        return not self.with_options

    def over_rows(self, formula: RowFormula, data: Data, options: Options) -> np.ndarray:
        """The formula of one row, applied to each, rounded to float64 once."""
        return _remembered(self, formula, tuple(map(_Bits, data)), tuple(_named_bits(options)))

    def _over_rows(self, formula: RowFormula, data: Data, options: Options) -> np.ndarray:
        if self.couples:
            return _of_batch(formula, data, options)
        rows = np.shape(data[0])[: np.ndim(data[0]) - self.item_ndim]
        per_row = {name: self._standing_against(rows, name, value) for name, value in options.items()}
        with mpmath.workdps(DIGITS):
            results = [
                formula(
                    *(_exact(array[row]) for array in data),
                    **{name: _exact(value[row]) for name, value in per_row.items()},
                )
                for row in np.ndindex(rows)
            ]
            flat = np.array([_rounded(result) for result in results])
        return flat.reshape(rows + flat.shape[1:])

    def _standing_against(self, rows: tuple[int, ...], name: str, option: Any) -> np.ndarray:
        option = np.asarray(option)
        if option.shape[: len(rows)] == rows:  # one a row already, as a mask of items is
            return option
        item = () if name in self.row_options else option.shape
        return np.broadcast_to(option, rows + item)

    def values(self, data: Data, options: Options) -> np.ndarray:
        return self.over_rows(self.value, data, options)

    def gradients(self, data: Data, options: Options) -> np.ndarray:
        return self.over_rows(self.gradient, data, options)

    def value_scale(self, data: Data, options: Options) -> np.ndarray:
        """What an error of the value is measured against."""
        return np.abs(self.over_rows(self.scale or self.value, data, options))

    def slope_scale(self, data: Data, options: Options) -> np.ndarray:
        """What an error of the gradient is measured against."""
        return np.abs(self.over_rows(self.gradient_scale or self.gradient, data, options))

    def kink_distances(self, data: Data, options: Options) -> np.ndarray:
        """How far each row's data lie from the next kink; ∞ where there is none."""
        nowhere = np.full(np.shape(data[0])[: np.ndim(data[0]) - self.item_ndim], np.inf)
        return nowhere if self.kinks is None else self.over_rows(self.kinks, data, options)

    def kept_by_options(self, data: Data, options: Options) -> np.ndarray:
        """Which rows a mean counts."""
        if self.counted is not None:
            return self.over_rows(self.counted, data, options) != 0
        rows = np.shape(data[0])[: np.ndim(data[0]) - self.item_ndim]
        return np.broadcast_to(options.get("where", True) if self.couples else True, rows)


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What decides a card's claims at its default options, and at these where it has no default.

    attained: for a bound, data (for `smooth`, two of them) at which it is all but reached.
    refuted_by: for a claim the card does not make, data that show it false.
    options: the options that the loss requires, in every example.
    sample: targets whose best constant prediction is none of the known statistics, unless the card
    says which one it is.
    """

    attained: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    refuted_by: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sample: Any = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class _Bits:
    """An array to remember something by: equal where all its bits are."""

    def __init__(self, value: Any) -> None:
        self.array = np.asarray(value)
        self.key = self.array.shape, self.array.dtype.str, self.array.tobytes()

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: Any) -> bool:
        return self.key == other.key


def _named_bits(options: Options) -> Iterator[tuple[str, _Bits]]:
    return ((name, _Bits(value)) for name, value in sorted(options.items()))


@functools.lru_cache(maxsize=4096)
def _remembered(case: Case, formula: RowFormula, data: tuple[_Bits, ...], options: tuple) -> np.ndarray:
    """One example is judged by many tests, by its value and its scale."""
    arrays = tuple(bits.array.copy() for bits in data)
    found = case._over_rows(formula, arrays, {name: bits.array.copy() for name, bits in options})
    found.flags.writeable = False
    return found


def _exact(value: Any) -> Any:
    """Floats as mpf, with all their bits; integers and flags as Python's own; items as lists."""
    array = np.asarray(value)
    if array.ndim:
        return [_exact(entry) for entry in array]
    return mpf(float(array)) if np.issubdtype(array.dtype, np.floating) else array.item()


def _of_batch(formula: RowFormula, data: Data, options: Options) -> np.ndarray:
    """The formula of the rows that there are, in extended precision; 0 for the others."""
    wide = [_wide(array) for array in data]
    numbers = {name: _wide(value) for name, value in options.items() if name != "where"}
    kept = np.broadcast_to(options.get("where", True), np.shape(data[0])[:1])
    found = formula(*(array[kept] for array in wide), **numbers)
    whole = np.zeros((len(kept), *found.shape[1:]))
    whole[kept] = found.astype(np.float64)
    return whole


def _wide(value: Any) -> Any:
    array = np.asarray(value)
    return array.astype(np.longdouble) if np.issubdtype(array.dtype, np.floating) else array


def _rounded(result: Any) -> Any:
    if isinstance(result, (list, tuple)):
        return [_rounded(entry) for entry in result]
    return float(result)


def sign(x: Any) -> int:
    """−1, 0 or 1."""
    return (x > 0) - (x < 0)


def nearest_kink(*distances: Any) -> Any:
    """How far the next of several kinks is: 0 on one of them, if no other is in doubt; ∞ without any."""
    apart = min((d for d in distances if d), default=mp.inf)
    return 0 if 0 in distances and apart > mpf(10) ** -2 else apart


def norm(vector: list[Any]) -> Any:
    """Euclidean."""
    return mp.sqrt(sum(entry * entry for entry in vector))


# --- what the draws are made of ---------------------------------------------------------------


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    """Floats down to 1e-25 and zero: a machine may flush smaller squares, and 80 digits end there."""
    return st.floats(low, high, allow_subnormal=False).map(lambda x: x if abs(x) > 1e-25 else max(low, 0.0))


def one_each(elements: st.SearchStrategy, *item: int, dtype: type = np.float64) -> st.SearchStrategy:
    """One draw for each row (and each entry of its item)."""
    return arrays(dtype, (ROWS, *item), elements=elements, fill=st.nothing())


def each(**options: st.SearchStrategy) -> st.SearchStrategy[Options]:
    """One draw for each option."""
    return st.fixed_dictionaries(options)


def number(*awkward: float, low: float, high: float) -> st.SearchStrategy[np.ndarray]:
    """A hyperparameter, as a scalar array: awkward values first."""
    return (st.sampled_from(awkward) | floats(low, high)).map(np.float64)


def any_row(predicate: Callable[..., Any]) -> Callable[[Data, Options], bool]:
    """Whether some row of drawn data is of the wanted kind."""
    return lambda data, options: bool(np.any(predicate(*data, **options)))
