"""The step after the verdict: the candidate looked at from all sides, for the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.lazy import LazyModule
from loopwright.evaluate import (
    ComparisonReading,
    Examination,
    Sampling,
    SegmentComparison,
    Subject,
    ThresholdChoice,
    examine,
    robustness,
    verdicts,
)
from loopwright.evaluate.examination import LearningCurve, LearningPoint
from loopwright.loop.answering import units_of_rows
from loopwright.loop.candidate import Candidate, candidate_model
from loopwright.loop.file import LoopFile
from loopwright.loop.framing import read_part, truth
from loopwright.loop.judging import as_answers
from loopwright.loop.slices import slice_masks
from loopwright.loop.sourcing import Target
from loopwright.loop.step import StepResult
from loopwright.loop.workspace import Workspace
from loopwright.loop.worth import row_money
from loopwright.problem import Answers, checked_problem, primary_metric
from loopwright.train import ServingModel

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")


def examined(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    winner: Candidate,
    parts: dict[str, Any],
    judged: dict[str, Any],
    hidden: frozenset[str],
    learning: Mapping[str, Any] | None = None,
) -> StepResult:
    """Look at the candidate from all sides on the test rows that `evaluated` has read.

    Nothing is decided here: what comes out is for people, and for the next idea to try.

    Parameters
    ----------
    winner
        The candidate that was judged.
    parts
        See `parted_rows`.
    judged
        What `evaluated` found.
    hidden
        Columns of personal data.
    learning
        How a quick model got better with rows, as `decided` found.
    """
    test = read_part(workspace, parts["test"])
    model = candidate_model(workspace, loop, target, winner)
    subject = _subject(loop, target, winner, model, test, judged, hidden)
    subject = replace(subject, learning=_learning(learning))
    found = examine(_stressed(subject, model, target, winner, test))
    digest = workspace.artifacts.put_bytes(msgspec.json.encode(found.to_json()))
    return StepResult(
        output={"examination": digest, "summary": _summary(found)},
        summary=_summary(found),
        reason="; ".join(found.remarks),
        artifacts=(digest,),
    )


def read_examination(workspace: Workspace, digest: str) -> Examination:
    """Return an examination kept in the store."""
    return Examination.from_json(msgspec.json.decode(workspace.artifacts.get_bytes(digest)))


def _subject(
    loop: LoopFile,
    target: Target,
    winner: Candidate,
    model: ServingModel,
    test: pl.DataFrame,
    judged: dict[str, Any],
    hidden: frozenset[str],
) -> Subject:
    problem, y = loop.problem, truth(test, target)
    raw = model.predict_frame(test, calibrated=False)
    answers = as_answers(
        model.outcome.calibrated(raw),
        target,
        threshold=winner.threshold,
        money=row_money(problem, target, test),
    )
    units = units_of_rows(loop, test)
    split, how = loop.data.split, winner.how
    frame = test.drop(target.column)
    return Subject(
        target=target.column,
        outcome=model.outcome,
        frame=frame,
        y=y,
        answers=answers,
        uncalibrated=raw,
        main=primary_metric(problem, task=target.task),
        verdicts=verdicts(
            problem.criteria,
            checked_problem(problem, task=target.task),
            y,
            answers,
            confidence=problem.confidence,
            seed=loop.train.seed,
            units=units,
        ),
        payoff=problem.payoff,
        hidden=hidden,
        named=slice_masks(loop.evaluate, frame),
        units=units,
        sampling=Sampling(
            by="row" if units is None else split.by,  # type: ignore[arg-type] # not random then
            column=None if units is None else split.column,
            n_units=len(y) if units is None else int(units.max()) + 1,
        ),
        threshold=ThresholdChoice(
            threshold=winner.threshold,
            by=how.get("threshold_by", "half"),
            reason=how.get("threshold_reason", ""),
        ),
        calibration_reason=how.get("calibration_reason", ""),
        comparison=_comparison(judged["comparison"]),
        remarks=(f"Intervals: {how['interval_reason']}.",) if "interval_reason" in how else (),
        confidence=problem.confidence,
        seed=loop.train.seed,
    )


def _learning(curve: Mapping[str, Any] | None) -> tuple[LearningCurve, ...]:
    if curve is None:
        return ()
    points = tuple(
        LearningPoint(
            at=each["n_rows"],
            train=None,
            validation=each["value"],
            lower=each["lower"],
            upper=each["upper"],
        )
        for each in curve["points"]
    )
    return (LearningCurve(by="rows", metric=curve["metric"], points=points),)


def _comparison(compared: Mapping[str, Any] | None) -> ComparisonReading | None:
    if compared is None:
        return None
    names = [name for name in ComparisonReading.__slots__ if name != "segments"]
    return ComparisonReading(
        **{name: compared[name] for name in names},
        segments=tuple(
            msgspec.convert(each, SegmentComparison) for each in compared.get("segments", ())
        ),
    )


def _stressed(
    subject: Subject, model: ServingModel, target: Target, winner: Candidate, test: pl.DataFrame
) -> Subject:
    """Return the subject with what it loses when its columns go wrong."""

    def answers(raw: Any, rows: npt.NDArray[np.int64]) -> Answers:
        money = subject.answers.money
        chosen = None if money is None else subject.answers.rows(rows).money
        return as_answers(raw, target, threshold=winner.threshold, money=chosen)

    fields = model.signature.fields
    readings, n_rows = robustness(
        model.predict_frame,
        answers,
        test,
        subject.y,
        metric=subject.main,
        columns=[field.name for field in fields if field.name in test.columns],
        refused=[field.name for field in fields if not field.nullable],
        confidence=subject.confidence,
        seed=subject.seed,
    )
    return replace(subject, robustness=readings, n_robustness_rows=n_rows)


def _summary(found: Examination) -> str:
    worse = [each for each in found.segments if each.is_worse]
    told = [f"{len(found.figures)} figures"]
    if found.calibration is not None:
        told.append(f"calibration error {found.calibration.after.ece:.3f}")
    if found.interval is not None:
        told.append(
            f"{found.interval.coverage:.1%} inside their {found.interval.wanted:.0%} interval"
        )
    told.append(
        f"{len(worse)} worse segments of {found.n_segments_looked_at:,}, such as {worse[0].name}"
        if worse
        else f"no segment of {found.n_segments_looked_at:,} is worse beyond doubt"
    )
    return "; ".join(told)
