"""The contrastive losses in blocks: by brute force, beside those with all pairs at once, and by their programs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    return functools.partial(losses_of(name)[1], block_size=size)


def mean_in_blocks(name, size=BLOCK):
    return functools.partial(jl.mean(losses_of(name)[1]), block_size=size)


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

    def of(first, second, weights, options):
        return mean(first, second, weights=weights, where=KEPT, **options)

    return jax.jit(jax.value_and_grad(of, argnums=(0, 2, 3) if name in GROUPED else (0, 1, 2, 3)))


@every_loss
def test_rows_are_those_of_brute_force(name):
    found = jax.jit(functools.partial(in_blocks(name), where=KEPT, **OPTIONS[name]))(*data_of(name))
    np.testing.assert_allclose(
        found, brute(name, *data_of(name), KEPT, **OPTIONS[name]).astype(np.float64), rtol=1e-12, atol=1e-15
    )


@every_loss
def test_the_gradients_of_a_mean_are_those_of_brute_force(name):
    first, second = data_of(name)
    value, found = program(name, fused=True)(first, second, WEIGHTS, OPTIONS[name])
    options = OPTIONS[name]
    np.testing.assert_allclose(value, float(brute_mean(name, first, second, WEIGHTS, options)), rtol=1e-13)
    expected = [differences(lambda x: brute_mean(name, x, second, WEIGHTS, options), first)]
    if name not in GROUPED:
        expected.append(differences(lambda x: brute_mean(name, first, x, WEIGHTS, options), second))
    expected.append(differences(lambda w: brute_mean(name, first, second, w, options), WEIGHTS))
    expected.append(
        {
            n: differences(lambda v, n=n: brute_mean(name, first, second, WEIGHTS, options | {n: v}), value)
            for n, value in options.items()
        }
    )
    for actual, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-9, atol=1e-10)


# --- beside the loss with all pairs at once -----------------------------------------------------------


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
    data = (first, labels if name in GROUPED else second, WEIGHTS, OPTIONS[name] | scaled)
    for found, expected in zip(
        jax.tree.leaves(program(name, fused=True)(*data)),
        jax.tree.leaves(program(name, fused=False)(*data)),
        strict=True,
    ):
        size = np.max(np.abs(expected), axis=-1, keepdims=True, initial=1e-12)
        assert np.all(np.abs(found - expected) <= 1e-11 * size)


@functools.cache
def derivatives(name, *, fused):
    """Of a mean and of the rows: forward mode, orders two in all modes, many at once, recomputed."""
    loss = in_blocks(name) if fused else losses_of(name)[0]
    mean = mean_in_blocks(name) if fused else jl.mean(losses_of(name)[0])
    _, second = data_of(name)
    options = OPTIONS[name]

    def rows(x):
        return loss(x, second, where=KEPT, **options)

    def objective(x):
        return mean(x, second, where=KEPT, weights=WEIGHTS, **options)

    def run(x, along):
        gradient = jax.grad(objective)
        return {
            "jvp": jax.jvp(objective, (x,), (along,)),
            "jvp of rows": jax.jvp(rows, (x,), (along,)),
            "gradient of rows": jax.vjp(rows, x)[1](jnp.asarray(WEIGHTS)),
            "gradient of jit": jax.grad(jax.jit(objective))(x),
            "rematerialised": jax.grad(jax.checkpoint(objective))(x),
            "hvp": jax.jvp(gradient, (x,), (along,))[1],
            "reverse over reverse": jax.grad(lambda x: jnp.vdot(gradient(x), along))(x),
            "reverse over reverse of rows": jax.grad(
                lambda x: jnp.vdot(jax.grad(lambda x: jnp.vdot(rows(x), WEIGHTS))(x), along)
            )(x),
            "vmap": jax.vmap(jax.grad(objective))(jnp.stack([x, 2 * along])),
        }

    return jax.jit(run)


@every_loss
def test_every_derivative_is_the_references(name):
    along = RNG.normal(size=FIRST.shape)
    found, expected = (derivatives(name, fused=fused)(FIRST, along) for fused in (True, False))
    for what, wanted in expected.items():
        for actual, true in zip(jax.tree.leaves(found[what]), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(actual, true, rtol=1e-10, atol=1e-12, err_msg=what)
