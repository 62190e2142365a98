"""The search for the best blend within a time: what to fit next, and what the fits add up to."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from loopwright.core.errors import BackendError
from loopwright.problem import Metric
from loopwright.train import TrainingData, get_algorithm
from loopwright.tune.background import Background
from loopwright.tune.blending import Blending
from loopwright.tune.configuration import Configuration
from loopwright.tune.fold_model import Fits, FoldModel, IsOver, fitted_fold
from loopwright.tune.prepared import PreparedFolds, recipe_name
from loopwright.tune.stacking import can_stack, stacked_data, stacked_trials
from loopwright.tune.tried import Trial

# a fit is begun if it takes no longer than this much of what is left
_CAUTION = 1.25
_MOST_CONFIGURATIONS = 80
# so many ideas in a row without a better blend, and the search ends
_PATIENCE = 16
# what has no weight yet is finished as well if it is among the best, and this near to them
_LEADERS, _FAR_SHARE = 3, 0.1
_POLL_S = 0.5
# of the time of the search, what one fit may take, and what it may take in any case
_LARGEST_SHARE, _LEAST_FIT_S = 0.3, 5.0
# a fit that does not end when it is asked to is left behind after so long, as a share of its time
_HANG_SHARE, _LEAST_HANG_S = 1.0, 15.0
# with less of a processor than this it does nothing; with more it waits its turn on a busy machine
_IDLE_SHARE = 0.02
# what the first model may take beyond the time there is: without it there is nothing
_FIRST_MODEL_S = 30.0
# of the time so far, what writing models to stand by may take
_STANDBY_SHARE = 0.04
# a blend that grew takes longer to finish than the last one did, up to so many times
_MOST_GROWTH = 4.0
# fits that hang keep their processor and memory; with so many the search ends
_MOST_HANGING = 2

OnTrial = Callable[[Trial, float | None], None]


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
    n_hanging
        Fits that did not end when they were asked to, and may still go on.
    """

    trials: tuple[Trial, ...]
    chosen: tuple[tuple[Trial, float], ...]
    n_folds: int
    loss: float
    seconds: float
    n_hanging: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Unit:
    """A fit under way: of which trial, on which fold, since when."""

    trial: Trial
    fold: int
    began: float


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
    is_full
        Asked before a fit whether there is no memory for another.
    n_answers
        How many rows the model has to answer once it is found, within the same time.
    stacks
        Whether a second layer is tried.
    fits
        Where fits of an earlier search are found and those of this one kept.
    closing_s
        What finishing a blend takes (weighing, packing, answering), for as long as none was.
    on_standby
        Told now and then about the best blend so far, to finish it: whatever happens, there is a
        model then. How long that takes is what is kept free for the last one.
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
    is_full: Callable[[], bool] = lambda: False
    n_answers: int = 0
    stacks: bool = True
    fits: Fits | None = None
    closing_s: float = 0.0
    on_standby: Callable[[Found], None] | None = None
    clock: Callable[[], float] = time.monotonic
    _blending: Blending = field(init=False)
    _background: Background = field(default_factory=Background)
    _trials: list[Trial] = field(default_factory=list)
    _began: float = 0.0
    _best_loss: float = math.inf
    _since_better: int = 0
    _leaders: list[Trial] = field(default_factory=list)
    _left_behind: dict[Future[FoldModel], _Unit] = field(default_factory=dict)
    _asked: dict[Future[FoldModel], tuple[float, float]] = field(default_factory=dict)
    _has_stacked: bool = False
    _weighing_s: float = 0.0
    _ends_at: float = math.inf
    _n_stood_by: int = 0
    _stood_by_at: float = -math.inf

    def __post_init__(self) -> None:
        self._blending = Blending(prepared=self.prepared, metric=self.metric)

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
        running: dict[Future[FoldModel], _Unit] = {}
        while True:
            if self.is_stopped():
                self.deadline = min(self.deadline, self.clock())
            self._ends_at = self._end()
            while len(running) < self.workers and (unit := self._next_unit(running)) is not None:
                trial, fold = unit
                trial.running.add(fold)
                future = self._background.begin(self._fit, trial, fold)
                running[future] = _Unit(trial=trial, fold=fold, began=self.clock())
            if not running:
                break
            left = max(_POLL_S / 10, min(_POLL_S, self._end() - self.clock()))
            ended, going_on = wait(running, timeout=left, return_when=FIRST_COMPLETED)
            for future in ended:
                self._take(future, running.pop(future))
            for future in going_on:
                self._leave_if_hanging(future, running)
            self._take_latecomers()
            self._stand_by()
            if self.clock() >= self._end() and self._has_tried():
                break
        # what is still being fitted is told to end by its callback and changes nothing any more
        return self._found(self.clock() - started)

    def _end(self) -> float:
        """Return when to stop fitting, so that the model is still finished in time."""
        if not self._leaders:
            return self.deadline - min(self.closing_s, (self.deadline - self._began) / 2)
        answering_s = self.n_answers * self._blending.answer_s(self._leaders)
        # the first fold alone was weighed in so much, and all have to be
        closing_s = answering_s + 2 * len(self.prepared.folds) * self._weighing_s
        growth = self._n_models() / self._n_stood_by if self._n_stood_by else 1.0
        closing_s = max(closing_s, _CAUTION * min(growth, _MOST_GROWTH) * self.closing_s)
        # never give up more than half of the time
        return self.deadline - min(closing_s, (self.deadline - self._began) / 2)

    def _n_models(self) -> int:
        return sum(len(trial.models) for trial in self._trials)

    def _stand_by(self) -> None:
        """Let the best blend so far be finished, at once the first, then as often as time allows."""
        started, n_models = self.clock(), self._n_models()
        if self.on_standby is None or not self._tried() or n_models <= self._n_stood_by:
            return
        if started - self._stood_by_at < self.closing_s / _STANDBY_SHARE or started >= self._end():
            return
        self.on_standby(self._found(started - self._began))
        self._stood_by_at = self.clock()
        self.closing_s = self._stood_by_at - started
        self._n_stood_by = n_models

    def _has_tried(self) -> bool:
        return self._has_model() or any(each.failure for each in self._trials)

    def _leave_if_hanging(
        self, future: Future[FoldModel], running: dict[Future[FoldModel], _Unit]
    ) -> None:
        """Count a fit as failed that does not end long after it was asked to."""
        unit = running[future]
        began, now = unit.began, self.clock()
        asked = self._latest(began)
        patience = max(_LEAST_HANG_S, _HANG_SHARE * (asked - began))
        if not self._has_model():
            patience = max(patience, _FIRST_MODEL_S)
        if future.done() or now < asked or not self._is_deaf(future, now, patience):
            return
        self._left_behind[future] = running.pop(future)
        unit.trial.running.discard(unit.fold)
        unit.trial.failure = f"a fit did not end within {now - began:.0f} s and was left behind"
        self._tell(unit.trial)

    def _is_deaf(self, future: Future[FoldModel], now: float, patience: float) -> bool:
        """Return whether a fit that was asked to end does nothing, or had time enough to end.

        Time enough is processor time: among many processes a fit that goes on gets little of it.
        """
        had = self._background.cpu_s(future)
        since, had_then = self._asked.setdefault(future, (now, had or 0.0))
        waited = now - since
        if had is None or waited < patience:
            return waited >= patience
        return not _IDLE_SHARE * waited < had - had_then < patience

    def _take_latecomers(self) -> None:
        """Take what was left behind and ended after all."""
        for future in [each for each in self._left_behind if each.done()]:
            unit = self._left_behind.pop(future)
            unit.trial.failure = ""
            self._take(future, unit)

    def _trial(self, configuration: Configuration) -> Trial:
        family = get_algorithm(configuration.algorithm).features
        return Trial(configuration=configuration, family=recipe_name(family, configuration.choice))

    def _has_model(self) -> bool:
        return any(trial.models for trial in self._trials)

    def _fit(self, trial: Trial, fold: int) -> FoldModel:
        return fitted_fold(
            self.prepared,
            trial.configuration,
            fold,
            threads=self.threads,
            is_over=self._limit(self.clock()),
            clock=self.clock,
            widen=self._widening(trial, fold) if trial.below else None,
            fits=self.fits,
        )

    def _widening(self, trial: Trial, fold: int) -> Callable[[TrainingData], TrainingData]:
        return lambda data: stacked_data(data, trial.below, self.prepared.folds, fold)

    def _limit(self, started: float) -> IsOver:
        """Return what ends a fit, with the best so far, when it takes too much of the time."""
        # read, not computed: fits run in other threads than what an end is computed from
        return lambda _: self.clock() >= min(self._latest(started), self._ends_at)

    def _latest(self, started: float) -> float:
        """Return when a fit that began at some time is asked to end with what it has."""
        return min(self.deadline, started + longest_fit_s(self.deadline - self._began))

    def _take(self, future: Future[FoldModel], unit: _Unit) -> None:
        trial = unit.trial
        trial.running.discard(unit.fold)
        try:
            trial.models[unit.fold] = future.result()
        except Exception as error:
            # whatever a library raises: one that cannot do this table must not end the search
            trial.failure = f"{type(error).__name__}: {error}"
        else:
            if unit.fold == 0:
                self._judge_first(trial)
        self._tell(trial)

    def _tell(self, trial: Trial) -> None:
        if self.on_trial is not None:
            self.on_trial(trial, None if math.isinf(self._best_loss) else self._best_loss)

    def _judge_first(self, trial: Trial) -> None:
        """Take a trial's answers on the first fold into account."""
        started = self.clock()
        trial.first_loss = self._blending.loss([(trial, 1.0)], 1)
        tried = self._tried()
        plain = self._blending.quick([each for each in tried if not each.below] or tried)
        loss = self._blending.loss(plain, 1)
        # a second layer that is worse than the blend of the first has learnt its luck
        layer = [each for each in tried if each.below and each.first_loss < loss]
        wanted = plain
        if layer:
            wanted = self._blending.quick([*(t for t in tried if not t.below), *layer])
            loss = min(loss, self._blending.loss(wanted, 1))
        self._since_better = 0 if loss < self._best_loss - 1e-12 else self._since_better + 1
        self._best_loss = min(loss, self._best_loss)
        of_weight = [t for t, _ in sorted(wanted, key=lambda pair: -pair[1])]
        self._weighing_s = self.clock() - started
        best = sorted((t for t in tried if not t.below), key=lambda each: each.first_loss)
        far = best[0].first_loss + _FAR_SHARE * abs(best[0].first_loss) if best else 0.0
        near = [each for each in best[:_LEADERS] if each.first_loss <= far]
        self._leaders = list(dict.fromkeys([*of_weight, *near]))

    def _tried(self) -> list[Trial]:
        return [each for each in self._trials if 0 in each.models and not each.failure]

    def _next_unit(self, running: Mapping[Any, _Unit]) -> tuple[Trial, int] | None:
        """Return what to fit next, or None if nothing fits into the time or memory that is left."""
        left = self._end() - self.clock()
        if left <= 0 and self._has_tried():
            return None
        if len(self._left_behind) >= _MOST_HANGING:
            return None
        # one fit at a time needs the least memory; with a model in hand, none is an answer too
        if (running or self._has_model()) and self.is_full():
            return None
        finish = sum(each.seconds * len(self._missing(each)) for each in self._leaders)
        fresh = next(
            (t for t in self._trials if not t.models and not t.running and not t.failure), None
        )
        if fresh is None:
            fresh = self._second_layer() or self._fresh_idea()
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

    def _second_layer(self) -> Trial | None:
        """Return a trial over the answers of the leaders, once they are finished; only once."""
        if self._has_stacked or not self.stacks or "tree" not in self.prepared.table.recipes:
            return None
        below = [each for each in self._leaders if not each.failure]
        if any(self._missing(each) for each in self._leaders) or not can_stack(
            self.prepared, below
        ):
            return None
        self._has_stacked = True
        used = {each.configuration.algorithm for each in self._trials if each.models}
        room = max(0, self.max_trials - len(self._trials))
        layer = stacked_trials(below, sorted(used))[:room]
        self._trials += layer
        return layer[0] if layer else None

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

    def _found(self, seconds: float) -> Found:
        usable = [each for each in self._trials if 0 in each.models]
        if not usable:
            why = next((each.failure for each in self._trials if each.failure), "no time was left")
            raise BackendError(
                f"No model could be trained: {why}.",
                hint="Give more time or memory, or name other algorithms.",
            )
        chosen, n_folds = self._blending.best(usable)
        return Found(
            trials=tuple(self._trials),
            chosen=tuple(sorted(chosen, key=lambda pair: -pair[1])),
            n_folds=n_folds,
            loss=self._blending.loss(chosen, n_folds),
            seconds=seconds,
            n_hanging=len(self._left_behind),
        )


def longest_fit_s(budget_s: float) -> float:
    """Return after how many seconds a fit is asked to end, in a search of so many."""
    return max(_LEAST_FIT_S, _LARGEST_SHARE * budget_s)


def summary(found: Found) -> list[dict[str, Any]]:
    """Return one line a trial, as JSON types, in the order they were tried."""
    weights = {id(trial): weight for trial, weight in found.chosen}
    return [
        {
            **trial.configuration.to_json(),
            "below": [each.configuration.name for each in trial.below],
            "folds": len(trial.models),
            "first_loss": None if math.isinf(trial.first_loss) else trial.first_loss,
            "fit_s": trial.seconds,
            "weight": weights.get(id(trial), 0.0),
            "failure": trial.failure,
        }
        for trial in found.trials
    ]
