"""What is behind the open alarms of a loop's monitor: the columns, the rows, the parts of the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.loop.judging import captured_answers, loss_metric
from loopwright.loop.live_sample import LiveSample
from loopwright.monitor.attribution import (
    Attribution,
    advised,
    column_effects,
    leading_segment,
    moved_columns,
    told_attribution,
)
from loopwright.monitor.likeness import Likeness, likeness
from loopwright.monitor.loss_split import LossSplit, loss_split
from loopwright.monitor.moved_segment import MovedSegment, moved_segment
from loopwright.monitor.reference_rows import coded_streams, ordered_streams
from loopwright.monitor.report import alarm_key
from loopwright.monitor.skew import input_frame

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from loopwright.monitor import Alarm, MonitorReport

    Numbers = NDArray[np.float64]
else:
    np = LazyModule("numpy")

LEAST_LABELLED = 100


def attributions(
    sample: LiveSample, report: MonitorReport, alike: Likeness | None
) -> dict[str, Attribution]:
    """Return what is behind each open alarm, by its key.

    Parameters
    ----------
    sample
        With recent rows.
    alike
        The weights under which held-out rows stand for the labelled ones, where they are known.
    """
    losses = sample.reference_losses()
    frame = input_frame(sample.model, sample.recent["inputs"].struct.unnest())
    output, of = _followed(sample)
    columns = column_effects(
        moved_columns(report.drift, sample.reference),
        sample.reference,
        sample.rows,
        losses,
        frame,
        lambda rows: _said(sample, rows, output),
        seed=sample.seed,
    )
    loss = _split(sample, losses, alike)
    before = float(sample.rows.raw.reshape(sample.rows.n_rows, -1)[:, output].mean())
    now = float(_said(sample, frame, output).mean())
    found = {}
    for alarm in report.alarms:
        segment, segment_of = _segment(sample, alarm, losses)
        told = told_attribution(
            columns, segment, loss, of=of, segment_of=segment_of, before=before, now=now
        )
        found[alarm_key(alarm)] = Attribution(
            columns=tuple(columns),
            of=of,
            prediction_before=before,
            prediction_now=now,
            segment=segment,
            segment_of=segment_of,
            loss=loss,
            n_rows=frame.height,
            told=told,
            advice=advised(columns, loss, is_faulty=bool(report.findings)),
        )
    return found


def _followed(sample: LiveSample) -> tuple[int, str]:
    """Return which number of an answer is followed, and what it is: of many classes the most moved."""
    classes = sample.target.classes
    if not classes:
        return 0, "prediction"
    if sample.target.task == "binary":
        return 0, f"probability of {classes[-1]}"
    live = captured_answers(sample.recent, sample.target, threshold=sample.threshold).probabilities
    moved = np.abs(live.mean(axis=0) - sample.rows.raw.mean(axis=0))
    output = int(np.argmax(moved))
    return output, f"probability of {classes[output]}"


def _said(sample: LiveSample, frame: pl.DataFrame, output: int) -> Numbers:
    fitted = sample.model.fitted
    at = sample.recent["at"].max()
    today = at.date() if fitted.uses_today and at is not None else None
    raw = sample.model.predict_frame(frame, today=today)
    said: Numbers = raw.reshape(frame.height, -1)[:, output]
    return said


def _split(sample: LiveSample, losses: Numbers, alike: Likeness | None) -> LossSplit | None:
    if sample.labelled.height < LEAST_LABELLED:
        return None
    codes, ordered = sample.codes(sample.labelled), ordered_streams(sample.reference)
    if alike is None:
        alike = likeness(sample.rows.codes, codes, ordered=ordered, seed=sample.seed)
    metric = loss_metric(sample.loop.problem, task=sample.target.task)
    return loss_split(
        metric.name,
        (sample.rows.codes, losses),
        (codes, sample.losses(sample.labelled)),
        alike=alike,
        ordered=ordered,
        seed=sample.seed,
    )


def _segment(sample: LiveSample, alarm: Alarm, losses: Numbers) -> tuple[MovedSegment | None, str]:
    """Return where most of the change lies, and what is followed: the loss, or the leading stream."""
    if alarm.kind == "error" and sample.labelled.height >= LEAST_LABELLED:
        metric = loss_metric(sample.loop.problem, task=sample.target.task)
        found = moved_segment(
            coded_streams(sample.reference),
            (sample.rows.codes, losses),
            (sample.codes(sample.labelled), sample.losses(sample.labelled)),
        )
        return found, metric.name
    largest = alarm.effect.largest_move
    if "missing" in alarm.movement:
        largest = "missing"
    codes = sample.codes(sample.recent)
    found = leading_segment(
        sample.reference, sample.rows, codes, stream=alarm.stream, largest=largest
    )
    return found, alarm.stream
