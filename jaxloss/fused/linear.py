"""Cross-entropy of the logits `features @ kernel + bias`, of which no more than a chunk of rows is there."""

from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxloss import numerics
from jaxloss._contracts import (
    HALF_OPEN_UNIT,
    NON_NEGATIVE,
    POSITIVE,
    Labels,
    compute_dtype,
    counted,
    for_classes,
    headed,
    labelled,
    one_number,
    rows_a_chunk,
    sound,
)
from jaxloss._loss import fused
from jaxloss.fused._backends import chosen
from jaxloss.fused._heads import Head, Plan, Rows

_WHO = "fused.linear_cross_entropy"
_RANGES = {
    "class_weights": NON_NEGATIVE,
    "gradient_filter": HALF_OPEN_UNIT,
    "label_smoothing": HALF_OPEN_UNIT,
    "logit_softcap": POSITIVE,
    "temperature": POSITIVE,
    "z_loss": NON_NEGATIVE,
}


def _counts(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    ignore_index: int | Array | None = None,
    **_: object,
) -> Array | None:
    """The rows of a mean: all but those whose id is the one to ignore."""
    del kernel
    return counted(jnp.asarray(features), jnp.asarray(labels), ignore_index=ignore_index)


def _total(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    weights: Array,
    where: Array | None = None,
    **options: Any,
) -> Array:
    """Σ w ℓ over all rows."""
    backend = chosen(_WHO, options.pop("backend", "auto"))
    plan, rows, _ = _prepared(features, kernel, labels, weights, where, **options)
    return backend.weighted_total(plan, rows)


@fused(total=_total, options=_RANGES, counts=_counts)
def linear_cross_entropy(
    features: Float[ArrayLike, "*rows features"],
    kernel: Float[ArrayLike, "_ _"],
    labels: Labels,
    *,
    bias: Float[ArrayLike, " classes"] | None = None,
    label_smoothing: float | Array = 0.0,
    class_weights: Float[ArrayLike, " classes"] | None = None,
    z_loss: float | Array = 0.0,
    logit_softcap: float | Array | None = None,
    temperature: float | Array = 1.0,
    ignore_index: int | Array | None = None,
    kernel_layout: str = "dv",
    chunk_size: int | str = "auto",
    backend: str = "auto",
    gradient_filter: float | Array | None = None,
) -> Float[Array, "*rows"]:
    """`categorical.cross_entropy(features @ kernel + bias, labels)` without the array of all logits.

        ℓ = −Σ w t log p + c Z²,    ∂ℓ/∂x = W (∂ℓ/∂z),    ∂ℓ/∂W = x (∂ℓ/∂z)ᵀ,
        ∂ℓ/∂z = (p Σ w t − w t + 2 c Z p) / T · dz̄/dz

    with logits z = xW + b, z̄ = s tanh(z/s) under a cap s, p = softmax(z̄/T), Z = log Σ e^(z̄/T), and t the
    label's distribution, smoothed to (1 − α) t + α/V. Value and every derivative are those of the reference.

    In `jl.mean`, `jl.sum` and `jl.partial_mean` a value costs one product of matrices and a value with
    its gradient three, which is the least there is; two where only features or only the kernel are
    differentiated. Called bare, it makes the logits of each chunk once more for a derivative: four.

    Args:
        features: x, floating point, `[*rows, D]`.
        kernel: W, floating point, `[D, V]`, or `[V, D]` with `kernel_layout="vd"`: a table of embeddings.
        labels: class ids, integer `[*rows]`, or distributions, floating `[*rows, V]`.
        bias: b, `[V]`.
        label_smoothing: α in [0, 1), spread over the classes.
        class_weights: w, `[V]`, ≥ 0, what each class counts.
        z_loss: c ≥ 0, the coefficient that keeps the normaliser near 1.
        logit_softcap: s > 0, which no logit passes; None for no cap.
        temperature: T > 0, what the logits, capped, are divided by.
        ignore_index: a class id whose rows have loss 0, and which a `jl.mean` leaves out.
        kernel_layout: "dv" or "vd", the order of the kernel's axes.
        chunk_size: how many rows have logits at a time; "auto" goes by their bytes.
        backend: "auto", or the name of the one to use.
        gradient_filter: ε: the classes of a chunk in which no |∂ℓ/∂z| is above ε are left out of the
            products for the gradient. Per unit of weight that moves ∂ℓ/∂x by ε Σ_c ‖W_c‖ at most, and an
            entry of ∂ℓ/∂W by ε Σ |x|. Only in the reductions, where the weights are known.

    Returns:
        The loss of each row, in nats, in float32 at least; NaN, with NaN gradient, in a row whose id is
        out of range or whose labels are no distribution.

    Raises:
        TypeError: features or a kernel that are not floating point; a chunk size that is not known.
        ValueError: shapes that do not fit; a concrete option out of range; a backend that cannot run.

    Reference:
        Hsu et al. (2024), Liger Kernel, for the gradient made beside the value; Wijmans et al. (2024),
        Cut Your Losses in Large-Vocabulary Language Models, for the filter.

    """
    plan, rows, shape = _prepared(
        features,
        kernel,
        labels,
        None,
        None,
        bias=bias,
        label_smoothing=label_smoothing,
        class_weights=class_weights,
        z_loss=z_loss,
        logit_softcap=logit_softcap,
        temperature=temperature,
        ignore_index=ignore_index,
        kernel_layout=kernel_layout,
        chunk_size=chunk_size,
        gradient_filter=gradient_filter,
    )
    return chosen(_WHO, backend).row_losses(plan, rows).reshape(shape)


def _prepared(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    weights: Array | None,
    where: Array | None,
    *,
    bias: ArrayLike | None = None,
    class_weights: ArrayLike | None = None,
    ignore_index: int | Array | None = None,
    kernel_layout: str = "dv",
    chunk_size: int | str = "auto",
    gradient_filter: float | Array | None = None,
    **numbers: Any,
) -> tuple[Plan, Rows, tuple[int, ...]]:
    """The arguments checked, the rows on one axis; third, the rows' shape."""
    features, kernel, bias = headed(_WHO, kernel_layout, bias, features=features, kernel=kernel)
    one_number(_WHO, gradient_filter=gradient_filter, **numbers)
    shape, classes = features.shape[:-1], kernel.shape[kernel_layout.index("v")]
    labels, kept = labelled(_WHO, labels, classes, where, ignore_index, features=features)
    dtype = compute_dtype(features)
    given = {"class_weights": for_classes(_WHO, "class_weights", class_weights, classes, dtype)}
    given |= {name: number for name, number in numbers.items() if not _is_idle(name, number)}
    negligible = None if gradient_filter is None else jnp.asarray(gradient_filter, dtype)
    rows = Rows(
        heads=(Head(features.reshape(-1, features.shape[-1]), kernel, bias),),
        own=(labels,),
        shared={name: jnp.asarray(value, dtype) for name, value in given.items() if value is not None},
        weights=(jnp.ones(shape, dtype) if weights is None else weights.astype(dtype)).reshape(-1),
        kept=kept,
        negligible=None if negligible is None else lax.stop_gradient(negligible),
    )
    return Plan(_surprises, kernel_layout, rows_a_chunk(_WHO, chunk_size)), rows, shape


def _is_idle(name: str, number: float | Array | None) -> bool:
    """Whether an option is known, when traced, to change nothing."""
    nothing = 1 if name == "temperature" else 0
    return number is None or (isinstance(number, (int, float)) and number == nothing)


def _surprises(
    logits: Array,
    labels: Array,
    *,
    class_weights: Array | None = None,
    label_smoothing: Array | None = None,
    z_loss: Array | None = None,
    logit_softcap: Array | None = None,
    temperature: Array | None = None,
) -> Array:
    """`categorical.cross_entropy` of the logits, capped and divided."""
    if logit_softcap is not None:
        logits = numerics.soft_cap(logits, logit_softcap)
    if temperature is not None:
        logits = logits / temperature
    if labels.ndim < logits.ndim:
        losses, normaliser = _of_ids(logits, labels, class_weights, label_smoothing)
    else:
        losses = _of_distributions(logits, labels, class_weights, label_smoothing)
        normaliser = numerics.logsumexp(logits)
    return losses if z_loss is None else losses + z_loss * normaliser * normaliser


def _of_ids(logits: Array, ids: Array, weights: Array | None, smoothing: Array | None) -> tuple[Array, Array]:
    """−w_y log p_y, or that smoothed as in `categorical.cross_entropy`; and log Σ e^z."""
    surprise, log_sum = numerics.surprise_and_log_normaliser(logits, ids)
    classes = logits.shape[-1]
    losses, shares = surprise, jnp.full((1, classes), 1 / classes, logits.dtype)
    if weights is not None:
        losses = numerics.pick(jnp.broadcast_to(weights, logits.shape), ids) * surprise
        shares = shares * weights[None, :]
    if smoothing is not None:
        # −Σ w log p = Σ w (−log p_y + z_y − z): no array of every −log p.
        of_all = jnp.sum(shares) * (surprise + numerics.pick(logits, ids)) - jnp.sum(shares * logits, axis=-1)
        losses = (1 - smoothing) * losses + smoothing * of_all
    return losses, log_sum + numerics.class_pivot(logits)


def _of_distributions(logits: Array, labels: Array, weights: Array | None, smoothing: Array | None) -> Array:
    """Σ −w t log p of distributions."""
    weights = None if weights is None else jnp.broadcast_to(weights, logits.shape)
    return numerics.class_surprise(logits, sound(labels, logits.dtype), weights, smoothing)
