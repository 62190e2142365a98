"""Whether a request keeps to the shapes of its operation, told in AWS's own sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.model import pattern

_NULL = "failed to satisfy constraint: Member must not be null"
_LONGEST_MATCHED = 65_536
_SHOWN = 1024
# new instance types come out faster than botocore; what there is decides, not the list
_INSTANCE = re.compile(r"ml\.[a-z0-9-]+\.[a-z0-9-]+|local|local_gpu")
_INSTANCE_SHAPES = frozenset(
    {
        "TrainingInstanceType",
        "ProcessingInstanceType",
        "ProductionVariantInstanceType",
        "TransformInstanceType",
    }
)
_TEXT_TYPES = {"string": str, "blob": bytes, "boolean": bool, "timestamp": datetime}


def check(shape: Any, given: Mapping[str, Any]) -> None:
    """Return if a request keeps to a shape.

    Raises
    ------
    ApiError
        `ValidationException` with everything that is wrong, as AWS words it.
    """
    found = [] if shape is None else list(_faults(shape, given, ""))
    if not found:
        return
    raise _refusal(found)


def _refusal(found: list[str]) -> ApiError:
    count = f"{len(found)} validation error{'s' if len(found) > 1 else ''} detected: "
    return validation(count + "; ".join(found))


def check_given(given: Mapping[str, Any], *names: str) -> None:
    """Refuse a request without members that the model lets be absent and that are needed here."""
    found = [f"Value null at '{_below('', each)}' {_NULL}" for each in names if each not in given]
    if found:
        raise _refusal(found)


def _faults(shape: Any, value: Any, path: str) -> Iterator[str]:
    kind = shape.type_name
    if kind == "structure":
        yield from _of_structure(shape, value, path)
    elif kind == "list":
        yield from _of_size(shape, value, path)
        for number, each in enumerate(value, 1):
            yield from _faults(shape.member, each, f"{path}.{number}.member")
    elif kind == "map":
        yield from _of_size(shape, value, path)
        for name, each in value.items():
            yield from _nested(shape.key, name, path, "keys")
            yield from _nested(shape.value, each, path, "values")
    elif kind in ("string", "blob"):
        yield from _of_size(shape, value, path)
        if kind == "string":
            yield from _of_text(shape, value, path)
    elif kind in ("integer", "long", "float", "double"):
        yield from _of_number(shape, value, path)


def _of_structure(shape: Any, value: Mapping[str, Any], path: str) -> Iterator[str]:
    for name in shape.required_members:
        if value.get(name) is None:
            where = _below(path, name)
            yield f"Value null at '{where}' {_NULL}"
    if getattr(shape, "is_tagged_union", False):
        n_set = sum(each is not None for each in value.values())
        if n_set != 1:
            yield _told(sorted(value), path, "have exactly one member set")
    for name, each in value.items():
        if each is not None and name in shape.members:
            yield from _faults(shape.members[name], each, _below(path, name))


def _nested(shape: Any, value: Any, path: str, of: str) -> Iterator[str]:
    """Yield what is wrong with a key or a value of a map, which AWS tells at the map itself."""
    inner = [fault.partition("constraint: ")[2] for fault in _faults(shape, value, path)]
    if inner:
        what = "keys" if of == "keys" else "value"
        text = (
            f"Map {what} must satisfy constraint: " if what == "keys" else "Map value must satisfy "
        )
        plain = text if what == "keys" else f"{text}constraint: "
        yield f"Value '{_shown(value)}' at '{path}' failed to satisfy constraint: {plain}[" + (
            ", ".join(inner) + "]"
        )


def _of_size(shape: Any, value: Any, path: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and len(value) < least:
        yield _told(value, path, f"have length greater than or equal to {least}")
    if most is not None and len(value) > most:
        yield _told(value, path, f"have length less than or equal to {most}")


def _of_text(shape: Any, value: str, path: str) -> Iterator[str]:
    wanted = shape.metadata.get("pattern")
    # of a text that is too long, AWS tells just that
    if wanted and len(value) <= shape.metadata.get("max", _LONGEST_MATCHED):
        found = pattern(wanted)
        if found and not found.fullmatch(value):
            yield _told(value, path, f"satisfy regular expression pattern: {wanted}")
    known = shape.enum
    if known and value not in known:
        if shape.name in _INSTANCE_SHAPES and _INSTANCE.fullmatch(value):
            return
        yield _told(value, path, f"satisfy enum value set: [{', '.join(known)}]")


def _of_number(shape: Any, value: float, path: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and value < least:
        yield _told(value, path, f"have value greater than or equal to {least}")
    if most is not None and value > most:
        yield _told(value, path, f"have value less than or equal to {most}")


def _told(value: Any, path: str, must: str) -> str:
    return f"Value '{_shown(value)}' at '{path}' failed to satisfy constraint: Member must {must}"


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _below(path: str, name: str) -> str:
    own = name[:1].lower() + name[1:]
    return f"{path}.{own}" if path else own


def unserializable(kind: str) -> ApiError:
    """Return the error of a body in which a value has the wrong type."""
    return ApiError("SerializationException", kind)


class _Trimmed:
    """A structure without its payload, which is checked where it is read."""

    def __init__(self, shape: Any, name: str) -> None:
        self.type_name = "structure"
        self.required_members = [each for each in shape.required_members if each != name]
        self.members = {key: each for key, each in shape.members.items() if key != name}


def without(shape: Any, name: str | None) -> Any:
    """Return a shape without one of its members."""
    return _Trimmed(shape, name) if name else shape
