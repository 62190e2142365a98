"""The conditions of a condition step."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from loopwright.sagemaker.error import validation

_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "Equals": operator.eq,
    "GreaterThan": operator.gt,
    "GreaterThanOrEqualTo": operator.ge,
    "LessThan": operator.lt,
    "LessThanOrEqualTo": operator.le,
}
_MEMBERS = {
    **dict.fromkeys(_COMPARISONS, ("LeftValue", "RightValue")),
    "In": ("QueryValue", "Values"),
    "Not": ("Expression",),
    "Or": ("Conditions",),
}
_DEEPEST = 30


def check_condition(condition: Any, depth: int = 0) -> None:
    """Return if this is a condition.

    Raises
    ------
    ApiError
        If it is of an unknown type, or lacks a member.
    """
    if not isinstance(condition, dict) or depth > _DEEPEST:
        raise validation("Unable to parse pipeline definition. Expecting start of Json Object.")
    kind = condition.get("Type")
    if kind not in _MEMBERS:
        known = ", ".join(_MEMBERS)
        raise validation(
            f"Unable to parse pipeline definition. Unknown condition type {kind!r}; "
            f"there are {known}."
        )
    for name in _MEMBERS[kind]:
        if name not in condition:
            raise validation(
                f"Unable to parse pipeline definition. A condition of type {kind} needs {name!r}."
            )
    for inner in condition["Conditions"] if kind == "Or" else ():
        check_condition(inner, depth + 1)
    if kind == "Not":
        check_condition(condition["Expression"], depth + 1)


def holds(condition: Mapping[str, Any], value_of: Callable[[Any], Any]) -> bool:
    """Return whether a condition holds.

    Parameters
    ----------
    value_of
        Returns what an expression of the definition stands for.

    Raises
    ------
    ApiError
        If two values cannot be compared.
    """
    kind = condition["Type"]
    if kind == "Not":
        return not holds(condition["Expression"], value_of)
    if kind == "Or":
        return any(holds(each, value_of) for each in condition["Conditions"])
    if kind == "In":
        wanted = value_of(condition["QueryValue"])
        return any(_compared("Equals", wanted, value_of(each)) for each in condition["Values"])
    return _compared(kind, value_of(condition["LeftValue"]), value_of(condition["RightValue"]))


def _compared(kind: str, left: Any, right: Any) -> bool:
    left, right = _alike(left, right), _alike(right, left)
    try:
        return bool(_COMPARISONS[kind](left, right))
    except TypeError as error:
        raise validation(f"The condition {kind} cannot compare {left!r} with {right!r}.") from error


def _alike(value: Any, other: Any) -> Any:
    """Return a text as the number or the truth value that it is compared with."""
    if not isinstance(value, str):
        return value
    if isinstance(other, bool):
        return value.lower() == "true" if value.lower() in ("true", "false") else value
    if isinstance(other, int | float):
        try:
            return float(value)
        except ValueError:
            return value
    return value
