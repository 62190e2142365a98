"""Bets against "nothing changed": what one window is worth as evidence, for each way to change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.monitor.effect import mid_ranks
from loopwright.monitor.reference import StreamReference

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]
else:
    np = LazyModule("numpy")

_REFERENCE_SIGMAS = 3.0  # how far the finite reference may lie from the truth
_STAKES = (0.06, 0.18, 0.5)  # shifts to be found, in standard deviations of the bet
_LARGEST_STAKE = 0.9  # share of the capital a single row may cost
_GRID = 2.0**30
_LOSS_TOLERANCE = 0.1  # a mean loss up to 10 % above the reference is no harm


@dataclass(frozen=True, slots=True, kw_only=True)
class Bet:
    """One way a stream may change, as a gain for each bin in each stratum of the season.

    Parameters
    ----------
    name
        `up`, `down`, `wider`, `narrower`, `missing`, `mean up`, or a category with `up`/`down`.
    gains
        (n_strata, n_bins), mean 0 under the reference of each stratum.
    allowance
        (n_strata,): mean gain that is not held against the stream: finite reference, tolerated
        effect and the usual swing from day to day.
    deviation
        (n_strata,): standard deviation of the gain under the reference.
    """

    name: str
    gains: Matrix
    allowance: Matrix
    deviation: Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class BetTable:
    """All bets on a stream at all stakes, ready for a window of counts.

    Parameters
    ----------
    names
        The bet of each row, (n_bets * n_stakes,).
    log_factors
        (n_bets * n_stakes, n_strata * n_bins): the log of what one row in a bin multiplies the
        capital by; stratum by stratum.
    weights
        (n_bets * n_stakes,), summing to 1.
    """

    names: tuple[str, ...]
    log_factors: Matrix
    weights: Matrix


@lru_cache(maxsize=1024)
def bet_table(stream: StreamReference, tolerance: float | None = None) -> BetTable:
    """Return the bets on a stream.

    Parameters
    ----------
    tolerance
        The effect that is not worth an alarm, as the mean of a gain that spans -1 to 1; 0.02 is
        one point of P(live > reference) - 0.5, or one point of a share. None: the stream's own.

    Notes
    -----
    A gain g has mean 0 under the reference shares p. While the live mean of g is at most an
    allowance a, the factor 1 + stake * (g - a) has mean at most 1 whatever the live shares are, so
    that its product over rows is an e-process; rows of different strata of the season multiply
    just so, each with the gains of its own stratum. With nothing changed, the live mean of g is
    off 0 by the error of the finite reference only, so a must be at least
    3 sd(g) / sqrt(N_reference); for a single share the Wilson score bound serves instead, also
    when the share is nought. The tolerance and the usual swing are added in quadrature, because
    all are seldom needed in full: a plain sum makes a shift of KS 0.10 take five windows of 250
    rows to find instead of four, with no fewer false alarms. The best stake against a shift of t
    standard deviations is near t / sd(g).
    """
    tolerance = stream.tolerance if tolerance is None else tolerance
    names, rows = [], []
    for bet in _bets(stream, tolerance):
        limit = _LARGEST_STAKE / (bet.allowance - bet.gains.min(axis=1))
        for shift in _STAKES:
            stake = np.minimum(shift / bet.deviation, limit)
            names.append(bet.name)
            rows.append(np.log1p(stake[:, None] * (bet.gains - bet.allowance[:, None])).ravel())
    weights = np.full(len(rows), 1 / max(len(rows), 1))
    n_cells = stream.n_bins * max(len(stream.strata), 1)
    # on a grid of 2^-30 sums are exact, so that rows may be added in any order and in any parts
    log_factors = np.round(np.array(rows).reshape(len(rows), n_cells) * _GRID) / _GRID
    log_factors.flags.writeable = weights.flags.writeable = False
    return BetTable(names=tuple(names), log_factors=log_factors, weights=weights)


def bets(stream: StreamReference) -> list[Bet]:
    """Return the bets on a stream without tolerance or swing."""
    return list(_bets(replace(stream, swing=()), 0.0))


def _bets(stream: StreamReference, tolerance: float) -> Iterator[Bet]:
    counts = np.array(stream.strata or (stream.counts,), dtype=np.float64)
    if not counts[:, :-1].sum():
        return
    found = _stream_bets(stream, counts, tolerance)
    if not stream.swing:
        yield from found
        return
    for bet, swing in zip(found, stream.swing, strict=True):
        yield replace(bet, allowance=np.hypot(bet.allowance, swing))


def _stream_bets(stream: StreamReference, counts: Matrix, tolerance: float) -> Iterator[Bet]:
    if stream.role == "error":
        yield from _loss_bets(stream, counts, tolerance)
        return
    # a date of a live row is later than those of the reference: that is the calendar, not drift
    if stream.is_ordered and stream.kind != "date":
        yield from _rank_bets(counts, tolerance)
    if not stream.is_ordered:
        for code, name in enumerate(stream.bin_names[:-1]):
            yield _share_bet(f"{name} up", code, counts, tolerance, sign=1)
            if stream.counts[code]:
                yield _share_bet(f"{name} down", code, counts, tolerance, sign=-1)
    yield _share_bet("missing", stream.n_bins - 1, counts, tolerance, sign=1)


def _rank_bets(counts: Matrix, tolerance: float) -> Iterator[Bet]:
    p = _present_shares(counts)
    rank = 2 * mid_ranks(p) - 1
    spread = 2 * np.abs(rank)
    spread = spread - (p * spread).sum(axis=1, keepdims=True)
    for name, gains in (("up", rank), ("down", -rank), ("wider", spread), ("narrower", -spread)):
        if gains.any():
            yield _mean_bet(name, _with_missing(gains), counts, tolerance)


def _loss_bets(stream: StreamReference, counts: Matrix, tolerance: float) -> Iterator[Bet]:
    p = _present_shares(counts)
    yield _mean_bet("up", _with_missing(2 * mid_ranks(p) - 1), counts, tolerance)
    losses = np.array(stream.means[:-1])
    mean = (p @ losses)[:, None]
    scale = float(np.abs(losses - mean).max())
    if scale:
        gains = _with_missing((losses - mean) / scale)
        yield _mean_bet("mean up", gains, counts, _LOSS_TOLERANCE * np.abs(mean[:, 0]) / scale)


def _present_shares(counts: Matrix) -> Matrix:
    shares: Matrix = counts[:, :-1] / np.maximum(counts[:, :-1].sum(axis=1, keepdims=True), 1)
    return shares


def _with_missing(gains: Matrix) -> Matrix:
    return np.concatenate([gains, np.zeros((len(gains), 1))], axis=1)


def _mean_bet(name: str, gains: Matrix, counts: Matrix, tolerance: float | Matrix) -> Bet:
    n = np.maximum(counts.sum(axis=1), 1)
    deviation = np.sqrt((counts * gains**2).sum(axis=1) / n)
    deviation = np.where(deviation > 0, deviation, 1.0)
    slack = _REFERENCE_SIGMAS * deviation / np.sqrt(n)
    return Bet(name=name, gains=gains, allowance=np.hypot(tolerance, slack), deviation=deviation)


def _share_bet(name: str, code: int, counts: Matrix, tolerance: float, *, sign: int) -> Bet:
    n = np.maximum(counts.sum(axis=1), 1)
    p = counts[:, code] / n
    low, high = _wilson(p, n, _REFERENCE_SIGMAS)
    slack = (high - p) if sign > 0 else (p - low)
    gains = np.repeat(-sign * p[:, None], counts.shape[1], axis=1)
    gains[:, code] += sign
    allowance = np.hypot(tolerance / 2, slack)
    edge = np.clip(p + sign * allowance, 1e-3, 0.5)  # the share at which the bet breaks even
    return Bet(name=name, gains=gains, allowance=allowance, deviation=np.sqrt(edge * (1 - edge)))


def wilson_bounds(share: float, n: float, *, sigmas: float) -> tuple[float, float]:
    """Return lower and upper bounds of a true share seen as `share` of `n` rows (Wilson 1927)."""
    low, high = _wilson(np.array([share]), np.array([float(n)]), sigmas)
    return float(low[0]), float(high[0])


def _wilson(share: Matrix, n: Matrix, sigmas: float) -> tuple[Matrix, Matrix]:
    z2 = sigmas**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = sigmas / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)
