"""The pages on adaptive losses and other ecosystems, run line by line as they are read."""

import re
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

DOCS = Path(__file__).parents[1] / "docs"
PACKAGES = {
    "adaptive.md": ("optax",),
    "ecosystems.md": ("xgboost", "lightgbm", "catboost", "sklearn"),
}
PROMISE = re.compile(r"^(\S.*?)  # → (.*)$", re.MULTILINE)


def blocks(page):
    """The Python of a page, each block in its place."""
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def checked(block):
    """The block, in which each promised value has become a comparison."""
    return PROMISE.sub(r"_compare((\1), (\2))", block)


@pytest.mark.parametrize("page", PACKAGES)
def test_every_line_of_the_page_runs_and_gives_what_it_says(page):
    for package in PACKAGES[page]:
        pytest.importorskip(package, reason=f"docs/{page} shows it")
    seen = []

    def compare(found, promised):
        seen.append(promised)
        if isinstance(promised, float):
            np.testing.assert_allclose(found, promised, rtol=1e-6)
        else:
            assert found == promised

    names = {"_compare": compare}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Failed to import numba")
        for block in blocks(page):
            exec(checked(block), names)
    assert len(seen) == sum(map(len, map(PROMISE.findall, blocks(page)))) >= 3
