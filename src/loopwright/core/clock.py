"""Where time comes from, so that decisions can be replayed at any time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        return datetime.now(UTC)


@dataclass
class FixedClock:
    """A clock that stands still until it is told to move; for tests and replays."""

    at: datetime = field(default_factory=lambda: datetime(2026, 1, 1, tzinfo=UTC))

    def now(self) -> datetime:
        """Return the moment the clock stands at."""
        return self.at

    def advance(self, **timedelta_arguments: float) -> None:
        """Move forward by a `datetime.timedelta(**timedelta_arguments)`."""
        self.at += timedelta(**timedelta_arguments)
