"""Conditions that a person can read, and the rows that meet them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Mask = npt.NDArray[np.bool_]
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_MOST_LEVELS = 12
_FEW_VALUES = 6
_N_PARTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One test of one column.

    `level` asks for a value; `low` and `high` for a number (or a moment, as physical numbers) above
    the one and up to the other, either of which may be open; with none of them the value is missing.
    """

    column: str
    text: str
    level: Any = None
    low: float | None = None
    high: float | None = None

    def holds(self, frame: pl.DataFrame) -> Mask:
        """Return which rows meet the condition, `(n_rows,)`."""
        values = frame[self.column]
        if self.level is not None:
            held = values == self.level
        elif self.low is None and self.high is None:
            held = values.is_null() | (values.is_nan() if values.dtype.is_float() else False)
        else:
            numbers = _numbers(values)
            held = pl.repeat(True, len(values), eager=True)
            if self.low is not None:
                held = held & (numbers > self.low)
            if self.high is not None:
                held = held & (numbers <= self.high)
        mask: Mask = held.fill_null(False).to_numpy().astype(np.bool_)
        return mask


def conditions_on(frame: pl.DataFrame, *, min_rows: int, most: int) -> list[Condition]:
    """Return conditions on the columns of some rows, each met by at least `min_rows` of them.

    Categories and numbers of few values are asked for one by one, other numbers and dates by
    quarters; free text is left alone. At most `most` conditions come back, those of columns with
    fewer first.
    """
    found = [_of_column(frame[name], min_rows) for name in frame.columns]
    found.sort(key=len)
    return [each for of_column in found for each in of_column][:most]


def _of_column(values: pl.Series, min_rows: int) -> list[Condition]:
    name = values.name
    found: list[Condition] = []
    missing = values.null_count()
    if values.dtype.is_float():
        missing += int(values.is_nan().sum() or 0)
    if min_rows <= missing <= len(values) - min_rows:
        found.append(Condition(column=name, text=f"{name} is missing"))
    if values.dtype in (pl.String, pl.Categorical, pl.Boolean) or values.dtype == pl.Enum:
        return found + _levels(values, min_rows)
    if not (values.dtype.is_numeric() or values.dtype.is_temporal()):
        return found
    if values.dtype.is_numeric() and values.drop_nulls().n_unique() <= _FEW_VALUES:
        return found + _levels(values, min_rows)
    return found + _quarters(values, min_rows)


def _levels(values: pl.Series, min_rows: int) -> list[Condition]:
    counts = values.drop_nulls().alias("value").value_counts(sort=True)
    frequent = counts.filter(
        (pl.col("count") >= min_rows) & (pl.col("count") <= len(values) - min_rows)
    ).head(_MOST_LEVELS)
    shown = sorted(frequent["value"].to_list(), key=str)
    return [
        Condition(column=values.name, text=f"{values.name} is {_shown(level)}", level=level)
        for level in shown
    ]


def _shown(level: Any) -> str:
    if isinstance(level, float):
        return f"{level:g}"
    return f"'{str(level)[:60]}'" if isinstance(level, str) else str(level)


def _numbers(values: pl.Series) -> pl.Series:
    numbers = values.to_physical().cast(pl.Float64)
    return numbers.set(numbers.is_nan(), None)


def _quarters(values: pl.Series, min_rows: int) -> list[Condition]:
    numbers = _numbers(values).drop_nulls()
    if len(numbers) < _N_PARTS * min_rows:
        return []
    shares = np.linspace(0, 1, _N_PARTS + 1)[1:-1]
    cuts = np.unique(np.quantile(numbers.to_numpy(), shares, method="lower"))
    edges: Sequence[float | None] = [None, *(float(cut) for cut in cuts), None]
    found = []
    for low, high in pairwise(edges):
        text = _range_text(values, low, high)
        condition = Condition(column=values.name, text=text, low=low, high=high)
        if min_rows <= int(condition.holds(values.to_frame()).sum()) <= len(values) - min_rows:
            found.append(condition)
    return found


def _range_text(values: pl.Series, low: float | None, high: float | None) -> str:
    name = values.name

    def said(edge: float) -> str:
        if not values.dtype.is_temporal():
            return f"{edge:,.4g}" if abs(edge) < 1e4 else f"{edge:,.0f}"
        whole = pl.Series([int(edge)], dtype=pl.Int64).cast(values.to_physical().dtype)
        return str(whole.cast(values.dtype)[0])[:10]

    if low is None and high is not None:
        return f"{name} is at most {said(high)}"
    if high is None and low is not None:
        return f"{name} is above {said(low)}"
    if low is None or high is None:
        return name
    return f"{name} is above {said(low)} and at most {said(high)}"
