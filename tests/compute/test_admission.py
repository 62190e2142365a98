"""Which queued jobs may start: never more than there is, in order, nobody starved."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.compute import Capacity, Job, JobState, Resources
from loopwright.compute.admission import admissions


def job(
    name: str = "",
    *,
    cpus: float = 1.0,
    mib: int = 100,
    gpus: int = 0,
    state: JobState = JobState.QUEUED,
    counted: bool = True,
    gpu_ids: tuple[str, ...] = (),
) -> Job:
    return Job(
        id=name,
        key=name,
        attempt=1,
        name=name,
        kind="training",
        state=state,
        folder=Path(name),
        submitted_at=datetime(2026, 1, 1, tzinfo=UTC),
        resources=Resources(cpus=cpus, memory=f"{mib} MiB", gpus=gpus),
        counted=counted,
        gpu_ids=gpu_ids,
    )


def started(live: list[Job], capacity: Capacity) -> list[str]:
    return [admission.job.name for admission in admissions(live, capacity)]


def test_jobs_start_in_order_while_there_is_room() -> None:
    live = [job("running", state=JobState.RUNNING), job("a"), job("b"), job("c")]

    assert started(live, Capacity(cpus=3, memory_mib=1000)) == ["a", "b"]


def test_a_stopping_job_still_takes_its_place() -> None:
    live = [job("stopping", state=JobState.STOPPING), job("a")]

    assert started(live, Capacity(cpus=1, memory_mib=1000)) == []


def test_a_large_job_is_not_overtaken_by_small_ones() -> None:
    live = [job("running", state=JobState.RUNNING), job("large", cpus=4), job("small")]

    assert started(live, Capacity(cpus=4, memory_mib=1000)) == []


def test_memory_counts_like_cpus() -> None:
    live = [job("a", mib=600), job("b", mib=500)]

    assert started(live, Capacity(cpus=8, memory_mib=1000)) == ["a"]


def test_tenths_of_a_cpu_add_up_exactly() -> None:
    live = [job(f"{n}", cpus=0.1, mib=1) for n in range(11)]

    assert len(started(live, Capacity(cpus=1, memory_mib=1000))) == 10


def test_a_service_never_waits() -> None:
    live = [job("running", state=JobState.RUNNING), job("a"), job("service", counted=False)]

    assert started(live, Capacity(cpus=1, memory_mib=1000)) == ["service"]


def test_gpus_are_given_to_one_job_each() -> None:
    live = [
        job("running", gpus=1, state=JobState.RUNNING, gpu_ids=("1",)),
        job("a", gpus=1),
        job("service", gpus=1, counted=False),
        job("b", gpus=1),
    ]

    found = admissions(live, Capacity(cpus=8, memory_mib=1000, gpu_ids=("0", "1", "2")))

    assert {each.job.name: each.gpu_ids for each in found} == {"a": ("0",), "service": ("2",)}


jobs = st.builds(
    job,
    cpus=st.floats(0.01, 5),
    mib=st.integers(1, 500),
    gpus=st.integers(0, 2),
    counted=st.booleans(),
)


@settings(max_examples=60)
@given(live=st.lists(jobs, max_size=8))
def test_what_starts_together_never_exceeds_what_there_is(live: list[Job]) -> None:
    capacity = Capacity(cpus=4, memory_mib=800, gpu_ids=("0", "1"))

    found = admissions(live, capacity)

    counted = [each.job for each in found if each.job.counted]
    given_gpus = [gpu for each in found for gpu in each.gpu_ids]
    # each is rounded to a thousandth
    assert sum(each.resources.cpus for each in counted) <= 4 + 0.0005 * len(counted)
    assert sum(each.resources.memory_mib for each in counted) <= 800
    assert len(given_gpus) == len(set(given_gpus)) == sum(each.job.resources.gpus for each in found)


@settings(max_examples=60)
@given(live=st.lists(jobs, min_size=1, max_size=8))
def test_the_first_job_of_an_idle_machine_always_starts(live: list[Job]) -> None:
    found = admissions(live, Capacity(cpus=5, memory_mib=500, gpu_ids=("0", "1")))

    assert found[0].job is live[0]
