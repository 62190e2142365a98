"""Which values are missing together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.explore.spread import runs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
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
    """Counts the patterns of missing values of a table, told of a column at a time.

    The first 64 columns with missing values are followed; others are left out.

    Parameters
    ----------
    n_rows
        How many rows the table has.
    """

    def __init__(self, n_rows: int) -> None:
        self.columns: tuple[str, ...] = ()
        self.n_rows = n_rows
        self._codes: NDArray[np.uint64] | None = None
        self._found: dict[int, int] | None = None

    def add(self, name: str, mask: NDArray[np.bool_], first: int = 0) -> None:
        """Take in where a column is missing: `mask` is about the rows from `first` on."""
        if name not in self.columns:
            if len(self.columns) == MOST_COLUMNS:
                return
            self.columns = (*self.columns, name)
        if self._codes is None:
            self._codes = np.zeros(self.n_rows, dtype=np.uint64)
        place = np.uint64(self.columns.index(name))
        self._codes[first : first + mask.size] |= mask.astype(np.uint64) << place

    def _counts(self) -> dict[int, int]:
        if self._found is None:
            codes = np.empty(0, np.uint64) if self._codes is None else self._codes
            codes.sort()
            self._found = dict(runs(codes, codes.size).top)
            self._codes = None
        return self._found

    def patterns(self) -> tuple[MissingPattern, ...]:
        """Return the ten most frequent patterns, the most frequent first."""
        if not self.columns:
            return ()
        ordered = sorted(self._counts().items(), key=lambda item: (-item[1], item[0]))
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
        codes = np.array(list(self._counts()), dtype=np.uint64)
        counts = np.array(list(self._counts().values()), dtype=np.int64)
        places = np.arange(len(self.columns), dtype=np.uint64)
        bits = ((codes[:, None] >> places) & np.uint64(1)).astype(np.int64)
        both: NDArray[np.int64] = (bits * counts[:, None]).T @ bits
        return both

    def _names(self, code: int) -> tuple[str, ...]:
        return tuple(name for place, name in enumerate(self.columns) if code >> place & 1)
