"""`auto` as a job: one process tree that searches for the best model within its time and memory."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from loopwright.compute import JobSpec, Resources
from loopwright.core.digest import digest_bytes, digest_file, digest_value
from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean
from loopwright.prepare import Recipe
from loopwright.train import AUTO, Distill, TrainingSpec
from loopwright.train.job import (
    METRICS_FILE,
    RESULT_FILE,
    TRAIN_FILE,
    VALIDATION_FILE,
    threads_env,
)

AUTO_FILE = "auto.json"
TRIALS_FILE = "trials.json"
DISTILLED_FILE = "distilled.json"
REMARK_FILE = "remark.txt"
"""Where a job ended with less than it would have had with more time or memory: why."""
OTHER_FOLDER = "other"
"""Of the blend and the single model, the one that is not served."""
SEARCH_LABEL = "search"
"""The label that all jobs share whose fits are the same: same rows, recipes and seed."""
# changes when the worker would make something else of the same files
_WORKER_FORMAT = 1
# beyond its budget: starting, reading and writing
_GRACE_S = 60.0


class ReplayedTrial(msgspec.Struct, frozen=True, kw_only=True):
    """A trial to do again.

    Parameters
    ----------
    configuration
        See `Configuration.to_json`.
    family
        The recipe it learns from.
    below
        Names of the trials whose answers stand among its features.
    stops
        By the number of a fold, the step at which the time ended the fit; none if it ended itself.
    """

    configuration: dict[str, Any]
    family: str
    below: tuple[str, ...] = ()
    stops: dict[str, int | None] = {}


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """What an `auto` job fitted and ended with; `replay` in `trials.json`.

    Parameters
    ----------
    trials
        The members of the blend and what they build on, the lower layer first.
    chosen
        Name and weight of each member.
    n_folds, loss
        See `loopwright.tune.search.Found`.
    """

    trials: tuple[ReplayedTrial, ...]
    chosen: tuple[tuple[str, float], ...]
    n_folds: int
    loss: float


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
    distill
        Whether one fast model learns from the blend, and when it is the one that is served; see
        `AutoPlan`.
    distill_may_cost
        See `AutoPlan`.
    replay
        Instead of a search, what an earlier one fitted; see `loopwright.tune.replay`.
    earlier
        A folder with fits of an earlier search of the same; see `loopwright.tune.kept_fit`. It
        saves time and is no part of what is ordered.
    """

    training: TrainingSpec
    budget_s: float
    memory_mib: int
    metric: str
    divide_by: Literal["random", "group", "time"] = "random"
    divide_column: str | None = None
    algorithms: tuple[str, ...] | None = None
    max_trials: int = 80
    distill: Distill = "never"
    distill_may_cost: float = 0.01
    replay: Replay | None = None
    earlier: str | None = None


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
    rows = {
        "worker": _WORKER_FORMAT,
        "recipes": {name: digest_bytes(content) for name, content in files.items()},
        "train": digest_file(train),
    }
    order = msgspec.to_builtins(msgspec.structs.replace(spec, earlier=None))
    key = digest_value({**rows, "spec": order, "validation": digest_file(validation)})
    divided = {name: order[name] for name in ("training", "divide_by", "divide_column")}
    search = digest_value({**rows, **divided}).rpartition(":")[2][:16]
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
        labels={"algorithm": AUTO, SEARCH_LABEL: search, **(labels or {})},
        # its fits, for when it is killed or is given more time
        checkpoint=True,
        seed=spec.training.seed,
        # they tell times
        varying=(RESULT_FILE, METRICS_FILE, TRIALS_FILE, DISTILLED_FILE, REMARK_FILE),
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
