"""The metadata store on SQLite and PostgreSQL."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.clock import Clock
from loopwright.core.lazy import LazyModule
from loopwright.store.database import Database
from loopwright.store.metadata import (
    MOST_ROWS,
    Event,
    Record,
    already_exists,
    checked_key,
    checked_limit,
    json_copy,
    not_found,
    prefix_end,
    stale,
)

if TYPE_CHECKING:
    import sqlalchemy as sa

    from loopwright.store import schema
else:
    sa = LazyModule("sqlalchemy")
    schema = LazyModule("loopwright.store.schema")


class SqlMetadataStore:
    """A `MetadataStore` in a SQLite file or a PostgreSQL database.

    Parameters
    ----------
    url
        `sqlite:///path/to/file.db` or `postgresql://user:password@host:port/database`; opened,
        created and migrated as `Database` says.
    clock
        Where the times of records and events come from.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        self._clock = clock
        self._database = Database(url)

    def __repr__(self) -> str:
        return f"SqlMetadataStore({self._database.name!r})"

    @property
    def sqlite_path(self) -> Path | None:
        """The file of an SQLite database; None of another."""
        return self._database.sqlite_path

    def create(self, kind: str, key: str, body: dict[str, Any]) -> Record:
        """Store a new record; `AlreadyExistsError` if the key is taken."""
        record = self._new_record(kind, key, body)
        statement = _create_statement(is_sqlite=self._database.is_sqlite)
        with self._database.writing() as connection:
            if connection.execute(statement, _values(record)).first() is None:
                raise already_exists(kind, key)
        return record

    def get(self, kind: str, key: str) -> Record:
        """Return a record; `NotFoundError` with the nearest key if there is none."""
        record = self.find(kind, key)
        if record is None:
            of_kind = schema.record.c.kind == kind
            keys = sa.select(schema.record.c.key).where(of_kind).limit(MOST_ROWS)
            with self._database.reading() as connection:
                raise not_found(kind, key, connection.execute(keys).scalars().all())
        return record

    def find(self, kind: str, key: str) -> Record | None:
        """Return a record, or None if there is none."""
        values = {
            "of_kind": checked_key(kind, field="kind"),
            "of_key": checked_key(key, field="key"),
        }
        with self._database.reading() as connection:
            row = connection.execute(_find_statement(), values).first()
        return _record(row) if row else None

    def list_(
        self, kind: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[Record]:
        """Return up to `limit` records (1 to 10,000) by key, those above `after` that start so."""
        end = prefix_end(prefix)
        values = {
            "of_kind": checked_key(kind, field="kind"),
            "after": after,
            "prefix": prefix,
            "most": checked_limit(limit),
        }
        if end is not None:
            values["prefix_end"] = end
        with self._database.reading() as connection:
            rows = connection.execute(_list_statement(has_end=end is not None), values).all()
        return [_record(row) for row in rows]

    def replace(self, record: Record, body: dict[str, Any]) -> Record:
        """Store the next version of a record; `WrongStateError` if it has changed since."""
        column = schema.record.c
        update = (
            sa.update(schema.record)
            .where(
                _is(record.kind, record.key),
                column.version == record.version,
                column.created_at == record.created_at,
            )
            .values(
                version=column.version + 1,
                body=json_copy(body, what=f"{record.kind} {record.key!r}"),
                updated_at=self._clock.now(),
            )
            .returning(*column)
        )
        with self._database.writing() as connection:
            row = connection.execute(update).first()
            if row is None:
                raise stale(record, self.get(record.kind, record.key))
        return _record(row)

    def put(self, kind: str, key: str, body: dict[str, Any]) -> Record:
        """Create the record or overwrite it, whatever it held."""
        statement = _put_statement(is_sqlite=self._database.is_sqlite)
        values = _values(self._new_record(kind, key, body))
        with self._database.writing() as connection:
            row = connection.execute(statement, values).one()
        return _record(row)

    def delete(self, kind: str, key: str) -> None:
        """Forget a record; nothing happens if there is none."""
        with self._database.writing() as connection:
            connection.execute(sa.delete(schema.record).where(_is(kind, key)))

    def append(self, stream: str, kind: str, body: dict[str, Any]) -> Event:
        """Add an event to the end of a stream."""
        values: dict[str, Any] = {
            "stream": checked_key(stream, field="stream"),
            "kind": checked_key(kind, field="kind"),
            "body": json_copy(body, what=f"a {kind} event"),
            "at": self._clock.now(),
        }
        with self._database.writing() as connection:
            seq = connection.execute(_append_statement(), values).scalar_one()
        return Event(seq=seq, **values)

    def list_events(self, stream: str, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Return up to `limit` events (1 to 10,000) of a stream with `seq` above `after`."""
        column = schema.event.c
        select = (
            sa.select(schema.event)
            .where(column.stream == checked_key(stream, field="stream"), column.seq > after)
            .order_by(column.seq)
            .limit(checked_limit(limit))
        )
        with self._database.reading() as connection:
            rows = connection.execute(select).all()
        return [Event(**row._mapping) for row in rows]

    def transaction(self) -> AbstractContextManager[None]:
        """Return a context in which everything is kept, or, on an exception, nothing."""
        return self._database.transaction()

    def close(self) -> None:
        """Give connections back; the store cannot be used afterwards."""
        self._database.close()

    def _new_record(self, kind: str, key: str, body: dict[str, Any]) -> Record:
        now = self._clock.now()
        return Record(
            kind=checked_key(kind, field="kind"),
            key=checked_key(key, field="key"),
            version=1,
            body=json_copy(body, what=f"{kind} {key!r}"),
            created_at=now,
            updated_at=now,
        )


def _is(kind: str, key: str) -> sa.ColumnElement[bool]:
    column = schema.record.c
    return sa.and_(
        column.kind == checked_key(kind, field="kind"),
        column.key == checked_key(key, field="key"),
    )


# built once: composing a statement costs more than SQLite takes to run it


def _insert(*, is_sqlite: bool) -> Any:
    # both dialects know ON CONFLICT, each through its own class
    if is_sqlite:
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(schema.record)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(schema.record)


@cache
def _create_statement(*, is_sqlite: bool) -> Any:
    insert = _insert(is_sqlite=is_sqlite)
    return insert.on_conflict_do_nothing().returning(schema.record.c.key)


@cache
def _put_statement(*, is_sqlite: bool) -> Any:
    insert = _insert(is_sqlite=is_sqlite)
    return insert.on_conflict_do_update(
        index_elements=["kind", "key"],
        set_={
            "version": schema.record.c.version + 1,
            "body": insert.excluded.body,
            "updated_at": insert.excluded.updated_at,
        },
    ).returning(*schema.record.c)


@cache
def _append_statement() -> Any:
    return sa.insert(schema.event).returning(schema.event.c.seq)


@cache
def _find_statement() -> sa.Select[Any]:
    column = schema.record.c
    return sa.select(schema.record).where(
        column.kind == sa.bindparam("of_kind"), column.key == sa.bindparam("of_key")
    )


@cache
def _list_statement(*, has_end: bool) -> sa.Select[Any]:
    column = schema.record.c
    chosen = [
        column.kind == sa.bindparam("of_kind"),
        column.key > sa.bindparam("after"),
        column.key >= sa.bindparam("prefix"),
    ]
    if has_end:
        chosen.append(column.key < sa.bindparam("prefix_end"))
    listed = sa.select(schema.record).where(*chosen).order_by(column.key)
    return listed.limit(sa.bindparam("most"))


def _values(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in schema.record.c.keys()}  # noqa: SIM118


def _record(row: sa.Row[Any]) -> Record:
    return Record(**row._mapping)
