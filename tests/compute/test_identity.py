"""A job is found by a part of its identifier that no other job has."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from loopwright.compute import InlineCompute, JobSpec
from loopwright.compute.identity import job_id_of
from loopwright.core.clock import SystemClock
from loopwright.core.errors import InvalidInputError


@pytest.fixture
def compute(tmp_path: Path) -> InlineCompute:
    compute = InlineCompute(tmp_path, SystemClock())
    for key in ("a", "b", "c"):
        command = (sys.executable, "-I", "-S", "-c", "")
        compute.submit(JobSpec(key=key, name=f"houses/{key}", kind="test", command=command))
    return compute


def test_the_end_that_messages_show_is_enough(compute: InlineCompute) -> None:
    for job in compute.list_():
        assert job_id_of(compute, job.id[-6:]) == job.id
        assert job_id_of(compute, job.id[-6:].upper()) == job.id
        assert job_id_of(compute, job.id[:-1]) == job.id
        assert job_id_of(compute, job.id) == job.id


def test_what_several_jobs_share_is_refused_with_all_of_them(compute: InlineCompute) -> None:
    first, *_ = jobs = compute.list_()

    with pytest.raises(InvalidInputError, match="may be any of 3 jobs") as caught:
        job_id_of(compute, first.id[:5])

    assert all(f"{job.id} ({job.name}, succeeded)" in caught.value.hint for job in jobs)


def test_what_no_job_has_stays_as_it_is(compute: InlineCompute) -> None:
    assert job_id_of(compute, "zzzzzz") == "zzzzzz"
    assert job_id_of(compute, compute.list_()[0].id[-3:]) == compute.list_()[0].id[-3:]
