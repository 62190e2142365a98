"""A trial is judged as the loop judges its candidates."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from loopwright.compute import Resources
from loopwright.evaluate import best_threshold
from loopwright.loop.sourcing import Target
from loopwright.loop.tuning import _seconds, trial_value
from loopwright.problem import class_answers, metric_named
from loopwright.train import TrainBudget, TrainPlan
from loopwright.tune import TrialRecord, TunePlan


def test_money_is_counted_at_the_threshold_that_earns_most(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    y = (rng.random(400) < 0.2).astype(np.float64)
    raw = np.clip(0.15 + 0.25 * y + 0.1 * rng.normal(size=400), 0, 1)
    said = {"actual": np.where(y == 1, "yes", "no"), "probability": raw}
    pl.DataFrame(said).write_parquet(tmp_path / "validation.parquet")
    profit = metric_named(
        "profit_per_case",
        payoff={"true_positive": 160, "false_positive": -20, "false_negative": -400},
    )
    target = Target(column="left", task="binary", classes=("no", "yes"), reason="", n_null=0)
    job: Any = SimpleNamespace(out=tmp_path)

    value = trial_value(job, target, profit)

    def earned(threshold: float) -> float:
        answers = class_answers(raw, threshold=threshold)
        return float(profit.resampled(y, answers, np.ones((1, 400)))[0])

    assert value == earned(best_threshold(profit, y, raw))
    assert value > earned(0.5)


def test_a_search_takes_no_longer_than_its_money_lasts() -> None:
    loop: Any = SimpleNamespace(
        train=TrainPlan(budget=TrainBudget(price_per_cpu_hour=0.06), resources=Resources(cpus=2.0))
    )
    known = [TrialRecord(number=0, hyperparameters={}, seconds=30.0)]

    seconds = _seconds(loop, TunePlan(money=0.01), 3, known)

    # by hand: 0.01 buys 600 processor seconds; 2 * 30 are spent, and 3 jobs of 2 work at once
    assert seconds == pytest.approx(540 / 6)
    assert _seconds(loop, TunePlan(money=0.01, minutes=1), 3, known) == 60
    assert _seconds(loop, TunePlan(), 3, known) is None


def test_money_that_is_spent_leaves_what_was_found() -> None:
    loop: Any = SimpleNamespace(train=TrainPlan(budget=TrainBudget(price_per_cpu_hour=0.06)))
    known = [TrialRecord(number=0, hyperparameters={}, seconds=9_999.0)]

    seconds = _seconds(loop, TunePlan(money=0.01), 1, known)

    assert seconds is not None
    assert 0 < seconds < 0.1
