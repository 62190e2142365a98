"""The process of a training job: reads the files in its folder, trains, writes the model to `out/`.

`python -m loopwright.train.worker`, started in the folder that `training_job` describes. It ends
with 0, or with 1 and one line on standard error.
"""

from __future__ import annotations

import resource
import sys
import time
import traceback
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from loopwright.core.errors import InvalidInputError, LoopwrightError
from loopwright.core.files import write_atomically
from loopwright.core.lazy import LazyModule
from loopwright.prepare import FittedRecipe, Recipe, fit_recipe
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
from loopwright.train.job_folder import (
    Part,
    digests,
    import_libraries,
    packages,
    read_part,
    recipe_target,
    write_answers,
    write_model,
)
from loopwright.train.training_data import TrainingData, TrainingPart

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")


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
    return run_in(folder or Path.cwd(), do_training_job)


def run_in(folder: Path, work: Callable[[Path], object]) -> int:
    """Do some work in a folder and return the exit code: 1 with one line on standard error."""
    try:
        work(folder)
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


def do_training_job(
    folder: Path, *, share: Callable[[TrainingData], TrainingData] = lambda data: data
) -> TrainingResult:
    """Train what `training.json` in the folder says, and leave the model in `out/`.

    Parameters
    ----------
    share
        Takes this process's share of the rows, where several train one model.

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
    import_libraries(algorithm.library(spec.task))
    import_s = watch.lap()
    train = read_part(folder / TRAIN_FILE, spec)
    validation = read_part(folder / VALIDATION_FILE, spec)
    read_s = watch.lap()
    fitted_recipe, whole = _prepared(recipe, spec, train, validation)
    data = share(whole)
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
    write_model(
        out,
        spec,
        train,
        fitted_recipe,
        predictor=fitted.predictor,
        native=fitted.native,
    )
    write_answers(out, spec.outcome, validation.y, fitted.predictor.predict_raw(data.validation.X))
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
        n_train=len(whole.train),
        n_validation=len(data.validation),
        n_features=data.n_features,
        import_s=import_s,
        read_s=read_s,
        recipe_s=recipe_s,
        fit_s=fitted.fit_s,
        export_s=watch.lap() - fitted.fit_s,
        total_s=time.perf_counter() - watch.started,
        peak_memory_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        packages=packages(),
        digests=digests(folder),
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


def _prepared(
    recipe: Recipe, spec: TrainingSpec, train: Part, validation: Part
) -> tuple[FittedRecipe, TrainingData]:
    fitted, X = fit_recipe(
        recipe,
        train.frame,
        recipe_target(spec, train.y),
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
        feature_names=fitted.feature_names,
        class_names=spec.classes,
    )


def _metric_writer(curve: TextIO) -> Any:
    encode = msgspec.json.encode

    def write(step: int, name: str, value: float) -> None:
        line = {"step": step, "name": name, "value": value}
        curve.write(encode(line).decode() + "\n")

    return write


def _ranked(fitted: FittedModel, recipe: FittedRecipe) -> tuple[tuple[str, float], ...]:
    if fitted.importance is None:
        return ()
    pairs = zip(recipe.feature_names, fitted.importance.tolist(), strict=True)
    return tuple(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))


if __name__ == "__main__":
    sys.exit(main())
