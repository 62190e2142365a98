"""A change that a person accepts becomes what later rows are compared with."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from loopwright.monitor import MonitorPlan, Reference, WatchState, acknowledge, start_watch, watch
from loopwright.monitor.normal import current_reference

START = datetime(2026, 1, 1, tzinfo=UTC)
Houses = Callable[[int, int], pl.DataFrame]


def look(
    reference: Reference, state: WatchState, rows: pl.DataFrame, *, day: int
) -> tuple[WatchState, list[str]]:
    predictions = pl.DataFrame(
        {
            "inference_id": [f"{day}-{k}" for k in range(rows.height)],
            "at": pl.Series([START + timedelta(days=day, seconds=k) for k in range(rows.height)]),
            "version": "1",
            "prediction": rows["sqft"]
            * 250
            * np.exp(0.2 * np.random.default_rng(day).normal(size=rows.height)),
        }
    )
    state, report = watch(reference, state, predictions, inputs=rows)
    return state, [alarm.stream for alarm in report.new_alarms]


@pytest.fixture
def drifted(reference: Reference, houses: Houses) -> WatchState:
    state = start_watch(reference, MonitorPlan(), version="1")
    state, alarms = look(reference, state, one_more(houses(1_100, 11)), day=0)
    assert alarms == ["bedrooms"]
    return state


def one_more(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col("bedrooms") + 1)


def test_what_stays_alarms_again_unless_it_is_the_new_normal(
    reference: Reference, houses: Houses, drifted: WatchState
) -> None:
    at = START + timedelta(hours=12)
    mended = acknowledge(reference, drifted, "data")
    accepted = acknowledge(reference, drifted, "data", new_normal=True, at=at)

    _, again = look(reference, mended, one_more(houses(1_500, 12)), day=1)
    after, quiet = look(reference, accepted, one_more(houses(1_500, 12)), day=1)

    assert again == ["bedrooms"]
    assert quiet == []
    assert after.normals["bedrooms"].at == at
    assert after.normals["bedrooms"].since_at == START


def test_what_was_normal_before_is_a_change_then(
    reference: Reference, houses: Houses, drifted: WatchState
) -> None:
    accepted = acknowledge(reference, drifted, "data", new_normal=True)

    _, alarms = look(reference, accepted, houses(2_000, 13), day=1)

    assert alarms == ["bedrooms"]


def test_only_streams_that_moved_have_a_new_normal(
    reference: Reference, drifted: WatchState
) -> None:
    accepted = acknowledge(reference, drifted, "data", new_normal=True)
    current = current_reference(reference, accepted.normals)

    before = {stream.key: stream.counts for stream in reference.streams}
    now = {stream.key: stream.counts for stream in current.streams}
    assert {key for key in now if now[key] != before[key]} == set(accepted.normals)
    assert "sqft" not in accepted.normals


def test_a_new_normal_survives_json(reference: Reference, drifted: WatchState) -> None:
    accepted = acknowledge(reference, drifted, "data", new_normal=True, at=START)

    assert WatchState.from_json(json.loads(json.dumps(accepted.to_json()))) == accepted


def test_without_an_alarm_there_is_nothing_to_accept(reference: Reference) -> None:
    fresh = start_watch(reference, MonitorPlan(), version="1")

    assert acknowledge(reference, fresh, "data", new_normal=True) == fresh
