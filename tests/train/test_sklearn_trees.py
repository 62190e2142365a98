"""Scikit-learn's trees answer as data to the last bit, and a single one as rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from loopwright.core.errors import InvalidInputError
from loopwright.testing.algorithm import made_up_data
from loopwright.train import TrainingData, TrainingPart, fit_algorithm, get_algorithm
from loopwright.train.sklearn_trees import just_above
from loopwright.train.tree_rules import rules_python, rules_text

TREE, FOREST = get_algorithm("decision-tree"), get_algorithm("random-forest")


def awkward(X: np.ndarray, thresholds: np.ndarray, seed: int) -> np.ndarray:
    """Return rows made of thresholds, their neighbours, zeros, tiny, huge and missing values."""
    rng = np.random.default_rng(seed)
    # an infinite threshold parts what is missing from what is not
    thresholds = thresholds[np.abs(thresholds) < 1e38]
    edges = np.concatenate([thresholds, np.nextafter(thresholds, np.inf), -thresholds])
    wild = [0.0, -0.0, 1e-40, 1e30, -1e30, np.nan]
    pool = np.concatenate([edges, np.nextafter(edges, -np.inf), X.ravel(), wild])
    return rng.choice(pool, size=(200, X.shape[1]))


@settings(max_examples=100, deadline=None)
@given(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.floats(-3e38, 3e38),
)
def test_below_what_lies_just_above_is_at_most_the_threshold(x: float, t: float) -> None:
    for threshold in (t, x, float(np.nextafter(x, np.inf)), float(np.nextafter(x, -np.inf))):
        above = just_above(np.array([threshold]))[0]
        assert (np.float32(x) < above) == (float(np.float32(x)) <= threshold)


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
@settings(max_examples=3, deadline=None)
@given(
    seed=st.integers(0, 1_000),
    missing=st.sampled_from([0.0, 0.1]),
    max_leaves=st.sampled_from([None, 12]),
)
def test_a_forest_is_scikit_learns_to_the_last_bit(
    task: Any, seed: int, missing: float, max_leaves: int | None
) -> None:
    data = made_up_data(task, seed=seed, missing_share=missing)
    data.train.X[:, 3] = np.round(data.train.X[:, 3])
    forest = RandomForestRegressor if task == "regression" else RandomForestClassifier
    trusted = forest(
        25, min_samples_leaf=3, max_leaf_nodes=max_leaves, max_features=0.5, random_state=seed
    ).fit(data.train.X, data.train.y)

    fitted = fit_algorithm(
        FOREST,
        data,
        task=task,
        hyperparameters={"rounds": 25, "max_leaves": max_leaves, "max_features": 0.5},
        seed=seed,
    )

    thresholds = fitted.predictor.arrays()["threshold"].astype(np.float64)
    rows = np.concatenate([data.validation.X, awkward(data.train.X, thresholds, seed)])
    said = trusted.predict(rows) if task == "regression" else trusted.predict_proba(rows)
    said = said[:, 1] if task == "binary" else said
    assert (fitted.predictor.predict_raw(rows) == said).all()
    assert fitted.importance == pytest.approx(trusted.feature_importances_)


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
def test_a_tree_is_scikit_learns_to_the_last_bit(task: Any) -> None:
    data = made_up_data(task, missing_share=0.05)
    tree = DecisionTreeRegressor if task == "regression" else DecisionTreeClassifier
    trusted = tree(max_depth=6, min_samples_leaf=10, ccp_alpha=0.001, random_state=7)
    trusted.fit(data.train.X, data.train.y)

    fitted = fit_algorithm(TREE, data, task=task, hyperparameters={"ccp_alpha": 0.001})

    X = data.validation.X
    said = trusted.predict(X) if task == "regression" else trusted.predict_proba(X)
    assert (fitted.predictor.predict_raw(X) == (said[:, 1] if task == "binary" else said)).all()


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
def test_the_rules_as_python_answer_as_the_tree(task: Any) -> None:
    data = made_up_data(task, missing_share=0.1)
    data = replace(data, feature_names=("a", "b c", "town=Aa", "d'", "e"))

    fitted = fit_algorithm(TREE, data, task=task)

    rules: dict[str, Any] = {}
    exec(fitted.native["rules.py.txt"], rules)  # noqa: S102 it is what we wrote
    tree: Any = fitted.predictor
    rows = np.concatenate(
        [data.validation.X, awkward(data.train.X, tree.threshold.astype(np.float64), 1)]
    )
    said = [
        rules["answer"](dict(zip(data.feature_names, row, strict=True))) for row in rows.tolist()
    ]
    expected = fitted.predictor.predict_raw(rows)
    assert said == expected.tolist()


def test_the_rules_as_text_name_features_and_classes() -> None:
    X = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 0.0]] * 10)
    part = TrainingPart(X=X, y=(X[:, 0] > 2) * 1.0)
    data = TrainingData(
        train=part,
        validation=part,
        n_classes=2,
        feature_names=("tenure", "fee"),
        class_names=("stays", "leaves"),
    )

    text = fit_algorithm(TREE, data, task="binary").native["rules.txt"].decode()

    lines = text.splitlines()
    assert lines[0].startswith("if tenure < 2.5")
    assert lines[1] == "    → leaves 0.0%"
    assert lines[3] == "    → leaves 100.0%"


def test_rules_are_those_of_a_single_tree() -> None:
    forest: Any = fit_algorithm(
        FOREST, made_up_data("binary"), task="binary", hyperparameters={"rounds": 3}
    ).predictor

    for write in (rules_text, rules_python):
        with pytest.raises(InvalidInputError, match="made of 3 trees"):
            write(forest, names=["x"] * 5)


def test_pruning_cuts_back_what_noise_has_grown() -> None:
    rng = np.random.default_rng(0)
    data = made_up_data("regression")
    y = {
        name: rng.normal(size=len(part))
        for name, part in (("t", data.train), ("v", data.validation))
    }
    noise = replace(
        data,
        train=replace(data.train, y=y["t"]),
        validation=replace(data.validation, y=y["v"]),
    )

    sizes = {
        name: len(fit_algorithm(TREE, one, task="regression").predictor.arrays()["left"])
        for name, one in (("signal", data), ("noise", noise))
    }

    assert sizes["noise"] < sizes["signal"] / 3


def test_a_forest_stops_when_more_trees_do_not_help() -> None:
    fitted = fit_algorithm(
        FOREST,
        made_up_data("binary"),
        task="binary",
        hyperparameters={"rounds": 1_000, "early_stopping_rounds": 20},
    )

    assert fitted.best_iteration is not None
    assert fitted.best_iteration < 900
    assert len(fitted.predictor.arrays()["roots"]) == fitted.best_iteration


@pytest.mark.parametrize("task", ["regression", "binary"])
def test_a_row_twice_is_a_row_of_weight_two(task: Any) -> None:
    data = made_up_data(task)
    twice = np.arange(len(data.train)) % 3 == 0
    order = np.repeat(np.arange(len(data.train)), np.where(twice, 2, 1))
    doubled = replace(data, train=TrainingPart(X=data.train.X[order], y=data.train.y[order]))
    weighted = replace(data, train=replace(data.train, weight=np.where(twice, 2.0, 1.0)))
    settings = {"min_samples_leaf": 1, "ccp_alpha": 0.0, "max_depth": 4}

    said = [
        fit_algorithm(TREE, one, task=task, hyperparameters=settings).predictor.predict_raw(
            data.validation.X
        )
        for one in (doubled, weighted)
    ]

    assert said[0] == pytest.approx(said[1], rel=1e-9)


def test_a_criterion_of_the_other_kind_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="choose gini or entropy"):
        fit_algorithm(
            TREE, made_up_data("binary"), task="binary", hyperparameters={"criterion": "poisson"}
        )
