"""Losses of distances and angles between embeddings, by line of thought.

`rows`: each row for itself, told who belongs with it. `batches`: every two rows of a batch are a pair,
which counts by how much it is wrong. `mining`: of all the pairs of a batch those that are hardest.

On a mesh of explicit axes that `jax.set_mesh` has set, wrap the mean of a loss that couples rows as
`jax.sharding.auto_axes(mean(loss), out_sharding=PartitionSpec())`: of every two rows JAX would shard both.
"""

from jaxloss.losses.metric.batches import circle, multi_similarity, n_pairs
from jaxloss.losses.metric.mining import batch_hard_triplet, semi_hard_triplet
from jaxloss.losses.metric.rows import (
    arcface,
    contrastive_pair,
    cosface,
    cosine_embedding,
    hinge_embedding,
    margin_ranking,
    triplet_margin,
)

__all__ = [
    "arcface",
    "batch_hard_triplet",
    "circle",
    "contrastive_pair",
    "cosface",
    "cosine_embedding",
    "hinge_embedding",
    "margin_ranking",
    "multi_similarity",
    "n_pairs",
    "semi_hard_triplet",
    "triplet_margin",
]
