"""What the endpoint saw and what turned out to be true: the rows the next round can learn from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.deploy import Cursor, has_more, read_capture, read_labels
from loopwright.loop.sourcing import Target
from loopwright.monitor import Joined
from loopwright.prepare import Signature
from loopwright.train import class_text

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

# ids of the test rows sent after a deployment; they are no traffic
VERIFY_PREFIX = "loopwright-verify-"


def captured(folder: Path, *, after: Cursor | None = None) -> Iterator[tuple[pl.DataFrame, Cursor]]:
    """Yield the predictions kept since a cursor, page by page, without those of verifications."""
    cursor = after
    while has_more(folder / "capture", after=cursor):
        page = read_capture(folder / "capture", after=cursor)
        if page.cursor == cursor:
            return
        cursor = page.cursor
        yield (
            page.frame.filter(~pl.col("inference_id").str.starts_with(VERIFY_PREFIX)),
            page.cursor,
        )


def labelled(folder: Path, *, after: Cursor | None = None) -> Iterator[tuple[pl.DataFrame, Cursor]]:
    """Yield the labels received since a cursor, page by page."""
    cursor = after
    while has_more(folder / "labels", after=cursor):
        page = read_labels(folder / "labels", after=cursor)
        if page.cursor == cursor:
            return
        cursor = page.cursor
        yield page.frame, page.cursor


def all_captured(folder: Path) -> pl.DataFrame:
    """Return every prediction kept, one row per inference id, in time order."""
    pages = [frame for frame, _ in captured(folder)]
    pages = [frame for frame in pages if frame.height]
    if not pages:
        return pl.DataFrame({"inference_id": []}, schema={"inference_id": pl.String})
    frame = pl.concat(pages, how="diagonal_relaxed")
    return frame.unique("inference_id", keep="first", maintain_order=True).sort(
        "at", maintain_order=True
    )


def all_labels(folder: Path) -> pl.DataFrame:
    """Return every label received, oldest first."""
    pages = [frame for frame, _ in labelled(folder)]
    if not pages:
        return pl.DataFrame({"inference_id": []}, schema={"inference_id": pl.String})
    return pl.concat(pages, how="diagonal_relaxed")


def live_rows(
    joined: Joined,
    *,
    signature: Signature,
    schema: Mapping[str, pl.DataType],
    target: Target,
    since: datetime | None,
) -> pl.DataFrame:
    """Return labelled live rows as rows of the source, oldest first.

    Parameters
    ----------
    joined
        Predictions with their labels.
    signature
        How the endpoint reads a row; inputs are read the same way here.
    schema
        The columns of the source and their types.
    target
        Where the label goes.
    since
        Rows answered after this moment are fresh: no model has learnt from them.

    Returns
    -------
    polars.DataFrame
        The columns of the snapshot and `__fresh`. Columns the endpoint does not ask for are null.
    """
    frame = joined.frame.filter(pl.col("label").is_not_null()).sort("at", maintain_order=True)
    inputs = frame["inputs"].struct.unnest().rows(named=True)
    # columns the model does not read are kept as they came
    rows = [{**row, **signature.check_row(row, index=index)} for index, row in enumerate(inputs)]
    return _typed(rows, frame["label"].to_list(), schema, target).with_columns(
        (frame["at"] > since).alias("__fresh")
        if since is not None
        else pl.lit(True).alias("__fresh")
    )


def _class_value(label: Any, dtype: pl.DataType) -> Any:
    """Return a class label as the target's own column holds it."""
    text = class_text(label)
    if dtype == pl.Boolean:
        return {"true": True, "false": False}.get(text)
    return float(text) if dtype.is_numeric() else text


def _typed(
    rows: list[dict[str, Any]], labels: list[Any], schema: Mapping[str, pl.DataType], target: Target
) -> pl.DataFrame:
    columns = []
    for name, dtype in schema.items():
        values = labels if name == target.column else [row.get(name) for row in rows]
        if name == target.column and target.classes:
            values = [_class_value(value, dtype) for value in values]
        columns.append(pl.Series(name, values, strict=False).cast(dtype, strict=False))
    return pl.DataFrame(columns)
