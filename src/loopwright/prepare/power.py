"""The step that bends numbers into a bell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING

import msgspec

from loopwright.core.lazy import LazyModule
from loopwright.prepare.function import finite
from loopwright.prepare.quantile import finite_values
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

_ALMOST_ZERO = 1e-9
# e to this is finite, with room for what follows
_LARGEST_EXPONENT = 600.0


class Power(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="power",
    tag_field="step",
):
    """Bring numbers near to a normal distribution with the Yeo-Johnson power of greatest likelihood.

    The result has mean 0 and standard deviation 1. Yeo and Johnson, "A New Family of Power
    Transformations to Improve Normality or Symmetry", Biometrika 87 (2000).
    """

    columns: tuple[str, ...]
    reason: str = ""

    def fit(self, training: Training) -> FittedPower:
        """Learn the power, mean and deviation of what is not missing."""
        checked_columns("power", self.columns, training.types, NUMBERS)
        powers, means, scales = [], [], []
        for name in self.columns:
            values = finite_values(training, name)
            power = _likeliest_power(values)
            with np.errstate(all="ignore"):
                made = _yeo_johnson(values, power)
                made = made[np.isfinite(made)]
                mean = float(made.mean()) if len(made) else 0.0
                scale = float(made.std()) if len(made) else 1.0
            usable = math.isfinite(mean) and math.isfinite(scale) and scale > 1e-14 * abs(mean)
            powers.append(power)
            means.append(mean if math.isfinite(mean) else 0.0)
            scales.append(scale if usable and scale > 1e-300 else 1.0)
        return FittedPower(
            columns=self.columns,
            powers=tuple(powers),
            means=tuple(means),
            scales=tuple(scales),
            reason=self.reason,
        )


def _yeo_johnson(x: np.ndarray, power: float) -> np.ndarray:
    def branch(positive: np.ndarray, p: float) -> np.ndarray:
        if abs(p) < _ALMOST_ZERO:
            bent: np.ndarray = np.log1p(positive)
        else:
            bent = np.expm1(np.minimum(p * np.log1p(positive), _LARGEST_EXPONENT)) / p
        return bent

    up, down = branch(np.maximum(x, 0.0), power), branch(np.maximum(-x, 0.0), 2.0 - power)
    found: np.ndarray = np.where(x >= 0.0, up, -down)
    return found


def _likeliest_power(values: np.ndarray) -> float:
    from scipy.optimize import minimize_scalar

    if len(values) < 2 or values.min() == values.max():
        return 1.0
    with np.errstate(all="ignore"):
        slope = float((np.sign(values) * np.log1p(np.abs(values))).mean())

    def loss(power: float) -> float:
        with np.errstate(all="ignore"):
            spread = float(_yeo_johnson(values, power).var())
        if not 0.0 < spread < math.inf:
            return 1e300
        return 0.5 * math.log(spread) - (power - 1.0) * slope

    found = minimize_scalar(loss, bounds=(-5.0, 5.0), method="bounded", options={"xatol": 1e-7})
    return float(found.x)


class FittedPower(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="power",
    tag_field="step",
):
    """Knows the power p of each column: x >= 0 becomes ((1 + x)^p - 1) / p, then (x - mean) / scale."""

    columns: tuple[str, ...]
    powers: tuple[float, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    reason: str = ""

    def __post_init__(self) -> None:
        same_length(self.columns, self.powers, self.means, self.scales)
        if not all(self.scales):
            raise ValueError("a scale is 0")

    def types_after(self, types: Types) -> dict[str, ValueType]:
        """Return the same columns, all of numbers."""
        return {**types, **dict.fromkeys(self.columns, "number")}

    def _plan(self) -> list[tuple[str, float, float, float]]:
        # a product with 1 / scale rounds the same in a table and in a row
        inverses = [1.0 / scale for scale in self.scales]
        return list(zip(self.columns, self.powers, self.means, inverses, strict=True))

    def apply(self, table: pl.LazyFrame, types: Types, *, today: date | None) -> pl.LazyFrame:
        """Return the table with the powers."""
        del types, today
        made = []
        for name, power, mean, inverse in self._plan():
            x = pl.col(name).cast(pl.Float64)
            raised = (
                pl.when(x >= 0.0)
                .then(_raised(x.log1p(), power))
                .otherwise(_raised((x * -1.0).log1p(), 2.0 - power) * -1.0)
            )
            made.append(finite((raised - mean) * inverse).alias(name))
        return table.with_columns(made)

    def operation(self, types: Types, place: Mapping[str, int]) -> Operation:
        """Return what raises the numbers of one row."""
        del types
        plan = [(place[name], power, mean, inv) for name, power, mean, inv in self._plan()]
        log1p = math.log1p

        def raise_numbers(row: Registers) -> None:
            for own, power, mean, inverse in plan:
                x = row[own]
                if x is not None:
                    up = x >= 0.0
                    raised = (
                        _raised_number(log1p(x), power)
                        if up
                        else -_raised_number(log1p(-x), 2.0 - power)
                    )
                    y = (raised - mean) * inverse
                    row[own] = y if y - y == 0.0 else None

        return raise_numbers


def _raised(logarithm: pl.Expr, power: float) -> pl.Expr:
    if abs(power) < _ALMOST_ZERO:
        return logarithm
    exponent = logarithm * power
    exponent = pl.when(exponent > _LARGEST_EXPONENT).then(_LARGEST_EXPONENT).otherwise(exponent)
    return (exponent.exp() - 1.0) * (1.0 / power)


def _raised_number(logarithm: float, power: float) -> float:
    if abs(power) < _ALMOST_ZERO:
        return logarithm
    exponent = logarithm * power
    exponent = min(exponent, _LARGEST_EXPONENT)
    return (math.exp(exponent) - 1.0) * (1.0 / power)
