"""lightgbm: boosted trees by LightGBM, stopped where the validation rows say."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
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
from loopwright.train.ring import ring_parameters, without_addresses
from loopwright.train.training_data import TrainingData, TrainingPart
from loopwright.train.trees_predictor import TreesPredictor

if TYPE_CHECKING:
    import lightgbm
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")
    lightgbm = LazyModule("lightgbm")

_OBJECTIVES = {
    "squared": ("regression", "rmse"),
    "absolute": ("regression_l1", "l1"),
    "huber": ("huber", "huber"),
    "quantile": ("quantile", "quantile"),
    "poisson": ("poisson", "poisson"),
    "gamma": ("gamma", "gamma"),
    "tweedie": ("tweedie", "tweedie"),
    "logistic": ("binary", "binary_logloss"),
    "softmax": ("multiclass", "multi_logloss"),
}
_ALIASES = {
    "quantile": ("quantile_alpha",),
    "huber_delta": ("huber_slope",),
    "tweedie_power": ("tweedie_variance_power",),
    "eval_metric": ("metric",),
    "rounds": ("num_boost_round", "num_iterations", "n_estimators", "num_round", "num_trees"),
    "early_stopping_rounds": ("early_stopping_round", "n_iter_no_change"),
    "learning_rate": ("eta", "shrinkage_rate"),
    "subsample": ("bagging_fraction",),
    "colsample": ("feature_fraction", "colsample_bytree"),
    "colsample_bynode": ("feature_fraction_bynode",),
    "reg_alpha": ("lambda_l1",),
    "reg_lambda": ("lambda_l2",),
    "max_delta_step": ("max_tree_output",),
}
# objectives whose leaves are set anew after a tree has grown
_RENEWING = ("absolute", "quantile")
# bits of `decision_type` in LightGBM's text format (include/LightGBM/tree.h)
_IS_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_MISSING_ZERO, _MISSING_NAN = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LightgbmLearner:
    """Fit trees one after the other, each grown leaf by leaf where it helps most.

    Usually among the best on tables and the quickest of the boosters; takes missing values as
    they are and needs no scaling. Training stops when the validation loss has not improved for
    `early_stopping_rounds`, and the best number of trees is kept.
    """

    name: str = "lightgbm"
    features: Features = "tree"

    @property
    def hyperparameters(self) -> Mapping[str, Hyperparameter]:
        """What can be set."""
        return {
            **shared_hyperparameters(_ALIASES),
            "num_leaves": Hyperparameter(
                kind=int,
                default=31,
                low=2,
                high=4_096,
                aliases=("max_leaves", "max_leaf_nodes"),
                help="leaves of a tree at most",
            ),
            "max_depth": Hyperparameter(
                kind=int,
                default=None,
                low=1,
                high=64,
                help="comparisons on a tree's longest way; only num_leaves bounds it when not set",
            ),
            "min_child_samples": Hyperparameter(
                kind=int,
                default=20,
                low=1,
                high=1_000_000,
                aliases=("min_data_in_leaf", "min_samples_leaf"),
                help="least rows in a leaf",
            ),
            "min_child_weight": Hyperparameter(
                kind=float,
                default=1e-3,
                low=0.0,
                high=1e6,
                aliases=("min_sum_hessian_in_leaf",),
                help="least sum of the second derivatives in a leaf",
            ),
            "gamma": Hyperparameter(
                kind=float,
                default=0.0,
                low=0.0,
                high=1e12,
                aliases=("min_gain_to_split", "min_split_gain", "min_split_loss"),
                help="least gain that makes a split worth it",
            ),
            "subsample_freq": Hyperparameter(
                kind=int,
                default=1,
                low=1,
                high=20_000,
                aliases=("bagging_freq",),
                help="rounds after which rows are drawn anew, where subsample is below 1",
            ),
            "boosting": Hyperparameter(
                kind=str,
                default="gbdt",
                choices=("gbdt", "goss"),
                aliases=("boosting_type",),
                help="goss keeps the rows with large errors instead of drawing evenly; dart does "
                "not stop early, random forests are random-forest",
            ),
            "path_smooth": Hyperparameter(
                kind=float,
                default=0.0,
                low=0.0,
                high=1e6,
                help="draws the value of a leaf with few rows to that of its parent",
            ),
            "extra_trees": Hyperparameter(
                kind=str,
                default="no",
                choices=("no", "yes"),
                spellings={"true": "yes", "false": "no", "True": "yes", "False": "no"},
                help="looks at one random threshold a feature only",
            ),
        }

    def check(self, hyperparameters: Mapping[str, Any], *, task: Task) -> None:
        """See `Algorithm`."""
        check_boosting(hyperparameters, task=task)

    def library(self, task: Task) -> str | None:
        """Return the module that `fit` imports; see `Algorithm.library`."""
        return "lightgbm"

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
        parameters |= {"seed": seed, "num_threads": threads, **ring_parameters()}
        train = _dataset(data.train, parameters)
        validation = _dataset(data.validation, parameters, reference=train)
        booster = lightgbm.train(
            parameters,
            train,
            num_boost_round=hyperparameters["rounds"],
            valid_sets=[train, validation],
            valid_names=["train", "validation"],
            callbacks=[_curve(on_metric), *_stopping(hyperparameters["early_stopping_rounds"])],
        )
        best_iteration = int(booster.best_iteration) or booster.num_trees() // max(
            1, booster.num_model_per_iteration()
        )
        fit_s = time.perf_counter() - started
        text = without_addresses(booster.model_to_string(num_iteration=best_iteration))
        predictor = exported_text(text, link=link_of(objective, task))
        X = comparison_rows(data)
        native = booster.predict(X, raw_score=True, num_iteration=best_iteration)
        return FittedModel(
            predictor=predictor,
            native={"model.txt": text.encode()},
            hyperparameters={**hyperparameters, "objective": objective},
            best_iteration=best_iteration,
            importance=gain_shares(booster.feature_importance("gain", iteration=best_iteration)),
            native_difference=check_same_scores(predictor, X, native, library="LightGBM"),
            fit_s=fit_s,
        )


def _dataset(
    part: TrainingPart, parameters: Mapping[str, Any], reference: Any | None = None
) -> Any:
    return lightgbm.Dataset(
        part.X, label=part.y, weight=part.weight, params=dict(parameters), reference=reference
    )


def _stopping(rounds: int) -> list[Any]:
    if not rounds:
        return []
    return [lightgbm.early_stopping(rounds, first_metric_only=True, verbose=False)]


def _parameters(
    settings: Mapping[str, Any], objective: str, data: TrainingData, task: Task
) -> dict[str, Any]:
    check_eval_metric(settings, task)
    name, metric = _OBJECTIVES[objective]
    is_goss = settings["boosting"] == "goss"
    draws = settings["subsample"] < 1 and not is_goss
    alpha = {"quantile": settings["quantile"], "huber": settings["huber_delta"]}.get(objective)
    return {
        "objective": name,
        "metric": _watched(settings["eval_metric"], task) or metric,
        "data_sample_strategy": "goss" if is_goss else "bagging",
        "learning_rate": settings["learning_rate"],
        "num_leaves": settings["num_leaves"],
        "max_depth": settings["max_depth"] or -1,
        "min_data_in_leaf": settings["min_child_samples"],
        "min_sum_hessian_in_leaf": settings["min_child_weight"],
        "min_gain_to_split": settings["gamma"],
        "bagging_fraction": settings["subsample"] if draws else 1.0,
        "bagging_freq": settings["subsample_freq"] if draws else 0,
        "feature_fraction": settings["colsample"],
        "feature_fraction_bynode": settings["colsample_bynode"],
        "lambda_l1": settings["reg_alpha"],
        "lambda_l2": settings["reg_lambda"],
        "max_bin": settings["max_bin"],
        "path_smooth": settings["path_smooth"],
        "extra_trees": settings["extra_trees"] == "yes",
        "tweedie_variance_power": settings["tweedie_power"],
        "feature_pre_filter": False,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
        **({} if alpha is None else {"alpha": alpha}),
        **({"scale_pos_weight": settings["scale_pos_weight"]} if task == "binary" else {}),
        **({"num_class": data.n_classes} if task == "multiclass" else {}),
        **_constraints(settings, objective, data),
        # LightGBM's own default depends on the objective
        **(
            {}
            if settings["max_delta_step"] is None
            else {"max_delta_step": settings["max_delta_step"]}
        ),
    }


def _constraints(settings: Mapping[str, Any], objective: str, data: TrainingData) -> dict[str, Any]:
    directions = monotone_directions(settings, data)
    if directions is None:
        return {}
    if objective in _RENEWING:
        raise InvalidInputError(
            f"LightGBM cannot constrain the objective {objective!r} to be monotone.",
            hint="Use another objective such as huber, or train xgboost.",
            field="monotone_constraints",
            value=objective,
        )
    return {"monotone_constraints": directions}


def _watched(metric: str | None, task: Task) -> str | None:
    of_task = "multi" if task == "multiclass" else "binary"
    return {
        "mae": "l1",
        "log_loss": f"{of_task}_logloss",
        "error": f"{of_task}_error",
        "auc": "auc_mu" if task == "multiclass" else "auc",
    }.get(metric or "", metric)


def _curve(on_metric: OnMetric) -> Any:
    best: tuple[float, int] | None = None

    def curve(env: Any) -> None:
        nonlocal best
        is_ended = False
        for part, name, value, *_ in env.evaluation_result_list:
            is_ended |= on_metric(env.iteration + 1, f"{part}:{name}", float(value)) is True
        # the first metric of the validation rows is the one that training stops by
        _, _, value, higher = next(e for e in env.evaluation_result_list if e[0] == "validation")
        loss = -value if higher else value
        if best is None or loss < best[0]:
            best = (loss, env.iteration)
        if is_ended:
            raise lightgbm.callback.EarlyStopException(best[1], env.evaluation_result_list)

    curve.order = 10  # type: ignore[attr-defined]
    return curve


def exported_text(text: str, *, link: Link) -> TreesPredictor:
    """Return the trees in LightGBM's text format as a predictor.

    Raises
    ------
    BackendError
        If the model has parts that the predictor cannot compute.
    """
    head, *sections = text.split("\nend of trees")[0].split("\nTree=")
    header = _fields(head)
    trees = [_Tree.from_fields(_fields(section)) for section in sections]
    scale = header.get("objective", "").partition("sigmoid:")[2].split(" ")[0]
    if "average_output" in head.splitlines() or scale not in ("", "1") or None in trees:
        raise BackendError(
            "The LightGBM model is not made of plain numeric trees that are added up.",
            hint="Train with boosting gbdt, numeric features and constant leaves.",
        )
    plain = [tree for tree in trees if tree is not None]
    sizes = [len(tree.value) for tree in plain]
    roots = np.cumsum([0, *sizes])[:-1]
    n_outputs = int(header["num_tree_per_iteration"])
    return TreesPredictor(
        feature=np.concatenate([tree.feature for tree in plain]).astype(np.int32),
        left=np.concatenate([t.left + r for t, r in zip(plain, roots, strict=True)]).astype(
            np.int32
        ),
        right=np.concatenate([t.right + r for t, r in zip(plain, roots, strict=True)]).astype(
            np.int32
        ),
        threshold=np.concatenate([tree.threshold for tree in plain]),
        missing_left=np.concatenate([tree.missing_left for tree in plain]).astype(np.uint8),
        zero_missing=np.concatenate([tree.zero_missing for tree in plain]).astype(np.uint8),
        value=np.concatenate([tree.value for tree in plain]),
        roots=roots.astype(np.int32),
        outputs=(np.arange(len(plain)) % n_outputs).astype(np.int32),
        base=np.zeros(n_outputs),
        comparison="<=",
        n_features=int(header["max_feature_idx"]) + 1,
        link=link,
    )


def _fields(section: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in section.splitlines() if "=" in line)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Tree:
    """One tree: its inner nodes first, as LightGBM numbers them, then its leaves."""

    feature: npt.NDArray[np.int64]
    threshold: npt.NDArray[np.float64]
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    missing_left: npt.NDArray[np.bool_]
    zero_missing: npt.NDArray[np.bool_]
    value: npt.NDArray[np.float64]

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> _Tree | None:
        """Return the tree, or None if it is not a plain numeric one."""
        n_leaves, n_inner = int(fields["num_leaves"]), int(fields["num_leaves"]) - 1

        def numbers(name: str, dtype: type) -> npt.NDArray[Any]:
            words = fields.get(name, "").split() if n_inner else []
            return np.array(words, dtype=np.float64).astype(dtype)

        decision = numbers("decision_type", np.int64)
        if int(fields.get("is_linear", 0)) or (decision & _IS_CATEGORICAL).any():
            return None
        threshold = numbers("threshold", np.float64)
        missing = (decision >> 2) & 3
        # without a missing type, LightGBM reads a missing value as 0
        missing_left = np.where(
            missing == 0, threshold >= 0, (decision & _DEFAULT_LEFT).astype(np.bool_)
        )
        leaves = np.arange(n_inner, n_inner + n_leaves)
        no_leaf = np.zeros(n_leaves)

        def children(name: str) -> npt.NDArray[Any]:
            child = numbers(name, np.int64)
            return np.concatenate([np.where(child < 0, n_inner + ~child, child), leaves])

        return cls(
            feature=np.concatenate([numbers("split_feature", np.int64), no_leaf]),
            threshold=np.concatenate([threshold, no_leaf]),
            left=children("left_child"),
            right=children("right_child"),
            missing_left=np.concatenate([missing_left, no_leaf]) != 0,
            zero_missing=np.concatenate([missing == _MISSING_ZERO, no_leaf]) != 0,
            value=np.concatenate(
                [np.zeros(n_inner), np.array(fields["leaf_value"].split(), float)]
            ),
        )
