"""The weights of a blend make it no worse than its best member on the rows they are chosen on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.problem import metric_named
from loopwright.tune.weighting import (
    blend,
    greedy_weights,
    guarded_weights,
    loss_of,
    thinned_weights,
)


def test_two_models_that_err_in_opposite_ways_share_the_weight() -> None:
    y = np.array([1.0, 2.0, 3.0, 4.0])

    weights = greedy_weights([y + 1, y - 1, y + 50], y, metric=metric_named("rmse"), is_class=False)

    np.testing.assert_array_equal(weights, [0.5, 0.5, 0.0])


@pytest.mark.parametrize("metric", ["rmse", "mae", "r2"])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1_000), n_models=st.integers(1, 6))
def test_a_blend_is_no_worse_than_its_best_member(metric: str, seed: int, n_models: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.normal(size=60)
    answers = [y + rng.normal(size=60) * rng.uniform(0.1, 2) for _ in range(n_models)]
    judge = metric_named(metric)

    weights = greedy_weights(answers, y, metric=judge, is_class=False)

    blended = np.asarray(sum(w * a for w, a in zip(weights, answers, strict=True)))
    alone = [loss_of(judge, y, a, is_class=False) for a in answers]
    assert weights.sum() == pytest.approx(1.0)
    assert (weights >= 0).all()
    assert loss_of(judge, y, blended, is_class=False) <= min(alone) + 1e-12


def test_a_metric_of_which_more_is_better_becomes_a_loss() -> None:
    y = np.array([0.0, 1.0, 1.0, 0.0])
    good, bad = np.array([0.1, 0.9, 0.8, 0.2]), np.array([0.9, 0.1, 0.2, 0.8])
    auc = metric_named("roc_auc")

    weights = greedy_weights([bad, good], y, metric=auc, is_class=True)

    assert loss_of(auc, y, good, is_class=True) == -1.0
    assert weights.tolist() == [0.0, 1.0]


def test_answers_that_are_not_numbers_are_not_chosen() -> None:
    y = np.array([1.0, 2.0])

    weights = greedy_weights(
        [np.array([np.nan, 1.0]), y + 5], y, metric=metric_named("mae"), is_class=False
    )

    assert weights.tolist() == [0.0, 1.0]


def test_on_few_rows_guarded_weights_do_better_on_new_rows_than_greedy_ones() -> None:
    rmse = metric_named("rmse")
    new_losses: dict[str, list[float]] = {"greedy": [], "guarded": []}
    for seed in range(12):
        rng = np.random.default_rng(seed)
        y = rng.normal(size=2_040)
        # one model is better than the others by more than luck
        answers = [y + (1.0 if n else 0.5) * rng.normal(size=len(y)) for n in range(12)]
        few = [each[:40] for each in answers]

        found = {
            "greedy": greedy_weights(few, y[:40], metric=rmse, is_class=False),
            "guarded": guarded_weights(few, y[:40], metric=rmse, is_class=False),
        }

        for name, weights in found.items():
            raw = blend([each[40:] for each in answers], weights)
            new_losses[name].append(loss_of(rmse, y[40:], raw, is_class=False))

    assert np.mean(new_losses["guarded"]) < np.mean(new_losses["greedy"])


def test_a_blend_that_is_no_better_on_rows_left_out_is_not_made() -> None:
    y = np.arange(40.0) % 2
    good = y.copy()
    rng = np.random.default_rng(2)

    weights = guarded_weights(
        [good, y + rng.normal(size=40)], y, metric=metric_named("rmse"), is_class=False
    )

    assert weights.tolist() == [1.0, 0.0]


def test_on_many_rows_the_guarded_weights_are_the_greedy_ones() -> None:
    rng = np.random.default_rng(6)
    y = rng.normal(size=6_000)
    answers = [y + rng.normal(size=6_000) for _ in range(2)]
    rmse = metric_named("rmse")

    guarded = guarded_weights(answers, y, metric=rmse, is_class=False)

    assert guarded.tolist() == greedy_weights(answers, y, metric=rmse, is_class=False).tolist()


def test_a_slow_member_that_adds_next_to_nothing_is_left_out() -> None:
    rng = np.random.default_rng(7)
    y = rng.normal(size=500)
    good = y + rng.normal(size=500)
    slow = good + 0.5 * rng.normal(size=500)
    weights, seconds = np.array([0.98, 0.02]), np.array([1.0, 9.0])

    kept = thinned_weights(
        [good, slow],
        y,
        weights,
        latency=lambda wanted: float(seconds[wanted].sum()),
        metric=metric_named("rmse"),
        is_class=False,
    )

    assert kept.tolist() == [1.0, 0.0]


def test_a_slow_member_that_is_worth_its_time_stays() -> None:
    rng = np.random.default_rng(8)
    y, error = rng.normal(size=500), rng.normal(size=500)
    weights, seconds = np.array([0.5, 0.5]), np.array([1.0, 9.0])

    kept = thinned_weights(
        [y + error, y - error],
        y,
        weights,
        latency=lambda wanted: float(seconds[wanted].sum()),
        metric=metric_named("rmse"),
        is_class=False,
    )

    assert kept.tolist() == [0.5, 0.5]
