"""`auto`: the best model for the time there is, as one predictor over one union of recipes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.prepare import RecipeUnion
from loopwright.problem import Metric
from loopwright.train import ALGORITHMS, AUTO, Predictor, get_algorithm
from loopwright.train.algorithm import Features
from loopwright.train.blend_predictor import BlendPredictor
from loopwright.train.stack_predictor import StackPredictor
from loopwright.tune.configuration import hastened, portfolio, random_configurations
from loopwright.tune.fold import Fold
from loopwright.tune.fold_model import Fits, FoldModel
from loopwright.tune.prepared import PreparedFolds, Table
from loopwright.tune.search import Found, OnTrial, Search, longest_fit_s, summary
from loopwright.tune.tried import Trial

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

FAMILIES = ("linear", "scaled", "tree")
# of the time there is, what weighing and packing the model may take, until it has been measured
_RESERVE_SHARE, _RESERVE_S = 0.04, 0.3
# of the memory of the process, beyond which nothing more is begun
_MOST_MEMORY = 0.85
_LARGE_CELLS = 30_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AutoModel:
    """What `auto` ends with.

    Parameters
    ----------
    fitted
        The recipes of all members side by side.
    predictor
        The blend, or the stack.
    found
        The search.
    prepared
        The rows it was searched on.
    importance
        How much each feature of `fitted` contributes, `(n_features,)`, adding to 1; zeros where
        no member can tell.
    """

    fitted: RecipeUnion
    predictor: Predictor
    found: Found
    prepared: PreparedFolds
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
    n_answers: int = 0,
    limit_bytes: int | None = None,
    on_trial: OnTrial | None = None,
    is_stopped: Callable[[], bool] | None = None,
    fits: Fits | None = None,
    on_standby: Callable[[AutoModel], None] | None = None,
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
    n_answers
        How many rows the model is asked to answer within the same time.
    limit_bytes
        Memory of the whole process; near it, no further fit is begun. Nothing means no limit.
    on_trial
        Told about every fit.
    is_stopped
        Asked now and then whether to end with what there is.
    fits
        Where fits of an earlier search are found and those of this one kept.
    on_standby
        Given the best model so far, now and then.

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
    threads = threads_a_fit(table, cpus)
    choices = table.choices()
    in_time = partial(
        hastened,
        n_cells=len(table) * table.frame.width,
        n_outputs=len(table.outcome.classes) if table.outcome.task == "multiclass" else 1,
        fit_s=longest_fit_s(budget_s),
        threads=threads,
    )
    suggested = portfolio(
        n_rows=len(table),
        algorithms=algorithms,
        target_transform=table.target_transform,
        choices=choices,
    )
    first = tuple(in_time(each) for each in suggested)

    def standing_by(found: Found) -> None:
        if on_standby is not None:
            on_standby(assembled(prepared, found, only_last=only_last))

    search = Search(
        prepared=prepared,
        metric=metric,
        portfolio=first,
        more=map(
            in_time,
            random_configurations(
                list(dict.fromkeys(each.algorithm for each in first)),
                seed=table.seed,
                target_transform=table.target_transform,
                choices=choices,
            ),
        ),
        workers=max(1, cpus // threads),
        threads=threads,
        deadline=started + budget_s,
        closing_s=max(_RESERVE_S, _RESERVE_SHARE * budget_s),
        max_trials=max_trials,
        on_trial=on_trial,
        is_stopped=is_stopped or (lambda: False),
        is_full=lambda: limit_bytes is not None and _is_full(prepared, limit_bytes),
        n_answers=n_answers,
        stacks=not only_last,
        fits=fits,
        on_standby=None if on_standby is None else standing_by,
    )
    found = search.run()
    return assembled(prepared, found, only_last=only_last)


def threads_a_fit(table: Table, cpus: int) -> int:
    """Return how many threads a fit uses: all, one fit after the other, where each needs much memory."""
    return cpus if len(table) * table.frame.width > _LARGE_CELLS else 1


def _is_full(prepared: PreparedFolds, limit_bytes: int) -> bool:
    """Return whether the process is near its limit even without the rows kept ready."""
    import psutil

    process, most = psutil.Process(), _MOST_MEMORY * limit_bytes
    if process.memory_info().rss < most:
        return False
    prepared.forget()
    return bool(process.memory_info().rss >= most)


def assembled(prepared: PreparedFolds, found: Found, *, only_last: bool = False) -> AutoModel:
    """Return the model that a search found: recipes side by side, and the blend or stack over them."""
    parts = _parts(found, only_last=only_last)
    keys = list(dict.fromkeys(part.key for part in parts))
    fitted = RecipeUnion(recipes=tuple(prepared.recipes[key] for key in keys))
    spans = dict(zip(keys, fitted.spans, strict=True))
    n_features = len(fitted.feature_names)
    importance = np.zeros(n_features)
    for part in parts:
        start, end = spans[part.key]
        shares = part.model.importance
        if shares is not None:
            # what a second layer hears is no feature
            importance[start:end] += part.weight * shares[: end - start]
    total = importance.sum()
    return AutoModel(
        fitted=fitted,
        predictor=_predictor(parts, spans, n_features),
        found=found,
        prepared=prepared,
        importance=tuple((importance / total if total > 0 else importance).tolist()),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Part:
    """One model of a blend: of which trial and fold, and how much it counts."""

    trial: Trial
    fold: int
    weight: float

    @property
    def key(self) -> tuple[int, str]:
        return self.fold, self.trial.family

    @property
    def model(self) -> FoldModel:
        return self.trial.models[self.fold]


def _parts(found: Found, *, only_last: bool) -> list[_Part]:
    """Return the models of all members, and those that members of the second layer hear."""
    weights = {id(trial): weight for trial, weight in found.chosen}
    chosen = [trial for trial, _ in found.chosen]
    trials = dict.fromkeys([*chosen, *(below for trial in chosen for below in trial.below)])
    parts = []
    for trial in sorted(trials, key=lambda each: bool(each.below)):
        numbers = sorted(trial.models)
        numbers = numbers[-1:] if only_last else numbers
        weight = weights.get(id(trial), 0.0) / len(numbers)
        parts += [_Part(trial=trial, fold=number, weight=weight) for number in numbers]
    return parts


def _predictor(
    parts: Sequence[_Part], spans: Mapping[tuple[int, str], tuple[int, int]], n_features: int
) -> BlendPredictor | StackPredictor:
    weights = np.array([part.weight for part in parts])
    weights = weights / weights.sum()
    uppers = [part for part in parts if part.trial.below]
    if not uppers:
        return BlendPredictor(
            members=tuple(part.model.predictor for part in parts),
            spans=tuple(spans[part.key] for part in parts),
            weights=weights,
            n_features=n_features,
        )
    # what the second layer hears first, in the order in which it learnt to
    heard = {id(trial): place for place, trial in enumerate(uppers[0].trial.below)}
    order = sorted(
        (place for place, part in enumerate(parts) if not part.trial.below),
        key=lambda place: heard.setdefault(id(parts[place].trial), len(heard)),
    )
    lower = [parts[place] for place in order]
    order += [place for place, part in enumerate(parts) if part.trial.below]
    return StackPredictor(
        members=tuple(part.model.predictor for part in lower),
        spans=tuple(spans[part.key] for part in lower),
        groups=np.array([heard[id(part.trial)] for part in lower], dtype=np.int32),
        n_heard=len(uppers[0].trial.below),
        uppers=tuple(part.model.predictor for part in uppers),
        upper_spans=tuple(spans[part.key] for part in uppers),
        weights=weights[order],
        n_features=n_features,
    )


def families_of(algorithms: Sequence[str] | None = None) -> tuple[Features, ...]:
    """Return the families of recipes that some algorithms want; of all algorithms when not named.

    `auto` among them wants what all algorithms want.
    """
    names = ALGORITHMS if algorithms is None or AUTO in algorithms else algorithms
    return tuple(sorted({get_algorithm(name).features for name in names}))
