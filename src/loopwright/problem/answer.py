"""What a model, a rule or today's way says about some rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Answers for `n_rows` rows.

    Parameters
    ----------
    values
        For regression: `(n_rows,)`; empty otherwise.
    probabilities
        For classes: `(n_rows, n_classes)`, lines adding to 1; with two classes the second column
        is the positive one. Empty for regression.
    threshold
        Binary only: probability from which the positive class is said, 0 to 1.
    money
        What each row earns, by its true class and the class said: `(n_rows, n_classes, n_classes)`.
        None where all rows earn alike, or nothing is earned.
    """

    values: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64]
    threshold: float = 0.5
    money: npt.NDArray[np.float64] | None = None

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The class indices said, `(n_rows,)`."""
        if self.probabilities.shape[1] == 2:
            return np.asarray(self.probabilities[:, 1] >= self.threshold, dtype=np.int64)
        best: npt.NDArray[np.int64] = np.argmax(self.probabilities, axis=1).astype(np.int64)
        return best

    def probability(self) -> npt.NDArray[np.float64]:
        """Return the probability of the positive class, `(n_rows,)`; binary only."""
        return self.probabilities[:, 1]

    def __len__(self) -> int:
        return max(len(self.values), len(self.probabilities))

    def rows(self, chosen: npt.NDArray[np.int64]) -> Answers:
        """Return the answers for some of the rows."""
        return Answers(
            values=self.values[chosen] if len(self.values) else self.values,
            probabilities=self.probabilities[chosen]
            if len(self.probabilities)
            else self.probabilities,
            threshold=self.threshold,
            money=None if self.money is None else _chosen(self.money, chosen),
        )


def _chosen(money: npt.NDArray[np.float64], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    if len(money) and not money.strides[0]:  # one table for all rows stays one table
        return np.broadcast_to(money[0], (len(np.arange(len(money))[rows]), *money.shape[1:]))
    return money[rows]


def value_answers(values: npt.ArrayLike) -> Answers:
    """Return the answers of a regression."""
    return Answers(
        values=np.asarray(values, dtype=np.float64), probabilities=np.empty((0, 0), np.float64)
    )


def class_answers(
    probabilities: npt.ArrayLike,
    *,
    threshold: float = 0.5,
    money: npt.NDArray[np.float64] | None = None,
) -> Answers:
    """Return the answers of a classification.

    Parameters
    ----------
    probabilities
        `(n_rows, n_classes)`, or `(n_rows,)` with the probability of the positive class.
    threshold
        Binary only: probability from which the positive class is said.
    money
        What each row earns; see `Answers`.
    """
    given = np.asarray(probabilities, dtype=np.float64)
    if given.ndim == 1:
        given = np.stack([1 - given, given], axis=1)
    return Answers(
        values=np.empty(0, np.float64), probabilities=given, threshold=threshold, money=money
    )
