"""The keeper starts a process for each loop that wants something, and no loop stands in another's way."""

from __future__ import annotations

import signal
import subprocess
import threading
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from loopwright.core.clock import FixedClock
from loopwright.loop.timetable import Slot, begun, put_slot, went_well
from loopwright.loop.workspace import Workspace
from loopwright.server.child import GroupChild, end_children, log_path
from loopwright.server.keeper import BUSY, Attended, Keeper
from loopwright.settings import read_settings
from loopwright.wiring import open_workspace

LOOP = """\
name: {name}
problem: {{target: price, criteria: [{{metric: mape, at_most: 0.5}}]}}
data: {{source: {{kind: file, path: sales.csv}}}}
monitor: {{every: 1 hour}}
"""


class FakeProcess:
    """A process that ends when it is told how."""

    def __init__(self, name: str, crashed: str, pid: int) -> None:
        self.name, self.crashed, self.pid = name, crashed, pid
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.code = -15

    def kill(self) -> None:
        self.code = -9


class Starts:
    """Remembers every process that was started."""

    def __init__(self) -> None:
        self.all: list[FakeProcess] = []
        self.fails = False

    def __call__(self, name: str, crashed: str = "") -> FakeProcess:
        if self.fails:
            raise OSError("no memory for another process")
        self.all.append(FakeProcess(name, crashed, 100 + len(self.all)))
        return self.all[-1]

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.all]

    @property
    def living(self) -> list[FakeProcess]:
        return [each for each in self.all if each.code is None]


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def workspace(tmp_path: Path, clock: FixedClock) -> Workspace:
    return open_workspace(read_settings({}, home=tmp_path / "home"), clock=clock)


@pytest.fixture
def starts() -> Starts:
    return Starts()


@pytest.fixture
def keeper(workspace: Workspace, starts: Starts, clock: FixedClock) -> Keeper:
    return Keeper(workspace, starts, clock=clock, most_at_once=2)


def _add(workspace: Workspace, folder: Path, name: str) -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(LOOP.format(name=name))
    workspace.metadata.put("loop", name, {"file": str(file), "question": "", "endpoint": None})
    return file


def _went_well(workspace: Workspace, name: str, clock: FixedClock) -> None:
    slot = begun(Slot(loop=name, task="look"), now=clock.at)
    put_slot(workspace.metadata, went_well(slot, 3_600, now=clock.at, told=""))


def _turns(keeper: Keeper, clock: FixedClock, *, seconds: float, step: float = 5) -> None:
    for _ in range(round(seconds / step)):
        clock.advance(seconds=step)
        keeper.turn()


def _seen(keeper: Keeper, name: str) -> Attended:
    return next(each for each in keeper.attended if each.name == name)


def test_a_loop_is_attended_when_it_wants_something_and_not_before(
    keeper: Keeper, starts: Starts, workspace: Workspace, clock: FixedClock, tmp_path: Path
) -> None:
    _add(workspace, tmp_path, "shop")
    keeper.turn()
    starts.all[0].code = 0
    _went_well(workspace, "shop", clock)

    _turns(keeper, clock, seconds=3_500, step=25)
    assert len(starts.all) == 1
    _turns(keeper, clock, seconds=200, step=25)

    assert starts.names == ["shop", "shop"]


def test_no_more_run_at_once_than_are_allowed_and_all_get_their_turn(
    keeper: Keeper, starts: Starts, workspace: Workspace, clock: FixedClock, tmp_path: Path
) -> None:
    for number in range(5):
        _add(workspace, tmp_path, f"shop{number}")
    most = 0
    for _ in range(10):
        keeper.turn()
        most = max(most, len(starts.living))
        for process in starts.living:
            process.code = 0
            _went_well(workspace, process.name, clock)
        clock.advance(seconds=5)

    assert most == 2
    assert sorted(starts.names) == [f"shop{number}" for number in range(5)]


def test_a_loop_that_hangs_holds_up_no_other(
    keeper: Keeper, starts: Starts, workspace: Workspace, clock: FixedClock, tmp_path: Path
) -> None:
    _add(workspace, tmp_path, "hangs")
    keeper.turn()
    _add(workspace, tmp_path, "shop")

    for _ in range(3):
        _turns(keeper, clock, seconds=3_700, step=50)
        for process in starts.living:
            if process.name == "shop":
                process.code = 0
                _went_well(workspace, "shop", clock)

    assert starts.names.count("shop") >= 3
    assert starts.names.count("hangs") == 1


def test_a_loop_whose_process_dies_rests_longer_each_time_and_that_is_noted(
    keeper: Keeper, starts: Starts, workspace: Workspace, clock: FixedClock, tmp_path: Path
) -> None:
    _add(workspace, tmp_path, "shop")
    began = []
    for _ in range(1_000):
        keeper.turn()
        for process in starts.living:
            if process.crashed:
                process.code = 0
            else:
                began.append(clock.at)
                process.code = -9
        clock.advance(seconds=10)

    gaps = [(b - a).total_seconds() for a, b in pairwise(began)]
    notes = [each.crashed for each in starts.all if each.crashed]
    assert notes[0] == "its process ended with -9"
    assert len(notes) in (len(began), len(began) - 1)
    assert gaps == sorted(gaps)
    assert gaps[0] < 60
    assert gaps[-1] > 900
    assert _seen(keeper, "shop").state == "resting"


def test_a_loop_that_another_process_has_is_asked_again_after_a_moment(
    keeper: Keeper, starts: Starts, workspace: Workspace, clock: FixedClock, tmp_path: Path
) -> None:
    _add(workspace, tmp_path, "shop")
    keeper.turn()
    starts.all[0].code = BUSY

    _turns(keeper, clock, seconds=15)
    assert len(starts.all) == 1
    _turns(keeper, clock, seconds=15)

    assert len(starts.all) == 2


def test_a_file_that_is_gone_broken_or_anothers_is_told_and_waited_for(
    keeper: Keeper, starts: Starts, workspace: Workspace, clock: FixedClock, tmp_path: Path
) -> None:
    files = {name: _add(workspace, tmp_path, name) for name in ("gone", "broken", "other")}
    files["gone"].unlink()
    files["broken"].write_text("name: broken\nproblem: [")
    files["other"].write_text(LOOP.format(name="else"))
    keeper.turn()

    states = {each.name: each.state for each in keeper.attended}
    assert states == {
        "gone": "file missing",
        "broken": "file broken",
        "other": "file of another loop",
    }
    assert "run the loop once from where it is now" in _seen(keeper, "gone").told
    assert not starts.all
    files["gone"].write_text(LOOP.format(name="gone"))
    _turns(keeper, clock, seconds=10)
    assert starts.names == ["gone"]


def test_a_loop_that_was_run_from_another_place_is_followed_there(
    keeper: Keeper, starts: Starts, workspace: Workspace, clock: FixedClock, tmp_path: Path
) -> None:
    _add(workspace, tmp_path, "shop").unlink()
    keeper.turn()
    (tmp_path / "new").mkdir()

    _add(workspace, tmp_path / "new", "shop")
    _turns(keeper, clock, seconds=5)

    assert starts.names == ["shop"]
    assert _seen(keeper, "shop").state == "attended"


def test_a_machine_that_can_start_no_process_is_tried_again(
    keeper: Keeper, starts: Starts, workspace: Workspace, clock: FixedClock, tmp_path: Path
) -> None:
    _add(workspace, tmp_path, "shop")
    starts.fails = True
    keeper.turn()
    assert "no memory" in _seen(keeper, "shop").told

    starts.fails = False
    _turns(keeper, clock, seconds=60)

    assert starts.names == ["shop"]


def test_a_clock_set_back_does_not_stop_the_server(
    keeper: Keeper, starts: Starts, workspace: Workspace, clock: FixedClock, tmp_path: Path
) -> None:
    _add(workspace, tmp_path, "shop")
    keeper.turn()
    starts.all[0].code = 0
    _went_well(workspace, "shop", clock)
    keeper.turn()

    clock.advance(days=-365)
    _turns(keeper, clock, seconds=10)

    assert len(starts.all) == 2
    assert _seen(keeper, "shop").since is not None
    assert clock.at - (_seen(keeper, "shop").since or clock.at) <= timedelta(seconds=10)


def test_a_long_log_makes_room_for_a_new_one(tmp_path: Path) -> None:
    path = log_path(tmp_path, "shop")
    path.write_bytes(b"x" * (1 << 21))

    assert log_path(tmp_path, "shop") == path
    assert not path.exists()
    assert (tmp_path / "shop.log.1").stat().st_size == 1 << 21


def test_processes_at_work_may_end_by_themselves_and_late_ones_are_ended() -> None:
    quick = subprocess.Popen(["sleep", "0.1"])
    late = subprocess.Popen(["sleep", "60"])

    n_late = end_children([quick, late], grace_s=0.5, wait=threading.Event())

    assert n_late == 1
    assert (quick.wait(5), late.wait(5)) == (0, -signal.SIGTERM)


def test_a_process_that_does_not_listen_is_ended_all_the_same() -> None:
    deaf = subprocess.Popen(
        ["sh", "-c", "trap '' TERM; echo; while :; do sleep 0.05; done"], stdout=-1
    )
    assert deaf.stdout is not None
    deaf.stdout.readline()
    hurried = threading.Event()
    hurried.set()

    end_children([deaf], grace_s=60, wait=hurried, stop_s=0.2)

    assert deaf.wait(5) == -signal.SIGKILL
    deaf.stdout.close()


class Stubborn(FakeProcess):
    """A process that ends by force alone."""

    def terminate(self) -> None:
        self.asked = True


def test_a_turn_that_takes_too_long_is_ended_and_counts_as_a_crash(
    workspace: Workspace, clock: FixedClock, tmp_path: Path
) -> None:
    _add(workspace, tmp_path, "shop")
    started: list[Stubborn] = []
    seconds = 0.0

    def start(name: str, crashed: str = "") -> Stubborn:
        started.append(Stubborn(name, crashed, 100 + len(started)))
        return started[-1]

    keeper = Keeper(workspace, start, clock=clock, turn_limit_s=7_200, monotonic=lambda: seconds)
    keeper.turn()
    clock.advance(hours=30)  # a machine that slept has not worked
    keeper.turn()
    assert not hasattr(started[0], "asked")

    seconds = 7_201.0
    keeper.turn()
    assert (started[0].asked, started[0].code) == (True, None)
    keeper.turn()

    assert started[0].code == -9
    # the next process notes in the store how this one died, and the loop rests
    assert started[1].crashed == "its turn took longer than 2 hours and was ended"
    assert _seen(keeper, "shop").n_crashes == 1
    assert _seen(keeper, "shop").state == "resting"


def test_whatever_a_turn_has_started_in_its_group_ends_with_it(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = f"trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > {note}; sleep 60' & wait"
    process = subprocess.Popen(["sh", "-c", script], start_new_session=True)
    child = GroupChild(process)
    while not (note.exists() and note.read_text()):
        threading.Event().wait(0.01)

    child.terminate()
    threading.Event().wait(0.05)
    assert child.poll() is None
    child.kill()
    process.wait(timeout=5)

    grandchild = int(note.read_text())
    for _ in range(200):
        if _is_gone(grandchild):
            break
        threading.Event().wait(0.01)
    assert _is_gone(grandchild)
    child.kill()  # its number may be another's by now: nothing is done


def _is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"
