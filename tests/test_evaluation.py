"""Streams against NumPy's float64 over all rows at once."""

import dataclasses
import pickle
import subprocess
import sys
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxloss as jl
from jaxloss.training import BatchError, evaluate
from jaxloss.training import _progress as bars
from jaxloss.training._stream import AHEAD, in_order

RNG = np.random.default_rng(5)
X, Y = RNG.normal(size=(50, 3)), RNG.normal(size=50)
KEPT = RNG.random(50) < 0.4
THETA = np.array([0.5, -1.0, 2.0])
TRUTH = np.mean((X @ THETA - Y) ** 2)

part = jl.partial_mean(jl.regression.squared_error)


def objective(params, x, y):
    return part(x @ params, y)


def total_of(_, number):
    """An objective whose batch is its own total, over one row."""
    return jl.PartialMean(number, jnp.ones_like(number))


def sliced(size=8):
    return [(X[i : i + size], Y[i : i + size]) for i in range(0, len(X), size)]


# --- any iterable -----------------------------------------------------------------------------


def by_torch():
    torch = pytest.importorskip("torch", reason="shows a PyTorch loader")
    data = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    return torch.utils.data.DataLoader(data, batch_size=8)


SOURCES = {
    "list": sliced,
    "generator": lambda: (batch for batch in sliced()),
    "lists": lambda: [list(batch) for batch in sliced()],
    "device": lambda: [tuple(map(jnp.asarray, batch)) for batch in sliced()],
    "rows": lambda: sliced(1),
    "torch": by_torch,
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_stream_has_the_mean_of_its_rows(source):
    np.testing.assert_allclose(evaluate(objective, THETA, SOURCES[source]()), TRUTH, rtol=1e-14)


def test_a_grain_loader_is_a_stream():
    grain = pytest.importorskip("grain.python", reason="shows a Grain loader")
    data = grain.MapDataset.range(50).map(lambda i: (X[i], Y[i])).batch(8).to_iter_dataset()
    np.testing.assert_allclose(evaluate(objective, THETA, data), TRUTH, rtol=1e-14)


def test_a_file_mapped_into_memory_is_a_stream_of_one_argument(tmp_path):
    stored = np.memmap(tmp_path / "rows", np.float64, "w+", shape=(5, 10, 4))
    stored[:] = np.column_stack([X, Y]).reshape(5, 10, 4)
    found = evaluate(lambda p, rows: part(rows[:, :3] @ p, rows[:, 3]), THETA, stored)
    np.testing.assert_allclose(found, TRUTH, rtol=1e-14)


def test_a_dictionary_is_one_argument():
    batches = ({"x": x, "y": y} for x, y in sliced())
    found = evaluate(lambda p, batch: part(batch["x"] @ p, batch["y"]), THETA, batches)
    np.testing.assert_allclose(found, TRUTH, rtol=1e-14)


def test_a_loader_may_reuse_its_memory():
    # Aligned as XLA likes it: what is not copied is read in place, here while it is overwritten.
    memory = np.empty(400_064, np.float32)
    start = -memory.ctypes.data % 64 // 4
    rows = memory[start : start + 400_000]

    def loader():
        for number in range(6):
            rows[:] = number
            yield rows

    def slow(_, x):
        return jl.PartialMean(jnp.sum(jnp.tan(jnp.sin(x)) * 0 + x), jnp.float32(x.size))

    assert evaluate(slow, None, loader()) == 2.5


def test_masked_rows_count_as_nothing_however_they_fall():
    batches = [(*batch, KEPT[8 * i : 8 * i + 8]) for i, batch in enumerate(sliced())]
    found = evaluate(lambda p, x, y, kept: part(x @ p, y, where=kept), THETA, batches)
    np.testing.assert_allclose(found, np.mean((X @ THETA - Y)[KEPT] ** 2), rtol=1e-14)


def test_a_stream_of_which_no_row_is_kept_is_zero():
    nothing = np.zeros(8, bool)
    assert evaluate(lambda p, x, y: part(x @ p, y, where=nothing), THETA, sliced()[:2]) == 0.0


def test_several_means_come_from_one_pass():
    def both(params, x, y):
        error = x @ params - y
        ones = jnp.asarray(len(y), float)
        return {"square": objective(params, x, y), "size": jl.PartialMean(jnp.sum(abs(error)), ones)}

    found = evaluate(both, THETA, sliced())
    np.testing.assert_allclose(found["square"], TRUTH, rtol=1e-14)
    np.testing.assert_allclose(found["size"], np.mean(abs(X @ THETA - Y)), rtol=1e-14)


# --- sums -------------------------------------------------------------------------------------


def test_the_number_of_batches_costs_no_digit():
    # From 1e8 on, float32 counts in steps of 8: a running sum in it loses every one of the small ones.
    totals = [np.float32(1e8)] + [np.float32(3.0)] * 300
    naive = np.float32(0.0)
    for total in totals:
        naive += total
    truth = (1e8 + 900.0) / 301
    assert abs(float(naive) / 301 - truth) > 8e-6 * truth
    assert evaluate(total_of, None, totals) == truth


@pytest.mark.parametrize("size", [10_000, 1_000_000])
def test_millions_of_rows_summed_in_float32_agree_with_float64(size):
    rows = np.random.default_rng(11).normal(size=(4_000_000, 2)).astype(np.float32)
    slope = jnp.float32(0.5)

    def line(slope, rows):
        return jl.partial_mean(jl.robust.huber)(slope * rows[:, 0], rows[:, 1], delta=1.0)

    residual = np.abs(np.float64(0.5) * rows[:, 0] - rows[:, 1])
    truth = np.mean(np.where(residual <= 1, residual**2 / 2, residual - 0.5))
    found = evaluate(line, slope, (rows[i : i + size] for i in range(0, len(rows), size)))
    assert line(slope, rows[:8]).total.dtype == np.float32
    np.testing.assert_allclose(found, truth, rtol=1e-7)


def test_sums_in_float64_lose_nothing_either():
    totals = [1e16] + [1.0] * 10 + [-1e16]
    assert sum(totals) != 10.0
    assert evaluate(total_of, None, totals) == 10.0 / 12


@given(totals=st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=30))
def test_the_sum_is_that_of_exact_arithmetic_to_the_compensated_bound(totals):
    exact = sum(map(Fraction, totals), Fraction(0)) / len(totals)
    bound = 2 * np.finfo(float).eps * abs(exact) + Fraction(len(totals) ** 2 * 1e-31) * sum(
        abs(Fraction(t)) for t in totals
    )
    found = Fraction(evaluate(total_of, None, totals))
    assert abs(found - exact) <= bound + Fraction(1e-320)


def test_without_float64_on_the_device_the_mean_still_has_its_digits():
    program = (
        "import numpy as np, jax, jaxloss as jl\n"
        "part = lambda _, x: jl.PartialMean(x, x * 0 + 1)\n"
        "print(jl.training.evaluate(part, None, [np.float32(1e8)] + [np.float32(3)] * 300) * 301)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    np.testing.assert_allclose(float(done.stdout), 1e8 + 900, rtol=1e-14)


def test_an_objective_is_compiled_once_for_all_evaluations_and_once_more_for_a_shorter_last_batch():
    traces = []

    def counted(params, x, y):
        traces.append(x.shape)
        return objective(params, x, y)

    for _ in range(2):
        evaluate(counted, THETA, sliced())
    assert traces == [(8, 3), (2, 3)]


def test_no_more_batches_are_read_ahead_than_said():
    read, done = [], []

    def loader():
        for i in range(8):
            read.append(i)
            assert len(read) - len(done) <= AHEAD + 1
            yield np.float64(i)

    def count(number):
        done.append(number)

    def slow(_, number):
        jax.debug.callback(count, number, ordered=True)
        return total_of(None, number)

    assert evaluate(slow, None, loader()) == 3.5
    jax.effects_barrier()
    assert len(done) == 8


def test_as_many_batches_are_read_ahead_as_said():
    read = []

    def started():
        for i in range(6):
            read.append(i)
            yield np.float64(i)

    ahead = [len(read) - done for done, _ in enumerate(in_order(started(), BatchError), start=1)]
    assert ahead == [AHEAD] * (6 - AHEAD) + [*range(AHEAD)][::-1]


@dataclasses.dataclass
class Line:
    """An objective that has no hash, as a module that holds arrays has none."""

    slope: np.ndarray

    def __call__(self, offset, x, y):
        return part(x @ self.slope + offset, y)


def test_an_objective_without_a_hash_is_evaluated():
    with pytest.raises(TypeError, match="unhashable"):
        hash(Line(THETA))
    np.testing.assert_allclose(evaluate(Line(THETA), 0.0, sliced()), TRUTH, rtol=1e-14)


# --- failures ---------------------------------------------------------------------------------


def broken_loader(at):
    for i, batch in enumerate(sliced()):
        if i == at:
            raise OSError("disk on fire")
        yield batch


def with_nan(at):
    return ((x, np.where(i == at, np.nan, y)) for i, (x, y) in enumerate(sliced()))


def with_a_wrong_shape(at):
    return ((x, y[:-1] if i == at else y) for i, (x, y) in enumerate(sliced()))


@pytest.mark.parametrize("at", [0, 1, 4, 6])
@pytest.mark.parametrize(
    ("source", "words", "cause"),
    [
        (broken_loader, "OSError: disk on fire", OSError),
        (with_nan, "its sums are not finite: .*nan", type(None)),
        (with_a_wrong_shape, "ValueError: .*must have one shape", ValueError),
    ],
)
def test_a_batch_that_fails_is_named_and_the_sums_before_it_are_kept(source, words, cause, at):
    with pytest.raises(BatchError, match=f"evaluate: batch {at} failed: {words}") as caught:
        evaluate(objective, THETA, source(at))
    assert caught.value.index == at
    assert isinstance(caught.value.__cause__, cause)
    kept = caught.value.partial
    if at == 0:
        assert kept is None
    else:
        residual = (X @ THETA - Y)[: 8 * at]
        assert kept.total.dtype == kept.weight.dtype == np.float64
        np.testing.assert_allclose([kept.total, kept.weight], [np.sum(residual**2), 8 * at], rtol=1e-14)


def test_the_words_for_a_failed_first_batch_promise_nothing():
    with pytest.raises(BatchError) as caught:
        evaluate(objective, THETA, with_nan(0))
    message = str(caught.value)
    assert message.endswith("`jax.debug_nans(True)` the operation that any other comes from.")
    assert "`jl.checked(objective)` on that batch names a value outside a loss's domain" in message


def test_a_failed_batch_may_come_from_another_process():
    error = BatchError("words", 3, jl.PartialMean(np.float64(1.0), np.float64(2.0)))
    same = pickle.loads(pickle.dumps(error))
    assert (str(same), same.index, same.partial.total) == ("words", 3, 1.0)


def test_an_empty_stream_is_refused():
    used_up = iter(sliced())
    evaluate(objective, THETA, used_up)
    with pytest.raises(ValueError, match=r"evaluate: `batches` is empty.*generator is used up"):
        evaluate(objective, THETA, used_up)


@pytest.mark.parametrize(
    ("returned", "error", "words"),
    [
        (lambda r: jnp.mean(r), TypeError, r"must return a `PartialMean`, got float64\[\]"),
        (lambda r: r, TypeError, r"must return a `PartialMean`, got float64\[8\]; .*jl\.partial_mean"),
        (lambda r: {}, TypeError, "must return a `PartialMean`, got dict"),
        (lambda r: jl.PartialMean(r, 8.0), ValueError, r"total of the `PartialMean` must be a scalar"),
    ],
)
def test_an_objective_whose_parts_do_not_add_up_is_refused(returned, error, words):
    with pytest.raises(error, match=f"evaluate: .*{words}"):
        evaluate(lambda p, x, y: returned(x @ p - y), THETA, sliced())


# --- the bar ----------------------------------------------------------------------------------


def drawn(monkeypatch, *, terminal, progress=True):
    """How often a bar was moved, and what it was told of the length."""
    moves = []
    rich = pytest.importorskip("rich.progress", reason="draws the bar")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    add_task = rich.Progress.add_task
    monkeypatch.setattr(
        rich.Progress, "add_task", lambda self, *a, **k: moves.append(k["total"]) or add_task(self, *a, **k)
    )
    update = rich.Progress.update
    monkeypatch.setattr(
        rich.Progress, "update", lambda self, *a, **k: moves.append(k["advance"]) or update(self, *a, **k)
    )
    evaluate(objective, THETA, sliced(), progress=progress)
    return moves


def test_a_terminal_sees_a_bar(monkeypatch):
    assert drawn(monkeypatch, terminal=True) == [7] + [1] * 7


def test_no_bar_where_there_is_no_terminal(monkeypatch):
    assert drawn(monkeypatch, terminal=False) == []


def test_no_bar_where_none_is_wanted(monkeypatch):
    assert drawn(monkeypatch, terminal=True, progress=False) == []


def test_no_bar_and_no_complaint_without_rich(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert bars._rich_progress() is None
    np.testing.assert_allclose(evaluate(objective, THETA, sliced()), TRUTH, rtol=1e-14)
