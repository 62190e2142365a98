"""How unlike the reference live rows are as a whole, and the weights that make the one like the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.monitor.boosting import out_of_fold

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Codes = NDArray[np.uint8]
    Numbers = NDArray[np.float64]
else:
    np = LazyModule("numpy")

_N_TREES = 60
_GREATEST_WEIGHT = 50.0
_SIGMAS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Likeness:
    """Weights of reference rows, and what they rest on.

    Parameters
    ----------
    weights
        (n_reference,), with mean 1: how much oftener a row like this one is seen live.
    told_apart
        Chance that a live row is told from a reference row by all columns together: 0.5 where they
        are alike, 1 where they have nothing in common (the area under the ROC curve of a model that
        was asked about rows it did not learn from).
    told_apart_error
        Its standard error.
    n_effective
        How many rows without weights the weighted ones are worth: (sum w)^2 / sum w^2.
    """

    weights: Numbers
    told_apart: float
    told_apart_error: float
    n_effective: float

    @property
    def has_moved(self) -> bool:
        """Whether live rows are told from the reference better than by chance."""
        return self.told_apart > 0.5 + _SIGMAS * self.told_apart_error


def likeness(
    reference: Codes, live: Codes, *, ordered: NDArray[np.bool_], seed: int = 0
) -> Likeness:
    """Return the weights under which the reference rows stand for the live ones.

    Parameters
    ----------
    reference, live
        Bins of the same columns, (n_reference, n_columns) and (n_live, n_columns).
    ordered
        Whether the bins of each column are in order.
    seed
        Of the folds.

    Notes
    -----
    The ratio of two densities is the odds of a classifier that tells their rows apart, times
    n_reference / n_live (Bickel, Brueckner and Scheffer, JMLR 10, 2009). Each row's odds come from
    a model that did not learn from it, are cut at 50, and count as 1 for all rows as long as the
    classifier does no better than chance, so that weights add no noise where nothing moved.
    """
    n, m = len(reference), len(live)
    codes = np.concatenate([reference, live])
    is_live = np.concatenate([np.zeros(n), np.ones(m)])
    score = out_of_fold(
        codes, is_live, ordered=ordered, loss="logistic", n_trees=_N_TREES, seed=seed
    )
    told_apart = area(score[n:], score[:n])
    error = float(np.sqrt((1 / n + 1 / m) / 12))
    found = Likeness(
        weights=np.ones(n), told_apart=told_apart, told_apart_error=error, n_effective=float(n)
    )
    if not found.has_moved:
        return found
    weights = np.exp(np.clip(score[:n], -30, 30)) * n / m
    weights = np.minimum(weights, _GREATEST_WEIGHT)
    weights /= weights.mean()
    return Likeness(
        weights=weights,
        told_apart=told_apart,
        told_apart_error=error,
        n_effective=float(weights.sum() ** 2 / (weights**2).sum()),
    )


def area(above: Numbers, below: Numbers) -> float:
    """Return the chance that a value of the first kind exceeds one of the second; ties count half."""
    ordered = np.sort(below)
    left = np.searchsorted(ordered, above, side="left")
    right = np.searchsorted(ordered, above, side="right")
    return float((left + right).mean() / 2 / max(len(ordered), 1))
