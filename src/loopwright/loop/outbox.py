"""What is to be told, kept until it has been: at least once, in order, later after failures.

An entry is made in the transaction that raises its alarms. It is claimed for a while before it is
sent, so that two processes do not send it at once; a process that is killed meanwhile leaves a claim
that ends, and the entry is sent again with the same key, by which the other side can tell doubles.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from loopwright.core.errors import LoopwrightError, NotFoundError, WrongStateError
from loopwright.core.quantity import seconds
from loopwright.loop.file import LoopFile, ReadFile
from loopwright.loop.workspace import Workspace
from loopwright.monitor.notice import Notice, Told, one_line
from loopwright.monitor.sink import AlarmSink, LogSink, sink_name
from loopwright.monitor.telling import Surroundings, tell

_FIRST_BACKOFF_S = 15.0
_LAST_BACKOFF_S = 3_600.0
_GIVEN_UP_AFTER = timedelta(days=7)
_GRACE_S = 60.0
_MOST = 10_000

Send = Callable[..., None]


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A notice on its way to one sink.

    Parameters
    ----------
    state
        `waiting`, `sending`, `sent`, `given up` after a week, or `dropped` because the loop file
        names the sink no more.
    next_at
        When it is tried next; while it is being sent, when the claim ends.
    error
        Why the last attempt failed.
    """

    loop: str
    sink: str
    notice: Notice
    state: str = "waiting"
    n_attempts: int = 0
    next_at: datetime
    ended_at: datetime | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What one pass over an outbox came to; `next_at` is when the next one is due."""

    n_sent: int = 0
    n_failed: int = 0
    n_waiting: int = 0
    next_at: datetime | None = None


def put_notice(workspace: Workspace, loop: LoopFile, notice: Notice) -> None:
    """Keep a notice for every sink of a loop; nothing happens if it is there or was sent already."""
    metadata, now = workspace.metadata, workspace.clock.now()
    for sink in loop.monitor.alarms:
        name = sink_name(sink)
        key = f"{loop.name}/{notice.key}/{name}"
        if metadata.find("outbox", key) is None and metadata.find("told", key) is None:
            entry = Outgoing(loop=loop.name, sink=name, notice=notice, next_at=now)
            metadata.create("outbox", key, _body(entry))


def list_outbox(workspace: Workspace, name: str | None = None) -> list[Outgoing]:
    """Return what is still to be told, oldest first."""
    prefix = f"{name}/" if name else ""
    records = workspace.metadata.list_("outbox", prefix=prefix, limit=_MOST)
    found = [msgspec.convert(record.body, Outgoing) for record in records]
    return sorted(found, key=_order)


def tell_due(
    workspace: Workspace,
    read: ReadFile,
    *,
    environ: Mapping[str, str] | None = None,
    send: Send = tell,
) -> Delivery:
    """Send what is due for the sinks of a loop, each entry once, and return what it came to.

    A sink that fails is left alone for the rest of the pass, so that its messages stay in order and
    one that hangs costs one time limit. No failure of a sink is raised.

    Parameters
    ----------
    environ
        Where secrets come from; the process's own environment when absent.
    send
        Makes one attempt; see `loopwright.monitor.telling.tell`.
    """
    around = Surroundings(
        home=workspace.home,
        folder=read.folder,
        environ=os.environ if environ is None else environ,
    )
    sinks = {sink_name(sink): sink for sink in read.content.monitor.alarms}
    n_sent, failing = 0, set()
    for entry in list_outbox(workspace, read.content.name):
        if entry.sink not in sinks:
            _end(workspace, entry, "dropped", "the loop file names this sink no more")
        elif entry.sink in failing:
            continue
        elif not _is_due(entry, workspace.clock.now()):
            # what comes later waits for what came before
            failing.add(entry.sink)
        elif _sent(workspace, entry, sinks[entry.sink], around, send):
            n_sent += 1
        else:
            failing.add(entry.sink)
    left = list_outbox(workspace, read.content.name)
    return Delivery(
        n_sent=n_sent,
        n_failed=sum(bool(each.error) for each in left),
        n_waiting=len(left),
        next_at=min((each.next_at for each in left), default=None),
    )


def sent_tests(
    workspace: Workspace, read: ReadFile, *, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Send a test to every sink of a loop at once; return `sent`, or why it was not, for each.

    Nothing of it is kept.
    """
    now, name = workspace.clock.now(), read.content.name
    around = Surroundings(
        home=workspace.home,
        folder=read.folder,
        environ=os.environ if environ is None else environ,
    )
    told = Told(id="test", kind="test", subject="this sink", message="This is a test; all is well.")
    key = f"{name}-test-{now:%Y%m%d%H%M%S}"
    notice = Notice(key=key, event="opened", loop=name, at=now, alarms=(told,))
    found = {}
    for sink in read.content.monitor.alarms:
        try:
            tell(sink, notice, around=around, now=now)
        except LoopwrightError as error:
            found[sink_name(sink)] = str(error)
        else:
            found[sink_name(sink)] = "sent"
    return found


def backoff_s(n_attempts: int) -> float:
    """Return how many seconds to wait after so many failed attempts."""
    return min(_FIRST_BACKOFF_S * 2.0 ** min(n_attempts - 1, 20), _LAST_BACKOFF_S)


def _order(entry: Outgoing) -> tuple[datetime, bool, str]:
    return (entry.notice.at, entry.notice.event == "closed", entry.notice.key)


def _is_due(entry: Outgoing, now: datetime) -> bool:
    # a moment further away than any wait was written before the clock was set back
    return entry.next_at <= now or entry.next_at > now + timedelta(seconds=2 * _LAST_BACKOFF_S)


def _sent(
    workspace: Workspace, entry: Outgoing, sink: AlarmSink, around: Surroundings, send: Send
) -> bool:
    """Claim an entry, make one attempt, and note how it went."""
    limit_s = 10.0 if isinstance(sink, LogSink) else seconds(sink.timeout, field="timeout")
    claimed = msgspec.structs.replace(
        entry,
        state="sending",
        n_attempts=entry.n_attempts + 1,
        next_at=workspace.clock.now() + timedelta(seconds=limit_s + _GRACE_S),
    )
    if not _replaced(workspace, entry, claimed):
        return False
    try:
        send(sink, entry.notice, around=around, now=workspace.clock.now())
    except LoopwrightError as error:
        _failed(workspace, claimed, error.message)
    except Exception as error:
        # what nobody foresaw of a sink is no reason to stop a loop
        _failed(workspace, claimed, f"{type(error).__name__} in the sink.")
    else:
        _end(workspace, claimed, "sent", "")
        return True
    return False


def _failed(workspace: Workspace, entry: Outgoing, error: str) -> None:
    now, told = workspace.clock.now(), one_line(error, longest=300)
    if now - entry.notice.at > _GIVEN_UP_AFTER:
        _end(workspace, entry, "given up", told)
        return
    later = now + timedelta(seconds=backoff_s(entry.n_attempts))
    after = msgspec.structs.replace(entry, state="waiting", next_at=later, error=told)
    _replaced(workspace, entry, after)


def _replaced(workspace: Workspace, before: Outgoing, after: Outgoing) -> bool:
    """Write an entry if it is still as it was read; tell whether it was."""
    metadata, key = workspace.metadata, _key(before)
    record = metadata.find("outbox", key)
    if record is None or record.body != _body(before):
        return False
    try:
        metadata.replace(record, _body(after))
    except (WrongStateError, NotFoundError):
        return False
    return True


def _end(workspace: Workspace, entry: Outgoing, state: str, error: str) -> None:
    """Move an entry from what is to be told to what was, and count it at its alarms."""
    metadata, key = workspace.metadata, _key(entry)
    ended = msgspec.structs.replace(entry, state=state, error=error, ended_at=workspace.clock.now())
    with metadata.transaction():
        metadata.put("told", key, _body(ended))
        metadata.delete("outbox", key)
        for alarm in entry.notice.alarms if state == "sent" else ():
            record = metadata.find("alarm", f"{entry.loop}/{alarm.id}")
            if record is not None:
                n_told = int(record.body.get("n_told", 0)) + 1
                metadata.put("alarm", record.key, {**record.body, "n_told": n_told})


def _key(entry: Outgoing) -> str:
    return f"{entry.loop}/{entry.notice.key}/{entry.sink}"


def _body(entry: Outgoing) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(entry))
    return body
