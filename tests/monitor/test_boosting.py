"""The small boosted model: it learns what bins say, bounds what it says, and repeats itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.monitor.boosting import boosted, out_of_fold


def made_rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 34, (n, 6)).astype(np.uint8)
    # an ordered effect, and one of categories that share nothing but their name
    truth = codes[:, 0] / 34 + np.isin(codes[:, 1], (3, 17, 30)) * (codes[:, 2] > 10)
    return codes, truth


ORDERED = np.array([True, False, True, True, True, True])


def test_a_sum_of_trees_follows_order_categories_and_pairs() -> None:
    codes, truth = made_rows(3_000, 1)
    noisy = truth + np.random.default_rng(2).normal(size=len(truth)) * 0.3

    said = boosted(codes, noisy, ordered=ORDERED).values(codes)

    assert np.corrcoef(said, truth)[0, 1] > 0.93


@pytest.mark.parametrize(("categories", "times"), [([], 1.1), ([1], 1.3)])
def test_it_predicts_new_rows_about_as_well_as_lightgbm_on_the_same_bins(
    categories: list[int], times: float
) -> None:
    import lightgbm

    codes, truth = made_rows(2_000, 3)
    new, new_truth = made_rows(2_000, 4)
    noisy = truth + np.random.default_rng(5).normal(size=len(truth)) * 0.5
    settings_ = {"max_depth": 2, "verbose": -1, "num_threads": 1, "deterministic": True}
    rows = lightgbm.Dataset(codes.astype(float), noisy, categorical_feature=categories)
    peer = lightgbm.train(settings_, rows, num_boost_round=60)
    ordered = np.array([at not in categories for at in range(6)])

    ours = boosted(codes, noisy, ordered=ordered).values(new)

    error = np.mean((ours - new_truth) ** 2)
    assert error < times * np.mean((peer.predict(new.astype(float)) - new_truth) ** 2)


def test_nothing_is_learnt_from_rows_that_hold_nothing() -> None:
    codes = np.zeros((200, 2), dtype=np.uint8)
    target = np.random.default_rng(6).normal(size=200)

    model = boosted(codes, target, ordered=np.array([True, True]))

    assert len(model.leaves) == 0
    assert model.values(codes) == pytest.approx(np.full(200, target.mean()))


def test_a_chance_stays_between_the_shares_it_has_seen() -> None:
    codes, truth = made_rows(1_000, 7)

    odds = boosted(codes, (truth > 0.7) * 1.0, ordered=ORDERED, loss="logistic").values(codes)

    chance = 1 / (1 + np.exp(-odds))
    assert 0 < chance.min() < 0.1
    assert 0.8 < chance.max() < 1


def test_a_row_is_answered_by_a_model_that_never_saw_it() -> None:
    rng = np.random.default_rng(8)
    codes = rng.integers(0, 30, (400, 20)).astype(np.uint8)
    noise = rng.normal(size=400)
    ordered = np.ones(20, dtype=np.bool_)

    learnt = boosted(codes, noise, ordered=ordered).values(codes)
    held = out_of_fold(codes, noise, ordered=ordered)

    assert np.corrcoef(learnt, noise)[0, 1] > 0.3
    assert abs(np.corrcoef(held, noise)[0, 1]) < 0.15


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_the_same_rows_give_the_same_model_and_no_row_leaves_the_range(seed: int) -> None:
    codes, truth = made_rows(150, seed)

    one, other = (boosted(codes, truth, ordered=ORDERED, n_trees=20) for _ in range(2))

    assert (one.values(codes) == other.values(codes)).all()
    assert truth.min() - 1e-9 <= one.values(codes).min()
    assert one.values(codes).max() <= truth.max() + 1e-9
