"""A reading that breaks off is gone on with, and ends as one that never broke."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from loopwright.core.clock import FixedClock
from loopwright.core.errors import BackendError
from loopwright.data import Snapshot, SqlSource, open_source, staged_part, staging, take_snapshot
from loopwright.data.database import OpenedQuery
from loopwright.data.resumable import sorted_by
from loopwright.data.room import enough_room
from loopwright.data.staging import staged
from loopwright.store.memory import MemoryArtifactStore

N_ROWS = 120_000


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staged_part, "_PART_BYTES", 1 << 18)


@pytest.fixture(scope="module")
def engine(postgres_url: str) -> Iterator[sa.Engine]:
    url = sa.make_url(postgres_url).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS paid")
        connection.exec_driver_sql(
            "CREATE TABLE paid AS SELECT 'é' || i %% 7 AS shop, i, i / 3.0 AS amount "
            f"FROM generate_series(1, {N_ROWS}) AS i"
        )
        connection.exec_driver_sql("ALTER TABLE paid ADD PRIMARY KEY (shop, i)")
    yield engine
    engine.dispose()


def take(source: Any, folder: Path, *, keep: bool = True) -> Snapshot:
    return take_snapshot(
        source,
        artifacts=MemoryArtifactStore(folder / "artifacts"),
        clock=FixedClock(),
        folder=folder,
        keep=folder / "keep" if keep else None,
    )


def cut_off(engine: sa.Engine) -> int:
    """End every other connection, as an administrator or a crash of the server would."""
    with engine.connect() as connection:
        return len(
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND query LIKE 'COPY%%'"
            ).all()
        )


def breaking(
    monkeypatch: pytest.MonkeyPatch, then: Callable[[int], object]
) -> list[tuple[int, int]]:
    """Call something after every batch; note which rows each batch began and ended with."""
    batches, seen = OpenedQuery.batches, []

    def watched(source: OpenedQuery) -> Iterator[pl.DataFrame]:
        for batch in batches(source):
            seen.append((batch["i"][0], batch.height))
            yield batch
            then(len(seen))

    monkeypatch.setattr(OpenedQuery, "batches", watched)
    return seen


@pytest.mark.postgres
@pytest.mark.parametrize("what", ["table", "query"])
def test_a_connection_cut_in_the_middle_ends_in_the_same_snapshot(
    postgres_url: str,
    engine: sa.Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
):
    given = (
        {"table": "paid"} if what == "table" else {"query": "SELECT * FROM paid ORDER BY shop, i"}
    )
    source = open_source(SqlSource(url=postgres_url, **given), Path())
    monkeypatch.setattr(staging, "WAITS_S", (0.0, 0.0, 0.0))
    whole = take(source, tmp_path)

    seen = breaking(monkeypatch, lambda n: cut_off(engine) if n == 2 else None)
    broken = take(source, tmp_path)

    assert broken.digest == whole.digest
    n_read = sum(height for _, height in seen)
    # without an order all is read again; with one, nothing is but what a lost connection held back
    assert n_read == N_ROWS if what == "table" else n_read > N_ROWS
    assert not (tmp_path / "keep").exists()


@pytest.mark.postgres
@pytest.mark.parametrize("cursor", ["hundred", "at"])
def test_a_query_with_a_cursor_is_read_on_from_the_last_value_that_is_there_in_full(
    postgres_url: str,
    engine: sa.Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cursor: str,
):
    query = (
        "SELECT i, CASE WHEN i > 50 THEN i / 100 END AS hundred, "
        "timestamptz '2026-01-01' + i / 70 * interval '1 ms' AS at FROM paid"
    )
    given = open_source(SqlSource(url=postgres_url, query=query), Path())
    source = sorted_by(given, cursor, ["i"])
    monkeypatch.setattr(staging, "WAITS_S", (0.0, 0.0, 0.0))
    whole = take(source, tmp_path)

    seen = breaking(monkeypatch, lambda n: cut_off(engine) if n == 2 else None)
    broken = take(source, tmp_path)

    assert broken.digest == whole.digest
    n_read = sum(height for _, height in seen)
    # only the rows that share the last value come a second time
    assert len(seen) > 2
    assert N_ROWS < n_read <= N_ROWS + 150


@pytest.mark.postgres
def test_a_cursor_of_rounded_numbers_is_no_place_to_go_on_from(
    postgres_url: str, engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given = open_source(SqlSource(url=postgres_url, query="SELECT i, amount FROM paid"), Path())
    source = sorted_by(given, "amount")
    monkeypatch.setattr(staging, "WAITS_S", (0.0, 0.0, 0.0))
    whole = take(source, tmp_path)

    seen = breaking(monkeypatch, lambda n: cut_off(engine) if n == 2 else None)

    assert take(source, tmp_path).digest == whole.digest
    assert sum(height for _, height in seen) >= N_ROWS + seen[0][1]


@pytest.mark.postgres
def test_a_cursor_that_is_no_column_and_a_table_with_a_key_keep_their_order(
    postgres_url: str, engine: sa.Engine
):
    query = open_source(SqlSource(url=postgres_url, query="SELECT i FROM paid"), Path())
    table = open_source(SqlSource(url=postgres_url, table="paid"), Path())

    assert sorted_by(query, "no such column") is query
    assert sorted_by(table, "i") is table
    assert sorted_by(query, None) is query


KILLED = """
import os, signal, sys
from pathlib import Path
from loopwright.data import staged_part
from loopwright.data.database import OpenedQuery
staged_part._PART_BYTES = 1 << 18
batches = OpenedQuery.batches
def dying(source):
    for number, batch in enumerate(batches(source)):
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch
OpenedQuery.batches = dying
from loopwright.core.clock import FixedClock
from loopwright.data import SqlSource, open_source, take_snapshot
from loopwright.store.memory import MemoryArtifactStore
folder = Path({folder!r})
take_snapshot(open_source(SqlSource(url={url!r}, table="paid"), Path()),
    artifacts=MemoryArtifactStore(folder / "artifacts"), clock=FixedClock(), folder=folder,
    keep=folder / "keep")
"""


@pytest.mark.postgres
def test_a_killed_process_leaves_parts_that_the_next_one_goes_on_from(
    postgres_url: str, engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    code = KILLED.format(folder=str(tmp_path), url=postgres_url)

    died = subprocess.run([sys.executable, "-c", code], check=False)
    left = sorted(path.name for path in (tmp_path / "keep").iterdir())
    n_left = sum(
        pl.scan_parquet(path).select(pl.len()).collect().item()
        for path in (tmp_path / "keep").glob("part-*.parquet")
    )
    seen = breaking(monkeypatch, lambda _: None)
    source = open_source(SqlSource(url=postgres_url, table="paid"), Path())
    resumed = take(source, tmp_path)

    assert died.returncode == -signal.SIGKILL
    assert "begun.json" in left
    assert 0 < n_left < N_ROWS
    assert sum(height for _, height in seen) == N_ROWS - n_left
    assert not (tmp_path / "keep").exists()
    assert resumed.digest == take(source, tmp_path, keep=False).digest


@pytest.mark.postgres
def test_parts_of_another_reading_or_of_long_ago_are_not_gone_on_with(
    postgres_url: str, engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = open_source(SqlSource(url=postgres_url, table="paid"), Path())
    keep = tmp_path / "keep"

    def stop(n: int) -> None:
        if n == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        breaking(patched, stop)
        with pytest.raises(KeyboardInterrupt):
            take(source, tmp_path)
    begun = (keep / "begun.json").read_bytes()
    old = begun.replace(b'"begun_at":', b'"begun_at":-')
    for content in (old, begun.replace(b'["shop","i"]', b'["i","shop"]'), b"{half"):
        (keep / "begun.json").write_bytes(content)
        with monkeypatch.context() as patched:
            seen = breaking(patched, stop)
            with pytest.raises(KeyboardInterrupt):
                take(source, tmp_path)
        assert seen[0][0] == 7  # the first row of the order: shop é0

    seen = breaking(monkeypatch, lambda _: None)
    take(source, tmp_path)
    assert seen[0][0] != 7


@pytest.mark.postgres
def test_a_database_that_goes_away_for_good_is_told_and_what_came_waits_for_it(
    postgres_url: str, engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def allow(is_open: bool) -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"ALTER DATABASE doomed ALLOW_CONNECTIONS {is_open}")

    def doom(n: int) -> None:
        if n == 2:
            allow(False)
            cut_off(engine)

    with engine.connect() as connection:
        connection.exec_driver_sql("DROP DATABASE IF EXISTS doomed")
        connection.exec_driver_sql("CREATE DATABASE doomed")
    url = sa.make_url(postgres_url).set(database="doomed").render_as_string(hide_password=False)
    there = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    with there.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE paid AS SELECT i, repeat('x', 300) AS note "
            f"FROM generate_series(1, {N_ROWS}) AS i"
        )
        connection.exec_driver_sql("ALTER TABLE paid ADD PRIMARY KEY (i)")
    there.dispose()
    source = open_source(SqlSource(url=url, table="paid"), Path())
    monkeypatch.setattr(staging, "WAITS_S", (0.0, 0.0, 0.0))

    with monkeypatch.context() as patched:
        breaking(patched, doom)
        with pytest.raises(BackendError, match=r"doomed.*cannot be reached.*tried 4 times") as told:
            take(source, tmp_path)
    allow(True)
    seen = breaking(monkeypatch, lambda _: None)
    whole = take(source, tmp_path)

    assert told.value.retryable
    assert whole.n_rows == N_ROWS
    assert seen[0][0] > 1


class Flaky:
    """Rows that break off again and again, as a server does that does not come back."""

    def __init__(self, *, breaks: int) -> None:
        self.breaks = breaks

    def describe(self) -> str:
        return "flaky rows"

    def batches(self) -> Iterator[pl.DataFrame]:
        yield pl.DataFrame({"n": [1, 2]})
        if self.breaks:
            self.breaks -= 1
            raise BackendError("The server is gone.", hint="Start it.", retryable=True)
        yield pl.DataFrame({"n": [3]})


def test_a_source_without_an_order_is_read_anew_after_a_pause(tmp_path: Path):
    waits: list[float] = []

    with staged(Flaky(breaks=3), tmp_path, wait=waits.append) as rows:  # type: ignore[arg-type]
        assert rows is not None
        assert rows.collect()["n"].to_list() == [1, 2, 3]

    assert waits == list(staging.WAITS_S)


def test_a_server_that_stays_away_is_given_up_with_its_own_words(tmp_path: Path):
    waits: list[float] = []

    with (
        pytest.raises(BackendError, match=r"The server is gone. It was tried 4 times. Start it."),
        staged(Flaky(breaks=9), tmp_path, wait=waits.append),  # type: ignore[arg-type]
    ):
        pytest.fail("there are no rows to give")

    assert len(waits) == 3


def test_two_processes_never_write_into_one_folder(tmp_path: Path):
    with staging._locked(tmp_path / "keep") as first, staging._locked(tmp_path / "keep") as second:
        assert (first, second) == (True, False)


@contextmanager
def limited(n_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.postgres
def test_a_file_that_may_not_grow_is_told_with_its_folder_and_leaves_nothing(
    postgres_url: str, engine: sa.Engine, tmp_path: Path
):
    source = open_source(SqlSource(url=postgres_url, table="paid"), Path())

    with (
        limited(1 << 17),
        pytest.raises(BackendError, match=r"no room to write in .*MiB are left") as caught,
    ):
        take(source, tmp_path)

    assert not caught.value.retryable
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert take(source, tmp_path).n_rows == N_ROWS


@pytest.mark.postgres
def test_a_full_disk_in_the_middle_leaves_nothing_and_the_next_reading_works(
    postgres_url: str, engine: sa.Engine, tmp_path: Path
):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(disk)]
    if os.getuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        source = open_source(SqlSource(url=postgres_url, table="paid"), Path())
        with pytest.raises(BackendError, match=rf"no room to write in {disk}.*Free some room"):
            take(source, disk)
        assert [path for path in disk.rglob("*") if path.is_file()] == []

        subprocess.run(["mount", "-o", "remount,size=40m", str(disk)], check=True)
        assert take(source, disk).n_rows == N_ROWS
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_error_that_is_not_about_room_stays_what_it_is(tmp_path: Path):
    with pytest.raises(PermissionError), enough_room(tmp_path):
        raise PermissionError(errno.EACCES, "no")


class Broken:
    """A table in the order of its key that breaks off after so many batches, once each."""

    def __init__(self, rows: pl.DataFrame, breaks_after: list[int]) -> None:
        self._rows = rows
        self._breaks_after = breaks_after

    def describe(self) -> str:
        return "table"

    def fingerprint(self) -> None:
        return

    def identity(self) -> str:
        return "table"

    def schema(self) -> dict[str, pl.DataType]:
        return dict(self._rows.schema)

    def check(self, target: str | None = None) -> None:
        """Say nothing against it."""

    def order(self) -> tuple[str, ...]:
        return ("i",)

    def after(self, row: dict[str, Any]) -> Broken:
        return Broken(self._rows.filter(pl.col("i") > row["i"]), self._breaks_after)

    def batches(self) -> Iterator[pl.DataFrame]:
        last = self._breaks_after.pop(0) if self._breaks_after else -1
        for number, start in enumerate(range(0, self._rows.height, 30_000)):
            if number == last:
                raise BackendError("It broke off.", retryable=True)
            yield self._rows[start : start + 30_000]


def test_rows_that_come_after_a_break_join_the_row_group_that_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(staged_part, "_PART_BYTES", 64 << 20)
    monkeypatch.setattr(staging, "WAITS_S", (0.0,))
    rows = pl.DataFrame({"i": range(250_000)}).with_columns(x=pl.col("i") / 3)
    whole = take(Broken(rows, []), tmp_path)
    # in one go, and gone on with by a later process, which finds a group that is not whole
    with staging.staged_parts(Broken(rows, [2, 1, 4]), tmp_path) as parts:  # type: ignore[arg-type]
        heights = [pl.read_parquet(path).height for path in parts]
    for part in tmp_path.glob("part-*"):
        part.unlink()
    with pytest.raises(BackendError):
        take(Broken(rows, [5, 0, 0]), tmp_path)
    left = [pl.read_parquet(path).height for path in sorted((tmp_path / "keep").glob("part-*"))]
    broken = take(Broken(rows, []), tmp_path)

    assert heights == [100_000, 100_000, 50_000]
    assert left == [100_000, 50_000]
    assert broken.digest == whole.digest
