"""The levels of a category: text as it is, numbers and booleans as float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.prepare.step import Types
from loopwright.prepare.value import ValueType

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np, pl = LazyModule("numpy"), LazyModule("polars")

Level = str | float

CATEGORIES: tuple[ValueType, ...] = ("text", "number", "boolean")
"""What a column may store to be used as a category."""


def category(name: str, types: Types) -> pl.Expr:
    """Return a column as levels: text as it is, numbers and booleans as float64."""
    column = pl.col(name)
    return column if types[name] == "text" else column.cast(pl.Float64)


def coded(column: pl.Series) -> tuple[tuple[Level, ...], np.ndarray]:
    """Return the sorted levels of a column, and each row's place among them; missing comes after."""
    if column.dtype != pl.String:
        column = column.cast(pl.Float64)
    levels = column.unique().drop_nulls().sort()
    known = levels.to_list()
    if not known:
        return (), np.zeros(len(column), dtype=np.int64)
    codes = column.replace_strict(
        known, range(len(known)), default=len(known), return_dtype=pl.Int64
    )
    return tuple(known), codes.fill_null(len(known)).to_numpy()


def level_text(level: Any) -> str:
    """Return how a level is written in the name of a column."""
    if level is None:
        return "missing"
    return str(int(level)) if isinstance(level, float) and level.is_integer() else str(level)
