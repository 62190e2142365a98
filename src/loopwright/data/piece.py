"""A table on disk, some rows at a time: a plan of Polars over all of it holds many times more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_MAX_ROWS = 50_000
_MAX_CELLS = 2_000_000
_MIN_ROWS = 1_000

Change = Callable[["pl.LazyFrame"], "pl.LazyFrame"]


def pieces(rows: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """Yield all rows in their order, at most 50,000 and about two million cells at a time.

    Every piece is a reading of its own, so nothing is fetched ahead. `rows` is a scan of Parquet
    files or a frame in memory, whose middle can be read without what comes before it.
    """
    width = max(1, len(rows.collect_schema()))
    n_rows = max(_MIN_ROWS, min(_MAX_ROWS, _MAX_CELLS // width))
    start, is_last = 0, False
    while not is_last:
        piece = rows.slice(start, n_rows).collect()
        start, is_last = start + n_rows, piece.height < n_rows
        if piece.height:
            yield piece


def changed(rows: pl.LazyFrame, change: Change) -> pl.LazyFrame:
    """Return `change(rows)`, worked out piece by piece whenever it is read.

    Parameters
    ----------
    rows
        See `pieces`.
    change
        Makes one row of every row, out of its own cells alone.
    """
    from polars.io.plugins import register_io_source

    def give(
        columns: list[str] | None, condition: pl.Expr | None, n_rows: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        for piece in pieces(rows):
            found = change(piece.lazy())
            if n_rows is not None:
                found = found.head(n_rows)
            if condition is not None:
                found = found.filter(condition)
            frame = (found if columns is None else found.select(columns)).collect()
            yield frame
            if n_rows is not None:
                n_rows -= piece.height
                if n_rows <= 0:
                    return

    return register_io_source(give, schema=change(rows).collect_schema())
