"""Rows of a table or a query in SQLite, PostgreSQL, MySQL or MariaDB, in a read-only transaction."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean, nearest
from loopwright.data.query import checked_query
from loopwright.data.source import BATCH_ROWS, SqlSource, check_target

if TYPE_CHECKING:
    import polars as pl
    import sqlalchemy as sa
else:
    pl = LazyModule("polars")
    sa = LazyModule("sqlalchemy")

CONNECT_TIMEOUT_S = 5
_FETCH_ROWS = 20_000
_SCHEMA_ROWS = 1_000
_DRIVERS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}
# a read-only transaction of MySQL lets this through
_WRITES_FILE = re.compile(r"(?i)\binto\s+(?:(?:out|dump)file\b|@)")
# unknown and ambiguous columns and the like, which its driver calls operational errors
_MYSQL_MISTAKES = range(1050, 1100)
_SYSTEMS = {"postgresql": "PostgreSQL", "mysql": "MySQL"}
_LIBRARIES = {"postgresql": ("psycopg", "postgres"), "mysql": ("PyMySQL", "mysql")}


class OpenedQuery:
    """The rows that a table or a SELECT gives.

    A table is read in the order of its primary key where it has one, so that later readings give
    its rows in the same order.
    """

    def __init__(self, spec: SqlSource, base: Path, environ: Mapping[str, str]) -> None:
        if (spec.query is None) == (spec.table is None):
            raise InvalidInputError(
                "An SQL source needs either a table or a query, and not both.",
                hint="Write `table: sales`, or `query: SELECT ... FROM sales`.",
                field="data.source",
            )
        self._table = spec.table
        self._query = None if spec.query is None else checked_query(spec.query)
        self._url = _checked_url(spec.url, base, environ)
        if self._url.get_backend_name() == "mysql" and _WRITES_FILE.search(self._query or ""):
            raise InvalidInputError(
                "The query writes into a file or a variable on the database server.",
                hint="Leave INTO out.",
                field="data.source.query",
            )
        self._border: tuple[str, object] | None = None

    def describe(self) -> str:
        """Return the table or query and the database, without user and password."""
        what = "query" if self._table is None else f"table {self._table}"
        return f"{what} in {self._place()}"

    def fingerprint(self) -> None:
        """Return None: a database has no cheap sign of change."""
        return

    def schema(self) -> dict[str, pl.DataType]:
        """Return the columns, typed by the first thousand rows."""
        with self._connection() as connection:
            result = _execute(connection, self._select(connection))
            names = checked_names(list(result.keys()))
            return dict(frame_of(names, result.fetchmany(_SCHEMA_ROWS)).schema)

    def since(self, column: str, value: object) -> OpenedQuery:
        """Return a source of the rows whose `column` is at least `value`, left out by the database.

        Where its order may differ from ours (text with a collation), it is the source itself.
        """
        comparable = str if self._url.get_backend_name() == "sqlite" else (date, datetime)
        if not isinstance(value, (int, float, comparable)):
            return self
        narrowed = copy(self)
        narrowed._border = (column, value)
        return narrowed

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield all rows of one consistent reading."""
        with self._connection() as connection:
            result = self._rows(connection)
            names = checked_names(list(result.keys()))
            for rows in result.partitions(min(_FETCH_ROWS, BATCH_ROWS)):
                yield frame_of(names, rows)

    def check(self, target: str | None = None) -> None:
        """Raise for a database, table or query that cannot be read and for an unusable target."""
        with self._connection() as connection:
            select = self._select(connection)
            result = _execute(connection, select)
            names = checked_names(list(result.keys()))
            if result.first() is None:
                raise InvalidInputError(
                    f"The {self.describe()} gives no rows.",
                    hint="Check its conditions, or choose a table with rows.",
                    field="data.source",
                )
            if target is None:
                return
            check_target(target, columns=names, n_values=None, of=f"the {self.describe()}")
            column = connection.dialect.identifier_preparer.quote_identifier(target)
            varying = (
                f"SELECT DISTINCT {column} FROM ({select}) AS rows_ "  # noqa: S608 the name is quoted
                f"WHERE {column} IS NOT NULL LIMIT 2"
            )
            n_values = len(_execute(connection, varying).fetchall())
            check_target(target, columns=names, n_values=n_values, of=f"the {self.describe()}")

    def _place(self) -> str:
        if self._url.get_backend_name() == "sqlite":
            return f"SQLite file {self._path()}"
        host = self._url.host or self._url.query.get("host") or "localhost"
        port = f":{self._url.port}" if self._url.port else ""
        system = _SYSTEMS[self._url.get_backend_name()]
        return f"{system} database {self._url.database} on {host}{port}"

    def _path(self) -> Path:
        return Path(self._url.database or "")

    @contextmanager
    def _connection(self) -> Iterator[sa.Connection]:
        if self._url.get_backend_name() == "sqlite":
            _check_sqlite_file(self._path())
        engine = _engine(self._url)
        try:
            try:
                connection = engine.connect()
            except sa.exc.DBAPIError as cause:
                raise self._unreachable(cause) from cause
            with connection:
                try:
                    _make_read_only(connection)
                    yield connection
                except sa.exc.DBAPIError as cause:
                    raise self._failed(cause) from cause
        finally:
            engine.dispose()

    def _rows(self, connection: sa.Connection) -> sa.CursorResult[Any]:
        """Return all rows, or those from the border on."""
        select = self._select(connection)
        if self._border is None:
            return _execute(connection, select)
        column, value = self._border
        quoted = connection.dialect.identifier_preparer.quote_identifier(column)
        mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
        if mark == "%s":  # names are quoted for that already
            select = select.replace("%", "%%")
        newer = f"SELECT * FROM ({select}) AS rows_ WHERE {quoted} >= {mark}"  # noqa: S608 quoted
        return _execute(connection, newer, (value,))

    def _select(self, connection: sa.Connection) -> str:
        if self._table is None:
            return self._query or ""
        return self._table_query(connection, self._table)

    def _table_query(self, connection: sa.Connection, table: str) -> str:
        schema, _, name = table.rpartition(".")
        inspector = sa.inspect(connection)
        try:
            known = inspector.get_table_names(schema or None) + inspector.get_view_names(
                schema or None
            )
        except sa.exc.NoSuchTableError:
            known = []
        if name not in known:
            raise InvalidInputError(
                f"There is no table {table!r} in the {self._place()}.",
                hint=did_you_mean(name, known),
                field="data.source.table",
                value=table,
            )
        quote = connection.dialect.identifier_preparer.quote_identifier
        place = ".".join(quote(part) for part in (schema, name) if part)
        key = inspector.get_pk_constraint(name, schema or None).get("constrained_columns") or []
        order = f" ORDER BY {', '.join(quote(column) for column in key)}" if key else ""
        return f"SELECT * FROM {place}{order}"  # noqa: S608 both names are quoted

    def _unreachable(self, cause: sa.exc.DBAPIError) -> BackendError:
        return BackendError(
            f"The {self._place()} cannot be reached: {self._reason(cause)}",
            hint="Check that it runs and that host, port, user and password are right.",
            retryable=True,
            field="data.source.url",
        )

    def _failed(self, cause: sa.exc.DBAPIError) -> InvalidInputError | BackendError:
        """Return the error for a statement: the user's when the query is wrong, else the server's."""
        reason = self._reason(cause)
        is_sqlite = self._url.get_backend_name() == "sqlite"
        wrong = (
            sa.exc.ProgrammingError,
            sa.exc.NotSupportedError,
            sa.exc.DataError,
            sa.exc.InternalError,
        )
        if is_sqlite or isinstance(cause, wrong) or _code(cause) in _MYSQL_MISTAKES:
            return InvalidInputError(
                f"The {self.describe()} cannot be read: {reason}",
                hint="Correct the query; try it in a database client first.",
                field="data.source.query" if self._table is None else "data.source.table",
            )
        return BackendError(
            f"The {self.describe()} broke off: {reason}",
            hint="Try again when the database answers.",
            retryable=True,
        )

    def _reason(self, cause: sa.exc.DBAPIError) -> str:
        # a driver of MySQL gives a number and a text
        text = cause.orig.args[1] if _code(cause) and cause.orig else cause.orig
        lines = [line.strip() for line in str(text).splitlines() if line.strip()]
        reason = (lines[0] if lines else type(cause.orig).__name__).rstrip(".") + "."
        password = self._url.password
        return reason.replace(password, "***") if password else reason


def _code(cause: sa.exc.DBAPIError) -> int:
    """Return the number of an error of MySQL, 0 for other databases."""
    arguments = cause.orig.args if cause.orig else ()
    return arguments[0] if len(arguments) == 2 and isinstance(arguments[0], int) else 0


def _checked_url(text: str, base: Path, environ: Mapping[str, str]) -> sa.URL:
    field = "data.source.url"
    given = text
    if text.startswith("env:"):
        name = text.removeprefix("env:")
        if not environ.get(name):
            raise InvalidInputError(
                f"The environment variable {name}, which should hold the database URL, is not set.",
                hint=f"Set it: export {name}=postgresql://user:password@host:5432/database",
                field=field,
                value=text,
            )
        text, given = environ[name], f"the value of {name}"
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        # the cause would show the URL with its password, so it is not kept
        raise InvalidInputError(
            f"{given if given != text else 'The text given'} is not a database URL.",
            hint="Write sqlite:///sales.db, duckdb:///sales.duckdb, postgresql://user:password@host/"
            "database or mysql://user:password@host/database.",
            field=field,
        ) from None
    backend = url.get_backend_name()
    if backend not in _DRIVERS:
        raise InvalidInputError(
            f"Databases of kind {backend!r} cannot be read.",
            hint="Use sqlite:///..., duckdb:///..., postgresql://..., mysql://... or mariadb://..., or "
            "export the rows to a file.",
            field=field,
            value=backend,
        )
    if backend == "sqlite":
        if not url.database or url.database == ":memory:":
            raise InvalidInputError(
                "An SQLite URL needs a file.",
                hint="Write sqlite:///sales.db, relative to the loop file.",
                field=field,
            )
        return sa.URL.create("sqlite", database=str(base / Path(url.database).expanduser()))
    return url.set(drivername=_DRIVERS[backend])


def _check_sqlite_file(path: Path) -> None:
    """Raise if there is no such file; SQLite would make an empty one."""
    if path.is_file():
        return
    folder = path.parent
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    near = nearest(path.name, names)
    raise InvalidInputError(
        f"There is no SQLite file {path}.",
        hint=f"Did you mean {near!r}?" if near else "Correct the path in the URL.",
        field="data.source.url",
        value=str(path),
    )


def _engine(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() == "sqlite":
        from urllib.parse import quote

        place = f"file:{quote(str(url.database))}?mode=ro"
        url = sa.URL.create("sqlite", database=place, query={"uri": "true"})
        return sa.create_engine(url, poolclass=sa.NullPool)
    try:
        return sa.create_engine(
            url, poolclass=sa.NullPool, connect_args={"connect_timeout": CONNECT_TIMEOUT_S}
        )
    except ImportError as cause:
        backend = url.get_backend_name()
        library, extra = _LIBRARIES[backend]
        raise BackendError(
            f"Reading {_SYSTEMS[backend]} needs the {library} library, which is not installed.",
            hint=f"Install it: pip install 'loopwright[{extra}]'",
        ) from cause


def _execute(
    connection: sa.Connection, query: str, values: tuple[object, ...] = ()
) -> sa.CursorResult[Any]:
    # a query may hold % and :name, which are not parameters here
    options = {"no_parameters": True, "stream_results": True, "max_row_buffer": _FETCH_ROWS}
    return connection.execution_options(**options).exec_driver_sql(query, values or None)


def _make_read_only(connection: sa.Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA query_only = ON")
        return
    if connection.dialect.name == "mysql":
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        return
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
    # scans that join one another, or run in parallel, give rows in an order that does not repeat
    connection.exec_driver_sql("SET LOCAL synchronize_seqscans = off")
    connection.exec_driver_sql("SET LOCAL max_parallel_workers_per_gather = 0")


def checked_names(names: list[str]) -> list[str]:
    """Return the names of columns if they differ, else raise `InvalidInputError`."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInputError(
            f"The query gives two columns named {twice[0]!r}.",
            hint="Name them apart: SELECT a.id AS account_id, ...",
            field="data.source.query",
            value=twice[0],
        )
    return names


def frame_of(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> pl.DataFrame:
    """Return a table of rows from a database driver, each column typed by its own values."""
    columns = zip(*rows, strict=True) if rows else [() for _ in names]
    return pl.DataFrame(
        [_series(name, values) for name, values in zip(names, columns, strict=True)]
    )


def _series(name: str, values: Sequence[Any]) -> pl.Series:
    kinds = {type(value) for value in values} - {type(None)}
    if not kinds:
        return pl.Series(name, values, dtype=pl.Null)
    if kinds == {datetime} and any(v is not None and v.tzinfo for v in values):
        return pl.Series(name, values, dtype=pl.Datetime("us", "UTC"))
    for accepted, dtype, change in _dtypes():
        if kinds <= accepted:
            changed = (
                values if change is None else [None if v is None else change(v) for v in values]
            )
            return pl.Series(name, changed, dtype=dtype, strict=False)
    return pl.Series(name, [None if v is None else _text(v) for v in values], dtype=pl.String)


def _dtypes() -> list[tuple[set[type], pl.DataType, Any]]:
    return [
        ({bool}, pl.Boolean(), None),
        ({int}, pl.Int64(), None),
        ({int, float, Decimal}, pl.Float64(), float),
        ({str}, pl.String(), None),
        ({date}, pl.Date(), None),
        ({datetime}, pl.Datetime("us"), None),
        ({timedelta}, pl.Float64(), timedelta.total_seconds),
    ]


def _text(value: Any) -> str:
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    if isinstance(value, str | UUID | time | date | int | float | Decimal):
        return str(value)
    return json.dumps(value, default=str, sort_keys=True)
