"""Columns moved back: the reference's distribution, with as little changed in the rows as can be."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.monitor.counterfactual import can_be_moved_back, moved_back
from loopwright.monitor.effect import measured_effect
from loopwright.monitor.reference import bin_counts, build_stream


def distance(stream: object, values: pl.Series) -> float:
    return measured_effect(stream, bin_counts(stream, values)).distance  # type: ignore[arg-type]


def test_numbers_move_back_in_their_order() -> None:
    rng = np.random.default_rng(1)
    stream = build_stream("x", pl.Series(rng.normal(size=5_000)), role="input", kind="number")
    live = pl.Series("x", rng.normal(size=1_000) * 2 + 3)

    back = moved_back(stream, live)

    assert distance(stream, live) > 0.5
    assert distance(stream, back) < 0.02
    ranks = [each.rank().to_numpy() for each in (live, back)]
    assert np.corrcoef(*ranks)[0, 1] > 0.999


def test_whole_numbers_stay_whole_and_known() -> None:
    rng = np.random.default_rng(2)
    stream = build_stream("x", pl.Series(rng.integers(1, 6, 2_000)), role="input", kind="number")
    live = pl.Series("x", rng.integers(3, 9, 500))

    back = moved_back(stream, live)

    assert back.dtype == live.dtype
    assert set(back.to_list()) <= set(range(1, 6))
    assert distance(stream, back) < 0.05


def test_missing_values_beyond_their_usual_share_are_filled() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=2_000)
    values[:200] = np.nan
    stream = build_stream("x", pl.Series(values), role="input", kind="number")
    live = pl.Series("x", [None] * 600 + rng.normal(size=400).tolist())

    back = moved_back(stream, live)

    assert back.null_count() == pytest.approx(100, abs=2)


def test_only_as_many_categories_change_as_there_are_too_many() -> None:
    stream = build_stream(
        "c", pl.Series(["a"] * 500 + ["b"] * 300 + ["c"] * 200), role="input", kind="category"
    )
    live = pl.Series("c", ["a"] * 20 + ["b"] * 60 + ["new"] * 20)

    back = moved_back(stream, live)

    changed = sum(one != other for one, other in zip(live, back, strict=True))
    assert changed == 50
    assert distance(stream, back) < 0.11
    assert "new" not in back.to_list()


def test_yes_and_no_stay_what_they_are() -> None:
    stream = build_stream(
        "b", pl.Series([True] * 100 + [False] * 900), role="input", kind="boolean"
    )
    live = pl.Series("b", [True] * 90 + [False] * 10)

    back = moved_back(stream, live)

    assert back.dtype == pl.Boolean
    assert back.sum() == 10


def test_texts_and_dates_are_not_made_up() -> None:
    text = build_stream("t", pl.Series(["some text"] * 60), role="input", kind="text")
    date = build_stream("d", pl.Series(["2026-01-01"] * 60), role="input", kind="date")

    assert not can_be_moved_back(text)
    assert not can_be_moved_back(date)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(-5, 5), st.floats(0.1, 4))
def test_rows_that_did_not_move_hardly_change_and_others_come_nearer(
    seed: int, shift: float, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    stream = build_stream("x", pl.Series(rng.normal(size=2_000)), role="input", kind="number")
    live = pl.Series("x", rng.normal(size=300) * scale + shift)

    back = moved_back(stream, live, seed=seed)

    assert distance(stream, back) <= distance(stream, live) + 0.02
    assert (back == moved_back(stream, live, seed=seed)).all()
