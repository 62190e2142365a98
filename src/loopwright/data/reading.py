"""The ways text can be read: which pattern, which type, in which order they are tried."""

from __future__ import annotations

import re
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
    family
        Readings of one family give the same text different meanings: where two of them fit a whole
        column, it cannot be told which is meant.
    grouping, decimal
        For numbers, the mark between groups of three digits, if any, and the decimal mark.
    """

    name: str
    pattern: str
    dtype: str
    format: str = ""
    family: str = ""
    grouping: str = ""
    decimal: str = "."

    @property
    def has_zone(self) -> bool:
        """Whether the text says its distance from UTC."""
        return "%#z" in self.format

    @property
    def has_short_year(self) -> bool:
        """Whether years have two digits: 00 to 68 then mean 2000 to 2068, and 69 to 99 1969 to 1999."""
        return "%y" in self.format

    @property
    def has_month_name(self) -> bool:
        """Whether months stand as English names."""
        return "%B" in self.format


MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july", "august", "september"),
    *("october", "november", "december"),
)
FIRST_SHORT_YEAR = 69
"""The two digits of the first year that means the last century, as POSIX has it."""

_DAY = "[0-9]{1,2}"
_YEAR = "[0-9]{4}"
_CLOCK = "[0-9]{2}:[0-9]{2}:[0-9]{2}"
_ISO = f"{_YEAR}-[0-9]{{2}}-[0-9]{{2}}"
_FRACTION = r"(?:\.[0-9]{1,9})?"
_SHORT = "[0-9]{2}"
_MONTH = "(?i:" + "|".join(f"{name[:3]}(?:{name[3:]})?" for name in MONTHS) + ")"


def _dates() -> list[Reading]:
    plain = {
        "Y-M-D": (f"{_YEAR}-{_DAY}-{_DAY}", "%Y-%m-%d"),
        "Y/M/D": (f"{_YEAR}/{_DAY}/{_DAY}", "%Y/%m/%d"),
        "M/D/Y": (f"{_DAY}/{_DAY}/{_YEAR}", "%m/%d/%Y"),
        "D/M/Y": (f"{_DAY}/{_DAY}/{_YEAR}", "%d/%m/%Y"),
        "M-D-Y": (f"{_DAY}-{_DAY}-{_YEAR}", "%m-%d-%Y"),
        "D-M-Y": (f"{_DAY}-{_DAY}-{_YEAR}", "%d-%m-%Y"),
        "D.M.Y": (rf"{_DAY}\.{_DAY}\.{_YEAR}", "%d.%m.%Y"),
        "D Mon Y": (f"{_DAY} {_MONTH} {_YEAR}", "%d %B %Y"),
        "D-Mon-Y": (f"{_DAY}-{_MONTH}-{_YEAR}", "%d-%B-%Y"),
        "Mon D, Y": (f"{_MONTH} {_DAY}, {_YEAR}", "%B %d, %Y"),
        "Mon D Y": (f"{_MONTH} {_DAY} {_YEAR}", "%B %d %Y"),
        "D-Mon-y": (f"{_DAY}-{_MONTH}-{_SHORT}", "%d-%B-%y"),
        "M/D/y": (f"{_DAY}/{_DAY}/{_SHORT}", "%m/%d/%y"),
        "D/M/y": (f"{_DAY}/{_DAY}/{_SHORT}", "%d/%m/%y"),
        "y/M/D": (f"{_SHORT}/{_DAY}/{_DAY}", "%y/%m/%d"),
        "M-D-y": (f"{_DAY}-{_DAY}-{_SHORT}", "%m-%d-%y"),
        "D-M-y": (f"{_DAY}-{_DAY}-{_SHORT}", "%d-%m-%y"),
        "y-M-D": (f"{_SHORT}-{_DAY}-{_DAY}", "%y-%m-%d"),
        "D.M.y": (rf"{_DAY}\.{_DAY}\.{_SHORT}", "%d.%m.%y"),
    }
    return [
        Reading(
            name=f"date ({name})",
            pattern=pattern,
            dtype="Date",
            format=format_,
            # the marks between the numbers tell which orders of them can be confused
            family=re.sub(r"[MDYy]", "", name) + ("y" if "y" in name else "Y"),
        )
        for name, (pattern, format_) in plain.items()
    ]


def _marked_numbers() -> list[Reading]:
    """Return the two ways of writing `1234567.5` with a comma; the first is not the English one."""

    def pattern(grouping: str, decimal: str) -> str:
        grouped = f"[1-9][0-9]{{0,2}}(?:{grouping}[0-9]{{3}}){{1,5}}"
        return f"[+-]?(?:{grouped}|0|[1-9][0-9]{{0,17}})(?:{decimal}[0-9]+)?"

    return [
        Reading(
            name="number (1.234,5)",
            pattern=pattern(r"\.", ","),
            dtype="Float64",
            family="comma",
            grouping=".",
            decimal=",",
        ),
        Reading(
            name="number (1,234.5)",
            pattern=pattern(",", r"\."),
            dtype="Float64",
            family="comma",
            grouping=",",
        ),
    ]


def _moments() -> list[Reading]:
    moments = {
        "Y-M-DTh:m:s": (f"{_ISO}T{_CLOCK}{_FRACTION}", "%Y-%m-%dT%H:%M:%S%.f"),
        "Y-M-D h:m:s": (f"{_ISO} {_CLOCK}{_FRACTION}", "%Y-%m-%d %H:%M:%S%.f"),
        "Y-M-DTh:m:s, zone": (
            f"{_ISO}T{_CLOCK}{_FRACTION}(?:Z|[+-][0-9]{{2}}:?[0-5][0-9])",
            "%Y-%m-%dT%H:%M:%S%.f%#z",
        ),
        "Y-M-D h:m:s, zone": (
            f"{_ISO} {_CLOCK}{_FRACTION}(?:Z|[+-][0-9]{{2}}:?[0-5][0-9])",
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
        Reading(
            name=f"moment ({name})",
            pattern=pattern,
            dtype="Datetime",
            format=format_,
            family=pattern,
        )
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
    *_marked_numbers(),
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
