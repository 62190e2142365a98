"""A business question comes in; a task, a metric and sealed success criteria go out."""

from loopwright.problem.answer import Answers, class_answers, value_answers
from loopwright.problem.constraint import SELECTION_RATE, Constraints, FairnessLimit
from loopwright.problem.criterion import Criterion, checked_criteria
from loopwright.problem.mean import TASKS, MeanMetric, Metric, Task
from loopwright.problem.metric import (
    AT_A_THRESHOLD,
    DEFAULT_METRIC,
    METRIC_EXAMPLES,
    METRICS,
    in_range,
    metric_named,
)
from loopwright.problem.money import (
    MONEY_METRICS,
    OUTCOMES,
    Amount,
    Amounts,
    Payoff,
    amounts,
    check_line,
    check_outcomes,
    is_per_row,
)
from loopwright.problem.problem import (
    Person,
    Problem,
    Today,
    checked_problem,
    checked_task,
    inferred_task,
    primary_metric,
)
from loopwright.problem.seal import Move, Seal, moves, sealed
from loopwright.problem.threshold_policy import ThresholdPolicy

__all__ = [
    "AT_A_THRESHOLD",
    "DEFAULT_METRIC",
    "METRICS",
    "METRIC_EXAMPLES",
    "MONEY_METRICS",
    "OUTCOMES",
    "SELECTION_RATE",
    "TASKS",
    "Amount",
    "Amounts",
    "Answers",
    "Constraints",
    "Criterion",
    "FairnessLimit",
    "MeanMetric",
    "Metric",
    "Move",
    "Payoff",
    "Person",
    "Problem",
    "Seal",
    "Task",
    "ThresholdPolicy",
    "Today",
    "amounts",
    "check_line",
    "check_outcomes",
    "checked_criteria",
    "checked_problem",
    "checked_task",
    "class_answers",
    "in_range",
    "inferred_task",
    "is_per_row",
    "metric_named",
    "moves",
    "primary_metric",
    "sealed",
    "value_answers",
]
