"""A loss as a scorer of scikit-learn: in `cross_val_score`, `GridSearchCV` and the rest."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxloss import _contracts, reduction
from jaxloss._contracts import RANKS, SIGNS, UNIT, takes_class_ids
from jaxloss._loss import divided, domain_of_labels, name_of
from jaxloss.adapters._precision import double_precision, widened

try:
    from sklearn.metrics import make_scorer
except ImportError as error:
    msg = "jaxloss.adapters.sklearn needs scikit-learn: `pip install jaxloss[sklearn]`."
    raise ImportError(msg) from error

__all__ = ["scorer"]

Response = Literal["predict", "decision_function", "predict_proba"]
RowLoss = Callable[..., Array]


def scorer(
    loss: RowLoss, *, response: Response = "predict", class_ids: bool | None = None, **options: Any
) -> Any:
    """Turn a loss into a scorer of scikit-learn, by which more is better.

        score = −Σ w ℓ / Σ w

        cross_val_score(model, X, y, scoring=scorer(jl.quantile.pinball, quantile=0.9))
        GridSearchCV(classifier, grid, scoring=scorer(jl.categorical.cross_entropy, response="predict_proba"))

    It computes in float64, as scikit-learn does. Sample weights and their routing work as for any metric. It
    can be pickled, for processes and for storage, if the loss can: ours can, a lambda cannot.

    Where margins or probabilities are asked of a classifier, labels may be any that it takes, strings too. A
    loss of class ids is given a label's place in `classes_`, whose columns the outputs are; a loss of two
    classes 0 for the first of them and 1 for the second, or −1 and +1 if it takes signs, as `binary.hinge`.

    Args:
        loss: a row loss, not a mean.
        response: what is asked of the estimator: "predict" for numbers; "decision_function" for margins and
            logits; "predict_proba" for probabilities, which are given to the loss as the logits that they
            are the softmax (of two classes: the sigmoid) of. Of two classes scikit-learn gives the second's
            alone; a loss of class ids is given the logits of both.
        class_ids: whether the loss takes a logit of each class, and class ids; None where the loss of ours
            says so itself.
        **options: the loss's own.

    Returns:
        `scorer(estimator, X, y, sample_weight=None) -> float`.

    Raises:
        TypeError: (of the scorer) targets that are not numbers, of an estimator without `classes_`.
        ValueError: another response; (of the scorer) a loss that is not one a row; for a loss of classes, a
            label that is none of the estimator's `classes_` or, where it has none, no class id.
    """
    if response not in ("predict", "decision_function", "predict_proba"):
        msg = (
            'scorer: `response` must be "predict", "decision_function" or "predict_proba", '
            f"got {response!r}; give one of them."
        )
        raise ValueError(msg)
    domain = domain_of_labels(loss)
    if class_ids is None:
        class_ids = takes_class_ids(domain)
    plain = make_scorer(
        _mean_loss,
        greater_is_better=False,
        response_method=response,
        loss=loss,
        options=options,
        response=response,
        class_ids=class_ids,
    )
    of_classes = response != "predict" and (class_ids or domain in (UNIT, SIGNS))
    return _OfClasses(plain, loss) if of_classes else plain


@dataclasses.dataclass(frozen=True)
class _OfClasses:
    """A scorer that tells the loss which of the estimator's classes a label is.

    scikit-learn's own scorer hands the estimator to no one. A class, for model selection asks for methods.
    """

    plain: Any
    loss: RowLoss

    def __call__(
        self,
        estimator: Any,
        X: Any,  # noqa: N803 - scikit-learn's name
        y_true: Any,
        sample_weight: Any = None,
    ) -> float:
        labels, classes = np.asarray(y_true), getattr(estimator, "classes_", None)
        if classes is not None and labels.ndim == 1:
            labels = _places(_who(self.loss), labels, np.asarray(classes))
            labels = 2 * labels - 1 if domain_of_labels(self.loss) == SIGNS else labels
        return self.plain(estimator, X, labels, sample_weight=sample_weight)

    def set_score_request(self, **requests: Any) -> "_OfClasses":
        """Ask for metadata, where their routing is enabled."""
        self.plain.set_score_request(**requests)
        return self

    def get_metadata_routing(self) -> Any:
        """What has been asked for."""
        return self.plain.get_metadata_routing()

    def _accept_sample_weight(self) -> bool:  # asked by a search that scores with weights
        return True


def _places(who: str, labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The place of each label among the classes, which need not be in order."""
    values, of_row = np.unique(labels, return_inverse=True)
    same = values[:, None] == classes
    unknown = ~np.any(same, axis=1)
    if np.any(unknown):
        known = np.array2string(classes, threshold=10)
        got = f"got {values[unknown][0]!r}; train on every class, as stratified folds do"
        msg = f"{who}: targets must be of the estimator's classes {known}, {got}."
        raise ValueError(msg)
    return np.argmax(same, axis=1)[of_row]


def _mean_loss(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    loss: RowLoss,
    options: dict[str, Any],
    response: Response,
    class_ids: bool,
    sample_weight: ArrayLike | None = None,
) -> float:
    predictions = _predictions(
        np.asarray(y_pred), response, of_each_class=class_ids and domain_of_labels(loss) != RANKS
    )
    targets = _targets(loss, np.asarray(y_true), are_ids=class_ids)
    weights = None if sample_weight is None else np.asarray(sample_weight)
    static, traced = divided(options)
    with double_precision():
        predictions, targets, weights, traced = jax.tree.map(widened, (predictions, targets, weights, traced))
        options = static | traced
        rows = jax.eval_shape(functools.partial(loss, **options), predictions, targets).shape
        if rows[:1] != predictions.shape[:1]:
            fix = "give the row loss, not its mean"
            msg = f"{_who(loss)}: the loss must be one a row, got shape {rows}; {fix}."
            raise ValueError(msg)
        if weights is not None:
            weights = weights.reshape(weights.shape + (1,) * (len(rows) - weights.ndim))
        return float(reduction.mean(loss)(predictions, targets, weights=weights, **options))


def _predictions(outputs: np.ndarray, response: Response, *, of_each_class: bool) -> np.ndarray:
    """Numbers as they are; else logits, of each class or of two the second's less the first's."""
    if response == "predict":
        return outputs
    outputs = outputs.astype(np.float64)
    with np.errstate(divide="ignore"):
        logits = np.log(outputs) if response == "predict_proba" else outputs
        if outputs.ndim > 1:
            return logits
        first = np.log1p(-outputs) if response == "predict_proba" else np.zeros_like(outputs)
        return np.stack([first, logits], axis=-1) if of_each_class else logits - first


def _targets(loss: RowLoss, targets: np.ndarray, *, are_ids: bool) -> np.ndarray:
    if targets.dtype.kind not in "biuf":
        msg = (
            f"{_who(loss)}: targets must be numbers, got {targets.dtype}; encode them with "
            "`sklearn.preprocessing.LabelEncoder`."
        )
        raise TypeError(msg)
    return _contracts.class_ids(_who(loss), targets) if are_ids and targets.ndim == 1 else targets


def _who(loss: RowLoss) -> str:
    return f"scorer({name_of(loss)})"
