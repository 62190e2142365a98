"""Which trials of a search make the best blend, judged on rows that their models did not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.problem import Metric
from loopwright.tune.prepared import PreparedFolds
from loopwright.tune.tried import Trial
from loopwright.tune.weighting import (
    blend,
    greedy_weights,
    guarded_weights,
    loss_of,
    room_below,
    thinned_weights,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

# by how much a mean over models of all folds is better than a model of one, as a share of the loss
_WORTH_OF_FOLDS = 0.02
# by how much a second layer has to be better than the blend without it, as a share of the loss
_WORTH_OF_LAYER = 0.003
# rows on which blends are weighed; more change little and cost time
_WEIGHING_ROWS = 10_000

Blend = list[tuple[Trial, float]]
"""The members of a blend and their weights, adding to 1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blending:
    """Weighs trials by what their models say about the rows held out.

    Parameters
    ----------
    prepared
        The rows and how they are divided.
    metric
        What counts.
    """

    prepared: PreparedFolds
    metric: Metric

    @property
    def is_class(self) -> bool:
        """Whether the answers are probabilities."""
        return self.prepared.table.is_class

    def truth(self, n_folds: int) -> npt.NDArray[np.float64]:
        """Return the targets of the rows held out by the first folds."""
        held = [fold.held_out for fold in self.prepared.folds[:n_folds]]
        return self.prepared.table.y[np.concatenate(held)]

    def answers(self, trial: Trial, n_folds: int) -> npt.NDArray[np.float64]:
        """Return what a trial says about them."""
        return np.concatenate([trial.models[fold].answers for fold in range(n_folds)])

    def loss(self, chosen: Blend, n_folds: int) -> float:
        """Return the loss of a blend on them."""
        answers = [self.answers(trial, n_folds) for trial, _ in chosen]
        raw = blend(answers, np.array([weight for _, weight in chosen]))
        return loss_of(self.metric, self.truth(n_folds), raw, is_class=self.is_class)

    def quick(self, trials: Sequence[Trial]) -> Blend:
        """Return the best blend of the models of the first fold, to see what is worth finishing."""
        return self._blend(trials, 1)

    def _blend(self, trials: Sequence[Trial], n_folds: int) -> Blend:
        rows = self._rows(n_folds)
        weights = greedy_weights(
            [self.answers(each, n_folds)[rows] for each in trials],
            self.truth(n_folds)[rows],
            metric=self.metric,
            is_class=self.is_class,
        )
        return _members(trials, weights)

    def best(self, trials: Sequence[Trial]) -> tuple[Blend, int]:
        """Return the best blend, and from how many folds each member has a model.

        Fits that took too long leave models of some folds only; those are used if that is better
        than leaving them out. A second layer is used if it is better beyond doubt.
        """
        known = sorted({each.n_first for each in trials}, reverse=True)
        # the most folds, the fewest, and one between, since each takes its time
        considered = dict.fromkeys([known[0], known[len(known) // 2], known[-1]])
        judged = {n_folds: self._judged(trials, n_folds) for n_folds in considered}
        n_folds = min(judged, key=lambda each: (judged[each], -each))
        return self._chosen([t for t in trials if t.n_first >= n_folds], n_folds), n_folds

    def _judged(self, trials: Sequence[Trial], n_folds: int) -> float:
        """Return the loss of a quick blend on the first fold, worse for every fold it lacks."""
        pool = [each for each in trials if each.n_first >= n_folds]
        plain = [each for each in pool if not each.below] or pool
        first = self.loss(self._blend(plain, n_folds), 1)
        lacking = 1 - n_folds / len(self.prepared.folds)
        return first + abs(first) * _WORTH_OF_FOLDS * lacking

    def _chosen(self, pool: Sequence[Trial], n_folds: int) -> Blend:
        plain = [each for each in pool if not each.below] or pool
        found = self._weighed(plain, n_folds)
        if len(plain) == len(pool):
            return found
        loss = self.loss(found, n_folds)
        layered = self._weighed(pool, n_folds)
        gain = loss - self.loss(layered, n_folds)
        return layered if gain > _WORTH_OF_LAYER * room_below(self.metric, loss) else found

    def _weighed(self, pool: Sequence[Trial], n_folds: int) -> Blend:
        rows = self._rows(n_folds)
        answers = [self.answers(each, n_folds)[rows] for each in pool]
        y = self.truth(n_folds)[rows]
        weights = guarded_weights(
            answers,
            y,
            metric=self.metric,
            is_class=self.is_class,
            seed=self.prepared.table.seed,
        )
        weights = thinned_weights(
            answers,
            y,
            weights,
            latency=lambda wanted: self.answer_s(
                [t for t, w in zip(pool, wanted, strict=True) if w]
            ),
            metric=self.metric,
            is_class=self.is_class,
        )
        return _members(pool, weights)

    def answer_s(self, trials: Sequence[Trial]) -> float:
        """Return the time of one answer among many by all models of some trials, in seconds."""
        all_of_them = list(dict.fromkeys(t for trial in trials for t in (trial, *trial.below)))
        keys = {(fold, trial.family) for trial in all_of_them for fold in trial.models}
        recipes_s = sum(self.prepared.transform_s.get(key, 0.0) for key in keys)
        return recipes_s + sum(trial.answer_s for trial in all_of_them)

    def _rows(self, n_folds: int) -> npt.NDArray[np.int64]:
        n_rows = sum(len(fold.held_out) for fold in self.prepared.folds[:n_folds])
        if n_rows <= _WEIGHING_ROWS:
            return np.arange(n_rows)
        rng = np.random.default_rng(self.prepared.table.seed)
        return np.sort(rng.choice(n_rows, size=_WEIGHING_ROWS, replace=False))


def _members(trials: Sequence[Trial], weights: npt.NDArray[np.float64]) -> Blend:
    return [(t, float(w)) for t, w in zip(trials, weights, strict=True) if w > 0]
