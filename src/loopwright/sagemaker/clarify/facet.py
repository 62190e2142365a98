"""Which rows a value or a threshold of the analysis configuration means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

# a whole number with fewer distinct values than this share of the rows stands for a category
_DISTINCT = 0.05
Value = int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Some of the values of a column.

    Parameters
    ----------
    shown
        The values, or the interval, as `analysis.json` has them.
    rows
        Which rows have them, `(n_rows,)`.
    """

    shown: str
    rows: np.ndarray


def is_continuous(column: pl.Series, values: Sequence[Value] = ()) -> bool:
    """Tell whether a column is a quantity rather than a category, as Clarify's library does.

    Fractions are; whole numbers are where at least 5 % of the values are distinct; nothing is for
    which several values are given. Two whole numbers are never one, even in a few rows, where
    the library takes them for one.
    """
    if len(values) > 1 or column.dtype == pl.Boolean:
        return False
    if column.dtype.is_float():
        return True
    if not column.dtype.is_integer():
        return False
    n, n_distinct = len(column) - column.null_count(), column.drop_nulls().n_unique()
    return n_distinct > 2 and n_distinct / n >= _DISTINCT


def chosen(column: pl.Series, values: Sequence[Value]) -> Choice:
    """Return the rows with one of some values, or above the one threshold of a quantity.

    Raises
    ------
    InvalidInputError
        If a threshold is no number.
    """
    if is_continuous(column, values):
        return _above(column, column, values)
    return _among(column, values)


def chosen_like(
    column: pl.Series, values: Sequence[Value], *, other: pl.Series
) -> tuple[Choice, Choice]:
    """Return the rows that a choice means in a column of labels, and in one of predictions.

    Raises
    ------
    InvalidInputError
        If one holds quantities and the other categories, or no prediction is among the values.
    """
    if is_continuous(column, values):
        if not other.dtype.is_numeric():
            raise InvalidInputError(
                "Predicted Label Column series datatype is not the same as Label Column series"
            )
        both = pl.concat([column.cast(pl.Float64), other.cast(pl.Float64)])
        # the interval is told as that of the labels, whose highest value may be lower
        shown = _above(column, column, values).shown
        own, theirs = (_above(each, both, values).rows for each in (column, other))
        found = Choice(shown=shown, rows=own), Choice(shown=shown, rows=theirs)
    else:
        found = _among(column, values), _among(other, values)
    if not found[1].rows.any():
        raise InvalidInputError(
            "No Label values are present in the predicted Label Column, "
            "Positive Predicted Index Series contains all False values"
        )
    return found


def facets_of(column: pl.Series, values: Sequence[Value]) -> list[Choice]:
    """Return the groups of a facet: the one that is given, else one for each category.

    Raises
    ------
    InvalidInputError
        If it is a quantity without a threshold.
    """
    if values:
        return [chosen(column, values)]
    if is_continuous(column):
        raise InvalidInputError("Threshold values must be provided for continuous features")
    known = column.drop_nulls().unique(maintain_order=True)
    return [_among(column, [each]) for each in known.to_list()]


def _above(column: pl.Series, whole: pl.Series, values: Sequence[Value]) -> Choice:
    if not values:
        raise InvalidInputError("Threshold values must be provided for continuous features")
    try:
        low = float(values[0])
    except ValueError as error:
        raise InvalidInputError(
            "Facet/label value provided must be a single numeric threshold for continuous data"
        ) from error
    top: Any = whole.max()
    high = -math.inf if top is None else float(top)
    numbers = column.cast(pl.Float64).to_numpy()
    is_whole = low.is_integer() and whole.dtype.is_integer()
    ends = f"{low:.0f}, {high:.0f}" if is_whole else f"{low!r}, {high!r}"
    shown = f"({ends}]" if high > low else ""
    return Choice(shown=shown, rows=(numbers > low) & (numbers <= high))


def _among(column: pl.Series, values: Sequence[Any]) -> Choice:
    texts = column.cast(pl.String)
    rows = texts.is_in([str(each) for each in values]).fill_null(value=False).to_numpy()
    if not rows.any():
        # 1 and 1.0 and "1" are one value
        numbers = column.cast(pl.Float64, strict=False)
        wanted = [each for each in map(_number, values) if each is not None]
        if wanted:
            rows = numbers.is_in(wanted).fill_null(value=False).to_numpy()
    return Choice(shown=",".join(str(each) for each in values), rows=np.asarray(rows, dtype=bool))


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None
