"""A change that is no fault: a person says so, and later rows are judged by what came since."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.errors import InvalidInputError, WrongStateError
from loopwright.core.lazy import LazyModule
from loopwright.loop.alarm import AlarmRecord, close_alarm, find_alarm
from loopwright.loop.file import LoopFile
from loopwright.loop.workspace import Workspace
from loopwright.monitor import MonitorReport, Reference, WatchState, acknowledge, watch
from loopwright.train import open_bundle

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")


def accept_change(
    workspace: Workspace, loop: LoopFile, start: str, *, by: str = "", reason: str
) -> AlarmRecord:
    """Take a change as the new normal, and return its alarm, closed; hold the loop meanwhile.

    The columns that moved are compared with the rows since the change from now on, until another
    model version answers. What the model says of these rows is not made better by it.

    Parameters
    ----------
    start
        The id of a `data` or `error` alarm, or the start of it.
    reason
        Why it is no fault; kept on record.

    Raises
    ------
    NotFoundError
        If there is no such alarm.
    WrongStateError
        If it is over, of another kind or version, or too few rows came since the change.
    InvalidInputError
        If no reason is given.
    """
    if not reason.strip():
        raise InvalidInputError(
            "No reason is given.", hint="Say why this change is no fault.", field="reason"
        )
    alarm = find_alarm(workspace, loop.name, start)
    body = _watched(workspace, loop.name, alarm)
    champion = workspace.metadata.get("champion", loop.name).body
    model = open_bundle(workspace.artifacts.local_path(champion["bundle"]))
    reference = Reference.from_json(msgspec.json.decode(model.read_member("reference.json")))
    before = WatchState.from_json(body["state"])
    kind: Any = alarm.kind
    now, who = workspace.clock.now(), by or workspace.user
    after = acknowledge(reference, before, kind, new_normal=True, at=now)
    if after.normals == before.normals:
        raise WrongStateError(
            f"Too few rows have come since the change that the alarm {alarm.id} is about.",
            hint="Acknowledge it meanwhile, and accept it once at least 100 rows have come.",
            kind="alarm",
            name=alarm.id,
        )
    report = MonitorReport.from_json(body["report"])
    after, looked = watch(reference, after, _no_rows(), figures=report.figures)
    seen = replace(looked, truth=report.truth)
    with workspace.metadata.transaction():
        workspace.metadata.put(
            "monitor", loop.name, {**body, "state": after.to_json(), "report": seen.to_json()}
        )
        told = f"{who} accepted it as the new normal: {reason}"
        return close_alarm(workspace, loop, alarm.id, because=told, by=who, reason=reason)


def _watched(workspace: Workspace, name: str, alarm: AlarmRecord) -> dict[str, Any]:
    """Return what the monitor keeps, if the alarm is about it."""
    monitor = workspace.metadata.find("monitor", name)
    problem = ""
    if alarm.closed_at is not None:
        problem = f"is over since {alarm.closed_at:%Y-%m-%d %H:%M} UTC"
    elif alarm.kind not in ("data", "error"):
        problem = f"is about {alarm.kind.replace('_', ' ')}, not about rows that moved"
    elif monitor is None or monitor.body["version"] != alarm.version:
        problem = "is about a version that is not watched any more"
    if monitor is None or problem:
        raise WrongStateError(
            f"The alarm {alarm.id} {problem}.",
            hint="`loopwright alarms list` shows the open ones.",
            kind="alarm",
            name=alarm.id,
        )
    return monitor.body


def _no_rows() -> pl.DataFrame:
    schema: dict[str, pl.DataType] = {
        "inference_id": pl.String(),
        "at": pl.Datetime("us", "UTC"),
        "version": pl.String(),
        "prediction": pl.Float64(),
    }
    return pl.DataFrame(schema=schema)
