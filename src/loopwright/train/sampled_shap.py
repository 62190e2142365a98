"""Shapley values of any predictor by trying orders of its columns at random, with their error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.train.blend_predictor import BlendPredictor
from loopwright.train.knn_predictor import KnnPredictor
from loopwright.train.predictor import Predictor
from loopwright.train.symmetric_predictor import SymmetricTreesPredictor
from loopwright.train.trees_predictor import TreesPredictor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")

N_PAIRS = 16
_SEED = 7
_CHUNK_ROWS = 1 << 14


def sampled_values(
    predictor: Predictor,
    X: Numbers,
    background: Numbers,
    origins: tuple[tuple[str, ...], ...],
    *,
    n_pairs: int = N_PAIRS,
) -> tuple[Numbers, Numbers, float]:
    """Return the base, values of every feature, and the mean squared error of a value.

    Base plus the values of a row is its answer, up to rounding, however few orders are tried: what
    is not exact is how the answer is shared out. The same row has the same values in every batch.

    Parameters
    ----------
    X
        `(n_rows, n_features)`.
    background
        `(n, n_features)`: rows that stand for what a column is when it is not known.
    origins
        For each feature the columns it is made from. Features with the same origins come and go
        together; what they add is shared equally between them.
    n_pairs
        Pairs of an order and its reverse, at least 2.

    Returns
    -------
    tuple
        `(n_outputs,)`, `(n_rows, n_features, n_outputs)` and the mean of the squared standard
        errors, in units of the answer squared.

    Notes
    -----
    Strumbelj and Kononenko, "An Efficient Explanation of Individual Classifications using Game
    Theory", JMLR 11 (2010), with antithetic pairs (Mitchell et al., JMLR 23, 2022): on the way
    from a background row to the row the columns are switched one by one, in some order and in its
    reverse. All rows have the same orders and background rows.
    """
    players = list(dict.fromkeys(origins))
    number = {player: at for at, player in enumerate(players)}
    of_feature = np.array([number[each] for each in origins])
    rng = np.random.default_rng(_SEED)
    pairs = []
    for pair in range(max(2, n_pairs)):
        order = rng.permutation(len(players))
        there = background[(2 * pair) % len(background)]
        back = background[(2 * pair + 1) % len(background)]
        first = _switched(predictor, X, there, order, of_feature)
        second = _switched(predictor, X, back, order[::-1], of_feature)
        pairs.append((first + second) / 2)
    drawn = np.stack(pairs)
    used = background[np.arange(2 * len(pairs)) % len(background)]
    base = _answers(predictor, used).mean(axis=0)
    values = drawn.mean(axis=0)
    squares = float((drawn.var(axis=0, ddof=1) / len(pairs)).mean()) if values.size else 0.0
    together = np.bincount(of_feature)[of_feature]
    return base, values[:, of_feature] / together[:, None], squares


def _switched(
    predictor: Predictor,
    X: Numbers,
    start: Numbers,
    order: npt.NDArray[np.intp],
    of_feature: npt.NDArray[np.intp],
) -> Numbers:
    """Return what each player changes, `(n_rows, n_players, n_outputs)`."""
    n_players = len(order)
    rank = np.empty(n_players, dtype=np.intp)
    rank[order] = np.arange(n_players)
    # in state k the first k players of the order are known
    known = rank[of_feature] < np.arange(n_players + 1)[:, None]
    values = np.empty((len(X), n_players, predictor.n_outputs))
    step = max(1, _CHUNK_ROWS // (n_players + 1))
    for first in range(0, len(X), step):
        rows = X[first : first + step]
        states = np.where(known, rows[:, None, :], start)
        said = _answers(predictor, states.reshape(-1, X.shape[1]))
        said = said.reshape(len(rows), n_players + 1, -1)
        values[first : first + step, order] = np.diff(said, axis=1)
    return values


def _answers(predictor: Predictor, X: Numbers) -> Numbers:
    return predictor.predict_raw(np.ascontiguousarray(X)).reshape(len(X), -1)


def predicting_cost(predictor: Predictor) -> float:
    """Return about how many microseconds of processor time one answer of many takes."""
    if isinstance(predictor, TreesPredictor):
        return 0.02 * predictor.n_trees * max(1, predictor.depth)
    if isinstance(predictor, SymmetricTreesPredictor):
        return 0.05 * predictor.n_trees
    if isinstance(predictor, KnnPredictor):
        return 0.5 + 2e-3 * predictor.points.size
    members = getattr(predictor, "members", ())
    if isinstance(predictor, BlendPredictor) or members:
        return sum(predicting_cost(each) for each in (*members, *getattr(predictor, "uppers", ())))
    weights = getattr(predictor, "weights", ())
    return 1.0 + 2e-3 * sum(np.size(each) for each in weights)
