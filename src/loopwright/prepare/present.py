"""The numbers that are there in a column, without what is missing, held only once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.prepare.level import pieces_of
from loopwright.prepare.step import TrainingTable

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np, pl = LazyModule("numpy"), LazyModule("polars")


def present_numbers(table: TrainingTable, name: str) -> np.ndarray:
    """Return what is not missing in a column of numbers, float64, (n_present,), in order.

    Of a table that memory need not hold, rows are read some at a time into this one array, which
    can then be written to and is the caller's own; of any other it may be the table's memory.
    """
    if hasattr(table, "pieces"):
        found = np.empty(table.height)
        end = 0
        for piece in pieces_of(table, name):
            present = piece.drop_nulls()
            start, end = end, end + len(present)
            found[start:end] = present.cast(pl.Float64).to_numpy()
        return found[:end]
    present = table[name].drop_nulls().cast(pl.Float64)
    numbers: np.ndarray = present.to_numpy()
    return numbers
