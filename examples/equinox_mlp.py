"""An Equinox network on the diabetes data: a robust loss, `train_step`, and a held-out loss by `evaluate`."""

import equinox as eqx
import jax
import numpy as np
import optax
from sklearn.datasets import load_diabetes

import jaxloss as jl
from jaxloss.adapters.optax import train_step

features, progression = load_diabetes(return_X_y=True)
features = (features / features.std(axis=0)).astype(np.float32)
progression = ((progression - progression.mean()) / progression.std()).astype(np.float32)
order = np.random.default_rng(0).permutation(len(progression))
train, test = order[:340], order[340:]

# What is trained, apart from activations and sizes.
network = eqx.nn.MLP(10, "scalar", 16, 1, key=jax.random.key(0))
params, static = eqx.partition(network, eqx.is_inexact_array)
part = jl.partial_mean(jl.robust.huber)


def objective(params, x, y):
    return part(jax.vmap(eqx.combine(params, static))(x), y)


def held_out(params):
    rows = np.split(test, [51])
    return jl.training.evaluate(objective, params, ((features[some], progression[some]) for some in rows))


optimizer = optax.adamw(3e-3, weight_decay=0.1)
step, opt_state = train_step(objective, optimizer), optimizer.init(params)
before = held_out(params)
for epoch in range(40):
    for rows in np.random.default_rng(epoch).permutation(train).reshape(-1, 34):
        params, opt_state, loss = step(params, opt_state, features[rows], progression[rows])
after = held_out(params)
print(f"huber on {len(test)} other patients: {before:.3f} -> {after:.3f}")
assert after < 0.7 * before
