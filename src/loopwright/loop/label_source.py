"""Ground truth from a source of its own: read where the last look ended, checked, and logged."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.core.files import write_atomically
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.core.quantity import seconds
from loopwright.data import Source, open_source
from loopwright.data.increment import NarrowingSource
from loopwright.deploy import Label, LabelLog
from loopwright.deploy.capture import utc_text
from loopwright.loop.file import LoopFile
from loopwright.loop.sourcing import Target
from loopwright.loop.workspace import Workspace
from loopwright.monitor import LabelPlan
from loopwright.monitor.label import read_label_values
from loopwright.monitor.ledger_row import key_text

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_SOURCE = "source"
_SEED = 20_261_122
_FEW_ROWS = 20
_SKEW = timedelta(minutes=5)


class SourceState(msgspec.Struct, frozen=True, kw_only=True):
    """How far a label source was read, and what became of its rows.

    Parameters
    ----------
    spec
        The block it was read by; another begins anew.
    fingerprint
        Of the source when it was read last.
    until
        The latest label time that was read, once everything before it was taken.
    n_taken, n_unreadable
        Labels taken, and rows passed over because they are none.
    n_future
        Labels whose time lay more than five minutes ahead: they count from when they were read.
    problem
        Why the last reading took not all there was; empty when it did.
    """

    spec: str
    fingerprint: str | None = None
    until: datetime | None = None
    n_taken: int = 0
    n_unreadable: int = 0
    n_future: int = 0
    problem: str = ""


def fetch_labels(workspace: Workspace, loop: LoopFile, target: Target) -> SourceState | None:
    """Log the labels that are new in a loop's label source, and return how it stands.

    None where the loop file names no source. A source that cannot be read, has other columns or
    gives batches that are hardly labels is told in `problem` and read again at the next look; it
    never stops the monitor. A process that is killed on the way logs some labels twice, which says
    the same thing twice.
    """
    plan = loop.monitor.labels
    if plan is None or plan.source is None or loop.deploy is None:
        return None
    folder = workspace.endpoint_folder(loop.deploy.endpoint)
    state = _state(workspace, loop.name, plan)
    try:
        source = open_source(plan.source, _base(workspace, loop.name))
        fingerprint = source.fingerprint()
        if not state.problem and fingerprint is not None and fingerprint == state.fingerprint:
            return state
        state = _read(source, plan, target, folder, state, now=workspace.clock.now())
        state = msgspec.structs.replace(state, fingerprint=fingerprint)
    except (InvalidInputError, BackendError) as error:
        state = msgspec.structs.replace(state, problem=f"{error.message} {error.hint}".strip())
    workspace.metadata.put("label_source", loop.name, msgspec.to_builtins(state))
    return state


def source_state(workspace: Workspace, name: str) -> SourceState | None:
    """Return how the label source of a loop stands; None if it was never read."""
    record = workspace.metadata.find("label_source", name)
    return msgspec.convert(record.body, SourceState) if record else None


def _state(workspace: Workspace, name: str, plan: LabelPlan) -> SourceState:
    spec = msgspec.json.encode([type(plan.source).__name__, plan.key, plan.label, plan.at]).decode()
    known = source_state(workspace, name)
    return known if known is not None and known.spec == spec else SourceState(spec=spec)


def _base(workspace: Workspace, name: str) -> Path:
    record = workspace.metadata.find("loop", name)
    return Path(record.body["file"]).parent if record else Path()


def _read(
    source: Source,
    plan: LabelPlan,
    target: Target,
    folder: Path,
    state: SourceState,
    *,
    now: datetime,
) -> SourceState:
    columns = _columns(source, plan, target)
    since = None
    if state.until is not None:
        since = state.until - timedelta(seconds=seconds(plan.lag, field="monitor.labels.lag"))
    known = _known(folder, since)
    problem, latest = "", state.until
    log = LabelLog(folder / "labels")
    try:
        for batch in _batches(source, plan.at, since):
            rows = _rows(batch, columns, plan, target, now=now)
            told = _told_fault(rows, plan)
            if told:
                problem = problem or told
                continue
            good = rows.filter(pl.col("reason").is_null())
            if since is not None:
                good = good.filter(pl.col("at") >= since)
            new = good.filter(~pl.col("hash").is_in(known["hash"].implode()))
            log.append(_labels(new, plan))
            known = pl.concat([known, new.select("hash", "at")])
            times = [each for each in (latest, good["at"].max()) if isinstance(each, datetime)]
            latest = max(times, default=None)
            state = msgspec.structs.replace(
                state,
                n_taken=state.n_taken + new.height,
                n_unreadable=state.n_unreadable + rows.height - rows["reason"].null_count(),
                n_future=state.n_future + int(new["is_future"].sum()),
            )
    finally:
        log.close()
    _keep_known(folder, known)
    # what a bad batch holds may be older than what was taken: the next look begins where this did
    until = latest if plan.at is not None and not problem else state.until
    return msgspec.structs.replace(state, until=until, problem=problem)


def _columns(source: Source, plan: LabelPlan, target: Target) -> dict[str, str]:
    """Return which column of the source is what."""
    schema = source.schema()
    label = plan.label or (target.column if target.column in schema else "label")
    columns = {"key": plan.key, "label": label} | ({"at": plan.at} if plan.at else {})
    for name in columns.values():
        if name not in schema:
            raise InvalidInputError(
                f"The label source has no column {name!r}; it has {', '.join(schema)}.",
                hint=did_you_mean(name, schema),
                field="monitor.labels",
                value=name,
            )
    return columns


def _batches(source: Source, at: str | None, since: datetime | None) -> Iterator[pl.DataFrame]:
    narrowed = source
    if at is not None and since is not None and isinstance(source, NarrowingSource):
        dtype = source.schema()[at]
        if dtype == pl.Date:
            narrowed = source.since(at, since.date())
        elif isinstance(dtype, pl.Datetime):
            aware = dtype.time_zone is not None
            narrowed = source.since(at, since if aware else since.replace(tzinfo=None))
    yield from narrowed.batches()


def _rows(
    batch: pl.DataFrame,
    columns: dict[str, str],
    plan: LabelPlan,
    target: Target,
    *,
    now: datetime,
) -> pl.DataFrame:
    """Return the labels of a batch: key, value, at, is_future, hash, and reason where it is none."""
    is_id = plan.key == "inference_id"
    keys = batch[columns["key"]]
    times = _moments(batch[columns["at"]]) if "at" in columns else None
    table = pl.DataFrame(
        {
            "inference_id": keys.cast(pl.String, strict=False) if is_id else key_text(keys),
            "label": batch[columns["label"]],
            "at": times if times is not None else pl.Series([now] * batch.height),
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )
    read = read_label_values(table, task=target.task, classes=target.classes)  # type: ignore[arg-type] # checked when it was read
    return read.with_columns(
        (pl.col("at") > now + _SKEW).alias("is_future"),
        pl.struct(
            "inference_id",
            pl.col("value").cast(pl.String),
            "at" if times is not None else pl.lit(0),
        )
        .hash(_SEED)
        .alias("hash"),
        pl.min_horizontal(pl.col("at"), pl.lit(now, dtype=pl.Datetime("us", "UTC"))).alias("at"),
    )


def _moments(values: pl.Series) -> pl.Series:
    """Return times in UTC, null where they cannot be read; those without a zone are in UTC."""
    if values.dtype == pl.String:
        texts = values.str.strip_chars().str.replace("T", " ", literal=True).str.strip_suffix("Z")
        found = pl.Series([None] * len(values), dtype=pl.Datetime("us"))
        for format_ in ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f%:z"):
            read = texts.str.to_datetime(format_, strict=False, time_unit="us")
            if read.dtype.time_zone is not None:  # type: ignore[attr-defined] # a Datetime, asked above
                read = read.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
            found = found.fill_null(read)
        dates = texts.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
        return found.fill_null(dates).dt.replace_time_zone("UTC")
    if values.dtype == pl.Date:
        return values.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if isinstance(values.dtype, pl.Datetime):
        aware = values.dtype.time_zone is not None
        zoned = values.dt.convert_time_zone("UTC") if aware else values.dt.replace_time_zone("UTC")
        return zoned.dt.cast_time_unit("us")
    return pl.Series([None] * len(values), dtype=pl.Datetime("us", "UTC"))


def _told_fault(rows: pl.DataFrame, plan: LabelPlan) -> str:
    """Return why nothing of a batch can be taken; empty if it can."""
    wrong = rows.filter(pl.col("reason").is_not_null())
    if rows.height < _FEW_ROWS or wrong.height <= plan.most_unreadable * rows.height:
        return ""
    reason, n = wrong["reason"].value_counts(sort=True).row(0)
    return (
        f"{wrong.height:,} of {rows.height:,} rows of a batch are no labels ({n:,}: {reason}), so "
        "nothing of it was taken. Mend the source; it is read again at the next look."
    )


def _labels(rows: pl.DataFrame, plan: LabelPlan) -> list[Label]:
    is_id = plan.key == "inference_id"
    return [
        Label(
            inference_id=key if is_id else "",
            key=None if is_id else key,
            label=value,
            at=utc_text(at),
            source=_SOURCE,
        )
        for key, value, at in rows.select("inference_id", "value", "at").iter_rows()
    ]


def _known(folder: Path, since: datetime | None) -> pl.DataFrame:
    """Return the rows that were taken and may come again."""
    path = folder / "label_source.parquet"
    schema = {"hash": pl.UInt64(), "at": pl.Datetime("us", "UTC")}
    frame = pl.read_parquet(path) if path.exists() else pl.DataFrame(schema=schema)
    return frame if since is None else frame.filter(pl.col("at") >= since)


def _keep_known(folder: Path, known: pl.DataFrame) -> None:
    import io

    held = io.BytesIO()
    known.write_parquet(held, compression="zstd")
    write_atomically(folder / "label_source.parquet", held.getvalue())
