"""The loop against a plain Optax loop, and against itself killed and resumed."""

import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import at_home

import jaxloss as jl
from jaxloss.training import BatchError, evaluate, fit

optax = pytest.importorskip("optax", reason="the loop trains with Optax")

from jaxloss.adapters.optax import accumulate  # noqa: E402

RNG = np.random.default_rng(7)
X = RNG.normal(size=(48, 3))
Y = X @ np.array([1.0, -2.0, 0.5]) + 0.3 * RNG.normal(size=48)
BATCHES = [(X[i : i + 8], Y[i : i + 8]) for i in range(0, 40, 8)]
HELD_OUT = [(X[40:], Y[40:])]
START = {"w": np.zeros(3)}
ADAM = optax.adam(0.1)

part = jl.partial_mean(jl.regression.squared_error)


@pytest.fixture(autouse=True)
def _promotion_as_optax_needs_it():
    with jax.numpy_dtype_promotion("standard"):
        yield


def objective(params, x, y):
    return part(x @ params["w"], y)


def plain_loop(optimizer, epochs, batches=BATCHES):
    """The parameters after each epoch, and the losses of every step."""

    @jax.jit
    def step(params, state, x, y):
        loss, grads = jax.value_and_grad(lambda p: jnp.mean((x @ p["w"] - y) ** 2))(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    params, found, losses = jax.tree.map(jnp.asarray, START), [], []
    state = optimizer.init(params)
    for _ in range(epochs):
        for x, y in batches:
            params, state, loss = step(params, state, x, y)
            losses.append(float(loss))
        found.append(np.asarray(params["w"]))
    return found, losses


# --- what it does -----------------------------------------------------------------------------


def test_it_is_the_plain_optax_loop():
    found = fit(objective, START, BATCHES, ADAM, epochs=3)
    params, losses = plain_loop(ADAM, 3)
    np.testing.assert_allclose(found.params["w"], params[-1], rtol=1e-12)
    wanted = np.mean(np.reshape(losses, (3, -1)), axis=1)
    np.testing.assert_allclose([epoch.loss for epoch in found.history], wanted, rtol=1e-12)
    assert (found.reason, found.best, found.params is found.last) == ("epochs", None, True)


def test_a_scalar_objective_trains_too_and_the_parameters_given_stay():
    start = jax.tree.map(jnp.asarray, START)
    found = fit(lambda p, x, y: jl.mse(x @ p["w"], y), start, BATCHES, ADAM, epochs=2)
    np.testing.assert_allclose(found.last["w"], plain_loop(ADAM, 2)[0][-1], rtol=1e-12)
    np.testing.assert_array_equal(start["w"], 0)


def test_batches_may_be_made_anew_for_each_epoch():
    numbers = []

    def shuffled(epoch):
        numbers.append(epoch)
        return (BATCHES[i] for i in np.random.default_rng(epoch).permutation(len(BATCHES)))

    found = fit(objective, START, shuffled, ADAM, epochs=3)
    assert numbers == [0, 1, 2]
    again = fit(objective, START, shuffled, ADAM, epochs=3)
    np.testing.assert_array_equal(found.last["w"], again.last["w"])
    assert not np.array_equal(found.last["w"], plain_loop(ADAM, 3)[0][-1])


def test_the_parameters_of_the_lowest_validation_loss_are_kept():
    # Beyond 2 divided by the largest curvature every epoch is worse than the last; the first is the best.
    growing = optax.sgd(lambda count: jnp.where(count < 10, 0.1, 1.5))
    found = fit(objective, START, BATCHES, growing, epochs=4, validation=HELD_OUT)
    params, _ = plain_loop(growing, 4)
    truth = [np.mean((X[40:] @ w - Y[40:]) ** 2) for w in params]
    np.testing.assert_allclose([epoch.validation for epoch in found.history], truth, rtol=1e-9)
    assert found.best == np.argmin(truth) == 1
    np.testing.assert_allclose(found.params["w"], params[1], rtol=1e-12)
    np.testing.assert_allclose(found.last["w"], params[-1], rtol=1e-9)


def test_it_stops_when_validation_has_not_improved_for_so_many_epochs():
    growing = optax.sgd(lambda count: jnp.where(count < 10, 0.1, 1.5))
    found = fit(objective, START, BATCHES, growing, epochs=50, validation=HELD_OUT, patience=2)
    assert (found.reason, found.best, len(found.history)) == ("patience", 1, 4)


def test_callbacks_see_each_epoch_and_may_stop_it():
    seen = []

    def watch(epoch, params):
        seen.append((epoch.number, evaluate(objective, params, HELD_OUT)))

    found = fit(
        objective,
        START,
        BATCHES,
        ADAM,
        epochs=9,
        validation=HELD_OUT,
        callbacks=[watch, lambda epoch, params: epoch.number == 2],
    )
    assert found.reason == "callback"
    assert seen == [(epoch.number, epoch.validation) for epoch in found.history]
    assert len(seen) == 3


@pytest.mark.parametrize(
    "answer", [True, np.True_, np.array(True), jnp.asarray(True)], ids=lambda a: type(a).__name__
)
def test_a_callback_stops_it_by_true_of_any_kind(answer):
    found = fit(objective, START, BATCHES, ADAM, epochs=3, callbacks=[lambda epoch, params: answer])
    assert (found.reason, len(found.history)) == ("callback", 1)


@pytest.mark.parametrize(
    "answer", [1, 1.0, np.ones(2, bool), np.float64(1.0), jnp.ones(2, bool), "yes", [True]]
)
def test_a_callback_that_returns_anything_else_does_not(answer):
    found = fit(objective, START, BATCHES, ADAM, epochs=2, callbacks=[lambda epoch, params: answer])
    assert (found.reason, len(found.history)) == ("epochs", 2)


def masked(params, x, y, where):
    return part(x @ params["w"], y, where=where)


UNEVEN = [(*batch, np.arange(8) < n) for batch, n in zip(BATCHES, (8, 1, 2, 0, 5), strict=True)]


@pytest.mark.parametrize("microbatches", [1, 4])
def test_the_loss_of_an_epoch_is_the_mean_over_its_rows(microbatches):
    still = optax.sgd(0.0)
    found = fit(masked, START, UNEVEN, still, epochs=2, microbatches=microbatches)
    truth = evaluate(masked, START, UNEVEN)
    np.testing.assert_allclose([epoch.loss for epoch in found.history], truth, rtol=1e-12)


def test_the_loss_of_an_epoch_of_which_no_row_is_kept_is_zero():
    nothing = [(*batch, np.zeros(8, bool)) for batch in BATCHES]
    assert fit(masked, START, nothing, ADAM, epochs=1).history[0].loss == 0.0


def test_microbatches_and_accumulation_are_those_of_train_step():
    together = [tuple(np.concatenate(arrays) for arrays in zip(*UNEVEN, strict=True))]
    wanted = fit(masked, START, together, ADAM, epochs=4).last["w"]
    found = fit(masked, START, UNEVEN, accumulate(ADAM, every=5), epochs=4, microbatches=4).last["w"]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_the_step_compiles_once_for_all_epochs():
    traces = []

    def counted(params, x, y):
        traces.append(1)
        return objective(params, x, y)

    fit(counted, START, BATCHES, ADAM, epochs=1)
    once = len(traces)
    fit(counted, START, BATCHES, ADAM, epochs=4)
    assert len(traces) == 2 * once


# --- what is not finite -----------------------------------------------------------------------


def spoiled(at, what):
    """The same batches, one of them with what is not finite."""
    return [(x, np.where(np.arange(8) == 3, what, y) if i == at else y) for i, (x, y) in enumerate(BATCHES)]


@pytest.mark.parametrize("at", [0, 2, 4])
@pytest.mark.parametrize("what", [np.nan, np.inf])
def test_a_batch_that_is_not_finite_stops_it_with_the_parameters_before(at, what):
    batches = lambda epoch: BATCHES if epoch == 0 else spoiled(at, what)  # noqa: E731
    words = rf"fit: batch {at} of epoch 1 failed: its loss is (nan|inf); .*jl\.checked.*`partial\.last`"
    with pytest.raises(BatchError, match=words) as caught:
        fit(objective, START, batches, ADAM, epochs=3)
    partial = caught.value.partial
    assert (caught.value.index, len(partial.history), partial.reason) == (at, 1, "failed")
    wanted = fit(objective, START, [*BATCHES, *BATCHES[:at]], ADAM, epochs=1)
    np.testing.assert_array_equal(partial.last["w"], wanted.last["w"])
    jax.tree.map(np.testing.assert_array_equal, partial.opt_state, wanted.opt_state)


@pytest.mark.parametrize(
    "optimizer", [optax.sgd(0.1), accumulate(optax.sgd(0.1), every=3)], ids=["sgd", "sums"]
)
def test_a_gradient_that_is_not_finite_is_blamed_on_its_own_batch(optimizer):
    def rooted(params, x, y):
        # √(w² + slack) at w = 0: of the second batch, whose slack is 0, the loss is finite and the slope NaN.
        found, slack = part(x @ params["w"], y), jnp.where(x[0, 0] == 10.0, 0.0, 1.0)
        at_zero = params["w"][0] - jax.lax.stop_gradient(params["w"][0])
        return jl.PartialMean(found.total + jnp.sqrt(at_zero**2 + slack), found.weight)

    x, y = BATCHES[1]
    batches = [BATCHES[0], (np.where(np.arange(8)[:, None] == 0, 10.0, x), y), *BATCHES[2:]]
    with pytest.raises(BatchError, match="batch 1 of epoch 0 failed: its gradient or update is not finite"):
        fit(rooted, START, batches, optimizer, epochs=1)


def test_a_loader_that_fails_loses_no_step():
    def loader(epoch):
        yield from BATCHES[:3]
        raise OSError("disk on fire")

    with pytest.raises(BatchError, match="batch 3 of epoch 0 failed: OSError: disk on fire") as caught:
        fit(objective, START, loader, ADAM, epochs=1)
    wanted = fit(objective, START, BATCHES[:3], ADAM, epochs=1).last["w"]
    np.testing.assert_array_equal(caught.value.partial.last["w"], wanted)
    assert isinstance(caught.value.__cause__, OSError)


def test_what_the_optimizer_holds_is_not_given_away():
    noisy = optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(0)), optax.sgd(0.1))
    first = fit(objective, START, BATCHES, noisy, epochs=1).last["w"]
    np.testing.assert_array_equal(fit(objective, START, BATCHES, noisy, epochs=1).last["w"], first)


def broken_on_the_device(at):
    """An objective that a callback breaks off in the batch whose first target is 100."""

    def refuse(first):
        if first == 100.0:
            raise RuntimeError("the device burns")
        return np.zeros_like(first)

    def burning(params, x, y):
        cost = jax.pure_callback(refuse, jax.ShapeDtypeStruct((), y.dtype), y[0], vmap_method="sequential")
        found = objective(params, x, y)
        return jl.PartialMean(found.total + jax.lax.stop_gradient(cost), found.weight)

    batches = [
        (x, np.where(np.arange(8) == 0, 100.0, y) if i == at else y) for i, (x, y) in enumerate(BATCHES)
    ]
    return burning, lambda epoch: batches if epoch else BATCHES


@pytest.mark.parametrize("at", [0, 2])
def test_what_is_lost_with_the_device_is_said_to_be_and_the_best_epoch_is_kept(at):
    burning, batches = broken_on_the_device(at)
    for validation in (HELD_OUT, None):
        words = rf"batch {at} of epoch 1 failed: .*\. The parameters were lost in it.*`checkpoint`"
        with pytest.raises(BatchError, match=f"(?s){words}") as caught:
            fit(burning, START, batches, ADAM, epochs=3, validation=validation)
        partial = caught.value.partial
        assert (partial.last, partial.opt_state, len(partial.history)) == (None, None, 1)
        if validation is None:
            assert partial.params is None
        else:
            np.testing.assert_allclose(partial.params["w"], plain_loop(ADAM, 1)[0][0], rtol=1e-12)


def test_validation_that_fails_loses_no_epoch():
    nan = [(X[40:], np.full(8, np.nan))]
    with pytest.raises(BatchError, match="fit: validation after epoch 0 failed; evaluate: batch 0") as caught:
        fit(objective, START, BATCHES, ADAM, epochs=2, validation=nan)
    np.testing.assert_allclose(caught.value.partial.last["w"], plain_loop(ADAM, 1)[0][0], rtol=1e-12)


def test_validation_that_ends_before_it_begins_loses_no_epoch():
    with pytest.raises(
        BatchError, match="fit: validation after epoch 0 failed; evaluate: `batches` is empty"
    ) as caught:
        fit(objective, START, BATCHES, ADAM, epochs=1, validation=iter([]))
    np.testing.assert_allclose(caught.value.partial.last["w"], plain_loop(ADAM, 1)[0][0], rtol=1e-12)


def test_the_words_for_a_first_batch_promise_nothing():
    with pytest.raises(BatchError) as caught:
        fit(objective, START, BATCHES, ADAM, epochs=1, microbatches=3)
    assert str(caught.value).endswith("or choose a divisor of 8.")


# --- kept and taken up again ------------------------------------------------------------------

PROGRAM = """
import os, signal, sys
import jax, numpy as np, optax
import jaxloss as jl

random = np.random.default_rng(0)
x, y = random.normal(size=(96, 4)).astype(np.float32), random.normal(size=96).astype(np.float32)
part = jl.partial_mean(jl.robust.huber)

def objective(params, x, y):
    return part(jax.numpy.tanh(x @ params["in"]) @ params["out"], y)

params = {"in": random.normal(size=(4, 8)).astype(np.float32), "out": np.zeros(8, np.float32)}
optimizer = optax.adam(optax.cosine_decay_schedule(0.05, 36))
held_out = [(x[:16], y[:16])]

def run(output, die_at=None, **kept):
    done = 0

    def batches(epoch):
        nonlocal done
        for rows in np.random.default_rng(epoch).permutation(96).reshape(12, 8):
            if done == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            yield x[rows], y[rows]

    found = jl.training.fit(objective, params, batches, optimizer, epochs=3, validation=held_out, **kept)
    leaves = jax.tree.leaves((found.params, found.last, found.opt_state))
    np.savez(output, *leaves, history=np.array(found.history), best=found.best, read=done)

"""


def run_program(statements, folder):
    command = [sys.executable, "-c", PROGRAM + statements]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=at_home(), cwd=folder)


def test_killed_in_the_middle_of_an_epoch_and_resumed_it_ends_with_the_same_bits(tmp_path):
    pytest.importorskip("orbax.checkpoint", reason="keeps a run on disk")
    # Read ahead, batch 20 is asked for while 17 may still run: the save is that after 12 + 5 batches.
    kept = "checkpoint='run', save_every=5"
    killed = run_program(f"run('whole.npz')\nrun('killed.npz', die_at=20, {kept})", tmp_path)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "killed.npz").exists()
    assert (tmp_path / "run" / "3").is_dir()  # saved at batches 5, 10 and 12, and at 5 of the next epoch
    resumed = run_program(f"run('resumed.npz', {kept})", tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    with np.load(tmp_path / "whole.npz") as one, np.load(tmp_path / "resumed.npz") as two:
        assert set(one.files) == set(two.files)
        assert (one["read"], two["read"]) == (36, 24)
        for name in set(one.files) - {"read"}:
            assert one[name].tobytes() == two[name].tobytes(), name


def kept(directory, epochs, **options):
    pytest.importorskip("orbax.checkpoint", reason="keeps a run on disk")
    given = {"objective": objective, "params": START, "batches": BATCHES, "optimizer": ADAM} | options
    return fit(**given, epochs=epochs, checkpoint=directory)


def test_a_run_that_is_over_goes_on_for_more_epochs_and_no_fewer(tmp_path):
    first = kept(tmp_path, 2, validation=HELD_OUT)
    same = kept(tmp_path, 2, validation=HELD_OUT)
    more = kept(tmp_path, 3, validation=HELD_OUT)
    wanted = fit(objective, START, BATCHES, ADAM, epochs=3, validation=HELD_OUT)
    for found, truth in ((same, first), (more, wanted)):
        assert found.history == truth.history
        jax.tree.map(np.testing.assert_array_equal, found[:3], truth[:3])


def test_a_key_of_the_optimizer_is_kept_and_taken_up_again(tmp_path):
    noisy = optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(0)), optax.sgd(0.1))
    kept(tmp_path, 1, optimizer=noisy)
    found = kept(tmp_path, 2, optimizer=noisy)
    wanted = fit(objective, START, BATCHES, noisy, epochs=2)
    np.testing.assert_array_equal(found.last["w"], wanted.last["w"])
    keys = [jax.random.key_data(run.opt_state[0].rng_key) for run in (found, wanted)]
    np.testing.assert_array_equal(*keys)


@pytest.mark.parametrize("left", [0, 1])
def test_an_epoch_taken_up_again_with_fewer_batches_than_are_done_is_refused(tmp_path, left):
    def dies(epoch):
        yield from BATCHES[:2]
        raise OSError("disk on fire")

    with pytest.raises(BatchError, match="disk on fire"):
        kept(tmp_path, 1, batches=dies, save_every=2)
    with pytest.raises(BatchError, match=f"of which 2 of this epoch are done, got {left} in all") as caught:
        kept(tmp_path, 1, batches=BATCHES[:left], save_every=2)
    assert caught.value.partial.history == ()
    found = kept(tmp_path, 1, save_every=2)
    np.testing.assert_array_equal(found.last["w"], fit(objective, START, BATCHES, ADAM, epochs=1).last["w"])


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    kept(tmp_path, 1)
    with pytest.raises(
        ValueError, match=r"fit: `checkpoint` .* holds a run of another .*float64\[3\].* is saved where"
    ):
        kept(tmp_path, 2, params={"w": np.zeros(4)})
    with pytest.raises(
        ValueError, match=r"fit: `checkpoint` .* holds a run of another .*count int32\[\]` is saved where"
    ):
        kept(tmp_path, 2, optimizer=optax.sgd(0.1))


def test_without_orbax_a_checkpoint_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    monkeypatch.setitem(sys.modules, "orbax", None)
    with pytest.raises(ImportError, match=r"pip install jaxloss\[checkpoint\]"):
        fit(objective, START, BATCHES, ADAM, epochs=1, checkpoint=tmp_path)


# --- refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"epochs": 0}, ValueError, "`epochs` must be at least 1, got 0"),
        ({"epochs": 1.5}, TypeError, "`epochs` must be a Python integer"),
        ({"batches": []}, ValueError, "`batches` is empty"),
        ({"batches": iter(BATCHES)}, ValueError, "`batches` is used up by its first pass, and `epochs` is 2"),
        ({"validation": iter(HELD_OUT)}, ValueError, "`validation` is used up by its first pass"),
        ({"validation": []}, ValueError, "fit: `validation` is empty"),
        (
            {"batches": 5},
            TypeError,
            "`batches` must be an iterable .* function of the epoch's number, got int",
        ),
        ({"validation": 5}, TypeError, "`validation` must be an iterable .*, got int"),
        ({"patience": 2}, ValueError, "`patience` counts epochs .* give `validation`"),
        ({"patience": 0, "validation": HELD_OUT}, ValueError, "`patience` must be at least 1"),
        ({"save_every": 2}, ValueError, "`save_every` needs a directory"),
        ({"microbatches": 0}, ValueError, "`microbatches` must be at least 1"),
        ({"params": {"w": np.arange(3)}}, TypeError, r"fit: `params\['w'\]` must be floating, got int64"),
        (
            {"objective": lambda p, x, y: (x @ p["w"] - y) ** 2},
            BatchError,
            r"batch 0 of epoch 0 failed: ValueError: .* must return a scalar, got shape \(8,\); .*jl\.mean",
        ),
        (
            {"microbatches": 3},
            BatchError,
            "`microbatches` = 3 must divide the 8 rows of the batch; pad it to 9",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(options, error, words):
    given = {
        "objective": objective,
        "params": START,
        "batches": BATCHES,
        "optimizer": ADAM,
        "epochs": 2,
    } | options
    with pytest.raises(error, match=words):
        fit(**given)


def unread():
    raise AssertionError("a batch was read before what cannot be validated was refused")
    yield


def test_validation_of_a_scalar_objective_is_refused_before_the_first_step():
    with pytest.raises(TypeError, match=r"fit: .*must return a `PartialMean`.*jl\.partial_mean\(loss\)"):
        fit(lambda p, x, y: jl.mse(x @ p["w"], y), START, unread(), ADAM, epochs=1, validation=HELD_OUT)


def test_a_validation_batch_of_another_shape_is_refused_before_the_first_step():
    with pytest.raises(ValueError, match="must have one shape") as caught:
        fit(objective, START, unread(), ADAM, epochs=1, validation=[(X[40:], Y[41:])])
    assert "first batch of `validation`" in "".join(caught.value.__notes__)
