"""Rows to be described: held in memory, or read piece by piece from where they lie."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    pl = LazyModule("polars")
    np = LazyModule("numpy")

PIECE_ROWS = 250_000
# 32 MB of numbers: as many columns of a short table are read at once
_GROUP_VALUES = 4_000_000


class Table(Protocol):
    """Rows that can be read by column, the same ones in the same order each time."""

    @property
    def dtypes(self) -> Mapping[str, pl.DataType]:
        """The columns in order, and how they are stored."""
        ...

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        ...

    def pieces(self, name: str) -> Iterator[pl.Series]:
        """Give a column in order, `PIECE_ROWS` rows at a time (the last piece may be shorter).

        The values are those of `plain`.
        """
        ...


class HeldTable:
    """A table in memory."""

    def __init__(self, frame: pl.DataFrame, *, piece_rows: int = PIECE_ROWS) -> None:
        self._frame = frame
        self._piece_rows = piece_rows
        self.dtypes = dict(frame.schema)
        self.n_rows = frame.height

    def pieces(self, name: str) -> Iterator[pl.Series]:
        """Give a column, a slice at a time."""
        column = self._frame.get_column(name)
        if self.n_rows <= self._piece_rows:
            yield plain(column)
            return
        for first in range(0, self.n_rows, self._piece_rows):
            yield plain(column.slice(first, self._piece_rows))


class ScannedTable:
    """A table that is read when it is needed, a column at a time.

    Parameters
    ----------
    rows
        Where the rows lie, such as `pl.scan_parquet(path)`: the same rows whenever it is read.
    piece_rows
        Rows in a piece.
    """

    def __init__(self, rows: pl.LazyFrame, *, piece_rows: int = PIECE_ROWS) -> None:
        self._rows = rows
        self._piece_rows = piece_rows
        self.dtypes = dict(rows.collect_schema())
        self.n_rows = int(rows.select(pl.len()).collect(engine="streaming").item())
        self._names = list(self.dtypes)
        self._group: pl.DataFrame | None = None
        # asking a frame for its columns makes a list of all of them
        self._grouped: frozenset[str] = frozenset()

    def pieces(self, name: str) -> Iterator[pl.Series]:
        """Read a column, some rows at a time; the columns of a short table many at once."""
        if self.n_rows <= self._piece_rows:
            yield plain(self._group_with(name).get_column(name))
            return
        kept: pl.Series | None = None
        size = self._piece_rows
        for batch in self._rows.select(name).collect_batches(
            chunk_size=size, maintain_order=True, engine="streaming"
        ):
            column = batch.get_column(name)
            kept = column if kept is None else pl.concat([kept, column])
            # cut anew, as batches end where the files' own do: every sum is then the same
            while kept.len() >= size:
                yield plain(kept.slice(0, size))
                kept = kept.slice(size)
        if kept is not None and kept.len():
            yield plain(kept)

    def _group_with(self, name: str) -> pl.DataFrame:
        if self._group is None or name not in self._grouped:
            self._group = None
            first = self._names.index(name)
            n_columns = max(1, _GROUP_VALUES // max(1, self.n_rows))
            chosen = self._names[first : first + n_columns]
            self._grouped = frozenset(chosen)
            self._group = self._rows.select(chosen).collect(engine="streaming")
        return self._group


def table_of(rows: object) -> Table:
    """Return rows as a table: in memory as they are, or read in passes.

    Raises
    ------
    InvalidInputError
        If they are no table of Polars or pandas, or one of pandas that Polars cannot hold.
    """
    return ScannedTable(rows) if isinstance(rows, pl.LazyFrame) else HeldTable(held_frame(rows))


def held_frame(rows: object) -> pl.DataFrame:
    """Return a table that a user hands in, of Polars or pandas, as one of Polars.

    Of a pandas table the index is left out, and NaN is missing.

    Raises
    ------
    InvalidInputError
        If it is neither, or a column holds what Polars cannot.
    """
    if isinstance(rows, pl.DataFrame):
        return rows
    what = type(rows)
    if what.__module__.partition(".")[0] == "pandas" and hasattr(rows, "columns"):
        try:
            return pl.from_pandas(cast("Any", rows))
        except (ImportError, TypeError, ValueError, pl.exceptions.PolarsError) as cause:
            reason = str(cause).partition("\n")[0].rstrip(".")
            raise InvalidInputError(
                f"The pandas table cannot be read: {reason}.",
                hint="Give every column a name and values of one type: df.astype(...), df.rename(...).",
                field="frame",
                value=what.__name__,
            ) from cause
    hint = "Give a table of Polars or pandas"
    if isinstance(rows, Mapping):
        hint += ", such as pl.DataFrame(rows)"
    elif what.__module__.partition(".")[0] == "numpy":
        hint += ", such as pl.DataFrame(rows, schema=['a', 'b'])"
    elif isinstance(rows, str | os.PathLike):
        hint += ", such as pl.read_csv(path) or pl.scan_parquet(path)"
    raise InvalidInputError(
        f"A {what.__module__}.{what.__qualname__} is no table.".replace("builtins.", ""),
        hint=f"{hint}.",
        field="frame",
        value=what.__qualname__,
    )


def plain(column: pl.Series) -> pl.Series:
    """Return a column in one of the plain types: numbers, truth values, text, dates.

    NaN becomes missing, categories and times of day become text, decimals and stretches of time
    (in seconds) numbers. What is nested or binary stays as it is.
    """
    dtype = column.dtype
    if dtype in (pl.Float64, pl.Float32):
        column = column.cast(pl.Float64) if dtype == pl.Float32 else column
        has_nan = (
            bool(column.is_nan().any())
            if column.null_count()
            else bool(np.isnan(column.to_numpy()).any())
        )
        return column.fill_nan(None) if has_nan else column
    if dtype in (pl.Categorical, pl.Enum, pl.Time):
        return column.cast(pl.String)
    if dtype == pl.Duration:
        return column.dt.total_microseconds().cast(pl.Float64) / 1e6
    if dtype in (pl.Decimal, pl.Int128):
        return column.cast(pl.Float64)
    return column


def is_flat(dtype: pl.DataType) -> bool:
    """Tell whether a column of this type holds one plain value a row."""
    return (
        dtype.is_numeric()
        or dtype.is_temporal()
        or dtype in (pl.String, pl.Boolean, pl.Null, pl.Categorical, pl.Enum)
    )
