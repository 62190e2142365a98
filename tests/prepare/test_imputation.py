from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer

from loopwright.core.errors import InvalidInputError
from loopwright.prepare import Impute, Recipe, fit_recipe
from loopwright.prepare.step import Training


def fitted_on(step: Any, frame: pl.DataFrame) -> Any:
    return fit_recipe(Recipe((step,)), frame, None, seed=0)


def frame_of(values: list[float | None]) -> pl.DataFrame:
    return pl.DataFrame({"x": values}, schema={"x": pl.Float64})


_GAPPY = st.lists(st.none() | st.floats(-1e6, 1e6), min_size=2, max_size=30).filter(
    lambda values: any(value is not None for value in values)
)


@pytest.mark.parametrize("strategy", ["median", "mean", "most_frequent"])
@settings(max_examples=25, deadline=None)
@given(values=_GAPPY)
def test_filling_agrees_with_scikit_learn(strategy: Any, values: list[float | None]) -> None:
    frame = frame_of(values)
    reference = SimpleImputer(strategy=strategy).fit_transform(frame.to_numpy())

    _, found = fitted_on(Impute(columns=("x",), strategy=strategy, indicator=False), frame)

    np.testing.assert_allclose(found, reference, rtol=1e-9, atol=1e-9)


def test_a_gap_leaves_a_mark_only_where_training_had_one() -> None:
    frame = pl.DataFrame({"a": [1.0, None, 3.0], "b": [1.0, 2.0, 3.0]})
    fitted, found = fitted_on(Impute(), frame)

    later = fitted.transform(pl.DataFrame({"a": [None], "b": [None]}))

    assert fitted.feature_names == ("a", "b", "a_missing")
    assert found.tolist() == [[1, 1, 0], [2, 2, 1], [3, 3, 0]]
    assert later.tolist() == [[2, 2, 1]]


def test_a_column_without_values_is_filled_with_zero() -> None:
    _, found = fitted_on(Impute(columns=("x",)), frame_of([None, None]))

    assert found.tolist() == [[0, 1], [0, 1]]


def test_the_mark_takes_another_name_if_there_is_such_a_column() -> None:
    frame = pl.DataFrame({"a": [1.0, None], "a_missing": [7.0, 8.0]})

    fitted, found = fitted_on(Impute(columns=("a",)), frame)

    assert fitted.feature_names == ("a", "a_missing", "a_missing_2")
    assert found[:, 1].tolist() == [7.0, 8.0]


def test_booleans_are_filled_as_numbers() -> None:
    frame = pl.DataFrame({"f": [True, None, True]})

    _, found = fitted_on(
        Impute(columns=("f",), strategy="constant", value=0, indicator=False), frame
    )

    assert found.tolist() == [[1], [0], [1]]


@pytest.mark.parametrize("value", [None, "x", float("nan")])
def test_a_constant_must_fit_the_column(value: Any) -> None:
    with pytest.raises(InvalidInputError, match="cannot fill the column 'x'"):
        fitted_on(Impute(columns=("x",), strategy="constant", value=value), frame_of([1.0]))


@pytest.mark.parametrize(
    ("texts", "expected"),
    [(["b", "a", None, "b", "a"], "a"), (["b", "b", "a"], "b"), ([None, None], "missing")],
)
def test_text_is_filled_with_the_first_of_the_most_frequent(
    texts: list[str | None], expected: str
) -> None:
    frame = pl.DataFrame({"s": texts}, schema={"s": pl.String})
    step = Impute(columns=("s",), strategy="most_frequent")

    fitted = step.fit(Training(table=frame, types={"s": "text"}, target=None, seed=0, today=None))

    assert fitted.fills == (expected,)
    assert fitted.indicators == ("s_missing" if None in texts else None,)
