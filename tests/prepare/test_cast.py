from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.prepare import (
    Cast,
    DateParts,
    OneHot,
    Recipe,
    fit_recipe,
)


def features(frame: pl.DataFrame, *steps: Any) -> tuple[tuple[str, ...], list[list[float]]]:
    fitted, found = fit_recipe(Recipe(steps), frame, None, seed=0)
    return fitted.feature_names, found.tolist()


def test_texts_are_read_as_numbers_and_what_is_none_is_missing() -> None:
    texts = ["12", " -3.5 ", "1e3", "", "1_000", "nan", "inf", "1e999", "twelve", None]

    _, found = features(pl.DataFrame({"t": texts}), Cast(columns=("t",), to="number"))

    assert [row[0] for row in found[:3]] == [12.0, -3.5, 1000.0]
    assert np.isnan(found[3:]).all()


def test_texts_are_read_as_booleans() -> None:
    frame = pl.DataFrame({"t": ["Yes", "t", "0", "FALSE", "maybe", None]})

    _, found = features(frame, Cast(columns=("t",), to="boolean"))

    assert [row[0] for row in found[:4]] == [1.0, 1.0, 0.0, 0.0]
    assert np.isnan(found[4:]).all()


def test_texts_are_read_as_dates_of_a_format() -> None:
    frame = pl.DataFrame({"t": ["10/13/2014", "13/10/2014"]})
    steps = (
        Cast(columns=("t",), to="date", format="%m/%d/%Y"),
        DateParts(columns=("t",), parts=("year", "month")),
    )

    _, found = features(frame, *steps)

    assert found[0] == [2014.0, 10.0]
    assert np.isnan(found[1]).all()


def test_numbers_become_levels_without_a_point() -> None:
    names, _ = features(
        pl.DataFrame({"zip": [98001.0, 98002.5]}),
        Cast(columns=("zip",), to="text"),
        OneHot(columns=("zip",)),
    )

    assert names == ("zip=98001", "zip=98002.5")


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="cannot be read as number"):
        features(pl.DataFrame({"d": [date(2024, 1, 1)]}), Cast(columns=("d",), to="number"))
