"""Alarms on record: raised once, told together, closed by themselves, acknowledged by people."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from loopwright.core.digest import digest_value
from loopwright.core.errors import InvalidInputError, NotFoundError, WrongStateError
from loopwright.loop.condition import Condition, conditions_of
from loopwright.loop.file import LoopFile
from loopwright.loop.outbox import put_notice
from loopwright.loop.workspace import Workspace
from loopwright.monitor import MonitorReport
from loopwright.monitor.notice import Notice, Told
from loopwright.monitor.record import to_record

# what a look at the endpoint can raise, and what looking after the loop can
LOOK_KINDS = frozenset({"data", "error", "criterion", "estimate", "data_quality"})
OPERATION_KINDS = frozenset({"operation"})
ALARM_KINDS = ("data", "error", "criterion", "estimate", "data_quality", "operation")
# an episode of a detector has its own number; once over, it does not come back
_EPISODES = frozenset({"data", "error"})
_MOST_ALARMS = 10_000
# a share near its limit would come and go: only the second look without it closes an alarm
_QUIET_LOOKS = 2


class AlarmRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm from the moment it was raised.

    Parameters
    ----------
    mark
        What tells it apart from other alarms of its kind.
    version
        The model version it is about; empty for one about the loop itself.
    since_at
        Likely time of the change.
    acknowledged_by
        Who has seen it; it is still open until it is over.
    n_told
        How many messages about it have reached a sink.
    part_of
        The alarm that told the cause of this one before; empty where it had a message of its own.
    n_quiet
        Looks in a row that did not find it any more.
    details
        What was found, as JSON types.
    """

    id: str
    loop: str
    kind: str
    mark: str
    subject: str
    message: str
    action: str = ""
    version: str = ""
    opened_at: datetime
    since_at: datetime | None = None
    closed_at: datetime | None = None
    closed_because: str = ""
    acknowledged_at: datetime | None = None
    acknowledged_by: str = ""
    acknowledged_because: str = ""
    n_told: int = 0
    n_quiet: int = 0
    part_of: str = ""
    details: dict[str, Any] = msgspec.field(default_factory=dict)
    format: int = 1

    @property
    def state(self) -> str:
        """`open`, `acknowledged` or `closed`."""
        if self.closed_at is not None:
            return "closed"
        return "acknowledged" if self.acknowledged_at is not None else "open"

    def to_json(self) -> dict[str, Any]:
        """Return the alarm as JSON types, with its state."""
        return {**to_record(self), "state": self.state}


def list_alarms(
    workspace: Workspace, name: str, *, include_closed: bool = True
) -> list[AlarmRecord]:
    """Return the alarms of a loop, oldest first."""
    records = workspace.metadata.list_("alarm", prefix=f"{name}/", limit=_MOST_ALARMS)
    found = [msgspec.convert(record.body, AlarmRecord) for record in records]
    kept = [each for each in found if include_closed or each.closed_at is None]
    return sorted(kept, key=lambda each: (each.opened_at, each.id))


def keep_look(workspace: Workspace, loop: LoopFile, report: MonitorReport) -> None:
    """Put on record what a look raised and closed, what is to be told of it, and the figures.

    To be called in the transaction that keeps the monitor's state, so that neither is without the
    other.
    """
    passed = [alarm for alarm in report.new_alarms if alarm not in report.alarms]
    with workspace.metadata.transaction():
        for alarms in ([*report.alarms, *passed], report.alarms) if passed else (report.alarms,):
            # what came and went within one look is on record, too
            found = conditions_of(report, alarms)
            keep_conditions(workspace, loop, found, kinds=LOOK_KINDS, version=report.version)
        if report.n_new_labelled or report.new_alarms:
            workspace.metadata.append(f"quality/{loop.name}", "figures", _figures(report))


def keep_conditions(
    workspace: Workspace,
    loop: LoopFile,
    conditions: Sequence[Condition],
    *,
    kinds: Collection[str],
    version: str = "",
) -> list[AlarmRecord]:
    """Open alarms for what is wrong, close those for what is not any more, and return the new ones.

    All that is opened at once is one message to every sink, and so is all that is closed. What an
    open alarm has told the cause of is no further message.

    Parameters
    ----------
    conditions
        Everything of these kinds that is wrong now.
    version
        The model version that was looked at; alarms about others are over.
    """
    metadata, now = workspace.metadata, workspace.clock.now()
    with metadata.transaction():
        every = list_alarms(workspace, loop.name)
        known = [each for each in every if each.kind in kinds]
        opened, changed, closed = reconciled(loop.name, known, conditions, now=now, version=version)
        opened = _with_causes(opened, conditions, every)
        for alarm in (*opened, *changed, *closed):
            metadata.put("alarm", f"{loop.name}/{alarm.id}", to_record(alarm))
        for event, alarms in (("opened", opened), ("closed", closed)):
            for alarm in alarms:
                _note(workspace, alarm, f"alarm {'raised' if event == 'opened' else 'closed'}")
            told = [alarm for alarm in alarms if not alarm.part_of]
            if told:
                put_notice(workspace, loop, _notice(event, loop.name, told, now))
    return opened


def _with_causes(
    opened: Sequence[AlarmRecord], conditions: Sequence[Condition], known: Sequence[AlarmRecord]
) -> list[AlarmRecord]:
    """Return new alarms, each with the open one that has told its cause already."""
    told = {each.kind: each.id for each in known if each.closed_at is None and not each.part_of}
    kinds = {(each.kind, each.mark): each.part_of for each in conditions}
    return [
        msgspec.structs.replace(each, part_of=told.get(kinds[each.kind, each.mark], ""))
        for each in opened
    ]


def reconciled(
    loop: str,
    known: Sequence[AlarmRecord],
    conditions: Sequence[Condition],
    *,
    now: datetime,
    version: str = "",
) -> tuple[list[AlarmRecord], list[AlarmRecord], list[AlarmRecord]]:
    """Return the alarms to open, those that changed and those to close; a pure decision.

    Parameters
    ----------
    known
        All alarms of the kinds in question, closed ones too.
    """
    now_wrong = {(each.kind, each.mark): each for each in conditions}
    open_ = {(each.kind, each.mark): each for each in known if each.closed_at is None}
    opened = []
    for key, condition in now_wrong.items():
        n_before = sum((each.kind, each.mark) == key for each in known)
        came_back = n_before and condition.kind in _EPISODES
        if condition.is_certain and key not in open_ and not came_back:
            opened.append(_opened(loop, condition, n_before, now))
    changed, closed = [], []
    for key, alarm in open_.items():
        if key in now_wrong:
            after = _still(alarm, now_wrong[key])
        elif alarm.kind == "data_quality" and alarm.n_quiet + 1 < _QUIET_LOOKS:
            after = msgspec.structs.replace(alarm, n_quiet=alarm.n_quiet + 1)
        else:
            is_replaced = bool(alarm.version and version and alarm.version != version)
            why = "another version answers now" if is_replaced else _why_over(alarm.kind)
            closed.append(msgspec.structs.replace(alarm, closed_at=now, closed_because=why))
            continue
        if after != alarm:
            changed.append(after)
    return opened, changed, closed


def find_alarm(workspace: Workspace, name: str, start: str) -> AlarmRecord:
    """Return the alarm of a loop whose id starts so.

    Raises
    ------
    NotFoundError
        If there is none.
    InvalidInputError
        If there are several.
    """
    found = [each for each in list_alarms(workspace, name) if start and each.id.startswith(start)]
    if not found:
        open_ = [each.id for each in list_alarms(workspace, name, include_closed=False)]
        raise NotFoundError(
            f"The loop {name!r} has no alarm {start!r}.",
            hint=f"Open: {', '.join(open_)}." if open_ else "It has no open alarm.",
            kind="alarm",
            name=start,
        )
    if len(found) > 1:
        raise InvalidInputError(
            f"{len(found)} alarms of the loop {name!r} start with {start!r}.",
            hint=f"Write more of it: {', '.join(each.id for each in found[:5])}.",
            field="id",
            value=start,
        )
    return found[0]


def acknowledge_alarm(
    workspace: Workspace, name: str, start: str, *, by: str = "", reason: str = ""
) -> AlarmRecord:
    """Note that a person has seen an alarm, and return it; it stays open until it is over.

    Raises
    ------
    NotFoundError
        If there is no such alarm.
    WrongStateError
        If it is over.
    """
    with workspace.metadata.transaction():
        alarm = find_alarm(workspace, name, start)
        if alarm.closed_at is not None:
            raise WrongStateError(
                f"The alarm {alarm.id} is over since {alarm.closed_at:%Y-%m-%d %H:%M} UTC.",
                hint="`loopwright alarms list` shows the open ones.",
                kind="alarm",
                name=alarm.id,
            )
        seen = msgspec.structs.replace(
            alarm,
            acknowledged_at=workspace.clock.now(),
            acknowledged_by=by or workspace.user,
            acknowledged_because=reason,
        )
        workspace.metadata.put("alarm", f"{name}/{seen.id}", to_record(seen))
        _note(workspace, seen, "alarm acknowledged", by=seen.acknowledged_by, reason=reason)
    return seen


def close_alarm(
    workspace: Workspace, loop: LoopFile, alarm_id: str, *, because: str, by: str, reason: str
) -> AlarmRecord:
    """Close an open alarm by hand, tell the sinks, and return it."""
    now = workspace.clock.now()
    with workspace.metadata.transaction():
        alarm = find_alarm(workspace, loop.name, alarm_id)
        closed = msgspec.structs.replace(alarm, closed_at=now, closed_because=because)
        if alarm.acknowledged_at is None:
            closed = msgspec.structs.replace(
                closed, acknowledged_at=now, acknowledged_by=by, acknowledged_because=reason
            )
        workspace.metadata.put("alarm", f"{loop.name}/{closed.id}", to_record(closed))
        _note(workspace, closed, "alarm closed", by=by)
        put_notice(workspace, loop, _notice("closed", loop.name, [closed], now))
    return closed


def _opened(loop: str, condition: Condition, n_before: int, now: datetime) -> AlarmRecord:
    mark = digest_value([loop, condition.kind, condition.mark, n_before])
    return AlarmRecord(
        id=mark[7:17],
        loop=loop,
        kind=condition.kind,
        mark=condition.mark,
        subject=condition.subject,
        message=condition.message,
        action=condition.action,
        version=condition.version,
        opened_at=now,
        since_at=condition.since_at,
        details=condition.details,
    )


def _still(alarm: AlarmRecord, condition: Condition) -> AlarmRecord:
    """Return an open alarm whose condition stands; what more is known of it now is kept."""
    if not condition.is_certain:
        return msgspec.structs.replace(alarm, n_quiet=0)
    return msgspec.structs.replace(
        alarm,
        n_quiet=0,
        subject=condition.subject,
        message=condition.message,
        # what was to be done first may be done, and another thing be next
        action=condition.action,
        details=condition.details,
    )


def _why_over(kind: str) -> str:
    return {
        "data": "the inputs and predictions are as they were",
        "error": "the error is as it was",
        "criterion": "the criterion holds",
        "estimate": "the estimate misses no criterion",
        "data_quality": "the data are sound again",
    }.get(kind, "it is mended")


def _figures(report: MonitorReport) -> dict[str, Any]:
    """Return how the criteria stand now, for the chart of quality over time."""
    body = {
        "version": report.version,
        "to": report.to_at,
        "n_predictions": report.n_predictions,
        "n_labelled": report.n_labelled,
        "verdict": report.verdict,
        "figures": [
            {
                name: getattr(figure, name)
                for name in (
                    *("metric", "period", "n", "estimate", "lower", "upper", "target"),
                    *("direction", "verdict"),
                )
            }
            for figure in report.figures
        ],
    }
    return to_record(body)


def _notice(event: Any, loop: str, alarms: Sequence[AlarmRecord], now: datetime) -> Notice:
    mark = digest_value([event, *sorted(each.id for each in alarms)])[7:19]
    fields = ("id", "kind", "subject", "message", "action", "version")
    times = ("opened_at", "since_at", "closed_at", "closed_because")
    told: list[Mapping[str, Any]] = [
        {name: getattr(each, name) for name in (*fields, *times)} for each in alarms
    ]
    return Notice(
        key=f"{loop}-{mark}-{event}",
        event=event,
        loop=loop,
        at=now,
        alarms=tuple(Told(**each) for each in told),
    )


def _note(workspace: Workspace, alarm: AlarmRecord, what: str, **more: str) -> None:
    body = {"alarm": alarm.id, "cause": alarm.kind.replace("_", " "), "summary": alarm.message}
    if alarm.closed_at is not None:
        body["reason"] = alarm.closed_because
    workspace.metadata.append(f"loop/{alarm.loop}", what, {**body, **more})
