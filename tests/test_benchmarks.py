"""The benchmark harness: it measures what is right and refuses what is wrong. No test here reads a clock."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import at_home

from benchmarks import report
from benchmarks.__main__ import main
from benchmarks.cases import CASES
from benchmarks.harness import (
    LIMIT,
    OURS,
    TOLERANCE,
    Case,
    Contender,
    Target,
    WrongError,
    compiled,
    error,
    imported,
    interleaved,
    measure,
)

ROOT = Path(__file__).parent.parent
RECORD_FIELDS = {
    "case",
    "title",
    "inputs",
    "quick",
    "rounds",
    "device",
    "versions",
    "contenders",
    "targets",
}
CONTENDER_FIELDS = {"name", "error", "correct", "seconds", "ours_over_this", "temp_bytes"}
# An import is timed in interpreters of its own, which takes seconds.
MEASURED = [case.name for case in CASES if case.oracle]
TARGET_FIELDS = {"against", "at_most", "measured", "met"}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """A quick run in a process of its own, of all cases but the slow one."""
    output = tmp_path_factory.mktemp("benchmarks") / "quick.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "1", "--output", str(output)]
    command += [word for name in MEASURED for word in ("--case", name)]
    done = subprocess.run(command, cwd=ROOT, env=at_home(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in output.read_text().splitlines()]


def simple_case(ours=lambda x: x * x, theirs=lambda x: x**2, targets=()):
    return Case(
        "square",
        "square",
        lambda *, quick: (np.linspace(1, 2, 8 if quick else 64, dtype=np.float32),),
        lambda x: x.astype(np.float64) ** 2,
        (
            Contender(OURS, ours, compiled),
            Contender("theirs", theirs, compiled),
            Contender(LIMIT, lambda x: -x, compiled, answers=False),
        ),
        targets,
    )


# --- a run ------------------------------------------------------------------------------------


def test_a_quick_run_measures_every_case_in_order(records):
    assert [record["case"] for record in records] == MEASURED


def test_an_import_is_timed_in_a_fresh_interpreter():
    prepared = imported("json.tool", ())
    assert prepared.seconds() > 0
    with pytest.raises(subprocess.CalledProcessError):
        imported("no_such_module", ()).seconds()


def test_every_record_has_its_fields(records):
    for record in records:
        assert set(record) == RECORD_FIELDS
        assert all(set(entry) == CONTENDER_FIELDS for entry in record["contenders"])
        assert all(set(target) == TARGET_FIELDS for target in record["targets"])


def test_every_contender_is_right_and_its_quartiles_are_ordered(records):
    tolerances = {case.name: case.tolerance for case in CASES}
    for record in records:
        for entry in record["contenders"]:
            assert entry["correct"]
            assert entry["error"] is None or entry["error"] <= tolerances[record["case"]]
            assert entry["seconds"] == sorted(entry["seconds"])
            assert min(entry["seconds"]) > 0


def test_ours_is_checked_in_every_case(records):
    ours = [entry for record in records for entry in record["contenders"] if entry["name"] == OURS]
    assert len(ours) == len(records)
    assert all(entry["error"] is not None for entry in ours)


def test_every_case_states_a_target(records):
    assert all(record["targets"] for record in records)


def test_a_record_names_no_host(records):
    device = records[0]["device"]
    assert os.uname().nodename not in json.dumps(records)
    assert device.startswith(("cpu-", "nvidia-", "amd-", "tpu-"))


def test_a_quick_run_keeps_nothing_unless_told_where(monkeypatch, tmp_path):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr("benchmarks.__main__.CASES", (simple_case(),))
    assert main(["--quick", "--rounds", "1"]) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--case", "unheard-of"], ["--rounds", "0"]])
def test_a_bad_option_is_refused(arguments):
    with pytest.raises(SystemExit) as refusal:
        main(arguments)
    assert refusal.value.code == 2


# --- right first ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x * x * (1 + 1e-3),
        lambda x: -x * x,
        lambda x: jnp.sum(x * x),
        lambda x: jnp.where(x == x[3], jnp.float32(jnp.nan), x * x),
    ],
    ids=["scaled", "negated", "reduced", "one NaN"],
)
def test_a_wrong_answer_of_ours_is_not_timed(wrong):
    with pytest.raises(WrongError, match=f"square: {OURS} is off by"):
        measure(simple_case(ours=wrong), rounds=1, quick=True)


@pytest.mark.parametrize("case", [c for c in CASES if c.oracle], ids=lambda c: c.name)
def test_a_wrong_gradient_or_loss_of_any_case_is_seen(case):
    truth = case.oracle(*case.inputs(quick=True))
    leaves, tree = jax.tree.flatten(truth)
    for position in range(len(leaves)):
        off = [np.asarray(leaf) * (1 + 1e-4 * (position == i)) for i, leaf in enumerate(leaves)]
        assert error(tree.unflatten(off), truth) > TOLERANCE


def test_a_refusal_is_the_exit_code_and_keeps_no_number(monkeypatch, tmp_path):
    output = tmp_path / "results.json"
    monkeypatch.setattr("benchmarks.__main__.CASES", (simple_case(ours=lambda x: x),))
    assert main(["--quick", "--rounds", "1", "--output", str(output)]) == 1
    assert not output.exists()


def test_a_wrong_peer_is_named_wrong_and_not_timed():
    record = measure(simple_case(theirs=lambda x: x, targets=(Target(2.0, "theirs"),)), rounds=1, quick=True)
    theirs = record["contenders"][1]
    assert (theirs["correct"], theirs["seconds"]) == (False, None)
    assert record["targets"][0]["met"] is None
    assert "| wrong |" in report.markdown(
        [record | {"contenders": [record["contenders"][0], theirs | {"name": "optax"}]}]
    )


def test_an_absent_package_leaves_its_contender_out():
    case = simple_case()
    missing = case.contenders[1]._replace(needs="no_such_package")
    record = measure(case._replace(contenders=(case.contenders[0], missing)), rounds=1, quick=True)
    assert [entry["name"] for entry in record["contenders"]] == [OURS]


# --- then fast --------------------------------------------------------------------------------


def test_a_round_runs_forwards_and_back_so_that_a_steady_drift_cancels():
    clock = iter(range(1000))
    seconds = interleaved([lambda: next(clock)] * 3, rounds=4)
    assert np.ptp(seconds, axis=1).max() == 0


@pytest.mark.parametrize(("at_most", "met"), [(1e9, True), (1e-9, False)])
def test_a_target_is_judged_against_its_peer(at_most, met):
    targets = (Target(at_most, "theirs"), Target(at_most))
    record = measure(simple_case(targets=targets), rounds=2, quick=True)
    assert [target["met"] for target in record["targets"]] == [met, met]


# --- results and tables -----------------------------------------------------------------------


def test_results_are_replaced_case_by_case_in_the_order_of_the_cases(tmp_path):
    path = tmp_path / "device.json"
    report.write(path, [{"case": "b", "n": 1}, {"case": "a", "n": 1}], ["a", "b"])
    report.write(path, [{"case": "b", "n": 2}], ["a", "b"])
    assert report.read(path) == [{"case": "a", "n": 1}, {"case": "b", "n": 2}]


def test_the_table_holds_the_measured_numbers_and_the_rest_of_the_readme_stays(records, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- benchmarks:begin -->\nold\n<!-- benchmarks:end -->\nafter\n")
    report.write(tmp_path / "results" / "cpu.json", records, [record["case"] for record in records])
    report.write_table(readme, tmp_path / "results")
    first = readme.read_text()
    ours = next(entry for entry in records[0]["contenders"] if entry["name"] == OURS)
    assert f"**{report.seconds_text(ours['seconds'][1])}**" in first
    assert all(record["title"] in first for record in records)
    assert "old" not in first
    assert first.startswith("before\n")
    assert first.endswith("\nafter\n")
    report.write_table(readme, tmp_path / "results")
    assert readme.read_text() == first


def test_every_row_of_the_table_has_as_many_cells_as_its_head(records):
    rows = [line for line in report.markdown(records).splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(records)
    assert len({row.count("|") for row in rows}) == 1


def test_the_table_names_every_contender_with_its_time(records):
    lines = report.markdown(records).splitlines()
    columns = [cell.strip() for cell in lines[2].split("|")[1:-1]]
    for line, record in zip(lines[4:], records, strict=True):
        cells = dict(zip(columns, line.split("|")[1:-1], strict=True))
        for entry in record["contenders"]:
            cell = cells.get(entry["name"], cells["others"])
            assert report.seconds_text(entry["seconds"][1]) in cell
            assert entry["name"] in columns or f"{entry['name']}: " in cell


def test_a_readme_without_markers_is_refused(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("nothing to replace")
    with pytest.raises(ValueError, match="benchmarks:begin"):
        report.write_table(readme, tmp_path)
    assert readme.read_text() == "nothing to replace"


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.0, "2 s"), (0.0123, "12.3 ms"), (4.5e-5, "45 µs"), (1e-3, "1 ms")]
)
def test_times_read_in_their_own_unit(seconds, text):
    assert report.seconds_text(seconds) == text
