"""The steps of an execution, listed; and steps that somebody else carries out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.pipeline.carrying import CALLBACKS, ended
from loopwright.sagemaker.pipeline.check_step import metadata_of
from loopwright.sagemaker.pipeline.definition import Step
from loopwright.sagemaker.pipeline.execution import at, get_execution
from loopwright.sagemaker.pipeline.properties import described
from loopwright.sagemaker.pipeline.run import Run, find_run, run_of
from loopwright.sagemaker.pipeline.step_kind import CHECKS, KINDS
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.shelf import cut


@serves("sagemaker", "ListPipelineExecutionSteps")
def list_steps(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List the steps that have begun."""
    if "PipelineExecutionArn" not in given:
        raise validation("PipelineExecutionArn is required.")
    record = get_execution(desk, caller, given["PipelineExecutionArn"])
    run = run_of(desk, record)
    told = [_told(run, name) for name in run.steps]
    if given.get("SortOrder", "Descending") == "Descending":
        told.reverse()
    page, token = cut(told, given)
    return {"PipelineExecutionSteps": page, "NextToken": token}


def _told(run: Run, name: str) -> dict[str, Any]:
    step, state = run.definition.steps[name], run.steps[name]
    metadata = _metadata(run, step, state)
    return {
        "StepName": name,
        "StepDisplayName": step.about.get("DisplayName") or None,
        "StepDescription": step.about.get("Description") or None,
        "StartTime": at(state["began"]),
        "EndTime": at(state.get("ended")),
        "StepStatus": state["status"],
        "FailureReason": state.get("failure") or None,
        "AttemptCount": state.get("attempts", 0),
        "Metadata": metadata or None,
        "CacheHitResult": _from(state.get("cache")),
        "SelectiveExecutionResult": _from(state.get("from")),
    }


def _from(arn: str | None) -> dict[str, str] | None:
    return {"SourcePipelineExecutionArn": arn} if arn else None


def _metadata(run: Run, step: Step, state: Mapping[str, Any]) -> dict[str, Any]:
    kind = step.kind
    if kind in CHECKS:
        return metadata_of(step, state, _job(run, step, state))
    if kind in KINDS:
        return {KINDS[kind].told: {"Arn": state["arn"]}} if state.get("arn") else {}
    if kind == "Lambda":
        told = {"Arn": state.get("arn"), "OutputParameters": state.get("outputs")}
        return {"Lambda": told} if state.get("arn") else {}
    if kind == "Condition":
        outcome = state.get("outcome")
        return {"Condition": {"Outcome": "True" if outcome == "if" else "False"}} if outcome else {}
    if kind == "Fail":
        return {"Fail": {"ErrorMessage": state.get("message", "")}}
    return {
        "Callback": {
            "CallbackToken": state["token"],
            "SqsQueueUrl": str(step.arguments.get("SqsQueueUrl", "")),
            "OutputParameters": state.get("outputs"),
        }
    }


def _job(run: Run, step: Step, state: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the description of a step's job, or None if it has none, or was deleted."""
    try:
        return described(run, step.kind, state) if state.get("arn") else None
    except ApiError:
        return None


def _answered(desk: Desk, caller: Caller, given: Mapping[str, Any], **end: Any) -> dict[str, Any]:
    with desk.workspace.metadata.transaction():
        known = desk.workspace.metadata.find(CALLBACKS, given["CallbackToken"])
        run = find_run(desk, known.body["execution"]) if known else None
        if known is None or run is None or run.caller.account != caller.account:
            raise ApiError("ResourceNotFound", "The callback token is not known.")
        name = known.body["step"]
        state = run.steps.get(name, {})
        if state.get("token") != given["CallbackToken"] or state["status"] != "Executing":
            raise ApiError("ConflictException", f"The step {name} does not wait for an answer.")
        ended(run, name, end.pop("status"), **end)
    return {"PipelineExecutionArn": run.body["arn"]}


@serves("sagemaker", "SendPipelineExecutionStepSuccess")
def send_success(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Say that a callback step has been carried out, and what came of it."""
    return _answered(
        desk, caller, given, status="Succeeded", outputs=given.get("OutputParameters", [])
    )


@serves("sagemaker", "SendPipelineExecutionStepFailure")
def send_failure(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Say that a callback step could not be carried out."""
    return _answered(
        desk, caller, given, status="Failed", failure=given.get("FailureReason", "Callback failed.")
    )
