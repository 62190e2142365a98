"""Distillation: one fast model that learns what the blend says.

Bucilă, Caruana and Niculescu-Mizil, "Model Compression", KDD 2006.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import LoopwrightError
from loopwright.core.lazy import LazyModule
from loopwright.prepare import FittedRecipe, fit_recipe
from loopwright.problem import Metric
from loopwright.train import (
    FittedModel,
    Predictor,
    TrainingData,
    TrainingPart,
    fit_algorithm,
    get_algorithm,
)
from loopwright.train.algorithm import TargetTransform
from loopwright.tune.auto import AutoModel
from loopwright.tune.prepared import PreparedFolds
from loopwright.tune.weighting import blend, loss_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

# what may learn from the blend: quick to answer, each in its own way
_STUDENTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("lightgbm", {"learning_rate": 0.05, "min_child_samples": 10}),
    ("linear-learner", {}),
)
# a class that the blend thinks less likely than this is not taught
_LEAST_PROBABILITY = 0.01
_MOST_NEW_ROWS = 20_000
_NEW_PER_ROW = 2
# of the values of a new row, how many come from another row
_SHARE_SWAPPED = 0.15
# of the time for it, what the blend may take to answer new rows
_SHARE_OF_ASKING = 0.3
_MOST_GROWTH = 2.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Distilled:
    """One model that learnt from a blend.

    Parameters
    ----------
    algorithm
        What it is.
    fitted
        Its recipe.
    predictor
        What it computes.
    importance
        Of its features; see `FittedModel`.
    n_new
        Rows made up beside the real ones, for the blend to answer.
    seconds
        Wall time of all of it.
    """

    algorithm: str
    fitted: FittedRecipe
    predictor: Predictor
    importance: npt.NDArray[np.float64] | None
    n_new: int
    seconds: float

    def predict_raw(self, frame: pl.DataFrame) -> npt.NDArray[np.float64]:
        """Return the numbers behind the answers for raw rows; see `Predictor.predict_raw`."""
        return self.predictor.predict_raw(self.fitted.transform(frame))


def distilled(
    model: AutoModel,
    prepared: PreparedFolds,
    metric: Metric,
    *,
    seconds: float,
    threads: int,
    algorithms: Sequence[str] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Distilled | None:
    """Return the best single model that learns from the blend, or None if none came of it in time.

    It learns what the blend says about the rows: of real ones what models say that did not learn
    from them, and of made-up ones what all of them say. Which algorithm it is, and when it stops,
    is decided on the truth of the rows that the first fold holds out.

    Parameters
    ----------
    model
        The blend, with its search.
    prepared
        The rows that it was searched on.
    metric
        What counts.
    seconds
        Wall time it may take, above 0.
    threads
        How many threads a fit uses.
    algorithms
        Those that may be used; nothing means any.
    """
    lesson = _Lesson(
        model=model,
        prepared=prepared,
        metric=metric,
        threads=threads,
        began=clock(),
        until=clock() + seconds,
        clock=clock,
    )
    return lesson.taught(algorithms)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Lesson:
    model: AutoModel
    prepared: PreparedFolds
    metric: Metric
    threads: int
    began: float
    until: float
    clock: Callable[[], float]

    def taught(self, algorithms: Sequence[str] | None) -> Distilled | None:
        said = self._said()
        best: tuple[float, str, dict[str, Any], FittedModel] | None = None
        for name, settings in _STUDENTS:
            if algorithms is not None and name not in algorithms:
                continue
            fitted = self._tried(name, settings, said)
            if fitted is None:
                continue
            held = self.prepared.folds[0].held_out
            X = self.prepared.get(0, get_algorithm(name).features).data.validation.X
            loss = loss_of(
                self.metric,
                self.prepared.table.y[held],
                fitted.predictor.predict_raw(X),
                is_class=self.prepared.table.is_class,
            )
            if best is None or loss < best[0]:
                best = (loss, name, settings, fitted)
        if best is None:
            return None
        _, name, settings, fitted = best
        # better one that learnt from the rows of a fold than none
        return self._on_all(name, settings, fitted, said) or self._finished(
            name, self.prepared.recipes[0, get_algorithm(name).features], fitted, n_new=0
        )

    def _said(self) -> npt.NDArray[np.float64]:
        """Return what the blend says about every row; of rows it holds out, without them."""
        table, found = self.prepared.table, self.model.found
        n_classes = len(table.outcome.classes)
        said = np.full((len(table), n_classes) if n_classes > 2 else len(table), np.nan)
        held = self.prepared.folds[: found.n_folds]
        weights = np.array([weight for _, weight in found.chosen])
        for number, fold in enumerate(held):
            said[fold.held_out] = blend(
                [trial.models[number].answers for trial, _ in found.chosen], weights
            )
        left = np.flatnonzero(np.isnan(said.reshape(len(table), -1)).any(axis=1))
        if len(left):
            said[left] = self._asked(table.frame[left])
        return said

    def _asked(self, frame: pl.DataFrame) -> npt.NDArray[np.float64]:
        return np.asarray(self.model.predict_raw(frame))

    def _new_rows(self) -> tuple[pl.DataFrame, npt.NDArray[np.float64]]:
        """Return rows whose values come from two real ones each, and what the blend says of them."""
        table = self.prepared.table
        rng = np.random.default_rng(table.seed)
        some = table.frame[rng.choice(len(table), size=min(len(table), 500), replace=False)]
        started = self.clock()
        self._asked(some)
        row_s = max((self.clock() - started) / len(some), 1e-9)
        room = _SHARE_OF_ASKING * (self.until - self.clock()) / row_s
        n_new = int(min(_MOST_NEW_ROWS, _NEW_PER_ROW * len(table), max(0.0, room)))
        own = rng.integers(len(table), size=n_new)
        other = rng.integers(len(table), size=n_new)
        columns = {}
        for column in table.frame.iter_columns():
            swapped = rng.random(n_new) < _SHARE_SWAPPED
            columns[column.name] = column.gather(np.where(swapped, other, own))
        frame = pl.DataFrame(columns, schema=table.frame.schema)
        return frame, self._asked(frame) if n_new else np.empty(0)

    def _tried(
        self,
        name: str,
        settings: dict[str, Any],
        said: npt.NDArray[np.float64],
    ) -> FittedModel | None:
        ready = self.prepared.get(0, get_algorithm(name).features)
        fold = self.prepared.folds[0]
        # made-up rows have values of the rows held out, which would help to know these
        part = self._part(ready.data.train.X, said[fold.train], self._weight(fold.train))
        left = self.until - self.clock()
        return self._fitted(
            name,
            replace(ready.data, train=part),
            settings,
            until=self.clock() + 0.3 * left,
        )

    def _on_all(
        self,
        name: str,
        settings: dict[str, Any],
        first: FittedModel,
        said: npt.NDArray[np.float64],
    ) -> Distilled | None:
        if self.clock() >= self.until:
            return None
        table = self.prepared.table
        rows = np.arange(len(table))
        family = get_algorithm(name).features
        recipe, X = fit_recipe(
            table.recipes[family],
            table.frame,
            table.recipe_target(rows),
            seed=table.seed,
            today=table.today,
        )
        frame, answers = self._new_rows()
        if len(frame):
            X = np.concatenate([X, recipe.transform(frame)])
            said = np.concatenate([said, answers])
        weight = self._weight(rows)
        if weight is not None:
            weight = np.concatenate([weight, np.full(len(frame), weight.mean())])
        held = self.prepared.folds[0].held_out
        data = TrainingData(
            train=self._part(X, said, weight),
            validation=table.part(X[held], held),
            n_classes=len(table.outcome.classes),
            feature_names=recipe.feature_names,
            class_names=table.outcome.classes,
        )
        more = {}
        if first.best_iteration and "early_stopping_rounds" in first.hyperparameters:
            # more rows bear more trees
            n_before = len(self.prepared.folds[0].train)
            growth = min(_MOST_GROWTH, (len(table) + len(frame)) / n_before)
            rounds = max(1, round(first.best_iteration * growth))
            more = {"rounds": rounds, "early_stopping_rounds": 0}
        fitted = self._fitted(name, data, {**settings, **more}, until=self.until)
        if fitted is None:
            return None
        return self._finished(name, recipe, fitted, n_new=len(frame))

    def _finished(
        self, name: str, recipe: FittedRecipe, fitted: FittedModel, *, n_new: int
    ) -> Distilled:
        return Distilled(
            algorithm=name,
            fitted=recipe,
            predictor=fitted.predictor,
            importance=fitted.importance,
            n_new=n_new,
            seconds=self.clock() - self.began,
        )

    def _weight(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
        weight = self.prepared.table.weight
        return None if weight is None else weight[rows]

    def _part(
        self,
        X: npt.NDArray[np.float64],
        said: npt.NDArray[np.float64],
        weight: npt.NDArray[np.float64] | None,
    ) -> TrainingPart:
        """Return rows that teach what was said: a class as often as it is likely."""
        if not self.prepared.table.is_class:
            return TrainingPart(X=np.ascontiguousarray(X), y=said, weight=weight)
        shares = np.column_stack([1 - said, said]) if said.ndim == 1 else said
        row, label = np.nonzero(shares > _LEAST_PROBABILITY)
        counted = shares[row, label]
        if weight is not None:
            counted = counted * weight[row]
        return TrainingPart(
            X=np.ascontiguousarray(X[row]), y=label.astype(np.float64), weight=counted
        )

    def _fitted(
        self, name: str, data: TrainingData, settings: dict[str, Any], *, until: float
    ) -> FittedModel | None:
        table = self.prepared.table
        positive = table.target_transform == "log" and float(data.train.y.min()) > 0
        transform: TargetTransform = "log" if positive else "none"
        if self.clock() >= self.until:
            return None
        try:
            return fit_algorithm(
                get_algorithm(name),
                data,
                task=table.outcome.task,
                hyperparameters=settings,
                seed=table.seed,
                threads=self.threads,
                target_transform=transform,
                on_metric=lambda *_: self.clock() >= until,
            )
        except LoopwrightError:
            # this one cannot learn from this table; another may
            return None
