"""How many requests come in an hour, against what is usual at that hour of the day and week."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import log, sqrt
from typing import TYPE_CHECKING, Literal

from loopwright.core.lazy import LazyModule
from loopwright.monitor.finding import DataFinding

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_HOURS = 168
_HOUR = timedelta(hours=1)
_LEAST_HOURS = 48  # seen before any hour is judged
_LEAST_WEEKS = 3  # of an hour of the week before it is compared with itself alone
_MEMORY = 8  # weeks; older ones fade
_SIGMAS = 5.0  # every hour of a year is looked at
_LEAST_DAYS = 2
_LEAST_FACTOR = 3.0
_LEAST_USUAL = 12.0  # requests an hour; fewer are too few to miss
_MOST_HOURS = 24 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """The usual numbers of requests, and the hour that is being counted.

    Parameters
    ----------
    hour_at
        Start of the hour being counted, in UTC; None before the first request.
    n_requests
        In that hour so far.
    usual
        (168,): a fading mean of requests in each hour of the week, from Monday 0:00 UTC.
    weeks
        (168,): how many weeks each of them has been seen.
    spread
        A fading mean of the squared log of seen over usual, beyond what counting gives.
    found
        The hour that was wrong last, until one is right again: seen, usual and its start.
    """

    hour_at: datetime | None = None
    n_requests: int = 0
    usual: tuple[float, ...] = (0.0,) * _HOURS
    weeks: tuple[int, ...] = (0,) * _HOURS
    spread: float = 0.0
    found: tuple[int, float, datetime] | None = None


def counted(volume: Volume, at: pl.Series, *, now: datetime | None) -> Volume:
    """Return the volume after some more requests.

    Parameters
    ----------
    at
        When they came, in order.
    now
        The time of the look, so that an hour without any request is noticed; None: the last one's.
    """
    tally = _Tally(volume)
    for hour, n in zip(*_by_hour(at), strict=True):
        tally.close_until(hour)
        tally.n_requests += n
    if now is not None and tally.hour_at is not None:
        tally.close_until(_floor(now))
    return tally.volume()


def volume_finding(volume: Volume) -> DataFinding | None:
    """Return what is unusual about the last full hour, or None."""
    if volume.found is None:
        return None
    seen, usual, start = volume.found
    few: Literal["few", "many"] = "few" if seen < usual else "many"
    return DataFinding(
        stream="requests",
        problem="volume",
        share=seen / max(usual, 1e-9),
        reference_share=1.0,
        n_rows=seen,
        message=f"Too {few} requests: {seen:,} in the hour from {start:%Y-%m-%d %H:%M} UTC, "
        f"where about {usual:,.0f} are usual.",
        is_grave=False,
    )


def is_news(volume: Volume, *, now: datetime) -> bool:
    """Return whether the finding changes by nothing but that time has passed."""
    none = pl.Series("at", [], dtype=pl.Datetime("us", "UTC"))
    later = counted(volume, none, now=now)
    return (volume_finding(later) is None) != (volume_finding(volume) is None)


class _Tally:
    """A volume while hours are added to it."""

    def __init__(self, volume: Volume) -> None:
        self._begin(volume)

    def _begin(self, volume: Volume) -> None:
        self.hour_at, self.n_requests = volume.hour_at, volume.n_requests
        self._usual, self._weeks = list(volume.usual), list(volume.weeks)
        self._n_hours = sum(volume.weeks)
        self._spread, self._found = volume.spread, volume.found

    def volume(self) -> Volume:
        return Volume(
            hour_at=self.hour_at,
            n_requests=self.n_requests,
            usual=tuple(self._usual),
            weeks=tuple(self._weeks),
            spread=self._spread,
            found=self._found,
        )

    def close_until(self, hour: datetime) -> None:
        """Close every hour before this one."""
        if self.hour_at is None:
            self.hour_at = hour
        elif hour - self.hour_at > _MOST_HOURS * _HOUR:  # switched off for long: begin anew
            self._begin(Volume(hour_at=hour))
        while self.hour_at is not None and self.hour_at < hour:
            self._close(self.hour_at)

    def _close(self, start: datetime) -> None:
        place, seen = start.weekday() * 24 + start.hour, self.n_requests
        expected = self._expected(place)
        is_wrong = expected is not None and _is_far(seen, expected, self._spread)
        rate = 1 / min(self._weeks[place] + 1, _MEMORY)
        if expected is not None and not is_wrong:
            beyond = log((seen + 1) / (expected + 1)) ** 2 - 1 / (expected + 1)
            moved = self._spread + (beyond - self._spread) / min(self._n_hours, _HOURS)
            self._spread = round(max(moved, 0.0), 6)
        # an unusual hour moves what is usual by little, so that it is told again if it stays
        step = (seen - self._usual[place]) * (rate / 4 if is_wrong else rate)
        self._usual[place] = round(self._usual[place] + step, 3)
        self._weeks[place] += 1
        self._n_hours += 1
        self._found = (seen, round(expected or 0.0, 3), start) if is_wrong else None
        self.hour_at, self.n_requests = start + _HOUR, 0

    def _expected(self, place: int) -> float | None:
        """What is usual at an hour of the week: itself, else that hour of any day."""
        if self._n_hours < _LEAST_HOURS:
            return None
        if self._weeks[place] >= _LEAST_WEEKS:
            return self._usual[place]
        same = range(place % 24, _HOURS, 24)
        weeks = sum(self._weeks[each] for each in same)
        if weeks < _LEAST_DAYS:
            return None
        return sum(self._usual[each] * self._weeks[each] for each in same) / weeks


def _is_far(seen: int, expected: float, spread: float) -> bool:
    """Whether a count is beyond five deviations of counting and of the usual spread, and far off."""
    if max(seen, expected) < _LEAST_USUAL:
        return False
    deviation = sqrt(1 / (expected + 1) + spread)
    distance = abs(log((seen + 1) / (expected + 1)))
    return distance > max(_SIGMAS * deviation, log(_LEAST_FACTOR))


def _by_hour(at: pl.Series) -> tuple[list[datetime], list[int]]:
    if not len(at):
        return [], []
    moments = at.cast(pl.Datetime("us", "UTC"))
    hours = moments.dt.truncate("1h").value_counts(name="n").sort(at.name)
    return hours[at.name].to_list(), hours["n"].to_list()


def _floor(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
