"""The JSONPath of a batch transform's filters: names, places and slices, as AWS documents them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from loopwright.sagemaker.error import validation

_NAME = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]*|\*)")
_BRACKET = re.compile(r"\[((?:'[^']*'|\"[^\"]*\"|[^\]'\"])*)\]")
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_PLACE = re.compile(r"-?\d+")
_SLICE = re.compile(r"(-?\d+)?:(-?\d+)?(?::(-?\d+))?")

Step = Callable[[Any], Any]


class NothingFoundError(Exception):
    """A path that leads nowhere in a value."""


def path_of(text: str) -> tuple[Step, ...]:
    """Return the steps of a path such as `$[1:]`, `$.features` or `$['id', 'SageMakerOutput']`.

    Raises
    ------
    ApiError
        If it is none, or needs what is not supported: filters, scripts, `..`.
    """
    if not text.startswith("$"):
        raise _refused(text)
    steps: list[Step] = []
    at = 1
    while at < len(text):
        found = _NAME.match(text, at) or _BRACKET.match(text, at)
        if found is None:
            raise _refused(text)
        is_name = found.re is _NAME
        steps.append(_of_name(found[1]) if is_name else _of_bracket(found[1].strip(), text))
        at = found.end()
    return tuple(steps)


def selected(value: Any, steps: Sequence[Step]) -> Any:
    """Return what lies at the end of a path.

    Raises
    ------
    NothingFoundError
        If there is nothing.
    """
    for step in steps:
        value = step(value)
    return value


def _of_name(name: str) -> Step:
    return _every if name == "*" else lambda value: _named(value, name)


def _of_bracket(text: str, whole: str) -> Step:
    if text == "*":
        return _every
    names = [a or b for a, b in _QUOTED.findall(text)]
    rest = _QUOTED.sub("", text).replace(",", "").strip()
    if names and not rest:
        if len(names) == 1:
            return lambda value: _named(value, names[0])
        return lambda value: {name: _named(value, name) for name in names}
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 1 and _PLACE.fullmatch(parts[0]):
        return lambda value: _placed(value, int(parts[0]))
    if all(_PLACE.fullmatch(part) or _SLICE.fullmatch(part) for part in parts):
        return lambda value: [each for part in parts for each in _taken(value, part)]
    raise _refused(whole)


def _taken(value: Any, part: str) -> Iterator[Any]:
    found = _SLICE.fullmatch(part)
    if found is None:
        yield _placed(value, int(part))
        return
    start, stop, step = (int(each) if each else None for each in found.groups())
    if not isinstance(value, list) or step == 0:
        raise NothingFoundError(part)
    yield from value[start:stop:step]


def _named(value: Any, name: str) -> Any:
    if not isinstance(value, Mapping) or name not in value:
        raise NothingFoundError(name)
    return value[name]


def _placed(value: Any, place: int) -> Any:
    if not isinstance(value, list) or not -len(value) <= place < len(value):
        raise NothingFoundError(str(place))
    return value[place]


def _every(value: Any) -> Any:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list):
        return value
    raise NothingFoundError("*")


def _refused(text: str) -> Exception:
    return validation(
        f"The JSONPath {text[:80]!r} is invalid, or uses what batch transform does not support: give "
        "names, places and slices, such as $[1:] or $.SageMakerOutput."
    )
