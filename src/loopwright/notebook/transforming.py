"""Batch transform from Python: a model, rows in files, a folder for the answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core.errors import WrongStateError
from loopwright.notebook.home import existing_workspace
from loopwright.settings import read_settings

if TYPE_CHECKING:
    from loopwright.deploy.transform import PartFormat, TransformResult
    from loopwright.train import ServingModel

_BUNDLE_SUFFIXES = (".tar.gz", ".tgz")


def transform(
    model: str | Path | ServingModel,
    rows: str | Path,
    output: str | Path,
    *,
    id_column: str | None = None,
    keep: Sequence[str] = (),
    extras: Sequence[str] = (),
    format: PartFormat = "parquet",  # noqa: A002 it is called so in the loop's own words
    part_rows: int = 50_000,
    home: str | Path | None = None,
    on_part: Callable[[int, int, int], None] | None = None,
) -> TransformResult:
    """Write a model's answers to all rows of files; run again, it goes on where it was interrupted.

    Parameters
    ----------
    model
        A loop file, whose champion answers; a `model.tar.gz`; or an opened model.
    rows
        A file, a folder, a pattern such as `rows/*.parquet`, or an address such as
        `s3://bucket/rows/`: CSV, JSON lines, Parquet and whatever a loop's source may be.
    output
        A folder of its own; its parts are `part-000000.parquet` and so on, rows that cannot be used
        are in `rejects-000000.jsonl`, counts in `transform.json`.
    id_column, keep, extras, format, part_rows
        See `loopwright.deploy.transform.TransformPlan`.
    home
        The store of the loop.
    on_part
        Told the number of each part, its rows and its rejects.

    Raises
    ------
    InvalidInputError
        If the rows cannot be read, or lack a column.
    WrongStateError
        If the loop has no champion, or the folder holds something else.
    """
    from loopwright.data import FileSource, open_source
    from loopwright.deploy.transform import TransformPlan
    from loopwright.deploy.transform import transform as transformed

    plan = TransformPlan(
        id_column=id_column,
        keep=tuple(keep),
        extras=tuple(extras),
        format=format,
        part_rows=part_rows,
    )
    source = open_source(FileSource(path=str(rows)), Path.cwd())
    opened = _opened(model, home) if isinstance(model, str | Path) else model
    today = datetime.now(UTC).date()
    return transformed(opened, source, Path(output), plan=plan, today=today, on_part=on_part)


def _opened(model: str | Path, home: str | Path | None) -> ServingModel:
    from loopwright.loop import read_loop_file
    from loopwright.train import open_bundle

    if str(model).endswith(_BUNDLE_SUFFIXES):
        return open_bundle(Path(model))
    read = read_loop_file(Path(model))
    workspace = existing_workspace(read_settings(os.environ, home=Path(home) if home else None))
    champion = workspace.metadata.find("champion", read.content.name)
    if champion is None:
        raise WrongStateError(
            f"The loop {read.content.name!r} has no champion yet.",
            hint="Run it first, or give a model.tar.gz.",
            name=read.content.name,
        )
    return open_bundle(workspace.artifacts.local_path(champion.body["bundle"]))
