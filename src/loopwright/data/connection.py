"""How a database is reached: its address checked, its driver loaded, its transaction read-only.

PostgreSQL is reached by its own driver (`loopwright.data.postgres`), all others by SQLAlchemy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import nearest
from loopwright.data.postgres import find_postgres
from loopwright.data.session import (
    CONNECT_TIMEOUT_S,
    Address,
    RefusedError,
    Rows,
    Session,
    UnreachableError,
)

if TYPE_CHECKING:
    import sqlalchemy as sa
else:
    sa = LazyModule("sqlalchemy")

_DRIVERS = {
    "sqlite": "sqlite",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}
_FETCH_ROWS = 20_000
# unknown and ambiguous columns and the like, which the driver of MySQL calls operational errors
_MYSQL_MISTAKES = range(1050, 1100)


def checked_url(text: str, base: Path, environ: Mapping[str, str]) -> Address:
    """Return the address of a database that can be read.

    Raises
    ------
    InvalidInputError
        If it is none, its kind is not known, or the environment variable it names is not set.
    """
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
        postgres = find_postgres(text)
        if postgres is not None:
            return postgres
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
        place = str(base / Path(url.database).expanduser())
        return SqlAlchemyAddress(sa.URL.create("sqlite", database=place))
    return SqlAlchemyAddress(url.set(drivername=_DRIVERS[backend]))


def check_sqlite_file(path: Path) -> None:
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


class SqlAlchemyAddress:
    """Where a database of SQLite or MySQL is."""

    def __init__(self, url: sa.URL) -> None:
        self._url = url
        self.system = url.get_backend_name()
        self.host = url.host
        self.port = url.port
        self.database = url.database
        self.password = None if url.password is None else str(url.password)
        self.query: Mapping[str, Any] = url.query

    def without_password(self) -> str:
        """Return the address as text with `***` in place of a password."""
        return self._url.render_as_string(hide_password=True)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open a connection in a transaction that sees one state and cannot change it."""
        engine = self._engine()
        try:
            try:
                connection = engine.connect()
            except sa.exc.DBAPIError as cause:
                raise UnreachableError(_words(cause)) from cause
            with connection:
                try:
                    _make_read_only(connection)
                    yield SqlAlchemySession(connection)
                except sa.exc.DBAPIError as cause:
                    raise RefusedError(_words(cause), is_mistake=self._is_mistake(cause)) from cause
        finally:
            engine.dispose()

    def _engine(self) -> sa.Engine:
        if self.system == "sqlite":
            from urllib.parse import quote

            check_sqlite_file(Path(str(self.database)))
            place = f"file:{quote(str(self.database))}?mode=ro"
            url = sa.URL.create("sqlite", database=place, query={"uri": "true"})
            return sa.create_engine(url, poolclass=sa.NullPool)
        arguments: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_S}
        try:
            from pymysql.constants import FIELD_TYPE
            from pymysql.converters import conversions

            # truth values are often kept in columns of one bit, which come as bytes
            arguments["conv"] = {**conversions, FIELD_TYPE.BIT: _number_of_bits}
            return sa.create_engine(self._url, poolclass=sa.NullPool, connect_args=arguments)
        except ImportError as cause:
            raise BackendError(
                "Reading MySQL needs the PyMySQL library, which is not installed.",
                hint="Install it: pip install 'loopwright[mysql]'",
            ) from cause

    def _is_mistake(self, cause: sa.exc.DBAPIError) -> bool:
        mistakes = (
            sa.exc.ProgrammingError,
            sa.exc.NotSupportedError,
            sa.exc.DataError,
            sa.exc.InternalError,
        )
        is_sqlite = self.system == "sqlite"
        return is_sqlite or isinstance(cause, mistakes) or _code(cause) in _MYSQL_MISTAKES


class SqlAlchemySession:
    """A connection of SQLAlchemy in a read-only transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self.system: str = connection.dialect.name
        self.mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"

    @contextmanager
    def rows(self, query: str, values: Sequence[object] = ()) -> Iterator[Rows]:
        """Run a query; its rows stay at the server until they are asked for."""
        # a query may hold % and :name, which are not parameters here
        options = {"no_parameters": True, "stream_results": True, "max_row_buffer": _FETCH_ROWS}
        connection = self.connection.execution_options(**options)
        with connection.exec_driver_sql(query, tuple(values) or None) as result:
            yield Rows(list(result.keys()), result.fetchmany)

    def relations(self, schema: str | None) -> list[str]:
        """Return the names of the tables and views in a schema."""
        inspector = sa.inspect(self.connection)
        try:
            return inspector.get_table_names(schema) + inspector.get_view_names(schema)
        except sa.exc.NoSuchTableError:
            return []

    def key(self, schema: str | None, table: str) -> tuple[str, ...]:
        """Return the columns of the primary key."""
        found = sa.inspect(self.connection).get_pk_constraint(table, schema)
        return tuple(found.get("constrained_columns") or ())

    def is_exact(self, schema: str | None, table: str) -> bool:
        """Whether the values of the primary key come back as they left the database."""
        exact: tuple[type, ...] = (sa.Integer,)
        if self.system != "sqlite":
            exact += (sa.String, sa.Uuid, sa.Date, sa.DateTime)
        columns = sa.inspect(self.connection).get_columns(table, schema)
        types = {each["name"]: each["type"] for each in columns}
        return all(isinstance(types[name], exact) for name in self.key(schema, table))


def _number_of_bits(bits: bytes) -> int:
    return int.from_bytes(bits, "big")


def _make_read_only(connection: sa.Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA query_only = ON")
        return
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")


def _words(cause: sa.exc.DBAPIError) -> str:
    # a driver of MySQL gives a number and a text
    text = cause.orig.args[1] if _code(cause) and cause.orig else cause.orig
    return str(text).strip() or type(cause.orig).__name__


def _code(cause: sa.exc.DBAPIError) -> int:
    """Return the number of an error of MySQL, 0 for other databases."""
    arguments = cause.orig.args if cause.orig else ()
    return arguments[0] if len(arguments) == 2 and isinstance(arguments[0], int) else 0
