"""How a database is reached: its address checked, its driver loaded, its transaction read-only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import nearest

if TYPE_CHECKING:
    import sqlalchemy as sa
else:
    sa = LazyModule("sqlalchemy")

CONNECT_TIMEOUT_S = 5
# a server that vanished without a word is given up after about a minute
_KEEPALIVE = {"keepalives_idle": 20, "keepalives_interval": 10, "keepalives_count": 3}
_DRIVERS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}
SYSTEMS = {"postgresql": "PostgreSQL", "mysql": "MySQL"}
_LIBRARIES = {"postgresql": ("psycopg", "postgres"), "mysql": ("PyMySQL", "mysql")}


def checked_url(text: str, base: Path, environ: Mapping[str, str]) -> sa.URL:
    """Return the address of a database that can be read, with the name of its driver.

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


def engine_of(url: sa.URL) -> sa.Engine:
    """Return the engine of a checked address; `BackendError` if its driver is not installed."""
    if url.get_backend_name() == "sqlite":
        from urllib.parse import quote

        place = f"file:{quote(str(url.database))}?mode=ro"
        url = sa.URL.create("sqlite", database=place, query={"uri": "true"})
        return sa.create_engine(url, poolclass=sa.NullPool)
    arguments: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_S}
    if url.get_backend_name() == "postgresql":
        arguments |= _KEEPALIVE
    try:
        return sa.create_engine(url, poolclass=sa.NullPool, connect_args=arguments)
    except ImportError as cause:
        backend = url.get_backend_name()
        library, extra = _LIBRARIES[backend]
        raise BackendError(
            f"Reading {SYSTEMS[backend]} needs the {library} library, which is not installed.",
            hint=f"Install it: pip install 'loopwright[{extra}]'",
        ) from cause


def make_read_only(connection: sa.Connection) -> None:
    """Begin a transaction that sees one state of the database and cannot change it."""
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
