"""Rows of a table or a query in SQLite, PostgreSQL, MySQL or MariaDB, in a read-only transaction."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.digest import digest_value
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.data import wire
from loopwright.data.cell import checked_names, frame_of, series_of_values
from loopwright.data.connection import (
    SYSTEMS,
    check_sqlite_file,
    checked_url,
    engine_of,
    make_read_only,
)
from loopwright.data.query import checked_query
from loopwright.data.source import BATCH_ROWS, SqlSource, check_target

if TYPE_CHECKING:
    import polars as pl
    import psycopg
    import sqlalchemy as sa
else:
    pl = LazyModule("polars")
    psycopg = LazyModule("psycopg")
    sa = LazyModule("sqlalchemy")

_FETCH_ROWS = 20_000
_SCHEMA_ROWS = 1_000
# a read-only transaction of MySQL lets this through
_WRITES_FILE = re.compile(r"(?i)\binto\s+(?:(?:out|dump)file\b|@)")
# unknown and ambiguous columns and the like, which its driver calls operational errors
_MYSQL_MISTAKES = range(1050, 1100)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Condition:
    """Rows whose `columns`, taken together, are greater than `values`, or at least that."""

    columns: tuple[str, ...]
    sign: str
    values: tuple[object, ...]


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
        self._url = checked_url(spec.url, base, environ)
        if self._url.get_backend_name() == "mysql" and _WRITES_FILE.search(self._query or ""):
            raise InvalidInputError(
                "The query writes into a file or a variable on the database server.",
                hint="Leave INTO out.",
                field="data.source.query",
            )
        self._conditions: tuple[_Condition, ...] = ()

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
        return self._where(_Condition(columns=(column,), sign=">=", values=(value,)))

    def order(self) -> tuple[str, ...]:
        """Return the columns that the rows come in the order of and that no two rows share.

        They are those of the primary key of a table; empty where there is none, or where it has a
        type whose values do not come back to the database as they left it.
        """
        if self._table is None:
            return ()
        with self._connection() as connection:
            schema, name = self._found_table(connection, self._table)
            inspector = sa.inspect(connection)
            types = {each["name"]: each["type"] for each in inspector.get_columns(name, schema)}
            exact: tuple[type, ...] = (sa.Integer,)
            if connection.dialect.name != "sqlite":
                exact += (sa.String, sa.Uuid, sa.Date, sa.DateTime)
            key = _key(connection, schema, name)
            return key if all(isinstance(types[column], exact) for column in key) else ()

    def after(self, row: Mapping[str, object]) -> OpenedQuery:
        """Return a source of the rows that come after the one with these values of `order()`."""
        return self._where(_Condition(columns=tuple(row), sign=">", values=tuple(row.values())))

    def identity(self) -> str:
        """Return a digest of the database, the table or query, and the conditions."""
        url = self._url.render_as_string(hide_password=True)
        conditions = [
            [*each.columns, each.sign, *map(repr, each.values)] for each in self._conditions
        ]
        return digest_value([url, self._table, self._query, conditions])

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield all rows of one consistent reading."""
        with self._connection() as connection:
            if connection.dialect.name == "postgresql" and _is_unicode(connection):
                yield from self._copied(connection)
            else:
                yield from self._fetched(connection)

    def _fetched(self, connection: sa.Connection) -> Iterator[pl.DataFrame]:
        """Yield rows as the driver gives them."""
        result = _execute(connection, *self._asked(connection))
        names = checked_names(list(result.keys()))
        for rows in result.partitions(min(_FETCH_ROWS, BATCH_ROWS)):
            yield frame_of(names, rows)

    def _copied(self, connection: sa.Connection) -> Iterator[pl.DataFrame]:
        """Yield the same rows of PostgreSQL as `_fetched`, at a fraction of the cost."""
        raw: Any = connection.connection.driver_connection
        is_done = False
        try:
            query = _written(raw, *self._asked(connection))
            fields = wire.described(raw, query)
            checked_names([field.name for field in fields])
            yield from wire.copied(raw, query, fields, series_of_values)
            is_done = True
        except psycopg.Error as cause:
            raise sa.exc.DBAPIError.instance(None, None, cause, psycopg.Error) from cause
        except OverflowError as cause:
            raise InvalidInputError(
                f"The {self.describe()} cannot be read: {cause}.",
                hint="Leave them out, or make them missing: NULLIF(column, 'infinity').",
                field="data.source.query" if self._table is None else "data.source.table",
            ) from cause
        finally:
            if not is_done:
                # rows may be on their way still; they are not waited for
                raw.close()
                connection.invalidate()

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
            column = _quoted(connection, target)
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
        system = SYSTEMS[self._url.get_backend_name()]
        return f"{system} database {self._url.database} on {host}{port}"

    def _path(self) -> Path:
        return Path(self._url.database or "")

    @contextmanager
    def _connection(self) -> Iterator[sa.Connection]:
        if self._url.get_backend_name() == "sqlite":
            check_sqlite_file(self._path())
        engine = engine_of(self._url)
        try:
            try:
                connection = engine.connect()
            except sa.exc.DBAPIError as cause:
                raise self._unreachable(cause) from cause
            with connection:
                try:
                    make_read_only(connection)
                    yield connection
                except sa.exc.DBAPIError as cause:
                    raise self._failed(cause) from cause
        finally:
            engine.dispose()

    def _where(self, condition: _Condition) -> OpenedQuery:
        narrowed = copy(self)
        narrowed._conditions = (*self._conditions, condition)
        return narrowed

    def _asked(self, connection: sa.Connection) -> tuple[str, tuple[object, ...]]:
        """Return the statement, with `%s` or `?` for the values that come with it."""
        if not self._conditions:
            return self._select(connection), ()
        # a name or a query may hold % and ?, which are not marks; no SQL holds a zero byte
        mark, conditions = "\0", []
        for each in self._conditions:
            names = ", ".join(_quoted(connection, column) for column in each.columns)
            conditions.append(f"({names}) {each.sign} ({', '.join(mark for _ in each.values)})")
        select = self._select(connection, where=" AND ".join(conditions))
        values = tuple(value for each in self._conditions for value in each.values)
        if connection.dialect.paramstyle == "qmark":
            return select.replace(mark, "?"), values
        return select.replace("%", "%%").replace(mark, "%s"), values

    def _select(self, connection: sa.Connection, where: str = "") -> str:
        if self._table is None:
            query = self._query or ""
            return f"SELECT * FROM ({query}) AS rows_ WHERE {where}" if where else query  # noqa: S608 names are quoted
        schema, name = self._found_table(connection, self._table)
        place = ".".join(_quoted(connection, part) for part in (schema, name) if part)
        key = [_quoted(connection, column) for column in _key(connection, schema, name)]
        condition = f" WHERE {where}" if where else ""
        order = f" ORDER BY {', '.join(key)}" if key else ""
        return f"SELECT * FROM {place}{condition}{order}"  # noqa: S608 names are quoted

    def _found_table(self, connection: sa.Connection, table: str) -> tuple[str | None, str]:
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
        return schema or None, name

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


def _key(connection: sa.Connection, schema: str | None, name: str) -> tuple[str, ...]:
    found = sa.inspect(connection).get_pk_constraint(name, schema)
    return tuple(found.get("constrained_columns") or ())


def _quoted(connection: sa.Connection, name: str) -> str:
    if connection.dialect.name == "mysql":
        return "`" + name.replace("`", "``") + "`"
    return wire.quoted(name)


def _is_unicode(connection: sa.Connection) -> bool:
    """Whether the server can send all text as UTF-8, and does from now on."""
    if connection.exec_driver_sql("SHOW server_encoding").scalar() == "SQL_ASCII":
        return False
    connection.exec_driver_sql("SET LOCAL client_encoding TO 'UTF8'")
    return True


def _written(raw: psycopg.Connection[Any], query: str, values: Sequence[object]) -> str:
    """Return a statement with its values written into it, since COPY takes none beside it."""
    if not values:
        return query
    from psycopg.sql import Literal

    return query % tuple(Literal(value).as_string(raw) for value in values)


def _execute(
    connection: sa.Connection, query: str, values: tuple[object, ...] = ()
) -> sa.CursorResult[Any]:
    # a query may hold % and :name, which are not parameters here
    options = {"no_parameters": True, "stream_results": True, "max_row_buffer": _FETCH_ROWS}
    return connection.execution_options(**options).exec_driver_sql(query, values or None)
