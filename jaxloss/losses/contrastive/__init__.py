"""Losses of what is told apart within a batch, or of two views of one thing.

The last axis but one of the embeddings is the batch; axes before it are batches of their own.

On a mesh of explicit axes that `jax.set_mesh` has set, wrap the mean of a loss that couples rows as
`jax.sharding.auto_axes(mean(loss), out_sharding=PartitionSpec())`: of every two rows JAX would shard both.
"""

from jaxloss.losses.contrastive.moments import barlow_twins, vicreg
from jaxloss.losses.contrastive.rivals import clip, info_nce, nt_xent, siglip, supcon
from jaxloss.losses.contrastive.views import byol, dino, simsiam

__all__ = [
    "barlow_twins",
    "byol",
    "clip",
    "dino",
    "info_nce",
    "nt_xent",
    "siglip",
    "simsiam",
    "supcon",
    "vicreg",
]
