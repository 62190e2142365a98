"""What reading a database needs of it, whichever library speaks to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

CONNECT_TIMEOUT_S = 5
SYSTEMS = {"postgresql": "PostgreSQL", "mysql": "MySQL", "sqlite": "SQLite"}


class UnreachableError(Exception):
    """The words of a driver that could not connect; they may hold the password."""


class RefusedError(Exception):
    """The words of a database about a statement; they may hold the password.

    Parameters
    ----------
    reason
        The words.
    is_mistake
        Whether the statement is wrong, and not the server in trouble.
    """

    def __init__(self, reason: str, *, is_mistake: bool) -> None:
        super().__init__(reason)
        self.is_mistake = is_mistake


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a query that is under way: the names of its columns, and what gives some more."""

    names: list[str]
    fetch: Callable[[int], Sequence[Sequence[Any]]]

    def batches(self, n_rows: int) -> Iterator[Sequence[Sequence[Any]]]:
        """Yield the rows that are left, at most `n_rows` at a time."""
        while found := self.fetch(n_rows):
            yield found


class Session(Protocol):
    """An open connection in a transaction that sees one state of the database."""

    @property
    def system(self) -> str:
        """The kind of database, a key of `SYSTEMS`."""
        ...

    @property
    def mark(self) -> str:
        """What stands in a statement for a value that comes with it: `%s` or `?`."""
        ...

    def rows(self, query: str, values: Sequence[object] = ()) -> AbstractContextManager[Rows]:
        """Run a query; its rows are not held in memory. Without values, it holds no marks."""
        ...

    def relations(self, schema: str | None) -> list[str]:
        """Return the names of the tables and views in a schema, the usual one for None."""
        ...

    def key(self, schema: str | None, table: str) -> tuple[str, ...]:
        """Return the columns of the primary key of a table; empty without one."""
        ...

    def is_exact(self, schema: str | None, table: str) -> bool:
        """Whether the values of the primary key come back to the database as they left it."""
        ...


class Address(Protocol):
    """Where a database is."""

    @property
    def system(self) -> str:
        """The kind of database, a key of `SYSTEMS`."""
        ...

    @property
    def host(self) -> str | None:
        """The server."""
        ...

    @property
    def port(self) -> int | None:
        """The port of the server."""
        ...

    @property
    def database(self) -> str | None:
        """The name of the database, or its file."""
        ...

    @property
    def password(self) -> str | None:
        """The password, which has to be in no message."""
        ...

    @property
    def query(self) -> Mapping[str, Any]:
        """What stands after the question mark."""
        ...

    def without_password(self) -> str:
        """Return the address as text, without its password."""
        ...

    def session(self) -> AbstractContextManager[Session]:
        """Open a connection.

        Raises
        ------
        UnreachableError
            If it cannot be had.
        RefusedError
            If a statement inside the context fails.
        BackendError
            If the library for it is not installed.
        """
        ...
