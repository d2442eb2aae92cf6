"""Fused heads of rows on several devices, each of which has the kernel: the loss and gradients of one."""

import functools
import re

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from programs import LAID_OUT

import jaxloss as jl

DEVICES, N, D, V = 4, 12, 4, 7
RNG = np.random.default_rng(5)
X, W, B = RNG.normal(size=(N, D)), RNG.normal(size=(D, V)), RNG.normal(size=V)
TEACHER = RNG.normal(size=(N, D)), RNG.normal(size=(D, V))
IDS = RNG.integers(0, V, N)
MASK = np.array([1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 1, 0], bool)


def cross_entropy(x, w, b, ids, kept, *, chunk_size):
    part = jl.partial_mean(jl.fused.linear_cross_entropy)
    return part(x, w, ids, bias=b, where=kept, label_smoothing=0.1, chunk_size=chunk_size)


def rows_of_cross_entropy(x, w, b, ids, kept, *, chunk_size):
    losses = jl.fused.linear_cross_entropy(x, w, ids, bias=b, label_smoothing=0.1, chunk_size=chunk_size)
    return jl.partial_mean(lambda losses: losses)(losses, where=kept)


def distillation(x, w, b, ids, kept, *, chunk_size):
    part = jl.partial_mean(jl.fused.linear_distillation)
    return part(x, w, x**2, w**2, ids, student_bias=b, alpha=0.3, where=kept, chunk_size=chunk_size)


PARTS = [cross_entropy, rows_of_cross_entropy, distillation]


def sharded(part, chunk_size):
    def of_shard(*data):
        return part(*data, chunk_size=chunk_size).psum("rows").value()

    mesh, rows = Mesh(jax.devices()[:DEVICES], ("rows",)), P("rows")
    return jax.shard_map(of_shard, mesh=mesh, in_specs=(rows, P(), P(), rows, rows), out_specs=P())


@functools.cache
def on_one_device(part):
    whole = jax.value_and_grad(lambda *data: part(*data, chunk_size="auto").value(), (0, 1, 2))
    return jax.jit(whole)(X, W, B, IDS, MASK)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("chunk_size", [2, "auto"])
def test_value_and_gradients_are_those_on_one_device(part, chunk_size):
    found = jax.jit(jax.value_and_grad(sharded(part, chunk_size), (0, 1, 2)))(X, W, B, IDS, MASK)
    truth = on_one_device(part)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), found, truth)


def test_the_kernels_gradient_is_summed_over_the_devices_once_after_the_loop():
    def step(*data):
        return jax.grad(lambda *data: cross_entropy(*data, chunk_size=1).psum("rows").value(), 1)(*data)

    mesh, rows = Mesh(jax.devices()[:DEVICES], ("rows",)), P("rows")
    specs = (rows, P(), P(), rows, rows)
    gradient = jax.jit(jax.shard_map(step, mesh=mesh, in_specs=specs, out_specs=P()))
    program = gradient.lower(X, W, B, IDS, MASK).compile(LAID_OUT)
    _, (_, truth, _) = on_one_device(cross_entropy)
    np.testing.assert_allclose(program(X, W, B, IDS, MASK), truth, rtol=1e-12, atol=1e-14)
    text = program.as_text()
    sums = [line for line in text.splitlines() if re.search(rf"\[{D},{V}\]\S* all-reduce\(", line)]
    assert len(sums) == 1
    assert "while/body" not in sums[0]
    assert "while/body" in text
