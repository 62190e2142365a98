"""When rows are read again: only when it is time, by one process at a time, later after failures.

What decides is in the store: when the rows were last read, and how often reading has failed since.
So a schedule survives its process, and two watchers of one loop share it: the second waits for the
first, sees what it has done, and does not do it again.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from loopwright.core.clock import Clock, SystemClock
from loopwright.core.errors import InvalidInputError, LoopwrightError
from loopwright.core.quantity import seconds
from loopwright.data import check_plan
from loopwright.loop.file import ReadFile, read_loop_file
from loopwright.loop.lineage import Refreshed, list_snapshots, refresh_rows
from loopwright.loop.sourcing import Sourced, source_digest
from loopwright.loop.workspace import Workspace
from loopwright.store import MetadataStore

_FIRST_BACKOFF_S = 60.0
_LAST_BACKOFF_S = 3600.0
_LOOK_S = 30.0


class Failing(msgspec.Struct, frozen=True, kw_only=True):
    """How often reading the source has failed since it last went well, and how it failed last."""

    n: int
    at: datetime
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Where a loop is kept, whether it is there already or not."""

    home: Path
    find_workspace: Callable[[], Workspace | None]
    open_workspace: Callable[[], Workspace]


def next_refresh(
    read: ReadFile, metadata: MetadataStore | None, *, now: datetime | None = None
) -> datetime | None:
    """Return when the rows of a loop are to be read again; None where that is at once.

    A loop without `data.refresh.every`, or whose source is not the one that was read, is due at
    once; so is one whose last reading lies after `now`, because the clock was set back. After the n-th failure in a row it is due 1 minute times 2^(n-1) later, an hour or `every`
    at most.
    """
    every = read.content.data.refresh.every
    if every is None or metadata is None:
        return None
    every_s = seconds(every, field="data.refresh.every")
    record = metadata.find("source", read.content.name)
    kept = msgspec.convert(record.body, Sourced) if record is not None else None
    same = kept is not None and kept.source_digest == source_digest(read)
    at = (kept.quarantine or kept).at if kept is not None and same else None
    failing = _failing(metadata, read.content.name)
    known = [each for each in (at, failing.at if failing else None) if each is not None]
    if now is not None and known and max(known) > now:
        return None
    if failing is not None and (at is None or failing.at > at):
        return failing.at + timedelta(seconds=backoff_s(failing.n, every_s))
    return None if at is None else at + timedelta(seconds=every_s)


def backoff_s(n_failures: int, every_s: float) -> float:
    """Return how many seconds to wait after so many failures in a row, at least one."""
    # 2^30 minutes are beyond any schedule, and beyond that floats would overflow
    doubled = _FIRST_BACKOFF_S * 2.0 ** min(n_failures - 1, 30)
    return min(doubled, _LAST_BACKOFF_S, every_s)


def refresh_due_rows(read: ReadFile, store: Store, *, clock: Clock | None = None) -> Refreshed:
    """Read the source of a loop if it is time for that; else say when it will be.

    Raises
    ------
    LoopwrightError
        What `refresh_rows` raises; it is counted, and the next time comes later.
    """
    check_plan(read.content.data)
    clock = clock or SystemClock()
    workspace = store.find_workspace()
    # a source that cannot be used leaves no trace, so the first reading makes no lock
    with _alone(store.home, read.content.name) if workspace is not None else nullcontext():
        due = next_refresh(read, workspace.metadata if workspace else None, now=clock.now())
        if due is not None and clock.now() < due:
            return _not_due(read, workspace, due)
        try:
            return refresh_rows(
                read,
                home=store.home,
                find_workspace=store.find_workspace,
                open_workspace=store.open_workspace,
            )
        except LoopwrightError as error:
            _note_failure(store.find_workspace(), read.content.name, error, clock.now())
            raise


def watch_rows(
    file: Path,
    store: Store,
    *,
    tell: Callable[[str], object],
    clock: Clock | None = None,
    wait: Callable[[float], object] = time.sleep,
) -> None:
    """Keep reading the source of a loop on its schedule; ends only by an exception.

    The loop file is read anew every time, so that it may be corrected meanwhile.

    Parameters
    ----------
    file
        The loop file.
    store
        Where the loop is kept.
    tell
        Is given one line about every reading, and about when the next one is due.
    clock
        Tells the time.
    wait
        Lets some seconds pass, half a minute at most.

    Raises
    ------
    InvalidInputError
        If the loop file says no `data.refresh.every`, or cannot be read at the start.
    """
    clock = clock or SystemClock()
    _check_every(read_loop_file(file))
    told: datetime | None = None
    while True:
        due = _look(file, store, clock, tell)
        now = clock.now()
        if due is not None and due != told:
            tell(f"The next refresh is due at {due:%Y-%m-%d %H:%M:%S} UTC.")
            told = due
        left_s = _LOOK_S if due is None else (due - now).total_seconds()
        wait(min(max(left_s, 1.0), _LOOK_S))


def _look(file: Path, store: Store, clock: Clock, tell: Callable[[str], object]) -> datetime | None:
    """Read the rows if it is time; return when it will be time again."""
    try:
        read = read_loop_file(file)
        _check_every(read)
        refreshed = refresh_due_rows(read, store, clock=clock)
        if refreshed.state != "not due":
            tell(f"{refreshed.loop}: {refreshed.state}. {refreshed.message}")
    except LoopwrightError as error:
        tell(str(error))
        workspace = store.find_workspace()
        if workspace is None:
            return clock.now() + timedelta(seconds=_FIRST_BACKOFF_S)
    workspace = store.find_workspace()
    try:
        return next_refresh(read_loop_file(file), workspace.metadata if workspace else None)
    except LoopwrightError:
        return clock.now() + timedelta(seconds=_FIRST_BACKOFF_S)


def _check_every(read: ReadFile) -> None:
    if read.content.data.refresh.every is None:
        raise InvalidInputError(
            "The loop file does not say how often its rows are read again.",
            hint="Add it: data: {refresh: {every: 1 day}}.",
            field="data.refresh.every",
        )


def _not_due(read: ReadFile, workspace: Workspace | None, due: datetime) -> Refreshed:
    metadata = workspace.metadata if workspace else None
    failing = _failing(metadata, read.content.name) if metadata else None
    known = list_snapshots(metadata, read.content.name) if metadata else []
    last = (
        f"Reading has failed {failing.n} times in a row: {failing.message}"
        if failing is not None
        else f"The rows are younger than {read.content.data.refresh.every}."
    )
    return Refreshed(
        loop=read.content.name,
        state="not due",
        message=f"{last} The next refresh is due at {due:%Y-%m-%d %H:%M:%S} UTC; --now reads at "
        "once.",
        snapshot=known[-1] if known else None,
    )


def _failing(metadata: MetadataStore, name: str) -> Failing | None:
    """Return the failures since the rows were last read well."""
    record = metadata.find("refresh", name)
    failing = msgspec.convert(record.body, Failing) if record is not None else None
    source = metadata.find("source", name)
    if failing is None or source is None:
        return failing
    kept = msgspec.convert(source.body, Sourced)
    return failing if failing.at > (kept.quarantine or kept).at else None


def _note_failure(
    workspace: Workspace | None, name: str, error: LoopwrightError, now: datetime
) -> None:
    if workspace is None:
        return
    before = _failing(workspace.metadata, name)
    failing = Failing(n=before.n + 1 if before else 1, at=now, message=error.message)
    body: dict[str, Any] = msgspec.to_builtins(failing)
    workspace.metadata.put("refresh", name, body)


@contextmanager
def _alone(home: Path, name: str) -> Iterator[None]:
    """Wait until no other process reads for this loop; the lock goes when the process does."""
    folder = home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.refresh.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
