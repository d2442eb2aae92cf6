"""`python -m benchmarks`: measure, show, keep; `--table` writes the README's table from what is kept."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import report
from benchmarks.cases import CASES
from benchmarks.harness import WrongError, device_slug, measure

_NAMES = [case.name for case in CASES]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases asked for; the exit code is 1 where one of ours is wrong."""
    options = _parser().parse_args(arguments)
    if options.table:
        return _table()
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 110)
    records, refused = [], False
    for case in CASES:
        if options.case and case.name not in options.case:
            continue
        try:
            records.append(measure(case, rounds=options.rounds, quick=options.quick))
        except WrongError as refusal:
            console.print(f"[bold red]{refusal}")
            refused = True
        else:
            report.show(records[-1:], console)
    output = options.output or (None if options.quick else report.RESULTS / f"{device_slug()}.json")
    if output and records:
        report.write(output, records, _NAMES)
        console.print(f"written: {os.path.relpath(output)}")
    return int(refused)


def _table() -> int:
    try:
        report.write_table()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--case",
        action="append",
        choices=_NAMES,
        metavar="NAME",
        help=f"only this one; may be repeated: {', '.join(_NAMES)}",
    )
    parser.add_argument(
        "--rounds", type=_positive, default=15, help="rounds of two runs each (default: %(default)s)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, to see that it works; kept only with --output"
    )
    parser.add_argument(
        "--output", type=Path, help="JSON lines to write (default: benchmarks/results/<device>.json)"
    )
    parser.add_argument("--table", action="store_true", help="write the README's table and measure nothing")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        msg = f"must be 1 or more, got {number}"
        raise argparse.ArgumentTypeError(msg)
    return number


if __name__ == "__main__":
    sys.exit(main())
