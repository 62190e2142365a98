"""What a table looks like before there is a loop over it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core.clock import SystemClock
from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean
from loopwright.data import FileSource, open_source, scan, take_snapshot
from loopwright.explore import profile
from loopwright.store import MemoryArtifactStore

if TYPE_CHECKING:
    from loopwright.explore import Profile


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
