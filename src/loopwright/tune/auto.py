"""`auto`: the best model for the time there is, as one predictor over one union of recipes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.prepare import RecipeUnion
from loopwright.problem import Metric
from loopwright.train import ALGORITHMS, AUTO, get_algorithm
from loopwright.train.algorithm import Features
from loopwright.train.blend_predictor import BlendPredictor
from loopwright.tune.configuration import portfolio, random_configurations
from loopwright.tune.fold import Fold
from loopwright.tune.prepared import PreparedFolds, Table
from loopwright.tune.search import Found, OnTrial, Search, summary

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

FAMILIES = ("linear", "scaled", "tree")
# of the time there is, what packing the model and ending may take
_RESERVE_SHARE, _RESERVE_S = 0.04, 0.3
# one fit after the other, with all threads, where each needs much memory
_LARGE_CELLS = 30_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AutoModel:
    """What `auto` ends with.

    Parameters
    ----------
    fitted
        The recipes of all members side by side.
    predictor
        The blend.
    found
        The search.
    importance
        How much each feature of `fitted` contributes, `(n_features,)`, adding to 1; zeros where
        no member can tell.
    """

    fitted: RecipeUnion
    predictor: BlendPredictor
    found: Found
    importance: tuple[float, ...]

    def predict_raw(self, frame: pl.DataFrame) -> Any:
        """Return the numbers behind the answers for raw rows; see `Predictor.predict_raw`."""
        return self.predictor.predict_raw(self.fitted.transform(frame))

    @property
    def leaderboard(self) -> list[dict[str, Any]]:
        """One line a configuration; see `loopwright.tune.search.summary`."""
        return summary(self.found)


def fit_auto(
    table: Table,
    folds: Sequence[Fold],
    *,
    metric: Metric,
    budget_s: float,
    cpus: int = 1,
    memory_bytes: int = 2 << 30,
    algorithms: Sequence[str] | None = None,
    max_trials: int = 80,
    only_last: bool = False,
    on_trial: OnTrial | None = None,
    is_stopped: Callable[[], bool] | None = None,
) -> AutoModel:
    """Return the best model found within a time.

    Parameters
    ----------
    table
        The rows and the recipes for them.
    folds
        How the rows are divided; see `loopwright.tune.fold`.
    metric
        What counts.
    budget_s
        Wall time in seconds, above 0; packing included.
    cpus
        How many processors may be used.
    memory_bytes
        What prepared rows may take.
    algorithms
        Only these; all that are installed when absent.
    max_trials
        How many configurations at most.
    only_last
        Serve the models of the last fold only: for folds by time, whose last one knows the most.
    on_trial
        Told about every fit.
    is_stopped
        Asked now and then whether to end with what there is.

    Raises
    ------
    InvalidInputError
        If the time is not above 0, or a recipe is missing.
    BackendError
        If no configuration could be fitted.
    """
    if not budget_s > 0:
        raise InvalidInputError(
            f"The budget is {budget_s!r} seconds.",
            hint="Give some time, such as 60.",
            field="budget_s",
            value=budget_s,
        )
    if missing := set(families_of(algorithms)) - set(table.recipes):
        raise InvalidInputError(
            f"There is no recipe for the algorithms that want {', '.join(sorted(missing))} features.",
            hint="Give a recipe for each of families_of(algorithms).",
            field="recipes",
            value=sorted(table.recipes),
        )
    started = time.monotonic()
    prepared = PreparedFolds(table=table, folds=folds, memory_bytes=memory_bytes)
    is_large = len(table) * table.frame.width > _LARGE_CELLS
    first = portfolio(
        n_rows=len(table), algorithms=algorithms, target_transform=table.target_transform
    )
    search = Search(
        prepared=prepared,
        metric=metric,
        portfolio=first,
        more=random_configurations(
            list(dict.fromkeys(each.algorithm for each in first)),
            seed=table.seed,
            target_transform=table.target_transform,
        ),
        workers=1 if is_large else cpus,
        threads=cpus if is_large else 1,
        deadline=started + budget_s - max(_RESERVE_S, _RESERVE_SHARE * budget_s),
        max_trials=max_trials,
        on_trial=on_trial,
        is_stopped=is_stopped or (lambda: False),
    )
    found = search.run()
    return _assembled(prepared, found, only_last=only_last)


def _assembled(prepared: PreparedFolds, found: Found, *, only_last: bool) -> AutoModel:
    wanted = []
    for trial, weight in found.chosen:
        numbers = sorted(trial.models)
        numbers = numbers[-1:] if only_last else numbers
        wanted += [(trial, fold, weight / len(numbers)) for fold in numbers]
    keys = list(dict.fromkeys((fold, trial.family) for trial, fold, _ in wanted))
    fitted = RecipeUnion(recipes=tuple(prepared.recipes[key] for key in keys))
    spans = dict(zip(keys, fitted.spans, strict=True))
    weights = np.array([weight for *_, weight in wanted])
    predictor = BlendPredictor(
        members=tuple(trial.models[fold].predictor for trial, fold, _ in wanted),
        spans=tuple(spans[fold, trial.family] for trial, fold, _ in wanted),
        weights=weights / weights.sum(),
        n_features=len(fitted.feature_names),
    )
    importance = np.zeros(len(fitted.feature_names))
    for trial, fold, weight in wanted:
        start, end = spans[fold, trial.family]
        shares = trial.models[fold].importance
        if shares is not None:
            importance[start:end] += weight * shares
    total = importance.sum()
    return AutoModel(
        fitted=fitted,
        predictor=predictor,
        found=found,
        importance=tuple((importance / total if total > 0 else importance).tolist()),
    )


def families_of(algorithms: Sequence[str] | None = None) -> tuple[Features, ...]:
    """Return the families of recipes that some algorithms want; of all algorithms when not named.

    `auto` among them wants what all algorithms want.
    """
    names = ALGORITHMS if algorithms is None or AUTO in algorithms else algorithms
    return tuple(sorted({get_algorithm(name).features for name in names}))
