"""Answers and the truth come in; figures with confidence, verdicts and comparisons go out."""

from loopwright.evaluate.baseline import Decision, Entrant, Framing, framing
from loopwright.evaluate.comparison import Comparison, compare
from loopwright.evaluate.figure import Figure, Verdict, figure, resampled_deviation, verdicts
from loopwright.evaluate.rule import Rule, fitted_rule, readable_tables, rule_answers
from loopwright.evaluate.threshold import best_threshold

__all__ = [
    "Comparison",
    "Decision",
    "Entrant",
    "Figure",
    "Framing",
    "Rule",
    "Verdict",
    "best_threshold",
    "compare",
    "figure",
    "fitted_rule",
    "framing",
    "readable_tables",
    "resampled_deviation",
    "rule_answers",
    "verdicts",
]
