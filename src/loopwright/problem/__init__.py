"""A business question comes in; a task, a metric and sealed success criteria go out."""

from loopwright.problem.answer import Answers, class_answers, value_answers
from loopwright.problem.criterion import Criterion, checked_criteria
from loopwright.problem.metric import METRICS, TASKS, MeanMetric, Metric, Task, metric_named
from loopwright.problem.problem import (
    Problem,
    Seal,
    Today,
    checked_problem,
    checked_task,
    inferred_task,
    primary_metric,
    sealed,
)

__all__ = [
    "METRICS",
    "TASKS",
    "Answers",
    "Criterion",
    "MeanMetric",
    "Metric",
    "Problem",
    "Seal",
    "Task",
    "Today",
    "checked_criteria",
    "checked_problem",
    "checked_task",
    "class_answers",
    "inferred_task",
    "metric_named",
    "primary_metric",
    "sealed",
    "value_answers",
]
