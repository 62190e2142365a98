"""Inverted index: points in lists around centres, so that a search looks at a few lists only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.train.predictor import MAX_FEATURE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

_ROUNDS = 10
_SAMPLE_A_LIST = 50
_CHUNK_DISTANCES = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InvertedIndex:
    """Tells which lists of points lie nearest to a row.

    The inverted file of Jégou, Douze and Schmid ("Product Quantization for Nearest Neighbor
    Search", IEEE PAMI 33, 2011, section 4), without compression: distances in a list are exact,
    and what is missed lies in lists that were not looked at.

    Parameters
    ----------
    centroids
        `(n_lists, n_features)`: the centres.
    starts
        `(n_lists + 1,)` int64, rising from 0 to the number of points: points of list i lie from
        `starts[i]` to `starts[i + 1]`.
    places
        `(n_points,)` int64: the place that each point had before it was put into its list; of
        equally near points the one of the lower place counts as nearer.
    n_probes
        How many lists are looked at.
    recall
        Share of the true nearest points that were found when it was measured, 0 to 1.

    Raises
    ------
    InvalidInputError
        If the shapes do not fit, or a number is out of range.
    """

    centroids: npt.NDArray[np.float64]
    starts: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    n_probes: int
    recall: float = 1.0

    def __post_init__(self) -> None:
        _check(self)

    def nearest_lists(self, X: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
        """Return the lists to look at for each row, `(n_rows, n_probes)`, in rising order.

        They do not depend on the rows that come along.
        """
        squared = np.empty((len(X), len(self.centroids)))
        step = max(1, _CHUNK_DISTANCES // self.centroids.size)
        for start in range(0, len(X), step):
            difference = X[start : start + step, None, :] - self.centroids
            squared[start : start + step] = (difference * difference).sum(axis=2)
        if self.n_probes >= len(self.centroids):
            everything: npt.NDArray[np.intp] = np.tile(np.arange(len(self.centroids)), (len(X), 1))
            return everything
        # stable: of equally near lists the first
        order = np.argsort(squared, axis=1, kind="stable")[:, : self.n_probes]
        lists: npt.NDArray[np.intp] = np.sort(order, axis=1)
        return lists


def built_index(
    points: npt.NDArray[np.float64], *, n_lists: int, n_probes: int, seed: int
) -> tuple[InvertedIndex, npt.NDArray[np.intp]]:
    """Return an index of points, and the order in which the points have to lie for it.

    The centres are those of Lloyd's k-means on a sample of 50 points a list.

    Parameters
    ----------
    points
        `(n_points, n_features)`.
    n_lists
        How many lists, at most as many as points.
    n_probes
        How many of them a search looks at.
    seed
        Of the sample and of the first centres.
    """
    rng = np.random.default_rng(seed)
    size = min(len(points), _SAMPLE_A_LIST * n_lists)
    sample = points[np.sort(rng.choice(len(points), size=size, replace=False))]
    centroids = sample[np.sort(rng.choice(size, size=n_lists, replace=False))].copy()
    for _ in range(_ROUNDS):
        belongs = _assigned(sample, centroids)
        counts = np.bincount(belongs, minlength=n_lists)
        sums = np.stack(
            [np.bincount(belongs, weights=column, minlength=n_lists) for column in sample.T], axis=1
        )
        filled = counts > 0
        centroids[filled] = sums[filled] / counts[filled, None]
    belongs = _assigned(points, centroids)
    order = np.argsort(belongs, kind="stable")
    starts = np.append(0, np.cumsum(np.bincount(belongs, minlength=n_lists)))
    index = InvertedIndex(
        centroids=centroids,
        starts=starts.astype(np.int64),
        places=order.astype(np.int64),
        n_probes=min(n_probes, n_lists),
    )
    return index, order


def _assigned(
    points: npt.NDArray[np.float64], centroids: npt.NDArray[np.float64]
) -> npt.NDArray[np.intp]:
    squares = 0.5 * np.einsum("ij,ij->i", centroids, centroids)
    belongs = np.empty(len(points), dtype=np.intp)
    step = max(1, _CHUNK_DISTANCES // len(centroids))
    for start in range(0, len(points), step):
        near = squares - points[start : start + step] @ centroids.T
        belongs[start : start + step] = near.argmin(axis=1)
    return belongs


def _check(index: InvertedIndex) -> None:
    n_lists = len(index.centroids)
    types: dict[str, Any] = {"centroids": np.float64, "starts": np.int64, "places": np.int64}
    if any(getattr(index, name).dtype != kind for name, kind in types.items()):
        raise _broken("its arrays are of a wrong type")
    shapes_fit = (
        index.centroids.ndim == 2
        and n_lists >= 1
        and index.starts.shape == (n_lists + 1,)
        and index.places.ndim == 1
    )
    if not shapes_fit or not (np.abs(index.centroids) <= MAX_FEATURE).all():
        raise _broken("its centres do not fit its lists")
    rising = index.starts[0] == 0 and (np.diff(index.starts) >= 0).all()
    if not rising or index.starts[-1] != len(index.places):
        raise _broken("its lists do not follow one another")
    if type(index.n_probes) is not int or not 1 <= index.n_probes <= n_lists:
        raise _broken(f"it looks at {index.n_probes!r} of {n_lists:,} lists")
    if not isinstance(index.recall, int | float) or not 0 <= index.recall <= 1:
        raise _broken(f"its recall is {index.recall!r}")


def _broken(reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"The index of the nearest-neighbour model cannot be used: {reason}.",
        hint="Train the model again, or fetch the file again.",
        field="index",
        value=reason,
    )
