"""No test and no benchmark drops a verdict, and the scan that says so would see one."""

import subprocess
import sys
from pathlib import Path

import dropped_verdicts
import pytest

SCRIPT = Path(dropped_verdicts.__file__)

DROPPED = [
    "np.allclose(a, b)",
    "jnp.allclose(a, b, rtol=1e-6)",
    "allclose(a, b)",
    "np.array_equal(a, b)",
    "jnp.all(a == b)",
    "(a == b).all()",
    "a == b",
    "a < b < c",
    "not a",
    "a == b and c == d",
    "jnp.isnan(a)",
    "isinstance(a, int)",
    "x.at[0].set(1)",
    "x.at[0, 1:].add(1)",
    "self.x.at[i].multiply(2)",
    "assert (a, 'is b')",
    "def test():\n    for a in b:\n        np.allclose(a, 1)",
]
USED = [
    "assert np.allclose(a, b)",
    "np.testing.assert_allclose(a, b)",
    "same = a == b",
    "x = x.at[0].set(1)",
    "f(x.at[0].set(1))",
    "if np.allclose(a, b):\n    pass",
    "seen.add(a)",
    "config.set(1)",
    "assert a == b, 'why'",
    "'a docstring'",
    "f(a == b)",
]


@pytest.mark.parametrize("snippet", DROPPED)
def test_a_dropped_verdict_is_found(snippet):
    assert len(list(dropped_verdicts.dropped(snippet))) == 1


@pytest.mark.parametrize("snippet", USED)
def test_a_verdict_that_is_used_is_not_found(snippet):
    assert not list(dropped_verdicts.dropped(snippet))


def test_no_test_and_no_benchmark_drops_a_verdict():
    paths = dropped_verdicts.files([dropped_verdicts.ROOT / folder for folder in dropped_verdicts.FOLDERS])
    found = {str(path): list(dropped_verdicts.dropped(path.read_text(encoding="utf-8"))) for path in paths}
    assert not {path: lines for path, lines in found.items() if lines}


def test_the_scan_reads_this_very_file():
    paths = dropped_verdicts.files([dropped_verdicts.ROOT / folder for folder in dropped_verdicts.FOLDERS])
    assert Path(__file__).resolve() in {path.resolve() for path in paths}


@pytest.mark.parametrize(("snippet", "code"), [("np.allclose(1, 2)\n", 1), ("x = 1\n", 0)])
def test_the_script_exits_with_one_where_it_finds_any(tmp_path, snippet, code):
    (tmp_path / "bad.py").write_text(snippet)
    done = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == code


def test_the_script_names_the_file_and_the_line(tmp_path):
    (tmp_path / "bad.py").write_text("x = 1\nx.at[0].set(2)\n")
    done = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, check=False)
    assert "bad.py:2: " in done.stdout
