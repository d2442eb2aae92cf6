"""The blocks of docs/training.md run in their order, and what they assert holds."""

import re
from pathlib import Path

import jax
import pytest

pytest.importorskip("optax", reason="the page trains with Optax")

PAGE = Path(__file__).parent.parent / "docs" / "training.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_blocks_of_the_page_run_and_hold():
    assert sum(block.count("assert") for block in BLOCKS) >= 5
    names = {}
    # As at home: Optax's Adam adds counts to floats, which this suite's strictness refuses.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for block in BLOCKS:
            exec(compile(block, PAGE.name, "exec"), names)
