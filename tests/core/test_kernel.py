from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.kernel import find_kernel
from loopwright.train.knn_predictor import KnnPredictor
from loopwright.train.linear_predictor import LinearPredictor
from loopwright.train.link import linked
from loopwright.train.trees_predictor import TreesPredictor

kernel: Any = find_kernel()
pytestmark = pytest.mark.skipif(kernel is None, reason="the kernel was not built")


@pytest.fixture
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LOOPWRIGHT_KERNEL", "off")
    find_kernel.cache_clear()
    yield
    monkeypatch.undo()
    find_kernel.cache_clear()


def without_kernel(make: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOPWRIGHT_KERNEL", "off")
        find_kernel.cache_clear()
        made = make()
    find_kernel.cache_clear()
    return made


def random_trees(
    rng: np.random.Generator,
    *,
    types: tuple[str, str],
    comparison: str,
    n_outputs: int,
    all_outputs: bool,
    averaged: bool,
) -> dict[str, Any]:
    """Return the parts of trees of many shapes, with splits that rows fall on exactly."""
    n_features, n_trees = 5, int(rng.integers(1, 20))
    columns: dict[str, list[Any]] = {name: [] for name in ("feature", "left", "right", "leaf")}
    roots = []
    for _ in range(n_trees):
        first = len(columns["left"])
        roots.append(first)
        waiting = 1
        while waiting:
            here = len(columns["left"])
            splits = rng.random() < 0.7 and here - first < 60
            below = here + waiting
            columns["left"].append(below if splits else here)
            columns["right"].append(below + 1 if splits else here)
            columns["feature"].append(int(rng.integers(n_features)))
            columns["leaf"].append(not splits)
            waiting += 1 if splits else -1
    n = len(columns["left"])
    value = rng.normal(size=(n, n_outputs) if all_outputs else n)
    return {
        "feature": np.array(columns["feature"], dtype=np.int32),
        "left": np.array(columns["left"], dtype=np.int32),
        "right": np.array(columns["right"], dtype=np.int32),
        "threshold": rng.choice([-1.5, 0.0, 0.1, 1e-40, 2.0], n).astype(types[0]),
        "missing_left": rng.integers(0, 2, n).astype(np.uint8),
        "zero_missing": (rng.random(n) < 0.2).astype(np.uint8),
        "value": value.astype(types[1]),
        "roots": np.array(roots, dtype=np.int32),
        "outputs": (np.arange(n_trees) % n_outputs).astype(np.int32),
        "base": rng.normal(size=n_outputs).astype(types[1]),
        "comparison": comparison,
        "n_features": n_features,
        "averaged": averaged,
    }


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    types=st.sampled_from([("float32", "float32"), ("float64", "float64"), ("float32", "float64")]),
    comparison=st.sampled_from(["<", "<="]),
    n_outputs=st.integers(1, 3),
    all_outputs=st.booleans(),
    averaged=st.booleans(),
    n_rows=st.sampled_from([0, 1, 7, 8, 33, 100]),
)
def test_trees_are_added_up_as_numpy_does_to_the_last_bit(
    seed: int,
    types: tuple[str, str],
    comparison: str,
    n_outputs: int,
    all_outputs: bool,
    averaged: bool,
    n_rows: int,
) -> None:
    rng = np.random.default_rng(seed)
    parts = random_trees(
        rng,
        types=types,
        comparison=comparison,
        n_outputs=n_outputs,
        all_outputs=all_outputs,
        averaged=averaged,
    )
    special = [0.0, -0.0, np.nan, 1e-36, 1e39, -1e300, 0.1, float(np.float32(0.1)), 2.0, np.inf]
    X = np.where(
        rng.random((n_rows, 5)) < 0.5,
        rng.choice(special, (n_rows, 5)),
        rng.normal(size=(n_rows, 5)),
    )

    compiled = TreesPredictor(**parts).score(X)
    plain = without_kernel(lambda: TreesPredictor(**parts)).score(X)

    assert compiled.tobytes() == plain.tobytes()


@settings(max_examples=40, deadline=None)
@given(
    n_features=st.integers(1, 20) | st.sampled_from([127, 128, 129, 136, 137, 257, 1_025]),
    n_outputs=st.integers(1, 3),
    seed=st.integers(0, 1_000),
)
def test_weighted_sums_are_those_of_numpy_to_the_last_bit(
    n_features: int, n_outputs: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(9, n_features)) * 10 ** rng.uniform(-9, 9, size=(9, n_features))
    X[rng.random(X.shape) < 0.1] = np.nan
    X[rng.random(X.shape) < 0.02] = 1e200
    parts = {
        "coefficients": rng.normal(size=(n_outputs, n_features)),
        "intercepts": rng.normal(size=n_outputs),
    }

    compiled = LinearPredictor(**parts).score(X)
    plain = without_kernel(lambda: LinearPredictor(**parts)).score(X)

    assert compiled.tobytes() == plain.tobytes()


@pytest.mark.parametrize("link", ["exp", "sigmoid", "softmax"])
def test_links_are_those_of_numpy_up_to_the_last_bit(link: Any, no_kernel: None) -> None:
    del no_kernel
    scores = np.random.default_rng(0).normal(size=(2_000, 3)) * 50
    scores[:4] = [[0.0, -0.0, 0.0], [1e308, 1e308, -1e300], [800, 0, 0], [-800, -900, -700]]

    plain = linked(scores, link)
    compiled = scores.copy()
    kernel.linked(compiled, link, 3)

    np.testing.assert_allclose(compiled, plain, rtol=1e-15, atol=1e-300)


def trees_arguments(**changes: Any) -> dict[str, Any]:
    whole = np.zeros(3, dtype=np.int32)
    given = {
        "feature": whole,
        "left": np.array([1, 1, 2], dtype=np.int32),
        "right": np.array([2, 1, 2], dtype=np.int32),
        "threshold": np.zeros(3),
        "missing_left": np.zeros(3, dtype=np.uint8),
        "zero_missing": np.zeros(3, dtype=np.uint8),
        "value": np.ones(3),
        "roots": whole[:1],
        "outputs": whole[:1],
        "base": np.zeros(1),
        "n_features": 1,
        "single_sums": False,
        "single_features": False,
        "or_equal": False,
        "averaged": False,
    }
    return {**given, **changes}


@pytest.mark.parametrize(
    "change",
    [
        {"left": np.array([3, 1, 2], dtype=np.int32)},
        {"left": np.array([-1, 1, 2], dtype=np.int32)},
        {"left": np.array([0, 1, 2], dtype=np.int32)},
        {"right": np.array([2, 0, 2], dtype=np.int32)},
        {"feature": np.array([0, 1, 0], dtype=np.int32)},
        {"roots": np.array([3], dtype=np.int32)},
        {"outputs": np.array([1], dtype=np.int32)},
        {"outputs": np.zeros(2, dtype=np.int32)},
        {"threshold": np.zeros(2)},
        {"threshold": np.zeros(3, dtype=np.float32)},
        {"value": np.ones(4)},
        {"base": np.zeros(0)},
        {"roots": np.zeros(0, dtype=np.int32), "outputs": np.zeros(0, dtype=np.int32)},
        {"feature": "abc"},
        {"left": np.array([1, 1, 1, 1, 2, 2], dtype=np.int32)[::2]},
    ],
    ids=lambda change: "-".join(change),
)
def test_arrays_that_would_be_read_outside_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError, BufferError)):
        kernel.Trees(**trees_arguments(**change))


def test_scores_of_another_shape_or_type_are_refused() -> None:
    trees = kernel.Trees(**trees_arguments())
    linear = kernel.Linear(coefficients=np.ones((1, 2)), intercepts=np.ones(1))

    for wrong in (
        (np.zeros((2, 1)), np.zeros(1)),
        (np.zeros((2, 1), dtype=np.float32), np.zeros(2)),
        (np.zeros((2, 1)), np.zeros(2, dtype=np.int64)),
        (np.zeros((2, 1)), b"0" * 16),
    ):
        with pytest.raises((ValueError, TypeError, BufferError)):
            trees.score(*wrong)
    with pytest.raises(ValueError, match="no whole rows"):
        linear.score(np.zeros(3), np.zeros(1))
    with pytest.raises(ValueError, match="no link"):
        kernel.linked(np.zeros(2), "cube", 1)


@pytest.mark.parametrize(
    "change",
    [
        {"features": [5]},
        {"features": [-1]},
        {"fields": [("x", "n", True, float, 9, None)]},
        {"instructions": [("s", 1, 7, 1, None, None, 0.0, 1.0)]},
        {"instructions": [("h", 1, 1, 3, {}, None, 0.0, 1.0)]},
        {"instructions": [("l", 1, 1, 1, [], None, 0.0, 1.0)]},
        {"instructions": [("c", 0, 0, 1, 5, None, 0.0, 1.0)]},
        {"instructions": [("?", 1, 1, 1, None, None, 0.0, 1.0)]},
        {"n_registers": 0},
    ],
    ids=str,
)
def test_a_plan_of_rows_that_leaves_its_registers_is_refused(change: dict[str, Any]) -> None:
    plan: dict[str, Any] = {
        "fields": [("x", "n", True, float, 1, None)],
        "instructions": [],
        "features": [1],
        "n_registers": 3,
        "refuses_unknown": False,
        "target": None,
    }

    with pytest.raises((ValueError, TypeError)):
        kernel.Rows(**{**plan, **change})


def test_a_check_that_changes_its_own_rows_does_no_harm() -> None:
    rows: list[Any] = [{"x": "a", "y": "b"}, {"x": "c"}]

    def greedy(value: Any) -> float:
        for row in rows:
            if isinstance(row, dict):
                row.clear()
        rows.clear()
        return 1.0

    made = kernel.Rows(
        fields=[("x", "n", True, greedy, 1, None), ("y", "n", True, greedy, 2, None)],
        instructions=[("c", 0, 0, 1, lambda registers: registers.clear(), None, 0.0, 0.0)],
        features=[1, 2],
        n_registers=3,
        refuses_unknown=False,
        target=None,
    )

    assert made.read(rows, None, np.zeros((2, 2))) == 0


@settings(max_examples=40, deadline=None)
@given(
    n_points=st.integers(1, 200),
    n_features=st.sampled_from([1, 2, 7, 8, 16, 17, 33, 130]),
    n_neighbors=st.integers(1, 20),
    weighting=st.sampled_from(["uniform", "distance"]),
    seed=st.integers(0, 1_000),
)
def test_the_nearest_points_are_those_of_numpy_to_the_last_bit(
    n_points: int, n_features: int, n_neighbors: int, weighting: Any, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    # few different values, so that many points are equally near
    points = rng.choice(
        [-1.0, 0.0, 0.1, 1e50], size=(n_points, n_features), p=[0.3, 0.3, 0.39, 0.01]
    )
    X = np.concatenate([rng.choice([-1.0, 0.0, 0.1, np.nan], size=(5, n_features)), points[:2]])
    parts = {
        "points": points,
        "values": rng.normal(size=(n_points, 2)),
        "weights": rng.uniform(0.5, 2.0, n_points),
        "n_neighbors": n_neighbors,
        "weighting": weighting,
    }

    compiled = KnnPredictor(**parts)
    plain = without_kernel(lambda: KnnPredictor(**parts))

    for mine, theirs in zip(
        compiled.neighbors(X, n_neighbors), plain.neighbors(X, n_neighbors), strict=True
    ):
        assert mine.tobytes() == theirs.tobytes()
    assert compiled.score(X).tobytes() == plain.score(X).tobytes()


@pytest.mark.parametrize("span", [(0, 4, 1), (-1, 3, 1), (0, 3, 4), (0, 3, 0), (2, 1, 1)], ids=str)
def test_points_that_are_not_there_are_refused(span: tuple[int, int, int]) -> None:
    made = kernel.Points(points=np.zeros((3, 2)), n_features=2)
    places, squared = np.zeros((1, span[2]), dtype=np.int64), np.zeros((1, span[2]))

    with pytest.raises(ValueError, match="not so many points"):
        made.nearest(np.zeros((1, 2)), *span, places, squared)
    with pytest.raises(ValueError, match="no whole rows"):
        kernel.Points(points=np.zeros(3), n_features=2)


@pytest.mark.parametrize("comparison", ["<", "<="])
def test_trees_too_large_to_be_packed_give_the_same_scores(comparison: str) -> None:
    rng = np.random.default_rng(2)
    n_splits = 2**16 - 1
    n = 2 * n_splits + 1
    here = np.arange(n, dtype=np.int32)
    splits = here < n_splits
    parts: dict[str, Any] = {
        "feature": rng.integers(0, 5, n).astype(np.int32),
        "left": np.where(splits, 2 * here + 1, here).astype(np.int32),
        "right": np.where(splits, 2 * here + 2, here).astype(np.int32),
        "threshold": rng.normal(size=n).round(2),
        "missing_left": rng.integers(0, 2, n).astype(np.uint8),
        "zero_missing": rng.integers(0, 2, n).astype(np.uint8),
        "value": rng.normal(size=n),
        "roots": np.zeros(1, dtype=np.int32),
        "outputs": np.zeros(1, dtype=np.int32),
        "base": np.zeros(1),
        "comparison": comparison,
        "n_features": 5,
    }
    X = rng.normal(size=(50, 5)).round(2)
    X[rng.random(X.shape) < 0.2] = np.nan

    found = TreesPredictor(**parts).score(X)
    expected = without_kernel(lambda: TreesPredictor(**parts)).score(X)

    assert found.tobytes() == expected.tobytes()
