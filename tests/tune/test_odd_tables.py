"""Tables that break searches: `auto` finds a model on each, and none of its fits sees what it must not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from loopwright.core.errors import BackendError
from loopwright.prepare import suggest
from loopwright.problem import metric_named
from loopwright.train import Outcome
from loopwright.tune.auto import AutoModel, families_of, fit_auto
from loopwright.tune.fold import random_folds
from loopwright.tune.prepared import Table
from loopwright.tune.weighting import loss_of

QUICK = ("linear-learner", "knn", "lightgbm")


def searched(
    columns: dict[str, Any],
    target: Sequence[Any],
    task: Any,
    *,
    algorithms: Sequence[str] = QUICK,
    **changes: Any,
) -> tuple[Table, AutoModel]:
    """Return a table and the model that a search of a few fits finds on it."""
    frame = pl.DataFrame(columns)
    classes = () if task == "regression" else tuple(sorted(set(map(str, target))))
    place = {name: index for index, name in enumerate(classes)}
    y = np.array([place[str(v)] for v in target] if classes else target, dtype=np.float64)
    labelled = frame.with_columns(target=pl.Series([str(v) for v in target] if classes else target))
    table = Table(
        frame=frame,
        y=y,
        outcome=Outcome(task=task, classes=classes),
        recipes={f: suggest(labelled, "target", task, family=f) for f in families_of(algorithms)},
    )
    folds = random_folds(frame, y, n_folds=3, seed=1, is_class=bool(classes))
    metric = metric_named("log_loss" if classes else "rmse")
    options: dict[str, Any] = {"budget_s": 60.0, "max_trials": len(algorithms), **changes}
    return table, fit_auto(table, folds, metric=metric, algorithms=algorithms, **options)


def test_more_columns_than_rows() -> None:
    rng = np.random.default_rng(0)
    columns = {f"c{n}": rng.normal(size=45) for n in range(120)}

    table, model = searched(columns, 3.0 * columns["c0"], "regression")

    assert np.isfinite(model.predict_raw(table.frame)).all()
    assert model.found.loss < float(table.y.std())


def test_two_hundred_classes() -> None:
    x = np.repeat(np.arange(200.0), 3)

    table, model = searched(
        {"x": x, "z": np.tile([0.0, 1.0, 2.0], 200)},
        [f"k{int(v):03d}" for v in x],
        "multiclass",
        algorithms=("linear-learner", "knn"),
    )

    answers = model.predict_raw(table.frame)
    assert answers.shape == (600, 200)
    np.testing.assert_allclose(answers.sum(axis=1), 1.0)
    assert model.found.loss < np.log(200)


def test_a_class_with_two_rows() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=120)
    target = ["rare", "rare", *np.where(x[2:] > 0, "a", "b")]

    table, model = searched({"x": x, "z": rng.normal(size=120)}, target, "multiclass")

    answers = model.predict_raw(table.frame)
    assert answers.shape == (120, 3)
    assert np.isfinite(model.found.loss)
    assert {line["failure"] for line in model.leaderboard} == {""}


def test_rows_that_stand_there_twice_do_not_make_a_model_look_better_than_it_is() -> None:
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(60, 2)).repeat(4, axis=0)
    target = rng.normal(size=60).repeat(4)

    table, model = searched({"a": noise[:, 0], "b": noise[:, 1]}, target, "regression")

    # nothing can be learnt, though the nearest row has the very answer
    assert model.found.loss > 0.8 * float(table.y.std())
    seen = loss_of(metric_named("rmse"), table.y, model.predict_raw(table.frame), is_class=False)
    assert seen <= model.found.loss


def test_every_fit_fails() -> None:
    x = np.arange(60.0)
    classes = ["a"] * 57 + ["b"] * 3

    table, _ = searched({"x": x}, classes, "binary", algorithms=QUICK[:1])
    folds = random_folds(table.frame, table.y, n_folds=3, seed=1, is_class=True)
    # the weights say that no row counts
    weightless = replace(table, weight=np.zeros(len(table)))

    with pytest.raises(BackendError, match="No model could be trained: InvalidInputError"):
        fit_auto(
            weightless, folds, metric=metric_named("log_loss"), budget_s=20.0, algorithms=QUICK[:1]
        )
