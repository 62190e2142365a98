"""The evidence of all streams in one array, moved on window by window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.monitor.bet import bet_table
from loopwright.monitor.evidence import DetectorState, StreamEvidence, stream_weights
from loopwright.monitor.product import product
from loopwright.monitor.reference import Reference, StreamReference

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")

_REST = 2.0  # nats; a stream with less evidence has no beginning of a change to remember
_HEADROOM = 2.0  # nats above what alarms alone; more would only delay the end of an episode
_DECIMALS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """What some windows say of one stream.

    Parameters
    ----------
    tally
        (n_windows, n_bins + n_strata): rows in each bin, then in each stratum of the season, if the
        stream has one.
    gains
        (n_windows, n_bets): the log of what each window multiplies the capital of each bet by.
    """

    tally: NDArray[np.int64]
    gains: NDArray[np.float64]

    @classmethod
    def of(
        cls, stream: StreamReference, cells: NDArray[np.int64], tolerance: float | None
    ) -> Windows:
        """Return the windows whose rows fell into the stream's cells, (n_windows, n_cells)."""
        tally = cells
        if stream.strata:
            table = cells.reshape(len(cells), -1, stream.n_bins)
            tally = np.concatenate([table.sum(axis=1), table.sum(axis=2)], axis=1)
        # as floats, which are exact here, because products of integers take no fast path
        gains = product(cells.astype(np.float64), bet_table(stream, tolerance).log_factors.T)
        return cls(tally=tally, gains=gains)


class Bank:
    """The growth of every bet on every judged stream, and where each stream's change began.

    Parameters
    ----------
    state
        The detector's state before the first window.
    streams
        The streams that are judged.
    windows
        What the windows say of each of them.
    weights
        The share of each of all streams in the evidence.
    gains
        (n_windows, n_bets): those of all streams.
    first
        The number of the window that comes next.
    """

    def __init__(
        self,
        state: DetectorState,
        streams: Sequence[StreamReference],
        windows: Mapping[str, Windows],
        weights: Mapping[str, float],
        gains: NDArray[np.float64],
        *,
        first: int = 0,
    ) -> None:
        self._before, self._streams, self._windows = state, streams, windows
        self._weights, self._gains, self._first = weights, gains, first
        held = [state.streams[stream.key] for stream in streams]
        sizes = np.array([len(each.growth) for each in held], dtype=np.int64)
        self._of = np.repeat(np.arange(len(held)), sizes)
        self._ends = np.cumsum(sizes)
        self._growth = np.array([value for each in held for value in each.growth])
        self._evidence = np.array([each.evidence for each in held])
        # the window in which the rows that each stream remembers begin; -1: before the first
        self._began = np.full(len(held), -1, dtype=np.int64)
        shares = np.array([weights[stream.key] for stream in streams])
        ceiling = np.maximum(state.threshold - np.log(shares), state.bar) + _HEADROOM
        self._inner = 1 / np.maximum(sizes, 1)
        self._ceiling = (ceiling - np.log(self._inner))[self._of]
        self._shares = shares
        self._rest = sum(
            weights[key] * float(np.expm1(each.evidence))
            for key, each in state.streams.items()
            if key not in windows
        )
        self.evidence = state.evidence

    @classmethod
    def of(
        cls,
        state: DetectorState,
        reference: Reference,
        windows: Mapping[str, Windows],
    ) -> Bank:
        """Return the bank of a state, with the windows it is to be moved on by."""
        streams = [s for s in reference.streams if s.key in state.streams and s.key in windows]
        parts = [windows[stream.key].gains for stream in streams]
        gains = np.concatenate(parts, axis=1) if parts else np.zeros((0, 0))
        return cls(state, streams, windows, stream_weights(state, reference), gains)

    def move(self, number: int) -> None:
        """Take in one window."""
        if not self._streams:
            self._settle()
            return
        resting = self._evidence <= _REST
        self._began[resting] = number
        # log(1 + R) after R <- (R + 1) * e; rounded so that a stored state is the state
        growth = np.logaddexp(0.0, self._growth + self._gains[number])
        self._growth = np.minimum(growth, self._ceiling).round(_DECIMALS)
        totals = np.bincount(self._of, weights=np.expm1(self._growth), minlength=len(self._streams))
        self._evidence = np.log1p(totals * self._inner).round(_DECIMALS)
        self._settle()

    def state(
        self, state: DetectorState, until: int, at: Sequence[datetime | None]
    ) -> DetectorState:
        """Return the state after the windows before number `until`."""
        streams = dict(self._before.streams)
        for place, stream in enumerate(self._streams):
            streams[stream.key] = self._held(place, stream, until, at)
        return replace(
            state,
            streams=streams,
            evidence=self.evidence,
            n_windows=self._before.n_windows + until - self._first,
        )

    def resumed(self, state: DetectorState, first: int) -> Bank:
        """Return a bank that goes on from a state with the windows that are left."""
        return Bank(state, self._streams, self._windows, self._weights, self._gains, first=first)

    def _settle(self) -> None:
        mean = float(self._shares @ np.expm1(self._evidence)) + self._rest
        self.evidence = round(float(np.log1p(mean)), _DECIMALS)

    def _held(
        self, place: int, stream: StreamReference, until: int, at: Sequence[datetime | None]
    ) -> StreamEvidence:
        before, began = self._before.streams[stream.key], int(self._began[place])
        if until == self._first:
            return before
        goes_on = began < 0
        tally = self._windows[stream.key].tally
        tally = tally[self._first if goes_on else began : until].sum(axis=0)
        if goes_on:
            tally = tally + np.array((*before.counts, *before.strata_rows))
        counts, rows = tally[: stream.n_bins], tally[stream.n_bins :]
        end = int(self._ends[place])
        start = end - len(before.growth)
        return StreamEvidence(
            growth=tuple(self._growth[start:end].tolist()),
            evidence=float(self._evidence[place]),
            since_at=before.since_at if goes_on else at[began],
            counts=tuple(counts.tolist()),
            strata_rows=tuple(rows.tolist()),
        )
