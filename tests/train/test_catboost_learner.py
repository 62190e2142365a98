"""CatBoost's symmetric trees answer as data to the last bit, and hostile ones are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.testing.algorithm import made_up_data
from loopwright.train import fit_algorithm, get_algorithm
from loopwright.train.catboost_learner import exported_json, saved_json
from loopwright.train.symmetric_predictor import SymmetricTreesPredictor

catboost = pytest.importorskip("catboost")


def small(**changes: Any) -> SymmetricTreesPredictor:
    """Two trees over two features: the first asks x0 > 1 and x1 > 5, the second nothing."""
    parts: dict[str, Any] = {
        "feature": np.array([0, 1], np.int32),
        "border": np.array([1, 5], np.float32),
        "missing_above": np.array([0, 1], np.uint8),
        "depths": np.array([2, 0], np.int32),
        "value": np.array([[1.0], [2.0], [3.0], [4.0], [0.5]]),
        "base": np.array([100.0]),
        "scale": 2.0,
        "n_features": 2,
    }
    return SymmetricTreesPredictor(**{**parts, **changes})


def test_hand_worked_trees_add_up() -> None:
    rows = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 6.0], [2.0, 6.0], [1.0, np.nan]])

    # the first question is the lowest digit; 1 is not above 1, a missing x1 is above 5
    assert small().score(rows)[:, 0].tolist() == [103.0, 105.0, 107.0, 109.0, 107.0]


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
@settings(max_examples=5, deadline=None)
@given(
    seed=st.integers(0, 1_000), depth=st.integers(1, 8), nan_mode=st.sampled_from(["Min", "Max"])
)
def test_scores_are_equal_to_the_last_bit(task: Any, seed: int, depth: int, nan_mode: str) -> None:
    data = made_up_data(task, seed=seed, missing_share=0.1)
    loss = {"regression": "RMSE", "binary": "Logloss", "multiclass": "MultiClass"}[task]
    model = catboost.CatBoost(
        {
            "loss_function": loss,
            "iterations": 20,
            "depth": depth,
            "nan_mode": nan_mode,
            "allow_writing_files": False,
            "logging_level": "Silent",
            "thread_count": 1,
        }
    ).fit(data.train.X, data.train.y)

    predictor = exported_json(saved_json(model), link="identity")

    rng = np.random.default_rng(seed)
    borders = predictor.border.astype(np.float64)
    pool = np.concatenate(
        [borders, np.nextafter(borders, np.inf), np.nextafter(borders, -np.inf), [np.nan, 0, 1e30]]
    )
    rows = np.concatenate([data.validation.X, rng.choice(pool, size=(200, 5))])
    native = model.predict(rows, prediction_type="RawFormulaVal")
    assert (predictor.score(rows).reshape(native.shape) == native).all()
    alone = [predictor.score(rows[i : i + 1])[0].tolist() for i in range(40)]
    assert alone == predictor.score(rows)[:40].tolist()


def test_trees_that_are_not_symmetric_are_refused() -> None:
    content = b'{"features_info": {"float_features": []}, "trees": [], "scale_and_bias": [1, [0]]}'

    with pytest.raises(BackendError, match="not made of symmetric trees"):
        exported_json(content, link="identity")


@pytest.mark.parametrize("objective", ["absolute", "huber", "quantile", "poisson", "tweedie"])
def test_objectives_are_served_as_the_library_answers(objective: str) -> None:
    fitted = fit_algorithm(
        get_algorithm("catboost"),
        made_up_data("regression"),
        task="regression",
        hyperparameters={
            "objective": objective,
            "rounds": 300,
            "learning_rate": 0.2,
            "huber_delta": 20,
        },
    )

    assert fitted.native_difference == 0
    X = made_up_data("regression").validation
    error = fitted.predictor.predict_raw(X.X) - X.y
    assert (error**2).mean() < 0.5 * X.y.var()


def test_what_catboost_refuses_is_told() -> None:
    with pytest.raises(InvalidInputError, match="CatBoost refuses the data or the settings"):
        fit_algorithm(
            get_algorithm("catboost"),
            made_up_data("multiclass"),
            task="multiclass",
            hyperparameters={"monotone_constraints": {"x0": 1}, "rounds": 5},
        )


HOSTILE: dict[str, dict[str, Any]] = {
    "a feature beyond the row": {"feature": np.array([0, 2], np.int32)},
    "a feature below 0": {"feature": np.array([-1, 1], np.int32)},
    "a tree of depth 17": {"depths": np.array([17, 0], np.int32)},
    "a leaf too few": {"value": np.zeros((4, 1))},
    "a leaf that is not a number": {"value": np.full((5, 1), np.nan)},
    "a border that is not a number": {"border": np.array([np.nan, 1], np.float32)},
    "no trees": {"depths": np.empty(0, np.int32)},
    "a scale that is text": {"scale": "2"},
    "borders in 64 bits": {"border": np.array([1.0, 5.0])},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_trees_that_make_no_sense_are_refused(case: str) -> None:
    with pytest.raises(InvalidInputError, match="cannot be trusted"):
        small(**HOSTILE[case])
