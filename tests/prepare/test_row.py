from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.prepare import (
    Clip,
    DateParts,
    Derive,
    Drop,
    FittedRecipe,
    Frequency,
    Impute,
    Log1p,
    OneHot,
    Ordinal,
    Recipe,
    RowEncoder,
    Scale,
    Signature,
    TargetEncode,
    fit_recipe,
)

TODAY = date(2026, 1, 31)
RECIPE = Recipe(
    (
        Derive(name="age", expression="days_between(day, today()) / 365.25"),
        Derive(name="ratio", expression="x / y"),
        Derive(name="initial", expression='lower(concat(colour, "é"))'),
        Drop(columns=("unused",)),
        DateParts(columns=("day",)),
        DateParts(columns=("moment",), parts=("year", "month", "day_of_week", "days", "hour")),
        Impute(columns=("city",), strategy="most_frequent", indicator=False),
        Impute(columns=("x", "flag")),
        Log1p(columns=("y", "ratio")),
        Clip(columns=("y",), tail=0.05),
        TargetEncode(columns=("city", "zip"), keep_source=True),
        Frequency(columns=("initial",)),
        Ordinal(columns=("city",)),
        OneHot(columns=("colour", "code"), max_levels=4),
        Scale(),
    )
)
SCHEMA: dict[str, Any] = {
    "x": pl.Float64,
    "y": pl.Float64,
    "zip": pl.Int64,
    "code": pl.Float64,
    "flag": pl.Boolean,
    "colour": pl.String,
    "city": pl.String,
    "day": pl.Date,
    "moment": pl.Datetime("us"),
    "unused": pl.Int64,
}
_EXTREMES = [0.0, -0.0, 1e308, -1e308, 5e-324, float("nan"), float("inf"), float("-inf")]
_FLOATS = st.none() | st.sampled_from(_EXTREMES) | st.floats(-1e6, 1e6) | st.floats()


def rows(n: tuple[int, int], levels: list[str]) -> st.SearchStrategy[list[dict[str, Any]]]:
    text = st.none() | st.sampled_from(levels)
    row = {
        "x": _FLOATS,
        "y": _FLOATS,
        "zip": st.none() | st.integers(98_000, 98_005) | st.integers(-(2**62), 2**62),
        "code": st.none() | st.sampled_from([0.0, -0.0, 1.0, 2.5]),
        "flag": st.none() | st.booleans(),
        "colour": text,
        "city": text,
        "day": st.none() | st.dates(date(1900, 1, 1), date(2100, 1, 1)),
        "moment": st.none()
        | st.datetimes(datetime.fromisoformat("1900-01-01"), datetime.fromisoformat("2100-01-01")),
        "unused": st.just(1),
    }
    return st.lists(st.fixed_dictionaries(row), min_size=n[0], max_size=n[1])


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool((a.view(np.uint64) == b.view(np.uint64)).all())


@settings(max_examples=30, deadline=None)
@given(
    training=rows((1, 12), ["", "red", "Grün", "日本", "İ"]),
    later=rows((1, 6), ["", "red", "never seen", "ǅ", "İ"]),
    seed=st.integers(0, 3),
)
def test_rows_and_tables_give_the_same_bits(
    training: list[dict[str, Any]], later: list[dict[str, Any]], seed: int
) -> None:
    frame = pl.DataFrame(training, schema=SCHEMA)
    target = np.arange(len(training), dtype=np.float64) ** 1.5
    fitted, _ = fit_recipe(RECIPE, frame, target, seed=seed, today=TODAY)
    reopened = FittedRecipe.from_json(fitted.to_json())
    frame = pl.DataFrame(later, schema=SCHEMA)

    by_table = fitted.transform(frame)
    by_row = RowEncoder(reopened).encode(later, today=TODAY)
    one_by_one = [RowEncoder(reopened).encode([row], today=TODAY) for row in later]

    assert same_bits(by_table, by_row)
    assert same_bits(by_table, np.concatenate(one_by_one))
    assert not np.isinf(by_table).any()


def test_many_ordinary_rows_give_the_same_bits() -> None:
    rng = np.random.default_rng(7)
    n = 3_000
    frame = pl.DataFrame(
        {
            "x": rng.normal(size=n) * 1e3,
            "y": rng.lognormal(size=n),
            "zip": rng.integers(98_000, 98_099, size=n),
            "code": rng.integers(0, 6, size=n).astype(float),
            "flag": rng.random(n) < 0.5,
            "colour": rng.choice(["red", "green", "blue"], size=n),
            "city": rng.choice([f"city {i}" for i in range(40)], size=n),
            "day": pl.Series([date(2020, 1, 1)] * n),
            "moment": pl.Series([datetime.fromisoformat("2020-01-01T10:00")] * n),
            "unused": np.ones(n, dtype=np.int64),
        }
    ).with_columns(pl.when(pl.col("x") > 0).then(pl.col("x")))
    fitted, _ = fit_recipe(RECIPE, frame, rng.normal(size=n), seed=7, today=TODAY)

    found = RowEncoder(fitted).encode(frame.to_dicts(), today=TODAY)

    assert same_bits(found, fitted.transform(frame))


def test_what_a_signature_lets_through_is_encoded_like_the_table() -> None:
    frame = pl.DataFrame({"size": [1, 2, 40], "day": [TODAY] * 3, "ok": [True, False, True]})
    recipe = Recipe((DateParts(columns=("day",)), Scale(columns=("size",))))
    fitted, features = fit_recipe(recipe, frame, None, seed=0)
    signature = Signature.from_frame(frame)

    rows = [{"size": n, "day": "2026-01-31", "ok": n != 2} for n in (1, 2, 40)]
    found = RowEncoder(fitted).encode([signature.check_row(row) for row in rows])

    assert same_bits(found, features)


def test_an_absent_column_is_missing() -> None:
    fitted, _ = fit_recipe(Recipe(()), pl.DataFrame({"a": [1.0, 2.0], "b": [1, 2]}), None, seed=0)

    found = RowEncoder(fitted).encode([{"b": 5}])

    assert np.isnan(found[0, 0])
    assert found[0, 1] == 5.0


def test_no_rows_give_no_features() -> None:
    fitted, _ = fit_recipe(Recipe(()), pl.DataFrame({"a": [1.0], "b": [2.0]}), None, seed=0)

    found = RowEncoder(fitted).encode([])

    assert found.shape == (0, 2)


def test_today_is_the_day_of_the_request_unless_it_is_given() -> None:
    frame = pl.DataFrame({"opened": [date(2026, 1, 1)]})
    derive = Derive(name="age", expression="days_between(opened, today())")
    recipe = Recipe((derive, Drop(columns=("opened",))))
    fitted, features = fit_recipe(recipe, frame, None, seed=0, today=TODAY)
    before = datetime.now(UTC).date()

    now = RowEncoder(fitted).encode([{"opened": before}])
    then = RowEncoder(fitted).encode(frame.to_dicts(), today=TODAY)

    assert now[0, 0] in (0.0, 1.0)
    assert then[0, 0] == features[0, 0] == 30.0


@pytest.mark.parametrize("value", ["5", [1], date(2020, 1, 1)])
def test_a_value_of_another_type_is_refused(value: Any) -> None:
    fitted, _ = fit_recipe(Recipe(()), pl.DataFrame({"a": [1.0]}), None, seed=0)

    with pytest.raises(InvalidInputError, match="not a number"):
        RowEncoder(fitted).encode([{"a": value}])


def test_encoding_rows_loads_no_table_library() -> None:
    fitted, _ = fit_recipe(Recipe((Scale(),)), pl.DataFrame({"a": [1.0, 3.0]}), None, seed=0)
    code = (
        "import sys\n"
        "from loopwright.prepare import FittedRecipe, RowEncoder\n"
        f"fitted = FittedRecipe.from_json({fitted.to_json()!r})\n"
        "assert RowEncoder(fitted).encode([{'a': 3.0}]).tolist() == [[1.0]]\n"
        "heavy = {'polars', 'sklearn', 'pandas', 'sqlalchemy', 'lightgbm'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )

    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert found.returncode == 0, found.stderr
