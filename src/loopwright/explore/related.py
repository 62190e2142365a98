"""Which columns go together, whatever their kinds, without saying nearly the same."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.explore.association import (
    ORDERED_KINDS,
    Cells,
    Pair,
    correlation_ratio,
    cramers_v,
    ranks,
)
from loopwright.explore.column import ColumnProfile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")

RELATED = 0.8
MOST_COLUMNS = 100
_ROWS = 2_000
_FEWEST_ROWS = 50
_MOST_LEVELS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Related:
    """The pairs that go together, and how many columns were paired with each other to find them."""

    pairs: tuple[Pair, ...]
    n_paired: int


def related(
    cells: Mapping[str, Cells],
    columns: Sequence[ColumnProfile],
    *,
    copies: Collection[str] = (),
    without: str | None = None,
) -> Related:
    """Return the pairs whose relation is at least 0.8, judged on at most 2,000 evenly spaced rows.

    |Spearman| for numbers and dates, the correlation ratio for one of them with a category, Cramér's V
    for categories. Of more than 100 columns those are paired that go most with the target, or the
    first.

    Parameters
    ----------
    copies
        Columns that say nearly the same as another; they take no part.
    without
        The target, which takes no part either.
    """
    usable = [
        column
        for column in columns
        if column.name in cells and column.name not in copies and column.name != without
    ]
    usable = [c for c in usable if c.kind in ORDERED_KINDS or c.n_distinct <= _MOST_LEVELS]
    if len(usable) > MOST_COLUMNS:
        strongest = sorted(usable, key=lambda c: -(c.association.value if c.association else 0.0))
        chosen = {column.name for column in strongest[:MOST_COLUMNS]}
        usable = [column for column in usable if column.name in chosen]
    n_rows = cells[usable[0].name].codes.size if usable else 0
    if n_rows < _FEWEST_ROWS or len(usable) < 2:
        return Related(pairs=(), n_paired=len(usable))
    every = max(1, n_rows // _ROWS)
    # numbers and dates by their ranks, categories (also ordered words) by their codes
    ordered = [
        c for c in usable if c.kind in ("number", "date") and cells[c.name].ranks is not None
    ]
    plain = [c for c in usable if c not in ordered]
    numbers = {c.name: _ranks_of(cells[c.name], every) for c in ordered}
    codes = {c.name: cells[c.name].codes[::every] for c in plain}
    pairs = [*_of_numbers(numbers), *_of_both(numbers, codes), *_of_codes(codes)]
    place = {column.name: at for at, column in enumerate(usable)}
    pairs.sort(key=lambda pair: (place[pair.first], place[pair.second]))
    return Related(pairs=tuple(pairs), n_paired=len(usable))


def _ranks_of(cell: Cells, every: int) -> NDArray[np.float64]:
    values = np.empty(0) if cell.ranks is None else cell.ranks[::every]
    return ranks(values)


def _of_numbers(numbers: Mapping[str, NDArray[np.float64]]) -> list[Pair]:
    """Return pairs by |Spearman|: the ranks of all rows stand for those of the rows both have."""
    names = list(numbers)
    if len(names) < 2:
        return []
    matrix = np.vstack(list(numbers.values()))
    known = ~np.isnan(matrix)
    filled = np.where(known, matrix, 0.0)
    present = known.astype(np.float64)
    # sums over the rows that both have, for all pairs at once
    both = np.einsum("ik,jk->ij", present, present)
    sums = np.einsum("ik,jk->ij", filled, present)
    squares = np.einsum("ik,jk->ij", filled * filled, present)
    products = np.einsum("ik,jk->ij", filled, filled)
    with np.errstate(all="ignore"):
        covariance = products - sums * sums.T / both
        spread = squares - sums * sums / both
        value = np.abs(covariance) / np.sqrt(spread * spread.T)
    value = np.where((both >= _FEWEST_ROWS) & np.isfinite(value), np.minimum(value, 1.0), 0.0)
    return [
        Pair(first=names[i], second=names[j], relation="|Spearman|", value=float(value[i, j]))
        for i, j in zip(*np.nonzero(np.triu(value >= RELATED, 1)), strict=True)
    ]


def _of_both(
    numbers: Mapping[str, NDArray[np.float64]], codes: Mapping[str, NDArray[np.int64]]
) -> list[Pair]:
    """Return pairs of a category and a number by how much of the ranks lies between the categories."""
    pairs = []
    for name, average in numbers.items():
        known = ~np.isnan(average)
        if int(known.sum()) < _FEWEST_ROWS:
            continue
        y = average[known]
        for other, code in codes.items():
            value = correlation_ratio(code[known], y)
            if value >= RELATED:
                pairs.append(
                    Pair(first=other, second=name, relation="correlation ratio", value=value)
                )
    return pairs


def _of_codes(codes: Mapping[str, NDArray[np.int64]]) -> list[Pair]:
    """Return pairs of categories by Cramér's V over the rows where both are present."""
    pairs = []
    names = list(codes)
    for place, name in enumerate(names):
        for other in names[place + 1 :]:
            x, y = codes[name], codes[other]
            both = (x > 0) & (y > 0)
            if int(both.sum()) < _FEWEST_ROWS:
                continue
            value = cramers_v(x[both], y[both])
            if value >= RELATED:
                pairs.append(Pair(first=name, second=other, relation="Cramér's V", value=value))
    return pairs
