"""The jobs of an attempt: sized by where they run, ordered with the limits the file declares."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loopwright.compute import Capacity, InlineCompute, Job, JobSpec, Limits
from loopwright.core.clock import SystemClock
from loopwright.core.errors import InvalidInputError
from loopwright.loop import parse_loop_file
from loopwright.loop.file import ReadFile
from loopwright.loop.preflight import checked_plans
from loopwright.loop.training import _all_there_is, _time_limit_s, _unusual
from loopwright.loop.training_turn import Order, ended_jobs, in_time
from loopwright.train import TrainPlan

FILE = """\
name: houses
problem: {target: price}
data: {source: {kind: file, path: houses.parquet}}
train: {workers: 4, resources: {cpus: 2, memory: 2 GiB}}
"""


def plan(**values: Any) -> TrainPlan:
    return msgspec.convert(values, TrainPlan)


def test_a_search_is_sized_by_the_largest_node_of_a_cluster_and_not_by_this_machine() -> None:
    node = Capacity(cpus=7, memory_mib=40_000)

    given = _all_there_is(Capacity(cpus=7, memory_mib=40_000, nodes=(node, node)))

    assert (given.cpus, given.memory_mib) == (7, 16_384)
    assert _all_there_is(Capacity(cpus=1, memory_mib=2000)).memory_mib == 1000


def test_all_jobs_of_an_attempt_are_returned_in_the_order_they_were_asked_for(
    tmp_path: Path,
) -> None:
    compute = InlineCompute(tmp_path, SystemClock())
    specs = [
        JobSpec(
            key=name,
            name=name,
            kind="test",
            command=(sys.executable, "-I", "-S", "-c", f"raise SystemExit({code})"),
        )
        for name, code in (("a", 0), ("b", 3), ("c", 0))
    ]
    seen: list[Job] = []

    ended = ended_jobs(compute, specs, workers=[1, 1, 1], on_change=seen.append)

    assert [job.name for job in ended] == ["a", "b", "c"]
    assert [job.state.value for job in ended] == ["succeeded", "failed", "succeeded"]
    assert {job.name for job in seen} == {"a", "b", "c"}


class Orders:
    """Jobs that last as long as they are given, or ten seconds if they do not search."""

    def __init__(self, tmp_path: Path) -> None:
        compute = InlineCompute(tmp_path, SystemClock())
        spec = JobSpec(
            key="a", name="a", kind="test", command=(sys.executable, "-I", "-S", "-c", "")
        )
        self.job = compute.wait([compute.submit(spec).id])[0]
        self.given: list[tuple[Order, float]] = []
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def ended(self, some: Sequence[Order], seconds: float) -> list[Job]:
        self.given += [(order, seconds) for order in some]
        jobs = []
        for order in some:
            start, self.now = self.now, self.now + timedelta(seconds=10)
            jobs.append(
                replace(self.job, name="/".join(order), started_at=start, ended_at=self.now)
            )
        return jobs


def test_a_search_is_given_what_the_other_jobs_left_of_the_time(tmp_path: Path) -> None:
    orders = Orders(tmp_path)
    asked = [("auto", "all"), ("knn", "all"), ("lightgbm", "all")]

    ended = in_time(asked, orders.ended, seconds=60, least_s=30, side_by_side=1)

    assert [job.name for job in ended] == ["auto/all", "knn/all", "lightgbm/all"]
    assert orders.given == [
        (("knn", "all"), 60),
        (("lightgbm", "all"), 60),
        (("auto", "all"), 40),
    ]


@pytest.mark.parametrize(
    ("side_by_side", "each"),
    [(1, 50.0), (2, 100.0), (3, 100.0)],
)
def test_searches_that_follow_one_another_share_the_time(
    tmp_path: Path, side_by_side: int, each: float
) -> None:
    orders = Orders(tmp_path)

    in_time(
        [("auto", "all"), ("auto", "recent")],
        orders.ended,
        seconds=100,
        least_s=30,
        side_by_side=side_by_side,
    )

    assert [seconds for _, seconds in orders.given] == [each, each]


def test_a_search_has_a_least_time_even_where_none_is_left(tmp_path: Path) -> None:
    orders = Orders(tmp_path)

    in_time(
        [("knn", "all"), ("auto", "all")],
        orders.ended,
        seconds=12,
        least_s=30,
        side_by_side=1,
    )

    assert orders.given[-1] == (("auto", "all"), 30)


def test_the_shorter_of_budget_and_time_limit_holds() -> None:
    assert _time_limit_s(plan(), 300.0) == 300
    assert _time_limit_s(plan(time_limit="2 minutes"), 300.0) == 120
    assert _time_limit_s(plan(time_limit="2 hours"), 300.0) == 300


def test_what_a_file_says_of_its_jobs_counts_only_where_it_is_not_the_usual() -> None:
    assert _unusual(plan(seed=9)) == []
    assert _unusual(plan(workers=2)) != _unusual(plan(workers=3))
    assert _unusual(plan(limits={"log": "1 MiB"})) == _unusual(
        TrainPlan(limits=Limits(log="1 MiB"))
    )


@pytest.mark.parametrize(
    ("capacity", "said"),
    [
        (Capacity(cpus=6, memory_mib=9000), r"line 4: .*this machine can run 3 of 2 CPUs"),
        (
            Capacity(
                cpus=3,
                memory_mib=4096,
                nodes=(Capacity(cpus=3, memory_mib=4096), Capacity(cpus=3, memory_mib=2048)),
            ),
            "the 2 nodes can run 2 of 2 CPUs and 2,048 MiB each. Use at most 2",
        ),
    ],
)
def test_more_workers_than_there_is_room_for_at_once_are_refused(
    capacity: Capacity, said: str
) -> None:
    content = parse_loop_file(FILE.encode())
    read = ReadFile(path=Path("loop.yaml"), content=content, lines={".train.workers": 4})

    with pytest.raises(InvalidInputError, match=said), read.telling_lines():
        checked_plans(read, capacity)


def test_as_many_workers_as_there_is_room_for_are_taken() -> None:
    nodes = (Capacity(cpus=4, memory_mib=4096), Capacity(cpus=4, memory_mib=4096))
    read = ReadFile(path=Path("loop.yaml"), content=parse_loop_file(FILE.encode()))

    checked_plans(read, Capacity(cpus=4, memory_mib=4096, nodes=nodes))
