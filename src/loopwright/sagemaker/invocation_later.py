"""Asynchronous invocations: kept in the product's own queue, answered into S3 whatever happens."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from loopwright.core.errors import LoopwrightError
from loopwright.core.names import new_id
from loopwright.deploy.invocation_queue import (
    Claimed,
    FullQueueError,
    InvocationQueue,
    postponed,
)
from loopwright.deploy.message import Response
from loopwright.sagemaker.chore import chore
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.endpoint_record import ENDPOINTS, caller_of
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.invocation import answered, in_service, is_asynchronous
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.s3.store import split_uri
from loopwright.sagemaker.serving_plan import own_name
from loopwright.store import Record

_log = logging.getLogger(__name__)
# what clients of S3 say of bytes they know nothing of
_UNTOLD = frozenset({"binary/octet-stream", "application/octet-stream"})
_LARGEST_INPUT = 1 << 30
_LARGEST_INLINE = 128_000
_USUAL_CONCURRENT, _MOST_CONCURRENT = 4, 16
_TTL_S = 21_600
_KEPT = ("ContentType", "Accept", "CustomAttributes", "InferenceId", "InvocationTimeoutSeconds")


@serves(
    "sagemaker-runtime",
    "InvokeEndpointAsync",
    note="Notifications to SNS topics are kept and not sent.",
)
def invoke_later(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Have a request answered later; say where the answer will be."""
    name = given["EndpointName"]
    record = in_service(desk, caller, name)
    if not is_asynchronous(record):
        raise ApiError(
            "ValidationError",
            f"Endpoint {name} of account {caller.account} is not asynchronous: its configuration "
            "has no AsyncInferenceConfig.",
        )
    inline = given["Body"].read(_LARGEST_INLINE) if given.get("Body") is not None else b""
    location = given.get("InputLocation", "")
    if bool(location) == bool(inline):
        raise ApiError("ValidationError", "Specify either InputLocation or Body, and not both.")
    if location:
        split_uri(location)
    places = _places(caller, record, given)
    headers = {key: str(given[key]) for key in _KEPT if given.get(key) is not None}
    headers |= {
        "endpoint": record.key,
        "input": location,
        "ttl_s": str(given.get("RequestTTLSeconds", _TTL_S)),
        **places,
    }
    made = places["output"]
    head = postponed(inference_id=made, is_given=True, headers=headers, query="", body=inline)
    try:
        _queue(desk, record).queue.put(head, inline)
    except FullQueueError as error:
        raise ApiError("ThrottlingException", str(error), status=429) from error
    return {
        "InferenceId": given.get("InferenceId") or head.id,
        "OutputLocation": places["output"],
        "FailureLocation": places["failure"],
    }


def _places(caller: Caller, record: Record, given: Mapping[str, Any]) -> dict[str, str]:
    """Return where the answer of a request goes, and where it is said that there is none."""
    about = record.body["plan"]["AsyncInferenceConfig"].get("OutputConfig", {})
    usual = f"s3://sagemaker-{caller.region}-{caller.account}/async-endpoint-outputs"
    root = about.get("S3OutputPath", usual).rstrip("/")
    extension = given.get("S3OutputPathExtension", "").strip("/")
    root = f"{root}/{extension}" if extension else root
    made = given.get("Filename") or new_id()
    failures = about.get("S3FailurePath", root).rstrip("/")
    return {"output": f"{root}/{made}.out", "failure": f"{failures}/{made}-error.out"}


@dataclass(slots=True)
class _Waiting:
    """The queue of an endpoint; the queue is asked by one thread at a time."""

    queue: InvocationQueue
    lock: threading.Lock = field(default_factory=threading.Lock)
    n_working: int = 0


_queues: dict[Path, _Waiting] = {}
_opening = threading.Lock()
_threads = ThreadPoolExecutor(_MOST_CONCURRENT, thread_name_prefix="later")


def _queue(desk: Desk, record: Record) -> _Waiting:
    folder = _folder(desk, record)
    with _opening:
        return _queues.setdefault(folder, _Waiting(InvocationQueue(folder)))


def _folder(desk: Desk, record: Record) -> Path:
    return desk.workspace.home / "sagemaker" / "later" / own_name(record.body["arn"])


@chore(0.2)
def answer_waiting(desk: Desk) -> None:
    """Begin to answer what waits, as many at once as the endpoint's configuration says."""
    root = desk.workspace.home / "sagemaker" / "later"
    if not root.is_dir():
        return
    known = set()
    for record in ENDPOINTS.all(desk):
        folder = _folder(desk, record)
        known.add(folder)
        if folder.is_dir() and record.body["live"] and not record.body["change"]:
            _begin_some(desk, record)
    for folder in root.iterdir():
        # what waits for an endpoint that is gone is answered by nobody
        if folder not in known:
            _queues.pop(folder, None)
            shutil.rmtree(folder, ignore_errors=True)


def _begin_some(desk: Desk, record: Record) -> None:
    waiting = _queue(desk, record)
    config = (record.body.get("plan") or {}).get("AsyncInferenceConfig", {})
    about = config.get("ClientConfig", {})
    most = min(
        about.get("MaxConcurrentInvocationsPerInstance", _USUAL_CONCURRENT), _MOST_CONCURRENT
    )
    while waiting.n_working < most:
        with waiting.lock:
            claimed = waiting.queue.claim()
            if claimed is None:
                return
            waiting.n_working += 1
        _threads.submit(_work, desk, record, waiting, claimed)


def _work(desk: Desk, record: Record, waiting: _Waiting, claimed: Claimed) -> None:
    try:
        status = _answered(desk, record, claimed)
    except Exception:
        _log.exception("An asynchronous request to %s failed.", record.body["name"])
        status = 500
    try:
        with waiting.lock:
            waiting.n_working -= 1
            # its answer lies in S3
            waiting.queue.finish(claimed, Response(status))
    except OSError as error:
        _log.error("An asynchronous request cannot be settled: %s", error)


def _answered(desk: Desk, record: Record, claimed: Claimed) -> int:
    """Put the answer to a request into S3, or why there is none; return its status."""
    told = claimed.head.headers
    caller = caller_of(record)
    given: dict[str, Any] = {key: told[key] for key in _KEPT if key in told}
    age_s = (desk.now() - datetime.fromisoformat(claimed.head.at)).total_seconds()
    try:
        if age_s > float(told["ttl_s"]):
            raise ApiError("RequestExpired", f"The request waited longer than {told['ttl_s']} s.")
        body = claimed.body
        if told["input"]:
            bucket, key = split_uri(told["input"])
            body = desk.objects.read(bucket, key, limit=_LARGEST_INPUT)
            # an object that says what it is need not be described once more
            kind = str(desk.objects.get(bucket, key).about.get("ContentType", ""))
            if kind and kind not in _UNTOLD:
                given.setdefault("ContentType", kind)
        _, said = answered(desk, caller, record, given, body)
        _put(desk, told["output"], said.body, said.kind)
        return 200
    except (ApiError, LoopwrightError) as error:
        reason = error.message if isinstance(error, ApiError) else str(error)
        status = error.status if isinstance(error, ApiError) else 500
    try:
        _put(desk, told["failure"], reason.encode(), "text/plain")
    except ApiError as error:
        _log.warning("The failure of an asynchronous request cannot be told: %s", error)
    return status


def _put(desk: Desk, uri: str, body: bytes, kind: str) -> None:
    bucket, key = split_uri(uri)
    desk.objects.bucket(bucket)
    desk.objects.put(bucket, key, iter([body]), about={"ContentType": kind})
