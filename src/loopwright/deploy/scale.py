"""How many processes answer: fixed, or as many as the load asks for, down to none."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.quantity import seconds

MOST_WORKERS = 64
# a worker that computes for this share of the time is at its limit; several must fall below the
# second one, together, on one process fewer before it is taken away
_HOT, _COOL = 0.75, 0.4
_MANY_WAITING = 4.0
# looks in a row
_HOT_LOOKS = 2
_COOL_S = 30.0


class Scale(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Workers by load.

    Parameters
    ----------
    least
        Fewest processes; with 0 the last one leaves when nobody has asked for `idle`, and the next
        request waits for a new one.
    most
        Most processes; one is added while all are busy or requests wait.
    idle
        How long without a request before the last one leaves.
    """

    least: int = 1
    most: int = 2
    idle: str = "10 minutes"

    @property
    def idle_s(self) -> float:
        """Return `idle` in seconds."""
        return seconds(self.idle, field="workers.idle")


def checked_scale(workers: int | Scale, *, field: str) -> int | Scale:
    """Return how many workers are wanted, if so many can be.

    Raises
    ------
    InvalidInputError
        If it is not from 1 to 64, or the bounds do not fit together.
    """
    if isinstance(workers, int):
        if not 1 <= workers <= MOST_WORKERS:
            raise InvalidInputError(
                f"{field} is {workers}, which is no number of processes.",
                hint=f"Give 1 to {MOST_WORKERS}; one for each processor core answers most.",
                field=field,
                value=workers,
            )
        return workers
    if not (0 <= workers.least <= workers.most and 1 <= workers.most <= MOST_WORKERS):
        raise InvalidInputError(
            f"{field} is from {workers.least} to {workers.most} processes.",
            hint=f"Give a least of 0 or more, and a most from there to {MOST_WORKERS}.",
            field=field,
            value=[workers.least, workers.most],
        )
    if workers.idle_s <= 0:
        raise InvalidInputError(
            f"{field}.idle is {workers.idle!r}.", hint="Give a time.", field=f"{field}.idle"
        )
    return workers


def most_workers(workers: int | Scale) -> int:
    """Return how many processes there may be at once."""
    return workers if isinstance(workers, int) else workers.most


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the workers did since the last look.

    Parameters
    ----------
    at
        When, in seconds of a clock that never goes back.
    n_ready
        Workers that answer.
    busy
        Cores that they kept busy together.
    n_waiting
        Requests that wait or are worked on, of all.
    n_asked
        Requests so far, of all; looks at health and metrics left out.
    """

    at: float
    n_ready: int
    busy: float
    n_waiting: float
    n_asked: int


@dataclass(slots=True)
class Scaler:
    """Decides, look after look, how many workers there should be."""

    scale: Scale
    wanted: int
    _asked_at: float = 0.0
    _n_asked: int = -1
    _n_hot: int = 0
    _cool_since: float | None = None

    def woken(self, at: float) -> None:
        """Take note that somebody asks while there is no worker."""
        self._asked_at = at
        self.wanted = max(self.wanted, 1)

    def decide(self, load: Load) -> int:
        """Return how many workers there should be from now on."""
        if load.n_asked != self._n_asked or load.n_waiting > 0:
            self._asked_at, self._n_asked = load.at, load.n_asked
        if self.wanted == 0 or load.n_ready < self.wanted:
            # what is on its way counts before more is asked for; it has its time to be asked
            self._n_hot, self._cool_since = 0, None
            self._asked_at = load.at if load.n_ready == 0 else self._asked_at
            return self.wanted
        each = max(load.n_ready, 1)
        is_hot = load.busy / each > _HOT or load.n_waiting / each > _MANY_WAITING
        self._n_hot = self._n_hot + 1 if is_hot else 0
        if self._n_hot >= _HOT_LOOKS and self.wanted < self.scale.most:
            self._n_hot = 0
            self.wanted += 1
        elif load.at - self._asked_at >= self.scale.idle_s:
            self.wanted = self.scale.least
        elif self._is_cool(load):
            self._cool_since = None
            self.wanted -= 1
        return self.wanted

    def _is_cool(self, load: Load) -> bool:
        fewer = load.n_ready - 1
        if fewer < max(self.scale.least, 1) or load.n_waiting or load.busy / fewer > _COOL:
            self._cool_since = None
            return False
        if self._cool_since is None:
            self._cool_since = load.at
        return load.at - self._cool_since >= min(_COOL_S, self.scale.idle_s)
