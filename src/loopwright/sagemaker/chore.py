"""What the server does by itself again and again: results into S3, searches, jobs in steps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from loopwright.sagemaker.desk import Desk

Chore = Callable[[Desk], object]

_log = logging.getLogger(__name__)
# a store that is locked or full now may be well in a moment
_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    chore: Chore
    every_s: float


_CHORES: list[_Entry] = []


def chore(every_s: float = 0.5) -> Callable[[Chore], Chore]:
    """Return a decorator that has the server call a function now and then, in one thread.

    The function looks at what is kept, does what is due, and returns soon: all others wait for it.
    It may be called again at any point of its work by another server, after a kill.
    """

    def enter(given: Chore) -> Chore:
        _CHORES.append(_Entry(chore=given, every_s=every_s))
        return given

    return enter


class Rounds:
    """Calls what is due; one that fails disturbs no other, and is called again a while later."""

    def __init__(self, desk: Desk, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._desk = desk
        self._clock = clock
        self._due: dict[int, float] = {}

    def turn(self) -> None:
        """Call every chore that is due, once."""
        for number, entry in enumerate(list(_CHORES)):
            if self._due.get(number, 0.0) > self._clock():
                continue
            pause = entry.every_s
            try:
                entry.chore(self._desk)
            except Exception:
                _log.exception("%s failed; trying again.", entry.chore.__name__)
                pause = _PAUSE_S
            self._due[number] = self._clock() + pause
