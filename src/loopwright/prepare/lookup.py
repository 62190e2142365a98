"""Numbers that stand for the levels of a category, looked up for a whole column at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from loopwright.core.lazy import LazyModule
from loopwright.prepare.level import Level
from loopwright.prepare.step import same_length

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np, pl = LazyModule("numpy"), LazyModule("polars")


class Encoded(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One column of numbers made from the levels of another; None is missing."""

    column: str
    name: str
    levels: tuple[Level, ...]
    values: tuple[float, ...]
    missing: float | None
    unseen: float | None

    def __post_init__(self) -> None:
        same_length(self.levels, self.values)

    def expression(self, column: pl.Expr) -> pl.Expr:
        """Return the numbers for a column of levels.

        What is needed to look them up is made here, once, however many batches follow.
        """
        missing, unseen = (pl.lit(value, dtype=pl.Float64) for value in (self.missing, self.unseen))
        if not self.levels:
            return pl.when(column.is_null()).then(missing).otherwise(unseen)
        if not _are_different_texts(self.levels):
            found = column.replace_strict(
                list(self.levels), list(self.values), default=self.unseen, return_dtype=pl.Float64
            )
            return pl.when(column.is_null()).then(missing).otherwise(found)
        # a level's place is what Polars stores for it
        place = column.cast(pl.Enum(pl.Series(self.levels, dtype=pl.String)), strict=False)
        place = place.to_physical().cast(pl.UInt32)
        if self._is_place():
            return place.cast(pl.Float64)
        found = place.map_batches(
            _reader(self.values, self.unseen), return_dtype=pl.Float64(), is_elementwise=True
        )
        if self.missing == self.unseen:
            return found
        return pl.when(column.is_null()).then(missing).otherwise(found)

    def _is_place(self) -> bool:
        places = tuple(map(float, range(len(self.levels))))
        return self.missing is None and self.unseen is None and self.values == places


def _are_different_texts(levels: tuple[Level, ...]) -> bool:
    return all(isinstance(level, str) for level in levels) and len(set(levels)) == len(levels)


def _reader(values: tuple[float, ...], unseen: float | None) -> Callable[[pl.Series], pl.Series]:
    known = np.array([*values, 0.0 if unseen is None else unseen])
    has_number = unseen is not None

    def read(places: pl.Series) -> pl.Series:
        at = places.fill_null(len(known) - 1).to_numpy()
        found = pl.Series(places.name, known[at])
        return found if has_number else found.set(places.is_null(), None)

    return read
