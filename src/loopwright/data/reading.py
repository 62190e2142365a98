"""The ways text can be read: which pattern, which type, in which order they are tried."""

from __future__ import annotations

from dataclasses import dataclass

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean

PLACEHOLDERS = frozenset({"", "?", "-", "na", "n/a", "nan", "null", "none"})
"""Text, in lower case, that stands for a missing value in a column of numbers or dates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One way to read the text of a column.

    Parameters
    ----------
    name
        What people call such a value; also its key in stored conversions, so it never changes.
    pattern
        What the whole text must match; the same in Rust and in Python.
    dtype
        The type it becomes, as Polars names it.
    format
        For dates, the format in the notation of Rust's chrono.
    """

    name: str
    pattern: str
    dtype: str
    format: str = ""

    @property
    def has_zone(self) -> bool:
        """Whether the text says its distance from UTC."""
        return "%#z" in self.format


_DAY = "[0-9]{1,2}"
_YEAR = "[0-9]{4}"
_CLOCK = "[0-9]{2}:[0-9]{2}:[0-9]{2}"
_ISO = f"{_YEAR}-[0-9]{{2}}-[0-9]{{2}}"
_FRACTION = r"(?:\.[0-9]{1,9})?"


def _dates() -> list[Reading]:
    plain = {
        "Y-M-D": (f"{_YEAR}-{_DAY}-{_DAY}", "%Y-%m-%d"),
        "Y/M/D": (f"{_YEAR}/{_DAY}/{_DAY}", "%Y/%m/%d"),
        "M/D/Y": (f"{_DAY}/{_DAY}/{_YEAR}", "%m/%d/%Y"),
        "D/M/Y": (f"{_DAY}/{_DAY}/{_YEAR}", "%d/%m/%Y"),
        "M-D-Y": (f"{_DAY}-{_DAY}-{_YEAR}", "%m-%d-%Y"),
        "D-M-Y": (f"{_DAY}-{_DAY}-{_YEAR}", "%d-%m-%Y"),
        "D.M.Y": (rf"{_DAY}\.{_DAY}\.{_YEAR}", "%d.%m.%Y"),
    }
    return [
        Reading(name=f"date ({name})", pattern=pattern, dtype="Date", format=format_)
        for name, (pattern, format_) in plain.items()
    ]


def _moments() -> list[Reading]:
    moments = {
        "Y-M-DTh:m:s": (f"{_ISO}T{_CLOCK}{_FRACTION}", "%Y-%m-%dT%H:%M:%S%.f"),
        "Y-M-D h:m:s": (f"{_ISO} {_CLOCK}{_FRACTION}", "%Y-%m-%d %H:%M:%S%.f"),
        "Y-M-DTh:m:s, zone": (
            f"{_ISO}T{_CLOCK}{_FRACTION}(?:Z|[+-][0-9]{{2}}:?[0-9]{{2}})",
            "%Y-%m-%dT%H:%M:%S%.f%#z",
        ),
        "Y-M-D h:m:s, zone": (
            f"{_ISO} {_CLOCK}{_FRACTION}(?:Z|[+-][0-9]{{2}}:?[0-9]{{2}})",
            "%Y-%m-%d %H:%M:%S%.f%#z",
        ),
        "Y-M-DTh:m": (f"{_ISO}T[0-9]{{2}}:[0-9]{{2}}", "%Y-%m-%dT%H:%M"),
        "Y-M-D h:m": (f"{_ISO} [0-9]{{2}}:[0-9]{{2}}", "%Y-%m-%d %H:%M"),
        "YMDThms": ("[0-9]{8}T[0-9]{6}", "%Y%m%dT%H%M%S"),
        "M/D/Y h:m": (f"{_DAY}/{_DAY}/{_YEAR} {_DAY}:[0-9]{{2}}", "%m/%d/%Y %H:%M"),
        "D/M/Y h:m": (f"{_DAY}/{_DAY}/{_YEAR} {_DAY}:[0-9]{{2}}", "%d/%m/%Y %H:%M"),
        "M/D/Y h:m:s": (f"{_DAY}/{_DAY}/{_YEAR} {_DAY}:[0-9]{{2}}:[0-9]{{2}}", "%m/%d/%Y %H:%M:%S"),
        "D/M/Y h:m:s": (f"{_DAY}/{_DAY}/{_YEAR} {_DAY}:[0-9]{{2}}:[0-9]{{2}}", "%d/%m/%Y %H:%M:%S"),
        "D.M.Y h:m": (rf"{_DAY}\.{_DAY}\.{_YEAR} {_DAY}:[0-9]{{2}}", "%d.%m.%Y %H:%M"),
    }
    return [
        Reading(name=f"moment ({name})", pattern=pattern, dtype="Datetime", format=format_)
        for name, (pattern, format_) in moments.items()
    ]


READINGS: tuple[Reading, ...] = (
    Reading(name="truth value", pattern="(?i:true|false)", dtype="Boolean"),
    # a leading zero, or more digits than a whole number holds, means a code: such columns stay text
    Reading(name="whole number", pattern="[+-]?(?:0|[1-9][0-9]{0,17})", dtype="Int64"),
    Reading(
        name="number",
        pattern=r"[+-]?(?:(?:0|[1-9][0-9]{0,17})(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?",
        dtype="Float64",
    ),
    *_dates(),
    *_moments(),
)


def reading_named(name: str) -> Reading:
    """Return the reading with this name.

    Raises
    ------
    InvalidInputError
        If there is none, as in a record written by a later release.
    """
    for reading in READINGS:
        if reading.name == name:
            return reading
    raise InvalidInputError(
        f"There is no way of reading text named {name!r}.",
        hint=did_you_mean(name, [reading.name for reading in READINGS]),
        field="reading",
        value=name,
    )
