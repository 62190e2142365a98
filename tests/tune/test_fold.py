"""Every row is answered once, by a model that has not seen it, its twin, its group or its future."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.tune.fold import Fold, group_folds, n_folds_for, random_folds, time_folds


def check_partition(folds: list[Fold], n_rows: int) -> None:
    held = np.concatenate([fold.held_out for fold in folds])
    assert sorted(held.tolist()) == list(range(n_rows))
    for fold in folds:
        assert not set(fold.train.tolist()) & set(fold.held_out.tolist())
        assert len(fold.train) + len(fold.held_out) == n_rows


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.integers(0, 30), min_size=40, max_size=120),
    n_folds=st.integers(2, 5),
    seed=st.integers(0, 100),
)
def test_twins_stay_in_one_fold(values: list[int], n_folds: int, seed: int) -> None:
    frame = pl.DataFrame({"x": values, "y": [v % 7 for v in values]})
    if frame.n_unique() < n_folds:
        return

    folds = random_folds(frame, np.zeros(len(values)), n_folds=n_folds, seed=seed, is_class=False)

    check_partition(folds, len(values))
    for fold in folds:
        assert not {values[i] for i in fold.train} & {values[i] for i in fold.held_out}


def test_classes_are_shared_out_alike_and_a_class_of_two_rows_is_always_learnt_from() -> None:
    y = np.array([0.0] * 70 + [1.0] * 28 + [2.0] * 2)
    frame = pl.DataFrame({"x": np.arange(100)})

    folds = random_folds(frame, y, n_folds=5, seed=3, is_class=True)

    check_partition(folds, 100)
    for fold in folds:
        assert (y[fold.held_out] == 0).sum() == 14
        assert set(y[fold.train]) == {0.0, 1.0, 2.0}


def test_many_classes_of_few_rows_can_be_divided() -> None:
    y = np.repeat(np.arange(200.0), 5)
    frame = pl.DataFrame({"x": np.arange(1_000)})

    folds = random_folds(frame, y, n_folds=8, seed=3, is_class=True)

    check_partition(folds, 1_000)


def test_the_same_seed_gives_the_same_folds_and_another_gives_others() -> None:
    frame, y = pl.DataFrame({"x": np.arange(50)}), np.arange(50.0)

    def held(seed: int) -> list[list[int]]:
        folds = random_folds(frame, y, n_folds=4, seed=seed, is_class=False)
        return [fold.held_out.tolist() for fold in folds]

    assert held(1) == held(1)
    assert held(1) != held(2)


def test_a_group_stands_on_one_side() -> None:
    groups = np.random.default_rng(0).integers(0, 23, 300)

    folds = group_folds(pl.Series(groups), n_folds=5, seed=1)

    check_partition(folds, 300)
    for fold in folds:
        assert not set(groups[fold.train].tolist()) & set(groups[fold.held_out].tolist())


def test_models_answer_only_rows_later_than_those_they_learnt_from() -> None:
    times = pl.Series(np.random.default_rng(0).integers(0, 60, 400))

    folds = time_folds(times, n_folds=5)

    assert len(folds) == 5
    for fold in folds:
        assert times.gather(fold.train).max() < times.gather(fold.held_out).min()  # type: ignore[operator]
    answered = np.concatenate([fold.held_out for fold in folds])
    assert len(set(answered.tolist())) == len(answered)
    assert folds[-1].held_out.size + folds[-1].train.size == 400
    assert len(folds[0].train) == pytest.approx(200, abs=20)


@pytest.mark.parametrize(
    "divide",
    [
        lambda: random_folds(
            pl.DataFrame({"x": [1, 1, 1]}), np.zeros(3), n_folds=2, seed=0, is_class=False
        ),
        lambda: group_folds(pl.Series(["a", "a", "b"]), n_folds=3, seed=0),
        lambda: group_folds(pl.Series(["a", "a", "a"]), n_folds=2, seed=0),
        lambda: time_folds(pl.Series([5, 5, 5, 5]), n_folds=3),
    ],
)
def test_what_cannot_be_divided_is_refused(divide: object) -> None:
    with pytest.raises(InvalidInputError, match="divided"):
        divide()  # type: ignore[operator]


def test_large_tables_get_fewer_folds() -> None:
    assert [n_folds_for(n) for n in (500, 50_000, 500_000)] == [8, 5, 4]


@pytest.mark.parametrize("n_classes", [0, 2, 5])
def test_folds_at_random_are_those_of_scikit_learn(n_classes: int) -> None:
    from sklearn.model_selection import KFold, StratifiedKFold

    rng = np.random.default_rng(n_classes)
    y = rng.normal(size=203) if n_classes == 0 else rng.integers(n_classes, size=203).astype(float)
    # the rows as `random_folds` goes through them: by their hash
    frame = pl.DataFrame({"x": np.arange(203)})
    order = np.argsort(frame.hash_rows(seed=0).to_numpy())

    folds = random_folds(frame, y, n_folds=4, seed=11, is_class=n_classes > 0)

    splitter = (StratifiedKFold if n_classes else KFold)(4, shuffle=True, random_state=11)
    for fold, (_, held) in zip(folds, splitter.split(order, y[order]), strict=True):
        np.testing.assert_array_equal(fold.held_out, np.sort(order[held]))


def test_dividing_at_random_does_not_wait_for_scikit_learn() -> None:
    code = (
        "import sys, numpy as np, polars as pl\n"
        "from loopwright.tune.fold import random_folds\n"
        "random_folds(pl.DataFrame({'x': range(30)}), np.ones(30), n_folds=3, seed=1, is_class=True)\n"
        "sys.exit('sklearn' in sys.modules)\n"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
