"""Jobs: the states they go through, what cannot be asked for, and their records."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from loopwright.compute import Job, JobSpec, JobState, Resources
from loopwright.compute.job import job_body, job_of_body
from loopwright.core.errors import InvalidInputError, WrongStateError


def test_a_job_that_has_ended_stays_as_it_is() -> None:
    ended = [state for state in JobState if state.has_ended]

    assert ended == [JobState.SUCCEEDED, JobState.FAILED, JobState.STOPPED]
    for state in ended:
        for target in JobState:
            with pytest.raises(WrongStateError, match="It has ended; start a new one"):
                state.move_to(target)


def test_a_stopping_job_cannot_run_again() -> None:
    with pytest.raises(WrongStateError, match="A stopping job cannot become running"):
        JobState.STOPPING.move_to(JobState.RUNNING)


def test_every_state_can_be_reached_from_the_first() -> None:
    reached = [JobState.QUEUED]
    for state in reached:
        for target in JobState:
            try:
                reached += {state.move_to(target)} - set(reached)
            except WrongStateError:
                continue

    assert set(reached) == set(JobState)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key", ""),
        ("command", ()),
        ("command", ("a\0b",)),
        ("time_limit_s", 0),
        ("time_limit_s", float("inf")),
        ("files", {"/etc/passwd": b""}),
        ("files", {"../escape": b""}),
        ("files", {"a/../../escape": b""}),
        ("files", {"exit.json": b""}),
        ("files", {"out/result": b""}),
        ("files", {"": b""}),
        ("env", {"A=B": "c"}),
        ("env", {"A": "b\0c"}),
    ],
)
def test_what_cannot_run_is_refused(field: str, value: Any) -> None:
    given: dict[str, Any] = {"key": "k", "name": "n", "kind": "k", "command": ("true",)}

    with pytest.raises(InvalidInputError, match=f"A job's {field} cannot be"):
        JobSpec(**given | {field: value})


def test_a_specification_does_not_show_its_environment() -> None:
    spec = JobSpec(key="k", name="n", kind="k", command=("true",), env={"TOKEN": "hush-hush"})

    assert "hush-hush" not in repr(spec)


def test_a_job_comes_back_from_its_record() -> None:
    job = Job(
        id="0190",
        key="houses/1",
        attempt=2,
        name="houses/xgboost",
        kind="training",
        state=JobState.FAILED,
        folder=Path("/home/jobs/0190"),
        submitted_at=datetime(2026, 1, 1, tzinfo=UTC),
        started_at=datetime(2026, 1, 1, 1, tzinfo=UTC),
        exit_code=-9,
        reason="It was ended.",
        labels={"loop": "houses"},
        resources=Resources(cpus=0.5, memory="1 GiB", gpus=1),
        time_limit_s=60.0,
        counted=False,
        gpu_ids=("0",),
        peak_memory_mib=12.5,
        cpu_s=0.25,
    )

    body = json.loads(json.dumps(job_body(job)))

    assert job_of_body(body, folder=Path("/home/jobs")) == job
