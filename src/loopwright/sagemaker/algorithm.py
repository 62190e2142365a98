"""SageMaker's built-in algorithms as ours: their hyperparameters, defaults, metrics and tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loopwright.core.errors import InvalidInputError
from loopwright.sagemaker.algorithm_spelling import respelled
from loopwright.sagemaker.algorithm_threshold import CRITERIA, CRITERION, check_criterion
from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.learner_metric import LEARNER_METRICS

SETTINGS_FILE = "sagemaker.json"
"""In a model: what was trained, so that an endpoint can answer as the algorithm's own would."""

_TASKS = {
    "binary_classifier": "binary",
    "multiclass_classifier": "multiclass",
    "regressor": "regression",
    "classifier": "multiclass",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltIn:
    """A built-in algorithm.

    Parameters
    ----------
    required
        Hyperparameters without a default.
    defaults
        SageMaker's defaults where ours are others, by our names.
    fixed
        Hyperparameters that are understood, and mean here what they say only at these values.
    unused
        Hyperparameters that change nothing here: they set how SageMaker's implementation works.
    metrics
        What the log shows, for tuning.
    """

    required: tuple[str, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unused: frozenset[str] = frozenset()
    metrics: tuple[str, ...] = ()


_XGBOOST_METRICS = (
    "rmse",
    "mae",
    "logloss",
    "mlogloss",
    "error",
    "merror",
    "auc",
    "aucpr",
    "mphe",
)
BUILT_INS: Mapping[str, BuiltIn] = {
    "xgboost": BuiltIn(
        required=("num_round",),
        defaults={
            "learning_rate": 0.3,
            "subsample": 1.0,
            "colsample": 1.0,
            "early_stopping_rounds": 0,
            "max_bin": 256,
        },
        fixed={
            "booster": ("gbtree",),
            "process_type": ("default",),
            "base_score": ("0.5",),
            "sampling_method": ("uniform",),
            # how trees are grown says tree_method
            "updater": (
                "grow_colmaker",
                "grow_colmaker,prune",
                "grow_histmaker",
                "grow_local_histmaker",
                "grow_quantile_histmaker",
            ),
        },
        unused=frozenset(
            {
                "csv_weights",
                "deterministic_histogram",
                "dsplit",
                # of boosters that are not here
                "lambda_bias",
                "max_cat_threshold",
                "max_cat_to_onehot",
                "normalize_type",
                "nthread",
                "num_class",
                "objective",
                "one_drop",
                "predictor",
                "prob_buffer_row",
                "rate_drop",
                "refresh_leaf",
                "sample_type",
                "save_model_on_termination",
                "seed",
                "silent",
                "skip_drop",
                "single_precision_histogram",
                "sketch_eps",
                "use_dask_gpu_training",
                "verbosity",
            }
        ),
        metrics=tuple(
            f"{part}:{name}" for part in ("train", "validation") for name in _XGBOOST_METRICS
        ),
    ),
    "lightgbm": BuiltIn(
        required=(),
        defaults={
            "rounds": 100,
            "early_stopping_rounds": 10,
            "learning_rate": 0.1,
            "num_leaves": 64,
            "colsample": 0.9,
            "subsample": 0.9,
            "max_depth": 6,
            "min_child_samples": 3,
        },
        unused=frozenset(
            {
                "num_class",
                "num_threads",
                "objective",
                "seed",
                "tree_learner",
                "use_dask",
                "verbosity",
            }
        ),
        metrics=(),
    ),
    "linear-learner": BuiltIn(
        required=("predictor_type",),
        fixed={
            "loss": (
                "auto",
                "logistic",
                "softmax_loss",
                "squared_loss",
                "absolute_loss",
                "huber_loss",
            ),
            CRITERION: CRITERIA,
            "use_bias": ("true", "True"),
        },
        unused=frozenset(
            {
                # the solution is exact, so that it needs no search over starts and steps
                "accuracy_top_k",
                "beta_1",
                "beta_2",
                "bias_lr_mult",
                "bias_wd_mult",
                "early_stopping_patience",
                "early_stopping_tolerance",
                "epochs",
                "f_beta",
                "feature_dim",
                "init_bias",
                "init_method",
                "init_scale",
                "init_sigma",
                "learning_rate",
                "loss_insensitivity",
                "lr_scheduler_factor",
                "lr_scheduler_minimum_lr",
                "lr_scheduler_step",
                "margin",
                "mini_batch_size",
                "momentum",
                "normalize_data",
                "normalize_label",
                "num_calibration_samples",
                "num_classes",
                "num_models",
                "num_point_for_scaler",
                "optimizer",
                "quantile",
                "target_precision",
                "target_recall",
                "unbias_data",
                "unbias_label",
                "use_lr_scheduler",
            }
        ),
        metrics=tuple(
            f"{part}:{name}" for part in ("validation", "test") for name in LEARNER_METRICS
        ),
    ),
    "knn": BuiltIn(
        required=("k", "sample_size", "predictor_type", "feature_dim"),
        defaults={"weighting": "uniform"},
        fixed={"index_metric": ("L2",)},
        unused=frozenset({"feature_dim", "mini_batch_size", "faiss_index_pq_m"}),
        metrics=("test:accuracy", "test:mse"),
    ),
}


def checked_hyperparameters(name: str, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return hyperparameters of a built-in algorithm under our names, as the values they mean.

    Raises
    ------
    ApiError
        If one is missing, unknown, out of range, or asks for what is not done here.
    """
    from loopwright.train import get_algorithm
    from loopwright.train.hyperparameter import hyperparameters_from_text

    algorithm, about = get_algorithm(name), BUILT_INS[name]
    missing = [each for each in about.required if each not in texts]
    if missing:
        raise validation(f"Missing required hyperparameter of {name}: {', '.join(missing)}.")
    kept = {}
    # without what a tuner adds
    plain = {key: text.strip('"') for key, text in texts.items() if not key.startswith("_")}
    for key, value in respelled(name, plain).items():
        if key in about.fixed:
            if value not in about.fixed[key]:
                known = ", ".join(about.fixed[key])
                raise validation(
                    f"The hyperparameter {key} of {name} cannot be {value!r} here yet; it can be {known}."
                )
            if key != "loss" or not value.endswith(("squared_loss", "absolute_loss", "huber_loss")):
                continue
        elif key in about.unused or value == "auto":
            continue
        kept[key] = value
    try:
        given = hyperparameters_from_text(algorithm, kept)
    except InvalidInputError as error:
        raise validation(f"The hyperparameters of {name} cannot be used: {error}") from error
    task_of(name, texts)
    if name == "linear-learner":
        check_criterion(texts)
    return {**about.defaults, **given}


def task_of(name: str, texts: Mapping[str, str]) -> str | None:
    """Return the task that hyperparameters ask for; None where the targets have to tell."""
    if name in ("linear-learner", "knn"):
        kind = texts["predictor_type"].strip('"')
        if kind not in _TASKS:
            raise validation(f"predictor_type cannot be {kind!r}.")
        # two classes are told by the rows
        return None if kind == "classifier" else _TASKS[kind]
    objective = texts.get("objective", "reg:squarederror" if name == "xgboost" else "").strip('"')
    if not objective:
        return None
    if objective in ("binary:logistic", "binary"):
        return "binary"
    if objective in ("multi:softmax", "multi:softprob", "multiclass"):
        if "num_class" not in texts:
            raise validation(f"The objective {objective} needs num_class.")
        return "multiclass"
    from loopwright.train.boosting import OBJECTIVE_SPELLINGS, REGRESSIONS

    if OBJECTIVE_SPELLINGS.get(objective, objective) not in REGRESSIONS:
        raise ApiError(
            "ValidationException",
            f"The objective {objective!r} is not supported yet by loopwright.",
        )
    return "regression"


def metric_definitions(name: str) -> list[dict[str, str]]:
    """Return the metrics that the log of an algorithm shows, as a request would define them."""
    number = r"([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)"
    found = []
    for each in BUILT_INS[name].metrics:
        part, _, metric = each.partition(":")
        if name == "xgboost":
            # a tab, which SageMaker's logs show as #011
            regex = rf"\[[0-9]+\].*(?:#011|\t){part}-{metric}:{number}"
        else:
            regex = rf"#quality_metric: host=algo-1, {part} {metric} <[a-z]+>={number}"
        found.append({"Name": each, "Regex": regex})
    return found
