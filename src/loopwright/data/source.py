"""Where rows come from: what a loop file says about a source, and what an opened source offers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

    import polars as pl

BATCH_ROWS = 50_000


class FileSource(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="file",
):
    """Rows in files: CSV (also gzipped), JSON lines or Parquet, told apart by the suffix.

    `path` is relative to the folder of the loop file and may be a pattern such as
    `sales/*.parquet`; the files are then read in the order of their names.
    """

    path: str


class SqlSource(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="sql",
):
    """Rows of a table or a query in SQLite or PostgreSQL.

    `url` is an SQLAlchemy URL, or `env:NAME` to take it from an environment variable, so that no
    password stands in the loop file. Exactly one of `table` and `query` is given.
    """

    url: str
    query: str | None = None
    table: str | None = None

    def __repr__(self) -> str:
        what = f"table={self.table!r}" if self.query is None else f"query={self.query!r}"
        return f"SqlSource(url={without_password(self.url)!r}, {what})"

    def redacted(self) -> SqlSource:
        """Return the same source with `***` in place of a password, for records and displays."""
        return msgspec.structs.replace(self, url=without_password(self.url))


SourceSpec = FileSource | SqlSource


class Source(Protocol):
    """An opened source of rows, read in batches.

    Every reading returns the same rows in the same order as long as the data behind the source do
    not change. Methods are called from one thread at a time.
    """

    def describe(self) -> str:
        """Return one line for people, without credentials."""
        ...

    def fingerprint(self) -> str | None:
        """Return something cheap that changes when the data may have changed; None if unknown."""
        ...

    def schema(self) -> dict[str, pl.DataType]:
        """Return the columns in order, typed as far as the source itself knows."""
        ...

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield all rows, at most `BATCH_ROWS` at a time, in bounded memory.

        Raises
        ------
        InvalidInputError
            If a file is broken; the message names the file and, where it can, the line.
        BackendError
            If the database fails on the way.
        """
        ...

    def check(self, target: str | None = None) -> None:
        """Raise for what would stop a run: no such file or table, no rows, no usable target.

        Raises
        ------
        InvalidInputError
            If the source, or the `target` column in it, cannot be used.
        BackendError
            If the database cannot be reached.
        """
        ...


def open_source(
    spec: FileSource | SqlSource, base: Path, *, environ: Mapping[str, str] | None = None
) -> Source:
    """Return the source that `spec` describes; nothing is read yet.

    Parameters
    ----------
    spec
        What the loop file says.
    base
        The folder that relative paths start from: the folder of the loop file.
    environ
        Where `env:NAME` is looked up; the process environment when absent.

    Raises
    ------
    InvalidInputError
        If the suffix, the URL or the query is not one that can be read.
    """
    if isinstance(spec, FileSource):
        from loopwright.data.file import OpenedFiles

        return OpenedFiles(spec.path, base)
    from loopwright.data.database import OpenedQuery

    return OpenedQuery(spec, base, os.environ if environ is None else environ)


def without_password(url: str) -> str:
    """Return a URL with `***` in place of its password.

    Examples
    --------
    >>> without_password("postgresql://ann:secret@db.example/sales?password=x")
    'postgresql://ann:***@db.example/sales?password=***'
    """
    import re

    url = re.sub(r"(://[^:/@?#]*):.*@", r"\1:***@", url)
    return re.sub(r"(?i)([?&][^=&]*pass[^=&]*=)[^&]*", r"\1***", url)


def check_target(target: str, *, columns: Iterable[str], n_values: int | None, of: str) -> None:
    """Raise if `target` cannot be learned from this table.

    Parameters
    ----------
    target
        The column to predict.
    columns
        The columns there are.
    n_values
        How many distinct values the column holds beside missing ones (2 may mean more); None when
        not counted yet.
    of
        The source, for the message.

    Raises
    ------
    InvalidInputError
        If the column is not there, or holds fewer than two values.
    """
    columns = list(columns)
    if target not in columns:
        raise InvalidInputError(
            f"The target {target!r} is not a column of {of}.",
            hint=did_you_mean(target, columns),
            field="problem.target",
            value=target,
        )
    if n_values is not None and n_values < 2:
        found = "only missing values" if n_values == 0 else "the same value in every row"
        raise InvalidInputError(
            f"The target {target!r} has {found} in {of}, so there is nothing to learn.",
            hint="Choose another target, or a source in which it varies.",
            field="problem.target",
            value=target,
        )
