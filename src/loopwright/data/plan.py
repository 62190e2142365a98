"""The `data:` block of a loop file: the source, how often it is read again, how it is split."""

from __future__ import annotations

from typing import Literal

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.quantity import seconds
from loopwright.data.source import SourceSpec
from loopwright.data.split import Split, check_split


class Refresh(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the source is read again: how often, such as `every: 1 day`, and how much of it.

    With a `cursor`, a column that grows such as `created_at`, only rows beyond its greatest value so
    far are read and added; without, every reading takes the whole source. With a `key` beside it, one
    column or several, a row takes the place of the older one with the same key; the cursor is then a
    column that moves when a row changes, such as `updated_at`.
    """

    every: str | None = None
    cursor: str | None = None
    key: str | tuple[str, ...] | None = None

    def keys(self) -> tuple[str, ...]:
        """Return the columns of the key; empty without one."""
        return (self.key,) if isinstance(self.key, str) else self.key or ()


Break = Literal[
    "column gone", "type changed", "nulls", "unseen categories", "out of range", "duplicate keys"
]


class ContractPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far later rows may go from the first ones before they are quarantined.

    Parameters
    ----------
    nulls
        Share of missing values, 0 to 1, allowed in a column that had none.
    unseen
        Share of values, 0 to 1, that may be outside the known categories of a column.
    out_of_range
        Share of values, 0 to 1, that may be outside the range of a column.
    fewest_rows
        A full reading with less than this share of the rows before, 0 to 1, has collapsed.
    ignore
        Columns that may change in any way.
    allow
        For a column, the breaks that are none: `column gone`, `type changed`, `nulls`,
        `unseen categories`, `out of range`, `duplicate keys`.
    """

    nulls: float | None = None
    unseen: float | None = None
    out_of_range: float | None = None
    fewest_rows: float | None = None
    ignore: tuple[str, ...] = ()
    allow: dict[str, tuple[Break, ...]] = msgspec.field(default_factory=dict)


class DataPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where rows come from, when they are read again, and how they are split."""

    source: SourceSpec
    refresh: Refresh = msgspec.field(default_factory=Refresh)
    contract: ContractPlan = msgspec.field(default_factory=ContractPlan)
    split: Split = msgspec.field(default_factory=Split)


def check_plan(plan: DataPlan) -> None:
    """Raise for what can be seen to be wrong without opening the source.

    Raises
    ------
    InvalidInputError
        If the split is wrong, the interval is not a duration, the cursor or the key names nothing,
        or a tolerance is no share.
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
    if plan.refresh.key is not None and plan.refresh.cursor is None:
        raise InvalidInputError(
            "data.refresh has a key but no cursor.",
            hint="Name the column that tells newer rows from older ones: cursor: updated_at. Without "
            "one every reading takes the whole source, changed rows included.",
            field="data.refresh.key",
        )
    if plan.refresh.key is not None and not plan.refresh.keys():
        raise InvalidInputError(
            "data.refresh.key names no column.",
            hint="Name one column or several, such as key: customer_id, or leave it out.",
            field="data.refresh.key",
        )
    for name in ("nulls", "unseen", "out_of_range", "fewest_rows"):
        share = getattr(plan.contract, name)
        if share is not None and not 0 <= share <= 1:
            raise InvalidInputError(
                f"data.contract.{name} is {share:g}, which is no share.",
                hint="Give a number from 0 to 1; 0.02 means 2 %.",
                field=f"data.contract.{name}",
                value=share,
            )
