"""What changed between two snapshots: columns, rows, and how the values of each column moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.data.contract import type_named
from loopwright.data.staged_part import common_type

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_MAX_CATEGORIES = 1_000
_SEED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnShift:
    """How the values of one column moved.

    Parameters
    ----------
    column
        The column.
    size
        How far, 0 for not at all. For numbers the distance of the means in standard deviations of
        the first snapshot; for text and truth values the share of rows, 0 to 1, that would have to
        change their value; for dates 0 or 1.
    words
        The same in words, with the figures.
    """

    column: str
    size: float
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What changed from one table of rows to another.

    Parameters
    ----------
    added, gone
        Columns that only the second or only the first has.
    retyped
        Column, type in the first, type in the second.
    n_rows
        How many rows each has.
    n_common, n_only_first, n_only_second
        How many rows stand, the same in all columns of both, in both or in one only. A row that is
        there twice counts twice.
    shifts
        Every column of both, the one that moved furthest first.
    """

    added: tuple[str, ...]
    gone: tuple[str, ...]
    retyped: tuple[tuple[str, str, str], ...]
    n_rows: tuple[int, int]
    n_common: int
    n_only_first: int
    n_only_second: int
    shifts: tuple[ColumnShift, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the difference as JSON types."""
        return asdict(self)

    def summary(self) -> list[str]:
        """Return the difference in sentences, the columns that moved last."""
        lines = [f"The column {name!r} is new." for name in self.added]
        lines += [f"The column {name!r} is gone." for name in self.gone]
        lines += [f"The column {n!r} was {was} and is {now}." for n, was, now in self.retyped]
        lines.append(
            f"Rows: {self.n_rows[0]:,} and {self.n_rows[1]:,}; {self.n_common:,} in both, "
            f"{self.n_only_first:,} in the first only, {self.n_only_second:,} in the second only."
        )
        moved = [f"{shift.column}: {shift.words}." for shift in self.shifts if shift.size]
        return lines + (moved or ["The values of no column have moved."])


def difference(first: pl.LazyFrame, second: pl.LazyFrame) -> Difference:
    """Return what changed from the rows of one snapshot to those of another.

    Rows are compared by a hash of 64 bits of their cells: memory is some 20 bytes a row, however
    wide the table, and a wrong match is not to be expected below billions of rows.
    """
    one, other = dict(first.collect_schema()), dict(second.collect_schema())
    both = [name for name in one if name in other]
    same = [name for name in both if one[name] == other[name]]
    counts = _row_counts(first, second, both)
    facts = [_facts(rows, {name: one[name] for name in same}) for rows in (first, second)]
    shifts = [
        _shift(name, one[name], facts[0], facts[1], _shares(first, second, name, one[name]))
        for name in same
    ]
    return Difference(
        added=tuple(name for name in other if name not in one),
        gone=tuple(name for name in one if name not in other),
        retyped=tuple((n, str(one[n]), str(other[n])) for n in both if n not in same),
        n_rows=(facts[0]["n"], facts[1]["n"]),
        n_common=counts[0],
        n_only_first=counts[1],
        n_only_second=counts[2],
        shifts=tuple(sorted(shifts, key=lambda shift: -shift.size)),
    )


def _row_counts(first: pl.LazyFrame, second: pl.LazyFrame, both: list[str]) -> tuple[int, int, int]:
    if not both:
        n_first, n_second = (
            int(rows.select(pl.len()).collect().item()) for rows in (first, second)
        )
        return 0, n_first, n_second
    one, other = first.collect_schema(), second.collect_schema()
    # in the type that holds both, so that a column read as another type is not wholly new
    cells = [pl.col(name).cast(common_type(one[name], other[name])) for name in both]
    hashed = [
        rows.select(pl.struct(cells).hash(seed=_SEED).alias("row")).group_by("row").len()
        for rows in (first, second)
    ]
    joined = hashed[0].join(hashed[1], on="row", how="full", suffix="_other", coalesce=True)
    n, n_other = pl.col("len").fill_null(0), pl.col("len_other").fill_null(0)
    least = pl.min_horizontal(n, n_other)
    common, one, other = (
        joined.select(
            least.sum().alias("common"),
            (n - least).sum().alias("one"),
            (n_other - least).sum().alias("other"),
        )
        .collect(engine="streaming")
        .row(0)
    )
    return int(common), int(one), int(other)


def _facts(rows: pl.LazyFrame, schema: Mapping[str, pl.DataType]) -> dict[str, Any]:
    counts = [pl.len().alias("n")]
    for name, dtype in schema.items():
        cell = pl.col(name)
        counts.append(cell.null_count().alias(f"0:{name}"))
        if dtype.is_numeric():
            counts += [cell.mean().alias(f"m:{name}"), cell.std().alias(f"s:{name}")]
        if dtype.is_temporal():
            counts += [cell.min().alias(f"<:{name}"), cell.max().alias(f">:{name}")]
    return rows.select(counts).collect(engine="streaming").row(0, named=True)


def _shares(
    first: pl.LazyFrame, second: pl.LazyFrame, name: str, dtype: pl.DataType
) -> pl.DataFrame | None:
    """Return the share of each value in both; None where values are not categories."""
    if dtype not in (pl.String, pl.Boolean):
        return None
    cell = pl.col(name)
    counted = []
    for rows in (first, second):
        if rows.select(cell.approx_n_unique()).collect(engine="streaming").item() > _MAX_CATEGORIES:
            return None
        present = rows.select(cell.cast(pl.String).alias("value")).drop_nulls()
        counted.append(present.group_by("value").len().collect(engine="streaming"))
    joined = counted[0].join(counted[1], on="value", how="full", suffix="_other", coalesce=True)
    totals = [max(1, int(each["len"].sum())) for each in counted]
    return joined.select(
        "value",
        (pl.col("len").fill_null(0) / totals[0]).alias("was"),
        (pl.col("len_other").fill_null(0) / totals[1]).alias("now"),
    ).with_columns((pl.col("now") - pl.col("was")).alias("moved"))


def _shift(
    name: str,
    dtype: pl.DataType,
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    shares: pl.DataFrame | None,
) -> ColumnShift:
    size, words = 0.0, ""
    if dtype.is_numeric():
        size, words = _number_shift(name, first, second)
    elif dtype.is_temporal():
        size, words = _moment_shift(name, first, second)
    elif shares is not None:
        size, words = _category_shift(shares)
    missing = [facts[f"0:{name}"] / max(1, facts["n"]) for facts in (first, second)]
    if abs(missing[1] - missing[0]) >= 0.001:
        size = max(size, abs(missing[1] - missing[0]))
        told = f"missing in {missing[0]:.1%} of the rows before and {missing[1]:.1%} now"
        words = f"{words}; {told}" if words else told
    if not words:
        kind = type_named(dtype)
        words = f"{kind} of many values, not compared" if kind == "text" else "unchanged"
    return ColumnShift(column=name, size=size, words=words)


def _number_shift(
    name: str, first: Mapping[str, Any], second: Mapping[str, Any]
) -> tuple[float, str]:
    was, now = first[f"m:{name}"], second[f"m:{name}"]
    spread = first[f"s:{name}"] or second[f"s:{name}"]
    if was is None or now is None or was == now or not spread or not abs(now - was) < float("inf"):
        return 0.0, ""
    size = abs(now - was) / spread
    word = "barely" if size < 0.05 else "a little" if size < 0.2 else "clearly"
    word = "much" if size >= 0.8 else word
    direction = "higher" if now > was else "lower"
    return size, (
        f"{word} {direction}, on average {was:,.6g} before and {now:,.6g} now "
        f"({size:.2g} standard deviations)"
    )


def _moment_shift(
    name: str, first: Mapping[str, Any], second: Mapping[str, Any]
) -> tuple[float, str]:
    spans = [(facts[f"<:{name}"], facts[f">:{name}"]) for facts in (first, second)]
    if spans[0] == spans[1] or None in spans[0] + spans[1]:
        return 0.0, ""
    (was_low, was_high), (low, high) = spans
    return 1.0, f"{was_low} to {was_high} before and {low} to {high} now"


def _category_shift(shares: pl.DataFrame) -> tuple[float, str]:
    size = float(shares["moved"].abs().sum()) / 2
    if size < 1e-9:
        return 0.0, ""
    top = shares.sort(pl.col("moved").abs(), "value", descending=[True, False]).head(3)
    told = ", ".join(
        f"{row['value']!r} {row['was']:.1%} to {row['now']:.1%}"
        + (" (new)" if not row["was"] else "")
        for row in top.to_dicts()
    )
    return size, f"{size:.1%} of the rows moved: {told}"
