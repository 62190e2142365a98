"""The step that cuts numbers into bins."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from datetime import date
from typing import TYPE_CHECKING, Literal

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.prepare.mapping import map_numbers
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


class Bin(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="bin",
    tag_field="step",
):
    """Replace a number by the place of its bin, from 0; the outer bins are open.

    `quantile` bins hold equal shares of the training rows (fewer bins where values repeat),
    `uniform` bins are equally wide. Encode the places with `one_hot` to lose their order.
    """

    columns: tuple[str, ...]
    n_bins: int = 10
    strategy: Literal["quantile", "uniform"] = "quantile"
    reason: str = ""

    def fit(self, training: Training) -> FittedBin:
        """Learn the edges between the bins."""
        checked_columns("bin", self.columns, training.types, NUMBERS)
        if not 2 <= self.n_bins <= 1_000:
            raise InvalidInputError(
                f"n_bins is {self.n_bins}.", hint="Give 2 to 1,000 bins.", field="n_bins"
            )
        return FittedBin(
            columns=self.columns,
            edges=tuple(self._edges(finite_values(training, name)) for name in self.columns),
            reason=self.reason,
        )

    def _edges(self, values: np.ndarray) -> tuple[float, ...]:
        if not len(values):
            return ()
        with np.errstate(over="ignore", invalid="ignore"):
            if self.strategy == "quantile":
                edges = np.quantile(values, np.linspace(0.0, 1.0, self.n_bins + 1))
            else:
                edges = np.linspace(values.min(), values.max(), self.n_bins + 1)
        edges = np.unique(edges[np.isfinite(edges)])
        return tuple((edges[1:-1] + 0.0).tolist())


class FittedBin(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="bin",
    tag_field="step",
):
    """Knows the edges between the bins of each column; a value on an edge belongs to the upper bin."""

    columns: tuple[str, ...]
    edges: tuple[tuple[float, ...], ...]
    reason: str = ""

    def __post_init__(self) -> None:
        same_length(self.columns, self.edges)
        if any(list(edges) != sorted(edges) for edges in self.edges):
            raise ValueError("the edges of bins must rise")

    def types_after(self, types: Types) -> dict[str, ValueType]:
        """Return the same columns, all of numbers."""
        return {**types, **dict.fromkeys(self.columns, "number")}

    def apply(self, table: pl.LazyFrame, types: Types, *, today: date | None) -> pl.LazyFrame:
        """Return the table with the places of the bins."""
        del types, today
        return table.with_columns(
            map_numbers(pl.col(name).cast(pl.Float64), _places(edges)).alias(name)
            for name, edges in zip(self.columns, self.edges, strict=True)
        )

    def operation(self, types: Types, place: Mapping[str, int]) -> Operation:
        """Return what finds the bins of one row."""
        del types
        plan = [(place[name], edges) for name, edges in zip(self.columns, self.edges, strict=True)]

        def find_bins(row: Registers) -> None:
            for own, edges in plan:
                x = row[own]
                if x is not None:
                    row[own] = float(bisect_right(edges, x)) if x == x else None

        return find_bins


def _places(edges: tuple[float, ...]) -> Callable[[np.ndarray], np.ndarray]:
    bounds = np.array(edges, dtype=np.float64)

    def places(x: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.where(
            np.isnan(x), np.nan, np.searchsorted(bounds, x, side="right").astype(np.float64)
        )
        return found

    return places
