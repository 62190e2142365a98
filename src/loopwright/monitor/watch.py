"""One look at new predictions and labels: windows cut, detectors moved on, a report made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.monitor.alarm import Alarm, new_alarm
from loopwright.monitor.bank import Windows
from loopwright.monitor.bet import bet_table
from loopwright.monitor.coding import data_codes, error_codes
from loopwright.monitor.detector import (
    DATA_ROLES,
    ERROR_ROLES,
    acknowledged,
    alarm_threshold,
    start_detector,
    steps,
)
from loopwright.monitor.evidence import DetectorState
from loopwright.monitor.finding import DataFinding
from loopwright.monitor.normal import Normal, accepted, current_reference
from loopwright.monitor.plan import MonitorPlan
from loopwright.monitor.quality import LiveFigure
from loopwright.monitor.record import from_record, to_record
from loopwright.monitor.reference import Reference, StreamReference
from loopwright.monitor.report import (
    ACTIONS,
    MonitorReport,
    current_findings,
    stream_drifts,
    triage,
)
from loopwright.monitor.schema import LEAST_ROWS, schema_findings
from loopwright.monitor.volume import Volume, counted, volume_finding

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

AlarmKind = Literal["data", "error"]

_STATE_FORMAT = 2
_CHUNK_ROWS = 65_536  # of a look; more would only take memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A detector with the window it has not filled yet.

    Parameters
    ----------
    pending
        Counts of the rows since the last full window, by stream: the bins, and in a stream with a
        season the rows of each stratum after them.
    pending_gains
        Streams with a season: what these rows multiply the capital of each bet by, in logs.
    pending_rows, pending_at
        How many rows they are, and the time of the first.
    alarm
        The alarm of the open episode.
    """

    detector: DetectorState
    pending: dict[str, tuple[int, ...]]
    pending_gains: dict[str, tuple[float, ...]] = field(default_factory=dict)
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
    normals
        What streams are compared with since a person accepted a change.
    volume
        The usual numbers of requests.
    schema
        What was wrong with the columns of the last requests.
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
    normals: dict[str, Normal] = field(default_factory=dict)
    volume: Volume = field(default_factory=Volume)
    schema: tuple[DataFinding, ...] = ()
    format: int = _STATE_FORMAT

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON types."""
        return to_record(self)

    @classmethod
    def from_json(cls, record: Any) -> WatchState:
        """Return the state that `to_json` wrote; a damaged one is an `InvalidInputError`."""
        return from_record(cls, record, format_=_STATE_FORMAT)


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
    bar = alarm_threshold(
        false_alarms_per_year=plan.false_alarms_per_year / 2,
        windows_per_year=windows_per_year or plan.windows_per_year(),
    )
    of_data, of_error = reference.thresholds(bar, window_rows=plan.window_rows)
    data = start_detector(reference, roles=DATA_ROLES, threshold=of_data, bar=bar)
    error = start_detector(reference, roles=ERROR_ROLES, threshold=of_error, bar=bar)
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
    loss_inputs: pl.DataFrame | None = None,
    figures: Sequence[LiveFigure] = (),
    now: datetime | None = None,
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
    loss_inputs
        Their raw input columns, row by row, if errors are watched by segment or season.
    figures
        The criteria measured on all labelled rows, for the report.
    now
        The time of the look, so that requests that stay away are noticed.

    Raises
    ------
    InvalidInputError
        If a column is missing or inputs and predictions differ in length.
    """
    _check(predictions, inputs, losses)
    reference = current_reference(reference, state.normals)
    own = predictions["version"].cast(pl.String) == state.version
    rows, row_inputs = _ordered(predictions, inputs, own)
    codes = data_codes(reference, rows["prediction"], row_inputs, rows["at"])
    data, new = _moved("data", state.data, reference, codes, rows["at"], state.window_rows)
    error, n_labelled = state.error, 0
    if losses is not None and losses.height:
        order = losses.with_row_index("row").sort("at", maintain_order=True)["row"]
        labelled, n_labelled = losses[order], losses.height
        of_losses = None if loss_inputs is None else loss_inputs[order]
        codes = error_codes(reference, labelled["loss"], of_losses, None)
        error, worse = _moved("error", error, reference, codes, labelled["at"], state.window_rows)
        new += worse
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
        volume=counted(state.volume, rows["at"], now=now),
        schema=_schema(state, reference, row_inputs),
    )
    return after, _report(reference, before=state, after=after, figures=figures, new=new)


def acknowledge(
    reference: Reference,
    state: WatchState,
    kind: AlarmKind,
    *,
    new_normal: bool = False,
    at: datetime | None = None,
) -> WatchState:
    """Return the state with the open episode of a kind closed: a person knows, or it was mended.

    If the change is still there, it raises a new alarm once it has gathered evidence anew, unless
    it is the new normal.

    Parameters
    ----------
    new_normal
        From now on compare the streams that moved with the rows since the change, at least 100.
    at
        When a person said so.
    """
    held = state.data if kind == "data" else state.error
    reference = current_reference(reference, state.normals)
    moved = accepted(reference, held.detector, at=at) if new_normal else {}
    state = replace(state, normals={**state.normals, **moved})
    detector = acknowledged(held.detector, current_reference(reference, moved))
    quiet = replace(held, detector=detector, alarm=None)
    if moved:  # rows that wait were counted against what was normal before
        empty = _empty_watch(detector, current_reference(reference, moved))
        quiet = replace(
            quiet,
            pending={**held.pending, **{key: empty.pending[key] for key in moved}},
            pending_gains={
                key: empty.pending_gains[key] if key in moved else gains
                for key, gains in held.pending_gains.items()
            },
        )
    return replace(state, data=quiet) if kind == "data" else replace(state, error=quiet)


def _schema(
    state: WatchState, reference: Reference, inputs: pl.DataFrame | None
) -> tuple[DataFinding, ...]:
    if inputs is None or inputs.height < LEAST_ROWS:
        return state.schema
    return tuple(schema_findings(reference, inputs))


def _findings(state: WatchState, reference: Reference) -> tuple[DataFinding, ...]:
    """Faults first; a column that is gone altogether is not also told as missing."""
    gone = {finding.stream for finding in state.schema if finding.problem in ("gone", "type")}
    values = current_findings(state.data.detector, reference)
    volume = volume_finding(state.volume)
    told = {(each.stream, each.problem) for each in state.schema}
    values = tuple(each for each in values if (each.stream, each.problem) not in told)
    found = [*state.schema, *(each for each in values if each.stream not in gone)]
    found += [volume] if volume else []
    return tuple(sorted(found, key=lambda finding: not finding.is_grave))


def _report(
    reference: Reference,
    *,
    before: WatchState,
    after: WatchState,
    figures: Sequence[LiveFigure],
    new: Sequence[Alarm],
) -> MonitorReport:
    held = (after.data.alarm, after.error.alarm)
    alarms = tuple(alarm for alarm in held if alarm is not None)
    drift = stream_drifts((after.data.detector, after.error.detector), reference)
    findings = _findings(after, reference)
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
        new_alarms=tuple(new),
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
) -> tuple[Watch, list[Alarm]]:
    """Fill windows with the new rows and step the detector through those that are full."""
    raised: list[Alarm] = []
    for first in range(0, len(at), _CHUNK_ROWS):
        part = slice(first, first + _CHUNK_ROWS)
        some = {key: code[part] for key, code in codes.items()}
        held, alarms = _moved_some(kind, held, reference, some, at[part], window_rows)
        raised += alarms
    return held, raised


def _moved_some(
    kind: AlarmKind,
    held: Watch,
    reference: Reference,
    codes: dict[str, NDArray[np.int64]],
    at: pl.Series,
    window_rows: int,
) -> tuple[Watch, list[Alarm]]:
    streams = [each for each in reference.streams if each.key in held.pending and each.key in codes]
    n_full = (held.pending_rows + len(at)) // window_rows
    window = (held.pending_rows + np.arange(len(at))) // window_rows
    windows = {
        stream.key: _with_pending(
            held,
            stream,
            Windows.of(
                stream,
                _cell_counts(codes[stream.key], stream.n_cells, window, n_full + 1),
                held.detector.tolerance,
            ),
        )
        for stream in streams
    }
    starts = [_first_at(held, at, number, window_rows) for number in range(n_full)]
    full = {
        key: Windows(tally=w.tally[:n_full], gains=w.gains[:n_full]) for key, w in windows.items()
    }
    detector, states = steps(held.detector, reference, full, at=starts)
    alarms = [new_alarm(kind, state, reference) for state in states]
    raised = [alarm for alarm in alarms if alarm is not None]
    alarm = next((a for a in reversed(raised)), held.alarm) if detector.episode else None
    rows_left = (held.pending_rows + len(at)) % window_rows
    pending, gains = dict(held.pending), dict(held.pending_gains)
    for stream in streams:
        left = windows[stream.key]
        pending[stream.key] = tuple(left.tally[n_full].tolist())
        if stream.strata:
            gains[stream.key] = tuple(left.gains[n_full].tolist())
    return replace(
        held,
        detector=detector,
        alarm=alarm,
        pending=pending,
        pending_gains=gains,
        pending_rows=rows_left,
        pending_at=_first_at(held, at, n_full, window_rows) if rows_left else None,
    ), raised


def _cell_counts(
    codes: NDArray[np.int64], n_cells: int, window: NDArray[np.int64], n_windows: int
) -> NDArray[np.int64]:
    """Counts of the new rows alone, (n_windows, n_cells), from the window of each."""
    # the first cell collects rows outside the stream's segment
    cells = window * (n_cells + 1)
    cells += codes
    cells += 1
    counts = np.bincount(cells, minlength=n_windows * (n_cells + 1))
    return counts.reshape(n_windows, n_cells + 1)[:, 1:]


def _with_pending(held: Watch, stream: StreamReference, windows: Windows) -> Windows:
    """Add the rows that waited for the first window."""
    if not held.pending_rows:
        return windows
    tally, gains = windows.tally.copy(), windows.gains.copy()
    waiting = np.array(held.pending[stream.key])
    tally[0] += waiting
    if stream.strata:
        gains[0] += np.array(held.pending_gains[stream.key])
    else:
        gains[0] += waiting @ bet_table(stream, held.detector.tolerance).log_factors.T
    return Windows(tally=tally, gains=gains)


def _first_at(held: Watch, at: pl.Series, number: int, window_rows: int) -> datetime | None:
    if number == 0 and held.pending_rows:
        return held.pending_at
    return _utc(at[number * window_rows - held.pending_rows])


def _ordered(
    predictions: pl.DataFrame, inputs: pl.DataFrame | None, own: pl.Series
) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """This version's rows in the order of time, and their inputs in the same order."""
    numbered = predictions.select("inference_id", "at", "prediction").with_row_index("row")
    rows = numbered.filter(own).sort("at", "inference_id")
    if inputs is None or (rows.height == inputs.height and rows["row"].is_sorted()):
        return rows, inputs
    return rows, inputs[rows["row"]]


def _empty_watch(detector: DetectorState, reference: Reference) -> Watch:
    judged = [stream for stream in reference.streams if stream.key in detector.streams]
    return Watch(
        detector=detector,
        pending={each.key: (0,) * (each.n_bins + len(each.strata)) for each in judged},
        pending_gains={
            each.key: (0.0,) * len(bet_table(each, detector.tolerance).names)
            for each in judged
            if each.strata
        },
    )


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
