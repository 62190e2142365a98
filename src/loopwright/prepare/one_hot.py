"""The step that gives every level of a category a column of zeros and ones."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING

import msgspec

from loopwright.core.lazy import LazyModule
from loopwright.prepare.instruction import Instruction
from loopwright.prepare.level import (
    CATEGORIES,
    Level,
    category,
    category_of,
    level_counts,
    level_text,
)
from loopwright.prepare.step import (
    Operation,
    Registers,
    Training,
    Types,
    checked_columns,
    fresh,
    same_length,
)
from loopwright.prepare.value import ValueType

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np, pl = LazyModule("numpy"), LazyModule("polars")


class OneHot(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="one_hot",
    tag_field="step",
):
    """Give every level a column of zeros and ones, named `<column>=<level>`.

    Levels held by less than `min_share` of the training rows (0 to 1), those beyond the
    `max_levels` most frequent, and levels never seen get zeros everywhere. A missing value has a
    column of its own if training had one.
    """

    columns: tuple[str, ...]
    min_share: float = 0.0
    max_levels: int = 100
    reason: str = ""

    def fit(self, training: Training) -> FittedOneHot:
        """Learn the levels of each column."""
        checked_columns("one_hot", self.columns, training.types, CATEGORIES)
        levels = tuple(self._levels(category_of(training.table, name)) for name in self.columns)
        taken, names = set(training.types), []
        for column, known in zip(self.columns, levels, strict=True):
            own: list[str] = []
            for level in known:
                own.append(fresh(f"{column}={level_text(level)}", taken))
                taken.add(own[-1])
            names.append(tuple(own))
        return FittedOneHot(
            columns=self.columns, levels=levels, names=tuple(names), reason=self.reason
        )

    def _levels(self, column: pl.Series) -> tuple[Level | None, ...]:
        levels, counts = level_counts(column)
        order = sorted(range(len(levels)), key=lambda code: (-counts[code], code))
        kept = sorted(
            code
            for code in order[: self.max_levels]
            if counts[code] >= self.min_share * max(len(column), 1)
        )
        missing: list[Level | None] = [None] if counts[len(levels)] else []
        return (*(levels[code] for code in kept), *missing)


class FittedOneHot(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="one_hot",
    tag_field="step",
):
    """Knows the levels of each column, None for missing, and the names of their columns."""

    columns: tuple[str, ...]
    levels: tuple[tuple[Level | None, ...], ...]
    names: tuple[tuple[str, ...], ...]
    reason: str = ""

    def __post_init__(self) -> None:
        same_length(self.columns, self.levels, self.names)
        for levels, names in zip(self.levels, self.names, strict=True):
            same_length(levels, names)

    def types_after(self, types: Types) -> dict[str, ValueType]:
        """Return the columns without the categories; those of the levels come last."""
        kept = {name: kind for name, kind in types.items() if name not in self.columns}
        return {**kept, **{name: "number" for names in self.names for name in names}}

    def apply(self, table: pl.LazyFrame, types: Types, *, today: date | None) -> pl.LazyFrame:
        """Return the table with the columns of zeros and ones."""
        del today
        return table.with_columns(
            _is_level(category(column, types), level).alias(name)
            for column, levels, names in zip(self.columns, self.levels, self.names, strict=True)
            for level, name in zip(levels, names, strict=True)
        )

    def operation(self, types: Types, place: Mapping[str, int]) -> Operation | None:
        """Return what writes the zeros and ones of one row."""
        del types
        plan = []
        for column, levels, names in zip(self.columns, self.levels, self.names, strict=True):
            if not names:
                continue
            first, n = place[names[0]], len(names)
            if [place[name] for name in names] != list(range(first, first + n)):
                raise ValueError(f"the levels of {column!r} do not lie together")
            rows = {level: [float(i == at) for i in range(n)] for at, level in enumerate(levels)}
            plan.append((place[column], first, first + n, rows, [0.0] * n))

        def one_hot(row: Registers) -> None:
            for source, first, end, rows, unseen in plan:
                row[first:end] = rows.get(row[source], unseen)

        return one_hot

    def instructions(self, types: Types, place: Mapping[str, int]) -> list[Instruction]:
        """Return what the kernel does to one row."""
        del types
        made = []
        for column, levels, names in zip(self.columns, self.levels, self.names, strict=True):
            if names:
                at = {level: number for number, level in enumerate(levels)}
                made.append(Instruction("h", place[column], place[names[0]], len(names), table=at))
        return made


def _is_level(column: pl.Expr, level: Level | None) -> pl.Expr:
    found = column.is_null() if level is None else (column == level).fill_null(value=False)
    return found.cast(pl.Float64)
