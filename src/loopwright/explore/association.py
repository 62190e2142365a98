"""How strongly columns go together: with the target, and with one another."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.explore.column import Association, ColumnProfile, Kind

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray
else:
    pl = LazyModule("polars")
    np = LazyModule("numpy")

SAMPLE_ROWS = 30_000
_SAMPLE_VALUES = 20_000_000
_FEWEST_SAMPLED = 1_000
# products of that many pairs of columns are held at once
_BLOCK_COLUMNS = 512
_FEW_COLUMNS = 64
# rows that are enough to see which pairs may be near duplicates
_SCREENED_ROWS = 2_000
NEAR_DUPLICATE = 0.98
_CANDIDATE = 0.9
_FEW_ROWS = 10
_N_BINS = 32
_MAX_CODES = 1_000
# a curve has to beat a monotone relation by this much before it is reported instead
_CURVE_MARGIN = 0.05
_USED = ("number", "ordinal", "category", "boolean", "date")
ORDERED_KINDS = ("number", "ordinal", "date")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two columns that say nearly the same; `relation` says how, `value` how nearly (0 to 1)."""

    first: str
    second: str
    relation: str
    value: float


def sample_places(n_rows: int, n_columns: int = 1) -> NDArray[np.int64]:
    """Return at most 30,000 places of rows, evenly spaced over a table; always the same ones.

    Fewer, down to 1,000, for tables of more than some 700 columns, so that the sample keeps within
    half a gigabyte.
    """
    most = min(SAMPLE_ROWS, max(_FEWEST_SAMPLED, _SAMPLE_VALUES // max(1, n_columns)))
    if n_rows <= most:
        return np.arange(n_rows, dtype=np.int64)
    return np.linspace(0, n_rows - 1, most).astype(np.int64)


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return average ranks from 1, shape (n,); NaN stays NaN."""
    return _ranked(values)[0]


def _ranked(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return average ranks from 1 (NaN where missing) and dense ranks from 1 (0 where missing)."""
    order = np.argsort(values)
    # NaN sorts last
    order = order[: values.size - int(np.isnan(values).sum())]
    ordered = values[order]
    is_new = np.concatenate(([True], ordered[1:] != ordered[:-1]))[: ordered.size]
    dense = np.cumsum(is_new)
    starts = np.append(np.flatnonzero(is_new), ordered.size)
    middle = (starts[:-1] + starts[1:] + 1) / 2
    average, codes = np.full(values.size, np.nan), np.zeros(values.size, dtype=np.int64)
    average[order] = middle[dense - 1]
    codes[order] = dense
    return average, codes


def spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return Spearman's rank correlation over the places where both are present; 0 if undefined."""
    both = ~(np.isnan(x) | np.isnan(y))
    return _pearson(ranks(x[both]), ranks(y[both]))


def _pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    if x.size < 3:
        return 0.0
    x, y = x - x.mean(), y - y.mean()
    # sums, not dot products: BLAS would start threads for vectors as short as these
    scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float(np.clip((x * y).sum() / scale, -1, 1)) if scale > 0 else 0.0


def correlation_ratio(codes: NDArray[np.int64], y: NDArray[np.float64]) -> float:
    """Return how much of the spread of `y` lies between groups: the root of epsilon squared.

    Parameters
    ----------
    codes
        Group of every row, 0 and up, shape (n_rows,).
    y
        Numbers, shape (n_rows,).

    Notes
    -----
    With k groups and n rows, eta squared = SS_between / SS_total is corrected for the spread that k
    random groups would show: 1 - (1 - eta squared)(n - 1) / (n - k), at least 0 (Kelley, "An Unbiased
    Correlation Ratio Measure", PNAS 21, 1935).
    """
    counts = np.bincount(codes).astype(np.float64)
    n_groups, n_rows = int(np.count_nonzero(counts)), y.size
    centred = y - y.mean()
    total = float((centred * centred).sum())
    if total <= 0 or n_rows <= n_groups:
        return 0.0
    sums = np.bincount(codes, weights=centred)
    between = float(np.sum(sums[counts > 0] ** 2 / counts[counts > 0]))
    corrected = 1 - (1 - between / total) * (n_rows - 1) / (n_rows - n_groups)
    return float(np.sqrt(np.clip(corrected, 0, 1)))


def cramers_v(x: NDArray[np.int64], y: NDArray[np.int64]) -> float:
    """Return Cramér's V of two codings, 0 to 1, corrected for chance.

    Bergsma, "A bias-correction for Cramér's V and Tschuprow's T", Journal of the Korean Statistical
    Society 42 (2013).
    """
    n_x, n_y, n = int(x.max()) + 1, int(y.max()) + 1, x.size
    table = np.bincount(x * n_y + y, minlength=n_x * n_y).reshape(n_x, n_y).astype(np.float64)
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    k, r = table.shape
    if n < 3 or min(k, r) < 2:
        return 0.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    phi2 = float(((table - expected) ** 2 / expected).sum()) / n
    phi2 = max(0.0, phi2 - (k - 1) * (r - 1) / (n - 1))
    size = min(k - (k - 1) ** 2 / (n - 1), r - (r - 1) ** 2 / (n - 1)) - 1
    return float(np.sqrt(min(1.0, phi2 / size))) if size > 0 else 0.0


def separation(x: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Return |2 AUC - 1|: how well a number alone orders two classes, 0 to 1."""
    both = ~np.isnan(x)
    x, positive = x[both], positive[both]
    n_positive = int(positive.sum())
    n_negative = x.size - n_positive
    if not n_positive or not n_negative:
        return 0.0
    rank_sum = float(ranks(x)[positive].sum())
    auc = (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)
    return abs(2 * auc - 1)


def numbers_of(column: pl.Series) -> NDArray[np.float64]:
    """Return a column of numbers, truth values or dates as floats, shape (n,), missing as NaN."""
    if column.dtype.is_temporal():
        column = column.to_physical()
    # missing whole numbers and truth values arrive as NaN, or as None
    return column.to_numpy().astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """One column of the sample in the forms that comparisons need, each of shape (n_rows,).

    `codes` are small whole numbers, one for each value, or for each of 32 bins of about equal counts
    where a number or date has more values than that; 0 stands for missing. `numbers` and `ranks` are
    None for text.
    """

    codes: NDArray[np.int64]
    numbers: NDArray[np.float64] | None = None
    ranks: NDArray[np.float64] | None = None


def cells_of(
    sample: pl.DataFrame | Mapping[str, pl.Series], columns: Sequence[ColumnProfile]
) -> dict[str, Cells]:
    """Return the columns that take part in comparisons, by name."""
    return {
        column.name: _cells(sample[column.name], column)
        for column in columns
        if column.kind in _USED
    }


def _cells(column: pl.Series, of: ColumnProfile) -> Cells:
    kind = of.kind
    if of.order:
        column = column.replace_strict(
            of.order, range(1, len(of.order) + 1), default=None, return_dtype=pl.Float64
        )
    if column.dtype == pl.String:
        dense = column.rank("dense").fill_null(0)
        return Cells(codes=dense.to_numpy().astype(np.int64))
    numbers = numbers_of(column)
    average, codes = _ranked(numbers)
    if kind in ("number", "date") and codes.size and codes.max() > _N_BINS:
        present = codes > 0
        places = (average[present] - 1) * _N_BINS / max(1, int(present.sum()))
        codes[present] = np.clip(places.astype(np.int64), 0, _N_BINS - 1) + 1
    return Cells(codes=codes, numbers=numbers, ranks=average)


def associations(
    cells: Mapping[str, Cells], columns: Sequence[ColumnProfile], *, target: str, task: str
) -> dict[str, Association]:
    """Return how strongly each usable column goes with the target.

    For a number as the target, ranks are compared: |Spearman| for numbers and dates, or the
    correlation ratio where the relation bends; the correlation ratio for categories. For classes:
    Cramér's V (numbers in 32 bins), or |2 AUC - 1| where a number orders two classes better.
    """
    if target not in cells:
        return {}
    y = cells[target]
    known = y.codes > 0
    if int(known.sum()) < 3:
        return {}
    compare = _with_number if task == "regression" and y.ranks is not None else _with_class
    return {
        column.name: compare(cells[column.name], y, known, column.kind)
        for column in columns
        if column.name != target and column.name in cells
    }


def _with_number(x: Cells, y: Cells, known: NDArray[np.bool_], kind: Kind) -> Association:
    y_ranks = y.ranks if y.ranks is not None else y.codes.astype(np.float64)
    ratio = correlation_ratio(x.codes[known], y_ranks[known])
    if kind in ORDERED_KINDS and x.ranks is not None:
        both = known & (x.codes > 0)
        # ranks among all rows are ranks among these only when these are all
        monotone = _pearson(x.ranks, y_ranks) if both.all() else _spearman_of(x, y, both)
        if abs(monotone) + _CURVE_MARGIN >= ratio:
            return Association(value=abs(monotone), measure="|Spearman|")
    return Association(value=ratio, measure="correlation ratio")


def _spearman_of(x: Cells, y: Cells, both: NDArray[np.bool_]) -> float:
    if x.ranks is None or y.ranks is None:
        return 0.0
    return _pearson(ranks(x.ranks[both]), ranks(y.ranks[both]))


def _with_class(x: Cells, y: Cells, known: NDArray[np.bool_], kind: Kind) -> Association:
    y_codes = y.codes[known]
    v = cramers_v(x.codes[known], y_codes)
    classes = np.unique(y_codes)
    if kind in ORDERED_KINDS and classes.size == 2 and x.ranks is not None:
        ordered = separation(x.ranks[known], y_codes == classes[1])
        if ordered >= v:
            return Association(value=ordered, measure="|2 AUC - 1|")
    return Association(value=v, measure="Cramér's V")


def near_duplicates(
    cells: Mapping[str, Cells], columns: Sequence[ColumnProfile], *, without: str | None = None
) -> list[Pair]:
    """Return the columns that say nearly the same as an earlier one, each with the first such.

    Numbers and dates whose rank correlation is above 0.98 either way, and categories that are the
    same but for their names. All pairs are looked at. `without` (the target) takes no part.
    """
    usable = [column for column in columns if column.name in cells and column.name != without]
    pairs = _ordered_pairs({column.name: cells[column.name] for column in usable})
    known = {pair.second for pair in pairs}
    n_alike = Counter(column.n_distinct for column in usable)
    alike: dict[bytes, list[ColumnProfile]] = {}
    for column in usable:
        if column.n_distinct <= _MAX_CODES and n_alike[column.n_distinct] > 1:
            alike.setdefault(_shape(cells[column.name].codes), []).append(column)
    for group in alike.values():
        for place, second in enumerate(group):
            for first in group[:place]:
                are_ordered = {first.kind, second.kind} <= {*ORDERED_KINDS}
                if second.name in known or are_ordered or first.n_distinct != second.n_distinct:
                    continue
                known.add(second.name)
                relation = "the same categories under other names"
                pairs.append(
                    Pair(first=first.name, second=second.name, relation=relation, value=1.0)
                )
                break
    return pairs


def _shape(codes: NDArray[np.int64]) -> bytes:
    """Return a digest of which rows are alike: the same for codes that differ by their names only."""
    _, first, place = np.unique(codes, return_index=True, return_inverse=True)
    by_appearance = np.argsort(np.argsort(first))
    return hashlib.sha256(by_appearance[place].tobytes()).digest()


def _ordered_pairs(cells: Mapping[str, Cells]) -> list[Pair]:
    ordered = {
        name: (cell.numbers, cell.ranks)
        for name, cell in cells.items()
        if cell.numbers is not None and cell.ranks is not None and cell.codes.size >= _FEW_ROWS
    }
    if len(ordered) < 2:
        return []
    names = list(ordered)
    every = max(1, next(iter(ordered.values()))[1].size // _SCREENED_ROWS)
    matrix = np.vstack(
        [_unit_ranks(average[::every]) for _, average in ordered.values()], dtype=np.float32
    )
    pairs: list[Pair] = []
    copies: set[int] = set()
    for first, second in _candidates(matrix):
        if second not in copies and first not in copies:
            x, y = ordered[names[first]][0], ordered[names[second]][0]
            pair = _pair(names[first], names[second], x, y)
            if pair is not None:
                pairs.append(pair)
                copies.add(second)
    return pairs


def _candidates(matrix: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Give the pairs of rows, of length 1, whose product is far from 0, ordered by the first."""
    for start in range(0, len(matrix), _BLOCK_COLUMNS):
        some, rest = matrix[start : start + _BLOCK_COLUMNS], matrix[start:]
        # BLAS would start threads, which cost more than so few products do
        few = len(matrix) <= _FEW_COLUMNS
        product = np.einsum("ik,jk->ij", some, rest) if few else some @ rest.T
        # single precision will do to choose whom to look at closely; missing values pull the
        # figure down, so candidates are taken from below
        for first, second in zip(
            *np.nonzero(np.triu(np.abs(product) > _CANDIDATE, 1)), strict=True
        ):
            yield start + int(first), start + int(second)


def _pair(first: str, second: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> Pair | None:
    correlation = spearman(x, y)
    # two columns that are mostly missing agree on too little to say so
    if abs(correlation) <= NEAR_DUPLICATE or not _overlap(x, y):
        return None
    same = np.array_equal(x, y, equal_nan=True)
    relation = "identical" if same else "rising" if correlation > 0 else "falling"
    return Pair(first=first, second=second, relation=relation, value=abs(correlation))


def _overlap(x: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
    present = ~np.isnan(x), ~np.isnan(y)
    both = int((present[0] & present[1]).sum())
    return both >= _FEW_ROWS and both >= 0.5 * max(int(present[0].sum()), int(present[1].sum()))


def _unit_ranks(average: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return centred ranks of length 1, missing values in the middle."""
    if np.isnan(average).all():
        return np.zeros_like(average)
    centred = np.nan_to_num(average - np.nanmean(average))
    length = float(np.sqrt((centred * centred).sum()))
    return centred / length if length > 0 else centred
