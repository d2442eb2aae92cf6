"""Results: kept as JSON lines, shown as a table in the terminal and in the README."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.harness import LIMIT, OURS

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"

Record = dict[str, Any]

# The contenders that have a column of their own; the others of a case share one.
_COLUMNS = (OURS, "by hand", "optax", "torch", LIMIT)
_BEGIN, _END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"


# --- JSON lines -------------------------------------------------------------------------------


def read(path: Path) -> list[Record]:
    """The records of one device; none where it has not been measured."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def write(path: Path, records: Iterable[Record], order: Sequence[str]) -> None:
    """Put records in the place of older ones of the same case, in the order of the cases."""
    kept = {record["case"]: record for record in [*read(path), *records]}
    lines = [json.dumps(kept[name], ensure_ascii=False) for name in order if name in kept]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


# --- numbers as text --------------------------------------------------------------------------


def seconds_text(seconds: float) -> str:
    """Three digits, in the unit that suits them."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def target_text(target: Record) -> str:
    """What was asked, what was measured, and the verdict."""
    if target["against"] is None:
        asked, measured = f"≤ {seconds_text(target['at_most'])}", target["measured"]
        found = None if measured is None else seconds_text(measured)
    else:
        asked = f"≤ {target['at_most']:g} × {target['against']}"
        found = None if target["measured"] is None else f"{target['measured']:.2f}"
    verdict = {True: f"met ({found})", False: f"missed ({found})", None: "not measured"}[target["met"]]
    return f"{asked}: {verdict}"


def _heading(record: Record) -> str:
    """What is measured, on what."""
    return ", ".join([record["title"], *record["inputs"][:1]])


def _bytes_text(count: int | None) -> str:
    return "–" if count is None else f"{count / 1e6:.3g} MB"


# --- the terminal -----------------------------------------------------------------------------


def show(records: Iterable[Record], console: Console) -> None:
    """Print each case with all its contenders, and its targets."""
    for record in records:
        table = Table(title=escape(_heading(record)), title_justify="left", caption_justify="left")
        table.add_column("")
        for heading in ("median", "quartiles", "ours / this", "quartiles", "scratch", "error"):
            table.add_column(heading, justify="right")
        for entry in record["contenders"]:
            table.add_row(*_row(entry), style="bold" if entry["name"] == OURS else None)
        table.caption = "\n".join(map(target_text, record["targets"]))
        console.print(table)


def _row(entry: Record) -> tuple[str, ...]:
    error = "–" if entry["error"] is None else f"{entry['error']:.0e}"
    if not entry["correct"]:
        return entry["name"], "wrong", "", "", "", _bytes_text(entry["temp_bytes"]), error
    low, median, high = map(seconds_text, entry["seconds"])
    ratio = entry["ours_over_this"]
    spread = f"{ratio[0]:.2f} – {ratio[2]:.2f}"
    scratch = _bytes_text(entry["temp_bytes"])
    return entry["name"], median, f"{low} – {high}", f"{ratio[1]:.2f}", spread, scratch, error


# --- the README -------------------------------------------------------------------------------


def markdown(records: Sequence[Record]) -> str:
    """One device's table: medians, and how many times ours each other contender takes."""
    if not records:
        return ""
    versions = ", ".join(f"{name} {version}" for name, version in records[0]["versions"].items())
    lines = [
        f"`{records[0]['device']}` ({versions}):",
        "",
        "| | " + " | ".join(_COLUMNS) + " | others | targets |",
        "|---|" + "---:|" * len(_COLUMNS) + "---|---|",
    ]
    return "\n".join([*lines, *map(_markdown_row, records)])


def _markdown_row(record: Record) -> str:
    entries = {entry["name"]: entry for entry in record["contenders"]}
    cells = [_markdown_cell(entries.pop(name, None)) for name in _COLUMNS]
    others = "<br>".join(f"{name}: {_markdown_cell(entry)}" for name, entry in entries.items())
    targets = "<br>".join(map(target_text, record["targets"]))
    return "| " + " | ".join([_heading(record), *cells, others, targets]) + " |"


def _markdown_cell(entry: Record | None) -> str:
    if entry is None:
        return ""
    if not entry["correct"]:
        return "wrong"
    median = seconds_text(entry["seconds"][1])
    if entry["name"] == OURS:
        return f"**{median}**"
    return f"{median} ({1 / entry['ours_over_this'][1]:.2f}×)"


def write_table(readme: Path = README, results: Path = RESULTS) -> None:
    """Write the tables of all devices measured between the markers of the README.

    Raises:
        ValueError: a README without the two markers.

    """
    text = readme.read_text()
    pattern = re.compile(f"{_BEGIN}.*?{_END}", re.DOTALL)
    if not pattern.search(text):
        msg = f"{readme.name} must hold {_BEGIN} and, after it, {_END}: the table goes between them."
        raise ValueError(msg)
    tables = "\n\n".join(markdown(read(path)) for path in sorted(results.glob("*.json")))
    readme.write_text(pattern.sub(lambda _: f"{_BEGIN}\n{tables}\n{_END}", text, count=1))
