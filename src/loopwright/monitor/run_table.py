"""A table that only grows, kept as Parquet runs and searched by a hash, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

ROWS_AT_ONCE = 50_000
# so many runs of one size are made one: with 8, ten million rows are written about four times
_RUNS_OF_A_SIZE = 8
_SMALLEST_TIER_ROWS = 4_096
_MOST_ROWS = 4_000_000


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a table: its name, its rows, and the last number they were taken in under."""

    name: str
    n_rows: int
    last: int


def write_run(folder: Path, table: str, frame: pl.DataFrame, *, number: int) -> Run:
    """Write rows that were taken in under a number; when this returns the disk has them."""
    name = f"{table}-{number:012d}.parquet"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / name
    frame.write_parquet(
        path, compression="zstd", compression_level=1, row_group_size=ROWS_AT_ONCE, statistics=False
    )
    _sync(path)
    return Run(name=name, n_rows=frame.height, last=number)


def found(
    folder: Path,
    runs: Sequence[Run],
    keys: pl.Series,
    *,
    schema: pl.Schema,
    columns: Sequence[str],
    by: str = "hash",
    above: int = 0,
) -> pl.DataFrame:
    """Return the columns of all rows whose hash is one of `keys`, (n_found, n_columns).

    Only the hashes of a run are read where none of its rows is wanted; memory grows with what is
    found and with one column of one run.
    """
    wanted = keys.unique().implode()
    parts = []
    for run in runs:
        if not len(keys) or run.last <= above:
            continue
        path = folder / run.name
        hashes = pl.read_parquet(path, columns=[by]).to_series()
        hits = hashes.is_in(wanted).arg_true()
        if len(hits):
            parts.append(_picked(path, hits, n_rows=len(hashes), columns=columns))
    empty = pl.DataFrame(schema={name: schema[name] for name in columns})
    return pl.concat([empty, *parts])


def slices(
    folder: Path, runs: Sequence[Run], *, above: int = 0, columns: Sequence[str] | None = None
) -> Iterator[pl.DataFrame]:
    """Yield the rows taken in after a number, at most `ROWS_AT_ONCE` at a time, in their order."""
    for run in runs:
        if run.last <= above:
            continue
        lazy = pl.scan_parquet(folder / run.name)
        lazy = lazy if columns is None else lazy.select(*columns, "number")
        for offset in range(0, run.n_rows, ROWS_AT_ONCE):
            frame = lazy.slice(offset, ROWS_AT_ONCE).collect()
            fresh = frame.filter(pl.col("number") > above) if above else frame
            if fresh.height:
                yield fresh if columns is None else fresh.select(columns)


def scanned(folder: Path, runs: Sequence[Run], schema: pl.Schema) -> pl.LazyFrame:
    """Return all rows of a table as a query."""
    if not runs:
        return pl.DataFrame(schema=schema).lazy()
    return pl.scan_parquet([folder / run.name for run in runs])


def to_merge(runs: Sequence[Run]) -> list[Run]:
    """Return the newest runs that should become one, of at most 4 million rows; empty for none.

    After merging there are at most `_RUNS_OF_A_SIZE` runs of each size, and sizes grow by that
    factor, so that a search opens few files however often a little was added.
    """
    for tier in range(_tier(_MOST_ROWS) + 1):
        newest: list[Run] = []
        for run in reversed(runs):
            if _tier(run.n_rows) > tier or sum(r.n_rows for r in newest) + run.n_rows > _MOST_ROWS:
                break
            newest.insert(0, run)
        if len(newest) >= _RUNS_OF_A_SIZE:
            return newest
    return []


def merged(folder: Path, table: str, runs: Sequence[Run]) -> Run:
    """Write one run in place of several neighbours, whose files stay, in bounded memory."""
    last = runs[-1].last
    name = f"{table}-{last:012d}m{sum(run.n_rows for run in runs)}.parquet"
    query = pl.scan_parquet([folder / run.name for run in runs])
    query.sink_parquet(
        folder / name,
        compression="zstd",
        compression_level=1,
        row_group_size=ROWS_AT_ONCE,
        statistics=False,
        maintain_order=True,
    )
    _sync(folder / name)
    return Run(name=name, n_rows=sum(run.n_rows for run in runs), last=last)


def _tier(n_rows: int) -> int:
    tier, rows = 0, _SMALLEST_TIER_ROWS
    while n_rows >= rows:
        tier, rows = tier + 1, rows * _RUNS_OF_A_SIZE
    return tier


def _picked(path: Path, hits: Any, *, n_rows: int, columns: Sequence[str]) -> pl.DataFrame:
    """Return some rows of a file, reading only the stretches of it that hold any."""
    lazy = pl.scan_parquet(path).select(columns)
    parts = []
    for offset in range(0, n_rows, ROWS_AT_ONCE):
        here = hits.filter((hits >= offset) & (hits < offset + ROWS_AT_ONCE)) - offset
        if len(here):
            parts.append(lazy.slice(offset, ROWS_AT_ONCE).collect()[here])
    picked: pl.DataFrame = pl.concat(parts)
    return picked


def _sync(path: Path) -> None:
    for each in (path, path.parent):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
