"""A plain Optax loop on handwritten digits: the loss is the only thing that is ours."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxloss as jl

pixels, digits = load_digits(return_X_y=True)
pixels, digits = (pixels / 16).astype(np.float32), digits.astype(np.int32)
order = np.random.default_rng(0).permutation(len(digits))
train, test = order[:1500], order[1500:]


def logits(params, x):
    return jnp.tanh(x @ params["in"] + params["bias"]) @ params["out"]


def objective(params, x, y):
    return jl.cross_entropy(logits(params, x), y, label_smoothing=0.05)


optimizer = optax.adamw(3e-3)


@jax.jit
def step(params, opt_state, x, y):
    loss, grads = jax.value_and_grad(objective)(params, x, y)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss


keys = jax.random.split(jax.random.key(0))
params = {
    "in": jax.random.normal(keys[0], (64, 64)) / 8,
    "bias": jnp.zeros(64),
    "out": jax.random.normal(keys[1], (64, 10)) / 8,
}
opt_state = optimizer.init(params)
for epoch in range(10):
    shuffled = np.random.default_rng(epoch).permutation(train)
    for rows in shuffled.reshape(-1, 50):
        params, opt_state, loss = step(params, opt_state, pixels[rows], digits[rows])
    print(f"epoch {epoch}: loss {loss:.3f}")

accuracy = np.mean(np.argmax(logits(params, pixels[test]), -1) == digits[test])
print(f"accuracy on {len(test)} other digits: {accuracy:.1%}")
assert accuracy > 0.93
