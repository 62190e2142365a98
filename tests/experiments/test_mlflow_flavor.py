"""A bundle is an MLflow model: a folder with a description, a loader and no pickle."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from loopwright.core.errors import AlreadyExistsError, InvalidInputError
from loopwright.train import Outcome, model_members, open_bundle, pack_bundle
from loopwright.train.mlflow_flavor import mlflow_files, rows_of, write_mlflow_model

AT = datetime(2026, 5, 2, tzinfo=UTC)


@pytest.fixture
def bundle(trained_files: Path, tmp_path: Path) -> Path:
    path = tmp_path / "model.tar.gz"
    path.write_bytes(
        pack_bundle(
            model_members(trained_files),
            name="houses",
            algorithm="linear-learner",
            outcome=Outcome(task="regression"),
            golden_rows=[{"area": 100.0, "town": "Aa"}],
        )
    )
    return path


def loaded(folder: Path) -> Any:
    """Return the model as MLflow loads it: by what its description says."""
    flavor = json.loads((folder / "MLmodel").read_text())["flavors"]["python_function"]
    return import_module(flavor["loader_module"])._load_pyfunc(str(folder / flavor["data"]))


def test_a_model_answers_through_the_loader_as_it_does_itself(bundle: Path, tmp_path: Path) -> None:
    folder = write_mlflow_model(bundle, tmp_path / "m", at=AT)
    table = pd.DataFrame({"area": [100.0, 200.0], "town": ["Aa", "Bee"]})

    answers = loaded(folder).predict(table)

    itself = open_bundle(bundle).predict(table.to_dict("records"))
    assert answers.to_dict("records") == itself


def test_the_description_tells_the_columns(bundle: Path) -> None:
    files = mlflow_files(bundle.read_bytes(), run_id="r1", at=AT)

    told = json.loads(files["MLmodel"])
    assert json.loads(told["signature"]["inputs"]) == [
        {"type": "any", "name": "area", "required": True},
        {"type": "string", "name": "town", "required": True},
    ]
    assert told["run_id"] == "r1"
    assert b"loopwright==" in files["requirements.txt"]


@pytest.mark.parametrize(
    "given",
    [
        pd.DataFrame({"a": [1.5, np.nan], "b": ["x", None]}),
        pl.DataFrame({"a": [1.5, None], "b": ["x", None]}),
        {"a": [1.5, None], "b": ["x", None]},
        [{"a": 1.5, "b": "x"}, {"a": None, "b": None}],
        [{"a": np.float64(1.5), "b": "x"}, {"a": np.float64("nan"), "b": None}],
    ],
)
def test_rows_are_read_from_whatever_holds_rows(given: Any) -> None:
    assert rows_of(given) == [{"a": 1.5, "b": "x"}, {"a": None, "b": None}]


def test_dates_and_single_values_are_read_as_a_request_brings_them() -> None:
    table = pd.DataFrame({"at": pd.to_datetime(["2026-01-31", None]), "n": np.array([1, 2])})

    assert rows_of(table) == [{"at": "2026-01-31T00:00:00", "n": 1}, {"at": None, "n": 2}]
    assert rows_of({"day": date(2026, 1, 31), "town": "Aa"}) == [
        {"day": "2026-01-31", "town": "Aa"}
    ]


def test_what_holds_no_rows_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="cannot read rows from a int"):
        rows_of(3)


def test_a_folder_that_holds_something_is_left_alone(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "mine").touch()

    with pytest.raises(AlreadyExistsError):
        write_mlflow_model(bundle, tmp_path / "m", at=AT)

    assert [path.name for path in (tmp_path / "m").iterdir()] == ["mine"]


def test_a_file_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.tar.gz").write_bytes(b"not a bundle")

    with pytest.raises(InvalidInputError):
        write_mlflow_model(tmp_path / "model.tar.gz", tmp_path / "m", at=AT)

    assert not (tmp_path / "m").exists()
