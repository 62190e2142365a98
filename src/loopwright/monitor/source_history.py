"""What the labels of a source were like so far, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")

# history weighs as so many rows at most, so that it follows what changes slowly
_MOST_REMEMBERED = 5_000
# a name for every day's file would make a record without end
MOST_SOURCES = 100
EARLIER = "(earlier sources)"


class SourceHistory(msgspec.Struct, frozen=True, kw_only=True):
    """What the labels of one source were like so far; constant in size.

    Parameters
    ----------
    n, mean, m2
        Rows remembered, their mean loss, and the sum of its squared deviations.
    shuffled
        Mean loss of the same answers against the same labels in another order.
    labels, answers
        Rows by bin of the label and of the prediction.
    """

    n: float = 0.0
    mean: float = 0.0
    m2: float = 0.0
    shuffled: float = 0.0
    labels: tuple[float, ...] = ()
    answers: tuple[float, ...] = ()

    def with_rows(self, rows: pl.DataFrame, n_bins: tuple[int, int]) -> SourceHistory:
        """Return the history with more rows; see `judged_batches`."""
        loss = rows["loss"].to_numpy()
        n, mean = len(loss), float(loss.mean())
        kept = min(self.n, max(_MOST_REMEMBERED - n, 0))
        share = kept / self.n if self.n else 0.0
        total = kept + n
        gap = mean - self.mean
        return SourceHistory(
            n=total,
            mean=self.mean + gap * n / total,
            m2=self.m2 * share + float(((loss - mean) ** 2).sum()) + gap**2 * kept * n / total,
            shuffled=(self.shuffled * kept + float(rows["shuffled"].sum())) / total,
            labels=_added(self.labels, rows["label_bin"], n_bins[0], share),
            answers=_added(self.answers, rows["answer_bin"], n_bins[1], share),
        )

    @property
    def variance(self) -> float:
        """Variance of the loss of a row."""
        return self.m2 / self.n if self.n else 0.0


def pooled(histories: Iterable[SourceHistory]) -> SourceHistory:
    """Return several histories as one: what labels were like, whoever sent them."""
    total = SourceHistory()
    for each in histories:
        n = total.n + each.n
        if not each.n:
            continue
        gap = each.mean - total.mean
        total = SourceHistory(
            n=n,
            mean=total.mean + gap * each.n / n,
            m2=total.m2 + each.m2 + gap**2 * total.n * each.n / n,
            shuffled=(total.shuffled * total.n + each.shuffled * each.n) / n,
            labels=_sum(total.labels, each.labels),
            answers=_sum(total.answers, each.answers),
        )
    return total


def histories(rows: pl.DataFrame, n_bins: tuple[int, int]) -> dict[str, SourceHistory]:
    """Return what each source was like, learnt from rows as `judged_batches` takes them."""
    if not rows.height:
        return {}
    parts = rows.sort("source", "label_at", nulls_last=True).partition_by(
        "source", maintain_order=True
    )
    found = {}
    for part in parts:
        newest = part.tail(_MOST_REMEMBERED)
        found[str(part["source"][0])] = SourceHistory().with_rows(newest, n_bins)
    return bounded(found)


def bounded(histories: Mapping[str, SourceHistory]) -> dict[str, SourceHistory]:
    """Return histories of at most `MOST_SOURCES` sources; the smallest others are one together."""
    if len(histories) <= MOST_SOURCES:
        return dict(histories)
    ranked = sorted(histories, key=lambda name: (name == EARLIER, -histories[name].n, name))
    kept = [name for name in ranked if name != EARLIER][: MOST_SOURCES - 1]
    rest = pooled(histories[name] for name in ranked if name not in kept)
    return {name: histories[name] for name in sorted(kept)} | {EARLIER: rest}


def counted(bins: pl.Series, n_bins: int) -> NDArray[np.float64]:
    """Return how many rows each bin has, (n_bins,)."""
    return np.bincount(bins.to_numpy(), minlength=n_bins).astype(np.float64)


def _added(held: Sequence[float], bins: pl.Series, n_bins: int, share: float) -> tuple[float, ...]:
    counts = counted(bins, n_bins)
    if len(held) == len(counts):
        counts = counts + np.asarray(held) * share
    return tuple(round(float(count), 3) for count in counts)


def _sum(one: Sequence[float], other: Sequence[float]) -> tuple[float, ...]:
    if len(one) != len(other):
        return tuple(one or other)
    return tuple(a + b for a, b in zip(one, other, strict=True))
