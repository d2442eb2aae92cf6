"""What the losses of a batch's pairs store: a few numbers a pair, none for its features or a triplet."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import LAID_OUT

import jaxloss as jl

ROWS, FEATURES = 256, 128
EMBEDDINGS = jax.ShapeDtypeStruct((ROWS, FEATURES), jnp.float32)
LABELS = jax.ShapeDtypeStruct((ROWS,), jnp.int32)
OF_PAIRS = 4 * ROWS**2
PAIRS = ["circle", "multi_similarity", "batch_hard_triplet"]
MEANS = {name: jl.mean(getattr(jl.metric, name)) for name in [*PAIRS, "semi_hard_triplet", "n_pairs"]}


def arguments(name):
    return (EMBEDDINGS, EMBEDDINGS, LABELS) if name == "n_pairs" else (EMBEDDINGS, LABELS)


def temporaries(compiled) -> int:
    return compiled.memory_analysis().temp_size_in_bytes


@functools.cache
def value_and_gradient(name):
    return jax.jit(jax.value_and_grad(MEANS[name])).lower(*arguments(name)).compile(LAID_OUT)


@pytest.mark.parametrize("name", MEANS)
def test_value_and_gradient_store_a_few_numbers_a_pair(name):
    found = temporaries(value_and_gradient(name))
    assert found <= 14 * OF_PAIRS < FEATURES * OF_PAIRS / 8


@pytest.mark.parametrize("name", [*PAIRS, "n_pairs"])
def test_no_gradient_of_pairs_scatters(name):
    assert "scatter(" not in value_and_gradient(name).as_text()


@pytest.mark.parametrize("name", MEANS)
def test_no_array_has_an_entry_for_a_triplet_or_a_pairs_features(name):
    zeros = [np.zeros(given.shape, given.dtype) for given in arguments(name)]
    jaxpr = str(jax.make_jaxpr(jax.value_and_grad(MEANS[name]))(*zeros))
    assert f"{ROWS},{ROWS}]" in jaxpr
    assert f"{ROWS},{ROWS},{ROWS}]" not in jaxpr
    assert f"{ROWS},{ROWS},{FEATURES}]" not in jaxpr


def test_the_measure_sees_an_entry_for_a_pairs_features():
    def textbook(x):
        return jnp.sum(jnp.sort(x[:, None, :] - x[None], axis=0)[0])

    assert temporaries(jax.jit(textbook).lower(EMBEDDINGS).compile(LAID_OUT)) >= FEATURES * OF_PAIRS
