"""Losses of a sequence of logits, with paddings for masks: 1 where nothing stands, 0 where something does."""

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Integer, Real

from jaxloss import numerics
from jaxloss._contracts import compute_dtype
from jaxloss.adapters.optax_losses._shapes import Number, one_call
from jaxloss.losses import sequence

Logits = Float[ArrayLike, "rows frames classes"]
Labels = Integer[ArrayLike, "rows labels"]
FramePaddings = Real[ArrayLike, "rows frames"] | Bool[ArrayLike, "rows frames"]
LabelPaddings = Real[ArrayLike, "rows labels"] | Bool[ArrayLike, "rows labels"]
_Pair = tuple[Array, Array]


@one_call("blank_id")
def ctc_loss(
    logits: Logits,
    logit_paddings: FramePaddings,
    labels: Labels,
    label_paddings: LabelPaddings,
    *,
    blank_id: int = 0,
    log_epsilon: Number = -1e5,
) -> Float[Array, " rows"]:
    """`sequence.ctc`: never negative, ∞ where frames are too few, NaN for a label that names no class.

    Labels may be padded anywhere. Nothing is approximated, so `log_epsilon` has no use.
    """
    del log_epsilon
    frames, there = jnp.asarray(logit_paddings) == 0, jnp.asarray(label_paddings) == 0
    return sequence.ctc(logits, labels, logit_where=frames, label_where=there, blank=blank_id)


@one_call("blank_id")
def ctc_loss_with_forward_probs(
    logits: Logits,
    logit_paddings: FramePaddings,
    labels: Labels,
    label_paddings: LabelPaddings,
    *,
    blank_id: int = 0,
    log_epsilon: Number = -1e5,
) -> tuple[Float[Array, " rows"], Float[Array, "frames rows _"], Float[Array, "frames rows labels"]]:
    """`ctc_loss`, and the logarithms of what a forward pass has summed at each frame.

    First, `[frames, rows, labels + 1]`, of having said n labels and then a blank (after the last frame: of
    having said them at all); second, `[frames, rows, labels]`, of saying the n-th label. What cannot be is
    `log_epsilon`.
    """
    losses = ctc_loss(logits, logit_paddings, labels, label_paddings, blank_id=blank_id)
    logits = jnp.asarray(logits)
    logs = -numerics.surprises(logits.astype(compute_dtype(logits)))
    frames = jnp.asarray(logit_paddings) == 0
    blanks, spoken = _forward(logs, frames, jnp.asarray(labels), blank_id)
    least = jnp.asarray(log_epsilon, logs.dtype)
    blanks, spoken = (jnp.where(x == -jnp.inf, least, x) for x in (blanks, spoken))
    return losses, blanks, spoken


def _forward(logs: Array, frames: Array, labels: Array, blank: int) -> tuple[Array, Array]:
    """The sums of Graves et al. (2006), eq. 5 to 8, in logarithms; a frame that is not there adds nothing."""
    rows, count = labels.shape
    named = jnp.where(labels < 0, logs.shape[-1], labels)[:, None, :]
    of_labels = jnp.take_along_axis(logs, named, axis=-1, mode="fill", fill_value=-jnp.inf)
    changes = jnp.concatenate([jnp.ones((rows, 1), bool), labels[:, 1:] != labels[:, :-1]], axis=1)[:, :count]

    def step(
        state: tuple[Array, Array], frame: tuple[Array, ...]
    ) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        blanks, spoken = state
        of_blank, of_label, there = frame
        said = _said(blanks, spoken)
        # Between two labels that are one there must be a blank.
        before = jnp.where(changes, said[:, :-1], blanks[:, :-1])
        state = (
            jnp.where(there, said + of_blank, blanks),
            jnp.where(there, numerics.log_add(before, spoken) + of_label, spoken),
        )
        return state, state

    nothing = jnp.full((rows, count), -jnp.inf, logs.dtype)
    start = jnp.concatenate([jnp.zeros((rows, 1), logs.dtype), nothing], axis=1), nothing
    steps = (logs[..., blank : blank + 1], of_labels, frames[..., None])
    _, (blanks, spoken) = lax.scan(step, start, tuple(jnp.swapaxes(x, 0, 1) for x in steps))
    return blanks.at[-1].set(_said(blanks[-1], spoken[-1])), spoken


def _said(blanks: Array, spoken: Array) -> Array:
    """Of having said n labels, whatever came last."""
    return jnp.concatenate([blanks[:, :1], numerics.log_add(blanks[:, 1:], spoken)], axis=1)
