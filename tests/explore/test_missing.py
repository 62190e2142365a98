from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.explore import profile
from loopwright.explore.missing import MOST_COLUMNS, MissingCounter


def counted(frame: pl.DataFrame, size: int | None = None) -> MissingCounter:
    """Count a table, some rows at a time."""
    counter, first = MissingCounter(frame.height), 0
    for piece in frame.iter_slices(size or frame.height):
        for column in piece.iter_columns():
            if column.null_count():
                counter.add(column.name, column.is_null().to_numpy(), first)
        first += piece.height
    return counter


def tells(counter: MissingCounter) -> tuple[object, object]:
    """Return what a counter says, whatever the order in which it met the columns."""
    return (
        {(tuple(sorted(each.columns)), each.n_rows) for each in counter.patterns()},
        {(tuple(sorted(each.columns)), each.n_rows) for each in counter.together()},
    )


masks = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=60)


def table(rows: list[tuple[bool, ...]]) -> pl.DataFrame:
    names = [f"c{place}" for place in range(len(rows[0]))]
    return pl.DataFrame(
        {
            name: pl.Series([None if row[place] else 1 for row in rows], dtype=pl.Int64)
            for place, name in enumerate(names)
        }
    )


@settings(max_examples=60, deadline=None)
@given(masks)
def test_patterns_are_the_groups_of_rows_by_what_they_lack(rows: list[tuple[bool, ...]]):
    frame = table(rows)

    found = counted(frame).patterns()

    by_hand = frame.select(pl.all().is_null()).group_by(pl.all()).len()
    expected = {
        (tuple(name for name in frame.columns if row[name]), row["len"])
        for row in by_hand.iter_rows(named=True)
    }
    if not any(map(any, rows)):
        assert found == ()
        return
    assert {(tuple(sorted(each.columns)), each.n_rows) for each in found} == expected
    assert sum(pattern.share for pattern in found) == pytest.approx(1)


@settings(max_examples=30, deadline=None)
@given(masks, st.integers(1, 20))
def test_batches_give_what_the_whole_gives(rows: list[tuple[bool, ...]], size: int):
    frame = table(rows)

    whole, parts = counted(frame), counted(frame, size)

    assert tells(parts) == tells(whole)


def test_columns_missing_in_the_same_rows_are_one_finding():
    gone = [n % 4 == 0 for n in range(400)]
    values = [None if each else float(n) for n, each in enumerate(gone)]
    nearly = [None if each and n else float(n % 7) for n, each in enumerate(gone)]
    frame = pl.DataFrame(
        {
            "opened": values,
            "branch": [None if each else "x" * (n % 3) for n, each in enumerate(gone)],
            "officer": nearly,
            "fax": [None if n % 3 else 1.0 + n for n in range(400)],
            "age": range(5, 405),
        }
    )

    result = profile(frame)

    told = [f.evidence for f in result.findings if f.kind == "missing_together"]
    assert told == ["'opened', 'branch', 'officer' are missing in nearly the same 99 rows."]
    assert result.missing[0].columns == ("fax",)
    assert sum(pattern.n_rows for pattern in result.missing) == 400


def test_a_complete_table_has_no_patterns():
    assert profile(pl.DataFrame({"a": [1, 2], "b": [3, 4]})).missing == ()


def test_very_many_columns_with_gaps_are_followed_as_far_as_a_word_reaches():
    frame = pl.DataFrame({f"c{n}": [None, 1.0, 2.0] for n in range(100)})

    counter = counted(frame)

    assert [len(pattern.columns) for pattern in counter.patterns()] == [0, MOST_COLUMNS]
    assert len(counter.together()[0].columns) == MOST_COLUMNS
