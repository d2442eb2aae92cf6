"""Losses of a sequence of logits against a sequence of labels, one value a sequence."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int

from jaxloss import numerics
from jaxloss._contracts import REAL, Named, named, places, sequences
from jaxloss._loss import Claims, loss

SYMBOLS = Named("class ids in [0, K), none of them the blank")


@loss(
    "sequence",
    domain={"logits": REAL, "labels": SYMBOLS},
    claims=Claims(non_negative=True),
    source="Graves et al. (2006), Connectionist Temporal Classification, eq. 5 to 8 and 14 to 15.",
    peers=(
        "optax.losses.ctc_loss",
        "torch.nn.CTCLoss",
        "keras.losses.CTC",
    ),
)
def ctc(
    logits: Float[ArrayLike, "*rows frames classes"],
    labels: Int[ArrayLike, "*rows labels"],
    *,
    logit_where: Bool[ArrayLike, "*rows frames"] | None = None,
    label_where: Bool[ArrayLike, "*rows labels"] | None = None,
    blank: int | Array = 0,
    zero_infinity: bool | Array = False,
) -> Float[Array, "*rows"]:
    """Negative log-likelihood of labels that frames spell at a pace nobody knows.

        ℓ = −log Σ_π Π_t p_t(π_t),    ∂ℓ/∂z_tk = p_t(k) − P(π_t = k | labels)

    with p_t the softmax of frame t, and π any naming of the frames that is the labels once repetitions are
    merged and then blanks taken out. Never negative, and no digit is lost of a gradient where p_t and P
    both near 1. Nothing scatters in it, and no array is larger than the logits.

    Args:
        logits: floating point, `[*rows, frames, classes]`.
        labels: class ids, integer, `[*rows, labels]`, none of them the blank.
        logit_where: bool, `[*rows, frames]`, the frames that there are; the others may hold NaN.
        label_where: bool, `[*rows, labels]`, the labels that there are, wherever they stand.
        blank: the class id that says nothing.
        zero_infinity: whether labels that no naming spells cost 0, with zero gradient.

    Returns:
        The loss of each sequence, in nats. Where frames are too few for the labels (or a logit of −∞ rules
        them out) it is ∞ with NaN gradient; where a label is out of range, or is the blank, it is NaN.

    Raises:
        TypeError: logits that are not floating point, labels that are not integer, masks that are not bool.
        ValueError: shapes that do not fit.

    """
    who = "sequence.ctc"
    logits, labels = sequences(who, 2, logits=logits, labels=labels)
    frames = places(who, "logit_where", logit_where, logits.shape[:-1])
    there = places(who, "label_where", label_where, labels.shape)
    spelled = jnp.where(there, labels, jnp.asarray(blank, labels.dtype))
    if label_where is not None:
        spelled = jnp.take_along_axis(spelled, jnp.argsort(~there, axis=-1, stable=True), axis=-1)
    lost = jnp.where(zero_infinity, 0, jnp.nan).astype(logits.dtype)
    lengths = jnp.sum(there, axis=-1, dtype=labels.dtype)
    losses = numerics.alignment_surprise(logits, spelled, jnp.asarray(blank), frames, lengths, lost)
    losses = jnp.where(zero_infinity & (losses == jnp.inf), 0, losses)
    return losses * named(who, logits, labels, there, blank)
