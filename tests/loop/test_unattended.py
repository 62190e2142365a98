"""A loop that nobody watches does what is due, notes how it went, and lets no failure stop it."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from loopwright.compute import Capacity
from loopwright.core.clock import FixedClock
from loopwright.core.errors import BackendError, InvalidInputError, WrongStateError
from loopwright.loop.alarm import list_alarms
from loopwright.loop.file import ReadFile, read_loop_file
from loopwright.loop.lineage import refresh_rows
from loopwright.loop.schedule import Store
from loopwright.loop.timetable import find_slot
from loopwright.loop.unattended import Help, attend, note_crash, told_look, wakes_at, watch_loop
from loopwright.loop.workspace import Workspace
from loopwright.settings import read_settings
from loopwright.wiring import open_workspace

LOOP = """\
name: shop
problem: {target: price, criteria: [{metric: mape, at_most: 0.5}]}
data:
  source: {kind: file, path: sales.csv}
  refresh: {every: 1 day}
monitor: {every: 6 hours, alarms: [{kind: command, run: [sh, -c, "cat >> told"]}]}
"""


class WaitedEnoughError(Exception):
    """The watcher has waited long enough."""


class Work:
    """The tasks of a loop, as they might go; counts how often each was done."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.failing: dict[str, Exception] = {}

    def look(self, _read: ReadFile, _given: Help) -> str:
        return self._do("look")

    def refresh(self, read: ReadFile, given: Help) -> str:
        told = self._do("refresh")
        refresh_rows(
            read,
            home=given.store.home,
            find_workspace=given.store.find_workspace,
            open_workspace=given.store.open_workspace,
        )
        return told

    def _do(self, task: str) -> str:
        self.done.append(task)
        if task in self.failing:
            raise self.failing[task]
        return "fine"


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def read(tmp_path: Path) -> ReadFile:
    rows = pl.DataFrame({"price": [float(n) + 0.5 for n in range(50)], "size": range(50)})
    rows.write_csv(tmp_path / "sales.csv")
    (tmp_path / "loop.yaml").write_text(LOOP)
    return read_loop_file(tmp_path / "loop.yaml")


@pytest.fixture
def workspace(tmp_path: Path, clock: FixedClock, read: ReadFile) -> Workspace:
    workspace = open_workspace(read_settings({}, home=tmp_path / "home"), clock=clock)
    refresh_rows(
        read,
        home=workspace.home,
        find_workspace=lambda: workspace,
        open_workspace=lambda: workspace,
    )
    return workspace


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def given(workspace: Workspace, clock: FixedClock, work: Work) -> Help:
    return Help(
        store=Store(
            home=workspace.home,
            find_workspace=lambda: workspace,
            open_workspace=lambda: workspace,
        ),
        capacity=Capacity(cpus=1, memory_mib=1_000),
        on_news=lambda _news: None,
        clock=clock,
        environ={"PATH": os.environ["PATH"]},
        work={"look": work.look, "refresh": work.refresh},
    )


def _days(read: ReadFile, given: Help, clock: FixedClock, days: float, *, hours: float = 1) -> None:
    for _ in range(round(days * 24 / hours)):
        clock.advance(hours=hours)
        attend(read, given)


def test_every_task_is_done_on_its_own_interval(
    read: ReadFile, given: Help, work: Work, clock: FixedClock
) -> None:
    _days(read, given, clock, 5)

    assert work.done.count("look") == 20
    assert work.done.count("refresh") == 5


def test_nothing_is_done_twice_and_it_is_known_when_something_is_due(
    read: ReadFile, given: Help, work: Work, clock: FixedClock, workspace: Workspace
) -> None:
    clock.advance(hours=1)
    attend(read, given)
    n_done = len(work.done)

    assert attend(read, given) == []
    assert len(work.done) == n_done
    assert wakes_at(read, workspace, now=clock.at) == clock.at + timedelta(hours=6)


def test_a_task_that_fails_holds_up_no_other_and_is_an_alarm_after_the_third_time(
    read: ReadFile, given: Help, work: Work, clock: FixedClock, workspace: Workspace
) -> None:
    work.failing["look"] = BackendError("The disk is full.")
    states = []
    for _ in range(4):
        attend(read, given)
        states.append(len(list_alarms(workspace, "shop")))
        clock.advance(minutes=30)

    alarm = list_alarms(workspace, "shop")[0]
    assert states == [0, 0, 1, 1]
    assert "times in a row: The disk is full." in alarm.message
    assert (read.folder / "told").exists()


def test_the_alarm_about_a_task_is_over_when_the_task_goes_well(
    read: ReadFile, given: Help, work: Work, clock: FixedClock, workspace: Workspace
) -> None:
    work.failing["look"] = ZeroDivisionError("what nobody foresaw")
    _days(read, given, clock, 1)
    work.failing.clear()

    _days(read, given, clock, 1)

    assert [alarm.state for alarm in list_alarms(workspace, "shop")] == ["closed"]
    assert find_slot(workspace.metadata, "shop", "look").state == "well"


def test_a_loop_that_a_person_runs_now_is_busy_and_no_failure(
    read: ReadFile, given: Help, work: Work, clock: FixedClock, workspace: Workspace
) -> None:
    work.failing["look"] = WrongStateError("It is being run.", kind="loop", name="shop")

    done = attend(read, given)

    assert [(each.task, each.state) for each in done] == [("look", "busy")]
    assert find_slot(workspace.metadata, "shop", "look").n_failed == 0
    assert attend(read, given) == []
    clock.advance(seconds=30)
    work.failing.clear()
    assert [each.state for each in attend(read, given)] == ["well"]


def test_two_processes_take_turns(read: ReadFile, given: Help, work: Work) -> None:
    folder = given.store.home / "locks"
    folder.mkdir(exist_ok=True)
    with (folder / "shop.attend.lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        done = attend(read, given)

    assert [each.state for each in done] == ["busy"]
    assert not work.done


def _killed_at(home: Path, file: Path, at: str) -> None:
    """Attend a loop in this process, and be killed at some point."""
    clock = FixedClock()
    clock.advance(days=2)
    workspace = open_workspace(read_settings({}, home=home), clock=clock)
    counted = home / "done"

    def work(task: str) -> str:
        if at == f"before {task}":
            os.kill(os.getpid(), signal.SIGKILL)
        with counted.open("a") as file:
            file.write(f"{task}\n")
        if at == f"after {task}":
            os.kill(os.getpid(), signal.SIGKILL)
        return "fine"

    given = Help(
        store=Store(home=home, find_workspace=lambda: workspace, open_workspace=lambda: workspace),
        capacity=Capacity(cpus=1, memory_mib=1_000),
        on_news=lambda _news: None,
        clock=clock,
        environ={},
        work={task: (lambda _r, _g, task=task: work(task)) for task in ("look", "refresh")},  # type: ignore[misc]
    )
    attend(read_loop_file(file), given)


@pytest.mark.parametrize("at", ["before refresh", "after refresh", "before look", "after look"])
def test_a_kill_at_any_moment_loses_no_firing(
    read: ReadFile, workspace: Workspace, at: str
) -> None:
    context = multiprocessing.get_context("fork")

    codes = []
    for moment in (at, "never", "never"):
        process = context.Process(target=_killed_at, args=(workspace.home, read.path, moment))
        process.start()
        process.join(60)
        codes.append(process.exitcode)

    done = (workspace.home / "done").read_text().split()
    assert codes == [-signal.SIGKILL, 0, 0]
    # what was done before the kill but not noted is asked for again, and nothing else is
    assert done.count("look") == (2 if at == "after look" else 1)


def test_a_process_that_died_is_a_failure_of_what_it_was_doing(
    read: ReadFile, given: Help, work: Work, workspace: Workspace, clock: FixedClock
) -> None:
    work.failing["look"] = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        attend(read, given)
    assert find_slot(workspace.metadata, "shop", "look").state == "running"

    note_crash(read, given, "its process ended with -9")

    slot = find_slot(workspace.metadata, "shop", "look")
    assert (slot.state, slot.n_failed, slot.told) == ("failing", 1, "its process ended with -9")


def test_a_clock_set_back_by_a_year_stops_nothing(
    read: ReadFile, given: Help, work: Work, clock: FixedClock
) -> None:
    clock.advance(days=366)
    attend(read, given)
    clock.advance(days=-365)
    work.done.clear()

    _days(read, given, clock, 2)

    assert work.done.count("look") == 8
    assert work.done.count("refresh") == 2


def test_a_file_that_breaks_while_it_is_watched_is_told_and_waited_for(
    read: ReadFile, given: Help, work: Work, clock: FixedClock
) -> None:
    lines: list[str] = []
    n_waits = 0

    def wait(seconds: float) -> None:
        nonlocal n_waits
        n_waits += 1
        clock.advance(seconds=seconds)
        if n_waits == 2:
            read.path.write_text("name: shop\nproblem: {")
        if n_waits == 6:
            read.path.write_text(LOOP.replace("6 hours", "1 minute"))
        if n_waits == 30:
            raise WaitedEnoughError

    with pytest.raises(WaitedEnoughError):
        watch_loop(read.path, given, tell=lines.append, wait=wait)

    assert any("is not YAML" in line for line in lines)
    assert lines[-1].startswith("Next at ")
    assert work.done.count("look") > 5


def test_a_file_that_is_wrong_from_the_start_is_refused(given: Help, read: ReadFile) -> None:
    read.path.write_text("nonsense")

    with pytest.raises(InvalidInputError):
        watch_loop(read.path, given, tell=print)


def test_a_home_that_is_not_there_yet_is_attended_without_making_it(
    read: ReadFile, given: Help, work: Work, tmp_path: Path
) -> None:
    store: Any = replace(given.store, home=tmp_path / "none", find_workspace=lambda: None)
    work.failing["look"] = work.failing["refresh"] = InvalidInputError("The source is no table.")

    done = attend(read, replace(given, store=store))

    assert {each.state for each in done} == {"failed"}
    assert not (tmp_path / "none").exists()


def test_weeks_pass_in_a_moment(read: ReadFile, given: Help, work: Work, clock: FixedClock) -> None:
    plain = read.folder / "plain.yaml"
    plain.write_text(LOOP.replace("  refresh: {every: 1 day}\n", ""))

    _days(read_loop_file(plain), given, clock, 60, hours=6)

    assert work.done.count("look") == 4 * 60


def test_a_look_tells_what_it_saw_and_not_how_the_model_once_went_live() -> None:
    seen = {"verdict": "drift", "reason": "tenure moved.\nMore."}

    assert told_look("live", "On 704 rows it did well.", seen) == "live; drift. tenure moved."
    assert told_look("held", "A person held it.\nMore.", seen) == "held. A person held it."
    assert told_look("live", "Went live.", {}) == "live. Went live."
