"""What a prediction's labels come to: the rules for late, repeated, corrected and held ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

STANDING = ("label", "label_at", "first_label_at", "label_source", "n_values")
MICROSECONDS = 1_000_000


class HeldBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Labels that count for nothing until a person accepts them, or for ever.

    Those of one source, or of all where it is None, whose own time lies from `from_at` to `to_at`,
    both included, and which were taken in with numbers above `after` and up to `upto`.

    Parameters
    ----------
    id
        By which a person names the batch.
    """

    id: str
    source: str | None
    from_at: datetime
    to_at: datetime
    after: int
    upto: int

    def rows(self) -> pl.Expr:
        """Return which label rows belong to the batch."""
        of_source = pl.lit(True) if self.source is None else pl.col("source") == self.source
        return (
            of_source
            & pl.col("at").is_between(self.from_at, self.to_at)
            & (pl.col("number") > self.after)
            & (pl.col("number") <= self.upto)
        )

    def of_any_number(self) -> HeldBatch:
        """Return the batch as told by source and time alone."""
        return msgspec.structs.replace(self, after=0, upto=2**62)


class LabelCounts(msgspec.Struct, frozen=True, kw_only=True):
    """An account of every label and prediction that was ever taken in.

    Parameters
    ----------
    n_predictions, n_repeated_predictions
        Predictions with different ids, and rows whose id had been used before: the first counts.
    n_labels
        Label rows that came.
    n_unreadable, n_unknown
        Label rows kept aside: not fit to be a label; for ids without a prediction so far.
    n_labelled
        Predictions with a label that counts.
    n_duplicate
        Label rows that repeat what another row of the same id says.
    n_conflicting
        Ids whose labels differ; the latest within the grace counts.
    n_too_late
        Label rows that would correct a label after the grace; they do not.
    n_early
        Labelled predictions whose label is older than they are: a clock is wrong somewhere.
    n_held
        Label rows that are suspicious or were rejected.
    n_ambiguous
        Labels by a business key that several predictions before them had; the newest was taken.
    """

    n_predictions: int = 0
    n_repeated_predictions: int = 0
    n_labels: int = 0
    n_unreadable: int = 0
    n_unknown: int = 0
    n_labelled: int = 0
    n_duplicate: int = 0
    n_conflicting: int = 0
    n_too_late: int = 0
    n_early: int = 0
    n_held: int = 0
    n_ambiguous: int = 0

    @property
    def coverage(self) -> float:
        """The share of predictions that have a label, 0 to 1."""
        return self.n_labelled / self.n_predictions if self.n_predictions else 0.0

    def plus(self, **more: int) -> LabelCounts:
        """Return the account with some counts increased, or lowered by negative numbers."""
        return msgspec.structs.replace(
            self, **{name: getattr(self, name) + n for name, n in more.items()}
        )


def standing_labels(
    labels: pl.DataFrame, *, grace_s: float | None, held: Sequence[HeldBatch]
) -> pl.DataFrame:
    """Return what the labels of each id come to: one row an id.

    The label with the latest time counts, at equal times the larger source, then the larger value;
    one whose time is more than the grace after the first of its id does not correct it any more.

    Parameters
    ----------
    labels
        hash, number, inference_id, value, at, source, in any order.
    grace_s
        Seconds after the first label of an id within which it can be corrected; None: always.
    held
        Batches that do not count.

    Returns
    -------
    polars.DataFrame
        hash, inference_id, label, label_at, first_label_at, label_source, n_values, and n_rows
        (that count), n_late, n_held. Where all labels of an id are held, label is null.
    """
    is_alone = pl.col("hash").is_unique() & ~_is_held(held)
    marked = labels.with_columns(is_alone.alias("alone"))
    several = _judged(marked.filter(~pl.col("alone")), grace_s=grace_s, held=held)
    # most ids have one label, and need no sorting
    alone = marked.filter("alone").select(
        "hash",
        "inference_id",
        pl.col("value").alias("label"),
        pl.col("at").alias("label_at"),
        pl.col("at").alias("first_label_at"),
        pl.col("source").alias("label_source"),
        pl.lit(1, dtype=pl.Int64).alias("n_values"),
        pl.lit(1, dtype=pl.Int64).alias("n_rows"),
        pl.lit(0, dtype=pl.Int64).alias("n_late"),
        pl.lit(0, dtype=pl.Int64).alias("n_held"),
    )
    return pl.concat([alone, several.select(alone.columns)])


def _is_held(held: Sequence[HeldBatch]) -> pl.Expr:
    return pl.any_horizontal(pl.lit(False), *(each.rows() for each in held))


def _judged(
    labels: pl.DataFrame, *, grace_s: float | None, held: Sequence[HeldBatch]
) -> pl.DataFrame:
    marked = labels.with_columns(_is_held(held).alias("held"))
    counted = ~pl.col("held")
    first = pl.col("at").filter(counted).min()
    marked = marked.with_columns(first.over("inference_id").alias("first"))
    late = pl.lit(False)
    if grace_s is not None:
        grace = pl.duration(microseconds=int(grace_s * MICROSECONDS))
        late = pl.col("at") > pl.col("first") + grace
    ordered = marked.with_columns((counted & ~late).alias("in_time"), late.alias("late")).sort(
        "inference_id", "in_time", "at", "source", "value"
    )
    # rows in time come last, so that the last of all is the latest of them
    usable = pl.col("in_time").last()
    return ordered.group_by("inference_id", maintain_order=True).agg(
        pl.col("hash").first(),
        pl.when(usable).then(pl.col("value").last()).alias("label"),
        pl.when(usable).then(pl.col("at").last()).alias("label_at"),
        pl.when(usable).then(pl.col("first").last()).alias("first_label_at"),
        pl.when(usable).then(pl.col("source").last()).alias("label_source"),
        pl.col("value").filter(counted).n_unique().cast(pl.Int64).alias("n_values"),
        counted.sum().cast(pl.Int64).alias("n_rows"),
        (counted & pl.col("late")).sum().cast(pl.Int64).alias("n_late"),
        pl.col("held").sum().cast(pl.Int64).alias("n_held"),
    )


def counted_labels(answered: pl.DataFrame) -> dict[str, int]:
    """Return what some ids add to the counts of labels.

    Parameters
    ----------
    answered
        As `standing_labels` gives it, with `at`, the time of the id's prediction.
    """
    sums = answered.select(
        n_labelled=pl.col("label").is_not_null().sum(),
        n_duplicate=(pl.col("n_rows") - pl.col("n_values")).sum(),
        n_conflicting=(pl.col("n_values") > 1).sum(),
        n_too_late=pl.col("n_late").sum(),
        n_early=(pl.col("first_label_at") < pl.col("at")).sum(),
        n_held=pl.col("n_held").sum(),
    ).row(0, named=True)
    return {name: int(value or 0) for name, value in sums.items()}
