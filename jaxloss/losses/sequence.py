"""Losses of a sequence of logits against a sequence of labels, one value a sequence."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Integer

from jaxloss import numerics
from jaxloss._contracts import (
    CLASS_IDS,
    REAL,
    Named,
    class_scores,
    named,
    own_mask,
    sequences,
    sequences_with_places,
    tagged,
    transduced,
)
from jaxloss._loss import Claims, loss

SYMBOLS = Named("class ids in [0, K), none of them the blank")


@loss(
    "sequence",
    domain={"logits": REAL, "labels": SYMBOLS},
    claims=Claims(non_negative=True),
    source="Graves et al. (2006), Connectionist Temporal Classification, eq. 5 to 8 and 14 to 15.",
    peers=("optax.losses.ctc_loss", "torch.nn.CTCLoss", "keras.losses.CTC"),
)
def ctc(
    logits: Float[ArrayLike, "*rows frames classes"],
    labels: Integer[ArrayLike, "*rows labels"],
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
    frames = own_mask(who, logit_where, logits.shape[:-1], "logit_where")
    there = own_mask(who, label_where, labels.shape, "label_where")
    spelled = jnp.where(there, labels, jnp.asarray(blank, labels.dtype))
    if label_where is not None:
        spelled = jnp.take_along_axis(spelled, jnp.argsort(~there, axis=-1, stable=True), axis=-1)
    lost = jnp.where(zero_infinity, 0, jnp.nan).astype(logits.dtype)
    lengths = jnp.sum(there, axis=-1, dtype=labels.dtype)
    losses = numerics.alignment_surprise(logits, spelled, jnp.asarray(blank), frames, lengths, lost)
    losses = jnp.where(zero_infinity & (losses == jnp.inf), 0, losses)
    return losses * named(who, logits, labels, there, blank)


@loss(
    "sequence",
    domain={"logits": REAL, "labels": SYMBOLS},
    claims=Claims(non_negative=True),
    source="Graves (2012), Sequence Transduction with Recurrent Neural Networks, eq. 16 to 20.",
    peers=("torchaudio.functional.rnnt_loss",),
)
def transducer(
    logits: Float[ArrayLike, "*rows frames states classes"],
    labels: Integer[ArrayLike, "*rows labels"],
    *,
    logit_where: Bool[ArrayLike, "*rows frames"] | None = None,
    label_where: Bool[ArrayLike, "*rows labels"] | None = None,
    blank: int | Array = 0,
    zero_infinity: bool | Array = False,
) -> Float[Array, "*rows"]:
    """Negative log-likelihood of labels under a transducer, RNN-T: a blank goes on to the next frame.

        ℓ = −log Σ_π Π p_tn(π),    ∂ℓ/∂z_tnk = P(t, n) p_tn(k) − P(k is said at t, n)

    with p_tn the softmax at frame t once n labels are said, π any order in which the labels and a blank for
    each frame come, the last blank last, and P the share of such orders that come by. Never negative, and no
    digit is lost of a gradient where p and P both near 1. No array is larger than the logits.

    Args:
        logits: floating point, `[*rows, frames, 1 + labels, classes]`; log-probabilities are logits too.
        labels: class ids, integer, `[*rows, labels]`, none of them the blank; there may be none.
        logit_where: bool, `[*rows, frames]`, the frames that there are; the others may hold NaN.
        label_where: bool, `[*rows, labels]`, the labels that there are. With a label goes the state after it.
        blank: the class id that says nothing.
        zero_infinity: whether labels that no order can say cost 0, with zero gradient.

    Returns:
        The loss of each sequence, in nats. Where logits of −∞ rule all orders out it is ∞ with NaN gradient;
        where there is no frame, ∞ with nothing to differentiate by; where a label is out of range, or is the
        blank, it is NaN.

    Raises:
        TypeError: logits that are not floating point, labels that are not integer, masks that are not bool.
        ValueError: shapes that do not fit.

    """
    who = "sequence.transducer"
    logits, labels = transduced(who, logits=logits, labels=labels)
    frames = own_mask(who, logit_where, logits.shape[:-2], "logit_where")
    there = own_mask(who, label_where, labels.shape, "label_where")
    sound = named(who, logits, labels, there, blank)
    # No mask keeps the NaN of a wrong label from any derivative of its row.
    frames, there = (mask | jnp.isnan(sound)[..., None] for mask in (frames, there))
    lost = jnp.where(zero_infinity, 0, jnp.nan).astype(logits.dtype)
    losses = numerics.turns_surprise(logits, labels, jnp.asarray(blank), frames, there, lost)
    return sound * jnp.where(zero_infinity & (losses == jnp.inf), 0, losses)


@loss(
    "sequence",
    domain={"logits": REAL, "labels": CLASS_IDS},
    options={"transitions": REAL, "start_scores": REAL, "end_scores": REAL},
    claims=Claims(non_negative=True, convex=True),
    source="Lafferty, McCallum & Pereira (2001), Conditional Random Fields, sec. 3, eq. 1, for a chain.",
    peers=("torchcrf.CRF", "tensorflow_addons.text.crf_log_likelihood"),
    counts=sequences_with_places,
)
def crf(
    logits: Float[ArrayLike, "*rows places classes"],
    labels: Integer[ArrayLike, "*rows places"],
    *,
    transitions: Float[ArrayLike, "classes classes"] | None = None,
    start_scores: Float[ArrayLike, " classes"] | None = None,
    end_scores: Float[ArrayLike, " classes"] | None = None,
    where: Bool[ArrayLike, "*rows places"] | None = None,
) -> Float[Array, "*rows"]:
    """Negative log-likelihood of a chain of labels under the scores of its places and of its transitions.

        ℓ = log Σ_c e^{s(c) − s(y)},    ∂ℓ/∂z_tk = P(c_t = k) − [y_t = k]
        s(c) = Σ_t z_t(c_t) + Σ_t A(c_t, c_{t+1}) + a(c_1) + b(c_T)

    over all chains c of classes. Without A it is the sum of the places' cross-entropies. The derivative in A
    is the number of times that each transition is expected, less the number of times that it is made. Never
    negative, and no digit is lost where the labels are all but certain.

    Args:
        logits: z, the emission scores, floating point, `[*rows, places, classes]`.
        labels: y, class ids (the tags), integer, `[*rows, places]`.
        transitions: A, `[classes, classes]`, the score of going from a class to the next; 0. −∞ forbids.
        start_scores: a, `[classes]`, the score of starting with a class; 0.
        end_scores: b, `[classes]`, the score of ending with a class; 0.
        where: bool, `[*rows, places]`, the places that there are: a chain steps over the others, which may
            hold NaN. A `jl.mean` given it leaves out the sequences that have none.

    Returns:
        The loss of each sequence, in nats; 0 for one without places, ∞ where the labels' own score is −∞.
        NaN, with NaN gradient, where a label is out of range.

    Raises:
        TypeError: logits that are not floating point, labels that are not integer, a mask that is not bool.
        ValueError: shapes that do not fit.

    """
    who = "sequence.crf"
    logits, labels, there = tagged(who, where, logits=logits, labels=labels)
    scores = {
        "transitions": (transitions, 2),
        "start_scores": (start_scores, 1),
        "end_scores": (end_scores, 1),
    }
    sound = named(who, logits, labels, there)
    # No mask keeps the NaN of a wrong label from any derivative of its row.
    there |= jnp.isnan(sound)[..., None]
    return sound * numerics.chain_surprise(logits, labels, there, *class_scores(who, logits, **scores))
