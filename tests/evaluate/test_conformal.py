"""Intervals hold the truth of new rows as often as they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loopwright.evaluate import fitted_interval
from loopwright.evaluate.residual import interval_reading, residual_reading


def rows(n: int, *, kind: str, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    said = rng.uniform(1, 10, n)
    noise = rng.standard_t(3, n) * 0.2
    if kind == "factor":
        return said * np.exp(noise), said
    if kind == "growing":
        return said - 5 + (0.2 + (said / 5) ** 3) * noise, said - 5
    return said + noise, said


@pytest.mark.parametrize("kind", ["even", "factor", "growing"])
@pytest.mark.parametrize("n", [40, 400])
def test_new_rows_lie_inside_as_often_as_is_said(kind: str, n: int) -> None:
    shares = []
    for seed in range(25):
        made, _ = fitted_interval(*rows(n, kind=kind, seed=seed), confidence=0.9, seed=seed)
        assert made is not None
        y, said = rows(2_000, kind=kind, seed=1_000 + seed)
        lower, upper = made.bounds(said)
        shares.append(np.mean((y >= lower) & (y <= upper)))

    assert np.mean(shares) == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize(
    ("kind", "scale", "follows"),
    [("factor", "logarithm", False), ("growing", "value", True), ("even", "value", False)],
)
def test_the_shape_follows_the_errors(kind: str, scale: str, follows: bool) -> None:
    made, reason = fitted_interval(*rows(3_000, kind=kind))

    assert made is not None
    assert (made.scale, bool(made.said)) == (scale, follows)
    assert "3,000 validation rows" in reason


def test_the_reach_is_the_score_of_its_rank() -> None:
    # 19 errors 1..19 at 0.9: rank ceil(20 * 0.9) = 18
    y = np.zeros(19)
    made, _ = fitted_interval(y, np.arange(1.0, 20.0) * np.array([1, -1] * 9 + [1]))

    assert made is not None
    assert made.reach == 18


def test_too_few_rows_make_no_interval_and_say_how_many_it_takes() -> None:
    made, reason = fitted_interval(np.arange(5.0), np.arange(5.0))

    assert made is None
    assert reason.endswith("it takes 9 at least")


def test_answers_that_are_all_right_make_an_interval_without_width() -> None:
    y = np.linspace(1, 2, 400)

    made, _ = fitted_interval(y, y)

    assert made is not None
    assert made.reach == 0


def test_coverage_is_read_by_level_too() -> None:
    y, said = rows(1_000, kind="even")
    made, _ = fitted_interval(y, said)
    assert made is not None

    found = interval_reading(made, *rows(1_000, kind="even", seed=5))

    assert found.coverage_lower <= found.coverage <= found.coverage_upper
    assert found.coverage == pytest.approx(np.mean([each.coverage for each in found.levels]))
    assert len(found.levels) == 10


def test_residuals_add_up_and_a_bias_shows() -> None:
    y, said = rows(1_000, kind="even")

    found = residual_reading(y, said - 0.5)

    assert sum(each.n_rows for each in found.bins) == 1_000
    assert found.bins[0].low == (y - said + 0.5).min()
    assert found.bias_lower <= found.bias <= found.bias_upper
    assert found.bias == pytest.approx(0.5, abs=0.05)
    assert found.share_too_high < 0.1
    assert residual_reading(np.ones(20), np.ones(20)).bias == 0
