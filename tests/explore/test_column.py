from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.explore.column import profile_column

numbers = st.lists(
    st.one_of(st.none(), st.floats(-1e9, 1e9), st.integers(-5, 5).map(float)),
    min_size=1,
    max_size=80,
)


@settings(max_examples=80, deadline=None)
@given(numbers)
def test_a_histogram_counts_every_present_value_once(values: list[float | None]):
    found = profile_column(pl.Series("x", values, dtype=pl.Float64))

    n_present = sum(value is not None for value in values)
    assert found.n_missing == len(values) - n_present
    if n_present:
        assert found.histogram is not None
        assert sum(found.histogram.counts) == n_present
        assert len(found.histogram.edges) == len(found.histogram.counts) + 1 == 31
        assert found.histogram.edges[0] <= min(v for v in values if v is not None)


@settings(max_examples=60, deadline=None)
@given(numbers)
def test_the_order_of_rows_does_not_matter(values: list[float | None]):
    forward = pl.Series("x", values, dtype=pl.Float64)

    assert profile_column(forward) == profile_column(forward.reverse())


@pytest.mark.parametrize("seed", range(4))
def test_moments_and_quantiles_are_those_of_numpy_and_scipy(seed: int):
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(seed).lognormal(3, 1, size=997)

    number = profile_column(pl.Series("x", values)).number

    assert number is not None
    assert number.mean == pytest.approx(values.mean(), rel=1e-12)
    assert number.sd == pytest.approx(values.std(ddof=1), rel=1e-12)
    assert number.skew == pytest.approx(stats.skew(values), rel=1e-9)
    for q, found in number.quantiles.items():
        assert found == pytest.approx(np.quantile(values, float(q)), rel=1e-12)
    described = pd.Series(values).describe()
    assert (number.minimum, number.maximum) == (described["min"], described["max"])


def test_a_histogram_is_that_of_numpy():
    values = np.random.default_rng(0).normal(size=500).round(1)

    found = profile_column(pl.Series("x", values)).histogram

    assert found is not None
    counts, edges = np.histogram(values, bins=30)
    assert sum(abs(np.array(found.counts) - counts)) <= 2  # a value on an edge may fall either way
    assert found.edges == pytest.approx(edges)


def test_far_out_values_are_counted_by_hand():
    # quartiles 1.5 and 8.5, so the fences stand at -19.5 and 29.5
    values = [*map(float, range(11)), 22.4, 22.6, -12.4, -100.0]

    found = profile_column(pl.Series("x", values))

    assert found.number is not None
    assert found.number.quantiles["0.25"] == 1.5
    assert found.number.n_far_out == 1


def test_zeros_negatives_and_infinities_are_counted_apart():
    found = profile_column(pl.Series("x", [0.0, 0.0, -1.0, 2.5, float("inf"), float("-inf"), None]))

    assert found.number is not None
    assert (found.number.n_zeros, found.number.n_negative, found.number.n_infinite) == (2, 1, 2)
    assert (found.number.minimum, found.number.maximum) == (-1.0, 2.5)
    assert found.histogram is not None
    assert sum(found.histogram.counts) == 4


@pytest.mark.parametrize(
    "values", [[1e308, -1e308], [1e300, 0.0, 1.0], [5e-324, 0.0], [1e16, 1e16 + 2]]
)
def test_numbers_at_the_ends_of_the_scale_give_no_nan(values: list[float]):
    import json

    import msgspec

    found = profile_column(pl.Series("x", values))

    json.dumps(msgspec.to_builtins(found), allow_nan=False)


def test_equal_values_have_no_skew_whatever_their_rounding():
    found = profile_column(pl.Series("x", [0.1] * 9 + [0.1 + 1e-17]))

    assert found.number is not None
    assert found.number.skew is None


KINDS = {
    "number": pl.Series("price", np.random.default_rng(0).normal(size=100)),
    "ordinal": pl.Series("risk", ["low", "High", "medium", None] * 25),
    "category": pl.Series("town", ["Kent", "Renton"] * 50),
    "boolean": pl.Series("waterfront", [0.0, 1.0, None, 0.0] * 25),
    "date": pl.Series("sold", [date(2026, 1, 1) + timedelta(days=n) for n in range(100)]),
    "text": pl.Series("remark", [f"a long remark about house {n}" for n in range(100)]),
    "identifier": pl.Series("customer", [f"c-{n}" for n in range(100)]),
    "constant": pl.Series("country", ["US"] * 100),
    "other": pl.Series("tags", [[1]] * 100),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_is_called_what_people_call_it(kind: str):
    assert profile_column(KINDS[kind]).kind == kind


def test_a_whole_number_is_a_code_or_an_identifier_by_its_name_and_values():
    rng = np.random.default_rng(0)
    codes = pl.Series("zipcode", rng.integers(98_001, 98_200, 1_000))
    floats = codes.cast(pl.Float64)

    assert profile_column(codes).kind == "category"
    assert profile_column(floats).kind == "category"
    assert profile_column(codes.alias("sqft")).kind == "number"
    assert profile_column(pl.Series("houseId", rng.permutation(10_000))).kind == "identifier"
    assert profile_column(pl.Series("row", range(1, 1_001))).kind == "identifier"
    assert profile_column(pl.Series("price", rng.permutation(10_000) * 7)).kind == "number"


def test_one_value_beside_missing_ones_is_no_constant():
    assert profile_column(pl.Series("fax", ["yes", None])).kind == "category"
    assert profile_column(pl.Series("bonus", [5.0, None])).kind == "number"


def test_an_empty_column_is_a_constant_without_values():
    for dtype in (pl.String, pl.Float64, pl.Date, pl.Boolean):
        found = profile_column(pl.Series("x", [None, None], dtype=dtype))

        assert (found.kind, found.n_distinct, found.missing_share) == ("constant", 0, 1.0)


def test_the_most_frequent_values_come_first_and_ties_by_value():
    words = profile_column(pl.Series("x", ["b", "c", "a", "c", "b", "d"]))
    whole = profile_column(pl.Series("x", [3, 1, 3, 2, 1]))

    assert [(v.value, v.n_rows) for v in words.top] == [("b", 2), ("c", 2), ("a", 1), ("d", 1)]
    assert [(v.value, v.n_rows) for v in whole.top] == [("1", 2), ("3", 2), ("2", 1)]


def test_the_most_frequent_of_very_many_numbers_are_found():
    values = np.concatenate((np.arange(50_000), [7, 7, 9]))

    found = profile_column(pl.Series("x", values))

    assert [(v.value, v.n_rows) for v in found.top[:3]] == [("7", 3), ("9", 2), ("0", 1)]
    assert found.n_distinct == 50_000


def test_dates_show_their_stretch_and_their_largest_hole():
    found = profile_column(
        pl.Series("sold", [date(2026, 1, 1), date(2026, 1, 3), date(2026, 3, 1), None])
    )

    assert found.date is not None
    assert (found.date.first, found.date.last) == ("2026-01-01", "2026-03-01")
    assert (found.date.n_days, found.date.largest_gap_days) == (59.0, 57.0)
