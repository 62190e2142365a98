from __future__ import annotations

from datetime import date

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.data import difference

ROWS = pl.DataFrame(
    {
        "id": range(100),
        "price": [float(i % 10) for i in range(100)],
        "area": ["north", "south"] * 50,
        "sold": [date(2020, 1, 1)] * 100,
    }
)


def test_the_same_rows_differ_in_nothing() -> None:
    found = difference(ROWS.lazy(), ROWS.sample(fraction=1, shuffle=True, seed=1).lazy())

    assert (found.n_common, found.n_only_first, found.n_only_second) == (100, 0, 0)
    assert all(shift.size < 1e-9 for shift in found.shifts)


def test_columns_that_came_went_or_changed_their_type_are_named() -> None:
    later = ROWS.drop("sold").with_columns(pl.col("id").cast(pl.Float64), storey=pl.lit(1))

    found = difference(ROWS.lazy(), later.lazy())

    assert (found.added, found.gone) == (("storey",), ("sold",))
    assert found.retyped == (("id", "Int64", "Float64"),)
    # a number stays the same number as another type
    assert found.n_common == 100


def test_what_moved_is_told_in_words_the_furthest_first() -> None:
    later = ROWS.with_columns(
        price=pl.col("price") + 10,
        area=pl.lit("west"),
        sold=pl.when(pl.col("id") < 50).then(pl.lit(date(2021, 1, 1))),
    )

    lines = difference(ROWS.lazy(), later.lazy()).summary()

    assert lines[1].startswith("price: much higher, on average 4.5 before and 14.5 now")
    assert "area: 100.0% of the rows moved: 'west' 0.0% to 100.0% (new)" in "\n".join(lines)
    assert "missing in 0.0% of the rows before and 50.0% now" in "\n".join(lines)
    assert "2020-01-01 to 2020-01-01 before" in "\n".join(lines)


@settings(max_examples=25, deadline=None)
@given(
    first=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["x", None])), max_size=12),
    second=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["x", None])), max_size=12),
)
def test_rows_are_counted_as_bags_are(
    first: list[tuple[int, str | None]], second: list[tuple[int, str | None]]
) -> None:
    from collections import Counter

    schema = {"n": pl.Int64, "t": pl.String}
    one, other = (pl.DataFrame(rows, schema=schema, orient="row") for rows in (first, second))

    found = difference(one.lazy(), other.lazy())

    common = (Counter(first) & Counter(second)).total()
    assert found.n_common == common
    assert found.n_only_first == len(first) - common
    assert found.n_only_second == len(second) - common
    if len(first) > 1 and second:
        means = one["n"].mean(), other["n"].mean()
        shift = next(each for each in found.shifts if each.column == "n")
        assert (shift.size > 0) == (
            means[0] != pytest.approx(means[1]) and bool(one["n"].std() or other["n"].std())
        )
