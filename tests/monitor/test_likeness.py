"""How unlike live rows are as a whole, and whether the weights make reference rows like them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from loopwright.monitor.likeness import area, likeness

ORDERED = np.array([True, True])


def made_codes(n: int, seed: int, tilt: float = 0.0) -> np.ndarray:
    """Two columns of 20 bins; the density of the first is tilted."""
    rng = np.random.default_rng(seed)
    p = np.exp(tilt * np.linspace(-1, 1, 20))
    first = rng.choice(20, n, p=p / p.sum())
    return np.stack([first, rng.integers(0, 20, n)], axis=1).astype(np.uint8)


def test_rows_like_the_reference_all_weigh_the_same() -> None:
    found = likeness(made_codes(1_500, 1), made_codes(1_500, 2), ordered=ORDERED)

    assert not found.has_moved
    assert (found.weights == 1).all()
    assert found.n_effective == 1_500


def test_weights_follow_the_ratio_of_the_densities() -> None:
    reference, live = made_codes(3_000, 3), made_codes(3_000, 4, tilt=1.0)

    found = likeness(reference, live, ordered=ORDERED)

    p = np.exp(np.linspace(-1, 1, 20))
    truth = (p / p.mean())[reference[:, 0]]
    assert np.corrcoef(found.weights, truth)[0, 1] > 0.95
    weighted = np.average(reference[:, 0], weights=found.weights)
    assert weighted == pytest.approx(live[:, 0].mean(), abs=0.5)
    assert 0.6 < found.told_apart < 0.75
    assert found.n_effective < 3_000


def test_rows_with_nothing_in_common_are_told_apart() -> None:
    low, high = made_codes(500, 5) % 10, made_codes(500, 6) % 10 + 10

    found = likeness(low.astype(np.uint8), high.astype(np.uint8), ordered=ORDERED)

    assert found.told_apart > 0.99


@pytest.mark.parametrize("seed", range(3))
def test_the_area_is_that_of_scikit_learn_ties_included(seed: int) -> None:
    rng = np.random.default_rng(seed)
    above, below = rng.integers(0, 9, 80) + 1.0, rng.integers(0, 9, 120) * 1.0

    found = area(above, below)

    y = np.concatenate([np.ones(80), np.zeros(120)])
    assert found == pytest.approx(roc_auc_score(y, np.concatenate([above, below])))
