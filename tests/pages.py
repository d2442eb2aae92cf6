"""The tables of the pages in `docs/`, for the tests that run them."""

import re
from pathlib import Path

import numpy as np

DOCS = Path(__file__).parents[1] / "docs"
EXCEPTIONS = {"IndexError": IndexError, "TypeError": TypeError, "ValueError": ValueError}


def read(page):
    return (DOCS / page).read_text(encoding="utf-8")


def tables(page):
    """The heading it stands under, the names of its columns, and its rows, of each table of a page."""
    heading, found = "", []
    for block in re.split(r"\n\s*\n", read(page)):
        if block.startswith("#"):
            heading = block.lstrip("# ")
        elif block.startswith("|"):
            columns, _, *rows = map(_cells, block.strip().splitlines())
            found.append((heading, columns, rows))
    return found


def _cells(line):
    return tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])


def assert_answers(answer, told):
    """To the digits that a page gives."""
    told = told.replace("−", "-").replace("∞", "inf").replace("NaN", "nan")
    wanted = np.asarray(eval(told, {"inf": np.inf, "nan": np.nan}))
    assert np.shape(answer) == wanted.shape
    np.testing.assert_allclose(np.asarray(answer, float), wanted.astype(float), rtol=5e-3)
