"""Ground truth joined to predictions by inference id, whatever the order it arrives in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.monitor.value import to_labels, to_numbers, to_series

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

Task = Literal["regression", "binary", "multiclass"]

PREDICTION_COLUMNS = ("inference_id", "at", "version", "prediction")
LABEL_COLUMNS = ("inference_id", "label", "at", "source")
_ADDED_COLUMNS = ("label", "label_at", "first_label_at", "label_source")


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """Predictions with their labels, and an account of every label that was not used.

    Parameters
    ----------
    frame
        One row for each labelled prediction, in the order of prediction time: the columns of the
        predictions, then label (float for regression, else text), label_at, first_label_at and
        label_source.
    unknown, quarantined
        Label rows kept aside: for ids without a prediction; that cannot be read (with a reason).
    n_predictions
        Predictions with different ids.
    n_duplicate
        Label rows that repeat what another row of the same id says.
    n_conflicting
        Ids with labels that differ; the latest was used.
    n_early
        Labels in `frame` that are older than their prediction: a clock is wrong somewhere.
    n_repeated_predictions
        Prediction rows whose id had been used before; the first prediction counts.
    """

    frame: pl.DataFrame
    unknown: pl.DataFrame
    quarantined: pl.DataFrame
    n_predictions: int
    n_duplicate: int
    n_conflicting: int
    n_early: int
    n_repeated_predictions: int

    @property
    def n_unknown(self) -> int:
        """Label rows for ids without a prediction."""
        return self.unknown.height

    @property
    def n_quarantined(self) -> int:
        """Label rows that cannot be read."""
        return self.quarantined.height

    @property
    def coverage(self) -> float:
        """The share of predictions that have a label, 0 to 1."""
        return self.frame.height / self.n_predictions if self.n_predictions else 0.0


def join_labels(
    predictions: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    task: Task = "regression",
    classes: Sequence[str] = (),
) -> Joined:
    """Return the labelled predictions.

    The order of either table's rows does not matter. When an id has several labels, the one with
    the latest `at` is used; at equal times the larger source, then the larger label, so that the
    choice is always the same.

    Parameters
    ----------
    predictions
        inference_id, at, version, prediction, and any other columns; times aware or in UTC.
    labels
        inference_id, label, at, source.
    task
        Regression labels must be finite numbers, or text that reads as one.
    classes
        The classes of a classifier; a label must be one of them. Empty: any text is a class.

    Raises
    ------
    InvalidInputError
        If a column is missing, or the predictions have a column that the labels bring.
    """
    _require(predictions, PREDICTION_COLUMNS, what="predictions")
    _require(labels, LABEL_COLUMNS, what="labels")
    _refuse_clash(predictions)
    predictions = normalised(predictions)
    order = ["inference_id", "at", "version", "prediction"]
    known = predictions.sort(order, maintain_order=True).unique(
        "inference_id", keep="first", maintain_order=True
    )
    read = read_label_values(normalised(labels), task=task, classes=classes)
    quarantined = read.filter(pl.col("reason").is_not_null()).drop("value")
    sound = read.filter(pl.col("reason").is_null()).drop("reason")
    unknown = sound.join(known, on="inference_id", how="anti").drop("value")
    used = sound.join(known, on="inference_id", how="semi")
    chosen = _latest(used)
    frame = known.join(chosen, on="inference_id", how="inner").sort("at", "inference_id")
    return Joined(
        frame=frame.drop("n_values"),
        unknown=unknown,
        quarantined=quarantined,
        n_predictions=known.height,
        n_duplicate=used.height - used.select("inference_id", "value").n_unique(),
        n_conflicting=frame.filter(pl.col("n_values") > 1).height,
        n_early=frame.filter(pl.col("first_label_at") < pl.col("at")).height,
        n_repeated_predictions=predictions.height - known.height,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Maturity:
    """How many predictions of at least some age have their label.

    Parameters
    ----------
    age_s
        Seconds since the prediction.
    n_predictions
        Predictions that are at least this old.
    share
        Share of them whose first label came within `age_s`, 0 to 1; None if there are none.
    """

    age_s: float
    n_predictions: int
    share: float | None


def label_maturity(
    predictions: pl.DataFrame, joined: Joined, *, now: datetime, ages_s: Sequence[float]
) -> list[Maturity]:
    """Return the label-arrival curve: which share of labels is in after each age.

    A window of predictions should be judged by its labels only when its age has a share near that
    of the oldest age; before, the labels that are in are those that came fastest.
    """
    ids = normalised(predictions).group_by("inference_id").agg(pl.col("at").min())
    first = joined.frame.select("inference_id", "first_label_at")
    timed = ids.join(first, on="inference_id", how="left")
    curve = []
    for age_s in ages_s:
        age = timedelta(seconds=age_s)
        old = timed.filter(pl.col("at") <= now - age)
        arrived = old.filter(pl.col("first_label_at") <= pl.col("at") + age).height
        share = arrived / old.height if old.height else None
        curve.append(Maturity(age_s=age_s, n_predictions=old.height, share=share))
    return curve


def read_label_values(labels: pl.DataFrame, *, task: Task, classes: Sequence[str]) -> pl.DataFrame:
    """Add `value` (the label as the task needs it) and `reason` (why it cannot be used)."""
    label = to_series(labels["label"])
    absent = label.fill_nan(None).is_null() if label.dtype.is_float() else label.is_null()
    if task == "regression":
        numeric = label if label.dtype == pl.String or label.dtype.is_numeric() else None
        numbers = pl.Series(to_numbers(numeric, kind="number")) if numeric is not None else None
        value = pl.Series([None] * len(label), dtype=pl.Float64) if numbers is None else numbers
        wrong, reason = ~value.is_finite().fill_null(False), "not a finite number"
    else:
        value = to_labels(label)
        allowed = value.is_in(list(classes)) if classes else ~absent
        wrong, reason = ~allowed.fill_null(False), f"not one of {', '.join(classes)}"
    return labels.with_columns(value.alias("value")).with_columns(
        pl.when(absent)
        .then(pl.lit("no label"))
        .when(pl.col("inference_id").is_null())
        .then(pl.lit("no inference id"))
        .when(pl.col("at").is_null())
        .then(pl.lit("no time"))
        .when(wrong)
        .then(pl.lit(reason))
        .alias("reason")
    )


def _latest(used: pl.DataFrame) -> pl.DataFrame:
    ordered = used.sort("inference_id", "at", "source", "value")
    return ordered.group_by("inference_id", maintain_order=True).agg(
        pl.col("value").last().alias("label"),
        pl.col("at").last().alias("label_at"),
        pl.col("at").first().alias("first_label_at"),
        pl.col("source").last().alias("label_source"),
        pl.col("value").n_unique().alias("n_values"),
    )


def normalised(frame: pl.DataFrame) -> pl.DataFrame:
    """Ids as text and times in UTC, so that two tables can meet."""
    at = pl.col("at").cast(pl.Datetime("us")) if frame["at"].dtype == pl.Date else pl.col("at")
    zone = getattr(frame["at"].dtype, "time_zone", None)
    at = at.dt.convert_time_zone("UTC") if zone else at.dt.replace_time_zone("UTC")
    return frame.with_columns(pl.col("inference_id").cast(pl.String), at.dt.cast_time_unit("us"))


def _refuse_clash(predictions: pl.DataFrame) -> None:
    clash = [column for column in _ADDED_COLUMNS if column in predictions.columns]
    if clash:
        raise InvalidInputError(
            f"The predictions already have a column {clash[0]!r}.",
            hint="Leave the input columns out, or rename it; the ground truth goes there.",
            field=clash[0],
        )


def _require(frame: pl.DataFrame, columns: Sequence[str], *, what: str) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise InvalidInputError(
            f"The {what} have no column {missing[0]!r}; they have {', '.join(frame.columns)}.",
            hint=f"Give {', '.join(columns)}.",
            field=missing[0],
        )
    if not isinstance(frame["at"].dtype, pl.Datetime | pl.Date):
        raise InvalidInputError(
            f"Column 'at' of the {what} is of type {frame['at'].dtype}, not a time.",
            hint="Parse it to a datetime first.",
            field="at",
        )
