"""Too few or too many requests for the hour, once the hours are known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from loopwright.monitor.volume import Volume, counted, volume_finding

START = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday
HOUR = timedelta(hours=1)


def requests(first: int, last: int, *, seed: int = 0, factor: float = 1.0) -> pl.Series:
    """Requests of some hours: 200 an hour by day, 20 by night."""
    rng = np.random.default_rng(seed)
    moments: list[datetime] = []
    for hour in range(first, last):
        mean = (200 if 8 <= hour % 24 < 20 else 20) * factor
        n = int(rng.poisson(mean))
        moments += [START + hour * HOUR + timedelta(seconds=3_600 * k / n) for k in range(n)]
    return pl.Series("at", moments, dtype=pl.Datetime("us", "UTC"))


@pytest.fixture(scope="module")
def four_weeks() -> Volume:
    return counted(Volume(), requests(0, 672), now=None)


def test_usual_hours_are_never_told(four_weeks: Volume) -> None:
    volume = four_weeks
    for hour in range(672, 672 + 168):
        volume = counted(volume, requests(hour, hour + 1, seed=hour), now=None)
        assert volume_finding(volume) is None


def test_an_hour_without_requests_is_told_at_the_next_look(four_weeks: Volume) -> None:
    noon = 672 + 12

    silent = counted(four_weeks, requests(672, noon, seed=1), now=START + (noon + 1) * HOUR)

    finding = volume_finding(silent)
    assert finding is not None
    assert (finding.problem, finding.n_rows, finding.is_grave) == ("volume", 0, False)
    assert "0 in the hour from 2026-02-02 12:00 UTC, where about" in finding.message


def test_a_flood_is_told_and_over_when_it_is_over(four_weeks: Volume) -> None:
    flood = counted(four_weeks, requests(672, 673, factor=5), now=START + 673 * HOUR)
    after = counted(flood, requests(673, 674, seed=2), now=START + 674 * HOUR)

    assert volume_finding(flood) is not None
    assert volume_finding(after) is None


def test_the_night_is_not_compared_with_the_day() -> None:
    week = counted(Volume(), requests(0, 72), now=None)

    night = counted(week, requests(72, 73, seed=3), now=START + 73 * HOUR)

    assert volume_finding(night) is None


def test_nothing_is_told_of_the_first_two_days() -> None:
    volume = counted(Volume(), requests(0, 20), now=START + 47 * HOUR)

    assert volume_finding(volume) is None


def test_one_look_or_many_count_the_same() -> None:
    at = requests(0, 100, seed=4)

    once = counted(Volume(), at, now=None)
    many = Volume()
    for start, end in pairwise([0, 77, 500, 501, 4_000, len(at)]):
        many = counted(many, at[start:end], now=None)

    assert many == once


def test_a_pause_of_months_begins_anew(four_weeks: Volume) -> None:
    later = counted(four_weeks, requests(5_000, 5_001), now=None)

    assert sum(later.weeks) == 0
