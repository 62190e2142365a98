"""The rows of a ledger: what its tables hold, and how predictions and labels become rows of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from loopwright.core.lazy import LazyModule
from loopwright.monitor.label import Task, normalised, read_label_values
from loopwright.monitor.label_rule import STANDING
from loopwright.monitor.value import to_labels

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_SEED = 20_261_122
_PROBE = ("loopwright", "", "0193c1d2e3f4", "ü")
_WHOLE = r"^(-?\d+)\.0+$"


class LedgerAbout(msgspec.Struct, frozen=True, kw_only=True):
    """What a ledger's rows mean; one of another meaning has to be made anew.

    Parameters
    ----------
    task
        Regression labels are numbers, others text.
    classes
        The classes that a label can be; empty for any.
    key
        The input column of the business key that labels may come by; None for inference ids alone.
    grace_s
        See `standing_labels`.
    """

    task: Task = "regression"
    classes: tuple[str, ...] = ()
    key: str | None = None
    grace_s: float | None = None


def table_schemas(about: LedgerAbout) -> dict[str, pl.Schema]:
    """Return the columns of every table of a ledger."""
    moment = pl.Datetime("us", "UTC")
    value = pl.Float64() if about.task == "regression" else pl.String()
    answer: dict[str, pl.DataType] = {
        "hash": pl.UInt64(),
        "inference_id": pl.String(),
        "at": moment,
        "version": pl.String(),
        "variant": pl.String(),
        "shadow": pl.Boolean(),
        "prediction": value,
        "probability": pl.Float64(),
        "probabilities": pl.String(),
    }
    label: dict[str, pl.DataType] = {
        "hash": pl.UInt64(),
        "inference_id": pl.String(),
        "value": value,
        "at": moment,
        "source": pl.String(),
    }
    number: dict[str, pl.DataType] = {"number": pl.Int64()}
    standing: dict[str, pl.DataType] = {
        "is_first": pl.Boolean(),
        "label": value,
        "label_at": moment,
        "first_label_at": moment,
        "label_source": pl.String(),
        "n_values": pl.Int64(),
    }
    beside: dict[str, pl.DataType] = {
        "inputs": pl.String(),
        "key": pl.String(),
        "key_hash": pl.UInt64(),
    }
    unreadable: dict[str, pl.DataType] = {
        "inference_id": pl.String(),
        "label": pl.String(),
        "at": moment,
        "source": pl.String(),
        "reason": pl.String(),
    }
    return {
        "predictions": pl.Schema(number | answer | beside),
        "labels": pl.Schema(number | label),
        "waiting": pl.Schema(number | label),
        "joined": pl.Schema(number | answer | standing),
        "unreadable": pl.Schema(number | unreadable),
    }


def hashed(column: str) -> pl.Expr:
    """Return 64 bits of each text of a column; two texts may share them, so compare the texts too."""
    return pl.when(pl.col(column).is_not_null()).then(pl.col(column).hash(_SEED))


def hash_probe() -> tuple[int, ...]:
    """Return what this release hashes some texts to: Polars may change how it does."""
    return tuple(pl.DataFrame({"text": _PROBE}).select(hashed("text")).to_series().to_list())


def key_text(values: pl.Series) -> pl.Series:
    """Return business keys as text; 98001, 98001.0 and "98001" are one."""
    return to_labels(values).str.replace(_WHOLE, "$1")


def prediction_rows(
    predictions: pl.DataFrame, about: LedgerAbout, *, number: int
) -> tuple[pl.DataFrame, int]:
    """Return captured lines as rows of `predictions`, one an id, and how many repeat another's id.

    Parameters
    ----------
    predictions
        As `read_capture_lines` gives them.
    """
    keys = pl.Series("key", [None] * predictions.height, dtype=pl.String)
    if about.key is not None:
        path = "$['" + about.key.replace("'", "\\'") + "']"
        keys = key_text(predictions["inputs"].str.json_path_match(path)).alias("key")
    answers = (
        pl.col("prediction").cast(pl.Float64, strict=False)
        if about.task == "regression"
        else to_labels(predictions["prediction"]).alias("prediction")
    )
    rows = predictions.with_columns(
        answers, keys, pl.lit(number, dtype=pl.Int64).alias("number")
    ).with_columns(hashed("inference_id").alias("hash"), hashed("key").alias("key_hash"))
    first = (
        rows.with_columns(slot().alias("slot"))
        .sort("at", "version", "prediction", maintain_order=True)
        .unique(["inference_id", "slot"], keep="first", maintain_order=True)
    )
    schema = table_schemas(about)["predictions"]
    n_repeated = rows.filter(~pl.col("shadow")).height - first.filter(~pl.col("shadow")).height
    return first.select(pl.col(name).cast(dtype) for name, dtype in schema.items()), n_repeated


def slot() -> pl.Expr:
    """Return what tells apart the answers to one request: empty for the one that was given."""
    return (
        pl.when(pl.col("shadow")).then(pl.col("variant").fill_null("shadow")).otherwise(pl.lit(""))
    )


def label_rows(
    labels: pl.DataFrame, about: LedgerAbout, *, number: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the labels that can be used as rows of `labels`, and the others, each with a reason.

    Parameters
    ----------
    labels
        inference_id, label, at, source.
    """
    read = read_label_values(normalised(labels), task=about.task, classes=about.classes)
    read = read.with_columns(pl.lit(number, dtype=pl.Int64).alias("number"))
    schemas = table_schemas(about)
    wrong = read.filter(pl.col("reason").is_not_null())
    wrong = wrong.with_columns(to_labels(wrong["label"]).alias("label"))
    sound = read.filter(pl.col("reason").is_null()).with_columns(
        hashed("inference_id").alias("hash")
    )
    return (
        sound.select(pl.col(name).cast(dtype) for name, dtype in schemas["labels"].items()),
        wrong.select(pl.col(name).cast(dtype) for name, dtype in schemas["unreadable"].items()),
    )


def parted(rows: pl.DataFrame, others: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows whose id is among those of the others, and the rest; both have a hash.

    Rows meet by their hash, which is quick, and only then are their ids compared.
    """
    numbered = rows.with_row_index("row")
    pairs = numbered.select("row", "hash", "inference_id").join(
        others.select("hash", pl.col("inference_id").alias("other")), on="hash"
    )
    met = pairs.filter(pl.col("inference_id") == pl.col("other")).select("row").unique()
    inside = numbered.join(met, on="row", how="semi").drop("row")
    return inside, numbered.join(met, on="row", how="anti").drop("row")


def answered(answers: pl.DataFrame, standing: pl.DataFrame) -> pl.DataFrame:
    """Return predictions with what their labels come to."""
    joined = answers.join(standing.rename({"inference_id": "other"}), on="hash")
    return joined.filter(pl.col("inference_id") == pl.col("other")).drop("other")


def _beside(now: pl.DataFrame, was: pl.DataFrame) -> pl.DataFrame:
    """Return what labels come to beside what they came to, columns with `_was`, null where new."""
    if not was.height:
        return now.with_columns(
            pl.lit(None, dtype=now.schema[name]).alias(f"{name}_was") for name in STANDING
        )
    return now.join(was.drop("hash"), on="inference_id", how="left", suffix="_was")


def changed(
    answers: pl.DataFrame, now: pl.DataFrame, was: pl.DataFrame, *, number: int, schema: pl.Schema
) -> pl.DataFrame:
    """Return the predictions whose label becomes another, as rows of the table `joined`."""
    moved = (
        _beside(now, was)
        .filter(
            pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_was")) for name in STANDING)
        )
        .with_columns(
            (pl.col("label_was").is_null() & pl.col("label").is_not_null()).alias("is_first"),
            pl.lit(number, dtype=pl.Int64).alias("number"),
        )
    )
    rows = answered(answers, moved)
    return rows.select(pl.col(name).cast(dtype) for name, dtype in schema.items())


def ends_of(moves: pl.DataFrame) -> pl.DataFrame:
    """Return each prediction that has a label once: what was before its first move, is after its last."""
    alone = moves.filter(pl.col("hash").is_unique())
    # the first move since says what was before it, the last what is now
    several = moves.filter(~pl.col("hash").is_unique())
    ends = several.group_by("inference_id", maintain_order=True).agg(
        pl.col("is_first").first(), pl.all().exclude("is_first").last()
    )
    found = pl.concat([alone, ends.select(alone.columns)])
    return found.filter(pl.col("label").is_not_null())
