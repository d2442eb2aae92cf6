"""Means and their gradients in one function, as an expert would write them; and two plain formulas."""

import jax
import jax.numpy as jnp


def squared(p: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    r = p - t
    return jnp.mean(r * r), r * (2 / r.size)


def absolute(p: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    r = p - t
    return jnp.mean(jnp.abs(r)), jnp.sign(r) * (1 / r.size)


def huber(p: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    distance = jnp.abs(p - t)
    bent = jnp.minimum(distance, 1)
    # Not the same 1: XLA's CPU compiler would store it 8 million times for both to read.
    delta = jax.lax.optimization_barrier(jnp.float32(1))
    return jnp.mean(bent * (distance - 0.5 * bent)), jnp.clip(p - t, -delta, delta) * (1 / p.size)


def huber_rows(p: jax.Array, t: jax.Array) -> jax.Array:
    a = jnp.abs(p - t)
    return jnp.where(a <= 1, 0.5 * a * a, a - 0.5)


def binary(z: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    value = jnp.mean(jnp.maximum(z, 0) - y * z + jnp.log1p(jnp.exp(-jnp.abs(z))))
    return value, (jax.nn.sigmoid(z) - y) * (1 / z.size)


def binary_weighted(z: jax.Array, y: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
    total = jnp.sum(w)
    value = jnp.sum(w * (jnp.maximum(z, 0) - y * z + jnp.log1p(jnp.exp(-jnp.abs(z)))))
    return value / total, w * (jax.nn.sigmoid(z) - y) / total


def focal(z: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    side = 1 - 2 * y
    margin = side * z
    entropy = jnp.maximum(margin, 0) + jnp.log1p(jnp.exp(-jnp.abs(margin)))
    wrong = jax.nn.sigmoid(margin)
    faded = wrong * wrong
    slope = side * faded * (wrong + 2 * (1 - wrong) * entropy)
    return jnp.mean(faded * entropy), slope * (1 / z.size)


def log_cosh(p: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    distance = jnp.abs(p - t)
    value = jnp.mean(distance + jnp.log1p(jnp.exp(-2 * distance)) - jnp.log(2).astype(p.dtype))
    return value, jnp.tanh(p - t) * (1 / p.size)


def squared_where(p: jax.Array, t: jax.Array, kept: jax.Array) -> tuple[jax.Array, jax.Array]:
    count = jnp.sum(kept, dtype=p.dtype)
    r = jnp.where(kept, p - t, 0)
    return jnp.sum(r * r) / count, r * (2 / count)


def huber_where(p: jax.Array, t: jax.Array, kept: jax.Array) -> tuple[jax.Array, jax.Array]:
    count = jnp.sum(kept, dtype=p.dtype)
    residual = jnp.where(kept, p - t, 0)
    distance = jnp.abs(residual)
    bent = jnp.minimum(distance, 1)
    delta = jax.lax.optimization_barrier(jnp.float32(1))
    return jnp.sum(bent * (distance - 0.5 * bent)) / count, jnp.clip(residual, -delta, delta) / count


def categorical_rows(z: jax.Array, ids: jax.Array) -> jax.Array:
    return jax.nn.logsumexp(z, axis=-1) - jnp.take_along_axis(z, ids[:, None], axis=-1)[:, 0]


def categorical(z: jax.Array, ids: jax.Array, kept: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    log_normaliser = jax.nn.logsumexp(z, axis=-1)
    at_label = jnp.take_along_axis(z, ids[:, None], axis=-1)[:, 0]
    shares = 1 / len(ids) if kept is None else (kept / jnp.sum(kept))[:, None]
    hit = jax.lax.broadcasted_iota(ids.dtype, z.shape, 1) == ids[:, None]
    losses = (log_normaliser - at_label)[:, None] * shares
    return jnp.sum(losses), (jnp.exp(z - log_normaliser[:, None]) - hit) * shares
