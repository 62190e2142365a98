"""A column of the training rows and what is known about it: what suggestions are drawn from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, cast

from loopwright.core.lazy import LazyModule
from loopwright.prepare.kind import Kind, kind_of, looks_like_code
from loopwright.prepare.value import find_value_type

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")


@dataclass(frozen=True)
class Judged:
    """A column, what it means, and what its values tell.

    Parameters
    ----------
    values
        Of the training rows; of a sample of them where an ordered step made the column.
    ordered
        The names of the steps that a person ordered for the column.
    """

    name: str
    kind: Kind
    values: pl.Series
    ordered: frozenset[str] = frozenset()

    @cached_property
    def n_levels(self) -> int:
        """How many different values there are."""
        return self.values.drop_nulls().n_unique()

    @cached_property
    def n_gaps(self) -> int:
        """How many values are missing."""
        return self.values.null_count()

    @property
    def is_text(self) -> bool:
        """Whether the column stores text."""
        return find_value_type(self.values.dtype) == "text"

    @cached_property
    def numbers(self) -> pl.Series:
        """The finite values as float64."""
        values = self.values.drop_nulls().cast(pl.Float64)
        return values.filter(values.is_finite())

    @cached_property
    def skewness(self) -> float:
        """The skewness of numbers with more than ten levels, else 0."""
        if self.n_levels <= 10:
            return 0.0
        found = self.numbers.skew()
        return found if found is not None and math.isfinite(found) else 0.0

    @cached_property
    def least(self) -> float:
        """The least number; infinity if there is none."""
        found = self.numbers.min()
        return float(found) if isinstance(found, int | float) else math.inf


def judged_kind(column: pl.Series, kinds: Mapping[str, str]) -> Kind:
    """Return what a column means: as given, unless its values cannot mean that."""
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


def with_way_to_numbers(column: Judged) -> Judged:
    """Return a column that is kept against the suggestion with a kind that a step can read."""
    if column.kind in ("number", "category", "date", "boolean", "text"):
        return column
    stored = find_value_type(column.values.dtype)
    kinds: dict[str | None, Kind] = {"text": "category", "date": "date", "time": "date"}
    return replace(column, kind=kinds.get(stored, "number"))


def names_of(columns: Iterable[Judged]) -> tuple[str, ...]:
    """Return the names of columns."""
    return tuple(column.name for column in columns)


def counted(columns: Iterable[Judged]) -> str:
    """Return how many levels columns have, for people."""
    found = sorted({column.n_levels for column in columns})
    return f"{found[0]:,} levels" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,} levels"
