"""Rows of a table or a query in SQLite, PostgreSQL, MySQL or MariaDB, in a read-only transaction."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core.digest import digest_value
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.data import wire
from loopwright.data.cell import checked_names, frame_of, series_of_values
from loopwright.data.connection import checked_url
from loopwright.data.postgres import PostgresSession
from loopwright.data.query import checked_query
from loopwright.data.session import SYSTEMS, RefusedError, Session, UnreachableError
from loopwright.data.source import BATCH_ROWS, SqlSource, check_target

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_FETCH_ROWS = 20_000
_SCHEMA_ROWS = 1_000
# a read-only transaction of MySQL lets this through
_WRITES_FILE = re.compile(r"(?i)\binto\s+(?:(?:out|dump)file\b|@)")


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
        self._address = checked_url(spec.url, base, environ)
        if self._address.system == "mysql" and _WRITES_FILE.search(self._query or ""):
            raise InvalidInputError(
                "The query writes into a file or a variable on the database server.",
                hint="Leave INTO out.",
                field="data.source.query",
            )
        self._conditions: tuple[_Condition, ...] = ()
        self._sorted: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return the table or query and the database, without user and password."""
        what = "query" if self._table is None else f"table {self._table}"
        return f"{what} in {self._place()}"

    def fingerprint(self) -> None:
        """Return None: a database has no cheap sign of change."""
        return

    def schema(self) -> dict[str, pl.DataType]:
        """Return the columns, typed by the first thousand rows."""
        with self._connection() as session, session.rows(self._select(session)) as rows:
            return dict(frame_of(checked_names(rows.names), rows.fetch(_SCHEMA_ROWS)).schema)

    def since(self, column: str, value: object) -> OpenedQuery:
        """Return a source of the rows whose `column` is at least `value`, left out by the database.

        Where its order may differ from ours (text with a collation), it is the source itself.
        """
        comparable = str if self._address.system == "sqlite" else (date, datetime)
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
        with self._connection() as session:
            schema, name = self._found_table(session, self._table)
            return session.key(schema, name) if session.is_exact(schema, name) else ()

    def by(self, cursor: str, key: Sequence[str] = ()) -> OpenedQuery:
        """Return a source of the rows of a query in the order of a column, missing values first.

        A query has no order that can be relied on; with this one it can be read on after a break.
        A table has its own, and a column that the query does not give is no order: then it is the
        source itself. Rows that share a value come in the order of `key`.
        """
        if self._table is not None or self._conditions:
            return self
        # a condition that is never met costs the database nothing
        with (
            self._connection() as session,
            session.rows(self._select(session, where="1 = 0")) as rows,
        ):
            names = rows.names
        if cursor not in names:
            return self
        found = copy(self)
        found._sorted = tuple(dict.fromkeys([cursor, *(name for name in key if name in names)]))
        return found

    def cursor(self) -> str | None:
        """Return the column that the rows come in the order of, whose values they may share."""
        return self._sorted[0] if self._sorted else None

    def beyond(self, value: object) -> OpenedQuery:
        """Return a source of the rows whose `cursor()` is at least this."""
        return self._where(_Condition(columns=self._sorted[:1], sign=">=", values=(value,)))

    def after(self, row: Mapping[str, object]) -> OpenedQuery:
        """Return a source of the rows that come after the one with these values of `order()`."""
        return self._where(_Condition(columns=tuple(row), sign=">", values=tuple(row.values())))

    def identity(self) -> str:
        """Return a digest of the database, the table or query, and the conditions."""
        place = self._address.without_password()
        conditions = [
            [*each.columns, each.sign, *map(repr, each.values)] for each in self._conditions
        ]
        return digest_value([place, self._table, self._query, conditions, self._sorted])

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield all rows of one consistent reading."""
        with self._connection() as session:
            if isinstance(session, PostgresSession) and session.sends_utf8():
                yield from self._copied(session)
            else:
                yield from self._fetched(session)

    def _fetched(self, session: Session) -> Iterator[pl.DataFrame]:
        """Yield rows as the driver gives them."""
        with session.rows(*self._asked(session)) as rows:
            names = checked_names(rows.names)
            for batch in rows.batches(min(_FETCH_ROWS, BATCH_ROWS)):
                yield frame_of(names, batch)

    def _copied(self, session: PostgresSession) -> Iterator[pl.DataFrame]:
        """Yield the same rows of PostgreSQL as `_fetched`, at a fraction of the cost."""
        query = session.written(*self._asked(session))
        fields = wire.described(session.connection, query)
        checked_names([field.name for field in fields])
        try:
            yield from wire.copied(session.connection, query, fields, series_of_values)
        except OverflowError as cause:
            raise InvalidInputError(
                f"The {self.describe()} cannot be read: {cause}.",
                hint="Leave them out, or make them missing: NULLIF(column, 'infinity').",
                field="data.source.query" if self._table is None else "data.source.table",
            ) from cause

    def check(self, target: str | None = None) -> None:
        """Raise for a database, table or query that cannot be read and for an unusable target."""
        with self._connection() as session:
            select = self._select(session)
            with session.rows(select) as rows:
                names = checked_names(rows.names)
                first = rows.fetch(1)
            if not first:
                raise InvalidInputError(
                    f"The {self.describe()} gives no rows.",
                    hint="Check its conditions, or choose a table with rows.",
                    field="data.source",
                )
            if target is None:
                return
            check_target(target, columns=names, n_values=None, of=f"the {self.describe()}")
            column = _quoted(session, target)
            varying = (
                f"SELECT DISTINCT {column} FROM ({select}) AS rows_ "  # noqa: S608 the name is quoted
                f"WHERE {column} IS NOT NULL LIMIT 2"
            )
            with session.rows(varying) as rows:
                n_values = len(rows.fetch(2))
            check_target(target, columns=names, n_values=n_values, of=f"the {self.describe()}")

    def _place(self) -> str:
        address = self._address
        if address.system == "sqlite":
            return f"SQLite file {Path(address.database or '')}"
        host = address.host or address.query.get("host") or "localhost"
        port = f":{address.port}" if address.port else ""
        return f"{SYSTEMS[address.system]} database {address.database} on {host}{port}"

    @contextmanager
    def _connection(self) -> Iterator[Session]:
        try:
            with self._address.session() as session:
                yield session
        except UnreachableError as cause:
            raise self._unreachable(cause) from cause.__cause__
        except RefusedError as cause:
            raise self._failed(cause) from cause.__cause__

    def _where(self, condition: _Condition) -> OpenedQuery:
        narrowed = copy(self)
        narrowed._conditions = (*self._conditions, condition)
        return narrowed

    def _asked(self, session: Session) -> tuple[str, tuple[object, ...]]:
        """Return the statement, with `%s` or `?` for the values that come with it."""
        if not self._conditions:
            return self._select(session), ()
        # a name or a query may hold % and ?, which are not marks; no SQL holds a zero byte
        mark, conditions = "\0", []
        for each in self._conditions:
            names = ", ".join(_quoted(session, column) for column in each.columns)
            conditions.append(f"({names}) {each.sign} ({', '.join(mark for _ in each.values)})")
        select = self._select(session, where=" AND ".join(conditions))
        values = tuple(value for each in self._conditions for value in each.values)
        if session.mark == "?":
            return select.replace(mark, "?"), values
        return select.replace("%", "%%").replace(mark, "%s"), values

    def _select(self, session: Session, where: str = "") -> str:
        if self._table is None:
            query = self._query or ""
            if not where and not self._sorted:
                return query
            condition = f" WHERE {where}" if where else ""
            order = f" ORDER BY {', '.join(self._sorting(session))}" if self._sorted else ""
            return f"SELECT * FROM ({query}) AS rows_{condition}{order}"  # noqa: S608 names are quoted
        schema, name = self._found_table(session, self._table)
        place = ".".join(_quoted(session, part) for part in (schema, name) if part)
        key = [_quoted(session, column) for column in session.key(schema, name)]
        condition = f" WHERE {where}" if where else ""
        order = f" ORDER BY {', '.join(key)}" if key else ""
        return f"SELECT * FROM {place}{condition}{order}"  # noqa: S608 names are quoted

    def _sorting(self, session: Session) -> list[str]:
        # the others put missing values first by themselves
        first = " NULLS FIRST" if session.system == "postgresql" else ""
        return [_quoted(session, name) + first for name in self._sorted]

    def _found_table(self, session: Session, table: str) -> tuple[str | None, str]:
        schema, _, name = table.rpartition(".")
        known = session.relations(schema or None)
        if name not in known:
            raise InvalidInputError(
                f"There is no table {table!r} in the {self._place()}.",
                hint=did_you_mean(name, known),
                field="data.source.table",
                value=table,
            )
        return schema or None, name

    def _unreachable(self, cause: UnreachableError) -> BackendError:
        return BackendError(
            f"The {self._place()} cannot be reached: {self._reason(cause)}",
            hint="Check that it runs and that host, port, user and password are right.",
            retryable=True,
            field="data.source.url",
        )

    def _failed(self, cause: RefusedError) -> InvalidInputError | BackendError:
        """Return the error for a statement: the user's when the query is wrong, else the server's."""
        reason = self._reason(cause)
        if cause.is_mistake:
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

    def _reason(self, cause: Exception) -> str:
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        reason = (lines[0] if lines else type(cause.__cause__).__name__).rstrip(".") + "."
        password = self._address.password
        return reason.replace(password, "***") if password else reason


def _quoted(session: Session, name: str) -> str:
    if session.system == "mysql":
        return "`" + name.replace("`", "``") + "`"
    return wire.quoted(name)
