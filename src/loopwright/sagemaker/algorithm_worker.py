"""A built-in algorithm inside a training job: reads channels, trains with ours, leaves a bundle.

`python -m loopwright.sagemaker.algorithm_worker NAME [TAG]`, in the folders of the training contract;
the tag is that of the image.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from loopwright.core.errors import InvalidInputError, LoopwrightError
from loopwright.core.lazy import LazyModule
from loopwright.prepare import Recipe, fit_recipe
from loopwright.problem import Task
from loopwright.sagemaker.algorithm import SETTINGS_FILE, checked_hyperparameters, task_of
from loopwright.sagemaker.algorithm_data import Rows, read_channel
from loopwright.sagemaker.algorithm_spelling import watched_metrics
from loopwright.sagemaker.algorithm_threshold import chosen_threshold
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.image import is_before
from loopwright.sagemaker.learner_metric import learner_metrics
from loopwright.train.algorithm import FittedModel, fit_algorithm, get_algorithm
from loopwright.train.archive import open_archive
from loopwright.train.bundle import pack_bundle
from loopwright.train.job import TrainingSpec, model_members
from loopwright.train.job_folder import Part, write_model
from loopwright.train.training_data import TrainingData, TrainingPart

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

TARGET = "target"
_MOST_CLASSES = 1000
# the names under which people look for the library's own file
_NATIVE = {"xgboost": ("model.ubj", "xgboost-model"), "lightgbm": ("model.txt", "model.txt")}


def main() -> int:
    """Do the job and return the exit code; say why not in `output/failure`."""
    base = Path(os.environ["SAGEMAKER_BASE_DIR"])
    try:
        train(sys.argv[1], base, tag=sys.argv[2] if len(sys.argv) > 2 else "")
    except (LoopwrightError, ApiError) as error:
        message = f"ClientError: {error.message if isinstance(error, ApiError) else error}"
        (base / "output" / "failure").write_text(message)
        print(message, file=sys.stderr)
        return 1
    return 0


def train(name: str, base: Path, *, tag: str = "") -> None:
    """Train the algorithm of that name on the channels below a folder.

    Raises
    ------
    InvalidInputError, ApiError
        If the data or the hyperparameters cannot be used.
    """
    texts = json.loads((base / "input/config/hyperparameters.json").read_bytes())
    channels = json.loads((base / "input/config/inputdataconfig.json").read_bytes())
    if "train" not in channels:
        raise InvalidInputError(f"{name} needs a channel that is called train.", field="train")
    weighted = texts.get("csv_weights", "0").strip('"') == "1"

    def rows(channel: str) -> Rows | None:
        about = channels.get(channel)
        if about is None:
            return None
        folder = base / "input/data" / channel
        return read_channel(folder, about.get("ContentType", ""), has_weights=weighted)

    given, held = rows("train"), rows("validation")
    assert given is not None  # noqa: S101 there is such a channel, see above
    task, classes = _outcome(name, texts, given)
    spec = TrainingSpec(
        algorithm=name,
        task=task,
        target=TARGET,
        classes=classes,
        hyperparameters=_fitting(name, texts, has_validation=held is not None),
        seed=int(texts.get("seed", "0").strip('"')),
        threads=int(os.environ.get("SM_NUM_CPUS", "1")),
    )
    fitted, members = _trained(spec, given, held)
    about = {"algorithm": name, "hyperparameters": texts, "n_features": int(given.X.shape[1])}
    members[SETTINGS_FILE] = json.dumps(about).encode()
    outcome = spec.outcome
    if name == "linear-learner" and task == "binary":
        judged = given if held is None else held
        threshold = chosen_threshold(texts, judged.y, _probability(fitted, judged))
        outcome = replace(outcome, threshold=threshold)
    parts = {"validation": held if name == "linear-learner" else None, "test": rows("test")}
    _tell(spec, fitted, texts, parts, threshold=outcome.threshold or 0.5)
    bundle = pack_bundle(members, name=name, algorithm=name, outcome=outcome)
    _leave(base / "model", open_archive(bundle), name, tag)


def _fitting(name: str, texts: Mapping[str, str], *, has_validation: bool) -> dict[str, Any]:
    objective = texts.get("_tuning_objective_metric", "").strip('"').partition(":")[2]
    metrics = watched_metrics(texts) if name == "xgboost" else []
    if name == "xgboost" and objective:
        # a tuner reads it in the log, so that it must be watched
        metrics = [*(each for each in metrics if each != objective), objective]
        texts = {**texts, "eval_metric": objective}
    found = checked_hyperparameters(name, texts)
    if len(metrics) > 1:
        found["also_watched"] = metrics[:-1]
    if "early_stopping_rounds" in found and not has_validation:
        found["early_stopping_rounds"] = 0
    return found


def _outcome(name: str, texts: Mapping[str, str], rows: Rows) -> tuple[Task, tuple[str, ...]]:
    """Return the task and its classes, which are named by their numbers."""
    if np.isnan(rows.y).any():
        raise InvalidInputError("A target is missing or no number.", field="train")
    task = task_of(name, texts)
    values = np.unique(rows.y)
    are_classes = bool((values == np.round(values)).all()) and len(values) <= _MOST_CLASSES
    if task is None:
        is_regression = name == "lightgbm" and (not are_classes or len(values) > 100)
        task = "regression" if is_regression else ("binary" if len(values) == 2 else "multiclass")
    if task == "regression":
        return "regression", ()
    if not are_classes or values.min() < 0:
        raise InvalidInputError(
            "The targets of a classification must be whole numbers from 0.", field="train"
        )
    n_classes = int(texts.get("num_class", texts.get("num_classes", "0")).strip('"') or 0)
    n_classes = max(n_classes, int(values.max()) + 1, 2)
    if task == "binary" and n_classes > 2:
        raise InvalidInputError(
            f"A binary classification has the labels 0 and 1, not {values.max():g}.", field="train"
        )
    return cast(Task, task), tuple(str(each) for each in range(n_classes))


def _frame(X: Any) -> pl.DataFrame:
    return pl.DataFrame({f"f{i}": X[:, i] for i in range(X.shape[1])}, nan_to_null=True)


def _recipe(spec: TrainingSpec) -> Recipe:
    """Return the features: the numbers as they are, scaled for a linear model alone."""
    from loopwright.prepare.imputation import Impute
    from loopwright.prepare.scaling import Scale

    if spec.algorithm == "linear-learner":
        return Recipe((Impute(), Scale()))
    return Recipe((Impute(),)) if spec.algorithm == "knn" else Recipe(())


def _trained(
    spec: TrainingSpec, given: Rows, held: Rows | None
) -> tuple[tuple[FittedModel, Any], dict[str, bytes | Path]]:
    part = Part(frame=_frame(given.X), y=given.y, weight=given.weight)
    recipe, X = fit_recipe(_recipe(spec), part.frame, given.y, seed=spec.seed)
    train = TrainingPart(X=np.ascontiguousarray(X), y=given.y, weight=given.weight)
    validation = train
    if held is not None:
        if held.X.shape[1] != given.X.shape[1]:
            raise InvalidInputError(
                f"The validation rows have {held.X.shape[1]} features, the training rows "
                f"{given.X.shape[1]}.",
                field="validation",
            )
        features = np.ascontiguousarray(recipe.transform(_frame(held.X)))
        validation = TrainingPart(X=features, y=held.y, weight=held.weight)
    data = TrainingData(
        train=train,
        validation=validation,
        n_classes=len(spec.classes),
        feature_names=recipe.feature_names,
        class_names=spec.classes,
    )
    told = _Told(has_validation=held is not None)
    fitted = fit_algorithm(
        get_algorithm(spec.algorithm),
        data,
        task=spec.task,
        hyperparameters=spec.hyperparameters,
        seed=spec.seed,
        threads=spec.threads,
        target_transform="none",
        on_metric=told,
    )
    told.flush()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        (out / "model").mkdir(parents=True)
        if spec.algorithm in ("xgboost", "lightgbm"):
            # these take a row with gaps, also when they have not seen any
            gap = pl.DataFrame(schema=part.frame.schema).clear(1)
            part = replace(part, frame=pl.concat([part.frame, gap]))
        write_model(out, spec, part, recipe, predictor=fitted.predictor, native=fitted.native)
        members: dict[str, bytes | Path] = {
            name: path.read_bytes() for name, path in model_members(Path(folder)).items()
        }
    return (fitted, recipe), members


class _Told:
    """Prints the learning curve as SageMaker's XGBoost does, whose lines tuners read."""

    def __init__(self, *, has_validation: bool) -> None:
        self._has_validation = has_validation
        self._step = 0
        self._line = ""

    def __call__(self, step: int, name: str, value: float) -> None:
        part, _, metric = name.partition(":")
        if part == "validation" and not self._has_validation:
            return
        if step != self._step:
            self.flush()
            self._step = step
            self._line = f"[{step - 1}]"
        self._line += f"#011{part}-{metric}:{value:.5f}"

    def flush(self) -> None:
        """Print the line of the last round."""
        if self._line:
            print(self._line, flush=True)
        self._line = ""


def _tell(
    spec: TrainingSpec,
    fitted: tuple[FittedModel, Any],
    texts: Mapping[str, str],
    parts: Mapping[str, Rows | None],
    *,
    threshold: float,
) -> None:
    """Print how good the model is on rows it did not learn from, as the first algorithms do."""
    if spec.algorithm not in ("knn", "linear-learner"):
        return
    for part, rows in parts.items():
        if rows is None:
            continue
        raw = _probability(fitted, rows)
        said = learner_metrics(spec.task, rows.y, raw, texts, threshold=threshold)
        for metric, value in said.items():
            kind = "loss" if metric in ("objective_loss", "absolute_loss") else "score"
            print(f"#quality_metric: host=algo-1, {part} {metric} <{kind}>={value}", flush=True)


def _probability(fitted: tuple[FittedModel, Any], rows: Rows) -> Any:
    model, recipe = fitted
    return model.predictor.predict_raw(np.ascontiguousarray(recipe.transform(_frame(rows.X))))


def _leave(folder: Path, members: Mapping[str, bytes], name: str, tag: str) -> None:
    own, known = _NATIVE.get(name, ("", ""))
    for path, content in members.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        if path == f"model/{own}":
            is_old = name == "xgboost" and is_before(tag, (1, 3))
            (folder / known).write_bytes(_pickled(content) if is_old else content)


def _pickled(model: bytes) -> bytes:
    """Return a model as the images before 1.3 leave it, whose users unpickle it; we never do."""
    import pickle

    import xgboost

    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(model))
    return pickle.dumps(booster)


if __name__ == "__main__":
    sys.exit(main())
