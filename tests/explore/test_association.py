from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.explore.association import (
    Association,
    Pair,
    associations,
    cells_of,
    correlation_ratio,
    cramers_v,
    near_duplicates,
    ranks,
    sample_places,
    separation,
    spearman,
)
from loopwright.explore.column import ColumnProfile, profile_column

stats = pytest.importorskip("scipy.stats")


def profiled(frame: pl.DataFrame) -> list[ColumnProfile]:
    return [profile_column(column) for column in frame.iter_columns()]


def strengths(frame: pl.DataFrame, target: str, task: str) -> dict[str, Association]:
    columns = profiled(frame)
    return associations(cells_of(frame, columns), columns, target=target, task=task)


def pairs(frame: pl.DataFrame, without: str | None = None) -> list[Pair]:
    columns = profiled(frame)
    return near_duplicates(cells_of(frame, columns), columns, without=without)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.floats(-9, 9), st.sampled_from([0.0, 1.0])), min_size=1, max_size=60))
def test_ranks_are_those_of_scipy(values: list[float]):
    assert ranks(np.array(values)).tolist() == stats.rankdata(values).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_spearman_is_that_of_scipy_also_with_ties_and_gaps(seed: int):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 20, 300).astype(float)
    y = x * rng.normal(1, 1, 300)
    gaps = rng.random(300) < 0.1
    expected = stats.spearmanr(x[~gaps], y[~gaps]).statistic
    x[gaps] = np.nan

    assert spearman(x, y) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_a_correlation_ratio_agrees_with_the_analysis_of_variance(seed: int):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, 200)
    y = codes * 0.5 + rng.normal(size=200)

    f = stats.f_oneway(*(y[codes == code] for code in range(4))).statistic

    # epsilon squared = (F - 1)(k - 1) / (F (k - 1) + n - k)
    assert correlation_ratio(codes, y) ** 2 == pytest.approx((f - 1) * 3 / (f * 3 + 196))


def test_separation_is_the_area_under_the_curve():
    # three of the four pairs are in order: AUC 0.75
    assert separation(np.array([1.0, 3.0, 2.0, 4.0]), np.array([False, False, True, True])) == 0.5


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 6))
def test_measures_of_chance_stay_small_and_within_0_and_1(seed: int, k: int, r: int):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, k, 400), rng.integers(0, r, 400)

    assert 0 <= cramers_v(x, y) < 0.35
    assert cramers_v(x, y) == pytest.approx(cramers_v(y, x))
    assert cramers_v(x, x) == pytest.approx(1)
    assert 0 <= correlation_ratio(x, y.astype(float)) < 0.35


def test_cramers_v_is_bergsmas_by_hand():
    # the table [[20, 10], [10, 20]]: chi2 = 60 / 9, n = 60, phi2 = 1/9;
    # phi2 - 1/59 = 0.094162, sides 2 - 1/59, so V = sqrt(0.094162 / 0.983051)
    x = np.repeat([0, 0, 1, 1], [20, 10, 10, 20])
    y = np.repeat([0, 1, 0, 1], [20, 10, 10, 20])

    assert cramers_v(x, y) == pytest.approx(0.309493, abs=1e-6)


def test_a_number_goes_with_a_number_by_rank_or_by_curve():
    rng = np.random.default_rng(1)
    x = rng.normal(size=2_000)
    frame = pl.DataFrame(
        {"up": x, "bend": x**2, "noise": rng.normal(size=2_000), "y": np.exp(x), "z": x**2}
    )

    rising = strengths(frame, "y", "regression")
    bending = strengths(frame.drop("bend"), "z", "regression")

    assert rising["up"] == Association(value=1.0, measure="|Spearman|")
    assert rising["noise"].value < 0.1
    assert bending["up"].measure == "correlation ratio"
    assert bending["up"].value > 0.95


def test_missing_values_do_not_weaken_a_relation_between_the_others():
    rng = np.random.default_rng(2)
    x = rng.normal(size=1_000)
    frame = pl.DataFrame({"x": [None if n % 3 else v for n, v in enumerate(x)], "y": x})

    assert strengths(frame, "y", "regression")["x"].value == pytest.approx(1)


def test_that_a_value_is_missing_can_give_a_class_away():
    frame = pl.DataFrame({"x": [1.0, None] * 200, "y": ["paid", "lost"] * 200})
    frame = frame.with_columns(x=pl.when(pl.col("x") == 1).then(pl.int_range(400) % 7 + 1.5))

    assert strengths(frame, "y", "binary")["x"].value > 0.98


def test_a_number_that_orders_a_rare_class_perfectly_is_seen_as_such():
    frame = pl.DataFrame({"x": range(5_000), "y": [n >= 4_950 for n in range(5_000)]})
    frame = frame.with_columns(x=pl.col("x") * 1.5)

    assert strengths(frame, "y", "binary")["x"] == Association(value=1.0, measure="|2 AUC - 1|")


def test_categories_go_with_classes_and_with_numbers():
    rng = np.random.default_rng(3)
    town = rng.choice(["a", "b", "c"], 1_000)
    frame = pl.DataFrame(
        {
            "town": town,
            "same": np.char.add("in ", town),
            "price": (town == "a") * 5 + rng.normal(size=1_000),
        }
    )

    assert strengths(frame, "same", "multiclass")["town"].value == pytest.approx(1)
    assert strengths(frame, "price", "regression")["town"].value > 0.7
    assert strengths(frame, "same", "multiclass")["price"].measure == "Cramér's V"


def test_near_duplicates_are_found_each_with_its_first_likeness_and_no_others():
    rng = np.random.default_rng(4)
    x = rng.lognormal(size=1_500)
    frame = pl.DataFrame(
        {
            "metres": x,
            "feet": x * 3.28 + rng.normal(scale=1e-3, size=1_500),
            "minus": -x,
            "copy": x,
            "related": x + rng.normal(size=1_500),
            "level": rng.integers(1, 6, 1_500),
        }
    ).with_columns(word=pl.col("level").replace_strict({n: f"w{n}" for n in range(1, 6)}))

    found = {(p.first, p.second): p.relation for p in pairs(frame)}

    assert found == {
        ("metres", "feet"): "rising",
        ("metres", "minus"): "falling",
        ("metres", "copy"): "identical",
        ("level", "word"): "the same categories under other names",
    }
    assert not {"metres"} & {name for p in pairs(frame, "metres") for name in (p.first, p.second)}


def test_near_duplicates_are_found_through_missing_values():
    rng = np.random.default_rng(5)
    x = rng.normal(size=1_000)
    frame = pl.DataFrame({"a": x, "b": [None if n % 10 == 0 else v for n, v in enumerate(x)]})

    assert [p.relation for p in pairs(frame)] == ["rising"]


def test_a_large_table_is_sampled_evenly_and_always_alike():
    places = sample_places(100_000)

    assert places.size == np.unique(places).size == 30_000
    assert (places[0], places[-1]) == (0, 99_999)
    assert np.array_equal(places, sample_places(100_000))
    assert sample_places(3).tolist() == [0, 1, 2]
