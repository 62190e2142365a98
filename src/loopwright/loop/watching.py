"""The look at the endpoint: what came since the last one, what it means, whether to go round."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.deploy import Cursor, captured_inputs
from loopwright.loop.alarm import keep_look
from loopwright.loop.estimating import explained_report, forget_truth
from loopwright.loop.feedback_state import Period
from loopwright.loop.feedback_store import find_state
from loopwright.loop.file import LoopFile
from loopwright.loop.gathering import gathered, ledger_about, log_cursor
from loopwright.loop.guard import quarantined
from loopwright.loop.label_review import (
    hold_as_decided,
    is_asked_anew,
    keep_review,
    list_suspects,
    review_labels,
    was_decided,
)
from loopwright.loop.label_source import fetch_labels, source_state
from loopwright.loop.live import outside
from loopwright.loop.live_quality import criterion_figures, own_rows, row_losses
from loopwright.loop.live_statistics import add_statistics, forget_labels, statistics_of
from loopwright.loop.loop_gauge import keep_loop_gauges
from loopwright.loop.onset import onset
from loopwright.loop.sourcing import Sourced, Target
from loopwright.loop.step import StepResult, StepRunner
from loopwright.loop.trigger import LOSS_CAUSES, Seen, seen_in
from loopwright.loop.truth import ground_truth
from loopwright.loop.workspace import Workspace
from loopwright.monitor import (
    Alarm,
    Ledger,
    MonitorReport,
    Reference,
    WatchState,
    start_watch,
    watch,
)
from loopwright.monitor.hourly import (
    Statistics,
    added,
    label_statistics,
    prediction_statistics,
    without_labels,
)
from loopwright.monitor.volume import is_news
from loopwright.train import open_bundle

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")


_LABELS_AT_ONCE = 200_000


class _Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What the monitor of a loop keeps between two looks."""

    version: str
    state: dict[str, Any]
    report: dict[str, Any]
    capture: Cursor | None = None
    labels: Cursor | None = None
    n_fresh: int = 0
    harm_since: datetime | None = None
    n_since_harm: int | None = None
    n_looks: int = 0
    reason_told: str = ""
    endpoint: str = ""
    epoch: str = ""
    number: int = 0


def look(
    runner: StepRunner,
    workspace: Workspace,
    loop: LoopFile,
    sourced: Sourced,
    champion: dict[str, Any],
) -> Seen | None:
    """Look at what the endpoint saw since the last look, and return what that means for the loop.

    Reading starts where the last look ended; a look without anything new does nothing. None where
    there is no endpoint to watch.
    """
    if loop.deploy is None:
        return None
    seen: list[_Memory] = []

    def work() -> StepResult | None:
        memory, result = _looked(workspace, loop, sourced.target, champion)
        seen.append(memory)
        return result

    runner.reconcile("monitor", work=work)
    memory = seen[0]
    keep_loop_gauges(workspace, loop)
    report = MonitorReport.from_json(memory.report)
    differ = report.truth.selective if report.truth else ""
    found = seen_in(report, n_fresh=memory.n_fresh)
    return msgspec.structs.replace(
        found,
        labels_differ=found.labels_differ or differ,
        since=memory.harm_since or found.since,
        n_since=memory.n_since_harm,
    )


def _looked(
    workspace: Workspace, loop: LoopFile, target: Target, champion: dict[str, Any]
) -> tuple[_Memory, StepResult | None]:
    before = _memory(workspace, loop.name)
    endpoint = loop.deploy.endpoint if loop.deploy else ""
    if before is not None and before.endpoint != endpoint:
        before = None  # the cursors are those of another endpoint's logs
    ledger = _gathered(workspace, loop, target, before)
    is_same = before is not None and before.version == champion["version"]
    above = _read_until(before, ledger)
    nothing_new = (
        before is not None
        and is_same
        and above == ledger.number
        and not was_decided(workspace, loop.name, MonitorReport.from_json(before.report).truth)
    )
    if before is not None and nothing_new and not _fell_silent(before, workspace.clock.now()):
        return before, None
    model = open_bundle(workspace.artifacts.local_path(champion["bundle"]))
    reference = Reference.from_json(msgspec.json.decode(model.read_member("reference.json")))
    state = _kept_state(before.state) if before is not None and is_same else None
    began_anew = is_same and state is None
    fresh_watch = start_watch(reference, loop.monitor, version=model.version)
    state = state or fresh_watch
    # labels that had counted were taken back: all that was learnt of labels is learnt anew
    labels_anew = is_asked_anew(workspace, loop.name)
    if labels_anew:
        forget_truth(workspace, loop.name)
        state = replace(state, error=fresh_watch.error, n_labelled=0)
    threshold = model.outcome.threshold
    began = state
    state, alarms, statistics = _after_predictions(
        reference, state, (_watched(each, target) for each in ledger.predictions(above=above))
    )
    review = review_labels(
        workspace,
        loop,
        target,
        ledger,
        reference,
        above=above,
        threshold=threshold,
        inputs_moved=state.data.alarm is not None,
        anew=labels_anew,
    )
    new = _all_labelled(ledger) if labels_anew else ledger.newly_labelled(above=above)
    n_looks = (before.n_looks if before and is_same else 0) + bool(new.height)
    own = own_rows(ledger, loop, version=model.version)
    faulty = _faulty_times(workspace, loop.name)
    new = _watched(new, target).with_columns(
        pl.Series("loss", row_losses(loop, target, new, threshold=threshold))
    )
    # what a model says to faulty rows says nothing about the model
    fresh = outside(new.filter(pl.col("version") == model.version), faulty)
    state, worse = _after_labels(reference, state, fresh, ledger)
    statistics = added(statistics, _of_labels(reference, new, model.version, ledger))
    state, report = watch(
        reference,
        state,
        _no_predictions(new),
        figures=criterion_figures(loop, target, own, threshold, n_looks=n_looks),
        now=workspace.clock.now(),
    )
    report = replace(
        report,
        n_new_predictions=state.n_predictions - began.n_predictions,
        n_new_labelled=state.n_labelled - began.n_labelled,
        new_alarms=(*alarms, *worse),
    )
    report = explained_report(
        workspace,
        loop,
        target,
        model,
        reference,
        state,
        report,
        ledger=ledger,
        n_labelled=own.height,
    )
    truth = ground_truth(
        loop,
        target,
        ledger,
        reference,
        own,
        added(_known_statistics(workspace, loop.name, labels_anew=labels_anew), statistics),
        version=model.version,
        threshold=threshold,
        now=workspace.clock.now(),
        suspects=list_suspects(workspace, loop.name),
        source=source_state(workspace, loop.name),
    )
    report = replace(report, truth=truth)
    harm_since = None
    if report.verdict in LOSS_CAUSES and own.height:
        sound = outside(own, faulty)
        harm_since = onset(sound["at"], row_losses(loop, target, sound, threshold=threshold))
    memory = _Memory(
        version=model.version,
        state=state.to_json(),
        report=report.to_json(),
        capture=log_cursor(ledger, "capture"),
        labels=log_cursor(ledger, "labels"),
        epoch=ledger.epoch,
        number=ledger.number,
        n_fresh=_n_fresh(ledger, _learnt_until(workspace, loop.name, champion)),
        harm_since=harm_since,
        n_since_harm=own.filter(pl.col("at") >= harm_since).height if harm_since else None,
        n_looks=n_looks,
        endpoint=endpoint,
        reason_told=before.reason_told if before is not None and is_same else "",
    )
    with workspace.metadata.transaction():
        workspace.metadata.put("monitor", loop.name, msgspec.to_builtins(memory))
        keep_review(workspace, loop.name, review)
        if labels_anew:
            forget_labels(workspace, loop.name)
        add_statistics(workspace, loop.name, statistics)
        keep_look(workspace, loop, report)
    return memory, StepResult(
        output={"report": report.to_json()},
        summary=f"{report.verdict.replace('_', ' ')}: {report.n_predictions:,} predictions, "
        f"{report.n_labelled:,} labelled"
        + ("; watched anew, because another release kept the state" if began_anew else ""),
        reason=report.reason,
    )


def _faulty_times(workspace: Workspace, name: str) -> tuple[Period, ...]:
    """Return the times whose rows no round learns from."""
    state = find_state(workspace.metadata, name)
    return quarantined(state, workspace.clock.now()) if state is not None else ()


def _fell_silent(before: _Memory, now: datetime) -> bool:
    """Return whether requests stay away, or are back, since the last look."""
    state = _kept_state(before.state)
    return state is not None and is_news(state.volume, now=now)


def _kept_state(record: dict[str, Any]) -> WatchState | None:
    """Return the state of the last look; None if another release wrote it in another format."""
    try:
        return WatchState.from_json(record)
    except InvalidInputError:
        return None


def _gathered(
    workspace: Workspace, loop: LoopFile, target: Target, before: _Memory | None
) -> Ledger:
    folder = workspace.endpoint_folder(loop.deploy.endpoint if loop.deploy else "")
    fetch_labels(workspace, loop, target)
    epoch = before.epoch if before else ""
    read_until = (before.capture, before.labels) if before else (None, None)
    about = ledger_about(loop, target)
    ledger = gathered(folder, about, epoch=epoch, read_until=read_until)
    hold_as_decided(workspace, loop.name, ledger)
    return ledger


def _read_until(before: _Memory | None, ledger: Ledger) -> int:
    """Return the number up to which the last look has read the ledger."""
    if before is None:
        return 0
    return before.number if before.epoch == ledger.epoch else ledger.settled


def _after_predictions(
    reference: Reference, state: WatchState, predictions: Iterable[pl.DataFrame]
) -> tuple[WatchState, tuple[Alarm, ...], Statistics]:
    """Return the state after all new predictions, a slice at a time, the alarms and statistics."""
    alarms: tuple[Alarm, ...] = ()
    statistics: Statistics = {}
    for slice_ in predictions:
        shown = slice_.filter(~pl.col("shadow"))
        if not shown.height:
            continue
        inputs = captured_inputs(shown["inputs"].to_list())
        state, part = watch(reference, state, shown, inputs=inputs)
        alarms = (*alarms, *part.new_alarms)
        own = shown["version"] == state.version
        counted = prediction_statistics(reference, shown.filter(own), inputs.filter(own))
        others = prediction_statistics(_bare(reference), shown.filter(~own), pl.DataFrame())
        statistics = added(statistics, {**counted, **others})
    return state, alarms, statistics


def _after_labels(
    reference: Reference, state: WatchState, fresh: pl.DataFrame, ledger: Ledger
) -> tuple[WatchState, tuple[Alarm, ...]]:
    """Return the state after newly labelled rows, a slice at a time, and the alarms."""
    alarms: tuple[Alarm, ...] = ()
    for rows in fresh.sort("first_label_at", "at", "inference_id").iter_slices(_LABELS_AT_ONCE):
        state, part = watch(
            reference,
            state,
            _no_predictions(rows),
            losses=rows.select(pl.col("first_label_at").alias("at"), "loss"),
            loss_inputs=_inputs_of(reference, ledger, rows),
        )
        alarms = (*alarms, *part.new_alarms)
    return state, alarms


def _of_labels(reference: Reference, new: pl.DataFrame, version: str, ledger: Ledger) -> Statistics:
    """Return the statistics of newly labelled predictions of the live version and of others."""
    found: Statistics = {}
    for rows in new.iter_slices(_LABELS_AT_ONCE):
        own = rows.filter(pl.col("version") == version)
        others = rows.filter(pl.col("version") != version)
        known = _inputs_of(reference, ledger, own)
        known = pl.DataFrame() if known is None else known
        found = added(found, label_statistics(reference, own, known))
        found = added(found, label_statistics(_bare(reference), others, pl.DataFrame()))
    return found


def _all_labelled(ledger: Ledger) -> pl.DataFrame:
    """Return every prediction with a label that counts, with the columns of `newly_labelled`."""
    columns = list(ledger.newly_labelled(above=ledger.number).columns)
    return ledger.labelled(columns=columns)


def _no_predictions(rows: pl.DataFrame) -> pl.DataFrame:
    names = ("inference_id", "at", "version", "prediction")
    return pl.DataFrame(schema={name: rows.schema[name] for name in names})


def _known_statistics(workspace: Workspace, name: str, *, labels_anew: bool) -> Statistics:
    known = statistics_of(workspace, name)
    return without_labels(known) if labels_anew else known


def _bare(reference: Reference) -> Reference:
    """Return a reference without streams: those of one model do not fit another's answers."""
    return Reference(streams=(), n_rows=reference.n_rows)


def _inputs_of(reference: Reference, ledger: Ledger, rows: pl.DataFrame) -> pl.DataFrame | None:
    """Return what was asked with some rows; None where errors are not watched by it."""
    if not (reference.segments or reference.season):
        return None
    texts = rows.select("inference_id").join(
        ledger.inputs(rows["hash"]), on="inference_id", how="left", maintain_order="left"
    )
    return captured_inputs(texts["inputs"].to_list())


def last_report(workspace: Workspace, name: str) -> MonitorReport | None:
    """Return the report of the last look; None before the first."""
    memory = _memory(workspace, name)
    return MonitorReport.from_json(memory.report) if memory else None


def _memory(workspace: Workspace, name: str) -> _Memory | None:
    record = workspace.metadata.find("monitor", name)
    return msgspec.convert(record.body, _Memory) if record else None


def _learnt_until(workspace: Workspace, name: str, champion: dict[str, Any]) -> str | None:
    """Return until when live rows have been learnt from, also by challengers that were refused."""
    tried = [
        record.body["live"]["until"] for record in _rounds(workspace, name) if record.body["live"]
    ]
    return max([*tried, champion.get("learnt_until") or ""], default="") or None


def _n_fresh(ledger: Ledger, until: str | None) -> int:
    since = datetime.fromisoformat(until) if until else None
    return ledger.labelled(columns=("at",), since=since).height


def _watched(predictions: pl.DataFrame, target: Target) -> pl.DataFrame:
    """Return predictions as the detectors want them: a binary answer is its probability."""
    if target.task == "binary":
        return predictions.with_columns(pl.col("probability").alias("prediction"))
    return predictions


def _rounds(workspace: Workspace, name: str) -> Sequence[Any]:
    return workspace.metadata.list_("round", prefix=f"{name}/", limit=10_000)
