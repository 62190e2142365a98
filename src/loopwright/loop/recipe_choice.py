"""Choices about the recipe that a person makes, or that a search tries, beside hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.loop.sourcing import Target
from loopwright.loop.workspace import Workspace
from loopwright.prepare import Recipe, choice_name, choices_of, chosen_recipe
from loopwright.train import RecipeChoice, get_algorithm
from loopwright.tune import RECIPE_PREFIX, RECIPE_SPACE

_SUGGESTED = "suggested"


def split_settings(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the hyperparameters among the settings of a trial, and the choices about the recipe."""
    hyperparameters = {k: v for k, v in settings.items() if not k.startswith(RECIPE_PREFIX)}
    choices = {
        key.removeprefix(RECIPE_PREFIX): str(value)
        for key, value in settings.items()
        if key.startswith(RECIPE_PREFIX)
    }
    return hyperparameters, choices


def with_choices(
    workspace: Workspace, recipes: dict[str, Any], choices: Mapping[str, str], target: Target
) -> dict[str, Any]:
    """Return the recipes of a `prepare` step with other choices made.

    Raises
    ------
    InvalidInputError
        If the target has no logarithm to learn.
    """
    transform = chosen_transform(recipes["target_transform"], choices, target)
    changed = {}
    for key, digest in recipes["recipes"].items():
        recipe = with_choice(_opened(workspace, digest), choices, target)
        changed[key] = workspace.artifacts.put_bytes(recipe.to_json().encode())
    return {**recipes, "recipes": changed, "target_transform": transform}


def with_choice(recipe: Recipe, choices: Mapping[str, str], target: Target) -> Recipe:
    """Return a recipe with other choices made."""
    made = msgspec.convert(dict(choices), RecipeChoice)
    name = choice_name(made.encoding, made.texts)
    return chosen_recipe(recipe, name, n_classes=_n_classes(target))


def chosen_transform(suggested: str, choices: Mapping[str, str], target: Target) -> str:
    """Return the scale that the target is learnt on.

    Raises
    ------
    InvalidInputError
        If the target has no logarithm to learn.
    """
    transform = choices.get("target", _SUGGESTED)
    if transform == "log" and target.task != "regression":
        raise InvalidInputError(
            f"The logarithm of the target is asked for, and the task is {target.task}.",
            hint="Leave train.recipe.target out.",
            field="train.recipe.target",
            value=transform,
        )
    return suggested if transform == _SUGGESTED else transform


def recipe_space(
    workspace: Workspace,
    recipes: dict[str, Any],
    target: Target,
    *,
    algorithm: str,
    window: str,
    lowest: float | None,
) -> dict[str, tuple[str, ...]]:
    """Return the choices about the recipe that are worth a try, as a space states them.

    Parameters
    ----------
    lowest
        The smallest target of a regression; its logarithm is learnt only if it is above 0.
    """
    family = get_algorithm(algorithm).features
    recipe = _opened(workspace, recipes["recipes"][f"{family}/{window}"])
    others = choices_of(recipe, family=family, n_classes=_n_classes(target))
    no_texts = choice_name(texts="none")
    encodings = tuple(each for each in others if each != no_texts)
    found: dict[str, tuple[str, ...]] = {}
    if encodings:
        found[f"{RECIPE_PREFIX}encoding"] = (_SUGGESTED, *encodings)
    if no_texts in others:
        found[f"{RECIPE_PREFIX}texts"] = RECIPE_SPACE[f"{RECIPE_PREFIX}texts"]
    if lowest is not None and lowest > 0:
        found[f"{RECIPE_PREFIX}target"] = ("none", "log")
    return found


def as_json(choice: RecipeChoice) -> dict[str, str]:
    """Return what of a choice is not what was suggested, as JSON types."""
    return {k: v for k, v in msgspec.to_builtins(choice).items() if v != _SUGGESTED}


def _opened(workspace: Workspace, digest: str) -> Recipe:
    return Recipe.from_json(workspace.artifacts.get_bytes(digest))


def _n_classes(target: Target) -> int | None:
    return len(target.classes) or None
