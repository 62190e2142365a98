"""Thresholds from replaying the reference: tails, their cap, and the false alarms that they give."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from loopwright.monitor import MonitorPlan, Reference, Timing, build_reference, start_watch
from loopwright.monitor.calibration import Tail, fitted_tail, replayed_evidence


def test_a_threshold_is_never_above_the_log_of_the_windows_per_alarm() -> None:
    tail = Tail(level=5.0, windows=30.0, steepness=1.0)

    assert tail.threshold(100) == math.log(100)
    assert tail.threshold(1e9) == math.log(1e9)


def test_a_steeper_tail_asks_for_less_evidence() -> None:
    flat = Tail(level=1.0, windows=30.0, steepness=1.0)
    steep = Tail(level=1.0, windows=30.0, steepness=2.0)

    # ln(3000 / 30) = 4.6 nats more at steepness 1, half of it at 2
    assert flat.threshold(3_000) == pytest.approx(1 + math.log(100))
    assert steep.threshold(3_000) == pytest.approx(1 + math.log(100) / 2)


def test_the_tail_of_exponential_peaks_is_found() -> None:
    rng = np.random.default_rng(0)
    runs = rng.exponential(1 / 1.5, (100, 100))

    tail = fitted_tail(runs, block=20)

    assert tail is not None
    # one of 20 exponential values exceeds x with probability 1 - (1 - exp(-1.5 x))^20
    share = 1 - (1 - math.exp(-1.5 * tail.level)) ** 20
    assert share == pytest.approx(0.2, abs=0.03)
    assert 1.0 <= tail.steepness < 1.6


def test_replayed_evidence_is_the_recursion_by_hand() -> None:
    # one stream, one bet, one run: R = 0.5, then (0.5 + 1) * 2 = 3
    factors = [np.log(np.array([[0.5], [2.0]]))]

    evidence = replayed_evidence(factors, [np.array([1.0])], [1.0], n_runs=1)

    assert np.expm1(evidence[0]) == pytest.approx([0.5, 3.0])


def test_the_same_rows_give_the_same_thresholds(
    houses: Callable[[int, int], pl.DataFrame],
) -> None:
    rows = houses(1_000, 1).select("sqft", "bedrooms")
    kinds = {"sqft": "number", "bedrooms": "number"}

    first, second = (build_reference(rows, np.arange(99.0), None, kinds) for _ in range(2))

    assert first == second
    assert first.calibration is not None
    assert first.calibration.data is not None


def test_a_window_of_another_size_is_judged_by_the_cap(reference: Reference) -> None:
    state = start_watch(reference, MonitorPlan(window_rows=400), version="1")

    assert state.data.detector.threshold == state.data.detector.bar


def test_a_reference_whose_windows_wander_is_judged_by_the_cap(reference: Reference) -> None:
    rng = np.random.default_rng(0)
    day = np.repeat(np.arange(40), 250)
    level = rng.normal(size=40)[day]
    rows = pl.DataFrame(
        {
            "day": pl.Series(day.tolist()).cast(pl.Int32).cast(pl.Date),
            "x": level + rng.normal(size=10_000),
        }
    )

    wandering = build_reference(
        rows,
        rng.random(500),
        rng.random(500),
        {"day": "date", "x": "number"},
        times=Timing(at=rows["day"]),
    )

    assert wandering.calibration is not None
    assert (wandering.calibration.data, wandering.calibration.error is None) == (None, False)
    assert reference.calibration is not None
    assert reference.calibration.data is not None


def test_a_reference_of_an_older_release_is_judged_by_the_cap(reference: Reference) -> None:
    older = replace(reference, calibration=None)

    state = start_watch(older, MonitorPlan(), version="1")

    assert state.data.detector.threshold == pytest.approx(math.log(8_766))
