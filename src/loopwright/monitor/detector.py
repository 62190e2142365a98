"""Notices change in a stream of windows, with a bound on false alarms over all columns together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.monitor.bet import BetTable, bet_table
from loopwright.monitor.record import from_record, to_record
from loopwright.monitor.reference import Reference, Role, StreamReference

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")

DATA_ROLES: tuple[Role, ...] = ("input", "prediction")
ERROR_ROLES: tuple[Role, ...] = ("error",)

_ROLE_WEIGHTS: dict[Role, float] = {"input": 1.0, "prediction": 3.0, "error": 1.0}
_REST = 2.0  # nats; a stream with less evidence has no beginning of a change to remember
_HEADROOM = 2.0  # nats above what alarms alone; more would only delay the end of an episode
_LEAST_WINDOWS = 20.0
_DECIMALS = 6


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
    """

    growth: tuple[float, ...]
    evidence: float = 0.0
    since_at: datetime | None = None
    counts: tuple[int, ...]


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
        Nats of evidence that raise an alarm: the log of the windows per false alarm.
    tolerance
        The effect that is not worth an alarm; see `bet_table`.
    evidence
        log(1 + the weighted mean of all R), in nats.
    n_windows, n_episodes
        Windows seen and alarms raised so far.
    episode
        The open episode, or None.
    """

    threshold: float
    tolerance: float
    streams: dict[str, StreamEvidence]
    evidence: float = 0.0
    n_windows: int = 0
    n_episodes: int = 0
    episode: Episode | None = None
    format: int = 1

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON types."""
        return to_record(self)

    @classmethod
    def from_json(cls, record: Any) -> DetectorState:
        """Return the state that `to_json` wrote; a damaged one is an `InvalidInputError`."""
        return from_record(cls, record)


def alarm_threshold(*, false_alarms_per_year: float, windows_per_year: float) -> float:
    """Return the evidence, in nats, that makes an alarm: ln(windows per false alarm), at least ln 20.

    Raises
    ------
    InvalidInputError
        If a number is not above 0.
    """
    for name, value in (
        ("false_alarms_per_year", false_alarms_per_year),
        ("windows_per_year", windows_per_year),
    ):
        if not value > 0:
            raise InvalidInputError(
                f"{name} is {value!r}.", hint="Give a number above 0.", field=name, value=value
            )
    return float(np.log(max(windows_per_year / false_alarms_per_year, _LEAST_WINDOWS)))


def start_detector(
    reference: Reference,
    *,
    roles: Sequence[Role] = DATA_ROLES,
    threshold: float,
    tolerance: float = 0.02,
) -> DetectorState:
    """Return a detector that has seen nothing yet, for the streams of some roles."""
    return DetectorState(
        threshold=threshold,
        tolerance=tolerance,
        streams={
            stream.key: _at_rest(stream, tolerance)
            for stream in reference.streams
            if stream.role in roles
        },
    )


def step(
    state: DetectorState,
    reference: Reference,
    window_counts: Mapping[str, NDArray[np.int64] | Sequence[int]],
    *,
    at: datetime | None = None,
) -> DetectorState:
    """Return the state after one more window.

    Parameters
    ----------
    window_counts
        `bin_counts` of each stream by its key. A stream that is left out is not judged.
    at
        When the window began, for "since when".

    Notes
    -----
    Every bet k at every stake keeps R_k <- (R_k + 1) * e_k, the Shiryaev-Roberts e-detector of
    Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential change
    detection" (arXiv 2203.03532), where e_k is the product of the bet's factors over the window's
    rows. While nothing has changed, the mean of R_k grows by at most 1 a window, and so does any
    weighted mean M of them, however the columns depend on each other. By optional stopping the
    mean time until M >= A is then at least A windows: one false alarm in A windows for all columns
    together. After an episode every R starts from nought again, so the bound holds anew.
    """
    weights = _stream_weights(state, reference)
    streams = dict(state.streams)
    for stream in reference.streams:
        if stream.key in streams and stream.key in window_counts:
            counts = np.asarray(window_counts[stream.key], dtype=np.int64)
            cap = state.threshold + _HEADROOM - float(np.log(weights[stream.key]))
            streams[stream.key] = _next_evidence(
                streams[stream.key],
                table=bet_table(stream, state.tolerance),
                counts=counts,
                cap=cap,
                at=at,
            )
    mean = sum(weights[key] * float(np.expm1(held.evidence)) for key, held in streams.items())
    moved = replace(
        state,
        streams=streams,
        evidence=round(float(np.log1p(mean)), _DECIMALS),
        n_windows=state.n_windows + 1,
    )
    return _told(moved, reference, alarmed=mean >= np.exp(state.threshold), at=at)


def acknowledged(state: DetectorState, reference: Reference) -> DetectorState:
    """Return the state with its episode closed and all evidence back at nought."""
    kinds = {stream.key: stream for stream in reference.streams}
    rested = {
        key: replace(held, growth=_at_rest(kinds[key], state.tolerance).growth, evidence=0.0)
        for key, held in state.streams.items()
    }
    return replace(state, streams=rested, evidence=0.0, episode=None)


def contributions(state: DetectorState, reference: Reference) -> dict[str, float]:
    """Return the share of each stream in the evidence, largest first; they sum to 1 or are all 0."""
    weights = _stream_weights(state, reference)
    parts = {
        key: weights[key] * float(np.expm1(held.evidence)) for key, held in state.streams.items()
    }
    total = sum(parts.values()) or 1.0
    return dict(sorted(((key, part / total) for key, part in parts.items()), key=lambda x: -x[1]))


def strongest_bet(state: DetectorState, stream: StreamReference) -> str:
    """Return the name of the bet with the most evidence on a stream; empty if it has no bets."""
    names = bet_table(stream, state.tolerance).names
    growth = state.streams[stream.key].growth
    return names[int(np.argmax(growth))] if names else ""


def _next_evidence(
    held: StreamEvidence,
    *,
    table: BetTable,
    counts: NDArray[np.int64],
    cap: float,
    at: datetime | None,
) -> StreamEvidence:
    goes_on = held.evidence > _REST
    growth = np.array(held.growth)
    mean = 0.0
    if len(growth):
        # log(1 + R) after R <- (R + 1) * e; rounded so that a stored state is the state
        growth = np.logaddexp(0.0, growth + table.log_factors @ counts)
        growth = np.minimum(growth, cap - np.log(table.weights)).round(_DECIMALS)
        mean = float(table.weights @ np.expm1(growth))
    return StreamEvidence(
        growth=tuple(growth.tolist()),
        evidence=round(float(np.log1p(mean)), _DECIMALS),
        since_at=held.since_at if goes_on else at,
        counts=tuple((counts + np.array(held.counts) if goes_on else counts).tolist()),
    )


def _told(
    state: DetectorState, reference: Reference, *, alarmed: bool, at: datetime | None
) -> DetectorState:
    if state.episode is not None:
        over = state.evidence < state.threshold / 2
        return acknowledged(state, reference) if over else state
    if not alarmed:
        return state
    leader = next(iter(contributions(state, reference)))
    strong = [
        key
        for key, held in sorted(state.streams.items(), key=lambda item: -item[1].evidence)
        if held.evidence >= state.threshold and key != leader
    ]
    episode = Episode(
        number=state.n_episodes + 1,
        window=state.n_windows - 1,
        at=at,
        leader=leader,
        streams=(leader, *strong),
    )
    return replace(state, episode=episode, n_episodes=episode.number)


def _at_rest(stream: StreamReference, tolerance: float) -> StreamEvidence:
    n = len(bet_table(stream, tolerance).names)
    return StreamEvidence(growth=(0.0,) * n, counts=(0,) * stream.n_bins)


def _stream_weights(state: DetectorState, reference: Reference) -> dict[str, float]:
    weights = {
        stream.key: _ROLE_WEIGHTS[stream.role]
        for stream in reference.streams
        if stream.key in state.streams
    }
    total = sum(weights.values())
    return {key: weight / total for key, weight in weights.items()}
