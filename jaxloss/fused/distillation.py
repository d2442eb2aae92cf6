"""Divergences between a student's and a teacher's softmax, of whose logits only a chunk of rows is there."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxloss import numerics
from jaxloss._contracts import (
    OPEN_UNIT,
    POSITIVE,
    UNIT,
    Labels,
    compute_dtype,
    headed,
    labelled,
    one_number,
    rows_a_chunk,
    same_heads,
    sound,
)
from jaxloss._loss import fused
from jaxloss.fused._backends import chosen
from jaxloss.fused._heads import Head, Plan, Rows


class _Divergence(NamedTuple):
    """A name for errors, and the row loss of two arrays of logits."""

    name: str
    losses: Callable[..., Array]

    def total(self, *data: ArrayLike, backend: str = "auto", **options: Any) -> Array:
        """Σ w ℓ over all rows."""
        plan, rows, _ = _prepared(self, *data, **options)
        return chosen(self.name, backend).weighted_total(plan, rows)

    def rows(self, *data: Any, backend: str, **options: Any) -> Array:
        """One number a row."""
        plan, rows, shape = _prepared(self, *data, **options)
        return chosen(self.name, backend).row_losses(plan, rows).reshape(shape)


def _softened(logits: Array, temperature: Array | float) -> Array:
    """The differences of the logits, divided: an offset they share would be rounded by the division."""
    return (logits - numerics.class_pivot(logits)[:, None]) / temperature


def _distillation(
    student: Array,
    teacher: Array,
    labels: Array | None = None,
    *,
    temperature: Array | float = 1.0,
    alpha: Array | float = 1.0,
) -> Array:
    """`divergence.distillation` of logits."""
    softer, target = _softened(student, temperature), _softened(teacher, temperature)
    softened = alpha * (temperature * (temperature * numerics.softmax_divergence(softer, target)))
    if labels is None:
        return softened
    if labels.ndim == student.ndim:
        labels = sound(labels, student.dtype)
    return softened + (1 - alpha) * numerics.class_surprise(student, labels, None, None)


def _jensen_shannon(
    student: Array, teacher: Array, *, temperature: Array | float = 1.0, beta: Array | float = 0.5
) -> Array:
    """T² times the mixture's divergences, class by class: no term cancels another."""
    logs = -numerics.surprises(_softened(student, temperature))
    shares = jnp.exp(-numerics.surprises(_softened(teacher, temperature)))
    share = jnp.broadcast_to(jnp.asarray(beta, logs.dtype), logs.shape)
    return temperature * (temperature * jnp.sum(numerics.mixture_entropy(logs, shares, share), axis=-1))


_DISTILLATION = _Divergence("fused.linear_distillation", _distillation)
_JENSEN_SHANNON = _Divergence("fused.linear_jensen_shannon", _jensen_shannon)


@fused(
    total=_DISTILLATION.total,
    options={"temperature": POSITIVE, "alpha": UNIT},
)
def linear_distillation(
    student_features: Float[ArrayLike, "*rows _"],
    student_kernel: Float[ArrayLike, "_ _"],
    teacher_features: Float[ArrayLike, "*rows _"],
    teacher_kernel: Float[ArrayLike, "_ _"],
    labels: Labels | None = None,
    *,
    student_bias: Float[ArrayLike, " classes"] | None = None,
    teacher_bias: Float[ArrayLike, " classes"] | None = None,
    temperature: float | Array = 1.0,
    alpha: float | Array = 1.0,
    kernel_layout: str = "dv",
    chunk_size: int | str = "auto",
    backend: str = "auto",
) -> Float[Array, "*rows"]:
    """`divergence.distillation` of the logits `features @ kernel + bias` without the arrays of all logits.

        ℓ = α T² Σ q (log q − log p) − (1 − α) log softmax(s)_y,
        ∂ℓ/∂s = α T (p − q) + (1 − α) (softmax(s) − e_y)

    With p = softmax(s/T) and q = softmax(r/T) for the logits s of the student and r of the teacher. In a
    reduction a value costs two products of matrices, and the student's gradient two more; so does the
    teacher's, if it is asked for.

    Args:
        student_features: floating point, `[*rows, D]`.
        student_kernel: `[D, V]`, or `[V, D]` with `kernel_layout="vd"`.
        teacher_features: floating point, `[*rows, E]`, of a width of their own.
        teacher_kernel: `[E, V]`, or `[V, E]`.
        labels: class ids, integer `[*rows]`, or distributions, floating `[*rows, V]`; may be left out.
        student_bias: `[V]`.
        teacher_bias: `[V]`.
        temperature: T > 0, what both logits are divided by.
        alpha: α in [0, 1], what the teacher counts beside the labels.
        kernel_layout: "dv" or "vd", the order of both kernels' axes.
        chunk_size: how many rows have logits at a time; "auto" goes by their bytes.
        backend: "auto", or the name of the one to use.

    Returns:
        The loss of each row, in nats; NaN in a row whose id is out of range.

    Raises:
        TypeError: features or kernels that are not floating point; a chunk size that is not known.
        ValueError: shapes that do not fit; a concrete option out of range; a backend that cannot run.

    Reference:
        Hinton et al. (2015), Distilling the Knowledge in a Neural Network, sec. 2.

    """
    options = {"student_bias": student_bias, "teacher_bias": teacher_bias, "kernel_layout": kernel_layout}
    options |= {"temperature": temperature, "alpha": alpha, "chunk_size": chunk_size}
    data = (student_features, student_kernel, teacher_features, teacher_kernel, labels)
    return _DISTILLATION.rows(*data, backend=backend, **options)


@fused(
    total=_JENSEN_SHANNON.total,
    options={"temperature": POSITIVE, "beta": OPEN_UNIT},
)
def linear_jensen_shannon(
    student_features: Float[ArrayLike, "*rows _"],
    student_kernel: Float[ArrayLike, "_ _"],
    teacher_features: Float[ArrayLike, "*rows _"],
    teacher_kernel: Float[ArrayLike, "_ _"],
    *,
    student_bias: Float[ArrayLike, " classes"] | None = None,
    teacher_bias: Float[ArrayLike, " classes"] | None = None,
    temperature: float | Array = 1.0,
    beta: float | Array = 0.5,
    kernel_layout: str = "dv",
    chunk_size: int | str = "auto",
    backend: str = "auto",
) -> Float[Array, "*rows"]:
    """`divergence.jensen_shannon` of two softmaxes, times T², without the arrays of all logits.

        ℓ = T² Σ β q log(q/m) + (1 − β) p log(p/m),    m = β q + (1 − β) p,
        ∂ℓ/∂s = T (1 − β) p (log(p/m) − Σ p log(p/m))

    With p = softmax(s/T) and q = softmax(r/T) for the logits s of the student and r of the teacher.

    Args and errors as for `linear_distillation`; beta: β in (0, 1), the teacher's share of the mixture.

    Returns:
        The loss of each row, in nats, at most T² log 2 at β = ½.

    Reference:
        Agarwal et al. (2024), On-Policy Distillation of Language Models, eq. 1.

    """
    options = {"student_bias": student_bias, "teacher_bias": teacher_bias, "kernel_layout": kernel_layout}
    options |= {"temperature": temperature, "beta": beta, "chunk_size": chunk_size}
    data = (student_features, student_kernel, teacher_features, teacher_kernel)
    return _JENSEN_SHANNON.rows(*data, backend=backend, **options)


def _prepared(
    divergence: _Divergence,
    student_features: ArrayLike,
    student_kernel: ArrayLike,
    teacher_features: ArrayLike,
    teacher_kernel: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    weights: Array | None = None,
    where: Array | None = None,
    student_bias: ArrayLike | None = None,
    teacher_bias: ArrayLike | None = None,
    kernel_layout: str = "dv",
    chunk_size: int | str = "auto",
    **numbers: Any,
) -> tuple[Plan, Rows, tuple[int, ...]]:
    """The arguments checked, the rows on one axis; third, the rows' shape."""
    who = divergence.name
    student = {"student_features": student_features, "student_kernel": student_kernel}
    teacher = {"teacher_features": teacher_features, "teacher_kernel": teacher_kernel}
    heads = (
        Head(*headed(who, kernel_layout, student_bias, **student)),
        Head(*headed(who, kernel_layout, teacher_bias, **teacher)),
    )
    axis, dtype = kernel_layout.index("v"), compute_dtype(heads[0].features, heads[1].features)
    same_heads(who, axis, **student | teacher)
    one_number(who, **numbers)
    shape, classes = heads[0].features.shape[:-1], heads[0].kernel.shape[axis]
    own, kept = (), None if where is None else where.reshape(-1)
    if labels is not None:
        of_rows, kept = labelled(who, labels, classes, where, student_features=heads[0].features)
        own = (of_rows,)
    rows = Rows(
        heads=tuple(h._replace(features=h.features.reshape(-1, h.features.shape[-1])) for h in heads),
        own=own,
        shared={name: jnp.asarray(number, dtype) for name, number in numbers.items()},
        weights=(jnp.ones(shape, dtype) if weights is None else weights.astype(dtype)).reshape(-1),
        kept=kept,
    )
    return Plan(divergence.losses, kernel_layout, rows_a_chunk(who, chunk_size)), rows, shape
