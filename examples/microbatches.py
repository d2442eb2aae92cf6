"""Batches of unequal texts in eight parts: the gradient of the whole batch, in an eighth of its memory.

Each "text" is a handwritten digit read row by row until its ink ends, so lengths differ; the task is to
foretell each row of pixels from the one before. Means of microbatches' means count a row of a short text
for more than one of a long text; totals, divided once, do not.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxloss as jl
from jaxloss.adapters.optax import accumulate, train_step

images = (load_digits().images / 16).astype(np.float32)
read = np.cumsum(np.random.default_rng(0).random(images.shape[:2]) < 0.25, axis=1) == 0  # [texts, rows]
images, read = images[:1792], read[:1792]
order = np.argsort(read.sum(axis=1))  # texts of one length together, as loaders sort them
images, read = images[order], read[order]

part = jl.partial_mean(jl.regression.squared_error)


def objective(params, images, read):
    before, after = images[:, :-1], images[:, 1:]
    foretold = jnp.tanh(before @ params["in"]) @ params["out"]
    return part(foretold, after, where=read[:, 1:, None])


keys = jax.random.split(jax.random.key(0))
start = {"in": jax.random.normal(keys[0], (8, 32)) / 3, "out": jax.random.normal(keys[1], (32, 8)) / 6}
descent = optax.sgd(1.0)  # a step of 1 shows the gradient it has followed


def gradient(step, opt_state, *batches):
    params = start
    for batch in batches:
        params, opt_state, _ = step(params, opt_state, *batch)
    return jax.tree.map(lambda old, new: old - new, start, params)


def apart(tree, truth):
    size = optax.tree_utils.tree_norm
    return float(size(optax.tree_utils.tree_sub(tree, truth)) / size(truth))


def steps(optimizer, **options):
    return train_step(objective, optimizer, donate=False, **options), optimizer.init(start)


eighths = list(zip(np.split(images, 8), np.split(read, 8), strict=True))
whole = gradient(*steps(descent), (images, read))
in_parts = apart(gradient(*steps(descent, microbatches=8), (images, read)), whole)
in_steps = apart(gradient(*steps(accumulate(descent, every=8)), *eighths), whole)
averaged = apart(gradient(*steps(optax.MultiSteps(descent, 8)), *eighths), whole)
print(
    f"off the gradient of the whole batch: microbatches=8 {in_parts:.0e}, accumulate(every=8) {in_steps:.0e}"
)
print(f"                                     optax.MultiSteps {averaged:.0%}")
assert max(in_parts, in_steps) < 1e-5 < 0.05 < averaged

optimizer = optax.adam(1e-2)
step, opt_state = train_step(objective, optimizer, microbatches=8), optimizer.init(start)
params = jax.tree.map(jnp.copy, start)  # the step gives their memory to the new ones
first = float(objective(start, images, read).value())
for _ in range(60):
    params, opt_state, loss = step(params, opt_state, images, read)
print(f"squared error {first:.3f} -> {loss:.3f}")
assert loss < 0.5 * first
