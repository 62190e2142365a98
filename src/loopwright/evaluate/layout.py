"""How rows hang together: which may judge which, and how a target may be shuffled among them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Array = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.int64]
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_TIME_BLOCKS = 40
Fold = tuple["Indices", "Indices"]


def _nothing() -> Indices:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Whether rows stand alone, come in groups, or follow one another in time.

    Parameters
    ----------
    by
        `random`: rows stand alone. `group`: rows of a group belong together. `time`: later rows are
        judged by what earlier ones teach.
    codes
        `(n_rows,)`: the group of each row, or the rank of its moment; empty where rows stand alone.
    """

    by: Literal["random", "group", "time"] = "random"
    codes: Indices = field(default_factory=_nothing)

    def rows(self, chosen: Indices) -> Layout:
        """Return the layout of some of the rows."""
        return Layout(by=self.by, codes=self.codes[chosen] if self.by != "random" else self.codes)

    def folds(self, y: Array, *, n_folds: int, is_class: bool, seed: int) -> list[Fold]:
        """Return the rows that teach and those that are judged, in pairs.

        Every row is judged once, but in time, where the oldest rows only teach. Classes are shared
        out evenly where rows stand alone; groups stay whole.
        """
        rng = np.random.default_rng(seed)
        if self.by == "time":
            return self._onward(n_folds)
        if self.by == "group":
            fold = _fold_of_groups(self.codes, n_folds, rng)
        else:
            drawn = rng.permutation(len(y))
            order = drawn[np.argsort(y[drawn], kind="stable")] if is_class else drawn
            fold = np.empty(len(y), dtype=np.int64)
            fold[order] = np.arange(len(y)) % n_folds
        pairs = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(n_folds)]
        return [pair for pair in pairs if len(pair[0]) and len(pair[1])]

    def _onward(self, n_folds: int) -> list[Fold]:
        """Return folds in which everything before teaches what comes next."""
        order = np.argsort(self.codes, kind="stable")
        ranks = self.codes[order]
        cuts = [
            # whole moments: a row is never judged by rows of its own moment
            int(np.searchsorted(ranks, ranks[len(ranks) * k // (n_folds + 1)], side="left"))
            for k in range(1, n_folds + 1)
        ]
        ends = [*cuts[1:], len(ranks)]
        return [
            (np.sort(order[:cut]), np.sort(order[cut:end]))
            for cut, end in zip(cuts, ends, strict=True)
            if cut and end > cut
        ]

    def units(self) -> Indices | None:
        """Return what may be taken as independent: groups, or blocks of time; None for rows."""
        if self.by == "random":
            return None
        if self.by == "group":
            return self.codes
        return _blocks(self.codes)

    def shuffled(self, target: Array, rng: np.random.Generator) -> Array:
        """Return a target `(n_rows, k)` as it might be if the columns had nothing to do with it.

        Rows that stand alone are exchanged. In groups, the means of whole groups are exchanged
        among groups and what is left within groups. In time, whole blocks of neighbouring rows
        change places, so that what a row has in common with its neighbours is kept.
        """
        if self.by == "random":
            return target[rng.permutation(len(target))]
        if self.by == "time":
            return _with_blocks_exchanged(target, self.codes, rng)
        return _with_groups_exchanged(target, self.codes, rng)


def layout_of(column: pl.Series | None, by: Literal["random", "time", "group"]) -> Layout:
    """Return the layout of rows split by a column; rows stand alone where there is none."""
    if column is None or by == "random":
        return Layout()
    codes = column.rank("dense") if by == "time" else column.cast(pl.String).rank("dense")
    return Layout(by=by, codes=codes.fill_null(0).cast(pl.Int64).to_numpy())


def _fold_of_groups(codes: Indices, n_folds: int, rng: np.random.Generator) -> Indices:
    _, place, counts = np.unique(codes, return_inverse=True, return_counts=True)
    sizes = [0] * n_folds
    of_group = np.zeros(len(counts), dtype=np.int64)
    for group in rng.permutation(len(counts)):
        of_group[group] = int(np.argmin(sizes))
        sizes[of_group[group]] += int(counts[group])
    fold: Indices = of_group[place]
    return fold


def _blocks(codes: Indices) -> Indices:
    order = np.argsort(codes, kind="stable")
    block = np.empty(len(codes), dtype=np.int64)
    block[order] = np.arange(len(codes)) * _TIME_BLOCKS // max(1, len(codes))
    return block


def _with_blocks_exchanged(target: Array, codes: Indices, rng: np.random.Generator) -> Array:
    order = np.argsort(codes, kind="stable")
    n_blocks = max(2, min(_TIME_BLOCKS, len(codes) // 10))
    # the first cut is drawn too, so that blocks are not always the same
    turned = np.roll(order, int(rng.integers(len(order))))
    blocks = np.array_split(turned, n_blocks)
    source = np.concatenate([blocks[k] for k in rng.permutation(n_blocks)])
    found = np.empty_like(target)
    found[order] = target[source]
    return found


def _with_groups_exchanged(target: Array, codes: Indices, rng: np.random.Generator) -> Array:
    _, place, counts = np.unique(codes, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(place, weights=column) for column in target.T], axis=1)
    means = sums / counts[:, None]
    left = (target - means[place])[_within(place, rng)]
    # groups of about equal size change places: a small group's mean varies more
    order = np.lexsort((rng.random(len(counts)), counts))
    n_strata = max(1, min(5, len(counts) // 20))
    source = np.arange(len(counts))
    for stratum in np.array_split(order, n_strata):
        source[stratum] = rng.permutation(stratum)
    exchanged: Array = means[source][place] + left
    return exchanged


def _within(place: Indices, rng: np.random.Generator) -> Indices:
    """Return an order that exchanges rows of the same group only."""
    home = np.argsort(place, kind="stable")
    drawn = np.lexsort((rng.random(len(place)), place))
    found = np.empty(len(place), dtype=np.int64)
    found[home] = drawn
    return found
