"""Moves executions on: looks after the steps that run, begins those that can, notes the end."""

from __future__ import annotations

import logging

from loopwright.core.errors import NotFoundError
from loopwright.sagemaker.calling import called
from loopwright.sagemaker.chore import chore
from loopwright.sagemaker.desk import Desk
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.pipeline.carrying import begun, followed, stopping
from loopwright.sagemaker.pipeline.properties import value_of
from loopwright.sagemaker.pipeline.run import (
    LIVE,
    Run,
    changed,
    find_run,
    going,
    has_failed,
    ready,
)

_log = logging.getLogger(__name__)
_FAILURE = "Step failure: One or multiple steps failed."


@chore(every_s=0.25)
def advance_all(desk: Desk) -> None:
    """Move all executions on; one that cannot be moved holds up no other."""
    trouble: Exception | None = None
    for record in desk.workspace.metadata.list_(LIVE):
        try:
            advance(desk, record.key)
        except Exception as error:
            _log.warning("The execution %s cannot be moved on now.", record.key)
            trouble = error
    if trouble is not None:
        raise trouble


def advance(desk: Desk, key: str) -> None:
    """Move one execution on as far as it goes now."""
    run = find_run(desk, key)
    if run is None:
        desk.workspace.metadata.delete(LIVE, key)
        return
    try:
        run = _with_experiment(run)
        while True:
            before = run.body
            run = _moved(run)
            if run.body is before:
                return
    except NotFoundError:
        _log.info("The execution %s was deleted.", key)


def _moved(run: Run) -> Run:
    for name in going(run):
        run = followed(run, run.definition.steps[name])
    is_halted = run.body["status"] == "Stopping" or _has_fail_step(run)
    if is_halted:
        for name in going(run):
            run = stopping(run, run.definition.steps[name])
    elif not has_failed(run):
        for step in ready(run):
            run = begun(run, step)
            if has_failed(run):
                break
    if not going(run) and (is_halted or has_failed(run) or not ready(run)):
        return _ended(run)
    return run


def _has_fail_step(run: Run) -> bool:
    return any(
        state["status"] == "Failed" and state.get("kind") == "Fail" for state in run.steps.values()
    )


def _ended(run: Run) -> Run:
    if run.body["status"] not in ("Executing", "Stopping"):
        run.desk.workspace.metadata.delete(LIVE, run.key)
        return run
    status = "Succeeded"
    if has_failed(run):
        status = "Failed"
    elif run.body["status"] == "Stopping" or any(
        state["status"] == "Stopped" for state in run.steps.values()
    ):
        status = "Stopped"
    failure = _FAILURE if status == "Failed" else ""
    run = changed(run, lambda body: body.update(status=status, failure=failure))
    run.desk.workspace.metadata.delete(LIVE, run.key)
    return run


def _with_experiment(run: Run) -> Run:
    """Return an execution whose experiment and trial are there, if it has any."""
    wanted = run.definition.experiment
    if not wanted or run.body.get("experiment") is not None:
        return run
    names = {name: str(value_of(run, each)) for name, each in wanted.items() if each}
    experiment, trial = names.get("ExperimentName"), names.get("TrialName")
    try:
        if experiment:
            _ensure(run, "CreateExperiment", {"ExperimentName": experiment})
        if experiment and trial:
            about = {"TrialName": trial, "ExperimentName": experiment}
            _ensure(run, "CreateTrial", about)
    except ApiError as error:
        _log.warning("The experiment of %s cannot be made: %s", run.body["arn"], error.message)
        names = {}
    return changed(run, lambda body: body.update(experiment=names))


def _ensure(run: Run, name: str, given: dict[str, str]) -> None:
    try:
        called(run.desk, run.caller, name, given)
    except ApiError as error:
        if "already exists" not in error.message:
            raise
