"""Records in memory: never older than the store."""

from __future__ import annotations

import threading
from pathlib import Path

from loopwright.core.clock import FixedClock
from loopwright.sagemaker.remembered import Remembered
from loopwright.store import MemoryMetadataStore, SqlMetadataStore


def opened(path: Path) -> SqlMetadataStore:
    return SqlMetadataStore(f"sqlite:///{path}", FixedClock())


def test_a_record_is_held_until_anything_is_written(tmp_path: Path) -> None:
    store, other = opened(tmp_path / "a.db"), opened(tmp_path / "a.db")
    store.create("kind", "key", {"n": 1})
    memory = Remembered(store)

    before = dict(memory.held())
    found = memory.find("kind", "key")
    held = memory.held().get(("kind", "key"))
    other.put("kind", "key", {"n": 2})
    after = dict(memory.held())

    assert before == after == {}
    assert held is found is not None
    read = memory.find("kind", "key")
    assert read is not None
    assert read.body == {"n": 2}
    other.delete("kind", "key")
    assert memory.find("kind", "key") is None
    assert dict(memory.held()) == {}
    memory.close()
    assert memory.find("kind", "key") is None


def test_a_store_that_cannot_be_watched_is_read_each_time() -> None:
    store = MemoryMetadataStore(FixedClock())
    store.create("kind", "key", {"n": 1})
    memory = Remembered(store)

    memory.find("kind", "key")
    store.put("kind", "key", {"n": 2})

    found = memory.find("kind", "key")
    assert found is not None
    assert found.body == {"n": 2}
    assert dict(memory.held()) == {}


def test_no_reader_sees_less_than_was_written_before_it_asked(tmp_path: Path) -> None:
    store = opened(tmp_path / "a.db")
    store.create("kind", "key", {"n": 0})
    memory, written, wrong = Remembered(store), [0], []
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            least = written[0]
            found = memory.find("kind", "key")
            held = memory.held().get(("kind", "key"))
            wrong.extend(each for each in (found, held) if each and each.body["n"] < least)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for each in readers:
        each.start()
    for n in range(1, 150):
        store.put("kind", "key", {"n": n})
        written[0] = n
    ended.set()
    for each in readers:
        each.join(10)

    assert wrong == []
    memory.close()
    store.close()
