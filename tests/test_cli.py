"""The main job, run as a user runs it: what it learns, what it refuses, what it keeps."""

import contextlib
import csv
import dataclasses
import inspect
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from matplotlib import image
from programs import at_home
from sklearn import datasets

from jaxloss import _contracts, _problem, _runs, _sources, cli, plots
from jaxloss._loss import CARDS

SOURCES = ["line", *_sources.BUNDLED]


@pytest.fixture
def job(drawing_job, monkeypatch):
    """The same without its picture, which takes longer to draw than a small run to train."""
    monkeypatch.setattr(plots, "loss_curve", lambda *_, **__: None)
    return drawing_job


@pytest.fixture
def drawing_job(tmp_path, capsys, monkeypatch):
    """Run `jaxloss ...` in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*words):
        code = cli.main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


def write_csv(path, columns, *, delimiter=",", encoding="utf-8"):
    """A CSV file of the columns given."""
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def plane(rows=60, seed=1):
    """Rows of a plane with a little noise: two features and their columns."""
    random = np.random.default_rng(seed)
    a, b = random.normal(size=rows), random.uniform(5, 9, rows)
    return {"a": a, "b": b, "y": 3 * a - 2 * b + 20 + 0.1 * random.normal(size=rows)}


def saved(folder="jaxloss-run"):
    with np.load(f"{folder}/parameters.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def losses(printed):
    """(train, test) losses of the best constant and of the model, from the table printed."""
    rows = [re.search(rf"{name}\s+(\S+)\s+(\S+)", printed) for name in ("best constant", "this model")]
    return [tuple(float(number) for number in row.groups()) for row in rows]


# --- it learns --------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES)
def test_each_source_trains_and_beats_its_baseline_on_held_out_rows(drawing_job, source):
    code, printed, _ = drawing_job("train", source, "--steps", 300)
    assert code == 0
    (_, constant), (_, model) = losses(printed)
    assert model < 0.6 * constant
    assert image.imread("jaxloss-run/loss.png").ndim == 3
    if source in LEAST_ACCURACY:
        assert accuracy_of_the_saved_line(source) >= LEAST_ACCURACY[source]


LEAST_ACCURACY = {"breast_cancer": 0.96, "wine": 0.97, "digits": 0.95}


def accuracy_of_the_saved_line(source):
    """Over all rows as they came, by what the file says alone."""
    bunch, arrays = getattr(datasets, f"load_{source}")(), saved()
    lines = bunch.data @ arrays["coefficients"] + arrays["intercept"]
    said = np.argmax(lines, axis=1) if lines.ndim == 2 else (lines > 0).astype(int)
    names = np.asarray(bunch.target_names)[bunch.target].astype(str)
    return np.mean(arrays["classes"][said] == names)


def test_the_line_is_found_within_its_sampling_error(job):
    _, printed, _ = job("train", "line", "--steps", 200, "--seed", 7)
    table = _sources.read("line", seed=7)
    kept, _ = _sources.hold_out(np.zeros(len(table.target)), 0.2, 7)
    x, y = table.features[kept, 0], table.target[kept]
    design = np.stack([x, np.ones_like(x)], axis=1)
    found, (squares,), _, _ = np.linalg.lstsq(design, y, rcond=None)
    errors = np.sqrt(np.diag(np.linalg.inv(design.T @ design)) * squares / (len(x) - 2))
    arrays = saved()
    estimates = np.array([arrays["coefficients"][0], arrays["intercept"]])
    np.testing.assert_allclose(estimates, found, rtol=1e-9)
    assert np.all(np.abs(estimates - [2, 3]) < 4 * errors)
    told = [re.search(rf"{name}\s+(\S+)\s+(\S+)\s+(\d)", printed).groups() for name in ("slope", "intercept")]
    np.testing.assert_allclose(np.array(told, float)[:, 0], found, atol=1e-4)
    np.testing.assert_allclose(np.array(told, float)[:, 1], errors, atol=1e-4)


def test_a_csv_of_numbers_is_regressed_by_least_squares(job, tmp_path):
    write_csv(tmp_path / "plane.csv", plane())
    code, printed, _ = job("train", "plane.csv", "--target", "y", "--steps", 100)
    assert code == 0
    assert "regression.squared_error" in printed
    np.testing.assert_allclose(saved()["coefficients"], [3, -2], atol=0.1)


@pytest.mark.parametrize(
    ("delimiter", "encoding", "classes", "loss"),
    [
        (",", "utf-8-sig", ["no", "yes"], "binary.cross_entropy"),
        (";", "utf-8", ["low", "middle", "tög"], "categorical.cross_entropy"),
        ("\t", "utf-8", ["0", "1", "2"], "categorical.cross_entropy"),
    ],
)
def test_a_csv_of_classes_is_classified(job, tmp_path, delimiter, encoding, classes, loss):
    columns = plane()
    edges = np.quantile(columns["y"], np.linspace(0, 1, len(classes) + 1)[1:-1])
    columns["y"] = [classes[i] for i in np.searchsorted(edges, columns["y"])]
    write_csv(tmp_path / "c.csv", columns, delimiter=delimiter, encoding=encoding)
    code, printed, _ = job("train", "c.csv", "--target", "y", "--steps", 50)
    assert code == 0
    assert loss in printed
    assert [f"{c:g}" if delimiter == "\t" else c for c in saved()["classes"]] == classes
    (_, constant), (_, model) = losses(printed)
    assert model < constant


def test_a_constant_column_a_blank_line_and_a_dropped_text_column_do_no_harm(job, tmp_path):
    columns = plane() | {"always": [4.2] * 60, "name": ['a "quoted", name'] * 60}
    path = write_csv(tmp_path / "plane.csv", columns)
    path.write_text(path.read_text() + "\n\n")
    code, _, _ = job("train", path, "--target", "y", "--drop", "name", "--steps", 300)
    assert code == 0
    arrays = saved()
    assert arrays["feature_names"].tolist() == ["a", "b", "always"]
    np.testing.assert_allclose(arrays["coefficients"], [3, -2, 0], atol=0.1)


@pytest.mark.parametrize(
    ("targets", "default"),
    [
        (["0.0", "1.0"] * 30, "binary.cross_entropy"),
        (["no", "yes"] * 30, "binary.cross_entropy"),
        (["1", "2", "3"] * 20, "categorical.cross_entropy"),
        ([str(i) for i in range(60)], "regression.squared_error"),
        ([str(i / 8) for i in range(60)], "regression.squared_error"),
    ],
)
def test_the_default_loss_is_the_target_s(tmp_path, targets, default):
    path = write_csv(tmp_path / "t.csv", {"x": range(60), "y": targets})
    assert _problem.choose(_sources.read(str(path), target="y"), None).name == default


def test_a_whole_number_target_is_read_as_the_loss_asks(tmp_path):
    path = write_csv(tmp_path / "t.csv", {"x": range(60), "y": [0, 1, 2, 3] * 15})
    table = _sources.read(str(path), target="y")
    assert _problem.choose(table, "huber").name == "robust.huber"
    assert _problem.choose(table, "cross_entropy").name == "categorical.cross_entropy"


def test_a_short_name_means_the_loss_that_fits_the_target():
    assert _problem.choose(small("binary"), "focal").name == "binary.focal"
    assert _problem.choose(small("categorical"), "focal").name == "categorical.focal"
    assert _problem.choose(small("binary"), "cross_entropy").name == "binary.cross_entropy"


def test_a_short_name_that_fits_twice_must_be_said_in_full(monkeypatch):
    twin = dataclasses.replace(CARDS["robust.huber"], name="quantile.huber")
    monkeypatch.setitem(CARDS, "quantile.huber", twin)
    with pytest.raises(_sources.BadInput, match=r"ambiguous: say robust\.huber or quantile\.huber"):
        _problem.choose(small("regression"), "huber")


def test_the_threshold_stops_the_run_in_the_loss_s_own_unit(job):
    code, printed, _ = job("train", "diabetes", "--threshold", 3000, "--steps", 500)
    assert code == 0
    assert "reached the threshold" in printed
    history = saved()["history"]
    assert history[-1] <= 3000 < history[-2]


def test_an_option_reaches_the_loss(job):
    job("train", "line", "--loss", "pinball", "--option", "quantile=0.9", "--steps", 400)
    arrays, table = saved(), _sources.read("line")
    above = table.target > table.features @ arrays["coefficients"] + arrays["intercept"]
    assert abs(np.mean(above) - 0.1) < 0.05


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_optax_optimizers_train(job, optimizer):
    code, printed, _ = job("train", "wine", "--optimizer", optimizer, "--steps", 50)
    assert code == 0
    (_, constant), (_, model) = losses(printed)
    assert model < 0.5 * constant


# --- every loss that fits -----------------------------------------------------------------------


def small(task, rows=40):
    """A table a loss of this task fits, its numbers positive."""
    random = np.random.default_rng(3)
    x = random.normal(size=(rows, 2))
    score = x @ [1.0, -1.0] + 0.3 * random.normal(size=rows)
    classes = {"regression": 0, "binary": 2, "margin": 2}.get(task, 3)
    if not classes:
        return _sources.Table("small", x, ("a", "b"), 40 + 9 * score, "y", ("number",))
    edges = np.quantile(score, np.linspace(0, 1, classes + 1)[1:-1])
    target = np.array(["p", "q", "r"])[np.searchsorted(edges, score)]
    return _sources.Table("small", x, ("a", "b"), target, "y", ("classes",))


def trained(problem, steps, rate=None):
    how = _runs.method(_runs.BY_HAND, rate, problem)
    return _runs.descend(
        problem,
        _runs.begin(problem, how),
        how,
        steps=steps,
        threshold=None,
        report=lambda _: None,
        asked_to_stop=lambda: False,
    )


# Losses that no table of classes trains, and why.
UNTRAINABLE = {
    "binary.perceptron": "scores of zero cost it nothing: there descent has nowhere to go",
    "divergence.gaussian_kl": "it compares with a prior, not with a target",
    "divergence.kl_log_targets": "its targets are logarithms",
    "divergence.reverse_kl": "of a one-hot target it is infinite",
    "divergence.distillation": "its targets are logits",
}
TRAINED = sorted(
    name
    for name, card in CARDS.items()
    if card.task in _problem.SERVED
    and card.task != "vector"
    and len(card.domain) == 2
    and name not in UNTRAINABLE
)

# A loss that redescends sees no row far beyond its scale, and this table's residuals are about 10; others
# need to be told of the classes.
OPTIONS = {
    "robust.cauchy": {"scale": 10.0},
    "robust.geman_mcclure": {"scale": 10.0},
    "robust.welsch": {"scale": 10.0},
    "robust.tukey_biweight": {"c": 40.0},
    "categorical.logit_adjusted": {"priors": np.array([0.3, 0.3, 0.4])},
    "categorical.balanced_softmax": {"class_counts": np.array([10.0, 10.0, 12.0])},
    "categorical.ldam": {"class_counts": np.array([10.0, 10.0, 12.0])},
}


@pytest.mark.parametrize("name", TRAINED)
def test_every_loss_trains_on_a_target_it_fits_at_the_default_rate(name, monkeypatch):
    monkeypatch.setattr(_runs, "_PIECES", 1)
    card = CARDS[name]
    with cli._float64():
        problem = _problem.pose(small(card.task), card, OPTIONS.get(name, {}), fraction=0.2, seed=0)
        run = trained(problem, 40)
        np.testing.assert_allclose(run.history[0], problem.unit, rtol=1e-12)
        assert run.history[-1] < 0.9 * problem.unit
        assert run.steps == 40


@pytest.mark.parametrize("name", ["robust.huber", "regression.log_cosh"])
def test_a_target_far_wider_than_the_loss_trains_too(name):
    table = small("regression")
    with cli._float64():
        wide = table._replace(target=1e5 * table.target)
        problem = _problem.pose(wide, CARDS[name], {}, fraction=0.2, seed=0)
        assert trained(problem, 400).history[-1] < 0.4 * problem.unit


BEST_CONSTANTS = {
    "regression.squared_error": np.mean,
    "regression.absolute_error": np.median,
    "regression.squared_log_error": lambda y: np.expm1(np.mean(np.log1p(y))),
    "regression.half_squared_error": np.mean,
}


@pytest.mark.parametrize("name", BEST_CONSTANTS)
def test_the_baseline_of_numbers_is_their_statistic(name):
    with cli._float64():
        problem = _problem.pose(small("regression"), CARDS[name], {}, fraction=0.2, seed=0)
        y = np.asarray(problem.train.targets)
        constant = problem.location + problem.scale * float(problem.constant)
        wanted = BEST_CONSTANTS[name](y)
        best = problem.card.loss(np.full_like(y, wanted), y).mean()
        np.testing.assert_allclose(problem.unit, best, rtol=1e-9)
        np.testing.assert_allclose(
            problem.link.prediction(constant), wanted, rtol=0.02 if "absolute" in name else 1e-6
        )


@pytest.mark.parametrize(
    "name",
    [
        *("binary.cross_entropy", "binary.logistic", "binary.probability_cross_entropy"),
        *("categorical.cross_entropy", "categorical.nll"),
        *("divergence.cross_entropy", "divergence.kl"),
    ],
)
def test_the_baseline_of_classes_is_their_entropy(name):
    with cli._float64():
        problem = _problem.pose(small(CARDS[name].task), CARDS[name], {}, fraction=0.2, seed=0)
        ids = np.asarray(problem.train.targets)
        ids = ids.argmax(axis=1) if ids.ndim == 2 else ids
        shares = np.unique(ids, return_counts=True)[1] / len(ids)
        np.testing.assert_allclose(problem.unit, -np.sum(shares * np.log(shares)), rtol=1e-9)


# --- it goes on where it stopped ------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["gradient_descent", "lbfgs"])
def test_a_resumed_run_is_the_long_run(job, optimizer):
    common = ("train", "diabetes", "--optimizer", optimizer, "--seed", 3)
    job(*common, "--steps", 40, "--output", "long")
    job(*common, "--steps", 20, "--output", "short")
    code, printed, _ = job("train", "diabetes", "--resume", "short", "--steps", 20)
    assert code == 0
    assert "going on from step 20" in printed
    long, short = saved("long"), saved("short")
    assert long.keys() == short.keys()
    for name in long.keys() - {"settings"}:
        np.testing.assert_array_equal(long[name], short[name], err_msg=name)


def test_a_resumed_run_may_change_its_learning_rate_and_its_folder(job):
    job("train", "line", "--steps", 5, "--output", "first")
    changed = ("--output", "second", "--learning-rate", 0.01)
    code, _, _ = job("train", "line", "--steps", 5, "--resume", "first/parameters.npz", *changed)
    assert code == 0
    assert len(saved("first")["history"]) == 6
    assert len(saved("second")["history"]) == 11
    assert json.loads(str(saved("second")["settings"]))["learning_rate"] == 0.01


def test_a_diverging_run_says_so_and_keeps_its_last_finite_parameters(drawing_job):
    job = drawing_job
    code, printed, _ = job("train", "line", "--learning-rate", 1e6, "--steps", 500)
    assert code == 1
    assert "diverged" in printed
    smaller = re.search(r"--learning-rate (\S+)", printed).group(1)
    assert all(np.all(np.isfinite(saved()[name])) for name in ("weights", "bias", "history"))
    assert job("train", "line", "--learning-rate", smaller, "--steps", 50)[0] == 0


# --- Ctrl-C loses nothing -------------------------------------------------------------------------


@pytest.fixture
def python_handles_sigint():
    """What a terminal gives; a job in the background of a shell ignores the signal instead."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def after_pieces(monkeypatch, count, happens):
    """Let `happens` happen in the piece after the first `count`."""
    true, calls = _runs.minimize, []

    def minimize(*args, **kwargs):
        calls.append(1)
        if len(calls) > count:
            happens()
        return true(*args, **kwargs)

    monkeypatch.setattr(_runs, "minimize", minimize)
    return calls


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.usefixtures("python_handles_sigint")
def test_ctrl_c_ends_the_piece_under_way_and_saves_it(job, monkeypatch):
    with monkeypatch.context() as patched:
        calls = after_pieces(patched, 3, lambda: signal.raise_signal(signal.SIGINT))
        code, printed, _ = job("train", "wine", "--steps", 100)
    assert code == 130
    assert len(calls) == 4
    assert "interrupted after step 8" in printed
    assert "jaxloss-run/parameters.npz" in printed
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    job("train", "wine", "--steps", 92, "--resume", "jaxloss-run")
    job("train", "wine", "--steps", 100, "--output", "whole")
    np.testing.assert_array_equal(saved()["weights"], saved("whole")["weights"])


@pytest.mark.parametrize("pieces", [0, 3])
def test_an_interrupt_in_the_middle_of_a_piece_saves_those_before(drawing_job, monkeypatch, pieces):
    after_pieces(monkeypatch, pieces, interrupt)
    code, printed, _ = drawing_job("train", "line", "--steps", 100)
    assert code == 130
    assert f"interrupted after step {2 * pieces}" in printed
    assert len(saved()["history"]) == (2 * pieces + 1 if pieces else 0)
    assert image.imread("jaxloss-run/loss.png").ndim == 3


def test_a_run_interrupted_before_its_first_step_can_be_resumed(job, monkeypatch):
    with monkeypatch.context() as patched:
        after_pieces(patched, 0, interrupt)
        job("train", "line", "--steps", 10)
    code, _, _ = job("train", "line", "--steps", 10, "--resume", "jaxloss-run")
    assert code == 0
    assert len(saved()["history"]) == 11


def test_interrupts_are_left_alone_where_they_cannot_be_held():
    def held():
        with _runs.interrupts_held() as asked:
            seen.append((signal.getsignal(signal.SIGINT) is before, asked.is_set()))

    before, seen = signal.getsignal(signal.SIGINT), []
    thread = threading.Thread(target=held)
    thread.start()
    thread.join()
    assert seen == [(True, False)]


def test_an_interrupt_outside_training_is_one_line(job, monkeypatch):
    monkeypatch.setattr(_sources, "read", lambda *_, **__: interrupt())
    assert job("train", "line") == (130, "", "jaxloss: interrupted\n")


# --- bad input is one line ------------------------------------------------------------------------

GOOD = "a,b,y\n" + "".join(f"{i},{i * i % 7},{i * 1.5}\n" for i in range(12))

# name: (the file, the words after its path, fragments of the line)
BAD_FILES = {
    "no such column": (GOOD, "--target Y", ["no column `Y`", "a, b, y"]),
    "no target": (GOOD, "", ["--target", "a, b, y"]),
    "text in a feature": (
        GOOD.replace("\n3,", "\nthree,"),
        "--target y",
        ["row 4 (line 5)", "`a`", "'three'", "--drop"],
    ),
    "NaN": (GOOD.replace("\n3,", "\nnan,"), "--target y", ["row 4", "`a`", "'nan'", "finite"]),
    "infinity": (GOOD.replace("\n3,", "\n-inf,"), "--target y", ["row 4", "`a`", "'-inf'"]),
    "too large": (GOOD.replace("\n3,", "\n1e999,"), "--target y", ["row 4", "'1e999'"]),
    "underscore": (GOOD.replace("\n3,", "\n1_000,"), "--target y", ["row 4", "'1_000'"]),
    "empty cell": (GOOD.replace("\n3,", "\n,"), "--target y", ["row 4", "`a`", "empty"]),
    "NaN in the target": (
        GOOD.replace(",4.5\n", ",NaN\n"),
        "--target y",
        ["row 4", "`y`", "'NaN'"],
    ),
    "text in the target": (
        GOOD.replace(",4.5\n", ",n/a\n"),
        "--target y",
        ["row 4", "`y`", "'n/a'"],
    ),
    "empty target": (GOOD.replace(",4.5\n", ",\n"), "--target y", ["row 4", "`y`", "empty"]),
    "one class": (
        "x,y\n" + "".join(f"{i},yes\n" for i in range(9)),
        "--target y",
        ["one class", "'yes'"],
    ),
    "one value": (
        "x,y\n" + "".join(f"{i},3.5\n" for i in range(9)),
        "--target y",
        ["3.5", "nothing to learn"],
    ),
    "a text a row": (
        "x,y\n" + "".join(f"{i},t{i}\n" for i in range(9)),
        "--target y",
        ["9 texts", "too many"],
    ),
    "ragged": (GOOD.replace("\n3,", "\n3,3,"), "--target y", ["row 4", "4 cells", "header has 3"]),
    "duplicate header": (GOOD.replace("a,b,y", "a,a,y"), "--target y", ["two columns", "`a`"]),
    "too few rows": ("a,y\n1,2\n2,3.5\n3,1\n", "--target y", ["too few rows (3)"]),
    "header alone": ("a,y\n", "--target y", ["too few rows (0)"]),
    "empty file": ("", "--target y", ["empty"]),
    "no features": ("y\n" + "1\n2.5\n" * 9, "--target y", ["no column is left"]),
    "unfinished quote": (GOOD + '"1,2,3\n', "--target y", ["cannot be read as CSV"]),
    "target dropped": (GOOD, "--target y --drop y", ["`y`", "cannot be dropped"]),
    "drop of no column": (GOOD, "--target y --drop yy", ["no column `yy`"]),
    "margin for numbers": (
        GOOD,
        "--target y --loss hinge",
        ["does not fit", "binary.hinge", "a number"],
    ),
    "no finite loss": (GOOD.replace(",4.5\n", ",1e200\n"), "--target y", ["does not fit", "finite"]),
    "outside the domain": (
        GOOD.replace(",4.5\n", ",-4.5\n"),
        "--target y --loss squared_log_error",
        ["does not fit", "(-1, ∞)", "-4.5"],
    ),
}


def assert_refused(outcome, fragments):
    code, _, complaint = outcome
    assert code == 2, complaint
    assert complaint.startswith("jaxloss: error: ")
    assert complaint.count("\n") == 1
    assert "Traceback" not in complaint
    for fragment in fragments:
        assert fragment in complaint


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_in_one_line(job, tmp_path, name):
    text, words, fragments = BAD_FILES[name]
    (tmp_path / "data.csv").write_text(text)
    assert_refused(job("train", "data.csv", *words.split()), fragments)
    assert not (tmp_path / "jaxloss-run").exists()


BAD_WORDS = {
    "no command": ([], ["COMMAND"]),
    "no source": (["train"], ["SOURCE"]),
    "unknown command": (["fit"], ["fit"]),
    "unknown option": (["train", "line", "--epochs", "3"], ["--epochs"]),
    "unknown source": (["train", "diabtes"], ["no file `diabtes`", "did you mean diabetes"]),
    "missing file": (["train", "some/where.csv"], ["no file", "some/where.csv", "breast_cancer"]),
    "a folder": (["train", "."], ["cannot be read"]),
    "target of a bundled set": (["train", "wine", "--target", "hue"], ["--target"]),
    "unknown loss": (["train", "line", "--loss", "hubber"], ["hubber", "did you mean"]),
    "absurd loss": (["train", "line", "--loss", "zzzzzz"], ["zzzzzz", "jaxloss list"]),
    "loss for classes": (
        ["train", "line", "--loss", "categorical.focal"],
        ["does not fit", "number"],
    ),
    "loss for two classes": (
        ["train", "wine", "--loss", "savage"],
        ["does not fit", "one of 3 classes"],
    ),
    "loss without a target": (
        ["train", "wine", "--loss", "gaussian_kl"],
        ["does not fit", "log_variance"],
    ),
    "option not given": (
        ["train", "wine", "--loss", "balanced_softmax"],
        ["needs `class_counts`", "--option class_counts="],
    ),
    "loss for vectors": (["train", "line", "--loss", "relative_l2"], ["does not fit", "vectors"]),
    "loss for numbers": (["train", "wine", "--loss", "huber"], ["does not fit", "robust.huber"]),
    "unknown hyperparameter": (
        ["train", "line", "--loss", "huber", "--option", "dleta=1"],
        ["`dleta`", "delta"],
    ),
    "no number": (["train", "line", "--loss", "huber", "--option", "delta=x"], ["delta=x"]),
    "a bare word": (["train", "line", "--loss", "huber", "--option", "delta"], ["delta"]),
    "out of range": (["train", "line", "--loss", "huber", "--option", "delta=-1"], ["delta", "-1"]),
    "unknown optimizer": (
        ["train", "line", "--optimizer", "addam"],
        ["addam", "did you mean adam"],
    ),
    "no rate": (["train", "line", "--learning-rate", "fast"], ["--learning-rate", "fast"]),
    "negative rate": (["train", "line", "--learning-rate", "-1"], ["--learning-rate", "-1"]),
    "NaN rate": (["train", "line", "--learning-rate", "nan"], ["nan"]),
    "no steps": (["train", "line", "--steps", "0"], ["--steps", "'0'"]),
    "NaN threshold": (["train", "line", "--threshold", "nan"], ["--threshold"]),
    "whole test set": (["train", "line", "--test-fraction", "1"], ["between 0 and 1"]),
    "negative seed": (["train", "line", "--seed", "-1"], ["--seed"]),
    "output is a file": (["train", "line", "--output", "taken"], ["taken"]),
    "nothing to resume": (["train", "line", "--resume", "nowhere"], ["no saved run at nowhere"]),
    "resume of text": (["train", "line", "--resume", "taken"], ["not a run saved by jaxloss"]),
    "resume of another npz": (
        ["train", "line", "--resume", "other.npz"],
        ["not a run saved by jaxloss"],
    ),
    "unknown card": (["show", "huberr"], ["huberr", "did you mean"]),
}


@pytest.mark.parametrize("name", BAD_WORDS)
def test_bad_words_are_refused_in_one_line(job, tmp_path, name):
    (tmp_path / "taken").write_text("text")
    np.savez(tmp_path / "other.npz", weights=np.zeros(2))
    words, fragments = BAD_WORDS[name]
    assert_refused(job(*words), fragments)


def test_a_file_that_is_not_utf_8_is_refused(job, tmp_path):
    (tmp_path / "data.csv").write_bytes(GOOD.encode() + b"\xff\xfe,1,2\n")
    assert_refused(job("train", "data.csv", "--target", "y"), ["UTF-8"])


def test_a_run_resumes_only_over_its_own_rows_loss_and_split(job):
    job("train", "wine", "--steps", 2)
    resume = ("--resume", "jaxloss-run", "--steps", 2)
    assert_refused(job("train", "line", *resume), ["does not fit"])
    assert_refused(job("train", "digits", *resume), ["other rows", "feature_names"])
    assert_refused(job("train", "wine", *resume, "--seed", 5), ["--seed 5", "has 0"])
    assert_refused(job("train", "wine", *resume, "--loss", "focal"), ["--loss focal"])
    assert_refused(job("train", "wine", *resume, "--optimizer", "adam"), ["--optimizer adam"])
    assert job("train", "wine", *resume, "--loss", "cross_entropy")[0] == 0


def test_a_loss_that_no_linear_model_can_feed_does_not_fit():
    domain = {"predictions": _contracts.Named("a tree"), "targets": _contracts.REAL}
    card = dataclasses.replace(CARDS["robust.huber"], domain=domain)
    with pytest.raises(_sources.BadInput, match="no linear model predicts a tree"):
        _problem.pose(small("regression"), card, {}, fraction=0.2, seed=0)


def test_a_loss_of_two_predictions_does_not_fit():
    with pytest.raises(_sources.BadInput, match="no linear model predicts both lower and upper"):
        _problem.pose(small("regression"), CARDS["quantile.interval_score"], {}, fraction=0.2, seed=0)


def test_a_full_disk_is_told_in_one_line(job, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert_refused(job("train", "line", "--steps", 2), ["cannot write", "No space left"])
    assert os.listdir("jaxloss-run") == []


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("rich", ["list"]),
        ("rich", ["show", "huber"]),
        ("matplotlib", ["train", "line"]),
        ("sklearn", ["train", "wine"]),
        ("optax", ["train", "line", "--optimizer", "adam"]),
    ],
)
def test_a_missing_package_is_named_with_its_remedy(job, monkeypatch, package, words):
    monkeypatch.setitem(sys.modules, package, None)
    name = "scikit-learn" if package == "sklearn" else package
    assert_refused(job(*words), [name, "pip install 'jaxloss[cli]'"])


# --- list and show --------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120])
def test_the_list_has_every_card_and_keeps_to_the_width(job, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    code, printed, _ = job("list")
    assert code == 0
    for name, card in CARDS.items():
        assert name.split(".")[1] in printed
        assert re.search(rf"^{card.family}( |, for the task {card.task} )", printed, re.MULTILINE)
    assert max(map(len, printed.splitlines())) <= width


def test_a_card_shows_all_that_is_known(job):
    for name, card in CARDS.items():
        code, printed, _ = job("show", name)
        words = " ".join(printed.split())
        assert code == 0
        for fact in (name, card.summary, card.source, *map(str, card.domain.values()), *card.peers):
            assert " ".join(fact.split()) in words
        for option in card.options:
            default = inspect.signature(card.loss).parameters[option].default
            assert f"{option} in {card.options[option]}, {default} by default" in words
        assert "None" not in re.sub("None by default|=None", "", words)


def test_a_short_name_shows_every_loss_of_that_name(job):
    _, printed, _ = job("show", "cross_entropy")
    for family in ("binary", "categorical", "divergence"):
        assert f"jaxloss.{family}.cross_entropy" in printed


# --- the rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 0.99])
def test_a_split_is_a_partition_in_which_every_class_trains(fraction):
    groups = np.repeat(["a", "b", "c", "alone"], [50, 30, 19, 1])
    train, test = _sources.hold_out(groups, fraction, seed=4)
    assert sorted([*train, *test]) == list(range(100))
    assert set(groups[train]) == {"a", "b", "c", "alone"}
    assert 1 <= len(test) <= 97


def test_a_split_holds_out_each_class_in_proportion():
    groups = np.repeat([0, 1], [80, 20])
    _, test = _sources.hold_out(groups, 0.25, seed=0)
    assert np.bincount(groups[test]).tolist() == [20, 5]


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200])
def test_standardised_columns_have_mean_0_and_deviation_1_at_any_size(size):
    columns = np.random.default_rng(0).normal([0, 5, 1e6], size=(50, 3))
    kept = np.arange(40)
    standard, means, scales = _sources.standardise(columns * size, kept)
    np.testing.assert_allclose(standard[kept].mean(axis=0), 0, atol=1e-8)
    np.testing.assert_allclose(standard[kept].std(axis=0), 1, rtol=1e-8)
    np.testing.assert_allclose(standard * scales + means, columns * size, rtol=1e-9)


# --- as a program ---------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="signals are sent to a process")
@pytest.mark.usefixtures("python_handles_sigint")
def test_a_process_that_gets_sigint_saves_draws_tells_and_exits_with_130(tmp_path):
    # This checkout is to be importable from any folder.
    root = os.path.dirname(os.path.dirname(os.path.abspath(cli.__file__)))
    with subprocess.Popen(
        [sys.executable, "-m", "jaxloss", "train", "line", "--steps", str(10**9)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=at_home() | {"PYTHONPATH": root, "JAX_PLATFORMS": "cpu"},
        text=True,
    ) as process:
        folder = tmp_path / "jaxloss-run"
        while process.poll() is None and not folder.exists():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        process.send_signal(signal.SIGINT)
        printed, complaint = process.communicate(timeout=60)
    assert process.returncode == 130, complaint
    assert "Traceback" not in complaint
    assert "intercept" in printed
    assert "--resume goes on from here" in printed
    assert (folder / "parameters.npz").exists()
    assert (folder / "loss.png").exists()


def test_the_module_is_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["jaxloss", "show", "pinball"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("jaxloss", run_name="__main__")
    assert stopped.value.code == 0
    assert "quantile.pinball" in capsys.readouterr().out


def test_help_explains_and_exits_with_0(job):
    with pytest.raises(SystemExit) as stopped:
        job("train", "--help")
    assert stopped.value.code == 0
