"""PostgreSQL by its own driver alone: a library for many databases takes longer to load than to read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote

from loopwright.core.errors import BackendError
from loopwright.core.lazy import LazyModule
from loopwright.data.session import CONNECT_TIMEOUT_S, RefusedError, Rows, Session, UnreachableError

if TYPE_CHECKING:
    import psycopg
    from psycopg.rows import TupleRow
else:
    psycopg = LazyModule("psycopg")

# a server that vanished without a word is given up after about a minute
_KEEPALIVE = {"keepalives_idle": 20, "keepalives_interval": 10, "keepalives_count": 3}
_ADDRESS = re.compile(
    r"""
    postgres(?:ql)?(?:\+\w+)?://
    (?: (?P<user>[^:/]*) (?: :(?P<password>[^@]*) )? @ )?
    (?: \[(?P<ipv6>[^/?]+)\] | (?P<host>[^/:?]+) )?
    (?: :(?P<port>\d+) )?
    (?: /(?P<database>[^?]*) )?
    (?: \?(?P<query>.*) )?
    """,
    re.VERBOSE,
)
_BEGIN = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
    # scans that join one another, or run in parallel, give rows in an order that does not repeat
    "SET LOCAL synchronize_seqscans = off",
    "SET LOCAL max_parallel_workers_per_gather = 0",
)
_PLACE = """
CASE WHEN %(schema)s::text IS NOT NULL THEN n.nspname = %(schema)s
ELSE pg_catalog.pg_table_is_visible(c.oid) AND n.nspname <> 'pg_catalog' END
"""
_RELATIONS = (
    """
SELECT c.relname FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'f', 'm') AND """
    + _PLACE
    + "ORDER BY c.relname"
)
_KEY = (
    """
SELECT a.attname, t.typtype = 'e' OR t.typname = ANY(%(exact)s) FROM pg_catalog.pg_index i
CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, place)
JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE i.indisprimary AND c.relname = %(table)s AND """
    + _PLACE
    + "ORDER BY k.place"
)
# types of which every value goes to Python and back as it was
_EXACT = (
    *("int2", "int4", "int8", "text", "varchar", "bpchar", "uuid"),
    *("date", "timestamp", "timestamptz"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresAddress:
    """Where a PostgreSQL database is; the password is in no repr."""

    host: str | None
    port: int | None
    database: str | None
    username: str | None
    password: str | None = field(repr=False)
    query: Mapping[str, str] = field(repr=False)

    @property
    def system(self) -> str:
        """Return the kind of database."""
        return "postgresql"

    def without_password(self) -> str:
        """Return the address as text with `***` in place of a password."""
        user = quote(self.username or "", safe="") + (":***" if self.password is not None else "")
        rest = "&".join(f"{name}={value}" for name, value in sorted(self.query.items()))
        return f"postgresql://{user}@{self.host}:{self.port}/{self.database}?{rest}"

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open a connection in a transaction that sees one state and cannot change it."""
        given = {
            "host": self.host,
            "port": self.port,
            "dbname": self.database,
            "user": self.username,
            "password": self.password,
        }
        options: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_S, **_KEEPALIVE, **self.query}
        options |= {name: value for name, value in given.items() if value is not None}
        try:
            connection = psycopg.connect(**options)
        except ImportError as cause:
            raise BackendError(
                "Reading PostgreSQL needs the psycopg library, which is not installed.",
                hint="Install it: pip install 'loopwright[postgres]'",
            ) from cause
        except psycopg.Error as cause:
            raise UnreachableError(str(cause)) from cause
        try:
            for statement in _BEGIN:
                connection.execute(statement)
            yield PostgresSession(connection)
        except psycopg.Error as cause:
            mistakes = (
                psycopg.ProgrammingError,
                psycopg.NotSupportedError,
                psycopg.DataError,
                psycopg.InternalError,
            )
            raise RefusedError(str(cause), is_mistake=isinstance(cause, mistakes)) from cause
        finally:
            # closed in the middle of a COPY, rows on their way are not waited for
            connection.close()


def find_postgres(text: str) -> PostgresAddress | None:
    """Return the address that a URL gives; None if it is none of PostgreSQL.

    Raises
    ------
    ValueError
        If it begins as one and is none.

    Examples
    --------
    >>> find_postgres("postgresql://ann:p%40ss@db:5433/sales").port
    5433
    """
    if not re.match(r"postgres(?:ql)?(?:\+\w+)?:", text):
        return None
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise ValueError("not a URL of PostgreSQL")
    query: dict[str, str] = {}
    for name, value in parse_qsl(found["query"] or "", strict_parsing=bool(found["query"])):
        # several hosts are written one by one
        query[name] = f"{query[name]},{value}" if name in query else value
    return PostgresAddress(
        host=found["ipv6"] or found["host"],
        port=int(found["port"]) if found["port"] else None,
        database=unquote(found["database"]) if found["database"] else None,
        username=unquote(found["user"]) if found["user"] else None,
        password=None if found["password"] is None else unquote(found["password"]),
        query=query,
    )


class PostgresSession:
    """A connection of psycopg in a read-only transaction."""

    system = "postgresql"
    mark = "%s"

    def __init__(self, connection: psycopg.Connection[TupleRow]) -> None:
        self.connection = connection

    @contextmanager
    def rows(self, query: str, values: Sequence[object] = ()) -> Iterator[Rows]:
        """Run a query; its rows stay at the server until they are asked for."""
        with self.connection.cursor(name="loopwright") as cursor:
            cursor.execute(query.encode(), tuple(values) or None)
            yield Rows([each.name for each in cursor.description or ()], cursor.fetchmany)

    def relations(self, schema: str | None) -> list[str]:
        """Return the names of the tables and views in a schema, or of those seen without one."""
        return [name for (name,) in self.connection.execute(_RELATIONS, {"schema": schema})]

    def key(self, schema: str | None, table: str) -> tuple[str, ...]:
        """Return the columns of the primary key."""
        return tuple(name for name, _ in self._key(schema, table))

    def is_exact(self, schema: str | None, table: str) -> bool:
        """Whether the values of the primary key come back as they left the database."""
        return all(is_exact for _, is_exact in self._key(schema, table))

    def _key(self, schema: str | None, table: str) -> list[TupleRow]:
        values = {"schema": schema, "table": table, "exact": list(_EXACT)}
        return self.connection.execute(_KEY, values).fetchall()

    def sends_utf8(self) -> bool:
        """Whether the server can send all text as UTF-8, and does from now on."""
        found = self.connection.execute("SHOW server_encoding").fetchone()
        if found == ("SQL_ASCII",):
            return False
        self.connection.execute("SET LOCAL client_encoding TO 'UTF8'")
        return True

    def written(self, query: str, values: Sequence[object]) -> str:
        """Return a statement with its values written into it, since COPY takes none beside it."""
        if not values:
            return query
        from psycopg.sql import Literal

        return query % tuple(Literal(value).as_string(self.connection) for value in values)
