"""Amounts as people write them: `4 GiB`, `1 day`, `30 minutes`."""

from __future__ import annotations

import re

from loopwright.core.errors import InvalidInputError

_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_MIB = {
    "": 1 / 2**20,
    "b": 1 / 2**20,
    "kb": 1e3 / 2**20,
    "mb": 1e6 / 2**20,
    "gb": 1e9 / 2**20,
    "tb": 1e12 / 2**20,
    "kib": 1 / 2**10,
    "mib": 1.0,
    "gib": 2.0**10,
    "tib": 2.0**20,
}
_SECONDS = {
    "s": 1,
    "second": 1,
    "min": 60,
    "minute": 60,
    "h": 3_600,
    "hour": 3_600,
    "d": 86_400,
    "day": 86_400,
    "week": 604_800,
}


def mebibytes(text: str, *, field: str) -> int:
    """Return an amount of memory such as `4 GiB` or `500 MB` in whole MiB, at least 1.

    Raises
    ------
    InvalidInputError
        If the text is not a number with a unit of memory.

    Examples
    --------
    >>> mebibytes("4 GiB", field="memory")
    4096
    """
    match = _AMOUNT.fullmatch(text)
    if not match or match[2].lower() not in _MIB or not match[2]:
        raise InvalidInputError(
            f"{field} is {text!r}, which is not an amount of memory.",
            hint="Write a number and a unit, such as '4 GiB' or '500 MB'.",
            field=field,
            value=text,
        )
    return max(1, round(float(match[1]) * _MIB[match[2].lower()]))


def seconds(text: str, *, field: str) -> float:
    """Return a duration such as `1 day` or `30 minutes` in seconds.

    Raises
    ------
    InvalidInputError
        If the text is not a number with a unit of time.

    Examples
    --------
    >>> seconds("1 day", field="every")
    86400.0
    """
    match = _AMOUNT.fullmatch(text)
    unit = match[2].lower() if match else ""
    unit = unit if unit in _SECONDS else unit.removesuffix("s")
    if not match or unit not in _SECONDS:
        raise InvalidInputError(
            f"{field} is {text!r}, which is not a duration.",
            hint="Write a number and a unit, such as '30 minutes', '1 hour' or '1 day'.",
            field=field,
            value=text,
        )
    return float(match[1]) * _SECONDS[unit]
