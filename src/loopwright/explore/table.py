"""Rows to be described: held in memory, or read piece by piece from where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

# 32 MB of numbers
_BATCH_VALUES = 4_000_000
_FEWEST_ROWS = 10_000


class Table(Protocol):
    """Rows that can be read by column and in batches, the same ones in the same order each time."""

    @property
    def names(self) -> list[str]:
        """The names of the columns, in order."""
        ...

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        ...

    def select(self, names: Sequence[str]) -> pl.DataFrame:
        """Return all rows of some columns."""
        ...

    def batches(self) -> Iterator[pl.DataFrame]:
        """Give all columns, some rows at a time, in order."""
        ...


class HeldTable:
    """A table in memory."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame
        self.names = frame.columns
        self.n_rows = frame.height

    def select(self, names: Sequence[str]) -> pl.DataFrame:
        """Return all rows of some columns."""
        return self._frame.select(names)

    def batches(self) -> Iterator[pl.DataFrame]:
        """Give the table."""
        yield self._frame


class ScannedTable:
    """A table that is read when it is needed: a column, or a batch of rows, at a time.

    Parameters
    ----------
    rows
        Where the rows lie, such as `pl.scan_parquet(path)`: the same rows whenever it is read.
    batch_rows
        Rows in a batch; as many as make some 32 MB of numbers when absent.
    """

    def __init__(self, rows: pl.LazyFrame, *, batch_rows: int | None = None) -> None:
        self._rows = rows
        self.names = rows.collect_schema().names()
        self.n_rows = int(rows.select(pl.len()).collect().item())
        at_once = _BATCH_VALUES // max(1, len(self.names))
        self._batch_rows = batch_rows or max(_FEWEST_ROWS, at_once)

    def select(self, names: Sequence[str]) -> pl.DataFrame:
        """Read all rows of some columns."""
        return self._rows.select(names).collect(engine="streaming")

    def batches(self) -> Iterator[pl.DataFrame]:
        """Read all columns, some rows at a time."""
        for first in range(0, self.n_rows, self._batch_rows):
            yield self._rows.slice(first, self._batch_rows).collect()


def table_of(rows: pl.DataFrame | pl.LazyFrame) -> Table:
    """Return rows as a table: in memory as they are, or read in passes."""
    return ScannedTable(rows) if isinstance(rows, pl.LazyFrame) else HeldTable(rows)
