"""Strata of time: which are chosen, and that a row is compared with its like."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from loopwright.monitor import MonitorPlan, Reference, Timing, build_reference, start_watch, watch
from loopwright.monitor.season import best_season, between_variance, possible_seasons, strata_of

START = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday


def made(n: int, seed: int, *, from_day: int = 0) -> pl.DataFrame:
    """Rows five minutes apart whose value follows the hour, and a number that does not."""
    rng = np.random.default_rng(seed)
    at = [START + timedelta(days=from_day, minutes=5 * k) for k in range(n)]
    hour = np.array([each.hour for each in at])
    return pl.DataFrame(
        {
            "at": pl.Series(at, dtype=pl.Datetime("us", "UTC")),
            "x": 3 * np.sin(hour / 24 * 2 * np.pi) + rng.normal(size=n),
            "y": rng.normal(size=n),
        }
    )


def learnt(*, with_times: bool = True) -> Reference:
    rows = made(8_064, 1)  # 28 days
    kinds = {"x": "number", "y": "number"}
    times = Timing(at=rows["at"]) if with_times else None
    return build_reference(
        rows.select("x", "y"), np.arange(100.0), None, kinds, times=times, window_rows=60
    )


def alarms(reference: Reference, rows: pl.DataFrame) -> tuple[str, ...]:
    state = start_watch(reference, MonitorPlan(window_rows=60), version="1")
    predictions = pl.DataFrame(
        {
            "inference_id": [str(k) for k in range(rows.height)],
            "at": rows["at"],
            "version": "1",
            "prediction": np.random.default_rng(0).permutation(rows.height) % 100 * 1.0,
        }
    )
    _, report = watch(reference, state, predictions, inputs=rows.select("x", "y"))
    return tuple(alarm.stream for alarm in report.new_alarms)


@pytest.mark.parametrize(
    ("kind", "stratum"), [("hour", 13), ("weekday", 2), ("hour_of_week", 2 * 24 + 13)]
)
def test_a_moment_falls_in_its_stratum(kind: str, stratum: int) -> None:
    wednesday = datetime(2026, 1, 7, 13, 59, 59, tzinfo=UTC)
    days = wednesday.timestamp() / 86_400

    assert strata_of(kind, np.array([days])).tolist() == [stratum]  # type: ignore[arg-type]


def test_the_first_second_of_an_hour_belongs_to_it() -> None:
    days = np.array([(START + timedelta(hours=k)).timestamp() / 86_400 for k in range(48)])

    assert strata_of("hour", days).tolist() == [*range(24), *range(24)]


def test_a_season_needs_enough_days() -> None:
    five_days = np.arange(0, 5, 1 / 3_000)

    assert possible_seasons(five_days) == ["hour"]
    assert possible_seasons(five_days[:9_000]) == ["hour"]
    assert possible_seasons(np.full(1_000, np.nan)) == []


def test_a_finer_season_must_explain_clearly_more() -> None:
    assert best_season({"weekday": 0.0, "hour": 1.0, "hour_of_week": 1.2}) == "hour"
    assert best_season({"weekday": 0.0, "hour": 1.0, "hour_of_week": 2.0}) == "hour_of_week"
    assert best_season({"weekday": 0.0, "hour": 0.0}) is None


def test_the_variance_between_groups_is_that_beyond_chance() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 10, 20_000)
    means = np.linspace(-1, 1, 10)
    gains = np.stack([rng.normal(size=20_000), rng.normal(size=20_000) + means[groups]], axis=1)

    chance, real = between_variance(gains, groups, 10)

    assert chance == 0.0
    assert real == pytest.approx(means.var(), rel=0.05)


def test_the_hour_is_chosen_where_it_matters_and_only_there() -> None:
    reference = learnt()

    assert reference.season is not None
    assert reference.season.kind == "hour"
    strata = {stream.key: len(stream.strata) for stream in reference.streams}
    assert (strata["x"], strata["y"], strata["prediction"]) == (24, 0, 0)
    assert reference == Reference.from_json(reference.to_json())


def test_a_day_as_usual_alarms_without_a_season_and_not_with_it() -> None:
    days = made(3 * 288, 7, from_day=40)

    assert alarms(learnt(with_times=False), days) != ()
    assert alarms(learnt(), days) == ()


def test_a_shift_within_its_hours_is_found() -> None:
    days = made(3 * 288, 8, from_day=40).with_columns(pl.col("x") + 1)

    assert alarms(learnt(), days)[0] == "x"


def test_the_only_column_of_dates_tells_a_season_that_is_asked_for() -> None:
    rows = made(8_064, 1)
    kinds = {"at": "date", "x": "number", "y": "number"}

    asked = build_reference(rows, np.arange(100.0), None, kinds, season="hour")
    unasked = build_reference(rows, np.arange(100.0), None, kinds)

    assert asked.season is not None
    assert (asked.season.kind, asked.season.column) == ("hour", "at")
    assert unasked.season is None
