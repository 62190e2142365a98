"""What a detector remembers between windows: evidence for a change, and the open episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from loopwright.monitor.record import from_record, to_record
from loopwright.monitor.reference import Reference, Role, StreamReference

STATE_FORMAT = 2
_SHARE_OF_ALL = 0.5
_ROLE_WEIGHTS: dict[Role, float] = {
    "input": 1.0,
    "joint": 1.0,
    "prediction": 3.0,
    "error": 1.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvidence:
    """What is remembered of one stream.

    Parameters
    ----------
    growth
        log(1 + R) of every bet at every stake, R being its Shiryaev-Roberts statistic.
    evidence
        log(1 + the mean of R over bets), in nats; near 0 to 2 while nothing changes.
    since_at
        When the present evidence began to gather: the likely time of a change.
    counts
        Live rows per bin since then.
    strata_rows
        For a stream with a season: how many of these rows fell in each stratum.
    """

    growth: tuple[float, ...]
    evidence: float = 0.0
    since_at: datetime | None = None
    counts: tuple[int, ...]
    strata_rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """A change from its alarm until it has gone or is acknowledged; it is told once.

    Parameters
    ----------
    number
        1 for the first episode of this detector.
    window, at
        The window that raised the alarm, and the time of its first row.
    leader
        The stream that contributed most.
    streams
        All streams with much evidence of their own, the leader first.
    """

    number: int
    window: int
    at: datetime | None
    leader: str
    streams: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorState:
    """Everything a detector remembers between windows; constant in size.

    Parameters
    ----------
    threshold
        Nats of evidence that raise an alarm: at most the log of the windows per false alarm.
    bar
        Nats of evidence after which a stream alone counts as drifted: that log itself.
    tolerance
        The effect that is not worth an alarm, for all streams; None: each stream's own.
    evidence
        log(1 + the weighted mean of all R), in nats.
    n_windows, n_episodes
        Windows seen and alarms raised so far.
    episode
        The open episode, or None.
    """

    threshold: float
    bar: float
    tolerance: float | None = None
    streams: dict[str, StreamEvidence]
    evidence: float = 0.0
    n_windows: int = 0
    n_episodes: int = 0
    episode: Episode | None = None
    format: int = STATE_FORMAT

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON types."""
        return to_record(self)

    @classmethod
    def from_json(cls, record: Any) -> DetectorState:
        """Return the state that `to_json` wrote; a damaged one is an `InvalidInputError`."""
        return from_record(cls, record, format_=STATE_FORMAT)


def stream_weights(state: DetectorState, reference: Reference) -> dict[str, float]:
    """Return the share of each of the detector's streams in the evidence; they sum to 1."""
    return stream_shares([each for each in reference.streams if each.key in state.streams])


def stream_shares(streams: Sequence[StreamReference]) -> dict[str, float]:
    """Return the share of each of some streams in the evidence; segments have half of it in all."""
    whole = sum(_ROLE_WEIGHTS[each.role] for each in streams if not each.segment)
    parts = sum(_ROLE_WEIGHTS[each.role] for each in streams if each.segment)
    for_all = 1.0 if not parts else _SHARE_OF_ALL
    return {
        each.key: _ROLE_WEIGHTS[each.role]
        * ((1 - for_all) / parts if each.segment else for_all / whole)
        for each in streams
    }
