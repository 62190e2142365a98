"""What moved, in a sentence that needs no statistics: how much, since when, for whom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

from loopwright.monitor.effect import Effect
from loopwright.monitor.reference import StreamReference

_MOVED = {
    "up": ("is higher", "are higher"),
    "down": ("is lower", "are lower"),
    "wider": ("varies more", "vary more"),
    "narrower": ("varies less", "vary less"),
    "missing": ("is missing more often", "are missing more often"),
    "mean up": ("is larger", "are larger"),
}
_HARDLY = 2.0


def told_plainly(
    stream: StreamReference,
    counts: Sequence[int],
    effect: Effect,
    *,
    bet: str,
    since: datetime | None,
) -> str:
    """Return what moved in one sentence.

    Parameters
    ----------
    counts
        Live rows in each bin, (n_bins,).
    bet
        The bet that gained most; see `bet_table`.
    """
    when = f" since {since:%Y-%m-%d %H:%M}" if since is not None else ""
    whom = f" where {stream.segment}" if stream.segment else ""
    return f"{_moved(stream, effect, bet)}{whom}{when}{_how_much(stream, counts, effect, bet)}."


def told_predictions(effect: Effect | None) -> str:
    """Return what became of the predictions meanwhile; nothing where that is not known."""
    if effect is None:
        return ""
    if effect.floor_ratio < _HARDLY:
        return "Predictions have hardly moved."
    return f"Predictions moved, too{_means(effect)}."


def middle(stream: StreamReference, counts: Sequence[int]) -> float | None:
    """Return the median that a histogram shows, even within a bin; None where there is none."""
    inside = list(counts[:-1])
    half = sum(inside) / 2
    if stream.kind != "number" or not stream.edges or not half:
        return None
    seen = 0.0
    for number, count in enumerate(inside):
        if seen + count >= half and count:
            low = stream.edges[max(number - 1, 0)]
            high = stream.edges[min(number, len(stream.edges) - 1)]
            value = low + (high - low) * (half - seen) / count
            # a bin holds what is above its lower edge and up to its upper: whole numbers stay whole
            return float(math.ceil(value)) if all(e == int(e) for e in stream.edges) else value
        seen += count
    return None


def _moved(stream: StreamReference, effect: Effect, bet: str) -> str:
    if stream.role == "error":
        return _moved_errors(effect, bet)
    if stream.role == "joint":
        return f"Columns no longer go together as they did in training ({stream.name})"
    if not stream.is_ordered and bet not in _MOVED:
        whose = "Predictions have" if stream.role == "prediction" else f"{stream.name} has"
        return f"{whose} another mix of values than in training"
    if stream.role == "prediction":
        return f"Predictions {_MOVED[bet][1] if bet in _MOVED else 'have changed'}"
    return f"{stream.name} {_MOVED[bet][0] if bet in _MOVED else 'has changed'}"


def _moved_errors(effect: Effect, bet: str) -> str:
    if not _is_rank_only(effect, bet):
        larger = {"up": "are larger", "down": "are smaller"}
        return f"Errors {larger.get(bet) or _MOVED[bet][1]}"
    return "Typical errors are larger" if effect.size > 0 else "Errors have changed"


def _how_much(stream: StreamReference, counts: Sequence[int], effect: Effect, bet: str) -> str:
    if bet == "missing" or effect.missing_share > effect.reference_missing_share + 0.05:
        return (
            f": {effect.missing_share:.1%} of {effect.n_rows:,} rows, "
            f"{effect.reference_missing_share:.1%} in training"
        )
    if stream.role == "error":
        if not _is_rank_only(effect, bet):
            return _means(effect, times=True)
        if effect.size > 0:
            return ", though not on average"
        return f": {effect.novel_share:.1%} are larger than any in training"
    if effect.measure == "total_variation":
        most = f", most {effect.largest_move!r}" if effect.largest_move else ""
        return f": {effect.distance:.0%} of {effect.n_rows:,} rows differ{most}"
    if effect.mean is not None:
        return _means(effect)
    now, then = middle(stream, counts), middle(stream, stream.counts)
    if now is None or then is None or bet not in ("up", "down"):
        return f" ({effect.n_rows:,} rows)"
    return f": typically {now:.4g}, {then:.4g} in training"


def _is_rank_only(effect: Effect, bet: str) -> bool:
    """Return whether errors moved although their mean did not grow."""
    grew = (effect.mean or 0.0) > (effect.reference_mean or 0.0)
    return bet not in _MOVED or (bet in ("up", "mean up") and not grew)


def _means(effect: Effect, *, times: bool = False) -> str:
    if effect.mean is None or effect.reference_mean is None:
        return ""
    beside = ""
    if times and effect.reference_mean > 0 and effect.mean > effect.reference_mean:
        beside = f", {effect.mean / effect.reference_mean:.1f} times as much"
    return f": {effect.mean:.4g} on average, {effect.reference_mean:.4g} in training{beside}"
