"""The process of a training job: reads the files in its folder, trains, writes the model to `out/`.

`python -m loopwright.train.worker`, started in the folder that `training_job` describes. It ends
with 0, or with 1 and one line on standard error.
"""

from __future__ import annotations

import platform
import resource
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from loopwright.core.digest import digest_file
from loopwright.core.errors import InvalidInputError, LoopwrightError
from loopwright.core.files import write_atomically
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.data import Conversion
from loopwright.prepare import FittedRecipe, Recipe, Signature, fit_recipe
from loopwright.train.algorithm import FittedModel, fit_algorithm, get_algorithm
from loopwright.train.job import (
    METRICS_FILE,
    OUT_FOLDER,
    RECIPE_FILE,
    RESULT_FILE,
    SPEC_FILE,
    TRAIN_FILE,
    VALIDATION_FILE,
    TrainingResult,
    TrainingSpec,
)
from loopwright.train.predictor_file import pack_predictor
from loopwright.train.training_data import TrainingData, TrainingPart

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_PACKAGES = ("loopwright", "numpy", "polars", "scikit-learn", "xgboost-cpu", "xgboost", "lightgbm")
# XGBoost, LightGBM and scikit-learn import these where they find them: seconds for nothing here
_UNNEEDED = ("pandas", "pyarrow", "matplotlib", "dask")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Part:
    """One part of the rows as it was read: raw columns without the target, targets, weights."""

    frame: pl.DataFrame
    y: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64] | None


class _Stopwatch:
    """Seconds between one call and the next."""

    def __init__(self) -> None:
        self.started = self._last = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        lap, self._last = now - self._last, now
        return lap


def main(folder: Path | None = None) -> int:
    """Do the job in a folder, by default the present one, and return the exit code."""
    try:
        do_training_job(folder or Path.cwd())
    except LoopwrightError as error:
        print(_one_line(str(error)), file=sys.stderr)
        return 1
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
        print(_one_line(f"{type(error).__name__}: {error}"), file=sys.stderr)
        return 1
    return 0


def _one_line(text: str) -> str:
    return " ".join(text.split())


def do_training_job(folder: Path) -> TrainingResult:
    """Train what `training.json` in the folder says, and leave the model in `out/`.

    Raises
    ------
    InvalidInputError
        If the order, the rows or the settings cannot be used.
    """
    watch = _Stopwatch()
    spec, recipe = _order(folder)
    algorithm = get_algorithm(spec.algorithm)
    out = folder / OUT_FOLDER
    out.mkdir(exist_ok=True)
    _import_libraries(algorithm.library(spec.task))
    import_s = watch.lap()
    train = _read_part(folder / TRAIN_FILE, spec)
    validation = _read_part(folder / VALIDATION_FILE, spec)
    read_s = watch.lap()
    fitted_recipe, data = _prepared(recipe, spec, train, validation)
    recipe_s = watch.lap()
    with (out / METRICS_FILE).open("w", buffering=1) as curve:
        fitted = fit_algorithm(
            algorithm,
            data,
            task=spec.task,
            hyperparameters=spec.hyperparameters,
            seed=spec.seed,
            threads=spec.threads,
            target_transform=spec.target_transform,
            on_metric=_metric_writer(curve),
        )
    _write_model(out, spec, train, fitted_recipe, fitted)
    _write_answers(out, spec, validation, data, fitted)
    result = TrainingResult(
        algorithm=spec.algorithm,
        task=spec.task,
        seed=spec.seed,
        threads=spec.threads,
        target_transform=spec.target_transform,
        hyperparameters=dict(fitted.hyperparameters),
        best_iteration=fitted.best_iteration,
        importance=_ranked(fitted, fitted_recipe),
        native_difference=fitted.native_difference,
        n_train=len(data.train),
        n_validation=len(data.validation),
        n_features=data.n_features,
        import_s=import_s,
        read_s=read_s,
        recipe_s=recipe_s,
        fit_s=fitted.fit_s,
        export_s=watch.lap() - fitted.fit_s,
        total_s=time.perf_counter() - watch.started,
        peak_memory_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        packages=_packages(),
        digests=_digests(folder),
    )
    # last: a folder with a result is a folder with a whole model
    write_atomically(out / RESULT_FILE, msgspec.json.encode(result))
    return result


def _order(folder: Path) -> tuple[TrainingSpec, Recipe]:
    try:
        spec = msgspec.json.decode((folder / SPEC_FILE).read_bytes(), type=TrainingSpec)
        recipe = (folder / RECIPE_FILE).read_bytes()
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidInputError(
            f"The training job in {str(folder)!r} cannot be read: {error}.",
            hint="Start it through `training_job`.",
            field=SPEC_FILE,
        ) from error
    return spec, Recipe.from_json(recipe)


def _import_libraries(name: str | None) -> None:
    import_module("numpy")
    import_module("polars")
    if name:
        of_its_own = () if name.startswith("sklearn") else ("sklearn",)
        with _without_modules((*_UNNEEDED, *of_its_own)):
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


def _read_part(path: Path, spec: TrainingSpec) -> _Part:
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
    return _Part(frame=frame.drop(spec.target, *extra), y=y, weight=weight)


def _numbers(column: pl.Series) -> npt.NDArray[np.float64]:
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise InvalidInputError(
            f"Column {column.name!r} holds {column.dtype} values, not numbers.",
            hint="Turn it into numbers in the source, or choose another column.",
            field=column.name,
            value=str(column.dtype),
        )
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float64)


def _prepared(
    recipe: Recipe, spec: TrainingSpec, train: _Part, validation: _Part
) -> tuple[FittedRecipe, TrainingData]:
    fitted, X = fit_recipe(
        recipe,
        train.frame,
        _recipe_target(spec, train.y),
        seed=spec.seed,
        today=date.fromisoformat(spec.today) if spec.today else None,
    )
    return fitted, TrainingData(
        train=TrainingPart(X=np.ascontiguousarray(X), y=train.y, weight=train.weight),
        validation=TrainingPart(
            X=np.ascontiguousarray(fitted.transform(validation.frame)),
            y=validation.y,
            weight=validation.weight,
        ),
        n_classes=len(spec.classes),
    )


def _recipe_target(spec: TrainingSpec, y: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """Return the target on the scale that is trained, for encodings: many classes as labels."""
    if spec.task == "multiclass":
        return np.array(spec.classes)[y.astype(np.intp)]
    if spec.target_transform == "log" and (y > 0).all():
        return np.log(y)
    return y


def _metric_writer(curve: TextIO) -> Any:
    encode = msgspec.json.encode

    def write(step: int, name: str, value: float) -> None:
        line = {"step": step, "name": name, "value": value}
        curve.write(encode(line).decode() + "\n")

    return write


def _write_model(
    out: Path, spec: TrainingSpec, train: _Part, recipe: FittedRecipe, fitted: FittedModel
) -> None:
    signature = Signature.from_frame(
        train.frame.select(list(recipe.inputs)),
        conversions=[Conversion.from_json(one) for one in spec.conversions],
        target=spec.target,
    )
    files: Mapping[str, bytes] = {
        **pack_predictor(fitted.predictor),
        "recipe.json": recipe.to_json().encode(),
        "signature.json": signature.to_json().encode(),
        **{f"model/{name}": content for name, content in fitted.native.items()},
    }
    for name, content in files.items():
        write_atomically(out / name, content)


def _write_answers(
    out: Path, spec: TrainingSpec, part: _Part, data: TrainingData, fitted: FittedModel
) -> None:
    """Write `validation.parquet`: the row's place, the truth, what the model says, probabilities."""
    raw = fitted.predictor.predict_raw(data.validation.X)
    said = spec.outcome.said(raw)
    truth = [spec.classes[int(i)] for i in part.y] if spec.classes else part.y
    columns: dict[str, Any] = {
        "row": pl.arange(len(part.y), eager=True, dtype=pl.UInt32),
        "actual": pl.Series("actual", truth),
        "prediction": pl.Series("prediction", said),
    }
    if spec.task == "binary":
        columns["probability"] = raw
    if spec.task == "multiclass":
        columns["probabilities"] = pl.Series(
            "probabilities", raw, dtype=pl.Array(pl.Float64, raw.shape[1])
        )
    pl.DataFrame(columns).write_parquet(out / "validation.parquet")


def _ranked(fitted: FittedModel, recipe: FittedRecipe) -> tuple[tuple[str, float], ...]:
    if fitted.importance is None:
        return ()
    pairs = zip(recipe.feature_names, fitted.importance.tolist(), strict=True)
    return tuple(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))


def _packages() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _digests(folder: Path) -> dict[str, str]:
    names = (TRAIN_FILE, VALIDATION_FILE, RECIPE_FILE, SPEC_FILE)
    out = sorted(p for p in (folder / OUT_FOLDER).rglob("*") if p.is_file())
    files = {name: folder / name for name in names}
    told = (METRICS_FILE, RESULT_FILE)
    files |= {str(p.relative_to(folder)): p for p in out if p.name not in told}
    return {name: digest_file(path) for name, path in files.items()}


if __name__ == "__main__":
    sys.exit(main())
