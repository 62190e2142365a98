"""Worst rows: found in the past and tested on what came after."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.monitor.weak_slice import holm, weak_slices


def made_rows(n: int, seed: int) -> tuple[pl.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "town": rng.choice(["north", "south", "east", "west"], n),
            "size": rng.normal(size=n),
            "age": rng.integers(0, 90, n),
        }
    )
    return frame, rng.exponential(size=n)


def test_rows_that_are_answered_worse_are_found() -> None:
    frame, loss = made_rows(1_500, 1)
    loss = loss * np.where(frame["town"].to_numpy() == "south", 2.5, 1.0)

    found = weak_slices(frame, loss)

    assert "town" in found[0].condition
    assert "south" in found[0].condition
    assert found[0].loss > 1.8 * found[0].elsewhere
    assert found[0].p_value < 0.01
    assert found[0].n_rows < 750


def test_rows_all_alike_hardly_ever_give_a_slice() -> None:
    named = sum(bool(weak_slices(*made_rows(600, seed))) for seed in range(20))

    assert named <= 3


def test_a_slice_that_was_bad_luck_is_not_named() -> None:
    frame, loss = made_rows(1_500, 2)
    early = (np.arange(1_500) < 750) & (frame["town"].to_numpy() == "south")

    found = weak_slices(frame, loss * np.where(early, 2.5, 1.0))

    assert found == ()


def test_a_few_rows_give_none() -> None:
    assert weak_slices(*made_rows(199, 3)) == ()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), max_size=12))
def test_corrected_p_values_keep_their_order_and_are_no_smaller(values: list[float]) -> None:
    corrected = holm(values)

    order = sorted(range(len(values)), key=lambda at: values[at])
    assert [corrected[at] for at in order] == sorted(corrected)
    assert all(one <= other <= 1 for one, other in zip(values, corrected, strict=True))
    if values:
        assert min(corrected) == pytest.approx(min(1.0, len(values) * min(values)))
