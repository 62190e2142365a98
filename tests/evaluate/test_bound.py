"""Bounds hold as often as they say, also where rows come in groups or have a long tail."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from scipy import stats

from loopwright.evaluate import figure, row_units
from loopwright.evaluate.bound import clopper_pearson, share_bounds
from loopwright.evaluate.resampling import mean_bounds, standard_error
from loopwright.problem import class_answers, metric_named, value_answers


def test_shares_have_the_exact_bounds_of_scipy() -> None:
    found = stats.binomtest(17, 40).proportion_ci(0.9, method="exact")

    assert clopper_pearson(17, 40, confidence=0.95) == pytest.approx((found.low, found.high))


def test_units_of_one_row_each_are_rows() -> None:
    hit, ones = (np.arange(60) % 3 == 0).astype(float), np.ones(60)

    by_unit = share_bounds(hit, ones, confidence=0.95, units=np.arange(60))

    # apart from n - 1 in the variance nothing differs
    assert by_unit == pytest.approx(share_bounds(hit, ones, confidence=0.95), abs=0.003)


def test_rows_that_repeat_their_group_say_no_more_than_the_groups() -> None:
    hit = (np.random.default_rng(0).random(50) < 0.4).astype(float)
    ten_times, units = np.repeat(hit, 10), np.repeat(np.arange(50), 10)

    repeated = share_bounds(ten_times, np.ones(500), confidence=0.95, units=units)

    assert repeated == pytest.approx(share_bounds(hit, np.ones(50), confidence=0.95), abs=0.01)


def test_groups_that_all_agree_count_once_each() -> None:
    units = np.repeat(np.arange(20), 5)

    lower, upper = share_bounds(np.ones(100), np.ones(100), confidence=0.95, units=units)

    assert (lower, upper) == (pytest.approx(0.05 ** (1 / 20)), 1.0)


def test_one_unit_alone_bounds_nothing() -> None:
    y = np.arange(30.0)

    found = figure(metric_named("mae"), y, value_answers(y + 1), units=np.zeros(30, dtype=np.int64))

    assert (found.lower, found.upper) == (-math.inf, math.inf)


def test_the_error_of_a_mean_over_units_is_that_of_a_ratio() -> None:
    # units (1, 3) and (5,): mean 3, sums less 3 a row -2 and 2; sqrt(2 * 8) / 3
    values, units = np.array([1.0, 3.0, 5.0]), np.array([0, 0, 1])

    assert standard_error(values, units=units) == pytest.approx(4 / 3)
    assert standard_error(values) == pytest.approx(stats.sem(values))


@pytest.mark.parametrize(("name", "least"), [("mean", 0.85), ("median", 0.88)])
def test_upper_bounds_of_a_long_tail_hold_nearly_as_often_as_they_say(
    name: str, least: float
) -> None:
    rng = np.random.default_rng(1)
    truth = {"mean": math.exp(0.5), "median": 1.0}[name]
    n_held = 0
    for seed in range(60):
        x = rng.lognormal(0, 1, 60)
        if name == "mean":
            upper = mean_bounds(x, confidence=0.95, seed=seed)[1]
        else:
            upper = figure(metric_named("medae"), x, value_answers(np.zeros(60)), seed=seed).upper
        n_held += truth <= upper

    assert n_held / 60 >= least


def test_bounds_of_a_normal_mean_are_those_of_student() -> None:
    x = stats.norm.ppf((np.arange(400) + 0.5) / 400)

    lower, upper = mean_bounds(x, confidence=0.95)

    reach = stats.t.ppf(0.95, 399) * stats.sem(x)
    assert (lower, upper) == (pytest.approx(-reach, rel=0.12), pytest.approx(reach, rel=0.12))


def test_values_that_are_all_the_same_have_no_width() -> None:
    assert mean_bounds(np.full(40, 2.5), confidence=0.95) == (2.5, 2.5)


def test_a_bound_of_a_quantile_is_an_order_statistic() -> None:
    # of 60 errors the 95 % bound of the median is the k-th, with P(Bin(60, 0.5) < k) >= 0.95
    error = np.arange(1.0, 61.0)

    found = figure(metric_named("medae"), np.zeros(60), value_answers(error))

    assert found.upper == stats.binom.ppf(0.95, 60, 0.5) + 1
    assert found.lower <= 30 <= found.upper


def test_a_quantile_that_too_few_rows_can_show_has_no_bound() -> None:
    metric = metric_named("absolute_error_of_99_percent")

    assert figure(metric, np.zeros(50), value_answers(np.arange(50.0))).upper == math.inf


@pytest.mark.parametrize("name", ["rmse", "r2", "wape", "mae", "share_within_5_percent"])
def test_rows_of_groups_have_wider_bounds_than_their_number_says(name: str) -> None:
    rng = np.random.default_rng(2)
    units = np.repeat(np.arange(40), 25)
    y = rng.uniform(10, 20, 1_000)
    said = value_answers(y * (1 + np.repeat(rng.normal(0, 0.1, 40), 25)))
    metric = metric_named(name)

    by_row = figure(metric, y, said)
    by_unit = figure(metric, y, said, units=units)

    assert by_unit.value == by_row.value
    assert by_unit.upper - by_unit.lower > 1.5 * (by_row.upper - by_row.lower)


def test_rankings_and_many_units_are_resampled_whole_too() -> None:
    rng = np.random.default_rng(3)
    units = np.repeat(np.arange(3_000), 2)
    p = np.repeat(rng.random(3_000), 2)
    y = np.repeat((rng.random(3_000) < p[::2]).astype(float), 2)
    metric = metric_named("roc_auc")

    by_row = figure(metric, y, class_answers(p))
    by_unit = figure(metric, y, class_answers(p), units=units)

    # two rows that say the same are one: the width grows by the root of two
    ratio = (by_unit.upper - by_unit.lower) / (by_row.upper - by_row.lower)
    assert ratio == pytest.approx(math.sqrt(2), rel=0.15)


def test_groups_are_units_and_missing_ones_stand_alone() -> None:
    units = row_units(pl.Series(["b", None, "a", "b", None]), by="group")

    assert sorted(np.bincount(units).tolist()) == [1, 1, 1, 2]
    assert units[0] == units[3]


def test_rows_of_one_moment_stay_in_one_block_of_time() -> None:
    days = pl.Series(np.repeat(np.arange(100), 7)).sample(fraction=1, shuffle=True, seed=1)

    units = row_units(days, by="time")

    of_day = {int(day): set(units[days.to_numpy() == day]) for day in range(100)}
    assert all(len(each) == 1 for each in of_day.values())
    order = [of_day[day].pop() for day in range(100)]
    assert order == sorted(order)
    assert 60 <= units.max() + 1 <= 79  # 700 ** (2 / 3) is 79


@pytest.mark.parametrize("name", ["rmse", "rmsle", "r2", "mae", "mape"])
def test_answers_that_are_nearly_perfect_have_bounds_without_a_warning(name: str) -> None:
    y = np.linspace(1.0, 9.0, 80)
    answers = value_answers(y + 1e-13 * np.random.default_rng(0).normal(size=80))

    found = figure(metric_named(name), y, answers, seed=0)

    assert found.lower <= found.value <= found.upper
