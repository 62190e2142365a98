"""Stores that live in this process only: for tests, and for looking without keeping."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from loopwright.core.clock import Clock
from loopwright.core.digest import digest_bytes
from loopwright.core.files import write_atomically
from loopwright.store.artifact import checked_digest, missing, unreadable
from loopwright.store.metadata import (
    Event,
    Record,
    already_exists,
    checked_key,
    checked_limit,
    json_copy,
    not_found,
    stale,
)


class MemoryMetadataStore:
    """A `MetadataStore` in this process's memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._records: dict[tuple[str, str], Record] = {}
        self._events: list[Event] = []

    def create(self, kind: str, key: str, body: dict[str, Any]) -> Record:
        """Store a new record; `AlreadyExistsError` if the key is taken."""
        with self._lock:
            if self.find(kind, key):
                raise already_exists(kind, key)
            return self.put(kind, key, body)

    def get(self, kind: str, key: str) -> Record:
        """Return a record; `NotFoundError` with the nearest key if there is none."""
        with self._lock:
            record = self.find(kind, key)
            if record is None:
                keys = [known for of_kind, known in self._records if of_kind == kind]
                raise not_found(kind, key, keys)
            return record

    def find(self, kind: str, key: str) -> Record | None:
        """Return a record, or None if there is none."""
        place = (checked_key(kind, field="kind"), checked_key(key, field="key"))
        with self._lock:
            record = self._records.get(place)
        return replace(record, body=copy.deepcopy(record.body)) if record else None

    def list_(
        self, kind: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[Record]:
        """Return up to `limit` records (1 to 10,000) by key, those above `after` that start so."""
        checked_key(kind, field="kind")
        checked_limit(limit)
        with self._lock:
            chosen = sorted(
                key
                for of_kind, key in self._records
                if of_kind == kind and key.startswith(prefix) and key > after
            )
            return [self.get(kind, key) for key in chosen[:limit]]

    def replace(self, record: Record, body: dict[str, Any]) -> Record:
        """Store the next version of a record; `WrongStateError` if it has changed since."""
        with self._lock:
            present = self.get(record.kind, record.key)
            if (present.version, present.created_at) != (record.version, record.created_at):
                raise stale(record, present)
            return self.put(record.kind, record.key, body)

    def put(self, kind: str, key: str, body: dict[str, Any]) -> Record:
        """Create the record or overwrite it, whatever it held."""
        kept = json_copy(body, what=f"{kind} {key!r}")
        with self._lock:
            now = self._clock.now()
            old = self.find(kind, key)
            record = Record(
                kind=kind,
                key=key,
                version=old.version + 1 if old else 1,
                body=kept,
                created_at=old.created_at if old else now,
                updated_at=now,
            )
            self._records[kind, key] = record
        return replace(record, body=copy.deepcopy(kept))

    def delete(self, kind: str, key: str) -> None:
        """Forget a record; nothing happens if there is none."""
        place = (checked_key(kind, field="kind"), checked_key(key, field="key"))
        with self._lock:
            self._records.pop(place, None)

    def append(self, stream: str, kind: str, body: dict[str, Any]) -> Event:
        """Add an event to the end of a stream."""
        checked_key(stream, field="stream")
        checked_key(kind, field="kind")
        kept = json_copy(body, what=f"a {kind} event")
        with self._lock:
            event = Event(
                seq=len(self._events) + 1,
                stream=stream,
                kind=kind,
                body=kept,
                at=self._clock.now(),
            )
            self._events.append(event)
        return replace(event, body=copy.deepcopy(kept))

    def list_events(self, stream: str, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Return up to `limit` events (1 to 10,000) of a stream with `seq` above `after`."""
        checked_key(stream, field="stream")
        checked_limit(limit)
        with self._lock:
            # the event with `seq` n lies at index n - 1
            chosen = [event for event in self._events[max(after, 0) :] if event.stream == stream]
        return [replace(event, body=copy.deepcopy(event.body)) for event in chosen[:limit]]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep everything inside, or, on an exception, nothing."""
        with self._lock:
            records, n_events = dict(self._records), len(self._events)
            try:
                yield
            except BaseException:
                self._records = records
                del self._events[n_events:]
                raise

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""


class MemoryArtifactStore:
    """An `ArtifactStore` in this process's memory; `folder` receives files on request."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._objects: dict[str, bytes] = {}

    def put_bytes(self, data: bytes) -> str:
        """Keep some bytes; return their digest."""
        digest = digest_bytes(data)
        self._objects[digest] = bytes(data)
        return digest

    def put_file(self, path: Path) -> str:
        """Keep a file's bytes; return their digest."""
        try:
            return self.put_bytes(path.read_bytes())
        except OSError as cause:
            raise unreadable(path, cause) from cause

    def get_bytes(self, digest: str) -> bytes:
        """Return the bytes of a digest."""
        try:
            return self._objects[checked_digest(digest)]
        except KeyError:
            raise missing(digest, where="this process's memory") from None

    def local_path(self, digest: str) -> Path:
        """Return a read-only file with the bytes of a digest."""
        data = self.get_bytes(digest)
        path = self._folder / digest.removeprefix("sha256:")
        if not path.exists():
            write_atomically(path, data)
            path.chmod(0o444)
        return path

    def has(self, digest: str) -> bool:
        """Tell whether the bytes of a digest are kept."""
        return checked_digest(digest) in self._objects

    def delete(self, digest: str) -> None:
        """Forget the bytes of a digest; nothing happens if there are none."""
        self._objects.pop(checked_digest(digest), None)
        (self._folder / digest.removeprefix("sha256:")).unlink(missing_ok=True)
