"""Double precision for libraries that compute in it, whatever JAX is set to."""

from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp


def double_precision() -> AbstractContextManager[None]:
    """Sixty-four bits inside, by the name this release of JAX has for it."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64  # pyright: ignore[reportAttributeAccessIssue]

    return enable_x64(True)


def widened(leaf: Any) -> Any:
    """A floating array in float64; anything else as it is."""
    is_floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    return jnp.asarray(leaf, jnp.float64) if is_floating else leaf
