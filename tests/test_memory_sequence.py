"""What CTC stores, beside Optax's: no clock is read."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import COUNTED, LAID_OUT

import jaxloss as jl

ROWS, FRAMES, LABELS, CLASSES = 32, 256, 64, 128
LOGITS = jax.ShapeDtypeStruct((ROWS, FRAMES, CLASSES), jnp.float32)
IDS = jax.ShapeDtypeStruct((ROWS, LABELS), jnp.int32)


@contextlib.contextmanager
def as_users_have_it():
    """float32 by default and promotion as it comes: under x64 Optax computes in float64."""
    settings = {"jax_enable_x64": False, "jax_numpy_dtype_promotion": "standard"}
    before = {name: getattr(jax.config, name) for name in settings}
    try:
        for name, value in settings.items():
            jax.config.update(name, value)
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def program(loss):
    with as_users_have_it(), jax.numpy_rank_promotion("allow"):
        return jax.jit(jax.value_and_grad(loss)).lower(LOGITS, IDS).compile(LAID_OUT)


@pytest.fixture(scope="module")
def ours():
    return program(jl.mean(jl.sequence.ctc))


@COUNTED
def test_ctc_stores_a_quarter_of_what_optaxs_does(ours):
    optax = pytest.importorskip("optax", reason="the measure is Optax's ctc_loss")

    def theirs(logits, labels):
        return jnp.mean(optax.ctc_loss(logits, jnp.zeros((ROWS, FRAMES)), labels, jnp.zeros((ROWS, LABELS))))

    found, measure = (p.memory_analysis().temp_size_in_bytes for p in (ours, program(theirs)))
    assert found <= 0.25 * measure


def test_ctc_does_not_scatter(ours):
    assert "scatter" not in ours.as_text()


def test_no_array_of_ctc_has_a_class_for_each_frame_and_label():
    jaxpr = str(
        jax.make_jaxpr(jax.value_and_grad(jl.mean(jl.sequence.ctc)))(
            np.zeros(LOGITS.shape, np.float32), np.zeros(IDS.shape, np.int32)
        )
    )
    assert f"{ROWS},{FRAMES},{LABELS},{CLASSES}" not in jaxpr
    assert f"{ROWS},{FRAMES},{LABELS + 1},{CLASSES}" not in jaxpr
    assert f"{ROWS},{FRAMES},{CLASSES}" in jaxpr
