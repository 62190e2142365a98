"""Which loops there are, which of them want something now, and the processes that see to it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from loopwright.core.clock import Clock
from loopwright.core.errors import LoopwrightError, NotFoundError
from loopwright.loop.file import ReadFile, read_loop_file
from loopwright.loop.unattended import wakes_at
from loopwright.loop.workspace import Workspace
from loopwright.server.child import Child, Starter

_log = logging.getLogger(__name__)

# how a process that attends a loop ends; anything else means that it died
DONE, FAILED, BUSY = 0, 1, 75

# a round that trains for long has jobs with limits of their own, and is taken up again
TURN_LIMIT_S = 12 * 3_600.0

_ASK_AGAIN = timedelta(seconds=30)
_BUSY = timedelta(seconds=20)
# whatever a loop wants, its processes do not follow each other closer than this
_LEAST_GAP = timedelta(seconds=5)
_FIRST_REST_S, _LAST_REST_S = 15.0, 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attended:
    """One loop in the eyes of the server.

    Parameters
    ----------
    state
        `attended`, `file missing`, `file broken`, `file of another loop`, or `resting` after its
        process died.
    told
        What is wrong, in words.
    wakes_at
        When it wants something next, or when it is looked at again.
    pid, since
        The process that attends it now, and since when.
    n_crashes
        How often in a row its process died.
    """

    name: str
    file: str
    state: str = "attended"
    told: str = ""
    wakes_at: datetime | None = None
    pid: int | None = None
    since: datetime | None = None
    n_crashes: int = 0


@dataclass(slots=True)
class _Loop:
    """What is known of a loop between two turns."""

    attended: Attended
    child: Child | None = None
    # by a clock that nobody sets
    begun_s: float = 0.0
    is_overdue: bool = False
    read: ReadFile | None = None
    stamp: tuple[int, ...] = ()
    asked_at: datetime | None = None
    begun_at: datetime | None = None
    crashed: str = ""


class Keeper:
    """Looks after the loops of a home: call `turn` about once a second, from one thread.

    Parameters
    ----------
    workspace
        The home.
    start
        Starts the process that attends a loop.
    most_at_once
        How many loops are attended at once; the others wait for their turn, longest first.
    turn_limit_s
        How long a turn at a loop may last; its process is ended then, and counts as one that died.
    monotonic
        Counts seconds, whatever the clock on the wall does.
    """

    def __init__(
        self,
        workspace: Workspace,
        start: Starter,
        *,
        clock: Clock,
        most_at_once: int = 2,
        turn_limit_s: float = TURN_LIMIT_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workspace = workspace
        self._start = start
        self._clock = clock
        self._most = most_at_once
        self._limit_s = turn_limit_s
        self._monotonic = monotonic
        self._loops: dict[str, _Loop] = {}
        self._lock = threading.Lock()
        self._seen: tuple[Attended, ...] = ()
        self.turned_at: datetime | None = None

    @property
    def attended(self) -> tuple[Attended, ...]:
        """Every loop as it was after the last turn; may be read from any thread."""
        with self._lock:
            return self._seen

    def turn(self) -> None:
        """See who has ended and who wants something, and start as many as may run at once."""
        now = self._clock.now()
        self._follow_records()
        for loop in self._loops.values():
            self._end_overdue(loop)
            self._reap(loop, now)
            self._ask(loop, now)
        waiting = [loop for loop in self._loops.values() if self._wants(loop, now)]
        waiting.sort(key=lambda loop: (loop.attended.wakes_at or now, loop.attended.name))
        free = self._most - sum(loop.child is not None for loop in self._loops.values())
        for loop in waiting[: max(free, 0)]:
            self._begin(loop, now)
        with self._lock:
            self._seen = tuple(loop.attended for loop in self._loops.values())
        self.turned_at = now

    def running(self) -> list[Child]:
        """Return the processes that attend loops now."""
        return [loop.child for loop in self._loops.values() if loop.child is not None]

    def _follow_records(self) -> None:
        known = {
            record.key: str(record.body["file"])
            for record in self._workspace.metadata.list_("loop", limit=10_000)
        }
        for name, file in known.items():
            if name not in self._loops:
                self._loops[name] = _Loop(attended=Attended(name=name, file=file))
            elif self._loops[name].attended.file != file:
                loop = self._loops[name]
                loop.attended = replace(loop.attended, file=file, wakes_at=None)
                loop.stamp = ()
        for name in [name for name in self._loops if name not in known]:
            if self._loops[name].child is None:
                del self._loops[name]

    def _end_overdue(self, loop: _Loop) -> None:
        """Ask a process that takes too long to end, and end it with the next turn if it has not."""
        if loop.child is None:
            return
        if loop.is_overdue:
            loop.child.kill()
        elif self._monotonic() - loop.begun_s > self._limit_s:
            loop.is_overdue = True
            _log.error("%s: %s.", loop.attended.name, self._told_overdue())
            loop.child.terminate()

    def _told_overdue(self) -> str:
        return f"its turn took longer than {self._limit_s / 3600:g} hours and was ended"

    def _reap(self, loop: _Loop, now: datetime) -> None:
        """Note how a process ended; one that died makes its loop rest, longer each time."""
        if loop.child is None or (code := loop.child.poll()) is None:
            return
        loop.child = None
        loop.asked_at = None
        was_note, loop.crashed = bool(loop.crashed), ""
        was_overdue, loop.is_overdue = loop.is_overdue, False
        calm = replace(loop.attended, pid=None, since=None, wakes_at=None)
        if code == DONE:
            loop.attended = replace(calm, n_crashes=calm.n_crashes if was_note else 0)
            if was_note:
                loop.attended = self._resting(loop.attended, now)
        elif code == BUSY:
            loop.attended, loop.asked_at = replace(calm, wakes_at=now + _BUSY), now
        else:
            told = self._told_overdue() if was_overdue else f"its process ended with {code}"
            _log.error("%s: %s.", calm.name, told)
            loop.attended = self._resting(replace(calm, n_crashes=calm.n_crashes + 1), now)
            if not was_note:
                loop.crashed = told
                self._begin(loop, now)

    @staticmethod
    def _resting(attended: Attended, now: datetime) -> Attended:
        rest_s = min(_FIRST_REST_S * 2.0 ** min(attended.n_crashes - 1, 20), _LAST_REST_S)
        until = now + timedelta(seconds=rest_s)
        told = f"its process died {attended.n_crashes} times in a row"
        return replace(attended, state="resting", told=told, wakes_at=until)

    def _ask(self, loop: _Loop, now: datetime) -> None:
        """Find out when a loop wants something, if that is not known or may have changed."""
        if loop.child is not None:
            return
        attended = loop.attended
        rest = (attended.wakes_at or now) - now
        if attended.state == "resting" and timedelta() < rest <= timedelta(seconds=_LAST_REST_S):
            return
        stamp = _stamp(Path(attended.file))
        asked = loop.asked_at
        is_known = asked is not None and stamp == loop.stamp and asked <= now < asked + _ASK_AGAIN
        if is_known:
            return
        loop.stamp, loop.asked_at = stamp, now
        before = (attended.state, attended.told)
        loop.attended = self._asked(loop, now)
        if (loop.attended.state, loop.attended.told) != before and loop.attended.told:
            _log.warning("%s: %s. %s", attended.name, loop.attended.state, loop.attended.told)

    def _asked(self, loop: _Loop, now: datetime) -> Attended:
        attended, file = loop.attended, Path(loop.attended.file)
        later = now + _ASK_AGAIN
        try:
            read = read_loop_file(file)
        except NotFoundError:
            told = f"{file} is not there. Put it back, or run the loop once from where it is now."
            return replace(attended, state="file missing", told=told, wakes_at=later)
        except (LoopwrightError, OSError) as error:
            return replace(attended, state="file broken", told=str(error), wakes_at=later)
        if read.content.name != attended.name:
            told = f"{file} describes the loop {read.content.name!r} now."
            return replace(attended, state="file of another loop", told=told, wakes_at=later)
        wakes = wakes_at(read, self._workspace, now=now)
        return replace(attended, state="attended", told="", wakes_at=wakes)

    @staticmethod
    def _wants(loop: _Loop, now: datetime) -> bool:
        at = loop.attended.wakes_at
        is_attended = loop.attended.state == "attended"
        began = loop.begun_at
        is_soon = began is not None and began <= now < began + _LEAST_GAP
        return loop.child is None and is_attended and at is not None and at <= now and not is_soon

    def _begin(self, loop: _Loop, now: datetime) -> None:
        try:
            loop.child = self._start(loop.attended.name, loop.crashed)
        except OSError as error:
            _log.error("%s: no process can be started: %s", loop.attended.name, error)
            told = f"no process can be started: {error}"
            loop.attended = replace(
                loop.attended, state="resting", told=told, wakes_at=now + _ASK_AGAIN
            )
            loop.crashed = ""
            return
        loop.begun_at, loop.begun_s = now, self._monotonic()
        loop.attended = replace(loop.attended, pid=loop.child.pid, since=now)


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        seen = path.stat()
    except OSError:
        return ()
    return (seen.st_mtime_ns, seen.st_size, seen.st_ino)
