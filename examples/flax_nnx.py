"""A Flax nnx network on handwritten digits: `fit` with validation, early stopping, the best parameters."""

import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

import jaxloss as jl

pixels, digits = load_digits(return_X_y=True)
pixels, digits = (pixels / 16).astype(np.float32).reshape(-1, 8, 8, 1), digits.astype(np.int32)
train, held_out, test = np.split(np.random.default_rng(0).permutation(len(digits)), [1200, 1500])


class Network(nnx.Module):
    def __init__(self, rngs):
        self.filters = nnx.Conv(1, 16, (3, 3), rngs=rngs)
        self.classes = nnx.Linear(16 * 16, 10, rngs=rngs)

    def __call__(self, images):
        seen = nnx.avg_pool(nnx.relu(self.filters(images)), (2, 2), strides=(2, 2))
        return self.classes(seen.reshape(len(images), -1))


# What is trained, apart from the rest of the model.
graph, params, rest = nnx.split(Network(nnx.Rngs(0)), nnx.Param, ...)
part = jl.partial_mean(jl.categorical.cross_entropy)


def objective(params, images, labels):
    return part(nnx.merge(graph, params, rest)(images), labels)


def batches(rows, size=100):
    return ((pixels[some], digits[some]) for some in np.split(rows, range(size, len(rows), size)))


found = jl.training.fit(
    objective,
    params,
    lambda epoch: batches(np.random.default_rng(epoch).permutation(train)),
    optax.adam(1e-2),
    epochs=30,
    validation=lambda _: batches(held_out),
    patience=3,
)
network = nnx.merge(graph, found.params, rest)
accuracy = np.mean(np.argmax(network(pixels[test]), -1) == digits[test])
best = found.history[found.best]
print(f"stopped by {found.reason}; epoch {best.number} of {len(found.history)}: {best.validation:.3f}")
print(f"accuracy on {len(test)} other digits: {accuracy:.1%}")
assert accuracy > 0.94
