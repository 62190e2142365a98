"""One look at new predictions and labels: windows cut, detectors moved on, a report made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.monitor.alarm import Alarm, new_alarm
from loopwright.monitor.detector import (
    DATA_ROLES,
    ERROR_ROLES,
    DetectorState,
    acknowledged,
    alarm_threshold,
    start_detector,
    step,
)
from loopwright.monitor.plan import MonitorPlan
from loopwright.monitor.quality import LiveFigure
from loopwright.monitor.record import from_record, to_record
from loopwright.monitor.reference import Reference, bin_codes
from loopwright.monitor.report import (
    ACTIONS,
    MonitorReport,
    current_findings,
    stream_drifts,
    triage,
)

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

AlarmKind = Literal["data", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A detector with the window it has not filled yet.

    Parameters
    ----------
    pending
        Counts of the rows since the last full window, by stream.
    pending_rows, pending_at
        How many rows they are, and the time of the first.
    alarm
        The alarm of the open episode.
    """

    detector: DetectorState
    pending: dict[str, tuple[int, ...]]
    pending_rows: int = 0
    pending_at: datetime | None = None
    alarm: Alarm | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchState:
    """Everything the monitor of one model version remembers; constant in size.

    Parameters
    ----------
    data, error
        The watch over inputs and predictions, by prediction time, and over losses, in the order
        their labels came.
    n_predictions, n_labelled
        Rows of this version seen so far.
    n_other_version
        Rows that another version answered; they are not judged.
    first_at, last_at
        Times of the earliest and latest prediction.
    """

    version: str
    window_rows: int
    data: Watch
    error: Watch
    n_predictions: int = 0
    n_labelled: int = 0
    n_other_version: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None
    format: int = 1

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON types."""
        return to_record(self)

    @classmethod
    def from_json(cls, record: Any) -> WatchState:
        """Return the state that `to_json` wrote; a damaged one is an `InvalidInputError`."""
        return from_record(cls, record)


def start_watch(
    reference: Reference,
    plan: MonitorPlan,
    *,
    version: str,
    windows_per_year: float | None = None,
) -> WatchState:
    """Return the state of a monitor that has seen nothing yet.

    The plan's false alarms are shared half and half by the data and the error detector.

    Parameters
    ----------
    windows_per_year
        How many windows the endpoint's traffic fills in a year; None: one for every look.
    """
    threshold = alarm_threshold(
        false_alarms_per_year=plan.false_alarms_per_year / 2,
        windows_per_year=windows_per_year or plan.windows_per_year(),
    )
    data = start_detector(reference, roles=DATA_ROLES, threshold=threshold)
    error = start_detector(reference, roles=ERROR_ROLES, threshold=threshold)
    return WatchState(
        version=version,
        window_rows=plan.window_rows,
        data=_empty_watch(data, reference),
        error=_empty_watch(error, reference),
    )


def watch(
    reference: Reference,
    state: WatchState,
    predictions: pl.DataFrame,
    *,
    inputs: pl.DataFrame | None = None,
    losses: pl.DataFrame | None = None,
    figures: Sequence[LiveFigure] = (),
) -> tuple[WatchState, MonitorReport]:
    """Return the state after some new rows, and what they show.

    The same rows give the same state in one call or in many, as long as the calls follow in time.
    A row is to be given once: the caller remembers how far the capture was read.

    Parameters
    ----------
    predictions
        New rows of the capture: inference_id, at, version, prediction. Rows of other versions are
        counted and left out.
    inputs
        Their raw input columns, row by row; a column that is not there counts as missing. None:
        inputs are not judged. `predictions` itself, if it holds the input columns.
    losses
        Newly labelled rows of this version: at (when the label came) and loss.
    figures
        The criteria measured on all labelled rows, for the report.

    Raises
    ------
    InvalidInputError
        If a column is missing or inputs and predictions differ in length.
    """
    _check(predictions, inputs, losses)
    own = predictions["version"].cast(pl.String) == state.version
    rows, row_inputs = _ordered(predictions, inputs, own)
    codes = _data_codes(reference, rows, row_inputs)
    data = _moved("data", state.data, reference, codes, rows["at"], state.window_rows)
    error, n_labelled = state.error, 0
    if losses is not None and losses.height:
        labelled = losses.sort("at", maintain_order=True)
        n_labelled = labelled.height
        error_codes = _error_codes(reference, labelled["loss"])
        error = _moved("error", error, reference, error_codes, labelled["at"], state.window_rows)
    seen = (state.first_at, state.last_at, _utc(rows["at"].min()), _utc(rows["at"].max()))
    times = [at for at in seen if at is not None]
    after = replace(
        state,
        data=data,
        error=error,
        n_predictions=state.n_predictions + rows.height,
        n_labelled=state.n_labelled + n_labelled,
        n_other_version=state.n_other_version + predictions.height - rows.height,
        first_at=min(times, default=None),
        last_at=max(times, default=None),
    )
    return after, _report(reference, before=state, after=after, figures=figures)


def acknowledge(reference: Reference, state: WatchState, kind: AlarmKind) -> WatchState:
    """Return the state with the open episode of a kind closed: a person knows, or it was mended.

    If the change is still there, it raises a new alarm once it has gathered evidence anew.
    """
    held = state.data if kind == "data" else state.error
    quiet = replace(held, detector=acknowledged(held.detector, reference), alarm=None)
    return replace(state, data=quiet) if kind == "data" else replace(state, error=quiet)


def _report(
    reference: Reference,
    *,
    before: WatchState,
    after: WatchState,
    figures: Sequence[LiveFigure],
) -> MonitorReport:
    pairs = ((before.data, after.data), (before.error, after.error))
    alarms = tuple(now.alarm for _, now in pairs if now.alarm is not None)
    new = tuple(
        now.alarm
        for then, now in pairs
        if now.alarm is not None and now.alarm.number > then.detector.n_episodes
    )
    drift = stream_drifts((after.data.detector, after.error.detector), reference)
    findings = current_findings(after.data.detector, reference)
    verdict, reason = triage(drift=drift, alarms=alarms, figures=figures, findings=findings)
    return MonitorReport(
        version=after.version,
        from_at=after.first_at,
        to_at=after.last_at,
        n_predictions=after.n_predictions,
        n_labelled=after.n_labelled,
        n_new_predictions=after.n_predictions - before.n_predictions,
        n_new_labelled=after.n_labelled - before.n_labelled,
        n_windows=after.data.detector.n_windows,
        drift=drift,
        alarms=alarms,
        new_alarms=new,
        figures=tuple(figures),
        findings=findings,
        verdict=verdict,
        reason=reason,
        action=ACTIONS[verdict],
    )


def _moved(
    kind: AlarmKind,
    held: Watch,
    reference: Reference,
    codes: dict[str, NDArray[np.int64]],
    at: pl.Series,
    window_rows: int,
) -> Watch:
    """Fill windows with the new rows and step the detector through those that are full."""
    n_bins = {key: len(counts) for key, counts in held.pending.items()}
    windows = _window_counts(codes, n_bins, held.pending_rows, len(at), window_rows)
    n_full = (held.pending_rows + len(at)) // window_rows
    for number in range(n_full):
        counts = {key: table[number] for key, table in windows.items()}
        if number == 0:
            counts = {key: row + np.array(held.pending[key]) for key, row in counts.items()}
        held = _stepped(kind, held, reference, counts, _first_at(held, at, number, window_rows))
    left = {key: table[n_full] for key, table in windows.items()}
    if n_full == 0:
        left = {key: row + np.array(held.pending[key]) for key, row in left.items()}
    rows_left = (held.pending_rows + len(at)) % window_rows
    return replace(
        held,
        pending={
            key: tuple(left[key].tolist()) if key in left else counts
            for key, counts in held.pending.items()
        },
        pending_rows=rows_left,
        pending_at=_first_at(held, at, n_full, window_rows) if rows_left else None,
    )


def _window_counts(
    codes: dict[str, NDArray[np.int64]],
    n_bins: dict[str, int],
    pending_rows: int,
    n_rows: int,
    window_rows: int,
) -> dict[str, NDArray[np.int64]]:
    """Counts of the new rows alone, (n_windows, n_bins) for each stream; the last is not full."""
    window = (pending_rows + np.arange(n_rows)) // window_rows
    n_windows = (pending_rows + n_rows) // window_rows + 1
    return {
        key: np.bincount(window * n_bins[key] + code, minlength=n_windows * n_bins[key])
        .reshape(n_windows, n_bins[key])
        .astype(np.int64)
        for key, code in codes.items()
    }


def _first_at(held: Watch, at: pl.Series, number: int, window_rows: int) -> datetime | None:
    if number == 0 and held.pending_rows:
        return held.pending_at
    return _utc(at[number * window_rows - held.pending_rows])


def _stepped(
    kind: AlarmKind,
    held: Watch,
    reference: Reference,
    counts: dict[str, NDArray[np.int64]],
    at: datetime | None,
) -> Watch:
    detector = step(held.detector, reference, counts, at=at)
    if detector.n_episodes > held.detector.n_episodes:
        return replace(held, detector=detector, alarm=new_alarm(kind, detector, reference))
    return replace(held, detector=detector, alarm=held.alarm if detector.episode else None)


def _data_codes(
    reference: Reference, rows: pl.DataFrame, inputs: pl.DataFrame | None
) -> dict[str, NDArray[np.int64]]:
    codes = {}
    for stream in reference.streams:
        if stream.role == "prediction":
            codes[stream.key] = bin_codes(stream, rows["prediction"])
        elif stream.role == "input" and inputs is not None:
            present = stream.name in inputs.columns
            values = inputs[stream.name] if present else pl.Series([None] * rows.height)
            codes[stream.key] = bin_codes(stream, values)
    return codes


def _error_codes(reference: Reference, losses: pl.Series) -> dict[str, NDArray[np.int64]]:
    stream = reference.find("error")
    return {} if stream is None else {stream.key: bin_codes(stream, losses)}


def _ordered(
    predictions: pl.DataFrame, inputs: pl.DataFrame | None, own: pl.Series
) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """This version's rows in the order of time, and their inputs in the same order."""
    numbered = predictions.select("inference_id", "at", "prediction").with_row_index("row")
    rows = numbered.filter(own).sort("at", "inference_id")
    return rows, None if inputs is None else inputs[rows["row"]]


def _empty_watch(detector: DetectorState, reference: Reference) -> Watch:
    pending = {
        stream.key: (0,) * stream.n_bins
        for stream in reference.streams
        if stream.key in detector.streams
    }
    return Watch(detector=detector, pending=pending)


def _utc(at: Any) -> datetime | None:
    if at is None:
        return None
    moment: datetime = at
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _check(
    predictions: pl.DataFrame, inputs: pl.DataFrame | None, losses: pl.DataFrame | None
) -> None:
    wanted: dict[str, tuple[pl.DataFrame, tuple[str, ...]]]
    wanted = {"predictions": (predictions, ("inference_id", "at", "version", "prediction"))}
    if losses is not None:
        wanted["losses"] = (losses, ("at", "loss"))
    for what, (frame, columns) in wanted.items():
        missing = [column for column in columns if column not in frame.columns]
        if missing:
            raise InvalidInputError(
                f"The {what} have no column {missing[0]!r}; they have {', '.join(frame.columns)}.",
                hint=f"Give {', '.join(columns)}.",
                field=missing[0],
            )
    if inputs is not None and inputs.height != predictions.height:
        raise InvalidInputError(
            f"There are {inputs.height} rows of inputs for {predictions.height} predictions.",
            hint="Give the inputs of the same rows, in the same order.",
            field="inputs",
        )
