"""A watched database tells of every write, by whomever."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from loopwright.core.clock import FixedClock
from loopwright.store import MemoryMetadataStore, SqlMetadataStore
from loopwright.store.watch import watch_of


def opened(path: Path) -> SqlMetadataStore:
    return SqlMetadataStore(f"sqlite:///{path}", FixedClock())


def test_the_mark_changes_with_a_write_of_any_store_and_stays_with_a_read(tmp_path: Path) -> None:
    one, two = opened(tmp_path / "a.db"), opened(tmp_path / "a.db")
    watch = watch_of(one)
    assert watch is not None

    marks = [watch.mark()]
    one.create("kind", "key", {})
    marks.append(watch.mark())
    one.get("kind", "key")
    two.list_("kind")
    marks.append(watch.mark())
    two.put("kind", "key", {"a": 1})
    marks.append(watch.mark())
    two.delete("kind", "key")
    marks.append(watch.mark())

    assert marks[1] == marks[2]
    assert len({*marks}) == 4
    assert None not in marks
    watch.close()
    one.close()
    two.close()


def test_a_write_that_is_under_way_is_not_waited_for(tmp_path: Path) -> None:
    store = opened(tmp_path / "a.db")
    watch = watch_of(store)
    assert watch is not None
    before = watch.mark()
    writer = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    writer.execute("begin immediate")

    during = watch.mark()

    assert during == before
    writer.close()
    watch.close()
    assert watch.mark() is None
    store.close()


def test_a_store_in_memory_cannot_be_watched() -> None:
    assert watch_of(MemoryMetadataStore(FixedClock())) is None
