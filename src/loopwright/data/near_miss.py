"""Text that nearly reads as numbers or dates, and stays text: what keeps it from being read."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.data.conversion import is_placeholder, plain_rows, read_cell
from loopwright.data.piece import pieces
from loopwright.data.reading import PLACEHOLDERS, READINGS, Reading

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_NEARLY = 0.9
_SAMPLE_ROWS = 200
_DIGIT = re.compile("[0-9]")
# whole numbers of any length: read here to be told of, and never turned into values
_LONG = Reading(name="long number", pattern="[+-]?(?:0|[1-9][0-9]*)", dtype="String")
_READINGS = tuple(
    each for each in READINGS if each.name == "number" or each.dtype.startswith("Date")
)


def near_misses(rows: pl.LazyFrame, sample: pl.DataFrame) -> dict[str, str]:
    """Return, for columns of which at least 90 % reads as numbers or dates, what does not.

    Parameters
    ----------
    rows
        What `loopwright.data.piece.pieces` takes; only columns that nearly read are looked at.
    sample
        The first values of text columns that no reading fits, trimmed.

    Returns
    -------
    dict of str to str
        By column, one sentence.
    """
    near = {name: each for name in sample.columns if (each := _nearest(sample[name])) is not None}
    n_all: Counter[str] = Counter()
    n_odd: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for piece in pieces(rows.select(list(near))) if near else ():
        plain = plain_rows(piece.lazy())
        for name, reading in near.items():
            cells = plain.select(_values(name), _is_odd(name, reading).alias("\0odd"))
            counts = cells.select(pl.col(name).count(), pl.col("\0odd").sum())
            first = cells.filter("\0odd").select(pl.col(name)).head(1)
            (total, odd), found = counts.collect().row(0), first.collect()
            n_all[name] += total
            n_odd[name] += odd
            if found.height:
                examples.setdefault(name, found.item())
    return {
        name: _sentence(reading, n_odd[name], n_all[name], examples[name])
        for name, reading in near.items()
        if n_odd[name] and (reading is _LONG or n_odd[name] <= (1 - _NEARLY) * n_all[name])
    }


def _nearest(cells: pl.Series) -> Reading | None:
    """Return the reading that nearly fits the first values of a column."""
    values = Counter(
        cell
        for cell in cells.head(_SAMPLE_ROWS)
        if cell is not None and cell.lower() not in PLACEHOLDERS
    )
    wanted = _NEARLY * values.total()
    # names and words, as most text is, are told by one look
    if not values or sum(n for cell, n in values.items() if _DIGIT.search(cell)) < wanted:
        return None
    for reading in (*_READINGS, _LONG):
        if sum(n for cell, n in values.items() if re.fullmatch(reading.pattern, cell)) >= wanted:
            return reading
    return None


def _values(name: str) -> pl.Expr:
    return pl.when(~is_placeholder(pl.col(name))).then(pl.col(name)).alias(name)


def _is_odd(name: str, reading: Reading) -> pl.Expr:
    if reading is _LONG:
        return pl.col(name).str.contains(r"^[+-]?[1-9][0-9]{18,}$")
    is_value = pl.col(name).is_not_null() & ~is_placeholder(pl.col(name))
    return is_value & read_cell(name, reading).is_null()


def _sentence(reading: Reading, n_odd: int, n_all: int, example: str) -> str:
    shown = repr(example if len(example) <= 40 else example[:40] + "...")
    if reading is _LONG:
        return (
            f"Left as text: {n_odd:,} of {n_all:,} whole numbers have more than 18 digits, such as "
            f"{shown}."
        )
    if reading.name == "number":
        return f"Left as text: {n_odd:,} of {n_all:,} are not numbers, such as {shown}."
    return f"Left as text: {n_odd:,} of {n_all:,} are no {reading.name}, such as {shown}."
