"""Recipes side by side give what each gives alone, for a table and for a row."""

from __future__ import annotations

import json
from datetime import date

import numpy as np
import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.prepare import (
    Derive,
    Drop,
    FittedRecipe,
    Impute,
    OneHot,
    Recipe,
    RecipeUnion,
    RowEncoder,
    Scale,
    UnionEncoder,
    fit_recipe,
    open_fitted,
    row_encoder,
)

FRAME = pl.DataFrame(
    {
        "x": [1.0, None, 4.0, 9.0],
        "colour": ["red", "blue", None, "red"],
        "day": [date(2026, 1, 1)] * 4,
    }
)


def fitted(*steps: object, columns: tuple[str, ...] = ("x", "colour")) -> FittedRecipe:
    return fit_recipe(
        Recipe(tuple(steps)),  # type: ignore[arg-type]
        FRAME.select(columns),
        None,
        seed=1,
        today=date(2026, 1, 31),
    )[0]


@pytest.fixture
def union() -> RecipeUnion:
    scaled = fitted(Impute(columns=("x",)), OneHot(columns=("colour",)), Scale())
    plain = fitted(columns=("x",))
    return RecipeUnion(recipes=(scaled, plain))


def test_features_stand_side_by_side_in_the_order_of_the_recipes(union: RecipeUnion) -> None:
    X = union.transform(FRAME)

    for recipe, (start, end) in zip(union.recipes, union.spans, strict=True):
        np.testing.assert_array_equal(X[:, start:end], recipe.transform(FRAME))
    assert union.feature_names[-1] == "1/x"
    assert dict(union.inputs) == {"x": "number", "colour": "text"}


def test_a_row_gets_the_bits_of_the_table(union: RecipeUnion) -> None:
    rows = FRAME.to_dicts()

    encoded = UnionEncoder(union).encode(rows)

    np.testing.assert_array_equal(encoded, union.transform(FRAME))


def test_a_stored_union_is_the_same_union(union: RecipeUnion) -> None:
    read = open_fitted(union.to_json())

    assert read == union
    assert isinstance(row_encoder(read), UnionEncoder)


def test_a_single_recipe_is_still_opened_as_one(union: RecipeUnion) -> None:
    read = open_fitted(union.recipes[0].to_json().encode())

    assert read == union.recipes[0]
    assert isinstance(row_encoder(read), RowEncoder)


def test_a_recipe_that_asks_for_today_makes_the_union_ask() -> None:
    age = Derive(name="age", expression="days_between(day, today())")
    asks = fitted(age, Drop(columns=("day",)), columns=("x", "day"))

    union = RecipeUnion(recipes=(fitted(columns=("x",)), asks))

    assert union.today == date(2026, 1, 31)
    assert union.uses_today
    later = union.transform(FRAME, today=date(2026, 2, 1))
    assert later[0, -1] == 31.0


@pytest.mark.parametrize(
    "text",
    [
        '{"format": "loopwright.recipe-union/1"}',
        '{"format": "loopwright.recipe-union/1", "recipes": []}',
        '{"format": "loopwright.recipe-union/1", "recipes": [{"format": "loopwright.recipe/1"}]}',
        '{"format": "loopwright.recipe-union/2", "recipes": []}',
        '{"x": "loopwright.recipe-union/1"',
    ],
)
def test_what_is_no_union_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        open_fitted(text)


def test_recipes_that_read_a_column_differently_are_refused(union: RecipeUnion) -> None:
    content = json.loads(union.to_json())
    content["recipes"][1]["inputs"] = [["x", "text"]]

    with pytest.raises(InvalidInputError, match="reads 'x' as number, another as text"):
        RecipeUnion.from_json(json.dumps(content))
