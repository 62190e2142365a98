"""An open SQLite or PostgreSQL database: connections, transactions, failures in plain words."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import (
    BackendError,
    InvalidInputError,
    LoopwrightError,
    WrongStateError,
)
from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import sqlalchemy as sa

    from loopwright.store import schema
else:
    sa = LazyModule("sqlalchemy")
    schema = LazyModule("loopwright.store.schema")

_BUSY_S = 30
_CONNECT_S = 10
# any number will do that no other application takes: "loop" in ASCII
_WRITERS_LOCK = 0x6C6F6F70

# what the database says, whether another try may work, what to do; the first that fits
_REMEDIES: tuple[tuple[str, bool, str], ...] = (
    ("locked", True, "Another process has been writing for long; try again when it is done."),
    ("lock timeout", True, "Another process has been writing for long; try again when it is done."),
    ("readonly", False, "Make the file and its folder writable, or choose another home."),
    ("unable to open", False, "Choose a home folder you may read and write, with --home."),
    ("not a database", False, "Choose another home, or move that file away."),
    ("malformed", False, "The file is damaged: restore it from a backup."),
    ("full", True, "Free some space on the disk and try again."),
    ("password", False, "Check the user name and the password in the URL."),
    ("does not exist", False, "Create the database or the role first, or correct the URL."),
    ("permission denied", False, "Let the database user create and write tables."),
)
_OTHER_REMEDY = ("", True, "Check that the database runs and can be reached, then try again.")


class Database:
    """Connections to one database whose schema is current.

    Opening creates a missing SQLite file and its folder, and runs the migrations it lacks; two
    processes may open the same fresh database at once. Threads may share it; a forked process
    must open its own.

    Parameters
    ----------
    url
        `sqlite:///path/to/file.db` (three slashes and a relative path, four for an absolute one)
        or `postgresql://user:password@host:port/database`.

    Raises
    ------
    InvalidInputError
        If the URL is not one of these, or its file is no database of loopwright's.
    WrongStateError
        If a newer version of loopwright has changed the database.
    BackendError
        If the database cannot be reached, read or written.
    """

    def __init__(self, url: str) -> None:
        self._url = parsed_url(url)
        self.name = shown(self._url)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self._pid = os.getpid()
        self._closed = False
        self._local = threading.local()
        self._engine = _engine(self._url)
        try:
            with self.failures():
                self._open()
        except BaseException:
            self._engine.dispose()
            raise

    def __repr__(self) -> str:
        return f"Database({self.name!r})"

    @property
    def sqlite_path(self) -> Path | None:
        """The file of an SQLite database; None of another."""
        return Path(str(self._url.database)) if self.is_sqlite else None

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a connection to read with: the running transaction's, or one of its own."""
        self._check_usable()
        running = self._running()
        with self.failures():
            if running is not None:
                yield running
                return
            with self._engine.connect() as connection:
                yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Give a connection to write with: the running transaction's, or a transaction for this."""
        self._check_usable()
        running = self._running()
        with self.failures():
            if running is not None:
                yield running
                return
            with self._engine.connect() as fresh:
                connection = fresh.execution_options(loopwright_writes=True)
                with connection.begin():
                    self._wait_for_turn(connection)
                    yield connection

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything inside or nothing; inside another, undo only this part on failure."""
        running = self._running()
        if running is not None:
            with running.begin_nested():
                yield
            return
        with self.writing() as connection:
            self._local.connection = connection
            try:
                yield
            finally:
                self._local.connection = None

    def close(self) -> None:
        """Give all connections back."""
        self._closed = True
        self._engine.dispose()

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turn what the database raises into loopwright's errors, without passwords."""
        try:
            yield
        except sa.exc.SQLAlchemyError as cause:
            raise self._failure(cause) from cause

    def _failure(self, cause: sa.exc.SQLAlchemyError) -> LoopwrightError:
        text = " ".join(str(getattr(cause, "orig", None) or cause).split())
        if self._url.password:
            text = text.replace(str(self._url.password), "***")
        fitting = (remedy for remedy in _REMEDIES if remedy[0] in text.lower())
        _, retryable, hint = next(fitting, _OTHER_REMEDY)
        message = f"The database {self.name} failed: {text.rstrip('.')}."
        if "not a database" in text:
            return InvalidInputError(message, hint=hint, field="home", value=self.name)
        return BackendError(message, hint=hint, retryable=retryable, database=self.name)

    def _running(self) -> sa.Connection | None:
        connection: sa.Connection | None = getattr(self._local, "connection", None)
        return connection

    def _check_usable(self) -> None:
        if self._closed:
            raise WrongStateError(
                f"The database {self.name} was closed.", hint="Open the store again."
            )
        if os.getpid() != self._pid:
            # a connection shared by two processes corrupts what both write
            raise WrongStateError(
                f"The database {self.name} was opened by process {self._pid}, not by this one.",
                hint="Open a store of its own in every process.",
            )

    def _wait_for_turn(self, connection: sa.Connection) -> None:
        """Keep other writers out until the transaction ends, as BEGIN IMMEDIATE does in SQLite.

        It makes transactions serial, and numbers events in the order in which they appear.
        """
        if not self.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_WRITERS_LOCK)))

    def _open(self) -> None:
        if self.is_sqlite:
            self._create_folder()
        with self.reading() as connection:
            if self._is_current(connection):
                return
        if self.is_sqlite:
            self._enter_wal_mode()
        with self.writing() as connection:
            # another process may have migrated while this one waited for its turn
            if not self._is_current(connection):
                from loopwright.store.migrations import upgrade

                upgrade(connection, version_table=schema.VERSION_TABLE)

    def _is_current(self, connection: sa.Connection) -> bool:
        revision = self._revision(connection)
        if revision is not None and revision > schema.HEAD:
            raise WrongStateError(
                f"The database {self.name} has schema {revision}; "
                f"this loopwright knows schemas up to {schema.HEAD}.",
                hint="A newer loopwright has used it: upgrade loopwright, or choose another home.",
                found=revision,
                known=schema.HEAD,
            )
        return revision == schema.HEAD

    def _revision(self, connection: sa.Connection) -> str | None:
        """Return the schema's revision, or None for a database that is still empty."""
        select = sa.text(f"SELECT version_num FROM {schema.VERSION_TABLE}")  # noqa: S608 a constant
        try:
            # a savepoint, since a failed statement ends a transaction in PostgreSQL
            with connection.begin_nested():
                return connection.execute(select).scalar()
        except sa.exc.DBAPIError:
            tables = set(sa.inspect(connection).get_table_names())
            if schema.VERSION_TABLE in tables:
                raise
            self._check_free(tables)
            return None

    def _check_free(self, tables: set[str]) -> None:
        """Refuse to move in where something else lives: it would be changed for ever."""
        theirs = sorted(tables if self.is_sqlite else tables & set(schema.metadata.tables))
        if theirs:
            raise InvalidInputError(
                f"The database {self.name} belongs to another application: "
                f"it has a table {theirs[0]!r} and is not loopwright's.",
                hint="Give loopwright a database of its own.",
                field="home",
                value=self.name,
            )

    def _create_folder(self) -> None:
        folder = Path(str(self._url.database)).absolute().parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as cause:
            raise BackendError(
                f"The folder {folder} cannot be created: {cause.strerror or cause}.",
                hint="Choose a home folder you may write to, with --home or LOOPWRIGHT_HOME.",
                field="home",
                value=str(folder),
            ) from cause

    def _enter_wal_mode(self) -> None:
        """Let readers go on beside a writer; the file remembers it."""
        deadline = time.monotonic() + _BUSY_S
        while True:
            connection = self._engine.raw_connection()
            try:
                connection.cursor().execute("PRAGMA journal_mode=WAL").fetchone()
                return
            except Exception as cause:
                # SQLite does not wait here when two processes change the mode at once
                if "locked" not in str(cause) or time.monotonic() > deadline:
                    raise sa.exc.OperationalError("PRAGMA journal_mode", None, cause) from cause
                time.sleep(0.01)
            finally:
                connection.close()


def parsed_url(url: str) -> sa.URL:
    """Return a URL of a kind that loopwright can open, with the driver it uses."""
    try:
        parts = sa.make_url(url)
        backend = parts.get_backend_name()
    except (sa.exc.ArgumentError, ValueError):
        # the cause repeats the URL, which may hold a password
        backend, parts = "", None
    if parts is None or backend not in _DRIVERS or parts.database in _NO_FILE[backend]:
        raise InvalidInputError(
            f"The database URL of kind {backend or 'unknown'!r} cannot be used.",
            hint="Use 'sqlite:///path/to/file.db' or "
            "'postgresql://user:password@host:5432/database'.",
            field="database",
        ) from None
    if backend == "sqlite":
        # connections are opened whenever they are needed, wherever the process is by then
        parts = parts.set(database=str(Path(str(parts.database)).absolute()))
    return parts.set(drivername=_DRIVERS[backend])


_NO_FILE: dict[str, tuple[str | None, ...]] = {
    "sqlite": (None, "", ":memory:"),
    "postgresql": (),
    "postgres": (),
}
_DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
}


def shown(url: sa.URL) -> str:
    """Return a URL as messages may show it, without passwords."""
    secret = [name for name in url.query if "password" in name.lower()]
    return url.update_query_dict(dict.fromkeys(secret, "***")).render_as_string(hide_password=True)


def _engine(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(url, connect_args={"timeout": _BUSY_S}, hide_parameters=True)
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    arguments = {"connect_timeout": _CONNECT_S, "options": f"-c lock_timeout={_BUSY_S}s"}
    try:
        return sa.create_engine(
            url, connect_args=arguments, pool_pre_ping=True, hide_parameters=True
        )
    except ModuleNotFoundError as cause:
        raise InvalidInputError(
            "A PostgreSQL database needs the library psycopg, which is not installed.",
            hint="Install it with: pip install 'loopwright[postgres]'",
            field="database",
        ) from cause


def _prepare_sqlite(connection: Any, _: object) -> None:
    # the driver begins transactions late and not at all before some statements; we begin them
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("loopwright_writes", False)
    # a transaction that starts by reading could not become a writer once another has written
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
