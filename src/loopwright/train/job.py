"""Training jobs: one algorithm, one recipe, one set of rows, in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from loopwright.compute import JobSpec, Limits, Resources
from loopwright.core.digest import digest_bytes, digest_file, digest_value
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.problem import Task
from loopwright.train.algorithm import (
    ALGORITHMS,
    TargetTransform,
    check_settings,
    get_algorithm,
)
from loopwright.train.hyperparameter import checked_hyperparameters
from loopwright.train.outcome import Outcome
from loopwright.train.plugin import algorithm_plugins, plugin_package

SPEC_FILE = "training.json"
RECIPE_FILE = "recipe.json"
TRAIN_FILE = "train.parquet"
VALIDATION_FILE = "validation.parquet"
RESULT_FILE = "result.json"
METRICS_FILE = "metrics.jsonl"
OUT_FOLDER = "out"
# changes when the worker would make something else of the same files
_WORKER_FORMAT = 1


class TrainingSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a training job does; `training.json` in its folder.

    Parameters
    ----------
    algorithm, hyperparameters, seed, target_transform
        See `fit_algorithm`.
    task, classes
        See `Outcome`: for two classes the positive one is last.
    target
        The column to learn.
    threads
        How many threads the algorithm may use.
    weight_column
        A column of weights, never a feature.
    today
        The date that `today()` gives in the recipe, as `2026-01-31`.
    conversions
        What was done to columns when they were read, see `loopwright.data.Conversion`; a request
        may hold the same text.
    """

    algorithm: str
    task: Task
    target: str
    classes: tuple[str, ...] = ()
    target_transform: TargetTransform = "none"
    hyperparameters: dict[str, Any] = {}
    seed: int = 7
    threads: int = 1
    weight_column: str | None = None
    today: str | None = None
    conversions: tuple[dict[str, Any], ...] = ()

    @property
    def outcome(self) -> Outcome:
        """The task and its classes."""
        return Outcome(task=self.task, classes=self.classes)


class TrainingResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a training job tells about itself; `out/result.json` in its folder.

    Parameters
    ----------
    algorithm, task, seed, threads, target_transform
        As ordered.
    hyperparameters
        All of them, with what was chosen on the validation rows.
    best_iteration
        Rounds kept (boosters), from 1.
    importance
        Share of each feature, the greatest first, adding to 1; empty where it is not known.
    native_difference
        Greatest relative difference of a served score from the library's; 0 is the same bits.
    n_train, n_validation, n_features
        Sizes.
    import_s, read_s, recipe_s, fit_s, export_s, total_s
        Seconds: loading the library, reading the rows, fitting the recipe, the algorithm's own
        training, making and comparing the predictor with its answers, and the whole process.
    peak_memory_mib
        Greatest memory of the process.
    packages
        Versions that took part.
    digests
        Of the files in and the files out.
    """

    algorithm: str
    task: Task
    seed: int
    threads: int
    target_transform: str
    hyperparameters: dict[str, Any]
    best_iteration: int | None
    importance: tuple[tuple[str, float], ...]
    native_difference: float
    n_train: int
    n_validation: int
    n_features: int
    import_s: float
    read_s: float
    recipe_s: float
    fit_s: float
    export_s: float
    total_s: float
    peak_memory_mib: float
    packages: dict[str, str]
    digests: dict[str, str]


def training_job(
    spec: TrainingSpec,
    *,
    name: str,
    recipe: str | bytes,
    train: Path,
    validation: Path,
    resources: Resources | None = None,
    time_limit_s: float | None = None,
    limits: Limits | None = None,
    retries: int = 1,
    labels: Mapping[str, str] | None = None,
) -> JobSpec:
    """Return the job that trains a model.

    Its key is made of the digests of all that decides the result, so that what was trained once
    is found and not trained again.

    Parameters
    ----------
    spec
        What to train.
    name
        What the job is called.
    recipe
        `Recipe.to_json()`.
    train, validation
        Parquet files of raw rows, with the target and without missing targets.
    resources, time_limit_s, limits, retries, labels
        See `JobSpec`; a machine that is lost is not the model's fault.

    Raises
    ------
    InvalidInputError
        If a hyperparameter is unknown, out of range or not for the task.
    NotFoundError
        If there is no such algorithm.
    """
    algorithm = get_algorithm(spec.algorithm)
    checked = checked_hyperparameters(algorithm, spec.hyperparameters)
    check_settings(algorithm, checked, task=spec.task, classes=spec.classes)
    recipe = recipe.encode() if isinstance(recipe, str) else recipe
    resources = resources or Resources()
    order = msgspec.to_builtins(spec)
    key = digest_value(
        {
            "worker": _WORKER_FORMAT,
            "spec": {**order, "hyperparameters": checked},
            "recipe": digest_bytes(recipe),
            "train": digest_file(train),
            "validation": digest_file(validation),
            **_plugin_version(spec.algorithm),
        }
    )
    return JobSpec(
        key=f"training/{key.removeprefix('sha256:')}",
        name=name,
        kind="training",
        # -P: a file in the job's folder cannot stand in for a library
        command=(sys.executable, "-P", "-m", "loopwright.train.worker"),
        files={
            SPEC_FILE: msgspec.json.encode(spec),
            RECIPE_FILE: recipe,
            TRAIN_FILE: train,
            VALIDATION_FILE: validation,
        },
        env=threads_env(spec.threads),
        resources=resources,
        time_limit_s=time_limit_s,
        labels={"algorithm": spec.algorithm, **(labels or {})},
        seed=spec.seed,
        # they tell times
        varying=(RESULT_FILE, METRICS_FILE),
        limits=limits or Limits(),
        retries=retries,
    )


def _plugin_version(algorithm: str) -> dict[str, str]:
    plugin = None if algorithm in ALGORITHMS else algorithm_plugins().get(algorithm)
    return {"package": plugin_package(plugin)} if plugin else {}


def threads_env(threads: int) -> dict[str, str]:
    """Return the environment in which libraries use so many threads."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")
    # threads that wait must not take the processor from the other jobs
    return {**dict.fromkeys(names, str(threads)), "OMP_WAIT_POLICY": "PASSIVE"}


def read_result(job_folder: Path) -> TrainingResult:
    """Return what a succeeded training job tells about itself.

    Raises
    ------
    BackendError
        If its files are not there or broken.
    """
    path = job_folder / OUT_FOLDER / RESULT_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=TrainingResult)
    except (OSError, msgspec.MsgspecError) as error:
        raise BackendError(
            f"The training job in {str(job_folder)!r} left no result that can be read: {error}.",
            hint="Look at its log; train again.",
            retryable=True,
        ) from error


def model_members(job_folder: Path) -> dict[str, Path]:
    """Return the files of a trained model by their name in a bundle; see `pack_bundle`.

    Raises
    ------
    InvalidInputError
        If the folder holds no model.
    """
    out = job_folder / OUT_FOLDER
    names: Sequence[str] = ("predictor.npz", "predictor.json", "recipe.json", "signature.json")
    missing = [name for name in names if not (out / name).is_file()]
    if missing:
        raise InvalidInputError(
            f"The folder {str(job_folder)!r} holds no trained model: {missing[0]} is missing.",
            hint="Give the folder of a training job that succeeded.",
            field="job_folder",
            value=str(job_folder),
        )
    native = sorted((out / "model").glob("*")) if (out / "model").is_dir() else []
    return {name: out / name for name in names} | {f"model/{p.name}": p for p in native}
