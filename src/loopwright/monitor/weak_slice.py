"""Live rows that the model answers worse than the others: found in older rows, tested on newer ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.segment import Segment, worse_segments

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
else:
    np = LazyModule("numpy")

LEAST_ROWS = 200
_FEWEST_IN_SLICE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class WeakSlice:
    """Rows with more loss than the others, beyond doubt on rows they were not found in.

    Parameters
    ----------
    condition
        Which rows, in words.
    n_rows, share
        Rows in it among those it was tested on, and their share.
    loss, elsewhere
        Mean loss in it and outside, on those rows.
    p_value
        Corrected for all slices that were tested (Holm).
    """

    condition: str
    n_rows: int
    share: float
    loss: float
    elsewhere: float
    p_value: float


def weak_slices(
    frame: pl.DataFrame, loss: Numbers, *, alpha: float = 0.05, seed: int = 0
) -> tuple[WeakSlice, ...]:
    """Return the slices of live rows that are answered worse, what costs most first.

    Parameters
    ----------
    frame
        Raw inputs of labelled live rows in the order of time.
    loss
        What each answer cost, (n_rows,).
    alpha
        Chance that any slice is named although none is worse.

    Notes
    -----
    Slices of one or two conditions are looked for in the older half of the rows (`worse_segments`)
    and tested on the newer half by Welch's one-sided test, corrected by Holm's procedure (Scand. J.
    Statistics 6, 1979). A search over the rows that also judge would name the luckiest slice.
    """
    n = frame.height
    if n < LEAST_ROWS or len(loss) != n:
        return ()
    half = n // 2
    found, _ = worse_segments(frame[:half], loss[:half], seed=seed)
    newer, newer_loss = frame[half:], loss[half:]
    tested = [
        (segment, mask, _p_value(newer_loss, mask))
        for segment in found
        if (mask := segment.holds(newer)).sum() >= _FEWEST_IN_SLICE
        and (~mask).sum() >= _FEWEST_IN_SLICE
    ]
    corrected = holm([p for _, _, p in tested])
    kept = [
        _slice(segment, mask, newer_loss, p)
        for (segment, mask, _), p in zip(tested, corrected, strict=True)
        if p <= alpha
    ]
    return tuple(sorted(kept, key=lambda each: -each.n_rows * (each.loss - each.elsewhere)))


def holm(p_values: list[float]) -> list[float]:
    """Return p-values corrected for their number, in the same order.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p_values)
    greatest = 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        greatest = max(greatest, min(1.0, (len(p_values) - rank) * p_values[at]))
        corrected[at] = greatest
    return corrected


def _p_value(loss: Numbers, mask: NDArray[np.bool_]) -> float:
    from scipy.special import stdtr

    inside, outside = loss[mask], loss[~mask]
    errors = [each.var(ddof=1) / len(each) for each in (inside, outside)]
    spread = float(np.sqrt(sum(errors)))
    if spread <= 0:
        return float(inside.mean() <= outside.mean())
    t = float(inside.mean() - outside.mean()) / spread
    freedom = sum(errors) ** 2 / sum(
        e**2 / (len(each) - 1) for e, each in zip(errors, (inside, outside), strict=True)
    )
    return float(stdtr(freedom, -t))


def _slice(segment: Segment, mask: NDArray[np.bool_], loss: Numbers, p_value: float) -> WeakSlice:
    return WeakSlice(
        condition=segment.text,
        n_rows=int(mask.sum()),
        share=float(mask.mean()),
        loss=float(loss[mask].mean()),
        elsewhere=float(loss[~mask].mean()),
        p_value=p_value,
    )
