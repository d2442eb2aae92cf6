"""The names of `optax.losses` over our losses: one changed import moves a program.

    from jaxloss.adapters import optax_losses as losses  # was: from optax import losses

Argument names, order, defaults, axes, masks, reductions and returned shapes are Optax's, and so are values
and gradients wherever those are right. Where they differ, `docs/optax.md` says on which input, by how much
and why. Optax itself is not imported.
"""

from jaxloss.adapters.optax_losses._classes import (
    make_fenchel_young_loss,
    multiclass_hinge_loss,
    multiclass_perceptron_loss,
    multiclass_sparsemax_loss,
    poly_loss_cross_entropy,
    ranking_softmax_loss,
    safe_softmax_cross_entropy,
    smooth_labels,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
)
from jaxloss.adapters.optax_losses._distributions import (
    convex_kl_divergence,
    generalized_kl_divergence,
    kl_divergence,
    kl_divergence_with_log_targets,
)
from jaxloss.adapters.optax_losses._images import (
    binary_dice_loss,
    dice_loss,
    multiclass_generalized_dice_loss,
)
from jaxloss.adapters.optax_losses._numbers import (
    hinge_loss,
    huber_loss,
    l2_loss,
    log_cosh,
    perceptron_loss,
    sigmoid_binary_cross_entropy,
    sigmoid_focal_loss,
    sparsemax_loss,
    squared_error,
)
from jaxloss.adapters.optax_losses._sequences import ctc_loss, ctc_loss_with_forward_probs
from jaxloss.adapters.optax_losses._vectors import (
    cosine_distance,
    cosine_similarity,
    ntxent,
    triplet_margin_loss,
)

__all__ = [
    "binary_dice_loss",
    "convex_kl_divergence",
    "cosine_distance",
    "cosine_similarity",
    "ctc_loss",
    "ctc_loss_with_forward_probs",
    "dice_loss",
    "generalized_kl_divergence",
    "hinge_loss",
    "huber_loss",
    "kl_divergence",
    "kl_divergence_with_log_targets",
    "l2_loss",
    "log_cosh",
    "make_fenchel_young_loss",
    "multiclass_generalized_dice_loss",
    "multiclass_hinge_loss",
    "multiclass_perceptron_loss",
    "multiclass_sparsemax_loss",
    "ntxent",
    "perceptron_loss",
    "poly_loss_cross_entropy",
    "ranking_softmax_loss",
    "safe_softmax_cross_entropy",
    "sigmoid_binary_cross_entropy",
    "sigmoid_focal_loss",
    "smooth_labels",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "sparsemax_loss",
    "squared_error",
    "triplet_margin_loss",
]
