"""The check of one value of a request: what it is to the model, or any ordinary error."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from loopwright.data import trimmed
from loopwright.prepare.training_level import known_only
from loopwright.prepare.value import Value, read_time

if TYPE_CHECKING:
    from loopwright.prepare.signature import Field


def field_check(field: Field, levels: tuple[str, ...] | None) -> Callable[[Any], Value]:
    """Return what turns a value into the model's, raising any ordinary error if it cannot."""
    conversion = field.conversion
    cell = None
    if conversion is not None and (conversion.reading is not None or conversion.is_code):
        cell = conversion.cell
    check = {
        "number": _number_checker,
        "category": _text_checker,
        "text": _text_checker,
        "boolean": _boolean_checker,
        "date": _time_checker if field.has_time else _date_checker,
    }[field.kind](cell)
    return check if levels is None else known_only(check, levels)


_Cell = Callable[[object], Any] | None


def _number_checker(cell: _Cell) -> Callable[[Any], Value]:
    def check(value: Any) -> Value:
        kind = type(value)
        if kind is str and cell is not None:
            value = cell(value)
            return None if value is None else float(value)
        # x - x is 0 for finite numbers only
        if kind is float and value - value == 0.0:
            return value  # type: ignore[no-any-return] # it is a float
        if kind is int:
            return float(value)
        if kind is bool or not isinstance(value, numbers.Real):
            raise TypeError
        number = float(value)
        if number - number != 0.0:
            raise ValueError
        return number

    return check


def _text_checker(cell: _Cell) -> Callable[[Any], Value]:
    def check(value: Any) -> Value:
        if type(value) is int and cell is not None:
            # a whole number too long for a column of numbers, kept as text
            value = cell(value)
        if type(value) is not str:
            raise TypeError
        return trimmed(value) or None

    return check


def _boolean_checker(cell: _Cell) -> Callable[[Any], Value]:
    def check(value: Any) -> Value:
        if type(value) is str and cell is not None:
            value = cell(value)
        if value is not None and type(value) is not bool:
            raise TypeError
        return value

    return check


def _time_checker(cell: _Cell) -> Callable[[Any], datetime | None]:
    # requests name the same few days again and again; only readable text is remembered
    @lru_cache(maxsize=1_024)
    def read(text: str) -> datetime | None:
        try:
            return read_time(datetime.fromisoformat(text.strip()))
        except ValueError:
            if cell is None:
                raise
            return read_time(cell(text))

    def check(value: Any) -> datetime | None:
        return read(value) if type(value) is str else read_time(value)

    return check


def _date_checker(cell: _Cell) -> Callable[[Any], Value]:
    check_time = _time_checker(cell)

    def check(value: Any) -> Value:
        moment = check_time(value)
        return None if moment is None else moment.date()

    return check
