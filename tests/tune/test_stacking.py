"""A second layer learns only from answers that did not know the row, and is used only if it helps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from loopwright.prepare import row_encoder
from loopwright.problem import metric_named
from loopwright.train.predictor_file import open_predictor, pack_predictor
from loopwright.train.stack_predictor import StackPredictor
from loopwright.tune.auto import AutoModel, assembled
from loopwright.tune.blending import Blending
from loopwright.tune.configuration import Configuration
from loopwright.tune.fold import Fold, random_folds
from loopwright.tune.fold_model import FoldModel
from loopwright.tune.prepared import PreparedFolds, Table
from loopwright.tune.search import Search
from loopwright.tune.stacking import can_stack, stacked_data, stacked_trials
from loopwright.tune.tried import Trial

MakeTable = Callable[..., Table]


def folded(table: Table, *, n_folds: int = 3) -> PreparedFolds:
    folds = random_folds(table.frame, table.y, n_folds=n_folds, seed=1, is_class=table.is_class)
    return PreparedFolds(table=table, folds=folds, memory_bytes=1 << 30)


def said(prepared: PreparedFolds, name: str, answers: np.ndarray) -> Trial:
    """Return a trial that says what a test wants it to say."""
    models = {
        number: FoldModel(
            predictor=None,  # type: ignore[arg-type]
            answers=answers[fold.held_out],
            seconds=1.0,
            best_iteration=None,
            importance=None,
        )
        for number, fold in enumerate(prepared.folds)
    }
    return Trial(
        configuration=Configuration(name=name, algorithm="linear-learner"),
        family="linear",
        models=models,
    )


def test_a_row_is_taught_with_what_models_said_that_did_not_learn_from_it(
    make_table: MakeTable,
) -> None:
    prepared = folded(make_table(n_rows=60))
    number = np.arange(60.0)
    below = (said(prepared, "a", number), said(prepared, "b", -number))
    fold = prepared.folds[1]

    data = stacked_data(prepared.get(1, "tree").data, below, prepared.folds, 1)

    np.testing.assert_array_equal(data.train.X[:, -2:], np.c_[fold.train, -fold.train])
    np.testing.assert_array_equal(data.validation.X[:, -1], -1.0 * fold.held_out)
    assert data.names[-2:] == ("said_0", "said_1")


@pytest.mark.parametrize("why", ["few rows", "one trial", "a fold is missing", "by time"])
def test_without_an_answer_to_every_row_there_is_no_second_layer(
    make_table: MakeTable, why: str
) -> None:
    prepared = folded(make_table(n_rows=60 if why == "few rows" else 600))
    below = [said(prepared, name, np.zeros(600)) for name in "ab"] if why != "few rows" else []
    if why == "few rows":
        below = [said(prepared, name, np.zeros(60)) for name in "ab"]
    if why == "one trial":
        below = below[:1]
    if why == "a fold is missing":
        del below[0].models[2]
    if why == "by time":
        folds = [Fold(train=f.train, held_out=f.held_out[:-1]) for f in prepared.folds]
        prepared = PreparedFolds(table=prepared.table, folds=folds, memory_bytes=1)

    assert not can_stack(prepared, below)


def test_a_second_layer_is_chosen_only_where_it_is_better_beyond_doubt(
    make_table: MakeTable,
) -> None:
    table = make_table(n_rows=600)
    prepared = folded(table)
    rng = np.random.default_rng(0)
    errors = rng.normal(size=(2, 600))
    below = [said(prepared, str(n), table.y + error) for n, error in enumerate(errors)]
    layer = [
        replace(said(prepared, name, table.y + error), below=tuple(below))
        for name, error in (
            ("hardly better", 0.999 * errors.mean(axis=0)),
            ("better", 0.2 * rng.normal(size=600)),
        )
    ]
    blending = Blending(prepared=prepared, metric=metric_named("rmse"))

    without, _ = blending.best([*below, layer[0]])
    with_it, _ = blending.best([*below, layer[1]])

    assert not any(trial.below for trial, _ in without)
    assert any(trial.below for trial, _ in with_it)


def interactions(n_rows: int) -> dict[str, Any]:
    """Return a table whose target needs both what lines and what trees are good at."""
    rng = np.random.default_rng(3)
    frame = pl.DataFrame({name: rng.normal(size=n_rows) for name in "abcd"})
    steps = np.where((frame["a"] > 0) & (frame["b"] > 0), 3.0, 0.0)
    line = 4.0 * frame["c"].to_numpy() - 3.0 * frame["d"].to_numpy()
    return {"frame": frame, "y": steps + line + 0.1 * rng.normal(size=n_rows)}


@pytest.fixture(scope="module")
def stacked() -> tuple[Table, AutoModel]:
    """Return a model with a second layer, searched as `auto` does."""
    from loopwright.prepare import suggest
    from loopwright.train import Outcome

    parts = interactions(700)
    labelled = parts["frame"].with_columns(y=parts["y"])
    table = Table(
        **parts,
        outcome=Outcome(task="regression", classes=()),
        recipes={f: suggest(labelled, "y", "regression", family=f) for f in ("linear", "tree")},  # type: ignore[arg-type]
    )
    prepared = folded(table)
    search = Search(
        prepared=prepared,
        metric=metric_named("rmse"),
        portfolio=(
            Configuration(name="line", algorithm="linear-learner"),
            Configuration(name="trees", algorithm="lightgbm", hyperparameters={"rounds": 60}),
        ),
        deadline=time.monotonic() + 60,
    )
    return table, assembled(prepared, search.run())


def test_the_search_tries_a_second_layer_and_takes_it_where_it_helps(
    stacked: tuple[Table, AutoModel],
) -> None:
    _, model = stacked

    by_name = {trial.configuration.name: trial for trial in model.found.trials}

    assert [t.configuration.name for t in by_name["lightgbm-stacked"].below] == [
        "line",
        "trees",
    ] or [t.configuration.name for t in by_name["lightgbm-stacked"].below] == ["trees", "line"]
    assert isinstance(model.predictor, StackPredictor)
    assert model.found.loss < min(by_name["line"].first_loss, by_name["trees"].first_loss)


def test_a_stack_answers_single_rows_with_the_bits_of_the_table(
    stacked: tuple[Table, AutoModel],
) -> None:
    table, model = stacked
    some = table.frame[:20]
    files = pack_predictor(model.predictor)
    read = open_predictor(files["predictor.npz"], files["predictor.json"])
    encoder = row_encoder(model.fitted)

    alone = [read.predict_raw(encoder.encode([row]))[0] for row in some.to_dicts()]

    assert alone == model.predict_raw(some).tolist()


def test_only_algorithms_that_were_used_stack() -> None:
    trials = stacked_trials([], ["lightgbm"])

    assert [trial.configuration.algorithm for trial in trials] == ["lightgbm"]
