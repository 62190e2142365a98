from __future__ import annotations

import json
from datetime import date, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.prepare import (
    DateParts,
    Derive,
    Drop,
    FittedRecipe,
    Impute,
    OneHot,
    Recipe,
    RowEncoder,
    Scale,
    TargetEncode,
    fit_recipe,
)

FRAME = pl.DataFrame(
    {
        "id": [1, 2, 3, 4],
        "size": [10.0, None, 30.0, 40.0],
        "colour": ["red", "blue", "red", None],
        "sold": [date(2024, 2, 29), date(2025, 1, 6), None, date(2000, 1, 1)],
    }
)
TARGET = np.array([1.0, 2.0, 3.0, 4.0])
RECIPE = Recipe(
    (
        Drop(columns=("id",), reason="an <identifier>"),
        Derive(name="double", expression="size * 2", reason="asked for"),
        DateParts(columns=("sold",)),
        Impute(columns=("size",)),
        TargetEncode(columns=("colour",), keep_source=True),
        OneHot(columns=("colour",)),
        Scale(columns=("size",)),
    )
)


def test_training_features_equal_the_transform_but_for_target_encodings() -> None:
    fitted, found = fit_recipe(RECIPE, FRAME, TARGET, seed=7)

    again = fitted.transform(FRAME)
    same = [
        bool(((a == b) | (np.isnan(a) & np.isnan(b))).all())
        for a, b in zip(found.T, again.T, strict=True)
    ]

    different = [n for n, is_same in zip(fitted.feature_names, same, strict=True) if not is_same]
    assert different == ["colour_target_mean"]
    assert found.dtype == np.float64


def test_dropped_columns_are_not_needed_afterwards() -> None:
    fitted, found = fit_recipe(RECIPE, FRAME, TARGET, seed=7)

    again = fitted.transform(FRAME.drop("id").select(reversed(FRAME.drop("id").columns)))

    assert list(fitted.inputs) == ["size", "colour", "sold"]
    assert again.shape == found.shape


def test_a_dropped_column_that_is_derived_from_is_needed() -> None:
    steps = (Derive(name="half", expression="id / 2"), Drop(columns=("id", "colour", "sold")))

    fitted, found = fit_recipe(Recipe(steps), FRAME, None, seed=0)

    assert list(fitted.inputs) == ["id", "size"]
    assert fitted.feature_names == ("size", "half")
    assert found[:, 1].tolist() == [0.5, 1.0, 1.5, 2.0]


def test_dates_become_their_parts() -> None:
    parts = DateParts(columns=("sold",))
    fitted, found = fit_recipe(Recipe((parts,)), FRAME.select("sold"), None, seed=0)

    assert fitted.feature_names == tuple(
        f"sold_{part}" for part in ("year", "month", "day_of_week", "day_of_year", "days")
    )
    # 2024-02-29 was a Thursday, the 60th day; 8,825 days after 2000-01-01
    assert found[0].tolist() == [2024, 2, 4, 60, 8825]
    assert found[3].tolist() == [2000, 1, 6, 1, 0]
    assert np.isnan(found[2]).all()


def test_times_with_a_zone_are_read_in_utc() -> None:
    moments = pl.Series("at", [datetime.fromisoformat("2024-01-01T01:30")]).dt.replace_time_zone(
        "Europe/Paris"
    )
    step = DateParts(columns=("at",), parts=("year", "hour"))

    _, found = fit_recipe(Recipe((step,)), moments.to_frame(), None, seed=0)

    assert found.tolist() == [[2024, 0]]


def test_parts_take_other_names_if_there_are_such_columns() -> None:
    frame = pl.DataFrame({"d": [date(2024, 1, 1)], "d_year": [5.0]})

    fitted, found = fit_recipe(
        Recipe((DateParts(columns=("d",), parts=("year",)),)), frame, None, seed=0
    )

    assert fitted.feature_names == ("d_year", "d_year_2")
    assert found.tolist() == [[5, 2024]]


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, X = fit_recipe(RECIPE, FRAME, TARGET, seed=7)
    second, Z = fit_recipe(RECIPE, FRAME, TARGET, seed=7)

    assert first.to_json() == second.to_json()
    assert X.tobytes() == Z.tobytes()


def test_fitted_values_read_back_exactly() -> None:
    frame = pl.DataFrame({"x": [0.1, 1 / 3, 5e-324, 1e300]})
    fitted, _ = fit_recipe(Recipe((Scale(columns=("x",)),)), frame, None, seed=0)

    again = FittedRecipe.from_json(fitted.to_json().encode())

    assert again == fitted
    assert again.transform(frame).tobytes() == fitted.transform(frame).tobytes()


def test_recipes_read_back_from_json() -> None:
    assert Recipe.from_json(RECIPE.to_json()) == RECIPE


def test_a_recipe_of_another_format_is_refused() -> None:
    text = RECIPE.to_json().replace("loopwright.recipe/1", "loopwright.recipe/99")

    with pytest.raises(InvalidInputError, match=r"recipe/99.*reads 'loopwright\.recipe/1'"):
        Recipe.from_json(text)
    with pytest.raises(InvalidInputError):
        FittedRecipe.from_json(RECIPE.to_json())


def _stored(**changes: Any) -> str:
    fitted, _ = fit_recipe(
        Recipe((Scale(columns=("x",)),)), pl.DataFrame({"x": [1.0, 2.0]}), None, seed=0
    )
    value = json.loads(fitted.to_json())
    value["steps"][0].update(changes)
    return json.dumps(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        _stored(scales=[0.0]),
        _stored(scales=[1.0, 2.0]),
        _stored(means=["x"]),
        _stored(step="eval"),
        _stored(surprise=1),
        _stored(scales=[]).replace("1.5", "NaN"),
    ],
)
def test_a_damaged_recipe_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        FittedRecipe.from_json(text)


def test_a_recipe_whose_steps_do_not_fit_each_other_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="does not hold together: KeyError"):
        FittedRecipe.from_json(_stored(columns=["y"]))


def test_levels_that_would_overwrite_another_column_are_refused() -> None:
    frame = pl.DataFrame({"a": ["x", "y"], "b": [1.0, 2.0]})
    fitted, _ = fit_recipe(Recipe((OneHot(columns=("a",)),)), frame, None, seed=0)
    stored = fitted.to_json().replace('"a=y"', '"b"')

    with pytest.raises(InvalidInputError, match="do not lie together"):
        RowEncoder(FittedRecipe.from_json(stored))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((), "'colour' still holds text"),
        ((Drop(columns=("id", "size", "colour", "sold")),), "leaves no feature"),
        ((Drop(columns=("siez",)),), "Did you mean 'size'"),
        ((Drop(columns=("size",)), Scale(columns=("size",))), "'size', which is not there"),
        ((Derive(name="size", expression="id"),), "cannot be named 'size'"),
        ((Derive(name="age", expression="days_between(sold, today())"),), r"uses today\(\)"),
        ((DateParts(columns=("size",)),), "holds number values"),
        ((DateParts(columns=("sold",), parts=("hour",)),), "takes time columns"),
        ((OneHot(columns=("sold",)),), "holds date values"),
    ],
)
def test_steps_that_cannot_be_done_are_refused(steps: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        fit_recipe(Recipe(steps), FRAME, TARGET, seed=0)


def test_no_rows_or_a_target_of_another_length_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="0 rows"):
        fit_recipe(RECIPE, FRAME.clear(), TARGET[:0], seed=0)
    with pytest.raises(InvalidInputError, match="4 rows, the target 3"):
        fit_recipe(RECIPE, FRAME, TARGET[:3], seed=0)


def test_columns_that_cannot_be_read_must_be_dropped() -> None:
    frame = FRAME.with_columns(tags=pl.lit([1, 2]))

    with pytest.raises(InvalidInputError, match="'tags'"):
        fit_recipe(RECIPE, frame, TARGET, seed=0)
    fitted, _ = fit_recipe(Recipe((Drop(columns=("tags",)), *RECIPE.steps)), frame, TARGET, seed=0)

    assert "tags" not in fitted.inputs


def test_a_table_must_have_the_columns_of_training_and_their_types() -> None:
    fitted, _ = fit_recipe(RECIPE, FRAME, TARGET, seed=0)

    with pytest.raises(InvalidInputError, match="'size'"):
        fitted.transform(FRAME.drop("size"))
    with pytest.raises(InvalidInputError, match="holds text values"):
        fitted.transform(FRAME.with_columns(size=pl.lit("5")))


def test_other_widths_of_number_and_untyped_nulls_are_read() -> None:
    fitted, _ = fit_recipe(RECIPE, FRAME, TARGET, seed=0)
    narrow = FRAME.with_columns(pl.col("size").cast(pl.Float32), colour=pl.lit(None))

    found = fitted.transform(narrow)

    assert np.isfinite(found[:, fitted.feature_names.index("size")]).all()


def test_a_table_without_rows_gives_no_features() -> None:
    fitted, _ = fit_recipe(RECIPE, FRAME, TARGET, seed=0)

    found = fitted.transform(FRAME.clear())

    assert found.shape == (0, len(fitted.feature_names))


def test_today_is_that_of_training_unless_given() -> None:
    steps = (Derive(name="age", expression="days_between(sold, today())"), Drop(columns=("sold",)))
    frame = FRAME.select("sold")
    fitted, found = fit_recipe(Recipe(steps), frame, None, seed=0, today=date(2024, 3, 1))

    reopened = FittedRecipe.from_json(fitted.to_json())

    assert found[0, 0] == reopened.transform(frame)[0, 0] == 1.0
    assert reopened.transform(frame, today=date(2024, 3, 2))[0, 0] == 2.0


def test_each_step_explains_itself() -> None:
    fitted, _ = fit_recipe(RECIPE, FRAME, TARGET, seed=0)

    assert fitted.explain()[:2] == [
        ("drop", ("id",), "an <identifier>"),
        ("derive", ("double",), "asked for"),
    ]
    assert [name for name, _, _ in fitted.explain()] == [name for name, _, _ in RECIPE.explain()]


def test_the_html_table_shows_reasons_as_text() -> None:
    found = RECIPE._repr_html_()

    assert "an &lt;identifier&gt;" in found
    assert "<identifier>" not in found
