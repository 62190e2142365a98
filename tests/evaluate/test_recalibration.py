"""Probabilities are measured, and repaired only where that helps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from loopwright.evaluate import recalibrated, reliability
from loopwright.evaluate.recalibration import (
    fitted_beta,
    fitted_isotonic,
    fitted_platt,
    fitted_temperature,
)


def rows(n: int, *, sharper: float = 1.0, seed: int = 0) -> tuple[Any, Any]:
    """Return truths, and probabilities that are `sharper` times too sure."""
    rng = np.random.default_rng(seed)
    score = rng.normal(-0.5, 1.5, n)
    y = (rng.random(n) < 1 / (1 + np.exp(-score))).astype(float)
    return y, 1 / (1 + np.exp(-sharper * score))


def two(p: Any) -> Any:
    return np.stack([1 - p, p], axis=1)


def test_platts_curve_is_that_of_a_logistic_regression() -> None:
    y, p = rows(3_000, sharper=2.0)

    found = fitted_platt(y, p)

    theirs = LogisticRegression(C=1e9).fit(np.log(p / (1 - p))[:, None], y)
    assert found is not None
    expected = (theirs.coef_[0, 0], theirs.intercept_[0])
    assert found.parameters == pytest.approx(expected, abs=0.005)
    assert found.parameters[0] == pytest.approx(0.5, abs=0.05)


def test_isotonic_points_lie_on_the_steps_of_scikit_learn() -> None:
    y, p = rows(4_000, sharper=0.5)

    found = fitted_isotonic(y, p)

    steps = IsotonicRegression().fit(p, y).predict(p)
    assert found is not None
    assert np.abs(found.applied(p) - steps).mean() < 0.02
    assert np.array_equal(np.argsort(found.applied(np.sort(p))), np.arange(len(p)))


@pytest.mark.parametrize("fit", [fitted_platt, fitted_beta, fitted_isotonic])
def test_a_ranking_turned_round_is_not_straightened(fit: Any) -> None:
    y, p = rows(2_000)

    found = fit(y, 1 - p)

    assert found is None or found.applied(np.array([0.1, 0.9]))[0] <= 0.9


@pytest.mark.parametrize("sharper", [0.5, 2.0])
def test_what_is_too_sure_or_too_shy_is_repaired(sharper: float) -> None:
    y, p = rows(2_000, sharper=sharper)
    fresh_y, fresh_p = rows(20_000, sharper=sharper, seed=9)

    found = recalibrated(y, p)

    assert found.calibration is not None
    before = reliability(fresh_y, two(fresh_p))
    after = reliability(fresh_y, two(found.calibration.applied(fresh_p)))
    assert before.ece > 0.05
    assert after.ece < 0.03
    assert after.log_loss < before.log_loss
    assert "2,000 validation rows" in found.reason


def test_what_is_right_is_left_alone() -> None:
    made = [recalibrated(*rows(600, seed=seed), seed=seed).calibration for seed in range(12)]

    assert sum(each is not None for each in made) <= 1


@pytest.mark.parametrize("n", [40, 99])
def test_too_few_rows_are_left_alone_and_it_is_said(n: int) -> None:
    y, p = rows(n, sharper=3.0)

    found = recalibrated(y, p)

    assert found.calibration is None
    assert "too few" in found.reason
    assert found.honest is p


def test_a_class_that_never_occurs_is_left_alone() -> None:
    assert recalibrated(np.zeros(500), np.full(500, 0.1)).calibration is None


def test_a_temperature_cools_several_classes() -> None:
    rng = np.random.default_rng(1)
    score = rng.normal(size=(3_000, 4))
    shares = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
    y = np.array([rng.choice(4, p=each) for each in shares], dtype=float)
    hot = shares**2 / (shares**2).sum(axis=1, keepdims=True)

    found = recalibrated(y, hot)

    assert found.calibration is not None
    assert found.calibration.method == "temperature"
    assert found.calibration.parameters[0] == pytest.approx(2.0, rel=0.1)
    assert np.array_equal(found.calibration.applied(hot).argmax(axis=1), hot.argmax(axis=1))
    assert fitted_temperature(y, hot) is not None


def test_honest_probabilities_are_of_maps_that_had_not_seen_the_row() -> None:
    y, p = rows(1_500, sharper=2.0)

    found = recalibrated(y, p)

    assert found.calibration is not None
    applied = found.calibration.applied(p)
    assert not np.array_equal(found.honest, applied)
    assert np.abs(found.honest - applied).max() < 0.1


def test_more_rows_than_are_used_are_said_and_all_repaired() -> None:
    y, p = rows(25_000, sharper=2.0)

    found = recalibrated(y, p)

    assert "20,000 of 25,000" in found.reason
    assert np.abs(found.honest - p).max() > 0.05
    assert (found.honest != p).mean() > 0.99


def test_brier_is_reliability_less_resolution_plus_uncertainty() -> None:
    # levels that are their own bins: the decomposition is exact
    rng = np.random.default_rng(2)
    p = rng.choice([0.1, 0.3, 0.6, 0.9], 4_000)
    y = (rng.random(4_000) < p).astype(float)

    found = reliability(y, two(p))

    assert found.brier == pytest.approx(((p - y) ** 2).mean())
    assert found.brier == pytest.approx(
        found.reliability - found.resolution + found.uncertainty, abs=1e-3
    )


def test_chance_is_taken_off_the_calibration_error() -> None:
    found = [reliability(y, two(p)) for y, p in (rows(500, seed=seed) for seed in range(15))]

    raw, ece = (np.mean([getattr(each, name) for each in found]) for name in ("ece_raw", "ece"))
    assert raw > 0.04
    assert ece < 0.75 * raw
    assert all(each.ece_lower <= each.ece <= each.ece_upper for each in found)
