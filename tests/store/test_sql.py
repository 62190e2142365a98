"""The database store keeps its promises between processes, also when one is killed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from loopwright.core.clock import SystemClock
from loopwright.core.errors import BackendError, WrongStateError
from loopwright.store import SqlMetadataStore, database

# one process imports, then forks, since importing SQLAlchemy costs more than the test
PREAMBLE = """
import os, sys, time
import psycopg
import sqlalchemy.dialects.sqlite, sqlalchemy.dialects.postgresql.psycopg
import loopwright.store.schema
from loopwright.core.clock import SystemClock
from loopwright.store import SqlMetadataStore
def opened():
    return SqlMetadataStore(sys.argv[1], SystemClock())
def in_processes(n, work):
    children = []
    for number in range(n):
        if (pid := os.fork()) == 0:
            code = 1
            try:
                work(number)
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    sys.exit(max(os.waitpid(pid, 0)[1] for pid in children) and 1)
"""


def start(script: str, url: str) -> subprocess.Popen[str]:
    code = PREAMBLE + textwrap.dedent(script)
    return subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def store(url: str) -> Iterator[SqlMetadataStore]:
    with closing(SqlMetadataStore(url, SystemClock())) as store:
        yield store


def test_eight_processes_open_a_fresh_database_at_once_and_lose_no_event(url: str) -> None:
    script = """
        def work(number):
            store = opened()
            for n in range(40):
                store.append("s", "tick", {"writer": number, "n": n})
        in_processes(8, work)
    """

    with start(script, url) as process:
        process.wait()

    with closing(SqlMetadataStore(url, SystemClock())) as store:
        events = store.list_events("s")
    assert process.returncode == 0
    assert len({event.seq for event in events}) == 8 * 40
    for writer in range(8):
        written = [event.body["n"] for event in events if event.body["writer"] == writer]
        assert written == list(range(40))


def test_a_reader_that_follows_writers_misses_nothing(store: SqlMetadataStore, url: str) -> None:
    script = """
        def work(number):
            store = opened()
            for n in range(30):
                with store.transaction():
                    store.append("s", "tick", {})
                    time.sleep(0.001 * number)
                    store.append("s", "tick", {})
        in_processes(4, work)
    """
    seen: list[int] = []

    with start(script, url) as process:
        ended = False
        while not ended:
            ended = process.poll() is not None
            seen += [e.seq for e in store.list_events("s", after=seen[-1] if seen else 0)]

    assert process.returncode == 0
    assert len(seen) == 4 * 30 * 2


def test_transactions_of_processes_take_turns(store: SqlMetadataStore, url: str) -> None:
    store.create("counter", "n", {"n": 0})
    script = """
        def work(number):
            store = opened()
            for _ in range(25):
                with store.transaction():
                    record = store.get("counter", "n")
                    store.replace(record, {"n": record.body["n"] + 1})
        in_processes(4, work)
    """

    with start(script, url) as process:
        process.wait()

    assert process.returncode == 0
    assert store.get("counter", "n").body == {"n": 100}


def test_a_writer_killed_inside_a_transaction_leaves_nothing_and_holds_up_nobody(
    store: SqlMetadataStore, url: str
) -> None:
    script = """
        store = opened()
        with store.transaction():
            for n in range(100):
                store.put("loop", f"{n}", {})
                store.append("s", "tick", {})
            print("inside", flush=True)
            time.sleep(60)
    """
    with start(script, url) as process:
        assert process.stdout is not None
        process.stdout.readline()

        process.kill()

    assert store.list_("loop") == []
    assert store.list_events("s") == []
    store.create("loop", "next", {})


def test_a_writer_killed_at_any_moment_leaves_whole_transactions(
    store: SqlMetadataStore, url: str
) -> None:
    script = """
        store = opened()
        for n in range(1_000_000):
            with store.transaction():
                store.put("pair", "left", {"n": n})
                store.put("pair", "right", {"n": n})
            if n == 20:
                print("writing", flush=True)
    """
    with start(script, url) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(5):
            store.find("pair", "left")

        process.kill()

    assert store.get("pair", "left").body == store.get("pair", "right").body


def test_a_reader_does_not_wait_for_a_writer(store: SqlMetadataStore) -> None:
    store.create("loop", "houses", {"round": 1})
    written, read = threading.Event(), threading.Event()

    def write() -> None:
        with store.transaction():
            store.put("loop", "houses", {"round": 2})
            written.set()
            read.wait(20)

    thread = threading.Thread(target=write)
    thread.start()
    written.wait(20)
    seen = store.get("loop", "houses").body
    was_held = thread.is_alive()
    read.set()
    thread.join()

    assert was_held
    assert seen == {"round": 1}
    assert store.get("loop", "houses").body == {"round": 2}


def test_a_writer_that_waits_too_long_is_told_to_try_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_S", 0.1)
    with closing(SqlMetadataStore(url, SystemClock())) as store:
        failures: list[BackendError] = []

        def write() -> None:
            try:
                store.put("loop", "houses", {})
            except BackendError as error:
                failures.append(error)

        with store.transaction():
            thread = threading.Thread(target=write)
            thread.start()
            thread.join()

    assert [failure.retryable for failure in failures] == [True]
    assert "try again" in str(failures[0])


def test_a_forked_process_must_open_its_own_store(store: SqlMetadataStore, url: str) -> None:
    script = """
        from loopwright.core.errors import WrongStateError
        store = opened()
        def work(number):
            try:
                store.list_("loop")
            except WrongStateError as error:
                print(error, flush=True)
        in_processes(1, work)
    """

    with start(script, url) as process:
        said, _ = process.communicate()

    assert "Open a store of its own in every process" in said


def test_a_relative_path_means_the_folder_it_was_opened_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with closing(SqlMetadataStore("sqlite:///store.db", SystemClock())) as store:
        monkeypatch.chdir(tmp_path / "elsewhere")
        store.create("loop", "houses", {})
        found: list[int] = []

        def count() -> None:
            found.append(len(store.list_("loop")))

        # the transaction holds the first connection, so the thread needs another
        with store.transaction():
            thread = threading.Thread(target=count)
            thread.start()
            thread.join()

    assert found == [1]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_closed_store_refuses(store: SqlMetadataStore) -> None:
    store.close()

    with pytest.raises(WrongStateError, match="closed"):
        store.list_("loop")
