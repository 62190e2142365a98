"""A sketch of the quantiles of a column, as `statistics.json` holds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

K = 2048
C = 0.64
_BUCKETS = 10


def sketch(values: np.ndarray) -> dict[str, Any]:
    """Return the KLL sketch of finite values and ten buckets of equal width.

    Up to 2,048 values are kept as they are. Beyond that, every level keeps half of the values that
    do not fit, those at odd and at even places in turn, and hands them to the next level, where
    each stands for twice as many: Karnin, Lang and Liberty, "Optimal Quantile Approximation in
    Streams", FOCS 2016. The same values make the same sketch.
    """
    return {
        "buckets": _buckets(values),
        "sketch": {
            "parameters": {"c": C, "k": float(K)},
            "data": [level.tolist() for level in _levels(np.asarray(values, dtype=float))],
        },
    }


def _levels(values: np.ndarray) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    level, odd = values, 0
    ordered = np.sort(level)
    while len(level) > K:
        # one that has no partner stays where it is
        kept, ordered = (ordered[-1:], ordered[:-1]) if len(ordered) % 2 else (level[:0], ordered)
        found.append(kept)
        # every other one of what is in order is in order
        level = ordered = ordered[odd::2]
        odd = 1 - odd
    return [*found, ordered]


def _buckets(values: np.ndarray) -> list[dict[str, float]]:
    if not len(values):
        return []
    low, high = float(values.min()), float(values.max())
    edges = np.linspace(low, high, _BUCKETS + 1)
    places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, _BUCKETS - 1)
    counts = np.bincount(places, minlength=_BUCKETS)
    return [
        {
            "lower_bound": float(edges[number]),
            "upper_bound": float(edges[number + 1]),
            "count": float(count),
        }
        for number, count in enumerate(counts)
    ]


def distance(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> float:
    """Return the largest difference between the distribution functions of two sketches' data."""
    (a, weights_a), (b, weights_b) = _weighted(one), _weighted(other)
    if not len(a) or not len(b):
        return 0.0
    points = np.concatenate([a, b])
    return float(np.abs(_below(a, weights_a, points) - _below(b, weights_b, points)).max())


def n_values(data: Sequence[Sequence[float]]) -> int:
    """Return how many values a sketch stands for."""
    return sum(len(level) << number for number, level in enumerate(data))


def _weighted(data: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    values = np.array([each for level in data for each in level], dtype=float)
    weights = np.array(
        [2.0**number for number, level in enumerate(data) for _ in level], dtype=float
    )
    order = np.argsort(values, kind="stable")
    return values[order], weights[order]


def _below(values: np.ndarray, weights: np.ndarray, points: np.ndarray) -> np.ndarray:
    sums = np.concatenate([[0.0], np.cumsum(weights)])
    return np.asarray(sums[np.searchsorted(values, points, side="right")] / sums[-1])
