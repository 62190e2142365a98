"""Thousands of columns: the work grows with their number, not with its square."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import polars as pl
import pytest

from loopwright.prepare import RowEncoder, fit_recipe, suggest

N_ROWS = 100


def wide(n_columns: int) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {}
    for at in range(n_columns):
        if at % 10 == 0:
            columns[f"c{at}"] = rng.choice(["a", "b", "c"], N_ROWS)
        elif at % 10 == 1:
            columns[f"c{at}"] = rng.choice([f"level {k}" for k in range(20)], N_ROWS)
        else:
            columns[f"c{at}"] = rng.normal(size=N_ROWS)
    columns["y"] = rng.normal(size=N_ROWS)
    return pl.DataFrame(columns)


def seconds(frame: pl.DataFrame) -> float:
    """Return the CPU seconds of everything from the suggestion to the features of rows."""
    started = time.process_time()
    recipe = suggest(frame, "y", "regression", family="linear")
    rows = frame.drop("y")
    fitted, features = fit_recipe(recipe, rows, frame["y"].to_numpy(), seed=0)
    found = fitted.transform(rows)
    encoded = RowEncoder(fitted).encode(rows.head(3).to_dicts())
    spent = time.process_time() - started
    assert features.shape[1] > frame.width
    assert encoded.tobytes() == found[:3].tobytes()
    return spent


@pytest.mark.slow
def test_four_times_the_columns_cost_far_less_than_sixteen_times_the_time() -> None:
    seconds(wide(50))

    few, many = seconds(wide(500)), seconds(wide(2_000))

    assert many < 9 * few
    assert many < 60.0
