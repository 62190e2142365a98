"""What text is made of: numbers or dates written as text, in one way or in several."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_FEWEST = 3
_MOST = 0.9
_HALF = 0.5
_SHOWN = 3
_NUMBER = re.compile(r"[+-]?(?:\d+(?:[ ,.'’]\d{3})*(?:[.,]\d+)?|[.,]\d+)(?:[eE][+-]?\d+)?%?")
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_TIME = r"(?:[ T]\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?[ap]m)?(?:Z|[+-]\d{2}:?\d{2})?)?"
# how a date is written, as people say it
_DATES: tuple[tuple[str, str], ...] = (
    ("year-month-day", r"\d{4}-\d{1,2}-\d{1,2}"),
    ("year/month/day", r"\d{4}/\d{1,2}/\d{1,2}"),
    ("numbers and slashes", r"\d{1,2}/\d{1,2}/(?:\d{4}|\d{2})"),
    ("numbers and dots", r"\d{1,2}\. ?\d{1,2}\. ?(?:\d{4}|\d{2})"),
    ("numbers and dashes", r"\d{1,2}-\d{1,2}-(?:\d{4}|\d{2})"),
    ("month in words first", rf"{_MONTH} \d{{1,2}},? \d{{4}}"),
    ("day first, month in words", rf"\d{{1,2}}\.?[ -]{_MONTH}[ -]\d{{2,4}}"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """Text that holds numbers or dates; `is_mixed` when not all of it does, or not in one way.

    `are_digits` when its numbers are digits alone, as those are that name things.
    """

    is_mixed: bool
    evidence: str
    recommendation: str
    are_digits: bool = False


def find_mixture(texts: Sequence[str]) -> Mixture | None:
    """Return what distinct values of a column of text are made of; None for plain text.

    Dates are told when nine values in ten are dates, numbers when half are numbers: names with a few
    digits among them are no mixture.

    Examples
    --------
    >>> find_mixture(["12", "7.5", "n/a", "3"]).evidence
    "3 of the 4 values looked at are numbers, others are not, such as 'n/a'."
    >>> find_mixture(["Kent", "Renton", "Ballard"]) is None
    True
    """
    known = [text for text in texts if text]
    # most columns of words are told from the others by having no digits
    n_digits = sum(any(map(str.isdigit, text)) for text in known)
    if len(known) < _FEWEST or n_digits < _HALF * len(known):
        return None
    return _dates(known) or _numbers(known)


def _dates(texts: Sequence[str]) -> Mixture | None:
    ways: dict[str, str] = {}
    left = list(texts)
    for name, pattern in _DATES:
        # compiled where it is used: most columns never ask; `re` keeps what it compiled
        match = re.compile(pattern + _TIME, re.IGNORECASE).fullmatch
        found = [text for text in left if match(text)]
        if found:
            ways[name] = found[0]
            left = [text for text in left if not match(text)]
    if len(left) > (1 - _MOST) * len(texts):
        return None
    shown = ", ".join(repr(text) for text in list(ways.values())[:_SHOWN])
    beside = f"; {len(left):,} values looked at are no dates" if left else ""
    if len(ways) > 1:
        return Mixture(
            is_mixed=True,
            evidence=f"It holds dates written in {len(ways)} ways, such as {shown}{beside}.",
            recommendation="Write all dates as year-month-day at the source; until then it is text.",
        )
    return Mixture(
        is_mixed=bool(left),
        evidence=f"It holds dates as text, such as {shown}{beside}.",
        recommendation="Write them as year-month-day, or cast the column, to use them as dates.",
    )


def _numbers(texts: Sequence[str]) -> Mixture | None:
    odd = [text for text in texts if not _NUMBER.fullmatch(text)]
    are_digits = not any(_NUMBER.fullmatch(text) for text in texts if not text.isdigit())
    share = 1 - len(odd) / len(texts)
    if share < _HALF:
        return None
    if not odd:
        return Mixture(
            is_mixed=False,
            evidence=f"All of the {len(texts):,} values looked at are numbers written as text.",
            recommendation="Cast it to a number if its size means something.",
            are_digits=are_digits,
        )
    shown = ", ".join(repr(text[:40]) for text in odd[:_SHOWN])
    return Mixture(
        is_mixed=True,
        evidence=f"{len(texts) - len(odd):,} of the {len(texts):,} values looked at are numbers, others "
        f"are not, such as {shown}.",
        recommendation="Turn the others into missing values and cast it to a number, unless it is a code.",
        are_digits=are_digits,
    )
