"""Every algorithm keeps the contract; the registry knows them by name."""

from __future__ import annotations

import numpy as np
import pytest

from loopwright.core.errors import InvalidInputError, NotFoundError
from loopwright.testing.algorithm import AlgorithmContract, made_up_data
from loopwright.train import (
    ALGORITHMS,
    Algorithm,
    checked_hyperparameters,
    fit_algorithm,
    get_algorithm,
)


class TestEveryAlgorithm(AlgorithmContract):
    @pytest.fixture(params=ALGORITHMS)
    def algorithm(self, request: pytest.FixtureRequest) -> Algorithm:
        return get_algorithm(request.param)


def test_an_algorithm_goes_by_the_name_it_is_listed_under() -> None:
    for name in ALGORITHMS:
        assert get_algorithm(name).name == name


def test_a_mistyped_algorithm_gets_the_nearest_name() -> None:
    with pytest.raises(NotFoundError, match=r"No algorithm is named 'xgbost'.*'xgboost'"):
        get_algorithm("xgbost")


def test_whole_floats_are_taken_for_whole_numbers() -> None:
    checked = checked_hyperparameters(get_algorithm("xgboost"), {"rounds": 100.0})

    assert checked["rounds"] == 100
    assert type(checked["rounds"]) is int


def test_a_class_index_out_of_range_is_refused() -> None:
    data = made_up_data("multiclass")
    data.train.y[5] = 3.0

    with pytest.raises(InvalidInputError, match="training row 5 is 3, no class index from 0 to 2"):
        fit_algorithm(get_algorithm("knn"), data, task="multiclass")


@pytest.mark.parametrize("name", ["xgboost", "lightgbm"])
def test_boosters_stop_early_and_keep_the_best_round(name: str) -> None:
    data = made_up_data("regression")
    curve: list[tuple[int, str, float]] = []

    fitted = fit_algorithm(
        get_algorithm(name),
        data,
        task="regression",
        hyperparameters={"early_stopping_rounds": 10, "learning_rate": 0.3},
        on_metric=lambda *point: curve.append(point),
    )

    losses = [value for _, metric, value in curve if metric == "validation:rmse"]
    assert fitted.best_iteration == int(np.argmin(losses)) + 1
    assert len(losses) == fitted.best_iteration + 10


@pytest.mark.parametrize("name", ["xgboost", "lightgbm"])
def test_the_absolute_objective_answers_the_median(name: str) -> None:
    data = made_up_data("regression", n_train=1_000)
    rng = np.random.default_rng(1)
    data.train.y[rng.random(1_000) < 0.2] += 1_000  # a fifth of the rows is far off

    said = {
        objective: fit_algorithm(
            get_algorithm(name),
            data,
            task="regression",
            hyperparameters={"objective": objective},
        ).predictor.predict_raw(data.validation.X)
        for objective in ("squared", "absolute")
    }

    errors = {name: np.abs(one - data.validation.y).mean() for name, one in said.items()}
    assert errors["absolute"] < errors["squared"] / 2
