"""Losses of a whole labelled image: how much of what is predicted and what is there is not shared."""

import math

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Integer, Real

from jaxloss import numerics
from jaxloss._contracts import (
    CLASSES,
    CLASSES_OR_ONE_HOT,
    FOREGROUND,
    NON_NEGATIVE,
    POSITIVE,
    REAL,
    binary_segmented,
    each_class,
    pixels_kept,
    segmented,
    segmented_whole,
)
from jaxloss._loss import Claims, loss

Labels = Integer[ArrayLike, "batch *space"] | Float[ArrayLike, "batch *space classes"]
Pixels = Bool[ArrayLike, "..."]


def _examples_with_pixels(
    logits: Array,
    labels: Array,
    *,
    where: ArrayLike | None = None,
    ignore_index: int | Array | None = None,
    **_: object,
) -> Array | None:
    """The examples of a mean: those with any pixel kept."""
    if where is None and ignore_index is None:
        return None
    pixels = logits.shape[: labels.ndim] if jnp.issubdtype(labels.dtype, jnp.integer) else logits.shape[:-1]
    return _with_any(pixels_kept("mean", labels, pixels, where, ignore_index))


def _images_with_pixels(
    logits: Array,
    labels: Array,
    *,
    where: ArrayLike | None = None,
    ignore_index: int | Array | None = None,
    **_: object,
) -> Array | None:
    """The same of logits that have no classes."""
    if where is None and ignore_index is None:
        return None
    # As numbers, in which the loss compares them: 255 as a bool is 1.
    numbers = labels.astype(jnp.float32)
    return _with_any(pixels_kept("mean", numbers, logits.shape, where, ignore_index))


def _with_any(kept: Array) -> Array:
    return jnp.any(kept, axis=tuple(range(1, kept.ndim)))


def _confusion(
    who: str,
    logits: ArrayLike,
    labels: ArrayLike,
    where: ArrayLike | None,
    ignore_index: int | Array | None,
) -> tuple[Array, Array, Array]:
    """Σ p t, Σ p (1 − t) and Σ (1 − p) t over the kept pixels of each example, `[batch, K]` each."""
    logits, shares, kept = segmented(who, where, ignore_index, logits=logits, labels=labels)
    predicted, rest = numerics.probabilities(logits)
    predicted = jnp.where(kept[..., None], predicted, 0)
    pixels = tuple(range(1, logits.ndim - 1))
    shared = jnp.sum(predicted * shares, axis=pixels)
    # (1 − p) t and not t − p t: of a class that is all but right that would have no digit left.
    return shared, jnp.sum(predicted * (1 - shares), axis=pixels), jnp.sum(rest * shares, axis=pixels)


def _mean_of_classes(who: str, losses: Array, class_weights: ArrayLike | None) -> Array:
    """Σ_c w ℓ / K, so that a weight scales what its class costs, and no other's."""
    weights = each_class(who, "class_weights", class_weights, losses)
    return jnp.mean(losses if weights is None else weights * losses, axis=-1)


_SEGMENTED = {"logits": REAL, "labels": CLASSES}
_OVERLAP = Claims(non_negative=True, symmetric=True, bounded=1.0)


@loss(
    "segmentation",
    domain=_SEGMENTED,
    options={"class_weights": NON_NEGATIVE, "smooth": NON_NEGATIVE},
    claims=_OVERLAP,
    source="Milletari, Navab & Ahmadi (2016), V-Net, sec. 3; Optax's dice_loss for smooth.",
    counts=_examples_with_pixels,
    peers=(
        "optax.losses.dice_loss",
        "keras.losses.Dice",
        "monai.losses.DiceLoss",
    ),
)
def dice(
    logits: Float[ArrayLike, "batch *space classes"],
    labels: Labels,
    *,
    class_weights: Float[ArrayLike, " classes"] | None = None,
    smooth: float | Array = 1.0,
    where: Pixels | None = None,
    ignore_index: int | Array | None = None,
) -> Float[Array, " batch"]:
    """One minus the Dice coefficient of the softmax and the labels, its mean over the classes.

        ℓ = mean_c w (½F + ½M) / (I + ½F + ½M + s),    I = Σ p t,  F = Σ p (1 − t),  M = Σ (1 − p) t
        ∂ℓ/∂p = w (½ (1 − 2t) (I + s) − t (½F + ½M)) / (I + ½F + ½M + s)² / K at each class

    The same as 1 − (I + s) / (½Σp + ½Σt + s), without the difference: it keeps its digits near 0.
    At ½ and ½ it is `tversky`, and without s the 1 − 2I / (Σp + Σt) of the paper, with p and not p²
    below. A class that neither is nor is expected costs nothing. Of two classes pass both logits, `[..., 2]`.

    Args:
        logits: floating point, `[batch, *space, classes]`, two classes or more.
        labels: class ids, integer `[batch, *space]`, or distributions, floating, of the logits' shape.
        class_weights: `[classes]`, w ≥ 0, what each class counts; [0, 2] is the second of two alone, a
            foreground's.
        smooth: s ≥ 0, in pixels, what an absent class's coefficient is drawn to 1 by. At 0 a class that is
            not there costs all as soon as any of it is predicted, and has no gradient.
        where: bool, `[batch, *space]` or of size 1 along some axes: the pixels to keep. An example with
            none has loss 0, and a `jl.mean` leaves it out.
        ignore_index: a class id whose pixels are left out.

    Returns:
        The loss of each example, in [0, 1]; NaN, with NaN gradient, in one with an id out of range or a
        pixel whose labels are no distribution.

    Raises:
        TypeError: logits that are not floating point; integer labels of their shape; a mask that is not bool.
        ValueError: shapes that do not fit, fewer than two classes, a concrete option that is negative.

    """
    who = "segmentation.dice"
    shared, false, missed = _confusion(who, logits, labels, where, ignore_index)
    losses = numerics.share(0.5 * false + 0.5 * missed, shared + smooth)
    return _mean_of_classes(who, losses, class_weights)


@loss(
    "segmentation",
    domain=_SEGMENTED,
    claims=_OVERLAP,
    source="Sudre et al. (2017), Generalised Dice overlap as a deep learning loss function for highly "
    "unbalanced segmentations, sec. 2.1.",
    counts=_examples_with_pixels,
    peers=("optax.losses.multiclass_generalized_dice_loss",),
)
def generalized_dice(
    logits: Float[ArrayLike, "batch *space classes"],
    labels: Labels,
    *,
    where: Pixels | None = None,
    ignore_index: int | Array | None = None,
) -> Float[Array, " batch"]:
    """One minus the Dice coefficient of all classes at once, each weighted by its rarity.

        ℓ = Σ_c w_c (F + M) / Σ_c w_c (2I + F + M),    w_c = 1 / (Σ t)²
        ∂ℓ/∂p = w_c ((1 − 2t) S − 2t E) / (S + E)²,    E = Σ_c w_c (F + M), S = Σ_c 2 w_c I

    with I, F and M as for `dice`. The weights count pixels and are no part of the derivative. A class that
    is not in the example has the weight of the rarest that is: with 1/0, or one over a small number, it
    would outweigh all the others, and the loss would be blind to them.

    Args and errors as for `dice`, without its smooth: the sum of all classes is never 0.
    """
    shared, false, missed = _confusion("segmentation.generalized_dice", logits, labels, where, ignore_index)
    sizes = lax.stop_gradient(shared + missed)
    rarest = jnp.min(sizes, axis=-1, keepdims=True, where=sizes > 0, initial=jnp.inf)
    weights = jnp.where(sizes == 0, 1, jnp.square(rarest / jnp.where(sizes == 0, 1, sizes)))
    return numerics.share(
        jnp.sum(weights * (false + missed), axis=-1), jnp.sum(2 * weights * shared, axis=-1)
    )


@loss(
    "segmentation",
    domain=_SEGMENTED,
    options={
        "alpha": NON_NEGATIVE,
        "beta": NON_NEGATIVE,
        "class_weights": NON_NEGATIVE,
        "smooth": NON_NEGATIVE,
    },
    claims=_OVERLAP,
    source="Salehi, Erdogmus & Gholipour (2017), Tversky loss function for image segmentation using 3D "
    "fully convolutional deep networks, eq. 2.",
    counts=_examples_with_pixels,
    peers=("keras.losses.Tversky",),
)
def tversky(
    logits: Float[ArrayLike, "batch *space classes"],
    labels: Labels,
    *,
    alpha: float | Array = 0.5,
    beta: float | Array = 0.5,
    class_weights: Float[ArrayLike, " classes"] | None = None,
    smooth: float | Array = 1.0,
    where: Pixels | None = None,
    ignore_index: int | Array | None = None,
) -> Float[Array, " batch"]:
    """`dice` with a price for what is predicted and not there, and another for what is there and missed.

        ℓ = mean_c w E / (I + E + s),    E = αF + βM
        ∂ℓ/∂p = w ((α (1 − t) − β t) (I + s) − t E) / (I + E + s)² / K at each class

    with I, F and M as for `dice`, which it is at ½ and ½; at 1 and 1 it is `jaccard`. α is the price of a
    false positive, as in the paper.

    Args:
        logits: floating point, `[batch, *space, classes]`, two classes or more.
        labels: class ids, integer `[batch, *space]`, or distributions, floating, of the logits' shape.
        alpha: α ≥ 0, what a false positive costs.
        beta: β ≥ 0, what a false negative costs.
        class_weights: `[classes]`, w ≥ 0, as for `dice`.
        smooth: s ≥ 0, in pixels, as for `dice`.
        where: bool, the pixels to keep, as for `dice`.
        ignore_index: a class id whose pixels are left out.

    Returns:
        The loss of each example, in [0, 1]; NaN as for `dice`.

    Raises:
        TypeError: logits that are not floating point; integer labels of their shape; a mask that is not bool.
        ValueError: shapes that do not fit, fewer than two classes, a concrete option that is negative.

    """
    who = "segmentation.tversky"
    shared, false, missed = _confusion(who, logits, labels, where, ignore_index)
    losses = numerics.share(alpha * false + beta * missed, shared + smooth)
    return _mean_of_classes(who, losses, class_weights)


@loss(
    "segmentation",
    domain=_SEGMENTED,
    options={
        "alpha": NON_NEGATIVE,
        "beta": NON_NEGATIVE,
        "gamma": POSITIVE,
        "class_weights": NON_NEGATIVE,
        "smooth": NON_NEGATIVE,
    },
    claims=_OVERLAP,
    source="Abraham & Khan (2019), A Novel Focal Tversky Loss Function with Improved Attention U-Net for "
    "Lesion Segmentation, eq. 4.",
    counts=_examples_with_pixels,
)
def focal_tversky(
    logits: Float[ArrayLike, "batch *space classes"],
    labels: Labels,
    *,
    alpha: float | Array = 0.3,
    beta: float | Array = 0.7,
    gamma: float | Array = 4 / 3,
    class_weights: Float[ArrayLike, " classes"] | None = None,
    smooth: float | Array = 1.0,
    where: Pixels | None = None,
    ignore_index: int | Array | None = None,
) -> Float[Array, " batch"]:
    """The root of the Tversky loss of each class, which presses on where a class is all but right.

        ℓ = mean_c w τ^(1/γ),    ∂ℓ/∂τ = w τ^(1/γ − 1) / γ / K,    τ = E / (I + E + s) as for `tversky`

    At τ = 0 the derivative, infinite for γ > 1, is taken as 0. The paper's defaults; its α, the price of
    what is missed, is β here as it is for `tversky`.

    Args:
        logits: floating point, `[batch, *space, classes]`, two classes or more.
        labels: class ids, integer `[batch, *space]`, or distributions, floating, of the logits' shape.
        alpha: α ≥ 0, what a false positive costs.
        beta: β ≥ 0, what a false negative costs.
        gamma: γ > 0; above 1 small losses count more, at 1 it is `tversky`.
        class_weights: `[classes]`, w ≥ 0, as for `dice`.
        smooth: s ≥ 0, in pixels, as for `dice`.
        where: bool, the pixels to keep, as for `dice`.
        ignore_index: a class id whose pixels are left out.

    Returns:
        The loss of each example, in [0, 1]; NaN as for `dice`.

    Raises:
        TypeError: logits that are not floating point; integer labels of their shape; a mask that is not bool.
        ValueError: shapes that do not fit, fewer than two classes, a concrete option out of range.

    """
    who = "segmentation.focal_tversky"
    shared, false, missed = _confusion(who, logits, labels, where, ignore_index)
    unshared = numerics.share(alpha * false + beta * missed, shared + smooth)
    losses = numerics.power(unshared, 1 / jnp.asarray(gamma, unshared.dtype))
    return _mean_of_classes(who, losses, class_weights)


@loss(
    "segmentation",
    domain=_SEGMENTED,
    options={"class_weights": NON_NEGATIVE, "smooth": NON_NEGATIVE},
    claims=_OVERLAP,
    source="Rahman & Wang (2016), Optimizing Intersection-Over-Union in Deep Neural Networks for Image "
    "Segmentation, eq. 4 and 5.",
    counts=_examples_with_pixels,
)
def jaccard(
    logits: Float[ArrayLike, "batch *space classes"],
    labels: Labels,
    *,
    class_weights: Float[ArrayLike, " classes"] | None = None,
    smooth: float | Array = 1.0,
    where: Pixels | None = None,
    ignore_index: int | Array | None = None,
) -> Float[Array, " batch"]:
    """One minus the intersection of the softmax and the labels over their union, its mean over the classes.

        ℓ = mean_c w (F + M) / (I + F + M + s)
        ∂ℓ/∂p = w ((1 − 2t) (I + s) − t (F + M)) / (I + F + M + s)² / K at each class

    Args and errors as for `dice`, with I, F and M.
    """
    who = "segmentation.jaccard"
    shared, false, missed = _confusion(who, logits, labels, where, ignore_index)
    losses = numerics.share(false + missed, shared + smooth)
    return _mean_of_classes(who, losses, class_weights)


@loss(
    "segmentation",
    domain={"logits": REAL, "labels": FOREGROUND},
    claims=Claims(non_negative=True, convex=True, lipschitz=1.0),
    source="Berman, Rannen Triki & Blaschko (2018), The Lovász-Softmax loss, eq. 8 to 10 and alg. 1.",
    counts=_images_with_pixels,
)
def lovasz_hinge(
    logits: Float[ArrayLike, "batch *space"],
    labels: Real[ArrayLike, "batch *space"],
    *,
    where: Pixels | None = None,
    ignore_index: int | Array | None = None,
) -> Float[Array, " batch"]:
    """The convex surrogate of the Jaccard loss of a foreground, over the hinge errors of its pixels.

        ℓ = Σ_i max(e_i, 0) g_i,    e = 1 − z (2y − 1),    ∂ℓ/∂z = −(2y − 1) g where e > 0

    with g_i the Jaccard loss that a pixel adds to those of larger error, once it is wrong as well. At e = 0
    the derivative is taken as 0; of equal errors the first pixel is the first. One sort of the pixels, a
    second for the gradient.

    Args:
        logits: floating point, `[batch, *space]`.
        labels: 0 or 1, of the same shape: what is foreground.
        where: bool, of the same shape or of size 1 along some axes: the pixels to keep. An example with
            none has loss 0, and a `jl.mean` leaves it out.
        ignore_index: a label, 0, 1 or another, whose pixels are left out.

    Returns:
        The loss of each example; NaN, with NaN gradient, in one with another label.

    Raises:
        TypeError: logits that are not floating point; a mask that is not bool.
        ValueError: shapes that do not fit.

    """
    logits, labels, kept = binary_segmented(
        "segmentation.lovasz_hinge", where, ignore_index, logits=logits, labels=labels
    )
    errors = jnp.where(kept, 1 - logits * (2 * labels - 1), 0)
    return numerics.lovasz_jaccard(_flat(errors), _flat(labels))


def _flat(pixels: Array) -> Array:
    """`[batch, pixels]`."""
    return pixels.reshape(pixels.shape[0], math.prod(pixels.shape[1:]))


@loss(
    "segmentation",
    domain={"logits": REAL, "labels": CLASSES_OR_ONE_HOT},
    claims=Claims(non_negative=True, symmetric=True, bounded=1.0, lipschitz=2**0.5 / 4),
    source="Berman, Rannen Triki & Blaschko (2018), The Lovász-Softmax loss, eq. 11 and alg. 1.",
    counts=_examples_with_pixels,
)
def lovasz_softmax(
    logits: Float[ArrayLike, "batch *space classes"],
    labels: Labels,
    *,
    where: Pixels | None = None,
    ignore_index: int | Array | None = None,
) -> Float[Array, " batch"]:
    """The Lovász extension of the Jaccard loss, its mean over the classes that an example has.

        ℓ = mean_c Σ_i e_ic g_ic,    e = 1 − p where c is the label, p elsewhere,    p = softmax z
        ∂ℓ/∂p = (1 − 2 [c = y]) g / C at each class that is there

    with C their number and g as for `lovasz_hinge`, of each class. At equal errors the first pixel is the
    first. One sort of the pixels of each class, a second for the gradient.

    Args:
        logits: floating point, `[batch, *space, classes]`, two classes or more.
        labels: class ids, integer `[batch, *space]`, or one-hot rows, floating, of the logits' shape.
        where: bool, `[batch, *space]` or of size 1 along some axes: the pixels to keep. An example with
            none has loss 0, and a `jl.mean` leaves it out.
        ignore_index: a class id whose pixels are left out.

    Returns:
        The loss of each example, in [0, 1]; NaN, with NaN gradient, in one with an id out of range or a
        row that is not one-hot.

    Raises:
        TypeError: logits that are not floating point; integer labels of their shape; a mask that is not bool.
        ValueError: shapes that do not fit, fewer than two classes.

    """
    who = "segmentation.lovasz_softmax"
    logits, shares, kept = segmented_whole(who, where, ignore_index, logits=logits, labels=labels)
    predicted, rest = numerics.probabilities(logits)
    errors = jnp.where(kept[..., None], jnp.where(shares > 0, rest, predicted), 0)
    by_class = (jax.vmap(_flat, in_axes=-1, out_axes=1)(a) for a in (errors, shares))
    losses = numerics.lovasz_jaccard(*by_class)
    there = jnp.any(shares != 0, axis=tuple(range(1, shares.ndim - 1)))
    total = jnp.sum(jnp.where(there, losses, 0), axis=-1)
    return numerics.divide(total, jnp.sum(there, axis=-1, dtype=losses.dtype))
