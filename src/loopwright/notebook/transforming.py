"""Batch transform from Python: a model, rows in files, a folder for the answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core.errors import InvalidInputError, WrongStateError
from loopwright.notebook.home import existing_workspace
from loopwright.settings import read_settings

if TYPE_CHECKING:
    from loopwright.compute import Resources
    from loopwright.deploy.transform import PartsWriter, TransformResult
    from loopwright.deploy.transform_part import PartFormat
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
    jobs: int | None = None,
    resources: Resources | None = None,
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
        See `loopwright.deploy.transform_part.TransformPlan`.
    jobs
        Have the parts answered by so many jobs at a time, on this machine or, as `LOOPWRIGHT_COMPUTE`
        says, on a cluster; the files are the same. Nothing: this process answers them.
    resources
        What each job may use; 1 CPU and 2 GiB unless you say otherwise.
    home
        The store of the loop, and of the jobs.
    on_part
        Told the number of each part, its rows and its rejects.

    Raises
    ------
    InvalidInputError
        If the rows cannot be read, or lack a column; if jobs are to answer by an opened model.
    WrongStateError
        If the loop has no champion, or the folder holds something else.
    BackendError
        If a job failed.
    """
    from loopwright.data import FileSource, open_source
    from loopwright.deploy.transform import transform as transformed
    from loopwright.deploy.transform_part import TransformPlan
    from loopwright.train import open_bundle

    plan = TransformPlan(
        id_column=id_column,
        keep=tuple(keep),
        extras=tuple(extras),
        format=format,
        part_rows=part_rows,
    )
    source = open_source(FileSource(path=str(rows)), Path.cwd())
    bundle = _bundle(model, home) if isinstance(model, str | Path) else None
    opened = open_bundle(bundle) if bundle is not None else model
    assert not isinstance(opened, str | Path)  # noqa: S101 it was opened
    return transformed(
        opened,
        source,
        Path(output),
        plan=plan,
        today=datetime.now(UTC).date(),
        on_part=on_part,
        write=None if jobs is None else _jobs(bundle, jobs, resources, home),
    )


def _jobs(
    bundle: Path | None, jobs: int, resources: Resources | None, home: str | Path | None
) -> PartsWriter:
    from loopwright.deploy.transform_job import written_by_jobs
    from loopwright.wiring import open_workspace

    if bundle is None:
        raise InvalidInputError(
            "An opened model cannot be handed to jobs.",
            hint="Give the path of its model.tar.gz, or a loop file.",
            field="model",
        )
    settings = read_settings(os.environ, home=Path(home) if home else None)
    compute = open_workspace(settings).compute
    return written_by_jobs(compute, bundle, jobs=jobs, resources=resources)


def _bundle(model: str | Path, home: str | Path | None) -> Path:
    from loopwright.loop import read_loop_file

    if str(model).endswith(_BUNDLE_SUFFIXES):
        return Path(model)
    read = read_loop_file(Path(model))
    workspace = existing_workspace(read_settings(os.environ, home=Path(home) if home else None))
    champion = workspace.metadata.find("champion", read.content.name)
    if champion is None:
        raise WrongStateError(
            f"The loop {read.content.name!r} has no champion yet.",
            hint="Run it first, or give a model.tar.gz.",
            name=read.content.name,
        )
    return workspace.artifacts.local_path(champion.body["bundle"])
