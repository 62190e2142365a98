"""The nearest rows seen in training, exactly, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.train.link import Link, checked_link
from loopwright.train.predictor import MAX_FEATURE, Predictor, completed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

Weighting = Literal["uniform", "distance"]
MAX_NEIGHBORS = 1000
LEAST_WEIGHT = 1e-50
# distances of one chunk of rows then stay in the processor's cache
_CHUNK_DISTANCES = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KnnPredictor(Predictor):
    """Score a row as the weighted mean of its nearest training rows, by Euclidean distance.

    Of rows at the same distance the earlier one counts as nearer. The memory needed is small
    however many rows are asked for at once.

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
    link: Link = "identity"
    _squares: npt.NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        checked_link(self.link)
        _check(self)
        object.__setattr__(self, "_squares", np.einsum("ij,ij->i", self.points, self.points))

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
        indices = np.empty((len(X), k), dtype=np.intp)
        squared = np.empty((len(X), k))
        step = max(1, _CHUNK_DISTANCES // len(self.points))
        for start in range(0, len(X), step):
            chunk = completed(X[start : start + step])
            rows = slice(start, start + len(chunk))
            indices[rows], squared[rows] = self._nearest(chunk, k)
        return indices, squared

    def _nearest(
        self, X: npt.NDArray[np.float64], k: int
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
        # The matrix product is fast, but its rounding depends on the number of rows. It only
        # chooses candidates, with room for that rounding (Higham, "Accuracy and Stability of
        # Numerical Algorithms", 2002, section 3.1); the distances are then computed one by one.
        near = self._squares - 2.0 * (X @ self.points.T)
        longest = np.sqrt(self._squares.max()) + np.sqrt((X * X).sum(axis=1))
        room = 8 * (self.n_features + 8) * np.finfo(np.float64).eps * longest**2
        farthest = np.partition(near, k - 1, axis=1)[:, k - 1] + room
        row, point = np.nonzero(near <= farthest[:, None])
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
        return {"points": self.points, "values": self.values, "weights": self.weights}

    def meta(self) -> dict[str, Any]:
        """Return what has to be stored beside the arrays."""
        return {"n_neighbors": self.n_neighbors, "weighting": self.weighting}

    @classmethod
    def from_parts(
        cls, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any], link: Link
    ) -> KnnPredictor:
        """Return the predictor that was stored."""
        return cls(
            points=arrays["points"],
            values=arrays["values"],
            weights=arrays["weights"],
            n_neighbors=meta["n_neighbors"],
            weighting=meta["weighting"],
            link=link,
        )


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
