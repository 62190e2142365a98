"""Columns of texts: what they are made of, and their statistics as `statistics.json` has them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.sagemaker.monitoring.kll import sketch

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_INTEGRAL = r"^[+-]?\d+$"
_MISSING = ("", "null", "NULL", "nan", "NaN", "None")
# more categories than this are told by how many they are
MOST_CATEGORIES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a data set.

    Parameters
    ----------
    name
        Its name.
    inferred_type
        `Integral`, `Fractional`, `String`, or `Unknown` where nothing is present.
    present
        The values that are there, as texts.
    n_missing
        How many are not.
    numbers
        The present values that are finite numbers.
    n_integral, n_number
        How many of the present values are whole numbers, and how many are numbers.
    """

    name: str
    inferred_type: str
    present: pl.Series
    n_missing: int
    numbers: np.ndarray
    n_integral: int
    n_number: int

    @property
    def completeness(self) -> float:
        """Return the share of values that are present, 0 to 1."""
        total = len(self.present) + self.n_missing
        return len(self.present) / total if total else 0.0

    @property
    def is_number(self) -> bool:
        """Tell whether all that is present is a number."""
        return self.inferred_type in ("Integral", "Fractional")

    def counts(self) -> dict[str, int]:
        """Return how often each text is there."""
        found = self.present.value_counts()
        return dict(zip(found.get_column(self.name).to_list(), found["count"], strict=True))

    def type_share(self, wanted: str) -> float:
        """Return the share of present values that are of a type; a whole number is a number."""
        if not len(self.present) or wanted in ("String", "Unknown"):
            return 1.0
        n_fit = self.n_integral if wanted == "Integral" else self.n_number
        return n_fit / len(self.present)


def column_of(series: pl.Series) -> Column:
    """Return a column of texts as they stand in a file; empty ones are missing."""
    texts = series.str.strip_chars()
    present = texts.filter(texts.is_not_null() & ~texts.is_in(_MISSING))
    read = present.cast(pl.Float64, strict=False).drop_nulls().to_numpy()
    n_number = len(read)
    n_integral = int(present.str.contains(_INTEGRAL).sum()) if n_number else 0
    kind = "String"
    if not len(present):
        kind = "Unknown"
    elif n_integral == len(present):
        kind = "Integral"
    elif n_number == len(present):
        kind = "Fractional"
    return Column(
        name=series.name,
        inferred_type=kind,
        present=present,
        n_missing=len(series) - len(present),
        numbers=np.asarray(read[np.isfinite(read)]),
        n_integral=n_integral,
        n_number=n_number,
    )


def statistics_of(columns: Iterable[Column], *, n_rows: int) -> dict[str, Any]:
    """Return `statistics.json` of a data set."""
    return {
        "version": 0.0,
        "dataset": {"item_count": n_rows},
        "features": [_feature(each) for each in columns],
    }


def _feature(column: Column) -> dict[str, Any]:
    about: dict[str, Any] = {"name": column.name, "inferred_type": column.inferred_type}
    common = {"num_present": len(column.present), "num_missing": column.n_missing}
    if column.is_number:
        return {**about, "numerical_statistics": _numerical(column, common)}
    if column.inferred_type == "String":
        counts = column.counts()
        told: dict[str, Any] = {"common": common, "distinct_count": float(len(counts))}
        if len(counts) <= MOST_CATEGORIES:
            buckets = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
            told["distribution"] = {
                "categorical": {
                    "buckets": [{"value": value, "count": count} for value, count in buckets]
                }
            }
        return {**about, "string_statistics": told}
    return {**about, "string_statistics": {"common": common, "distinct_count": 0.0}}


def _numerical(column: Column, common: Mapping[str, int]) -> dict[str, Any]:
    values = column.numbers
    if not len(values):
        return {"common": dict(common)}
    total = math.fsum(values)
    return {
        "common": dict(common),
        "mean": total / len(values),
        "sum": total,
        "std_dev": float(values.std()),
        "min": float(values.min()),
        "max": float(values.max()),
        "distribution": {"kll": sketch(values)},
    }
