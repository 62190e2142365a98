"""Bets against "nothing changed": what one window is worth as evidence, for each way to change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.monitor.effect import mid_ranks
from loopwright.monitor.reference import StreamReference

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")

_REFERENCE_SIGMAS = 3.0  # how far the finite reference may lie from the truth
_STAKES = (0.06, 0.18, 0.5)  # shifts to be found, in standard deviations of the bet
_LARGEST_STAKE = 0.9  # share of the capital a single row may cost
_LOSS_TOLERANCE = 0.1  # a mean loss up to 10 % above the reference is no harm


@dataclass(frozen=True, slots=True, kw_only=True)
class Bet:
    """One way a stream may change, as a gain for each bin.

    Parameters
    ----------
    name
        `up`, `down`, `wider`, `narrower`, `missing`, `mean up`, or a category with `up`/`down`.
    gains
        (n_bins,), mean 0 under the reference.
    allowance
        Mean gain that is not held against the stream: finite reference and tolerated effect.
    deviation
        Standard deviation of the gain under the reference.
    """

    name: str
    gains: NDArray[np.float64]
    allowance: float
    deviation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BetTable:
    """All bets on a stream at all stakes, ready for a window of counts.

    Parameters
    ----------
    names
        The bet of each row, (n_bets * n_stakes,).
    log_factors
        (n_bets * n_stakes, n_bins): the log of what one row in a bin multiplies the capital by.
    weights
        (n_bets * n_stakes,), summing to 1.
    """

    names: tuple[str, ...]
    log_factors: NDArray[np.float64]
    weights: NDArray[np.float64]


@lru_cache(maxsize=1024)
def bet_table(stream: StreamReference, tolerance: float) -> BetTable:
    """Return the bets on a stream.

    Parameters
    ----------
    tolerance
        The effect that is not worth an alarm, as the mean of a gain that spans -1 to 1; 0.02 is
        one point of P(live > reference) - 0.5, or one point of a share.

    Notes
    -----
    A gain g has mean 0 under the reference shares p. While the live mean of g is at most an
    allowance a, the factor 1 + stake * (g - a) has mean at most 1 whatever the live shares are, so
    that its product over rows is an e-process. With nothing changed, the live mean of g is off 0 by
    the error of the finite reference only, so a must be at least 3 sd(g) / sqrt(N_reference); for a
    single share the Wilson score bound serves instead, also when the share is nought. The
    tolerance is added in quadrature, because both are seldom needed in full: a plain sum makes a
    shift of KS 0.10 take five windows of 250 rows to find instead of four, with no fewer false
    alarms. The best stake against a shift of t standard deviations is near t / sd(g).
    """
    names, rows = [], []
    for bet in _bets(stream, tolerance):
        limit = _LARGEST_STAKE / (bet.allowance - bet.gains.min())
        for shift in _STAKES:
            stake = min(shift / bet.deviation, limit)
            names.append(bet.name)
            rows.append(np.log1p(stake * (bet.gains - bet.allowance)))
    weights = np.full(len(rows), 1 / max(len(rows), 1))
    log_factors = np.array(rows).reshape(len(rows), stream.n_bins)
    log_factors.flags.writeable = weights.flags.writeable = False
    return BetTable(names=tuple(names), log_factors=log_factors, weights=weights)


def _bets(stream: StreamReference, tolerance: float) -> Iterator[Bet]:
    counts = np.array(stream.counts, dtype=np.float64)
    if not counts[:-1].sum():
        return
    if stream.role == "error":
        yield from _loss_bets(stream, counts, tolerance)
        return
    # a date of a live row is later than those of the reference: that is the calendar, not drift
    if stream.is_ordered and stream.kind != "date":
        yield from _rank_bets(counts, tolerance)
    if not stream.is_ordered:
        for code, name in enumerate(stream.bin_names[:-1]):
            yield _share_bet(f"{name} up", code, counts, tolerance, sign=1)
            if counts[code]:
                yield _share_bet(f"{name} down", code, counts, tolerance, sign=-1)
    yield _share_bet("missing", stream.n_bins - 1, counts, tolerance, sign=1)


def _rank_bets(counts: NDArray[np.float64], tolerance: float) -> Iterator[Bet]:
    p = counts[:-1] / counts[:-1].sum()
    rank = 2 * mid_ranks(p) - 1
    spread = 2 * np.abs(rank)
    spread = spread - p @ spread
    for name, gains in (("up", rank), ("down", -rank), ("wider", spread), ("narrower", -spread)):
        if gains.any():
            yield _mean_bet(name, np.append(gains, 0.0), counts, tolerance)


def _loss_bets(
    stream: StreamReference, counts: NDArray[np.float64], tolerance: float
) -> Iterator[Bet]:
    p = counts[:-1] / counts[:-1].sum()
    yield _mean_bet("up", np.append(2 * mid_ranks(p) - 1, 0.0), counts, tolerance)
    losses = np.array(stream.means[:-1])
    mean = p @ losses
    scale = np.abs(losses - mean).max()
    if scale:
        gains = np.append((losses - mean) / scale, 0.0)
        yield _mean_bet("mean up", gains, counts, _LOSS_TOLERANCE * abs(mean) / scale)


def _mean_bet(
    name: str, gains: NDArray[np.float64], counts: NDArray[np.float64], tolerance: float
) -> Bet:
    n = counts.sum()
    deviation = float(np.sqrt(counts @ gains**2 / n)) or 1.0
    slack = _REFERENCE_SIGMAS * deviation / np.sqrt(n)
    return Bet(
        name=name, gains=gains, allowance=float(np.hypot(tolerance, slack)), deviation=deviation
    )


def _share_bet(
    name: str, code: int, counts: NDArray[np.float64], tolerance: float, *, sign: int
) -> Bet:
    n = counts.sum()
    p = counts[code] / n
    low, high = wilson_bounds(p, n, sigmas=_REFERENCE_SIGMAS)
    slack = (high - p) if sign > 0 else (p - low)
    gains = np.full(len(counts), -sign * p)
    gains[code] += sign
    allowance = float(np.hypot(tolerance / 2, slack))
    edge = min(max(p + sign * allowance, 1e-3), 0.5)  # the share at which the bet breaks even
    return Bet(
        name=name, gains=gains, allowance=allowance, deviation=float(np.sqrt(edge * (1 - edge)))
    )


def wilson_bounds(share: float, n: float, *, sigmas: float) -> tuple[float, float]:
    """Return lower and upper bounds of a true share seen as `share` of `n` rows (Wilson 1927)."""
    z2 = sigmas**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = sigmas / (1 + z2 / n) * float(np.sqrt(share * (1 - share) / n + z2 / (4 * n * n)))
    return max(centre - half, 0.0), min(centre + half, 1.0)
