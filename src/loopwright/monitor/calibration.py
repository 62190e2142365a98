"""How much evidence unchanged rows gather by chance, from replaying the reference to the monitor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")

LEAST_THRESHOLD = 1.5  # nats
_LEAST_PEAKS = 10
_PEAKS = 0.2  # of the blocks
_STEEPEST = 2.0
_DIGITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """How rarely unchanged windows reach how much evidence.

    Parameters
    ----------
    level
        Evidence, in nats, that one window in `windows` reaches.
    windows
        See `level`.
    steepness
        How much faster than e times the windows grow with a nat more; at least 1.
    """

    level: float
    windows: float
    steepness: float

    def threshold(self, windows: float) -> float:
        """Return the evidence that one in so many windows reaches; never above ln(windows)."""
        wanted = self.level + log(windows / self.windows) / self.steepness
        return min(max(wanted, LEAST_THRESHOLD), log(windows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What replaying the reference showed.

    Parameters
    ----------
    window_rows
        Rows of each replayed window; it holds for windows of that size alone.
    n_windows
        How many windows were replayed.
    data, error
        The evidence of the two detectors; None where one has no stream.
    """

    window_rows: int
    n_windows: int
    data: Tail | None
    error: Tail | None


def fitted_tail(runs: NDArray[np.float64], *, block: int) -> Tail | None:
    """Return the tail of the evidence that replayed runs gathered, (n_runs, n_windows) in nats.

    None where the runs show too little of it.

    Notes
    -----
    The largest fifth of the peaks over blocks of windows is taken as exponential beyond its
    start: far out, the probability that a sum of log factors of negative drift ever reaches x falls
    as exp(-t x), with t the positive root of E exp(t log factor) = 1 (Cramér and Lundberg), and t
    is at least 1 where the factors' mean is at most 1. The estimate of t is lowered by 1.3 of its
    standard errors and kept to 2 at most, because references differ in their luck, and thresholds
    are to err on the quiet side.
    """
    n_blocks = runs.shape[1] // block
    peaks = runs[:, : n_blocks * block].reshape(-1, block).max(axis=1)
    level = float(np.quantile(peaks, 1 - _PEAKS))
    above = peaks[peaks > level] - level
    if len(above) < _LEAST_PEAKS or not above.mean() > 0:
        return None
    steepness = max((1 - 1.3 / len(above) ** 0.5) / float(above.mean()), 1.0)
    share = len(above) / len(peaks)
    windows = block / -log(1 - share)
    return Tail(
        level=round(level, _DIGITS),
        windows=round(windows, _DIGITS),
        steepness=round(min(steepness, _STEEPEST), _DIGITS),
    )


def replayed_evidence(
    factors: Sequence[NDArray[np.float64]],
    weights: Sequence[NDArray[np.float64]],
    shares: Sequence[float],
    *,
    n_runs: int,
) -> NDArray[np.float64]:
    """Return the evidence of every window of some runs, (n_runs, n_windows) in nats.

    Parameters
    ----------
    factors
        For each stream the log of what each window multiplies the capital of each bet by,
        (n_runs * n_windows, n_bets), run by run.
    weights
        For each stream the shares of its bets, (n_bets,).
    shares
        The streams' shares in the evidence.
    """
    each = [np.exp(part).reshape(n_runs, -1, part.shape[1]) for part in factors]
    product = np.concatenate(each, axis=2)
    share = np.concatenate([w * s for w, s in zip(weights, shares, strict=True)])
    total = np.zeros((n_runs, product.shape[2]))
    evidence = np.empty(product.shape[:2])
    for window in range(product.shape[1]):
        total = (total + 1) * product[:, window]
        evidence[:, window] = np.log1p(total @ share)
    return evidence
