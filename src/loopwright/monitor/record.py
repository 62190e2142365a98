"""What the monitor keeps, as JSON with a format version."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from loopwright.core.errors import InvalidInputError

T = TypeVar("T")


def to_record(value: object) -> dict[str, Any]:
    """Return a frozen dataclass as a dictionary of JSON types."""
    record: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(value))
    return record


def from_record(kind: type[T], record: Any, *, format_: int = 1) -> T:
    """Return the value that `to_record` wrote, its types and format version checked.

    Raises
    ------
    InvalidInputError
        If the record is of another format version, lacks a field or holds a wrong type.
    """
    found = record.get("format") if isinstance(record, dict) else None
    if found != format_:
        raise InvalidInputError(
            f"This {kind.__name__} record has format {found!r}; this release reads {format_}.",
            hint="Use the release that wrote it, or evaluate the model again to write a new one.",
            field="format",
            value=found,
        )
    try:
        return msgspec.convert(record, type=kind)
    except msgspec.ValidationError as cause:
        raise InvalidInputError(
            f"This {kind.__name__} record cannot be read: {cause}.",
            hint="It was not written by loopwright or was changed since; write it anew.",
            field="record",
        ) from cause
