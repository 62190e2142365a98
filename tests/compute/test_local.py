"""Jobs on this machine: limits hold, nothing stays behind, and no job is lost or run twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from loopwright.compute import (
    Capacity,
    Job,
    JobSpec,
    JobState,
    LocalCompute,
    Resources,
    local,
    shim,
)
from loopwright.core.clock import SystemClock
from loopwright.core.errors import BackendError
from loopwright.store import MemoryMetadataStore, SqlMetadataStore
from loopwright.testing.compute import python, run

ROOM = Capacity(cpus=4, memory_mib=4096)
# starts a process that leaves the session and outlives its parent, and says its id
DAEMON = """
import os, sys, time
if (pid := os.fork()) == 0:
    os.setsid()
    if (pid := os.fork()) == 0:
        print(os.getpid(), flush=True)
        time.sleep(60)
    os._exit(0)
os.waitpid(pid, 0)
while not os.path.getsize('log.txt'): time.sleep(0.005)
"""


@pytest.fixture
def compute(tmp_path: Path) -> LocalCompute:
    return in_memory(tmp_path, ROOM)


def in_memory(tmp_path: Path, capacity: Capacity) -> LocalCompute:
    metadata = MemoryMetadataStore(SystemClock())
    return LocalCompute(metadata, tmp_path / "jobs", SystemClock(), capacity=capacity)


def on_disk(home: Path, capacity: Capacity = ROOM) -> LocalCompute:
    metadata = SqlMetadataStore(f"sqlite:///{home}/store.db", SystemClock())
    return LocalCompute(metadata, home / "jobs", SystemClock(), capacity=capacity)


def is_alive(pid: int) -> bool:
    return shim.process_identity(pid) is not None


def await_(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def supervisor_of(job: Job) -> int:
    await_((job.folder / "shim.json").exists)
    pid: int = json.loads((job.folder / "shim.json").read_text())["pid"]
    return pid


def printed(compute: LocalCompute, job: Job, n_lines: int = 1) -> list[str]:
    await_(lambda: compute.log(job.id).count("\n") >= n_lines)
    return compute.log(job.id).splitlines()


# ---- what a job leaves behind


def test_a_daemon_that_a_job_started_ends_with_it(compute: LocalCompute) -> None:
    job = run(compute, python(DAEMON))

    assert job.state is JobState.SUCCEEDED
    assert not is_alive(int(compute.log(job.id)))


def test_a_whole_tree_ends_at_the_time_limit(compute: LocalCompute) -> None:
    job = run(compute, python(DAEMON + "time.sleep(60)", time_limit_s=1.0))

    assert job.state is JobState.FAILED
    assert not is_alive(int(compute.log(job.id)))


def test_a_crash_is_told_by_its_signal(compute: LocalCompute) -> None:
    job = run(compute, python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"))

    assert (job.exit_code, job.reason) == (-11, "It was ended by SIGSEGV. It printed nothing.")


def test_the_environment_of_a_job_is_on_disk_only_until_it_starts(compute: LocalCompute) -> None:
    spec = python("import os; print(len(os.environ['TOKEN']))", env={"TOKEN": "hush-hush"})

    job = run(compute, spec)

    assert compute.log(job.id) == "9\n"
    assert not (job.folder / "env.json").exists()
    assert job.folder.stat().st_mode & 0o077 == 0
    for path in job.folder.iterdir():
        assert path.is_dir() or "hush-hush" not in path.read_text()


# ---- memory and log


def test_a_job_that_uses_too_much_memory_is_ended(compute: LocalCompute) -> None:
    code = "print('loading', flush=True); x = bytearray(b'x') * (300 << 20); import time; time.sleep(60)"

    job = run(compute, python(code, resources=Resources(memory="100 MiB", cpus=0.1)))

    assert job.state is JobState.FAILED
    assert "MiB of memory; its limit is 100 MiB (`resources.memory`)" in job.reason
    assert "loading" in job.reason
    assert job.peak_memory_mib is not None
    assert job.peak_memory_mib > 100


def test_the_memory_of_all_processes_of_a_job_counts(compute: LocalCompute) -> None:
    code = (
        "import os, time\n"
        "for _ in range(3): os.fork() or [bytearray(b'x') * (60 << 20), time.sleep(60)]\n"
        "time.sleep(60)"
    )

    job = run(compute, python(code, resources=Resources(memory="150 MiB", cpus=0.1)))

    assert "its limit is 150 MiB" in job.reason


def test_memory_that_processes_share_counts_once(compute: LocalCompute) -> None:
    code = (
        "import os, time\n"
        "x = bytearray(b'x') * (80 << 20)\n"
        "children = [os.fork() or (time.sleep(1), os._exit(0)) for _ in range(3)]\n"
        "for _ in children: os.wait()"
    )

    job = run(compute, python(code, resources=Resources(memory="200 MiB", cpus=0.1)))

    assert job.state is JobState.SUCCEEDED
    assert job.peak_memory_mib is not None
    assert 80 < job.peak_memory_mib < 200


def test_a_log_that_grows_too_long_keeps_its_beginning_and_its_end(
    compute: LocalCompute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "LOG_LIMIT_BYTES", 1000)

    job = run(compute, python("for n in range(100_000): print(n)\nraise SystemExit(1)"))

    text = compute.log(job.id)
    assert text.startswith("0\n1\n2\n")
    assert "[loopwright: the log went beyond 1,000 bytes; 522,354 bytes are left out here]" in text
    assert text.endswith("99998\n99999\n")
    assert len(text) < 70_000
    assert job.reason.endswith("99998\n  99999")


# ---- stopping


def test_a_stopped_job_may_clean_up(compute: LocalCompute) -> None:
    code = (
        "import signal, time\n"
        "def end(*_): print('saved', flush=True); raise SystemExit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)"
    )
    job = compute.submit(python(code))
    printed(compute, job)

    stopped = compute.stop(job.id)

    assert (stopped.state, stopped.exit_code) == (JobState.STOPPED, 0)
    assert stopped.reason == "It was stopped on request."
    assert compute.log(job.id) == "ready\nsaved\n"


def test_a_job_that_does_not_heed_is_killed_after_its_grace(compute: LocalCompute) -> None:
    code = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(60)"
    )
    job = compute.submit(python(code))
    printed(compute, job)

    stopped = compute.stop(job.id, grace_s=0.2)

    assert (stopped.state, stopped.exit_code) == (JobState.STOPPED, -9)


def test_a_second_request_may_shorten_the_grace(compute: LocalCompute) -> None:
    code = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('heard', flush=True))\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(60)"
    )
    job = compute.submit(python(code))
    printed(compute, job)
    patient = threading.Thread(target=compute.stop, args=[job.id], kwargs={"grace_s": 60})
    patient.start()
    printed(compute, job, 2)

    stopped = compute.stop(job.id, grace_s=0.0)
    patient.join()

    assert stopped.state is JobState.STOPPED


def test_a_job_is_stopped_at_any_moment_of_its_start(compute: LocalCompute) -> None:
    for delay_s in (0.0, 0.01, 0.02, 0.03, 0.05):
        job = compute.submit(python("import time; time.sleep(60)", key=f"{delay_s}"))
        time.sleep(delay_s)

        assert compute.stop(job.id).state is JobState.STOPPED


def test_a_queued_job_is_stopped_without_starting(tmp_path: Path) -> None:
    compute = in_memory(tmp_path, Capacity(cpus=1, memory_mib=4096))
    first = compute.submit(python("import time; time.sleep(60)", key="a", resources=Resources()))
    second = compute.submit(python("", key="b", resources=Resources()))

    stopped = compute.stop(second.id)

    assert (second.state, stopped.state) == (JobState.QUEUED, JobState.STOPPED)
    assert stopped.reason == "It was stopped before it started."
    assert not (stopped.folder / "shim.json").exists()
    compute.stop(first.id)


def test_a_supervisor_that_is_told_to_end_takes_its_job_along(compute: LocalCompute) -> None:
    job = compute.submit(python(DAEMON + "time.sleep(60)"))
    daemon = int(printed(compute, job)[0])

    os.kill(supervisor_of(job), signal.SIGTERM)

    (ended,) = compute.wait([job.id])
    assert ended.state is JobState.STOPPED
    assert ended.reason == "Its supervisor was told to end."
    assert not is_alive(daemon)


def test_an_interrupted_wait_leaves_the_job_running(compute: LocalCompute) -> None:
    job = compute.submit(python("import time; time.sleep(60)"))

    def interrupt(_: Job) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute.wait([job.id], on_change=interrupt)

    assert compute.get(job.id).state is JobState.RUNNING
    compute.stop(job.id)


# ---- processes that are killed


def test_a_job_outlives_its_submitter_and_is_found_again(tmp_path: Path) -> None:
    script = f"""
from itertools import pairwise
from pathlib import Path
from loopwright.compute import LocalCompute
from loopwright.core.clock import SystemClock
from loopwright.store import SqlMetadataStore
from loopwright.testing.compute import python
home = Path({str(tmp_path)!r})
metadata = SqlMetadataStore(f"sqlite:///{{home}}/store.db", SystemClock())
compute = LocalCompute(metadata, home / "jobs", SystemClock())
code = "import os, time\\nprint('one', flush=True)\\nwhile not os.path.exists('go'): time.sleep(.01)\\nprint('two'); raise SystemExit(5)"
job = compute.submit(python(code))
print(job.id, flush=True)
compute.wait([job.id])
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as submitter:
        assert submitter.stdout is not None
        job_id = submitter.stdout.readline().decode().strip()

        submitter.kill()

    compute = on_disk(tmp_path)
    found = compute.find("work")
    assert found is not None
    assert (found.id, found.state) == (job_id, JobState.RUNNING)
    (found.folder / "go").touch()
    (job,) = compute.wait([job_id])
    assert (job.state, job.exit_code) == (JobState.FAILED, 5)
    assert compute.log(job_id) == "one\ntwo\n"


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
    claim |= shim.process_identity(os.getpid()) or {}
    (job.folder / "shim.json").write_text(json.dumps(claim | {"boot_id": "of yesterday"}))

    assert "the machine restarted" in compute.get(job.id).reason


def test_a_job_whose_starter_was_killed_is_started_by_the_next_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_START_AGAIN_S", 0.01)
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
    command, environment = local.shim_command(job, spec.command), {"PATH": os.defpath}

    again = [subprocess.run(command, env=environment, check=True) for _ in range(2)]

    (ended,) = compute.wait([job.id])
    assert len(again) == 2
    assert ended.state is JobState.SUCCEEDED
    assert compute.log(job.id) == "ran\n"


def test_a_job_that_nobody_manages_to_start_fails(
    compute: LocalCompute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_GIVE_UP_S", 0.02)
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


def test_a_supervisor_is_run_compiled_unless_its_source_is_newer(tmp_path: Path) -> None:
    source, compiled = tmp_path / "shim.py", tmp_path / "shim.pyc"
    source.touch()
    assert local._program(str(source), str(compiled)) == str(source)
    assert local._program(str(source), None) == str(source)

    compiled.touch()

    assert local._program(str(source), str(compiled)) == str(compiled)
    os.utime(compiled, (0, 0))
    assert local._program(str(source), str(compiled)) == str(source)


# ---- room


def test_jobs_wait_for_room_and_start_in_order(tmp_path: Path) -> None:
    compute = in_memory(tmp_path, Capacity(cpus=1, memory_mib=4096))
    one_cpu = Resources(cpus=1, memory="100 MiB")
    submitted = [compute.submit(python("", key=f"{n}", resources=one_cpu)) for n in range(4)]

    jobs = compute.wait([job.id for job in submitted])

    assert JobState.QUEUED in {job.state for job in submitted}
    times = [(job.started_at, job.ended_at) for job in jobs]
    assert times == sorted(times)
    for (_, ended), (started, _) in pairwise(times):
        assert ended <= started


def test_processes_that_submit_at_once_never_use_more_than_there_is(tmp_path: Path) -> None:
    script = f"""
import os, sys
from itertools import pairwise
from pathlib import Path
import sqlalchemy.dialects.sqlite, sqlalchemy.dialects.postgresql
import loopwright.store.schema
from loopwright.compute import Capacity, LocalCompute, Resources
from loopwright.core.clock import SystemClock
from loopwright.store import SqlMetadataStore
from loopwright.testing.compute import python
home = Path({str(tmp_path)!r})
code = "import time; a = time.time(); time.sleep(.03); print(a, time.time())"
def work(number):
    metadata = SqlMetadataStore(f"sqlite:///{{home}}/store.db", SystemClock())
    capacity = Capacity(cpus=2, memory_mib=4096)
    compute = LocalCompute(metadata, home / "jobs", SystemClock(), capacity=capacity)
    one = Resources(cpus=1, memory="100 MiB")
    ids = [compute.submit(python(code, key=f"{{number}}/{{n}}", resources=one)).id for n in range(3)]
    same = compute.submit(python(code, key="shared", resources=one))
    compute.wait([*ids, same.id])
children = []
for number in range(4):
    if (pid := os.fork()) == 0:
        status = 1
        try:
            work(number)
            status = 0
        finally:
            os._exit(status)
    children.append(pid)
sys.exit(max(os.waitpid(pid, 0)[1] for pid in children) and 1)
"""

    subprocess.run([sys.executable, "-c", script], check=True)

    compute = on_disk(tmp_path)
    jobs = compute.list_()
    assert [job.reason for job in jobs] == [""] * 13
    spans = [tuple(map(float, compute.log(job.id).split())) for job in jobs]
    for start, _ in spans:
        assert sum(s <= start < e for s, e in spans) <= 2


def test_a_service_starts_beside_a_full_machine(tmp_path: Path) -> None:
    compute = in_memory(tmp_path, Capacity(cpus=1, memory_mib=4096))
    sleep = "import time; time.sleep(60)"
    training = compute.submit(python(sleep, key="a", resources=Resources(cpus=1)))
    waiting = compute.submit(python(sleep, key="b", resources=Resources(cpus=1)))

    service = compute.submit(python(sleep, key="c", resources=Resources(cpus=1), counted=False))

    assert (training.state, waiting.state) == (JobState.RUNNING, JobState.QUEUED)
    assert service.state is JobState.RUNNING
    for job in (waiting, training, service):
        compute.stop(job.id, grace_s=0)


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
    create, theirs = local.create_folder, []

    def create_and_be_overtaken(folder: Path, spec: JobSpec, *, job_id: str) -> None:
        monkeypatch.setattr(local, "create_folder", create)
        theirs.append(compute.submit(spec))
        create(folder, spec, job_id=job_id)

    monkeypatch.setattr(local, "create_folder", create_and_be_overtaken)

    ours = run(compute, python("print('once')"))

    assert [ours.id] == [job.id for job in theirs] == [job.id for job in compute.list_()]
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == [ours.id]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    metadata = MemoryMetadataStore(SystemClock())
    compute = LocalCompute(metadata, Path("/proc/nowhere"), SystemClock(), capacity=ROOM)

    with pytest.raises(BackendError, match=r"/proc/nowhere.*cannot be written"):
        compute.submit(python(""))

    assert compute.list_() == []
