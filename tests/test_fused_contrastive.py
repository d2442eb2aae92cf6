"""The contrastive losses in blocks: by brute force, beside those of all pairs at once, and as programs."""

import functools
import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from programs import COUNTED, LAID_OUT

import jaxloss as jl

ROWS, FEATURES, BLOCK = 7, 3, 3
NAMES = ["nt_xent", "supcon", "info_nce", "clip", "siglip"]
GROUPED = {"nt_xent", "supcon"}
OPTIONS = {
    "nt_xent": {"temperature": 0.2},
    "supcon": {"temperature": 0.3},
    "info_nce": {"temperature": 0.1},
    "clip": {"logit_scale": 8.0},
    "siglip": {"logit_scale": 5.0, "bias": -2.0},
}
RNG = np.random.default_rng(0)
FIRST = RNG.normal(size=(ROWS, FEATURES))
SECOND = FIRST + 0.4 * RNG.normal(size=(ROWS, FEATURES))
LABELS = np.array([0, 0, 0, 2, 2, 5, 1])
WEIGHTS = RNG.uniform(0.5, 2, ROWS)
KEPT = np.array([1, 1, 0, 1, 1, 0, 1], bool)
every_loss = pytest.mark.parametrize("name", NAMES)


def data_of(name, first=FIRST, second=SECOND):
    return (first, LABELS) if name in GROUPED else (first, second)


def losses_of(name):
    """The loss with all pairs at once, and the one in blocks."""
    return getattr(jl.contrastive, name), getattr(jl.fused.contrastive, name)


def in_blocks(name, size=BLOCK):
    """The fused loss with blocks that do not divide the batch."""
    return functools.partial(losses_of(name)[1], chunk_size=size)


def mean_in_blocks(name, size=BLOCK):
    return functools.partial(jl.mean(losses_of(name)[1]), chunk_size=size)


# --- by brute force -------------------------------------------------------------------------------


def log_sum(z):
    return np.max(z) + np.log(np.sum(np.exp(z - np.max(z)))) if len(z) else -np.inf


def brute(name, first, second, kept, temperature=None, logit_scale=None, bias=0):
    """One row after another, in extended precision."""

    def unit(x):
        return x / np.sqrt(np.sum(x * x, axis=-1, keepdims=True))

    first = first.astype(np.longdouble)
    other = first if name in GROUPED else second.astype(np.longdouble)
    scale = 1 / np.longdouble(temperature) if temperature else np.longdouble(logit_scale)
    z = scale * unit(first) @ unit(other).T + bias
    there = np.flatnonzero(kept)
    losses = np.zeros(len(first), np.longdouble)
    for a in there:
        others = [b for b in there if b != a]
        if name in GROUPED:
            partners = [b for b in others if second[b] == second[a]]
            rivals = [b for b in others if second[b] != second[a]]
            if name == "nt_xent":
                costs = [np.logaddexp(0, log_sum(z[a, rivals]) - z[a, p]) for p in partners]
            else:
                costs = [log_sum(z[a, others]) - z[a, p] for p in partners]
            losses[a] = np.mean(costs) if partners else 0
        elif name == "siglip":
            losses[a] = sum(np.logaddexp(0, z[a, b] if b != a else -z[a, b]) for b in there)
        else:
            losses[a] = log_sum(z[a, there]) - z[a, a]
            if name == "clip":
                losses[a] = 0.5 * (losses[a] + log_sum(z[there, a]) - z[a, a])
    return losses


def brute_mean(name, first, second, weights, options):
    return weights[KEPT] @ brute(name, first, second, KEPT, **options)[KEPT] / np.sum(weights[KEPT])


def differences(function, x):
    """The derivative by central differences: 19 digits leave a dozen."""
    x, step = np.asarray(x, np.longdouble), np.longdouble(1e-6)
    found = np.empty(x.size, np.longdouble)
    for i in range(x.size):
        moved = np.zeros(x.size, np.longdouble)
        moved[i] = step
        moved = moved.reshape(x.shape)
        found[i] = (function(x + moved) - function(x - moved)) / (2 * step)
    return found.reshape(x.shape).astype(np.float64)


@functools.cache
def program(name, *, fused):
    """Value and gradients of a masked, weighted mean by all there is to differentiate."""
    mean = mean_in_blocks(name) if fused else jl.mean(losses_of(name)[0])

    def of(first, second, weights, options, where):
        return mean(first, second, weights=weights, where=where, **options)

    return jax.jit(jax.value_and_grad(of, argnums=(0, 2, 3) if name in GROUPED else (0, 1, 2, 3)))


@every_loss
def test_rows_are_those_of_brute_force(name):
    found = jax.jit(functools.partial(in_blocks(name), where=KEPT, **OPTIONS[name]))(*data_of(name))
    expected = brute(name, *data_of(name), KEPT, **OPTIONS[name]).astype(np.float64)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


@every_loss
def test_the_gradients_of_a_mean_are_those_of_brute_force(name):
    first, second = data_of(name)
    options = OPTIONS[name]
    value, found = program(name, fused=True)(first, second, WEIGHTS, options, KEPT)
    np.testing.assert_allclose(value, float(brute_mean(name, first, second, WEIGHTS, options)), rtol=1e-13)
    expected = [differences(lambda x: brute_mean(name, x, second, WEIGHTS, options), first)]
    if name not in GROUPED:
        expected.append(differences(lambda x: brute_mean(name, first, x, WEIGHTS, options), second))
    expected.append(differences(lambda w: brute_mean(name, first, second, w, options), WEIGHTS))
    for option in sorted(options):

        def by_option(x, option=option):
            return brute_mean(name, first, second, WEIGHTS, options | {option: x})

        expected.append(differences(by_option, options[option]))
    for actual, wanted in zip(jax.tree.leaves(found), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("size", [1, ROWS + 2, pytest.param(np.int32(2), marks=pytest.mark.worded)])
def test_chunks_of_any_size_make_the_same_rows(size):
    found = in_blocks("clip", size)(FIRST, SECOND, where=KEPT, **OPTIONS["clip"])
    expected = brute("clip", FIRST, SECOND, KEPT, **OPTIONS["clip"]).astype(np.float64)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


@every_loss
def test_no_row_has_no_gradient_in_the_loss_of_all_pairs_either(name):
    first, second = (array[:0] for array in data_of(name))
    value, slopes = jax.jit(jax.value_and_grad(jl.mean(losses_of(name)[0])))(first, second)
    assert value == 0
    assert slopes.shape == first.shape


@pytest.mark.parametrize("count", [0, 1])
@every_loss
def test_a_batch_of_no_row_is_nothing_and_of_one_that_of_brute_force(name, count):
    first, second = (array[:count] for array in data_of(name))

    def total(x):
        return np.sum(brute(name, x, second, np.ones(count, bool), **OPTIONS[name]))

    mean = functools.partial(jl.mean(losses_of(name)[1]), **OPTIONS[name])
    value, slopes = jax.jit(jax.value_and_grad(mean))(first, second)
    np.testing.assert_allclose(value, float(total(first)), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(slopes, differences(total, first), rtol=1e-9, atol=1e-10)


# --- beside the loss of all pairs at once -------------------------------------------------------------


def agree(found, expected, relative, what="", least=1e-12):
    """To a part of the largest number of each row, or of the least that counts."""
    for actual, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        size = np.max(np.abs(wanted), axis=-1, keepdims=True, initial=least)
        assert np.all(np.abs(actual - wanted) <= relative * size), what


@every_loss
@given(seed=st.integers(0, 2**32 - 1), sharpness=st.sampled_from([0.3, 1.0, 20.0]))
def test_value_and_gradients_are_the_references_with_nan_in_removed_rows(name, seed, sharpness):
    random = np.random.default_rng(seed)
    first, second = random.normal(size=(2, ROWS, FEATURES)) * random.choice([1e-6, 1, 1e6], size=(2, ROWS, 1))
    first[3] = first[0]  # two of one direction
    second[4] = 0
    first[~KEPT] = second[~KEPT] = np.nan
    labels = random.integers(0, 3, ROWS)
    scaled = {"temperature": 1 / sharpness} if "temperature" in OPTIONS[name] else {"logit_scale": sharpness}
    data = (first, labels if name in GROUPED else second, WEIGHTS, OPTIONS[name] | scaled, KEPT)
    found, expected = (
        of_directions(program(name, fused=fused)(*data), first, second) for fused in (True, False)
    )
    # A row's gradient is what is left of pulls as large as the sharpness: their rounding is not its own.
    agree(found, expected, 1e-11, least=1e-5 * sharpness)


def of_directions(found, *vectors):
    """The gradients by vectors times their lengths, on which a loss of directions does not depend."""
    lengths = [np.linalg.norm(np.nan_to_num(rows), axis=-1, keepdims=True) for rows in vectors]
    leaves, tree = jax.tree.flatten(found)
    by_vectors = [i for i, leaf in enumerate(leaves) if np.ndim(leaf) == 2]
    for i, length in zip(by_vectors, lengths, strict=False):
        leaves[i] = leaves[i] * length
    return tree.unflatten(leaves)


LENGTHS = st.floats(0.25, 4)
NUMBERS = st.one_of(st.just(0.0), LENGTHS, LENGTHS.map(lambda x: -x))
VIEWS = arrays(np.float64, (2, ROWS, FEATURES), elements=NUMBERS)


@every_loss
@given(
    views=VIEWS,
    labels=arrays(np.int64, ROWS, elements=st.integers(-1, 3)),
    weights=arrays(np.float64, ROWS, elements=st.floats(0.25, 4)),
    kept=arrays(np.bool_, ROWS),
    sharpness=st.floats(0.5, 20),
    bias=st.floats(-10, 10),
)
def test_any_batch_has_the_references_value_and_gradients(
    name, views, labels, weights, kept, sharpness, bias
):
    drawn = {"temperature": 1 / sharpness, "logit_scale": sharpness, "bias": bias}
    options = {option: drawn[option] for option in OPTIONS[name]}
    data = (views[0], labels if name in GROUPED else views[1], weights, options, kept)
    # Where a derivative is 0, as along one direction for all, rounding of numbers of about 1 is left.
    agree(program(name, fused=True)(*data), program(name, fused=False)(*data), 1e-11, least=1e-2)


@every_loss
def test_a_mean_over_no_row_is_zero_and_over_one_alone_the_references(name):
    first, second = data_of(name, np.full_like(FIRST, np.nan), np.full_like(SECOND, np.nan))
    nothing = program(name, fused=True)(first, second, WEIGHTS, OPTIONS[name], np.zeros(ROWS, bool))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(nothing))
    alone = (*data_of(name), WEIGHTS, OPTIONS[name], np.arange(ROWS) == 2)
    # The derivative by the only weight is the loss less itself: what is left of it is rounding.
    agree(program(name, fused=True)(*alone), program(name, fused=False)(*alone), 1e-11, least=1e-5)


@every_loss
def test_nan_in_a_row_that_is_there_is_never_hidden(name):
    first = np.where(np.arange(ROWS)[:, None] == 4, np.nan, FIRST)
    value, _ = program(name, fused=True)(first, data_of(name)[1], WEIGHTS, OPTIONS[name], KEPT)
    assert np.isnan(value)


@functools.cache
def derivatives(name):
    """What the loss of all pairs gives, and what every transformation of the one in blocks makes of it."""
    second = data_of(name)[1]
    loss, rows = losses_of(name)[0], in_blocks(name)

    def true(x, along, options):
        def objective(x):
            return jl.mean(loss)(x, second, where=KEPT, weights=WEIGHTS, **options)

        gradient, product = jax.jvp(jax.grad(objective), (x,), (along,))
        return {"slope": jnp.vdot(gradient, along), "gradient": gradient, "product": product}

    def found(x, along, options):
        def mean(x):
            return mean_in_blocks(name)(x, second, where=KEPT, weights=WEIGHTS, **options)

        def of_rows(x):
            return jnp.vdot(rows(x, second, where=KEPT, **options), WEIGHTS / np.sum(WEIGHTS[KEPT]))

        def product(objective, x, along):
            return jax.jvp(jax.grad(objective), (x,), (along,))[1]

        def back_twice(objective):
            return jax.grad(lambda x: jnp.vdot(jax.grad(objective)(x), along))(x)

        both = jax.vmap(functools.partial(product, mean))(jnp.stack([x, x]), jnp.stack([along, 2 * along]))
        return {
            "slope: forward": jax.jvp(mean, (x,), (along,))[1],
            "slope: forward, of rows": jax.jvp(of_rows, (x,), (along,))[1],
            "gradient: of jit, made again": jax.grad(jax.checkpoint(jax.jit(mean)))(x),
            "gradient: of rows": jax.grad(of_rows)(x),
            "product: forward over reverse, one of several": both[1] / 2,
            "product: forward over reverse, of rows": product(of_rows, x, along),
            "product: reverse over reverse": back_twice(mean),
            "product: reverse over reverse, of rows": back_twice(of_rows),
        }

    def both(*arguments):
        return true(*arguments), found(*arguments)

    return jax.jit(both)


# So sharp that e^s of the logits' distances is infinite.
SHARP = {
    "nt_xent": {"temperature": 1e-3},
    "supcon": {"temperature": 1e-3},
    "info_nce": {"temperature": 1e-3},
    "clip": {"logit_scale": 1e3},
    "siglip": {"logit_scale": 1e3, "bias": -2.0},
}


@pytest.mark.parametrize("options", [OPTIONS, SHARP], ids=["", "sharp"])
@every_loss
def test_every_derivative_is_the_references(name, options):
    along = np.random.default_rng(1).normal(size=FIRST.shape)
    true, found = derivatives(name)(FIRST, along, options[name])
    for what, actual in found.items():
        agree(actual, true[what.split(":")[0]], 1e-9, what)


def test_hessians_are_the_references():
    short = data_of("siglip", FIRST[:4], SECOND[:4])
    means = mean_in_blocks("siglip"), jl.mean(jl.contrastive.siglip)
    both = jax.jit(lambda *data: [jax.hessian(mean)(*data) for mean in means])
    np.testing.assert_allclose(*both(*short), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["nt_xent", "siglip"])
def test_axes_before_the_batch_are_batches_of_their_own(name):
    mean = jax.jit(jax.value_and_grad(mean_in_blocks(name)))
    batches = [data_of(name, FIRST + shift, SECOND - shift) for shift in (0, 0.5)]
    together = mean(*(np.stack(arrays) for arrays in zip(*batches, strict=True)))
    alone = [mean(*batch) for batch in batches]
    np.testing.assert_allclose(together[0], np.mean([value for value, _ in alone]), rtol=1e-13)
    np.testing.assert_allclose(
        together[1], np.stack([slope for _, slope in alone]) / 2, rtol=1e-12, atol=1e-15
    )


# Which of the data each of two devices has its own part of; the other is whole on both.
SHARDS = {"both": (True, True), "keys are shared": (True, False), "queries are shared": (False, True)}
SHARED = [(name, how) for name in NAMES for how in SHARDS if how == "both" or name not in GROUPED]
OWN, WHOLE = jax.sharding.PartitionSpec("rows"), jax.sharding.PartitionSpec()


def sharded(function, *in_specs, out=WHOLE):
    mesh = jax.sharding.Mesh(jax.devices()[:2], ("rows",))
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out))


@pytest.mark.parametrize(("name", "how"), SHARED)
def test_every_shard_is_a_batch_of_its_own_differentiated_inside_and_outside(name, how):
    options, split = OPTIONS[name], SHARDS[how]
    parts = [[a, a + 1] if s else [a, a] for a, s in zip(data_of(name), split, strict=True)]
    data = [np.concatenate(two) if s else two[0] for two, s in zip(parts, split, strict=True)]
    specs = [OWN if s else WHOLE for s in (*split, False, False)]
    moving = (0, 2, 3) if name in GROUPED else (0, 1, 2, 3)

    def of_shard(first, second, weights, options):
        mean = mean_in_blocks(name)(first, second, weights=weights, where=KEPT, **options)
        return jax.lax.psum(mean, "rows")

    gradient = functools.partial(jax.value_and_grad, argnums=moving)

    @jax.jit
    def inside_and_outside(*arguments):
        inside = sharded(gradient(of_shard), *specs, out=(WHOLE, tuple(specs[i] for i in moving)))
        return inside(*arguments), gradient(sharded(of_shard, *specs))(*arguments)

    run = program(name, fused=False)
    alone = [run(*part, WEIGHTS, options, KEPT) for part in zip(*parts, strict=True)]
    value = sum(each for each, _ in alone)
    slopes = [
        np.concatenate(two) if specs[i] == OWN else jax.tree.map(np.add, *two)
        for i, *two in zip(moving, *(each for _, each in alone), strict=True)
    ]
    for found in inside_and_outside(*data, WEIGHTS, options):
        agree(found, (value, slopes), 1e-11)


def test_rows_of_shared_images_have_their_gradient():
    def of_shard(first, second):
        return jax.lax.psum(jnp.sum(jnp.sin(in_blocks("clip")(first, second))), "rows")

    def alone(first):
        return sum(jnp.sum(jnp.sin(jl.contrastive.clip(first, part))) for part in (SECOND, -SECOND))

    shards = sharded(of_shard, WHOLE, OWN)
    run = jax.jit(lambda first, second: (jax.grad(shards)(first, second), jax.grad(alone)(first)))
    agree(*run(FIRST, np.concatenate([SECOND, -SECOND])), 1e-11)


def test_a_second_derivative_through_shards_is_the_references():
    first = np.concatenate([FIRST, FIRST + 1])

    def of_shard(first, bias):
        return jax.lax.psum(mean_in_blocks("siglip")(first, SECOND, bias=bias), "rows")

    def alone(bias):
        return sum(jl.mean(jl.contrastive.siglip)(x, SECOND, bias=bias) for x in (FIRST, FIRST + 1))

    def in_shards(bias):
        return sharded(of_shard, OWN, WHOLE)(first, bias)

    run = jax.jit(lambda bias: [jax.grad(jax.grad(f))(bias) for f in (in_shards, alone)])
    np.testing.assert_allclose(*run(-2.0), rtol=1e-11)


def test_half_precision_is_computed_in_float32_and_its_gradient_rounded_once():
    half = [jnp.asarray(x, jnp.bfloat16) for x in (FIRST, SECOND)]
    mean = jax.jit(jax.value_and_grad(mean_in_blocks("siglip"), argnums=(0, 1)))
    (value, found), (wide, expected) = mean(*half), mean(*(x.astype(jnp.float32) for x in half))
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, wide, rtol=1e-6)
    for actual, true in zip(found, expected, strict=True):
        assert actual.dtype == jnp.bfloat16
        np.testing.assert_allclose(actual.astype(jnp.float32), true, rtol=2.0**-8, atol=1e-7)


@every_loss
def test_the_signature_is_the_references_and_a_size(name):
    reference, fused = (inspect.signature(loss).parameters for loss in losses_of(name))
    assert list(fused) == [*reference, "chunk_size"]
    assert {n: fused[n].default for n in reference} == {n: p.default for n, p in reference.items()}


@every_loss
def test_a_mean_has_the_defaults_of_the_rows(name):
    mean, rows = jax.jit(lambda *data: (mean_in_blocks(name)(*data), in_blocks(name)(*data)))(*data_of(name))
    np.testing.assert_allclose(mean, np.mean(rows), rtol=1e-13)


# --- the programs ---------------------------------------------------------------------------------------

MANY, WIDE = 32_768, 256
VECTORS = jax.ShapeDtypeStruct((MANY, WIDE), jnp.float32)
IDS = jax.ShapeDtypeStruct((MANY,), jnp.int32)
OF_VECTORS, OF_PAIRS = 4 * MANY * WIDE, 4 * MANY**2
PRODUCTS = {"nt_xent": 3, "supcon": 3, "info_nce": 3, "clip": 4, "siglip": 3}


def compiled(function, *data, options=LAID_OUT):
    """The compiled program: how many products of matrices, its scratch memory, its text."""
    made = jax.jit(function).lower(*data).compile(options)
    text = made.as_text()
    return len(re.findall(r"\bdot\(", text)), made.memory_analysis().temp_size_in_bytes, text


def products(function, *data):
    """How many products of matrices, which no option of the compiler changes."""
    return compiled(function, *data, options=None)[0]


def shapes_of(name):
    return (VECTORS, IDS if name in GROUPED else VECTORS)


@COUNTED
@every_loss
def test_value_and_gradients_are_three_products_and_a_block(name):
    both = (0,) if name in GROUPED else (0, 1)
    mean = jl.mean(losses_of(name)[1])
    count, scratch, text = compiled(jax.value_and_grad(mean, argnums=both), *shapes_of(name))
    assert count == PRODUCTS[name]
    assert scratch < 8 * OF_VECTORS < OF_PAIRS / 8
    assert "scatter(" not in text


@COUNTED
@every_loss
def test_a_value_is_one_product(name):
    assert products(jl.mean(losses_of(name)[1]), *shapes_of(name)) == 1


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in GROUPED])
def test_what_is_not_differentiated_is_not_computed(name, side):
    gradient = jax.grad(jl.mean(losses_of(name)[1]), argnums=side)
    assert products(gradient, *shapes_of(name)) == PRODUCTS[name] - 1


CHUNK = 32


def _of_rows(name):
    return jax.grad(lambda x, y: jnp.max(in_blocks(name, CHUNK)(x, y)), argnums=(0, 1))


def _forward(name):
    return lambda x, y: jax.jvp(lambda x: jax.grad(mean_in_blocks(name, CHUNK))(x, y), (x,), (x,))[1]


def _back_twice(name):
    return jax.grad(lambda x, y: jnp.vdot(jax.grad(mean_in_blocks(name, CHUNK))(x, y), x))


# Scratch memory in chunks of logits, of which embeddings take two and all pairs 256.
# The bounds are those of the oldest JAX, which stores up to nine more than the newest.
# A second derivative, and one of rows, of `clip` keep for each chunk the sums of the columns so far.
@pytest.mark.parametrize(
    ("name", "make", "chunks", "keeps_sums"),
    [
        ("clip", _of_rows, 23, True),
        ("clip", _forward, 21, False),
        ("clip", _back_twice, 35, True),
        ("siglip", _of_rows, 22, False),
        ("siglip", _forward, 21, False),
        ("siglip", _back_twice, 25, False),
    ],
)
def test_rows_and_second_derivatives_store_a_few_chunks_and_never_all_pairs(name, make, chunks, keeps_sums):
    batch = 8192
    views = jax.ShapeDtypeStruct((batch, 64), jnp.float32)
    count, scratch, _ = compiled(make(name), views, views)
    sums = 4 * batch * batch // CHUNK if keeps_sums else 0
    assert scratch < chunks * 4 * CHUNK * batch + sums
    assert count == 4 or make is not _of_rows


def test_a_batch_of_4096_takes_an_eighth_of_optaxs_memory():
    embeddings = jax.ShapeDtypeStruct((4096, WIDE), jnp.float32)
    ids = jax.ShapeDtypeStruct((4096,), jnp.int32)
    _, ours, _ = compiled(jax.value_and_grad(jl.mean(jl.fused.contrastive.nt_xent)), embeddings, ids)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        _, theirs, _ = compiled(jax.value_and_grad(optax.losses.ntxent), embeddings, ids)
    assert 8 * ours < theirs


def test_the_measure_sees_an_array_of_all_pairs():
    mean = jl.mean(losses_of("clip")[0])
    assert compiled(jax.grad(mean), *shapes_of("clip"))[1] >= OF_PAIRS


# --- bad input --------------------------------------------------------------------------------------------


@pytest.mark.worded
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda f: f.clip(FIRST, SECOND[:4]),
            ValueError,
            r"contrastive\.clip: `image` \(7, 3\) and `text` \(4, 3\)",
        ),
        (lambda f: f.clip(FIRST[0], SECOND[0]), ValueError, r"clip: `image` \(3,\) must have shape"),
        (
            lambda f: f.siglip(FIRST, SECOND, logit_scale=-1.0),
            ValueError,
            r"siglip: `logit_scale` must be in .*-1\.0",
        ),
        (
            lambda f: f.info_nce(LABELS, SECOND),
            TypeError,
            r"info_nce: `queries` must be floating point, got int",
        ),
        (
            lambda f: f.info_nce(FIRST, SECOND, temperature=0.0),
            ValueError,
            r"info_nce: `temperature` must be in",
        ),
        (lambda f: f.info_nce(FIRST, SECOND, where=LABELS), TypeError, r"info_nce: `where` must be bool"),
        (
            lambda f: f.nt_xent(FIRST, SECOND[:, 0]),
            TypeError,
            r"nt_xent: `labels` must be integer ids, got float",
        ),
        (
            lambda f: f.supcon(FIRST, LABELS[:4]),
            ValueError,
            r"supcon: `labels` \(4,\) must have the rows' shape",
        ),
        (
            lambda f: jl.mean(f.clip)(FIRST, SECOND, logit_scale=0.0),
            ValueError,
            r"contrastive\.clip: `logit_scale`",
        ),
    ],
)
def test_bad_input_is_refused_in_words(call, error, words):
    with pytest.raises(error, match=words):
        call(jl.fused.contrastive)


@pytest.mark.worded
@pytest.mark.parametrize("shape", [(1,), (FEATURES,), (ROWS,), (ROWS, 1)])
@pytest.mark.parametrize(("name", "option"), [(name, option) for name in NAMES for option in OPTIONS[name]])
def test_an_option_of_more_than_one_number_is_refused_by_both(name, option, shape):
    for loss in losses_of(name):
        for over in (loss, jl.mean(loss)):
            words = rf"contrastive\.{name}: `{option}` must be one number, got shape {re.escape(str(shape))}"
            with pytest.raises(ValueError, match=words):
                over(*data_of(name), **{option: np.ones(shape)})


@pytest.mark.worded
@pytest.mark.parametrize("over", [lambda loss: loss, jl.mean], ids=["rows", "mean"])
@pytest.mark.parametrize(
    ("size", "error", "words"),
    [
        (0, ValueError, r"must be 1 or more, got 0"),
        (-3, ValueError, r"must be 1 or more, got -3"),
        (np.int64(-3), ValueError, r"must be 1 or more, got -3"),
        (True, TypeError, r'must be an integer or "auto", got True'),
        (2.5, TypeError, r'must be an integer or "auto", got 2\.5'),
        ("few", TypeError, r'must be an integer or "auto", got \'few\''),
    ],
)
def test_a_chunk_size_that_is_none_is_refused_in_words(size, error, words, over):
    with pytest.raises(error, match=r"contrastive\.clip: `chunk_size` " + words):
        over(jl.fused.contrastive.clip)(FIRST, SECOND, chunk_size=size)


@every_loss
def test_whoever_chunks_it_again_is_told_the_options_name(name):
    with pytest.raises(
        ValueError, match=rf"chunked\(fused\.contrastive\.{name}\).* set its `(\w+)`"
    ) as refused:
        jl.chunked(losses_of(name)[1], rows=3)
    option = re.search(r"set its `(\w+)`", str(refused.value))[1]
    assert option in inspect.signature(losses_of(name)[1]).parameters


def test_a_traced_option_out_of_range_is_nan_and_said_under_checked():
    mean = jl.mean(jl.fused.contrastive.info_nce)
    value, slopes = jax.jit(jax.value_and_grad(mean))(FIRST, SECOND, temperature=jnp.asarray(-1.0))
    assert np.isnan(value)
    assert np.all(np.isnan(slopes))
    with pytest.raises(ValueError, match=r"info_nce: `temperature` must be in .* got -1\.0"):
        jl.checked(lambda t: mean(FIRST, SECOND, temperature=t))(-1.0)


def test_the_page_runs():
    page = Path(__file__).parent.parent / "docs" / "fused_contrastive.md"
    code = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(code) == 3
    exec("\n".join(code), {})
