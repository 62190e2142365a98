"""Whether the model goes by other columns: the measure, its null level, and what it says."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from loopwright.monitor.explanation_drift import explanation_drift, ndcg

COLUMNS = ("a", "b", "c", "d", "e")


def made_sizes(n: int, seed: int, scale: tuple[float, ...]) -> np.ndarray:
    return np.abs(np.random.default_rng(seed).normal(size=(n, len(scale)))) * np.array(scale)


@pytest.mark.parametrize("seed", range(5))
def test_the_measure_is_that_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before, now = rng.random(8), rng.random(8)

    assert ndcg(before, now) == pytest.approx(ndcg_score([before], [now]))


def test_rows_of_the_same_kind_rarely_move() -> None:
    moved = [
        found.has_moved
        for seed in range(0, 60, 2)
        if (
            found := explanation_drift(
                COLUMNS,
                made_sizes(300, seed, (5, 4, 3.9, 1, 0.9)),
                made_sizes(100, seed + 1, (5, 4, 3.9, 1, 0.9)),
            )
        )
    ]

    assert len(moved) == 30
    assert sum(moved) <= 1


def test_a_column_that_takes_over_is_named() -> None:
    before = made_sizes(300, 1, (5, 4, 3, 2, 1))
    now = made_sizes(300, 2, (5, 4, 3, 2, 12))

    found = explanation_drift(COLUMNS, before, now)

    assert found is not None
    assert found.has_moved
    assert found.ndcg < found.null
    assert found.columns[0].column == "e"
    assert found.columns[0].now > 0.4
    assert "e makes 7% of the influence before" in found.message


def test_a_few_rows_say_nothing() -> None:
    sizes = made_sizes(300, 3, (5, 4, 3, 2, 1))

    assert explanation_drift(COLUMNS, sizes, sizes[:49]) is None
    assert explanation_drift(COLUMNS, np.zeros((0, 5)), sizes) is None


def test_a_model_that_goes_by_nothing_has_not_moved() -> None:
    nothing = np.zeros((100, 5))

    found = explanation_drift(COLUMNS, nothing, nothing)

    assert found is not None
    assert found.ndcg == 1.0
    assert not found.has_moved
