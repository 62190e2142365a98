"""For whom it moved: the rows, told by one other column, in which most of a change lies."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.monitor.effect import mid_ranks
from loopwright.monitor.reference import StreamReference

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Codes = NDArray[np.uint8]
    Numbers = NDArray[np.float64]
else:
    np = LazyModule("numpy")

_FEWEST_ROWS = 30
_ALPHA = 0.01
_TIMES = 2.0
_N_PARTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedSegment:
    """Rows in which a change is at least twice what it is elsewhere, beyond doubt.

    Parameters
    ----------
    condition
        Which rows, in words.
    n_rows, share
        Live rows in it, and their share of all.
    inside, outside
        How far the mean moved in it and elsewhere: in units of the loss, or as the share of pairs
        by which a live value exceeds a reference value, or as the share of a category.
    """

    condition: str
    n_rows: int
    share: float
    inside: float
    outside: float


def stream_score(
    stream: StreamReference, codes: NDArray[np.uint8], *, largest: str = ""
) -> Numbers:
    """Return what is followed of a stream, from 0 to 1: the rank of a value, or one category.

    Parameters
    ----------
    codes
        The bin of each row, (n_rows,).
    largest
        The bin by name that is followed instead of ranks, such as `missing`.
    """
    if not largest and stream.is_ordered:
        counts = np.array(stream.counts, dtype=np.float64)
        ranks = mid_ranks(counts[:-1] / max(counts[:-1].sum(), 1.0))
        scores: Numbers = np.append(ranks, 0.5)[codes]
        return scores
    followed = stream.bin_names.index(largest) if largest in stream.bin_names else -1
    shares: Numbers = np.equal(codes, followed).astype(np.float64)
    return shares


def moved_segment(
    streams: Sequence[StreamReference],
    reference: tuple[Codes, Numbers],
    live: tuple[Codes, Numbers],
    *,
    without: Collection[str] = (),
) -> MovedSegment | None:
    """Return the segment in which a score moved most, or None where it moved everywhere alike.

    Parameters
    ----------
    streams
        Of the columns of the codes.
    reference, live
        Bins (n_rows, n_streams) and the score of each row, (n_rows,).
    without
        Streams by which rows are not to be told, such as the one that moved.

    Notes
    -----
    Each category, and each quarter of the reference values of a number, is compared with all other
    rows by the difference of their movements, a normal statistic; the level of 1 % is divided by
    the number of segments tried (Bonferroni).
    """
    found: list[tuple[float, MovedSegment]] = []
    n_tried = 0
    for at, stream in enumerate(streams):
        if stream.key in without or stream.role != "input" or stream.kind in ("text", "date"):
            continue
        for condition, bins in _groups(stream):
            inside = _movement(at, bins, reference, live)
            outside = _movement(at, ~bins, reference, live)
            if inside is None or outside is None:
                continue
            n_tried += 1
            z = abs(inside[0] - outside[0]) / max((inside[1] + outside[1]) ** 0.5, 1e-12)
            if abs(inside[0]) < _TIMES * abs(outside[0]):
                continue
            segment = MovedSegment(
                condition=condition,
                n_rows=inside[2],
                share=inside[2] / max(1, len(live[0])),
                inside=inside[0],
                outside=outside[0],
            )
            found.append((z, segment))
    if not found:
        return None
    z, segment = max(found, key=lambda each: each[0])
    return segment if z > NormalDist().inv_cdf(1 - _ALPHA / 2 / n_tried) else None


def _movement(
    at: int, bins: NDArray[np.bool_], reference: tuple[Codes, Numbers], live: tuple[Codes, Numbers]
) -> tuple[float, float, int] | None:
    """Return how far the mean moved among rows in some bins, its variance and the live rows."""
    scores = [values[bins[codes[:, at]]] for codes, values in (reference, live)]
    before, now = scores
    if min(len(before), len(now)) < _FEWEST_ROWS:
        return None
    variance = before.var(ddof=1) / len(before) + now.var(ddof=1) / len(now)
    return float(now.mean() - before.mean()), float(variance), len(now)


def _groups(stream: StreamReference) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield conditions with the bins that meet them."""
    names = stream.bin_names
    if not stream.is_ordered:
        for code, name in enumerate(names):
            bins = np.zeros(len(names), dtype=np.bool_)
            bins[code] = True
            yield f"{stream.name} {name if code >= len(stream.values) else f'= {name}'}", bins
        return
    counts = np.array(stream.counts[:-1], dtype=np.float64)
    if not counts.sum() or len(stream.edges) < 2:
        return
    ranks = mid_ranks(counts / counts.sum())
    part = np.minimum((ranks * _N_PARTS).astype(np.int64), _N_PARTS - 1)
    for number in np.unique(part).tolist():
        chosen = part == number
        yield _told_range(stream, chosen), np.append(chosen, False)
    missing = np.zeros(len(names), dtype=np.bool_)
    missing[-1] = True
    yield f"{stream.name} missing", missing


def _told_range(stream: StreamReference, chosen: NDArray[np.bool_]) -> str:
    """Return the values of some neighbouring bins in words; the outermost are open."""
    first, last = int(np.flatnonzero(chosen)[0]), int(np.flatnonzero(chosen)[-1])
    edges = stream.edges
    # bin k of 1, 2, ... lies above edge k - 1 and up to edge k
    low = None if first <= 1 else edges[first - 1]
    high = None if last >= len(edges) - 1 else edges[last]
    if low is None and high is None:
        return f"{stream.name} known"
    if low is None:
        return f"{stream.name} at most {high:,.6g}"
    if high is None:
        return f"{stream.name} above {low:,.6g}"
    return f"{stream.name} above {low:,.6g} up to {high:,.6g}"
