"""A training job's key stands for all that decides its result, and for nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loopwright.compute import JobSpec, Resources
from loopwright.core.errors import BackendError, InvalidInputError, NotFoundError
from loopwright.train import TrainingSpec, read_result, training_job


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    paths = {name: tmp_path / f"{name}.parquet" for name in ("train", "validation")}
    for name, path in paths.items():
        path.write_bytes(name.encode())
    return paths


def job(files: dict[str, Path], *, recipe: str = "{}", name: str = "x", **spec: Any) -> JobSpec:
    values = {"algorithm": "xgboost", "task": "regression", "target": "price", **spec}
    return training_job(TrainingSpec(**values), name=name, recipe=recipe, **files)


def test_the_same_work_has_the_same_key(files: dict[str, Path]) -> None:
    first, second = job(files, name="a"), job(files, name="b", hyperparameters={"max_depth": 6})

    assert first.key == second.key


@pytest.mark.parametrize(
    "change",
    [
        {"algorithm": "lightgbm"},
        {"seed": 8},
        {"threads": 2},
        {"target": "other"},
        {"target_transform": "log"},
        {"weight_column": "w"},
        {"hyperparameters": {"max_depth": 5}},
        {"recipe": '{"steps": []}'},
        {"task": "binary", "classes": ("a", "b")},
        {"today": "2026-01-01"},
    ],
)
def test_other_work_has_another_key(files: dict[str, Path], change: dict[str, Any]) -> None:
    assert job(files).key != job(files, **change).key


@pytest.mark.parametrize("name", ["train", "validation"])
def test_other_rows_have_another_key(files: dict[str, Path], name: str) -> None:
    before = job(files).key

    files[name].write_bytes(b"other rows")

    assert job(files).key != before


def test_the_job_asks_for_what_it_was_given(files: dict[str, Path]) -> None:
    spec = TrainingSpec(algorithm="knn", task="regression", target="price", threads=2)

    made = training_job(
        spec,
        name="houses/knn",
        recipe="{}",
        **files,
        resources=Resources(cpus=2, memory="1 GiB"),
        time_limit_s=60,
        labels={"round": "1"},
    )

    assert (made.kind, made.name, made.time_limit_s) == ("training", "houses/knn", 60)
    assert made.resources.cpus == 2
    assert made.env["OMP_NUM_THREADS"] == "2"
    assert dict(made.labels) == {"algorithm": "knn", "round": "1"}


def test_a_mistake_is_found_before_the_job_starts(files: dict[str, Path]) -> None:
    with pytest.raises(InvalidInputError, match="Did you mean 'max_depth'"):
        job(files, hyperparameters={"maxdepth": 3})
    with pytest.raises(NotFoundError, match="Did you mean 'xgboost'"):
        job(files, algorithm="xgbost")


def test_a_result_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="left no result that can be read"):
        read_result(tmp_path)
