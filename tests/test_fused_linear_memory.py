"""What is true of the fused heads' programs without a clock: products of matrices, scatters, temporaries."""

import re

import jax
import jax.numpy as jnp
import optax
import pytest
from programs import LAID_OUT

import jaxloss as jl

N, D, V, CHUNK = 512, 16, 4096, 64
FLOAT = 4
# The compiler of JAX 0.7 makes the slopes of a chunk's logits beside them, later ones in their place.
CHUNKS = 2 if jax.__version_info__ < (0, 8) else 1
ONE_CHUNK, ALL_LOGITS, KERNEL = FLOAT * CHUNK * V, FLOAT * N * V, FLOAT * D * V


def shapes(rows=N, width=D, classes=V):
    return (
        jax.ShapeDtypeStruct((rows, width), jnp.float32),
        jax.ShapeDtypeStruct((width, classes), jnp.float32),
        jax.ShapeDtypeStruct((rows,), jnp.int32),
    )


def mean(x, w, ids, where=None):
    return jl.mean(jl.fused.linear_cross_entropy)(x, w, ids, where=where, chunk_size=CHUNK)


def whole(x, w, ids):
    return jl.mean(jl.categorical.cross_entropy)(x @ w, ids)


def bare(x, w, ids):
    return jnp.sum(jnp.sin(jl.fused.linear_cross_entropy(x, w, ids, chunk_size=CHUNK)))


def product(x, w, ids):
    """A Hessian times a vector, forward over reverse."""
    return jax.jvp(lambda x, w: jax.grad(mean, (0, 1))(x, w, ids), (x, w), (x, w))[1]


def twice(x, w, ids):
    """A gradient of a gradient, reverse over reverse."""
    return jax.grad(lambda w: jnp.sum(jnp.sin(jax.grad(mean, 1)(x, w, ids))))(w)


PROGRAMS = {
    "value": (mean, 1),
    "value and gradient": (jax.value_and_grad(mean, (0, 1)), 3),
    "of the features alone": (jax.value_and_grad(mean, 0), 2),
    "of the kernel alone": (jax.value_and_grad(mean, 1), 2),
    "of a compiled function": (jax.grad(jax.jit(mean), (0, 1)), 3),
    "under remat": (jax.grad(jax.checkpoint(mean), (0, 1)), 3),
    "bare rows": (bare, 1),
    "bare rows and gradient": (jax.value_and_grad(bare, (0, 1)), 4),
}
found = {}


def program(function, *arguments):
    key = (function, arguments)
    if key not in found:
        found[key] = jax.jit(function).lower(*arguments).compile(LAID_OUT)
    return found[key]


def dots(compiled) -> int:
    """Products of matrices in a program; a loop's body counts once."""
    return len(re.findall(r"\bdot\(", compiled.as_text()))


def temporaries(compiled) -> int:
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_more_products_of_matrices_than_it_takes(name):
    function, count = PROGRAMS[name]
    assert dots(program(function, *shapes())) == count


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_scatters_and_no_array_is_of_all_logits(name):
    text = program(PROGRAMS[name][0], *shapes()).as_text()
    assert "scatter(" not in text
    assert f"[{N},{V}]" not in text
    assert f",{CHUNK},{V}]" not in text


def test_the_measures_see_the_loss_of_all_logits():
    compiled = program(jax.value_and_grad(whole, (0, 1)), *shapes())
    assert dots(compiled) == 3
    assert f"[{N},{V}]" in compiled.as_text()
    assert temporaries(compiled) >= ALL_LOGITS


def test_the_temporaries_are_one_chunk_and_a_block_of_the_kernel():
    step = jax.value_and_grad(jl.mean(jl.fused.linear_cross_entropy), (0, 1))
    rows, width, classes = 2048, 512, 16_000
    compiled = program(step, *shapes(rows, width, classes))
    # "auto" makes chunks of 512 rows here: 32 MB; the kernel's gradient is made of blocks of 8 MB.
    assert temporaries(compiled) < 1.05 * CHUNKS * FLOAT * 512 * classes + 2 * (1 << 23)
    assert dots(compiled) == 3


def test_the_temporaries_are_a_fifth_of_those_of_all_logits():
    head = shapes(2048, 512, 32_000)
    ours = program(jax.value_and_grad(jl.mean(jl.fused.linear_cross_entropy), (0, 1)), *head)

    def theirs(x, w, ids):
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(x @ w, ids))

    assert temporaries(ours) < CHUNKS * temporaries(program(jax.value_and_grad(theirs, (0, 1)), *head)) / 5


# What an option, or labels that are distributions, stores beside the chunk of logits: in chunks.
STORED = {
    "where": 0,
    "ignore_index": 0,
    "label_smoothing": 0,
    "z_loss": 0,
    "class_weights": 0,
    "temperature": 1,
    "class_weights, label_smoothing": 1,
    "logit_softcap": 2,
    "gradient_filter": 1.2,
    "distributions": 4,
}


@pytest.mark.parametrize("name", STORED)
def test_an_option_stores_no_more_than_the_documentation_says(name):
    rows, width, classes, chunk = 1024, 16, 4096, 512
    x, w, ids = shapes(rows, width, classes)
    given = {
        "where": jax.ShapeDtypeStruct((rows,), jnp.bool_),
        "class_weights": jax.ShapeDtypeStruct((classes,), jnp.float32),
        "ignore_index": jax.ShapeDtypeStruct((), jnp.int32),
    }
    names = [] if name == "distributions" else name.split(", ")
    labels = ids if names else jax.ShapeDtypeStruct((rows, classes), jnp.float32)
    options = {n: given.get(n, jax.ShapeDtypeStruct((), jnp.float32)) for n in names}

    def step(x, w, labels, options):
        loss = jl.mean(jl.fused.linear_cross_entropy)
        return jax.value_and_grad(loss, (0, 1))(x, w, labels, chunk_size=chunk, **options)

    compiled = jax.jit(step).lower(x, w, labels, options).compile(LAID_OUT)
    assert temporaries(compiled) < (0.2 + CHUNKS + STORED[name]) * FLOAT * chunk * classes
    assert dots(compiled) == 3


@pytest.mark.parametrize(("function", "chunks"), [(product, 8), (twice, 8)])
def test_a_second_derivative_keeps_a_few_chunks_whatever_the_rows(function, chunks):
    fewer, more = (temporaries(program(function, *shapes(rows))) for rows in (N, 2 * N))
    assert fewer < chunks * (ONE_CHUNK + KERNEL)
    assert more - fewer < FLOAT * 6 * N * D + ONE_CHUNK / 8


def test_a_mask_copies_no_features():
    rows, width = 512, 4096
    x, w, ids = shapes(rows, width, 64)
    kept = jax.ShapeDtypeStruct((rows,), jnp.bool_)
    plain, masked = (
        temporaries(program(jax.value_and_grad(mean, (0, 1)), *data))
        for data in ((x, w, ids), (x, w, ids, kept))
    )
    assert masked - plain < FLOAT * rows * width / 2


def test_a_vocabulary_of_262144_takes_one_chunk_and_no_kernel_whatever_the_rows():
    classes, width, least = 262_144, 64, 512
    step = jax.value_and_grad(jl.mean(jl.fused.linear_cross_entropy), (0, 1))
    small, large = (temporaries(program(step, *shapes(rows, width, classes))) for rows in (1024, 65_536))
    assert large < 1.05 * CHUNKS * FLOAT * least * classes + 2 * (1 << 23)
    assert large - small < FLOAT * 65_536


def test_rows_that_no_chunk_size_divides_are_not_padded():
    x, w, ids = shapes(N - 3, 1024, 64)
    compiled = program(jax.value_and_grad(mean, (0, 1)), x, w, ids)
    assert temporaries(compiled) < FLOAT * N * 1024 / 2


def test_distillation_takes_two_products_for_the_value_and_two_for_the_student():
    x, w, _ = shapes()

    def student(x, w, a, b):
        return jl.mean(jl.fused.linear_distillation)(x, w, a, b, chunk_size=CHUNK)

    assert dots(program(student, x, w, x, w)) == 2
    compiled = program(jax.value_and_grad(student, (0, 1)), x, w, x, w)
    assert dots(compiled) == 4
    assert f"[{N},{V}]" not in compiled.as_text()


def test_the_filter_can_leave_out_the_products_of_a_block():
    def step(x, w, ids):
        loss = jl.mean(jl.fused.linear_cross_entropy)
        return jax.grad(loss, (0, 1))(x, w, ids, chunk_size=CHUNK, gradient_filter=1e-4)

    text = program(step, *shapes()).as_text()
    bodies = dict(re.findall(r"\n%?(\S+) \([^\n]*\{\n(.*?)\n\}", text, re.DOTALL))
    listed = re.findall(r"branch_computations=\{([^}]*)\}", text)
    named = re.findall(r"(?:true|false)_computation=%?([\w.-]+)", text)
    branches = {name.strip(" %") for name in (*named, *",".join(listed).split(",")) if name}

    def inside(name: str) -> str:
        body = bodies.get(name, "")
        return body + "".join(map(inside, set(re.findall(r"(?:calls|to_apply)=%?([\w.-]+)", body))))

    # The two products of the gradient stand in a branch, the logits' does not.
    assert len(re.findall(r"\bdot\(", "".join(map(inside, branches)))) == 2
    assert len(re.findall(r"\bdot\(", text)) == 3
