"""Choices about the recipe go from a file or a search into the features, and are refused if wrong."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.loop.file import parse_loop_file
from loopwright.loop.recipe_choice import as_json, recipe_space, split_settings, with_choices
from loopwright.loop.sourcing import Target
from loopwright.prepare import Recipe, suggest
from loopwright.train import RecipeChoice

PRICE = Target(column="price", task="regression", classes=(), reason="", n_null=0)
CHURN = Target(column="churn", task="binary", classes=("no", "yes"), reason="", n_null=0)
FRAME = pl.DataFrame(
    {
        "town": [f"t{n % 20}" for n in range(100)],
        "size": [float(n) for n in range(100)],
        "price": [float(n + 1) for n in range(100)],
    }
)


class _Artifacts:
    """Keeps bytes by number."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []

    def put_bytes(self, content: bytes) -> str:
        self.kept.append(content)
        return str(len(self.kept) - 1)

    def get_bytes(self, digest: str) -> bytes:
        return self.kept[int(digest)]


@pytest.fixture
def workspace() -> Any:
    """Return what of a workspace is asked for here."""
    return SimpleNamespace(artifacts=_Artifacts())


def prepared(workspace: Any) -> dict[str, Any]:
    recipe = suggest(FRAME, "price", "regression", family="tree")
    digest = workspace.artifacts.put_bytes(recipe.to_json().encode())
    return {"recipes": {"tree/all": digest}, "target_transform": "none"}


def test_settings_of_a_trial_are_told_apart() -> None:
    found = split_settings({"num_leaves": 9, "recipe.encoding": "ordinal", "recipe.target": "log"})

    assert found == ({"num_leaves": 9}, {"encoding": "ordinal", "target": "log"})


def test_a_trial_learns_from_the_recipe_and_the_scale_it_names(workspace: Any) -> None:
    recipes = prepared(workspace)

    chosen = with_choices(workspace, recipes, {"encoding": "ordinal", "target": "log"}, PRICE)

    recipe = Recipe.from_json(workspace.artifacts.get_bytes(chosen["recipes"]["tree/all"]))
    assert [type(step).__name__ for step in recipe.steps] == ["Ordinal"]
    assert chosen["target_transform"] == "log"
    assert recipes["target_transform"] == "none"


def test_a_search_tries_what_makes_a_difference(workspace: Any) -> None:
    recipes = prepared(workspace)

    space = recipe_space(workspace, recipes, PRICE, algorithm="lightgbm", window="all", lowest=1.0)
    without_logarithm = recipe_space(
        workspace, recipes, PRICE, algorithm="lightgbm", window="all", lowest=-1.0
    )

    assert space == {
        "recipe.encoding": ("suggested", "one-hot", "ordinal", "frequency"),
        "recipe.target": ("none", "log"),
    }
    assert "recipe.target" not in without_logarithm


def test_a_class_has_no_logarithm(workspace: Any) -> None:
    with pytest.raises(InvalidInputError, match="the task is binary"):
        with_choices(
            workspace, {"recipes": {}, "target_transform": "none"}, {"target": "log"}, CHURN
        )


def test_a_loop_file_names_the_choices() -> None:
    text = b"""
name: houses
problem: {question: q, target: price}
data: {source: {kind: file, path: houses.parquet}}
train:
  recipe: {encoding: ordinal, texts: none, target: log}
"""

    chosen = parse_loop_file(text).train.recipe

    assert chosen == RecipeChoice(encoding="ordinal", texts="none", target="log")
    assert as_json(chosen) == {"encoding": "ordinal", "texts": "none", "target": "log"}
    assert as_json(RecipeChoice()) == {}
