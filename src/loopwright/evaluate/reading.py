"""Which metrics a report shows for a task, under which titles, and in which units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.examination import Unit
from loopwright.problem import METRICS, MONEY_METRICS, Amounts, Metric, metric_named

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

_TITLES: dict[str, str] = {
    "mae": "mean absolute error",
    "medae": "median absolute error",
    "mape": "mean relative error",
    "smape": "symmetric relative error",
    "wape": "absolute error of the total",
    "rmse": "root mean squared error",
    "rmsle": "root mean squared error of logarithms",
    "r2": "share of variance explained",
    "accuracy": "share of right answers",
    "log_loss": "logarithmic loss",
    "brier": "Brier score",
    "f1": "F1 score",
    "macro_f1": "F1 score, mean over classes",
    "weighted_f1": "F1 score, weighted by class",
    "macro_precision": "precision, mean over classes",
    "balanced_accuracy": "recall, mean over classes",
    "mcc": "Matthews correlation",
    "cohen_kappa": "agreement beyond chance (kappa)",
    "roc_auc": "area under the ROC curve",
    "profit_per_case": "profit per case",
    "expected_profit_per_thousand": "expected profit per thousand cases",
    "cost_per_case": "cost per case",
}
_SHARES = frozenset(
    {
        "mape",
        "smape",
        "wape",
        "accuracy",
        "precision",
        "recall",
        "specificity",
        "negative_predictive_value",
        "false_positive_rate",
        "macro_precision",
        "balanced_accuracy",
    }
)
_OF_TARGET = frozenset({"mae", "medae", "rmse"})


def title_of(name: str) -> str:
    """Return what a metric is called in a report."""
    return _TITLES.get(name, name.replace("_", " "))


def unit_of(name: str) -> Unit:
    """Return how a metric's value is printed."""
    if name in _SHARES or name.startswith(("share_within_", "precision_at_top_", "top_")):
        return "share"
    if name in MONEY_METRICS:
        return "money"
    if name in _OF_TARGET or name.startswith(("absolute_error_of_", "pinball_at_")):
        return "target"
    return "number"


def metrics_shown(
    task: str,
    y: npt.NDArray[np.float64],
    *,
    first: Sequence[str],
    payoff: Amounts | None,
) -> list[Metric]:
    """Return the metrics of a task, those named first in front, without those that say nothing here.

    Relative errors need a truth that is never 0, errors of logarithms one that is never negative.
    """
    names = [*first, *METRICS]
    if task == "regression":
        names += ["share_within_5_percent", "share_within_10_percent"]
    elif payoff:
        names += MONEY_METRICS[:2]
    without = set()
    if task == "regression" and not (y != 0).all():
        without |= {"mape", "share_within_5_percent", "share_within_10_percent"}
    if task == "regression" and (y < 0).any():
        without |= {"rmsle"}
    metrics = [
        metric_named(name, payoff=payoff)
        for name in dict.fromkeys(names)
        if name in first or name not in without
    ]
    return [metric for metric in metrics if task in metric.tasks]
