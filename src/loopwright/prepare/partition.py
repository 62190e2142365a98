"""A table in parts, fitted and transformed by jobs: none of them holds the whole table in memory."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import msgspec

from loopwright.compute import Compute, Job, JobSpec, JobState, Resources
from loopwright.core.digest import digest_bytes, digest_file, digest_value
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.prepare.recipe import FittedRecipe, Recipe

ORDER_FILE = "partition.json"
RECIPE_FILE = "recipe.json"
PARTS_FOLDER = "parts"
FITTED_FILE = "fitted.json"
FEATURES_FILE = "features.parquet"
# changes when the worker would make something else of the same files
_WORKER_FORMAT = 1


class PartitionOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a job does with the parts in its folder; `partition.json` there.

    Parameters
    ----------
    does
        `fit` a recipe on all parts, or `transform` the one part with a fitted recipe.
    target
        The column to predict (fit), which need not be there.
    seed, today
        See `fit_recipe`; the date as `2026-01-31`.
    """

    does: str
    target: str | None = None
    seed: int = 7
    today: str | None = None


def fit_partitions(
    compute: Compute,
    recipe: Recipe,
    parts: Sequence[Path],
    target: str | None,
    *,
    name: str,
    seed: int = 7,
    today: date | None = None,
    resources: Resources | None = None,
    labels: Mapping[str, str] | None = None,
) -> FittedRecipe:
    """Return a recipe fitted on a table in parts, by one job that streams through them.

    The same as `fit_recipe` gives on all rows at once, to the last bit; see `fit_recipe_lazily`
    for what it holds in memory: one column, not the table.

    Parameters
    ----------
    parts
        Parquet files of the same columns, in the order of their rows. Files that nobody may write,
        such as those of the artifact store, are not copied.
    target
        The column to predict, or None if no step looks at it.

    Raises
    ------
    InvalidInputError
        If there is no part, or a file cannot be read.
    BackendError
        If the job failed.
    """
    if not parts:
        raise InvalidInputError(
            "There is no part to fit on.", hint="Give one Parquet file or more.", field="parts"
        )
    order = PartitionOrder(does="fit", target=target, seed=seed, today=_day(today))
    spec = _spec(order, recipe.to_json(), parts, f"{name} (fit)", resources, labels)
    (job,) = _succeeded(compute.wait([compute.submit(spec).id]))
    return FittedRecipe.from_json((job.out / FITTED_FILE).read_bytes())


def transform_partitions(
    compute: Compute,
    fitted: FittedRecipe,
    parts: Sequence[Path],
    *,
    name: str,
    today: date | None = None,
    resources: Resources | None = None,
    labels: Mapping[str, str] | None = None,
) -> list[Path]:
    """Return the features of every part as Parquet files, made by a job for each.

    The jobs run beside each other where there is room. What was made once is found again.

    Parameters
    ----------
    parts
        Parquet files with the columns the recipe was fitted on.

    Raises
    ------
    InvalidInputError
        If a file cannot be read.
    BackendError
        If a job failed; those of the other parts have ended.
    """
    order = PartitionOrder(does="transform", today=_day(today))
    recipe = fitted.to_json()
    jobs = [
        compute.submit(
            _spec(order, recipe, [part], f"{name} ({n} of {len(parts)})", resources, labels)
        )
        for n, part in enumerate(parts, start=1)
    ]
    ended = _succeeded(compute.wait([job.id for job in jobs]))
    return [job.out / FEATURES_FILE for job in ended]


def _spec(
    order: PartitionOrder,
    recipe: str,
    parts: Sequence[Path],
    name: str,
    resources: Resources | None,
    labels: Mapping[str, str] | None,
) -> JobSpec:
    """Return the job that does an order with some parts, its key made of all that decides."""
    missing = [part for part in parts if not part.is_file()]
    if missing:
        raise InvalidInputError(
            f"The part {missing[0]} is not there.",
            hint="Give paths of Parquet files.",
            field="parts",
            value=str(missing[0]),
        )
    key = digest_value(
        {
            "worker": _WORKER_FORMAT,
            "order": msgspec.to_builtins(order),
            "recipe": digest_bytes(recipe.encode()),
            "parts": [digest_file(part) for part in parts],
        }
    )
    # as wide as it takes for the order of names to be that of the parts
    width = len(str(len(parts)))
    files: dict[str, bytes | Path] = {
        ORDER_FILE: msgspec.json.encode(order),
        RECIPE_FILE: recipe.encode(),
        **{f"{PARTS_FOLDER}/{n:0{width}d}.parquet": part for n, part in enumerate(parts)},
    }
    return JobSpec(
        key=f"preparation/{key.removeprefix('sha256:')}",
        name=name,
        kind="preparation",
        command=(sys.executable, "-P", "-m", "loopwright.prepare.partition_worker"),
        files=files,
        resources=resources or Resources(),
        # nothing of a lost try is left, and it takes no harm from a second one
        retries=2,
        labels=dict(labels or {}),
    )


def _succeeded(jobs: Sequence[Job]) -> Sequence[Job]:
    failed = [job for job in jobs if job.state is not JobState.SUCCEEDED]
    if failed:
        raise BackendError(
            f"{len(failed)} of {len(jobs)} jobs of preparation failed. {failed[0].name}: "
            f"{failed[0].reason}",
            hint=f"`loopwright logs {failed[0].id}` shows its log.",
            job=failed[0].id,
        )
    return jobs


def _day(today: date | None) -> str | None:
    return today.isoformat() if today else None
