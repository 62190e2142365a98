"""CloudWatch logs: what jobs and endpoints print, where the SDKs look for it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.registry import serves

_MOST_EVENTS = 10_000
_MOST_BYTES = 1 << 20
_LONGEST = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A stream: the file it is in, and when its first line can have been written."""

    group: str
    name: str
    path: Path
    began_at: datetime
    has_ended: bool

    def to_wire(self, caller: Caller) -> dict[str, Any]:
        """Return it as DescribeLogStreams has it."""
        at = _milliseconds(self.began_at)
        arn = caller.arn("log-group", f"{self.group}:log-stream:{self.name}", service="logs")
        return {
            "logStreamName": self.name,
            "creationTime": at,
            "firstEventTimestamp": at,
            "lastEventTimestamp": self.last_ms(),
            "lastIngestionTime": self.last_ms(),
            "arn": arn.replace("log-group/", "log-group:"),
            "storedBytes": 0,
        }

    def last_ms(self) -> int:
        """Return when the last line was written, in milliseconds since 1970."""
        try:
            return int(self.path.stat().st_mtime * 1000)
        except OSError:
            return _milliseconds(self.began_at)


Finder = Callable[[Desk, Caller, str, str], Iterator[Stream]]
"""Is given a group and how the name of a stream begins, each empty for all of them."""
_GROUPS: dict[str, Finder] = {}


def keeps_logs(group: str) -> Callable[[Finder], Finder]:
    """Return a decorator for a function that finds the streams of groups that begin so."""

    def enter(finder: Finder) -> Finder:
        _GROUPS[group] = finder
        return finder

    return enter


def _streams(desk: Desk, caller: Caller, group: str, prefix: str = "") -> list[Stream]:
    found = [
        stream
        for start, finder in _GROUPS.items()
        if group == start or group.startswith(f"{start}/")
        for stream in finder(desk, caller, group, prefix)
        if stream.group == group
    ]
    if not found:
        raise ApiError("ResourceNotFoundException", "The specified log group does not exist.")
    return found


def _group(given: Mapping[str, Any]) -> str:
    name = given.get("logGroupName") or given.get("logGroupIdentifier", "")
    return str(name)


@serves("logs", "DescribeLogGroups")
def describe_log_groups(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List the groups that have streams."""
    names = sorted(
        {each.group for finder in _GROUPS.values() for each in finder(desk, caller, "", "")}
    )
    prefix, part = given.get("logGroupNamePrefix", ""), given.get("logGroupNamePattern", "")
    kept = [each for each in names if each.startswith(prefix) and part in each]
    return {
        "logGroups": [
            {
                "logGroupName": each,
                "arn": caller.arn("x", f"{each}:*", service="logs").replace("x/", "log-group:"),
            }
            for each in kept
        ]
    }


@serves("logs", "DescribeLogStreams")
def describe_log_streams(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List the streams of a group."""
    prefix = given.get("logStreamNamePrefix", "")
    known = _streams(desk, caller, _group(given), prefix)
    kept = [each for each in known if each.name.startswith(prefix)]
    by_time = given.get("orderBy") == "LastEventTime"
    kept.sort(
        key=lambda each: (each.last_ms() if by_time else 0, each.name),
        reverse=given.get("descending", False),
    )
    start = _number(given.get("nextToken"), "s")
    end = start + given.get("limit", 50)
    return {
        "logStreams": [each.to_wire(caller) for each in kept[start:end]],
        "nextToken": _token("s", end) if end < len(kept) else None,
    }


@serves("logs", "GetLogEvents", note="All lines of a job bear the time at which it started.")
def get_log_events(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return some lines of a stream; the same token again says that there are no more."""
    known = _streams(desk, caller, _group(given), given["logStreamName"])
    found = [each for each in known if each.name == given["logStreamName"]]
    if not found:
        raise ApiError("ResourceNotFoundException", "The specified log stream does not exist.")
    stream, limit = found[0], given.get("limit", _MOST_EVENTS)
    token = given.get("nextToken")
    if token is None and not given.get("startFromHead"):
        start = _tail(stream, limit)
    else:
        start = _number(token, "f")
    lines, end = _lines(stream, start, limit)
    at = _milliseconds(stream.began_at)
    kept = at >= given.get("startTime", 0) and at < given.get("endTime", 1 << 62)
    return {
        "events": [
            {"timestamp": at, "message": each, "ingestionTime": at} for each in lines if kept
        ],
        "nextForwardToken": _token("f", end),
        "nextBackwardToken": _token("f", max(0, start - _MOST_BYTES)),
    }


@serves("logs", "FilterLogEvents", note="Filter patterns are plain text.")
def filter_log_events(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return the lines of several streams that hold a text."""
    names, prefix = given.get("logStreamNames"), given.get("logStreamNamePrefix", "")
    text = given.get("filterPattern", "").strip().strip('"')
    limit = given.get("limit", _MOST_EVENTS)
    events: list[dict[str, Any]] = []
    for stream in _streams(desk, caller, _group(given), prefix):
        if (names is not None and stream.name not in names) or not stream.name.startswith(prefix):
            continue
        at = _milliseconds(stream.began_at)
        if at < given.get("startTime", 0) or at >= given.get("endTime", 1 << 62):
            continue
        lines, _ = _lines(stream, 0, limit)
        events += [
            {
                "logStreamName": stream.name,
                "timestamp": at,
                "message": each,
                "ingestionTime": at,
                "eventId": f"{stream.name}/{number}",
            }
            for number, each in enumerate(lines)
            if text in each
        ]
    return {"events": events[:limit], "searchedLogStreams": []}


def _lines(stream: Stream, start: int, limit: int) -> tuple[list[str], int]:
    """Return up to `limit` whole lines from a place in the file, and where the next begins."""
    try:
        with stream.path.open("rb") as file:
            file.seek(start)
            data = file.read(_MOST_BYTES)
            at_end = not file.read(1)
    except OSError:
        return [], start
    pieces = data.split(b"\n")
    rest = pieces.pop()
    # a line without its end is told when it can get none, or is too long to wait for
    if rest and ((stream.has_ended and at_end) or not pieces):
        pieces.append(rest)
        lengths = [len(each) + 1 for each in pieces[:-1]] + [len(rest)]
    else:
        lengths = [len(each) + 1 for each in pieces]
    kept = pieces[:limit]
    end = start + sum(lengths[: len(kept)])
    # an event without text is none
    texts = [each[:_LONGEST].decode(errors="replace").rstrip("\r") or " " for each in kept]
    return texts, end


def _tail(stream: Stream, limit: int) -> int:
    try:
        size = stream.path.stat().st_size
    except OSError:
        return 0
    start = max(0, size - _MOST_BYTES)
    with stream.path.open("rb") as file:
        file.seek(start)
        data = file.read()
    if start:
        start += data.find(b"\n") + 1
        data = data[data.find(b"\n") + 1 :]
    lines = data.splitlines(keepends=True)
    return start + sum(map(len, lines[: max(0, len(lines) - limit)]))


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _token(kind: str, number: int) -> str:
    return base64.urlsafe_b64encode(f"{kind}/{number}".encode()).decode()


def _number(token: str | None, kind: str) -> int:
    if token is None:
        return 0
    try:
        own, _, number = base64.urlsafe_b64decode(token.encode()).decode().partition("/")
        if own == kind:
            return max(0, int(number))
    except ValueError:
        pass
    raise ApiError("InvalidParameterException", "The specified nextToken is invalid.")
