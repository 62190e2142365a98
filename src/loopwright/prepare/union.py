"""Several fitted recipes side by side, for a model whose members want different features."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.prepare.recipe import FittedRecipe
from loopwright.prepare.row import RowEncoder
from loopwright.prepare.value import ValueType

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np = LazyModule("numpy")

_FORMAT = "loopwright.recipe-union/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeUnion:
    """Fitted recipes over the same table; their features stand side by side.

    It answers what a `FittedRecipe` answers. The features of recipe 0 come first, named `0/...`.

    Parameters
    ----------
    recipes
        At least one. They agree on what a column stores.

    Raises
    ------
    InvalidInputError
        If there is none, or two read one column as different things.
    """

    recipes: tuple[FittedRecipe, ...]
    inputs: Mapping[str, ValueType] = field(init=False)
    feature_names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        if not self.recipes:
            raise InvalidInputError(
                "A union of no recipes makes no features.",
                hint="Give at least one fitted recipe.",
                field="recipes",
            )
        inputs: dict[str, ValueType] = {}
        for recipe in self.recipes:
            for name, kind in recipe.inputs.items():
                if inputs.setdefault(name, kind) != kind:
                    raise InvalidInputError(
                        f"One recipe reads {name!r} as {inputs[name]}, another as {kind}.",
                        hint="Fit the recipes on the same table.",
                        field=name,
                        value=kind,
                    )
        names = [
            f"{place}/{name}"
            for place, recipe in enumerate(self.recipes)
            for name in recipe.feature_names
        ]
        object.__setattr__(self, "inputs", inputs)
        object.__setattr__(self, "feature_names", tuple(names))

    @property
    def today(self) -> date | None:
        """The date `today()` gave in training; None if no recipe asks."""
        return next((recipe.today for recipe in self.recipes if recipe.today), None)

    @property
    def uses_today(self) -> bool:
        """Whether a feature depends on the day it is computed."""
        return self.today is not None

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """The first feature of each recipe, and the one after its last."""
        spans, start = [], 0
        for recipe in self.recipes:
            spans.append((start, start + len(recipe.feature_names)))
            start = spans[-1][1]
        return tuple(spans)

    def transform(self, frame: pl.DataFrame, *, today: date | None = None) -> np.ndarray:
        """Return the features of a table; see `FittedRecipe.transform`."""
        return np.concatenate([r.transform(frame, today=today) for r in self.recipes], axis=1)

    def explain(self) -> list[tuple[str, tuple[str, ...], str]]:
        """Return the name, the columns and the reason of each step, in the order of the recipes."""
        return [step for recipe in self.recipes for step in recipe.explain()]

    def to_json(self) -> str:
        """Return the union as JSON; every float reads back as the same float."""
        recipes = [json.loads(recipe.to_json()) for recipe in self.recipes]
        return json.dumps({"format": _FORMAT, "recipes": recipes}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> RecipeUnion:
        """Return the union that `to_json` wrote; `InvalidInputError` if the text is none."""
        try:
            content = json.loads(text)
            if content["format"] != _FORMAT:
                raise ValueError(f"its format is {str(content['format'])[:80]!r}")
            texts = [json.dumps(recipe) for recipe in content["recipes"]]
        except (ValueError, KeyError, TypeError, RecursionError) as cause:
            raise InvalidInputError(
                f"This is no stored union of recipes: {cause!r}.",
                hint="Train the model again, or restore the file.",
                expected=_FORMAT,
            ) from cause
        return cls(recipes=tuple(FittedRecipe.from_json(text) for text in texts))


class UnionEncoder:
    """Turns rows into the features of a union, with the same bits as `RecipeUnion.transform`."""

    def __init__(self, union: RecipeUnion) -> None:
        self._encoders = [RowEncoder(recipe) for recipe in union.recipes]
        self.feature_names = union.feature_names

    def encode(self, rows: Sequence[Mapping[str, Any]], *, today: date | None = None) -> np.ndarray:
        """Return the features, float64, (n_rows, n_features); see `RowEncoder.encode`."""
        return np.concatenate([e.encode(rows, today=today) for e in self._encoders], axis=1)


def open_fitted(text: str | bytes) -> FittedRecipe | RecipeUnion:
    """Return the fitted recipe, or the union of them, that `to_json` wrote.

    Raises
    ------
    InvalidInputError
        If the text is neither.
    """
    head = text[:200] if isinstance(text, str) else text[:200].decode(errors="replace")
    return RecipeUnion.from_json(text) if _FORMAT in head else FittedRecipe.from_json(text)


def row_encoder(fitted: FittedRecipe | RecipeUnion) -> RowEncoder | UnionEncoder:
    """Return what turns rows into features as `fitted` does with tables."""
    return UnionEncoder(fitted) if isinstance(fitted, RecipeUnion) else RowEncoder(fitted)
