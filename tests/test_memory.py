"""What can be said of memory and dispatch without a clock: temporaries, scatters, copies and compilations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import support
from oracles import CASES
from programs import COUNTED, LAID_OUT, compilations

import jaxloss as jl
from jaxloss._loss import CARDS
from jaxloss.adapters import optax_losses

ROWS = 1_000_003
ROW, LABELS, MASK = (jax.ShapeDtypeStruct((ROWS,), dtype) for dtype in (jnp.float32, jnp.float32, jnp.bool_))
LOGITS = jax.ShapeDtypeStruct((2048, 4096), jnp.float32)
IDS = jax.ShapeDtypeStruct((2048,), jnp.int32)
KEPT = jax.ShapeDtypeStruct((2048,), jnp.bool_)
ALL_LOGITS = 4 * LOGITS.size

compiled = {}


def program(function, *arguments, **options):
    """The compiled program of a function, once."""
    key = (function, arguments, tuple(options))
    if key not in compiled:
        compiled[key] = jax.jit(function).lower(*arguments, **options).compile(LAID_OUT)
    return compiled[key]


def temporaries(function, *arguments, **options) -> int:
    return program(function, *arguments, **options).memory_analysis().temp_size_in_bytes


BINARY = jl.mean(jl.binary.cross_entropy)
MEANS = {"mse": jl.mse, "mae": jl.mae, "huber": jl.mean(jl.robust.huber), "binary.cross_entropy": BINARY}
CROSS_ENTROPY = {"value": jl.cross_entropy, "value_and_grad": jax.value_and_grad(jl.cross_entropy)}
every_mean = pytest.mark.parametrize("name", MEANS)
value_and_gradient = pytest.mark.parametrize("which", CROSS_ENTROPY)


@COUNTED
@every_mean
def test_the_value_of_a_mean_stores_no_row(name):
    assert temporaries(MEANS[name], ROW, LABELS) < 4096


# Of losses of plain numbers, the bytes a row that value and gradient of a mean store beside the gradient.
STORED = {
    "binary.poly1": 12,
    "binary.probability_cross_entropy": 4,
    "deviance.binomial": 36,
    "deviance.gamma": 16,
    "deviance.inverse_gaussian": 4,
    "deviance.poisson": 12,
    "deviance.tweedie": 4,
    "likelihood.beta": 16,
    "likelihood.evidential": 8,
    "likelihood.laplace": 4,
    "likelihood.logistic": 4,
    "likelihood.negative_binomial": 16,
    "likelihood.poisson": 12,
    "likelihood.student_t": 8,
    "likelihood.von_mises": 12,
    "likelihood.zero_inflated_poisson": 12,
    "metric.hinge_embedding": 4,
    "ordinal.cumulative_link": 16,
    "robust.adaptive_nll": 4,
    "robust.general": 4,
    "robust.smooth_l1": 4,
}
PLAIN = [case for case in CASES if case.plain and not case.couples and not case.item_ndim]


@pytest.mark.skipif(jax.__version_info__[:2] != (0, 10), reason="counted for the XLA of JAX 0.10")
@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.name)
def test_the_value_and_gradient_of_a_mean_store_beside_the_gradient_what_they_did(case):
    ((data, _),) = support.examples(case, 1, calm=True)
    many = [jax.ShapeDtypeStruct((ROWS,), array.dtype) for array in support.cast(data, np.float32)]
    stored = temporaries(jax.value_and_grad(jl.mean(support.loss_of(case))), *many)
    assert stored < STORED.get(case.loss, 0) * ROWS + 4096


WEIGHED = {"weights": {"weights": ROW}, "where": {"where": MASK}, "both": {"weights": ROW, "where": MASK}}
PAIRS = [
    "binary.cross_entropy",
    "binary.probability_cross_entropy",
    "regression.log_cosh",
    "robust.smooth_l1",
]


@COUNTED
@pytest.mark.parametrize("given", WEIGHED.values(), ids=WEIGHED)
@pytest.mark.parametrize("name", PAIRS)
def test_weights_and_a_mask_store_one_array_of_rows_at_the_most(name, given):
    mean = jl.mean(CARDS[name].loss)
    stored = temporaries(jax.value_and_grad(mean), ROW, LABELS, **given)
    assert stored < STORED.get(name, 0) * ROWS + 4 * ROWS + 4096


def test_the_measure_sees_an_array_of_rows():
    assert temporaries(lambda x, y: jnp.sort(x - y)[0], ROW, LABELS) >= 4 * ROWS


@COUNTED
@value_and_gradient
def test_cross_entropy_of_ids_stores_no_array_of_the_logits_shape(which):
    assert temporaries(CROSS_ENTROPY[which], LOGITS, IDS) < ALL_LOGITS / 64


@COUNTED
@value_and_gradient
def test_a_masked_cross_entropy_stores_no_array_of_the_logits_shape(which):
    assert temporaries(CROSS_ENTROPY[which], LOGITS, IDS, where=KEPT) < ALL_LOGITS / 64


@COUNTED
@value_and_gradient
def test_an_ignored_class_id_stores_no_array_of_the_logits_shape(which):
    def ignoring(logits, labels):
        return CROSS_ENTROPY[which](logits, labels, ignore_index=-1)

    assert temporaries(ignoring, LOGITS, IDS) < ALL_LOGITS / 64


OF_ITEMS = {
    "categorical.cross_entropy": jl.categorical.cross_entropy,
    "optax_losses.softmax_cross_entropy": optax_losses.softmax_cross_entropy,
    "regression.cosine_distance": jl.regression.cosine_distance,
    "optax_losses.cosine_distance": optax_losses.cosine_distance,
    "divergence.kl": jl.divergence.kl,
    "optax_losses.kl_divergence": optax_losses.kl_divergence,
}


@COUNTED
@pytest.mark.parametrize("through", [lambda f: f, jax.value_and_grad], ids=["value", "value_and_grad"])
@pytest.mark.parametrize("loss", OF_ITEMS.values(), ids=OF_ITEMS)
def test_a_mean_over_items_of_two_arrays_stores_neither(loss, through):
    assert temporaries(through(jl.mean(loss)), LOGITS, LOGITS) < ALL_LOGITS / 16


@value_and_gradient
def test_a_masked_cross_entropy_does_not_scatter(which):
    assert "scatter(" not in program(CROSS_ENTROPY[which], LOGITS, IDS, where=KEPT).as_text()


@value_and_gradient
def test_cross_entropy_of_ids_does_not_scatter(which):
    assert "scatter(" not in program(CROSS_ENTROPY[which], LOGITS, IDS).as_text()


def test_the_measure_sees_a_scatter():
    def textbook(logits, labels):
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=-1))

    assert "scatter(" in program(jax.value_and_grad(textbook), LOGITS, IDS).as_text()


def test_the_gradient_of_cross_entropy_writes_the_logits_once():
    written = program(CROSS_ENTROPY["value_and_grad"], LOGITS, IDS).memory_analysis().output_size_in_bytes
    assert ALL_LOGITS <= written < ALL_LOGITS + 1024


# --- dispatch -------------------------------------------------------------------------------------


def primitives(jaxpr) -> set[str]:
    return {equation.primitive.name for equation in jaxpr.eqns}


@pytest.mark.parametrize("loss", [jl.robust.huber, jl.binary.logistic, jl.regression.squared_error])
def test_a_loss_inside_a_compiled_function_is_inlined(loss):
    jaxpr = jax.make_jaxpr(loss)(jnp.ones(4), jnp.ones(4))
    assert not primitives(jaxpr) & {"pjit", "jit"}


def rows(count: int) -> np.ndarray:
    return np.linspace(-1, 1, count).astype(np.float32)


EAGER = {
    "robust.huber": (jl.robust.huber, 211),
    "binary.logistic": (lambda p, _: jl.binary.logistic(p, np.ones(p.shape, np.int32)), 212),
    "mse": (jl.mse, 213),
    "mean": (jl.mean(jl.regression.log_cosh), 214),
    "sum": (jl.sum(jl.regression.log_cosh), 215),
    "lambda": (jl.mean(lambda p, t: (p - t) ** 2 + 1), 216),
}


@pytest.mark.parametrize(("function", "count"), EAGER.values(), ids=EAGER)
def test_an_eager_call_compiles_one_program(function, count):
    assert compilations(function, rows(count), rows(count)) == 1


@pytest.mark.parametrize(("function", "count"), EAGER.values(), ids=EAGER)
def test_a_second_eager_call_compiles_none(function, count):
    function(rows(count + 100), rows(count + 100))
    assert compilations(function, rows(count + 100), rows(count + 100)) == 0


def test_another_value_of_a_hyperparameter_compiles_nothing():
    jl.robust.huber(rows(217), rows(217), delta=0.5)
    assert compilations(jl.robust.huber, rows(217), rows(217), delta=0.25) == 0


def test_the_count_sees_a_call_for_each_primitive():
    assert compilations(lambda x: jnp.sin(jnp.cos(x) - jnp.sqrt(x)), jnp.asarray(rows(218)) ** 2) > 1
