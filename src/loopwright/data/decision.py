"""What has to be done to the raw rows of a source, decided from all of them and never from a few."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.data.conversion import (
    LEFT_OUT,
    Conversion,
    is_beyond,
    is_outside,
    is_placeholder,
    is_wide,
    plain_cell,
    plain_rows,
    read_cell,
)
from loopwright.data.near_miss import near_misses
from loopwright.data.piece import pieces
from loopwright.data.reading import PLACEHOLDERS, READINGS, Reading

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_SAMPLE_ROWS = 1_000
_AT_ONCE = 500

Counts = Counter[tuple[str, str]]
Candidate = tuple[str, Reading]


def decide_conversions(rows: pl.LazyFrame) -> tuple[Conversion, ...]:
    """Return what has to be done to the raw rows of a source, decided from all of them.

    One pass in pieces counts NaN, blank and padded cells, and verifies for each text column the
    readings that its first rows allow. Text that nearly reads as numbers or dates is told of, which
    takes another pass over such columns alone. `rows` is what `loopwright.data.piece.pieces` takes.
    """
    schema = dict(rows.collect_schema())
    sample = _sample(rows, schema)
    candidates = [(name, each) for name in sample.columns for each in _possible(sample[name])]
    untidy: Counts = Counter()
    read: Counts = Counter()
    placed: Counts = Counter()
    for piece in pieces(rows):
        untidy += _untidy_cells(piece, schema)
        candidates = _verified(piece, candidates, read, placed)
    fitting: dict[str, list[Reading]] = {}
    for name, reading in candidates:
        if read[name, reading.name]:
            fitting.setdefault(name, []).append(reading)
    left = near_misses(rows, sample.drop(fitting))
    found: list[Conversion] = []
    for name, dtype in schema.items():
        if name in fitting:
            n_placeholders = placed[name, fitting[name][-1].name] + untidy[name, "blank"]
            found.append(_conversion(name, str(dtype), fitting[name], n_placeholders))
        else:
            found += _plain_conversion(name, dtype, untidy, left.get(name, ""))
    return tuple(found)


def settled(first: pl.DataFrame) -> list[str]:
    """Return the columns that will stay as they are, as far as the first rows can tell."""
    texts = plain_rows(first.lazy().select(pl.col(pl.String)).head(_SAMPLE_ROWS)).collect()
    to_read = {cells.name for cells in texts if _possible(cells)}
    return [
        name for name, dtype in first.schema.items() if is_settled(dtype) and name not in to_read
    ]


def is_settled(dtype: pl.DataType) -> bool:
    """Return whether columns of a type stay as they are where no conversion is decided for them."""
    plain = (pl.String, pl.Int64, pl.Float64, pl.Boolean, pl.Date, pl.Datetime("us"))
    return dtype in plain


def _untidy_cells(piece: pl.DataFrame, schema: Mapping[str, pl.DataType]) -> Counts:
    """Return how many cells of each column are NaN, blank or padded with spaces."""
    counts: dict[tuple[str, str], pl.Expr] = {}
    texts = [n for n, dtype in schema.items() if dtype in (pl.String, pl.Categorical, pl.Enum)]
    untidy = _untidy_texts(piece, texts) if texts else set()
    for name, dtype in schema.items():
        cell = pl.col(name)
        if dtype.is_float():
            counts[name, "nan"] = cell.is_nan().sum()
        elif is_wide(dtype):
            counts[name, "beyond"] = is_beyond(name).sum()
        elif dtype == pl.Date or isinstance(dtype, pl.Datetime):
            counts[name, "outside"] = is_outside(name, dtype).sum()
        elif name in untidy:
            text = cell.cast(pl.String)
            # lengths tell as much as the texts, and compare in a third of the time
            size, trimmed = text.str.len_bytes(), text.str.strip_chars().str.len_bytes()
            counts[name, "blank"] = (trimmed == 0).sum()
            counts[name, "padded"] = ((trimmed < size) & (trimmed > 0)).sum()
    if not counts:
        return Counter()
    query = piece.lazy().select(count.alias(str(i)) for i, count in enumerate(counts.values()))
    return Counter({key: n for key, n in zip(counts, query.collect().row(0), strict=True) if n})


def _untidy_texts(piece: pl.DataFrame, names: Sequence[str]) -> set[str]:
    """Return the columns of text that hold blank or padded cells."""
    text = pl.col(names).cast(pl.String)
    whole, trimmed = text.str.len_bytes(), text.str.strip_chars().str.len_bytes()
    # sums alone tell of most columns that there are none, at half the cost of counting cells
    found = piece.lazy().select((whole.sum() != trimmed.sum()) | (whole == 0).any()).collect()
    return {name for name, is_untidy in found.row(0, named=True).items() if is_untidy}


def _sample(rows: pl.LazyFrame, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return the first values of each text column, trimmed."""
    kinds = (pl.String, pl.Categorical, pl.Enum, pl.Null)
    texts = [name for name, dtype in schema.items() if dtype in kinds]
    return plain_rows(rows.select(texts).head(_SAMPLE_ROWS)).collect()


def _possible(cells: pl.Series) -> list[Reading]:
    """Return the readings whose pattern all of these cells match."""
    values = {cell for cell in cells if cell is not None and cell.lower() not in PLACEHOLDERS}
    return [
        reading
        for reading in READINGS
        if all(re.fullmatch(reading.pattern, value) for value in values)
    ]


def _verified(
    piece: pl.DataFrame, candidates: Sequence[Candidate], read: Counts, placed: Counts
) -> list[Candidate]:
    """Return the readings that fit every value of a piece, counting what they read."""
    # the cost of one query grows with the square of its columns
    return [
        fitting
        for start in range(0, len(candidates), _AT_ONCE)
        for fitting in _verified_together(piece, candidates[start : start + _AT_ONCE], read, placed)
    ]


def _verified_together(
    piece: pl.DataFrame, candidates: Sequence[Candidate], read: Counts, placed: Counts
) -> list[Candidate]:
    names = list(dict.fromkeys(name for name, _ in candidates))
    # read first and count then: otherwise every count would read the cells again
    values = plain_rows(piece.lazy().select(names)).with_columns(
        read_cell(name, reading).alias(f"\0{i}") for i, (name, reading) in enumerate(candidates)
    )
    counts = [
        count.alias(f"{i}{kind}")
        for i, (name, _) in enumerate(candidates)
        for kind, count in _counts(name, pl.col(f"\0{i}")).items()
    ]
    found = values.select(counts).collect().row(0, named=True)
    fits = []
    for i, (name, reading) in enumerate(candidates):
        if found[f"{i}unread"] == found[f"{i}placed"]:
            fits.append((name, reading))
            read[name, reading.name] += found[f"{i}read"]
            placed[name, reading.name] += found[f"{i}placed"]
    return fits


def _counts(name: str, values: pl.Expr) -> dict[str, pl.Expr]:
    """Return how many cells are read, are not, and are placeholders (which never read as values)."""
    rest = pl.col(name).filter(values.is_null()).drop_nulls()
    return {"read": values.count(), "unread": rest.count(), "placed": is_placeholder(rest).sum()}


def _plain_conversion(name: str, dtype: pl.DataType, untidy: Counts, left: str) -> list[Conversion]:
    n_nan, n_blank, n_padded = (untidy[name, kind] for kind in ("nan", "blank", "padded"))
    was = str(dtype)
    if n_beyond := untidy[name, "beyond"]:
        reason = f"Kept as text: {n_beyond:,} values are too long for whole numbers of 64 bits."
        return [Conversion(column=name, was=was, now="String", reason=reason)]
    if n_outside := untidy[name, "outside"]:
        reason = "Dates outside of the years 1 to 9999 mean missing."
        now = "Date" if dtype == pl.Date else "Datetime"
        return [Conversion(column=name, was=was, now=now, n_nulled=n_outside, reason=reason)]
    if plain_cell(name, dtype) is None:
        reason = f"Cells of type {was} are not used by any stage."
        return [Conversion(column=name, was=was, now=LEFT_OUT, reason=reason)]
    if n_nan:
        reason = "Not-a-number means missing."
        return [Conversion(column=name, was=was, now="Float64", n_nulled=n_nan, reason=reason)]
    if n_blank:
        reason = f"{left} Blank text means missing.".strip()
        return [Conversion(column=name, was=was, now="String", n_nulled=n_blank, reason=reason)]
    if n_padded:
        reason = f"{left} Spaces around {n_padded:,} values were removed.".strip()
        return [Conversion(column=name, was=was, now="String", reason=reason)]
    if left:
        return [Conversion(column=name, was=was, now="String", reason=left)]
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        reason = f"Moments in {dtype.time_zone} are kept as UTC."
        return [Conversion(column=name, was=was, now="Datetime", reason=reason)]
    return []


def _conversion(name: str, was: str, fits: Sequence[Reading], n_placeholders: int) -> Conversion:
    best = fits[0]
    others = [reading for reading in fits[1:] if best.family and reading.family == best.family]
    if others:
        reason = f"Could be {best.name} or {others[0].name}: left as text."
        return Conversion(column=name, was=was, now="String", reason=reason)
    missing = f", {n_placeholders:,} placeholders aside" if n_placeholders else ""
    return Conversion(
        column=name,
        was=was,
        now=best.dtype,
        reading=best.name,
        n_nulled=n_placeholders,
        reason=f"Every value reads as a {best.name}{missing}.",
    )
