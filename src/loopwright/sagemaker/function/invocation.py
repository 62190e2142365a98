"""Calls of functions: each is a job of its own, and what it answers comes back."""

from __future__ import annotations

import base64
import json
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from loopwright.compute import Job, JobSpec, JobState, Limits, Resources
from loopwright.core.files import read_json
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.function import runtime, start
from loopwright.sagemaker.function.record import FUNCTIONS, LATEST, get_function, log_group
from loopwright.sagemaker.function.worker import (
    ANSWER_FILE,
    CALL_FILE,
    CODE_FILE,
    EVENT_FILE,
    PAYLOAD_FILE,
    UNHANDLED,
)
from loopwright.sagemaker.log import Stream, keeps_logs
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.training_order import client_environment
from loopwright.store import Record
from loopwright.train.script import job_packages
from loopwright.train.script_contract import ORDER_FILE, ScriptOrder

KIND = "sagemaker-function"
_LOGS = "/aws/lambda"
_LARGEST = 6_291_456
_LARGEST_LATER = 1_048_576
# what the processes around the function's own take
_OWN_MIB = 64
_LIMITS = Limits(processes=1024, log="8 MiB", disk="1 GiB")
# a call holds a thread of the server, and may itself ask the server
_AT_ONCE = threading.BoundedSemaphore(16)
_TAIL_BYTES = 4096
_STARTING_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a call: `error` is empty, or how it failed as Lambda names it."""

    payload: bytes
    error: str = ""


def begin_call(
    desk: Desk,
    caller: Caller,
    record: Record,
    event: bytes,
    *,
    request: str,
    counted: bool = False,
    client: Any = None,
) -> Job:
    """Start a call and return its job; of one request there is one, however often it is begun.

    Parameters
    ----------
    event
        JSON.
    request
        The id of the call.
    counted
        Whether it waits for room as jobs do.
    client
        The `ClientContext`.
    """
    body = record.body
    settings = body["request"]
    own = (settings.get("Environment") or {}).get("Variables", {})
    stream = stream_name(desk, request)
    call = {
        "name": body["name"],
        "version": LATEST,
        "arn": body["arn"],
        "memory_mb": settings["MemorySize"],
        "request": request,
        "group": log_group(body["name"]),
        "stream": stream,
        "client": client,
    }
    environment = {
        **client_environment(desk, caller),
        "AWS_LAMBDA_FUNCTION_NAME": body["name"],
        "AWS_LAMBDA_FUNCTION_VERSION": LATEST,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(settings["MemorySize"]),
        "AWS_LAMBDA_LOG_GROUP_NAME": call["group"],
        "AWS_LAMBDA_LOG_STREAM_NAME": stream,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{settings['Runtime']}",
        "LAMBDA_TASK_ROOT": "/opt/ml/code",
        "_HANDLER": settings["Handler"],
        **own,
    }
    order = ScriptOrder(
        name=body["name"],
        entry_point="handler",
        python=sys.executable,
        packages=job_packages(),
        environments=str(desk.workspace.home / "environments"),
        time_limit_s=float(settings["Timeout"]),
        variables=tuple(sorted(environment)),
        command=("python3", "-P", "-u", str(runtime.__file__)),
        arn=body["arn"],
        contract="processing",
    )
    spec = JobSpec(
        key=call_key(request),
        name=body["name"],
        kind=KIND,
        command=(sys.executable, "-I", "-S", str(start.__file__)),
        files={
            ORDER_FILE: json.dumps(order.to_json()).encode(),
            CALL_FILE: json.dumps(call).encode(),
            EVENT_FILE: event,
            CODE_FILE: desk.workspace.artifacts.local_path(body["code"]),
        },
        env=environment,
        resources=Resources(cpus=0.5, memory=f"{settings['MemorySize'] + _OWN_MIB} MiB"),
        time_limit_s=settings["Timeout"] + _STARTING_S,
        counted=counted,
        labels={"arn": body["arn"], "stream": stream},
        limits=_LIMITS,
    )
    return desk.workspace.compute.submit(spec)


def call_key(request: str) -> str:
    """Return the key of the job of a call."""
    return f"sagemaker/function/{request}"


def stream_name(desk: Desk, request: str) -> str:
    """Return where the lines of a call that begins now are found."""
    return f"{desk.now():%Y/%m/%d}/[{LATEST}]{request.replace('-', '')}"


def outcome_of(job: Job) -> Outcome:
    """Return what came of a call whose job has ended."""
    try:
        about = read_json(job.out / ANSWER_FILE)
        if about is not None:
            return Outcome(payload=(job.out / PAYLOAD_FILE).read_bytes(), error=str(about["error"]))
    except (OSError, ValueError):
        pass
    reason = job.reason or "the call was ended"
    if job.state is JobState.STOPPED:
        reason = "the call was stopped"
    told = f"RequestId: {job.key.rpartition('/')[2]} Error: Runtime exited with error: {reason}"
    payload = {"errorType": "Runtime.ExitError", "errorMessage": told}
    return Outcome(payload=json.dumps(payload).encode(), error=UNHANDLED)


@serves(
    "lambda",
    "Invoke",
    note="A process for each call, 16 at once; `Event` is tried once. No versions and aliases.",
)
def invoke(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Call a function."""
    record = get_function(desk, caller, given["FunctionName"], given.get("Qualifier"))
    kind = given.get("InvocationType", "RequestResponse")
    event = _event(given, _LARGEST if kind == "RequestResponse" else _LARGEST_LATER)
    if kind == "DryRun":
        return {"StatusCode": 204}
    request = str(uuid4())
    if kind == "Event":
        # nobody waits for it, so that it waits for room
        begin_call(desk, caller, record, event, request=request, counted=True)
        return {"StatusCode": 202}
    if not _AT_ONCE.acquire(blocking=False):
        raise ApiError("TooManyRequestsException", "Rate Exceeded.", status=429)
    try:
        client = _client(given.get("ClientContext"))
        job = begin_call(desk, caller, record, event, request=request, client=client)
        job = desk.workspace.compute.wait([job.id], poll_s=0.05)[0]
    finally:
        _AT_ONCE.release()
    said = outcome_of(job)
    tail = None
    if given.get("LogType") == "Tail":
        text = desk.workspace.compute.log(job.id, tail_bytes=_TAIL_BYTES)
        tail = base64.b64encode(text.encode()).decode()
    return {
        "StatusCode": 200,
        "Payload": said.payload,
        "FunctionError": said.error or None,
        "ExecutedVersion": LATEST,
        "LogResult": tail,
    }


def _event(given: Mapping[str, Any], most: int) -> bytes:
    body = given.get("Payload")
    try:
        data: bytes = body.read(most) if body is not None else b""
    except ApiError as error:
        raise ApiError(
            "RequestTooLargeException",
            f"Request must be smaller than {most} bytes for the InvokeFunction operation",
            status=413,
        ) from error
    if not data.strip():
        return b"{}"
    try:
        json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ApiError(
            "InvalidRequestContentException", f"Could not parse request body into json: {error}"
        ) from error
    return data


def _client(text: str | None) -> Any:
    if not text:
        return None
    try:
        return json.loads(base64.b64decode(text))
    except ValueError as error:
        raise ApiError(
            "InvalidRequestContentException", "Client context must be a valid Base64-encoded JSON."
        ) from error


@keeps_logs(_LOGS)
def function_streams(desk: Desk, caller: Caller, group: str, _prefix: str) -> Iterator[Stream]:
    """Yield a stream for each call that has started."""
    name = group.removeprefix(f"{_LOGS}/") if group != _LOGS else ""
    labels = {"arn": FUNCTIONS.arn(caller, name)} if name else {}
    start = FUNCTIONS.arn(caller, "")
    for job in desk.workspace.compute.list_(kind=KIND, labels=labels):
        own = job.labels["arn"]
        if own.startswith(start) and job.started_at is not None:
            yield Stream(
                group=log_group(own.removeprefix(start)),
                name=job.labels["stream"],
                path=job.log_path,
                began_at=job.started_at,
                has_ended=job.state.has_ended,
            )
