"""Reference histograms and the counting of live rows into them."""

from __future__ import annotations

import datetime
import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.monitor import Reference, bin_counts, build_reference
from loopwright.monitor.reference import build_stream


def test_a_small_column_is_counted_as_by_hand() -> None:
    # values 1, 1, 2, 5, missing: edges 1 (smallest), 1, 2, 5 (largest)
    stream = build_stream("a", pl.Series([1, 2, None, 5, 1]), role="input", kind="number")

    live = bin_counts(stream, pl.Series([0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 6.0, None, float("nan")]))

    assert stream.bin_names == ("< 1", "<= 1", "<= 2", "<= 5", "> 5", "missing")
    assert stream.counts == (0, 2, 1, 1, 0, 1)
    assert live.tolist() == [1, 1, 2, 2, 1, 2]


def test_quantile_bins_hold_about_equal_shares() -> None:
    values = pl.Series(np.random.default_rng(0).lognormal(size=32_000))

    stream = build_stream("a", values, role="input", kind="number")

    assert stream.n_bins == 32 + 3
    assert max(abs(count - 1_000) for count in stream.counts[1:-2]) <= 20


def test_frequent_rare_unseen_and_missing_categories_have_their_bins() -> None:
    values = ["a"] * 9 + ["b"] * 8 + [f"v{k:02}" for k in range(28)] * 5 + ["r1", "r2"]
    stream = build_stream("c", pl.Series(values), role="input", kind="category")

    live = bin_counts(stream, ["a", "r2", "new", None, "b"])

    assert (stream.values[:2], stream.rare) == (("a", "b"), ("r1", "r2"))
    assert live[:2].tolist() == [1, 1]
    assert live[-3:].tolist() == [1, 1, 1]


def test_when_rare_values_are_too_many_an_unseen_one_counts_as_other() -> None:
    values = [f"v{k:03}" for k in range(200)]
    stream = build_stream("c", pl.Series(values), role="input", kind="category")

    live = bin_counts(stream, ["never seen"])

    assert not stream.rare_complete
    assert live[-3:].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    "live",
    [[98001, 98002], [98001.0, 98002.0], ["98001", "98002"], [98001, "98002"], [98001, 98002.0]],
)
def test_a_category_is_the_same_whatever_type_it_comes_in(live: list[object]) -> None:
    reference = pl.Series([98001] * 3 + [98002] * 2)
    stream = build_stream("zip", reference, role="input", kind="category")

    assert bin_counts(stream, live).tolist() == [1, 1, 0, 0, 0]


@pytest.mark.parametrize("live", [[1.0, 5.0], ["1", " 5.0 "], [1, "5"], [1, 5.0]])
def test_a_number_is_the_same_whatever_type_it_comes_in(live: list[object]) -> None:
    stream = build_stream("n", pl.Series([1.0, 5.0, 5.0]), role="input", kind="number")

    assert bin_counts(stream, live).tolist() == [0, 1, 1, 0, 0]


@pytest.mark.parametrize("live", ["?", {"a": 1}, [1, 2], None, float("nan"), "nan"])
def test_what_is_no_number_counts_as_missing(live: object) -> None:
    stream = build_stream("n", pl.Series([1.0, 5.0]), role="input", kind="number")

    assert bin_counts(stream, [live]).tolist() == [0, 0, 0, 0, 1]
    assert bin_counts(stream, [live, 1]).tolist() == [0, 1, 0, 0, 1]


def test_dates_are_read_in_the_format_of_the_reference_or_as_iso() -> None:
    written = pl.Series(["10/13/2014", "12/9/2014", "5/2/2015"])
    stream = build_stream("sold", written, role="input", kind="date")

    as_text = bin_counts(stream, ["12/9/2014", "2014-12-09", "2014-12-09T00:00:00Z", "soon"])
    as_date = bin_counts(stream, [datetime.date(2014, 12, 9)])

    # 2014-12-09 is the second of three values; no other reading of 12/9/2014 is
    assert as_text.tolist() == [0, 0, 3, 0, 0, 1]
    assert as_date.tolist() == [0, 0, 1, 0, 0, 0]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.floats(allow_nan=True), st.integers(-9, 9)), max_size=40),
    st.integers(0, 40),
)
def test_counts_of_two_batches_add_up(values: list[float | None], cut: int) -> None:
    stream = build_stream("n", pl.Series([-3.0, 0.0, 0.5, 7.0]), role="input", kind="number")

    whole = bin_counts(stream, values)

    assert whole.sum() == len(values)
    assert (bin_counts(stream, values[:cut]) + bin_counts(stream, values[cut:])).tolist() == (
        whole.tolist()
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=200))
def test_reference_rows_never_fall_outside_their_own_range(values: list[float]) -> None:
    stream = build_stream("n", pl.Series(values), role="input", kind="number")

    assert (stream.counts[0], stream.counts[-2], stream.n_rows) == (0, 0, len(values))


def test_a_column_without_any_value_still_gives_a_stream() -> None:
    stream = build_stream("n", pl.Series([None, None]), role="input", kind="number")

    assert bin_counts(stream, [1.0, None]).tolist() == [0, 1, 1]


def test_json_out_and_in_is_the_same_reference(reference: Reference) -> None:
    text = json.dumps(reference.to_json())

    assert Reference.from_json(json.loads(text)) == reference


def test_thirty_columns_take_less_than_thirty_six_kilobytes() -> None:
    rng = np.random.default_rng(0)
    rows = pl.DataFrame({f"column_{k}": rng.normal(size=5_000) for k in range(30)})
    losses = rng.random(5_000)

    reference = build_reference(rows, losses, losses, dict.fromkeys(rows.columns, "number"))

    assert len(json.dumps(reference.to_json(), separators=(",", ":"))) < 36_000


@pytest.mark.parametrize("record", [None, {}, {"format": 2}, {"format": 1, "streams": "x"}])
def test_a_damaged_record_is_refused(record: object) -> None:
    with pytest.raises(InvalidInputError, match="Reference record"):
        Reference.from_json(record)


def test_an_unknown_kind_is_refused_with_its_column() -> None:
    rows = pl.DataFrame({"a": list(range(60))})

    with pytest.raises(InvalidInputError, match="'a' has kind 'picture'"):
        build_reference(rows, list(range(60)), None, {"a": "picture"})


def test_too_few_rows_are_refused() -> None:
    rows = pl.DataFrame({"a": [1, 2]})

    with pytest.raises(InvalidInputError, match="at least 50 rows"):
        build_reference(rows, [1.0, 2.0], None, {"a": "number"})


def test_an_input_called_prediction_keeps_its_own_stream() -> None:
    rows = pl.DataFrame({"prediction": list(range(60))})

    reference = build_reference(rows, ["yes", "no"] * 30, None, {"prediction": "number"})

    assert [stream.key for stream in reference.streams] == ["input prediction", "prediction"]
    assert reference.streams[1].kind == "category"
