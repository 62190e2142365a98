"""What can be set about the boosters does what it says, and what cannot be done is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from loopwright.core.errors import InvalidInputError
from loopwright.testing.algorithm import made_up_data
from loopwright.train import FittedModel, TrainingData, fit_algorithm, get_algorithm
from loopwright.train.class_weight import class_weighted

BOOSTERS = ["xgboost", "lightgbm", "catboost"]
QUICK = {"rounds": 80, "learning_rate": 0.1}


@pytest.fixture(params=BOOSTERS)
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "catboost":
        pytest.importorskip("catboost")
    return str(request.param)


def fitted(name: str, data: TrainingData, task: Any = "regression", **given: Any) -> FittedModel:
    return fit_algorithm(get_algorithm(name), data, task=task, hyperparameters={**QUICK, **given})


@pytest.mark.parametrize("booster", ["xgboost", "lightgbm"])
@pytest.mark.parametrize("objective", ["huber", "quantile", "poisson", "gamma", "tweedie"])
def test_an_objective_is_served_as_the_library_answers(booster: str, objective: str) -> None:
    data = made_up_data("regression")

    model = fitted(booster, data, objective=objective, huber_delta=20)

    assert model.native_difference == 0
    assert model.hyperparameters["objective"] == objective
    error = model.predictor.predict_raw(data.validation.X) - data.validation.y
    assert (error**2).mean() < 0.3 * data.validation.y.var()


def test_a_quantile_lies_where_it_should(name: str) -> None:
    data = made_up_data("regression", n_train=2_000)
    noise = np.random.default_rng(0).normal(size=2_000) * 30
    data = replace(data, train=replace(data.train, y=data.train.y + noise))

    low, high = (
        fitted(name, data, objective="quantile", quantile=q).predictor.predict_raw(data.train.X)
        for q in (0.1, 0.9)
    )

    assert (data.train.y < low).mean() == pytest.approx(0.1, abs=0.06)
    assert (data.train.y < high).mean() == pytest.approx(0.9, abs=0.06)


@pytest.mark.parametrize("direction", [1, -1])
def test_a_monotone_answer_only_goes_one_way(name: str, direction: int) -> None:
    data = replace(made_up_data("regression"), feature_names=("area", "b", "c", "d", "e"))
    grid = np.repeat(data.validation.X[:20], 30, axis=0)
    grid[:, 0] = np.tile(np.linspace(-3, 3, 30), 20)

    model = fitted(name, data, monotone_constraints={"area": direction})

    steps = np.diff(model.predictor.predict_raw(grid).reshape(20, 30), axis=1)
    assert (steps * direction >= -1e-9).all()


def test_a_constraint_of_no_feature_is_refused_with_the_nearest(name: str) -> None:
    data = replace(made_up_data("regression"), feature_names=("area", "b", "c", "d", "e"))

    with pytest.raises(InvalidInputError, match=r"'aera', which is no feature.*'area'"):
        fitted(name, data, monotone_constraints={"aera": 1})


def test_lightgbm_says_that_it_cannot_constrain_absolute_errors() -> None:
    with pytest.raises(InvalidInputError, match=r"cannot constrain .*train xgboost"):
        fitted(
            "lightgbm",
            made_up_data("regression"),
            objective="absolute",
            monotone_constraints={"x0": 1},
        )


@pytest.mark.parametrize(
    ("task", "given", "words"),
    [
        ("binary", {"objective": "poisson"}, "the task is binary.*It can be: logistic"),
        ("regression", {"objective": "softmax"}, "the task is regression"),
        ("multiclass", {"scale_pos_weight": 2}, "use class_weight for more"),
        ("regression", {"eval_metric": "auc"}, "It can be: rmse, mae, mape"),
    ],
)
def test_what_does_not_go_with_the_task_is_refused(
    name: str, task: Any, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInputError, match=words):
        fitted(name, made_up_data(task), task, **given)


def test_counts_below_zero_are_refused(name: str) -> None:
    data = made_up_data("regression")
    data.train.y[3] = -4

    with pytest.raises(InvalidInputError, match=r"smallest target is -4.*poisson needs targets 0"):
        fitted(name, data, objective="poisson")


def test_a_logarithm_is_not_taken_twice(name: str) -> None:
    data = made_up_data("regression")

    plain, logarithmic = (
        fit_algorithm(
            get_algorithm(name),
            data,
            task="regression",
            hyperparameters={**QUICK, "objective": "poisson"},
            target_transform=transform,  # type: ignore[arg-type]
        ).predictor.predict_raw(data.validation.X)
        for transform in ("none", "log")
    )

    assert (plain == logarithmic).all()


def test_without_early_stopping_every_round_is_kept(name: str) -> None:
    model = fitted(name, made_up_data("binary"), "binary", early_stopping_rounds=0, rounds=40)

    assert model.best_iteration == 40


@pytest.mark.parametrize("metric", ["auc", "error", "log_loss"])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_training_stops_by_the_metric_that_is_set(name: str, task: Any, metric: str) -> None:
    curve: list[str] = []

    fit_algorithm(
        get_algorithm(name),
        made_up_data(task),
        task=task,
        hyperparameters={**QUICK, "eval_metric": metric, "rounds": 15},
        on_metric=lambda _, told, __: curve.append(told),
    )

    words = {"auc": "auc", "error": ("error", "accuracy"), "log_loss": ("loss", "multiclass")}
    wanted = words[metric] if isinstance(words[metric], tuple) else (words[metric],)
    assert any(word in told for told in curve for word in wanted)


def test_xgboost_counts_a_row_of_weight_two_as_two_rows() -> None:
    data = made_up_data("regression")
    twice = np.arange(len(data.train)) % 3 == 0
    order = np.repeat(np.arange(len(data.train)), np.where(twice, 2, 1))
    part = replace(data.train, X=data.train.X[order], y=data.train.y[order])
    exact = {"subsample": 1, "colsample": 1, "tree_method": "exact", "rounds": 20}

    doubled = fitted("xgboost", replace(data, train=part), **exact)
    weight = np.where(twice, 2.0, 1.0)
    weighted = fitted("xgboost", replace(data, train=replace(data.train, weight=weight)), **exact)

    X = data.validation.X
    assert doubled.predictor.predict_raw(X) == pytest.approx(
        weighted.predictor.predict_raw(X), rel=1e-3
    )


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    data = made_up_data("multiclass", n_train=97)
    y = data.train.y

    weighted = class_weighted(data, "balanced", task="multiclass")

    trusted = compute_class_weight("balanced", classes=np.arange(3.0), y=y)
    assert weighted.train.weights == pytest.approx(trusted[y.astype(int)])
    assert weighted.validation.weights == pytest.approx(trusted[data.validation.y.astype(int)])
