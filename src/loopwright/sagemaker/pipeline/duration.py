"""Durations as pipelines write them: `P30D`, `30d`, `PT1H30M`, `T30m`."""

from __future__ import annotations

import re

from loopwright.sagemaker.error import validation

_DURATION = re.compile(
    r"P?(?:(\d+)Y)?(?:(\d+)MO?)?(?:(\d+)W)?(?:(\d+)D)?(?:T?(?:(\d+)H)?(?:(\d+)M(?:IN)?)?(?:(\d+)S)?)?",
    re.IGNORECASE,
)
_SECONDS = (31_536_000, 2_592_000, 604_800, 86_400, 3_600, 60, 1)


def seconds_of(text: str) -> int:
    """Return how many seconds a duration lasts; a year has 365 days, a month 30.

    Raises
    ------
    ApiError
        If it is no duration.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise validation(
            f"Unable to parse pipeline definition. {text[:80]!r} is no ISO 8601 duration."
        )
    return sum(int(n) * unit for n, unit in zip(match.groups(), _SECONDS, strict=True) if n)
