"""One Python function for a whole column and for one value, so that both give the same bits."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.prepare.step import Training

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np, pl = LazyModule("numpy"), LazyModule("polars")


def map_numbers(column: pl.Expr, function: Callable[[np.ndarray], np.ndarray]) -> pl.Expr:
    """Return the expression of a function of float64 values; NaN stands for what is missing."""

    def mapped(values: pl.Series) -> pl.Series:
        found = function(values.cast(pl.Float64).to_numpy())
        return pl.Series(values.name, found, dtype=pl.Float64).fill_nan(None)

    return column.map_batches(mapped, return_dtype=pl.Float64(), is_elementwise=True)


def map_levels(column: pl.Expr, function: Callable[[Any], Any], dtype: pl.DataType) -> pl.Expr:
    """Return the expression of a function of single values, asked once for each different one.

    What is missing stays so, and None from the function becomes missing.
    """

    def mapped(values: pl.Series) -> pl.Series:
        known = values.unique().drop_nulls()
        if not len(known):
            return pl.Series(values.name, [None] * len(values), dtype=dtype)
        found = pl.Series([function(value) for value in known.to_list()], dtype=dtype)
        return values.replace_strict(known, found, default=None, return_dtype=dtype)

    return column.map_batches(mapped, return_dtype=dtype, is_elementwise=True)


def map_rows(
    columns: Sequence[pl.Expr], function: Callable[[list[Any]], np.ndarray], width: int
) -> pl.Expr:
    """Return the expression of a function of whole rows: an array of `width` numbers for each."""
    dtype = pl.Array(pl.Float64, width)

    def mapped(values: pl.Series) -> pl.Series:
        rows = values.struct.unnest().rows()
        found = np.empty((len(rows), width))
        for at, row in enumerate(rows):
            found[at] = function(list(row))
        return pl.Series(values.name, found, dtype=dtype)

    named = [column.alias(f"c{at}") for at, column in enumerate(columns)]
    return pl.struct(named).map_batches(mapped, return_dtype=dtype, is_elementwise=True)


def stable_hash(text: str) -> int:
    """Return the CRC-32 (as in gzip) of the UTF-8 bytes: the same number on every machine."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def sampled_rows(training: Training, columns: Sequence[str], *, most: int) -> np.ndarray:
    """Return training rows as float64, (at most `most`, n_columns); missing is NaN.

    All rows in order, or a sample of them that the seed decides.
    """
    height = training.table.height
    chosen = np.arange(height)
    if height > most:
        chosen = np.sort(np.random.default_rng(training.seed).choice(height, most, replace=False))
    found = np.empty((len(chosen), len(columns)))
    for at, name in enumerate(columns):
        column = training.table[name].gather(chosen)
        found[:, at] = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return found
