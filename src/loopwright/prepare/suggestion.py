"""Proposing a recipe: what to do with every column, and why."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Literal, cast

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.prepare.catalogue import AnyStep
from loopwright.prepare.date_part import DateParts, Part
from loopwright.prepare.encoding import Frequency, TargetEncode
from loopwright.prepare.function import ColumnType
from loopwright.prepare.kind import Kind, kind_of, looks_like_code
from loopwright.prepare.one_hot import OneHot
from loopwright.prepare.place import find_place, place_steps
from loopwright.prepare.plan import PreparePlan, checked_prepare
from loopwright.prepare.recipe import Recipe
from loopwright.prepare.scaling import Impute, Log1p, Scale
from loopwright.prepare.step import Derive, Drop, Training, Types
from loopwright.prepare.value import find_value_type, read_columns, value_types

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

Family = Literal["scaled", "tree"]
"""`scaled` for linear models and neighbours: no gaps, one scale. `tree` for boosted trees."""

Variant = Literal["plain", "places"]
"""`places` adds the mean target of the map cells a row lies in, if there are latitude and longitude."""

ASKED = "asked for in the loop file"

_MAX_ONE_HOT = 12
_LONG_TAIL_SKEWNESS = 2.0
_MAX_CLASSES = 10


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the training rows and what is known about it."""

    name: str
    kind: Kind
    values: pl.Series

    @property
    def n_levels(self) -> int:
        return self.values.drop_nulls().n_unique()

    @property
    def is_text(self) -> bool:
        return find_value_type(self.values.dtype) == "text"


def suggest(
    frame: pl.DataFrame,
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

    What the plan asks for comes first and overrules the suggestions.

    Parameters
    ----------
    frame
        The training rows; the target may be among the columns and is left alone.
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
        If the plan does not fit the columns, or nothing is left to predict from.
    """
    plan = plan or PreparePlan()
    table = frame.drop(target) if target in frame.columns else frame
    unknown: dict[str, ColumnType] = dict.fromkeys(table.columns, "unknown")
    checked_prepare(plan, {**unknown, **value_types(table)})
    asked: list[AnyStep] = [
        Derive(name=name, expression=expression, reason=ASKED)
        for name, expression in plan.derive.items()
    ]
    table = _with_derived(table, asked, today)
    if plan.drop:
        asked.append(Drop(columns=plan.drop, reason=ASKED))
    columns = [
        _Column(name, _kind(table[name], kinds or {}), table[name])
        for name in table.columns
        if name not in plan.drop
    ]
    dropped = _dropped(columns, plan)
    gone = {name for step in dropped for name in step.columns}
    left = [_with_way_to_numbers(column) for column in columns if column.name not in gone]
    if not left:
        raise InvalidInputError(
            "Every column would be dropped, so nothing is left to predict from.",
            hint="Name the columns to use under prepare.keep.",
            field="prepare",
        )
    n_classes = _n_classes(frame, target, task)
    places = _places(left, n_classes) if variant == "places" else []
    categories = _categories(left, n_classes=n_classes, family=family)
    numbers = _numbers(left, auto=plan.auto) if family == "scaled" else []
    return Recipe((*asked, *dropped, *_dates(left), *places, *categories, *numbers))


def _with_derived(
    table: pl.DataFrame, steps: Sequence[AnyStep], today: date | None
) -> pl.DataFrame:
    """Return the table with the columns that the steps derive, to be judged like the others."""
    types: Types = value_types(table)
    read = table.select(e.alias(name) for name, e in read_columns(table, types).items())
    for step in steps:
        derive = step.fit(Training(table=read, types=types, target=None, seed=0, today=today))
        read = derive.apply(read.lazy(), types, today=today).collect()
        types = derive.types_after(types)
    return table.with_columns(read[name] for name in types if name not in table.columns)


def _kind(column: pl.Series, kinds: Mapping[str, str]) -> Kind:
    """Return what the column means: as given, unless its values cannot mean that."""
    given = kinds.get(column.name)
    stored = find_value_type(column.dtype)
    if stored is None:
        return "unreadable"
    is_code = column.dtype.is_integer() and looks_like_code(column.name)
    if given == "number" and stored in ("number", "boolean"):
        return "category" if is_code else "number"
    if given == "ordinal":
        return "category" if stored == "text" else "number"
    if given in ("category", "boolean") and stored in ("text", "number", "boolean"):
        return cast("Kind", given)
    if given in ("identifier", "constant") or (given == "text" and stored == "text"):
        return cast("Kind", given)
    return kind_of(column)


def _dropped(columns: Sequence[_Column], plan: PreparePlan) -> list[Drop]:
    reasons: dict[str, str] = {}
    first: dict[int, list[_Column]] = {}
    for column in columns:
        if column.kind == "unreadable":
            reasons[column.name] = f"no step can read {column.values.dtype} values"
        elif plan.auto and column.name not in plan.keep:
            reason = _reason_to_drop(column) or _same_as(column, first)
            if reason:
                reasons[column.name] = reason
    names_by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names_by_reason.setdefault(reason, []).append(name)
    return [Drop(columns=tuple(names), reason=r) for r, names in names_by_reason.items()]


def _reason_to_drop(column: _Column) -> str:
    values = column.values
    if column.kind == "constant":
        shown = values.drop_nulls()
        return f"always {shown[0]!r}" if len(shown) else "no value in any row"
    if column.kind == "identifier":
        return f"an identifier: {column.n_levels:,} different values in {len(values):,} rows"
    if column.kind == "text":
        return "free text; a recipe written by hand can turn it into vectors"
    return ""


def _same_as(column: _Column, seen: dict[int, list[_Column]]) -> str:
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


def _with_way_to_numbers(column: _Column) -> _Column:
    """Return a column that is kept against the suggestion with a kind that a step can read."""
    if column.kind in ("number", "category", "date", "boolean"):
        return column
    stored = find_value_type(column.values.dtype)
    kinds: dict[str | None, Kind] = {"text": "category", "date": "date", "time": "date"}
    return replace(column, kind=kinds.get(stored, "number"))


def _dates(columns: Sequence[_Column]) -> list[AnyStep]:
    by_parts: dict[tuple[Part, ...], list[str]] = {}
    for column in columns:
        if column.kind == "date":
            by_parts.setdefault(_telling_parts(column.values), []).append(column.name)
    return [
        DateParts(
            columns=tuple(names),
            parts=parts,
            reason="models read numbers: the parts that differ show season and trend",
        )
        for parts, names in by_parts.items()
    ]


def _telling_parts(values: pl.Series) -> tuple[Part, ...]:
    moments = values.drop_nulls()
    found: list[Part] = []
    if moments.dt.year().n_unique() > 1:
        found.append("year")
    if moments.dt.month().n_unique() > 1:
        found += ["month", "day_of_year"]
    if moments.dt.weekday().n_unique() > 1:
        found.append("day_of_week")
    if values.dtype == pl.Datetime and moments.dt.hour().n_unique() > 1:
        found.append("hour")
    return (*found, "days")


def _categories(
    columns: Sequence[_Column], *, n_classes: int | None, family: Family
) -> list[AnyStep]:
    """Return the steps for categories; `n_classes` is None where the target is a number."""
    found = [column for column in columns if column.kind == "category"]
    few = [column for column in found if column.n_levels <= _MAX_ONE_HOT]
    many = [column for column in found if column.n_levels > _MAX_ONE_HOT]
    steps: list[AnyStep] = []
    # trees also gain from the order of codes such as zip codes: neighbours have similar ones
    codes = [column for column in many if not column.is_text and family == "tree"]
    texts = [column for column in many if column not in codes]
    for group, keep_source in ((texts, False), (codes, True)):
        if group:
            steps.append(_many_levels(group, n_classes=n_classes, keep_source=keep_source))
    if few:
        reason = f"{_counted(few)}: few enough for a column each"
        steps.append(OneHot(columns=_names(few), reason=reason))
    return steps


def _many_levels(
    columns: Sequence[_Column], *, n_classes: int | None, keep_source: bool
) -> TargetEncode | Frequency:
    levels = f"{_counted(columns)}: too many for a column each"
    kept = "; the code itself stays, as similar codes may be alike" if keep_source else ""
    if n_classes is not None and n_classes > _MAX_CLASSES:
        return Frequency(
            columns=_names(columns),
            keep_source=keep_source,
            reason=f"{levels}, and {n_classes} classes are too many for a mean target{kept}",
        )
    return TargetEncode(
        columns=_names(columns),
        per_class=n_classes is not None and n_classes > 2,
        keep_source=keep_source,
        reason=f"{levels}, so a level becomes the mean target of its other rows{kept}",
    )


def _names(columns: Iterable[_Column]) -> tuple[str, ...]:
    return tuple(column.name for column in columns)


def _counted(columns: Iterable[_Column]) -> str:
    found = sorted({c.n_levels for c in columns})
    return f"{found[0]:,} levels" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,} levels"


def _numbers(columns: Sequence[_Column], *, auto: bool) -> list[AnyStep]:
    steps: list[AnyStep] = []
    tails = {c.name: _skewness(c.values) for c in columns if c.kind == "number" and auto}
    long = {name: skew for name, skew in tails.items() if skew > _LONG_TAIL_SKEWNESS}
    if long:
        low, high = min(long.values()), max(long.values())
        steps.append(
            Log1p(
                columns=tuple(long),
                reason=f"long tails (skewness {low:.1f} to {high:.1f}) would outweigh the rest",
            )
        )
    gaps = {c.name: c.values.null_count() for c in columns if c.values.null_count()}
    shown = ", ".join(f"{name} ({n:,})" for name, n in list(gaps.items())[:8])
    steps.append(
        Impute(
            reason="linear models and neighbours need every value; "
            + (f"missing in training: {shown}" if gaps else "none was missing in training")
        )
    )
    steps.append(Scale(reason="coefficients and distances compare columns on one scale"))
    return steps


def _skewness(values: pl.Series) -> float:
    """Return the skewness of non-negative numbers with more than ten levels, else 0."""
    numbers = values.drop_nulls().cast(pl.Float64)
    if numbers.n_unique() <= 10 or bool((numbers < 0.0).any()):
        return 0.0
    found = numbers.skew()
    return found if found is not None and math.isfinite(found) else 0.0


def _places(columns: Sequence[_Column], n_classes: int | None) -> list[AnyStep]:
    found = find_place([column.values for column in columns])
    if found is None or (n_classes or 0) > _MAX_CLASSES:
        return []
    per_class = n_classes is not None and n_classes > 2
    return list(place_steps(*found, taken=_names(columns), per_class=per_class))


def _n_classes(frame: pl.DataFrame, target: str | None, task: str) -> int | None:
    if task != "multiclass":
        return 2 if task == "binary" else None
    return frame[target].n_unique() if target in frame.columns else _MAX_CLASSES
