"""Data capture: what endpoints were asked and what they answered, in S3 as SageMaker writes it.

A captured request is a line of a log in the home folder before its answer is sent, so that a killed
server loses none. The server puts the lines into S3 moments later, and removes the log.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import threading
import time
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from loopwright.core.digest import digest_value
from loopwright.core.files import read_json, write_json_atomically
from loopwright.deploy.capture import is_sampled
from loopwright.deploy.segment import SegmentLog, segments
from loopwright.sagemaker.chore import chore
from loopwright.sagemaker.desk import Desk
from loopwright.sagemaker.error import ApiError, StoreAwayError
from loopwright.sagemaker.s3.store import split_uri

_log = logging.getLogger(__name__)
_ABOUT = "about.json"
# an object gathers what comes within this time, or until nothing has come for a while
_LONGEST_S = 10.0
_QUIET_S = 1.0
_LARGEST = 8 << 20
_MODES = {"Input": ("Input",), "Output": ("Output",), "InputAndOutput": ("Input", "Output")}


def is_captured(config: Mapping[str, Any] | None) -> bool:
    """Tell whether an endpoint's plan asks for capture."""
    return bool(config and config.get("EnableCapture"))


class _Gathering:
    """The log of one destination that is being written."""

    def __init__(self, folder: Path) -> None:
        self.lock = threading.Lock()
        self.log = SegmentLog(folder, segment_bytes=_LARGEST)
        self.since = self.last = 0.0
        self.n_bytes = 0

    def append(self, line: bytes) -> None:
        with self.lock:
            self.last = time.monotonic()
            self.since = self.since or self.last
            self.n_bytes += len(line)
            self.log.append(line)

    def close(self, *, now: float, at_once: bool) -> bool:
        """Let the log go if it is due; return whether nothing is being written to it."""
        with self.lock:
            if not self.since:
                return True
            is_due = (
                at_once
                or now - self.last >= _QUIET_S
                or now - self.since >= _LONGEST_S
                or self.n_bytes >= _LARGEST
            )
            if is_due:
                self.log.close()
                self.since, self.n_bytes = 0.0, 0
            return is_due


_gathering: dict[Path, _Gathering] = {}
_opening = threading.Lock()


def capture(
    desk: Desk,
    config: Mapping[str, Any],
    *,
    endpoint: str,
    variant: str,
    asked: tuple[bytes, str],
    answered: tuple[bytes, str],
    inference_id: str | None = None,
    attributes: str | None = None,
) -> None:
    """Keep a request and its answer if they fall into the share; an answer never fails for it.

    Parameters
    ----------
    config
        The `DataCaptureConfig` of the endpoint.
    asked, answered
        Bodies, each with its media type, as the client sent and got them.
    inference_id, attributes
        What the client said in `X-Amzn-SageMaker-Inference-Id` and `-Custom-Attributes`.
    """
    event = str(uuid.uuid4())
    if not is_sampled(event, share=config["InitialSamplingPercentage"] / 100):
        return
    about: dict[str, Any] = {"eventId": event}
    if inference_id:
        about["inferenceId"] = inference_id
    if attributes:
        about["customAttributes"] = [attributes]
    about["inferenceTime"] = desk.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    modes = {
        name for each in config["CaptureOptions"] for name in _MODES.get(each["CaptureMode"], ())
    }
    kinds = config.get("CaptureContentTypeHeader", {})
    data = {}
    if "Input" in modes:
        data["endpointInput"] = _told("INPUT", *asked, kinds)
    if "Output" in modes:
        data["endpointOutput"] = _told("OUTPUT", *answered, kinds)
    line = {"captureData": data, "eventMetadata": about, "eventVersion": "0"}
    destination = {
        "uri": config["DestinationS3Uri"],
        "endpoint": endpoint,
        "variant": variant,
    }
    try:
        gathered = _gathered(desk, destination)
        gathered.append(json.dumps(line, separators=(",", ":")).encode() + b"\n")
    except OSError as error:
        _log.warning("A request to %s is answered but not captured: %s", endpoint, error)


def _told(mode: str, body: bytes, kind: str, kinds: Mapping[str, Any]) -> dict[str, Any]:
    media = kind.partition(";")[0].strip().lower()
    encoding = "BASE64"
    for name, member in (("CSV", "CsvContentTypes"), ("JSON", "JsonContentTypes")):
        if media in (each.lower() for each in kinds.get(member, ())):
            encoding = name
    try:
        text = body.decode() if encoding != "BASE64" else base64.b64encode(body).decode()
    except UnicodeDecodeError:
        text, encoding = base64.b64encode(body).decode(), "BASE64"
    return {"observedContentType": kind, "mode": mode, "data": text, "encoding": encoding}


def _gathered(desk: Desk, destination: Mapping[str, str]) -> _Gathering:
    name = digest_value(dict(destination)).removeprefix("sha256:")[:32]
    folder = _root(desk) / name
    found = _gathering.get(folder)
    if found is None:
        with _opening:
            if not (folder / _ABOUT).exists():
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                write_json_atomically(folder / _ABOUT, dict(destination))
            found = _gathering.setdefault(folder, _Gathering(folder))
    return found


def _root(desk: Desk) -> Path:
    return desk.workspace.home / "sagemaker" / "capture"


@chore()
def ship_captures(desk: Desk) -> None:
    """Put into S3 what was captured a moment ago."""
    ship(desk)


def ship(desk: Desk, *, at_once: bool = False) -> None:
    """Put into S3 what was captured, also by a server that ended before it could.

    `at_once` waits for nothing that may still come. One thread calls it.
    """
    root = _root(desk)
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        gathering = _gathering.get(folder)
        if gathering is not None and not gathering.close(now=time.monotonic(), at_once=at_once):
            continue
        about = read_json(folder / _ABOUT)
        if about is None:
            continue
        for path in segments(folder):
            if gathering is not None and gathering.since:
                break  # a new one was begun meanwhile
            _ship(desk, about, path)


def _ship(desk: Desk, about: Mapping[str, str], path: Path) -> None:
    lines = _lines(path)
    bucket, prefix = split_uri(about["uri"])
    by_hour: dict[str, list[bytes]] = {}
    for line in lines:
        at = json.loads(line)["eventMetadata"]["inferenceTime"]
        by_hour.setdefault(at[:13], []).append(line)
    for kept in by_hour.values():
        first = json.loads(kept[0])["eventMetadata"]
        at = datetime.fromisoformat(first["inferenceTime"])
        # the same lines make the same name, should the server end before they are removed here
        sha = hashlib.sha256(b"\n".join(kept)).digest()
        name = f"{at:%M-%S}-{int.from_bytes(sha[:2], 'big') % 1000:03d}-{uuid.UUID(bytes=sha[:16])}"
        parts = (
            prefix.strip("/"),
            about["endpoint"],
            about["variant"],
            f"{at:%Y/%m/%d/%H}",
            f"{name}.jsonl",
        )
        try:
            desk.objects.put(bucket, "/".join(filter(None, parts)), [b"\n".join(kept) + b"\n"])
        except StoreAwayError:
            raise  # it is tried again
        except ApiError as error:
            _log.warning(
                "%d captured requests to %s are lost: %s", len(kept), about["endpoint"], error
            )
    path.unlink(missing_ok=True)


def _lines(path: Path) -> list[bytes]:
    """Return the whole lines of a segment; one that a killed server had begun is none."""
    found = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            json.loads(line)
        except ValueError:
            continue
        found.append(line)
    return found
