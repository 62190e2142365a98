"""The ranges that AWS recommends for tuning, and the values its samples use, are taken as they are."""

from __future__ import annotations

import pytest

from loopwright.sagemaker.algorithm import checked_hyperparameters
from loopwright.sagemaker.algorithm_spelling import watched_metrics
from loopwright.sagemaker.error import ApiError

NEEDED = {
    "xgboost": {"num_round": "10"},
    "lightgbm": {},
    "linear-learner": {"predictor_type": "binary_classifier"},
    "knn": {"k": "10", "sample_size": "1000", "predictor_type": "classifier", "feature_dim": "4"},
}
# the ends of the ranges in the developer guide's pages on tuning each algorithm
RANGES = {
    "xgboost": {
        "alpha": (0, 1000),
        "colsample_bylevel": (0.1, 1),
        "colsample_bynode": (0.1, 1),
        "colsample_bytree": (0.5, 1),
        "eta": (0, 1),
        "gamma": (0, 5),
        "lambda": (0, 1000),
        "max_delta_step": (0, 10),
        "max_depth": (0, 10),
        "min_child_weight": (0, 120),
        "num_round": (1, 4000),
        "subsample": (0.5, 1),
    },
    "lightgbm": {
        "learning_rate": (0.001, 0.1),
        "num_leaves": (10, 100),
        "feature_fraction": (0.1, 1),
        "bagging_fraction": (0.1, 1),
        "bagging_freq": (0, 10),
        "max_depth": (15, 100),
        "min_data_in_leaf": (10, 200),
    },
    "linear-learner": {
        "wd": (1e-7, 1),
        "l1": (1e-7, 1),
        "learning_rate": (1e-5, 1),
        "mini_batch_size": (100, 5000),
        "positive_example_weight_mult": (1e-5, 1e5),
    },
    "knn": {"k": (1, 1024), "sample_size": (256, 20_000_000)},
}


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        (name, key, value)
        for name, ranges in RANGES.items()
        for key, ends in ranges.items()
        for value in ends
    ],
)
def test_both_ends_of_a_recommended_range_are_taken(name: str, key: str, value: float) -> None:
    checked_hyperparameters(name, {**NEEDED[name], key: str(value)})


def checked(name: str, **texts: str) -> dict[str, object]:
    return checked_hyperparameters(name, {**NEEDED[name], **texts})


def test_a_learning_rate_of_0_learns_as_good_as_nothing() -> None:
    assert checked("xgboost", eta="0")["learning_rate"] == 0.0001


def test_directions_go_by_the_order_of_the_features() -> None:
    found = checked("xgboost", monotone_constraints="(1,0,-1)")

    assert found["monotone_constraints"] == {"f0": 1, "f2": -1}


@pytest.mark.parametrize(
    "text", ["error,auc", '["error", "auc"]', '"error,auc"', "['error','auc']"]
)
def test_of_several_metrics_the_last_is_the_one_to_stop_by(text: str) -> None:
    assert watched_metrics({"eval_metric": text}) == ["error", "auc"]
    assert checked("xgboost", eval_metric=text)["eval_metric"] == "auc"


def test_weights_of_classes_have_other_names() -> None:
    balanced = checked("linear-learner", positive_example_weight_mult="balanced")
    heavy = checked("linear-learner", positive_example_weight_mult="3")
    unbalanced = checked("lightgbm", is_unbalance="True")

    assert balanced["class_weight"] == "balanced"
    assert heavy["class_weight"] == {"1": 3.0}
    assert unbalanced["class_weight"] == "balanced"


def test_a_frequency_of_0_draws_no_rows() -> None:
    assert checked("lightgbm", bagging_freq="0", bagging_fraction="0.5")["subsample"] == 1.0


@pytest.mark.parametrize(
    ("name", "key", "text"),
    [
        ("xgboost", "monotone_constraints", "(up,down)"),
        ("linear-learner", "positive_example_weight_mult", "many"),
        ("linear-learner", "balance_multiclass_weights", "perhaps"),
        ("xgboost", "eta", "1.5"),
    ],
)
def test_what_nobody_knows_is_refused(name: str, key: str, text: str) -> None:
    with pytest.raises(ApiError):
        checked_hyperparameters(name, {**NEEDED[name], key: text})
