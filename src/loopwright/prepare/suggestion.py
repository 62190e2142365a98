"""Proposing a recipe: what to do with every column, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Literal, get_args

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.prepare.cast import Cast
from loopwright.prepare.catalogue import AnyStep
from loopwright.prepare.category_choice import MAX_CLASSES, category_steps, date_steps
from loopwright.prepare.function import ColumnType
from loopwright.prepare.judged import Judged, judged_kind, names_of, with_way_to_numbers
from loopwright.prepare.kind import is_number_text
from loopwright.prepare.number_choice import Evidence, early_number_steps, number_steps
from loopwright.prepare.order import BY_YOU
from loopwright.prepare.ordering import Ordered, with_orders
from loopwright.prepare.overruling import check_left, overruled, refused_drops
from loopwright.prepare.place import find_place, place_steps
from loopwright.prepare.plan import PreparePlan, checked_prepare
from loopwright.prepare.recipe import Recipe
from loopwright.prepare.step import Derive, Drop
from loopwright.prepare.text_choice import is_telling, text_steps
from loopwright.prepare.value import find_value_type, value_types
from loopwright.problem import TASKS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import polars as pl
else:
    np, pl = LazyModule("numpy"), LazyModule("polars")

Family = Literal["linear", "scaled", "tree"]
"""`tree` for trees; `scaled` for neighbours: no gaps, one scale; `linear` for weighted sums: curves too."""

Variant = Literal["plain", "places"]
"""`places` adds the mean target of the map cells a row lies in, if there are latitude and longitude."""

ASKED = f"{BY_YOU}: asked for in the loop file"

_LONG_TARGET_SKEWNESS = 1.0


def suggest(
    frame: pl.DataFrame | pd.DataFrame,
    target: str | None,
    task: str,
    plan: PreparePlan | None = None,
    *,
    family: Family,
    variant: Variant = "plain",
    kinds: Mapping[str, str] | None = None,
    today: date | None = None,
) -> Recipe:
    """Return a recipe for the training rows, every step with its reason.

    What the plan asks for comes first and overrules the suggestions; its steps over all numbers
    come last.

    Parameters
    ----------
    frame
        The training rows, a table of Polars or pandas; the target may be among the columns and is
        left alone.
    task
        regression, binary or multiclass.
    family
        What the algorithm wants.
    variant
        Another choice of features, for a further round.
    kinds
        What columns mean, as `explore` found; the rest is judged here.
    today
        What `today()` gives in derived columns.

    Raises
    ------
    InvalidInputError
        If `frame` is no table, the plan does not fit the columns, or nothing is left to predict
        from.
    """
    # here, so that a process that serves loads no more than it needs
    from loopwright.explore import held_frame

    plan = plan or PreparePlan()
    frame = held_frame(frame)
    _check_words(frame, target, task, family)
    table = frame.drop(target) if target in frame.columns else frame
    unknown: dict[str, ColumnType] = dict.fromkeys(table.columns, "unknown")
    checked_prepare(plan, {**unknown, **value_types(table)})
    asked: list[AnyStep] = [
        Derive(name=name, expression=expression, reason=ASKED)
        for name, expression in plan.derive.items()
    ]
    labels = frame[target] if target in frame.columns else None
    ordered = with_orders(table, asked, plan, labels, today=today)
    if plan.drop:
        asked.append(Drop(columns=plan.drop, reason=ASKED))
    columns, cast = _read_as_numbers(_judged(ordered, plan, kinds or {}), plan, kinds or {})
    n_classes = _n_classes(frame, target, task)
    numbers = _target_numbers(labels, task)

    def suggested(family: Family, keep: Sequence[str]) -> list[AnyStep]:
        return _suggested(
            columns,
            ordered,
            family=family,
            auto=plan.auto,
            keep=frozenset(keep),
            places=variant == "places",
            n_classes=n_classes,
            target=numbers,
        )

    others = [each for each in get_args(Family) if each != family]
    found = suggested(family, plan.keep)
    keep = (*plan.keep, *refused_drops(found, plan.overrule))
    steps, refusals = overruled(
        found if len(keep) == len(plan.keep) else suggested(family, keep),
        plan.overrule,
        others=lambda: [step for each in others for step in suggested(each, keep)],
    )
    check_left(columns, (*steps, *ordered.last), plan.overrule)
    return Recipe((*asked, *ordered.first, *cast, *steps, *ordered.last), refusals)


def _check_words(frame: pl.DataFrame, target: str | None, task: str, family: str) -> None:
    for field, value, known in (
        ("target", target, frame.columns),
        ("task", task, TASKS),
        ("family", family, get_args(Family)),
    ):
        if value is not None and value not in known:
            what = "a column of the table" if field == "target" else f"a {field}"
            raise InvalidInputError(
                f"{value!r} is not {what}.",
                hint=did_you_mean(value, known),
                field=field,
                value=value,
            )


def _judged(ordered: Ordered, plan: PreparePlan, kinds: Mapping[str, str]) -> list[Judged]:
    found = []
    for name in ordered.table:
        if name in plan.drop:
            continue
        values, by = ordered.table[name], ordered.by.get(name, frozenset())
        kind = judged_kind(values, kinds)
        column = Judged(name, kind, values, by)
        # what a person made is wanted, whatever it looks like
        found.append(with_way_to_numbers(column) if by else column)
    return found


def _read_as_numbers(
    columns: Sequence[Judged], plan: PreparePlan, kinds: Mapping[str, str]
) -> tuple[list[Judged], list[AnyStep]]:
    """Return the columns with numbers that are written as text read as numbers, and the step."""
    found, names = [], []
    for column in columns:
        said = kinds.get(column.name, "identifier")
        if (
            plan.auto
            and not column.ordered
            and said in ("identifier", "number")
            and is_number_text(column.values)
        ):
            names.append(column.name)
            column = replace(
                column,
                kind="number",
                values=column.values.str.strip_chars(" ").cast(pl.Float64, strict=False),
            )
        found.append(column)
    if not names:
        return found, []
    reason = "numbers written as text; what cannot be read as a number is missing"
    return found, [Cast(columns=tuple(names), to="number", reason=reason)]


def _suggested(
    columns: Sequence[Judged],
    ordered: Ordered,
    *,
    family: Family,
    auto: bool,
    keep: frozenset[str],
    places: bool,
    n_classes: int | None,
    target: np.ndarray | None,
) -> list[AnyStep]:
    dropped = _dropped(columns, auto=auto, keep=keep)
    gone = {name for step in dropped for name in step.columns}
    left = [with_way_to_numbers(column) for column in columns if column.name not in gone]
    if not left:
        raise InvalidInputError(
            "Every column would be dropped, so nothing is left to predict from.",
            hint="Name the columns to use under prepare.keep.",
            field="prepare",
        )
    evidence = Evidence(
        target=target,
        over_all=frozenset(ordered.over_all),
        auto=auto,
        linear=family == "linear",
    )
    steps: list[AnyStep] = [*dropped, *date_steps(left)]
    steps += _places(left, n_classes) if places else []
    steps += early_number_steps(left, evidence) if family != "tree" else []
    steps += category_steps(left, n_classes=n_classes, family=family, auto=auto)
    steps += number_steps(left, evidence) if family != "tree" else []
    # last, so that no word is scaled: its weight is its scale
    return [*steps, *text_steps(left)]


def _dropped(columns: Sequence[Judged], *, auto: bool, keep: frozenset[str]) -> list[Drop]:
    reasons: dict[str, str] = {}
    first: dict[int, list[Judged]] = {}
    for column in columns:
        if column.kind == "unreadable":
            reasons[column.name] = f"no step can read {column.values.dtype} values"
        elif auto and column.name not in keep and not column.ordered:
            reason = _reason_to_drop(column) or _same_as(column, first)
            if reason:
                reasons[column.name] = reason
    names_by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names_by_reason.setdefault(reason, []).append(name)
    return [Drop(columns=tuple(names), reason=r) for r, names in names_by_reason.items()]


def _reason_to_drop(column: Judged) -> str:
    values = column.values
    if column.kind == "constant":
        shown = values.drop_nulls()
        return f"always {shown[0]!r}" if len(shown) else "no value in any row"
    if column.kind == "identifier":
        return f"an identifier: {column.n_levels:,} different values in {len(values):,} rows"
    if column.kind == "text" and not is_telling(column):
        return "free text in which too few words come back to be learned from"
    return ""


def _same_as(column: Judged, seen: dict[int, list[Judged]]) -> str:
    """Return a reason if an earlier column holds the same values; else remember this one."""
    number = find_value_type(column.values.dtype) == "number"
    values = column.values.cast(pl.Float64) if number else column.values
    same = seen.setdefault(hash((str(values.dtype), values.hash(0).sum())), [])
    for other in same:
        others = other.values.cast(pl.Float64) if number else other.values
        if values.equals(others, null_equal=True):
            return f"the same values as {other.name}"
    same.append(column)
    return ""


def _places(columns: Sequence[Judged], n_classes: int | None) -> list[AnyStep]:
    found = find_place([column.values for column in columns if not column.ordered])
    if found is None or (n_classes or 0) > MAX_CLASSES:
        return []
    per_class = n_classes is not None and n_classes > 2
    return list(place_steps(*found, taken=names_of(columns), per_class=per_class))


def _n_classes(frame: pl.DataFrame, target: str | None, task: str) -> int | None:
    if task != "multiclass":
        return 2 if task == "binary" else None
    return frame[target].n_unique() if target in frame.columns else MAX_CLASSES


def _target_numbers(labels: pl.Series | None, task: str) -> np.ndarray | None:
    """Return the target as numbers on the scale that is learned; None for several classes."""
    if labels is None or task not in ("regression", "binary"):
        return None
    if task == "binary":
        found = (labels == labels.drop_nulls().max()).cast(pl.Float64)
        return found.fill_null(float("nan")).to_numpy()
    if not (labels.dtype.is_numeric() or labels.dtype == pl.Boolean):
        return None
    numbers = labels.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    known = numbers[np.isfinite(numbers)]
    if len(known) and known.min() > 0.0:
        skew = pl.Series(known).skew()
        if skew is not None and math.isfinite(skew) and skew > _LONG_TARGET_SKEWNESS:
            return np.asarray(np.log(numbers))
    return numbers
