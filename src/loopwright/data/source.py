"""Where rows come from: what a loop file says about a source, and what an opened source offers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean
from loopwright.data.spec import (
    DynamoDbSource,
    ImageSource,
    MongoDbSource,
    without_password,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    import polars as pl

BATCH_ROWS = 50_000


class FileSource(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="kind",
    tag="file",
):
    """Rows in files: CSV, JSON lines, JSON, Parquet or Excel, told apart by the suffix.

    `path` is relative to the folder of the loop file and may be a folder or a pattern such as
    `sales/*.parquet`; the files are then read in the order of their names. It may also be an
    address: `s3://bucket/key`, `gs://...` and `az://...` (a key, a pattern, or a folder that ends
    in `/`), `https://...`, or `env:NAME` to take it from an environment variable. CSV and JSON may
    be packed (`.gz`, `.zst`, `.zip`). Objects inside JSON become dotted columns, lists JSON text.

    Parameters
    ----------
    sheet
        Sheet of an Excel workbook; needed only when it has several.
    max_size
        What one packed file may unpack to, and what all files of an address may hold together.
    allow_private
        Whether `http(s)` addresses may lie on this machine or in a private network.
    """

    path: str
    sheet: str | None = None
    max_size: str = "20 GiB"
    allow_private: bool = False


class SqlSource(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="sql",
):
    """Rows of a table or a query in SQLite, PostgreSQL, MySQL, MariaDB or DuckDB.

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


class RedisSource(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="kind",
    tag="redis",
):
    """Rows in Redis: hashes, and strings that hold a JSON object, one row a key.

    Rows come in the order of their keys. Objects inside JSON become dotted columns, lists JSON
    text. The password belongs into an environment variable: `url: env:NAME`.

    Parameters
    ----------
    url
        `redis://host:6379/0`, `rediss://...`, `unix:///path/to/socket`, or `env:NAME`.
    pattern
        Which keys: `customer:*`, as Redis matches them.
    fields
        Which columns, in this order; all that occur when absent.
    key
        Name of the column that holds the key; `null` for no such column.
    """

    url: str
    pattern: str
    fields: tuple[str, ...] | None = None
    key: str | None = "key"

    def __repr__(self) -> str:
        return f"RedisSource(url={without_password(self.url)!r}, pattern={self.pattern!r})"

    def redacted(self) -> RedisSource:
        """Return the same source with `***` in place of a password, for records and displays."""
        return msgspec.structs.replace(self, url=without_password(self.url))


class PluginSource(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="kind",
    tag="plugin",
):
    """Rows from a source that another installed package brings.

    The package registers a function under the entry point group `loopwright.source`; it is called
    with the options and the folder of the loop file, and returns a `Source`.

    Parameters
    ----------
    name
        Name of the entry point.
    options
        What the function is given; a text `env:NAME`, at any depth, is replaced by the value of
        that environment variable.
    """

    name: str
    options: dict[str, object] = msgspec.field(default_factory=dict)

    def __repr__(self) -> str:
        # what a package calls its secrets is not known here
        return f"PluginSource(name={self.name!r}, options={{{', '.join(self.options)}}})"


SourceSpec = (
    FileSource
    | SqlSource
    | RedisSource
    | DynamoDbSource
    | MongoDbSource
    | ImageSource
    | PluginSource
)


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
    spec: SourceSpec, base: Path, *, environ: Mapping[str, str] | None = None
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
        If the suffix, the address, the query or the plugin is not one that can be used.
    """
    environ = os.environ if environ is None else environ
    if isinstance(spec, FileSource):
        from loopwright.data.file import OpenedFiles

        return OpenedFiles(spec, base, environ=environ)
    if isinstance(spec, RedisSource):
        from loopwright.data.keyvalue import OpenedKeys

        return OpenedKeys(spec, environ=environ)
    if isinstance(spec, DynamoDbSource):
        from loopwright.data.dynamodb import open_items

        return open_items(spec, environ=environ)
    if isinstance(spec, MongoDbSource):
        from loopwright.data.mongodb import open_documents

        return open_documents(spec, environ=environ)
    if isinstance(spec, ImageSource):
        from loopwright.data.image import OpenedImages

        return OpenedImages(spec, base, environ=environ)
    if isinstance(spec, PluginSource):
        from loopwright.data.plugin import open_plugin

        return open_plugin(spec, base, environ=environ)
    if environ.get(spec.url.removeprefix("env:"), spec.url).startswith("duckdb:"):
        from loopwright.data.duck import OpenedDuckDb

        return OpenedDuckDb(spec, base, environ)
    from loopwright.data.database import OpenedQuery

    return OpenedQuery(spec, base, environ)


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
