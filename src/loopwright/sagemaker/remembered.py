"""Records that are read for every request, held in memory until anything in their store is written."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from loopwright.store import MetadataStore, Record
from loopwright.store.watch import watch_of

_MOST = 4096


class Remembered:
    """Records of a store by kind and key; any thread may ask.

    What is told is what the store holds at that moment, whichever process wrote it: the store is
    asked for its number of writes, and everything is forgotten when that has changed. A store that
    cannot be asked so is read each time.

    Parameters
    ----------
    store
        Where the records are.
    """

    def __init__(self, store: MetadataStore) -> None:
        self._store = store
        self._watch = watch_of(store)
        self._lock = threading.Lock()
        self._mark: int | None = None
        self._known: dict[tuple[str, str], Record] = {}

    def find(self, kind: str, key: str) -> Record | None:
        """Return a record, or None; the store is read where memory does not know."""
        mark = self._current()
        place = (kind, key)
        with self._lock:
            if mark is not None and mark == self._mark and place in self._known:
                return self._known[place]
        # after the mark: what is written meanwhile is read now, or again
        found = self._store.find(kind, key)
        with self._lock:
            if found and mark is not None and mark == self._mark and len(self._known) < _MOST:
                self._known[place] = found
        return found

    def held(self) -> Mapping[tuple[str, str], Record]:
        """Return the records that memory knows and that are true now, without reading the store."""
        mark = self._current()
        with self._lock:
            return self._known if mark is not None and mark == self._mark else {}

    def close(self) -> None:
        """Ask the store no more."""
        if self._watch is not None:
            self._watch.close()

    def _current(self) -> int | None:
        """Return the number of writes, having forgotten all that is older."""
        if self._watch is None:
            return None
        with self._lock:
            mark = self._watch.mark()
            if mark is not None and mark != self._mark:
                self._known, self._mark = {}, mark
            return mark
