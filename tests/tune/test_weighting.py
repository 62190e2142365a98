"""The weights of a blend make it no worse than its best member on the rows they are chosen on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.problem import metric_named
from loopwright.tune.weighting import greedy_weights, loss_of


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
