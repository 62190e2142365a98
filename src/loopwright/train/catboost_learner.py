"""catboost: boosted symmetric trees by CatBoost, stopped where the validation rows say."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import BackendError, InvalidInputError
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
from loopwright.train.symmetric_predictor import SymmetricTreesPredictor
from loopwright.train.training_data import TrainingData, TrainingPart

if TYPE_CHECKING:
    import catboost
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")
    catboost = LazyModule("catboost")

_OBJECTIVES = {
    "squared": "RMSE",
    "absolute": "MAE",
    "huber": "Huber:delta={huber_delta}",
    "quantile": "Quantile:alpha={quantile}",
    "poisson": "Poisson",
    "tweedie": "Tweedie:variance_power={tweedie_power}",
    "logistic": "Logloss",
    "softmax": "MultiClass",
}
_METRICS = {
    "rmse": "RMSE",
    "mae": "MAE",
    "mape": "MAPE",
    "error": "Accuracy",
    "auc": "AUC",
    "average_precision": "PRAUC",
}
_ALIASES = {
    "objective": ("loss_function",),
    "quantile": ("quantile_alpha",),
    "huber_delta": ("huber_slope",),
    "tweedie_power": ("tweedie_variance_power",),
    "eval_metric": ("custom_metric",),
    "rounds": ("iterations", "num_boost_round", "n_estimators", "num_trees", "num_round"),
    "early_stopping_rounds": ("od_wait",),
    "learning_rate": ("eta",),
    "colsample": ("rsm", "colsample_bylevel", "colsample_bytree"),
    "reg_lambda": ("l2_leaf_reg",),
    "max_bin": ("border_count",),
}
# a class without training rows: e to the -100 of the others' base
_ABSENT = -100.0
_LEFT_OUT = ("reg_alpha", "colsample_bynode", "max_delta_step")
_SPELLINGS = {
    "RMSE": "squared",
    "MAE": "absolute",
    "Poisson": "poisson",
    "Logloss": "logistic",
    "MultiClass": "softmax",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CatboostLearner:
    """Fit symmetric trees one after the other, each on what the ones before left over.

    Often the best of the boosters with few rows and as it is. The recipe has encoded texts
    already, so that CatBoost's own handling of categories is not used; missing values are taken
    as they are. Training stops when the validation metric has not improved for
    `early_stopping_rounds`, and the best number of trees is kept. Needs `loopwright[catboost]`
    for training, not for serving.
    """

    name: str = "catboost"
    features: Features = "tree"

    @property
    def hyperparameters(self) -> Mapping[str, Hyperparameter]:
        """What can be set."""
        shared = shared_hyperparameters(_ALIASES)
        known = {name: one for name, one in shared.items() if name not in _LEFT_OUT}
        objective = known["objective"]
        return {
            **known,
            "objective": replace(
                objective,
                choices=tuple(_OBJECTIVES),
                spellings={
                    text: name
                    for text, name in {**objective.spellings, **_SPELLINGS}.items()
                    if name in _OBJECTIVES
                },
                help=objective.help.replace("poisson, gamma or tweedie", "poisson or tweedie"),
            ),
            "colsample": replace(
                known["colsample"], default=1.0, help="share of the features a level looks at"
            ),
            "subsample": replace(
                known["subsample"],
                default=None,
                help="share of the rows a tree sees; the library's own draw when not set",
            ),
            "reg_lambda": replace(known["reg_lambda"], default=3.0),
            "max_bin": replace(known["max_bin"], default=254),
            "max_depth": Hyperparameter(
                kind=int,
                default=6,
                low=1,
                high=16,
                aliases=("depth",),
                help="questions a tree asks",
            ),
            "random_strength": Hyperparameter(
                kind=float,
                default=1.0,
                low=0.0,
                high=1e6,
                help="how much chance there is in the choice of a split",
            ),
            "bagging_temperature": Hyperparameter(
                kind=float,
                default=None,
                low=0.0,
                high=1e3,
                help="draws weights for the rows of each tree, the more unequal the higher; "
                "instead of subsample",
            ),
            "leaf_iterations": Hyperparameter(
                kind=int,
                default=None,
                low=1,
                high=100,
                aliases=("leaf_estimation_iterations",),
                help="steps to a leaf's value; the library's own number when not set",
            ),
        }

    def check(self, hyperparameters: Mapping[str, Any], *, task: Task) -> None:
        """See `Algorithm`."""
        check_boosting(hyperparameters, task=task)

    def library(self, task: Task) -> str | None:
        """Return the module that `fit` imports; see `Algorithm.library`."""
        return "catboost"

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
        classes = np.unique(data.train.y[data.train.weights > 0]) if task == "multiclass" else None
        parameters = _parameters(hyperparameters, objective, data, task)
        model = catboost.CatBoost({**parameters, "random_seed": seed, "thread_count": threads})
        try:
            model.fit(
                _pool(data.train, classes),
                eval_set=_pool(data.validation, classes),
                callbacks=[_Curve(on_metric)],
                early_stopping_rounds=hyperparameters["early_stopping_rounds"] or None,
                use_best_model=hyperparameters["early_stopping_rounds"] > 0,
            )
        except catboost.CatBoostError as error:
            raise InvalidInputError(
                f"CatBoost refuses the data or the settings: {' '.join(str(error).split())[:300]}.",
                hint="See its message; other hyperparameters may do.",
                field="hyperparameters",
            ) from error
        fit_s = time.perf_counter() - started
        content = saved_json(model)
        predictor = exported_json(content, link=link_of(objective, task))
        outputs = None
        if classes is not None and len(classes) < data.n_classes:
            outputs = classes.astype(np.intp)
            predictor = _widened(predictor, outputs, data.n_classes)
        X = comparison_rows(data)
        native = model.predict(X, prediction_type="RawFormulaVal", thread_count=1)
        return FittedModel(
            predictor=predictor,
            native={"model.json": content},
            hyperparameters={**hyperparameters, "objective": objective},
            best_iteration=int(model.tree_count_),
            importance=gain_shares(model.get_feature_importance()),
            native_difference=check_same_scores(
                predictor, X, native, library="CatBoost", outputs=outputs
            ),
            fit_s=fit_s,
        )


def _pool(part: TrainingPart, classes: npt.NDArray[np.float64] | None) -> Any:
    """Return a part as CatBoost takes it, classes numbered among those that training rows have."""
    counted = part.weights > 0
    if classes is not None:
        counted &= np.isin(part.y, classes)
    if not counted.any():  # nothing to stop by: every row counts, as what it is nearest to
        counted = np.ones(len(part), dtype=np.bool_)
    y = part.y[counted]
    if classes is not None:
        y = np.minimum(np.searchsorted(classes, y), len(classes) - 1).astype(np.float64)
    bound = float(np.finfo(np.float32).max)  # beyond it CatBoost reads infinity, as the export does
    return catboost.Pool(np.clip(part.X[counted], -bound, bound), y, weight=part.weights[counted])


def _widened(
    predictor: SymmetricTreesPredictor, classes: npt.NDArray[np.intp], n_classes: int
) -> SymmetricTreesPredictor:
    """Return the predictor with an output for each class, also those without training rows."""
    value = np.zeros((len(predictor.value), n_classes))
    value[:, classes] = predictor.value
    base = np.full(n_classes, predictor.base.min() + _ABSENT)
    base[classes] = predictor.base
    return replace(predictor, value=value, base=base)


def _parameters(
    settings: Mapping[str, Any], objective: str, data: TrainingData, task: Task
) -> dict[str, Any]:
    check_eval_metric(settings, task)
    directions = monotone_directions(settings, data)
    metric = _METRICS.get(settings["eval_metric"] or "")
    draw: dict[str, Any] = {}
    if settings["subsample"] is not None:
        draw = {"bootstrap_type": "Bernoulli", "subsample": settings["subsample"]}
    elif settings["bagging_temperature"] is not None:
        draw = {
            "bootstrap_type": "Bayesian",
            "bagging_temperature": settings["bagging_temperature"],
        }
    optional = {
        "eval_metric": metric,
        "monotone_constraints": directions,
        "leaf_estimation_iterations": settings["leaf_iterations"],
        "scale_pos_weight": settings["scale_pos_weight"] if task == "binary" else None,
    }
    return {
        "loss_function": _OBJECTIVES[objective].format(**settings),
        "iterations": settings["rounds"],
        "learning_rate": settings["learning_rate"],
        "depth": settings["max_depth"],
        "l2_leaf_reg": settings["reg_lambda"],
        "rsm": settings["colsample"],
        "border_count": settings["max_bin"],
        "random_strength": settings["random_strength"],
        "grow_policy": "SymmetricTree",
        "allow_writing_files": False,
        "logging_level": "Silent",
        **draw,
        **{name: value for name, value in optional.items() if value is not None},
    }


class _Curve:
    """Tells the metrics of each round to `on_metric`, as CatBoost's callback."""

    def __init__(self, on_metric: OnMetric) -> None:
        self._on_metric = on_metric

    def after_iteration(self, info: Any) -> bool:
        names = {"learn": "train", "validation": "validation"}
        is_ended = False
        for part, metrics in (info.metrics or {}).items():
            for name, values in metrics.items():
                metric = name.split(":")[0].lower()
                named = f"{names.get(part, part)}:{metric}"
                is_ended |= self._on_metric(info.iteration, named, values[-1]) is True
        return not is_ended


def saved_json(model: Any) -> bytes:
    """Return a model as CatBoost's JSON, the same bytes for the same model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json")
        content = json.loads(path.read_bytes())
    # the time and the identity of the training would make every file another one
    kept = ("features_info", "oblivious_trees", "scale_and_bias")
    return json.dumps({name: content[name] for name in kept}, separators=(",", ":")).encode()


def exported_json(content: bytes, *, link: Link) -> SymmetricTreesPredictor:
    """Return a CatBoost model in its JSON format as a predictor.

    Raises
    ------
    BackendError
        If the model has parts that the predictor cannot compute.
    """
    model = json.loads(content)
    features, trees = model["features_info"]["float_features"], model.get("oblivious_trees", [])
    splits = [split for tree in trees for split in tree["splits"] or []]
    if not trees or any(split["split_type"] != "FloatFeature" for split in splits):
        raise BackendError(
            "The CatBoost model is not made of symmetric trees over numbers.",
            hint="Train with grow_policy SymmetricTree and numeric features.",
        )
    by_index = {one["feature_index"]: one for one in features}
    asked = [by_index[split["float_feature_index"]] for split in splits]
    scale, base = model["scale_and_bias"]
    values = [np.array(tree["leaf_values"]).reshape(-1, len(base)) for tree in trees]
    return SymmetricTreesPredictor(
        feature=np.array([one["flat_feature_index"] for one in asked], dtype=np.int32),
        border=np.array([split["border"] for split in splits], dtype=np.float32),
        missing_above=np.array(
            [one["nan_value_treatment"] == "AsTrue" for one in asked], dtype=np.uint8
        ),
        depths=np.array([len(tree["splits"] or []) for tree in trees], dtype=np.int32),
        value=np.ascontiguousarray(np.concatenate(values), dtype=np.float64),
        base=np.array(base, dtype=np.float64),
        scale=float(scale),
        n_features=len(features),
        link=link,
    )
