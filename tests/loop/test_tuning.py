"""A trial is judged as the loop judges its candidates."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl

from loopwright.evaluate import best_threshold
from loopwright.loop.sourcing import Target
from loopwright.loop.tuning import trial_value
from loopwright.problem import class_answers, metric_named


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
