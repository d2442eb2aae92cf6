"""Where the rows of a training run come from: a made line, scikit-learn's sets, a CSV file."""

import csv
import difflib
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

Kind = Literal["number", "classes"]

LINE = "line"
BUNDLED: dict[str, tuple[str, tuple[Kind, ...]]] = {
    "diabetes": ("load_diabetes", ("number",)),
    "breast_cancer": ("load_breast_cancer", ("classes",)),
    "digits": ("load_digits", ("classes",)),
    "wine": ("load_wine", ("classes",)),
}
SLOPE, INTERCEPT = 2.0, 3.0

_LINE_ROWS = 400
_FEWEST_ROWS = 5
_MOST_CLASSES = 20


class BadInput(Exception):  # noqa: N818 - a fact about the input, not a failure of ours
    """What was asked for cannot be done; the message is the one line the user reads."""


class Table(NamedTuple):
    """Rows as they were found, and what their target may be read as, the likeliest first."""

    name: str
    features: np.ndarray
    feature_names: tuple[str, ...]
    target: np.ndarray
    target_name: str
    kinds: tuple[Kind, ...]


def read(source: str, *, target: str | None = None, drop: Sequence[str] = (), seed: int = 0) -> Table:
    """The rows of a source: "line", the name of a bundled set, or the path of a CSV file.

    Args:
        source: where the rows come from.
        target: the column of a CSV file to predict.
        drop: columns of a CSV file to leave out.
        seed: of the line's noise.

    Raises:
        BadInput: the rows cannot be used, and why.

    """
    made_here = source == LINE or source in BUNDLED
    if made_here and (target is not None or drop):
        msg = f"--target and --drop are for CSV files; `{source}` brings its own target"
        raise BadInput(msg)
    if made_here:
        return _made_line(seed) if source == LINE else _bundled(source)
    return _csv(source, target, drop)


def closest(name: str, names: Sequence[str]) -> str:
    """`; did you mean ...?`, or nothing where no name comes near."""
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _made_line(seed: int) -> Table:
    """The line y = 2x + 3, x uniform on [0, 10], with standard normal noise."""
    random = np.random.default_rng(seed)
    x = random.uniform(0, 10, _LINE_ROWS)
    y = SLOPE * x + INTERCEPT + random.normal(size=_LINE_ROWS)
    return Table(LINE, x[:, None], ("x",), y, "y", ("number",))


def _bundled(source: str) -> Table:
    from sklearn import datasets

    loader, kinds = BUNDLED[source]
    bunch = getattr(datasets, loader)()
    target = np.asarray(bunch.target)
    if kinds == ("classes",):
        target = np.asarray(bunch.target_names)[target].astype(str)
    names = tuple(str(name) for name in bunch.feature_names)
    return Table(source, np.asarray(bunch.data, float), names, target, "target", kinds)


# --- CSV --------------------------------------------------------------------------------------


class _Row(NamedTuple):
    """One record of the file, and where a user finds it again."""

    where: str
    cells: list[str]


def _csv(path: str, target: str | None, drop: Sequence[str]) -> Table:
    header, rows = _records(path)
    _check_header(path, header, target, drop)
    for row in rows:
        if len(row.cells) != len(header):
            msg = f"{row.where}: {len(row.cells)} cells, while the header has {len(header)}"
            raise BadInput(msg)
    if len(rows) < _FEWEST_ROWS:
        msg = f"{path}: too few rows ({len(rows)}); {_FEWEST_ROWS} are needed to hold some out"
        raise BadInput(msg)
    kept = [i for i, name in enumerate(header) if name != target and name not in drop]
    features = [[_number(row, i, header) for i in kept] for row in rows]
    values, kinds = _target(path, rows, header.index(target or ""), header)
    names = tuple(header[i] for i in kept)
    return Table(path, np.array(features), names, values, target or "", kinds)


def _records(path: str) -> tuple[list[str], list[_Row]]:
    """The header and the rows, separated by whichever of , ; and tab the header uses."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            first_line = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(",;\t", key=first_line.count), strict=True)
            records = [(reader.line_num, cells) for cells in reader if cells]
    except FileNotFoundError:
        known = [LINE, *BUNDLED]
        near = closest(path, known) or f"; sources: {', '.join(known)}, or the path of a CSV file"
        msg = f"there is no file `{path}`{near}"
        raise BadInput(msg) from None
    except (OSError, UnicodeError, csv.Error) as error:
        msg = f"{path} cannot be read as CSV in UTF-8: {error}"
        raise BadInput(msg) from None
    if not records:
        msg = f"{path} is empty; a header line and rows are needed"
        raise BadInput(msg)
    header = [name.strip() for name in records[0][1]]
    rows = [_Row(f"{path}, row {i} (line {line})", cells) for i, (line, cells) in enumerate(records[1:], 1)]
    return header, rows


def _check_header(path: str, header: list[str], target: str | None, drop: Sequence[str]) -> None:
    listed = ", ".join(header)
    twice = next((name for name in header if header.count(name) > 1), None)
    missing = next((name for name in (target, *drop) if name is not None and name not in header), None)
    if twice is not None:
        msg = f"{path}: two columns are named `{twice}`"
    elif target is None:
        msg = f"{path}: say which column to predict with --target; the columns are {listed}"
    elif missing is not None:
        msg = f"{path}: no column `{missing}`; the columns are {listed}{closest(missing, header)}"
    elif target in drop:
        msg = f"{path}: `{target}` is the target and cannot be dropped"
    elif len(set(header) - {target, *drop}) == 0:
        msg = f"{path}: no column is left to predict `{target}` from"
    else:
        return
    raise BadInput(msg)


def _number(row: _Row, column: int, header: list[str], *, drop: bool = True) -> float:
    """A finite number; Python's own 1_000 is no number in a data file."""
    cell = row.cells[column]
    value = _parsed(cell)
    if value is not None and math.isfinite(value):
        return value
    name = header[column]
    wrong = "the cell is empty" if not cell.strip() else f"{cell[:40]!r} is not a finite number"
    fix = f"; correct it, or leave the column out with --drop {name!r}" if drop else ""
    msg = f"{row.where}, column `{name}`: {wrong}{fix}"
    raise BadInput(msg)


def _parsed(cell: str) -> float | None:
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _target(
    path: str, rows: list[_Row], column: int, header: list[str]
) -> tuple[np.ndarray, tuple[Kind, ...]]:
    """The target's values: numbers wherever one cell is a number, classes where none is."""
    cells = [row.cells[column].strip() for row in rows]
    name = header[column]
    distinct = len(set(cells))
    if all(cell and _parsed(cell) is None for cell in cells):
        if 1 < distinct <= max(2, len(rows) // 2):
            return np.array(cells), ("classes",)
        msg = f"{path}: `{name}` holds {distinct} texts in {len(rows)} rows, too many to be classes"
        if distinct == 1:
            msg = f"{path}: `{name}` holds one class, {cells[0]!r}; there is nothing to learn"
        raise BadInput(msg)
    values = np.array([_number(row, column, header, drop=False) for row in rows])
    return values, _kinds_of(path, name, values)


def _kinds_of(path: str, name: str, values: np.ndarray) -> tuple[Kind, ...]:
    """Two values are classes, so are a few whole numbers; a loss may ask for the other reading."""
    distinct = len(np.unique(values))
    if distinct == 1:
        msg = f"{path}: `{name}` holds one class, {values[0]:g}; there is nothing to learn"
        raise BadInput(msg)
    if distinct == 2:
        return ("classes", "number")
    if not np.all(values == np.round(values)):
        return ("number",)
    few = distinct <= min(_MOST_CLASSES, len(values) // 5)
    return ("classes", "number") if few else ("number", "classes")


# --- what a model sees of them ----------------------------------------------------------------


def hold_out(groups: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers to train and to test on: at random, each group in the same proportion.

    A group always keeps a row to train on.
    """
    order = np.random.default_rng(seed).permutation(len(groups))
    members = [order[groups[order] == group] for group in np.unique(groups)]
    held = [m[: min(round(fraction * len(m)), len(m) - 1)] for m in members]
    if not any(len(h) for h in held):
        held = [max(members, key=len)[:1]]
    test = np.sort(np.concatenate(held))
    return np.setdiff1d(order, test), test


def standardise(features: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of mean 0 and deviation 1 over the training rows, their means and their scales.

    A column constant over the training rows has scale 1. Columns are divided by their peak before
    they are squared, so 1e200 is a number like any other.
    """
    peaks = np.max(np.abs(features[train]), axis=0)
    peaks = np.where(peaks == 0, 1, peaks)
    means = np.mean(features[train] / peaks, axis=0)
    deviations = np.std(features[train] / peaks, axis=0)
    constant = deviations <= 8 * np.finfo(float).eps
    means, scales = means * peaks, np.where(constant, 1, deviations * peaks)
    return (features - means) / scales, means, scales
