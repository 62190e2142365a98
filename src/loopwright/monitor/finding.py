"""Rows that are wrong rather than different: missing, unseen and out-of-range values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from loopwright.core.lazy import LazyModule
from loopwright.monitor.bet import wilson_bounds
from loopwright.monitor.reference import StreamReference

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

Problem = Literal["missing", "unseen", "out_of_range", "gone", "new", "type", "volume"]

_MISSING_JUMP = 0.05
_NOVEL_SHARE = {"unseen": 0.02, "out_of_range": 0.05}
# a winter colder than any before puts some rows a little beyond; another unit nearly all of them
_GRAVE_OUTSIDE = 0.5
_LIVE_SIGMAS = 4.0  # looked at in every window of every column, so surer than usual
_REFERENCE_SIGMAS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFinding:
    """A fault of the incoming data in one input.

    Parameters
    ----------
    problem
        `missing`: at least 5 points more missing values than in the reference; `unseen`: over 2 %
        of rows hold a category never seen; `out_of_range`: over 5 % lie outside all reference
        values; a fault if half of them do, or if 5 % lie farther off than those values are wide, for
        numbers that grow with the seasons are none. Each beyond reasonable doubt (4 standard errors). `gone`, `new` and `type` are of
        the columns of requests, `volume` of their number.
    share, reference_share
        Of the rows, 0 to 1; of `volume` against the usual, which is 1.
    is_grave
        Whether a model would learn the fault; a column more or a quiet hour is only told.
    """

    stream: str
    problem: Problem
    share: float
    reference_share: float
    n_rows: int
    message: str
    is_grave: bool = True


def data_findings(stream: StreamReference, counts: Sequence[int]) -> list[DataFinding]:
    """Return what is wrong with the live rows of an input, (n_bins,) as `bin_counts` gives them."""
    live = np.asarray(counts)
    n, n_reference = int(live.sum()), stream.n_rows
    if stream.role != "input" or not n or not n_reference:
        return []
    found = []
    missing, reference_missing = live[-1] / n, stream.counts[-1] / n_reference
    _, usual = wilson_bounds(reference_missing, n_reference, sigmas=_REFERENCE_SIGMAS)
    if _surely(missing, n) > usual + _MISSING_JUMP:
        found.append(_finding(stream, "missing", missing, reference_missing, n))
    problem, bins = _novel_bins(stream)
    novel, reference_novel = live[bins].sum() / n, sum(stream.counts[b] for b in bins) / n_reference
    if _surely(novel, n) > reference_novel + _NOVEL_SHARE[problem]:
        is_grave = problem == "unseen" or stream.kind == "date" or bool(novel >= _GRAVE_OUTSIDE)
        found.append(_finding(stream, problem, novel, reference_novel, n, is_grave=is_grave))
    return found


def _surely(share: float, n: int) -> float:
    return wilson_bounds(share, n, sigmas=_LIVE_SIGMAS)[0]


def _novel_bins(stream: StreamReference) -> tuple[Problem, list[int]]:
    above = stream.n_bins - 2
    if not stream.is_ordered:
        return "unseen", [above]
    if stream.kind == "date":  # later than all reference dates is what live dates are
        return "out_of_range", [0]
    return "out_of_range", [0, above]


def _finding(
    stream: StreamReference,
    problem: Problem,
    share: float,
    reference_share: float,
    n: int,
    *,
    is_grave: bool = True,
) -> DataFinding:
    told = {
        "missing": "is missing or cannot be read",
        "unseen": "holds a category the model never saw",
        "out_of_range": "lies outside all values the model saw",
    }[problem]
    return DataFinding(
        stream=stream.key,
        problem=problem,
        share=float(share),
        reference_share=float(reference_share),
        n_rows=n,
        message=f"{stream.key} {told} in {share:.1%} of {n:,} rows ({reference_share:.1%} before).",
        is_grave=is_grave,
    )
