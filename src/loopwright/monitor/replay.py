"""Unchanged windows drawn from the reference and replayed, to learn what evidence chance gathers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.monitor.bet import bet_table
from loopwright.monitor.calibration import Calibration, Tail, fitted_tail, replayed_evidence
from loopwright.monitor.evidence import stream_shares
from loopwright.monitor.product import product
from loopwright.monitor.reference import Reference, Role

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")

_DATA: tuple[Role, ...] = ("input", "joint", "prediction")
_ERROR: tuple[Role, ...] = ("error",)
_RUN_WINDOWS = 100
_BLOCK = 20
_MOST_RUNS, _LEAST_RUNS = 30, 10
_MOST_ROWS = 750_000  # drawn for each stream; more would take more than a second of CPU time
_MOST_FACTORS = 8_000_000


def calibrated(
    reference: Reference,
    codes: Mapping[str, NDArray[np.int64]],
    answer_codes: Mapping[str, NDArray[np.int64]],
    *,
    window_rows: int,
    seed: int,
) -> Calibration | None:
    """Return what evidence unchanged windows gather; None for windows too large to replay.

    Where means of windows are known to wander there is no tail: rows in random order gather less
    evidence than rows that depend on each other. Rows are drawn whole, so that columns depend on each other as they do. Each run draws from a
    resample of the reference of its own size, because the truth is as far from the reference as
    such a resample is.

    Parameters
    ----------
    codes, answer_codes
        The cell of every reference row in each stream of inputs and joint scores, and of every
        held-out row in those of predictions and errors; -1 where it is not in the segment.
    """
    tables = sum(len(bet_table(stream).names) for stream in reference.streams)
    per_run = _RUN_WINDOWS * max(window_rows * _MOST_FACTORS // _MOST_ROWS, tables)
    n_runs = min(_MOST_RUNS, _MOST_FACTORS // max(per_run, 1))
    if n_runs < _LEAST_RUNS:
        return None
    tails = [
        _tail(reference, roles, [codes, answer_codes], n_runs, window_rows, seed)
        for roles in (_DATA, _ERROR)
    ]
    return Calibration(
        window_rows=window_rows, n_windows=n_runs * _RUN_WINDOWS, data=tails[0], error=tails[1]
    )


def _tail(
    reference: Reference,
    roles: tuple[Role, ...],
    sources: list[Mapping[str, NDArray[np.int64]]],
    n_runs: int,
    window_rows: int,
    seed: int,
) -> Tail | None:
    streams = [s for s in reference.streams if s.role in roles]
    if any(max(stream.swing, default=0.0) > stream.tolerance for stream in streams):
        return None
    factors, weights, shares = [], [], []
    drawn: list[NDArray[np.int64] | None] = [None, None]
    share = stream_shares(streams)
    for stream in streams:
        table = bet_table(stream)
        place = next((i for i, codes in enumerate(sources) if stream.key in codes), None)
        if place is None or not table.names:
            continue
        cells = sources[place][stream.key]
        if drawn[place] is None:
            rng = np.random.default_rng([seed, place])
            drawn[place] = _drawn(len(cells), n_runs, window_rows, rng)
        counts = _window_counts(cells, drawn[place], stream.n_cells, window_rows)
        factors.append(product(counts, table.log_factors.T))
        weights.append(table.weights)
        shares.append(share[stream.key])
    if not factors:
        return None
    return fitted_tail(replayed_evidence(factors, weights, shares, n_runs=n_runs), block=_BLOCK)


def _drawn(
    n_rows: int, n_runs: int, window_rows: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Reference rows of every window, run by run, each run from its own resample."""
    n = _RUN_WINDOWS * window_rows
    runs = []
    for _ in range(n_runs):
        resample = rng.integers(0, n_rows, n_rows)
        runs.append(resample[rng.integers(0, n_rows, n)])
    return np.concatenate(runs)


def _window_counts(
    cells: NDArray[np.int64], drawn: NDArray[np.int64] | None, n_cells: int, window_rows: int
) -> NDArray[np.float64]:
    if drawn is None:
        raise AssertionError("rows were drawn before")
    n_windows = len(drawn) // window_rows
    start = np.repeat(np.arange(n_windows) * n_cells, window_rows)
    held = cells[drawn]
    if held.min() < 0:  # rows outside the segment are not counted
        start, held = start[held >= 0], held[held >= 0]
    counts = np.bincount(start + held, minlength=n_windows * n_cells)
    return counts.reshape(n_windows, n_cells).astype(np.float64)
