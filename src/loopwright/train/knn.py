"""knn: answers with the mean of the nearest training rows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

from loopwright.core.lazy import LazyModule
from loopwright.problem import Task
from loopwright.train.algorithm import Features, FittedModel, Hyperparameter, OnMetric
from loopwright.train.knn_predictor import LEAST_WEIGHT, MAX_NEIGHBORS, KnnPredictor, Weighting
from loopwright.train.loss import log_loss, squared_loss
from loopwright.train.predictor import completed
from loopwright.train.training_data import TrainingData

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

_PATH = (3, 5, 8, 12, 20, 35)


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestNeighbors:
    """Keep the training rows, and answer the weighted mean of the nearest of them.

    Good where rows that look alike behave alike and there are few features. The model holds the
    rows it answers from: do not use it where a model must not carry training data. Rows above
    `max_rows` are left out by a seeded draw, so that the model and its answers stay small and
    quick.
    """

    name: str = "knn"
    features: Features = "scaled"

    @property
    def hyperparameters(self) -> Mapping[str, Hyperparameter]:
        """What can be set."""
        return {
            "n_neighbors": Hyperparameter(
                kind=int,
                default=None,
                low=1,
                high=MAX_NEIGHBORS,
                help="rows averaged; chosen on the validation rows when not set",
            ),
            "weighting": Hyperparameter(
                kind=str,
                default=None,
                choices=get_args(Weighting),
                help="whether nearer rows count more; chosen on the validation rows when not set",
            ),
            "max_rows": Hyperparameter(
                kind=int,
                default=50_000,
                low=10,
                high=1_000_000,
                help="training rows kept at most",
            ),
        }

    def library(self, task: Task) -> str | None:
        """Return the module that `fit` imports; see `Algorithm.library`."""
        return None

    def fit(
        self,
        data: TrainingData,
        *,
        task: Task,
        hyperparameters: Mapping[str, Any],
        seed: int,
        threads: int,
        on_metric: OnMetric,
    ) -> FittedModel:
        """Return the candidate with the least validation loss; see `Algorithm.fit`."""
        started = time.perf_counter()
        k, weighting = hyperparameters["n_neighbors"], hyperparameters["weighting"]
        weights = data.train.weights / data.train.weights.max()
        rows = _kept_rows(weights, hyperparameters["max_rows"], seed)
        ks = [min(k, len(rows))] if k else sorted({min(k, len(rows)) for k in _PATH})
        predictor = KnnPredictor(
            points=completed(data.train.X[rows]),
            values=data.class_columns(data.train)[rows],
            weights=weights[rows],
            n_neighbors=ks[-1],
        )
        candidates = [
            (k, w) for k in ks for w in ([weighting] if weighting else get_args(Weighting))
        ]
        best = min(_losses(predictor, candidates, data, task, on_metric))[1:]
        return FittedModel(
            predictor=replace(predictor, n_neighbors=best[0], weighting=best[1]),
            hyperparameters={**hyperparameters, "n_neighbors": best[0], "weighting": best[1]},
            fit_s=time.perf_counter() - started,
        )


def _kept_rows(weights: npt.NDArray[np.float64], n_rows: int, seed: int) -> npt.NDArray[np.intp]:
    counted = np.flatnonzero(weights >= LEAST_WEIGHT)
    if len(counted) <= n_rows:
        return counted
    return np.sort(np.random.default_rng(seed).choice(counted, size=n_rows, replace=False))


def _losses(
    predictor: KnnPredictor,
    candidates: list[tuple[int, Weighting]],
    data: TrainingData,
    task: Task,
    on_metric: OnMetric,
) -> list[tuple[float, int, Weighting]]:
    part = data.validation
    y = data.class_columns(part)
    loss = squared_loss if task == "regression" else log_loss
    # the nearest rows are looked for once; fewer of them are the first ones
    indices, squared = predictor.neighbors(part.X, max(k for k, _ in candidates))
    losses = []
    for k, weighting in candidates:
        said = predictor.mean(indices[:, :k], squared[:, :k], weighting=weighting)
        losses.append((loss(said, y, part.weights), k, weighting))
        on_metric(
            k,
            f"validation:{'mse' if task == 'regression' else 'log_loss'}:{weighting}",
            losses[-1][0],
        )
    return losses
