"""The train block is checked before anything runs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.train import TrainPlan, checked_train
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
        ({"hyperparameters": {"knn": {"n_neighbors": 0}}}, "is 0; 1 to 1,000 is expected"),
        ({"hyperparameters": {"knn": {"weighting": "x"}}}, "one of uniform, distance"),
        ({"budget": {"minutes": 0}}, r"train\.budget\.minutes is not above 0"),
        ({"budget": {"jobs": 0}}, r"train\.budget\.jobs is below 1"),
        ({"seed": -1}, r"train\.seed is out of range"),
    ],
)
def test_what_cannot_be_done_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        checked_train(plan(**values))
