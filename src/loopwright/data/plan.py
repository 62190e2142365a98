"""The `data:` block of a loop file: the source, how often it is read again, how it is split."""

from __future__ import annotations

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.quantity import seconds
from loopwright.data.source import FileSource, SqlSource
from loopwright.data.split import Split, check_split


class Refresh(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often the source is read again, such as `every: 1 day`."""

    every: str | None = None
    cursor: str | None = None


class DataPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where rows come from, when they are read again, and how they are split."""

    source: FileSource | SqlSource
    refresh: Refresh = msgspec.field(default_factory=Refresh)
    split: Split = msgspec.field(default_factory=Split)


def check_plan(plan: DataPlan) -> None:
    """Raise for what can be seen to be wrong without opening the source.

    Raises
    ------
    InvalidInputError
        If the split is wrong, the interval is not a duration, or a cursor is asked for.
    """
    check_split(plan.split)
    if plan.refresh.every is not None:
        seconds(plan.refresh.every, field="data.refresh.every")
    if plan.refresh.cursor is not None:
        raise InvalidInputError(
            f"Reading only rows newer than a cursor ({plan.refresh.cursor!r}) is not supported yet.",
            hint="Leave `cursor` out: every refresh reads the whole source.",
            field="data.refresh.cursor",
            value=plan.refresh.cursor,
        )
