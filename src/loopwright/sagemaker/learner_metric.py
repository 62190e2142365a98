"""What Linear Learner and KNN say in their log of rows they did not learn from, under SageMaker's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.problem import Task

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

_BINARY = (
    "binary_classification_accuracy",
    "binary_f_beta",
    "precision",
    "recall",
    "roc_auc_score",
)
_MULTICLASS = (
    "multiclass_accuracy",
    "multiclass_top_k_accuracy",
    "dcg",
    "macro_f_beta",
    "macro_precision",
    "macro_recall",
)
_REGRESSION = ("mse", "rmse", "absolute_loss")
LEARNER_METRICS = (*_BINARY, *_MULTICLASS, *_REGRESSION, "accuracy", "objective_loss")
"""What a tuner can name after `validation:` or `test:`."""
_TINY = 1e-15


def learner_metrics(
    task: Task,
    y: npt.NDArray[np.float64],
    raw: npt.NDArray[np.float64],
    texts: Mapping[str, str],
    *,
    threshold: float,
) -> dict[str, float]:
    """Return the metrics of a task by name.

    Parameters
    ----------
    y
        The truth: values, or the places of classes; shape `(n_rows,)`.
    raw
        What the model says: values, the probability of the class 1, or one of each class;
        `(n_rows,)` or `(n_rows, n_classes)`.
    texts
        The hyperparameters, of which `f_beta` and `accuracy_top_k` count.
    threshold
        From which probability on the answer is 1.
    """
    if task == "regression":
        error = raw - y
        squared = float(np.mean(error**2))
        return {
            "mse": squared,
            "rmse": squared**0.5,
            "absolute_loss": float(np.mean(np.abs(error))),
            "objective_loss": squared,
        }
    truth = y.astype(int)
    shares = np.column_stack([1 - raw, raw]) if task == "binary" else raw
    own = shares[np.arange(len(truth)), truth]
    loss = float(-np.mean(np.log(np.clip(own, _TINY, 1))))
    beta = float(texts.get("f_beta", "1").strip('"'))
    if task == "binary":
        found = _binary(truth, raw, beta, threshold)
    else:
        top = int(texts.get("accuracy_top_k", "3").strip('"'))
        found = _multiclass(truth, shares, beta, top)
    return {**found, "objective_loss": loss}


def _binary(truth: npt.NDArray[Any], raw: Any, beta: float, threshold: float) -> dict[str, float]:
    from sklearn.metrics import fbeta_score, precision_score, recall_score, roc_auc_score

    said = (raw >= threshold).astype(int)
    accuracy = float(np.mean(said == truth))
    has_both = len(np.unique(truth)) == 2
    return {
        "accuracy": accuracy,
        "binary_classification_accuracy": accuracy,
        "binary_f_beta": float(fbeta_score(truth, said, beta=beta, zero_division=0)),
        "precision": float(precision_score(truth, said, zero_division=0)),
        "recall": float(recall_score(truth, said, zero_division=0)),
        **({"roc_auc_score": float(roc_auc_score(truth, raw))} if has_both else {}),
    }


def _multiclass(truth: npt.NDArray[Any], shares: Any, beta: float, top: int) -> dict[str, float]:
    from sklearn.metrics import fbeta_score, precision_score, recall_score

    said = shares.argmax(axis=1)
    accuracy = float(np.mean(said == truth))
    own = shares[np.arange(len(truth)), truth]
    # how many classes are held likelier than the true one
    rank = (shares > own[:, None]).sum(axis=1)
    settings: dict[str, Any] = {"average": "macro", "zero_division": 0}
    return {
        "accuracy": accuracy,
        "multiclass_accuracy": accuracy,
        "multiclass_top_k_accuracy": float(np.mean(rank < top)),
        "dcg": float(np.mean(1.0 / np.log2(rank + 2.0))),
        "macro_f_beta": float(fbeta_score(truth, said, beta=beta, **settings)),
        "macro_precision": float(precision_score(truth, said, **settings)),
        "macro_recall": float(recall_score(truth, said, **settings)),
    }
