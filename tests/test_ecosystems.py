"""Flax linen, Flax nnx and Equinox models, trained as their users would write it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

optax = pytest.importorskip("optax", reason="the training loops of these ecosystems use Optax")

import jaxloss as jl  # noqa: E402
from jaxloss.adapters import optax as adapter  # noqa: E402
from jaxloss.training import minimize  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 2)).astype(np.float32)
Y = (X[:, 0] * X[:, 1]).astype(np.float32)
STEPS = 100


def optimizer():
    return optax.chain(optax.clip_by_global_norm(1.0), adapter.gradient_descent(0.2))


@pytest.fixture(autouse=True)
def _promotion_as_these_libraries_need_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def plain_optax_loop(objective, params):
    tx = optimizer()

    @jax.jit
    def step(params, state):
        loss, grads = jax.value_and_grad(objective)(params, X, Y)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    state, losses = tx.init(params), []
    for _ in range(STEPS):
        params, state, loss = step(params, state)
        losses.append(float(loss))
    return losses


def loop_of_train_steps(objective, params):
    tx = optimizer()
    step, state, losses = adapter.train_step(objective, tx), tx.init(params), []
    for _ in range(STEPS):
        params, state, loss = step(params, state, X, Y)
        losses.append(float(loss))
    return losses


def by_minimize(objective, params):
    found = minimize(objective, params, X, Y, optimizer=optimizer(), max_steps=STEPS)
    return np.asarray(found.history[:-1])


def linen():
    nn = pytest.importorskip("flax.linen", reason="shows training of a Flax linen model")

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(1)(nn.tanh(nn.Dense(16)(x))).squeeze(-1)

    network = Network()
    params = network.init(jax.random.key(0), X)
    return (lambda params, x, y: jl.mse(network.apply(params, x), y)), params


def nnx():
    nnx = pytest.importorskip("flax.nnx", reason="shows training of a Flax nnx model")

    class Network(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(2, 16, rngs=rngs)
            self.out = nnx.Linear(16, 1, rngs=rngs)
            self.noise = nnx.Dropout(0.0, rngs=rngs)

        def __call__(self, x):
            return self.out(self.noise(nnx.tanh(self.hidden(x)))).squeeze(-1)

    graph, params, rest = nnx.split(Network(nnx.Rngs(0)), nnx.Param, ...)

    def objective(params, x, y):
        return jl.mse(nnx.merge(graph, params, rest)(x), y)

    return objective, params


def equinox():
    eqx = pytest.importorskip("equinox", reason="shows training of an Equinox model")
    network = eqx.nn.MLP(2, "scalar", 16, 1, activation=jnp.tanh, key=jax.random.key(0))
    params, static = eqx.partition(network, eqx.is_inexact_array)

    def objective(params, x, y):
        return jl.mse(jax.vmap(eqx.combine(params, static))(x), y)

    return objective, params


MODELS = {"linen": linen, "nnx": nnx, "equinox": equinox}
every_model = pytest.mark.parametrize("model", MODELS)


@every_model
def test_the_step_by_hand_trains_it_in_a_plain_optax_loop(model):
    losses = plain_optax_loop(*MODELS[model]())
    assert losses[-1] < 0.5 * losses[0]


@every_model
@pytest.mark.parametrize("loop", [loop_of_train_steps, by_minimize])
def test_train_step_and_minimize_follow_the_plain_loop(model, loop):
    wanted = plain_optax_loop(*MODELS[model]())
    np.testing.assert_allclose(loop(*MODELS[model]()), wanted, rtol=1e-3)


def test_a_whole_equinox_model_is_sent_to_partition():
    eqx = pytest.importorskip("equinox", reason="shows what an Equinox user is told")
    network = eqx.nn.MLP(2, 1, 4, 1, key=jax.random.key(0))
    with pytest.raises(TypeError, match=r"`params\.activation.*eqx\.partition"):
        minimize(lambda p: p(X[0]), network, learning_rate=0.1, max_steps=1)
