"""Bundles as MLflow models of the flavor `python_function`, without a pickle.

`mlflow.pyfunc.load_model` imports this module, by the name in `MLmodel`, and calls `_load_pyfunc`.
MLflow itself is not needed to write such a model.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from loopwright.core.errors import AlreadyExistsError, InvalidInputError
from loopwright.core.files import write_atomically
from loopwright.prepare import Field
from loopwright.train.bundle import open_bundle
from loopwright.train.serving_model import ServingModel

BUNDLE_FILE = "model.tar.gz"
MODEL_FILE = "MLmodel"


class LoopwrightModel:
    """A model that MLflow asks for answers; the same as the endpoint gives for the same rows."""

    def __init__(self, model: ServingModel) -> None:
        self.model = model

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Return a table of answers: `prediction`, with `probability` or `probabilities`.

        Parameters
        ----------
        model_input
            A pandas or Polars table, a mapping of columns, or a list of rows.
        params
            Not used.
        """
        import pandas as pd

        return pd.DataFrame(self.model.predict(rows_of(model_input)))


def _load_pyfunc(path: str) -> LoopwrightModel:
    """Return the model in a file; MLflow calls this by name."""
    model = open_bundle(Path(path))
    model.check_golden()
    return LoopwrightModel(model)


def rows_of(given: Any) -> list[dict[str, Any]]:
    """Return rows as a request would bring them.

    Raises
    ------
    InvalidInputError
        If it is nothing that holds rows.
    """
    if hasattr(given, "to_dicts"):
        rows = given.to_dicts()
    elif hasattr(given, "to_dict") and hasattr(given, "columns"):
        rows = given.to_dict("records")
    elif isinstance(given, Mapping):
        columns = {
            n: list(v) if isinstance(v, Sequence) and not isinstance(v, str) else [v]
            for n, v in given.items()
        }
        rows = [
            dict(zip(columns, line, strict=True)) for line in zip(*columns.values(), strict=True)
        ]
    elif isinstance(given, list) and all(isinstance(row, Mapping) for row in given):
        rows = given
    else:
        raise InvalidInputError(
            f"The model cannot read rows from a {type(given).__name__}.",
            hint="Give a pandas or Polars table, or a list of rows such as [{'rooms': 3}].",
            field="model_input",
            value=type(given).__name__,
        )
    return [{str(name): _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: of pandas and NumPy, plain ones; what is missing, None."""
    if isinstance(value, str | bool | int) or value is None:
        return value
    if hasattr(value, "item"):
        value = value.item()
    if value != value:  # NaN and NaT are not equal to themselves
        return None
    if isinstance(value, date | datetime):
        return value.isoformat()
    return value


def mlflow_files(
    bundle: bytes, *, run_id: str = "", artifact_path: str = "model", at: datetime
) -> dict[str, bytes]:
    """Return the files of an MLflow model that holds a bundle, by name.

    Parameters
    ----------
    run_id, artifact_path
        Where it is logged.
    at
        When it was made.

    Raises
    ------
    InvalidInputError
        If the bundle cannot be trusted.
    """
    model = open_bundle(bundle)
    return {
        # JSON is YAML
        MODEL_FILE: json.dumps(
            _description(model, run_id=run_id, artifact_path=artifact_path, at=at), indent=1
        ).encode(),
        BUNDLE_FILE: bundle,
        "python_env.yaml": json.dumps(
            {"python": platform.python_version(), "dependencies": ["-r requirements.txt"]}
        ).encode(),
        "requirements.txt": (
            f"mlflow-skinny\npandas\nloopwright=={version('loopwright')}\n".encode()
        ),
    }


def write_mlflow_model(bundle: Path, folder: Path, *, at: datetime) -> Path:
    """Write a `model.tar.gz` as a folder that `mlflow.pyfunc.load_model` reads; return the folder.

    Raises
    ------
    AlreadyExistsError
        If the folder exists and is not empty.
    InvalidInputError
        If the bundle cannot be trusted.
    """
    if folder.exists() and any(folder.iterdir()):
        raise AlreadyExistsError(
            f"The folder {str(folder)!r} is not empty.",
            hint="Choose another, or remove it.",
            kind="folder",
            name=str(folder),
        )
    for name, content in mlflow_files(bundle.read_bytes(), at=at).items():
        write_atomically(folder / name, content)
    return folder


def _description(
    model: ServingModel, *, run_id: str, artifact_path: str, at: datetime
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "artifact_path": artifact_path,
        "flavors": {
            "python_function": {
                "loader_module": __name__,
                "data": BUNDLE_FILE,
                "env": {"virtualenv": "python_env.yaml"},
                "python_version": platform.python_version(),
            },
            "loopwright": {
                "version": version("loopwright"),
                "algorithm": model.algorithm,
                "task": model.task,
                "model_version": model.version,
            },
        },
        "signature": {
            "inputs": json.dumps([_column(field) for field in model.signature.fields]),
            "outputs": json.dumps(_outputs(model)),
            "params": None,
        },
        "utc_time_created": f"{at:%Y-%m-%d %H:%M:%S.%f}",
    }
    return described | ({"run_id": run_id} if run_id else {})


def _column(field: Field) -> dict[str, Any]:
    kinds = {"category": "string", "text": "string", "boolean": "boolean"}
    # MLflow has no type for a number that may be whole or not (it refuses whole ones as `double`),
    # nor for a flag or a date that may be text or missing; the model checks them itself
    kind = "any" if field.kind == "boolean" and field.nullable else kinds.get(field.kind, "any")
    return {"type": kind, "name": field.name, "required": not field.nullable}


def _outputs(model: ServingModel) -> list[dict[str, Any]]:
    if model.task == "regression":
        return [{"type": "double", "name": "prediction", "required": True}]
    said = [{"type": "string", "name": "prediction", "required": True}]
    if model.task == "binary":
        return [*said, {"type": "double", "name": "probability", "required": True}]
    return [*said, {"type": "any", "name": "probabilities", "required": True}]
