"""Live statistics of an hour: histograms and sums that add up over hours, days, and processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from loopwright.core.lazy import LazyModule
from loopwright.monitor.reference import Reference, bin_codes

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

HOUR_S, DAY_S = 3_600, 86_400
# ages at which it is told how many labels have come, in seconds
AGES_S = (60, 600, 3_600, 6 * 3_600, DAY_S, *(n * DAY_S for n in (3, 7, 14, 30, 60, 90, 180, 365)))


class WindowKey(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """What some statistics are about.

    Parameters
    ----------
    start
        When the hour or day began, UTC.
    span_s
        3,600 or 86,400 seconds.
    version, variant
        Who answered; variant is empty where there are none.
    segment
        The rows it is about; empty for all.
    """

    start: datetime
    span_s: int
    version: str
    variant: str = ""
    segment: str = ""

    def of_its_day(self) -> WindowKey:
        """Return the day that the hour is part of."""
        day = self.start.replace(hour=0, minute=0, second=0, microsecond=0)
        return msgspec.structs.replace(self, start=day, span_s=DAY_S)


class LiveStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The predictions made in an hour or a day; under 20 KB for 30 columns.

    Parameters
    ----------
    n, n_labelled
        Predictions, and those of them that have had a label so far.
    counts
        Predictions by bin of every stream of the reference; see `bin_counts`.
    labelled
        Labelled predictions by bin of the prediction.
    losses
        Labelled predictions by bin of the error.
    loss_sum, loss_squares
        Sums of their losses and of the squares.
    delays
        Labelled predictions by how long the label took: within each of `AGES_S`, or longer.
    """

    n: int = 0
    n_labelled: int = 0
    counts: dict[str, tuple[int, ...]] = {}
    labelled: tuple[int, ...] = ()
    losses: tuple[int, ...] = ()
    loss_sum: float = 0.0
    loss_squares: float = 0.0
    delays: tuple[int, ...] = ()
    format: int = 1

    def __add__(self, other: LiveStatistics) -> LiveStatistics:
        """Return the statistics of both together; the order does not matter."""
        keys = dict.fromkeys((*self.counts, *other.counts))
        return LiveStatistics(
            n=self.n + other.n,
            n_labelled=self.n_labelled + other.n_labelled,
            counts={k: _sum(self.counts.get(k, ()), other.counts.get(k, ())) for k in keys},
            labelled=_sum(self.labelled, other.labelled),
            losses=_sum(self.losses, other.losses),
            loss_sum=self.loss_sum + other.loss_sum,
            loss_squares=self.loss_squares + other.loss_squares,
            delays=_sum(self.delays, other.delays),
        )

    @property
    def mean_loss(self) -> float | None:
        """Mean loss of the labelled predictions; None without any."""
        return self.loss_sum / self.n_labelled if self.n_labelled else None


Statistics = dict[WindowKey, LiveStatistics]


def prediction_statistics(
    reference: Reference, predictions: pl.DataFrame, inputs: pl.DataFrame
) -> Statistics:
    """Return the statistics of some predictions by hour, version, variant and segment.

    Segments are those of the reference; of them predictions are counted and inputs are not.

    Parameters
    ----------
    predictions
        at, version, variant, prediction.
    inputs
        Their raw input columns, row by row.
    """
    streams = [each for each in reference.streams if not each.segment and each.role != "error"]
    codes: dict[str, NDArray[np.int64]] = {}
    sizes = {stream.key: stream.n_bins for stream in streams}
    for stream in streams:
        if stream.role == "prediction":
            values = predictions["prediction"]
        elif stream.name in inputs.columns:
            values = inputs[stream.name]
        else:
            values = pl.Series([None] * predictions.height, dtype=pl.Null)
        codes[stream.key] = bin_codes(stream, values)
    found: Statistics = {}
    for key, rows in _windows(predictions, reference, inputs):
        kept = codes if not key.segment else {k: v for k, v in codes.items() if k == "prediction"}
        counts = {name: _counted(code[rows], sizes[name]) for name, code in kept.items()}
        found[key] = LiveStatistics(n=len(rows), counts=counts)
    return found


def label_statistics(
    reference: Reference, labelled: pl.DataFrame, inputs: pl.DataFrame
) -> Statistics:
    """Return the statistics of newly labelled predictions, by the hour of the prediction.

    Parameters
    ----------
    labelled
        at, version, variant, prediction, first_label_at and loss.
    inputs
        Their raw input columns, row by row; without columns where there are no segments.
    """
    answer, error = reference.find("prediction"), reference.find("error")
    loss = labelled["loss"].to_numpy()
    delay_s = (labelled["first_label_at"] - labelled["at"]).dt.total_seconds().to_numpy()
    delays = np.searchsorted(np.array(AGES_S), delay_s, side="left")
    answers = None if answer is None else bin_codes(answer, labelled["prediction"])
    errors = None if error is None else bin_codes(error, labelled["loss"])
    found: Statistics = {}
    for key, rows in _windows(labelled, reference, inputs):
        found[key] = LiveStatistics(
            n_labelled=len(rows),
            labelled=_counted(answers[rows], answer.n_bins)
            if answers is not None and answer
            else (),
            losses=_counted(errors[rows], error.n_bins) if errors is not None and error else (),
            loss_sum=float(loss[rows].sum()),
            loss_squares=float((loss[rows] ** 2).sum()),
            delays=_counted(delays[rows], len(AGES_S) + 1),
        )
    return found


def without_labels(statistics: Statistics) -> Statistics:
    """Return the statistics as they are before any label has come."""
    bare = {"n_labelled": 0, "labelled": (), "losses": (), "delays": ()}
    return {
        key: msgspec.structs.replace(each, **bare, loss_sum=0.0, loss_squares=0.0)
        for key, each in statistics.items()
    }


def added(one: Statistics, other: Statistics) -> Statistics:
    """Return the statistics of both, window by window."""
    total = dict(one)
    for key, each in other.items():
        total[key] = total[key] + each if key in total else each
    return total


def by_day(statistics: Statistics) -> Statistics:
    """Return the statistics of hours as those of their days."""
    total: Statistics = {}
    for key, each in statistics.items():
        total = added(total, {key.of_its_day(): each})
    return total


def _windows(
    rows: pl.DataFrame, reference: Reference, inputs: pl.DataFrame
) -> Iterable[tuple[WindowKey, NDArray[np.int64]]]:
    """Yield the rows of each window, by their places."""
    keyed = rows.select(
        pl.col("at").dt.truncate("1h").alias("start"),
        pl.col("version"),
        pl.col("variant").fill_null("").alias("variant"),
    )
    masks = [("", np.ones(rows.height, dtype=np.bool_))]
    if inputs.width:
        masks += [(segment.name, segment.mask(inputs)) for segment in reference.segments]
    groups = keyed.with_row_index("row").group_by("start", "version", "variant").agg("row")
    for start, version, variant, places in groups.sort("start", "version", "variant").iter_rows():
        every = np.asarray(places, dtype=np.int64)
        for name, mask in masks:
            chosen = every[mask[every]]
            if len(chosen):
                yield (
                    WindowKey(
                        start=start.astimezone(UTC),
                        span_s=HOUR_S,
                        version=version,
                        variant=variant,
                        segment=name,
                    ),
                    chosen,
                )


def end_of(key: WindowKey) -> datetime:
    """Return when a window ended."""
    return key.start + timedelta(seconds=key.span_s)


def _counted(codes: NDArray[np.int64], n_bins: int) -> tuple[int, ...]:
    return tuple(np.bincount(codes, minlength=n_bins).tolist())


def _sum(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    if len(one) < len(other):
        one, other = other, one
    return tuple(a + b for a, b in zip(one, (*other, *(0,) * (len(one) - len(other))), strict=True))
