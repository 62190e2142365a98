"""Which queued jobs may start: never more than there is, in order, nobody starved."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.compute import Capacity, Job, JobState, Resources
from loopwright.compute.admission import Admission, admissions, joined, waiting_reasons


def job(
    name: str = "",
    *,
    cpus: float = 1.0,
    mib: int = 100,
    gpus: int = 0,
    state: JobState = JobState.QUEUED,
    counted: bool = True,
    gpu_ids: tuple[str, ...] = (),
    not_before: datetime | None = None,
    keeps_room_for: int = 0,
    joins: str = "",
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
        not_before=not_before,
        keeps_room_for=keeps_room_for,
        joins=joins,
    )


NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def decided(live: list[Job], capacity: Capacity) -> list[Admission]:
    queued = [job for job in live if job.state is JobState.QUEUED]
    running = [job for job in live if job.state is not JobState.QUEUED]
    return admissions(running, queued, capacity, now=NOW)


def started(live: list[Job], capacity: Capacity) -> list[str]:
    return [admission.job.name for admission in decided(live, capacity)]


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
    live = [job("service", counted=False), job("running", state=JobState.RUNNING), job("a")]

    assert started(live, Capacity(cpus=1, memory_mib=1000)) == ["service"]


def test_gpus_are_given_to_one_job_each() -> None:
    live = [
        job("running", gpus=1, state=JobState.RUNNING, gpu_ids=("1",)),
        job("a", gpus=1),
        job("service", gpus=1, counted=False),
        job("b", gpus=1),
    ]

    found = decided(live, Capacity(cpus=8, memory_mib=1000, gpu_ids=("0", "1", "2")))

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

    found = decided(live, capacity)

    counted = [each.job for each in found if each.job.counted]
    given_gpus = [gpu for each in found for gpu in each.gpu_ids]
    # each is rounded to a thousandth
    assert sum(each.resources.cpus for each in counted) <= 4 + 0.0005 * len(counted)
    assert sum(each.resources.memory_mib for each in counted) <= 800
    assert len(given_gpus) == len(set(given_gpus)) == sum(each.job.resources.gpus for each in found)


@settings(max_examples=60)
@given(live=st.lists(jobs, min_size=1, max_size=8))
def test_the_first_job_of_an_idle_machine_always_starts(live: list[Job]) -> None:
    found = decided(live, Capacity(cpus=5, memory_mib=500, gpu_ids=("0", "1")))

    assert found[0].job is live[0]


def test_a_job_that_waits_for_a_gpu_keeps_nobody_from_the_cpus() -> None:
    live = [
        job("running", gpus=1, state=JobState.RUNNING, gpu_ids=("0",)),
        job("learner", gpus=1),
        job("table"),
        job("large", cpus=3),
    ]

    # one CPU runs, one is owed to the job that waits for the GPU
    assert started(live, Capacity(cpus=4, memory_mib=1000, gpu_ids=("0",))) == ["table"]


def test_a_job_that_is_to_start_later_is_passed_over() -> None:
    live = [job("again", not_before=NOW + timedelta(seconds=5)), job("a")]

    assert started(live, Capacity(cpus=1, memory_mib=1000)) == ["a"]
    (reason,) = waiting_reasons([], live[:1], Capacity(cpus=1, memory_mib=1000), now=NOW).values()
    assert reason == "starts again in 5 s"


def test_a_job_that_waits_says_what_for_and_who_has_it() -> None:
    running = [job("houses", cpus=1.5, mib=900, state=JobState.RUNNING)]
    queued = [job("large", cpus=2, mib=200), job("small", mib=50), job("tiny", cpus=0.1, mib=1)]

    reasons = waiting_reasons(running, queued, Capacity(cpus=2, memory_mib=1000), now=NOW)

    assert reasons == {
        "large": "waits for 2 CPUs and 200 MiB of memory; houses (houses) holds 1.5 CPU and 900 MiB",
        "small": "waits for 1 CPU and 50 MiB of memory; large (large), submitted before it, waits too",
        "tiny": "waits for 0.1 CPUs and 1 MiB of memory; large (large), submitted before it, waits too",
    }


@settings(max_examples=60)
@given(drawn=st.lists(jobs, min_size=2, max_size=8))
def test_a_job_that_waits_is_not_kept_waiting_by_what_overtakes_it(drawn: list[Job]) -> None:
    capacity = Capacity(cpus=4, memory_mib=800, gpu_ids=("0", "1"))
    blocker, *queued = [replace(job, name=f"{n}") for n, job in enumerate(drawn)]
    running = replace(blocker, state=JobState.RUNNING, gpu_ids=("0",) * blocker.resources.gpus)

    admitted = admissions([running], queued, capacity, now=NOW)

    names = [each.job.name for each in admitted]
    waiting = next((job for job in queued if job.name not in names), None)
    if waiting is not None:
        overtaking = [
            replace(each.job, state=JobState.RUNNING, gpu_ids=each.gpu_ids)
            for each in admitted
            if int(each.job.name) > int(waiting.name)
        ]
        # once all that was there before it has ended, it starts beside what has overtaken it
        beside = admissions(overtaking, [waiting], capacity, now=NOW)
        assert len(beside) == len(admissions([], [waiting], capacity, now=NOW))


def test_a_job_that_keeps_room_for_others_starts_when_there_is_room_for_all() -> None:
    capacity = Capacity(cpus=4, memory_mib=1000)
    live = [job("a", keeps_room_for=2), job("b", keeps_room_for=1), job("c")]

    assert started(live, capacity) == ["a"]
    assert started([job("running", state=JobState.RUNNING), *live], capacity) == ["a"]
    assert started([job("running", cpus=2, state=JobState.RUNNING), *live], capacity) == []


def test_what_joins_a_job_takes_the_room_that_is_kept_and_no_more() -> None:
    capacity = Capacity(cpus=2, memory_mib=1000, gpu_ids=("0", "1"))
    leader = job("a", gpus=1, gpu_ids=("0",), state=JobState.RUNNING, keeps_room_for=1)
    second = job("second", gpus=1, joins="a")
    there = replace(second, state=JobState.RUNNING, gpu_ids=("1",))

    found = joined(second, [leader], capacity)

    assert found is not None
    assert found.gpu_ids == ("1",)
    assert started([leader, job("other"), job("gpu", cpus=0.1, gpus=1)], capacity) == []
    assert joined(job("third", joins="a"), [leader, there], capacity) is None
    assert joined(second, [], capacity) is None
    # when the leader has ended, what joined it counts for itself, wherever it stands in the list
    assert started([there, job("b")], capacity) == ["b"]
    assert started([there, leader, job("b")], Capacity(cpus=3, memory_mib=1000)) == ["b"]


def test_a_group_that_waits_says_what_for_and_a_group_that_runs_counts_once() -> None:
    running = [
        job("a", state=JobState.RUNNING, keeps_room_for=1),
        job("second", state=JobState.RUNNING, joins="a"),
    ]
    queued = [job("b", keeps_room_for=1)]

    reasons = waiting_reasons(running, queued, Capacity(cpus=3, memory_mib=1000), now=NOW)

    assert reasons == {"b": "waits for 2 CPUs for 2 jobs at once; a (a) holds 2 CPU"}


groups = st.builds(job, cpus=st.sampled_from([0.5, 1.0, 2.0]), keeps_room_for=st.integers(0, 3))


@settings(max_examples=60)
@given(drawn=st.lists(groups, min_size=1, max_size=6))
def test_every_group_that_has_started_can_be_completed(drawn: list[Job]) -> None:
    capacity = Capacity(cpus=4, memory_mib=1000)
    waiting = [
        replace(job, id=f"{n}", name=f"{n}")
        for n, job in enumerate(drawn)
        if job.resources.cpus * (1 + job.keeps_room_for) <= 4
    ]
    running = [
        replace(each.job, state=JobState.RUNNING)
        for each in admissions([], waiting, capacity, now=NOW)
    ]

    for leader in list(running):
        for n in range(leader.keeps_room_for):
            member = replace(leader, id=f"{leader.id}/{n}", keeps_room_for=0, joins=leader.id)
            assert joined(member, running, capacity) is not None
            running.append(member)

    assert sum(job.resources.cpus for job in running) <= 4
    assert bool(running) == bool(waiting)
