"""Labelled live rows as rows of the source, written slice by slice: what the next round learns from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.data import Snapshot
from loopwright.loop.feedback_state import Period
from loopwright.loop.file import LoopFile
from loopwright.loop.gathering import gathered, ledger_about
from loopwright.loop.sourcing import Sourced, Target
from loopwright.loop.trigger import LEAST_ROWS
from loopwright.loop.workspace import Workspace
from loopwright.monitor import Ledger
from loopwright.prepare import Signature
from loopwright.train import ServingModel, class_text, open_bundle

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_ROWS_AT_ONCE = 50_000


def rows_to_learn_from(
    workspace: Workspace,
    loop: LoopFile,
    sourced: Sourced,
    champion: dict[str, Any],
    *,
    without: Sequence[Period] = (),
    recent_since: datetime | None = None,
) -> dict[str, Any] | None:
    """Keep the labelled live rows as an artifact and return where they are and until when.

    None when the endpoint has seen no row with a label. Rows that were answered in a time `without`
    are left out, and so are those whose labels are suspicious or were rejected; `n_recent` are fresh
    and were answered from `recent_since` on. If these are enough for a round, they alone are fresh:
    rows from before a harm began would make up most of those that choose and judge.
    """
    folder = workspace.endpoint_folder(loop.deploy.endpoint if loop.deploy else "")
    ledger = gathered(folder, ledger_about(loop, sourced.target))
    joined = outside(ledger.labelled(columns=("hash", "inference_id", "at", "label")), without)
    if not joined.height:
        return None
    model: ServingModel = open_bundle(workspace.artifacts.local_path(champion["bundle"]))
    learnt = champion.get("learnt_until")
    since = datetime.fromisoformat(learnt) if learnt else None
    n_recent = None
    if recent_since is not None:
        n_recent = joined.filter(pl.col("at") >= recent_since).height
        since = fresh_after(since, recent_since, n_recent=n_recent)
    path = workspace.scratch_folder() / f"live-{loop.name}.parquet"
    n_fresh = write_live_rows(
        ledger,
        joined,
        path,
        signature=model.signature,
        schema=snapshot_schema(workspace, sourced),
        target=sourced.target,
        since=since,
    )
    digest = workspace.artifacts.put_file(path)
    path.unlink()
    latest = joined["at"].max()
    return {
        "digest": digest,
        "until": latest.isoformat() if isinstance(latest, datetime) else None,
        "n_rows": joined.height,
        "n_fresh": n_fresh,
        "n_recent": n_recent,
        # what tells later which labels it learnt from
        "ledger": [ledger.epoch, ledger.number],
    }


def fresh_after(learnt: datetime | None, harm: datetime, *, n_recent: int) -> datetime | None:
    """Return after which moment rows are fresh: what a harm brought, if a round can do with it.

    Parameters
    ----------
    learnt
        Until when the champion learnt.
    harm, n_recent
        With which row the harm began, and how many came from then on.
    """
    if n_recent < LEAST_ROWS:
        return learnt
    just_before = harm - timedelta(microseconds=1)
    return just_before if learnt is None else max(learnt, just_before)


def outside(labelled: pl.DataFrame, periods: Sequence[Period]) -> pl.DataFrame:
    """Return labelled predictions without those that were answered in some times."""
    for each in periods:
        labelled = labelled.filter(~pl.col("at").is_between(each.since, each.until))
    return labelled


def snapshot_schema(workspace: Workspace, sourced: Sourced) -> dict[str, pl.DataType]:
    """Return the columns of the snapshot with their types."""
    digest = Snapshot.from_json(sourced.snapshot).digest
    return dict(pl.read_parquet_schema(workspace.artifacts.local_path(digest)))


def write_live_rows(
    ledger: Ledger,
    labelled: pl.DataFrame,
    path: Path,
    *,
    signature: Signature,
    schema: Mapping[str, pl.DataType],
    target: Target,
    since: datetime | None,
) -> int:
    """Write labelled live rows as rows of the source, oldest first; return how many are fresh.

    Parameters
    ----------
    labelled
        hash, inference_id, at and label, by time.
    path
        The Parquet file: the columns of the snapshot and `__fresh`, true for rows answered after
        `since`, which no model has learnt from. Columns the endpoint does not ask for are null.
    signature
        How the endpoint reads a row; inputs are read the same way here.
    schema
        The columns of the source and their types.
    target
        Where the label goes.
    """
    folder = path.with_suffix(".parts")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    n_fresh = 0
    try:
        for number, (rows, texts) in enumerate(_with_inputs(ledger, labelled)):
            read = [json.loads(text) for text in texts]
            names = dict.fromkeys(name for row in read for name in row)
            whole = [{**names, **row} for row in read]
            # columns the model does not read are kept as they came
            full = [{**row, **signature.check_row(row, index=i)} for i, row in enumerate(whole)]
            fresh = (rows["at"] > since) if since is not None else rows["at"].is_not_null()
            n_fresh += int(fresh.sum())
            frame = _typed(full, rows["label"].to_list(), schema, target)
            frame = frame.with_columns(fresh.alias("__fresh"))
            frame.write_parquet(folder / f"{number:06d}.parquet", compression="zstd")
        query = pl.scan_parquet(sorted(folder.glob("*.parquet")))
        query.sink_parquet(path, compression="zstd", maintain_order=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return n_fresh


def _with_inputs(
    ledger: Ledger, labelled: pl.DataFrame
) -> Iterator[tuple[pl.DataFrame, list[str]]]:
    """Yield some labelled predictions at a time with their inputs as JSON."""
    for part in labelled.iter_slices(_ROWS_AT_ONCE):
        inputs = ledger.inputs(part["hash"])
        rows = part.join(inputs, on="inference_id", how="left", maintain_order="left")
        yield rows, [text or "{}" for text in rows["inputs"].to_list()]


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
