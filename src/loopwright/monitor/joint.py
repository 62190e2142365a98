"""How usual a row is as a whole: two scores for columns that no longer go together as they did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.monitor.product import product

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from loopwright.monitor.reference import StreamReference
else:
    np = LazyModule("numpy")

RESIDUAL, DENSITY = "columns together", "rare combinations"
N_MOST_COLUMNS = 40
_LEAST_COLUMNS = 3
_EXPLAINED = 0.8  # of the variance, by the components that the residual leaves out
_N_MOST_KEPT = 8
_CHUNK = 8_192  # rows at a time, which stay in the processor's cache
_RIDGE = 0.02
_N_FOLDS = 10
_MANY_ROWS = 10_000
_DIGITS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class JointModel:
    """The usual relations among columns, as scores of bins and their principal components.

    Parameters
    ----------
    columns
        The keys of the streams that take part.
    scores
        For each column the score of every bin; mean 0 and variance about 1 over the reference.
    components
        (n_kept, n_columns): the eigenvectors of the scores' covariance with the largest eigenvalues.
    precision
        The inverse of that covariance, its lower triangle row by row.
    """

    columns: tuple[str, ...]
    scores: tuple[tuple[float, ...], ...]
    components: tuple[tuple[float, ...], ...]
    precision: tuple[tuple[float, ...], ...]

    def score_rows(self, codes: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[np.float64]]:
        """Return both scores of every row by name, (n_rows,), from the bin of each column.

        Notes
        -----
        With z the row's normal scores, `columns together` is the squared length of z outside the
        first principal components, their reconstruction error; `rare combinations` is
        z (P - I) z with P the inverse of the covariance, twice the negative log density of a
        Gaussian copula but for a constant, so that it moves when the relations do rather than when
        a column does alone.
        """
        n = len(codes[self.columns[0]])
        found = [
            self._score_some(codes, slice(first, first + _CHUNK)) for first in range(0, n, _CHUNK)
        ]
        residual, density = zip(*found, strict=True) if found else ((), ())
        return {
            RESIDUAL: np.concatenate([np.zeros(0), *residual]),
            DENSITY: np.concatenate([np.zeros(0), *density]),
        }

    def _score_some(
        self, codes: Mapping[str, NDArray[np.int64]], rows: slice
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        n = len(codes[self.columns[0]][rows])
        z = np.empty((n, len(self.columns)), dtype=np.float32)
        for place, (column, scores) in enumerate(zip(self.columns, self.scores, strict=True)):
            z[:, place] = np.array(scores, dtype=np.float32)[codes[column][rows]]
        lower = np.zeros((len(self.columns), len(self.columns)), dtype=np.float32)
        for number, row in enumerate(self.precision):
            lower[number, : number + 1] = row
        both = lower + np.tril(lower, -1).T
        length = np.einsum("ij,ij->i", z, z)
        kept = product(z, np.array(self.components, dtype=np.float32).T)
        residual = length - np.einsum("ij,ij->i", kept, kept)
        density = np.einsum("ij,ij->i", product(z, both), z) - length
        return residual.astype(np.float64), density.astype(np.float64)


def build_joint(
    streams: Sequence[StreamReference], codes: Mapping[str, NDArray[np.int64]]
) -> JointModel | None:
    """Return the relations among some columns of the reference; None for fewer than three.

    Parameters
    ----------
    streams
        The input streams, the most important first where there are more than 40.
    codes
        The bin of every reference row in each of them.
    """
    able = [s for s in streams if s.kind != "date" and sum(c > 0 for c in s.counts) > 1]
    able = able[:N_MOST_COLUMNS]
    if len(able) < _LEAST_COLUMNS:
        return None
    scores = {s.key: _ordered_scores(s) for s in able if s.is_ordered}
    guides = np.stack([scores[k][codes[k]] for k in scores], axis=1) if scores else None
    for stream in able:
        if not stream.is_ordered:
            scores[stream.key] = _category_scores(stream, codes[stream.key], guides)
    rounded = {key: _standard(values, codes[key]) for key, values in scores.items()}
    keys = [s.key for s in able]
    z = np.stack([rounded[key][codes[key]] for key in keys], axis=1)
    covariance = np.einsum("ij,ik->jk", z, z) / len(z) + _RIDGE * np.eye(len(keys))
    variances, vectors = np.linalg.eigh(covariance)
    variances, vectors = variances[::-1], vectors[:, ::-1]
    share = np.cumsum(variances) / variances.sum()
    n_kept = min(int(np.searchsorted(share, _EXPLAINED)) + 1, len(keys) - 1, _N_MOST_KEPT)
    precision = np.linalg.inv(covariance).round(_DIGITS).tolist()
    return JointModel(
        columns=tuple(keys),
        scores=tuple(tuple(rounded[key].tolist()) for key in keys),
        components=tuple(tuple(row) for row in vectors.T[:n_kept].round(_DIGITS).tolist()),
        precision=tuple(tuple(row[: place + 1]) for place, row in enumerate(precision)),
    )


def held_out_scores(
    joint: JointModel,
    streams: Sequence[StreamReference],
    codes: Mapping[str, NDArray[np.int64]],
) -> dict[str, NDArray[np.float64]]:
    """Return both scores of the reference rows, each by relations that were learnt without it.

    Rows look more usual to relations that were learnt from them than new rows ever will: with 400
    rows of 20 columns, a new row beats a reference row in 54 % of pairs, nothing having moved. Among
    very many rows that makes no difference, and `joint` scores them as it is.

    Parameters
    ----------
    joint
        What `build_joint` returned for the same streams and rows.
    streams, codes
        See `build_joint`.
    """
    n_rows = len(next(iter(codes.values())))
    if n_rows >= _MANY_ROWS:
        return joint.score_rows(codes)
    fold = np.arange(n_rows) % _N_FOLDS
    found = {name: np.empty(n_rows) for name in (RESIDUAL, DENSITY)}
    for number in range(_N_FOLDS):
        is_held = fold == number
        learnt = build_joint(streams, {key: each[~is_held] for key, each in codes.items()})
        scores = (learnt or joint).score_rows({key: each[is_held] for key, each in codes.items()})
        for name, values in scores.items():
            found[name][is_held] = values
    return found


def _ordered_scores(stream: StreamReference) -> NDArray[np.float64]:
    """Normal scores of the bins' mid-ranks; missing counts as the middle."""
    counts = np.array(stream.counts[:-1], dtype=np.float64)
    p = counts / counts.sum()
    ranks = np.clip(np.cumsum(p) - p / 2, 0.5 / counts.sum(), 1 - 0.5 / counts.sum())
    normal = NormalDist()
    return np.array([*(normal.inv_cdf(rank) for rank in ranks.tolist()), 0.0])


def _category_scores(
    stream: StreamReference, codes: NDArray[np.int64], guides: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """The mean in each category of the number that it goes with most; else ranks by frequency."""
    n = np.bincount(codes, minlength=stream.n_bins).astype(np.float64)
    if guides is None:
        return np.argsort(np.argsort(-n)).astype(np.float64)
    sums = np.stack(
        [np.bincount(codes, weights=guide, minlength=stream.n_bins) for guide in guides.T]
    )
    means = sums / (n + 20)  # a rare category stays near the middle
    best: NDArray[np.float64] = means[int((means**2 @ n).argmax())]
    return best


def _standard(scores: NDArray[np.float64], codes: NDArray[np.int64]) -> NDArray[np.float64]:
    held = scores[codes]
    spread = float(held.std()) or 1.0
    rounded: NDArray[np.float64] = ((scores - held.mean()) / spread).round(_DIGITS)
    return rounded
