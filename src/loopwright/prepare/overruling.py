"""Suggestions that a person refuses or replaces, one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.prepare.catalogue import AnyStep, step_name
from loopwright.prepare.imputation import Impute
from loopwright.prepare.judged import Judged
from loopwright.prepare.order import BY_YOU, read_order
from loopwright.prepare.plan import Overrule
from loopwright.prepare.recipe import Refusal
from loopwright.prepare.scaling import Scale
from loopwright.prepare.step import Derive
from loopwright.prepare.value import find_value_type

Suggested = Callable[[], Sequence[AnyStep]]


def refused_drops(steps: Sequence[AnyStep], overrules: Sequence[Overrule]) -> tuple[str, ...]:
    """Return the columns that were to be dropped and are kept.

    Raises
    ------
    InvalidInputError
        If a column was not to be dropped.
    """
    found = []
    for at, overrule in enumerate(overrules):
        if _refused(overrule) == "drop":
            if not _places(steps, overrule):
                raise _not_suggested(at, overrule, steps)
            found.append(overrule.column)
    return tuple(found)


def overruled(
    steps: Sequence[AnyStep], overrules: Sequence[Overrule], *, others: Suggested
) -> tuple[list[AnyStep], tuple[Refusal, ...]]:
    """Return the steps without what is refused and with what a person wants instead.

    Parameters
    ----------
    others
        Gives what is suggested to the other family of algorithms: what stands there only, such as a
        scale, may be refused, though here it changes nothing.

    Raises
    ------
    InvalidInputError
        If something is refused that was not suggested; `field` is its place in the loop file.
    """
    left = list(steps)
    refusals = []
    for at, overrule in enumerate(overrules):
        name = _refused(overrule)
        places = [] if name == "drop" else _places(left, overrule)
        if not places and name != "drop":
            if not _places(others(), overrule):
                raise _not_suggested(at, overrule, left)
            continue
        instead = _instead(at, overrule)
        if name == "drop" and instead is not None:
            # what was suggested once the column stays gives way to what the person wants
            places = [k for k, step in enumerate(left) if overrule.column in _named(step)]
        if instead is not None:
            left.insert(places[0] if places else len(left), instead)
            places = [place + 1 for place in places]
        for place in reversed(places):
            rest = _without(left[place], overrule.column)
            left[place : place + 1] = [] if rest is None else [rest]
        refusals.append(
            Refusal(
                step=name,
                column=overrule.column,
                reason=f"{BY_YOU}: {overrule.reason}",
                instead=None if instead is None else step_name(instead),
            )
        )
    return left, tuple(refusals)


def check_left(
    columns: Sequence[Judged], steps: Sequence[AnyStep], overrules: Sequence[Overrule]
) -> None:
    """Check that what was refused was not all that turned a column into numbers.

    Raises
    ------
    InvalidInputError
        If a column of text or dates would be left as it is.
    """
    places = {overrule.column: at for at, overrule in enumerate(overrules)}
    for column in columns:
        at = places.get(column.name)
        if at is None or find_value_type(column.values.dtype) in ("number", "boolean"):
            continue
        if not any(column.name in _named(step) for step in steps):
            raise InvalidInputError(
                f"prepare.overrule[{at}] refuses {overrules[at].refuse} of {column.name!r}, and no "
                "other step turns it into numbers.",
                hint="Say what to do with `instead:`, or list the column under prepare.drop.",
                field=f"prepare.overrule[{at}].refuse",
                value=overrules[at].refuse,
            )


def _refused(overrule: Overrule) -> str:
    return overrule.refuse.replace("-", "_")


def _instead(at: int, overrule: Overrule) -> AnyStep | None:
    if overrule.instead is None:
        return None
    return read_order(
        {"columns": [overrule.column], "reason": overrule.reason, **overrule.instead},
        place=f"prepare.overrule[{at}].instead",
    )


def _named(step: AnyStep) -> tuple[str, ...]:
    return (step.name,) if isinstance(step, Derive) else step.columns


def _is_over_all(step: AnyStep) -> bool:
    return isinstance(step, Impute | Scale) and not step.columns


def _places(steps: Sequence[AnyStep], overrule: Overrule) -> list[int]:
    return [
        at
        for at, step in enumerate(steps)
        if step_name(step) == _refused(overrule)
        and (
            overrule.column in _named(step)
            or (
                isinstance(step, Impute | Scale)
                and _is_over_all(step)
                and overrule.column not in step.but
            )
        )
    ]


def _without(step: AnyStep, column: str) -> AnyStep | None:
    """Return the step without a column; None if nothing is left of it."""
    if isinstance(step, Impute | Scale) and _is_over_all(step):
        return msgspec.structs.replace(step, but=(*step.but, column))
    if isinstance(step, Derive):
        return None
    columns = tuple(name for name in step.columns if name != column)
    return msgspec.structs.replace(step, columns=columns) if columns else None


def _not_suggested(at: int, overrule: Overrule, steps: Sequence[AnyStep]) -> InvalidInputError:
    found = sorted({step_name(s) for s in steps if overrule.column in _named(s)})
    wide = sorted({step_name(s) for s in steps if _is_over_all(s)})
    shown = ", ".join(dict.fromkeys([*found, *wide]))
    return InvalidInputError(
        f"prepare.overrule[{at}] refuses {overrule.refuse} of {overrule.column!r}, which nothing "
        "suggests.",
        hint=f"Suggested for it: {shown}." if shown else "Nothing is suggested for it.",
        field=f"prepare.overrule[{at}].refuse",
        value=overrule.refuse,
    )
