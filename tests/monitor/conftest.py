"""House sales as the monitor sees them: made up, seeded, with the habits of the real table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from loopwright.monitor import Reference, build_reference

KINDS = {
    "sqft": "number",
    "bedrooms": "number",
    "waterfront": "number",
    "zipcode": "category",
    "renovated": "boolean",
    "remark": "text",
    "sold": "date",
}


def make_houses(n: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    size = rng.normal(size=n)
    waterfront = (rng.random(n) < 0.01).astype(float)
    waterfront[rng.random(n) < 0.1] = np.nan
    day = rng.integers(0, 365, n)
    return pl.DataFrame(
        {
            "sqft": np.round(2000 * np.exp(0.4 * size)),
            "bedrooms": np.clip(np.round(3 + size + rng.normal(size=n)), 1, 8),
            "waterfront": waterfront,
            "zipcode": 98001 + np.minimum(rng.geometric(0.06, n), 70),
            "renovated": rng.random(n) < 0.2,
            "remark": ["x" * int(k) for k in rng.integers(5, 60, n)],
            "sold": [f"{1 + d % 12}/{1 + d % 28}/2014" for d in day],
        }
    )


def make_predictions(houses: pl.DataFrame, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=houses.height)
    return houses["sqft"].to_numpy() * 250 * np.exp(0.2 * noise)


def make_losses(n: int, seed: int, scale: float = 0.13) -> np.ndarray:
    return np.abs(np.random.default_rng(seed).normal(size=n)) * scale


@pytest.fixture
def houses() -> Callable[[int, int], pl.DataFrame]:
    return make_houses


@pytest.fixture
def predicted() -> Callable[[pl.DataFrame, int], np.ndarray]:
    return make_predictions


@pytest.fixture
def losses() -> Callable[..., np.ndarray]:
    return make_losses


@pytest.fixture(scope="session")
def reference() -> Reference:
    rows = make_houses(6_000, 1)
    return build_reference(rows, make_predictions(rows, 2), make_losses(3_000, 3), KINDS)


@pytest.fixture(scope="session")
def small_reference() -> Reference:
    rows = make_houses(1_000, 4)
    return build_reference(rows, make_predictions(rows, 5), make_losses(1_000, 6), KINDS)
