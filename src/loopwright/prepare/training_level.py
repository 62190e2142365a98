"""The levels of a category that training saw, and values that are none of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean, nearest
from loopwright.data import trimmed

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

MAX_LEVELS = 1_000
_MOST_CHARACTERS = 100_000
# likeness is costly, and a caller may send a wrong value in each of many rows
_MOST_COMPARED = 50
_LONGEST_COMPARED = 80


class UnseenLevelError(ValueError):
    """A value is no level of training."""


def training_levels(column: pl.Series) -> tuple[str, ...] | None:
    """Return all levels of a column of text, sorted, as a request's values are compared with them.

    None where they are over 1,000, or over 100,000 characters together.
    """
    found = {trimmed(value) for value in column.drop_nulls().cast(pl.String).unique().to_list()}
    levels = tuple(sorted(found - {""}))
    if len(levels) > MAX_LEVELS or sum(map(len, levels)) > _MOST_CHARACTERS:
        return None
    return levels


def known_only(check: Callable[[Any], Any], levels: tuple[str, ...]) -> Callable[[Any], Any]:
    """Return a check that raises `UnseenLevelError` for what `check` returns, unless it is a level."""
    known = frozenset(levels)

    def checked(value: Any) -> Any:
        found = check(value)
        if found is not None and found not in known:
            raise UnseenLevelError
        return found

    return checked


def unseen_level(value: Any, levels: tuple[str, ...], *, row: int, field: str) -> InvalidInputError:
    """Return the error for a value that training never saw; its `nearest` fact is the likeliest level."""
    text = trimmed(str(value))[:_LONGEST_COMPARED]
    near = levels
    if len(levels) > _MOST_COMPARED:
        begin = max(0, bisect_left(levels, text) - _MOST_COMPARED // 2)
        near = levels[begin : begin + _MOST_COMPARED]
    return InvalidInputError(
        f"{field!r} of row {row} is {text!r}, which training never saw.",
        hint=did_you_mean(text, near),
        row=row,
        field=field,
        value=value,
        nearest=nearest(text, near),
        expected=f"one of the {len(levels)} values of training",
    )
