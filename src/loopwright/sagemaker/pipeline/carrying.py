"""A step of an execution: begun, looked after, ended; each in a way that a kill may interrupt."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

from loopwright.core.digest import digest_value
from loopwright.core.names import new_id
from loopwright.sagemaker.calling import called, fitted
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.model import operation
from loopwright.sagemaker.pipeline import function_step
from loopwright.sagemaker.pipeline.caching import (
    digest_of,
    find_hit,
    is_cached,
    remember,
    taken_from,
)
from loopwright.sagemaker.pipeline.check_step import (
    check_of,
    found_violations,
    why_failed,
    with_baseline,
    with_model,
)
from loopwright.sagemaker.pipeline.condition import holds
from loopwright.sagemaker.pipeline.definition import Step, beside
from loopwright.sagemaker.pipeline.properties import described, value_of
from loopwright.sagemaker.pipeline.retry import exception_type, next_try, reason_type
from loopwright.sagemaker.pipeline.run import Run, with_step
from loopwright.sagemaker.pipeline.step_kind import CHECKS, KINDS, StepKind

_log = logging.getLogger(__name__)
CALLBACKS = "sagemaker/pipeline-callback"
_LONGEST_REASON = 3072
_GONE = ("ValidationException", "ResourceNotFound")


def begun(run: Run, step: Step) -> Run:
    """Return an execution after a step has begun; what fails at once is a step that failed.

    The name of what is made is kept before it is made, so that a server that takes over finds it.
    """
    state: Mapping[str, Any] = run.steps.get(step.name, {})
    if not state:
        at = run.desk.now().isoformat()
        first: dict[str, Any] = {"status": "Starting", "kind": step.kind, "began": at}
        if step.kind == "Callback":
            first["token"] = new_id()[-10:]
        run = with_step(run, step.name, **first)
    try:
        if step.kind == "Condition":
            return _decided(run, step)
        if step.kind == "Fail":
            message = str(value_of(run, step.arguments.get("ErrorMessage", "")))
            return ended(run, step.name, "Failed", message=message)
        if step.kind == "Callback":
            return _asked(run, step)
        if step.kind == "Lambda":
            return _called(run, step)
        return _made(run, step)
    except ApiError as error:
        reason = f"ClientError: {error.message}"
        return failed(run, step, reason, exception_type(error.code))
    except Exception as error:
        _log.exception("The step %s of %s cannot begin.", step.name, run.body["arn"])
        reason = f"InternalServerError: {type(error).__name__}: {error}"
        return failed(run, step, reason, "Step.SERVICE_FAULT")


def ended(run: Run, name: str, status: str, **more: Any) -> Run:
    """Return an execution after a step has ended."""
    return with_step(run, name, status=status, ended=run.desk.now().isoformat(), **more)


def failed(run: Run, step: Step, reason: str, kind: str) -> Run:
    """Return an execution after a step has failed: it is over, or tried again later."""
    state, now = run.steps[step.name], run.desk.now()
    policies = step.about.get("RetryPolicies") or ()
    at = next_try(policies, kind, state=state, now=now)
    if at is not None and run.body["status"] == "Executing":
        _log.info("The step %s is tried again at %s: %s", step.name, at, reason)
        return with_step(
            run,
            step.name,
            status="Starting",
            job="",
            arn="",
            attempts=int(state.get("attempts", 0)) + 1,
            next_at=at.isoformat(),
        )
    return ended(run, step.name, "Failed", failure=reason[:_LONGEST_REASON])


def _decided(run: Run, step: Step) -> Run:
    said = all(
        holds(each, lambda value: value_of(run, value)) for each in step.arguments["Conditions"]
    )
    return ended(run, step.name, "Succeeded", outcome="if" if said else "else")


def _asked(run: Run, step: Step) -> Run:
    """Leave a step to somebody who will answer with its token."""
    token = run.steps[step.name]["token"]
    about = {"execution": run.key, "step": step.name}
    run.desk.workspace.metadata.put(CALLBACKS, token, about)
    arguments = value_of(run, dict(step.arguments))
    return with_step(run, step.name, status="Executing", arguments=arguments)


def _called(run: Run, step: Step) -> Run:
    """Call a function, or take over what it answered to the same before."""
    about, event = value_of(run, beside(step.about)), value_of(run, dict(step.arguments))
    call = function_step.call_of(run, about, event)
    digest = ""
    if is_cached(step):
        digest = digest_of(step, call.compared)
        if (hit := find_hit(run, step, digest)) is not None:
            return ended(run, step.name, "Succeeded", **taken_from(hit))
    request = run.steps[step.name].get("job") or str(uuid4())
    run = with_step(run, step.name, job=request, digest=digest)
    function_step.begin(run, call, request)
    return with_step(run, step.name, status="Executing", arn=call.function.body["arn"])


def _made(run: Run, step: Step) -> Run:
    kind, state = KINDS[step.kind], run.steps[step.name]
    shape = operation("sagemaker", kind.create).input_shape
    if state.get("job") and (found := _find(run, kind, state)) is not None:
        # made by a server that ended before it could note it
        return _noted(run, step, kind, found[kind.arn])
    given = {kind.name: step.arguments.get(kind.name)}
    job = state.get("job") or _name(run, step, kind, value_of(run, given))
    arguments = fitted(shape, value_of(run, dict(step.arguments), job=job))
    if step.kind in CHECKS:
        run = _with_check(run, step)
        arguments = with_baseline(arguments, run.steps[step.name]["check"])
    digest = ""
    if is_cached(step):
        compared = {**arguments, "Check": run.steps[step.name].get("check")}
        digest = digest_of(step, {k: v for k, v in compared.items() if k != kind.name})
        if (hit := find_hit(run, step, digest)) is not None:
            return ended(run, step.name, "Succeeded", **taken_from(hit))
    if not state.get("job"):
        run = with_step(run, step.name, job=job, digest=digest)
    if step.kind == "ClarifyCheck":
        arguments = with_model(run, arguments, run.steps[step.name]["check"], job)
    request = {**arguments, **_added(run, step, kind, arguments)}
    if step.kind == "RegisterModel":
        _ensure_group(run, arguments)
    return _noted(run, step, kind, called(run.desk, run.caller, kind.create, request)[kind.arn])


def _with_check(run: Run, step: Step) -> Run:
    """Return an execution that keeps what a check compares with: a later try compares with it too."""
    if run.steps[step.name].get("check"):
        return run
    about = value_of(run, beside(step.about))
    return with_step(run, step.name, check=check_of(run, step, about))


def _find(run: Run, kind: StepKind, state: Mapping[str, Any]) -> dict[str, Any] | None:
    if not kind.name:
        return None
    try:
        return called(run.desk, run.caller, kind.describe, {kind.name: state["job"]})
    except ApiError as error:
        if error.code in _GONE:
            return None
        raise


def _noted(run: Run, step: Step, kind: StepKind, arn: str) -> Run:
    if kind.status:
        return with_step(run, step.name, status="Executing", arn=arn)
    return ended(run, step.name, "Succeeded", arn=arn)


def _added(run: Run, step: Step, kind: StepKind, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a request is given beside the arguments of its step."""
    state = run.steps[step.name]
    more: dict[str, Any] = {}
    if kind.name:
        more[kind.name] = state["job"]
    else:
        # of one try there is one version, however often it is sent
        seed = [run.body["arn"], step.name, state["job"]]
        more["ClientToken"] = digest_value(seed).removeprefix("sha256:")[:36]
    experiment = run.body.get("experiment")
    if kind.has_experiment and experiment and "ExperimentConfig" not in arguments:
        more["ExperimentConfig"] = {**experiment, "TrialComponentDisplayName": step.name}
    return more


def _ensure_group(run: Run, arguments: Mapping[str, Any]) -> None:
    """Make the group of a version, as pipelines do, if it is not there."""
    name = arguments.get("ModelPackageGroupName")
    if not name:
        return
    try:
        called(run.desk, run.caller, "DescribeModelPackageGroup", {"ModelPackageGroupName": name})
    except ApiError:
        called(run.desk, run.caller, "CreateModelPackageGroup", {"ModelPackageGroupName": name})


def _name(run: Run, step: Step, kind: StepKind, arguments: Mapping[str, Any]) -> str:
    """Return a name that no other try of any step has."""
    suffix = new_id()[-10:]
    if not kind.name:
        return suffix
    given = str(arguments.get(kind.name) or "")
    if given and kind.create in ("CreateEndpoint", "CreateEndpointConfig"):
        return given
    end = f"{run.body['id']}-{suffix}" if given else suffix
    start = given
    if not given:
        prefix = f"pipelines-{run.body['id']}" if kind.longest > 40 else run.body["id"]
        start = f"{prefix}-{step.name}"
    start = re.sub(r"[^A-Za-z0-9-]+", "-", start)[: kind.longest - len(end) - 1].strip("-")
    return f"{start}-{end}"


def followed(run: Run, step: Step) -> Run:
    """Return an execution after a look at a step that has begun."""
    state = run.steps[step.name]
    if state["status"] == "Starting":
        if run.body["status"] != "Executing":
            return run
        later = state.get("next_at")
        if later and run.desk.now() < datetime.fromisoformat(later):
            return run
        return begun(run, step)
    if step.kind == "Callback":
        return run
    if step.kind == "Lambda":
        return _answered(run, step)
    kind = KINDS[step.kind]
    try:
        about = described(run, step.kind, state)
    except ApiError as error:
        return ended(run, step.name, "Failed", failure=f"ClientError: {error.message}")
    status = about.get(kind.status)
    if status == kind.done:
        return _done(run, step, about)
    if status == kind.stopped and state["status"] != "Stopping":
        # a job that somebody stopped, or that ran out of time
        return ended(run, step.name, "Stopped", failure=_reason(about) or f"{status}.")
    if status == kind.stopped:
        return ended(run, step.name, "Stopped")
    if status == kind.failed:
        reason = _reason(about)
        told = reason.removeprefix("ClientError: ")
        return failed(run, step, f"ClientError: {told}", reason_type(reason))
    return run


def _answered(run: Run, step: Step) -> Run:
    """Return an execution after a look at a step that calls a function."""
    answer = function_step.answer_of(run, step, run.steps[step.name]["job"])
    if answer is None:
        return run
    if answer.failure:
        return failed(run, step, answer.failure, reason_type(answer.failure))
    run = ended(run, step.name, "Succeeded", outputs=answer.outputs)
    remember(run, step, run.steps[step.name])
    return run


def _done(run: Run, step: Step, about: Mapping[str, Any]) -> Run:
    """Return an execution after a look at a step whose job has done its work."""
    check = run.steps[step.name].get("check")
    if check and found_violations(check, about):
        run = with_step(run, step.name, violated=True)
        if check["is_strict"]:
            return ended(run, step.name, "Failed", failure=why_failed(step, about))
    remember(run, step, run.steps[step.name])
    return ended(run, step.name, "Succeeded")


def _reason(about: Mapping[str, Any]) -> str:
    return str(about.get("FailureReason") or "")


def stopping(run: Run, step: Step) -> Run:
    """Return an execution after a step has been told to end."""
    state = run.steps[step.name]
    if state["status"] == "Stopping":
        return run
    kind = KINDS.get(step.kind)
    if step.kind == "Lambda" and state.get("job"):
        function_step.stop(run, state["job"])
    if kind is None:
        return ended(run, step.name, "Stopped")
    if not state.get("arn"):
        found = _find(run, kind, state) if state.get("job") else None
        if found is None:
            return ended(run, step.name, "Stopped")
        run = _noted(run, step, kind, found[kind.arn])
    if kind.stop:
        try:
            called(run.desk, run.caller, kind.stop, {kind.name: state["job"]})
        except ApiError:
            _log.info("The step %s has ended before it could be stopped.", step.name)
    return with_step(run, step.name, status="Stopping")
