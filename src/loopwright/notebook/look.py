"""What rows look like before a loop has run over them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core.clock import SystemClock
from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.data import FileSource, assign_parts, open_source, scan, take_snapshot
from loopwright.explore import profile
from loopwright.loop import read_loop_file
from loopwright.loop.sourcing import extracted
from loopwright.store import MemoryArtifactStore

if TYPE_CHECKING:
    import polars as pl

    from loopwright.explore import Profile
else:
    pl = LazyModule("polars")


def profile_file(path: str | Path, *, target: str | None = None) -> Profile:
    """Return the profile of a file of rows, read as a loop would read it; nothing is kept.

    Use it to look at data before a loop is written over them. A loop itself profiles all rows but
    those of the test part.

    Parameters
    ----------
    path
        A CSV, JSON, Parquet or Excel file, a folder or pattern of them, or an address.
    target
        The column to predict, if there is one yet.

    Raises
    ------
    InvalidInputError
        If the file cannot be read, or there is no such column.
    """
    source = open_source(FileSource(path=str(path)), Path())
    with tempfile.TemporaryDirectory(prefix="loopwright-look-") as name:
        folder = Path(name)
        artifacts = MemoryArtifactStore(folder / "rows")
        taken = take_snapshot(source, artifacts=artifacts, clock=SystemClock(), folder=folder)
        columns = [column.name for column in taken.columns]
        if target is not None and target not in columns:
            raise InvalidInputError(
                f"The target {target!r} is not a column.",
                hint=did_you_mean(target, columns),
                field="target",
                value=target,
            )
        return profile(scan(taken, artifacts), target=target)


def profile_loop(path: str | Path) -> Profile:
    """Return the profile of the rows that a loop would read, before it has run; nothing is kept.

    They are those that the loop itself will profile: rows with a target, without the test part.

    Parameters
    ----------
    path
        The loop file.

    Raises
    ------
    InvalidInputError
        If the file, the source, the target or the split cannot be used.
    BackendError
        If a database cannot be reached.
    """
    read = read_loop_file(Path(path))
    split = read.content.data.split
    with extracted(
        read, metadata=None, artifacts=None, clock=SystemClock(), refresh=True, scratch=None
    ) as extraction:
        target = extraction.sourced.target
        if extraction.parquet is None:
            raise InvalidInputError(
                "The source has no rows.", hint="Point it at some.", field="data.source"
            )
        rows = pl.read_parquet(extraction.parquet).drop_nulls(target.column)
        seen = rows.filter(assign_parts(rows, split, target=target.column) != "test")
        return profile(seen, target=target.column, task=target.task)
