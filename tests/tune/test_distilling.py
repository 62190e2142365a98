"""One model learns what the blend says; what it costs and gains is measured, and decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from loopwright.problem import metric_named
from loopwright.tune.auto import AutoModel, fit_auto
from loopwright.tune.distilling import distilled
from loopwright.tune.fold import random_folds
from loopwright.tune.prepared import Table
from loopwright.tune.tradeoff import answer_times, comparison, takes_single
from loopwright.tune.weighting import loss_of

MakeTable = Callable[..., Table]
RMSE = metric_named("rmse")


def blended(table: Table) -> AutoModel:
    folds = random_folds(table.frame, table.y, n_folds=3, seed=1, is_class=table.is_class)
    return fit_auto(
        table,
        folds,
        metric=metric_named("log_loss" if table.is_class else "rmse"),
        budget_s=60.0,
        algorithms=("linear-learner", "knn"),
        max_trials=2,
    )


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
def test_a_single_model_says_nearly_what_the_blend_says(make_table: MakeTable, task: str) -> None:
    table = make_table(task)
    metric = metric_named("log_loss" if table.is_class else "rmse")
    model = blended(table)

    single = distilled(
        model, model.prepared, metric, seconds=60.0, threads=1, algorithms=("linear-learner",)
    )

    assert single is not None
    assert single.algorithm == "linear-learner"
    assert len(single.fitted.feature_names) < len(model.fitted.feature_names)
    said, alone = model.predict_raw(table.frame), single.predict_raw(table.frame)
    assert alone.shape == said.shape
    loss = loss_of(metric, table.y, alone, is_class=table.is_class)
    constant = np.broadcast_to(
        np.bincount(table.y.astype(int)) / len(table) if task == "multiclass" else table.y.mean(),
        said.shape,
    )
    assert loss < 0.8 * loss_of(metric, table.y, np.asarray(constant), is_class=table.is_class)


def test_the_lesson_is_what_models_said_that_did_not_learn_from_a_row(
    make_table: MakeTable,
) -> None:
    from loopwright.tune.distilling import _Lesson

    model = blended(make_table())
    lesson = _Lesson(
        model=model,
        prepared=model.prepared,
        metric=RMSE,
        threads=1,
        began=0.0,
        until=60.0,
        clock=lambda: 0.0,
    )

    said = lesson._said()

    for number, fold in enumerate(model.prepared.folds):
        expected = sum(w * t.models[number].answers for t, w in model.found.chosen)
        np.testing.assert_allclose(said[fold.held_out], expected)


def test_without_time_there_is_no_single_model(make_table: MakeTable) -> None:
    model = blended(make_table())

    single = distilled(model, model.prepared, RMSE, seconds=0.0, threads=1)

    assert single is None


def test_an_algorithm_that_nobody_allowed_does_not_learn(make_table: MakeTable) -> None:
    model = blended(make_table())

    assert (
        distilled(model, model.prepared, RMSE, seconds=9.0, threads=1, algorithms=("knn",)) is None
    )


def test_the_cost_is_the_difference_of_the_metric_on_the_same_rows() -> None:
    y = np.array([1.0, 2.0, 3.0, 4.0])

    costs = comparison(y, y + 1.0, y - 3.0, metric=RMSE, is_class=False)

    # by hand: every error is 1, and 3; whichever rows are drawn, it costs 2
    assert costs == {
        "blend": 1.0,
        "single": 3.0,
        "cost": 2.0,
        "cost_low": 2.0,
        "cost_high": 2.0,
        "cost_share": 2.0,
        "cost_share_high": 2.0,
    }


def test_a_metric_of_which_more_is_better_costs_what_is_lacking() -> None:
    y = np.array([0.0, 1.0] * 20)
    good = 0.1 + 0.8 * y
    # one pair of classes stands the wrong way round
    worse = good.copy()
    worse[:2] = [0.9, 0.1]

    costs = comparison(y, good, worse, metric=metric_named("roc_auc"), is_class=True)

    assert costs["blend"] == 1.0
    assert costs["cost"] == pytest.approx(1.0 - costs["single"])
    assert 0.0 <= costs["cost_low"] <= costs["cost"] <= costs["cost_high"]


def test_the_interval_holds_the_true_cost_about_as_often_as_it_says() -> None:
    inside = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        y = rng.normal(size=300)
        blend, single = y + rng.normal(size=300), y + 1.2 * rng.normal(size=300)
        costs = comparison(y, blend, single, metric=RMSE, is_class=False, seed=seed)
        inside += costs["cost_low"] <= 0.2 <= costs["cost_high"]

    assert 51 <= inside <= 60


@pytest.mark.parametrize(
    ("policy", "share_high", "is_taken"),
    [
        ("always", 9.0, True),
        ("never", -1.0, False),
        ("if_as_good", 0.009, True),
        ("if_as_good", 0.011, False),
        ("if_as_good", float("nan"), False),
    ],
)
def test_the_policy_picks_which_is_served(policy: Any, share_high: float, is_taken: bool) -> None:
    assert takes_single(policy, {"cost_share_high": share_high}, may_cost=0.01) is is_taken


def test_answers_are_timed_alone_and_among_many(make_table: MakeTable) -> None:
    model = blended(make_table())

    times = answer_times(model.fitted, model.predictor, model.prepared.table.frame)

    assert times["row_us"] > times["batch_us"] > 0


def test_who_is_asked_to_stop_ends_with_what_there_is(make_table: MakeTable) -> None:
    model = blended(make_table())
    times = iter([0.0, 0.0, 0.0, 0.0])

    single = distilled(
        model,
        model.prepared,
        RMSE,
        seconds=60.0,
        threads=1,
        algorithms=("linear-learner",),
        clock=lambda: next(times, float("inf")),
    )

    # the model of the first fold, or none: never a wait
    assert single is None or single.n_new == 0
