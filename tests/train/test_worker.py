"""A training job leaves a whole model, says what it did, and fails with one clear line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import loopwright
from loopwright.core.errors import InvalidInputError
from loopwright.prepare import FittedRecipe, Signature
from loopwright.problem import TASKS
from loopwright.train import ALGORITHMS, model_members, read_result
from loopwright.train.predictor_file import open_predictor
from loopwright.train.worker import do_training_job, main

JobFolder = Callable[..., Path]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_job_leaves_a_model_that_answers_as_its_validation_file_says(
    job_folder: JobFolder, algorithm: str, task: str
) -> None:
    folder = job_folder(algorithm, task)

    do_training_job(folder)

    out = folder / "out"
    predictor = open_predictor(
        (out / "predictor.npz").read_bytes(), (out / "predictor.json").read_bytes()
    )
    recipe = FittedRecipe.from_json((out / "recipe.json").read_bytes())
    raw = predictor.predict_raw(recipe.transform(pl.read_parquet(folder / "validation.parquet")))
    kept = pl.read_parquet(out / "validation.parquet")
    column = {"regression": "prediction", "binary": "probability"}.get(task, "probabilities")
    assert (kept[column].to_numpy() == raw).all()
    assert kept["row"].to_list() == list(range(100))
    right = {
        "regression": lambda: ((kept["prediction"] / kept["actual"] - 1).abs() < 0.3).mean(),
        "binary": lambda: (kept["prediction"] == kept["actual"]).mean(),
        "multiclass": lambda: (kept["prediction"] == kept["actual"]).mean(),
    }[task]()
    assert right > (0.5 if task == "regression" else 0.75)


def test_the_result_tells_what_was_done(job_folder: JobFolder) -> None:
    folder = job_folder("lightgbm", "regression", target_transform="log", seed=5)

    told = do_training_job(folder)

    assert read_result(folder) == told
    assert (told.n_train, told.n_validation, told.seed) == (300, 100, 5)
    assert told.n_features == len(told.importance)
    assert told.importance[0][0] in ("area", "town_target_mean")
    assert sum(share for _, share in told.importance) == pytest.approx(1.0)
    assert told.best_iteration is not None
    assert told.native_difference == 0.0
    assert 0 < told.fit_s < told.total_s
    assert told.packages["lightgbm"]
    assert told.digests["train.parquet"].startswith("sha256:")
    assert {"out/predictor.npz", "out/recipe.json", "out/model/model.txt"} <= told.digests.keys()


def test_the_same_job_leaves_the_same_bytes(job_folder: JobFolder) -> None:
    folder = job_folder("xgboost", "binary")
    first = do_training_job(folder).digests

    second = do_training_job(folder).digests

    assert first == second


def test_the_learning_curve_is_written_as_it_goes(job_folder: JobFolder) -> None:
    folder = job_folder("xgboost", "binary")

    do_training_job(folder)

    lines = (folder / "out" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0]).keys() == {"step", "name", "value"}
    assert {json.loads(line)["name"] for line in lines} == {
        "train:logloss",
        "validation:logloss",
    }


def test_the_signature_knows_what_a_request_must_hold(job_folder: JobFolder) -> None:
    folder = job_folder("linear-learner", "regression")

    do_training_job(folder)

    signature = Signature.from_json((folder / "out" / "signature.json").read_bytes())
    assert "weight" not in {field.name for field in signature.fields}
    assert signature.target == "price"
    assert {f.name for f in signature.fields if f.nullable} == {"rooms", "town"}


def test_weights_are_used(job_folder: JobFolder) -> None:
    folder = job_folder("linear-learner", "regression")
    do_training_job(folder)
    weighted = (folder / "out" / "predictor.npz").read_bytes()
    rows = pl.read_parquet(folder / "train.parquet")

    rows.with_columns(weight=pl.lit(1.0)).write_parquet(folder / "train.parquet")
    do_training_job(folder)

    assert (folder / "out" / "predictor.npz").read_bytes() != weighted


def test_modules_that_were_hidden_are_there_again(job_folder: JobFolder) -> None:
    do_training_job(job_folder("linear-learner", "regression"))

    assert None not in sys.modules.values()


def _broken(folder: Path, case: str) -> None:
    rows = pl.read_parquet(folder / "train.parquet")
    spec = json.loads((folder / "training.json").read_bytes())
    if case == "a missing target":
        others = pl.int_range(pl.len()) != 3
        rows = rows.with_columns(pl.when(others).then("price").alias("price"))
    elif case == "a target of text":
        rows = rows.with_columns(pl.col("price").cast(pl.String))
    elif case == "no such target":
        spec["target"] = "prize"
    elif case == "an unknown key":
        spec["colour"] = "red"
    elif case == "an unknown hyperparameter":
        spec["hyperparameters"] = {"alfa": 1}
    elif case == "an unknown algorithm":
        spec["algorithm"] = "xgbost"
    elif case == "one target only":
        rows = rows.with_columns(price=pl.lit(5.0))
    rows.write_parquet(folder / "train.parquet")
    (folder / "training.json").write_text(json.dumps(spec))


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("a missing target", "1 of 300 training rows have no finite target (first: row 3, nan)"),
        ("a target of text", "Column 'price' holds String values, not numbers."),
        ("no such target", "train.parquet has no column 'prize'. Did you mean 'price'?"),
        ("an unknown key", "cannot be read: Object contains unknown field `colour`"),
        ("an unknown hyperparameter", "has no hyperparameter 'alfa'. Did you mean 'alpha'?"),
        ("an unknown algorithm", "No algorithm is named 'xgbost'. Did you mean 'xgboost'?"),
        ("one target only", "All 300 training rows have the target 5: nothing can be learned."),
    ],
)
def test_a_failure_ends_with_one_clear_line(
    job_folder: JobFolder, capfd: pytest.CaptureFixture[str], case: str, message: str
) -> None:
    folder = job_folder("linear-learner", "regression")
    _broken(folder, case)

    code = main(folder)

    error = capfd.readouterr().err
    assert code == 1
    assert message in error
    assert error.count("\n") == 1
    assert not (folder / "out" / "result.json").exists()


def test_a_class_unknown_to_the_job_is_refused(job_folder: JobFolder) -> None:
    folder = job_folder("knn", "multiclass", classes=("high", "low"))

    with pytest.raises(InvalidInputError, match="is 'middle', which is none of the classes"):
        do_training_job(folder)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"predictor\.npz is missing"):
        model_members(tmp_path)


@pytest.mark.parametrize(("algorithm", "unneeded"), [("lightgbm", "sklearn"), ("knn", "lightgbm")])
def test_the_process_loads_only_what_it_needs(
    job_folder: JobFolder, algorithm: str, unneeded: str
) -> None:
    folder = job_folder(algorithm, "regression")
    code = (
        "import sys; from loopwright.train.worker import main; code = main();"
        "print([m for m in ('pandas', 'pyarrow', 'sklearn', 'lightgbm') if sys.modules.get(m)]);"
        "sys.exit(code)"
    )

    ended = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(loopwright.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert unneeded not in ended.stdout
    assert "pandas" not in ended.stdout
    assert np.isfinite(read_result(folder).total_s)
