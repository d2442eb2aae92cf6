"""Every example that is a script runs as a stranger would run it, and asserts at its end what it shows."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
# Longer ones have a `main`, which the tests of what they show call with less to do.
WITH_MAIN = {
    "boosting": "test_adaptive_examples",
    "language_model": "test_chunked",
    "learned_robust_loss": "test_adaptive_examples",
    "two_tasks": "test_weighting",
}
SCRIPTS = [path for path in EXAMPLES if path.stem not in WITH_MAIN]


def test_there_are_examples():
    assert {path.stem for path in SCRIPTS} == {"plain_optax", "flax_nnx", "equinox_mlp", "microbatches"}


@pytest.mark.parametrize("name", WITH_MAIN)
def test_an_example_with_a_main_is_called_by_a_test_of_its_own(name):
    judge = Path(__file__).with_name(f"{WITH_MAIN[name]}.py")
    assert name in judge.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_runs_and_shows_what_it_claims(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert any(isinstance(node, ast.Assert) for node in tree.body), "an example asserts what it shows"
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    for package in sorted(imported - {"jaxloss"}):
        pytest.importorskip(package, reason=f"{path.name} shows it")
    # One device, as at home, not the eight of these tests.
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-W", "error", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "an example prints what it found"
