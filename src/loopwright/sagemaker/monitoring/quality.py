"""How good predictions were, in the figures of SageMaker's model quality monitor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

REGRESSION, BINARY, MULTICLASS = "Regression", "BinaryClassification", "MulticlassClassification"
SECTIONS = {
    REGRESSION: "regression",
    BINARY: "binary_classification",
    MULTICLASS: "multiclass_classification",
}
_LESS, _GREATER = "LessThanThreshold", "GreaterThanThreshold"
_WATCHED: Mapping[str, Mapping[str, str]] = {
    REGRESSION: {"mae": _GREATER, "mse": _GREATER, "rmse": _GREATER, "r2": _LESS},
    BINARY: {
        "recall": _LESS,
        "precision": _LESS,
        "accuracy": _LESS,
        "true_positive_rate": _LESS,
        "true_negative_rate": _LESS,
        "false_positive_rate": _GREATER,
        "false_negative_rate": _GREATER,
        "auc": _LESS,
        "f0_5": _LESS,
        "f1": _LESS,
        "f2": _LESS,
    },
    MULTICLASS: {
        "accuracy": _LESS,
        "weighted_recall": _LESS,
        "weighted_precision": _LESS,
        "weighted_f0_5": _LESS,
        "weighted_f1": _LESS,
        "weighted_f2": _LESS,
    },
}
# as Model Monitor's documentation has it: five samples of 80 %, from 200 rows on
_FEWEST, _N_SAMPLES, _SHARE = 200, 5, 0.8
_MOST_POINTS = 100
_BETAS = {"f0_5": 0.5, "f1": 1.0, "f2": 2.0}
_SUFFIX = "_best_constant_classifier"

Figures = dict[str, float]


def quality_of(
    kind: str, truth: np.ndarray, predicted: np.ndarray, score: np.ndarray | None
) -> dict[str, Any]:
    """Return the metrics of `statistics.json`, each with its standard deviation.

    Parameters
    ----------
    kind
        `Regression`, `BinaryClassification` or `MulticlassClassification`.
    truth, predicted
        Shape (n_rows,): numbers for a regression, 0 and 1 for two classes, texts for several.
    score
        Shape (n_rows,), P(1), for two classes; without it there is no `auc`.

    Raises
    ------
    InvalidInputError
        If the kind is not known, or there are no rows.
    """
    if kind not in SECTIONS:
        raise InvalidInputError(f"The problem type {kind!r} is none of {', '.join(SECTIONS)}.")
    if not len(truth):
        raise InvalidInputError("There are no predictions with ground truth.")
    measure = _measure(kind)
    values = measure(truth, predicted, score)
    spread = _spread(measure, truth, predicted, score)
    told: dict[str, Any] = {}
    if kind != REGRESSION:
        told["confusion_matrix"] = _confusion(truth, predicted)
    for name, value in values.items():
        told[name] = {"value": _plain(value), "standard_deviation": spread.get(name, "NaN")}
    if kind == BINARY and score is not None:
        told |= _curves(truth, score)
    return told


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else "NaN"


def _measure(
    kind: str,
) -> Callable[[np.ndarray, np.ndarray, np.ndarray | None], Figures]:
    if kind == REGRESSION:
        return lambda truth, predicted, _score: _regression(truth, predicted)
    return _binary if kind == BINARY else lambda truth, predicted, _: _multiclass(truth, predicted)


def _spread(
    measure: Callable[[np.ndarray, np.ndarray, np.ndarray | None], Figures],
    truth: np.ndarray,
    predicted: np.ndarray,
    score: np.ndarray | None,
) -> Figures:
    if len(truth) < _FEWEST:
        return {}
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {}
    for _ in range(_N_SAMPLES):
        rows = rng.choice(len(truth), size=int(_SHARE * len(truth)), replace=False)
        part = measure(truth[rows], predicted[rows], None if score is None else score[rows])
        for name, value in part.items():
            found.setdefault(name, []).append(value)
    return {
        name: float(np.std(values)) for name, values in found.items() if np.isfinite(values).all()
    }


def _regression(y: np.ndarray, p: np.ndarray) -> Figures:
    error = p - y
    mse = float((error**2).mean())
    total = float(((y - y.mean()) ** 2).sum())
    return {
        "mae": float(np.abs(error).mean()),
        "mse": mse,
        "rmse": math.sqrt(mse),
        "r2": 1.0 - float((error**2).sum()) / total if total else math.nan,
    }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _f(precision: float, recall: float, beta: float) -> float:
    b = beta * beta
    return _ratio((1 + b) * precision * recall, b * precision + recall)


def _two_classes(y: np.ndarray, p: np.ndarray) -> Figures:
    tp, fp = int(((p == 1) & (y == 1)).sum()), int(((p == 1) & (y == 0)).sum())
    fn, tn = int(((p == 0) & (y == 1)).sum()), int(((p == 0) & (y == 0)).sum())
    precision, recall = _ratio(tp, tp + fp), _ratio(tp, tp + fn)
    return {
        "recall": recall,
        "precision": precision,
        "accuracy": _ratio(tp + tn, len(y)),
        "true_positive_rate": recall,
        "true_negative_rate": _ratio(tn, tn + fp),
        "false_positive_rate": _ratio(fp, tn + fp),
        "false_negative_rate": _ratio(fn, tp + fn),
        **{name: _f(precision, recall, beta) for name, beta in _BETAS.items()},
    }


def _binary(y: np.ndarray, p: np.ndarray, score: np.ndarray | None) -> Figures:
    found = _two_classes(y, p)
    # the constant answer that finds all
    constant = _two_classes(y, np.ones_like(y))
    for name in ("recall", "precision", "accuracy", *_BETAS):
        found[f"{name}{_SUFFIX}"] = constant[name]
    if score is not None:
        found["auc"] = _auc(y, score)
        found["au_prc"] = _average_precision(y, score)
    return found


def _auc(y: np.ndarray, score: np.ndarray) -> float:
    """Return the share of pairs in the right order, ties counting half."""
    n_one = int((y == 1).sum())
    n_none = len(y) - n_one
    if not n_one or not n_none:
        return math.nan
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[inverse]
    return float((ranks[y == 1].sum() - n_one * (n_one + 1) / 2) / (n_one * n_none))


def _average_precision(y: np.ndarray, score: np.ndarray) -> float:
    if not (y == 1).any():
        return math.nan
    _, precisions, recalls, _ = _thresholds(y, score)
    return float((np.diff(np.concatenate([[0.0], recalls])) * precisions).sum())


def _thresholds(
    y: np.ndarray, score: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return false positive rates, precisions, recalls and cuts, the highest cut first."""
    order = np.argsort(-score, kind="stable")
    ordered, hits = score[order], (y[order] == 1).astype(float)
    last = np.concatenate([np.flatnonzero(np.diff(ordered)), [len(ordered) - 1]])
    tp, n = np.cumsum(hits)[last], last + 1.0
    n_one = max(1.0, hits.sum())
    n_none = max(1.0, len(y) - hits.sum())
    return (n - tp) / n_none, tp / n, tp / n_one, ordered[last]


def _curves(y: np.ndarray, score: np.ndarray) -> dict[str, Any]:
    fpr, precisions, recalls, _ = _thresholds(y, score)
    kept = np.unique(np.linspace(0, len(fpr) - 1, min(_MOST_POINTS, len(fpr))).astype(int))
    return {
        "receiver_operating_characteristic_curve": {
            "false_positive_rates": [0.0, *fpr[kept].tolist(), 1.0],
            "true_positive_rates": [0.0, *recalls[kept].tolist(), 1.0],
        },
        "precision_recall_curve": {
            "precisions": [1.0, *precisions[kept].tolist()],
            "recalls": [0.0, *recalls[kept].tolist()],
        },
    }


def _multiclass(y: np.ndarray, p: np.ndarray) -> Figures:
    found = _several_classes(y, p)
    labels, counts = np.unique(y, return_counts=True)
    constant = _several_classes(y, np.full_like(y, labels[counts.argmax()]))
    return found | {f"{name}{_SUFFIX}": value for name, value in constant.items()}


def _several_classes(y: np.ndarray, p: np.ndarray) -> Figures:
    """Return figures of each class, weighted by how often it is the truth."""
    sums = dict.fromkeys(("weighted_recall", "weighted_precision", *_weighted_names()), 0.0)
    for label in np.unique(y):
        is_it, said = y == label, p == label
        share = float(is_it.mean())
        hits = float((is_it & said).sum())
        recall, precision = _ratio(hits, float(is_it.sum())), _ratio(hits, float(said.sum()))
        sums["weighted_recall"] += share * recall
        sums["weighted_precision"] += share * precision
        for name, beta in _BETAS.items():
            sums[f"weighted_{name}"] += share * _f(precision, recall, beta)
    return {"accuracy": float((y == p).mean()), **sums}


def _weighted_names() -> list[str]:
    return [f"weighted_{name}" for name in _BETAS]


def _confusion(y: np.ndarray, p: np.ndarray) -> dict[str, dict[str, int]]:
    """Return how often each true class (outer) was taken for each class (inner)."""
    labels = np.unique(np.concatenate([y, p]))
    return {
        str(true): {str(said): int(((y == true) & (p == said)).sum()) for said in labels}
        for true in labels
    }


def suggested_quality(kind: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `constraints.json` that a baseline suggests: no worse than it was."""
    rules = {
        name: {"threshold": metrics[name]["value"], "comparison_operator": operator}
        for name, operator in _WATCHED[kind].items()
        if name in metrics and metrics[name]["value"] != "NaN"
    }
    return {"version": 0.0, f"{SECTIONS[kind]}_constraints": rules}


def quality_violations(
    kind: str, metrics: Mapping[str, Any], constraints: Mapping[str, Any]
) -> list[dict[str, str]]:
    """Return which metrics are beyond the thresholds of `constraints.json`."""
    found = []
    for name, rule in constraints.get(f"{SECTIONS[kind]}_constraints", {}).items():
        value = metrics.get(name, {}).get("value", "NaN")
        operator, threshold = rule["comparison_operator"], float(rule["threshold"])
        if value == "NaN":
            continue
        if (operator == _LESS and value < threshold) or (
            operator == _GREATER and value > threshold
        ):
            spread = metrics[name]["standard_deviation"]
            shown = f"{value}" if spread == "NaN" else f"{value} +/- {spread}"
            found.append(
                {
                    "constraint_check_type": operator,
                    "description": f"Metric {name} with {shown} was {operator} '{threshold}'",
                    "metric_name": name,
                }
            )
    return found
