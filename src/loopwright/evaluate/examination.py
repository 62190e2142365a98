"""Everything a report shows about a model on rows it never saw, as plain values.

Shares and probabilities are 0 to 1. What is not known, or has no bound, is None. Every bound is
one-sided, at the examination's confidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

Unit = Literal["share", "money", "target", "number"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What was drawn when the rows were resampled: rows, groups of rows, or blocks of time.

    `by` is `row`, `group` or `time`; `column` names the column that groups or orders the rows;
    `n_units` is how many units there were to draw from.
    """

    by: Literal["row", "group", "time"] = "row"
    column: str | None = None
    n_units: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One metric on the rows with its bounds, `lower <= value <= upper`.

    `unit` says how to print it: a share (as per cent), money, the target's own unit, or a number.
    """

    metric: str
    title: str
    value: float | None
    lower: float | None
    upper: float | None
    n_rows: int
    higher_is_better: bool
    unit: Unit = "number"


@dataclass(frozen=True, slots=True, kw_only=True)
class CriterionReading:
    """A success criterion and whether its bound meets it."""

    criterion: str
    metric: str
    value: float | None
    bound: float | None
    target: float
    wants_low: bool
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """How often which class was said for which: `counts[true][said]`, in the order of `classes`.

    With very many classes the 30 most frequent are shown, the others together as the last one.
    """

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdPoint:
    """What happens when the positive class is said from `threshold` on.

    `share_said` is the share of cases acted on; `profit` is per case, None without a payoff. Bounds
    are None where nothing is said or nothing is true.
    """

    threshold: float
    share_said: float
    precision: float | None
    precision_lower: float | None
    precision_upper: float | None
    recall: float | None
    recall_lower: float | None
    recall_upper: float | None
    profit: float | None = None
    profit_lower: float | None = None
    profit_upper: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdCurve:
    """The whole trade-off, by rising threshold, and the one that was chosen.

    `by` is `payoff`, `precision`, `recall`, `hand` or `half`; `reason` says it in words. The
    threshold was chosen on validation rows; the points are measured on the rows of the examination.
    """

    chosen: float
    by: str
    reason: str
    points: tuple[ThresholdPoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """Cases to which about the same probability was said, and how many of them came true."""

    said: float
    happened: float
    lower: float
    upper: float
    n_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """How far probabilities are what they say.

    `ece` is the expected calibration error with the part that is chance taken off, `ece_raw` as it
    is usually computed; `brier = reliability - resolution + uncertainty` up to what lies within
    bins. With more than two classes all are means over one class against the rest.
    """

    bins: tuple[ReliabilityBin, ...]
    ece: float
    ece_raw: float
    ece_lower: float
    ece_upper: float
    brier: float
    reliability: float
    resolution: float
    uncertainty: float
    log_loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationReading:
    """Probabilities before and after their repair; `after` is what the model answers.

    `method` is `none`, `platt`, `beta`, `isotonic` or `temperature`.
    """

    method: str
    reason: str
    before: Reliability
    after: Reliability


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualBin:
    """Cases with residuals (truth less prediction) from `low` to below `high`."""

    low: float
    high: float
    n_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualLevel:
    """Cases with predictions from `low` to `high`: a tenth of all, and how they were missed.

    `bias` is the mean residual, `spread` the mean absolute one.
    """

    low: float
    high: float
    bias: float
    bias_lower: float
    bias_upper: float
    spread: float
    n_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualReading:
    """The distribution of truth less prediction, in units of the target."""

    bins: tuple[ResidualBin, ...]
    levels: tuple[ResidualLevel, ...]
    quantiles: tuple[tuple[float, float], ...]
    bias: float
    bias_lower: float
    bias_upper: float
    share_too_high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalLevel:
    """Coverage among the cases with predictions from `low` to `high`."""

    low: float
    high: float
    coverage: float
    n_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalReading:
    """How often the truth lay in the interval that was said, beside how often it should."""

    wanted: float
    coverage: float
    coverage_lower: float
    coverage_upper: float
    median_width: float
    median_relative_width: float | None
    scale: str
    levels: tuple[IntervalLevel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentReading:
    """A segment of the rows, and how the model does there beside everywhere else.

    Parameters
    ----------
    name
        As the user named it, or the condition.
    condition
        In words; for a named slice the expression.
    named
        Whether the user named it, and so guards it.
    metric, value, lower, upper
        The main metric in the segment, None where the labels are constant or too few.
    difference
        The metric in the segment less that of all other rows; `gain` says whether that is good.
    is_worse
        Whether it is worse beyond doubt after correction for all segments that were looked at.
    q_value
        The least false discovery rate (Benjamini and Hochberg) at which it counts as worse.
    remark
        What is special, such as labels that are constant.
    """

    name: str
    condition: str
    named: bool
    n_rows: int
    share: float
    metric: str
    value: float | None
    lower: float | None
    upper: float | None
    difference: float | None
    is_worse: bool
    q_value: float | None
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstRow:
    """One of the rows the model missed most; personal data are masked.

    `cells` are columns and values as text, `said` and `true` the answer and the truth as text.
    """

    row: int
    said: str
    true: str
    loss: float
    cells: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessReading:
    """What the main metric loses when one column goes wrong; `kind` says how.

    `missing`: the column is empty; `shifted`: every number grows by one standard deviation;
    `shuffled`: values belong to other rows. `loss` is positive where the model gets worse, in units
    of the metric; `refused` where the endpoint would refuse such rows instead.
    """

    column: str
    kind: Literal["missing", "shifted", "shuffled"]
    loss: float | None
    lower: float | None
    upper: float | None
    refused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningPoint:
    """The metric after so many rows learnt from, or so many steps.

    `lower` and `upper` hold nine tenths of what other draws of rows would give; None if unknown.
    """

    at: int
    train: float | None
    validation: float | None
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningCurve:
    """How the model got better: by `iterations` of training or by `rows` it learnt from."""

    by: Literal["iterations", "rows"]
    metric: str
    points: tuple[LearningPoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentComparison:
    """Challenger beside champion in one guarded segment.

    `not_worse` is whether the challenger's loss there stays within `margin` beyond doubt; None
    where the rows are too few to say.
    """

    name: str
    n_rows: int
    champion: float | None
    challenger: float | None
    gain: float | None
    lower: float | None
    margin: float
    not_worse: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonReading:
    """A challenger beside the champion, paired row by row; `gain` is positive when it is better."""

    metric: str
    champion: float
    challenger: float
    gain: float
    lower: float
    upper: float
    probability_better: float
    n_rows: int
    is_better: bool
    is_worse: bool
    segments: tuple[SegmentComparison, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GainPoint:
    """The cases with the highest probability: their share of all, and of the positives.

    `lift` is how many times more positives they hold than as many cases picked at random.
    """

    share: float
    captured: float
    captured_lower: float
    captured_upper: float
    lift: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """Everything a report shows about one model on the test rows.

    Parts that do not fit the task are None or empty. `remarks` state what was sub-sampled and what
    could not be said; show them. `main_metric` is the one of segments, robustness and worst rows.
    """

    task: str
    target: str
    classes: tuple[str, ...]
    n_rows: int
    confidence: float
    seed: int
    main_metric: str
    sampling: Sampling
    figures: tuple[Reading, ...]
    verdicts: tuple[CriterionReading, ...] = ()
    confusion: Confusion | None = None
    threshold: ThresholdCurve | None = None
    gains: tuple[GainPoint, ...] = ()
    calibration: CalibrationReading | None = None
    residuals: ResidualReading | None = None
    interval: IntervalReading | None = None
    segments: tuple[SegmentReading, ...] = ()
    n_segments_looked_at: int = 0
    worst_rows: tuple[WorstRow, ...] = ()
    robustness: tuple[RobustnessReading, ...] = ()
    n_robustness_rows: int = 0
    learning: tuple[LearningCurve, ...] = ()
    comparison: ComparisonReading | None = None
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the examination as JSON types."""
        value: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Examination:
        """Return the examination that `to_json` wrote.

        Raises
        ------
        msgspec.ValidationError
            If it is none.
        """
        return msgspec.convert(value, cls)
