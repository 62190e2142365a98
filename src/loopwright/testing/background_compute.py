"""What a compute backend must do besides when its jobs run while others go on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from itertools import pairwise

import pytest

from loopwright.compute import (
    Compute,
    Job,
    JobState,
    Limits,
    Resources,
)
from loopwright.core.errors import WrongStateError
from loopwright.testing.compute import (
    NEVER,
    SLEEP,
    ComputeContract,
    is_alive,
    printed,
    python,
    run,
)

# starts a process that leaves the session and outlives its parent, and says its id
DAEMON = """
import os, sys, time
reading, writing = os.pipe()
if (pid := os.fork()) == 0:
    os.setsid()
    if (pid := os.fork()) == 0:
        print(os.getpid(), flush=True)
        os.write(writing, b'x')
        time.sleep(60)
    os._exit(0)
os.waitpid(pid, 0)
os.read(reading, 1)
"""


class BackgroundComputeContract(ComputeContract):
    """Tests of a `Compute` whose jobs run while others go on: limits, queue, what outlives whom.

    Beside `compute`, with 4 CPUs, 4 GiB and no GPU for its jobs, give a fixture `opening`: Python
    code that opens the same one, in another process, as `compute`. The jobs run on this machine.
    """

    # ---- what a job leaves behind

    def test_a_daemon_that_a_job_started_ends_with_it(self, compute: Compute) -> None:
        job = run(compute, python(DAEMON))

        assert job.state is JobState.SUCCEEDED
        assert not is_alive(int(compute.log(job.id)))

    def test_a_whole_tree_ends_at_the_time_limit(self, compute: Compute) -> None:
        job = run(compute, python(DAEMON + "time.sleep(60)", time_limit_s=1.0))

        assert job.state is JobState.FAILED
        assert not is_alive(int(printed(compute, job)[0]))

    def test_a_crash_is_told_by_its_signal(self, compute: Compute) -> None:
        job = run(compute, python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"))

        assert (job.exit_code, job.reason) == (-11, "It was ended by SIGSEGV. It printed nothing.")

    # ---- limits of the whole tree

    def test_a_job_that_uses_too_much_memory_is_ended(self, compute: Compute) -> None:
        code = "print('loading', flush=True); x = bytearray(b'x') * (300 << 20); " + SLEEP

        job = run(compute, python(code, resources=Resources(memory="100 MiB", cpus=0.1)))

        assert job.state is JobState.FAILED
        assert "MiB of memory; its limit is 100 MiB (`resources.memory`)" in job.reason
        assert "loading" in job.reason
        assert job.peak_memory_mib is not None
        assert job.peak_memory_mib > 100

    def test_the_memory_of_all_processes_of_a_job_counts(self, compute: Compute) -> None:
        code = (
            "import os, time\n"
            "for _ in range(3): os.fork() or [bytearray(b'x') * (60 << 20), time.sleep(60)]\n"
            "time.sleep(60)"
        )

        job = run(compute, python(code, resources=Resources(memory="150 MiB", cpus=0.1)))

        assert "its limit is 150 MiB" in job.reason

    def test_memory_that_processes_share_counts_once(self, compute: Compute) -> None:
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

    def test_a_job_that_starts_too_many_processes_is_ended(self, compute: Compute) -> None:
        code = (
            "import os, time\n"
            "for _ in range(40): os.fork() or time.sleep(60)\n"
            "print('all', flush=True); time.sleep(60)"
        )
        resources = Resources(cpus=0.1, memory="1 GiB")

        job = run(compute, python(code, resources=resources, limits=Limits(processes=30)))

        assert job.state is JobState.FAILED
        assert "processes; its limit is 30 (`limits.processes`)" in job.reason

    def test_a_job_whose_processes_multiply_is_ended(self, compute: Compute) -> None:
        # 512 processes at most: a supervisor that fails must not take the machine with it
        code = (
            "import os, time\nprint(os.getpgid(0), flush=True)\n"
            "for _ in range(9): os.fork()\ntime.sleep(60)"
        )
        resources = Resources(cpus=0.1, memory="4 GiB")

        job = run(compute, python(code, resources=resources, limits=Limits(processes=50)))

        assert job.state is JobState.FAILED
        assert "its limit is 50 (`limits.processes`)" in job.reason
        group = int(compute.log(job.id).splitlines()[0])
        with pytest.raises(ProcessLookupError):
            os.killpg(group, 0)

    def test_a_log_that_grows_too_long_is_cut_and_the_job_goes_on(self, compute: Compute) -> None:
        code = "for n in range(1_000_000): print(n)\nraise SystemExit(1)"

        job = run(compute, python(code, limits=Limits(log="1 MiB")))

        text = compute.log(job.id)
        assert text.startswith("0\n1\n2\n")
        assert "the log went beyond 1,048,576 bytes; 5,774,778 bytes are left out here]" in text
        assert job.log_left_out_bytes == 5_774_778
        assert text.endswith("999998\n999999\n")
        assert len(text) < 1_200_000
        assert job.reason.endswith("999998\n  999999")

    def test_a_job_may_declare_to_end_when_its_log_is_full(self, compute: Compute) -> None:
        code = "while True: print('x' * 999)"

        job = run(compute, python(code, limits=Limits(log="1 MiB", when_log_full="fail")))

        assert job.state is JobState.FAILED
        assert "its log went beyond its limit (`limits.log`)" in job.reason
        assert len(compute.log(job.id)) < 1_200_000

    # ---- stopping

    def test_a_stopped_job_may_clean_up(self, compute: Compute) -> None:
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

    def test_a_job_that_does_not_heed_is_killed_after_its_grace(self, compute: Compute) -> None:
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

    def test_a_second_request_may_shorten_the_grace(self, compute: Compute) -> None:
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

    def test_a_job_is_stopped_at_any_moment_of_its_start(self, compute: Compute) -> None:
        for delay_s in (0.0, 0.01, 0.02, 0.03, 0.05):
            job = compute.submit(python(SLEEP, key=f"{delay_s}", retries=3))
            time.sleep(delay_s)

            assert compute.stop(job.id).state is JobState.STOPPED

    def test_an_interrupted_wait_leaves_the_job_running(self, compute: Compute) -> None:
        job = compute.submit(python(SLEEP))

        def interrupt(_: Job) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            compute.wait([job.id], on_change=interrupt)

        assert compute.get(job.id).state is JobState.RUNNING
        compute.stop(job.id)

    # ---- room

    def test_jobs_wait_for_room_and_start_in_order(self, compute: Compute) -> None:
        all_cpus = Resources(cpus=4, memory="100 MiB")
        submitted = [compute.submit(python("", key=f"{n}", resources=all_cpus)) for n in range(4)]

        jobs = compute.wait([job.id for job in submitted])

        assert JobState.QUEUED in {job.state for job in submitted}
        times = [(job.started_at or NEVER, job.ended_at or NEVER) for job in jobs]
        assert times == sorted(times)
        for (_, ended), (started, _) in pairwise(times):
            assert ended <= started

    def test_a_job_that_waits_says_for_what_and_who_has_it(self, compute: Compute) -> None:
        first = compute.submit(
            python(SLEEP, key="a", name="houses", resources=Resources(cpus=3, memory="1 GiB"))
        )
        second = compute.submit(
            python("", key="b", name="churn", resources=Resources(cpus=2, memory="1 GiB"))
        )
        third = compute.submit(python("", key="c", resources=Resources(cpus=1, memory="1 GiB")))

        listed = {job.id: job.waits_for for job in compute.list_()}

        assert listed == {
            first.id: "",
            second.id: f"waits for 2 CPUs; houses ({first.id[-6:]}) holds 3 CPU",
            third.id: f"waits for 1 CPU; churn ({second.id[-6:]}), submitted before it, waits too",
        }
        assert compute.get(second.id).waits_for == second.waits_for == listed[second.id]
        for job in (third, second, first):
            assert compute.stop(job.id, grace_s=0).waits_for == ""

    def test_a_large_job_is_not_starved_by_small_ones(self, compute: Compute) -> None:
        small = Resources(cpus=1, memory="100 MiB")
        code = "import time; time.sleep(0.2)"
        before = [compute.submit(python(code, key=f"a{n}", resources=small)) for n in range(5)]
        large = compute.submit(python("", key="large", resources=Resources(cpus=4)))
        after = [compute.submit(python("", key=f"b{n}", resources=small)) for n in range(5)]

        jobs = compute.wait([job.id for job in (*before, large, *after)])

        starts = [job.started_at or NEVER for job in jobs]
        assert max(starts[:5]) <= starts[5] <= min(starts[6:])

    def test_a_queued_job_is_stopped_without_starting(self, compute: Compute) -> None:
        all_cpus = Resources(cpus=4)
        first = compute.submit(python(SLEEP, key="a", resources=all_cpus))
        second = compute.submit(python("open('ran', 'x')", key="b", resources=all_cpus, retries=1))

        stopped = compute.stop(second.id)

        assert (second.state, stopped.state) == (JobState.QUEUED, JobState.STOPPED)
        assert stopped.reason == "It was stopped before it started."
        assert (stopped.started_at, stopped.cpu_s) == (None, None)
        assert not (stopped.folder / "env.json").exists()
        compute.stop(first.id)

    def test_a_service_starts_beside_a_full_machine(self, compute: Compute) -> None:
        all_cpus = Resources(cpus=4)
        training = compute.submit(python(SLEEP, key="a", resources=all_cpus))
        waiting = compute.submit(python(SLEEP, key="b", resources=all_cpus))

        service = compute.submit(python(SLEEP, key="c", resources=all_cpus, counted=False))

        assert (training.state, waiting.state) == (JobState.RUNNING, JobState.QUEUED)
        assert service.state is JobState.RUNNING
        for job in (waiting, training, service):
            compute.stop(job.id, grace_s=0)

    def test_files_of_a_job_that_runs_are_not_removed(self, compute: Compute) -> None:
        job = compute.submit(python(SLEEP))

        with pytest.raises(WrongStateError, match="its files are in use"):
            compute.delete_files(job.id)

        assert compute.stop(job.id, grace_s=0).folder.exists()

    # ---- several processes

    def test_a_job_outlives_its_submitter_and_is_found_again(
        self, compute: Compute, opening: str
    ) -> None:
        script = f"""{opening}
from loopwright.testing.compute import python
code = "import os, time\\nprint('one', flush=True)\\nwhile not os.path.exists('go'): time.sleep(.01)\\nprint('two'); raise SystemExit(5)"
job = compute.submit(python(code))
print(job.id, flush=True)
compute.wait([job.id])
"""
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as submitter:
            assert submitter.stdout is not None
            job_id = submitter.stdout.readline().decode().strip()

            submitter.kill()

        found = compute.find("work")
        assert found is not None
        assert (found.id, found.state) == (job_id, JobState.RUNNING)
        (found.folder / "go").touch()
        (job,) = compute.wait([job_id])
        assert (job.state, job.exit_code) == (JobState.FAILED, 5)
        assert compute.log(job_id) == "one\ntwo\n"

    def test_processes_that_submit_at_once_never_use_more_than_there_is(
        self, compute: Compute, opening: str
    ) -> None:
        script = f"""{opening}
import sys
from loopwright.compute import Resources
from loopwright.testing.compute import python
code = "import time; a = time.time(); time.sleep(.03); print(a, time.time())"
half = Resources(cpus=2, memory="100 MiB")
ids = [compute.submit(python(code, key=f"{{sys.argv[1]}}/{{n}}", resources=half)).id for n in range(3)]
same = compute.submit(python(code, key="shared", resources=half))
compute.wait([*ids, same.id])
"""

        submitters = [
            subprocess.Popen([sys.executable, "-c", script, f"{number}"]) for number in range(4)
        ]

        assert [submitter.wait() for submitter in submitters] == [0] * 4
        jobs = compute.list_()
        assert [job.reason for job in jobs] == [""] * 13
        spans = [tuple(map(float, compute.log(job.id).split())) for job in jobs]
        for start, _ in spans:
            assert sum(s <= start < e for s, e in spans) <= 2
