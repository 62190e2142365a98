"""Rows made ready fold by fold: the recipe is fitted on what a model may learn from, and only that."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.prepare import FittedRecipe, Recipe, choices_of, chosen_recipe, fit_recipe
from loopwright.train import Outcome, TrainingData, TrainingPart
from loopwright.train.algorithm import TargetTransform
from loopwright.tune.fold import Fold

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl
else:
    np = LazyModule("numpy")


_CHOICE = "~"


def recipe_name(family: str, choice: str = "") -> str:
    """Return the name of a family's recipe in a table: the suggested one, or another choice."""
    return f"{family}{_CHOICE}{choice}" if choice else family


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """What a search learns from.

    Parameters
    ----------
    frame
        Raw rows, without the target.
    y
        Targets `(n_rows,)`: values, or indices of classes.
    outcome
        Task and classes.
    recipes
        What each family of algorithms wants done with the columns.
    weight
        How much each row counts, `(n_rows,)`; nothing means 1 each.
    today
        What `today()` gives in the recipes.
    seed
        Of everything drawn at random.
    target_transform
        The scale that encodings of the target are made on, and that configurations learn on
        unless they say otherwise.
    """

    frame: pl.DataFrame
    y: npt.NDArray[np.float64]
    outcome: Outcome
    recipes: Mapping[str, Recipe]
    weight: npt.NDArray[np.float64] | None = None
    today: date | None = None
    seed: int = 7
    target_transform: TargetTransform = "none"

    @property
    def n_classes(self) -> int | None:
        """How many classes there are; None where the targets are numbers."""
        return len(self.outcome.classes) or None

    def recipe(self, name: str) -> Recipe:
        """Return a recipe by its name; another choice is made of the one that is there."""
        if name in self.recipes:
            return self.recipes[name]
        family, _, choice = name.partition(_CHOICE)
        return chosen_recipe(self.recipes[family], choice, n_classes=self.n_classes)

    def choices(self) -> dict[str, tuple[str, ...]]:
        """Return which other choices of its recipe each family has; see `recipe_name`."""
        return {
            family: choices_of(recipe, family=family, n_classes=self.n_classes)
            for family, recipe in self.recipes.items()
            if _CHOICE not in family
        }

    @property
    def is_class(self) -> bool:
        """Whether the targets are classes."""
        return bool(self.outcome.classes)

    def __len__(self) -> int:
        return len(self.y)

    def recipe_target(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return the targets as encodings want them: many classes as labels, long tails shortened."""
        y = self.y[rows]
        if self.outcome.task == "multiclass":
            return np.array(self.outcome.classes)[y.astype(np.intp)]
        return np.log(y) if self.target_transform == "log" else y

    def part(self, X: npt.NDArray[np.float64], rows: npt.NDArray[np.int64]) -> TrainingPart:
        """Return features with their targets and weights."""
        weight = self.weight[rows] if self.weight is not None else None
        return TrainingPart(X=np.ascontiguousarray(X), y=self.y[rows], weight=weight)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedFold:
    """A fold as one family of algorithms wants it."""

    recipe: FittedRecipe
    data: TrainingData

    @property
    def n_bytes(self) -> int:
        """Memory of the features."""
        return int(self.data.train.X.nbytes + self.data.validation.X.nbytes)


@dataclass(slots=True, kw_only=True, eq=False)
class PreparedFolds:
    """Prepares folds when they are asked for and keeps as many as fit into its memory.

    Any thread may ask; a fold is prepared once at a time.

    Parameters
    ----------
    table, folds
        The rows and how they are divided.
    memory_bytes
        What the features kept may take; one fold is always kept.
    """

    table: Table
    folds: Sequence[Fold]
    memory_bytes: int
    _kept: OrderedDict[tuple[int, str], PreparedFold] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _busy: dict[tuple[int, str], threading.Lock] = field(default_factory=dict)
    recipes: dict[tuple[int, str], FittedRecipe] = field(default_factory=dict)
    transform_s: dict[tuple[int, str], float] = field(default_factory=dict)

    def get(self, number: int, family: str) -> PreparedFold:
        """Return a fold as a family of algorithms wants it."""
        key = (number, family)
        with self._lock:
            busy = self._busy.setdefault(key, threading.Lock())
        with busy:
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key]
            prepared = self._prepared(number, family)
            with self._lock:
                self._kept[key] = prepared
                self.recipes[key] = prepared.recipe
                while len(self._kept) > 1 and self._n_bytes() > self.memory_bytes:
                    self._kept.popitem(last=False)
            return prepared

    def _n_bytes(self) -> int:
        return sum(each.n_bytes for each in self._kept.values())

    def forget(self) -> None:
        """Let go of all features that are kept."""
        with self._lock:
            self._kept.clear()

    def _prepared(self, number: int, family: str) -> PreparedFold:
        table, fold = self.table, self.folds[number]
        recipe, X = fit_recipe(
            table.recipe(family),
            table.frame[fold.train],
            table.recipe_target(fold.train),
            seed=table.seed,
            today=table.today,
        )
        started = time.monotonic()
        held = recipe.transform(table.frame[fold.held_out])
        self.transform_s[number, family] = (time.monotonic() - started) / len(fold.held_out)
        return PreparedFold(
            recipe=recipe,
            data=TrainingData(
                train=table.part(X, fold.train),
                validation=table.part(held, fold.held_out),
                n_classes=len(table.outcome.classes),
                feature_names=recipe.feature_names,
                class_names=table.outcome.classes,
            ),
        )
