"""A small boosted model over binned columns: a number or a chance for each row, and no library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Codes = NDArray[np.uint8]
    Numbers = NDArray[np.float64]
else:
    np = LazyModule("numpy")

N_BINS = 64
_RATE = 0.1
_RIDGE = 5.0
_SMOOTHING = 10.0
_LEAST_GAIN = 1e-9
_FEWEST_ROWS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoostedBins:
    """The sum of a start and of many small trees that ask which bins a row lies in.

    Parameters
    ----------
    start
        What is said of a row before any tree: a number, or log odds.
    columns
        (n_trees, 3): the column asked at the root, on its left side and on its right side.
    goes_left
        (n_trees, 3, 64): for each of these questions, the bins that go left.
    leaves
        (n_trees, 4): what is added in the leaves, from left to right.
    """

    start: float
    columns: NDArray[np.int64]
    goes_left: NDArray[np.bool_]
    leaves: Numbers

    def values(self, codes: Codes) -> Numbers:
        """Return the sums, (n_rows,), for bins (n_rows, n_columns) as integers below 64."""
        total = np.full(len(codes), self.start)
        for columns, goes_left, leaves in zip(
            self.columns, self.goes_left, self.leaves, strict=True
        ):
            root = ~goes_left[0, codes[:, columns[0]]]
            left = ~goes_left[1, codes[:, columns[1]]]
            right = ~goes_left[2, codes[:, columns[2]]]
            total += leaves[2 * root + np.where(root, right, left)]
        return total


def boosted(
    codes: Codes,
    target: Numbers,
    *,
    ordered: NDArray[np.bool_],
    loss: Literal["squared", "logistic"] = "squared",
    weights: Numbers | None = None,
    n_trees: int = 60,
) -> BoostedBins:
    """Return a model of a target, deterministic for the same rows in the same order.

    Parameters
    ----------
    codes
        Bins, (n_rows, n_columns), integers below 64.
    target
        (n_rows,): numbers, or 0 and 1 for the logistic loss.
    ordered
        (n_columns,): whether the bins of a column are in order of size. Those of any other are put
        in order of their mean gradient at each question, as LightGBM does (Fisher, "On grouping
        for maximum homogeneity", JASA 53, 1958).
    weights
        (n_rows,), of the rows.

    Notes
    -----
    Newton boosting (Friedman, Annals of Statistics 29, 2001; Chen and Guestrin, KDD 2016) of trees
    of depth 2, with rate 0.1, an L2 penalty of 5 rows on every leaf and at least 10 rows in each.
    """
    n_rows, n_columns = codes.shape
    w = np.ones(n_rows) if weights is None else weights / weights.mean()
    mean = float(np.average(target, weights=w)) if n_rows else 0.0
    start = mean
    if loss == "logistic":
        mean = min(max(mean, 1e-4), 1 - 1e-4)
        start = float(np.log(mean / (1 - mean)))
    width = int(codes.max(initial=0)) + 1
    flat = codes.astype(np.int64) + np.arange(n_columns) * width
    total = np.full(n_rows, start)
    trees = []
    for _ in range(n_trees if n_columns else 0):
        gradient, curvature = _gradients(total, target, w, loss)
        tree = _tree(codes, flat, gradient, curvature, ordered, width)
        if tree is None:
            break
        columns, goes_left, leaves, places = tree
        total += leaves[places]
        trees.append((columns, goes_left, leaves))
    return BoostedBins(
        start=start,
        columns=np.array([tree[0] for tree in trees], dtype=np.int64).reshape(-1, 3),
        goes_left=np.array([tree[1] for tree in trees], dtype=np.bool_).reshape(-1, 3, N_BINS),
        leaves=np.array([tree[2] for tree in trees], dtype=np.float64).reshape(-1, 4),
    )


def out_of_fold(
    codes: Codes,
    target: Numbers,
    *,
    ordered: NDArray[np.bool_],
    loss: Literal["squared", "logistic"] = "squared",
    n_trees: int = 60,
    n_folds: int = 3,
    seed: int = 0,
) -> Numbers:
    """Return for each row what a model says that was fitted on the other folds, (n_rows,)."""
    folds = np.random.default_rng(seed).permutation(len(codes)) % n_folds
    said = np.empty(len(codes))
    for fold in range(n_folds):
        held = folds == fold
        model = boosted(codes[~held], target[~held], ordered=ordered, loss=loss, n_trees=n_trees)
        said[held] = model.values(codes[held])
    return said


def _gradients(total: Numbers, target: Numbers, w: Numbers, loss: str) -> tuple[Numbers, Numbers]:
    if loss == "squared":
        return w * (target - total), w
    chance = 1 / (1 + np.exp(-np.clip(total, -30, 30)))
    return w * (target - chance), w * np.maximum(chance * (1 - chance), 1e-6)


def _tree(
    codes: Codes,
    flat: NDArray[np.int64],
    gradient: Numbers,
    curvature: Numbers,
    ordered: NDArray[np.bool_],
    width: int,
) -> tuple[list[int], list[NDArray[np.bool_]], Numbers, NDArray[np.int64]] | None:
    """Return the questions, the leaves and the leaf of each row; None where nothing is gained."""
    shape = (codes.shape[1], width)
    G, H = _sums(flat, gradient, curvature, shape)
    row = float(curvature.mean())
    root = _question(G, H, ordered, row)
    if root is None:
        return None
    columns, goes_left = [root[0]], [root[1]]
    to_left = root[1][codes[:, root[0]]]
    is_left_few = bool(to_left.sum() * 2 <= len(codes))
    few = to_left if is_left_few else ~to_left
    some = _sums(flat[few], gradient[few], curvature[few], shape)
    rest = (G - some[0], H - some[1])
    sides = (some, rest) if is_left_few else (rest, some)
    places = np.where(to_left, 0, 2)
    for side, (own_g, own_h) in enumerate(sides):
        question = _question(own_g, own_h, ordered, row)
        # a side that is not asked again goes left as a whole
        column, left = question if question is not None else (0, np.ones(N_BINS, dtype=np.bool_))
        columns.append(column)
        goes_left.append(left)
        own = to_left if side == 0 else ~to_left
        places = places + (own & ~left[codes[:, column]])
    g = np.bincount(places, weights=gradient, minlength=4)
    h = np.bincount(places, weights=curvature, minlength=4)
    return columns, goes_left, _RATE * g / (h + _RIDGE * row), places


def _sums(
    flat: NDArray[np.int64], gradient: Numbers, curvature: Numbers, shape: tuple[int, int]
) -> tuple[Numbers, Numbers]:
    at, size = flat.ravel(), shape[0] * shape[1]
    G, H = (
        np.bincount(at, weights=np.repeat(each, shape[0]), minlength=size)
        for each in (gradient, curvature)
    )
    return G.reshape(shape).astype(np.float64), H.reshape(shape).astype(np.float64)


def _question(
    G: Numbers, H: Numbers, ordered: NDArray[np.bool_], row: float
) -> tuple[int, NDArray[np.bool_]] | None:
    """Return the column and the bins that go left by which the loss falls most.

    `row` is what one row weighs in `H`.
    """
    all_g, all_h = float(G[0].sum()), float(H[0].sum())
    unordered = np.flatnonzero(~ordered)
    order = None
    if len(unordered):
        # means of rare categories are drawn to 0, and their splits must gain more, as in LightGBM
        mean = np.where(H[unordered] > 0, G[unordered] / (H[unordered] + _SMOOTHING * row), -np.inf)
        order = np.argsort(mean, axis=1, kind="stable")
        G, H = G.copy(), H.copy()
        G[unordered] = np.take_along_axis(G[unordered], order, axis=1)
        H[unordered] = np.take_along_axis(H[unordered], order, axis=1)
    g, h = np.cumsum(G, axis=1)[:, :-1], np.cumsum(H, axis=1)[:, :-1]
    ridge = np.where(ordered, _RIDGE, _RIDGE + _SMOOTHING)[:, None] * row
    least = _FEWEST_ROWS * row
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = g**2 / (h + ridge) + (all_g - g) ** 2 / (all_h - h + ridge)
    gain -= all_g**2 / (all_h + ridge)
    gain[(h < least) | (all_h - h < least)] = -np.inf
    if not gain.size:
        return None
    column, cut = divmod(int(np.argmax(gain)), gain.shape[1])
    if not gain[column, cut] > _LEAST_GAIN * row:
        return None
    bins = np.arange(cut + 1)
    if order is not None and not ordered[column]:
        bins = order[int(np.searchsorted(unordered, column)), : cut + 1]
    left = np.zeros(N_BINS, dtype=np.bool_)
    left[bins] = True
    return column, left
