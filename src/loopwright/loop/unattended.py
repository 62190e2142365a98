"""A loop that nobody watches: its source read, its endpoint looked at, its alarms told, on time.

Everything that decides what is due lies in the store. So a process can be killed at any moment and
another one goes on; two at once take turns, and what one has done the other does not do again.
"""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from loopwright.compute import Capacity
from loopwright.core.clock import Clock, SystemClock
from loopwright.core.errors import (
    BackendError,
    InvalidInputError,
    LoopwrightError,
    WrongStateError,
)
from loopwright.core.quantity import seconds
from loopwright.loop.cycle import look_at_loop, run_loop
from loopwright.loop.file import ReadFile, read_loop_file
from loopwright.loop.outbox import list_outbox, tell_due
from loopwright.loop.progress import rolling_round
from loopwright.loop.schedule import Store, next_refresh, refresh_due_rows
from loopwright.loop.step import OnNews
from loopwright.loop.timetable import (
    Slot,
    begun,
    due_at,
    find_slot,
    list_slots,
    postponed,
    put_slot,
    went_well,
    went_wrong,
)
from loopwright.loop.upkeep import keep_upkeep
from loopwright.loop.workspace import Workspace

_log = logging.getLogger(__name__)

# in the order in which they are done when several are due
TASKS = ("refresh", "look")
_ROLLOUT_S = 30.0
_BUSY_S = 20.0
_LONGEST_WAIT_S = 30.0
_BROKEN_FILE_S = 60.0


Work = Callable[[ReadFile, "Help"], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Help:
    """What attending a loop needs besides its file.

    Parameters
    ----------
    store
        Where the loop is kept.
    capacity
        What jobs may use.
    on_news
        Told of every step.
    clock
        Tells the time.
    environ
        Where the secrets of sinks come from; the process's own environment when None.
    work
        Does the tasks, by name, and returns how each ended in words; the real work when None.
    """

    store: Store
    capacity: Capacity
    on_news: OnNews
    clock: Clock
    environ: Mapping[str, str] | None = None
    work: Mapping[str, Work] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One task that was due: `well`, `failed`, or `busy` where another process has the loop."""

    task: str
    state: str
    told: str


def intervals(read: ReadFile, workspace: Workspace | None) -> dict[str, float]:
    """Return the tasks of a loop with their intervals, in seconds.

    While a rollout is under way the endpoint is looked at every half minute at least.
    """
    content = read.content
    look_s = content.monitor.every_s
    if workspace is not None and rolling_round(workspace, content.name) is not None:
        look_s = min(look_s, _ROLLOUT_S)
    found = {"look": look_s}
    if content.data.refresh.every is not None:
        found["refresh"] = seconds(content.data.refresh.every, field="data.refresh.every")
    return {task: found[task] for task in TASKS if task in found}


def timetable(read: ReadFile, workspace: Workspace | None, *, now: datetime) -> dict[str, datetime]:
    """Return when each task of a loop is due; `now` or earlier where that is at once."""
    found = {}
    for task, every_s in intervals(read, workspace).items():
        if workspace is None:
            found[task] = now
        elif task == "refresh":
            found[task] = next_refresh(read, workspace.metadata, now=now) or now
        else:
            found[task] = due_at(
                find_slot(workspace.metadata, read.content.name, task), every_s, now=now
            )
    return found


def wakes_at(read: ReadFile, workspace: Workspace | None, *, now: datetime) -> datetime:
    """Return when something is to be done for a loop next, telling its alarms included."""
    due = min(timetable(read, workspace, now=now).values())
    if workspace is None:
        return due
    entries = list_outbox(workspace, read.content.name)
    return min([due, *(each.next_at for each in entries)])


def attend(read: ReadFile, given: Help) -> list[Done]:
    """Do what is due for a loop now, tell its alarms, and return what was done.

    No failure of a task is raised: it is noted, tried again later, and after the third in a row it is
    an alarm. The source that cannot be read keeps nobody from looking at the endpoint.
    """
    done = []
    with _turn(given.store.home, read.content.name) as is_mine:
        if not is_mine:
            return [Done(task="", state="busy", told="another process looks after this loop")]
        workspace = given.store.find_workspace()
        due = timetable(read, workspace, now=given.clock.now())
        for task, at in due.items():
            if at <= given.clock.now():
                done.append(_fired(task, read, given))
        _after(read, given)
    return done


def note_crash(read: ReadFile, given: Help, told: str) -> None:
    """Note that the process that attended a loop died: its task has failed, and is tried later."""
    with _turn(given.store.home, read.content.name) as is_mine:
        workspace = given.store.find_workspace()
        if workspace is None or not is_mine:
            return
        for slot in list_slots(workspace.metadata, read.content.name):
            if slot.state == "running":
                put_slot(workspace.metadata, went_wrong(slot, now=given.clock.now(), told=told))
        _after(read, given)


def watch_loop(
    file: Path,
    given: Help,
    *,
    tell: Callable[[str], object],
    wait: Callable[[float], object] = time.sleep,
) -> None:
    """Keep attending one loop; ends only by an exception.

    The loop file is read anew every time, so that it may be corrected meanwhile.

    Parameters
    ----------
    tell
        Is given one line about everything that was done.
    wait
        Lets some seconds pass, half a minute at most.

    Raises
    ------
    LoopwrightError
        If the loop file cannot be read at the start.
    """
    read_loop_file(file)
    told: datetime | None = None
    while True:
        try:
            read = read_loop_file(file)
            for done in attend(read, given):
                tell(f"{read.content.name}: {done.task} {done.state}. {done.told}".rstrip())
            wakes = wakes_at(read, given.store.find_workspace(), now=given.clock.now())
        except LoopwrightError as error:
            tell(str(error))
            wakes = given.clock.now() + timedelta(seconds=_BROKEN_FILE_S)
        if told != wakes and wakes > given.clock.now():
            tell(f"Next at {wakes:%Y-%m-%d %H:%M:%S} UTC.")
            told = wakes
        left_s = (wakes - given.clock.now()).total_seconds()
        wait(min(max(left_s, 1.0), _LONGEST_WAIT_S))


def _fired(task: str, read: ReadFile, given: Help) -> Done:
    """Do one task, and note in the store how it ended."""
    name, started = read.content.name, given.clock.now()
    workspace = given.store.find_workspace()
    slot = begun(_slot(workspace, name, task), now=started)
    _keep(workspace, slot)
    try:
        told = (given.work or _WORK)[task](read, given)
    except WrongStateError as error:
        if error.facts.get("kind") != "loop":
            return _noted(read, given, slot, error=error.message)
        # a person runs it by hand now; that is no failure
        later = postponed(slot, now=given.clock.now(), pause_s=_BUSY_S, told=error.message)
        _keep(given.store.find_workspace(), later)
        return Done(task=task, state="busy", told=error.message)
    except LoopwrightError as error:
        return _noted(read, given, slot, error=str(error))
    except Exception as error:
        _log.exception("%s: %s failed.", name, task)
        return _noted(read, given, slot, error=f"{type(error).__name__}: {error}")
    return _noted(read, given, slot, told=told)


def _noted(read: ReadFile, given: Help, slot: Slot, *, told: str = "", error: str = "") -> Done:
    now, workspace = given.clock.now(), given.store.find_workspace()
    if error:
        _keep(workspace, went_wrong(slot, now=now, told=error))
        return Done(task=slot.task, state="failed", told=error)
    every_s = intervals(read, None)[slot.task]
    _keep(workspace, went_well(slot, every_s, now=now, told=told))
    return Done(task=slot.task, state="well", told=told)


def _after(read: ReadFile, given: Help) -> None:
    """Raise alarms about the loop itself, and tell what is to be told; never fails."""
    workspace = given.store.find_workspace()
    if workspace is None:
        return
    try:
        keep_upkeep(workspace, read.content)
        tell_due(workspace, read, environ=given.environ)
    except Exception:
        _log.exception("%s: alarms could not be told.", read.content.name)


def _refresh(read: ReadFile, given: Help) -> str:
    refreshed = refresh_due_rows(read, given.store, clock=given.clock)
    return f"{refreshed.state}. {_first_line(refreshed.message)}"


def _look(read: ReadFile, given: Help) -> str:
    try:
        outcome = run_loop(
            read,
            home=given.store.home,
            find_workspace=given.store.find_workspace,
            open_workspace=given.store.open_workspace,
            capacity=given.capacity,
            on_news=given.on_news,
        )
    except (BackendError, InvalidInputError):
        workspace = given.store.find_workspace()
        is_live = workspace is not None and workspace.metadata.find("champion", read.content.name)
        if workspace is not None and is_live and read.content.deploy is not None:
            look_at_loop(read, workspace=workspace, on_news=given.on_news)
        raise
    return told_look(outcome.state, outcome.message, outcome.status.monitor or {})


def told_look(state: str, message: str, seen: Mapping[str, object]) -> str:
    """Return how a look ended in a line: what the monitor saw, where the model is simply live.

    How it did before it went live is no news at every look.

    Examples
    --------
    >>> told_look("live", "Went live.", {"verdict": "data_quality", "reason": "age is missing."})
    'live; data quality. age is missing.'
    """
    if state == "live" and seen.get("reason"):
        verdict = str(seen.get("verdict")).replace("_", " ")
        return f"live; {verdict}. {_first_line(str(seen['reason']))}"
    return f"{state}. {_first_line(message)}"


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


_WORK: dict[str, Work] = {"refresh": _refresh, "look": _look}


def _slot(workspace: Workspace | None, name: str, task: str) -> Slot:
    return find_slot(workspace.metadata, name, task) if workspace else Slot(loop=name, task=task)


def _keep(workspace: Workspace | None, slot: Slot) -> None:
    # a source that cannot be used leaves no store behind
    if workspace is not None:
        put_slot(workspace.metadata, slot)


@contextmanager
def _turn(home: Path, name: str) -> Iterator[bool]:
    """Tell whether this process may attend the loop; the lock goes when the process does."""
    if not home.is_dir():
        yield True  # nothing is made before the first step finds the source usable
        return
    folder = home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.attend.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def help_of(store: Store, capacity: Capacity, on_news: OnNews, clock: Clock | None = None) -> Help:
    """Return what attending needs, by the machine's own clock unless another is given."""
    return Help(store=store, capacity=capacity, on_news=on_news, clock=clock or SystemClock())
