"""Steps as a person orders them: names and options in plain words, read into steps of a recipe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import get_args

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean, nearest
from loopwright.prepare.catalogue import AnyStep
from loopwright.prepare.step import Derive

BY_YOU = "by you"
"""How the reason of a step begins that a person ordered."""

_PLACE = re.compile(r" - at `\$(.*)`$")
# what fitting fills in, and what is said once for every step
_NOT_OPTIONS = frozenset({"names", "reason"})


def step_kinds() -> dict[str, type[AnyStep]]:
    """Return every kind of step by the name it is ordered under, such as `one_hot`."""
    return {str(kind.__struct_config__.tag): kind for kind in get_args(AnyStep)}


def options_of(kind: type[AnyStep]) -> dict[str, msgspec.structs.FieldInfo]:
    """Return what can be set when a step is ordered, besides its reason."""
    fixed = _NOT_OPTIONS | ({"columns"} if kind is Derive else set())
    return {
        field.encode_name: field
        for field in msgspec.structs.fields(kind)
        if field.encode_name not in fixed
    }


def checked_step_name(name: object, *, place: str) -> str:
    """Return the name of a step as recipes write it; a hyphen may stand for `_`.

    Raises
    ------
    InvalidInputError
        If there is no such step; the nearest one is offered.
    """
    known = step_kinds()
    written = name.replace("-", "_") if isinstance(name, str) else ""
    if written in known:
        return written
    raise InvalidInputError(
        f"{place}: there is no step {name!r}.",
        hint=did_you_mean(written, known),
        field=place,
        value=name if isinstance(name, str) else None,
    )


def read_order(value: Mapping[str, object], *, place: str) -> AnyStep:
    """Return the step that a person ordered.

    Parameters
    ----------
    value
        `step` names the step; the other keys are its options, and `reason`. In names a hyphen may
        stand for `_`.
    place
        Where the order stands, for errors, such as ``prepare.steps[0]``.

    Raises
    ------
    InvalidInputError
        If there is no such step or option, one is missing, or a value is of another type; the
        fact `field` is the path of what is wrong.

    Examples
    --------
    >>> read_order({"step": "bin", "columns": ["age"], "n-bins": 5}, place="order").n_bins
    5
    """
    if "step" not in value:
        raise InvalidInputError(
            f"{place} lacks the key 'step'.",
            hint="Name a step, such as `step: impute`.",
            field=f"{place}.step",
            value=None,
        )
    name = checked_step_name(value["step"], place=f"{place}.step")
    kind = step_kinds()[name]
    options = options_of(kind)
    given: dict[str, object] = {}
    for key, option in value.items():
        written = key.replace("-", "_")
        if written not in options and written not in ("step", "reason"):
            raise InvalidInputError(
                f"{place}: the step {name} has no option {key!r}.",
                hint=_nearest_option(written, options),
                field=f"{place}.{key}",
                value=key,
            )
        given[written] = option
    reason = str(given.get("reason") or "")
    given |= {"step": name, "reason": f"{BY_YOU}: {reason}" if reason else BY_YOU}
    return _converted(given, kind, options, place)


def _nearest_option(name: str, options: Mapping[str, object]) -> str:
    match = nearest(name, options)
    return f"Did you mean {match!r}?" if match else f"It has: {', '.join([*options, 'reason'])}."


def _converted(
    given: dict[str, object],
    kind: type[AnyStep],
    options: Mapping[str, msgspec.structs.FieldInfo],
    place: str,
) -> AnyStep:
    name = given["step"]
    for key, option in options.items():
        if option.required and key not in given:
            raise InvalidInputError(
                f"{place}: the step {name} lacks {key!r}.",
                hint=f"Add `{key}:`; docs/reference/recipe-steps.md says what it holds.",
                field=f"{place}.{key}",
                value=None,
            )
    try:
        return msgspec.convert(given, kind, strict=True)
    except msgspec.ValidationError as error:
        found = _PLACE.search(str(error))
        path = found[1] if found else ""
        raise InvalidInputError(
            f"{place}{path}: {str(error)[: found.start() if found else None]}.",
            hint=f"docs/reference/recipe-steps.md has the options of {name}.",
            field=f"{place}{path}",
            value=None,
        ) from error


def read_orders(values: tuple[dict[str, object], ...], *, place: str) -> tuple[AnyStep, ...]:
    """Return the steps that a person ordered, in their order; see `read_order`."""
    return tuple(read_order(each, place=f"{place}[{at}]") for at, each in enumerate(values))


def is_by_you(step: AnyStep) -> bool:
    """Return whether a person ordered the step."""
    return step.reason.startswith(BY_YOU)
