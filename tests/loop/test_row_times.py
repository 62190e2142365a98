"""Only the column that a split by time names tells when rows were."""

from __future__ import annotations

from datetime import date

import msgspec
import polars as pl
import pytest

from loopwright.loop.file import LoopFile
from loopwright.loop.release import row_times

ROWS = pl.DataFrame(
    {"day": [date(2026, 1, 1), date(2026, 1, 2)], "number": [1, 2], "x": [0.1, 0.2]}
)


def loop_with(**split: object) -> LoopFile:
    source = {"kind": "file", "path": "rows.csv"}
    written = {
        "name": "demo",
        "problem": {"target": "x", "question": "?", "criteria": [{"metric": "rmse", "at_most": 1}]},
        "data": {"source": source, "split": split},
    }
    return msgspec.convert(written, LoopFile)


def test_a_split_by_time_tells_when_rows_were() -> None:
    times = row_times(loop_with(by="time", column="day"), ROWS, ROWS[:1], ["day", "x"])

    assert times is not None
    assert (times.at.to_list(), times.column) == (ROWS["day"].to_list(), "day")
    assert times.answers_at is not None
    assert len(times.answers_at) == 1


def test_a_column_that_is_not_sent_leaves_the_time_of_the_prediction() -> None:
    times = row_times(loop_with(by="time", column="day"), ROWS, ROWS, ["x"])

    assert times is not None
    assert times.column is None


@pytest.mark.parametrize(
    "split", [{}, {"by": "group", "column": "day"}, {"by": "time", "column": "number"}]
)
def test_other_splits_and_running_numbers_tell_no_time(split: dict[str, object]) -> None:
    assert row_times(loop_with(**split), ROWS, ROWS, ["day", "number", "x"]) is None
