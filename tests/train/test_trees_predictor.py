"""Trees as data answer as XGBoost and LightGBM do, and hostile ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import lightgbm
import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.train.boosting import LINKS_OF_TASKS
from loopwright.train.lightgbm_learner import exported_text
from loopwright.train.predictor import check_same_scores
from loopwright.train.trees_predictor import TreesPredictor
from loopwright.train.xgboost_learner import exported_booster


def stump(**changes: Any) -> TreesPredictor:
    """Two trees over two features: x0 < 1.5 ? 10 : 20, and a lone leaf of 5."""
    arrays: dict[str, Any] = {
        "feature": np.array([0, 0, 0, 0], np.int32),
        "left": np.array([1, 1, 2, 3], np.int32),
        "right": np.array([2, 1, 2, 3], np.int32),
        "threshold": np.array([1.5, 0, 0, 0]),
        "missing_left": np.array([1, 0, 0, 0], np.uint8),
        "zero_missing": np.zeros(4, np.uint8),
        "value": np.array([0, 10, 20, 5.0]),
        "roots": np.array([0, 3], np.int32),
        "outputs": np.array([0, 0], np.int32),
        "base": np.array([100.0]),
        "comparison": "<",
        "n_features": 2,
    }
    return TreesPredictor(**{**arrays, **changes})


def made_up(task: str, seed: int, n_rows: int = 600) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 5))
    X[:, 1] = np.round(X[:, 1])  # many equal values, zero among them
    X[:, 2] = 0.1 * rng.integers(-3, 4, size=n_rows)
    X[rng.random(X.shape) < 0.15] = np.nan
    signal = np.nan_to_num(X[:, 0]) + np.nan_to_num(X[:, 1]) ** 2 + 0.1 * rng.normal(size=n_rows)
    y = {
        "regression": 1e5 * signal + 3e5,
        "binary": signal > 0.7,
        "multiclass": np.digitize(signal, [0.0, 1.5]),
    }[task]
    return X, y.astype(np.float64)


def awkward(X: np.ndarray, thresholds: np.ndarray, seed: int) -> np.ndarray:
    """Return rows made of thresholds, their neighbours, zeros, huge and missing values."""
    rng = np.random.default_rng(seed)
    edges = np.concatenate([thresholds, np.nextafter(thresholds, np.inf), -thresholds])
    pool = np.concatenate(
        [edges, np.nextafter(edges, -np.inf), X.ravel(), [0.0, -0.0, 1e-36, -1e-36, 1e30, np.nan]]
    )
    return rng.choice(pool, size=(300, X.shape[1]))


def test_a_hand_worked_ensemble_adds_up() -> None:
    # 1.5 is not below 1.5, so it goes right; a missing value goes left
    scores = stump().score(np.array([[1.0, 0], [1.5, 0], [2.0, 0], [np.nan, 0]]))

    assert scores.tolist() == [[115.0], [125.0], [125.0], [115.0]]


def test_less_or_equal_takes_the_threshold_to_the_left() -> None:
    assert stump(comparison="<=").score(np.array([[1.5, 0.0]])).tolist() == [[115.0]]


def test_a_missing_value_goes_right_where_the_node_says_so() -> None:
    predictor = stump(missing_left=np.zeros(4, np.uint8))

    assert predictor.score(np.array([[np.nan, 0.0]])).tolist() == [[125.0]]


def test_zero_counts_as_missing_where_the_node_says_so() -> None:
    right = stump(zero_missing=np.ones(4, np.uint8), missing_left=np.zeros(4, np.uint8))

    assert right.score(np.array([[0.0, 0.0], [1.0, 0.0]])).tolist() == [[125.0], [115.0]]


def test_sums_are_taken_in_32_bits_one_tree_after_the_other() -> None:
    # 2^24 + 1 is not a float32: adding 1 twice to 2^24 stays there, adding 2 does not
    predictor = stump(
        threshold=np.array([1.5, 0, 0, 0], np.float32),
        value=np.array([0, 1, 1, 1], np.float32),
        base=np.array([2.0**24], np.float32),
    )

    assert predictor.score(np.zeros((1, 2))).tolist() == [[2.0**24]]


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000), depth=st.integers(1, 8), subsample=st.floats(0.5, 1.0))
def test_xgboost_margins_are_equal_to_the_last_bit(
    task: str, seed: int, depth: int, subsample: float
) -> None:
    X, y = made_up(task, seed)
    objective = {
        "regression": "reg:squarederror",
        "binary": "binary:logistic",
        "multiclass": "multi:softprob",
    }[task]
    parameters = {"objective": objective, "max_depth": depth, "subsample": subsample, "nthread": 1}
    more = {"num_class": 3} if task == "multiclass" else {}
    booster = xgboost.train({**parameters, **more}, xgboost.DMatrix(X, label=y), 25)

    native = booster.predict(xgboost.DMatrix(X), output_margin=True)
    predictor = exported_booster(booster, link=LINKS_OF_TASKS[task], X=X, native=native)

    rows = np.concatenate([X, awkward(X, predictor.threshold.astype(np.float64), seed)])
    margins = booster.predict(xgboost.DMatrix(rows), output_margin=True)
    assert check_same_scores(predictor, rows, margins, library="XGBoost") == 0.0
    said = booster.predict(xgboost.DMatrix(rows))
    assert predictor.predict_raw(rows) == pytest.approx(said, rel=2e-6, abs=1e-7)


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    leaves=st.integers(2, 40),
    missing=st.sampled_from([{}, {"use_missing": False}, {"zero_as_missing": True}]),
    complete=st.booleans(),
)
def test_lightgbm_scores_are_equal_to_the_last_bit(
    task: str, seed: int, leaves: int, missing: dict[str, bool], complete: bool
) -> None:
    X, y = made_up(task, seed)
    seen = np.nan_to_num(X) if complete else X  # without gaps, nodes have no missing type
    parameters = {"objective": task, "num_leaves": leaves, "num_threads": 1, "verbosity": -1}
    more = {"num_class": 3} if task == "multiclass" else {}
    booster = lightgbm.train(
        {**parameters, **more, **missing}, lightgbm.Dataset(seen, label=y), num_boost_round=25
    )

    predictor = exported_text(booster.model_to_string(), link=LINKS_OF_TASKS[task])

    rows = np.concatenate([X, awkward(X, predictor.threshold, seed)])
    scores = booster.predict(rows, raw_score=True)
    assert check_same_scores(predictor, rows, scores, library="LightGBM") == 0.0
    assert predictor.predict_raw(rows) == pytest.approx(booster.predict(rows), rel=1e-12)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), n_rows=st.integers(1, 70))
def test_rows_are_answered_alone_as_together(seed: int, n_rows: int) -> None:
    X, y = made_up("regression", seed, n_rows=200)
    booster = lightgbm.train(
        {"num_leaves": 31, "min_data_in_leaf": 1, "num_threads": 1, "verbosity": -1},
        lightgbm.Dataset(X, label=y),
        num_boost_round=20,
    )
    predictor = exported_text(booster.model_to_string(), link="identity")

    together = predictor.predict_raw(X[:n_rows])

    assert [predictor.predict_raw(X[i : i + 1])[0] for i in range(n_rows)] == together.tolist()


def test_no_rows_get_no_answers() -> None:
    assert stump().predict_raw(np.empty((0, 2))).shape == (0,)


def test_features_of_another_shape_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"shape \(1, 3\) .*Give \(n_rows, 2\)"):
        stump().predict_raw(np.zeros((1, 3)))


def test_a_categorical_split_is_refused() -> None:
    rng = np.random.default_rng(0)
    X = rng.integers(0, 6, size=(500, 2)).astype(np.float64)
    booster = lightgbm.train(
        {"verbosity": -1, "num_threads": 1, "min_data_per_group": 1},
        lightgbm.Dataset(X, label=np.isin(X[:, 0], [1, 4]) * 1.0, categorical_feature=[0]),
        num_boost_round=2,
    )

    with pytest.raises(BackendError, match="not made of plain numeric trees"):
        exported_text(booster.model_to_string(), link="identity")


def test_averaged_trees_are_refused() -> None:
    X, y = made_up("regression", 1)
    parameters = {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5, "verbosity": -1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(X, label=y), num_boost_round=2)

    with pytest.raises(BackendError, match="that are added up"):
        exported_text(booster.model_to_string(), link="identity")


def test_a_linear_booster_is_refused() -> None:
    X, y = made_up("regression", 1)
    X = np.nan_to_num(X)
    booster = xgboost.train({"booster": "gblinear"}, xgboost.DMatrix(X, label=y), 2)

    with pytest.raises(BackendError, match="not made of plain numeric trees"):
        exported_booster(booster, link="identity", X=X, native=np.zeros(len(X), np.float32))


def test_an_export_that_answers_otherwise_is_refused() -> None:
    with pytest.raises(BackendError, match=r"answers row 1 with \[125.0\], XGBoost with \[124.0\]"):
        check_same_scores(
            stump(), np.array([[1.0, 0], [2.0, 0]]), np.array([115.0, 124.0]), library="XGBoost"
        )


def test_an_export_that_answers_nan_is_refused() -> None:
    with pytest.raises(BackendError, match="was refused"):
        check_same_scores(stump(), np.zeros((1, 2)), np.array([np.nan]), library="XGBoost")


def _with(name: str, place: int, value: float) -> Callable[[], TreesPredictor]:
    def build() -> TreesPredictor:
        array = getattr(stump(), name).copy()
        array[place] = value
        return stump(**{name: array})

    return build


HOSTILE: dict[str, Callable[[], TreesPredictor]] = {
    "a child beyond the end": _with("right", 0, 4),
    "a child far beyond the end": _with("right", 0, 2**31 - 1),
    "a negative child": _with("left", 0, -1),
    "a child in another tree": _with("right", 0, 3),
    "a node that is its own left child only": _with("left", 0, 0),
    "a leaf that leads back to the root": _with("left", 2, 0),
    "two leaves that lead to each other": _with("right", 1, 2),
    "a feature beyond the end": _with("feature", 0, 2),
    "a negative feature": _with("feature", 0, -1),
    "a feature beyond the end in a leaf": _with("feature", 1, 99),
    "an output beyond the end": _with("outputs", 1, 1),
    "a negative output": _with("outputs", 1, -1),
    "a root beyond the end": _with("roots", 1, 4),
    "a first root that is not the first node": _with("roots", 0, 1),
    "roots that go back": _with("roots", 1, -1),
    "a threshold that is not a number": _with("threshold", 0, np.nan),
    "an infinite value": _with("value", 1, np.inf),
    "an infinite base": _with("base", 0, np.inf),
    "no trees": lambda: stump(roots=np.empty(0, np.int32), outputs=np.empty(0, np.int32)),
    "an array too short": lambda: stump(value=np.zeros(3)),
    "an array of two dimensions": lambda: stump(left=np.zeros((4, 1), np.int32)),
    "numbers of mixed types": lambda: stump(value=np.zeros(4, np.float32)),
    "indices of a wrong type": lambda: stump(feature=np.zeros(4, np.int64)),
    "numbers that are whole": lambda: stump(
        threshold=np.zeros(4, np.int32), value=np.zeros(4, np.int32), base=np.zeros(1, np.int32)
    ),
    "no features": lambda: stump(n_features=0),
    "countless features": lambda: stump(n_features=2**40),
    "features that are no number": lambda: stump(n_features="2"),
    "an unknown comparison": lambda: stump(comparison=">"),
    "an unknown link": lambda: stump(link="eval"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_trees_are_refused(case: str) -> None:
    build = HOSTILE[case]

    with pytest.raises(InvalidInputError):
        build()


def test_a_chain_without_end_is_refused() -> None:
    n = 5_000
    here = np.arange(n, dtype=np.int32)
    chain = np.minimum(here + 1, n - 1).astype(np.int32)

    with pytest.raises(InvalidInputError, match="deeper than 1,024"):
        stump(
            feature=np.zeros(n, np.int32),
            left=chain,
            right=chain,
            threshold=np.zeros(n),
            missing_left=np.zeros(n, np.uint8),
            zero_missing=np.zeros(n, np.uint8),
            value=np.zeros(n),
            roots=np.zeros(1, np.int32),
            outputs=np.zeros(1, np.int32),
        )


def test_every_stored_array_comes_back() -> None:
    predictor = stump()

    opened = TreesPredictor.from_parts(predictor.arrays(), predictor.meta(), "identity")

    for one in fields(TreesPredictor):
        if one.init:
            assert np.all(getattr(opened, one.name) == getattr(predictor, one.name))
