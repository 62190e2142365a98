"""An index finds what it looks at, in any order of rows, and tells what it misses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.testing.algorithm import made_up_data
from loopwright.train import TrainingData, TrainingPart, fit_algorithm, get_algorithm
from loopwright.train.inverted_index import InvertedIndex, built_index
from loopwright.train.knn_predictor import KnnPredictor
from loopwright.train.predictor_file import (
    ARRAYS_MEMBER,
    META_MEMBER,
    open_predictor,
    pack_predictor,
)

KNN = get_algorithm("knn")


def indexed(
    points: np.ndarray, *, n_lists: int, n_probes: int, k: int, weighting: Any = "distance"
) -> tuple[KnnPredictor, KnnPredictor]:
    """Return a predictor that looks at all points, and one that looks at lists of them."""
    values = np.random.default_rng(1).normal(size=(len(points), 1))
    exact = KnnPredictor(
        points=points,
        values=values,
        weights=np.ones(len(points)),
        n_neighbors=k,
        weighting=weighting,
    )
    index, order = built_index(points, n_lists=n_lists, n_probes=n_probes, seed=3)
    return exact, replace(exact, points=points[order], values=values[order], index=index)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1_000),
    n_lists=st.integers(1, 20),
    k=st.integers(1, 12),
    grid=st.booleans(),
)
def test_looking_at_all_lists_is_exact(seed: int, n_lists: int, k: int, grid: bool) -> None:
    rng = np.random.default_rng(seed)
    points, rows = rng.normal(size=(120, 3)), rng.normal(size=(30, 3))
    if grid:  # many distances are equal
        points, rows = np.round(points), np.round(rows)

    exact, other = indexed(points, n_lists=n_lists, n_probes=n_lists, k=k)

    assert (exact.predict_raw(rows) == other.predict_raw(rows)).all()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1_000),
    n_rows=st.integers(1, 40),
    n_probes=st.integers(1, 6),
    k=st.integers(1, 60),
    grid=st.booleans(),
)
def test_rows_are_answered_alone_as_together(
    seed: int, n_rows: int, n_probes: int, k: int, grid: bool
) -> None:
    rng = np.random.default_rng(seed)
    points, rows = rng.normal(size=(150, 4)), rng.normal(size=(n_rows, 4))
    if grid:
        points, rows = np.round(points), np.round(rows)
    predictor = indexed(points, n_lists=12, n_probes=n_probes, k=k)[1]

    together = predictor.predict_raw(rows)

    alone = [predictor.predict_raw(rows[i : i + 1])[0] for i in range(n_rows)]
    assert alone == together.tolist()


def test_many_rows_are_learned_with_the_recall_that_is_asked_for() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6_300, 5))
    y = X[:, 0] * 2 + X[:, 1]
    data = TrainingData(
        train=TrainingPart(X=X[:6_000], y=y[:6_000]),
        validation=TrainingPart(X=X[6_000:], y=y[6_000:]),
    )
    curve: dict[str, float] = {}

    fitted = fit_algorithm(
        KNN,
        data,
        task="regression",
        hyperparameters={"index": "inverted", "k": 8, "recall": 0.95},
        on_metric=lambda _, name, value: curve.update({name: value}),
    )

    exact = fit_algorithm(
        KNN,
        data,
        task="regression",
        hyperparameters={"k": 8, "weighting": fitted.hyperparameters["weighting"]},
    )
    predictor: Any = fitted.predictor
    truth: Any = exact.predictor
    held_out = data.validation.X
    found = predictor.neighbors(held_out, 8)[1] <= truth.neighbors(held_out, 8)[1][:, -1:]
    assert found.mean() == pytest.approx(curve["validation:recall"], abs=0.03)
    assert curve["validation:recall"] >= 0.95
    assert 1 <= fitted.hyperparameters["n_probes"] < fitted.hyperparameters["n_lists"] == 77
    assert exact.hyperparameters["index"] == "exact"


def test_an_index_is_stored_and_opened() -> None:
    data = made_up_data("binary")
    fitted = fit_algorithm(
        KNN, data, task="binary", hyperparameters={"index": "inverted", "n_lists": 20}
    )

    files = pack_predictor(fitted.predictor)
    opened: Any = open_predictor(files[ARRAYS_MEMBER], files[META_MEMBER])

    X = data.validation.X
    assert (opened.predict_raw(X) == fitted.predictor.predict_raw(X)).all()
    assert opened.index.recall == fitted.predictor.index.recall  # type: ignore[attr-defined]


GOOD: dict[str, Any] = {
    "centroids": np.zeros((2, 3)),
    "starts": np.array([0, 1, 4]),
    "places": np.arange(4),
    "n_probes": 1,
}
HOSTILE: dict[str, dict[str, Any]] = {
    "lists that fall": {"starts": np.array([0, 5, 4])},
    "lists before the first point": {"starts": np.array([-1, 1, 4])},
    "lists beyond the last point": {"starts": np.array([0, 1, 5])},
    "a list too many": {"starts": np.array([0, 1, 2, 4])},
    "no probes": {"n_probes": 0},
    "more probes than lists": {"n_probes": 3},
    "a centre that is not a number": {"centroids": np.full((2, 3), np.nan)},
    "places in floats": {"places": np.zeros(4)},
    "a recall above 1": {"recall": 2},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_an_index_that_makes_no_sense_is_refused(case: str) -> None:
    with pytest.raises(InvalidInputError, match="index of the nearest-neighbour model"):
        InvertedIndex(**{**GOOD, **HOSTILE[case]})


def test_an_index_of_other_points_is_refused() -> None:
    points = np.zeros((5, 3))

    with pytest.raises(InvalidInputError, match="one of other points"):
        KnnPredictor(
            points=points,
            values=np.zeros((5, 1)),
            weights=np.ones(5),
            n_neighbors=1,
            index=InvertedIndex(**GOOD),
        )
