"""Rows are read when it is time, once for everybody, and later after failures."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from loopwright.core.clock import FixedClock
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.data.file import OpenedFiles
from loopwright.loop import Store, Workspace, next_refresh, refresh_due_rows, watch_rows
from loopwright.loop.file import ReadFile, read_loop_file
from loopwright.loop.schedule import backoff_s
from loopwright.settings import Settings, read_settings
from loopwright.wiring import find_workspace, open_workspace

LOOP = """\
name: shop
problem: {target: price, criteria: [{metric: mape, at_most: 0.5}]}
data:
  source: {kind: file, path: sales.csv}
  refresh: {every: 2 hours}
"""


class WaitedEnoughError(Exception):
    """The watcher has waited long enough."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = pl.DataFrame({"price": [float(n) + 0.5 for n in range(50)], "size": range(50)})
    rows.write_csv(tmp_path / "sales.csv")
    (tmp_path / "loop.yaml").write_text(LOOP)
    return tmp_path / "loop.yaml"


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def store(tmp_path: Path, clock: FixedClock) -> Store:
    settings: Settings = read_settings({}, home=tmp_path / "home")

    def found() -> Workspace | None:
        workspace = find_workspace(settings)
        return None if workspace is None else replace(workspace, clock=clock)

    return Store(
        home=tmp_path / "home",
        find_workspace=found,
        open_workspace=lambda: replace(open_workspace(settings), clock=clock),
    )


@pytest.fixture
def read(file: Path, store: Store) -> ReadFile:
    # the first reading opens the store, whose clock the others go by
    store.open_workspace()
    return read_loop_file(file)


def test_rows_are_read_when_the_interval_is_over_and_not_before(
    read: ReadFile, store: Store, clock: FixedClock
):
    states = []
    for hours in (0, 1, 0.9, 0.2, 0.1):
        clock.advance(hours=hours)
        states.append(refresh_due_rows(read, store, clock=clock).state)

    assert states == ["new rows", "not due", "not due", "nothing new", "not due"]
    said = refresh_due_rows(read, store, clock=clock).message
    assert "younger than 2 hours" in said
    assert "due at 2026-01-01 04:06:00 UTC; --now reads at once" in said


def test_a_loop_without_an_interval_is_always_due(file: Path, store: Store, clock: FixedClock):
    file.write_text(LOOP.replace("  refresh: {every: 2 hours}\n", ""))
    store.open_workspace()

    states = [refresh_due_rows(read_loop_file(file), store, clock=clock).state for _ in range(2)]

    assert states == ["new rows", "nothing new"]


def test_another_source_is_due_at_once(file: Path, read: ReadFile, store: Store, clock: FixedClock):
    refresh_due_rows(read, store, clock=clock)
    (file.parent / "other.csv").write_bytes((file.parent / "sales.csv").read_bytes())
    file.write_text(LOOP.replace("sales.csv", "other.csv"))

    other = read_loop_file(file)

    workspace = store.find_workspace()
    assert workspace is not None
    assert next_refresh(other, workspace.metadata) is None


def test_failures_put_the_next_reading_off_and_a_good_one_forgets_them(
    read: ReadFile, store: Store, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
):
    refresh_due_rows(read, store, clock=clock)
    clock.advance(hours=2)
    workspace = store.find_workspace()
    assert workspace is not None
    waits = []

    def broken(source: OpenedFiles) -> Iterator[pl.DataFrame]:
        raise BackendError("The disk is on fire.")

    with monkeypatch.context() as patched:
        patched.setattr(OpenedFiles, "batches", broken)
        for _ in range(3):
            with pytest.raises(BackendError, match="on fire"):
                refresh_due_rows(read, store, clock=clock)
            due = next_refresh(read, workspace.metadata)
            assert due is not None
            waits.append((due - clock.now()).total_seconds())
            said = refresh_due_rows(read, store, clock=clock)
            assert said.state == "not due"
            clock.at = due
    refreshed = refresh_due_rows(read, store, clock=clock)

    assert waits == [60, 120, 240]
    assert "failed 3 times in a row: The disk is on fire." in said.message
    assert refreshed.state == "nothing new"
    assert next_refresh(read, workspace.metadata) == clock.now() + timedelta(hours=2)


def test_the_pause_after_failures_has_an_end():
    assert [backoff_s(n, 86_400.0) for n in (1, 2, 7, 5_000)] == [60, 120, 3_600, 3_600]
    assert backoff_s(9, 30.0) == 30


def test_a_watcher_reads_tells_when_it_will_again_and_goes_on_after_a_failure(
    file: Path, read: ReadFile, store: Store, clock: FixedClock
):
    told: list[str] = []
    n_waits = 0

    def wait(s: float) -> None:
        nonlocal n_waits
        n_waits += 1
        clock.advance(seconds=s)
        if n_waits == 3:
            file.write_text(LOOP.replace("sales.csv", "gone.csv"))
        if n_waits == 20:
            file.write_text(LOOP)
        if n_waits > 300:
            raise WaitedEnoughError

    with pytest.raises(WaitedEnoughError):
        watch_rows(file, store, tell=told.append, clock=clock, wait=wait)

    assert told[0] == "shop: new rows. 50 rows."
    assert told[1] == "The next refresh is due at 2026-01-01 02:00:00 UTC."
    assert any("gone.csv" in line for line in told)
    assert any(line.startswith("shop: nothing new.") for line in told)


def test_a_watcher_needs_an_interval(file: Path, store: Store):
    file.write_text(LOOP.replace("  refresh: {every: 2 hours}\n", ""))

    with pytest.raises(InvalidInputError, match=r"how often.*every: 1 day"):
        watch_rows(file, store, tell=print)


def _watch(file: Path, home: Path, said: Path) -> None:
    settings = read_settings({}, home=home)
    store = Store(
        home=home,
        find_workspace=lambda: find_workspace(settings),
        open_workspace=lambda: open_workspace(settings),
    )

    def tell(line: str) -> None:
        with said.open("a") as lines:
            lines.write(line + "\n")
        if line.startswith("The next") and said.name.endswith("killed"):
            os.kill(os.getpid(), signal.SIGKILL)

    def wait(s: float) -> None:
        raise SystemExit

    watch_rows(file, store, tell=tell, wait=wait)


def test_two_watchers_read_once_and_a_killed_one_leaves_its_schedule(file: Path, tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    home = tmp_path / "home"
    open_workspace(read_settings({}, home=home))

    def watched(*names: str) -> list[str]:
        watchers = [
            context.Process(target=_watch, args=(file, home, tmp_path / name)) for name in names
        ]
        for watcher in watchers:
            watcher.start()
        for watcher in watchers:
            watcher.join()
        return [line for name in names for line in (tmp_path / name).read_text().splitlines()]

    both = watched("first-killed", "second-killed")
    later = watched("third")

    assert sum("new rows" in line for line in both) == 1
    assert len({line for line in [*both, *later] if line.startswith("The next")}) == 1
    assert not any("new rows" in line or "nothing new" in line for line in later)
