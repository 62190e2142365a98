"""The table finds the very places that a binary search finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.monitor.lookup import places

EDGES = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=32)


@settings(max_examples=60, deadline=None)
@given(edges=EDGES, seed=st.integers(0, 1_000))
def test_the_places_are_those_of_a_search(edges: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    at = np.unique(np.array(edges))
    with np.errstate(over="ignore"):
        near = np.concatenate([at, np.nextafter(at, np.inf), np.nextafter(at, -np.inf)])
        between = rng.choice(at, 6_000) * rng.random(6_000) + rng.choice(at, 6_000) / 2
    numbers = np.concatenate([rng.choice(near, 6_000), between, [np.inf, -np.inf, 0.0]])

    assert (places(at, numbers) == np.searchsorted(at, numbers, side="left")).all()


@pytest.mark.parametrize("n", [0, 1, 9_999, 10_000, 16_384, 16_385, 40_000])
def test_any_number_of_values_is_placed(n: int) -> None:
    rng = np.random.default_rng(n)
    edges, numbers = np.sort(rng.lognormal(size=31)), rng.lognormal(size=n)

    assert (places(edges, numbers) == np.searchsorted(edges, numbers, side="left")).all()


def test_a_missing_value_does_no_harm() -> None:
    numbers = np.full(20_000, np.nan)
    numbers[::2] = 0.5

    assert (places(np.array([0.0, 1.0]), numbers)[::2] == 1).all()
