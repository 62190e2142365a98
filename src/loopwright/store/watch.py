"""Whether anything in a database was written since, told without reading it."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from loopwright.store.metadata import MetadataStore
from loopwright.store.sql import SqlMetadataStore


class Watch:
    """Tells whether an SQLite database was written to; any thread may ask.

    It costs a few microseconds, of the same process as of others, and waits for nobody.

    Parameters
    ----------
    path
        The file of the database.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        # a lock that another process holds is no reason to wait
        self._connection = sqlite3.connect(
            path, timeout=0.0, isolation_level=None, check_same_thread=False
        )

    def mark(self) -> int | None:
        """Return a number that is another one after every write; None if it cannot be told now."""
        with self._lock:
            try:
                row = self._connection.execute("pragma data_version").fetchone()
            except sqlite3.Error:
                return None
        return int(row[0])

    def close(self) -> None:
        """Give the connection back."""
        with self._lock:
            self._connection.close()


def watch_of(store: MetadataStore) -> Watch | None:
    """Return what tells of writes to a store; None of one that cannot be watched so cheaply."""
    path = store.sqlite_path if isinstance(store, SqlMetadataStore) else None
    return Watch(path) if path else None
