"""A product in pieces is the product."""

from __future__ import annotations

import numpy as np
import pytest

from loopwright.monitor.product import product


@pytest.mark.parametrize(
    "shape", [(0, 3, 2), (1, 3, 2), (5_000, 33, 15), (257, 40, 40), (9, 600, 500)]
)
def test_the_pieces_together_are_the_product(shape: tuple[int, int, int]) -> None:
    n, k, m = shape
    rng = np.random.default_rng(0)
    # integers, so that the order of adding cannot matter
    rows = rng.integers(-99, 99, (n, k)).astype(np.float64)
    matrix = rng.integers(-99, 99, (k, m)).astype(np.float64)

    assert (product(rows, matrix) == rows @ matrix).all()


def test_single_precision_stays_single() -> None:
    rows, matrix = np.ones((9_000, 40), dtype=np.float32), np.ones((40, 40), dtype=np.float32)

    assert product(rows, matrix).dtype == np.float32
