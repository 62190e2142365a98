"""How ordered values spread: their runs, moments, quantiles and a histogram, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")

N_BINS = 30
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_FAR_OUT = 3.0
# half a megabyte of numbers: what is made of a block stays in the processor's cache
_BLOCK = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts between consecutive edges; the last bin holds its upper edge too."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberSummary:
    """The spread of the finite values of a column; sd has n - 1 below it, skew is m3 / m2^1.5.

    `n_far_out` counts values more than three interquartile ranges outside the quartiles (Tukey,
    Exploratory Data Analysis, 1977). None stands for what is not defined or beyond a float.
    """

    mean: float | None
    sd: float | None
    minimum: float
    maximum: float
    quantiles: dict[str, float]
    skew: float | None
    n_zeros: int
    n_negative: int
    n_infinite: int
    n_far_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """How many distinct values there are, and the most frequent with how often each occurs.

    Of values that occur equally often the smaller comes first.
    """

    n_distinct: int
    top: tuple[tuple[Any, int], ...]


def runs(ordered: NDArray[Any], n_top: int) -> Runs:
    """Return the distinct values of sorted ones, shape (n,), and the `n_top` most frequent.

    Examples
    --------
    >>> import numpy as np
    >>> runs(np.array([1, 2, 2, 3, 3, 9]), 2)
    Runs(n_distinct=4, top=((2, 2), (3, 2)))
    """
    n_distinct = 0
    best: list[tuple[Any, int]] = []
    for block in _whole_runs(ordered):
        starts = np.flatnonzero(block[1:] != block[:-1])
        starts += 1
        starts = np.concatenate(([0], starts))
        lengths = np.diff(starts, append=block.size)
        n_distinct += int(lengths.size)
        if len(best) == n_top and int(lengths.max()) <= best[-1][1]:
            continue
        chosen = _longest(lengths, n_top).tolist()
        best += [(block[starts[place]].item(), int(lengths[place])) for place in chosen]
        # stable: of equals the one found first, which is the smaller
        best = sorted(best, key=lambda found: -found[1])[:n_top]
    return Runs(n_distinct=n_distinct, top=tuple(best))


def _whole_runs(ordered: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Give sorted values in blocks that end where a value ends."""
    first = 0
    while first < ordered.size:
        last = min(first + _BLOCK, ordered.size)
        if last < ordered.size:
            last += int(np.searchsorted(ordered[last:], ordered[last - 1], side="right"))
        yield ordered[first:last]
        first = last


def _longest(lengths: NDArray[np.int64], n_top: int) -> NDArray[np.int64]:
    """Return the places of the greatest lengths, the first of equals first."""
    if lengths.size <= n_top:
        return np.argsort(-lengths, kind="stable")
    bound = np.partition(lengths, -n_top)[-n_top]
    places = np.flatnonzero(lengths > bound)
    equal = np.flatnonzero(lengths == bound)[: n_top - places.size]
    chosen = np.concatenate((places, equal))
    return chosen[np.lexsort((chosen, -lengths[chosen]))]


def number_summary(ordered: NDArray[np.float64], n_infinite: int) -> NumberSummary:
    """Summarise sorted finite values, at least one; `n_infinite` were left out."""
    mean, m2, m3 = _moments(ordered)
    with np.errstate(all="ignore"):
        # below this the spread is rounding noise of the mean
        spread = m2 > (np.finfo(np.float64).eps * abs(mean)) ** 2
        # numpy's power overflows to infinity where Python's raises
        scale = float(np.float64(m2) ** 1.5)
        skew = m3 / scale if spread and scale > 0 else None
        n = ordered.size
        sd = float(np.sqrt(m2 * n / (n - 1))) if n > 1 else None
    quantiles = [quantile(ordered, q) for q in _QUANTILES]
    n_negative = int(np.searchsorted(ordered, 0, side="left"))
    return NumberSummary(
        mean=_finite(mean),
        sd=_finite(sd),
        minimum=float(ordered[0]),
        maximum=float(ordered[-1]),
        quantiles={f"{q:g}": value for q, value in zip(_QUANTILES, quantiles, strict=True)},
        skew=_finite(skew),
        n_zeros=int(np.searchsorted(ordered, 0, side="right")) - n_negative,
        n_negative=n_negative,
        n_infinite=n_infinite,
        n_far_out=_n_far_out(ordered, quantiles[2], quantiles[4]),
    )


def _moments(ordered: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the mean and the second and third central moments."""
    with np.errstate(all="ignore"):
        mean, m2, m3 = float(ordered.mean()), 0.0, 0.0
        for first in range(0, ordered.size, _BLOCK):
            centred = ordered[first : first + _BLOCK] - mean
            squares = centred * centred
            m2 += float(squares.sum())
            squares *= centred
            m3 += float(squares.sum())
    return mean, m2 / ordered.size, m3 / ordered.size


def _n_far_out(ordered: NDArray[np.float64], lower: float, upper: float) -> int:
    reach = _FAR_OUT * (upper - lower)
    if not 0 < reach < np.inf:
        return 0
    n_below = int(np.searchsorted(ordered, lower - reach, side="left"))
    return n_below + ordered.size - int(np.searchsorted(ordered, upper + reach, side="right"))


def _finite(value: float | None) -> float | None:
    return value if value is not None and abs(value) < float("inf") else None


def quantile(ordered: NDArray[np.float64], q: float) -> float:
    """Return the q-quantile of sorted values, linear between the two nearest (Hyndman and Fan, 7)."""
    place = q * (ordered.size - 1)
    low = int(place)
    high = min(low + 1, ordered.size - 1)
    share = place - low
    return float(ordered[low]) * (1 - share) + float(ordered[high]) * share


def histogram(ordered: NDArray[Any], n_bins: int = N_BINS) -> Histogram | None:
    """Return counts of sorted finite values in bins of equal width; None beyond what a float spans."""
    low, high = float(ordered[0]), float(ordered[-1])
    if low == high:
        low, high = low - 0.5, high + 0.5
    if not (high - low < float("inf") and low < high):
        return None
    with np.errstate(over="ignore"):
        edges = np.linspace(low, high, n_bins + 1)
    if not np.isfinite(edges).all():
        return None
    inner = np.searchsorted(ordered, edges[1:-1], side="left")
    counts = np.diff(inner, prepend=0, append=ordered.size)
    return Histogram(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))


def are_whole(ordered: NDArray[np.float64]) -> bool:
    """Tell whether all values are whole numbers, shape (n,); it stops at the first that is not."""
    first, size = 0, 256
    while first < ordered.size:
        block = ordered[first : first + size]
        if not bool(np.all(np.floor(block) == block)):
            return False
        first, size = first + size, _BLOCK
    return True


def largest_gap(ordered: NDArray[np.int64]) -> int:
    """Return the largest difference between neighbours of sorted whole numbers; 0 for fewer than two."""
    gap = 0
    for first in range(0, ordered.size - 1, _BLOCK):
        gap = max(gap, int(np.diff(ordered[first : first + _BLOCK + 1]).max()))
    return gap
