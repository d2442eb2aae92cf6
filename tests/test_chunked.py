"""A loss in chunks is the loss: value, every derivative and every mean; only the memory is another."""

import functools
import gc
import re
import subprocess
import sys
import weakref
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from programs import COUNTED, LAID_OUT, compilations

import jaxloss as jl
from jaxloss._loss import CARDS

RNG = np.random.default_rng(7)
ROWS = 7
NUMBERS, TARGETS = RNG.normal(size=(2, ROWS))
LOGITS, SHIFTED = RNG.normal(size=(2, ROWS, 5))
IDS = np.array([0, 4, 2, 1, 3, 3, 0])
SIGNS = np.array([1, -1, -1, 1, 1, -1, 1])
TRIALS = np.arange(3.0, 3.0 + ROWS)
LISTS = RNG.random((ROWS, 5)) < 0.8
LISTS[:, 0] = True
SQUARE = RNG.normal(size=(ROWS, ROWS))

# A loss, its data, its options: of each kind of rows and of options one.
CASES = {
    "numbers": (jl.robust.huber, (NUMBERS, TARGETS), {"delta": 0.5}),
    "a scalar among the data": (lambda p, t, c: (p - t) ** 2 * c, (NUMBERS, TARGETS, 1.5), {}),
    "class ids": (jl.categorical.cross_entropy, (LOGITS, IDS), {"label_smoothing": 0.1, "z_loss": 0.2}),
    "distributions": (jl.categorical.focal, (LOGITS, jax.nn.softmax(SHIFTED)), {"gamma": 1.5}),
    "as many classes as rows": (
        jl.categorical.cross_entropy,
        (SQUARE, IDS),
        {"class_weights": np.linspace(1, 2, ROWS)},
    ),
    "classes left out, each row its own": (
        jl.categorical.cross_entropy,
        (SQUARE, np.arange(ROWS)),
        {"class_where": 1 + 9 * np.eye(ROWS) > SQUARE},
    ),
    "one trial number a row": (
        jl.deviance.binomial,
        (NUMBERS, np.array([1.0, 2, 3, 4, 5, 1, 6])),
        {"trials": TRIALS},
    ),
    "a word": (jl.deviance.poisson, (NUMBERS**2 + 0.1, TARGETS**2), {"link": "identity"}),
    "two vectors": (jl.metric.cosine_embedding, (LOGITS, SHIFTED, SIGNS), {}),
    "lists with a mask": (jl.ranking.softmax, (LOGITS, np.abs(SHIFTED)), {"where": LISTS}),
    "a chain with transitions": (
        jl.sequence.crf,
        (RNG.normal(size=(ROWS, 4, 3)), RNG.integers(0, 3, (ROWS, 4))),
        {"transitions": RNG.normal(size=(3, 3)), "start_scores": RNG.normal(size=3)},
    ),
    "images": (jl.segmentation.dice, (RNG.normal(size=(ROWS, 3, 2)), RNG.integers(0, 2, (ROWS, 3))), {}),
    "labels of signs": (jl.binary.hinge, (NUMBERS, SIGNS), {}),
    "samples": (jl.likelihood.crps_ensemble, (LOGITS, TARGETS), {"estimator": "fair"}),
    "optax": (optax.softmax_cross_entropy, (LOGITS, jax.nn.softmax(SHIFTED)), {}),
}
EACH = pytest.mark.parametrize(("loss", "data", "options"), CASES.values(), ids=CASES)


def pulled_back(losses, data, options, cotangent):
    """Of each loss the rows, and what a cotangent becomes in all real data and options: in one program."""
    return jax.jit(lambda data: [_pulled_back(loss, data, options, cotangent) for loss in losses])(data)


def _pulled_back(loss, data, options, cotangent):
    words = {name: value for name, value in options.items() if isinstance(value, str)}
    data = jax.tree.map(jnp.asarray, data)
    options = {name: jnp.asarray(value) for name, value in options.items() if name not in words}
    leaves, structure = jax.tree.flatten((data, options))
    floating = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]

    def of(*chosen):
        given = iter(chosen)
        filled = [next(given) if is_real else leaf for leaf, is_real in zip(leaves, floating, strict=True)]
        data, options = jax.tree.unflatten(structure, filled)
        return loss(*data, **options, **words)

    losses, pull = jax.vjp(of, *(leaf for leaf, is_real in zip(leaves, floating, strict=True) if is_real))
    return losses, pull(cotangent)


def agree(a, b, tolerance=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), a, b)


# --- the same loss -----------------------------------------------------------------------------------


@EACH
def test_value_and_every_gradient_are_the_whole_losses(loss, data, options):
    cotangent = np.cos(np.arange(ROWS))
    agree(*pulled_back([jl.chunked(loss, rows=3), loss], data, options, cotangent))


def test_any_number_of_rows_at_a_time_gives_the_same():
    loss = jl.categorical.cross_entropy
    losses = [loss, *(jl.chunked(loss, rows=rows) for rows in (1, 6, 7, 1000))]
    whole, *in_chunks = pulled_back(losses, (LOGITS, IDS), {}, np.cos(np.arange(ROWS)))
    for each in in_chunks:
        agree(each, whole)


def test_one_row_is_itself():
    got = jl.chunked(jl.robust.huber, rows=4)(NUMBERS[:1], TARGETS[:1])
    agree(got, jl.robust.huber(NUMBERS[:1], TARGETS[:1]))


def test_a_row_without_axes_is_itself():
    agree(jl.chunked(jl.robust.huber, rows=4)(0.5, 2.0), jl.robust.huber(0.5, 2.0))


def test_no_rows_have_no_losses():
    assert jl.chunked(jl.categorical.cross_entropy, rows=4)(LOGITS[:0], IDS[:0]).shape == (0,)


def test_several_axes_of_rows_are_cut_across():
    shape = (2, 5)
    logits, ids = RNG.normal(size=(*shape, 3)), RNG.integers(0, 3, shape)
    loss = jl.categorical.cross_entropy
    cotangent = np.cos(np.arange(10.0)).reshape(shape)
    agree(*pulled_back([jl.chunked(loss, rows=4), loss], (logits, ids), {}, cotangent))


@pytest.mark.parametrize("axes", [(5,), (2, 5), (1, 5)])
def test_an_option_that_broadcasts_to_the_rows_goes_with_them(axes):
    options = {"scale": np.full(axes, 4.0) + np.arange(5.0)}
    data = (NUMBERS[:5] * np.ones((2, 1)), np.ones((2, 5)))
    loss = lambda p, t, *, scale: (p - t) ** 2 / jnp.broadcast_to(scale, p.shape)  # noqa: E731
    agree(*pulled_back([jl.chunked(loss, rows=3), loss], data, options, np.ones((2, 5))))


def test_data_may_be_given_by_name():
    got = jl.chunked(jl.categorical.cross_entropy, rows=3)(logits=LOGITS, labels=IDS)
    agree(got, jl.categorical.cross_entropy(LOGITS, IDS))


def test_a_nan_stays_in_its_row():
    spoiled = np.where(np.arange(ROWS)[:, None] == 6, np.nan, LOGITS)
    loss = jl.chunked(jl.categorical.cross_entropy, rows=3)
    ((losses, (gradient,)),) = pulled_back([loss], (spoiled, IDS), {}, np.ones(ROWS))
    assert np.isnan(losses).tolist() == [False] * 6 + [True]
    assert np.isnan(gradient).any(axis=-1).tolist() == [False] * 6 + [True]


def test_an_infinite_slope_in_the_last_rows_is_infinite():
    # Rows computed twice and left out once would make NaN of it: ∞ + 0·∞.
    start = jnp.arange(ROWS)[::-1].astype(float)
    slope = jax.grad(jl.sum(jl.chunked(jnp.sqrt, rows=3)))(start)
    assert slope[-1] == np.inf
    agree(slope[:-1], 0.5 / np.sqrt(start[:-1]))


def test_half_precision_gives_float32_losses_and_gradients_of_its_own():
    whole = jl.categorical.cross_entropy
    data = LOGITS.astype(jnp.bfloat16), IDS
    ones = np.ones(ROWS, np.float32)
    (losses, (gradient,)), (rows, (slopes,)) = pulled_back([jl.chunked(whole, rows=3), whole], data, {}, ones)
    assert (losses.dtype, gradient.dtype) == (jnp.float32, jnp.bfloat16)
    agree((losses, gradient.astype(float)), (rows, slopes.astype(float)), 1e-6)


@pytest.mark.parametrize("given", ["closed over", "an option"])
def test_what_chunks_add_to_a_shared_half_precision_gradient_is_rounded_once(given):
    # 512 + 1 is 512 in bfloat16: 1024 rows, one at a time, would leave 256.
    x = jnp.ones(1024, jnp.bfloat16)

    def total(scale):
        if given == "an option":
            return jl.sum(jl.chunked(lambda x, *, s: x * s, rows=1))(x, s=scale)
        return jl.sum(jl.chunked(lambda x: x * scale, rows=1))(x)

    slope = jax.grad(total)(jnp.bfloat16(2))
    assert (slope, slope.dtype) == (1024, jnp.bfloat16)


# --- models and their parameters ---------------------------------------------------------------------

PARAMS = {"kernel": RNG.normal(size=(4, 5)), "bias": RNG.normal(size=(1, 5))}
FEATURES = RNG.normal(size=(ROWS, 4))


def head(features, labels, *, params):
    return jl.categorical.cross_entropy(features @ params["kernel"] + params["bias"], labels)


def closed_over(params, features, **options):
    loss = jl.chunked(lambda x, y: head(x, y, params=params), rows=3)
    return jl.mean(loss)(features, IDS, **options)


def passed_in(params, features, **options):
    return jl.mean(jl.chunked(head, rows=3))(features, IDS, params=params, **options)


def whole(params, features, **options):
    return jl.mean(head)(features, IDS, params=params, **options)


def products(f):
    """Hessian-vector products, forward over reverse, along a direction of all parameters."""

    def run(params, features):
        direction = jax.tree.map(jnp.cos, params), jnp.cos(features)
        return jax.jvp(jax.grad(f, argnums=(0, 1)), (params, features), direction)

    return run


ORDERS = {
    "value and gradient": lambda f: jax.value_and_grad(f, argnums=(0, 1)),
    "gradient of the compiled": lambda f: jax.grad(jax.jit(f)),
    "forward": lambda f: jax.jacfwd(f),
    "hessian": lambda f: jax.hessian(f),
    "hessian-vector": products,
    "reverse over reverse": lambda f: jax.jacrev(jax.grad(f)),
    "rematerialised": lambda f: jax.grad(jax.checkpoint(f)),
    "vmap": lambda f: (
        lambda p, x: jax.vmap(jax.value_and_grad(f), in_axes=(None, 0))(p, jnp.stack([x, 2 * x]))
    ),
    "vmap of parameters": lambda f: (
        lambda p, x: jax.vmap(jax.grad(f), in_axes=(0, None))(
            jax.tree.map(lambda a: jnp.stack([a, -a]), p), x
        )
    ),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_parameters_closed_over_have_the_derivatives_of_the_whole(order):
    both = jax.jit(lambda *arguments: [order(f)(*arguments) for f in (closed_over, whole)])
    agree(*both(PARAMS, FEATURES), 1e-11)


@pytest.mark.parametrize("order", [products, ORDERS["vmap of parameters"]])
def test_parameters_passed_in_have_the_derivatives_of_the_whole(order):
    both = jax.jit(lambda *arguments: [order(f)(*arguments) for f in (passed_in, whole)])
    agree(*both(PARAMS, FEATURES), 1e-11)


def test_a_gradient_outside_jit_is_the_one_inside():
    arguments = jax.tree.map(jnp.asarray, (PARAMS, FEATURES))
    agree(jax.grad(closed_over)(*arguments), jax.jit(jax.grad(whole))(*arguments))


@pytest.mark.parametrize("objective", [closed_over, passed_in])
def test_a_masked_row_reaches_no_parameter(objective):
    kept = np.arange(ROWS) != 4
    spoiled = jnp.asarray(np.where(kept[:, None], FEATURES, np.nan))
    options = {"where": kept, "weights": TRIALS}
    got, expected = (jax.value_and_grad(functools.partial(f, **options)) for f in (objective, whole))
    agree(*jax.jit(lambda p, x, y: (got(p, x), expected(p, y)))(PARAMS, spoiled, FEATURES))


def test_parameters_of_as_many_axes_as_rows_are_no_rows():
    kernel = RNG.normal(size=(ROWS, 5))  # features are as many as rows
    loss = lambda x, y, *, kernel: jl.categorical.cross_entropy(x @ kernel, y)  # noqa: E731
    agree(*pulled_back([jl.chunked(loss, rows=3), loss], (SQUARE, IDS), {"kernel": kernel}, np.ones(ROWS)))


def test_a_size_among_the_options_is_part_of_the_program():
    def in_blocks(predictions, targets, *, chunk_size):
        blocks = (predictions - targets).reshape(*targets.shape[:-1], -1, chunk_size)
        return jnp.sum(blocks**2, axis=(-2, -1))

    predictions, targets = jnp.arange(32.0).reshape(8, 4), jnp.ones((8, 4))
    found = jl.chunked(in_blocks, rows=3)(predictions, targets, chunk_size=2)
    np.testing.assert_array_equal(found, in_blocks(predictions, targets, chunk_size=2))


def test_a_parameter_among_the_data_is_sent_to_the_options():
    kernel = RNG.normal(size=(4, 5))
    loss = jl.chunked(lambda x, y, w: jl.categorical.cross_entropy(x @ w, y), rows=3)
    with pytest.raises(ValueError, match=r"data argument 2 \(4, 5\) must start with the rows' shape \(7,\)"):
        loss(FEATURES, IDS, kernel)


# --- reductions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", [jl.mean, jl.sum])
def test_ignored_rows_count_as_little_as_in_the_whole(reduction):
    loss, ids = jl.categorical.cross_entropy, np.where(np.arange(ROWS) % 3 == 1, -100, IDS)
    got = reduction(jl.chunked(loss, rows=3))(LOGITS, ids, ignore_index=-100)
    agree(got, reduction(loss)(LOGITS, ids, ignore_index=-100))


def test_the_mean_over_rows_that_are_not_ignored_divides_by_them():
    ids = np.where(np.arange(ROWS) < 2, IDS, -100)
    mean = jl.mean(jl.chunked(jl.categorical.cross_entropy, rows=3))
    log_p = LOGITS[:2] - np.log(np.exp(LOGITS[:2]).sum(axis=-1, keepdims=True))
    agree(mean(LOGITS, ids, ignore_index=-100), -(log_p[0, IDS[0]] + log_p[1, IDS[1]]) / 2)


def test_a_loss_with_a_mask_of_its_own_is_given_the_one_of_the_mean():
    mean = jl.mean(jl.chunked(jl.ranking.softmax, rows=3))
    mask = LISTS & (np.arange(ROWS) != 2)[:, None]
    expected = jl.mean(jl.ranking.softmax)(LOGITS, np.abs(SHIFTED), where=mask)
    agree(mean(LOGITS, np.abs(SHIFTED), where=mask), expected)


def test_masked_and_weighted_means_are_the_wholes():
    where, arguments = np.arange(ROWS) % 2 == 0, (NUMBERS, TARGETS)
    means = [
        functools.partial(jl.mean(loss), where=where, weights=TRIALS, delta=0.7)
        for loss in (jl.chunked(jl.robust.huber, rows=2), jl.robust.huber)
    ]
    agree(*jax.jit(lambda *data: [jax.value_and_grad(mean)(*data) for mean in means])(*arguments))


def test_partial_means_add_up():
    part = jl.partial_mean(jl.chunked(jl.robust.huber, rows=2))
    both = part(NUMBERS[:3], TARGETS[:3]) + part(NUMBERS[3:], TARGETS[3:])
    agree(both.value(), jl.mean(jl.robust.huber)(NUMBERS, TARGETS))


def test_rows_over_devices_are_computed_where_they_are():
    mesh = jax.sharding.Mesh(jax.devices()[:4], ("rows",))
    rows = jax.sharding.PartitionSpec("rows")
    x, y = RNG.normal(size=(2, 20))

    def of_shard(x, y):
        part = jl.partial_mean(jl.chunked(jl.robust.huber, rows=2))(x, y)
        return part.psum("rows").value()

    sharded = jax.shard_map(
        of_shard, mesh=mesh, in_specs=(rows, rows), out_specs=jax.sharding.PartitionSpec()
    )
    agree(jax.jit(sharded)(x, y), jl.mean(jl.robust.huber)(x, y))


def test_checked_names_the_row_of_the_whole():
    ids = np.where(np.arange(ROWS) == 5, 9, IDS)
    mean = jl.mean(jl.chunked(jl.categorical.cross_entropy, rows=2))
    with pytest.raises(ValueError, match=r"`labels` must be in \[0, 5\), got 9 at flat index 5"):
        jl.checked(mean)(LOGITS, ids)
    assert np.isnan(mean(LOGITS, ids))


# --- memory, products, programs -------------------------------------------------------------------------

WIDTH, CLASSES, CHUNK = 8, 1000, 32
ALL = {"value": lambda f: f, "gradient": lambda f: jax.value_and_grad(f, argnums=(0, 1))}
LOGITS_OF_A_CHUNK = 4 * CHUNK * CLASSES


def objective(loss):
    def run(features, kernel, labels):
        def of_rows(x, y):
            return jl.categorical.cross_entropy(x @ kernel, y)

        return jl.mean(loss(of_rows))(features, labels)

    return run


def program(function, rows: int):
    arguments = (
        jax.ShapeDtypeStruct((rows, WIDTH), jnp.float32),
        jax.ShapeDtypeStruct((WIDTH, CLASSES), jnp.float32),
        jax.ShapeDtypeStruct((rows,), jnp.int32),
    )
    return jax.jit(function).lower(*arguments).compile(LAID_OUT)


def temporaries(compiled) -> int:
    return compiled.memory_analysis().temp_size_in_bytes


IN_CHUNKS = objective(functools.partial(jl.chunked, rows=CHUNK))


@functools.cache
def in_chunks(view, rows: int):
    return program(view(IN_CHUNKS), rows)


def second_order(f):
    def run(features, kernel, labels):
        def gradient(x, w):
            return jax.grad(f, argnums=(0, 1))(x, w, labels)

        return jax.jvp(gradient, (features, kernel), (features, kernel))[1]

    return run


@pytest.mark.parametrize("rows", [1024, 4111])
@COUNTED
@pytest.mark.parametrize(
    ("view", "chunks"), [(ALL["value"], 2), (ALL["gradient"], 4), (second_order, 6)], ids=["0", "1", "2"]
)
def test_memory_is_that_of_one_chunk_however_many_the_rows(view, chunks, rows):
    features = 4 * rows * (WIDTH + 4)  # what is one a row is stored for all of them
    assert temporaries(in_chunks(view, rows)) < chunks * LOGITS_OF_A_CHUNK + 2 * features


def test_the_measure_sees_the_logits_of_all_rows():
    whole = program(ALL["gradient"](objective(lambda loss: loss)), 1024)
    assert temporaries(whole) >= 4 * 1024 * CLASSES


@pytest.mark.parametrize("rows", [1024, 4111])
def test_data_as_large_as_logits_are_read_in_place(rows):
    loss = jl.mean(jl.chunked(jl.categorical.cross_entropy, rows=CHUNK))
    logits, ids = jax.ShapeDtypeStruct((rows, CLASSES), jnp.float32), jax.ShapeDtypeStruct((rows,), jnp.int32)
    compiled = jax.jit(jax.value_and_grad(loss)).lower(logits, ids).compile(LAID_OUT)
    assert temporaries(compiled) < 4 * LOGITS_OF_A_CHUNK + 16 * rows


def dots(compiled) -> int:
    return len(re.findall(r" dot\(", compiled.as_text()))


@pytest.mark.parametrize(("view", "count"), [(ALL["value"], 1), (ALL["gradient"], 4)], ids=ALL)
def test_each_chunk_takes_one_product_for_its_value_and_three_more_for_its_gradient(view, count):
    assert dots(in_chunks(view, 1024)) == count


def test_rows_that_are_one_chunk_are_not_computed_again():
    assert dots(in_chunks(ALL["gradient"], CHUNK)) == 3


def test_an_eager_call_compiles_one_program_and_a_second_none():
    x, y = np.linspace(0, 1, 331), np.linspace(1, 0, 331)
    counts = [
        compilations(jl.chunked(jl.regression.log_cosh, rows=50), x, y),
        compilations(jl.chunked(jl.regression.log_cosh, rows=50), y, x),
    ]
    assert counts == [1, 0]


def test_another_value_of_an_option_compiles_nothing():
    loss = jl.chunked(jl.robust.huber, rows=50)
    x = np.linspace(0, 1, 332)
    loss(x, x, delta=0.5)
    assert compilations(loss, x, x, delta=0.25) == 0


# --- one function ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [jl.robust.huber, lambda p, t: (p - t) ** 2], ids=["ours", "a lambda"])
def test_the_same_loss_in_the_same_chunks_is_one_function(loss):
    first = jl.chunked(loss, rows=3)
    assert jl.chunked(loss, rows=3) is first
    assert jl.mean(jl.chunked(loss, rows=3)) is jl.mean(first)
    assert jl.chunked(loss, rows=4) is not first


def test_a_dead_loss_is_not_held():
    def loss(p, t):
        return (p - t) ** 2

    made = jl.chunked(loss, rows=3)
    made(NUMBERS, TARGETS)
    alive = weakref.ref(loss)
    del loss, made
    gc.collect()
    assert alive() is None


class Unhashable:
    __hash__ = None

    def __call__(self, p, t):
        return (p - t) ** 2


def test_a_loss_may_be_any_callable():
    agree(jl.chunked(Unhashable(), rows=3)(NUMBERS, TARGETS), (NUMBERS - TARGETS) ** 2)


def test_it_keeps_the_losss_name_and_signature():
    made = jl.chunked(jl.robust.huber, rows=3)
    assert (made.__name__, made.__wrapped__) == ("huber", jl.robust.huber)


# --- what is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        (0, ValueError, "chunked: `rows` must be 1 or more, got 0"),
        (-3, ValueError, "chunked: `rows` must be 1 or more, got -3"),
        (2.0, TypeError, r"chunked: `rows` must be an integer, got 2\.0"),
        (True, TypeError, "chunked: `rows` must be an integer, got True"),
        ("auto", TypeError, "chunked: `rows` must be an integer, got 'auto'"),
        (None, TypeError, "chunked: `rows` must be an integer, got None"),
    ],
)
def test_a_number_of_rows_that_is_none_is_refused(rows, error, words):
    with pytest.raises(error, match=words):
        jl.chunked(jl.robust.huber, rows=rows)


def test_an_integer_of_numpy_will_do():
    assert jl.chunked(jl.robust.huber, rows=np.int64(3)) is jl.chunked(jl.robust.huber, rows=3)


COUPLED = [name for name, card in CARDS.items() if card.task == "contrastive" and card.masks_itself]


@pytest.mark.parametrize("name", COUPLED)
def test_a_loss_that_couples_its_rows_is_refused(name):
    with pytest.raises(ValueError, match=rf"chunked\({name}\): the loss of a row depends on the other rows"):
        jl.chunked(CARDS[name].loss, rows=3)


def test_every_loss_whose_oracle_takes_the_whole_batch_is_refused():
    from oracles import CASES

    assert {case.loss for case in CASES if case.couples} == set(COUPLED)


def test_a_loss_that_goes_by_chunks_already_is_refused():
    with pytest.raises(
        ValueError, match=r"chunked\(fused\.linear_cross_entropy\): it goes by chunks already"
    ):
        jl.chunked(jl.fused.linear_cross_entropy, rows=3)


def test_a_loss_that_couples_what_a_chunk_is_too_small_for_is_refused():
    loss = jl.chunked(lambda p, t: (p - t) ** 2 * jnp.asarray(TRIALS), rows=3)
    with pytest.raises(
        ValueError, match=r"3 of the \(7,\) rows must be a loss of their own, of shape \(3,\)"
    ):
        loss(NUMBERS, TARGETS)


def test_a_loss_that_is_reduced_already_is_refused():
    with pytest.raises(ValueError, match=r"one value a row, got one number .* jl\.mean\(jl\.chunked"):
        jl.chunked(jl.mean(jl.robust.huber), rows=3)(NUMBERS, TARGETS)


def test_a_loss_of_two_arrays_is_refused():
    with pytest.raises(TypeError, match="the loss must return one array, got tuple"):
        jl.chunked(lambda p, t: (p, t), rows=3)(NUMBERS, TARGETS)


def test_data_that_are_no_array_are_sent_to_the_options():
    with pytest.raises(
        TypeError, match="data argument 0 must be an array, got dict; give parameters by name"
    ):
        jl.chunked(lambda p, x, y: head(x, y, params=p), rows=3)(PARAMS, FEATURES, IDS)


def test_a_concrete_option_out_of_its_range_is_refused_before_anything_is_traced():
    with pytest.raises(ValueError, match=r"robust\.huber: `delta` must be in"):
        jl.chunked(jl.robust.huber, rows=3)(NUMBERS, TARGETS, delta=-1.0)


def test_the_words_of_the_loss_itself_are_heard():
    with pytest.raises(ValueError, match=r"robust\.huber: `predictions` \(7,\) and `targets` \(7, 1\)"):
        jl.chunked(jl.robust.huber, rows=3)(NUMBERS, TARGETS[:, None])


# --- the page and the example ---------------------------------------------------------------------------

ROOT = Path(__file__).parents[1]


def test_the_code_of_the_page_runs():
    blocks = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/chunked.md").read_text(encoding="utf-8"), re.DOTALL
    )
    names = {}
    for block in blocks:
        exec(block, names)
    agree(names["objective"](names["kernel"]), np.log(50), 1e-6)


def test_the_heads_of_the_example_go_through_the_same_losses_in_less_memory():
    script = (
        "from examples.language_model import main; import numpy as np;"
        "curves, memory = main('--steps 3 --characters 100000 --batch 8 --length 80 --width 8'.split());"
        "a = np.array(list(curves.values())); assert a.shape == (3, 3); assert np.ptp(a, axis=0).max() < 1e-4"
        "; assert 4 * max(memory['fused'], memory['chunked']) < memory['materialised']"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
