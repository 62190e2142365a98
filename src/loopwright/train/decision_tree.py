"""decision-tree: one tree that people can read, pruned to what the validation rows bear out."""

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
from loopwright.train.tree_rules import rules_python, rules_text
from loopwright.train.trees_predictor import TreesPredictor

if TYPE_CHECKING:
    import numpy as np
    import sklearn.tree as sklearn_tree
else:
    np = LazyModule("numpy")
    sklearn_tree = LazyModule("sklearn.tree")

_MAX_CANDIDATES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionTree:
    """Fit one tree of comparisons; less exact than many trees, but the whole of it can be read.

    Its rules lie in the bundle: `model/rules.txt` to read, `model/rules.py.txt` to run without
    loopwright. Without `ccp_alpha`, the branches are cut back by minimal cost-complexity pruning
    (Breiman, Friedman, Olshen and Stone, "Classification and Regression Trees", 1984, chapter 3)
    as far as the validation loss gains by it. Takes missing values as they are.
    """

    name: str = "decision-tree"
    features: Features = "tree"

    @property
    def hyperparameters(self) -> Mapping[str, Hyperparameter]:
        """What can be set."""
        return {
            "max_depth": Hyperparameter(
                kind=int, default=6, low=1, high=64, help="comparisons on the longest way"
            ),
            "min_samples_leaf": Hyperparameter(
                kind=int,
                default=10,
                low=1,
                high=1_000_000,
                aliases=("min_child_samples",),
                help="least rows in a leaf",
            ),
            "ccp_alpha": Hyperparameter(
                kind=float,
                default=None,
                low=0.0,
                high=1e12,
                help="impurity that a leaf more has to take away; chosen on the validation rows "
                "when not set, 0 prunes nothing",
            ),
            "max_features": Hyperparameter(
                kind=float,
                default=1.0,
                low=0.01,
                high=1.0,
                help="share of the features that are looked at for a split",
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
        return "sklearn.tree"

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
        model = _model(hyperparameters, task, seed)
        rows = counted_rows(data.train)
        given = hyperparameters["ccp_alpha"]
        alphas = [given] if given is not None else _alphas(model, rows)
        judged = []
        for step, alpha in enumerate(alphas, start=1):
            fitted = _model(hyperparameters, task, seed).set_params(ccp_alpha=alpha).fit(*rows)
            predictor = _exported(fitted, data)
            judged.append((_told_losses(predictor, data, task, step, on_metric), alpha, fitted))
        # of equally good ones the last, which has the fewest leaves
        _, alpha, model = min(reversed(judged), key=lambda one: one[0])
        fit_s = time.perf_counter() - started
        predictor, X = _exported(model, data), comparison_rows(data)
        native, outputs = native_scores(model, X, data.n_classes)
        return FittedModel(
            predictor=predictor,
            native=_rules(predictor, data),
            hyperparameters={**hyperparameters, "ccp_alpha": alpha},
            importance=np.array(model.feature_importances_, dtype=np.float64),
            native_difference=check_same_scores(
                predictor, X, native, library="scikit-learn", outputs=outputs
            ),
            fit_s=fit_s,
        )


def _model(settings: Mapping[str, Any], task: Task, seed: int) -> Any:
    tree = (
        sklearn_tree.DecisionTreeRegressor
        if task == "regression"
        else sklearn_tree.DecisionTreeClassifier
    )
    return tree(
        criterion=library_criterion(settings["criterion"], task),
        max_depth=settings["max_depth"],
        min_samples_split=settings["min_samples_split"],
        min_samples_leaf=settings["min_samples_leaf"],
        min_weight_fraction_leaf=settings["min_weight_fraction_leaf"],
        max_features=settings["max_features"],
        max_leaf_nodes=settings["max_leaves"],
        min_impurity_decrease=settings["min_impurity_decrease"],
        random_state=seed,
    )


def _alphas(model: Any, rows: Any) -> list[float]:
    """Return strengths of pruning from none to all but the root's split, at most 16."""
    path = np.unique(np.maximum(model.cost_complexity_pruning_path(*rows).ccp_alphas, 0.0))
    # the last one leaves the root alone; between two of the path, the tree is that of the first
    path = path[:-1] if len(path) > 1 else path
    middles = np.append(np.sqrt(path[:-1] * path[1:]), path[-1])
    middles[0] = 0.0
    chosen = np.unique(np.linspace(0, len(middles) - 1, _MAX_CANDIDATES).round().astype(np.intp))
    alphas: list[float] = middles[chosen].tolist()
    return alphas


def _exported(model: Any, data: TrainingData) -> TreesPredictor:
    return exported_trees([model], data, classes=getattr(model, "classes_", None), averaged=False)


def _told_losses(
    predictor: TreesPredictor, data: TrainingData, task: Task, step: int, on_metric: OnMetric
) -> float:
    name, loss = ("mse", squared_loss) if task == "regression" else ("log_loss", log_loss)
    value = float("inf")
    for part, rows in (("train", data.train), ("validation", data.validation)):
        value = loss(predictor.score(rows.X), data.class_columns(rows), rows.weights)
        on_metric(step, f"{part}:{name}", value)
    return value


def _rules(predictor: TreesPredictor, data: TrainingData) -> dict[str, bytes]:
    text = rules_text(predictor, names=data.names, classes=data.class_names)
    return {
        "rules.txt": text.encode(),
        # a bundle holds data only; nothing in it has the ending of a program
        "rules.py.txt": rules_python(predictor, names=data.names).encode(),
    }
