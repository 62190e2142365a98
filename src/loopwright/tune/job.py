"""`auto` as a job: one process tree that searches for the best model within its time and memory."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from loopwright.compute import JobSpec, Resources
from loopwright.core.digest import digest_bytes, digest_file, digest_value
from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean
from loopwright.prepare import Recipe
from loopwright.train import AUTO, TrainingSpec
from loopwright.train.job import (
    METRICS_FILE,
    RESULT_FILE,
    TRAIN_FILE,
    VALIDATION_FILE,
    threads_env,
)

AUTO_FILE = "auto.json"
TRIALS_FILE = "trials.json"
# changes when the worker would make something else of the same files
_WORKER_FORMAT = 1
# beyond its budget: starting, reading and writing
_GRACE_S = 60.0


class AutoSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an `auto` job does; `auto.json` in its folder.

    Parameters
    ----------
    training
        Task, target, classes, weights, seed and `today`; `algorithm` is `auto`, `threads` the
        processors it may use.
    budget_s
        Wall time in seconds, above 0, from the start of the process to the model.
    memory_mib
        Memory in MiB.
    metric
        What counts; see `loopwright.problem.metric_named`.
    divide_by
        How rows are divided into folds: at random, by the groups or by the time in a column.
    divide_column
        That column.
    algorithms
        Only these; nothing means all that are installed.
    max_trials
        How many configurations at most, at least 1.
    """

    training: TrainingSpec
    budget_s: float
    memory_mib: int
    metric: str
    divide_by: Literal["random", "group", "time"] = "random"
    divide_column: str | None = None
    algorithms: tuple[str, ...] | None = None
    max_trials: int = 80


def recipe_file(family: str) -> str:
    """Return the name of the file with the recipe of a family of algorithms."""
    return f"recipe-{family}.json"


def auto_job(
    spec: AutoSpec,
    *,
    name: str,
    recipes: Mapping[str, str | bytes],
    train: Path,
    validation: Path,
    resources: Resources,
    labels: Mapping[str, str] | None = None,
) -> JobSpec:
    """Return the job that searches for the best model.

    Its folder ends up with the files of any training job: `read_result` and `model_members` read
    it. What was tried stands in `out/trials.json`.

    Parameters
    ----------
    spec
        What to search for.
    name
        What the job is called.
    recipes
        `Recipe.to_json()` for each family of algorithms.
    train, validation
        Parquet files of raw rows, with the target; the search learns from the first and divides it
        into folds, the second is only answered.
    resources, labels
        See `JobSpec`.

    Raises
    ------
    InvalidInputError
        If the budget is not above 0 or a recipe is missing.
    """
    if not 0 < spec.budget_s < float("inf"):
        raise InvalidInputError(
            f"The budget of auto is {spec.budget_s!r} seconds.",
            hint="Give some time, such as 60.",
            field="budget_s",
            value=spec.budget_s,
        )
    if not recipes:
        raise InvalidInputError(
            "auto needs a recipe for the algorithms it tries.",
            hint="Give the recipes of the families scaled and tree.",
            field="recipes",
        )
    files = {recipe_file(family): _bytes(text) for family, text in recipes.items()}
    key = digest_value(
        {
            "worker": _WORKER_FORMAT,
            "spec": msgspec.to_builtins(spec),
            "recipes": {name: digest_bytes(content) for name, content in files.items()},
            "train": digest_file(train),
            "validation": digest_file(validation),
        }
    )
    return JobSpec(
        key=f"auto/{key.removeprefix('sha256:')}",
        name=name,
        kind="training",
        command=(sys.executable, "-P", "-m", "loopwright.tune.worker"),
        files={
            AUTO_FILE: msgspec.json.encode(spec),
            **files,
            TRAIN_FILE: train,
            VALIDATION_FILE: validation,
        },
        # every fit has its own thread; the libraries' own would only wait for each other
        env=threads_env(1),
        resources=resources,
        time_limit_s=spec.budget_s + max(_GRACE_S, 0.5 * spec.budget_s),
        labels={"algorithm": AUTO, **(labels or {})},
        seed=spec.training.seed,
        # they tell times
        varying=(RESULT_FILE, METRICS_FILE, TRIALS_FILE),
        retries=1,
    )


def open_recipes(folder: Path) -> dict[str, Recipe]:
    """Return the recipes in the folder of an `auto` job by family.

    Raises
    ------
    InvalidInputError
        If there is none, or one cannot be read.
    """
    found = sorted(folder.glob(recipe_file("*")))
    if not found:
        raise InvalidInputError(
            f"The folder {str(folder)!r} holds no recipe.",
            hint=did_you_mean(recipe_file("tree"), [p.name for p in folder.iterdir()]),
            field="recipes",
        )
    return {
        path.stem.removeprefix("recipe-"): Recipe.from_json(path.read_bytes()) for path in found
    }


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
