from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.core.kernel import find_kernel
from loopwright.prepare import (
    Clip,
    DateParts,
    Derive,
    Drop,
    FittedRecipe,
    Frequency,
    GroupRare,
    Impute,
    Log1p,
    OneHot,
    Ordinal,
    Recipe,
    RecipeUnion,
    RowEncoder,
    RowReader,
    Scale,
    Signature,
    TargetEncode,
    fit_recipe,
)

pytestmark = pytest.mark.skipif(find_kernel() is None, reason="the kernel was not built")

TODAY = date(2026, 1, 31)
RECIPE = Recipe(
    (
        Derive(name="age", expression="days_between(day, today()) / 365.25"),
        Derive(name="ratio", expression="x / y"),
        DateParts(columns=("moment",), parts=("year", "hour")),
        Impute(columns=("city",), strategy="most_frequent", indicator=False),
        Impute(columns=("x", "flag")),
        Log1p(columns=("y", "ratio")),
        Clip(columns=("y",), tail=0.05),
        GroupRare(columns=("city",), min_share=0.2),
        TargetEncode(columns=("city", "zip"), keep_source=True),
        Frequency(columns=("colour",), keep_source=True),
        Ordinal(columns=("city",)),
        OneHot(columns=("colour", "code", "flag"), max_levels=4),
        Drop(columns=("zip", "day")),
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
}
_TEXTS = st.none() | st.sampled_from(["red", "Grün", "日本", " red ", "", "é", "\u2003wide"])
_FLOATS = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9)
ROW = {
    "x": _FLOATS,
    "y": _FLOATS,
    "zip": st.none() | st.integers(98_000, 98_005) | st.integers(-(2**70), 2**70),
    "code": st.none() | st.sampled_from([0.0, -0.0, 1, 2.5]),
    "flag": st.none() | st.booleans(),
    "colour": _TEXTS,
    "city": _TEXTS,
    "day": st.none() | st.dates(date(1900, 1, 1), date(2100, 1, 1)).map(date.isoformat),
    "moment": st.none() | st.sampled_from(["2024-02-29T13:14:15+02:00", "2001-01-01"]),
}
ROWS = st.lists(st.fixed_dictionaries({}, optional=ROW), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def trained() -> tuple[Signature, FittedRecipe]:
    rng = np.random.default_rng(3)
    n = 60
    frame = pl.DataFrame(
        {
            "x": rng.normal(size=n),
            "y": rng.exponential(size=n),
            "zip": rng.integers(98_000, 98_004, n),
            "code": rng.choice([0.0, 1.0, 2.5], n),
            "flag": rng.random(n) < 0.5,
            "colour": rng.choice(["red", "Grün", "日本"], n),
            "city": rng.choice(["red", "Grün", "日本", "rare"], n, p=[0.4, 0.4, 0.15, 0.05]),
            "day": [date(2000 + i % 20, 1 + i % 12, 1) for i in range(n)],
            "moment": [datetime(2001, 1, 1, i % 24, tzinfo=UTC) for i in range(n)],
        },
        schema_overrides={"moment": pl.Datetime("us", "UTC")},
    ).with_columns(pl.when(pl.int_range(n) % 7 != 0).then(pl.all()))
    fitted, _ = fit_recipe(RECIPE, frame, rng.normal(size=n), seed=0, today=TODAY)
    return Signature.from_frame(frame), FittedRecipe.from_json(fitted.to_json())


def read_by_python(
    signature: Signature, fitted: FittedRecipe, rows: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], np.ndarray]:
    checked = [signature.check_row(row, index=at) for at, row in enumerate(rows)]
    return checked, RowEncoder(fitted).encode(checked, today=TODAY)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool((a.view(np.uint64) == b.view(np.uint64)).all())


@settings(max_examples=150, deadline=None)
@given(rows=ROWS)
def test_the_kernel_reads_rows_as_python_does_to_the_last_bit(
    trained: tuple[Signature, FittedRecipe], rows: list[dict[str, Any]]
) -> None:
    signature, fitted = trained

    checked, features = read_by_python(signature, fitted, rows)
    found = RowReader(signature, fitted).read(rows, today=TODAY)

    assert found is not None
    assert found[0] == checked
    assert [list(map(type, row.values())) for row in found[0]] == [
        list(map(type, row.values())) for row in checked
    ]
    assert same_bits(found[1], features)


def test_a_union_of_recipes_is_read_side_by_side(trained: tuple[Signature, FittedRecipe]) -> None:
    signature, fitted = trained
    union = RecipeUnion(recipes=(fitted, fitted))
    rows = [{"x": 1, "city": "red", "day": "2020-02-02"}, {"colour": " Grün"}]

    found = RowReader(signature, union).read(rows, today=TODAY)

    assert found is not None
    _, features = read_by_python(signature, fitted, rows)
    assert same_bits(found[1], np.concatenate([features, features], axis=1))


@pytest.mark.parametrize(
    "row",
    [
        {"x": "high"},
        {"x": float("nan")},
        {"x": True},
        {"x": 10**400},
        {"flag": 1},
        {"colour": 5},
        {"day": "yesterday"},
        {"moment": []},
        [],
        None,
        "row",
    ],
    ids=repr,
)
def test_what_python_refuses_the_kernel_leaves_to_python(
    trained: tuple[Signature, FittedRecipe], row: Any
) -> None:
    signature, fitted = trained
    with pytest.raises((InvalidInputError, AttributeError)):
        signature.check_row(row)

    assert RowReader(signature, fitted).read([{}, row], today=TODAY) is None


def test_missing_and_unknown_columns_are_left_to_python_where_they_are_refused() -> None:
    frame = pl.DataFrame({"x": [1.0, 2.0, 3.0], "price": [1.0, 2.0, 3.0]})
    fitted, _ = fit_recipe(Recipe((Scale(),)), frame.select("x"), None, seed=0)
    reader = RowReader(Signature.from_frame(frame, target="price", unknown="refuse"), fitted)

    assert reader.read([{"x": 1.0, "price": 2.0}]) is not None
    assert reader.read([{"x": 1.0, "y": 2.0}]) is None
    assert reader.read([{"price": 2.0}]) is None
    assert reader.read([{"x": None}]) is None


@settings(max_examples=80, deadline=None)
@given(rows=ROWS)
def test_unseen_categories_are_left_to_python_where_they_are_refused(
    trained: tuple[Signature, FittedRecipe], rows: list[dict[str, Any]]
) -> None:
    signature, fitted = trained[0].refusing_unseen(), trained[1]
    found = RowReader(signature, fitted).read(rows, today=TODAY)

    try:
        expected = read_by_python(signature, fitted, rows)
    except InvalidInputError:
        assert found is None
    else:
        assert found is not None
        assert found[0] == expected[0]
        assert same_bits(found[1], expected[1])


def test_no_row_gives_no_features(trained: tuple[Signature, FittedRecipe]) -> None:
    signature, fitted = trained

    found = RowReader(signature, fitted).read([], today=TODAY)

    assert found is not None
    assert found[1].shape == (0, len(fitted.feature_names))


def test_a_reader_that_nobody_holds_leaves_no_memory_behind(
    trained: tuple[Signature, FittedRecipe],
) -> None:
    import gc

    psutil = pytest.importorskip("psutil")
    signature, fitted = trained
    rows = [{"x": 1, "city": "red", "day": "2020-02-02"}, {"x": "wrong"}]

    def worked() -> int:
        for _ in range(400):
            reader = RowReader(signature, fitted)
            reader.read(rows[:1] * 5, today=TODAY)
            reader.read(rows, today=TODAY)
        gc.collect()
        return int(psutil.Process().memory_info().rss)

    before = worked()
    for _ in range(3):
        after = worked()

    assert after - before < 4 << 20
