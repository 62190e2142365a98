"""Another choice changes what it names, and nothing else; what it makes serves rows as tables."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.prepare import (
    Derive,
    Drop,
    OneHot,
    Ordinal,
    Recipe,
    RowEncoder,
    TargetEncode,
    TextVector,
    choice_name,
    choices_of,
    chosen_recipe,
    fit_recipe,
)

RECIPE = Recipe(
    (
        Derive(name="cell", expression="floor(x)"),
        TargetEncode(columns=("cell",)),
        TargetEncode(columns=("town",)),
        OneHot(columns=("colour",)),
        TextVector(columns=("note",), n_features=4),
    )
)
N = 60
FRAME = pl.DataFrame(
    {
        "x": np.linspace(0, 5, N),
        "town": [f"t{n % 20}" for n in range(N)],
        "colour": ["red", "blue", None] * (N // 3),
        "note": ["good day", "bad night", "good night"] * (N // 3),
    }
)
Y = np.arange(N, dtype=np.float64)


@pytest.mark.parametrize("encoding", ["one-hot", "ordinal", "target", "frequency"])
def test_categories_are_encoded_as_chosen_and_what_steps_made_stays(encoding: str) -> None:
    kinds = {"one-hot": "OneHot", "ordinal": "Ordinal", "target": "TargetEncode"}

    steps = chosen_recipe(RECIPE, encoding, n_classes=None).steps

    assert steps[:2] == RECIPE.steps[:2]
    names = [type(step).__name__ for step in steps[2:4]]
    assert names == [kinds.get(encoding, "Frequency")] * 2
    assert steps[4] == RECIPE.steps[4]


def test_texts_can_be_left_out() -> None:
    chosen = chosen_recipe(RECIPE, choice_name(texts="none"), n_classes=None)

    assert isinstance(chosen.steps[4], Drop)
    assert chosen.steps[:4] == RECIPE.steps[:4]


@pytest.mark.parametrize("choice", ["", "one-hot", "ordinal", "target+no-texts", "frequency"])
def test_a_chosen_recipe_serves_rows_with_the_bits_of_the_table(choice: str) -> None:
    fitted, _ = fit_recipe(chosen_recipe(RECIPE, choice, n_classes=None), FRAME, Y, seed=1)

    rows = RowEncoder(fitted).encode(FRAME.to_dicts())

    np.testing.assert_array_equal(rows, fitted.transform(FRAME))


def test_many_classes_get_a_column_each_where_the_mean_target_is_chosen() -> None:
    steps = chosen_recipe(RECIPE, "target", n_classes=3).steps

    assert isinstance(steps[3], TargetEncode)
    assert steps[3].per_class


def test_only_choices_that_change_something_are_offered() -> None:
    plain = Recipe((Ordinal(columns=("town",)),))

    assert choices_of(RECIPE, family="tree", n_classes=None) == (
        "one-hot",
        "ordinal",
        "target",
        "frequency",
        "no-texts",
    )
    # the places of levels are no scale for a weighted sum
    assert "ordinal" not in choices_of(RECIPE, family="linear", n_classes=None)
    assert "target" not in choices_of(RECIPE, family="tree", n_classes=50)
    assert "ordinal" not in choices_of(plain, family="tree", n_classes=None)
    assert choices_of(Recipe(()), family="tree", n_classes=None) == ()


def test_a_choice_that_is_none_names_the_nearest() -> None:
    with pytest.raises(InvalidInputError, match="ordnal") as error:
        chosen_recipe(RECIPE, "ordnal", n_classes=None)

    assert "ordinal" in (error.value.hint or "")
