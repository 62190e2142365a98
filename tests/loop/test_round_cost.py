"""Money limits the time of a round by the processors that its jobs may use at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from loopwright.compute import Capacity, Resources
from loopwright.loop.training import _reserved_s, round_minutes
from loopwright.train import TrainBudget, TrainPlan

MACHINE = Capacity(cpus=8, memory_mib=16_384)
BUDGET = TrainBudget(minutes=600, money=0.5, price_per_cpu_hour=0.05)


@pytest.mark.parametrize(
    ("algorithms", "cpus", "minutes"),
    [
        # by hand: 10 processor hours for one job of 2, for three of them, for more than there are
        (("lightgbm",), 2.0, 300),
        (("lightgbm", "xgboost", "knn"), 2.0, 100),
        (("lightgbm", "xgboost", "knn"), 4.0, 75),
    ],
)
def test_money_is_shared_by_what_works_at_once(
    algorithms: tuple[str, ...], cpus: float, minutes: float
) -> None:
    plan = TrainPlan(algorithms=algorithms, budget=BUDGET, resources=Resources(cpus=cpus))

    assert round_minutes(plan, MACHINE) == pytest.approx(minutes)


def test_without_money_the_minutes_hold() -> None:
    assert round_minutes(TrainPlan(budget=TrainBudget(minutes=3)), MACHINE) == 3


def test_a_job_costs_its_processors_for_its_wall_time() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    job: Any = SimpleNamespace(
        started_at=start, ended_at=start + timedelta(seconds=90), resources=Resources(cpus=2.0)
    )
    waiting: Any = SimpleNamespace(started_at=None, ended_at=None, resources=Resources())

    assert _reserved_s(job) == 180
    assert _reserved_s(waiting) == 0
