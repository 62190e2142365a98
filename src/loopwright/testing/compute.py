"""What every compute backend must do."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from loopwright.compute import (
    Compute,
    Job,
    JobSpec,
    JobState,
    Resources,
    compared,
    rerun_spec,
    retry,
)
from loopwright.compute.origin import REDACTED
from loopwright.compute.supervisor.process import process_identity
from loopwright.core.digest import digest_bytes
from loopwright.core.errors import InvalidInputError, NotFoundError, WrongStateError

SMALL = Resources(cpus=0.1, memory="200 MiB")
NEVER = datetime(9999, 1, 1, tzinfo=UTC)
SLEEP = "import time; time.sleep(60)"


def python(code: str, *, key: str = "work", **fields: Any) -> JobSpec:
    """Return a small job that runs some Python."""
    given: dict[str, Any] = {"name": "a test", "kind": "training", "resources": SMALL} | fields
    return JobSpec(key=key, command=(sys.executable, "-I", "-S", "-c", code), **given)


def run(compute: Compute, spec: JobSpec) -> Job:
    """Return a job after it has ended."""
    return compute.wait([compute.submit(spec).id])[0]


def is_alive(pid: int) -> bool:
    """Tell whether a process of this machine lives."""
    return process_identity(pid) is not None


def await_(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something is so, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def printed(compute: Compute, job: Job, n_lines: int = 1) -> list[str]:
    """Return the lines of a job's log once it has so many."""
    await_(lambda: compute.log(job.id).count("\n") >= n_lines)
    return compute.log(job.id).splitlines()


class ComputeContract:
    """Tests of a `Compute`; derive from it and give a fixture `compute` without jobs."""

    def test_a_job_that_exits_with_0_has_succeeded(self, compute: Compute) -> None:
        job = run(compute, python("print('hello')"))

        assert (job.state, job.exit_code, job.reason) == (JobState.SUCCEEDED, 0, "")
        assert compute.log(job.id) == "hello\n"
        assert job.started_at is not None
        assert job.ended_at is not None
        assert job.cpu_s is not None
        assert compute.get(job.id) == compute.find("work") == job

    def test_a_job_that_exits_with_another_code_has_failed_with_its_last_lines(
        self, compute: Compute
    ) -> None:
        job = run(compute, python("for n in range(40): print('line', n)\nraise SystemExit(3)"))

        assert (job.state, job.exit_code) == (JobState.FAILED, 3)
        assert job.reason.startswith("It exited with code 3. The last lines of its log:")
        assert job.reason.splitlines()[1:] == [f"  line {n}" for n in range(25, 40)]

    def test_lines_without_an_end_do_not_fill_the_reason_of_a_failure(
        self, compute: Compute
    ) -> None:
        job = run(compute, python("print('x' * 30_000 + '\\nshort'); raise SystemExit(1)"))

        assert job.reason.splitlines()[1:] == [
            f"  {'x' * 400}… (29,600 more characters)",
            "  short",
        ]

    def test_a_command_that_does_not_exist_fails_and_is_named(self, compute: Compute) -> None:
        spec = JobSpec(key="w", name="n", kind="k", command=("no-such-program",), resources=SMALL)

        job = run(compute, spec)

        assert (job.state, job.exit_code) == (JobState.FAILED, 127)
        assert "'no-such-program' cannot be started: No such file" in job.reason

    def test_errors_and_output_go_to_the_log_in_order(self, compute: Compute) -> None:
        code = "import os\nfor n in range(4): os.write(1 + n % 2, b'%d\\n' % n)"

        job = run(compute, python(code))

        assert compute.log(job.id) == "0\n1\n2\n3\n"
        assert compute.log(job.id, tail_bytes=2) == "3\n"

    def test_a_log_that_is_no_utf8_can_be_read(self, compute: Compute) -> None:
        job = run(compute, python(r"import os; os.write(1, b'caf\xe9')"))

        assert compute.log(job.id) == "caf�"

    def test_a_job_finds_its_files_and_leaves_its_results(
        self, compute: Compute, tmp_path: Path
    ) -> None:
        table = tmp_path / "table.csv"
        table.write_text("a,b")
        files: dict[str, bytes | Path] = {"in/config.json": b"{}", "in/table.csv": table}
        code = (
            "table = open('in/table.csv').read() + open('in/config.json').read()\n"
            "open('out/result.txt', 'w').write(table)\n"
            "open('in/table.csv', 'a').write('changed')"
        )

        job = run(compute, python(code, files=files))

        assert job.reason == ""
        assert (job.out / "result.txt").read_text() == "a,b{}"
        assert table.read_text() == "a,b"

    def test_a_read_only_file_reaches_the_job_whole(self, compute: Compute, tmp_path: Path) -> None:
        snapshot = tmp_path / "snapshot"
        snapshot.write_text("rows")
        snapshot.chmod(0o444)

        job = run(compute, python("print(open('rows').read())", files={"rows": snapshot}))

        assert compute.log(job.id) == "rows\n"

    def test_a_job_gets_its_environment_and_no_secret_of_ours(
        self, compute: Compute, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABASE_PASSWORD", "hush-hush")
        monkeypatch.setenv("LANG", "C.UTF-8")
        code = (
            "import os\n"
            "names = 'DATABASE_PASSWORD LANG ROUND OMP_NUM_THREADS OMP_WAIT_POLICY '\n"
            "names += 'POLARS_MAX_THREADS PYTHONUNBUFFERED'\n"
            "for name in names.split(): print(name, os.environ.get(name))"
        )
        env = {"ROUND": "7", "POLARS_MAX_THREADS": "3"}
        resources = Resources(cpus=1.5, memory="200 MiB")

        job = run(compute, python(code, env=env, resources=resources))

        assert compute.log(job.id).splitlines() == [
            "DATABASE_PASSWORD None",
            "LANG C.UTF-8",
            "ROUND 7",
            "OMP_NUM_THREADS 2",
            "OMP_WAIT_POLICY PASSIVE",
            "POLARS_MAX_THREADS 3",
            "PYTHONUNBUFFERED 1",
        ]

    def test_relative_python_paths_hold_in_the_folder_of_the_job(
        self, compute: Compute, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PYTHONPATH", "src")

        job = run(compute, python("import os; print(os.environ['PYTHONPATH'])"))

        assert compute.log(job.id).strip() == str(tmp_path / "src")

    def test_a_job_that_takes_too_long_is_ended(self, compute: Compute) -> None:
        code = "import time; print('training', flush=True); time.sleep(60)"

        job = run(compute, python(code, time_limit_s=0.5))

        assert job.state is JobState.FAILED
        assert job.reason.startswith("It was ended at its time limit of 0.5 s.")
        assert "training" in job.reason

    def test_the_same_key_finds_the_job_that_succeeded(self, compute: Compute) -> None:
        first = run(compute, python("open('out/x', 'x')"))

        again = compute.submit(python("raise SystemExit(1)"))

        assert again == first
        assert compute.list_() == [first]

    def test_the_same_key_starts_anew_what_failed(self, compute: Compute) -> None:
        first = run(compute, python("raise SystemExit(1)"))

        second = run(compute, python("print('better')"))

        assert (first.attempt, second.attempt) == (1, 2)
        assert first.id != second.id
        assert second.state is JobState.SUCCEEDED
        assert compute.find("work") == second
        assert compute.get(first.id) == first

    def test_a_key_may_be_any_text(self, compute: Compute) -> None:
        job = run(compute, python("", key="round 1/✓\n" + "x" * 2000))

        assert compute.find(job.key) == job

    def test_jobs_are_listed_by_kind_and_labels_in_order(self, compute: Compute) -> None:
        ids = [
            run(compute, python("", key=f"{n}", kind=kind, labels=labels)).id
            for n, (kind, labels) in enumerate(
                [
                    ("training", {"loop": "houses", "round": "1"}),
                    ("training", {"loop": "churn"}),
                    ("evaluation", {"loop": "houses"}),
                ]
            )
        ]

        def listed(**filters: Any) -> list[str]:
            return [job.id for job in compute.list_(**filters)]

        assert listed() == ids
        assert listed(kind="training") == ids[:2]
        assert listed(labels={"loop": "houses"}) == [ids[0], ids[2]]
        assert listed(kind="training", labels={"loop": "houses", "round": "1"}) == [ids[0]]
        assert listed(labels={"loop": "other"}) == []

    def test_waiting_tells_of_the_end(self, compute: Compute) -> None:
        seen: list[Job] = []
        submitted = [compute.submit(python("", key=key)) for key in "ab"]

        jobs = compute.wait([job.id for job in submitted], on_change=seen.append)

        assert [job.id for job in jobs] == [job.id for job in submitted]
        ends = [job.id for job in seen if job.state is JobState.SUCCEEDED]
        assert sorted(ends) == sorted(job.id for job in submitted)

    def test_stopping_what_has_ended_changes_nothing(self, compute: Compute) -> None:
        job = run(compute, python(""))

        assert compute.stop(job.id) == job

    @pytest.mark.parametrize(
        ("resources", "said"),
        [
            (Resources(cpus=96 * 1024), "asks for 98304 CPUs; .+ has "),
            (Resources(memory="900 TiB"), "asks for 943,718,400 MiB of memory; .+ has "),
            (Resources(gpus=400), "asks for 400 GPUs; .+ has "),
        ],
    )
    def test_what_the_machine_can_never_give_is_refused_at_once(
        self, compute: Compute, resources: Resources, said: str
    ) -> None:
        with pytest.raises(InvalidInputError, match=said) as caught:
            compute.submit(python("", resources=resources))

        assert "Ask for at most that" in str(caught.value)
        assert compute.list_() == []

    def test_a_file_that_is_not_there_is_refused(self, compute: Compute, tmp_path: Path) -> None:
        with pytest.raises(InvalidInputError, match=r"nowhere\.csv"):
            compute.submit(python("", files={"a": b"", "b": tmp_path / "nowhere.csv"}))

        assert compute.list_() == []

    def test_an_unknown_job_is_not_found(self, compute: Compute) -> None:
        with pytest.raises(NotFoundError, match="no job 'nope'"):
            compute.get("nope")
        with pytest.raises(NotFoundError, match="no job 'nope'"):
            compute.log("nope")
        assert compute.find("nope") is None

    # ---- tries, checkpoints, what is kept for a repetition

    def test_a_job_that_was_killed_from_outside_is_tried_again(
        self, compute: Compute, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(retry, "FIRST_DELAY_S", 0.02)
        code = (
            "import os, signal\n"
            "place = os.environ['LOOPWRIGHT_CHECKPOINT_DIR'] + '/tries'\n"
            "open(place, 'a').write('x')\n"
            "tries = os.path.getsize(place)\n"
            "print('try', tries, os.environ['TOKEN'], sorted(os.listdir('out')), flush=True)\n"
            "open(f'out/{tries}', 'w'); open('left', 'w')\n"
            "if tries < 3: os.kill(os.getpid(), signal.SIGKILL)"
        )
        spec = python(code, retries=2, checkpoint=True, env={"TOKEN": "abc"})

        job = run(compute, spec)

        assert (job.state, job.retried, job.attempt) == (JobState.SUCCEEDED, 2, 1)
        assert [path.name for path in job.out.iterdir()] == ["3"]
        said = [line for line in compute.log(job.id).splitlines() if line.startswith("try")]
        assert said == ["try 1 abc []", "try 2 abc []", "try 3 abc []"]
        assert "Try 3 of 3 follows.]" in compute.log(job.id)
        assert not (job.folder / "env.json").exists()
        assert [found.id for found in compute.list_()] == [job.id]

    def test_a_job_that_is_lost_too_often_has_failed(
        self, compute: Compute, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(retry, "FIRST_DELAY_S", 0.02)

        job = run(compute, python("import os; os.kill(os.getpid(), 9)", retries=1))

        assert (job.state, job.exit_code, job.retried) == (JobState.FAILED, -9, 1)

    def test_a_command_that_fails_by_itself_is_not_tried_again(self, compute: Compute) -> None:
        failed = run(compute, python("raise SystemExit(1)", retries=3))
        slow = python("import time; time.sleep(60)", key="b", retries=3, time_limit_s=0.3)

        assert (failed.state, failed.retried) == (JobState.FAILED, 0)
        assert run(compute, slow).retried == 0

    def test_the_next_attempt_at_a_key_finds_the_checkpoints_and_no_other_key_does(
        self, compute: Compute
    ) -> None:
        code = (
            "import os\n"
            "folder = os.environ.get('LOOPWRIGHT_CHECKPOINT_DIR', '')\n"
            "print(sorted(os.listdir(folder)) if folder else 'none')\n"
            "if folder: open(folder + '/epoch-1', 'w')\n"
            "raise SystemExit(1)"
        )

        jobs = [
            run(compute, python(code, key=key, checkpoint=checkpoint))
            for key, checkpoint in (("a", True), ("a", True), ("b", True), ("c", False))
        ]

        said = [compute.log(job.id).strip() for job in jobs]
        assert said == ["[]", "['epoch-1']", "[]", "none"]
        assert jobs[3].checkpoints is None
        assert jobs[0].checkpoints is not None
        assert (jobs[0].checkpoints / "epoch-1").exists()

    def test_a_job_tells_what_it_was_made_of_and_keeps_no_secret(self, compute: Compute) -> None:
        env = {
            "ROUNDS": "7",
            "API_TOKEN": "hush-hush",
            "DATABASE": "postgresql://me:hush-hush@db/rows",
        }
        spec = python("", files={"in/x": b"rows"}, env=env, seed=7, varying=("times",))

        origin = compute.origin(run(compute, spec).id)

        assert origin.command == spec.command
        assert origin.files == {"in/x": digest_bytes(b"rows")}
        assert origin.env == {"ROUNDS": "7", "API_TOKEN": REDACTED, "DATABASE": REDACTED}
        assert origin.code["python"] == platform.python_version()
        assert origin.packages["msgspec"] == version("msgspec")
        assert (origin.seed, origin.varying) == (7, ("times",))
        assert origin.hardware["cpus"] > 0

    def test_a_job_that_is_run_again_gives_the_same(self, compute: Compute) -> None:
        code = (
            "import os, time\n"
            "open('out/model', 'w').write(open('rows').read() * int(os.environ['TIMES']))\n"
            "open('out/times', 'w').write(str(time.time()))"
        )
        env = {"TIMES": "2", "TOKEN": "abc"}
        spec = python(code, files={"rows": b"abc"}, env=env, varying=("times",))
        job = run(compute, spec)

        again = run(compute, rerun_spec(compute, job.id, environment={"TOKEN": "abc"}))

        assert (again.rerun_of, again.state) == (job.id, JobState.SUCCEEDED)
        assert again.id != job.id
        found = compared(job, again, varying=compute.origin(job.id).varying)
        assert (found.is_same, found.n_files, found.not_compared) == (True, 1, ("times",))
        assert compute.find("work") == job

    def test_a_repetition_that_gives_something_else_says_where(self, compute: Compute) -> None:
        job = run(compute, python("import os; open('out/model', 'wb').write(os.urandom(99))"))

        again = run(compute, rerun_spec(compute, job.id, environment={}))

        found = compared(job, again, varying=())
        assert not found.is_same
        assert found.difference.startswith("model differs from byte")

    def test_what_was_changed_or_not_kept_is_not_run_again(self, compute: Compute) -> None:
        changed = run(compute, python("open('rows', 'w').write('b')", files={"rows": b"a"}))
        secret = run(compute, python("", key="secret", env={"PASSWORD": "hush"}))
        failed = run(compute, python("raise SystemExit(1)", key="failed"))

        with pytest.raises(InvalidInputError, match=r"rows of the job .* is not what it was"):
            rerun_spec(compute, changed.id, environment={})
        with pytest.raises(InvalidInputError, match="The value of PASSWORD was not kept"):
            rerun_spec(compute, secret.id, environment={})
        with pytest.raises(WrongStateError, match="is failed; only one that succeeded"):
            rerun_spec(compute, failed.id, environment={})

    def test_a_job_whose_files_were_removed_stays_on_record_and_runs_anew(
        self, compute: Compute
    ) -> None:
        spec = python("open('out/x', 'w').write('x' * 100_000)", checkpoint=True)
        job = run(compute, spec)

        freed = compute.delete_files(job.id)

        assert freed >= 100_000
        assert not job.folder.exists()
        assert compute.get(job.id) == job
        assert compute.log(job.id) == ""
        assert run(compute, spec).attempt == 2
