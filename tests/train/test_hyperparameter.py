"""Hyperparameters are known by several names, checked, and told what is wrong with them."""

from __future__ import annotations

import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.train import (
    canonical_hyperparameters,
    checked_hyperparameters,
    get_algorithm,
    hyperparameters_from_text,
)
from loopwright.train.hyperparameter import Hyperparameter

SAGEMAKER = {
    "xgboost": {
        "num_round": 100,
        "eta": 0.2,
        "gamma": 4,
        "min_child_weight": 6,
        "subsample": 0.7,
        "objective": "binary:logistic",
        "max_depth": 5,
        "alpha": 0.1,
        "lambda": 2,
        "colsample_bytree": 0.6,
        "scale_pos_weight": 3,
        "grow_policy": "lossguide",
        "max_leaves": 31,
        "early_stopping_rounds": 10,
        "tree_method": "auto",
        "eval_metric": "auc",
    },
    "lightgbm": {
        "num_boost_round": 100,
        "learning_rate": 0.1,
        "num_leaves": 64,
        "feature_fraction": 0.9,
        "bagging_fraction": 0.9,
        "bagging_freq": 1,
        "max_depth": 6,
        "min_data_in_leaf": 3,
        "lambda_l1": 0.1,
        "lambda_l2": 0.1,
        "early_stopping_rounds": 10,
        "metric": "binary_logloss",
        "min_gain_to_split": 0.1,
    },
    "linear-learner": {
        "predictor_type": "binary_classifier",
        "mini_batch_size": 100,
        "epochs": 15,
        "learning_rate": 0.01,
        "wd": 0.001,
        "l1": 0.0,
        "optimizer": "adam",
        "early_stopping_patience": 3,
    },
    "knn": {
        "k": 5,
        "predictor_type": "classifier",
        "sample_size": 5000,
        "index_type": "faiss.IVFFlat",
        "faiss_index_ivf_nlists": 100,
    },
    "catboost": {"iterations": 100, "depth": 6, "l2_leaf_reg": 3, "loss_function": "Logloss"},
}


@pytest.mark.parametrize("name", SAGEMAKER)
def test_the_names_of_sagemaker_are_known(name: str) -> None:
    given = SAGEMAKER[name]

    canonical = canonical_hyperparameters(get_algorithm(name), given)

    assert len(canonical) == len(given)
    assert canonical.keys() <= get_algorithm(name).hyperparameters.keys()


def test_text_is_read_as_what_it_says() -> None:
    given = {"num_round": "100", "eta": "0.2", "objective": "reg:squarederror"}

    read = hyperparameters_from_text(get_algorithm("xgboost"), given)

    assert read == {"rounds": 100, "learning_rate": 0.2, "objective": "squared"}


def test_text_holds_tables_too() -> None:
    given = {"monotone_constraints": '{"area": 1}'}

    read = hyperparameters_from_text(get_algorithm("xgboost"), given)

    assert read == {"monotone_constraints": {"area": 1}}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("seed", "train.seed"),
        ("nthread", "train.resources"),
        ("num_class", "counted in the data"),
        ("etta", "Did you mean 'eta'"),
        ("max_dept", "Did you mean 'max_depth'"),
    ],
)
def test_what_stands_elsewhere_is_told_with_its_place(name: str, hint: str) -> None:
    with pytest.raises(InvalidInputError, match=f"no hyperparameter '{name}'.*{hint}"):
        checked_hyperparameters(get_algorithm("xgboost"), {name: 1})


def test_a_value_out_of_range_is_told_the_range() -> None:
    with pytest.raises(InvalidInputError, match=r"eta of xgboost is 7; 0\.0001 to 1 is expected"):
        checked_hyperparameters(get_algorithm("xgboost"), {"eta": 7})


def test_dart_is_refused_with_what_does_the_same() -> None:
    with pytest.raises(InvalidInputError, match=r"one of gbtree is expected.*dart .*not served"):
        checked_hyperparameters(get_algorithm("xgboost"), {"booster": "dart"})


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (Hyperparameter(kind=int, default=1, low=1, high=2000, help=""), "1 to 2,000"),
        (Hyperparameter(kind=float, default=1, low=0.5, help=""), "at least 0.5"),
        (Hyperparameter(kind=float, default=1, high=3, help=""), "at most 3"),
        (Hyperparameter(kind=float, default=1, help=""), "any number"),
    ],
)
def test_a_range_reads_as_words(one: Hyperparameter, words: str) -> None:
    assert one.range == words


def test_a_list_may_be_one_number() -> None:
    network = get_algorithm("neural-network")

    assert checked_hyperparameters(network, {"hidden_layers": 8})["hidden_layers"] == [8]
    assert checked_hyperparameters(network, {"hidden_layers": (8, 4.0)})["hidden_layers"] == [8, 4]
