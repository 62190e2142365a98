"""What a request must hold: the columns a model reads, checked value by value."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from dataclasses import field as dataclass_field
from typing import TYPE_CHECKING, Any, Literal

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.data import Conversion
from loopwright.prepare.field_check import field_check
from loopwright.prepare.training_level import (
    UnseenLevelError,
    training_levels,
    unseen_level,
)
from loopwright.prepare.value import (
    Value,
    ValueType,
    find_value_type,
    read_number,
)

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

FieldKind = Literal["number", "category", "text", "boolean", "date"]

_FORMAT = "loopwright.signature/1"
_ABSENT: Any = object()
_EXPECTED: dict[FieldKind, str] = {
    "number": "a number",
    "category": "text",
    "text": "text",
    "boolean": "true or false",
    "date": "a date such as 2026-01-31",
}
_JSON_TYPE = {
    "number": "number",
    "category": "string",
    "text": "string",
    "boolean": "boolean",
    "date": "string",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One value of a request.

    Parameters
    ----------
    name
        The column of training.
    kind
        What it holds.
    nullable
        Whether training had missing values here; such a field may be null or left out.
    example
        A typical value as JSON.
    has_time
        Whether a date has a time of day.
    conversion
        How the source's text was turned into this column; a request may hold the same text.
    levels
        All values that training saw, of a category; None where they were not kept.
    """

    name: str
    kind: FieldKind
    nullable: bool = False
    example: float | str | bool | None = None
    has_time: bool = False
    conversion: Conversion | None = None
    levels: tuple[str, ...] | None = None

    @property
    def expected(self) -> str:
        """What may be given, in words."""
        kind = "a time such as 2026-01-31T12:00:00" if self.has_time else _EXPECTED[self.kind]
        return f"{kind} or null" if self.nullable else kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The columns a model reads, and what each may hold.

    Parameters
    ----------
    fields
        In the order of the training table.
    target
        The column the model predicts; a request may hold it, it is never read.
    unknown
        What happens to other columns: `ignore` or `refuse`.
    unseen
        What happens to a category that training never saw: `allow`, the recipe has a place for it,
        or `refuse`, for fields that have their `levels`.
    """

    fields: tuple[Field, ...]
    target: str | None = None
    unknown: Literal["ignore", "refuse"] = "ignore"
    unseen: Literal["allow", "refuse"] = "allow"
    _checks: tuple[tuple[str, Callable[[Any], Any], bool], ...] = dataclass_field(
        init=False, repr=False, compare=False
    )
    _known: frozenset[str] = dataclass_field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        checks = tuple(
            (field.name, field_check(field, self.levels(field)), field.nullable)
            for field in self.fields
        )
        names = {field.name for field in self.fields} | ({self.target} if self.target else set())
        object.__setattr__(self, "_checks", checks)
        object.__setattr__(self, "_known", frozenset(names))

    @classmethod
    def from_frame(
        cls,
        frame: pl.DataFrame,
        *,
        conversions: Iterable[Conversion] = (),
        target: str | None = None,
        unknown: Literal["ignore", "refuse"] = "ignore",
    ) -> Signature:
        """Return the signature of a training table.

        Parameters
        ----------
        frame
            The columns the model reads, usually ``frame.select(fitted.inputs)``; `target` is left
            out if it is among them.
        conversions
            What was done to the columns when they were read from their source.

        Raises
        ------
        InvalidInputError
            If a column holds lists, structs or the like.
        """
        by_column = {conversion.column: conversion for conversion in conversions}
        fields = tuple(
            _field(frame[name], by_column.get(name)) for name in frame.columns if name != target
        )
        return cls(fields=fields, target=target, unknown=unknown)

    def levels(self, field: Field) -> tuple[str, ...] | None:
        """Return the only values that a field may have; None where it may have others."""
        return field.levels if self.unseen == "refuse" and field.kind == "category" else None

    def refusing_unseen(self) -> Signature:
        """Return the signature that refuses categories which training never saw.

        Raises
        ------
        InvalidInputError
            If it does not know the levels of a category.
        """
        missing = [
            each.name for each in self.fields if each.kind == "category" and each.levels is None
        ]
        if missing:
            raise InvalidInputError(
                f"The model cannot refuse unseen categories: it does not say which values of "
                f"{', '.join(map(repr, missing[:3]))} training saw.",
                hint="Pack it again with this release, or allow unseen categories; text of over "
                "100,000 characters in all levels together is never kept.",
                field="unseen_categories",
                value=missing[:50],
            )
        return replace(self, unseen="refuse")

    @property
    def checks(self) -> Mapping[str, Callable[[Any], Value]]:
        """What turns a value of each field into the model's, or raises any ordinary error."""
        return {name: check for name, check, _ in self._checks}

    def check_row(self, row: Mapping[str, Any], *, index: int = 0) -> dict[str, Value]:
        """Return the row's values as the model reads them: numbers as floats, dates as dates.

        What is missing comes as None. Text is trimmed, as it is when data is read.

        Parameters
        ----------
        row
            Values as JSON gives them, or as Python objects.
        index
            The place of the row in its request, for the error.

        Raises
        ------
        InvalidInputError
            For the first value that cannot be used; `facts` hold `row`, `field`, `value` and
            `expected`.
        """
        if not isinstance(row, Mapping):
            raise self._wrong(index, None, row, "an object with a value for each column")
        values: dict[str, Value] = {}
        get = row.get
        for name, check, nullable in self._checks:
            value = get(name, _ABSENT)
            if value is not None and value is not _ABSENT:
                try:
                    value = check(value)
                except UnseenLevelError as cause:
                    raise self._unseen(index, name, row[name]) from cause
                except (TypeError, ValueError, OverflowError, InvalidInputError) as cause:
                    raise self._wrong(index, name, row[name]) from cause
            elif value is _ABSENT:
                value = None
            if value is None and not nullable:
                raise self._wrong(index, name, get(name, _ABSENT))
            values[name] = value
        if self.unknown == "refuse" and not self._known.issuperset(row):
            other = next(str(name) for name in row if name not in self._known)
            raise InvalidInputError(
                f"Row {index} holds {other[:80]!r}, which the model does not read.",
                hint=did_you_mean(other[:80], self._known),
                row=index,
                field=other,
                value=row[other],
                expected="only the columns of the model",
            )
        return values

    def _unseen(self, index: int, name: str, value: Any) -> InvalidInputError:
        levels = next(field.levels for field in self.fields if field.name == name)
        return unseen_level(value, levels or (), row=index, field=name)

    def _wrong(
        self, index: int, name: str | None, value: Any, expected: str | None = None
    ) -> InvalidInputError:
        place = f"Row {index}"
        if name is not None:
            field = next(field for field in self.fields if field.name == name)
            expected = field.expected
            place = f"{name!r} of row {index}"
        absent = value is _ABSENT
        shown = "is not there" if absent else f"is {_shown(value)}"
        return InvalidInputError(
            f"{place} {shown}; expected {expected}.",
            hint="Training had no missing value there." if absent or value is None else "",
            row=index,
            field=name,
            value=None if absent else value,
            expected=expected,
        )

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of one row, with an example, as OpenAPI wants it."""
        return {
            "type": "object",
            "properties": {
                field.name: _field_schema(field, self.levels(field)) for field in self.fields
            },
            "required": [field.name for field in self.fields if not field.nullable],
            "additionalProperties": self.unknown == "ignore",
            "example": {field.name: field.example for field in self.fields},
        }

    def to_json(self) -> str:
        """Return the signature as JSON."""
        fields = [
            {**asdict(field), "conversion": field.conversion and field.conversion.to_json()}
            for field in self.fields
        ]
        value = {"format": _FORMAT, "fields": fields, "target": self.target}
        value |= {"unknown": self.unknown, "unseen": self.unseen}
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Signature:
        """Return the signature that `to_json` wrote.

        Raises
        ------
        InvalidInputError
            If the text is no signature, or of a format this release does not know.
        """
        try:
            value = json.loads(text)
            if value["format"] == _FORMAT:
                fields = tuple(_field_from_json(field) for field in value["fields"])
                return cls(
                    fields=fields,
                    target=value["target"],
                    unknown=value["unknown"],
                    unseen=value.get("unseen", "allow"),
                )
        except (ValueError, KeyError, TypeError, RecursionError) as cause:
            raise InvalidInputError(
                f"This is not a stored signature: {cause}.", hint="Restore the file."
            ) from cause
        raise InvalidInputError(
            f"The signature is stored as {value['format']!r}; this release reads {_FORMAT!r}.",
            hint="Use the release that wrote it.",
            value=value["format"],
            expected=_FORMAT,
        )


def _field_from_json(value: dict[str, Any]) -> Field:
    stored = value["conversion"]
    levels = value.get("levels")
    if levels is not None and not all(type(level) is str for level in levels):
        raise TypeError("a level is no text")
    return Field(
        **{
            **value,
            "conversion": stored and Conversion.from_json(stored),
            "levels": None if levels is None else tuple(levels),
        }
    )


def _field(column: pl.Series, conversion: Conversion | None) -> Field:
    stored = find_value_type(column.dtype)
    if stored is None:
        raise InvalidInputError(
            f"Column {column.name!r} holds {column.dtype} values, which a request cannot give.",
            hint="Leave it out of the features.",
            field=column.name,
            value=str(column.dtype),
        )
    field = Field(
        name=column.name,
        kind=_kind(column, stored),
        nullable=bool(column.null_count() or (column.dtype.is_float() and column.is_nan().any())),
        has_time=stored == "time",
        conversion=conversion,
    )
    if field.kind == "category":
        field = replace(field, levels=training_levels(column))
    return replace(field, example=_example(column.drop_nulls(), field.kind))


def _kind(column: pl.Series, stored: ValueType) -> FieldKind:
    if stored == "text":
        few = column.n_unique() <= min(1_000, max(20, column.len() // 2))
        return "category" if few else "text"
    return "date" if stored == "time" else stored


def _example(column: pl.Series, kind: FieldKind) -> Any:
    """Return a usual value; free text is nobody's business, so none of it is shown."""
    if not len(column):
        return None
    if kind == "text":
        return "text"
    if kind in ("category", "boolean"):
        mode = column.mode().sort()[0]
        return bool(mode) if kind == "boolean" else str(mode)
    middle = column.sort()[len(column) // 2]
    if kind == "date":
        return middle.isoformat()
    return int(middle) if column.dtype.is_integer() else read_number(float(middle))


def _field_schema(field: Field, levels: tuple[str, ...] | None) -> dict[str, Any]:
    kind: Any = _JSON_TYPE[field.kind]
    schema: dict[str, Any] = {"type": [kind, "null"] if field.nullable else kind}
    reads_text = field.conversion is not None and field.conversion.reading is not None
    if field.kind == "date":
        schema["description"] = field.expected
        if not reads_text:
            schema["format"] = "date-time" if field.has_time else "date"
    elif reads_text and field.kind in ("number", "boolean"):
        schema = {"type": [kind, "string", *(["null"] if field.nullable else [])]}
    if levels is not None:
        schema["enum"] = [*levels, *([None] if field.nullable else [])]
    if field.example is not None:
        schema["examples"] = [field.example]
    return schema


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "..."
