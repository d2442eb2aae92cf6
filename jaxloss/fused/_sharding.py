"""What a loop needs inside `jax.shard_map`: to begin as varied over the mesh as it goes on."""

from typing import Any

import jax
import jax.numpy as jnp


def spread(tree: Any, like: Any) -> Any:
    """The same values, varying over every mesh axis that `like` varies over.

    The derivative of what was shared is then summed over the devices once, after the loop, and not in it.
    """
    # A sum over no entry is 0, whatever the others hold; compiled, nothing is left of it.
    empty = [jnp.sum(jnp.ravel(leaf)[:0]).astype(jnp.float32) for leaf in jax.tree.leaves(like)]
    nothing = jax.lax.stop_gradient(sum(empty))

    def own(leaf: Any) -> Any:
        return leaf + nothing.astype(leaf.dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(own, tree)
