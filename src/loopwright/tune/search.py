"""The search for the best blend within a time: what to fit next, and what the fits add up to."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import BackendError
from loopwright.core.lazy import LazyModule
from loopwright.problem import Metric
from loopwright.train import Predictor, fit_algorithm, get_algorithm
from loopwright.tune.configuration import Configuration
from loopwright.tune.prepared import PreparedFolds
from loopwright.tune.weighting import greedy_weights, loss_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

# a fit is begun if it takes no longer than this much of what is left
_CAUTION = 1.25
_MOST_CONFIGURATIONS = 80
# so many ideas in a row without a better blend, and the search ends
_PATIENCE = 16
_LEADERS = 3
_POLL_S = 0.5
# of the time of the search, what one fit may take, and what it may take in any case
_LARGEST_SHARE, _LEAST_FIT_S = 0.3, 5.0
# by how much a mean over models of all folds is better than a model of one, as a share of the loss
_WORTH_OF_FOLDS = 0.02
# rows on which blends are weighed; more change little and cost time
_WEIGHING_ROWS = 20_000

OnTrial = Callable[["Trial", float | None], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoldModel:
    """A model of one fold.

    Parameters
    ----------
    predictor
        What it computes.
    answers
        What it says about the rows held out; see `Predictor.predict_raw`.
    seconds
        Wall time of the fit, with its preparation.
    importance
        Of its features; see `FittedModel`.
    """

    predictor: Predictor
    answers: npt.NDArray[np.float64]
    seconds: float
    best_iteration: int | None
    importance: npt.NDArray[np.float64] | None


@dataclass(slots=True, kw_only=True, eq=False)
class Trial:
    """A configuration and its models so far, by fold."""

    configuration: Configuration
    family: str
    models: dict[int, FoldModel] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)
    failure: str = ""
    first_loss: float = math.inf

    @property
    def seconds(self) -> float:
        """Usual wall time of a fit: the first also imports its library and prepares its fold."""
        return median(m.seconds for m in self.models.values()) if self.models else 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What a search found.

    Parameters
    ----------
    trials
        Everything that was tried, in order.
    chosen
        The members of the blend: a trial and its weight.
    n_folds
        From how many folds each member has a model.
    loss
        Of the blend on rows its models did not learn from.
    seconds
        Wall time.
    """

    trials: tuple[Trial, ...]
    chosen: tuple[tuple[Trial, float], ...]
    n_folds: int
    loss: float
    seconds: float


@dataclass(slots=True, kw_only=True, eq=False)
class Search:
    """Fits configurations on folds until the time is up, and blends the best.

    Every configuration is first tried on one fold. Those that a blend of that fold wants are then
    fitted on the others; new ones are tried only while there is time left to finish them.

    Parameters
    ----------
    prepared
        The rows.
    metric
        What counts.
    portfolio
        What to try first.
    more
        What to try after it, without end; may be empty.
    workers
        How many fits run side by side.
    threads
        How many threads a fit uses.
    deadline
        On the clock of `time.monotonic`: when to be done.
    max_trials
        How many configurations at most.
    on_trial
        Told about every fit: the trial, and the loss of the best blend so far.
    is_stopped
        Asked now and then whether to end with what there is.
    """

    prepared: PreparedFolds
    metric: Metric
    portfolio: Sequence[Configuration]
    more: Iterator[Configuration] = field(default_factory=lambda: iter(()))
    workers: int = 1
    threads: int = 1
    deadline: float
    max_trials: int = _MOST_CONFIGURATIONS
    on_trial: OnTrial | None = None
    is_stopped: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic
    _trials: list[Trial] = field(default_factory=list)
    _began: float = 0.0
    _best_loss: float = math.inf
    _since_better: int = 0
    _leaders: list[Trial] = field(default_factory=list)

    def run(self) -> Found:
        """Search, and return the best blend.

        Raises
        ------
        BackendError
            If no configuration could be fitted; the message says why the first one failed.
        """
        started = self._began = self.clock()
        waiting = list(self.portfolio)
        self._trials = [self._trial(each) for each in waiting[: self.max_trials]]
        running: dict[Future[FoldModel], tuple[Trial, int]] = {}
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="fit")
        try:
            while True:
                if self.is_stopped():
                    self.deadline = min(self.deadline, self.clock())
                while len(running) < self.workers and (unit := self._next_unit()) is not None:
                    trial, fold = unit
                    trial.running.add(fold)
                    running[pool.submit(self._fit, trial, fold)] = unit
                if not running:
                    break
                left = max(_POLL_S / 10, min(_POLL_S, self.deadline - self.clock()))
                ended, _ = wait(running, timeout=left, return_when=FIRST_COMPLETED)
                for future in ended:
                    self._take(future, *running.pop(future))
                has_tried = self._has_model() or any(each.failure for each in self._trials)
                if self.clock() >= self.deadline and has_tried:
                    break
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return self._found(self.clock() - started)

    def _trial(self, configuration: Configuration) -> Trial:
        return Trial(
            configuration=configuration, family=get_algorithm(configuration.algorithm).features
        )

    def _has_model(self) -> bool:
        return any(trial.models for trial in self._trials)

    def _fit(self, trial: Trial, fold: int) -> FoldModel:
        started = self.clock()
        ready = self.prepared.get(fold, trial.family)
        table = self.prepared.table
        algorithm = get_algorithm(trial.configuration.algorithm)
        fitted = fit_algorithm(
            algorithm,
            ready.data,
            task=table.outcome.task,
            hyperparameters=trial.configuration.hyperparameters,
            seed=table.seed + fold,
            threads=self.threads,
            target_transform=trial.configuration.target_transform,
            on_metric=self._limit(started),
        )
        answers = fitted.predictor.predict_raw(ready.data.validation.X)
        return FoldModel(
            predictor=fitted.predictor,
            answers=answers,
            seconds=self.clock() - started,
            best_iteration=fitted.best_iteration,
            importance=fitted.importance,
        )

    def _limit(self, started: float) -> Callable[[int, str, float], bool]:
        """Return what ends a fit, with the best so far, when it takes too much of the time."""
        share = max(_LEAST_FIT_S, _LARGEST_SHARE * (self.deadline - self._began))
        latest = min(self.deadline, started + share)
        return lambda *_: self.clock() >= min(latest, self.deadline)

    def _take(self, future: Future[FoldModel], trial: Trial, fold: int) -> None:
        trial.running.discard(fold)
        try:
            trial.models[fold] = future.result()
        except Exception as error:
            # whatever a library raises: one that cannot do this table must not end the search
            trial.failure = f"{type(error).__name__}: {error}"
        else:
            if fold == 0:
                self._judge_first(trial)
        if self.on_trial is not None:
            self.on_trial(trial, None if math.isinf(self._best_loss) else self._best_loss)

    def _judge_first(self, trial: Trial) -> None:
        """Take a trial's answers on the first fold into account."""
        rows = self._weighing_rows(1)
        trial.first_loss = self._loss([trial], [1.0], 1)
        tried = self._tried()
        weights = greedy_weights(
            [each.models[0].answers[rows] for each in tried],
            self._truth(1)[rows],
            metric=self.metric,
            is_class=self.prepared.table.is_class,
        )
        wanted = [t for t, w in zip(tried, weights, strict=True) if w > 0]
        loss = self._loss(wanted, [float(w) for w in weights if w > 0], 1)
        self._since_better = 0 if loss < self._best_loss - 1e-12 else self._since_better + 1
        self._best_loss = min(loss, self._best_loss)
        best = sorted(tried, key=lambda each: each.first_loss)[:_LEADERS]
        of_weight = sorted(zip(tried, weights, strict=True), key=lambda pair: -float(pair[1]))
        self._leaders = list(dict.fromkeys([*(t for t, w in of_weight if w > 0), *best]))

    def _tried(self) -> list[Trial]:
        return [each for each in self._trials if 0 in each.models and not each.failure]

    def _next_unit(self) -> tuple[Trial, int] | None:
        """Return what to fit next, or None if nothing fits into the time that is left."""
        left = self.deadline - self.clock()
        if left <= 0 and (self._has_model() or any(each.failure for each in self._trials)):
            return None
        finish = sum(each.seconds * len(self._missing(each)) for each in self._leaders)
        fresh = next(
            (t for t in self._trials if not t.models and not t.running and not t.failure), None
        )
        if fresh is None:
            fresh = self._fresh_idea()
        if fresh is not None:
            whole = self._guess(fresh) * len(self.prepared.folds)
            need = _CAUTION * (whole + finish) / self.workers
            if need <= left or not self._has_model():
                return fresh, 0
        return self._unfinished(self._leaders, left) or self._unfinished(self._others(), left)

    def _unfinished(self, trials: Sequence[Trial], left: float) -> tuple[Trial, int] | None:
        """Return a fit that is missing, fold by fold, so that all are about as far."""
        for fold in range(len(self.prepared.folds)):
            for trial in trials:
                if fold in self._missing(trial) and _CAUTION * trial.seconds <= left:
                    return trial, fold
        return None

    def _fresh_idea(self) -> Trial | None:
        """Return one more configuration once the leaders are finished, while new ones still help."""
        is_spent = self._since_better >= _PATIENCE or len(self._trials) >= self.max_trials
        if is_spent or any(self._missing(each) for each in self._leaders):
            return None
        configuration = next(self.more, None)
        if configuration is None:
            return None
        self._trials.append(self._trial(configuration))
        return self._trials[-1]

    def _others(self) -> list[Trial]:
        led = set(map(id, self._leaders))
        return sorted(
            (each for each in self._tried() if id(each) not in led),
            key=lambda each: each.first_loss,
        )

    def _missing(self, trial: Trial) -> list[int]:
        if trial.failure:
            return []
        folds = range(len(self.prepared.folds))
        return [n for n in folds if n not in trial.models and n not in trial.running]

    def _guess(self, fresh: Trial) -> float:
        """Return what a first fit may take: as its algorithm's others, else as fits usually take."""
        tried = [each for each in self._trials if each.models]
        alike = [
            each.seconds
            for each in tried
            if each.configuration.algorithm == fresh.configuration.algorithm
        ]
        return max(alike) if alike else median([each.seconds for each in tried] or [0.0])

    def _truth(self, n_folds: int) -> npt.NDArray[np.float64]:
        held = [fold.held_out for fold in self.prepared.folds[:n_folds]]
        return self.prepared.table.y[np.concatenate(held)]

    def _weighing_rows(self, n_folds: int) -> npt.NDArray[np.int64]:
        n_rows = sum(len(fold.held_out) for fold in self.prepared.folds[:n_folds])
        if n_rows <= _WEIGHING_ROWS:
            return np.arange(n_rows)
        rng = np.random.default_rng(self.prepared.table.seed)
        return np.sort(rng.choice(n_rows, size=_WEIGHING_ROWS, replace=False))

    def _answers(self, trial: Trial, n_folds: int) -> npt.NDArray[np.float64]:
        return np.concatenate([trial.models[fold].answers for fold in range(n_folds)])

    def _loss(self, trials: Sequence[Trial], weights: Sequence[float], n_folds: int) -> float:
        blended = sum(
            weight * self._answers(trial, n_folds)
            for trial, weight in zip(trials, weights, strict=True)
        )
        return loss_of(
            self.metric,
            self._truth(n_folds),
            np.asarray(blended),
            is_class=self.prepared.table.is_class,
        )

    def _found(self, seconds: float) -> Found:
        usable = [each for each in self._trials if 0 in each.models]
        if not usable:
            why = next((each.failure for each in self._trials if each.failure), "no time was left")
            raise BackendError(
                f"No model could be trained: {why}.",
                hint="Give more time or memory, or name other algorithms.",
            )
        chosen, n_folds = self._best_blend(usable)
        return Found(
            trials=tuple(self._trials),
            chosen=tuple(sorted(chosen, key=lambda pair: -pair[1])),
            n_folds=n_folds,
            loss=self._loss([t for t, _ in chosen], [w for _, w in chosen], n_folds),
            seconds=seconds,
        )

    def _best_blend(self, usable: Sequence[Trial]) -> tuple[list[tuple[Trial, float]], int]:
        """Return the members of the best blend and from how many folds each has a model.

        Fits that took too long leave models of some folds only; those are used if that is better
        than leaving them out.
        """
        best: tuple[float, list[tuple[Trial, float]], int] | None = None
        for n_folds in sorted({_n_first(each) for each in usable}, reverse=True):
            pool = [each for each in usable if _n_first(each) >= n_folds]
            rows = self._weighing_rows(n_folds)
            weights = greedy_weights(
                [self._answers(each, n_folds)[rows] for each in pool],
                self._truth(n_folds)[rows],
                metric=self.metric,
                is_class=self.prepared.table.is_class,
            ).tolist()
            chosen = [(t, w) for t, w in zip(pool, weights, strict=True) if w > 0]
            first = self._loss([t for t, _ in chosen], [w for _, w in chosen], 1)
            lacking = 1 - n_folds / len(self.prepared.folds)
            judged = first + abs(first) * _WORTH_OF_FOLDS * lacking
            if best is None or judged < best[0]:
                best = (judged, chosen, n_folds)
        assert best is not None  # noqa: S101 there is at least one usable trial
        return best[1], best[2]


def _n_first(trial: Trial) -> int:
    """Return how many folds, from the first on, have a model."""
    n_folds = 0
    while n_folds in trial.models:
        n_folds += 1
    return n_folds


def summary(found: Found) -> list[dict[str, Any]]:
    """Return one line a trial, as JSON types, in the order they were tried."""
    weights = {id(trial): weight for trial, weight in found.chosen}
    return [
        {
            **trial.configuration.to_json(),
            "folds": len(trial.models),
            "first_loss": None if math.isinf(trial.first_loss) else trial.first_loss,
            "fit_s": trial.seconds,
            "weight": weights.get(id(trial), 0.0),
            "failure": trial.failure,
        }
        for trial in found.trials
    ]
