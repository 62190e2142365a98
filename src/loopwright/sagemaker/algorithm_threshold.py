"""From which probability on Linear Learner says yes: the criterion that its hyperparameters name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.sagemaker.error import validation

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

CRITERION = "binary_classifier_model_selection_criteria"
CRITERIA = (
    "accuracy",
    "f1",
    "f_beta",
    "precision_at_target_recall",
    "recall_at_target_precision",
    "cross_entropy_loss",
    "loss_function",
)
# what says nothing of a threshold; and 0.5 is the best for accuracy where probabilities are right
_AT_A_HALF = ("accuracy", "cross_entropy_loss", "loss_function")
_USUAL_TARGET = 0.8


def check_criterion(texts: Mapping[str, str]) -> None:
    """Check what hyperparameters say of the criterion.

    Raises
    ------
    ApiError
        If it is unknown, or a number of it is out of range.
    """
    criterion = texts.get(CRITERION, "accuracy").strip('"')
    if criterion not in CRITERIA:
        raise validation(
            f"The hyperparameter {CRITERION} cannot be {criterion!r}; it can be "
            f"{', '.join(CRITERIA)}."
        )
    for name in ("target_precision", "target_recall"):
        _number(texts, name, _USUAL_TARGET, most=1.0)
    _number(texts, "f_beta", 1.0, most=float("inf"))


def chosen_threshold(
    texts: Mapping[str, str], y: npt.NDArray[Any], probability: npt.NDArray[np.float64]
) -> float:
    """Return from which probability on the answer is 1.

    Parameters
    ----------
    texts
        The hyperparameters as they came.
    y
        The truth, 0 or 1; shape `(n,)`.
    probability
        What the model says of it, from 0 to 1; shape `(n,)`.

    Returns
    -------
    The threshold that is best by the criterion. Where a target cannot be reached, the one that comes
    nearest to it; 0.5 where the criterion asks for none, or one class alone is there.
    """
    from sklearn.metrics import precision_recall_curve

    criterion = texts.get(CRITERION, "accuracy").strip('"')
    if criterion in _AT_A_HALF or len(np.unique(y)) < 2:
        return 0.5
    # the last point, all answers 0, has no threshold
    precision, recall, cuts = precision_recall_curve(y, probability)
    precision, recall = precision[:-1], recall[:-1]
    if criterion == "precision_at_target_recall":
        value = _reaching(
            recall, _number(texts, "target_recall", _USUAL_TARGET, most=1.0), precision
        )
    elif criterion == "recall_at_target_precision":
        target = _number(texts, "target_precision", _USUAL_TARGET, most=1.0)
        value = _reaching(precision, target, recall)
    else:
        beta = _number(texts, "f_beta", 1.0, most=float("inf")) if criterion == "f_beta" else 1.0
        weight = beta * beta
        below = weight * precision + recall
        value = (1 + weight) * precision * recall / np.where(below > 0, below, 1.0)
    return float(cuts[int(np.argmax(value))])


def _reaching(
    share: npt.NDArray[np.float64], target: float, wanted: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return what to maximise: the wanted share where the target is reached, else nearness to it."""
    reached = share >= target
    return np.where(reached, wanted, -1.0) if reached.any() else share


def _number(texts: Mapping[str, str], name: str, usual: float, *, most: float) -> float:
    text = texts.get(name, "").strip('"')
    try:
        value = float(text) if text else usual
    except ValueError:
        value = float("nan")
    if not 0 < value <= most or value == float("inf"):
        raise validation(f"The hyperparameter {name} cannot be {text!r}.")
    return value
