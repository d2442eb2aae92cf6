"""Values inside `jax.shard_map`, where what a loop carries must vary over the mesh as what it returns."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

T = TypeVar("T")


def spread(tree: T, like: object) -> T:
    """The same values, varying over every mesh axis that `like` varies over.

    A zero made of `like` is added to what is floating point: it varies where that does, in any release of
    JAX, its derivative sums over the devices, and outside `jax.shard_map` it is compiled away.
    """
    empty = [jnp.sum(jnp.ravel(array)[:0]).astype(jnp.float32) for array in jax.tree.leaves(like)]
    nothing = lax.stop_gradient(sum(empty, start=jnp.zeros((), jnp.float32)))

    def varied(array: jax.Array) -> jax.Array:
        floating = jnp.issubdtype(array.dtype, jnp.floating)
        return array + nothing.astype(array.dtype) if floating else array

    return jax.tree.map(varied, tree)
