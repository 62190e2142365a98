"""When a monitoring schedule is due, as SageMaker's schedule expressions say it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from loopwright.sagemaker.error import validation

NOW = "NOW"
_CRON = re.compile(r"cron\(\s*(.+?)\s*\)")
_HOUR = re.compile(r"(\*|\d{1,2})(?:/(\d{1,2}))?")
_DURATION = re.compile(
    r"(?P<sign>[+-])?P(?:(?P<days>\d+)D)?(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?"
    r"(?:(?P<seconds>\d+)S)?)?"
)
_HOUR_LONG = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """The hours of every day, in UTC, at whose beginning something is due."""

    hours: frozenset[int]

    def latest(self, at: datetime) -> datetime:
        """Return the last moment that was due at or before a time."""
        found = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        while found.hour not in self.hours:
            found -= _HOUR_LONG
        return found

    def before(self, due: datetime) -> datetime:
        """Return the moment due before one."""
        return self.latest(due - _HOUR_LONG)

    def between(self, after: datetime, until: datetime) -> list[datetime]:
        """Return the moments due after a time and until another, the first one first."""
        found: list[datetime] = []
        due = self.latest(until)
        while due > after:
            found.append(due)
            due = self.before(due)
        return found[::-1]


def read_expression(text: str) -> Hours | None:
    """Return when a schedule expression is due; None for `NOW`, which is due once.

    As in SageMaker, a schedule begins at the full hour: `cron(0 * ? * * *)` is hourly,
    `cron(0 6 ? * * *)` daily at six, `cron(0 6/4 ? * * *)` every four hours from six on.

    Raises
    ------
    ApiError
        If it is anything else.
    """
    if text.strip() == NOW:
        return None
    match = _CRON.fullmatch(text.strip())
    fields = match[1].split() if match else []
    hour = _HOUR.fullmatch(fields[1]) if len(fields) == 6 else None
    is_daily = len(fields) == 6 and all(each in ("*", "?") for each in fields[2:])
    if hour is None or fields[0] != "0" or not is_daily or fields.count("?") > 1:
        raise _unknown(text)
    start = 0 if hour[1] == "*" else int(hour[1])
    if hour[2] is None:
        found = range(24) if hour[1] == "*" else range(start, start + 1)
    else:
        step = int(hour[2])
        if not 1 <= step <= 24:
            raise _unknown(text)
        found = range(start, 24, step)
    if start > 23:
        raise _unknown(text)
    return Hours(hours=frozenset(found))


def _unknown(text: str) -> Exception:
    return validation(
        f"The schedule expression {text[:100]!r} is not valid. Use NOW, an hourly schedule such as "
        "cron(0 * ? * * *), a daily one such as cron(0 [00-23] ? * * *), or one every few hours "
        "such as cron(0 [00-23]/[01-24] ? * * *)."
    )


def read_offset(text: str) -> timedelta:
    """Return an ISO 8601 duration such as `-PT1H` or `-P1DT2H`.

    Raises
    ------
    ApiError
        If it is none.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None or text.strip().endswith(("P", "T")):
        raise validation(f"{text[:50]!r} is no offset in time such as -PT1H or -P1D.")
    parts = {name: int(match[name] or 0) for name in ("days", "hours", "minutes", "seconds")}
    found = timedelta(**parts)
    return -found if match["sign"] == "-" else found
