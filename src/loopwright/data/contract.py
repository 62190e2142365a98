"""What later rows of a source are expected to look like: agreed once, checked at every extraction."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_SAMPLE_ROWS = 100_000
_ID_NAME = re.compile(r"(?i)(?:^|.*[_\W])(?:id|key|uuid|guid|no|nr)$|.*[a-z]I[dD]$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerances:
    """How far rows may go from a contract before it counts as broken.

    Parameters
    ----------
    null_share
        Share of missing values, 0 to 1, allowed in a column that had none.
    unseen_share
        Share of values, 0 to 1, that may be outside the known categories of a column.
    out_of_range_share
        Share of values, 0 to 1, that may be outside the range of a column.
    range_iqr
        How many interquartile ranges the range found is widened by on either side (Tukey's 1.5).
    row_count_share
        A full extraction with less than this share of the rows before has collapsed.
    max_categories
        A text column with more values than this has no known categories.
    min_rows_per_category
        Mean number of rows for each value that text needs to be taken for categories.
    min_key_rows
        From how many rows on a column without duplicates may be taken for a key.
    """

    null_share: float = 0.001
    unseen_share: float = 0.01
    out_of_range_share: float = 0.01
    range_iqr: float = 1.5
    row_count_share: float = 0.5
    max_categories: int = 50
    min_rows_per_category: int = 5
    min_key_rows: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnContract:
    """What is expected of one column.

    Parameters
    ----------
    name
        The column.
    type
        `number`, `text`, `truth value`, `date`, `moment`, or `nothing` where no value was seen.
    nullable
        Whether values were missing when the contract was made.
    categories
        The values of a text column that has few of them; empty where any text may come.
    low, high
        The range of a number, already widened; None where any number may come.
    is_key
        Whether every row has a value of its own.
    """

    name: str
    type: str
    nullable: bool
    categories: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    is_key: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What is expected of the rows of a source; `n_rows` is how many it was made from."""

    columns: tuple[ColumnContract, ...]
    n_rows: int
    tolerances: Tolerances = field(default_factory=Tolerances)

    def to_json(self) -> dict[str, Any]:
        """Return the contract as JSON types."""
        value: dict[str, Any] = msgspec.to_builtins(asdict(self))
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Contract:
        """Return the contract that `to_json` wrote."""
        return msgspec.convert(value, cls)


def infer_contract(rows: pl.LazyFrame, *, tolerances: Tolerances | None = None) -> Contract:
    """Return what the typed rows of a snapshot let expect of later ones.

    Memory stays bounded: quartiles come from at most 100,000 rows spread evenly over the table.

    Parameters
    ----------
    rows
        The rows of a snapshot, in the types that snapshots have.
    tolerances
        How strict later checks shall be; the defaults when absent.
    """
    limits = tolerances or Tolerances()
    schema = dict(rows.collect_schema())
    facts = _facts(rows, schema)
    n_rows = int(facts["n"])
    quartiles = _quartiles(rows, [n for n, t in schema.items() if t.is_numeric()], n_rows)
    few = [
        name
        for name, dtype in schema.items()
        # the estimate may be off by some percent
        if dtype == pl.String and 0 < facts[f"u:{name}"] <= limits.max_categories * 1.2
    ]
    categories = _categories(rows, few, limits, n_rows)
    keys = _keys(rows, schema, facts, limits)
    columns = []
    for name, dtype in schema.items():
        is_key = name in keys
        is_empty = facts[f"0:{name}"] == n_rows
        low, high = (None, None) if is_key else _range(name, facts, quartiles, limits)
        columns.append(
            ColumnContract(
                name=name,
                type="nothing" if is_empty else type_named(dtype),
                nullable=facts[f"0:{name}"] > 0,
                categories=() if is_key else categories.get(name, ()),
                low=low,
                high=high,
                is_key=is_key,
            )
        )
    return Contract(columns=tuple(columns), n_rows=n_rows, tolerances=limits)


def extended(contract: Contract, rows: pl.LazyFrame) -> Contract:
    """Return the contract with the columns of `rows` added that it does not know yet."""
    known = {column.name for column in contract.columns}
    new = [name for name in rows.collect_schema().names() if name not in known]
    if not new:
        return contract
    added = infer_contract(rows.select(new), tolerances=contract.tolerances)
    return Contract(
        columns=contract.columns + added.columns,
        n_rows=contract.n_rows,
        tolerances=contract.tolerances,
    )


def type_named(dtype: pl.DataType) -> str:
    """Return what people call the type of a snapshot's column."""
    if dtype.is_numeric():
        return "number"
    if dtype == pl.Boolean:
        return "truth value"
    if dtype == pl.Date:
        return "date"
    return "moment" if isinstance(dtype, pl.Datetime) else "text"


def _facts(rows: pl.LazyFrame, schema: Mapping[str, pl.DataType]) -> dict[str, Any]:
    counts = [pl.len().alias("n")]
    for name, dtype in schema.items():
        cell = pl.col(name)
        counts.append(cell.null_count().alias(f"0:{name}"))
        if dtype == pl.String or dtype.is_integer():
            counts.append(cell.approx_n_unique().alias(f"u:{name}"))
        if dtype.is_numeric():
            counts += [cell.min().alias(f"<:{name}"), cell.max().alias(f">:{name}")]
    return rows.select(counts).collect(engine="streaming").row(0, named=True)


def _quartiles(
    rows: pl.LazyFrame, names: Sequence[str], n_rows: int
) -> dict[str, tuple[float, float]]:
    if not names:
        return {}
    sample = rows.select(names).gather_every(max(1, -(-n_rows // _SAMPLE_ROWS))).collect()
    return {
        name: (float(low), float(high))
        for name in names
        if (low := sample[name].quantile(0.25, "nearest")) is not None
        and (high := sample[name].quantile(0.75, "nearest")) is not None
    }


def _range(
    name: str,
    facts: Mapping[str, Any],
    quartiles: Mapping[str, tuple[float, float]],
    limits: Tolerances,
) -> tuple[float | None, float | None]:
    low, high = facts.get(f"<:{name}"), facts.get(f">:{name}")
    if name not in quartiles or low is None or high is None or low == high:
        return None, None
    spread = quartiles[name][1] - quartiles[name][0]
    # where half of the rows share one value, the quartiles say nothing about the others
    width = limits.range_iqr * (spread or float(high) - float(low))
    widened = float(low) - width, float(high) + width
    # infinite values, or a spread beyond what numbers can say, leave nothing to expect
    return widened if all(isfinite(border) for border in widened) else (None, None)


def _categories(
    rows: pl.LazyFrame, names: Sequence[str], limits: Tolerances, n_rows: int
) -> dict[str, tuple[str, ...]]:
    if not names:
        return {}
    found = rows.select(
        pl.col(name).drop_nulls().unique().implode().alias(name) for name in names
    ).collect(engine="streaming")
    most = min(limits.max_categories, n_rows // limits.min_rows_per_category)
    return {
        name: tuple(sorted(values))
        for name, values in found.row(0, named=True).items()
        if len(values) <= most
    }


def _keys(
    rows: pl.LazyFrame,
    schema: Mapping[str, pl.DataType],
    facts: Mapping[str, Any],
    limits: Tolerances,
) -> set[str]:
    """Return the columns that look like identifiers and have no duplicate."""
    n_rows = facts["n"]
    if n_rows < limits.min_key_rows:
        return set()
    keys = set()
    for name, dtype in schema.items():
        if not (dtype == pl.String or dtype.is_integer()) or facts[f"0:{name}"]:
            continue
        is_dense = dtype.is_integer() and facts[f">:{name}"] - facts[f"<:{name}"] < 2 * n_rows
        if not (_ID_NAME.fullmatch(name) or is_dense) or facts[f"u:{name}"] < 0.9 * n_rows:
            continue
        if n_unique(rows, name) == n_rows:
            keys.add(name)
    return keys


def n_unique(rows: pl.LazyFrame, name: str) -> int:
    """Return how many distinct values a column has, a missing one counted as one."""
    return int(rows.select(pl.col(name).n_unique()).collect(engine="streaming").item())
