"""Rows of which more would help: answered clearly worse than the others, and few."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.readable import Question, ReadableTable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")

_FEW_SHARE = 0.25
_CLEARLY_WORSE = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class WeakSegment:
    """Rows that are answered clearly worse than the others, and of which there are few.

    Parameters
    ----------
    words
        Which rows, in words.
    n_rows, share
        How many there are, and their share of all rows.
    error, of_others
        Mean loss of a row in it, and of a row outside.
    """

    words: str
    n_rows: int
    share: float
    error: float
    of_others: float

    def to_json(self) -> dict[str, Any]:
        """Return the segment as JSON types."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __str__(self) -> str:
        times = self.error / max(self.of_others, 1e-300)
        return f"{self.words} ({self.n_rows:,} rows, {times:.1f} times the error of the others)"


def weak_segments(table: ReadableTable, loss: Array, *, most: int = 3) -> list[WeakSegment]:
    """Return the kinds of rows of which more would help: clearly worse than the others, and few.

    Parameters
    ----------
    table
        The judged rows.
    loss
        Of each, `(n_rows,)`.
    most
        At most so many, one for each column.

    Notes
    -----
    A segment is a category, or the lowest or highest tenth or quarter of a number. It counts if it
    holds at most a quarter of the rows, its mean loss is half again that of the others, and the two
    differ by more than four standard errors, so that a few hundred segments give no false alarm.
    """
    found: dict[str, tuple[float, WeakSegment]] = {}
    for at, question in enumerate(table.questions):
        for words, chosen in _segments(question, table.matrix[:, at]):
            n_rows = int(chosen.sum())
            if not 5 <= n_rows <= _FEW_SHARE * len(loss):
                continue
            inside, outside = loss[chosen], loss[~chosen]
            error = (inside.var(ddof=1) / n_rows + outside.var(ddof=1) / len(outside)) ** 0.5
            z = (inside.mean() - outside.mean()) / max(float(error), 1e-12)
            worse = inside.mean() > _CLEARLY_WORSE * max(float(outside.mean()), 1e-12)
            if z > 4 and worse and z > found.get(question.column, (0.0,))[0]:
                segment = WeakSegment(
                    words=words,
                    n_rows=n_rows,
                    share=n_rows / len(loss),
                    error=float(inside.mean()),
                    of_others=float(outside.mean()),
                )
                found[question.column] = (float(z), segment)
    ordered = sorted(found.values(), key=lambda pair: -pair[0])
    return [segment for _, segment in ordered[:most]]


def _segments(question: Question, values: Array) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    name = f"'{question.column}'"
    if question.is_yes_or_no:
        asked = question.level if question.word is None else question.word
        verb = "is" if question.word is None else "holds"
        return [(f"{name} {verb} '{asked}'", values > 0.5)]
    if question.is_date:
        return []
    cuts = np.quantile(values, [0.1, 0.25, 0.75, 0.9])
    low = [(f"{name} at most {cut:,.6g}", values <= cut) for cut in cuts[:2]]
    return low + [(f"{name} at least {cut:,.6g}", values >= cut) for cut in cuts[2:]]
