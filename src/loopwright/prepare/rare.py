"""Steps for text with many levels: rare ones together, or all of them hashed into a few columns."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.prepare.instruction import Instruction
from loopwright.prepare.level import category_of, level_counts
from loopwright.prepare.mapping import map_levels, stable_hash
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


class GroupRare(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="group_rare",
    tag_field="step",
):
    """Write one word for all levels that few training rows hold, and for levels never seen.

    A level stays if at least `min_share` (0 to 1) of the training rows hold it and it is among the
    `max_levels` most frequent. Missing stays missing.
    """

    columns: tuple[str, ...]
    min_share: float = 0.01
    max_levels: int = 1_000
    other: str = "other"
    reason: str = ""

    def fit(self, training: Training) -> FittedGroupRare:
        """Learn which levels stay."""
        checked_columns("group_rare", self.columns, training.types, ["text"])
        kept = tuple(self._kept(category_of(training.table, name)) for name in self.columns)
        return FittedGroupRare(
            columns=self.columns, kept=kept, other=self.other, reason=self.reason
        )

    def _kept(self, column: pl.Series) -> tuple[str, ...]:
        levels, counts = level_counts(column)
        order = sorted(range(len(levels)), key=lambda code: (-counts[code], code))
        least = self.min_share * max(len(column), 1)
        chosen = sorted(code for code in order[: self.max_levels] if counts[code] >= least)
        return tuple(str(levels[code]) for code in chosen)


class FittedGroupRare(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="group_rare",
    tag_field="step",
):
    """Knows the levels that stay."""

    columns: tuple[str, ...]
    kept: tuple[tuple[str, ...], ...]
    other: str
    reason: str = ""

    def __post_init__(self) -> None:
        same_length(self.columns, self.kept)

    def types_after(self, types: Types) -> dict[str, ValueType]:
        """Return the same columns."""
        return dict(types)

    def apply(self, table: pl.LazyFrame, types: Types, *, today: date | None) -> pl.LazyFrame:
        """Return the table with the rare levels under one word."""
        del types, today
        return table.with_columns(
            pl.when(pl.col(name).is_null() | pl.col(name).is_in(pl.lit(_texts(kept)).implode()))
            .then(pl.col(name))
            .otherwise(pl.lit(self.other))
            .alias(name)
            for name, kept in zip(self.columns, self.kept, strict=True)
        )

    def operation(self, types: Types, place: Mapping[str, int]) -> Operation:
        """Return what rewrites one row."""
        del types
        plan = [
            (place[n], frozenset(kept)) for n, kept in zip(self.columns, self.kept, strict=True)
        ]
        other = self.other

        def group_rare(row: Registers) -> None:
            for own, kept in plan:
                level = row[own]
                if level is not None and level not in kept:
                    row[own] = other

        return group_rare

    def instructions(self, types: Types, place: Mapping[str, int]) -> list[Instruction]:
        """Return what the kernel does to one row."""
        del types
        return [
            Instruction("r", place[name], place[name], table=frozenset(kept), other=self.other)
            for name, kept in zip(self.columns, self.kept, strict=True)
        ]


def _texts(levels: tuple[str, ...]) -> pl.Series:
    return pl.Series(levels, dtype=pl.String)


class Hash(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="hash",
    tag_field="step",
):
    """Give text of very many levels a fixed number of columns, without remembering any level.

    A level writes 1 or -1 into one of `n_features` columns named `<column>#<k>`, 0 into the others:
    with h the CRC-32 of its UTF-8 bytes, k is h mod n_features, and the sign is that of bit 31.
    Missing writes 0 everywhere. Different levels can meet in one column; the sign lets them cancel
    on average (Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", 2009).
    `names` keeps the names once fitted.
    """

    columns: tuple[str, ...]
    n_features: int = 16
    names: tuple[tuple[str, ...], ...] = ()
    reason: str = ""

    def fit(self, training: Training) -> Hash:
        """Check the columns and choose the names; there is nothing to learn."""
        checked_columns("hash", self.columns, training.types, ["text"])
        if not 2 <= self.n_features <= 4_096:
            raise InvalidInputError(
                f"n_features is {self.n_features}.", hint="Give 2 to 4,096.", field="n_features"
            )
        taken, names = list(training.types), []
        for column in self.columns:
            own = [fresh(f"{column}#{k}", taken) for k in range(self.n_features)]
            taken += own
            names.append(tuple(own))
        return msgspec.structs.replace(self, names=tuple(names))

    def types_after(self, types: Types) -> dict[str, ValueType]:
        """Return the columns without the texts; those of the hashes come last."""
        kept = {name: kind for name, kind in types.items() if name not in self.columns}
        return {**kept, **{name: "number" for names in self.names for name in names}}

    def _mark(self, level: str) -> int:
        """Return k + 1 for a 1 in column k, and -(k + 1) for a -1."""
        hashed = stable_hash(level)
        k = hashed % self.n_features + 1
        return -k if hashed >> 31 else k

    def apply(self, table: pl.LazyFrame, types: Types, *, today: date | None) -> pl.LazyFrame:
        """Return the table with the columns of the hashes."""
        del today
        marks = [fresh(f"{column}#", [*types, *sum(self.names, ())]) for column in self.columns]
        table = table.with_columns(
            map_levels(pl.col(column), self._mark, pl.Int64()).alias(mark)
            for column, mark in zip(self.columns, marks, strict=True)
        )
        return table.with_columns(
            ((pl.col(mark) == k + 1).cast(pl.Float64) - (pl.col(mark) == -k - 1).cast(pl.Float64))
            .fill_null(0.0)
            .alias(name)
            for mark, names in zip(marks, self.names, strict=True)
            for k, name in enumerate(names)
        )

    def operation(self, types: Types, place: Mapping[str, int]) -> Operation:
        """Return what hashes one row."""
        del types
        plan = [
            (place[column], [place[name] for name in names])
            for column, names in zip(self.columns, self.names, strict=True)
        ]
        mark_of = self._mark

        def hash_levels(row: Registers) -> None:
            for source, places in plan:
                for own in places:
                    row[own] = 0.0
                level = row[source]
                if level is not None:
                    mark = mark_of(level)
                    row[places[abs(mark) - 1]] = 1.0 if mark > 0 else -1.0

        return hash_levels
