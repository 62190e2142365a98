"""An auto job leaves what any training job leaves, within its time, and a stop does not lose it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from loopwright.compute import Resources
from loopwright.core.errors import InvalidInputError
from loopwright.prepare import open_fitted
from loopwright.train import (
    TrainingResult,
    TrainingSpec,
    model_members,
    open_bundle,
    pack_bundle,
    read_result,
)
from loopwright.train.blend_predictor import BlendPredictor
from loopwright.train.predictor_file import open_predictor
from loopwright.tune import worker
from loopwright.tune.blending import Blending
from loopwright.tune.job import AutoSpec, auto_job
from loopwright.tune.prepared import Table
from loopwright.tune.quick_model import constant_model, sampled_model
from loopwright.tune.single_model import read_distilled
from loopwright.tune.standby import Standby
from loopwright.tune.worker import do_auto_job, main

MakeTable = Callable[..., Table]
LayFolder = Callable[..., Path]


@pytest.fixture
def lay(make_table: MakeTable, tmp_path: Path) -> LayFolder:
    """Return a function that lays the files of an auto job into a folder, as compute does."""

    def lay(task: str = "binary", n_rows: int = 300, **changes: Any) -> Path:
        table = make_table(task, n_rows)
        classes = table.outcome.classes
        target = [classes[int(i)] for i in table.y] if classes else table.y
        frame = table.frame.with_columns(
            pl.Series("y", target), pl.Series("owner", np.arange(n_rows) % 40)
        )
        frame[: n_rows - 60].write_parquet(tmp_path / "a.parquet")
        frame[n_rows - 60 :].write_parquet(tmp_path / "b.parquet")
        options: dict[str, Any] = {
            "training": TrainingSpec(algorithm="auto", task=task, target="y", classes=classes),  # type: ignore[arg-type]
            "budget_s": 120.0,
            # this process, with all that earlier tests left in it, counts as the job
            "memory_mib": 1 << 16,
            "metric": "log_loss" if classes else "rmse",
            "algorithms": ("linear-learner",),
            "max_trials": 1,
        }
        job = auto_job(
            AutoSpec(**{**options, **changes}),
            name="houses",
            recipes={family: recipe.to_json() for family, recipe in table.recipes.items()},
            train=tmp_path / "a.parquet",
            validation=tmp_path / "b.parquet",
            resources=Resources(),
        )
        folder = tmp_path / "job"
        folder.mkdir()
        for name, content in job.files.items():
            data = content if isinstance(content, bytes) else content.read_bytes()
            (folder / name).write_bytes(data)
        return folder

    return lay


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
def test_the_model_it_leaves_answers_rows_as_its_validation_file_says(
    lay: LayFolder, task: str
) -> None:
    folder = lay(task)

    result = do_auto_job(folder)

    assert read_result(folder) == result
    bundle = pack_bundle(
        model_members(folder),
        name="houses",
        algorithm="auto",
        outcome=msgspec.json.decode(
            (folder / "auto.json").read_bytes(), type=AutoSpec
        ).training.outcome,
        golden_rows=pl.read_parquet(folder / "validation.parquet").drop("y")[:5].to_dicts(),
    )
    model = open_bundle(bundle)
    model.check_golden()
    rows = pl.read_parquet(folder / "validation.parquet").drop("y").to_dicts()
    said = pl.read_parquet(folder / "out" / "validation.parquet")
    answers = model.predict(rows)
    assert [each["prediction"] for each in answers] == said["prediction"].to_list()
    if task == "binary":
        assert [each["probability"] for each in answers] == said["probability"].to_list()
    assert result.hyperparameters == {"linear": 1.0}
    assert sum(share for _, share in result.importance) == pytest.approx(1.0)


def test_what_was_tried_is_on_record(lay: LayFolder) -> None:
    folder = lay(algorithms=("linear-learner", "knn"), max_trials=2)

    do_auto_job(folder)

    record = msgspec.json.decode((folder / "out" / "trials.json").read_bytes())
    assert [trial["name"] for trial in record["trials"]] == ["linear", "knn"]
    assert sum(trial["weight"] for trial in record["trials"]) == pytest.approx(1.0)
    curve = (folder / "out" / "metrics.jsonl").read_text().splitlines()
    assert len(curve) == sum(trial["folds"] for trial in record["trials"])


def test_a_metric_of_which_more_is_better_is_told_as_it_is(
    lay: LayFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = lay("binary", metric="roc_auc")

    do_auto_job(folder)

    curve = [
        msgspec.json.decode(line)
        for line in (folder / "out" / "metrics.jsonl").read_text().splitlines()
    ]
    assert {each["name"] for each in curve} == {"folds:roc_auc"}
    assert all(0.5 < each["value"] <= 1 for each in curve)
    assert f"best blend {curve[-1]['value']:.5g}" in capsys.readouterr().out


@pytest.mark.parametrize("policy", ["always", "if_as_good"])
def test_a_single_model_is_served_beside_a_blend_as_the_policy_says(
    lay: LayFolder, policy: str
) -> None:
    folder = lay(
        "binary", algorithms=("linear-learner", "knn"), max_trials=2, distill=policy, budget_s=60.0
    )

    result = do_auto_job(folder)

    report = msgspec.json.decode((folder / "out" / "distilled.json").read_bytes())
    is_single = report["served"] == "single"
    assert is_single or policy == "if_as_good"
    assert report["latency"]["single"]["row_us"] < report["latency"]["blend"]["row_us"]
    served = open_predictor(
        (folder / "out" / "predictor.npz").read_bytes(),
        (folder / "out" / "predictor.json").read_bytes(),
    )
    other = open_predictor(
        (folder / "out" / "other" / "predictor.npz").read_bytes(),
        (folder / "out" / "other" / "predictor.json").read_bytes(),
    )
    assert isinstance(other if is_single else served, BlendPredictor)
    assert result.n_features == served.n_features
    told = read_distilled(folder)
    assert told is not None
    assert "with 95 % confidence" in told["told"]
    said = pl.read_parquet(folder / "out" / "validation.parquet")
    frame = pl.read_parquet(folder / "validation.parquet").drop("y")
    recipe = open_fitted((folder / "out" / "recipe.json").read_bytes())
    np.testing.assert_array_equal(
        served.predict_raw(recipe.transform(frame)), said["probability"].to_numpy()
    )


def test_a_budget_shorter_than_one_fit_leaves_a_constant_and_says_so(
    lay: LayFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = lay("multiclass", n_rows=400, max_trials=80, budget_s=0.01)

    result = do_auto_job(folder)

    assert result.hyperparameters == {"constant": 1.0}
    assert "0.01 s were over before the first fit" in capsys.readouterr().out
    assert "train.parquet" in result.digests
    said = pl.read_parquet(folder / "out" / "validation.parquet")
    shares = pl.read_parquet(folder / "train.parquet")["y"].value_counts(normalize=True).sort("y")
    np.testing.assert_allclose(said["probabilities"].to_numpy()[0], shares["proportion"])
    assert said["probabilities"].n_unique() == 1
    assert not (folder / ".standby").exists()


def test_a_model_that_comes_after_the_delivery_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    standby = Standby(folder=tmp_path, started=time.perf_counter())
    result = msgspec.convert(
        {
            "algorithm": "auto",
            "task": "regression",
            "target_transform": "none",
            "best_iteration": None,
            "importance": (),
            "hyperparameters": {},
            "packages": {},
            "digests": {},
            **dict.fromkeys(("seed", "threads", "n_train", "n_validation", "n_features"), 1),
            **dict.fromkeys(("import_s", "read_s", "recipe_s", "fit_s", "export_s"), 0.0),
            **dict.fromkeys(("native_difference", "total_s", "peak_memory_mib"), 0.0),
        },
        TrainingResult,
    )
    standby.offer(lambda _: result)
    standby.deliver()

    standby.offer(lambda _: result)

    assert not (tmp_path / ".standby").exists()


def watched(
    folder: Path, *, budget_s: float, stop: list[float] | None = None, memory_mib: int = 1 << 20
) -> tuple[str, float]:
    """Return why a search was left that never ends but has a model, and after how many seconds."""
    standby = Standby(folder=folder, started=time.perf_counter())
    standby.offer(lambda _: None)  # type: ignore[arg-type,return-value]
    training = TrainingSpec(algorithm="auto", task="regression", target="y")
    work = worker._Work(
        spec=AutoSpec(training=training, budget_s=budget_s, memory_mib=memory_mib, metric="rmse"),
        folder=folder,
        recipes={},
        standby=standby,
        started=time.perf_counter(),
        stop=[] if stop is None else stop,
    )
    why = worker._watched(Future(), work)
    return why, time.perf_counter() - work.started


def test_a_search_that_never_ends_is_left_before_the_time_is_up(tmp_path: Path) -> None:
    why, seconds = watched(tmp_path, budget_s=0.8)

    assert "the time was up" in why
    assert seconds < 0.8


def test_a_search_is_left_before_the_memory_is_used_up(tmp_path: Path) -> None:
    why, _ = watched(tmp_path, budget_s=60.0, memory_mib=50)

    assert "the memory was used up" in why


def test_a_search_that_does_not_end_when_told_to_is_left(tmp_path: Path) -> None:
    why, seconds = watched(tmp_path, budget_s=60.0, stop=[time.perf_counter() - 7.0])

    assert "it was told to end" in why
    assert seconds < 5.0


def test_what_goes_wrong_after_a_model_was_finished_does_not_lose_it(
    lay: LayFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = lay(algorithms=("linear-learner", "knn"), max_trials=2)
    best, n_weighed = Blending.best, []

    def failing(self: Blending, trials: Any) -> Any:
        n_weighed.append(None)
        if len(n_weighed) > 1:
            raise MemoryError("no room for weights")
        return best(self, trials)

    monkeypatch.setattr(Blending, "best", failing)

    result = do_auto_job(folder)

    assert result.hyperparameters == {"linear": 1.0}
    assert "MemoryError: no room for weights" in capsys.readouterr().out


def test_a_large_table_has_a_model_of_few_rows_at_once(make_table: MakeTable) -> None:
    table = make_table("binary", n_rows=5_000)

    model = sampled_model(table)

    assert model is not None
    raw = model.predictor.predict_raw(model.fitted.transform(table.frame))
    assert np.mean((raw > 0.5) == (table.y == 1)) > 0.9
    assert model.name == "lightgbm of 2,000 rows"
    assert sampled_model(table, ["knn"]) is None
    assert sampled_model(make_table("binary", n_rows=3_000)) is None


@pytest.mark.parametrize("task", ["regression", "binary"])
def test_a_constant_answers_the_mean(make_table: MakeTable, task: str) -> None:
    table = make_table(task)

    model = constant_model(table)

    raw = model.predictor.predict_raw(model.fitted.transform(table.frame))
    np.testing.assert_allclose(raw, np.full(len(table), table.y.mean()))


def test_groups_and_time_divide_the_rows(lay: LayFolder) -> None:
    by_group = lay(divide_by="group", divide_column="owner")

    result = do_auto_job(by_group)

    assert result.hyperparameters == {"linear": 1.0}


def test_the_newest_models_answer_when_rows_are_divided_by_time(lay: LayFolder) -> None:
    folder = lay(divide_by="time", divide_column="owner")

    do_auto_job(folder)

    model = open_bundle(
        pack_bundle(
            model_members(folder),
            name="houses",
            algorithm="auto",
            outcome=msgspec.json.decode(
                (folder / "auto.json").read_bytes(), type=AutoSpec
            ).training.outcome,
        )
    )
    assert len(model.predictor.members) == 1  # type: ignore[attr-defined]


def test_a_job_that_is_told_to_end_leaves_the_best_model_so_far(lay: LayFolder) -> None:
    folder = lay(n_rows=600, algorithms=("linear-learner", "lightgbm"), max_trials=80)
    process = subprocess.Popen(
        [sys.executable, "-m", "loopwright.tune.worker"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()

    process.send_signal(signal.SIGTERM)
    started = time.monotonic()
    code = process.wait(timeout=100)

    assert code == 0
    assert time.monotonic() - started < 60  # of its 120 seconds
    assert read_result(folder).algorithm == "auto"
    process.stdout.close()


def test_an_order_that_cannot_be_read_ends_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(tmp_path)

    assert code == 1
    assert "auto job" in capsys.readouterr().err


def test_a_budget_of_no_time_is_refused(lay: LayFolder) -> None:
    with pytest.raises(InvalidInputError, match=r"-3\.0 seconds"):
        lay(budget_s=-3.0)
