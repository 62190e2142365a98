"""Nearest neighbours are exact, whatever number of rows is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

import loopwright.train.knn_predictor as module
from loopwright.core.errors import InvalidInputError
from loopwright.train.knn_predictor import KnnPredictor


def line(**changes: Any) -> KnnPredictor:
    """Four points on a line: 0, 1, 2 and 10, worth 0, 10, 20 and 100."""
    parts: dict[str, Any] = {
        "points": np.array([[0.0], [1.0], [2.0], [10.0]]),
        "values": np.array([[0.0], [10.0], [20.0], [100.0]]),
        "weights": np.ones(4),
        "n_neighbors": 2,
    }
    return KnnPredictor(**{**parts, **changes})


def test_the_nearest_values_are_averaged() -> None:
    assert line().predict_raw(np.array([[1.6], [9.0]])).tolist() == [15.0, 60.0]


def test_nearer_rows_count_more_by_distance() -> None:
    # 4 is 2 from the point 2 (worth 20) and 3 from 1 (worth 10): (20/2 + 10/3) / (1/2 + 1/3) = 16
    answer = line(weighting="distance").predict_raw(np.array([[4.0]]))

    assert answer == pytest.approx([16.0])


def test_a_row_that_was_seen_gets_its_own_value_by_distance() -> None:
    assert line(weighting="distance").predict_raw(np.array([[1.0]])).tolist() == [10.0]


def test_heavy_rows_count_more() -> None:
    weights = np.array([1.0, 3.0, 1.0, 1.0])

    assert line(weights=weights).predict_raw(np.array([[0.5]])).tolist() == [7.5]


def test_of_equally_near_rows_the_earlier_count() -> None:
    same = line(points=np.zeros((4, 1)))

    assert same.predict_raw(np.array([[5.0]])).tolist() == [5.0]


def test_more_neighbors_than_rows_means_all_rows() -> None:
    assert line(n_neighbors=100).predict_raw(np.array([[3.0]])).tolist() == [32.5]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_features=st.integers(1, 12),
    k=st.integers(1, 30),
    offset=st.sampled_from([0.0, 1e3, 1e6]),
    weighting=st.sampled_from(["uniform", "distance"]),
)
def test_answers_agree_with_scikit_learn(
    seed: int, n_features: int, k: int, offset: float, weighting: Any
) -> None:
    rng = np.random.default_rng(seed)
    points = offset + rng.normal(size=(200, n_features))
    y = rng.normal(size=200)
    rows = np.concatenate([offset + rng.normal(size=(40, n_features)), points[:10]])
    trusted = KNeighborsRegressor(k, weights=weighting, algorithm="kd_tree").fit(points, y)

    ours = KnnPredictor(
        points=points,
        values=y[:, None],
        weights=np.ones(200),
        n_neighbors=k,
        weighting=weighting,
    )

    assert ours.predict_raw(rows) == pytest.approx(trusted.predict(rows), rel=1e-9, abs=1e-9)


def test_class_shares_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(5)
    points, y = rng.normal(size=(300, 4)), rng.integers(0, 3, size=300)
    rows = rng.normal(size=(50, 4))
    trusted = KNeighborsClassifier(9).fit(points, y).predict_proba(rows)

    ours = KnnPredictor(
        points=points, values=np.eye(3)[y], weights=np.ones(300), n_neighbors=9
    ).predict_raw(rows)

    assert ours == pytest.approx(trusted)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_rows=st.integers(1, 60),
    scale=st.sampled_from([1.0, 1e-8, 1e8]),
    grid=st.booleans(),
)
def test_rows_are_answered_alone_as_together(
    seed: int, n_rows: int, scale: float, grid: bool
) -> None:
    rng = np.random.default_rng(seed)
    points, rows = rng.normal(size=(150, 6)), rng.normal(size=(n_rows, 6))
    if grid:  # many distances are equal
        points, rows = np.round(points), np.round(rows)
    predictor = KnnPredictor(
        points=points * scale,
        values=rng.normal(size=(150, 1)),
        weights=rng.random(150) + 0.1,
        n_neighbors=7,
        weighting="distance",
    )

    together = predictor.predict_raw(rows * scale)

    alone = [predictor.predict_raw(rows[i : i + 1] * scale)[0] for i in range(n_rows)]
    assert alone == together.tolist()


def test_small_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    predictor = KnnPredictor(
        points=rng.normal(size=(80, 3)),
        values=rng.normal(size=(80, 1)),
        weights=np.ones(80),
        n_neighbors=5,
    )
    rows = rng.normal(size=(33, 3))
    before = predictor.predict_raw(rows)

    monkeypatch.setattr(module, "_CHUNK_DISTANCES", 100)

    assert (predictor.predict_raw(rows) == before).all()


def test_missing_and_huge_features_still_get_an_answer() -> None:
    # seen from so far away, all points are equally near
    answers = line().predict_raw(np.array([[np.nan], [1e6], [1e308], [-np.inf]]))

    assert answers.tolist() == [5.0, 60.0, 5.0, 5.0]


HOSTILE: dict[str, dict[str, Any]] = {
    "no points": {"points": np.empty((0, 1)), "values": np.empty((0, 1)), "weights": np.empty(0)},
    "values of another length": {"values": np.zeros((3, 1))},
    "a weight of zero": {"weights": np.array([1.0, 0.0, 1.0, 1.0])},
    "a point that is not a number": {"points": np.full((4, 1), np.nan)},
    "points in 32 bits": {"points": np.zeros((4, 1), np.float32)},
    "no neighbors": {"n_neighbors": 0},
    "countless neighbors": {"n_neighbors": 10**9},
    "neighbors that are no number": {"n_neighbors": "5"},
    "an unknown weighting": {"weighting": "gravity"},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_makes_no_sense_is_refused(case: str) -> None:
    with pytest.raises(InvalidInputError):
        line(**HOSTILE[case])
