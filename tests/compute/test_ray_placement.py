"""Which node takes which job, and what none can take."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.compute import Job, JobState, Resources
from loopwright.compute.ray_cluster import RayNode
from loopwright.compute.ray_placement import (
    cluster_capacity,
    placements,
    refuse_unplaceable,
    waiting_reason,
)
from loopwright.compute.resource import refuse_impossible
from loopwright.core.errors import InvalidInputError


def node(name: str, cpus: float, memory_mib: int = 4096, **fields: float) -> RayNode:
    return RayNode(id=name, ip=f"10.0.0.{name}", cpus=cpus, memory_mib=memory_mib, **fields)  # type: ignore[arg-type]


def job(name: str, cpus: float, memory: str = "100 MiB", gpus: int = 0, **group: Any) -> Job:
    return Job(
        id=name,
        key=name,
        attempt=1,
        name=name,
        kind="training",
        state=JobState.QUEUED,
        folder=Path(name),
        submitted_at=datetime(2026, 1, 1, tzinfo=UTC),
        resources=Resources(cpus=cpus, memory=memory, gpus=gpus),
        **group,
    )


def placed(jobs: list[Job], nodes: list[RayNode], **assigned: list[Job]) -> dict[str, str]:
    return {each.job.id: each.node.id for each in placements(jobs, nodes, assigned)}


def test_what_is_larger_than_every_node_is_refused_with_what_there_is() -> None:
    nodes = [node("1", 2), node("2", 4, 1024)]

    with pytest.raises(InvalidInputError) as caught:
        refuse_unplaceable(Resources(cpus=96, memory="1 TiB", gpus=4), nodes)

    assert caught.value.message == (
        "The job asks for 96 CPUs and 1,048,576 MiB of memory and 4 GPUs; "
        "the largest node of the cluster has 4 CPUs and 4,096 MiB of memory and 0 GPUs."
    )
    assert caught.value.facts == {"field": "resources.cpus", "value": 96, "available": 4}


def test_what_no_node_has_at_once_is_refused_though_each_amount_is_somewhere() -> None:
    nodes = [node("1", 2), node("2", 4, 1024)]

    with pytest.raises(InvalidInputError, match="together, which no node of the cluster has") as e:
        refuse_unplaceable(Resources(cpus=4, memory="2 GiB"), nodes)

    assert "10.0.0.2: 4 CPUs, 1,024 MiB" in str(e.value)
    refuse_unplaceable(Resources(cpus=4, memory="1 GiB"), nodes)


def test_a_cluster_without_nodes_takes_nothing() -> None:
    with pytest.raises(InvalidInputError, match="the cluster has no node"):
        refuse_unplaceable(Resources(), [])


def test_the_first_look_names_the_cluster() -> None:
    with pytest.raises(InvalidInputError, match="the largest node of the cluster has 4 CPUs"):
        refuse_impossible(Resources(cpus=5), cluster_capacity([node("1", 2), node("2", 4)]))


def test_a_job_goes_where_it_leaves_the_least_room() -> None:
    assert placed([job("a", 1)], [node("1", 4), node("2", 1)]) == {"a": "2"}
    assert placed([job("a", 2)], [node("1", 4), node("2", 1)]) == {"a": "1"}


def test_a_job_that_asks_for_no_gpu_keeps_off_the_gpus() -> None:
    nodes = [node("1", 4, n_gpus=1), node("2", 8)]

    assert placed([job("a", 1), job("b", 1, gpus=1)], nodes) == {"a": "2", "b": "1"}


def test_a_large_job_that_waits_keeps_later_ones_waiting_but_an_impossible_one_does_not() -> None:
    nodes = [node("1", 4)]
    running = job("r", 1)

    assert placed([job("a", 4), job("b", 1)], nodes, **{"1": [running]}) == {}
    assert placed([job("a", 9), job("b", 1)], nodes, **{"1": [running]}) == {"b": "1"}


def test_what_others_use_counts_and_what_is_ours_counts_once() -> None:
    ours = job("r", 2)

    # the cluster says 2 of 4 CPUs are in use: those are ours
    assert placed([job("a", 2)], [node("1", 4, used_cpus=2)], **{"1": [ours]}) == {"a": "1"}
    # 3 are: one is someone else's
    assert placed([job("a", 2)], [node("1", 4, used_cpus=3)], **{"1": [ours]}) == {}
    # the cluster does not know of ours yet
    assert placed([job("a", 3)], [node("1", 4)], **{"1": [ours]}) == {}


@settings(max_examples=60)
@given(
    cpus=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    asked=st.lists(st.sampled_from([0.1, 0.3, 0.5, 1, 2, 4]), max_size=20),
)
def test_no_node_is_promised_more_than_it_has(cpus: list[int], asked: list[float]) -> None:
    nodes = [node(str(n), many) for n, many in enumerate(cpus)]
    jobs = [job(f"{n}", many) for n, many in enumerate(asked)]

    chosen = placements(jobs, nodes, {})

    for each in nodes:
        taken = [c.job.resources.cpus for c in chosen if c.node.id == each.id]
        assert sum(round(many * 1000) for many in taken) <= each.cpus * 1000
    assert [c.job for c in chosen] == [j for j in jobs if j in [c.job for c in chosen]]


def test_a_job_that_waits_says_for_what() -> None:
    nodes = [node("1", 4, used_cpus=3, used_memory_mib=512)]

    assert waiting_reason(job("a", 2), nodes, n_before=0) == (
        "2 CPUs and 100 MiB of memory on one node "
        "(10.0.0.1: 3 of 4 CPUs and 512 of 4,096 MiB in use)"
    )
    assert waiting_reason(job("a", 2), nodes, n_before=2) == "2 jobs submitted before it"
    assert waiting_reason(job("a", 5), nodes, n_before=2) == (
        "a node that is large enough: it asks for 5 CPUs; "
        "the largest node of the cluster has 4 CPUs"
    )


def test_a_group_is_placed_when_the_nodes_have_room_for_all_of_it() -> None:
    nodes = [node("1", 2), node("2", 3)]
    group = job("a", 2, keeps_room_for=1)

    assert placed([group, job("b", 1)], nodes) == {"a": "1", "b": "2"}
    assert placed([group, job("b", 1)], nodes, **{"2": [job("r", 2)]}) == {}
    assert waiting_reason(group, nodes, n_before=0).startswith(
        "2 CPUs and 100 MiB of memory for each of 2 jobs at once, each on one node ("
    )
    # three never fit; nobody waits for them
    assert placed([job("c", 2, keeps_room_for=2), job("b", 1)], nodes) == {"b": "1"}


def test_what_is_kept_for_a_group_is_given_to_nobody_else_and_its_members_come_first() -> None:
    nodes = [node("1", 2), node("2", 3)]
    leader = job("a", 2, keeps_room_for=1)
    member = job("second", 2, joins="a")

    def beside(*queued: Job, **more: list[Job]) -> dict[str, str]:
        return placed(list(queued), nodes, **{"1": [leader], **more})

    assert beside(job("b", 2)) == {}
    assert beside(job("b", 1)) == {"b": "2"}
    assert beside(member, job("b", 2)) == {"second": "2"}
    assert beside(job("b", 2), member) == {"second": "2"}
    assert beside(job("c", 1), **{"2": [member]}) == {"c": "2"}
    # someone else uses the cluster meanwhile: the group has the first claim on what comes free
    assert beside(member, job("c", 0.5), **{"2": [job("r", 2)]}) == {}


@settings(max_examples=60)
@given(
    cpus=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    asked=st.lists(st.tuples(st.sampled_from([0.5, 1, 2]), st.integers(0, 3)), max_size=5),
)
def test_every_group_that_was_placed_can_be_completed(
    cpus: list[int], asked: list[tuple[float, int]]
) -> None:
    nodes = [node(str(n), many) for n, many in enumerate(cpus)]
    queued = [job(f"{n}", many, keeps_room_for=more) for n, (many, more) in enumerate(asked)]
    assigned: dict[str, list[Job]] = {}
    leaders = placements(queued, nodes, assigned)
    for each in leaders:
        assigned.setdefault(each.node.id, []).append(each.job)

    for each in leaders:
        for n in range(each.job.keeps_room_for):
            member = job(f"{each.job.id}/{n}", each.job.resources.cpus, joins=each.job.id)
            (found,) = placements([member], nodes, assigned)
            assigned.setdefault(found.node.id, []).append(member)

    for one in nodes:
        assert sum(each.resources.cpus for each in assigned.get(one.id, [])) <= one.cpus
