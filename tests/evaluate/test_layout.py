"""How rows hang together decides who judges whom, and how a target may be shuffled."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.evaluate.layout import Layout, layout_of

GROUPS = st.lists(st.integers(0, 12), min_size=30, max_size=80)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(20, 90), n_folds=st.integers(2, 5), seed=st.integers(0, 9))
def test_rows_that_stand_alone_are_all_judged_once_and_never_by_themselves(
    n: int, n_folds: int, seed: int
) -> None:
    y = (np.arange(n) % 3 == 0).astype(np.float64)

    folds = Layout().folds(y, n_folds=n_folds, is_class=True, seed=seed)

    judged = np.concatenate([judged for _, judged in folds])
    assert sorted(judged.tolist()) == list(range(n))
    assert all(not set(learnt) & set(own) for learnt, own in folds)
    shares = [y[own].sum() for _, own in folds]
    assert max(shares) - min(shares) <= 1  # the rarer class is shared out evenly


@settings(max_examples=25, deadline=None)
@given(groups=GROUPS, seed=st.integers(0, 9))
def test_no_group_is_on_both_sides(groups: list[int], seed: int) -> None:
    codes = np.array(groups, dtype=np.int64)

    folds = Layout(by="group", codes=codes).folds(
        np.zeros(len(codes)), n_folds=3, is_class=False, seed=seed
    )

    for learnt, judged in folds:
        assert not set(codes[learnt]) & set(codes[judged])


def test_in_time_the_past_teaches_the_future_only() -> None:
    codes = np.random.default_rng(1).integers(0, 50, 200)

    folds = Layout(by="time", codes=codes).folds(np.zeros(200), n_folds=3, is_class=False, seed=0)

    assert len(folds) == 3
    for learnt, judged in folds:
        assert codes[learnt].max() < codes[judged].min()


@settings(max_examples=25, deadline=None)
@given(groups=GROUPS, seed=st.integers(0, 9))
def test_shuffling_in_groups_keeps_the_spread_of_means_and_within(
    groups: list[int], seed: int
) -> None:
    codes = np.array(groups, dtype=np.int64)
    rng = np.random.default_rng(seed)
    target = rng.normal(size=(len(codes), 1)) + codes[:, None]

    shuffled = Layout(by="group", codes=codes).shuffled(target, rng)

    def means(values: np.ndarray) -> list[float]:
        return sorted(values[codes == code].mean() for code in np.unique(codes))

    def left(values: np.ndarray) -> list[float]:
        found = values[:, 0].copy()
        for code in np.unique(codes):
            found[codes == code] -= found[codes == code].mean()
        return sorted(found)

    np.testing.assert_allclose(means(shuffled), means(target))
    np.testing.assert_allclose(left(shuffled), left(target), atol=1e-9)


@pytest.mark.parametrize("by", ["random", "time"])
def test_a_shuffled_target_holds_the_same_values(by: str) -> None:
    target = np.arange(60.0)[:, None]
    codes = np.arange(60) if by == "time" else np.empty(0, dtype=np.int64)

    shuffled = Layout(by=by, codes=codes).shuffled(  # type: ignore[arg-type]
        target, np.random.default_rng(3)
    )

    assert sorted(shuffled[:, 0]) == sorted(target[:, 0])
    assert (shuffled != target).any()


def test_in_time_neighbours_mostly_stay_neighbours() -> None:
    target = np.arange(400.0)[:, None]

    shuffled = Layout(by="time", codes=np.arange(400)).shuffled(target, np.random.default_rng(3))

    assert np.mean(np.diff(shuffled[:, 0]) == 1) > 0.85


def test_a_layout_is_read_from_the_column_of_the_split() -> None:
    days = pl.Series("day", ["2024-03-01", "2024-01-01", "2024-02-01"]).str.to_date()

    assert layout_of(days, "time").codes.tolist() == [3, 1, 2]
    assert layout_of(pl.Series(["b", None, "b"]), "group").codes.tolist() == [1, 0, 1]
    assert layout_of(None, "random").units() is None
