"""Notices change in a stream of windows, with a bound on false alarms over all columns together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.monitor.bank import Bank, Windows
from loopwright.monitor.bet import bet_table
from loopwright.monitor.evidence import DetectorState, Episode, StreamEvidence, stream_weights
from loopwright.monitor.reference import Reference, Role, StreamReference

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")

DATA_ROLES: tuple[Role, ...] = ("input", "joint", "prediction")
ERROR_ROLES: tuple[Role, ...] = ("error",)
_LEAST_WINDOWS = 20.0


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
    bar: float | None = None,
    tolerance: float | None = None,
) -> DetectorState:
    """Return a detector that has seen nothing yet, for the streams of some roles."""
    return DetectorState(
        threshold=threshold,
        bar=threshold if bar is None else bar,
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
    """Return the state after one more window; see `steps`.

    Parameters
    ----------
    window_counts
        The cells of each stream by its key, (n_cells,): `bin_counts`, stratum by stratum for a
        stream with a season. A stream that is left out is not judged.
    at
        When the window began, for "since when".
    """
    windows = {
        stream.key: Windows.of(
            stream, np.asarray(window_counts[stream.key])[None, :], state.tolerance
        )
        for stream in reference.streams
        if stream.key in window_counts
    }
    return steps(state, reference, windows, at=[at])[0]


def steps(
    state: DetectorState,
    reference: Reference,
    windows: Mapping[str, Windows],
    *,
    at: Sequence[datetime | None],
) -> tuple[DetectorState, list[DetectorState]]:
    """Return the state after some windows, and the states in which an alarm was raised.

    Parameters
    ----------
    windows
        What they say of each stream, by its key. A stream that is left out is not judged.
    at
        When each window began, for "since when".

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
    bank = Bank.of(state, reference, windows)
    raised: list[DetectorState] = []
    for number in range(len(at)):
        bank.move(number)
        if state.episode is None and bank.evidence < state.threshold:
            continue
        if state.episode is not None and bank.evidence >= state.threshold / 2:
            continue
        state = bank.state(state, number + 1, at)
        if state.episode is not None:
            state = acknowledged(state, reference)
        else:
            state = _raised(state, reference, at=at[number])
            raised.append(state)
        bank = bank.resumed(state, number + 1)
    return bank.state(state, len(at), at), raised


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
    weights = stream_weights(state, reference)
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


def _raised(state: DetectorState, reference: Reference, *, at: datetime | None) -> DetectorState:
    leader = next(iter(contributions(state, reference)))
    strong = [
        key
        for key, held in sorted(state.streams.items(), key=lambda item: -item[1].evidence)
        if held.evidence >= state.bar and key != leader
    ]
    episode = Episode(
        number=state.n_episodes + 1,
        window=state.n_windows - 1,
        at=at,
        leader=leader,
        streams=(leader, *strong),
    )
    return replace(state, episode=episode, n_episodes=episode.number)


def _at_rest(stream: StreamReference, tolerance: float | None) -> StreamEvidence:
    n = len(bet_table(stream, tolerance).names)
    return StreamEvidence(growth=(0.0,) * n, counts=(0,) * stream.n_bins)
