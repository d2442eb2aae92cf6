"""Two views of one row: a prediction, and a target that no derivative passes to."""

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxloss._contracts import POSITIVE, VECTORS, on_trailing_axes, vectors
from jaxloss._loss import Claims, loss
from jaxloss.numerics import class_pivot, cosine, expected_surprise, surprises, unit

_VIEWS = {"predictions": VECTORS, "targets": VECTORS}


@loss(
    "contrastive",
    domain=_VIEWS,
    claims=Claims(non_negative=True, bounded=4.0),
    source="Grill et al. (2020), Bootstrap Your Own Latent, eq. 2.",
)
def byol(
    predictions: Float[ArrayLike, "*rows features"], targets: Float[ArrayLike, "*rows features"]
) -> Float[Array, "*rows"]:
    """Squared distance of the directions of a prediction and of its target, which is a constant.

        ℓ = ‖p/‖p‖ − t/‖t‖‖² = 2 − 2 cos,    ∂ℓ/∂p = 2 (cos · p/‖p‖ − t/‖t‖) / ‖p‖

    No derivative passes to the targets: they come from the slowly moving network. The paper's loss adds
    the two views in each other's place. Rows do not depend on each other.

    Args:
        predictions: p, floating point, `[*rows, features]`, of any length; one of zeros has the value of
            a distance to 0, and no derivative.
        targets: t, of the same shape.

    Returns:
        The loss of each row, in [0, 4].

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes, or no last axis.

    """
    predictions, targets = vectors("contrastive.byol", predictions=predictions, targets=targets)
    apart = unit(predictions) - unit(lax.stop_gradient(targets))
    return jnp.sum(apart * apart, axis=-1)


@loss(
    "contrastive",
    domain=_VIEWS,
    claims=Claims(bounded=1.0),
    source="Chen & He (2021), Exploring Simple Siamese Representation Learning, eq. 1 and 3.",
)
def simsiam(
    predictions: Float[ArrayLike, "*rows features"], targets: Float[ArrayLike, "*rows features"]
) -> Float[Array, "*rows"]:
    """Minus the cosine of a prediction and of its target, which is a constant.

        ℓ = −cos(p, t),    ∂ℓ/∂p = (cos · p/‖p‖ − t/‖t‖) / ‖p‖

    No derivative passes to the targets: without that the two collapse to a constant. The paper's loss is
    the mean of the two views in each other's place. Rows do not depend on each other.

    Args:
        predictions: p, floating point, `[*rows, features]`, of any length; one of zeros has a loss of 0,
            and no derivative.
        targets: t, of the same shape.

    Returns:
        The loss of each row, in [−1, 1].

    Raises:
        TypeError: predictions that are not floating point.
        ValueError: two shapes, or no last axis.

    """
    predictions, targets = vectors("contrastive.simsiam", predictions=predictions, targets=targets)
    return -cosine(predictions, lax.stop_gradient(targets))


@loss(
    "contrastive",
    domain={"student_logits": VECTORS, "teacher_logits": VECTORS},
    options={"student_temperature": POSITIVE, "teacher_temperature": POSITIVE},
    claims=Claims(non_negative=True, convex=True, lipschitz=10 * 2.0**0.5, smooth=50.0),
    source="Caron et al. (2021), Emerging Properties in Self-Supervised Vision Transformers, eq. 1 and 4.",
)
def dino(
    student_logits: Float[ArrayLike, "*rows features"],
    teacher_logits: Float[ArrayLike, "*rows features"],
    *,
    centre: float | Float[Array, " features"] = 0.0,
    student_temperature: float | Array = 0.1,
    teacher_temperature: float | Array = 0.04,
) -> Float[Array, "*rows"]:
    """Cross-entropy of a student with a teacher that is centred, sharpened and a constant.

        ℓ = −Σ q log p,    ∂ℓ/∂s = (p − q) / τ_s,    p = softmax(s / τ_s), q = softmax((t − c) / τ_t)

    No derivative passes to the teacher. The centre is the caller's to keep: after each batch
    c ← m c + (1 − m) mean t. Rows do not depend on each other.

    Args:
        student_logits: s, floating point, `[*rows, features]`.
        teacher_logits: t, of the same shape.
        centre: c, `[features]`, what the teacher's logits have in common.
        student_temperature: τ_s > 0.
        teacher_temperature: τ_t > 0, below the student's.

    Returns:
        The loss of each row, in nats; at p = q it is the teacher's entropy.

    Raises:
        TypeError: student_logits that are not floating point.
        ValueError: shapes that do not fit; a concrete temperature that is not positive.

    """
    student, teacher = vectors(
        "contrastive.dino", student_logits=student_logits, teacher_logits=teacher_logits
    )
    centre = jnp.asarray(on_trailing_axes("contrastive.dino", "centre", centre, teacher), teacher.dtype)
    # From the largest, before an offset is divided.
    student, teacher = (x - class_pivot(x)[..., None] for x in (student, teacher - centre))
    sharpened = lax.stop_gradient(teacher / teacher_temperature)
    return expected_surprise(student / student_temperature, jnp.exp(-surprises(sharpened)))
