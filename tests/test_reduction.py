"""`mean`, `sum`, `partial_mean` and `checked`: what is true of them whatever the loss is."""

import functools
import gc
import math
import re
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec
from programs import COUNTED, LAID_OUT, events

import jaxloss as jl

RNG = np.random.default_rng(0)
PREDICTIONS, TARGETS = RNG.normal(size=(2, 4, 3)).astype(np.float32)
ERRORS = (PREDICTIONS - TARGETS).astype(np.float64) ** 2
MASK = RNG.random((4, 3)) < 0.6
WEIGHTS = RNG.random((4, 3)).astype(np.float32)
LOGITS = RNG.normal(size=(6, 5)).astype(np.float32)
LABELS = np.array([0, -1, 3, 4, -1, 2], np.int32)

TRANSFORMATIONS = {"mean": jl.mean, "sum": jl.sum, "partial_mean": jl.partial_mean}
every_transformation = pytest.mark.parametrize("transform", TRANSFORMATIONS.values(), ids=TRANSFORMATIONS)


def squares(predictions, targets):
    return (predictions - targets) ** 2


def counted():
    """A loss of its own that counts how often it is traced."""
    traces = []

    def loss(predictions, targets):
        traces.append(1)
        return (predictions - targets) ** 2

    return loss, traces


# --- one compiled function a loss -----------------------------------------------------------------


@every_transformation
def test_a_loss_transformed_in_a_loop_is_traced_once(transform):
    loss, traces = counted()
    transform(loss)(PREDICTIONS, TARGETS)
    once = len(traces)
    for _ in range(5):
        transform(loss)(PREDICTIONS, TARGETS)
    assert len(traces) == once


def test_a_loss_transformed_in_a_loop_is_compiled_once():
    loss, _ = counted()
    assert any("compile" in event for event in events(jl.mean(loss), PREDICTIONS, TARGETS))
    again = events(jl.mean(loss), PREDICTIONS, TARGETS)
    assert not [event for event in again if "compile" in event or "trace" in event]


def test_the_gradient_of_a_mean_made_in_a_loop_is_traced_once():
    loss, traces = counted()
    jax.grad(jl.mean(loss))(PREDICTIONS, TARGETS)
    once = len(traces)
    jax.grad(jl.mean(loss))(PREDICTIONS, TARGETS)
    assert len(traces) == once


def test_another_shape_is_traced_anew():
    loss, traces = counted()
    jl.mean(loss)(PREDICTIONS, TARGETS)
    once = len(traces)
    jl.mean(loss)(PREDICTIONS[:2], TARGETS[:2])
    assert len(traces) > once


@every_transformation
@pytest.mark.parametrize("called", [False, True], ids=["made", "made and called"])
def test_a_transformation_holds_no_dead_loss_alive(transform, called):
    loss, _ = counted()
    gone = weakref.ref(loss)
    reduced = transform(loss)
    if called:
        jax.block_until_ready(reduced(PREDICTIONS, TARGETS, where=MASK))
    del loss, reduced
    gc.collect()
    assert gone() is None


def test_what_a_dead_loss_held_is_freed():
    class Held:
        pass

    held = Held()
    gone = weakref.ref(held)

    def loss(predictions, targets, *, _held=held):
        return (predictions - targets) ** 2

    jl.mean(loss)(PREDICTIONS, TARGETS)
    del loss, held
    gc.collect()
    assert gone() is None


def test_a_mean_holds_its_loss_alive():
    mean = jl.mean(lambda p, t: (p - t) ** 2)
    gc.collect()
    assert jnp.isfinite(mean(PREDICTIONS, TARGETS))


# --- any function of the form ---------------------------------------------------------------------


class Unhashable:
    """A callable that cannot be a key."""

    __hash__ = None

    def __call__(self, predictions, targets):
        return (predictions - targets) ** 2


class Slotted:
    """A callable that nothing can refer to weakly."""

    __slots__ = ()

    def __call__(self, predictions, targets):
        return (predictions - targets) ** 2


CALLABLES = {
    "lambda": lambda p, t: (p - t) ** 2,
    "partial": functools.partial(lambda p, t, *, power: (p - t) ** power, power=2),
    "partial of ours": functools.partial(jl.regression.squared_error),
    "unhashable": Unhashable(),
    "not weakly referable": Slotted(),
    "bound method": Slotted().__call__,
    "jitted": jax.jit(lambda p, t: (p - t) ** 2),
    "vmapped": jax.vmap(lambda p, t: (p - t) ** 2),
}


@pytest.mark.parametrize("loss", CALLABLES.values(), ids=CALLABLES)
def test_any_callable_of_the_form_has_a_mean(loss):
    np.testing.assert_allclose(jl.mean(loss)(PREDICTIONS, TARGETS), ERRORS.mean(), rtol=1e-6)


@pytest.mark.parametrize("loss", CALLABLES.values(), ids=CALLABLES)
def test_any_callable_of_the_form_takes_a_mask(loss):
    np.testing.assert_allclose(
        jl.mean(loss)(PREDICTIONS, TARGETS, where=MASK), ERRORS[MASK].mean(), rtol=1e-6
    )


def test_a_partial_of_a_carded_loss_keeps_its_option():
    loss = functools.partial(jl.robust.huber, delta=0.5)
    np.testing.assert_array_equal(
        jl.mean(loss)(PREDICTIONS, TARGETS), jl.mean(jl.robust.huber)(PREDICTIONS, TARGETS, delta=0.5)
    )


def test_a_bound_method_reduces_with_its_own_state():
    class Scaled:
        def __init__(self, scale):
            self.scale = scale

        def loss(self, predictions, targets):
            return self.scale * (predictions - targets) ** 2

    means = [jl.mean(Scaled(scale).loss)(PREDICTIONS, TARGETS) for scale in (1.0, 3.0)]
    np.testing.assert_allclose(means, [ERRORS.mean(), 3 * ERRORS.mean()], rtol=1e-6)


def test_the_losses_of_optax_have_a_masked_mean():
    optax = pytest.importorskip("optax", reason="anybody's loss, here Optax's")
    got = jl.mean(optax.squared_error)(PREDICTIONS, TARGETS, where=MASK)
    np.testing.assert_allclose(got, ERRORS[MASK].mean(), rtol=1e-6)


def test_a_loss_of_optax_that_broadcasts_in_silence_is_refused():
    optax = pytest.importorskip("optax", reason="anybody's loss, here Optax's")
    with (
        jax.numpy_rank_promotion("allow"),
        pytest.raises(ValueError, match="must start with the rows' shape"),
    ):
        jl.mean(optax.huber_loss)(jnp.ones(4), jnp.ones((4, 1)))


def test_data_may_be_given_by_name():
    got = jl.mean(jl.robust.huber)(targets=TARGETS, predictions=PREDICTIONS, delta=0.5)
    np.testing.assert_array_equal(got, jl.mean(jl.robust.huber)(PREDICTIONS, TARGETS, delta=0.5))


def test_a_removed_row_given_by_name_may_hold_nan():
    spoiled = np.where(MASK, PREDICTIONS, np.nan)
    got = jl.mean(squares)(predictions=spoiled, targets=TARGETS, where=MASK)
    np.testing.assert_allclose(got, ERRORS[MASK].mean(), rtol=1e-6)


def test_the_wrapper_keeps_the_losss_name_and_docstring():
    mean = jl.mean(jl.robust.huber)
    assert (mean.__name__, mean.__doc__) == (jl.robust.huber.__name__, jl.robust.huber.__doc__)


def test_a_string_among_the_options_is_static():
    def loss(predictions, targets, *, kind):
        return jnp.abs(predictions - targets) if kind == "absolute" else (predictions - targets) ** 2

    np.testing.assert_allclose(
        jl.mean(loss)(PREDICTIONS, TARGETS, kind="absolute"), np.abs(PREDICTIONS - TARGETS).mean(), rtol=1e-6
    )


def test_a_flag_among_the_options_is_static():
    def loss(predictions, targets, *, halved):
        return (predictions - targets) ** 2 * (0.5 if halved else 1.0)

    np.testing.assert_allclose(jl.mean(loss)(PREDICTIONS, TARGETS, halved=True), ERRORS.mean() / 2, rtol=1e-6)


def test_a_callable_among_the_options_is_static():
    def loss(predictions, targets, *, of):
        return of(predictions - targets)

    np.testing.assert_allclose(
        jl.mean(loss)(PREDICTIONS, TARGETS, of=jnp.abs), np.abs(PREDICTIONS - TARGETS).mean(), rtol=1e-6
    )


# --- masks and weights ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 3), (4, 1), (1, 3), (1, 1)])
def test_a_mask_broadcasts_along_axes_of_size_one(shape):
    mask = MASK[: shape[0], : shape[1]].copy()
    mask.flat[0] = True
    kept = np.broadcast_to(mask, (4, 3))
    np.testing.assert_allclose(
        jl.mean(squares)(PREDICTIONS, TARGETS, where=mask), ERRORS[kept].mean(), rtol=1e-6
    )


@pytest.mark.parametrize("shape", [(4, 3), (4, 1), (1, 3), (1, 1)])
def test_weights_broadcast_along_axes_of_size_one(shape):
    weights = WEIGHTS[: shape[0], : shape[1]]
    np.testing.assert_allclose(
        jl.mean(squares)(PREDICTIONS, TARGETS, weights=weights),
        np.average(ERRORS, weights=np.broadcast_to(weights, (4, 3))),
        rtol=1e-6,
    )


BAD_SHAPES = [(3,), (4,), (), (3, 4), (2, 3), (4, 3, 1), (1, 4, 3)]


@every_transformation
@pytest.mark.parametrize("shape", BAD_SHAPES)
def test_a_mask_of_another_shape_is_refused(transform, shape):
    with pytest.raises(ValueError, match=re.escape(f"`where` {shape} must have the rows' shape (4, 3)")):
        transform(squares)(PREDICTIONS, TARGETS, where=np.ones(shape, bool))


@every_transformation
@pytest.mark.parametrize("shape", BAD_SHAPES)
def test_weights_of_another_shape_are_refused(transform, shape):
    with pytest.raises(ValueError, match=re.escape(f"`weights` {shape} must have the rows' shape (4, 3)")):
        transform(squares)(PREDICTIONS, TARGETS, weights=np.ones(shape, np.float32))


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.float32])
def test_a_mask_that_is_not_bool_is_refused(dtype):
    with pytest.raises(TypeError, match=f"`where` must be bool, got {np.dtype(dtype)}; pass `mask != 0`"):
        jl.mean(squares)(PREDICTIONS, TARGETS, where=MASK.astype(dtype))


def test_bool_weights_are_refused_and_told_where_they_belong():
    with pytest.raises(TypeError, match="`weights` must be real, got bool; pass a mask as `where`"):
        jl.mean(squares)(PREDICTIONS, TARGETS, weights=MASK)


def test_complex_weights_are_refused():
    with pytest.raises(TypeError, match="`weights` must be real, got complex64; pass real numbers"):
        jl.mean(squares)(PREDICTIONS, TARGETS, weights=WEIGHTS.astype(np.complex64))


def test_a_refusal_names_the_transformation_and_the_loss():
    with pytest.raises(TypeError, match=r"^sum\(robust\.huber\): `where`"):
        jl.sum(jl.robust.huber)(PREDICTIONS, TARGETS, where=MASK.astype(int))


def test_a_refusal_names_a_loss_that_has_no_card():
    with pytest.raises(TypeError, match=r"^mean\(squares\): `where`"):
        jl.mean(squares)(PREDICTIONS, TARGETS, where=MASK.astype(int))


def test_a_mask_for_a_loss_that_reduced_already_is_refused():
    with pytest.raises(ValueError, match="the loss returns one number, not one a row"):
        jl.mean(lambda p, t: jnp.mean((p - t) ** 2))(PREDICTIONS, TARGETS, where=MASK)


def test_data_that_are_not_rows_are_refused():
    with pytest.raises(ValueError, match=r"data argument 2 \(7,\) must start with the rows' shape \(4, 3\)"):
        jl.mean(lambda p, t, _: (p - t) ** 2)(PREDICTIONS, TARGETS, np.ones(7))


def test_a_hyperparameter_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"robust\.huber: `delta` must be in \(0, ∞\), got -1"):
        jl.mean(jl.robust.huber)(PREDICTIONS, TARGETS, delta=-1.0)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_integer_weights_count(dtype):
    weights = RNG.integers(0, 4, size=(4, 3)).astype(dtype)
    np.testing.assert_allclose(
        jl.mean(squares)(PREDICTIONS, TARGETS, weights=weights),
        np.average(ERRORS, weights=weights),
        rtol=1e-6,
    )


def test_a_row_of_weight_zero_does_not_count():
    weights = np.where(MASK, np.float32(2), np.float32(0))
    np.testing.assert_allclose(
        jl.mean(squares)(PREDICTIONS, TARGETS, weights=weights), ERRORS[MASK].mean(), rtol=1e-6
    )


def test_weights_and_mask_multiply():
    np.testing.assert_allclose(
        jl.mean(squares)(PREDICTIONS, TARGETS, where=MASK, weights=WEIGHTS),
        np.average(ERRORS[MASK], weights=WEIGHTS[MASK]),
        rtol=1e-6,
    )


def test_a_removed_row_may_hold_nan_as_its_weight():
    weights = np.where(MASK, WEIGHTS, np.nan)
    np.testing.assert_allclose(
        jl.mean(squares)(PREDICTIONS, TARGETS, where=MASK, weights=weights),
        np.average(ERRORS[MASK], weights=WEIGHTS[MASK]),
        rtol=1e-6,
    )


def test_tiny_weights_have_a_finite_gradient():
    weights = jnp.full((4, 3), 1e-30, jnp.float32)
    got = jax.grad(lambda w: jl.mean(squares)(PREDICTIONS, TARGETS, weights=w))(weights)
    np.testing.assert_allclose(got, (ERRORS - ERRORS.mean()) / 1.2e-29, rtol=1e-4, atol=1e22)


EMPTY = {
    "no row": (np.zeros((0, 3), np.float32), {}),
    "no row kept": (PREDICTIONS, {"where": np.zeros((4, 3), bool)}),
    "no weight": (PREDICTIONS, {"weights": np.zeros((4, 3), np.float32)}),
    "no row of NaN kept": (np.full((4, 3), np.nan, np.float32), {"where": np.zeros((4, 3), bool)}),
}
nothing_left = pytest.mark.parametrize(("predictions", "options"), EMPTY.values(), ids=EMPTY)


@nothing_left
@pytest.mark.parametrize("transform", [jl.mean, jl.sum])
def test_the_mean_of_nothing_is_zero(transform, predictions, options):
    assert transform(squares)(predictions, np.ones_like(predictions), **options) == 0


@nothing_left
def test_the_mean_of_nothing_has_zero_gradient(predictions, options):
    got = jax.grad(jl.mean(squares))(jnp.asarray(predictions), jnp.ones_like(predictions), **options)
    np.testing.assert_array_equal(got, np.zeros_like(predictions))


def test_a_nan_in_a_kept_row_is_not_hidden():
    spoiled = PREDICTIONS.copy()
    spoiled[tuple(np.argwhere(MASK)[0])] = np.nan
    assert jnp.isnan(jl.mean(squares)(spoiled, TARGETS, where=MASK))


def test_a_nan_in_a_kept_weight_is_not_hidden():
    weights = WEIGHTS.copy()
    weights[tuple(np.argwhere(MASK)[0])] = np.nan
    assert jnp.isnan(jl.mean(squares)(PREDICTIONS, TARGETS, where=MASK, weights=weights))


def test_the_sum_ignores_removed_rows():
    spoiled = np.where(MASK, PREDICTIONS, np.inf)
    np.testing.assert_allclose(
        jl.sum(squares)(spoiled, TARGETS, where=MASK, weights=WEIGHTS),
        (ERRORS * WEIGHTS)[MASK].sum(),
        rtol=1e-6,
    )


def test_a_scalar_loss_is_its_own_mean():
    assert jl.mean(squares)(3.0, 1.0) == 4.0


def test_a_scalar_loss_can_be_masked():
    assert jl.mean(squares)(jnp.nan, 1.0, where=False) == 0


@pytest.mark.parametrize("options", [{}, {"where": np.arange(6) < 4}], ids=["all rows", "masked"])
def test_what_a_function_among_the_options_closes_over_is_differentiated(options):
    shares = np.eye(5, dtype=np.float32)[np.maximum(LABELS, 0)]

    def loss(labels, scale):
        def soft(logits):
            return jax.nn.logsumexp(scale * logits) / scale

        return jl.mean(jl.categorical.fenchel_young)(LOGITS, labels, max_fun=soft, **options)

    by_shares, by_ids = (jax.grad(loss, 1)(labels, 2.0) for labels in (shares, np.maximum(LABELS, 0)))
    np.testing.assert_allclose(by_shares, by_ids, rtol=1e-5)


# --- precision ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_rows_in_half_precision_are_summed_in_single(dtype):
    def loss(predictions, _):
        return predictions

    rows = jnp.full(4097, 1.0, dtype)
    got = jl.sum(loss)(rows, rows)
    assert (got.dtype, got.item()) == (jnp.float32, 4097.0)


def test_weights_are_summed_in_single_as_well():
    rows = jnp.zeros(4097, jnp.bfloat16)
    weights = jnp.ones(4097, jnp.bfloat16)
    got = jl.partial_mean(lambda p, _: p)(rows, rows, weights=weights)
    assert (got.weight.dtype, got.weight.item()) == (jnp.float32, 4097.0)


def test_a_gradient_comes_back_in_the_rows_type():
    rows = jnp.ones(8, jnp.bfloat16)
    assert jax.grad(jl.mse)(rows, rows).dtype == jnp.bfloat16


def test_rows_in_double_precision_stay_double():
    assert jl.mse(np.ones(3), np.zeros(3)).dtype == jnp.float64


# --- ignore_index ---------------------------------------------------------------------------------


def numpy_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return -log_p[np.arange(len(labels)), labels]


KEPT = LABELS != -1
KEPT_LOSSES = numpy_cross_entropy(LOGITS[KEPT], LABELS[KEPT])


def test_ignored_rows_do_not_count_in_the_mean():
    got = jl.cross_entropy(LOGITS, LABELS, ignore_index=-1)
    np.testing.assert_allclose(got, KEPT_LOSSES.mean(), rtol=1e-6)


def test_ignored_rows_do_not_count_in_a_weighted_mean():
    weights = np.arange(1.0, 7.0, dtype=np.float32)
    got = jl.cross_entropy(LOGITS, LABELS, ignore_index=-1, weights=weights)
    np.testing.assert_allclose(got, np.average(KEPT_LOSSES, weights=weights[KEPT]), rtol=1e-6)


def test_a_mask_removes_more_than_the_ignored_rows():
    where = np.array([True, True, False, True, False, True])
    got = jl.cross_entropy(LOGITS, LABELS, ignore_index=-1, where=where)
    np.testing.assert_allclose(got, KEPT_LOSSES[where[KEPT]].mean(), rtol=1e-6)


def test_an_ignored_row_may_hold_nan():
    spoiled = np.where(KEPT[:, None], LOGITS, np.nan)
    np.testing.assert_allclose(
        jl.cross_entropy(spoiled, LABELS, ignore_index=-1), KEPT_LOSSES.mean(), rtol=1e-6
    )


def test_an_ignored_row_has_zero_gradient():
    spoiled = jnp.asarray(np.where(KEPT[:, None], LOGITS, np.nan))
    got = jax.grad(lambda z: jl.cross_entropy(z, LABELS, ignore_index=-1))(spoiled)
    np.testing.assert_array_equal(np.any(got != 0, axis=-1), KEPT)


@pytest.mark.parametrize("loss", [jl.categorical.cross_entropy, jl.categorical.focal, jl.categorical.nll])
def test_a_partial_mean_weighs_the_rows_that_are_not_ignored(loss):
    assert jl.partial_mean(loss)(LOGITS, LABELS, ignore_index=-1).weight.item() == 4


def test_where_all_rows_are_ignored_the_mean_is_zero():
    assert jl.cross_entropy(LOGITS, np.full(6, -1), ignore_index=-1) == 0


def test_ignored_rows_add_nothing_to_the_sum():
    got = jl.sum(jl.categorical.cross_entropy)(LOGITS, LABELS, ignore_index=-1)
    np.testing.assert_allclose(got, KEPT_LOSSES.sum(), rtol=1e-6)


# --- partial means --------------------------------------------------------------------------------


def test_a_partial_mean_is_a_total_and_a_weight():
    partial = jl.partial_mean(squares)(PREDICTIONS, TARGETS, where=MASK)
    np.testing.assert_allclose([partial.total, partial.weight], [ERRORS[MASK].sum(), MASK.sum()], rtol=1e-6)


def test_partial_means_of_unequal_parts_add_up_to_the_whole():
    parts = [jl.partial_mean(squares)(PREDICTIONS[rows], TARGETS[rows]) for rows in (slice(1), slice(1, 4))]
    np.testing.assert_allclose((parts[0] + parts[1]).value(), ERRORS.mean(), rtol=1e-6)


def test_partial_means_add_up_in_a_scan():
    def step(total, batch):
        predictions, targets, where = batch
        return total + jl.partial_mean(squares)(predictions, targets, where=where), None

    zero = jl.PartialMean(jnp.float32(0), jnp.float32(0))
    total, _ = lax.scan(step, zero, (PREDICTIONS, TARGETS, MASK))
    np.testing.assert_allclose(total.value(), ERRORS[MASK].mean(), rtol=1e-6)


def test_the_gradient_of_a_scan_of_partial_means_is_the_wholes():
    def accumulated(predictions):
        def step(total, batch):
            return total + jl.partial_mean(squares)(*batch[:2], where=batch[2]), None

        zero = jl.PartialMean(jnp.float32(0), jnp.float32(0))
        return lax.scan(step, zero, (predictions, TARGETS, MASK))[0].value()

    whole = jax.grad(jl.mean(squares))(PREDICTIONS, TARGETS, where=MASK)
    np.testing.assert_allclose(jax.grad(accumulated)(PREDICTIONS), whole, rtol=1e-6)


def test_partial_means_cross_a_vmapped_axis():
    def of_one(predictions, targets, where):
        return jl.partial_mean(squares)(predictions, targets, where=where).psum("batch").value()

    got = jax.vmap(of_one, axis_name="batch")(PREDICTIONS, TARGETS, MASK)
    np.testing.assert_allclose(got, np.full(4, ERRORS[MASK].mean()), rtol=1e-6)


def test_partial_means_cross_devices():
    mesh = jax.sharding.Mesh(jax.devices()[:4], ("rows",))

    def of_shard(predictions, targets, where):
        return jl.partial_mean(squares)(predictions, targets, where=where).psum("rows").value()

    rows = PartitionSpec("rows")
    sharded = jax.shard_map(of_shard, mesh=mesh, in_specs=(rows, rows, rows), out_specs=PartitionSpec())
    np.testing.assert_allclose(jax.jit(sharded)(PREDICTIONS, TARGETS, MASK), ERRORS[MASK].mean(), rtol=1e-6)


@pytest.mark.parametrize(
    "loss", [jl.robust.smooth_l1, jl.binary.cross_entropy, jl.regression.cosine_distance]
)
@pytest.mark.parametrize("rows", [(8,), (4, 6)], ids=str)
def test_a_masked_mean_on_a_mesh_of_explicit_axes_drops_the_removed_rows(loss, rows):
    shape = (*rows, 3) if loss is jl.regression.cosine_distance else rows
    predictions, targets = (
        np.random.default_rng(seed).uniform(size=shape).astype(np.float32) for seed in (1, 2)
    )
    kept = np.arange(np.prod(rows)).reshape(rows) % 3 > 0
    spoiled = np.where(kept.reshape(kept.shape + (1,) * (predictions.ndim - kept.ndim)), predictions, np.nan)
    mesh = jax.make_mesh((4,), ("rows",), axis_types=(jax.sharding.AxisType.Explicit,))
    spread = jax.sharding.NamedSharding(mesh, PartitionSpec("rows"))

    def objective(predictions, targets, where):
        return jl.mean(loss)(predictions, targets, where=where)

    given = [jax.device_put(array, spread) for array in (spoiled, targets, kept)]
    value, gradient = jax.jit(jax.value_and_grad(objective))(*given)
    dropped, slope = jax.value_and_grad(jl.mean(loss))(predictions[kept], targets[kept])
    np.testing.assert_allclose(value, dropped, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(gradient)[kept], slope, rtol=1e-5, atol=1e-8)
    assert not np.any(np.asarray(gradient)[~kept])


def largest_gather(program: str) -> int:
    """The numbers in the largest array that a compiled program gathers on each device."""
    shapes = re.findall(r"= \w+\[([\d,]*)\]\S* all-gather\(", program)
    return max((math.prod(map(int, filter(None, shape.split(",")))) for shape in shapes), default=0)


GATHERED = {
    "numbers": (jl.robust.smooth_l1, 0),
    "classes": (jl.categorical.cross_entropy, 64 * 5),
    "lambda": (lambda logits, ids: jnp.where(ids > 1, jnp.max(logits, axis=-1), 0), 64 * 5),
}


@pytest.mark.parametrize(("loss", "most"), GATHERED.values(), ids=GATHERED)
def test_a_masked_mean_of_rows_on_several_devices_gathers_64_rows_at_the_most(loss, most):
    rows = jax.sharding.NamedSharding(jax.sharding.Mesh(jax.devices()[:4], "rows"), PartitionSpec("rows"))
    logits = jax.ShapeDtypeStruct((8000, 5) if most else (8000,), jnp.float32, sharding=rows)
    ids = jax.ShapeDtypeStruct((8000,), jnp.int32 if most else jnp.float32, sharding=rows)
    kept = jax.ShapeDtypeStruct((8000,), jnp.bool_, sharding=rows)
    options = {"label_smoothing": 0.1} if loss is jl.categorical.cross_entropy else {}

    def objective(logits, ids, kept):
        return jl.mean(loss)(logits, ids, where=kept, **options)

    assert (
        largest_gather(jax.jit(jax.value_and_grad(objective)).lower(logits, ids, kept).compile().as_text())
        <= most
    )


def test_the_measure_sees_all_rows_gathered():
    rows = jax.sharding.NamedSharding(jax.sharding.Mesh(jax.devices()[:4], "rows"), PartitionSpec("rows"))
    logits = jax.ShapeDtypeStruct((8000, 5), jnp.float32, sharding=rows)
    assert largest_gather(jax.jit(lambda logits, at: logits[at]).lower(logits, 7).compile().as_text()) >= 8000


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 3.0])
def test_what_stands_in_for_a_removed_row_is_in_the_domain_of_every_link(power):
    means, targets = np.array([1.0, 2.0, np.nan, -3.0]), np.array([1.5, 2.0, -1.0, np.inf])

    def objective(power, rows, where=None):
        deviance = jl.mean(jl.deviance.tweedie)
        return deviance(means[rows], targets[rows], power=power, link="identity", where=where)

    masked = jax.grad(objective)(power, slice(None), np.array([True, True, False, False]))
    np.testing.assert_allclose(masked, jax.grad(objective)(power, slice(2)), rtol=1e-12)


@pytest.mark.parametrize("place", [0, 4095, 4096, 5000, 9999])
def test_the_one_row_that_is_kept_is_found_wherever_it_stands(place):
    predictions = np.where(np.arange(10_000) == place, 2, np.nan).astype(np.float32)

    def objective(delta):
        huber = jl.mean(jl.robust.huber)
        return huber(predictions, np.zeros(10_000, np.float32), where=~np.isnan(predictions), delta=delta)

    assert jax.value_and_grad(objective)(jnp.float32(0.5)) == (0.875, 1.5)


def test_what_stands_in_for_a_removed_row_is_below_the_option_that_bounds_it():
    logits, counts = np.array([0.3, 0.7]), np.array([0.1, np.nan])
    mean = jl.mean(jl.deviance.binomial)
    masked = jax.grad(lambda trials: mean(logits, counts, trials=trials, where=logits < 0.5))
    dropped = jax.grad(lambda trials: mean(logits[:1], counts[:1], trials=trials))
    np.testing.assert_allclose(masked(0.3), dropped(0.3), rtol=1e-12)


def test_a_partial_mean_is_a_pytree_of_two_numbers():
    assert len(jax.tree.leaves(jl.partial_mean(squares)(PREDICTIONS, TARGETS))) == 2


def test_the_value_of_a_partial_mean_of_nothing_has_zero_gradient():
    def value(total):
        return jl.PartialMean(total, jnp.float32(0)).value()

    assert jax.grad(value)(jnp.float32(0)) == 0


# --- compiling ------------------------------------------------------------------------------------


@COUNTED
def test_a_large_mask_that_is_a_constant_is_not_searched_when_compiling(capfd):
    mask = np.ones(8_000_000, bool)
    mask[:100] = False
    rows = jax.ShapeDtypeStruct(mask.shape, jnp.float32)
    masked = jax.jit(lambda p, t: jl.mean(squares)(p, t, where=mask))
    program = masked.lower(rows, rows).compile(LAID_OUT).as_text()
    # The program still searches for a kept row, and nothing was said of slow constant folding.
    searched = re.search(r"\(pred\[\], s(32|64)\[\]\) (fusion|reduce)", program)
    assert (bool(searched), "olding" in capfd.readouterr().err) == (True, False)


# --- checked --------------------------------------------------------------------------------------


def test_checked_names_the_loss_the_argument_the_domain_the_value_and_the_place():
    message = r"categorical\.cross_entropy: `labels` must be in \[0, 5\), got 7 at flat index 2"
    with pytest.raises(ValueError, match=message):
        jl.checked(jl.categorical.cross_entropy)(LOGITS, np.array([0, 1, 7, 3, 4, 2]))


def test_checked_names_a_target_out_of_its_domain():
    with pytest.raises(ValueError, match=r"binary\.cross_entropy: `labels` must be in \[0, 1\], got 1\.5"):
        jl.checked(jl.binary.cross_entropy)(np.zeros(3), np.array([0.0, 1.5, 1.0]))


def test_checked_names_a_hyperparameter_that_was_traced():
    with pytest.raises(ValueError, match=r"robust\.huber: `delta` must be in \(0, ∞\), got -1"):
        jl.checked(jax.jit(lambda d: jl.robust.huber(PREDICTIONS, TARGETS, delta=d)))(jnp.float32(-1))


BAD = np.array([0, 1, 7, 3, 4, 2])
UNDER = {
    "mean": jl.cross_entropy,
    "jit": jax.jit(jl.categorical.cross_entropy),
    "grad": jax.grad(jl.cross_entropy),
    "value_and_grad": jax.value_and_grad(jl.cross_entropy),
    "vmap": jax.vmap(jl.categorical.cross_entropy),
    "jit of grad": jax.jit(jax.grad(jl.cross_entropy)),
    "jvp": lambda z, y: jax.jvp(lambda z: jl.cross_entropy(z, y), (z,), (z,)),
    "scan": lambda z, y: lax.scan(
        lambda c, b: (c + jl.categorical.cross_entropy(*b), None), jnp.float32(0), (z, y)
    ),
}
transformed = pytest.mark.parametrize("function", UNDER.values(), ids=UNDER)


@transformed
def test_checked_raises_through_every_transformation(function):
    with pytest.raises(ValueError, match=r"`labels` must be in \[0, 5\), got 7"):
        jl.checked(function)(jnp.asarray(LOGITS), BAD)


@transformed
def test_checked_raises_through_a_function_that_ran_without_it(function):
    jax.block_until_ready(function(jnp.asarray(LOGITS), BAD))
    with pytest.raises(ValueError, match=r"`labels` must be in \[0, 5\), got 7"):
        jl.checked(function)(jnp.asarray(LOGITS), BAD)


@transformed
def test_checked_changes_no_value(function):
    good = np.array([0, 1, 4, 3, 4, 2])
    plain, careful = function(jnp.asarray(LOGITS), good), jl.checked(function)(jnp.asarray(LOGITS), good)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9), plain, careful)


@transformed
def test_no_check_is_left_in_the_unchecked_program(function):
    jl.checked(function)(jnp.asarray(LOGITS), np.zeros(6, int))
    jaxpr = jax.make_jaxpr(function)(jnp.asarray(LOGITS), BAD)
    assert (jaxpr.effects, "check[" in str(jaxpr)) == (set(), False)


def test_what_was_unchecked_answers_nan_after_a_checked_call_failed():
    with pytest.raises(ValueError, match="must be in"):
        jl.checked(jl.categorical.cross_entropy)(LOGITS, BAD)
    assert np.isnan(jl.categorical.cross_entropy(LOGITS, BAD)).tolist() == [
        False,
        False,
        True,
        False,
        False,
        False,
    ]


def test_checked_passes_what_is_masked():
    got = jl.checked(jl.cross_entropy)(LOGITS, BAD, where=BAD < 5)
    np.testing.assert_allclose(got, numpy_cross_entropy(LOGITS[BAD < 5], BAD[BAD < 5]).mean(), rtol=1e-6)


def test_checked_passes_what_is_ignored():
    got = jl.checked(jl.cross_entropy)(LOGITS, LABELS, ignore_index=-1)
    np.testing.assert_allclose(got, KEPT_LOSSES.mean(), rtol=1e-6)


def test_checked_takes_options_and_arguments_by_name():
    got = jl.checked(jl.robust.huber)(predictions=PREDICTIONS, targets=TARGETS, delta=0.5)
    np.testing.assert_allclose(got, jl.robust.huber(PREDICTIONS, TARGETS, delta=0.5), rtol=1e-6)


def test_checked_keeps_the_functions_name():
    assert jl.checked(jl.robust.huber).__name__ == "huber"
