"""Which values are missing together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray
else:
    pl = LazyModule("polars")
    np = LazyModule("numpy")

N_PATTERNS = 10
# one bit for each column of a 64-bit word
MOST_COLUMNS = 64
_TOGETHER = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingPattern:
    """Rows in which these columns, and no others, are missing; no columns means complete rows."""

    columns: tuple[str, ...]
    n_rows: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingTogether:
    """Columns that are missing in nearly the same rows; `share` is how nearly (Jaccard, 0 to 1)."""

    columns: tuple[str, ...]
    n_rows: int
    share: float


class MissingCounter:
    """Counts the patterns of missing values over the batches of a table.

    Parameters
    ----------
    columns
        The columns with missing values, the first 64 of which are followed.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns[:MOST_COLUMNS])
        self.n_rows = 0
        self._counts: Counter[int] = Counter()

    def add(self, batch: pl.DataFrame) -> None:
        """Take in more rows."""
        self.n_rows += batch.height
        codes = np.zeros(batch.height, dtype=np.uint64)
        for place, name in enumerate(self.columns):
            mask = batch[name].is_null().to_numpy()
            codes |= mask.astype(np.uint64) << np.uint64(place)
        found = pl.Series("code", codes).value_counts(name="n")
        for code, n in found.iter_rows():
            self._counts[code] += n

    def patterns(self) -> tuple[MissingPattern, ...]:
        """Return the ten most frequent patterns, the most frequent first."""
        if not self.columns:
            return ()
        ordered = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        return tuple(
            MissingPattern(columns=self._names(code), n_rows=n, share=n / self.n_rows)
            for code, n in ordered[:N_PATTERNS]
        )

    def together(self) -> tuple[MissingTogether, ...]:
        """Return the groups of columns that are missing in nearly the same rows.

        Two columns belong together when the rows where both are missing are 95% of those where
        either is.
        """
        both = self._both_missing()
        alone = np.diag(both)
        groups: list[MissingTogether] = []
        taken: set[int] = set()
        for i in range(len(self.columns)):
            if i in taken:
                continue
            either = alone + alone[i] - both[i]
            alike = both[i] >= _TOGETHER * np.maximum(either, 1)
            group = [j for j in np.flatnonzero(alike).tolist() if j >= i and j not in taken]
            if len(group) > 1:
                taken.update(group)
                least = min(float(both[i, j] / either[j]) for j in group)
                names = tuple(self.columns[j] for j in group)
                n_rows = int(both[i, group].min())
                groups.append(MissingTogether(columns=names, n_rows=n_rows, share=least))
        return tuple(groups)

    def _both_missing(self) -> NDArray[np.int64]:
        """Return how many rows lack both of two columns, shape (n_columns, n_columns)."""
        codes = np.array(list(self._counts), dtype=np.uint64)
        counts = np.array(list(self._counts.values()), dtype=np.int64)
        places = np.arange(len(self.columns), dtype=np.uint64)
        bits = ((codes[:, None] >> places) & np.uint64(1)).astype(np.int64)
        both: NDArray[np.int64] = (bits * counts[:, None]).T @ bits
        return both

    def _names(self, code: int) -> tuple[str, ...]:
        return tuple(name for place, name in enumerate(self.columns) if code >> place & 1)


def count_missing(batches: Iterable[pl.DataFrame], columns: Sequence[str]) -> MissingCounter:
    """Return the counted patterns of a whole table."""
    counter = MissingCounter(columns)
    for batch in batches:
        counter.add(batch)
    return counter
