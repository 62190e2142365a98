"""The look at the endpoint: what came since the last one, what it means, whether to go round."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.lazy import LazyModule
from loopwright.data import Snapshot
from loopwright.deploy import Cursor
from loopwright.evaluate import resampled_deviation
from loopwright.loop.file import LoopFile
from loopwright.loop.judging import captured_answers, loss_metric
from loopwright.loop.live import all_captured, all_labels, captured, labelled, live_rows
from loopwright.loop.sourcing import Sourced, Target, class_indices
from loopwright.loop.step import StepResult, StepRunner
from loopwright.loop.trigger import Seen, Trigger, decide
from loopwright.loop.workspace import Workspace
from loopwright.loop.worth import can_be_counted, row_money
from loopwright.monitor import (
    Joined,
    LiveFigure,
    MonitorReport,
    Reference,
    WatchState,
    join_labels,
    live_figures,
    start_watch,
    watch,
)
from loopwright.problem import MONEY_METRICS, Criterion, Metric, checked_problem
from loopwright.train import ServingModel, open_bundle

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

OWN_CAUSES = ("criterion_missed", "drift", "rows")


class _Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What the monitor of a loop keeps between two looks."""

    version: str
    state: dict[str, Any]
    report: dict[str, Any]
    capture: Cursor | None = None
    labels: Cursor | None = None
    n_fresh: int = 0
    n_looks: int = 0
    reason_told: str = ""
    endpoint: str = ""


def look(
    runner: StepRunner,
    workspace: Workspace,
    loop: LoopFile,
    sourced: Sourced,
    champion: dict[str, Any],
) -> Trigger:
    """Look at what the endpoint saw since the last look, and return whether to go round again.

    Reading starts where the last look ended; a look without anything new does nothing.
    """
    if loop.deploy is None:
        return Trigger(starts=False, cause=None, reason="there is no endpoint to watch")
    seen: list[_Memory] = []

    def work() -> StepResult | None:
        memory, result = _looked(workspace, loop, sourced.target, champion)
        seen.append(memory)
        return result

    runner.reconcile("monitor", work=work)
    memory = seen[0]
    trigger = decide(
        loop.retrain,
        Seen(
            verdict=str(memory.report["verdict"]),
            reason=str(memory.report["reason"]),
            n_labelled=memory.n_fresh,
        ),
        now=workspace.clock.now(),
        last_own_round_at=_last_own_round(workspace, loop.name),
    )
    if (
        not trigger.starts
        and trigger.reason != memory.reason_told
        and memory.report["verdict"] not in ("ok", "watch")
    ):
        runner.note("the loop does not go round again", reason=trigger.reason)
        told = msgspec.structs.replace(memory, reason_told=trigger.reason)
        workspace.metadata.put("monitor", loop.name, msgspec.to_builtins(told))
    return trigger


def _looked(
    workspace: Workspace, loop: LoopFile, target: Target, champion: dict[str, Any]
) -> tuple[_Memory, StepResult | None]:
    before = _memory(workspace, loop.name)
    endpoint = loop.deploy.endpoint if loop.deploy else ""
    if before is not None and before.endpoint != endpoint:
        before = None  # the cursors are those of another endpoint's logs
    folder = workspace.endpoint_folder(endpoint)
    new_predictions, capture = _new(captured, folder, before.capture if before else None)
    new_labels, labels_at = _new(labelled, folder, before.labels if before else None)
    is_same = before is not None and before.version == champion["version"]
    if before is not None and is_same and (capture, labels_at) == (before.capture, before.labels):
        return before, None
    predictions, labels = _together(new_predictions), _together(new_labels)
    model = open_bundle(workspace.artifacts.local_path(champion["bundle"]))
    reference = Reference.from_json(msgspec.json.decode(model.read_member("reference.json")))
    state = (
        WatchState.from_json(before.state)
        if before is not None and is_same
        else start_watch(reference, loop.monitor, version=model.version)
    )
    joined = _joined(folder, target)
    own = _own(joined, model.version)
    n_looks = (before.n_looks if before and is_same else 0) + bool(labels.height)
    figures = _figures(loop, target, own, model.outcome.threshold, n_looks=n_looks)
    state, report = watch(
        reference,
        state,
        _watched(predictions, target),
        inputs=_inputs(predictions),
        losses=_losses(loop, target, own, labels, model.outcome.threshold),
        figures=figures,
    )
    memory = _Memory(
        version=model.version,
        state=state.to_json(),
        report=report.to_json(),
        capture=capture,
        labels=labels_at,
        n_fresh=_n_fresh(joined, _learnt_until(workspace, loop.name, champion)),
        n_looks=n_looks,
        endpoint=endpoint,
        reason_told=before.reason_told if before is not None and is_same else "",
    )
    workspace.metadata.put("monitor", loop.name, msgspec.to_builtins(memory))
    return memory, StepResult(
        output={"report": report.to_json()},
        summary=f"{report.verdict.replace('_', ' ')}: {report.n_predictions:,} predictions, "
        f"{report.n_labelled:,} labelled",
        reason=report.reason,
    )


def last_report(workspace: Workspace, name: str) -> MonitorReport | None:
    """Return the report of the last look; None before the first."""
    memory = _memory(workspace, name)
    return MonitorReport.from_json(memory.report) if memory else None


def _memory(workspace: Workspace, name: str) -> _Memory | None:
    record = workspace.metadata.find("monitor", name)
    return msgspec.convert(record.body, _Memory) if record else None


def _new(pages: Any, folder: Any, after: Cursor | None) -> tuple[list[pl.DataFrame], Cursor | None]:
    """Return the pages written since a cursor that hold rows, and where reading ended."""
    frames, cursor = [], after
    for frame, at in pages(folder, after=after):
        frames.append(frame)
        cursor = at
    return [frame for frame in frames if frame.height], cursor


def _together(frames: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()


def _joined(folder: Any, target: Target) -> Joined | None:
    predictions, labels = all_captured(folder), all_labels(folder)
    if not predictions.height or not labels.height:
        return None
    return join_labels(predictions, labels, task=target.task, classes=target.classes)  # type: ignore[arg-type]


def _own(joined: Joined | None, version: str) -> pl.DataFrame:
    if joined is None:
        return pl.DataFrame()
    return joined.frame.filter(pl.col("version") == version)


def _learnt_until(workspace: Workspace, name: str, champion: dict[str, Any]) -> str | None:
    """Return until when live rows have been learnt from, also by challengers that were refused."""
    tried = [
        record.body["live"]["until"] for record in _rounds(workspace, name) if record.body["live"]
    ]
    return max([*tried, champion.get("learnt_until") or ""], default="") or None


def _n_fresh(joined: Joined | None, until: str | None) -> int:
    if joined is None:
        return 0
    if until is None:
        return joined.frame.height
    return joined.frame.filter(pl.col("at") > datetime.fromisoformat(until)).height


def _watched(predictions: pl.DataFrame, target: Target) -> pl.DataFrame:
    """Return predictions as the detectors want them: a binary answer is its probability."""
    if not predictions.height:
        schema: dict[str, pl.DataType] = {
            "inference_id": pl.String(),
            "at": pl.Datetime("us", "UTC"),
            "version": pl.String(),
            "prediction": pl.Float64(),
        }
        return pl.DataFrame(schema=schema)
    if target.task == "binary":
        return predictions.with_columns(pl.col("probability").alias("prediction"))
    return predictions


def _inputs(predictions: pl.DataFrame) -> pl.DataFrame | None:
    if not predictions.height:
        return None
    return predictions["inputs"].struct.unnest()


def _truth(own: pl.DataFrame, target: Target) -> npt.NDArray[np.float64]:
    labels = own["label"]
    if target.classes:
        labels = class_indices(labels, target.classes)
    truth: npt.NDArray[np.float64] = labels.cast(pl.Float64).to_numpy()
    return truth


def _losses(
    loop: LoopFile, target: Target, own: pl.DataFrame, labels: pl.DataFrame, threshold: float
) -> pl.DataFrame | None:
    """Return the losses of the predictions whose first label came in this look."""
    if not own.height or not labels.height:
        return None
    first = labels["at"].min()
    rows = own.filter(
        pl.col("inference_id").is_in(labels["inference_id"].unique().implode())
        & (pl.col("first_label_at") >= first)
    )
    metric = loss_metric(loop.problem, task=target.task)
    losses = metric.per_row(
        _truth(rows, target), captured_answers(rows, target, threshold=threshold)
    )
    return pl.DataFrame({"at": rows["first_label_at"], "loss": losses})


def _figures(
    loop: LoopFile, target: Target, own: pl.DataFrame, threshold: float, *, n_looks: int
) -> list[LiveFigure]:
    """Return every criterion as it stands on the labelled predictions of the live version."""
    if not own.height:
        return []
    counts = can_be_counted(loop.problem, _columns(own))
    money = row_money(loop.problem, target, own["inputs"].struct.unnest()) if counts else None
    y = _truth(own, target)
    answers = captured_answers(own, target, threshold=threshold, money=money)
    figures: list[LiveFigure] = []
    metrics = checked_problem(loop.problem, task=target.task)
    for criterion, metric in zip(loop.problem.criteria, metrics, strict=True):
        if metric.name in MONEY_METRICS and not counts:
            continue  # requests do not hold what a row is worth
        values = metric.per_row(y, answers)
        if values is not None and metric.name in MONEY_METRICS:
            values = values[np.isfinite(values)]  # a request may leave the column out
            if not len(values):
                continue
        if values is not None:
            figures += live_figures(
                values,
                metric=metric.name,
                at_most=criterion.at_most,
                at_least=criterion.at_least,
                confidence=loop.problem.confidence,
            )
        else:
            figures.append(
                _resampled_figure(
                    criterion, metric, y, answers, confidence=loop.problem.confidence, look=n_looks
                )
            )
    return figures


def missed_criteria(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    *,
    version: str,
    bundle: str,
    n_looks: int,
) -> str:
    """Return which criteria the labelled predictions of a version miss; empty for none.

    Parameters
    ----------
    bundle
        Digest of its `model.tar.gz`.
    n_looks
        Which look this is, from 1; see `_resampled_figure`.
    """
    own = _own(_joined(workspace.endpoint_folder(_endpoint(loop)), target), version)
    if not own.height:
        return ""
    threshold = open_bundle(workspace.artifacts.local_path(bundle)).outcome.threshold
    figures = _figures(loop, target, own, threshold, n_looks=n_looks)
    missed = [
        f"{figure.metric} is {figure.estimate:.4g} on {figure.n:,} labelled predictions"
        for figure in figures
        if figure.verdict == "missed"
    ]
    return "; ".join(missed)


def _endpoint(loop: LoopFile) -> str:
    return loop.deploy.endpoint if loop.deploy else ""


def _columns(own: pl.DataFrame) -> list[str]:
    """Return the columns that requests had."""
    held = own.schema.get("inputs")
    return [each.name for each in held.fields] if isinstance(held, pl.Struct) else []


def _resampled_figure(
    criterion: Criterion,
    metric: Metric,
    y: npt.NDArray[np.float64],
    answers: Any,
    *,
    confidence: float,
    look: int,
) -> LiveFigure:
    """Return a figure for a metric that is no mean over rows.

    The k-th look may err with probability alpha / (k (k + 1)); over all looks that adds up to
    alpha, so looking often does not make a false verdict likelier.
    """
    alpha = (1 - confidence) / max(1, look * (look + 1))
    value, deviation = resampled_deviation(metric, y, answers)
    radius = NormalDist().inv_cdf(1 - alpha / 2) * deviation
    lower, upper = value - radius, value + radius
    verdict = "undecided"
    if len(y) >= 100 and deviation > 0:
        if criterion.holds_for(lower) and criterion.holds_for(upper):
            verdict = "holds"
        elif not criterion.holds_for(lower) and not criterion.holds_for(upper):
            verdict = "missed"
    return LiveFigure(
        metric=metric.name,
        n=len(y),
        estimate=value,
        lower=lower,
        upper=upper,
        target=criterion.target,
        direction="at_most" if criterion.wants_low else "at_least",
        verdict=verdict,  # type: ignore[arg-type]
        confidence=confidence,
        period="since deployment",
    )


def _last_own_round(workspace: Workspace, name: str) -> datetime | None:
    ended = [
        record.body["ended_at"]
        for record in _rounds(workspace, name)
        if record.body["cause"] in OWN_CAUSES and record.body["ended_at"]
    ]
    return max((datetime.fromisoformat(at) for at in ended), default=None)


def _rounds(workspace: Workspace, name: str) -> Sequence[Any]:
    return workspace.metadata.list_("round", prefix=f"{name}/", limit=10_000)


def rows_to_learn_from(
    workspace: Workspace, loop: LoopFile, sourced: Sourced, champion: dict[str, Any]
) -> dict[str, Any] | None:
    """Keep the labelled live rows as an artifact and return where they are and until when.

    None when the endpoint has seen no row with a label.
    """
    folder = workspace.endpoint_folder(loop.deploy.endpoint if loop.deploy else "")
    joined = _joined(folder, sourced.target)
    if joined is None or not joined.frame.height:
        return None
    model: ServingModel = open_bundle(workspace.artifacts.local_path(champion["bundle"]))
    until = champion.get("learnt_until")
    rows = live_rows(
        joined,
        signature=model.signature,
        schema=snapshot_schema(workspace, sourced),
        target=sourced.target,
        since=datetime.fromisoformat(until) if until else None,
    )
    path = workspace.scratch_folder() / f"live-{loop.name}.parquet"
    rows.write_parquet(path, compression="zstd")
    digest = workspace.artifacts.put_file(path)
    path.unlink()
    latest = joined.frame["at"].max()
    return {
        "digest": digest,
        "until": latest.isoformat() if isinstance(latest, datetime) else None,
        "n_rows": rows.height,
        "n_fresh": int(rows["__fresh"].sum()),
    }


def snapshot_schema(workspace: Workspace, sourced: Sourced) -> dict[str, pl.DataType]:
    """Return the columns of the snapshot with their types."""
    digest = Snapshot.from_json(sourced.snapshot).digest
    return dict(pl.read_parquet_schema(workspace.artifacts.local_path(digest)))
