"""Everything that can be found wrong before anything is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.compute import Capacity, Resources
from loopwright.compute.resource import refuse_impossible
from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.data import Snapshot, check_plan, check_split
from loopwright.deploy import check_port, checked_deploy, read_actual
from loopwright.evaluate import check_evaluate
from loopwright.loop.constraining import check_explainable
from loopwright.loop.file import LoopFile, ReadFile
from loopwright.loop.slices import checked_slices
from loopwright.loop.sourcing import Extraction, Sourced
from loopwright.loop.workspace import Workspace
from loopwright.loop.worth import checked_payoff_columns, checked_worth
from loopwright.monitor.segment import check_segments
from loopwright.prepare import check_ordered, checked_prepare
from loopwright.problem import Problem, is_per_row
from loopwright.train import TrainPlan, check_task, checked_train
from loopwright.tune import checked_tune

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

LEAST_ROWS = 50
_STEP_ROWS = 10_000


def checked_plans(read: ReadFile, capacity: Capacity) -> None:
    """Check every block of a loop file that can be judged by itself.

    Raises
    ------
    InvalidInputError
        With the field, the value and the remedy.
    """
    loop = read.content
    check_plan(loop.data)
    check_explainable(loop)
    checked_train(loop.train)
    if loop.tune is not None:
        checked_tune(loop.tune)
    if loop.train.resources is not None:
        refuse_impossible(loop.train.resources, capacity)
    _check_room(loop.train, capacity)
    if loop.evaluate is not None:
        check_evaluate(loop.evaluate)
    loop.monitor.checked()
    if loop.deploy is not None:
        checked_deploy(loop.deploy)


def _check_room(plan: TrainPlan, capacity: Capacity) -> None:
    """Check that all workers of one model can run at once: those there would wait for the others."""
    resources = plan.resources or Resources()
    room = capacity.at_once(resources)
    if plan.workers <= max(1, room):
        return
    where = f"the {len(capacity.nodes)} nodes" if capacity.nodes else capacity.where
    raise InvalidInputError(
        f"train.workers is {plan.workers}, and all of them must run at once; {where} can run "
        f"{room} of {resources.cpus:g} CPUs and {resources.memory_mib:,} MiB each.",
        hint=f"Use at most {max(1, room)}, give each less in `train.resources`, or train on a "
        "larger cluster.",
        field="train.workers",
        value=plan.workers,
        available=room,
    )


def checked_over_columns(loop: LoopFile, sourced: Sourced) -> None:
    """Check what the loop file says about columns against those there are.

    Raises
    ------
    InvalidInputError
        If a column does not exist, with the nearest name, or nothing is left to learn from.
    """
    columns = [column.name for column in Snapshot.from_json(sourced.snapshot).columns]
    check_split(loop.data.split, columns)
    check_task(loop.train, task=sourced.target.task, classes=sourced.target.classes)  # type: ignore[arg-type]
    checked_prepare(loop.prepare, [name for name in columns if name != loop.problem.target])
    if "inference_id" in columns and "inference_id" not in loop.prepare.drop:
        raise InvalidInputError(
            "The data have a column 'inference_id', the name a request gives its id by.",
            hint="Rename the column in the source, or list it under prepare.drop.",
            field="data",
            value="inference_id",
        )
    checked_payoff_columns(loop.problem, sourced.target, columns)
    if loop.evaluate is not None:
        checked_slices(loop.evaluate, [name for name in columns if name != loop.problem.target])
    dropped = {loop.problem.target, *loop.prepare.drop}
    check_segments(loop.monitor.segments, [name for name in columns if name not in dropped])
    check_fair_columns(loop.problem, columns)
    check_label_key(loop, columns)
    today = loop.problem.today
    if today is not None and today.column is not None and today.column not in columns:
        raise InvalidInputError(
            f"problem.today.column is {today.column!r}, which is not a column.",
            hint=did_you_mean(today.column, columns),
            field="problem.today.column",
            value=today.column,
        )


def check_label_key(loop: LoopFile, columns: Sequence[str]) -> None:
    """Check that the business key of labels is a column that requests can bring.

    Raises
    ------
    InvalidInputError
        With the nearest right one.
    """
    key = loop.monitor.labels.key if loop.monitor.labels is not None else "inference_id"
    known = [name for name in columns if name != loop.problem.target]
    if key == "inference_id" or key in known:
        return
    told = (
        "the target, which no request brings"
        if key == loop.problem.target
        else "not a column of the source, so no request brings it"
    )
    raise InvalidInputError(
        f"monitor.labels.key is {key!r}, {told}.",
        hint=f"{did_you_mean(key, known)} Without a business key, leave it out: labels then come "
        "by inference_id.".strip(),
        field="monitor.labels.key",
        value=key,
    )


def check_fair_columns(problem: Problem, columns: Sequence[str]) -> None:
    """Check that groups are told apart by columns there are.

    Raises
    ------
    InvalidInputError
        With the nearest right one.
    """
    limits = problem.constraints.fairness if problem.constraints else ()
    for number, limit in enumerate(limits):
        if limit.column not in columns or limit.column == problem.target:
            field = f"problem.constraints.fairness[{number}].column"
            raise InvalidInputError(
                f"{field} is {limit.column!r}, which is not a column that could be compared.",
                hint=did_you_mean(limit.column, columns),
                field=field,
                value=limit.column,
            )


def checked_rows(loop: LoopFile, extraction: Extraction, workspace: Workspace | None) -> None:
    """Check what the loop file says about every row, where it says something.

    Raises
    ------
    InvalidInputError
        If a row's worth cannot be computed, or its signs make no sense; if an ordered step of the
        recipe cannot be done to its columns.
    """
    if not (loop.prepare.steps or is_per_row(loop.problem.payoff)):
        return
    rows = pl.scan_parquet(_kept_rows(extraction, workspace), glob=False)
    if loop.prepare.steps:
        _check_steps(loop, extraction.sourced, rows)
    if is_per_row(loop.problem.payoff):
        checked_worth(loop.problem, extraction.sourced.target, rows)


def _check_steps(loop: LoopFile, sourced: Sourced, rows: pl.LazyFrame) -> None:
    target, n_rows = sourced.target.column, Snapshot.from_json(sourced.snapshot).n_rows
    some = rows.gather_every(max(1, n_rows // _STEP_ROWS)).drop_nulls(target).collect()
    today = datetime.now(UTC).date()
    check_ordered(some.drop(target), loop.prepare, some[target], today=today)


def _kept_rows(extraction: Extraction, workspace: Workspace | None) -> Path:
    sourced, parquet = extraction.sourced, extraction.parquet
    if parquet is None or sourced.quarantine is not None:
        if workspace is None:
            raise AssertionError("rows that were not read are in a store")
        digest = Snapshot.from_json(sourced.snapshot).digest
        parquet = workspace.artifacts.local_path(digest)
    return parquet


def checked_sizes(loop: LoopFile, sourced: Sourced) -> None:
    """Check that the parts of a table would be large enough to judge a model by.

    Raises
    ------
    InvalidInputError
        With the number of rows that is needed.
    """
    n_rows = Snapshot.from_json(sourced.snapshot).n_rows - sourced.target.n_null
    split = loop.data.split
    for name, share in (
        ("train", split.train),
        ("validation", split.validation),
        ("test", split.test),
    ):
        if (n_part := int(n_rows * share)) < LEAST_ROWS:
            raise InvalidInputError(
                f"The {name} part would have {n_part} of {n_rows:,} rows; fewer than {LEAST_ROWS} "
                "judge nothing.",
                hint=f"Bring at least {math.ceil(LEAST_ROWS / share):,} rows with a target, or give "
                f"data.split.{name} a larger share.",
                field=f"data.split.{name}",
                value=share,
            )


def checked_endpoint(loop: LoopFile, workspace: Workspace | None) -> None:
    """Check that the endpoint's port is free, or already ours.

    Raises
    ------
    InvalidInputError
        If another program listens there, or another loop owns the endpoint's name.
    """
    if loop.deploy is None:
        return
    if workspace is not None:
        owner = workspace.metadata.find("endpoint", loop.deploy.endpoint)
        if owner is not None and owner.body["loop"] != loop.name:
            raise InvalidInputError(
                f"The endpoint {loop.deploy.endpoint!r} belongs to the loop "
                f"{owner.body['loop']!r}.",
                hint="Choose another name under deploy.endpoint.",
                field="deploy.endpoint",
                value=loop.deploy.endpoint,
            )
        actual = read_actual(workspace.endpoint_folder(loop.deploy.endpoint))
        job = workspace.compute.find(f"endpoint/{loop.deploy.endpoint}")
        if (
            job is not None
            and not job.state.has_ended
            and actual is not None
            and actual.port == loop.deploy.port
        ):
            return
    if loop.deploy.port is not None:
        check_port(loop.deploy.host, loop.deploy.port)
