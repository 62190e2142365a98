"""SHAP values of trees are those of the definition, and those that the libraries compute."""

from __future__ import annotations

from itertools import combinations
from math import factorial
from typing import Any

import lightgbm
import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier

from loopwright.core.errors import InvalidInputError
from loopwright.train.branches import Branches, branches_of
from loopwright.train.lightgbm_learner import exported_text
from loopwright.train.symmetric_predictor import SymmetricTreesPredictor
from loopwright.train.tree_shap import TreeShap
from loopwright.train.trees_predictor import TreesPredictor
from loopwright.train.xgboost_learner import exported_booster


def made_up(seed: int, n_rows: int = 600) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 6))
    X[:, 1] = np.round(X[:, 1])
    X[rng.random(X.shape) < 0.1] = np.nan
    filled = np.nan_to_num(X)
    return X, filled[:, 0] + filled[:, 1] ** 2 + filled[:, 2] * filled[:, 3] + rng.normal(
        size=n_rows
    )


def table(predictor: Any) -> Branches:
    branches = branches_of(predictor)
    assert branches is not None
    return branches


def explained(predictor: Any, seen: np.ndarray) -> TreeShap:
    branches = table(predictor)
    return TreeShap(branches, branches.counted(seen))


def test_values_are_those_of_lightgbm() -> None:
    X, y = made_up(0)
    booster = lightgbm.train(
        {"objective": "regression", "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5},
        lightgbm.Dataset(X, y),
        40,
    )

    shap = explained(exported_text(booster.model_to_string(), link="identity"), X)

    theirs = booster.predict(X[:200], pred_contrib=True)
    np.testing.assert_allclose(shap.values(X[:200])[:, :, 0], theirs[:, :-1], atol=1e-11)
    np.testing.assert_allclose(shap.base, theirs[0, -1:], atol=1e-11)


def test_values_of_every_class_are_those_of_lightgbm() -> None:
    X, y = made_up(1)
    labels = np.digitize(y, [0.0, 1.5])
    booster = lightgbm.train(
        {"objective": "multiclass", "num_class": 3, "verbosity": -1, "num_threads": 1},
        lightgbm.Dataset(X, labels),
        10,
    )

    shap = explained(exported_text(booster.model_to_string(), link="softmax"), X)

    theirs = booster.predict(X[:50], pred_contrib=True).reshape(50, 3, 7)
    np.testing.assert_allclose(
        shap.values(X[:50]), theirs[:, :, :-1].transpose(0, 2, 1), atol=1e-11
    )


def test_values_are_those_of_xgboost_up_to_its_32_bits() -> None:
    X, y = made_up(2)
    rows = xgboost.DMatrix(X, y)
    booster = xgboost.train({"max_depth": 5, "base_score": 0.5, "nthread": 1}, rows, 30)
    native = booster.predict(rows, output_margin=True)

    shap = explained(exported_booster(booster, link="identity", X=X, native=native), X)

    theirs = booster.predict(rows, pred_contribs=True)
    np.testing.assert_allclose(shap.values(X)[:, :, 0], theirs[:, :-1], atol=2e-4)


def test_base_and_values_add_up_to_the_score_of_a_forest_of_probabilities() -> None:
    from loopwright.train.sklearn_trees import exported_trees
    from loopwright.train.training_data import TrainingData, TrainingPart

    X, y = made_up(3)
    X = np.nan_to_num(X)
    labels = np.digitize(y, [0.0, 1.5]).astype(np.float64)
    forest = RandomForestClassifier(12, random_state=0, n_jobs=1).fit(X, labels)
    part = TrainingPart(X=X, y=labels)
    data = TrainingData(train=part, validation=part, n_classes=3)
    predictor = exported_trees(forest.estimators_, data, classes=forest.classes_, averaged=True)

    shap = explained(predictor, X)

    total = shap.base + shap.values(X[:40]).sum(axis=1)
    np.testing.assert_allclose(total, predictor.score(X[:40]), atol=1e-12)


@st.composite
def random_trees(draw: st.DrawFn) -> TreesPredictor:
    """Two trees of up to 4 levels over 3 features, so that features come back on a way."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    feature, left, right, threshold, value, roots = [], [], [], [], [], []

    def grow(depth: int) -> int:
        here = len(feature)
        for column in (feature, left, right, threshold, value):
            column.append(0)
        if depth == 0 or rng.random() < 0.2:
            left[here] = right[here] = here
            value[here] = rng.normal()
            return here
        feature[here], threshold[here] = rng.integers(3), rng.choice([-1.0, 0.0, 1.0])
        left[here] = grow(depth - 1)
        right[here] = grow(depth - 1)
        return here

    for _ in range(2):
        roots.append(grow(4))
    n_nodes = len(feature)
    return TreesPredictor(
        feature=np.array(feature, np.int32),
        left=np.array(left, np.int32),
        right=np.array(right, np.int32),
        threshold=np.array(threshold, np.float64),
        missing_left=rng.integers(0, 2, n_nodes).astype(np.uint8),
        zero_missing=np.zeros(n_nodes, np.uint8),
        value=np.array(value, np.float64),
        roots=np.array(roots, np.int32),
        outputs=np.zeros(2, np.int32),
        base=np.array([0.5]),
        comparison="<",
        n_features=3,
    )


def known_only(branches: Branches, cover: np.ndarray, x: np.ndarray, known: set[int]) -> float:
    """Return the score when only some features are known, by the definition."""

    def walk(node: int) -> float:
        left, right = int(branches.left[node]), int(branches.right[node])
        if left == node:
            return float(branches.value[node, 0])
        if int(branches.feature[node]) in known:
            value = x[branches.feature[node]]
            goes = branches.goes_left(np.array([node]), np.array([[value]]))[0, 0]
            return walk(left if goes else right)
        share = cover[left] / cover[node] if cover[node] else 0.5
        return share * walk(left) + (1 - share) * walk(right)

    return float(branches.base[0]) + sum(walk(int(root)) for root in branches.roots)


def by_definition(branches: Branches, cover: np.ndarray, x: np.ndarray) -> np.ndarray:
    n = branches.n_features
    values = np.zeros(n)
    for feature in range(n):
        others = [each for each in range(n) if each != feature]
        for size in range(n):
            weight = factorial(size) * factorial(n - size - 1) / factorial(n)
            for known in combinations(others, size):
                with_it = known_only(branches, cover, x, {*known, feature})
                values[feature] += weight * (with_it - known_only(branches, cover, x, {*known}))
    return values


@given(random_trees(), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_values_are_those_of_the_definition(predictor: TreesPredictor, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # few rows, so that some nodes are never reached
    seen = rng.choice([-1.5, -1.0, 0.0, 0.5, 2.0, np.nan], size=(6, 3))
    branches = table(predictor)
    cover = branches.counted(seen)
    rows = rng.choice([-1.5, -1.0, 0.0, 0.5, 2.0, np.nan], size=(7, 3))

    values = TreeShap(branches, cover).values(rows)[:, :, 0]

    np.testing.assert_allclose(
        values, [by_definition(branches, cover, row) for row in rows], atol=1e-12
    )


def test_symmetric_trees_are_explained_as_the_trees_they_are() -> None:
    predictor = SymmetricTreesPredictor(
        feature=np.array([0, 1, 0], np.int32),
        border=np.array([0.0, 1.0, 2.0], np.float32),
        missing_above=np.array([0, 1, 0], np.uint8),
        depths=np.array([2, 1], np.int32),
        value=np.array([[1.0], [2.0], [4.0], [8.0], [0.0], [100.0]]),
        base=np.array([10.0]),
        scale=0.5,
        n_features=2,
    )
    rng = np.random.default_rng(0)
    X = rng.choice([-1.0, 0.0, 0.5, 1.5, 3.0, np.nan], size=(30, 2))
    branches = table(predictor)
    cover = branches.counted(X)

    shap = TreeShap(branches, cover)

    np.testing.assert_allclose(
        shap.base + shap.values(X).sum(axis=1), predictor.score(X), atol=1e-12
    )
    np.testing.assert_allclose(shap.values(X)[0, :, 0], by_definition(branches, cover, X[0]))


def test_a_row_alone_has_the_values_it_has_among_many() -> None:
    X, y = made_up(4)
    booster = lightgbm.train(
        {"objective": "regression", "verbosity": -1, "num_threads": 1}, lightgbm.Dataset(X, y), 30
    )
    shap = explained(exported_text(booster.model_to_string(), link="identity"), X)

    alone = np.concatenate([shap.values(X[at : at + 1]) for at in range(5)])

    np.testing.assert_allclose(alone, shap.values(X)[:5], atol=1e-12)


def test_no_rows_have_no_values() -> None:
    X, y = made_up(4)
    booster = lightgbm.train(
        {"objective": "regression", "verbosity": -1, "num_threads": 1}, lightgbm.Dataset(X, y), 2
    )

    shap = explained(exported_text(booster.model_to_string(), link="identity"), X)

    assert shap.values(X[:0]).shape == (0, 6, 1)


def test_a_node_with_two_parents_is_refused() -> None:
    predictor = TreesPredictor(
        feature=np.zeros(3, np.int32),
        left=np.array([1, 2, 2], np.int32),
        right=np.array([2, 2, 2], np.int32),
        threshold=np.zeros(3),
        missing_left=np.zeros(3, np.uint8),
        zero_missing=np.zeros(3, np.uint8),
        value=np.zeros(3),
        roots=np.array([0], np.int32),
        outputs=np.array([0], np.int32),
        base=np.zeros(1),
        comparison="<",
        n_features=1,
    )

    with pytest.raises(InvalidInputError, match="two parents"):
        branches_of(predictor)
