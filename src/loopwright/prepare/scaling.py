"""Steps over numbers: shorten long tails, cut extremes, bring to one scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, cast

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.prepare.function import divided
from loopwright.prepare.instruction import Instruction
from loopwright.prepare.present import present_numbers
from loopwright.prepare.step import (
    NUMBERS,
    Operation,
    Registers,
    Training,
    Types,
    checked_columns,
    same_length,
)
from loopwright.prepare.value import ValueType

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np, pl = LazyModule("numpy"), LazyModule("polars")

_BLOCK_ROWS = 65_536


class Log1p(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="log1p",
    tag_field="step",
):
    """Replace x by log(1 + x), and a negative x by -log(1 - x), so that long tails get short.

    Polars and `math` both ask the C library for the logarithm and give the same bits.
    """

    columns: tuple[str, ...]
    reason: str = ""

    def fit(self, training: Training) -> Log1p:
        """Check the columns; there is nothing to learn."""
        checked_columns("log1p", self.columns, training.types, ["number"])
        return self

    def types_after(self, types: Types) -> dict[str, ValueType]:
        """Return the same columns."""
        return dict(types)

    def apply(self, table: pl.LazyFrame, types: Types, *, today: date | None) -> pl.LazyFrame:
        """Return the table with the logarithms."""
        del types, today
        return table.with_columns(
            pl.when(pl.col(name) < 0.0)
            .then((pl.col(name) * -1.0).log1p() * -1.0)
            .otherwise(pl.col(name).log1p())
            .alias(name)
            for name in self.columns
        )

    def operation(self, types: Types, place: Mapping[str, int]) -> Operation:
        """Return what takes the logarithms in one row."""
        del types
        places = [place[name] for name in self.columns]
        log1p = math.log1p

        def take_logarithms(row: Registers) -> None:
            for own in places:
                x = row[own]
                if x is not None:
                    row[own] = log1p(x) if x >= 0.0 else -log1p(-x)

        return take_logarithms

    def instructions(self, types: Types, place: Mapping[str, int]) -> list[Instruction]:
        """Return what the kernel does to one row."""
        del types
        return [Instruction("g", place[name], place[name]) for name in self.columns]


class Clip(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="clip",
    tag_field="step",
):
    """Move values beyond the outer quantiles of training onto them.

    `tail` is the share of rows beyond each bound, from 0 (the least and greatest value seen) to
    below 0.5.
    """

    columns: tuple[str, ...]
    tail: float = 0.001
    reason: str = ""

    def fit(self, training: Training) -> FittedClip:
        """Learn the bounds; a column without any value gets none."""
        checked_columns("clip", self.columns, training.types, ["number"])
        if not 0.0 <= self.tail < 0.5:
            raise InvalidInputError(
                f"The tail to clip is {self.tail}.", hint="Give a share from 0 to below 0.5."
            )
        bounds = []
        for name in self.columns:
            column = training.table[name].drop_nulls()
            ends = [
                cast("float", column.quantile(share, interpolation="linear"))
                for share in (self.tail, 1.0 - self.tail)
                if len(column)
            ]
            bounds.append((ends[0], ends[1]) if ends else (-_LARGEST, _LARGEST))
        return FittedClip(columns=self.columns, bounds=tuple(bounds), reason=self.reason)


_LARGEST = 1.7976931348623157e308


class FittedClip(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="clip",
    tag_field="step",
):
    """Moves values onto the bounds of their column."""

    columns: tuple[str, ...]
    bounds: tuple[tuple[float, float], ...]
    reason: str = ""

    def __post_init__(self) -> None:
        same_length(self.columns, self.bounds)

    def types_after(self, types: Types) -> dict[str, ValueType]:
        """Return the same columns."""
        return dict(types)

    def apply(self, table: pl.LazyFrame, types: Types, *, today: date | None) -> pl.LazyFrame:
        """Return the table with the values inside their bounds."""
        del types, today
        return table.with_columns(
            pl.when(pl.col(name) < low)
            .then(low)
            .when(pl.col(name) > high)
            .then(high)
            .otherwise(pl.col(name))
            .alias(name)
            for name, (low, high) in zip(self.columns, self.bounds, strict=True)
        )

    def operation(self, types: Types, place: Mapping[str, int]) -> Operation:
        """Return what moves the values of one row."""
        del types
        plan = [(place[name], *ends) for name, ends in zip(self.columns, self.bounds, strict=True)]

        def clip(row: Registers) -> None:
            for own, low, high in plan:
                x = row[own]
                if x is not None:
                    row[own] = low if x < low else (high if x > high else x)

        return clip

    def instructions(self, types: Types, place: Mapping[str, int]) -> list[Instruction]:
        """Return what the kernel does to one row."""
        del types
        return [
            Instruction("z", place[name], place[name], a=low, b=high)
            for name, (low, high) in zip(self.columns, self.bounds, strict=True)
        ]


class Scale(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="scale",
    tag_field="step",
):
    """Give every column mean 0 and standard deviation 1 over the training rows.

    Without `columns` every column of numbers is scaled, apart from zeros and ones that steps made
    and from those in `but`. The deviation is that of the population, as in scikit-learn; a column without spread is only
    centred. Never before XGBoost, whose thresholds are training values.
    """

    columns: tuple[str, ...] = ()
    but: tuple[str, ...] = ()
    reason: str = ""

    def fit(self, training: Training) -> FittedScale:
        """Learn the means and deviations of what is not missing."""
        columns = self.columns or training.numbers(but=self.but)
        checked_columns("scale", columns, training.types, NUMBERS)
        moments = [_moments(present_numbers(training.table, name)) for name in columns]
        return FittedScale(
            columns=columns,
            means=tuple(mean for mean, _ in moments),
            scales=tuple(scale for _, scale in moments),
            reason=self.reason,
        )


class FittedScale(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="scale",
    tag_field="step",
):
    """Replaces x by (x - mean) / scale, in float64 and in that order."""

    columns: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    reason: str = ""

    def __post_init__(self) -> None:
        same_length(self.columns, self.means, self.scales)
        if not all(self.scales):
            raise ValueError("a scale is 0")

    def types_after(self, types: Types) -> dict[str, ValueType]:
        """Return the same columns, all of numbers."""
        return {**types, **dict.fromkeys(self.columns, "number")}

    def apply(self, table: pl.LazyFrame, types: Types, *, today: date | None) -> pl.LazyFrame:
        """Return the table with the scaled columns."""
        del types, today
        return table.with_columns(
            divided(pl.col(name).cast(pl.Float64) - mean, pl.lit(scale)).alias(name)
            for name, mean, scale in zip(self.columns, self.means, self.scales, strict=True)
        )

    def operation(self, types: Types, place: Mapping[str, int]) -> Operation:
        """Return what scales one row."""
        del types
        plan = [
            (place[name], mean, scale)
            for name, mean, scale in zip(self.columns, self.means, self.scales, strict=True)
        ]

        def scale_numbers(row: Registers) -> None:
            for own, mean, scale in plan:
                x = row[own]
                if x is not None:
                    row[own] = (x - mean) / scale

        return scale_numbers

    def instructions(self, types: Types, place: Mapping[str, int]) -> list[Instruction]:
        """Return what the kernel does to one row."""
        del types
        return [
            Instruction("s", place[name], place[name], a=mean, b=scale)
            for name, mean, scale in zip(self.columns, self.means, self.scales, strict=True)
        ]


def _moments(values: np.ndarray) -> tuple[float, float]:
    if not len(values):
        return 0.0, 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(values.mean())
        # in blocks, so that no more is held than the column
        starts = range(0, len(values), _BLOCK_ROWS)
        squares = [((values[k : k + _BLOCK_ROWS] - mean) ** 2).sum() for k in starts]
        variance = float(np.sum(squares)) / len(values)
    # below this a spread is rounding only (scikit-learn, `_is_constant_feature`)
    epsilon = float(np.finfo(np.float64).eps)
    rounding = len(values) * mean * epsilon
    noise = len(values) * epsilon * variance + rounding * rounding
    if variance <= noise or not math.isfinite(variance) or not math.isfinite(mean):
        return (mean if math.isfinite(mean) else 0.0), 1.0
    return mean, math.sqrt(variance)
