"""Answers and the truth come in; figures with confidence, verdicts and comparisons go out."""

from loopwright.evaluate.baseline import Framing, framing
from loopwright.evaluate.comparison import Comparison, compare, guarded
from loopwright.evaluate.conformal import fitted_interval
from loopwright.evaluate.decision import Decision
from loopwright.evaluate.entrant import Entrant
from loopwright.evaluate.examination import (
    ComparisonReading,
    Examination,
    Sampling,
    SegmentComparison,
)
from loopwright.evaluate.figure import Figure, Verdict, figure, resampled_deviation, verdicts
from loopwright.evaluate.inspection import Subject, examine
from loopwright.evaluate.layout import Layout, layout_of
from loopwright.evaluate.learning_curve import LearningCurve, RowsNeeded, learning_curve
from loopwright.evaluate.plan import EvaluatePlan, check_evaluate
from loopwright.evaluate.readable import readable_tables
from loopwright.evaluate.recalibration import Recalibration, recalibrated
from loopwright.evaluate.reliability import reliability
from loopwright.evaluate.robustness import robustness
from loopwright.evaluate.rule import Rule, fitted_rule, rule_answers
from loopwright.evaluate.segment import Segment, worse_segments
from loopwright.evaluate.shortfall import Shortfall, quick_curve
from loopwright.evaluate.signal import Signal, signal_of
from loopwright.evaluate.threshold import ThresholdChoice, best_threshold, chosen_threshold
from loopwright.evaluate.unit import row_units
from loopwright.evaluate.weak_segment import WeakSegment, weak_segments

__all__ = [
    "Comparison",
    "ComparisonReading",
    "Decision",
    "Entrant",
    "EvaluatePlan",
    "Examination",
    "Figure",
    "Framing",
    "Layout",
    "LearningCurve",
    "Recalibration",
    "RowsNeeded",
    "Rule",
    "Sampling",
    "Segment",
    "SegmentComparison",
    "Shortfall",
    "Signal",
    "Subject",
    "ThresholdChoice",
    "Verdict",
    "WeakSegment",
    "best_threshold",
    "check_evaluate",
    "chosen_threshold",
    "compare",
    "examine",
    "figure",
    "fitted_interval",
    "fitted_rule",
    "framing",
    "guarded",
    "layout_of",
    "learning_curve",
    "quick_curve",
    "readable_tables",
    "recalibrated",
    "reliability",
    "resampled_deviation",
    "robustness",
    "row_units",
    "rule_answers",
    "signal_of",
    "verdicts",
    "weak_segments",
    "worse_segments",
]
