"""Rows that stand for a data set where no baseline is given: the middles of its clusters."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.sagemaker.clarify.dataset import Dataset

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_MOST_CLUSTERS = 12
_LOOKED_AT = 1_000
_STRUCTURE = 0.25
_ROUNDS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class _Points:
    """Rows as points: numbers in units of their deviation, and categories by number."""

    numbers: np.ndarray
    categories: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, rows: Any) -> _Points:
        return _Points(numbers=self.numbers[rows], categories=self.categories[rows])

    def apart(self, others: _Points) -> np.ndarray:
        """Return the distance of every row to every other, `(n, m)`."""
        one, other = self.numbers, others.numbers
        found = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
        found = np.maximum(found, 0.0)
        for at in range(self.categories.shape[1]):
            # gamma of half the mean deviation, which is 1 here
            found += 0.5 * (self.categories[:, at, None] != others.categories[:, at])
        return np.asarray(found)


def clustered(data: Dataset, *, n_clusters: int | None, seed: int) -> list[list[Any]]:
    """Return one row for each cluster, in cells of the data.

    K-prototypes (Huang, "Extensions to the k-Means Algorithm for Clustering Large Data Sets with
    Categorical Values", 1998), which without categories is k-means. Where the number of clusters is
    not given, it is the one from 2 to 12 with the best silhouette (Rousseeuw 1987) on a thousand
    rows, or 1 where that is at most 0.25, "no substantial structure" (Kaufman and Rousseeuw 1990).
    """
    columns = [data.table.column(at) for at in data.features]
    points = _points(columns)
    rng = np.random.default_rng(seed)
    look = points
    if len(points) > _LOOKED_AT:
        look = points.take(np.sort(rng.choice(len(points), _LOOKED_AT, replace=False)))
    n = n_clusters if n_clusters is not None else _best_number(look, seed)
    members = _assigned(points, min(n, len(points)), seed)
    rows = data.feature_rows()
    return [
        [_middle(column, rows, at, inside) for at, column in enumerate(columns)]
        for each in np.unique(members)
        for inside in (np.flatnonzero(members == each),)
    ]


def _points(columns: list[pl.Series]) -> _Points:
    n = len(columns[0]) if columns else 0
    numbers, categories = [], []
    for column in columns:
        if column.dtype.is_numeric():
            values = column.cast(pl.Float64)
            mean, spread = values.mean(), values.std()
            width = float(spread) if isinstance(spread, float) and spread > 0 else 1.0
            middle = float(mean) if isinstance(mean, float) else 0.0
            numbers.append((values.fill_null(middle).to_numpy() - middle) / width)
        else:
            codes = column.cast(pl.String).fill_null("").rank("dense")
            categories.append(codes.to_numpy())
    return _Points(
        numbers=np.column_stack(numbers) if numbers else np.zeros((n, 0)),
        categories=np.column_stack(categories) if categories else np.zeros((n, 0), dtype=int),
    )


def _best_number(points: _Points, seed: int) -> int:
    from sklearn.metrics import silhouette_score

    apart = points.apart(points)
    np.fill_diagonal(apart, 0.0)
    best, best_score = 1, _STRUCTURE
    for n in range(2, min(_MOST_CLUSTERS, len(points) - 1) + 1):
        members = _assigned(points, n, seed)
        if not 1 < len(np.unique(members)) < len(points):
            continue
        score = float(silhouette_score(np.sqrt(apart), members, metric="precomputed"))
        if score > best_score + 1e-9:
            best, best_score = n, score
    return best


def _assigned(points: _Points, n: int, seed: int) -> np.ndarray:
    """Return the cluster of every row."""
    centres = points.take(_starts(points, n, seed))
    members = np.zeros(len(points), dtype=int)
    for number in range(_ROUNDS):
        nearest = points.apart(centres).argmin(axis=1)
        if number and np.array_equal(nearest, members):
            break
        members = nearest
        centres = _centres(points, members, centres)
    return members


def _starts(points: _Points, n: int, seed: int) -> list[int]:
    """Return rows far from each other, drawn as k-means++ does (Arthur and Vassilvitskii 2007)."""
    rng = np.random.default_rng(seed)
    found = [int(rng.integers(len(points)))]
    nearest = points.apart(points.take(found))[:, 0]
    while len(found) < n:
        total = float(nearest.sum())
        if total == 0:
            break
        found.append(int(rng.choice(len(points), p=nearest / total)))
        nearest = np.minimum(nearest, points.apart(points.take(found[-1:]))[:, 0])
    return found


def _centres(points: _Points, members: np.ndarray, before: _Points) -> _Points:
    numbers, categories = before.numbers.copy(), before.categories.copy()
    for each in range(len(before)):
        inside = members == each
        if inside.any():
            numbers[each] = points.numbers[inside].mean(axis=0)
            for at in range(categories.shape[1]):
                values, counts = np.unique(points.categories[inside, at], return_counts=True)
                categories[each, at] = values[counts.argmax()]
    return _Points(numbers=numbers, categories=categories)


def _middle(column: pl.Series, rows: list[list[Any]], at: int, inside: np.ndarray) -> Any:
    """Return the mean of the numbers of a cluster, or the most frequent cell."""
    if not column.dtype.is_numeric():
        return Counter(rows[row][at] for row in inside).most_common(1)[0][0]
    mean = column.gather(inside).cast(pl.Float64).mean()
    if not isinstance(mean, float):
        return rows[int(inside[0])][at]
    value: int | float = round(mean) if column.dtype.is_integer() else mean
    is_text = any(isinstance(row[at], str) for row in rows[:1])
    return repr(value) if is_text else value
