"""Every example that is a script runs as a stranger would run it, and asserts at its end what it shows."""

import ast
import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from programs import at_home

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("[!_]*.py"))
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


def imported(tree: ast.AST) -> set[str]:
    """What a program imports, by the whole name of each module."""
    nodes = list(ast.walk(tree))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


def judged_by(source: str) -> set[str]:
    """The examples that functions of a test module use: called for by `example("name")`, or imported in a
    program they start. A word in a comment or a docstring is neither."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    nodes = [node for function in functions for node in ast.walk(function)]
    said = {node.value for node in nodes if isinstance(node, ast.Expr)}
    found = set()
    for node in nodes:
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "example":
            found |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in said:
            with contextlib.suppress(SyntaxError):
                found |= {name.removeprefix("examples.") for name in imported(ast.parse(node.value))}
    return found


@pytest.mark.parametrize("name", WITH_MAIN)
def test_an_example_with_a_main_is_called_by_a_test_of_its_own(name):
    judge = Path(__file__).with_name(f"{WITH_MAIN[name]}.py")
    assert name in judged_by(judge.read_text(encoding="utf-8"))


def test_an_example_that_is_only_mentioned_is_not_called():
    spoken = (
        'def test_boosting():\n    """import boosting"""\n    # example("boosting")\n    print("boosting")'
    )
    assert judged_by(spoken) == set()
    assert judged_by('def test_it():\n    run("from examples.boosting import main")') == {"boosting"}
    assert judged_by('def test_it():\n    example("boosting").main()') == {"boosting"}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_runs_and_shows_what_it_claims(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert any(isinstance(node, ast.Assert) for node in tree.body), "an example asserts what it shows"
    packages = {name.split(".")[0] for name in imported(tree)}
    for package in sorted(packages - {"jaxloss"}):
        pytest.importorskip(package, reason=f"{path.name} shows it")
    command = [sys.executable, "-W", "error", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=at_home())
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "an example prints what it found"
