"""The levels of a category: text as it is, numbers and booleans as float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.prepare.step import TrainingTable, Types
from loopwright.prepare.value import ValueType

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np, pl = LazyModule("numpy"), LazyModule("polars")

Level = str | float

_BLOCK_ROWS = 131_072

CATEGORIES: tuple[ValueType, ...] = ("text", "number", "boolean")
"""What a column may store to be used as a category."""


def category(name: str, types: Types) -> pl.Expr:
    """Return a column as levels: text as it is, numbers and booleans as float64."""
    column = pl.col(name)
    return column if types[name] == "text" else column.cast(pl.Float64)


def category_of(table: TrainingTable, name: str) -> pl.Series:
    """Return a column to take levels from.

    Of a table that memory need not hold, text comes as Categorical, four bytes a row however long
    the text is.
    """
    read = getattr(table, "category", None)
    column: pl.Series = table[name] if read is None else read(name)
    return column


def pieces_of(table: TrainingTable, name: str) -> Iterator[pl.Series]:
    """Give a column some rows at a time; of a table that memory need not hold it is never held."""
    read = getattr(table, "pieces", None)
    pieces: Iterator[pl.Series] = iter((table[name],)) if read is None else read(name)
    return pieces


def coded(column: pl.Series) -> tuple[tuple[Level, ...], np.ndarray]:
    """Return the sorted levels of a column, and each row's place among them; missing comes after."""
    if column.dtype not in (pl.String, pl.Categorical):
        return _coded_numbers(column.cast(pl.Float64))
    # one pass of hashing gives every row a number; only the numbers are then looked at
    numbered = column.cast(pl.Categorical)
    physical = numbered.to_physical()
    different = numbered.unique().drop_nulls()
    levels = different.cast(pl.String).sort(multithreaded=False)
    if not len(levels):
        return (), np.zeros(len(column), dtype=np.int64)
    numbers = different.to_physical().to_numpy()
    # four bytes a row: there are as many as the table has rows
    place = np.empty(int(numbers.max()) + 2, dtype=np.int32)
    place[numbers] = np.argsort(different.cast(pl.String).arg_sort().to_numpy())
    place[-1] = len(levels)
    return tuple(levels.to_list()), place[physical.fill_null(len(place) - 1).to_numpy()]


def _coded_numbers(column: pl.Series) -> tuple[tuple[Level, ...], np.ndarray]:
    levels = sorted_levels(column)
    if not levels:
        return (), np.zeros(len(column), dtype=np.int64)
    known = np.array(levels)
    # four bytes a row, made in blocks; missing comes as NaN, which belongs after all numbers
    codes = np.empty(len(column), dtype=np.int32)
    for start in range(0, len(column), _BLOCK_ROWS):
        block = column.slice(start, _BLOCK_ROWS).to_numpy()
        codes[start : start + _BLOCK_ROWS] = np.searchsorted(known, block)
    return levels, codes


def sorted_levels(column: pl.Series) -> tuple[Level, ...]:
    """Return the levels of a column in their order, without what is missing."""
    if column.dtype not in (pl.String, pl.Categorical):
        column = column.cast(pl.Float64)
    levels = column.unique().drop_nulls()
    is_coded = levels.dtype == pl.Categorical
    return tuple((levels.cast(pl.String) if is_coded else levels).sort().to_list())


def level_counts(column: pl.Series) -> tuple[tuple[Level, ...], np.ndarray]:
    """Return the sorted levels of a column, and how many rows hold each; missing comes last."""
    if column.dtype not in (pl.String, pl.Categorical):
        column = column.cast(pl.Float64)
    counts = column.value_counts(name="rows")
    if column.dtype == pl.Categorical:
        counts = counts.with_columns(pl.col(column.name).cast(pl.String))
    counts = counts.sort(column.name)
    known = counts.filter(pl.col(column.name).is_not_null())
    n_rows = np.append(known["rows"].to_numpy().astype(np.int64), column.null_count())
    return tuple(known[column.name].to_list()), n_rows


def level_text(level: Any) -> str:
    """Return how a level is written in the name of a column."""
    if level is None:
        return "missing"
    return str(int(level)) if isinstance(level, float) and level.is_integer() else str(level)
