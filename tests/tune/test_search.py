"""The search keeps its time, survives what fails, and ends with a blend of what it fitted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.problem import metric_named
from loopwright.tune import fold_model
from loopwright.tune import search as search_module
from loopwright.tune.auto import AutoModel, fit_auto
from loopwright.tune.background import Background
from loopwright.tune.configuration import (
    Configuration,
    hastened,
    portfolio,
    random_configurations,
)
from loopwright.tune.fold import random_folds
from loopwright.tune.fold_model import FoldModel
from loopwright.tune.prepared import PreparedFolds, Table
from loopwright.tune.search import Search
from loopwright.tune.tried import Trial
from loopwright.tune.weighting import loss_of

MakeTable = Callable[..., Table]
QUICK = ("linear-learner", "knn")


def searched(table: Table, *, n_folds: int = 3, **changes: Any) -> AutoModel:
    folds = random_folds(table.frame, table.y, n_folds=n_folds, seed=1, is_class=table.is_class)
    options: dict[str, Any] = {
        "metric": metric_named("log_loss" if table.is_class else "rmse"),
        "budget_s": 60.0,
        "algorithms": QUICK,
        "max_trials": 2,
    }
    return fit_auto(table, folds, **{**options, **changes})


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
def test_the_blend_answers_new_rows_better_than_a_constant(
    make_table: MakeTable, task: str
) -> None:
    table = make_table(task)
    metric = metric_named("log_loss" if table.is_class else "rmse")

    model = searched(table)

    raw = model.predict_raw(table.frame)
    constant = np.broadcast_to(
        np.bincount(table.y.astype(int)) / len(table)
        if task == "multiclass"
        else np.array(table.y.mean()),
        raw.shape,
    )
    assert raw.shape == ((240, 3) if task == "multiclass" else (240,))
    worst = loss_of(metric, table.y, np.asarray(constant), is_class=table.is_class)
    assert model.found.loss < 0.8 * worst
    assert model.found.n_folds == 3
    assert {line["folds"] for line in model.leaderboard} == {3}


def test_the_same_table_and_seed_give_the_same_model(make_table: MakeTable) -> None:
    table = make_table()

    first, second = searched(table), searched(table)

    np.testing.assert_array_equal(first.predict_raw(table.frame), second.predict_raw(table.frame))


def test_a_blend_of_boosters_and_lines_is_no_worse_than_either(make_table: MakeTable) -> None:
    table = make_table(n_rows=400)

    model = searched(table, algorithms=("linear-learner", "lightgbm"), max_trials=2)

    answers = {
        t.configuration.name: np.concatenate([t.models[n].answers for n in range(3)])
        for t in model.found.trials
    }
    truth = np.concatenate(
        [
            table.y[fold.held_out]
            for fold in random_folds(table.frame, table.y, n_folds=3, seed=1, is_class=False)
        ]
    )
    alone = [np.sqrt(np.mean((each - truth) ** 2)) for each in answers.values()]
    assert model.found.loss <= min(alone) + 1e-12


def test_one_algorithm_that_fails_does_not_end_the_search(make_table: MakeTable) -> None:
    table = make_table()
    broken = Configuration(name="broken", algorithm="knn", hyperparameters={"n_neighbours": 3})
    fine = Configuration(name="fine", algorithm="linear-learner")

    found = Search(
        prepared=prepared(table),
        metric=metric_named("rmse"),
        portfolio=(broken, fine),
        deadline=time.monotonic() + 60,
    ).run()

    assert "n_neighbors" in found.trials[0].failure
    assert [trial.configuration.name for trial, _ in found.chosen] == ["fine"]


def test_a_search_in_which_everything_fails_says_why(make_table: MakeTable) -> None:
    broken = Configuration(name="broken", algorithm="knn", hyperparameters={"n_neighbors": -1})

    with pytest.raises(BackendError, match="No model could be trained: InvalidInputError"):
        Search(
            prepared=prepared(make_table()),
            metric=metric_named("rmse"),
            portfolio=(broken,),
            deadline=time.monotonic() + 60,
        ).run()


def test_a_search_in_which_everything_fails_ends_when_its_time_is_up(make_table: MakeTable) -> None:
    broken = [
        Configuration(name=f"b{n}", algorithm="knn", hyperparameters={"n_neighbors": -1})
        for n in range(50)
    ]
    seen: list[Trial] = []

    with pytest.raises(BackendError):
        Search(
            prepared=prepared(make_table()),
            metric=metric_named("rmse"),
            portfolio=broken,
            deadline=time.monotonic(),
            on_trial=lambda trial, _: seen.append(trial),
        ).run()

    assert len(seen) == 1


def test_with_no_time_at_all_there_is_still_a_model(make_table: MakeTable) -> None:
    model = searched(make_table(), budget_s=1e-6)

    assert len(model.found.chosen) == 1
    assert model.found.n_folds == 1


def test_a_stop_ends_the_search_with_what_there_is(make_table: MakeTable) -> None:
    stopped: list[bool] = []

    model = searched(
        make_table(),
        on_trial=lambda *_: stopped.append(True),
        is_stopped=lambda: bool(stopped),
    )

    assert len(stopped) == 1
    assert model.found.n_folds == 1


def test_a_budget_that_is_no_time_is_refused(make_table: MakeTable) -> None:
    with pytest.raises(InvalidInputError, match="budget"):
        searched(make_table(), budget_s=0.0)


def prepared(table: Table, *, n_folds: int = 3, memory_bytes: int = 1 << 30) -> PreparedFolds:
    folds = random_folds(table.frame, table.y, n_folds=n_folds, seed=1, is_class=table.is_class)
    return PreparedFolds(table=table, folds=folds, memory_bytes=memory_bytes)


class _Clock:
    """A clock that moves when a fit is done."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class _Rehearsed(Search):
    """A search whose fits take the seconds, and have the errors, that a test says."""

    __slots__ = ("script", "units")

    def rehearse(self, script: dict[str, tuple[float, float]]) -> list[tuple[str, int]]:
        self.script, self.units = script, []
        self.run()
        return self.units

    def _fit(self, trial: Trial, fold: int) -> FoldModel:
        name = trial.configuration.name
        seconds, error = self.script[name]
        assert isinstance(self.clock, _Clock)
        self.clock.now += seconds
        self.units.append((name, fold))
        held = self.prepared.folds[fold].held_out
        rng = np.random.default_rng(fold)
        return FoldModel(
            predictor=None,  # type: ignore[arg-type]
            answers=self.prepared.table.y[held] + error * rng.choice([-1.0, 1.0], len(held)),
            seconds=seconds,
            best_iteration=None,
            importance=None,
        )


def rehearsal(
    table: Table, names: list[str], *, deadline: float, more: Iterator[Configuration] | None = None
) -> _Rehearsed:
    return _Rehearsed(
        prepared=prepared(table),
        metric=metric_named("rmse"),
        portfolio=[Configuration(name=name, algorithm="linear-learner") for name in names],
        more=more or iter(()),
        deadline=deadline,
        clock=_Clock(),
    )


def test_everything_is_tried_on_one_fold_before_anything_is_finished(make_table: MakeTable) -> None:
    search = rehearsal(make_table(), ["a", "b", "c"], deadline=1_000.0)

    units = search.rehearse({"a": (1, 1.0), "b": (1, 3.0), "c": (1, 2.0)})

    assert units[:3] == [("a", 0), ("b", 0), ("c", 0)]
    assert sorted(units) == [(n, f) for n in "abc" for f in range(3)]


def test_what_could_not_be_finished_is_not_begun(make_table: MakeTable) -> None:
    search = rehearsal(make_table(), ["a", "b", "c", "d"], deadline=60.0)

    units = search.rehearse(dict.fromkeys("abcd", (8.0, 1.0)))

    # by hand: a and b take 48 s on three folds; a third, with its other two folds, takes 24 s more
    assert {name for name, _ in units} == {"a", "b"}
    assert len(units) == 6
    assert search.clock() <= 60.0


def test_ideas_end_when_they_no_longer_help(make_table: MakeTable) -> None:
    names = iter(f"r{n}" for n in range(1_000))
    more = (Configuration(name=name, algorithm="linear-learner") for name in names)
    search = rehearsal(make_table(), ["a"], deadline=1e9, more=more)

    units = search.rehearse({"a": (1, 0.0)} | {f"r{n}": (1, 5.0) for n in range(1_000)})

    assert 10 < len({name for name, _ in units}) < 30


def test_prepared_folds_keep_to_their_memory(make_table: MakeTable) -> None:
    folds = prepared(make_table(), memory_bytes=1)

    for number in range(3):
        folds.get(number, "tree")

    assert len(folds._kept) == 1
    assert set(folds.recipes) == {(0, "tree"), (1, "tree"), (2, "tree")}


def test_the_recipe_of_a_fold_has_not_seen_the_rows_held_out(make_table: MakeTable) -> None:
    table = make_table()
    folds = prepared(table)
    # a value that only stands among the held-out rows of fold 0 must not be known to its recipe
    town = table.frame["town"].to_list()
    for place in folds.folds[0].held_out:
        town[place] = "secret"
    hidden = make_table(frame=table.frame.with_columns(town=np.array(town)))

    recipe = PreparedFolds(table=hidden, folds=folds.folds, memory_bytes=1).get(0, "scaled").recipe

    assert "secret" not in recipe.to_json()


def test_the_portfolio_leaves_out_what_does_not_scale() -> None:
    assert "knn" in {c.algorithm for c in portfolio(n_rows=1_000)}
    assert "knn" not in {c.algorithm for c in portfolio(n_rows=1_000_000)}
    assert {c.algorithm for c in portfolio(n_rows=10, algorithms=["lightgbm"])} == {"lightgbm"}


def test_a_booster_takes_larger_steps_where_there_is_time_for_few() -> None:
    lightgbm, knn = (Configuration(name=name, algorithm=name) for name in ("lightgbm", "knn"))
    large = {"n_cells": 5_500_000, "n_outputs": 1, "threads": 1}

    def rate(fit_s: float, **changes: int) -> float | None:
        hastened_ = hastened(lightgbm, fit_s=fit_s, **{**large, **changes})
        return hastened_.hyperparameters.get("learning_rate")

    assert rate(90.0) is None  # 327 steps of 0.05 are enough
    assert rate(18.0) == pytest.approx(12 / (18 * 20e6 / 5.5e6), rel=0.05)
    assert rate(18.0, threads=2) == pytest.approx(rate(18.0) / 2, rel=0.1)
    assert rate(0.1) == 0.3
    assert rate(0.1, n_cells=0) is None
    assert hastened(knn, fit_s=0.1, **large) is knn


def test_configurations_drawn_at_random_can_be_trained_and_repeat(make_table: MakeTable) -> None:
    from loopwright.train import checked_hyperparameters, get_algorithm

    def drawn() -> list[Configuration]:
        series = random_configurations(["lightgbm", "xgboost"], seed=4)
        return [next(series) for _ in range(40)]

    assert drawn() == drawn()
    assert len({c.name for c in drawn()}) == 40
    for each in drawn():
        checked_hyperparameters(get_algorithm(each.algorithm), each.hyperparameters)


def hanging_learner(monkeypatch: pytest.MonkeyPatch, *, hangs: str) -> threading.Event:
    """Let the fits of one algorithm hang, deaf to their callback, until the event is set."""
    released = threading.Event()
    fit = fold_model.fit_algorithm

    def deaf(algorithm: Any, *arguments: Any, **named: Any) -> Any:
        if algorithm.name == hangs:
            released.wait(60)
        return fit(algorithm, *arguments, **named)

    # a library that hangs cannot be passed in
    monkeypatch.setattr(fold_model, "fit_algorithm", deaf)
    return released


def test_a_fit_that_hangs_does_not_keep_the_search_from_ending(
    make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_table()
    released = hanging_learner(monkeypatch, hangs="knn")
    started = time.monotonic()

    model = searched(
        table, algorithms=("knn", "linear-learner"), budget_s=3.0, cpus=2, max_trials=2
    )

    seconds = time.monotonic() - started
    released.set()
    assert seconds < 5.0
    assert {trial.configuration.algorithm for trial, _ in model.found.chosen} == {"linear-learner"}


def test_a_fit_that_hangs_gives_its_place_to_the_next(
    make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "_LEAST_HANG_S", 0.2)
    monkeypatch.setattr(search_module, "_LEAST_FIT_S", 0.1)
    monkeypatch.setattr(search_module, "_FIRST_MODEL_S", 0.2)
    monkeypatch.setattr(search_module, "_HANG_SHARE", 0.0)
    monkeypatch.setattr(search_module, "_LARGEST_SHARE", 0.01)
    released = hanging_learner(monkeypatch, hangs="knn")
    order = ("knn", "linear-learner")

    found = Search(
        prepared=prepared(make_table()),
        metric=metric_named("rmse"),
        portfolio=[Configuration(name=name, algorithm=name) for name in order],
        deadline=time.monotonic() + 10.0,
        workers=1,
    ).run()

    released.set()
    assert "did not end" in found.trials[0].failure
    assert found.n_hanging == 1
    assert [trial.configuration.name for trial, _ in found.chosen] == ["linear-learner"]


def test_with_no_memory_left_no_further_fit_is_begun(make_table: MakeTable) -> None:
    found = Search(
        prepared=prepared(make_table()),
        metric=metric_named("rmse"),
        portfolio=[Configuration(name=f"line{n}", algorithm="linear-learner") for n in range(3)],
        deadline=time.monotonic() + 60.0,
        is_full=lambda: True,
    ).run()

    assert [len(trial.models) for trial in found.trials] == [1, 0, 0]


def test_a_model_with_many_rows_to_answer_is_found_sooner(make_table: MakeTable) -> None:
    search = rehearsal(make_table(), ["a"], deadline=100.0)
    search.n_answers = 1_000
    search._leaders = [
        Trial(
            configuration=search.portfolio[0],
            family="linear",
            models={0: replace(_model(), answer_s=0.02)},
        )
    ]

    end = search._end()

    # by hand: 1,000 answers of 20 ms each
    assert end == pytest.approx(80.0)


def _model() -> FoldModel:
    return FoldModel(
        predictor=None,  # type: ignore[arg-type]
        answers=np.zeros(1),
        seconds=1.0,
        best_iteration=None,
        importance=None,
    )


def test_other_choices_of_a_recipe_are_tried_and_can_win(make_table: MakeTable) -> None:
    table = make_table()

    model = searched(table, algorithms=("linear-learner",), max_trials=9)

    names = [line["name"] for line in model.leaderboard]
    assert "linear-target" in names
    assert all(not line["failure"] for line in model.leaderboard)


@pytest.mark.parametrize(("had_s", "is_deaf"), [(0.0, True), (3.0, False), (16.0, True)])
def test_a_fit_that_waits_its_turn_is_not_taken_for_one_that_hangs(
    make_table: MakeTable, monkeypatch: pytest.MonkeyPatch, had_s: float, is_deaf: bool
) -> None:
    search = rehearsal(make_table(), ["a"], deadline=60.0)
    future: Future[FoldModel] = Future()
    had = iter([1.0, 1.0 + had_s])
    monkeypatch.setattr(Background, "cpu_s", lambda *_: next(had))

    asked, after = (search._is_deaf(future, now, 15.0) for now in (20.0, 40.0))

    assert (asked, after) == (False, is_deaf)


def test_the_processor_time_of_work_in_the_background_is_known() -> None:
    background, released = Background(), threading.Event()

    def busy() -> None:
        until = time.thread_time() + 0.1
        while time.thread_time() < until:
            pass
        released.wait(10)

    future = background.begin(busy)
    while (had := background.cpu_s(future)) is not None and had < 0.05:
        time.sleep(0.01)
    released.set()

    assert had is None or 0.05 <= had < 1.0
