"""The train block is checked before anything runs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.train import TrainBudget, TrainPlan, check_task, checked_train
from loopwright.train.algorithm import USUAL_ALGORITHMS


def plan(**values: Any) -> TrainPlan:
    return msgspec.convert(values, TrainPlan)


def test_by_default_the_usual_four_algorithms_are_trained() -> None:
    assert checked_train(TrainPlan()).algorithms == USUAL_ALGORITHMS


def test_the_block_of_the_design_is_read() -> None:
    block = plan(
        algorithms=["linear-learner", "knn", "xgboost", "lightgbm"],
        hyperparameters={"xgboost": {"max_depth": 4, "objective": "absolute"}},
        budget={"minutes": 5, "jobs": 40},
        resources={"cpus": 2, "memory": "4 GiB", "gpus": 0},
    )

    assert checked_train(block).resources is not None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"algorithms": []}, r"train\.algorithms is empty"),
        ({"algorithms": ["knn", "xgbost"]}, r"train\.algorithms\[1\] .*Did you mean 'xgboost'"),
        ({"algorithms": ["knn", "knn"]}, "stands there twice"),
        (
            {"algorithms": ["knn", "lightgbm"], "hyperparameters": {"lightgb": {}}},
            r"hyperparameters\.lightgb .*Did you mean 'lightgbm'",
        ),
        ({"hyperparameters": {"knn": {"neighbors": 3}}}, "Did you mean 'n_neighbors'"),
        ({"hyperparameters": {"knn": {"n_neighbors": 0}}}, "is 0; 1 to 1,024 is expected"),
        ({"hyperparameters": {"knn": {"weighting": "x"}}}, "one of uniform, distance"),
        ({"budget": {"minutes": 0}}, r"train\.budget\.minutes is not above 0"),
        ({"budget": {"jobs": 0}}, r"train\.budget\.jobs is below 1"),
        ({"budget": {"money": 1}}, r"train\.budget\.money needs a price"),
        (
            {"budget": {"money": -1, "price_per_cpu_hour": 1}},
            r"train\.budget\.money is not above 0",
        ),
        (
            {"budget": {"price_per_cpu_hour": 0}},
            r"train\.budget\.price_per_cpu_hour is not above 0",
        ),
        ({"auto": {"distill_may_cost": 2}}, r"train\.auto\.distill_may_cost is not 0 to 1"),
        ({"seed": -1}, r"train\.seed is out of range"),
        ({"workers": 0}, r"train\.workers is out of range"),
        (
            {"workers": 2, "algorithms": ["knn", "auto"]},
            "workers is 2, and knn and auto train in one process. Use xgboost or lightgbm",
        ),
        ({"retries": -1}, r"train\.retries is out of range: -1. Give 0 to 100"),
        ({"time_limit": "soon"}, r"train\.time_limit is 'soon', which is not a duration"),
        ({"time_limit": "0 s"}, r"train\.time_limit is no time"),
    ],
)
def test_what_cannot_be_done_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        checked_train(plan(**values))


def test_workers_are_for_the_algorithms_that_can() -> None:
    checked = checked_train(plan(workers=3))

    assert {name: checked.workers_of(name) for name in checked.algorithms} == {
        "linear-learner": 1,
        "knn": 1,
        "xgboost": 3,
        "lightgbm": 3,
    }
    assert checked_train(plan(time_limit="2 minutes")).time_limit_s == 120


@pytest.mark.parametrize(
    ("algorithm", "setting", "task", "message"),
    [
        ("lightgbm", {"class_weight": "balanced"}, "regression", "which has no classes"),
        ("knn", {"class_weight": {"maybe": 2}}, "binary", "names 'maybe', which is no class"),
        ("xgboost", {"objective": "binary:logistic"}, "regression", "the task is regression"),
        ("catboost", {"scale_pos_weight": 2}, "multiclass", "the task is multiclass"),
        ("decision-tree", {"criterion": "gini"}, "regression", "criterion is 'gini'"),
        ("linear-learner", {"loss": "absolute"}, "binary", "the task is binary"),
        ("linear-learner", {"alpha": 1, "l1": 1}, "regression", "which say the same"),
        ("linear-learner", {"predictor_type": "regressor"}, "binary", "the task is binary"),
    ],
)
def test_a_setting_that_is_not_for_the_task_is_refused_before_a_job_is_made(
    algorithm: str, setting: dict[str, Any], task: Any, message: str
) -> None:
    asked = checked_train(plan(algorithms=[algorithm], hyperparameters={algorithm: setting}))

    with pytest.raises(InvalidInputError, match=message) as caught:
        check_task(asked, task=task, classes=("no", "yes"))

    assert caught.value.facts["field"].startswith(f"train.hyperparameters.{algorithm}.")


def test_money_buys_time_by_the_number_of_processors() -> None:
    budget = TrainBudget(minutes=60, money=0.1, price_per_cpu_hour=0.05)

    # by hand: 2 processor hours, an hour and a half an hour of wall time
    assert budget.minutes_for(2) == 60
    assert budget.minutes_for(4) == 30
    assert budget.cost(3600) == pytest.approx(0.05)


def test_without_a_price_nothing_costs_and_minutes_are_the_limit() -> None:
    budget = TrainBudget(minutes=7)

    assert budget.minutes_for(64) == 7
    assert budget.cost(3600) is None
