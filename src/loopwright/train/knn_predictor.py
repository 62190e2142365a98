"""The nearest rows seen in training, among all of them or by an index, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from loopwright.core.errors import InvalidInputError
from loopwright.core.kernel import find_kernel
from loopwright.core.lazy import LazyModule
from loopwright.train.inverted_index import InvertedIndex
from loopwright.train.link import Link, checked_link
from loopwright.train.predictor import MAX_FEATURE, Predictor, completed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from loopwright.core import _kernel

    # rows, points and their squared distances
    _Pairs = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float64]]
else:
    np = LazyModule("numpy")

Weighting = Literal["uniform", "distance"]
MAX_NEIGHBORS = 1024
LEAST_WEIGHT = 1e-50
# distances of one chunk of rows then stay in the processor's cache
_CHUNK_DISTANCES = 1 << 18
_FEW_ROWS = 4
_INDEX_ARRAYS = ("centroids", "starts", "places")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KnnPredictor(Predictor):
    """Score a row as the weighted mean of its nearest training rows, by Euclidean distance.

    Of rows at the same distance the earlier one counts as nearer. The memory needed is small
    however many rows are asked for at once. With an index, some of the nearest may be missed;
    which ones does not depend on the rows that come along.

    Parameters
    ----------
    points
        `(n_points, n_features)`: the training rows.
    values
        `(n_points, n_outputs)`: their targets; for classes one column a class (or one column,
        the positive class), 1 where the row belongs to it.
    weights
        `(n_points,)`, 1e-50 to 1e50.
    n_neighbors
        How many rows are averaged, 1 to 1,000; with fewer points all of them are.
    weighting
        `distance` divides a row's weight by its distance; where that is 0, only such rows count.
    index
        Lists that the points lie in; nothing means that all points are looked at.
    link
        What makes the answer of the score.

    Raises
    ------
    InvalidInputError
        If shapes do not fit, or a number is missing or beyond 1e100.
    """

    points: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    n_neighbors: int
    weighting: Weighting = "uniform"
    index: InvertedIndex | None = None
    link: Link = "identity"
    _squares: npt.NDArray[np.float64] = field(init=False, repr=False)
    _compiled: _kernel.Points | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        checked_link(self.link)
        _check(self)
        object.__setattr__(self, "_squares", np.einsum("ij,ij->i", self.points, self.points))
        kernel = find_kernel()
        compiled = None
        if kernel is not None:
            points = np.ascontiguousarray(self.points)
            compiled = kernel.Points(points=points, n_features=self.n_features)
        object.__setattr__(self, "_compiled", compiled)

    @property
    def n_features(self) -> int:
        """How many features a row has."""
        return int(self.points.shape[1])

    @property
    def n_outputs(self) -> int:
        """How many scores a row gets: 1, or one a class."""
        return int(self.values.shape[1])

    def score(self, X: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return scores `(n_rows, n_outputs)` for features `(n_rows, n_features)`."""
        indices, squared = self.neighbors(X, self.n_neighbors)
        return self.mean(indices, squared, weighting=self.weighting)

    def neighbors(
        self, X: npt.NDArray[np.float64], k: int
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
        """Return the `k` nearest points of each row, nearest first, and their squared distances.

        Both are `(n_rows, min(k, n_points))`.
        """
        k = min(k, len(self.points))
        X = completed(X)
        if self.index is not None:
            return self._indexed(self.index, X, k)
        everything = slice(0, len(self.points))
        return self._nearest_in_chunks(X, k, everything)

    def _nearest_in_chunks(
        self, X: npt.NDArray[np.float64], k: int, among: slice
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
        k = min(k, among.stop - among.start)
        indices = np.empty((len(X), k), dtype=np.intp)
        squared = np.empty((len(X), k))
        if self._compiled is not None:
            rows_ = np.ascontiguousarray(X)
            self._compiled.nearest(rows_, among.start, among.stop, k, indices, squared)
            return indices, squared
        step = max(1, _CHUNK_DISTANCES // (among.stop - among.start))
        for start in range(0, len(X), step):
            rows = slice(start, start + step)
            indices[rows], squared[rows] = self._nearest(X[rows], k, among)
        return indices, squared

    def _indexed(
        self, index: InvertedIndex, X: npt.NDArray[np.float64], k: int
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
        indices = np.empty((len(X), k), dtype=np.intp)
        squared = np.empty((len(X), k))
        step = max(1, _CHUNK_DISTANCES // (index.n_probes * k))
        for start in range(0, len(X), step):
            chunk = X[start : start + step]
            row, point, distance = self._candidates(index, chunk, k)
            # the places are those of training: of equally near ones the earlier
            order = np.lexsort((index.places[point], distance, row))
            first = np.searchsorted(row[order], np.arange(len(chunk)))
            chosen = order[first[:, None] + np.arange(k)]
            rows = slice(start, start + len(chunk))
            indices[rows], squared[rows] = point[chosen], distance[chosen]
        return indices, squared

    def _candidates(self, index: InvertedIndex, X: npt.NDArray[np.float64], k: int) -> _Pairs:
        """Return rows, points and squared distances of the nearest in each list looked at."""
        lists = index.nearest_lists(X)
        sizes = np.diff(index.starts)
        # rows whose lists hold too few points look at all of them
        poor = np.flatnonzero(sizes[lists].sum(axis=1) < k)
        found = [self._pairs(X, poor, k, slice(0, len(self.points)))] if len(poor) else []
        if len(X) <= _FEW_ROWS and not len(poor):
            parts = [self._pairs_of_one(index, X, row, lists[row], k) for row in range(len(X))]
            return _joined(parts)
        flat, row = lists.ravel(), np.repeat(np.arange(len(X)), lists.shape[1])
        if len(poor):
            rich = ~np.isin(row, poor)
            flat, row = flat[rich], row[rich]
        order = np.argsort(flat, kind="stable")
        flat, row = flat[order], row[order]
        bounds = (np.flatnonzero(flat[1:] != flat[:-1]) + 1).tolist() if len(flat) else []
        for first, end in pairwise([0, *bounds, len(flat)] if len(flat) else []):
            number = flat[first]
            if sizes[number]:
                among = slice(int(index.starts[number]), int(index.starts[number + 1]))
                found.append(self._pairs(X, row[first:end], k, among))
        return _joined(found)

    def _pairs_of_one(
        self,
        index: InvertedIndex,
        X: npt.NDArray[np.float64],
        row: int,
        lists: npt.NDArray[np.intp],
        k: int,
    ) -> _Pairs:
        """Return the nearest points of one row: all its lists at once, which is quicker."""
        spans = [(int(index.starts[i]), int(index.starts[i + 1])) for i in lists.tolist()]
        near = np.concatenate([self.points[start:end] for start, end in spans])
        near -= X[row]
        near *= near
        squared = near.sum(axis=1)
        chosen = np.flatnonzero(squared <= np.partition(squared, k - 1)[k - 1])
        point = np.concatenate([np.arange(start, end) for start, end in spans])[chosen]
        return np.full(len(chosen), row), point, squared[chosen]

    def _pairs(
        self, X: npt.NDArray[np.float64], rows: npt.NDArray[np.intp], k: int, among: slice
    ) -> _Pairs:
        point, squared = self._nearest_in_chunks(X[rows], k, among)
        return np.repeat(rows, point.shape[1]), point.ravel(), squared.ravel()

    def _nearest(
        self, X: npt.NDArray[np.float64], k: int, among: slice
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
        # The matrix product is fast, but its rounding depends on the number of rows. It only
        # chooses candidates, with room for that rounding (Higham, "Accuracy and Stability of
        # Numerical Algorithms", 2002, section 3.1); the distances are then computed one by one.
        squares = self._squares[among]
        near = squares - 2.0 * (X @ self.points[among].T)
        longest = np.sqrt(squares.max()) + np.sqrt((X * X).sum(axis=1))
        room = 8 * (self.n_features + 8) * np.finfo(np.float64).eps * longest**2
        farthest = np.partition(near, k - 1, axis=1)[:, k - 1] + room
        row, point = np.nonzero(near <= farthest[:, None])
        point += among.start
        squared = self._squared_distances(X, row, point)
        order = np.lexsort((point, squared, row))
        first = np.searchsorted(row, np.arange(len(X)))
        chosen = order[first[:, None] + np.arange(k)]
        return point[chosen], squared[chosen]

    def _squared_distances(
        self, X: npt.NDArray[np.float64], row: npt.NDArray[np.intp], point: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.float64]:
        squared = np.empty(len(row))
        step = max(1, _CHUNK_DISTANCES // self.n_features)
        for start in range(0, len(row), step):
            pairs = slice(start, start + step)
            difference = X[row[pairs]] - self.points[point[pairs]]
            squared[pairs] = (difference * difference).sum(axis=1)
        return squared

    def mean(
        self,
        indices: npt.NDArray[np.intp],
        squared: npt.NDArray[np.float64],
        *,
        weighting: Weighting,
    ) -> npt.NDArray[np.float64]:
        """Return the weighted mean of some points' values, `(n_rows, n_outputs)`."""
        shares = self.weights[indices]
        if weighting == "distance":
            at_it = squared == 0
            distance = np.sqrt(np.where(at_it, 1.0, squared))
            nearest_only = at_it.any(axis=1, keepdims=True)
            shares = np.where(nearest_only, shares * at_it, shares / distance)
        total = np.zeros((len(indices), 1))
        score = np.zeros((len(indices), self.n_outputs))
        for neighbor in range(indices.shape[1]):  # in a fixed order, whatever the number of rows
            share = shares[:, neighbor : neighbor + 1]
            total += share
            score += share * self.values[indices[:, neighbor]]
        means: npt.NDArray[np.float64] = score / total
        return means

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return what has to be stored."""
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "points": self.points,
            "values": self.values,
            "weights": self.weights,
        }
        if self.index is not None:
            arrays |= {name: getattr(self.index, name) for name in _INDEX_ARRAYS}
        return arrays

    def meta(self) -> dict[str, Any]:
        """Return what has to be stored beside the arrays."""
        probes = {}
        if self.index is not None:
            probes = {"n_probes": self.index.n_probes, "recall": self.index.recall}
        return {"n_neighbors": self.n_neighbors, "weighting": self.weighting, **probes}

    @classmethod
    def from_parts(
        cls, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any], link: Link
    ) -> KnnPredictor:
        """Return the predictor that was stored."""
        index = None
        if "n_probes" in meta:
            lists = {name: arrays[name] for name in _INDEX_ARRAYS}
            index = InvertedIndex(**lists, n_probes=meta["n_probes"], recall=meta["recall"])
        return cls(
            index=index,
            points=arrays["points"],
            values=arrays["values"],
            weights=arrays["weights"],
            n_neighbors=meta["n_neighbors"],
            weighting=meta["weighting"],
            link=link,
        )


def _joined(parts: list[_Pairs]) -> _Pairs:
    rows, points, squared = zip(*parts, strict=True)
    return np.concatenate(rows), np.concatenate(points), np.concatenate(squared)


def _check(knn: KnnPredictor) -> None:
    shapes_fit = (
        knn.points.ndim == knn.values.ndim == 2
        and min(knn.points.shape) >= 1
        and knn.values.shape[1] >= 1
        and len(knn.values) == len(knn.points)
        and knn.weights.shape == (len(knn.points),)
    )
    arrays = (knn.points, knn.values, knn.weights)
    if not shapes_fit or any(array.dtype != np.float64 for array in arrays):
        raise _broken("its arrays do not fit together")
    limits = (MAX_FEATURE, MAX_FEATURE, 1 / LEAST_WEIGHT)
    within = all((np.abs(a) <= limit).all() for a, limit in zip(arrays, limits, strict=True))
    if not within or knn.weights.min() < LEAST_WEIGHT:
        raise _broken("a number is missing or beyond what sums and products can hold")
    if knn.index is not None and (
        len(knn.index.places) != len(knn.points)
        or knn.index.centroids.shape[1] != knn.points.shape[1]
    ):
        raise _broken("its index is one of other points")
    k_fits = type(knn.n_neighbors) is int and 1 <= knn.n_neighbors <= MAX_NEIGHBORS
    if not k_fits or knn.weighting not in ("uniform", "distance"):
        raise _broken(
            f"n_neighbors is {knn.n_neighbors!r} (1 to {MAX_NEIGHBORS:,}), "
            f"weighting {knn.weighting!r} (uniform or distance)"
        )


def _broken(reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"The nearest-neighbour model cannot be used: {reason}.",
        hint="Train the model again, or fetch the file again.",
        field="knn",
        value=reason,
    )
