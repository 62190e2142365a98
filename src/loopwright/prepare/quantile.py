"""Steps over the quantiles of numbers: a scale that outliers cannot move, and shares of rows."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from datetime import date
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.prepare.mapping import map_numbers
from loopwright.prepare.present import present_numbers
from loopwright.prepare.scaling import FittedScale
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

# the outermost share of a normal distribution that a quantile can become (scikit-learn)
_TAIL = 1e-7


class RobustScale(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="robust_scale",
    tag_field="step",
):
    """Give every column median 0 and a range of 1 between its quartiles, whatever its outliers.

    Without `columns` every column of numbers is scaled, apart from zeros and ones that steps made.
    A column whose quartiles coincide is only centred.
    """

    columns: tuple[str, ...] = ()
    reason: str = ""

    def fit(self, training: Training) -> FittedScale:
        """Learn the medians and quartiles of what is not missing."""
        columns = self.columns or training.numbers()
        checked_columns("robust_scale", columns, training.types, NUMBERS)
        found = [_quartiles(finite_values(training, name)) for name in columns]
        return FittedScale(
            columns=columns,
            means=tuple(median for median, _ in found),
            scales=tuple(spread for _, spread in found),
            reason=self.reason,
        )


def _quartiles(values: np.ndarray) -> tuple[float, float]:
    if not len(values):
        return 0.0, 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        low, median, high = np.quantile(
            values, [0.25, 0.5, 0.75], overwrite_input=bool(values.flags.writeable)
        ).tolist()
    spread = high - low
    usable = math.isfinite(spread) and spread > 10 * np.finfo(np.float64).eps * abs(median)
    return (median if math.isfinite(median) else 0.0), (float(spread) if usable else 1.0)


class QuantileScale(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="quantile_scale",
    tag_field="step",
):
    """Replace a number by the share of training rows below it, or by the normal number of that share.

    The line between stored quantiles is straight; values beyond them become 0 and 1, or about
    -5.2 and 5.2. To `uniform` it agrees with scikit-learn's `QuantileTransformer` on the same
    quantiles; to `normal` it agrees at them, and is a straight line in between.
    """

    columns: tuple[str, ...]
    output: Literal["uniform", "normal"] = "uniform"
    n_quantiles: int = 200
    reason: str = ""

    def fit(self, training: Training) -> FittedQuantileScale:
        """Learn the quantiles of what is not missing."""
        checked_columns("quantile_scale", self.columns, training.types, NUMBERS)
        if self.n_quantiles < 2:
            raise InvalidInputError(
                f"n_quantiles is {self.n_quantiles}.", hint="Give at least 2.", field="n_quantiles"
            )
        curves = []
        for name in self.columns:
            values = finite_values(training, name)
            n = max(min(self.n_quantiles, len(values)), 1)
            shares = np.linspace(0.0, 1.0, n) if n > 1 else np.zeros(1)
            with np.errstate(over="ignore", invalid="ignore"):
                found = (
                    np.quantile(values, shares, overwrite_input=bool(values.flags.writeable))
                    if len(values)
                    else np.zeros(1)
                )
            curves.append(curve_of(np.nan_to_num(found), shares, normal=self.output == "normal"))
        return FittedQuantileScale(columns=self.columns, curves=tuple(curves), reason=self.reason)


class Curve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Straight lines between knots; a knot of many equal values has three values.

    Just below `knots[i]` the curve is at `below[i]`, on it `at[i]`, just above it `above[i]`.
    """

    knots: tuple[float, ...]
    below: tuple[float, ...]
    at: tuple[float, ...]
    above: tuple[float, ...]

    def __post_init__(self) -> None:
        same_length(self.knots, self.below, self.at, self.above)
        if not self.knots or list(self.knots) != sorted(set(self.knots)):
            raise ValueError("knots must rise")

    def value(self, x: float) -> float | None:
        """Return the height of the curve at x."""
        knots = self.knots
        after = bisect_right(knots, x)
        if after == 0:
            return self.at[0]
        before = after - 1
        if x == knots[before]:
            return self.at[before]
        if after == len(knots):
            return self.above[before]
        part = (x - knots[before]) / (knots[after] - knots[before])
        y = self.above[before] + part * (self.below[after] - self.above[before])
        return y if y == y else None

    def values(self, x: np.ndarray) -> np.ndarray:
        """Return the heights of the curve; the same operations as `value`."""
        knots, below, at, above = (
            np.array(points) for points in (self.knots, self.below, self.at, self.above)
        )
        after = np.searchsorted(knots, x, side="right")
        before, inside = np.maximum(after - 1, 0), np.minimum(after, len(knots) - 1)
        with np.errstate(all="ignore"):
            part = (x - knots[before]) / (knots[inside] - knots[before])
            y = above[before] + part * (below[inside] - above[before])
        y = np.where(after == len(knots), above[before], y)
        y = np.where((x == knots[before]) | (after == 0), at[before], y)
        found: np.ndarray = np.where(np.isnan(x), np.nan, y)
        return found


def curve_of(quantiles: np.ndarray, shares: np.ndarray, *, normal: bool) -> Curve:
    """Return the curve through quantiles, at the middle of the shares where many coincide."""
    knots, first, n = np.unique(
        np.maximum.accumulate(quantiles), return_index=True, return_counts=True
    )
    low, high = shares[first], shares[first + n - 1]
    middle = (low + high) / 2
    middle[-1], middle[0] = 1.0, 0.0
    # beyond the last knot everything was seen, even if there is but one knot
    high[-1] = 1.0

    def written(values: np.ndarray) -> tuple[float, ...]:
        if not normal:
            return tuple(values.tolist())
        inside = np.clip(values, _TAIL, 1 - _TAIL).tolist()
        return tuple(NormalDist().inv_cdf(share) for share in inside)

    return Curve(
        knots=tuple((knots + 0.0).tolist()),
        below=written(low),
        at=written(middle),
        above=written(high),
    )


class FittedQuantileScale(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="quantile_scale",
    tag_field="step",
):
    """Knows the curve of each column."""

    columns: tuple[str, ...]
    curves: tuple[Curve, ...]
    reason: str = ""

    def __post_init__(self) -> None:
        same_length(self.columns, self.curves)

    def types_after(self, types: Types) -> dict[str, ValueType]:
        """Return the same columns, all of numbers."""
        return {**types, **dict.fromkeys(self.columns, "number")}

    def apply(self, table: pl.LazyFrame, types: Types, *, today: date | None) -> pl.LazyFrame:
        """Return the table with the shares."""
        del types, today
        return table.with_columns(
            map_numbers(pl.col(name).cast(pl.Float64), curve.values).alias(name)
            for name, curve in zip(self.columns, self.curves, strict=True)
        )

    def operation(self, types: Types, place: Mapping[str, int]) -> Operation:
        """Return what places one row."""
        del types
        plan = [(place[n], c.value) for n, c in zip(self.columns, self.curves, strict=True)]

        def place_on_curves(row: Registers) -> None:
            for own, value in plan:
                x = row[own]
                if x is not None:
                    row[own] = value(x) if x == x else None

        return place_on_curves


def finite_values(training: Training, name: str) -> np.ndarray:
    """Return what is neither missing nor infinite in a column of numbers."""
    found = present_numbers(training.table, name)
    finite = np.isfinite(found)
    return found if finite.all() else found[finite]
