"""What every compute backend must do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from loopwright.compute import Compute, Job, JobSpec, JobState, Resources
from loopwright.core.errors import InvalidInputError, NotFoundError

SMALL = Resources(cpus=0.1, memory="200 MiB")


def python(code: str, *, key: str = "work", **fields: Any) -> JobSpec:
    """Return a small job that runs some Python."""
    given: dict[str, Any] = {"name": "a test", "kind": "training", "resources": SMALL} | fields
    return JobSpec(key=key, command=(sys.executable, "-I", "-S", "-c", code), **given)


def run(compute: Compute, spec: JobSpec) -> Job:
    """Return a job after it has ended."""
    return compute.wait([compute.submit(spec).id])[0]


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
            (Resources(cpus=96 * 1024), "asks for 98304 CPUs; this machine has"),
            (Resources(memory="900 TiB"), "asks for 943,718,400 MiB of memory; this machine"),
            (Resources(gpus=400), "asks for 400 GPUs; this machine has"),
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
