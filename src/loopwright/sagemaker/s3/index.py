"""What lies in which bucket: an SQLite file beside the files of the objects."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_TABLES = """
create table if not exists bucket(
    name text primary key, account text not null, region text not null, created real not null
) without rowid;
create table if not exists object(
    bucket text not null, key text not null, file text not null, size integer not null,
    etag text not null, modified real not null, about text not null,
    primary key(bucket, key)
) without rowid;
create table if not exists upload(
    id text primary key, bucket text not null, key text not null, created real not null,
    about text not null
) without rowid;
create table if not exists part(
    upload text not null, number integer not null, file text not null, size integer not null,
    etag text not null, modified real not null, about text not null,
    primary key(upload, number)
) without rowid;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket; `created` in seconds since 1970."""

    name: str
    account: str
    region: str
    created: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An object, or a part of an upload (`key` is then its number): where its bytes are.

    `file` is the same as long as the bytes are, and can name a file.
    `about` holds what its client said of it: headers, `metadata`, `checksums`, `tags`.
    """

    key: str
    file: str
    size: int
    etag: str
    modified: float
    about: Mapping[str, Any] = field(default_factory=dict)
    bucket: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """An upload in parts that has not been completed."""

    id: str
    bucket: str
    key: str
    created: float
    about: Mapping[str, Any]


class Index:
    """The index; any thread may call any method, and each has a connection of its own.

    Keys are compared by their bytes in UTF-8, as S3 lists them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._own = threading.local()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.writing() as database:
            database.executescript(_TABLES)

    def _database(self) -> sqlite3.Connection:
        found: sqlite3.Connection | None = getattr(self._own, "database", None)
        if found is None:
            found = sqlite3.connect(self._path, timeout=30.0, isolation_level=None)
            found.execute("pragma journal_mode = wal")
            found.execute("pragma synchronous = normal")
            self._own.database = found
        return found

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Return a connection in a transaction: all of it is kept, or nothing."""
        database = self._database()
        database.execute("begin immediate")
        try:
            yield database
        except BaseException:
            if database.in_transaction:
                database.execute("rollback")
            raise
        if database.in_transaction:
            database.execute("commit")

    def buckets(self) -> list[Bucket]:
        """Return all buckets by name."""
        rows = self._database().execute(
            "select name, account, region, created from bucket order by name"
        )
        return [Bucket(name=n, account=a, region=r, created=c) for n, a, r, c in rows]

    def find_bucket(self, name: str) -> Bucket | None:
        """Return a bucket, or None."""
        row = (
            self._database()
            .execute("select name, account, region, created from bucket where name = ?", (name,))
            .fetchone()
        )
        return Bucket(name=row[0], account=row[1], region=row[2], created=row[3]) if row else None

    def find(self, bucket: str, key: str) -> Entry | None:
        """Return an object, or None."""
        row = self._database().execute(_ONE, (bucket, key)).fetchone()
        return _entry(row, bucket) if row else None

    def list_(
        self, bucket: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[Entry]:
        """Return up to `limit` objects above `after` whose keys start with `prefix`, by key."""
        if after >= prefix:
            sql, least = f"{_SOME} and key > ? order by key limit ?", after
        else:
            sql, least = f"{_SOME} and key >= ? order by key limit ?", prefix
        found = []
        for row in self._database().execute(sql, (bucket, least, limit)):
            if not row[0].startswith(prefix):
                break
            found.append(_entry(row, bucket))
        return found

    def put(self, database: sqlite3.Connection, bucket: str, entry: Entry) -> str | None:
        """Write an object inside a transaction; return the file of the one it takes the place of."""
        row = database.execute(_ONE, (bucket, entry.key)).fetchone()
        database.execute(
            "insert or replace into object values(?, ?, ?, ?, ?, ?, ?)",
            (bucket, *_values(entry.key, entry)),
        )
        return row[1] if row else None

    def remove(self, database: sqlite3.Connection, bucket: str, key: str) -> str | None:
        """Forget an object inside a transaction; return its file, or None if there was none."""
        row = database.execute(_ONE, (bucket, key)).fetchone()
        database.execute("delete from object where bucket = ? and key = ?", (bucket, key))
        return row[1] if row else None

    def find_upload(self, upload_id: str) -> Upload | None:
        """Return an upload, or None."""
        row = (
            self._database()
            .execute(
                "select id, bucket, key, created, about from upload where id = ?", (upload_id,)
            )
            .fetchone()
        )
        return _upload(row) if row else None

    def uploads(self, bucket: str) -> list[Upload]:
        """Return the uploads into a bucket that are under way."""
        rows = self._database().execute(
            "select id, bucket, key, created, about from upload where bucket = ? order by key, id",
            (bucket,),
        )
        return [_upload(row) for row in rows]

    def parts(self, upload_id: str) -> list[Entry]:
        """Return the parts of an upload by number."""
        rows = self._database().execute(
            "select number, file, size, etag, modified, about from part where upload = ? "
            "order by number",
            (upload_id,),
        )
        return [_entry((str(row[0]), *row[1:])) for row in rows]

    def put_part(
        self, database: sqlite3.Connection, upload_id: str, number: int, entry: Entry
    ) -> str | None:
        """Write a part inside a transaction; return the file it takes the place of."""
        row = database.execute(
            "select file from part where upload = ? and number = ?", (upload_id, number)
        ).fetchone()
        database.execute(
            "insert or replace into part values(?, ?, ?, ?, ?, ?, ?)",
            (upload_id, *_values(number, entry)),
        )
        return row[0] if row else None

    def known_files(self) -> set[str]:
        """Return the files of all objects and parts."""
        rows = self._database().execute("select file from object union select file from part")
        return {row[0] for row in rows}


_SOME = "select key, file, size, etag, modified, about from object where bucket = ?"
_ONE = f"{_SOME} and key = ?"


def _entry(row: tuple[Any, ...], bucket: str = "") -> Entry:
    key, file, size, etag, modified, about = row
    return Entry(
        key=key,
        file=file,
        size=size,
        etag=etag,
        modified=modified,
        about=json.loads(about),
        bucket=bucket,
    )


def _values(key: str | int, entry: Entry) -> tuple[Any, ...]:
    about = json.dumps(dict(entry.about))
    return (key, entry.file, entry.size, entry.etag, entry.modified, about)


def _upload(row: tuple[Any, ...]) -> Upload:
    return Upload(id=row[0], bucket=row[1], key=row[2], created=row[3], about=json.loads(row[4]))
