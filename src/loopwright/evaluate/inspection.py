"""A model looked at from all sides on rows it never saw, within seconds for any number of rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.doubt import doubts
from loopwright.evaluate.examination import (
    CalibrationReading,
    ComparisonReading,
    Confusion,
    CriterionReading,
    Examination,
    LearningCurve,
    Reading,
    RobustnessReading,
    Sampling,
    ThresholdCurve,
)
from loopwright.evaluate.figure import Verdict, figure
from loopwright.evaluate.reading import metrics_shown, title_of, unit_of
from loopwright.evaluate.reliability import reliability
from loopwright.evaluate.residual import interval_reading, residual_reading
from loopwright.evaluate.segment import (
    SEGMENT_ROWS,
    segment_readings,
    worse_segments,
)
from loopwright.evaluate.threshold import ThresholdChoice
from loopwright.evaluate.tradeoff import design_effect, gain_points, threshold_points
from loopwright.evaluate.worst_row import loss_per_row, worst_rows
from loopwright.problem import Amounts, Answers, Metric, metric_named
from loopwright.train import Outcome

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Array = npt.NDArray[np.float64]
    Mask = npt.NDArray[np.bool_]
    Units = npt.NDArray[np.int64]
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_MOST_CLASSES_SHOWN = 30
# a row that makes so much of a figure's variance makes its bound less sure than it says


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """A model's answers to rows it never saw, and all that is known about both.

    Parameters
    ----------
    target
        Name of the target column.
    outcome
        Task, classes, threshold, calibration and interval of the model.
    frame
        The raw columns, `n_rows`, without the target.
    y
        The truth, `(n_rows,)`: values, or class indices.
    answers
        What was said, after calibration.
    uncalibrated
        What was said before, as `Predictor.predict_raw` returns it.
    main
        The metric that segments, robustness and worst rows go by.
    verdicts
        The criteria's verdicts on these rows.
    payoff
        What outcomes earn.
    hidden
        Columns of personal data: masked, and no segment is made of them.
    named
        Segments that the user guards: by name the expression and the rows it holds for.
    units, sampling
        Which rows are drawn together; see `row_units`.
    threshold, calibration_reason
        How the threshold was chosen, and why probabilities were repaired or not.
    robustness, n_robustness_rows
        See `evaluate.robustness`.
    """

    target: str
    outcome: Outcome
    frame: pl.DataFrame
    y: Array
    answers: Answers
    uncalibrated: Array
    main: Metric
    verdicts: Sequence[Verdict] = ()
    payoff: Amounts | None = None
    hidden: frozenset[str] = frozenset()
    named: Mapping[str, tuple[str, Mask]] = field(default_factory=dict)
    units: Units | None = None
    sampling: Sampling = field(default_factory=Sampling)
    threshold: ThresholdChoice | None = None
    calibration_reason: str = ""
    robustness: tuple[RobustnessReading, ...] = ()
    n_robustness_rows: int = 0
    learning: tuple[LearningCurve, ...] = ()
    comparison: ComparisonReading | None = None
    remarks: tuple[str, ...] = ()
    confidence: float = 0.95
    seed: int = 0

    @property
    def profit(self) -> Metric | None:
        """What is earned per case, if anything is."""
        if not self.payoff or self.outcome.task != "binary":
            return None
        return metric_named("profit_per_case", payoff=self.payoff)


def examine(subject: Subject) -> Examination:
    """Return everything a report shows about a model."""
    y, answers, outcome = subject.y, subject.answers, subject.outcome
    loss = loss_per_row(subject.main, y, answers)
    variation = design_effect(loss, subject.units)
    visible = [name for name in subject.frame.columns if name not in subject.hidden]
    found, n_tried = worse_segments(
        subject.frame.select(visible), loss, variation=variation, seed=subject.seed
    )
    is_binary = outcome.task == "binary"
    is_number = outcome.task == "regression"
    return Examination(
        task=outcome.task,
        target=subject.target,
        classes=outcome.classes,
        n_rows=len(y),
        confidence=subject.confidence,
        seed=subject.seed,
        main_metric=subject.main.name,
        sampling=subject.sampling,
        figures=_figures(subject),
        verdicts=tuple(_criterion(verdict) for verdict in subject.verdicts),
        confusion=None if is_number else confusion(y, answers, outcome.classes),
        threshold=_curve(subject, variation) if is_binary else None,
        gains=gain_points(
            y, answers.probability(), confidence=subject.confidence, variation=variation
        )
        if is_binary
        else (),
        calibration=None if is_number else _calibration(subject),
        residuals=residual_reading(
            y, answers.values, confidence=subject.confidence, units=subject.units
        )
        if is_number
        else None,
        interval=interval_reading(
            outcome.interval,
            y,
            answers.values,
            confidence=subject.confidence,
            units=subject.units,
        )
        if outcome.interval is not None
        else None,
        segments=segment_readings(
            subject.frame,
            y,
            answers,
            metric=subject.main,
            found=found,
            named=subject.named,
            confidence=subject.confidence,
            seed=subject.seed,
            units=subject.units,
        ),
        n_segments_looked_at=n_tried,
        worst_rows=worst_rows(
            subject.frame, y, answers, outcome, metric=subject.main, hidden=subject.hidden
        ),
        robustness=subject.robustness,
        n_robustness_rows=subject.n_robustness_rows,
        learning=subject.learning,
        comparison=subject.comparison,
        remarks=(*subject.remarks, *_remarks(subject)),
    )


def _figures(subject: Subject) -> tuple[Reading, ...]:
    known = {verdict.figure.metric: verdict.figure for verdict in subject.verdicts}
    shown = metrics_shown(
        subject.outcome.task,
        subject.y,
        first=[subject.main.name, *known],
        payoff=subject.payoff,
    )
    readings = []
    for metric in shown:
        found = known.get(metric.name) or figure(
            metric,
            subject.y,
            subject.answers,
            confidence=subject.confidence,
            seed=subject.seed,
            units=subject.units,
        )
        readings.append(
            Reading(
                metric=metric.name,
                title=title_of(metric.name),
                value=_known(found.value),
                lower=_known(found.lower),
                upper=_known(found.upper),
                n_rows=found.n_rows,
                higher_is_better=metric.higher_is_better,
                unit=unit_of(metric.name),
            )
        )
    return tuple(readings)


def _criterion(verdict: Verdict) -> CriterionReading:
    return CriterionReading(
        criterion=verdict.criterion,
        metric=verdict.figure.metric,
        value=_known(verdict.figure.value),
        bound=_known(verdict.bound),
        target=verdict.target,
        wants_low=" at most " in verdict.criterion,
        holds=verdict.holds,
    )


def confusion(y: Array, answers: Answers, classes: Sequence[str]) -> Confusion:
    """Return how often which class was said for which; see `Confusion`."""
    n = len(classes)
    true, said = y.astype(np.int64), answers.labels
    counts = np.bincount(true * n + said, minlength=n * n).reshape(n, n)
    names = list(classes)
    if n > _MOST_CLASSES_SHOWN:
        order = np.argsort(-counts.sum(axis=1), kind="stable")
        first, rest = np.sort(order[: _MOST_CLASSES_SHOWN - 1]), order[_MOST_CLASSES_SHOWN - 1 :]
        merged = np.zeros((n, _MOST_CLASSES_SHOWN), dtype=np.int64)
        merged[:, :-1], merged[:, -1] = counts[:, first], counts[:, rest].sum(axis=1)
        counts = np.concatenate([merged[first], merged[rest].sum(axis=0, keepdims=True)])
        names = [*(classes[place] for place in first), f"{n - len(first)} other classes"]
    return Confusion(
        classes=tuple(names), counts=tuple(tuple(int(k) for k in line) for line in counts)
    )


def _curve(subject: Subject, variation: float) -> ThresholdCurve:
    choice = subject.threshold or ThresholdChoice(
        threshold=subject.answers.threshold, by="half", reason=""
    )
    return ThresholdCurve(
        chosen=subject.answers.threshold,
        by=choice.by,
        reason=choice.reason,
        points=threshold_points(
            subject.y,
            subject.answers,
            profit=subject.profit,
            confidence=subject.confidence,
            variation=variation,
        ),
    )


def _calibration(subject: Subject) -> CalibrationReading:
    raw, made = subject.uncalibrated, subject.outcome.calibration
    after = reliability(
        subject.y, subject.answers.probabilities, confidence=subject.confidence, seed=subject.seed
    )
    before = after
    if made is not None:
        shares = np.stack([1 - raw, raw], axis=1) if raw.ndim == 1 else raw
        before = reliability(subject.y, shares, confidence=subject.confidence, seed=subject.seed)
    return CalibrationReading(
        method=made.method if made is not None else "none",
        reason=subject.calibration_reason,
        before=before,
        after=after,
    )


def _remarks(subject: Subject) -> list[str]:
    names = dict.fromkeys([subject.main.name, *(each.figure.metric for each in subject.verdicts)])
    metrics = [metric_named(name, payoff=subject.payoff) for name in names]
    remarks = doubts(metrics, subject.y, subject.answers)
    if len(subject.y) > SEGMENT_ROWS:
        remarks.append(
            f"Segments were looked for on {SEGMENT_ROWS:,} of the {len(subject.y):,} rows, drawn at "
            "random; their figures are from all rows."
        )
    if subject.robustness and subject.n_robustness_rows < len(subject.y):
        remarks.append(
            f"Columns were made to go wrong on {subject.n_robustness_rows:,} of the "
            f"{len(subject.y):,} rows."
        )
    if subject.sampling.by != "row":
        what = "groups" if subject.sampling.by == "group" else "blocks of time"
        remarks.append(
            f"Rows of this problem are not independent: bounds are from {subject.sampling.n_units:,} "
            f"{what} of {subject.sampling.column!r}, drawn whole."
        )
    return remarks


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
