"""xgboost: boosted trees by XGBoost, stopped where the validation rows say."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import BackendError
from loopwright.core.lazy import LazyModule
from loopwright.problem import Task
from loopwright.train.algorithm import Features, FittedModel, OnMetric
from loopwright.train.boosting import (
    check_boosting,
    check_eval_metric,
    comparison_rows,
    gain_shares,
    link_of,
    monotone_directions,
    resolved_objective,
    shared_hyperparameters,
)
from loopwright.train.hyperparameter import Hyperparameter
from loopwright.train.link import Link
from loopwright.train.predictor import check_same_scores
from loopwright.train.training_data import TrainingData, TrainingPart
from loopwright.train.trees_predictor import TreesPredictor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import xgboost
else:
    np = LazyModule("numpy")
    xgboost = LazyModule("xgboost")

_ROWS_FOR_BASE = 256
_OBJECTIVES = {
    "squared": ("reg:squarederror", "rmse"),
    "absolute": ("reg:absoluteerror", "mae"),
    "huber": ("reg:pseudohubererror", "mphe"),
    "quantile": ("reg:quantileerror", "quantile"),
    "poisson": ("count:poisson", "poisson-nloglik"),
    "gamma": ("reg:gamma", "gamma-deviance"),
    "tweedie": ("reg:tweedie", "tweedie-nloglik@{tweedie_power}"),
    "logistic": ("binary:logistic", "logloss"),
    "softmax": ("multi:softprob", "mlogloss"),
}
_WATCHABLE = (
    "rmse",
    "rmsle",
    "mae",
    "mape",
    "mphe",
    "logloss",
    "error",
    "mlogloss",
    "merror",
    "auc",
    "aucpr",
    "poisson-nloglik",
    "gamma-nloglik",
    "gamma-deviance",
)
_ALIASES = {
    "quantile": ("quantile_alpha",),
    "huber_delta": ("huber_slope",),
    "tweedie_power": ("tweedie_variance_power",),
    "rounds": ("num_round", "num_boost_round", "n_estimators", "num_rounds"),
    "early_stopping_rounds": ("early_stopping",),
    "learning_rate": ("eta",),
    "colsample": ("colsample_bytree",),
    "reg_alpha": ("alpha",),
    "reg_lambda": ("lambda",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class XgboostLearner:
    """Fit trees one after the other, each on what the ones before left over.

    Usually among the best on tables; takes missing values as they are and needs no scaling.
    Training stops when the validation loss has not improved for `early_stopping_rounds`, and the
    best number of trees is kept.
    """

    name: str = "xgboost"
    features: Features = "tree"

    @property
    def hyperparameters(self) -> Mapping[str, Hyperparameter]:
        """What can be set."""
        return {
            **shared_hyperparameters(_ALIASES),
            "also_watched": Hyperparameter(
                kind=str,
                default=None,
                choices=_WATCHABLE,
                shape="list",
                help="metrics, as XGBoost names them, that are told beside eval_metric",
            ),
            "max_depth": Hyperparameter(
                kind=int,
                default=6,
                low=0,
                high=32,
                help="comparisons on a tree's longest way; 0 does not bound it",
            ),
            "max_leaves": Hyperparameter(
                kind=int,
                default=0,
                low=0,
                high=65_536,
                help="leaves of a tree at most; 0 does not bound them",
            ),
            "grow_policy": Hyperparameter(
                kind=str,
                default="depthwise",
                choices=("depthwise", "lossguide"),
                help="whether a tree grows level by level or where it helps most",
            ),
            "min_child_weight": Hyperparameter(
                kind=float,
                default=1.0,
                low=0.0,
                high=1e6,
                help="least sum of the second derivatives in a leaf (of the weights, for squared "
                "errors)",
            ),
            "gamma": Hyperparameter(
                kind=float,
                default=0.0,
                low=0.0,
                high=1e12,
                aliases=("min_split_loss",),
                help="least gain that makes a split worth it",
            ),
            "colsample_bylevel": Hyperparameter(
                kind=float,
                default=1.0,
                low=0.05,
                high=1.0,
                help="share of the features a level sees",
            ),
            "num_parallel_tree": Hyperparameter(
                kind=int,
                default=1,
                low=1,
                high=1_000,
                help="trees a round, averaged as in a forest",
            ),
            "tree_method": Hyperparameter(
                kind=str,
                default="hist",
                choices=("hist", "approx", "exact"),
                spellings={"auto": "hist"},
                help="how splits are looked for: by histograms, or among all values",
            ),
            "booster": Hyperparameter(
                kind=str,
                default="gbtree",
                choices=("gbtree",),
                help="dart and gblinear are not served; for dart's effect lower subsample and "
                "colsample, for gblinear train linear-learner",
            ),
        }

    def check(self, hyperparameters: Mapping[str, Any], *, task: Task) -> None:
        """See `Algorithm`."""
        check_boosting(hyperparameters, task=task)

    def library(self, task: Task) -> str | None:
        """Return the module that `fit` imports; see `Algorithm.library`."""
        return "xgboost"

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
        """Return the trees up to the best round; see `Algorithm.fit`."""
        started = time.perf_counter()
        objective = resolved_objective(hyperparameters, data, task)
        parameters = _parameters(hyperparameters, objective, data, task)
        parameters |= {"seed": seed, "nthread": threads}
        train, validation = _matrix(data.train, threads), _matrix(data.validation, threads)
        booster = xgboost.train(
            parameters,
            train,
            num_boost_round=hyperparameters["rounds"],
            evals=[(train, "train"), (validation, "validation")],
            early_stopping_rounds=hyperparameters["early_stopping_rounds"] or None,
            callbacks=[_curve(on_metric)],
            verbose_eval=False,
        )
        best_iteration = booster.num_boosted_rounds()
        if hyperparameters["early_stopping_rounds"]:
            best_iteration = int(booster.best_iteration) + 1
            booster = booster[:best_iteration]
        fit_s = time.perf_counter() - started
        X = comparison_rows(data)
        native = booster.predict(xgboost.DMatrix(X, nthread=threads), output_margin=True)
        predictor = exported_booster(booster, link=link_of(objective, task), X=X, native=native)
        gains = booster.get_score(importance_type="total_gain")
        return FittedModel(
            predictor=predictor,
            native={"model.ubj": bytes(booster.save_raw("ubj"))},
            hyperparameters={**hyperparameters, "objective": objective},
            best_iteration=best_iteration,
            importance=gain_shares(
                [float(gains.get(f"f{i}", 0.0)) for i in range(data.n_features)]
            ),
            native_difference=check_same_scores(predictor, X, native, library="XGBoost"),
            fit_s=fit_s,
        )


def _matrix(part: TrainingPart, threads: int) -> Any:
    return xgboost.DMatrix(part.X, label=part.y, weight=part.weight, nthread=threads)


def _parameters(
    settings: Mapping[str, Any], objective: str, data: TrainingData, task: Task
) -> dict[str, Any]:
    check_eval_metric(settings, task)
    name, metric = _OBJECTIVES[objective]
    directions = monotone_directions(settings, data)
    return {
        "objective": name,
        # training stops by the last
        "eval_metric": [
            *_listed(settings["also_watched"]),
            _watched(settings["eval_metric"], task) or metric.format(**settings),
        ],
        "tree_method": settings["tree_method"],
        "grow_policy": settings["grow_policy"],
        "eta": settings["learning_rate"],
        "max_depth": settings["max_depth"],
        "max_leaves": settings["max_leaves"],
        "min_child_weight": settings["min_child_weight"],
        "gamma": settings["gamma"],
        "subsample": settings["subsample"],
        "colsample_bytree": settings["colsample"],
        "colsample_bylevel": settings["colsample_bylevel"],
        "colsample_bynode": settings["colsample_bynode"],
        "num_parallel_tree": settings["num_parallel_tree"],
        "alpha": settings["reg_alpha"],
        "lambda": settings["reg_lambda"],
        "verbosity": 0,
        **({"max_bin": settings["max_bin"]} if settings["tree_method"] != "exact" else {}),
        **({"scale_pos_weight": settings["scale_pos_weight"]} if task == "binary" else {}),
        **({"num_class": data.n_classes} if task == "multiclass" else {}),
        **({"monotone_constraints": tuple(directions)} if directions else {}),
        # XGBoost's own default depends on the objective
        **_if_set("max_delta_step", settings["max_delta_step"]),
        # XGBoost's own start for this one is a Newton step, which far from the targets overshoots
        **({"base_score": float(np.median(data.train.y))} if objective == "huber" else {}),
        **{name: settings[ours] for name, ours in _OBJECTIVE_SETTINGS.get(objective, {}).items()},
    }


_OBJECTIVE_SETTINGS: Mapping[str, Mapping[str, str]] = {
    "quantile": {"quantile_alpha": "quantile"},
    "huber": {"huber_slope": "huber_delta"},
    "tweedie": {"tweedie_variance_power": "tweedie_power"},
}


def _if_set(name: str, value: Any) -> dict[str, Any]:
    return {} if value is None else {name: value}


def _listed(metrics: str | Sequence[str] | None) -> Sequence[str]:
    return [metrics] if isinstance(metrics, str) else metrics or []


def _watched(metric: str | None, task: Task) -> str | None:
    of_classes = "m" if task == "multiclass" else ""
    return {
        "log_loss": f"{of_classes}logloss",
        "error": f"{of_classes}error",
        "average_precision": "aucpr",
    }.get(metric or "", metric)


def _curve(on_metric: OnMetric) -> Any:
    class Curve(xgboost.callback.TrainingCallback):  # type: ignore[misc]
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            is_ended = False
            for part, metrics in evals_log.items():
                for name, values in metrics.items():
                    told = on_metric(epoch + 1, f"{part}:{name}", float(values[-1]))
                    is_ended |= told is True
            # after the first round XGBoost does not know yet which round is the best
            return is_ended and epoch > 0

    return Curve()


def exported_booster(
    booster: Any, *, link: Link, X: npt.NDArray[np.float64], native: npt.NDArray[np.float32]
) -> TreesPredictor:
    """Return the trees of an XGBoost model as a predictor.

    Parameters
    ----------
    booster
        A `gbtree` model with numeric splits.
    link
        What makes the answer of its margin.
    X, native
        Rows, and the library's margins for them: they settle the last bit of a base score that
        the library keeps as a probability or a mean.

    Raises
    ------
    BackendError
        If the model has parts that the predictor cannot compute.
    """
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    model = learner["gradient_booster"].get("model", {})
    trees = model.get("trees", [])
    if learner["gradient_booster"]["name"] != "gbtree" or any(_is_foreign(t) for t in trees):
        raise BackendError(
            "The XGBoost model is not made of plain numeric trees.",
            hint="Train with booster gbtree, one target and numeric features.",
        )
    n_features = int(learner["learner_model_param"]["num_feature"])
    predictor = _joined(trees, model["tree_info"], n_features=n_features, link=link)
    if link not in ("sigmoid", "exp"):
        return replace(predictor, base=_base_scores(learner, predictor.n_outputs))
    answer = _base_scores(learner, 1)[0]
    margin = np.float32(
        math.log(answer) if link == "exp" else -math.log(np.float32(1) / answer - np.float32(1))
    )
    # XGBoost takes this logarithm in 32 bits, where libraries differ in the last bit
    bases = [margin, *(np.nextafter(margin, np.float32(bound)) for bound in (-1e3, 1e3))]
    predictors = [replace(predictor, base=np.array([base], np.float32)) for base in bases]
    X, native = X[:_ROWS_FOR_BASE], native[:_ROWS_FOR_BASE]
    return min(predictors, key=lambda p: float(np.abs(p.score(X)[:, 0] - native).sum()))


def _base_scores(learner: Mapping[str, Any], n_outputs: int) -> npt.NDArray[np.float32]:
    # a number up to version 3.0, a list of one number an output from 3.1 on
    text = learner["learner_model_param"]["base_score"].strip("[]")
    scores = np.array([float(score) for score in text.split(",")], dtype=np.float32)
    return np.repeat(scores, n_outputs) if len(scores) == 1 else scores


def _is_foreign(tree: Mapping[str, Any]) -> bool:
    return any(tree["split_type"]) or int(tree["tree_param"]["size_leaf_vector"]) > 1


def _joined(
    trees: Sequence[Mapping[str, Any]], outputs: Sequence[int], *, n_features: int, link: Link
) -> TreesPredictor:
    sizes = [len(tree["left_children"]) for tree in trees]
    roots = np.cumsum([0, *sizes])[:-1]

    def column(name: str, dtype: type) -> npt.NDArray[Any]:
        return np.concatenate([np.array(tree[name], dtype=dtype) for tree in trees])

    left, right = column("left_children", np.int64), column("right_children", np.int64)
    number = column("split_conditions", np.float32)
    is_leaf = left < 0
    here, first = np.arange(len(left)), np.repeat(roots, sizes)
    return TreesPredictor(
        feature=np.where(is_leaf, 0, column("split_indices", np.int64)).astype(np.int32),
        left=np.where(is_leaf, here, first + left).astype(np.int32),
        right=np.where(is_leaf, here, first + right).astype(np.int32),
        threshold=np.where(is_leaf, np.float32(0), number),
        missing_left=column("default_left", np.uint8),
        zero_missing=np.zeros(len(left), dtype=np.uint8),
        value=np.where(is_leaf, number, np.float32(0)),
        roots=roots.astype(np.int32),
        outputs=np.array(outputs, dtype=np.int32),
        base=np.zeros(max(outputs) + 1, dtype=np.float32),
        comparison="<",
        n_features=n_features,
        link=link,
    )
