"""Which steps fit columns of categories and dates, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from loopwright.core.lazy import LazyModule
from loopwright.prepare.catalogue import AnyStep
from loopwright.prepare.date_part import DateParts, Part
from loopwright.prepare.encoding import Frequency, TargetEncode
from loopwright.prepare.judged import Judged, counted, names_of
from loopwright.prepare.one_hot import OneHot
from loopwright.prepare.rare import GroupRare

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

MAX_CLASSES = 10
_MAX_ONE_HOT = 12
# beyond so many rows a level, a level's own column is surer than its mean target
_MAX_WIDE_ONE_HOT = 40
_ROWS_PER_LEVEL = 30
_RARE_SHARE = 0.005


def date_steps(columns: Sequence[Judged]) -> list[AnyStep]:
    """Return the steps that turn dates into numbers."""
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


def category_steps(
    columns: Sequence[Judged],
    *,
    n_classes: int | None,
    family: Literal["linear", "scaled", "tree"],
    auto: bool,
) -> list[AnyStep]:
    """Return the steps for categories.

    Parameters
    ----------
    n_classes
        None where the target is a number.
    auto
        Whether rare levels may be put together.
    """
    found = [column for column in columns if column.kind == "category"]
    wide = [c for c in found if auto and family != "tree" and _is_wide(c)]
    few = [c for c in found if c.n_levels <= _MAX_ONE_HOT or c in wide]
    many = [column for column in found if column not in few]
    # trees also gain from the order of codes such as zip codes: neighbours have similar ones
    codes = [column for column in many if not column.is_text and family == "tree"]
    texts = [column for column in many if column not in codes]
    steps = _rare_levels(wide)
    for group, keep_source in ((texts, False), (codes, True)):
        if group:
            steps.append(_many_levels(group, n_classes=n_classes, keep_source=keep_source))
    if few:
        reason = f"{counted(few)}: few enough for a column each"
        steps.append(OneHot(columns=names_of(few), reason=reason))
    return steps


def _is_wide(column: Judged) -> bool:
    """Return whether there are more than a few levels, and rows enough to weigh each by itself."""
    rows_per_level = len(column.values) / max(column.n_levels, 1)
    return _MAX_ONE_HOT < column.n_levels <= _MAX_WIDE_ONE_HOT and rows_per_level >= _ROWS_PER_LEVEL


def _rare_levels(columns: Sequence[Judged]) -> list[AnyStep]:
    rare: dict[str, int] = {}
    for column in columns:
        if column.is_text:
            counts = column.values.drop_nulls().value_counts(name="n")["n"]
            n_rare = int((counts < _RARE_SHARE * len(column.values)).sum())
            # one rare level would only change its name
            if n_rare > 1:
                rare[column.name] = n_rare
    if not rare:
        return []
    shown = ", ".join(f"{n} of {name}" for name, n in list(rare.items())[:8])
    return [
        GroupRare(
            columns=tuple(rare),
            min_share=_RARE_SHARE,
            reason=f"levels that fewer than 1 row in {1 / _RARE_SHARE:.0f} holds tell too little "
            f"each: {shown}",
        )
    ]


def _many_levels(
    columns: Sequence[Judged], *, n_classes: int | None, keep_source: bool
) -> TargetEncode | Frequency:
    levels = f"{counted(columns)}: too many for a column each"
    kept = "; the code itself stays, as similar codes may be alike" if keep_source else ""
    if n_classes is not None and n_classes > MAX_CLASSES:
        return Frequency(
            columns=names_of(columns),
            keep_source=keep_source,
            reason=f"{levels}, and {n_classes} classes are too many for a mean target{kept}",
        )
    return TargetEncode(
        columns=names_of(columns),
        per_class=n_classes is not None and n_classes > 2,
        keep_source=keep_source,
        reason=f"{levels}, so a level becomes the mean target of its other rows{kept}",
    )
