"""Steps that fill what is missing from rows that are alike: of one group, or near."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.prepare.level import CATEGORIES, Level, category, coded
from loopwright.prepare.mapping import map_rows, sampled_rows
from loopwright.prepare.step import (
    NUMBERS,
    Operation,
    Registers,
    Training,
    Types,
    checked_columns,
    fresh,
    same_length,
)
from loopwright.prepare.value import ValueType

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np, pl = LazyModule("numpy"), LazyModule("polars")

_MOST_ROWS = 2_000


class GroupImpute(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="group_impute",
    tag_field="step",
):
    """Fill what is missing with the median of the rows that hold the same level of `by`.

    Where the level was never seen, is missing, or has no value itself, the median of all rows is
    taken, and 0 if there is none.
    """

    columns: tuple[str, ...]
    by: str
    reason: str = ""

    def fit(self, training: Training) -> FittedGroupImpute:
        """Learn the medians."""
        checked_columns("group_impute", self.columns, training.types, NUMBERS)
        checked_columns("group_impute", [self.by], training.types, CATEGORIES)
        if self.by in self.columns:
            raise InvalidInputError(
                f"The column {self.by!r} cannot be filled by its own levels.",
                hint="Take it out of columns.",
                field=self.by,
                step="group_impute",
            )
        levels, codes = coded(training.table[self.by])
        medians, overall = [], []
        for name in self.columns:
            values = training.table[name].cast(pl.Float64)
            everywhere = _number_or(values.median(), 0.0)
            by_code = dict(
                pl.DataFrame({"code": codes, "value": values})
                .group_by("code")
                .agg(pl.col("value").median())
                .iter_rows()
            )
            medians.append(
                tuple(_number_or(by_code.get(code), everywhere) for code in range(len(levels)))
            )
            overall.append(everywhere)
        return FittedGroupImpute(
            filled=self.columns,
            by=self.by,
            levels=levels,
            medians=tuple(medians),
            overall=tuple(overall),
            reason=self.reason,
        )


def _number_or(value: object, otherwise: float) -> float:
    return float(value) if isinstance(value, float) and np.isfinite(value) else otherwise


class FittedGroupImpute(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="group_impute",
    tag_field="step",
):
    """Knows for each column the median of every level of `by`, and that of all rows."""

    filled: tuple[str, ...]
    by: str
    levels: tuple[Level, ...]
    medians: tuple[tuple[float, ...], ...]
    overall: tuple[float, ...]
    reason: str = ""

    def __post_init__(self) -> None:
        same_length(self.filled, self.medians, self.overall)
        same_length(self.levels, *self.medians)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it fills and the one that tells the groups."""
        return (*self.filled, self.by)

    def types_after(self, types: Types) -> dict[str, ValueType]:
        """Return the same columns, the filled ones of numbers."""
        return {**types, **dict.fromkeys(self.filled, "number")}

    def apply(self, table: pl.LazyFrame, types: Types, *, today: date | None) -> pl.LazyFrame:
        """Return the table with the columns filled."""
        del today
        group = category(self.by, types)
        made = []
        for name, medians, overall in zip(self.filled, self.medians, self.overall, strict=True):
            median = pl.lit(overall)
            if self.levels:
                median = group.replace_strict(
                    list(self.levels), list(medians), default=overall, return_dtype=pl.Float64
                ).fill_null(overall)
            made.append(pl.col(name).cast(pl.Float64).fill_null(median).alias(name))
        return table.with_columns(made)

    def operation(self, types: Types, place: Mapping[str, int]) -> Operation:
        """Return what fills one row."""
        del types
        group = place[self.by]
        plan = [
            (place[name], dict(zip(self.levels, medians, strict=True)), overall)
            for name, medians, overall in zip(self.filled, self.medians, self.overall, strict=True)
        ]

        def fill_by_group(row: Registers) -> None:
            for own, medians, overall in plan:
                if row[own] is None:
                    row[own] = medians.get(row[group], overall)

        return fill_by_group


class KnnImpute(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="knn_impute",
    tag_field="step",
):
    """Fill what is missing with the mean of the nearest rows of a stored sample of training rows.

    The distance is Euclidean over the columns that both rows have, scaled up for those they have
    not, as in scikit-learn's `KNNImputer`; so scale the columns first. Up to 2,000 training rows
    (`max_rows`) are stored with the recipe; on them the search is exact. Where no stored row can
    help, the mean of the sample is taken. A row costs about a millisecond, so use it for gaps that
    matter.
    """

    columns: tuple[str, ...]
    n_neighbours: int = 5
    max_rows: int = _MOST_ROWS
    reason: str = ""

    def fit(self, training: Training) -> FittedKnnImpute:
        """Store the sample."""
        checked_columns("knn_impute", self.columns, training.types, NUMBERS)
        if not 1 <= self.max_rows <= _MOST_ROWS or self.n_neighbours < 1:
            raise InvalidInputError(
                f"The step knn_impute has {self.n_neighbours} neighbours of {self.max_rows} rows.",
                hint=f"Give at least 1 neighbour, and 1 to {_MOST_ROWS:,} rows.",
                step="knn_impute",
            )
        sample = sampled_rows(training, self.columns, most=self.max_rows)
        rows = [[None if x != x else x for x in row] for row in sample.tolist()]
        return FittedKnnImpute(
            columns=self.columns,
            sample=tuple(tuple(row) for row in rows),
            n_neighbours=self.n_neighbours,
            reason=self.reason,
        )


class FittedKnnImpute(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="knn_impute",
    tag_field="step",
):
    """Holds the rows among which neighbours are looked for."""

    columns: tuple[str, ...]
    sample: tuple[tuple[float | None, ...], ...]
    n_neighbours: int
    reason: str = ""

    def __post_init__(self) -> None:
        for row in self.sample:
            same_length(self.columns, row)

    def types_after(self, types: Types) -> dict[str, ValueType]:
        """Return the same columns, all of numbers."""
        return {**types, **dict.fromkeys(self.columns, "number")}

    def apply(self, table: pl.LazyFrame, types: Types, *, today: date | None) -> pl.LazyFrame:
        """Return the table with the columns filled."""
        del today
        filled = fresh("knn_impute", types)
        columns = [pl.col(name).cast(pl.Float64) for name in self.columns]
        rows = map_rows(columns, _Neighbours(self).fill, len(columns))
        return table.with_columns(rows.alias(filled)).with_columns(
            pl.col(filled).arr.get(at).alias(name) for at, name in enumerate(self.columns)
        )

    def operation(self, types: Types, place: Mapping[str, int]) -> Operation:
        """Return what fills one row."""
        del types
        places = [place[name] for name in self.columns]
        neighbours = _Neighbours(self)

        def fill_from_neighbours(row: Registers) -> None:
            if None in (values := [row[own] for own in places]):
                for own, value in zip(places, neighbours.fill(values).tolist(), strict=True):
                    row[own] = value

        return fill_from_neighbours


class _Neighbours:
    """The search for neighbours of one row; a table and a row do the same operations."""

    def __init__(self, fitted: FittedKnnImpute) -> None:
        shape = (len(fitted.sample), len(fitted.columns))
        self._sample = np.array(fitted.sample, dtype=np.float64).reshape(shape)
        self._has = np.isfinite(self._sample)
        self._values = np.where(self._has, self._sample, 0.0)
        counts = np.maximum(self._has.sum(axis=0), 1)
        with np.errstate(over="ignore", invalid="ignore"):
            self._means = np.nan_to_num((self._values / counts).sum(axis=0))
        self._n = fitted.n_neighbours

    def fill(self, row: list[float | None]) -> np.ndarray:
        """Return the row with its gaps filled, (n_columns,)."""
        x = np.array(row, dtype=np.float64)
        gaps = np.flatnonzero(np.isnan(x))
        if not len(gaps):
            return x
        known = np.isfinite(x)
        shared = self._has & known
        n_shared = shared.sum(axis=1)
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.where(shared, self._values - np.where(known, x, 0.0), 0.0) ** 2
            distances = squares.sum(axis=1) * (len(x) / np.maximum(n_shared, 1))
        distances[n_shared == 0] = np.inf
        order = np.argsort(distances, kind="stable")
        for gap in gaps:
            near = order[self._has[order, gap] & np.isfinite(distances[order])][: self._n]
            with np.errstate(over="ignore"):
                mean = self._sample[near, gap].mean() if len(near) else self._means[gap]
            x[gap] = mean if np.isfinite(mean) else self._means[gap]
        return x
