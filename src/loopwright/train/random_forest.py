"""random-forest: the mean of many trees, each grown on other rows and features."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.problem import Task
from loopwright.train.algorithm import PREDICTOR_TYPE, Features, FittedModel, OnMetric
from loopwright.train.boosting import comparison_rows
from loopwright.train.class_weight import CLASS_WEIGHT
from loopwright.train.hyperparameter import Hyperparameter
from loopwright.train.loss import log_loss, squared_loss
from loopwright.train.predictor import check_same_scores
from loopwright.train.sklearn_trees import (
    counted_rows,
    exported_trees,
    library_criterion,
    native_scores,
    shared_tree_hyperparameters,
)
from loopwright.train.training_data import TrainingData

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import sklearn.ensemble as ensemble
else:
    np = LazyModule("numpy")
    ensemble = LazyModule("sklearn.ensemble")

_TREES_A_STEP = 10
_MAX_CURVE_ROWS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomForest:
    """Fit many deep trees side by side and answer their mean; good without much choosing.

    Scikit-learn's forest (Breiman, "Random Forests", Machine Learning 45, 2001). Takes missing
    values as they are and needs no scaling. The model grows with the rows: on more than some
    100,000 set `max_leaves` or `max_samples`. More trees do no harm, so that early stopping is
    off unless `early_stopping_rounds` is set.
    """

    name: str = "random-forest"
    features: Features = "tree"

    @property
    def hyperparameters(self) -> Mapping[str, Hyperparameter]:
        """What can be set."""
        return {
            "rounds": Hyperparameter(
                kind=int,
                default=200,
                low=1,
                high=5_000,
                aliases=("n_estimators", "num_trees", "num_round"),
                help="trees at most",
            ),
            "early_stopping_rounds": Hyperparameter(
                kind=int,
                default=None,
                low=1,
                high=5_000,
                help="trees without a better validation loss after which training stops; off when "
                "not set",
            ),
            "max_depth": Hyperparameter(
                kind=int,
                default=None,
                low=1,
                high=512,
                help="comparisons on a tree's longest way; not bounded when not set",
            ),
            "min_samples_leaf": Hyperparameter(
                kind=int,
                default=3,
                low=1,
                high=1_000_000,
                aliases=("min_child_samples",),
                help="least rows in a leaf",
            ),
            "max_features": Hyperparameter(
                kind=float,
                default=None,
                low=0.01,
                high=1.0,
                aliases=("colsample", "colsample_bynode", "feature_fraction_bynode"),
                help="share of the features looked at for a split; when not set a third of them "
                "for regression, their square root for classes",
            ),
            "max_samples": Hyperparameter(
                kind=float,
                default=1.0,
                low=0.01,
                high=1.0,
                aliases=("subsample", "bagging_fraction"),
                help="rows a tree draws, with replacement, as a share of all",
            ),
            "ccp_alpha": Hyperparameter(
                kind=float,
                default=0.0,
                low=0.0,
                high=1e12,
                help="impurity that a leaf more has to take away",
            ),
            **shared_tree_hyperparameters(),
            "class_weight": CLASS_WEIGHT,
            "predictor_type": PREDICTOR_TYPE,
        }

    def check(self, hyperparameters: Mapping[str, Any], *, task: Task) -> None:
        """See `Algorithm`."""
        library_criterion(hyperparameters["criterion"], task)

    def library(self, task: Task) -> str | None:
        """Return the module that `fit` imports; see `Algorithm.library`."""
        return "sklearn.ensemble"

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
        """Return the trees up to the best number; see `Algorithm.fit`."""
        started = time.perf_counter()
        model = _model(hyperparameters, task, data.n_features, seed=seed, threads=threads)
        best_iteration = _grown(model, data, task, hyperparameters, on_metric)
        del model.estimators_[best_iteration:]
        fit_s = time.perf_counter() - started
        predictor = exported_trees(
            model.estimators_, data, classes=getattr(model, "classes_", None), averaged=True
        )
        X = comparison_rows(data)
        model.set_params(n_jobs=1)  # several threads add in whatever order they come
        native, outputs = native_scores(model, X, data.n_classes)
        return FittedModel(
            predictor=predictor,
            hyperparameters=hyperparameters,
            best_iteration=best_iteration,
            importance=np.array(model.feature_importances_, dtype=np.float64),
            native_difference=check_same_scores(
                predictor, X, native, library="scikit-learn", outputs=outputs
            ),
            fit_s=fit_s,
        )


def _model(
    settings: Mapping[str, Any], task: Task, n_features: int, *, seed: int, threads: int
) -> Any:
    is_regression = task == "regression"
    forest = ensemble.RandomForestRegressor if is_regression else ensemble.RandomForestClassifier
    share = settings["max_features"]
    usual = max(1, n_features // 3) if is_regression else max(1, round(n_features**0.5))
    return forest(
        n_estimators=0,
        warm_start=True,
        criterion=library_criterion(settings["criterion"], task),
        max_depth=settings["max_depth"],
        min_samples_split=settings["min_samples_split"],
        min_samples_leaf=settings["min_samples_leaf"],
        min_weight_fraction_leaf=settings["min_weight_fraction_leaf"],
        max_features=usual if share is None else share,
        max_leaf_nodes=settings["max_leaves"],
        min_impurity_decrease=settings["min_impurity_decrease"],
        max_samples=None if settings["max_samples"] == 1 else settings["max_samples"],
        ccp_alpha=settings["ccp_alpha"],
        random_state=seed,
        n_jobs=threads,
    )


def _grown(
    model: Any, data: TrainingData, task: Task, settings: Mapping[str, Any], on_metric: OnMetric
) -> int:
    """Grow the forest step by step, telling its losses, and return the number of trees to keep."""
    rows, patience = counted_rows(data.train), settings["early_stopping_rounds"]
    curves = [_Curve(name, part, data, task) for name, part in _parts(data)]
    best_loss, best = float("inf"), 0
    is_ended = False
    for n_trees in _steps(settings["rounds"]):
        model.set_params(n_estimators=n_trees).fit(*rows)
        for curve in curves:
            loss = curve.loss(model)
            is_ended |= on_metric(n_trees, f"{curve.name}:{curve.metric}", loss) is True
        if loss < best_loss:
            best_loss, best = loss, n_trees
        if is_ended or (patience is not None and n_trees - best >= patience):
            break
    return best if patience is not None else len(model.estimators_)


def _steps(rounds: int) -> list[int]:
    return [*range(_TREES_A_STEP, rounds, _TREES_A_STEP), rounds]


def _parts(data: TrainingData) -> list[tuple[str, Any]]:
    # the validation loss comes last: it is what training stops by
    return [("train", data.train), ("validation", data.validation)]


class _Curve:
    """Losses on one part of the rows while the forest grows; each tree is asked once."""

    def __init__(self, name: str, part: Any, data: TrainingData, task: Task) -> None:
        step = max(1, len(part) // _MAX_CURVE_ROWS)
        self.name, self._data = name, data
        self._X, self._weights = part.X[::step], part.weights[::step]
        if not self._weights.max() > 0:
            self._X, self._weights, step = part.X, part.weights, 1
        self._truth = data.class_columns(part)[::step]
        self.metric, self._loss = (
            ("mse", squared_loss) if task == "regression" else ("log_loss", log_loss)
        )
        self._total: npt.NDArray[np.float64] = np.zeros(self._truth.shape)
        self._asked = 0

    def loss(self, model: Any) -> float:
        new = exported_trees(
            model.estimators_[self._asked :],
            self._data,
            classes=getattr(model, "classes_", None),
            averaged=False,
        )
        self._total += new.score(self._X)
        self._asked = len(model.estimators_)
        return self._loss(self._total / self._asked, self._truth, self._weights)
