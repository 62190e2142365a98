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
_SHOWN = 3


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One way in which rows break a contract.

    Parameters
    ----------
    column
        The column; None for the table as a whole.
    kind
        `column gone`, `type changed`, `nulls`, `unseen categories`, `out of range`,
        `duplicate keys` or `row count`.
    message
        One sentence with the figures.
    share
        Share of the rows concerned, 0 to 1; None where it makes no sense.
    """

    column: str | None
    kind: str
    message: str
    share: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the violation as JSON types."""
        return asdict(self)


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
        if _n_unique(rows, name) == n_rows:
            keys.add(name)
    return keys


def _n_unique(rows: pl.LazyFrame, name: str) -> int:
    return int(rows.select(pl.col(name).n_unique()).collect(engine="streaming").item())


def contract_violations(
    contract: Contract,
    rows: pl.LazyFrame,
    *,
    fresh: pl.LazyFrame | None = None,
    n_before: int | None = None,
) -> tuple[Violation, ...]:
    """Return every way in which rows break a contract, the table's first; empty when none does.

    Parameters
    ----------
    contract
        What is expected.
    rows
        All rows of the new snapshot, typed.
    fresh
        The rows that are new in it: shares are taken of these, so that many old rows do not hide a
        few bad new ones; all of `rows` when absent.
    n_before
        How many rows the snapshot before had; that of the contract when absent. Not looked at for
        an increment.
    """
    limits = contract.tolerances
    schema = dict(rows.collect_schema())
    looked = rows if fresh is None else fresh
    known = [column for column in contract.columns if column.name in schema]
    n_rows = int(rows.select(pl.len()).collect().item())
    facts = _checked(looked, schema, known)
    found = [] if fresh is not None else _row_count(n_rows, n_before or contract.n_rows, limits)
    for column in contract.columns:
        if column.name not in schema:
            found.append(_said(column, "column gone", f"The column {column.name!r} is gone."))
        else:
            found += _of_column(column, schema[column.name], facts, looked, limits)
    retyped = {each.column for each in found if each.kind == "type changed"}
    for column in known:
        if column.is_key and column.name not in retyped:
            found += _duplicates(column, rows, n_rows - _n_null(rows, column.name))
    return tuple(found)


def _said(column: ColumnContract, kind: str, message: str, share: float | None = None) -> Violation:
    return Violation(column=column.name, kind=kind, message=message, share=share)


def _row_count(n_rows: int, n_before: int, limits: Tolerances) -> list[Violation]:
    if n_rows >= limits.row_count_share * n_before:
        return []
    message = f"There are {n_rows:,} rows where there were {n_before:,}."
    share = n_rows / n_before
    return [Violation(column=None, kind="row count", message=message, share=share)]


def _checked(
    rows: pl.LazyFrame, schema: Mapping[str, pl.DataType], columns: Sequence[ColumnContract]
) -> dict[str, Any]:
    """Return the counts that the checks of all columns need, in one streaming pass."""
    counts = [pl.len().alias("n")]
    for column in columns:
        cell = pl.col(column.name)
        counts.append(cell.null_count().alias(f"0:{column.name}"))
        if type_named(schema[column.name]) != column.type:
            continue
        if column.categories:
            unseen = ~cell.is_in(list(column.categories))
            counts.append(unseen.sum().alias(f"c:{column.name}"))
        if column.low is not None:
            outside = (cell < column.low) | (cell > column.high)
            counts += [
                outside.sum().alias(f"r:{column.name}"),
                cell.min().alias(f"<:{column.name}"),
                cell.max().alias(f">:{column.name}"),
            ]
    return rows.select(counts).collect(engine="streaming").row(0, named=True)


def _of_column(
    column: ColumnContract,
    dtype: pl.DataType,
    facts: Mapping[str, Any],
    rows: pl.LazyFrame,
    limits: Tolerances,
) -> list[Violation]:
    name, n_rows = column.name, facts["n"]
    n_null = facts[f"0:{name}"]
    n_values = n_rows - n_null
    found = []
    if n_null and not column.nullable and n_null > limits.null_share * n_rows:
        share = n_null / n_rows
        message = f"{n_null:,} of {n_rows:,} values of {name!r} are missing; none was before."
        found.append(_said(column, "nulls", message, share))
    now = type_named(dtype)
    if now != column.type and column.type != "nothing" and n_values:
        example = rows.select(pl.col(name).drop_nulls().first()).collect().item()
        message = (
            f"The column {name!r} held {_plural(column.type)} and now holds {_plural(now)}, "
            f"such as {str(example)[:60]!r}."
        )
        found.append(_said(column, "type changed", message))
    n_unseen = facts.get(f"c:{name}") or 0
    if n_unseen > limits.unseen_share * n_values:
        examples = _unseen(column, rows)
        message = (
            f"{n_unseen:,} of {n_values:,} values of {name!r} are none of its "
            f"{len(column.categories)} categories, such as {examples}."
        )
        found.append(_said(column, "unseen categories", message, n_unseen / n_values))
    n_outside = facts.get(f"r:{name}") or 0
    if n_outside > limits.out_of_range_share * n_values:
        message = (
            f"{n_outside:,} of {n_values:,} values of {name!r} are outside {column.low:,.6g} to "
            f"{column.high:,.6g}; they go from {facts[f'<:{name}']:,.6g} to "
            f"{facts[f'>:{name}']:,.6g}."
        )
        found.append(_said(column, "out of range", message, n_outside / n_values))
    return found


def _plural(type_: str) -> str:
    return type_ if type_ in ("text", "nothing") else f"{type_}s"


def _unseen(column: ColumnContract, rows: pl.LazyFrame) -> str:
    cell = pl.col(column.name)
    unseen = rows.select(cell).filter(~cell.is_in(list(column.categories)))
    examples = unseen.select(cell.unique(maintain_order=True).head(_SHOWN)).collect().to_series()
    return ", ".join(repr(text[:60]) for text in examples)


def _n_null(rows: pl.LazyFrame, name: str) -> int:
    return int(rows.select(pl.col(name).null_count()).collect(engine="streaming").item())


def _duplicates(column: ColumnContract, rows: pl.LazyFrame, n_values: int) -> list[Violation]:
    cell = pl.col(column.name)
    present = rows.select(cell).filter(cell.is_not_null())
    n_repeated = n_values - _n_unique(present, column.name)
    if not n_repeated:
        return []
    twice = present.group_by(cell).len().filter(pl.col("len") > 1).select(cell.min())
    example = twice.collect(engine="streaming").item()
    message = (
        f"{n_repeated:,} of {n_values:,} rows repeat a value of the key {column.name!r}, "
        f"such as {str(example)[:60]!r}."
    )
    return [_said(column, "duplicate keys", message, n_repeated / n_values)]
