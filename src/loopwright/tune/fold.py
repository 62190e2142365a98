"""Folds: which rows a model learns from and which it answers, so that every row is answered once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fold:
    """One way to divide the rows.

    Parameters
    ----------
    train
        Places of the rows that are learnt from, ascending.
    held_out
        Places of the rows that are answered, ascending.
    """

    train: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.int64]


def n_folds_for(n_rows: int) -> int:
    """Return how many folds a table is worth: more where rows are few and fits are quick."""
    return 8 if n_rows < 3_000 else 5 if n_rows < 100_000 else 4


def random_folds(
    frame: pl.DataFrame,
    y: npt.NDArray[np.float64],
    *,
    n_folds: int,
    seed: int,
    is_class: bool,
) -> list[Fold]:
    """Return folds that share rows out at random, every class alike.

    Rows that stand the same in every column more than once stay in one fold, so that no model is
    asked for a row it has seen.

    Parameters
    ----------
    frame
        The rows, without the target.
    y
        Targets, `(n_rows,)`.
    n_folds
        At least 2.
    is_class
        Whether `y` holds classes, which are then shared out alike.

    Raises
    ------
    InvalidInputError
        If there are fewer different rows than folds.
    """
    hashes = frame.hash_rows(seed=0).to_numpy()
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    if len(first) < n_folds:
        raise InvalidInputError(
            f"{len(first)} different rows cannot be divided into {n_folds} folds.",
            hint="Give more rows.",
            field="rows",
            value=len(first),
        )
    # classes are shared out alike where at least one has a row for every fold
    alike = is_class and np.unique(y[first], return_counts=True)[1].max() >= n_folds
    number = (
        _numbers_alike(y[first], n_folds=n_folds, seed=seed)
        if alike
        else _numbers(len(first), n_folds=n_folds, seed=seed)
    )
    return _folds(number[group], n_folds)


def _numbers(n_rows: int, *, n_folds: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the fold of each row, as scikit-learn's `KFold` shuffles them.

    Its module takes two seconds to import, which a short search has not.
    """
    order = np.arange(n_rows)
    np.random.RandomState(seed).shuffle(order)
    sizes = np.full(n_folds, n_rows // n_folds)
    sizes[: n_rows % n_folds] += 1
    number = np.empty(n_rows, dtype=np.int64)
    number[order] = np.repeat(np.arange(n_folds), sizes)
    return number


def _numbers_alike(y: npt.NDArray[np.float64], *, n_folds: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the fold of each row, as `StratifiedKFold` shuffles them: every class alike.

    A class with fewer rows than folds is in as many folds as it has rows.
    """
    _, first, inverse = np.unique(y, return_index=True, return_inverse=True)
    # classes in the order in which they first stand in the rows
    code = np.argsort(np.argsort(first))[inverse]
    by_class = np.sort(code)
    random = np.random.RandomState(seed)
    number = np.empty(len(y), dtype=np.int64)
    shares = np.array(
        [np.bincount(by_class[place::n_folds], minlength=len(first)) for place in range(n_folds)]
    )
    for each in range(len(first)):
        folds = np.repeat(np.arange(n_folds), shares[:, each])
        random.shuffle(folds)
        number[code == each] = folds
    return number


def group_folds(groups: Sequence[object] | pl.Series, *, n_folds: int, seed: int) -> list[Fold]:
    """Return folds in which all rows of a group stand on the same side.

    Raises
    ------
    InvalidInputError
        If there are fewer groups than folds.
    """
    from sklearn.model_selection import GroupKFold

    codes = pl.Series("group", groups).rank("dense").fill_null(0).to_numpy().astype(np.int64)
    n_groups = len(np.unique(codes))
    if n_groups < max(2, n_folds):
        raise InvalidInputError(
            f"{n_groups} groups cannot be divided into {n_folds} folds.",
            hint="Split by another column, or at random.",
            field="groups",
            value=n_groups,
        )
    number = np.empty(len(codes), dtype=np.int64)
    splitter = GroupKFold(n_folds, shuffle=True, random_state=seed)
    for place, (_, held) in enumerate(splitter.split(codes, groups=codes)):
        number[held] = place
    return _folds(number, n_folds)


def time_folds(times: Sequence[object] | pl.Series, *, n_folds: int) -> list[Fold]:
    """Return folds in which every model answers rows later than all it learnt from.

    The first half of the rows is learnt from only. Rows of one moment stay together.

    Raises
    ------
    InvalidInputError
        If there are too few moments.
    """
    rank = pl.Series("time", times).rank("dense").to_numpy().astype(np.int64)
    order = np.sort(rank)
    borders = [order[len(order) * (n_folds + place) // (2 * n_folds)] for place in range(n_folds)]
    borders = sorted({int(border) for border in borders if border > order[0]})
    if not borders:
        raise InvalidInputError(
            "The rows have too few different moments to be divided by time.",
            hint="Split at random, or by a column with more moments.",
            field="times",
            value=len(np.unique(order)),
        )
    ends = [*borders[1:], int(order[-1]) + 1]
    return [
        Fold(
            train=np.flatnonzero(rank < start),
            held_out=np.flatnonzero((rank >= start) & (rank < end)),
        )
        for start, end in zip(borders, ends, strict=True)
    ]


def _folds(number: npt.NDArray[np.int64], n_folds: int) -> list[Fold]:
    return [
        Fold(train=np.flatnonzero(number != place), held_out=np.flatnonzero(number == place))
        for place in range(n_folds)
    ]
