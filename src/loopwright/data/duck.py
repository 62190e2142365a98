"""Rows of a table or a query in a DuckDB file, opened so that it can neither write nor reach out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean, nearest
from loopwright.data.arrow import arrow_batches, has_arrow
from loopwright.data.cell import checked_names, frame_of
from loopwright.data.query import checked_query
from loopwright.data.source import BATCH_ROWS, SqlSource, check_target

if TYPE_CHECKING:
    import duckdb
    import polars as pl
else:
    duckdb = LazyModule("duckdb")

_FETCH_ROWS = 20_000
_SCHEMA_ROWS = 1_000
_NUMBERS = (
    *("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER"),
    *("UBIGINT", "FLOAT", "DOUBLE", "DECIMAL"),
)
_MOMENTS = ("DATE", "TIMESTAMP")
# a query may name files and addresses as tables; none of them is opened
_LOCKED = {
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "lock_configuration": "true",
    "threads": "2",
}


class OpenedDuckDb:
    """The rows that a table or a SELECT gives, read from a DuckDB file that stays as it is.

    A table is read in the order of its primary key where it has one, else in the order of writing.
    """

    def __init__(self, spec: SqlSource, base: Path, environ: Mapping[str, str]) -> None:
        if (spec.query is None) == (spec.table is None):
            raise InvalidInputError(
                "An SQL source needs either a table or a query, and not both.",
                hint="Write `table: sales`, or `query: SELECT ... FROM sales`.",
                field="data.source",
            )
        url = environ[spec.url.removeprefix("env:")] if spec.url.startswith("env:") else spec.url
        place = url.removeprefix("duckdb:///")
        if place == url or not place or place == ":memory:":
            raise InvalidInputError(
                "A DuckDB URL needs a file.",
                hint="Write duckdb:///sales.duckdb, relative to the loop file.",
                field="data.source.url",
            )
        self._path = base / Path(place).expanduser()
        self._table = spec.table
        self._query = None if spec.query is None else checked_query(spec.query)
        self._border: tuple[str, Any] | None = None

    def describe(self) -> str:
        """Return the table or query and the file."""
        what = "query" if self._table is None else f"table {self._table}"
        return f"{what} in DuckDB file {self._path}"

    def fingerprint(self) -> None:
        """Return None: a query may give something else every day."""
        return

    def schema(self) -> dict[str, pl.DataType]:
        """Return the columns, typed by the first thousand rows."""
        with self._result() as (names, result):
            return dict(frame_of(names, result.fetchmany(_SCHEMA_ROWS)).schema)

    def since(self, column: str, value: object) -> OpenedDuckDb:
        """Return a source of the rows whose `column` is at least `value`, left out by DuckDB.

        Where the column there has another type than the value, all rows are given.
        """
        narrowed = copy(self)
        narrowed._border = (column, value)
        return narrowed

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield all rows of one consistent reading."""
        n_rows = min(_FETCH_ROWS, BATCH_ROWS)
        with self._connection() as connection:
            asked, values = self._asked(connection, self._select(connection))
            relation = connection.sql(asked, params=values)
            if has_arrow(_types(relation)):
                yield from arrow_batches(relation, n_rows)
                return
        with self._result() as (names, result):
            while rows := result.fetchmany(n_rows):
                yield frame_of(names, rows)

    def check(self, target: str | None = None) -> None:
        """Raise for a file, table or query that cannot be read and for an unusable target."""
        with self._result() as (names, result):
            if not result.fetchmany(1):
                raise InvalidInputError(
                    f"The {self.describe()} gives no rows.",
                    hint="Check its conditions, or choose a table with rows.",
                    field="data.source",
                )
        if target is None:
            return
        check_target(target, columns=names, n_values=None, of=f"the {self.describe()}")
        column = _quoted(target)
        with self._connection() as connection:
            varying = (
                f"SELECT DISTINCT {column} FROM ({self._select(connection)}) AS rows_ "  # noqa: S608 the name is quoted
                f"WHERE {column} IS NOT NULL LIMIT 2"
            )
            n_values = len(connection.execute(varying).fetchall())
        check_target(target, columns=names, n_values=n_values, of=f"the {self.describe()}")

    @contextmanager
    def _result(self) -> Iterator[tuple[list[str], duckdb.DuckDBPyConnection]]:
        with self._connection() as connection:
            result = connection.execute(*self._asked(connection, self._select(connection)))
            yield checked_names([column[0] for column in result.description or ()]), result

    @contextmanager
    def _connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        self._check_file()
        try:
            import duckdb
        except ImportError as cause:
            raise BackendError(
                "Reading DuckDB needs the duckdb library, which is not installed.",
                hint="Install it: pip install 'loopwright[duckdb]'",
            ) from cause
        try:
            connection = duckdb.connect(str(self._path), read_only=True, config=dict(_LOCKED))
        except duckdb.Error as cause:
            raise self._unreadable(cause) from cause
        try:
            yield connection
        except duckdb.Error as cause:
            raise InvalidInputError(
                f"The {self.describe()} cannot be read: {_reason(cause)}",
                hint="Correct the query; try it in a database client first.",
                field="data.source.query" if self._table is None else "data.source.table",
            ) from cause
        finally:
            connection.close()

    def _check_file(self) -> None:
        if self._path.is_file():
            with self._path.open("rb") as file:
                magic = file.read(12)[8:]
            if magic != b"DUCK":
                # DuckDB would take some other kinds of file for databases too
                raise InvalidInputError(
                    f"The file {self._path} is not a DuckDB file.",
                    hint="Give a DuckDB file; for CSV, Parquet and the like write `kind: file`.",
                    field="data.source.url",
                    value=str(self._path),
                )
            return
        folder = self._path.parent
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        near = nearest(self._path.name, names)
        raise InvalidInputError(
            f"There is no DuckDB file {self._path}.",
            hint=f"Did you mean {near!r}?" if near else "Correct the path in the URL.",
            field="data.source.url",
            value=str(self._path),
        )

    def _unreadable(self, cause: Exception) -> InvalidInputError | BackendError:
        reason = _reason(cause)
        if "lock" in reason.lower():
            return BackendError(
                f"The DuckDB file {self._path} is being written to by another process.",
                hint="Close it there, and try again.",
                retryable=True,
                field="data.source.url",
            )
        return InvalidInputError(
            f"The file {self._path} cannot be opened as DuckDB: {reason}",
            hint="Give a DuckDB file, written by this or an earlier release of DuckDB.",
            field="data.source.url",
            value=str(self._path),
        )

    def _asked(
        self, connection: duckdb.DuckDBPyConnection, select: str
    ) -> tuple[str, list[object]]:
        """Return the statement, from the border on where there is one, and the value of its mark."""
        if self._border is None:
            return select, []
        column, value = self._border
        known = _types(connection.sql(select)).get(column, "")
        condition = _condition(_quoted(column), known, value)
        if condition is None:
            return select, []
        # the order of the rows inside is kept: a filter is no reason for DuckDB to change it
        return f"SELECT * FROM ({select}) AS rows_ WHERE {condition}", [value]  # noqa: S608 quoted

    def _select(self, connection: duckdb.DuckDBPyConnection) -> str:
        if self._table is None:
            return self._query or ""
        schema, _, name = self._table.rpartition(".")
        schema = schema or "main"
        known = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = ?", [schema]
        ).fetchall()
        if (name,) not in known:
            raise InvalidInputError(
                f"There is no table {self._table!r} in the DuckDB file {self._path}.",
                hint=did_you_mean(name, [row[0] for row in known]),
                field="data.source.table",
                value=self._table,
            )
        key = connection.execute(
            "SELECT constraint_column_names FROM duckdb_constraints() WHERE schema_name = ? "
            "AND table_name = ? AND constraint_type = 'PRIMARY KEY'",
            [schema, name],
        ).fetchall()
        order = f" ORDER BY {', '.join(map(_quoted, key[0][0]))}" if key else ""
        return f"SELECT * FROM {_quoted(schema)}.{_quoted(name)}{order}"  # noqa: S608 names are quoted


def _types(relation: duckdb.DuckDBPyRelation) -> dict[str, str]:
    """Return the columns of a statement and what DuckDB calls their types."""
    names = checked_names(list(relation.columns))
    return dict(zip(names, map(str, relation.types), strict=True))


def _condition(column: str, kind: str, value: object) -> str | None:
    """Return the condition of a border; None where the type of the column does not fit the value."""
    if isinstance(value, str) and kind == "VARCHAR":
        # by its bytes: the column may have been declared to compare otherwise
        return f"encode({column}) >= encode(?)"
    if isinstance(value, int | float) and kind.partition("(")[0] in _NUMBERS:
        return f"{column} >= ?"
    if isinstance(value, date) and kind.partition("_")[0].partition(" ")[0] in _MOMENTS:
        return f"{column} >= ?"
    return None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _reason(cause: Exception) -> str:
    return str(cause).strip().partition("\n")[0].rstrip(".") + "."
