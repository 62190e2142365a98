"""knn: answers with the mean of the nearest training rows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

from loopwright.core.lazy import LazyModule
from loopwright.problem import Task
from loopwright.train.algorithm import PREDICTOR_TYPE, Features, FittedModel, OnMetric
from loopwright.train.class_weight import CLASS_WEIGHT
from loopwright.train.hyperparameter import Hyperparameter
from loopwright.train.inverted_index import built_index
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
MOST_EXACT_ROWS = 50_000
_RECALL_ROWS = 200
_CURVE_ROWS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestNeighbors:
    """Keep the training rows, and answer the weighted mean of the nearest of them.

    Good where rows that look alike behave alike and there are few features. The model holds the
    rows it answers from: do not use it where a model must not carry training data. Rows above
    `max_rows` are left out by a seeded draw, so that the model and its answers stay small and
    quick. Up to 50,000 rows all are looked at; above, they lie in lists, and so many of these are
    looked at that the `recall` is met on validation rows. NumPy is all that serving needs.
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
                aliases=("k",),
                help="rows averaged; chosen on the validation rows when not set",
            ),
            "weighting": Hyperparameter(
                kind=str,
                default=None,
                choices=get_args(Weighting),
                aliases=("weights",),
                help="whether nearer rows count more; chosen on the validation rows when not set",
            ),
            "max_rows": Hyperparameter(
                kind=int,
                default=50_000,
                low=10,
                high=20_000_000,
                aliases=("sample_size",),
                help="training rows kept at most",
            ),
            "index": Hyperparameter(
                kind=str,
                default="auto",
                choices=("auto", "exact", "inverted"),
                aliases=("index_type", "algorithm"),
                spellings={
                    "faiss.Flat": "exact",
                    "brute": "exact",
                    "faiss.IVFFlat": "inverted",
                },
                help="exact looks at all rows; inverted at lists of rows, which may miss some of "
                "the nearest; auto is inverted above 50,000 rows",
            ),
            "n_lists": Hyperparameter(
                kind=int,
                default=None,
                low=1,
                high=65_536,
                aliases=("faiss_index_ivf_nlists", "nlist"),
                help="lists of the inverted index; the square root of the rows when not set",
            ),
            "n_probes": Hyperparameter(
                kind=int,
                default=None,
                low=1,
                high=65_536,
                aliases=("nprobe",),
                help="lists that are looked at; as many as the recall needs when not set",
            ),
            "recall": Hyperparameter(
                kind=float,
                default=0.97,
                low=0.5,
                high=1.0,
                help="least share of the true nearest rows that the inverted index finds, measured "
                "on validation rows",
            ),
            "class_weight": CLASS_WEIGHT,
            "predictor_type": PREDICTOR_TYPE,
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
        settings = dict(hyperparameters)
        if _is_indexed(settings["index"], len(rows)):
            predictor = _with_index(predictor, data, settings, seed)
            assert predictor.index is not None  # noqa: S101 told to the type checker
            on_metric(ks[-1], "validation:recall", predictor.index.recall)
            settings |= {
                "n_lists": len(predictor.index.centroids),
                "n_probes": predictor.index.n_probes,
            }
        settings["index"] = "exact" if predictor.index is None else "inverted"
        candidates = [
            (k, w) for k in ks for w in ([weighting] if weighting else get_args(Weighting))
        ]
        _told_training_losses(predictor, candidates, task, on_metric)
        best = min(_losses(predictor, candidates, data, task, on_metric))[1:]
        return FittedModel(
            predictor=replace(predictor, n_neighbors=best[0], weighting=best[1]),
            hyperparameters={**settings, "n_neighbors": best[0], "weighting": best[1]},
            fit_s=time.perf_counter() - started,
        )


def _kept_rows(weights: npt.NDArray[np.float64], n_rows: int, seed: int) -> npt.NDArray[np.intp]:
    counted = np.flatnonzero(weights >= LEAST_WEIGHT)
    if len(counted) <= n_rows:
        return counted
    return np.sort(np.random.default_rng(seed).choice(counted, size=n_rows, replace=False))


def _is_indexed(index: str, n_points: int) -> bool:
    return index == "inverted" or (index == "auto" and n_points > MOST_EXACT_ROWS)


def _with_index(
    predictor: KnnPredictor, data: TrainingData, settings: Mapping[str, Any], seed: int
) -> KnnPredictor:
    """Return the predictor over lists of its points, looking at as many as the recall needs."""
    n_points = len(predictor.points)
    n_lists = min(settings["n_lists"] or round(n_points**0.5), n_points)
    index, order = built_index(
        predictor.points, n_lists=n_lists, n_probes=settings["n_probes"] or 1, seed=seed
    )
    indexed = replace(
        predictor,
        points=predictor.points[order],
        values=predictor.values[order],
        weights=predictor.weights[order],
        index=index,
    )
    step = max(1, len(data.validation) // _RECALL_ROWS)
    X, k = data.validation.X[::step][:_RECALL_ROWS], predictor.n_neighbors
    truth = replace(indexed, index=None).neighbors(X, k)[1][:, -1]
    while True:
        # a point as near as the farthest of the true ones is a true one
        found = (indexed.neighbors(X, k)[1] <= truth[:, None]).mean()
        index = replace(index, recall=float(found))
        indexed = replace(indexed, index=index)
        if settings["n_probes"] or found >= settings["recall"] or index.n_probes == n_lists:
            return indexed
        index = replace(index, n_probes=min(n_lists, index.n_probes * 3 // 2 + 1))
        indexed = replace(indexed, index=index)


def _told_training_losses(
    predictor: KnnPredictor,
    candidates: list[tuple[int, Weighting]],
    task: Task,
    on_metric: OnMetric,
) -> None:
    """Tell the losses of up to 500 training rows, each answered by the others."""
    if len(predictor.points) < 3:
        return
    rows = np.arange(0, len(predictor.points), max(1, len(predictor.points) // _CURVE_ROWS))
    k = max(k for k, _ in candidates)
    indices, squared = predictor.neighbors(predictor.points[rows], k + 1)
    is_itself = indices == rows[:, None]
    is_itself[~is_itself.any(axis=1), -1] = True  # an index may miss it, or others lie at its place
    shape = (len(rows), indices.shape[1] - 1)
    indices, squared = indices[~is_itself].reshape(shape), squared[~is_itself].reshape(shape)
    name, loss = ("mse", squared_loss) if task == "regression" else ("log_loss", log_loss)
    for k, weighting in candidates:
        said = predictor.mean(indices[:, :k], squared[:, :k], weighting=weighting)
        value = loss(said, predictor.values[rows], predictor.weights[rows])
        on_metric(k, f"train:{name}:{weighting}", value)


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
