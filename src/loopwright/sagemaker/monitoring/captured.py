"""Captured requests as records of their answers, inputs and true values."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from loopwright.core.errors import InvalidInputError

OUTPUT, INPUT = "endpointOutput", "endpointInput"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A captured request.

    Parameters
    ----------
    id
        The inference id of the client, else the id of the event.
    data
        What was captured, as the line has it: `endpointInput` and `endpointOutput`.
    about
        The `eventMetadata` of the line.
    truth
        The `groundTruthData` that belongs to it, if there is one.
    """

    id: str
    data: Mapping[str, Mapping[str, str]]
    about: Mapping[str, Any] = field(default_factory=dict)
    truth: Mapping[str, str] | None = None


def read_events(
    folder: Path, *, start: datetime | None = None, end: datetime | None = None
) -> Iterator[Event]:
    """Yield the captured requests below a folder that were answered within a window.

    Raises
    ------
    InvalidInputError
        If a line is no captured request.
    """
    for path, number, line in _lines(folder):
        try:
            about = line["eventMetadata"]
            at = datetime.fromisoformat(about["inferenceTime"])
            data = line["captureData"]
            name = str(about.get("inferenceId") or about["eventId"])
        except (LookupError, TypeError, ValueError) as error:
            raise InvalidInputError(
                f"{path.name}, line {number}, is no captured request."
            ) from error
        if (start is None or at >= start) and (end is None or at < end):
            yield Event(id=name, data=data, about=about, truth=line.get("groundTruthData"))


def read_truth(folder: Path) -> dict[str, Mapping[str, str]]:
    """Return the true values below a folder by the id of their event; a later one wins.

    Raises
    ------
    InvalidInputError
        If a line is no true value.
    """
    found: dict[str, Mapping[str, str]] = {}
    for path, number, line in _lines(folder):
        try:
            found[str(line["eventMetadata"]["eventId"])] = {
                "data": str(line["groundTruthData"]["data"]),
                "encoding": str(line["groundTruthData"].get("encoding", "CSV")),
            }
        except (LookupError, TypeError, AttributeError) as error:
            raise InvalidInputError(f"{path.name}, line {number}, is no ground truth.") from error
    return found


def _lines(folder: Path) -> Iterator[tuple[Path, int, Any]]:
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        with path.open(encoding="utf-8", errors="replace") as file:
            for number, text in enumerate(file, 1):
                if not text.strip():
                    continue
                try:
                    yield path, number, json.loads(text)
                except ValueError as error:
                    raise InvalidInputError(f"{path.name}, line {number}, is no JSON.") from error


def payload(part: Mapping[str, str]) -> list[Any]:
    """Return the records of a captured body: lists of texts from CSV, values from JSON.

    Raises
    ------
    InvalidInputError
        If it was captured as base64: its content type is not among those that the endpoint
        configuration names as CSV or JSON.
    """
    encoding, text = part.get("encoding", "CSV"), text_of(part)
    if encoding == "BASE64":
        encoding = "CSV" if _kind(part) == "text/csv" else "JSON"
    if encoding == "CSV":
        return [row for row in csv.reader(text.splitlines()) if row]
    try:
        value = json.loads(text)
    except ValueError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    return value if isinstance(value, list) else [value]


def text_of(part: Mapping[str, str]) -> str:
    """Return a captured body as text; see `payload`."""
    if part.get("encoding") != "BASE64":
        return part["data"]
    if _kind(part) not in ("text/csv", "application/json", "application/jsonlines"):
        raise InvalidInputError(
            "Error: Encoding mismatch: the captured data is base64. Name its content type in "
            "CaptureContentTypeHeader, or give a record preprocessor script."
        )
    return base64.b64decode(part["data"]).decode(errors="replace")


def _kind(part: Mapping[str, str]) -> str:
    return part.get("observedContentType", "").partition(";")[0].strip().lower()


def flat(value: Any, name: str = "") -> dict[str, str | None]:
    """Return a JSON value as columns: members by name, items of lists by number."""
    if isinstance(value, Mapping):
        pairs: Iterable[tuple[str, Any]] = value.items()
    elif isinstance(value, list):
        pairs = ((str(number), each) for number, each in enumerate(value))
    else:
        return {name or "value": None if value is None else _text(value)}
    found: dict[str, str | None] = {}
    for key, each in pairs:
        found |= flat(each, f"{name}_{key}" if name else key)
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def value_at(record: Any, where: str) -> Any:
    """Return what lies at an index of a CSV record, or at a JMESPath of a JSON value.

    Raises
    ------
    InvalidInputError
        If there is nothing.
    """
    found: Any = None
    if isinstance(record, list) and where.isdecimal():
        found = record[int(where)] if int(where) < len(record) else None
    else:
        # botocore brings it, and it has no types
        jmespath: Any = import_module("jmespath")
        try:
            found = jmespath.search(where, record)
        except jmespath.exceptions.JMESPathError as error:
            raise InvalidInputError(f"{where!r} is no path into a JSON value: {error}") from error
    if found is None:
        raise InvalidInputError(f"There is nothing at {where!r} in {str(record)[:200]}.")
    return found
