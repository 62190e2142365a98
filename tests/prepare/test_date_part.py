from __future__ import annotations

from datetime import date, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.prepare import (
    DateParts,
    Recipe,
    fit_recipe,
)


def features(frame: pl.DataFrame, *steps: Any) -> tuple[tuple[str, ...], list[list[float]]]:
    fitted, found = fit_recipe(Recipe(steps), frame, None, seed=0)
    return fitted.feature_names, found.tolist()


def test_parts_that_go_round_become_sines_and_cosines() -> None:
    frame = pl.DataFrame({"d": [date(2024, 1, 1), date(2024, 4, 1), date(2024, 12, 1)]})

    names, found = features(frame, DateParts(columns=("d",), parts=("year", "month"), cyclic=True))

    # January is at the angle 0, April a quarter turn on, December a twelfth before January
    assert names == ("d_year", "d_month_sin", "d_month_cos")
    np.testing.assert_allclose(
        found,
        [[2024, 0, 1], [2024, 1, 0], [2024, -0.5, np.sqrt(3) / 2]],
        atol=1e-15,
    )


def test_neighbouring_days_lie_close_across_the_year() -> None:
    frame = pl.DataFrame({"d": [date(2024, 12, 31), date(2025, 1, 1), date(2024, 7, 1)]})
    parts = DateParts(columns=("d",), parts=("day_of_year", "day_of_week"), cyclic=True)

    _, found = features(frame, parts)

    last, first, summer = (np.array(row[:2]) for row in found)
    assert np.linalg.norm(last - first) < 0.02
    assert np.linalg.norm(last - summer) > 1.9


def test_hours_need_a_time() -> None:
    frame = pl.DataFrame({"d": [date(2024, 1, 1)]})

    with pytest.raises(InvalidInputError, match="time"):
        features(frame, DateParts(columns=("d",), parts=("hour_sin",)))


def test_hours_go_round_at_midnight() -> None:
    frame = pl.DataFrame({"t": [datetime.fromisoformat("2024-01-01T23:00"), None]})

    _, found = features(frame, DateParts(columns=("t",), parts=("hour",), cyclic=True))

    assert found[0] == pytest.approx([-0.25881904510252, 0.96592582628907])
    assert np.isnan(found[1]).all()
