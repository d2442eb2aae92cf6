"""Losses as objectives of gradient boosting: XGBoost, LightGBM and CatBoost, none of which is imported."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxloss._contracts import class_ids, takes_class_ids
from jaxloss._loss import card_of, check_options, compiled, domain_of_labels, name_of

__all__ = ["Objective", "objective"]

RowLoss = Callable[..., Array]
Curvature = Literal["diagonal", "dominant"]

# A smaller curvature counts as this, as in XGBoost's logistic loss: rows that are surely right, whose
# curvature ends in rounding, must neither slow the others' step nor be divided by alone.
_LEAST = 1e-16


@dataclasses.dataclass(eq=False)  # not frozen: CatBoost leaves a mark on it
class Objective:
    """A loss as the three libraries call one; see `objective`. A class, for CatBoost looks for methods."""

    loss: RowLoss
    curvature: Curvature
    flat: float
    class_ids: bool
    options: Mapping[str, Any]

    def __call__(
        self, first: np.ndarray, second: Any, sample_weight: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Gradient and curvature, as XGBoost and LightGBM ask for them.

        Args:
            first: the predictions, where `second` is the training data; else the targets.
            second: a `DMatrix` or a `Dataset`, which brings targets and weights; else the predictions.
            sample_weight: the weights, from the scikit-learn interfaces alone.
        """
        if hasattr(second, "get_label"):
            return self._derivatives(first, second.get_label(), second.get_weight())
        return self._derivatives(second, first, sample_weight)

    def calc_ders_range(self, approxes: Any, targets: Any, weights: Any) -> list[tuple[float, float]]:
        """Both derivatives of minus the loss, which CatBoost maximises, for each of some rows.

        The rows come in containers of CatBoost's own.
        """
        gradient, curvature = self._derivatives(approxes, targets, weights)
        return list(zip((-gradient).tolist(), (-curvature).tolist(), strict=True))

    def calc_ders_multi(
        self, approxes: Any, target: float, weight: float | None
    ) -> tuple[list[float], list[list[float]]]:
        """The same of one row with several outputs; the second derivative is the diagonal matrix."""
        weights = None if weight is None else [weight]
        gradient, curvature = self._derivatives([approxes], [target], weights)
        return (-gradient[0]).tolist(), np.diag(-curvature[0]).tolist()

    def _derivatives(self, predictions: Any, targets: Any, weights: Any) -> tuple[np.ndarray, np.ndarray]:
        outputs = np.asarray(predictions)
        labels = np.asarray(targets)
        # Class ids, which these libraries keep as floats, become integers again.
        labels = class_ids(_who(self.loss), labels) if self.class_ids else labels.astype(outputs.dtype)
        both = _of_rows(outputs, labels, loss=self.loss, curvature=self.curvature, **self.options)
        gradient, curvature = map(np.asarray, both)
        self._require_finite(gradient, curvature, labels)
        flat = np.asarray(self.flat, curvature.dtype)
        curvature = np.where(curvature > 0, np.maximum(curvature, _LEAST, dtype=curvature.dtype), flat)
        if weights is None or np.size(weights) == 0:
            return gradient, curvature
        by_row = np.asarray(weights, gradient.dtype).reshape((-1,) + (1,) * (gradient.ndim - 1))
        return gradient * by_row, curvature * by_row

    def _require_finite(self, gradient: np.ndarray, curvature: np.ndarray, targets: np.ndarray) -> None:
        wrong = ~(np.isfinite(gradient) & np.isfinite(curvature))
        if np.any(wrong):
            row = int(np.argwhere(wrong)[0][0])
            msg = (
                f"{_who(self.loss)}: row {row}, of target {targets[row]}, has the gradient {gradient[row]} "
                f"and the curvature {curvature[row]}, with which no tree can be grown; look at that target."
            )
            raise ValueError(msg)


def objective(
    loss: RowLoss,
    *,
    curvature: Curvature = "diagonal",
    flat: float = 1.0,
    class_ids: bool | None = None,
    **options: Any,
) -> Objective:
    """Turn a loss into an objective that XGBoost, LightGBM and CatBoost train with.

        g = w ∂ℓ/∂p,    h = w max(∂²ℓ/∂p², 10⁻¹⁶),  or w·flat where ∂²ℓ/∂p² is not positive

    Both by automatic differentiation, exactly, one row apart from another. Nothing of these
    libraries is imported; the result is given to any of them, may be copied and pickled as they do, and
    multiplies by the sample weights they bring:

        xgboost.train(params, data, obj=objective(jl.robust.huber))
        xgboost.XGBRegressor(objective=objective(jl.robust.huber, delta=2.0))
        lightgbm.train({"objective": objective(jl.quantile.pinball, quantile=0.9)}, data)
        lightgbm.LGBMRegressor(objective=objective(jl.quantile.pinball, quantile=0.9))
        catboost.CatBoostRegressor(loss_function=objective(jl.robust.huber), eval_metric="RMSE")

    The guard: a leaf's step is −Σg / (Σh + λ), so a row whose curvature is zero or negative, as far out on
    `robust.huber` or anywhere on `quantile.pinball`, would make leaves leap. Such a row counts with the
    curvature `flat`: a step of plain gradient boosting, of learning rate 1/flat. A positive curvature
    stays as it is, but for 10⁻¹⁶ where it is less; to move less, raise `reg_lambda`. One too small for
    its dtype is zero: of the cross-entropy in float32, beyond logits of ±87.

    Their built-in objectives: `regression.half_squared_error` is theirs of the squared error (h = 1;
    with `squared_error` both are twice that, and λ counts half); `binary.cross_entropy` theirs of the
    logistic loss; `categorical.cross_entropy` with `curvature="dominant"` is XGBoost's softmax. A custom
    objective starts from zero or from `base_score`, not from the mean of the targets, and predicts margins.

    Args:
        loss: a row loss in its predictions and targets: one number a row or a column (elementwise), or one
            loss for a row of outputs, say of a class each. Rows must not depend on each other.
        curvature: "diagonal", ∂²ℓ/∂p_k² of each output; "dominant", Σ_j |∂²ℓ/∂p_k∂p_j|, a diagonal above the
            whole Hessian, with which the outputs' steps taken together do not overshoot.
        flat: the curvature of a row that has none, > 0.
        class_ids: whether targets are class ids; None where the loss of ours says so itself.
        **options: the loss's own.

    Returns:
        The objective. Called, it returns gradient and curvature as NumPy arrays of the predictions' shape.

    Raises:
        ValueError: a `flat` that is not positive, another curvature, an option out of its range; (of the
            objective) a loss that is not one a row, targets that are no class ids, a row whose derivatives
            are not finite, by its index.

    Reference: Friedman (2001), Greedy Function Approximation, Ann. Statist. 29(5), sec. 4.5; Chen & Guestrin
    (2016), XGBoost: A Scalable Tree Boosting System, KDD, eqs. 4 and 5.
    """
    if curvature not in ("diagonal", "dominant"):
        msg = f'objective: `curvature` must be "diagonal" or "dominant", got {curvature!r}; give one of them.'
        raise ValueError(msg)
    if not 0 < flat < np.inf:
        msg = f"objective: `flat` must be positive and finite, got {flat}; 1 is plain gradient boosting."
        raise ValueError(msg)
    card = card_of(loss)
    if card is not None:
        check_options(_who(loss), card.options, options)
    if class_ids is None:
        class_ids = takes_class_ids(domain_of_labels(loss))
    return Objective(loss, curvature, float(flat), class_ids, options)


def _both(
    outputs: Array, targets: Array, *, loss: RowLoss, curvature: Curvature, **options: Any
) -> tuple[Array, Array]:
    """The gradient of Σℓ and the curvature of each output: of its own row, for no row sees another."""
    rows = jax.eval_shape(lambda p: loss(p, targets, **options), outputs).shape
    if rows == () or rows not in (outputs.shape, outputs.shape[:-1]):
        msg = (
            f"{_who(loss)}: the loss must be one number a row, got shape {rows} of predictions "
            f"{outputs.shape}; give the row loss, not a mean of it."
        )
        raise ValueError(msg)

    def gradient(p: Array) -> Array:
        return jax.grad(lambda p: jnp.sum(loss(p, targets, **options)))(p)

    def along(direction: Array) -> Array:
        return jax.jvp(gradient, (outputs,), (jnp.broadcast_to(direction, outputs.shape),))[1]

    if rows == outputs.shape:
        return gradient(outputs), along(jnp.ones((), outputs.dtype))
    each = jnp.arange(outputs.shape[-1])

    def of_output(k: Array) -> Array:
        axis = (each == k).astype(outputs.dtype).reshape((1,) * len(rows) + (-1,))
        column = along(axis)
        return jnp.sum(jnp.abs(column) if curvature == "dominant" else column * axis, axis=-1)

    return gradient(outputs), jnp.moveaxis(lax.map(of_output, each), 0, -1)


_of_rows = compiled(_both)


def _who(loss: RowLoss) -> str:
    return f"objective({name_of(loss)})"
