"""Jobs on this machine: limits hold, nothing stays behind, and no job is lost or run twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from loopwright.compute import (
    Capacity,
    Job,
    JobSpec,
    JobState,
    Limits,
    LocalCompute,
    Resources,
    local,
    retry,
    settlement,
)
from loopwright.compute.launch import supervisor_command
from loopwright.compute.supervisor.process import process_identity
from loopwright.compute.workspace import create_folder
from loopwright.core.clock import SystemClock
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.store import MemoryMetadataStore, SqlMetadataStore
from loopwright.testing.background_compute import DAEMON
from loopwright.testing.compute import await_, is_alive, printed, python, run

ROOM = Capacity(cpus=4, memory_mib=4096)


@pytest.fixture
def compute(tmp_path: Path) -> LocalCompute:
    return in_memory(tmp_path, ROOM)


def in_memory(tmp_path: Path, capacity: Capacity) -> LocalCompute:
    metadata = MemoryMetadataStore(SystemClock())
    return LocalCompute(metadata, tmp_path / "jobs", SystemClock(), capacity=capacity)


def on_disk(home: Path, capacity: Capacity = ROOM) -> LocalCompute:
    metadata = SqlMetadataStore(f"sqlite:///{home}/store.db", SystemClock())
    return LocalCompute(metadata, home / "jobs", SystemClock(), capacity=capacity)


def supervisor_of(job: Job) -> int:
    await_((job.folder / "shim.json").exists)
    pid: int = json.loads((job.folder / "shim.json").read_text())["pid"]
    return pid


# ---- what a job leaves behind


def test_the_environment_of_a_job_is_on_disk_only_until_it_starts(compute: LocalCompute) -> None:
    spec = python("import os; print(len(os.environ['TOKEN']))", env={"TOKEN": "hush-hush"})

    job = run(compute, spec)

    assert compute.log(job.id) == "9\n"
    assert not (job.folder / "env.json").exists()
    assert job.folder.stat().st_mode & 0o077 == 0
    for path in job.folder.iterdir():
        assert path.is_dir() or "hush-hush" not in path.read_text()


# ---- memory and log


# ---- stopping


def test_a_supervisor_that_is_told_to_end_takes_its_job_along(compute: LocalCompute) -> None:
    job = compute.submit(python(DAEMON + "time.sleep(60)"))
    daemon = int(printed(compute, job)[0])

    os.kill(supervisor_of(job), signal.SIGTERM)

    (ended,) = compute.wait([job.id])
    assert ended.state is JobState.STOPPED
    assert ended.reason == "Its supervisor was told to end."
    assert not is_alive(daemon)


# ---- processes that are killed


def test_a_killed_supervisor_fails_its_job_and_leaves_no_orphan(compute: LocalCompute) -> None:
    job = compute.submit(python(DAEMON + "print(os.getpid(), flush=True); time.sleep(60)"))
    pids = [int(line) for line in printed(compute, job, 2)]
    assert all(map(is_alive, pids))

    os.kill(supervisor_of(job), signal.SIGKILL)

    (ended,) = compute.wait([job.id])
    assert (ended.state, ended.exit_code) == (JobState.FAILED, None)
    assert ended.reason.startswith(
        "The supervising process vanished (killed, or the machine restarted)."
    )
    assert not any(map(is_alive, pids))


def test_the_command_of_a_killed_supervisor_dies_though_nobody_looks(
    compute: LocalCompute,
) -> None:
    job = compute.submit(python("import os, time; print(os.getpid(), flush=True); time.sleep(60)"))
    (pid,) = map(int, printed(compute, job))

    os.kill(supervisor_of(job), signal.SIGKILL)

    await_(lambda: not is_alive(pid))


def test_a_job_of_before_a_restart_of_the_machine_has_failed(compute: LocalCompute) -> None:
    job = compute.submit(python("import time; time.sleep(60)"))
    supervisor = supervisor_of(job)
    claim = json.loads((job.folder / "shim.json").read_text())
    os.kill(supervisor, signal.SIGKILL)

    # another process has the same id and start after the restart
    claim |= process_identity(os.getpid()) or {}
    (job.folder / "shim.json").write_text(json.dumps(claim | {"boot_id": "of yesterday"}))

    assert "the machine restarted" in compute.get(job.id).reason


def test_a_job_whose_starter_was_killed_is_started_by_the_next_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "_START_AGAIN_S", 0.01)
    starter = on_disk(tmp_path)
    # killed after the decision was written down and before it was carried out
    monkeypatch.setattr(starter, "_spawn", lambda _: None)
    job = starter.submit(python("print('hello')"))

    (ended,) = on_disk(tmp_path).wait([job.id], poll_s=0.01)

    assert job.state is JobState.RUNNING
    assert ended.state is JobState.SUCCEEDED


def test_a_job_started_twice_runs_once(compute: LocalCompute) -> None:
    spec = python("import time; print('ran', flush=True); time.sleep(0.2)")
    job = compute.submit(spec)
    # whichever comes first has the job
    command, environment = supervisor_command(job, spec.command), {"PATH": os.defpath}

    again = [subprocess.run(command, env=environment, check=True) for _ in range(2)]

    (ended,) = compute.wait([job.id])
    assert len(again) == 2
    assert ended.state is JobState.SUCCEEDED
    assert compute.log(job.id) == "ran\n"


def test_a_job_that_nobody_manages_to_start_fails(
    compute: LocalCompute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "_GIVE_UP_S", 0.02)
    monkeypatch.setattr(compute, "_spawn", lambda _: None)
    job = compute.submit(python(""))

    (ended,) = compute.wait([job.id], poll_s=0.01)

    assert ended.state is JobState.FAILED
    assert "No supervising process started" in ended.reason


def test_a_supervisor_that_cannot_be_started_fails_the_job(
    compute: LocalCompute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    spec = python("")

    job = compute.submit(spec)

    assert job.state is JobState.FAILED
    assert "cannot be started: No such file" in job.reason


def test_a_job_whose_folder_was_deleted_has_failed(compute: LocalCompute) -> None:
    job = compute.submit(python(DAEMON + "time.sleep(60)"))
    pids = [supervisor_of(job), *map(int, printed(compute, job))]

    shutil.rmtree(job.folder)

    (ended,) = compute.wait([job.id])
    assert ended.state is JobState.FAILED
    assert ended.reason == f"Its folder {job.folder} was deleted."
    await_(lambda: not any(map(is_alive, pids)))


# ---- room


def test_jobs_see_the_gpus_they_asked_for_and_no_others(tmp_path: Path) -> None:
    compute = in_memory(tmp_path, Capacity(cpus=4, memory_mib=4096, gpu_ids=("0", "5")))
    code = "import os, time; print([os.environ['CUDA_VISIBLE_DEVICES']]); time.sleep(0.3)"
    ids = [
        compute.submit(
            python(code, key=f"{n}", resources=Resources(cpus=0.1, memory="99 MiB", gpus=gpus))
        ).id
        for n, gpus in enumerate([1, 0, 1])
    ]

    jobs = compute.wait(ids)

    assert [compute.log(job.id) for job in jobs] == ["['0']\n", "['']\n", "['5']\n"]


# ---- records


def test_every_change_of_state_is_an_event(tmp_path: Path) -> None:
    metadata = MemoryMetadataStore(SystemClock())
    compute = LocalCompute(metadata, tmp_path / "jobs", SystemClock(), capacity=ROOM)

    run(compute, python("print('no'); raise SystemExit(1)"))

    events = metadata.list_events("jobs")
    assert [event.kind for event in events] == ["queued", "running", "failed"]
    assert "exited with code 1" in events[-1].body["reason"]


def test_the_same_key_submitted_at_the_same_moment_is_one_job(
    compute: LocalCompute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, theirs = create_folder, []

    def create_and_be_overtaken(folder: Path, spec: JobSpec, *, job_id: str) -> None:
        monkeypatch.setattr(local, "create_folder", create)
        theirs.append(compute.submit(spec))
        create(folder, spec, job_id=job_id)

    monkeypatch.setattr(local, "create_folder", create_and_be_overtaken)

    ours = run(compute, python("print('once')"))

    assert [ours.id] == [job.id for job in theirs] == [job.id for job in compute.list_()]
    assert {path.name for path in (tmp_path / "jobs").iterdir()} == {ours.id, "home.id"}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    metadata = MemoryMetadataStore(SystemClock())
    compute = LocalCompute(metadata, Path("/proc/nowhere"), SystemClock(), capacity=ROOM)

    with pytest.raises(BackendError, match=r"/proc/nowhere .* cannot be written"):
        compute.submit(python(""))

    assert compute.list_() == []


# ---- a full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root can make a disk that is soon full")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_the_end_of_a_job_that_filled_the_disk_is_known(small_disk: Path, tmp_path: Path) -> None:
    metadata = SqlMetadataStore(f"sqlite:///{tmp_path}/store.db", SystemClock())
    compute = LocalCompute(metadata, small_disk / "jobs", SystemClock(), capacity=ROOM)
    code = (
        "import sys\n"
        "file = open('out/x', 'wb', buffering=0)\n"
        "try:\n"
        "    while True: file.write(b'x' * 4096)\n"
        "except OSError as error: print(error.strerror); sys.exit(7)"
    )

    job = run(compute, python(code))

    assert os.statvfs(small_disk).f_bfree == 0
    assert (job.state, job.exit_code) == (JobState.FAILED, 7)
    assert job.reason.startswith("It exited with code 7.")


def test_an_end_that_cannot_be_recorded_now_is_recorded_later(
    compute: LocalCompute, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = compute.submit(python("raise SystemExit(3)"))
    await_((job.folder / "exit.json").exists)
    transaction = compute._metadata.transaction

    def full() -> AbstractContextManager[None]:
        raise BackendError("database or disk is full", retryable=True)

    monkeypatch.setattr(compute._metadata, "transaction", full)
    with pytest.raises(BackendError, match="disk is full"):
        compute.get(job.id)
    monkeypatch.setattr(compute._metadata, "transaction", transaction)

    found = compute.get(job.id)
    assert (found.state, found.exit_code) == (JobState.FAILED, 3)


def test_a_job_whose_folder_grows_too_large_is_ended(
    compute: LocalCompute, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import time\n"
        "open('out/x', 'wb').write(b'x' * (3 << 20))\n"
        "print('written', flush=True); time.sleep(60)"
    )

    job = run(compute, python(code, limits=Limits(disk="2 MiB")))

    assert "its folder held 3 MiB; its limit is 2 MiB (`limits.disk`)" in job.reason


# ---- tries


def test_a_job_whose_supervisor_was_killed_is_tried_again(
    compute: LocalCompute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_DELAY_S", 0.02)
    code = (
        "import os, time\n"
        "place = os.environ['LOOPWRIGHT_CHECKPOINT_DIR'] + '/half'\n"
        "found = os.path.exists(place)\n"
        "open(place, 'w').close()\n"
        "print(found, flush=True)\n"
        "found or time.sleep(60)"
    )
    job = compute.submit(python(code, retries=1, checkpoint=True))
    assert printed(compute, job) == ["False"]

    os.kill(supervisor_of(job), signal.SIGKILL)

    (ended,) = compute.wait([job.id])
    assert (ended.id, ended.state, ended.retried) == (job.id, JobState.SUCCEEDED, 1)
    assert compute.log(job.id).splitlines()[-1] == "True"
    assert "vanished (killed, or the machine restarted). Try 2 of 2 follows." in compute.log(job.id)


def test_a_job_that_waits_for_its_next_try_says_so_and_can_be_stopped(
    compute: LocalCompute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_DELAY_S", 60)
    job = compute.submit(python("import os; os.kill(os.getpid(), 9)", retries=1))
    await_(lambda: compute.get(job.id).state is JobState.QUEUED)

    waiting = compute.get(job.id)

    assert waiting.waits_for.startswith("starts again in ")
    assert "It was ended by SIGKILL" in waiting.reason
    assert compute.stop(job.id).state is JobState.STOPPED
    assert not (job.folder / "env.json").exists()


def test_a_late_supervisor_of_an_earlier_try_leaves_at_once(
    compute: LocalCompute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_DELAY_S", 0.02)
    spec = python(
        "import os; print('ran', flush=True); os.path.exists('shim-1.json') or os.kill(os.getpid(), 9)",
        retries=1,
    )
    job = compute.submit(spec)
    late = supervisor_command(job, spec.command)
    compute.wait([job.id])

    subprocess.run(late, env={"PATH": os.defpath}, check=True)

    assert compute.log(job.id).count("ran\n") == 2


# ---- groups of jobs that work together


def test_two_submitters_of_groups_never_wait_for_each_other(tmp_path: Path) -> None:
    room = Capacity(cpus=2, memory_mib=4096)
    one, other = on_disk(tmp_path, room), on_disk(tmp_path, room)
    each = Resources(cpus=1, memory="200 MiB")
    wait = "import os, time\nwhile not os.path.exists({!r}): time.sleep(0.01)"
    end = {name: str(tmp_path / name) for name in "ab"}

    def leads(name: str) -> JobSpec:
        return python(wait.format(end[name]), key=name, resources=each, keeps_room_for=1)

    first, second = one.submit(leads("a")), other.submit(leads("b"))
    between = other.submit(python("", key="between", resources=each))
    member = one.submit(python("", key="a/1", resources=each, joins=first.id))

    assert (first.state, second.state) == (JobState.RUNNING, JobState.QUEUED)
    assert second.waits_for == (
        f"waits for 2 CPUs for 2 jobs at once; a test ({first.id[-6:]}) holds 2 CPU"
    )
    assert one.wait([member.id])[0].state is JobState.SUCCEEDED
    # what was kept stays kept until the group has ended, for another of its members
    assert [other.get(job.id).state for job in (second, between)] == [JobState.QUEUED] * 2
    Path(end["a"]).touch()
    one.wait([first.id])
    await_(lambda: other.get(second.id).state is JobState.RUNNING)
    last = other.submit(python("", key="b/1", resources=each, joins=second.id))
    assert other.wait([last.id])[0].state is JobState.SUCCEEDED
    Path(end["b"]).touch()
    ended = other.wait([second.id, between.id])
    assert [job.state for job in ended] == [JobState.SUCCEEDED] * 2


def test_a_group_that_never_has_room_at_once_is_refused(compute: LocalCompute) -> None:
    with pytest.raises(InvalidInputError) as caught:
        compute.submit(python("", resources=Resources(cpus=2), keeps_room_for=2))

    assert caught.value.message == (
        "3 jobs of 2 CPUs and 2,048 MiB each must run at once; this machine can run 2."
    )
    assert compute.list_() == []
