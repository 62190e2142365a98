"""The expressions of a pipeline definition: parameters, properties of steps, joins, JSON files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from loopwright.sagemaker.error import validation

_TOKEN = re.compile(r"\.?([^.\[\]'\"]+)|\[(\d+)\]|\['([^']*)'\]|\[\"([^\"]*)\"\]")
_FUNCTIONS = ("Get", "Std:Join", "Std:JsonGet")
_DEEPEST = 60

Lookup = Callable[[list[str | int]], Any]
"""Returns what a path such as `["Steps", "Train", "ModelArtifacts"]` stands for."""
ReadFile = Callable[[Mapping[str, Any]], Any]
"""Returns the JSON that a `PropertyFile` or an `S3Uri` of a `Std:JsonGet` stands for."""


def path_of(text: str) -> list[str | int]:
    """Return the parts of a path: `Steps.A.Outputs['train'].S3Uri`, `Steps.A.Containers[0]`.

    Raises
    ------
    ApiError
        If it is no path.
    """
    parts: list[str | int] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.end() == at:
            raise validation(f"{text[:200]!r} is no path of a property.")
        name, index, single, double = match.groups()
        parts.append(int(index) if index is not None else name or single or double or "")
        at = match.end()
    if not parts:
        raise validation("A path of a property is empty.")
    return parts


def is_expression(value: Any) -> bool:
    """Return whether a value of a definition stands for another one."""
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)) in _FUNCTIONS


def references(value: Any, depth: int = 0) -> Iterator[list[str | int]]:
    """Yield the paths that a value of a definition refers to."""
    if depth > _DEEPEST:
        raise validation("The definition is nested too deeply.")
    if isinstance(value, dict):
        if is_expression(value) and "Get" in value:
            yield path_of(str(value["Get"]))
            return
        for each in value.values():
            yield from references(each, depth + 1)
    elif isinstance(value, list):
        for each in value:
            yield from references(each, depth + 1)


def resolved(value: Any, lookup: Lookup, read_file: ReadFile) -> Any:
    """Return a value of a definition with every expression replaced by what it stands for.

    Raises
    ------
    ApiError
        If one of them stands for nothing.
    """
    if isinstance(value, list):
        return [resolved(each, lookup, read_file) for each in value]
    if not isinstance(value, dict):
        return value
    if not is_expression(value):
        return {name: resolved(each, lookup, read_file) for name, each in value.items()}
    ((function, given),) = value.items()
    if function == "Get":
        return lookup(path_of(str(given)))
    if function == "Std:Join":
        parts = [resolved(each, lookup, read_file) for each in given.get("Values", ())]
        return str(given.get("On", "")).join(_text(each) for each in parts)
    source = {name: each for name, each in given.items() if name != "Path"}
    if "S3Uri" in source:
        source["S3Uri"] = resolved(source["S3Uri"], lookup, read_file)
    path = resolved(given.get("Path", ""), lookup, read_file)
    return member(read_file(source), path_of(str(path)), shown=str(path))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value)


def member(value: Any, path: list[str | int], *, shown: str) -> Any:
    """Return what lies at a path within a value; an item of a list is found by its name too.

    Raises
    ------
    ApiError
        If there is nothing.
    """
    for part in path:
        value = _at(value, part)
        if value is None:
            raise validation(f"There is nothing at {shown!r}: it has no {part!r}.")
    return value


def _at(value: Any, part: str | int) -> Any:
    if isinstance(value, Mapping):
        return value.get(str(part))
    if not isinstance(value, list):
        return None
    if isinstance(part, int) or part.isdigit():
        return value[int(part)] if int(part) < len(value) else None
    for each in value:
        if isinstance(each, Mapping) and any(
            name.endswith("Name") and text == part for name, text in each.items()
        ):
            return each
    return None
