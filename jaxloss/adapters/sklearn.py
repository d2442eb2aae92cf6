"""A loss as a scorer of scikit-learn: in `cross_val_score`, `GridSearchCV` and the rest."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxloss import reduction
from jaxloss._contracts import CLASS_IDS, CLASSES, RANKS
from jaxloss._loss import card_of

try:
    from sklearn.metrics import make_scorer
except ImportError as error:
    msg = "jaxloss.adapters.sklearn needs scikit-learn: `pip install jaxloss[sklearn]`."
    raise ImportError(msg) from error

__all__ = ["scorer"]

Response = Literal["predict", "decision_function", "predict_proba"]


def scorer(loss: Callable[..., Array], *, response: Response = "predict", **options: Any) -> Any:
    """Turn a loss into a scorer of scikit-learn, by which more is better.

        score = −Σ w ℓ / Σ w

        cross_val_score(model, X, y, scoring=scorer(jl.quantile.pinball, quantile=0.9))
        GridSearchCV(classifier, grid, scoring=scorer(jl.categorical.cross_entropy, response="predict_proba"))

    It is scikit-learn's own `make_scorer`, so sample weights and their routing work as for any metric. It
    can be pickled, for processes and for storage, if the loss can: ours can, a lambda cannot.

    Args:
        loss: a row loss, not a mean.
        response: what is asked of the estimator: "predict" for numbers; "decision_function" for margins and
            logits; "predict_proba" for probabilities, which are given to the loss as the logits that they
            are the softmax (of two classes: the sigmoid) of.
        **options: the loss's own.

    Returns:
        `scorer(estimator, X, y, sample_weight=None) -> float`.

    Raises:
        TypeError: (of the scorer) targets that are not numbers.
        ValueError: another response; (of the scorer) a loss that is not one a row; targets that are not class
            ids, for a loss of class ids.
    """
    if response not in ("predict", "decision_function", "predict_proba"):
        msg = (
            'scorer: `response` must be "predict", "decision_function" or "predict_proba", '
            f"got {response!r}; give one of them."
        )
        raise ValueError(msg)
    probabilities = response == "predict_proba"
    return make_scorer(
        _mean_loss,
        greater_is_better=False,
        response_method=response,
        loss=loss,
        options=options,
        probabilities=probabilities,
    )


def _mean_loss(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    loss: Callable[..., Array],
    options: dict[str, Any],
    probabilities: bool,
    sample_weight: ArrayLike | None = None,
) -> float:
    predictions, targets = np.asarray(y_pred), _targets(loss, np.asarray(y_true))
    if probabilities:
        predictions = _logits(predictions)
    weights = None if sample_weight is None else np.asarray(sample_weight)
    rows = jax.eval_shape(functools.partial(loss, **options), predictions, targets).shape
    if rows[:1] != predictions.shape[:1]:
        msg = f"{_who(loss)}: the loss must be one a row, got shape {rows}; give the row loss, not its mean."
        raise ValueError(msg)
    if weights is not None:
        weights = weights.reshape(weights.shape + (1,) * (len(rows) - weights.ndim))
    return float(reduction.mean(loss)(predictions, targets, weights=weights, **options))


def _logits(probabilities: np.ndarray) -> np.ndarray:
    """log p, or log p − log(1 − p) where there is only that of the second of two classes."""
    with np.errstate(divide="ignore"):
        logs = np.log(probabilities)
        return logs if probabilities.ndim > 1 else logs - np.log1p(-probabilities)


def _targets(loss: Callable[..., Array], targets: np.ndarray) -> np.ndarray:
    if targets.dtype.kind not in "biuf":
        msg = (
            f"{_who(loss)}: targets must be numbers, got {targets.dtype}; encode them with "
            "`sklearn.preprocessing.LabelEncoder`."
        )
        raise TypeError(msg)
    card = card_of(loss)
    if card is None or list(card.domain.values())[-1] not in (CLASSES, CLASS_IDS, RANKS) or targets.ndim > 1:
        return targets
    ids = targets.astype(np.int32)
    if not np.array_equal(ids, targets):
        wrong = targets[ids != targets][0]
        msg = f"{_who(loss)}: targets must be class ids 0, 1, 2, ..., got {wrong}; encode the classes."
        raise ValueError(msg)
    return ids


def _who(loss: Callable[..., Array]) -> str:
    card = card_of(loss)
    return f"scorer({card.name if card else getattr(loss, '__name__', 'loss')})"
