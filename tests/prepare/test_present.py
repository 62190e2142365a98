"""Numbers of a column are held once, in the same order and with the same bits, however they come."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from loopwright.prepare.imputation import median_of
from loopwright.prepare.lazy_table import LazyTable
from loopwright.prepare.present import present_numbers


@pytest.mark.parametrize(
    "values",
    [[3.0, None, 1.5, 2.0], [4, None, 1], [True, None, False], [None, None], [0.1, 0.2]],
    ids=["reals", "whole", "booleans", "nothing", "no gaps"],
)
def test_a_table_that_memory_need_not_hold_gives_the_same_numbers(values: list[float | None]):
    frame = pl.DataFrame({"x": pl.Series(values, dtype=None if any(values) else pl.Float64)})

    held = present_numbers(frame, "x")
    read = present_numbers(LazyTable(frame.lazy(), frame.height), "x")

    assert (held.dtype, read.dtype) == (np.float64, np.float64)
    assert read.tolist() == held.tolist() == [float(v) for v in values if v is not None]


def test_the_median_leaves_the_memory_of_a_table_as_it_is():
    frame = pl.DataFrame({"x": [5.0, 1.0, 4.0, 2.0, 3.0, 0.0]})
    own = present_numbers(LazyTable(frame.lazy(), frame.height), "x")

    found = median_of(present_numbers(frame, "x")), median_of(own)

    assert found == (2.5, 2.5)
    assert frame["x"].to_list() == [5.0, 1.0, 4.0, 2.0, 3.0, 0.0]
    assert own[:3].max() <= 2.0
