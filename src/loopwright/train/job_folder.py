"""The folder of a training job: the rows it reads from there and the model it leaves behind."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.digest import digest_file
from loopwright.core.errors import InvalidInputError
from loopwright.core.files import write_atomically
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.data import Conversion
from loopwright.prepare import FittedRecipe, RecipeUnion, Signature
from loopwright.train.job import (
    METRICS_FILE,
    OUT_FOLDER,
    RECIPE_FILE,
    RESULT_FILE,
    SPEC_FILE,
    TRAIN_FILE,
    VALIDATION_FILE,
    TrainingSpec,
)
from loopwright.train.outcome import Outcome
from loopwright.train.predictor import Predictor
from loopwright.train.predictor_file import pack_predictor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

INPUT_FILES = (TRAIN_FILE, VALIDATION_FILE, RECIPE_FILE, SPEC_FILE)
_PACKAGES = (
    "loopwright",
    "numpy",
    "polars",
    "scikit-learn",
    "xgboost-cpu",
    "xgboost",
    "lightgbm",
    "catboost",
)
# XGBoost, LightGBM and scikit-learn import these where they find them: seconds for nothing here
_UNNEEDED = ("pandas", "pyarrow", "matplotlib", "dask")
_NEED_PANDAS = ("catboost",)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """One part of the rows as it was read: raw columns without the target, targets, weights."""

    frame: pl.DataFrame
    y: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64] | None


def import_libraries(name: str | None) -> None:
    """Import NumPy, Polars and the module of an algorithm, without what they would bring along."""
    import_module("numpy")
    import_module("polars")
    if name:
        hidden = () if name in _NEED_PANDAS else _UNNEEDED
        of_its_own = () if name.startswith("sklearn") else ("sklearn",)
        with _without_modules((*hidden, *of_its_own)):
            import_module(name)


@contextmanager
def _without_modules(names: tuple[str, ...]) -> Iterator[None]:
    """Let optional imports of these modules fail at once, for as long as the context lasts."""
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def read_part(path: Path, spec: TrainingSpec) -> Part:
    """Return the rows of a part, checked for the target and the weights.

    Raises
    ------
    InvalidInputError
        If a column is not there, holds no numbers where numbers are needed, or names no class.
    """
    frame = pl.read_parquet(path)
    extra = [spec.weight_column] if spec.weight_column else []
    for column in (spec.target, *extra):
        if column not in frame.columns:
            raise InvalidInputError(
                f"{path.name} has no column {column!r}.",
                hint=did_you_mean(column, frame.columns),
                field=column,
                value=column,
            )
    y = (
        spec.outcome.indices(frame[spec.target].to_list())
        if spec.classes
        else _numbers(frame[spec.target])
    )
    weight = _numbers(frame[spec.weight_column]) if spec.weight_column else None
    return Part(frame=frame.drop(spec.target, *extra), y=y, weight=weight)


def _numbers(column: pl.Series) -> npt.NDArray[np.float64]:
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise InvalidInputError(
            f"Column {column.name!r} holds {column.dtype} values, not numbers.",
            hint="Turn it into numbers in the source, or choose another column.",
            field=column.name,
            value=str(column.dtype),
        )
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float64)


def recipe_target(spec: TrainingSpec, y: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """Return the target on the scale that is trained, for encodings: many classes as labels."""
    if spec.task == "multiclass":
        return np.array(spec.classes)[y.astype(np.intp)]
    if spec.target_transform == "log" and (y > 0).all():
        return np.log(y)
    return y


def write_model(
    out: Path,
    spec: TrainingSpec,
    train: Part,
    recipe: FittedRecipe | RecipeUnion,
    *,
    predictor: Predictor,
    native: Mapping[str, bytes],
) -> None:
    """Write the files of a model; see `model_members`."""
    signature = Signature.from_frame(
        train.frame.select(list(recipe.inputs)),
        conversions=[Conversion.from_json(one) for one in spec.conversions],
        target=spec.target,
    )
    files: Mapping[str, bytes] = {
        **pack_predictor(predictor),
        "recipe.json": recipe.to_json().encode(),
        "signature.json": signature.to_json().encode(),
        **{f"model/{name}": content for name, content in native.items()},
    }
    for name, content in files.items():
        write_atomically(out / name, content)


def write_answers(
    out: Path, outcome: Outcome, y: npt.NDArray[np.float64], raw: npt.NDArray[np.float64]
) -> None:
    """Write `validation.parquet`: the row's place, the truth, what the model says, probabilities.

    Parameters
    ----------
    y
        The truth, `(n_rows,)`: values, or indices of classes.
    raw
        What the model says about the same rows; see `Predictor.predict_raw`.
    """
    truth = [outcome.classes[int(i)] for i in y] if outcome.classes else y
    columns: dict[str, Any] = {
        "row": pl.arange(len(y), eager=True, dtype=pl.UInt32),
        "actual": pl.Series("actual", truth),
        "prediction": pl.Series("prediction", outcome.said(raw)),
    }
    if outcome.task == "binary":
        columns["probability"] = raw
    if outcome.task == "multiclass":
        columns["probabilities"] = pl.Series(
            "probabilities", raw, dtype=pl.Array(pl.Float64, raw.shape[1])
        )
    pl.DataFrame(columns).write_parquet(out / "validation.parquet")


def packages() -> dict[str, str]:
    """Return the versions of what takes part in training."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def digests(folder: Path, inputs: Sequence[str] = INPUT_FILES) -> dict[str, str]:
    """Return the digest of every file that went in and every one that came out."""
    out = sorted(p for p in (folder / OUT_FOLDER).rglob("*") if p.is_file())
    files = {name: folder / name for name in inputs}
    told = (METRICS_FILE, RESULT_FILE)
    files |= {str(p.relative_to(folder)): p for p in out if p.name not in told}
    return {name: digest_file(path) for name, path in files.items()}
