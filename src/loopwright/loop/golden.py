"""Rows whose truth is certain: kept once, and asked of every challenger of the loop's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopwright.core.errors import InvalidInputError, NotFoundError
from loopwright.core.lazy import LazyModule
from loopwright.data import FileSource, open_source
from loopwright.loop.file import ReadFile
from loopwright.loop.workspace import Workspace

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_FIELD = "retrain.golden"


def check_golden(read: ReadFile) -> None:
    """Check that the golden rows are there and hold the truth, without keeping them.

    Raises
    ------
    InvalidInputError
        If the file cannot be read, has no rows, or lacks the target somewhere.
    """
    if read.content.retrain.golden is not None:
        _rows(read)


def kept_golden(workspace: Workspace, read: ReadFile) -> str | None:
    """Return the digest of the golden rows, kept as an artifact; None where there are none."""
    if read.content.retrain.golden is None:
        return None
    path = workspace.scratch_folder() / f"golden-{read.content.name}.parquet"
    _rows(read).write_parquet(path, compression="zstd")
    digest = workspace.artifacts.put_file(path)
    path.unlink()
    return digest


def _rows(read: ReadFile) -> pl.DataFrame:
    name, target = str(read.content.retrain.golden), read.content.problem.target
    try:
        source = open_source(FileSource(path=name), read.folder)
        source.check()
        rows = pl.concat(source.batches(), how="vertical_relaxed")
    except (InvalidInputError, NotFoundError) as error:
        raise InvalidInputError(
            f"{_FIELD}: {error.message}", hint=error.hint, field=_FIELD, value=name
        ) from error
    if not rows.height or target not in rows.columns or rows[target].null_count():
        found = "no rows" if not rows.height else f"rows without {target!r}"
        raise InvalidInputError(
            f"{_FIELD}: {name!r} has {found}.",
            hint="Give rows like those of data.source, each with the true answer.",
            field=_FIELD,
            value=name,
        )
    return rows
