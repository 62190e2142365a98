"""How far live rows lie from the reference, in sizes a person can judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from loopwright.core.lazy import LazyModule
from loopwright.monitor.reference import StreamReference

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """The difference between some live rows and the reference of one stream.

    Parameters
    ----------
    n_rows
        Live rows counted, missing ones included.
    measure
        What `size` is: `superiority`, the chance that a live value exceeds a reference value minus
        one half (-0.5 to 0.5), or `total_variation` for categories (0 to 1).
    size
        The size of the effect.
    distance
        Kolmogorov-Smirnov distance of the binned values, or total variation; 0 to 1.
    noise_floor
        What `distance` would be on average if nothing had changed.
    spread
        Ordered values: how much further from the reference median live ranks lie, -0.5 to 0.5.
    missing_share, reference_missing_share
        Shares of missing values, 0 to 1.
    novel_share
        Share of live values outside the reference range, or never seen before; 0 to 1.
    mean, reference_mean
        Prediction and error: mean of the values, each taken as the mean of its bin.
    largest_move
        Categories: the value whose share changed most, else empty.
    """

    n_rows: int
    measure: Literal["superiority", "total_variation"]
    size: float
    distance: float
    noise_floor: float
    spread: float = 0.0
    missing_share: float
    reference_missing_share: float
    novel_share: float
    mean: float | None = None
    reference_mean: float | None = None
    largest_move: str = ""

    @property
    def floor_ratio(self) -> float:
        """How many times the noise floor the distance is; about 1 when nothing changed."""
        return self.distance / self.noise_floor if self.noise_floor else 0.0


def expected_stream(stream: StreamReference, strata_rows: Sequence[int]) -> StreamReference:
    """Return the stream with the counts to expect when so many rows fall in each stratum."""
    rows = np.asarray(strata_rows, dtype=np.float64)
    if not stream.strata or not rows.sum():
        return stream
    strata = np.array(stream.strata, dtype=np.float64)
    shares = rows @ (strata / np.maximum(strata.sum(axis=1, keepdims=True), 1)) / rows.sum()
    counts = np.round(shares * sum(stream.counts)).astype(np.int64)
    return replace(stream, counts=tuple(counts.tolist()))


def measured_effect(stream: StreamReference, counts: Sequence[int] | NDArray[np.int64]) -> Effect:
    """Return the effect that live counts show, (n_bins,) as `bin_counts` gives them.

    Notes
    -----
    With n live and N reference values present, the Kolmogorov-Smirnov distance is about
    0.87 * sqrt(1/n + 1/N) on average when nothing changed (the mean of the Kolmogorov law); the
    total variation is half the sum over categories of E|q_k - p_k|, which for a normal error of
    variance p_k (1 - p_k) (1/n + 1/N) is sqrt(2/pi) times its standard deviation.
    """
    live = np.asarray(counts, dtype=np.float64)
    reference = np.asarray(stream.counts, dtype=np.float64)
    effect = _unchanged(stream, live, reference)
    n, n_reference = live[:-1].sum(), reference[:-1].sum()
    if not n or not n_reference:
        return effect
    q, p = live[:-1] / n, reference[:-1] / n_reference
    noise = 1 / n + 1 / n_reference
    if not stream.is_ordered:
        return _category_effect(stream, p, q, noise, effect)
    u = mid_ranks(p)
    means = np.array(stream.means[:-1]) if stream.means else None
    return replace(
        effect,
        size=float(q @ u - 0.5),
        distance=float(np.abs(np.cumsum(q - p)).max()),
        noise_floor=float(0.87 * np.sqrt(noise)),
        spread=float((q - p) @ np.abs(2 * u - 1)),
        mean=None if means is None else float(q @ means),
        reference_mean=None if means is None else float(p @ means),
    )


def mid_ranks(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each bin the share of reference values below it plus half of its own, 0 to 1."""
    ranks: NDArray[np.float64] = np.cumsum(p, axis=-1) - p / 2
    return ranks


def _category_effect(
    stream: StreamReference,
    p: NDArray[np.float64],
    q: NDArray[np.float64],
    noise: float,
    effect: Effect,
) -> Effect:
    pooled = (p + q) / 2
    moves = q - p
    return replace(
        effect,
        size=float(np.abs(moves).sum() / 2),
        distance=float(np.abs(moves).sum() / 2),
        noise_floor=float(np.sqrt(2 / np.pi * pooled * (1 - pooled) * noise).sum() / 2),
        largest_move=stream.bin_names[int(np.abs(moves).argmax())],
    )


def _unchanged(
    stream: StreamReference, live: NDArray[np.float64], reference: NDArray[np.float64]
) -> Effect:
    novel = live[0] + live[-2] if stream.is_ordered else live[-2]
    return Effect(
        n_rows=int(live.sum()),
        measure="superiority" if stream.is_ordered else "total_variation",
        size=0.0,
        distance=0.0,
        noise_floor=0.0,
        missing_share=float(live[-1] / max(live.sum(), 1)),
        reference_missing_share=float(reference[-1] / max(reference.sum(), 1)),
        novel_share=float(novel / max(live[:-1].sum(), 1)),
    )
