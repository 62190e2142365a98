"""Everything that can be found wrong before anything is written."""

from __future__ import annotations

import math

from loopwright.compute import Capacity
from loopwright.compute.resource import refuse_impossible
from loopwright.core.errors import InvalidInputError
from loopwright.data import Snapshot, check_plan, check_split
from loopwright.deploy import check_port, checked_deploy, read_actual
from loopwright.loop.file import LoopFile, ReadFile
from loopwright.loop.sourcing import Sourced
from loopwright.loop.workspace import Workspace
from loopwright.prepare import checked_prepare
from loopwright.train import checked_train
from loopwright.tune import checked_tune

LEAST_ROWS = 50


def checked_plans(read: ReadFile, capacity: Capacity) -> None:
    """Check every block of a loop file that can be judged by itself.

    Raises
    ------
    InvalidInputError
        With the field, the value and the remedy.
    """
    loop = read.content
    check_plan(loop.data)
    checked_train(loop.train)
    if loop.tune is not None:
        checked_tune(loop.tune)
    if loop.train.resources is not None:
        refuse_impossible(loop.train.resources, capacity)
    loop.monitor.checked()
    if loop.deploy is not None:
        checked_deploy(loop.deploy)


def checked_over_columns(loop: LoopFile, sourced: Sourced) -> None:
    """Check what the loop file says about columns against those there are.

    Raises
    ------
    InvalidInputError
        If a column does not exist, with the nearest name, or nothing is left to learn from.
    """
    columns = [column.name for column in Snapshot.from_json(sourced.snapshot).columns]
    check_split(loop.data.split, columns)
    checked_prepare(loop.prepare, [name for name in columns if name != loop.problem.target])
    if "inference_id" in columns and "inference_id" not in loop.prepare.drop:
        raise InvalidInputError(
            "The data have a column 'inference_id', the name a request gives its id by.",
            hint="Rename the column in the source, or list it under prepare.drop.",
            field="data",
            value="inference_id",
        )
    today = loop.problem.today
    if today is not None and today.column is not None and today.column not in columns:
        from loopwright.core.names import did_you_mean

        raise InvalidInputError(
            f"problem.today.column is {today.column!r}, which is not a column.",
            hint=did_you_mean(today.column, columns),
            field="problem.today.column",
            value=today.column,
        )


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
