"""The `data:` block of a loop file: the source, how often it is read again, how it is split."""

from __future__ import annotations

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.quantity import seconds
from loopwright.data.source import SourceSpec
from loopwright.data.split import Split, check_split


class Refresh(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the source is read again: how often, such as `every: 1 day`, and how much of it.

    With a `cursor`, a column that grows such as `created_at`, only rows beyond its greatest value so
    far are read and added; without, every reading takes the whole source.
    """

    every: str | None = None
    cursor: str | None = None


class DataPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where rows come from, when they are read again, and how they are split."""

    source: SourceSpec
    refresh: Refresh = msgspec.field(default_factory=Refresh)
    split: Split = msgspec.field(default_factory=Split)


def check_plan(plan: DataPlan) -> None:
    """Raise for what can be seen to be wrong without opening the source.

    Raises
    ------
    InvalidInputError
        If the split is wrong, the interval is not a duration, or the cursor names nothing.
    """
    check_split(plan.split)
    if plan.refresh.every is not None:
        seconds(plan.refresh.every, field="data.refresh.every")
    if plan.refresh.cursor is not None and not plan.refresh.cursor.strip():
        raise InvalidInputError(
            "data.refresh.cursor is empty.",
            hint="Name a column that grows, such as created_at, or leave it out.",
            field="data.refresh.cursor",
            value=plan.refresh.cursor,
        )
