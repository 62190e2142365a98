from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.explore import Profile, profile
from loopwright.explore.trend import steadiness

N = 3_000


def sold_over(n_days: int) -> list[date]:
    return [date(2024, 1, 1) + timedelta(days=n * n_days // N) for n in range(N)]


def trends(of: Profile) -> list[str]:
    return [finding.evidence for finding in of.findings if finding.kind == "trend"]


def test_a_rising_target_is_a_finding_with_its_levels():
    rng = np.random.default_rng(0)
    price = 100 + np.arange(N) * 0.01 + rng.normal(scale=5, size=N)

    result = profile(pl.DataFrame({"sold": sold_over(730), "price": price}), target="price")

    assert len(trends(result)) == 1
    assert "The mean of price rises over it" in trends(result)[0]
    (trend,) = result.trends
    assert (trend.period, trend.starts[0], len(trend.starts)) == ("month", "2024-01-01", 24)
    assert sum(trend.n_rows) == N
    assert trend.levels[0] == pytest.approx(price[: trend.n_rows[0]].mean())


def test_a_share_of_a_class_is_followed_too():
    rng = np.random.default_rng(1)
    churned = np.where(rng.random(N) < 0.6 - np.arange(N) / N / 2, "Yes", "No")
    frame = pl.DataFrame({"level": sold_over(60), "n": churned})

    result = profile(frame, target="n")

    assert "The share of 'Yes' falls over it" in trends(result)[0]
    assert result.trends[0].period == "week"


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_no_trend(seed: int):
    price = np.random.default_rng(seed).normal(size=N)

    result = profile(pl.DataFrame({"sold": sold_over(1_000), "price": price}), target="price")

    assert trends(result) == []
    assert len(result.trends) == 1


def test_a_steady_rise_too_small_to_matter_is_no_finding():
    price = np.tile([0.0, 1_000.0], N // 2) + np.arange(N) * 0.001

    result = profile(pl.DataFrame({"sold": sold_over(730), "price": price}), target="price")

    assert trends(result) == []


def test_a_few_days_and_infinite_values_are_no_ground_for_a_trend():
    price = np.full(N, np.inf)
    short = profile(pl.DataFrame({"sold": sold_over(4), "price": range(N)}), target="price")
    broken = profile(pl.DataFrame({"sold": sold_over(400), "price": price}), target="price")

    assert short.trends == broken.trends == ()


@pytest.mark.parametrize("seed", range(4))
def test_steadiness_is_kendalls_test_with_its_normal_approximation(seed: int):
    stats = pytest.importorskip("scipy.stats")
    levels = np.random.default_rng(seed).normal(size=40).round(1) + np.linspace(0, 1, 40)

    found = steadiness(levels)

    # scipy makes no correction for continuity
    asymptotic = stats.kendalltau(np.arange(40), levels, method="asymptotic").pvalue
    assert asymptotic <= found <= asymptotic * 1.4 + 0.02


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=30))
def test_turning_time_around_changes_no_p_value(levels: list[float]):
    values = np.array(levels)

    assert 0 <= steadiness(values) <= 1
    assert steadiness(values) == steadiness(values[::-1])
