"""The rows a round works on: extracted once, checked before anything is kept."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.clock import Clock
from loopwright.core.digest import digest_value
from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.core.quantity import seconds
from loopwright.data import Contract, Snapshot, open_source
from loopwright.data.source import check_target
from loopwright.loop.file import ReadFile
from loopwright.loop.intake import Before, Intake, take_rows
from loopwright.problem import checked_problem, inferred_task
from loopwright.train import class_text

if TYPE_CHECKING:
    import polars as pl

    from loopwright.store import ArtifactStore, MetadataStore
else:
    pl = LazyModule("polars")

MAX_CLASSES = 200
_AFFIRMATIVE = frozenset(
    {"1", "1.0", "true", "t", "yes", "y", "positive", "bad", "churn", "churned"}
)


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be predicted, as found in the data.

    `classes` are texts, the positive one last when there are two; empty for regression.
    """

    column: str
    task: str
    reason: str
    n_null: int
    classes: tuple[str, ...] = ()


class Quarantine(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that were read later than the good ones and break the contract.

    `note` says so in words; `fingerprint` and `at` are those of the reading.
    """

    digest: str
    fingerprint: str | None
    at: datetime
    note: str


class Sourced(msgspec.Struct, frozen=True, kw_only=True):
    """A good snapshot of the source, when it was taken, and the target in it.

    `quarantine` is there while the newest rows of the source are not fit to be used.
    """

    source_digest: str
    fingerprint: str | None
    snapshot: dict[str, Any]
    target: Target
    at: datetime
    quarantine: Quarantine | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """What a look at the source gave.

    `parquet` is the new snapshot's file, good or quarantined, in a temporary folder that lives as
    long as the context of `extracted`; None when the snapshot that is already kept still stands.
    `intake` tells how the rows were taken in; None when the source was not read.
    """

    sourced: Sourced
    parquet: Path | None
    intake: Intake | None = None


@contextmanager
def extracted(
    read: ReadFile,
    *,
    metadata: MetadataStore | None,
    artifacts: ArtifactStore | None,
    clock: Clock,
    refresh: bool,
    scratch: Path | None,
    full: bool = False,
    home: Path | None = None,
) -> Iterator[Extraction]:
    """Give the rows of the source, extracted anew only when they may have changed.

    Later rows of the same source are held against the contract. Where they break it the snapshot
    before stands, with a `quarantine` that says why. Nothing is written into the store: a source or a target that cannot be used leaves no trace.

    Parameters
    ----------
    read
        The loop file.
    metadata, artifacts
        The store, if there is one already.
    clock
        Tells whether the refresh interval is over.
    refresh
        Whether to extract in any case.
    scratch
        Where the new snapshot is put together; the system's temporary folder when None.
    full
        Whether to read all rows although the loop file names a cursor.
    home
        The folder of the store, be it there already or not: what was read before a break of the
        connection outlives the process there. None for a reading that is not gone on with.

    Raises
    ------
    InvalidInputError
        If the source, the target or the problem stated over it cannot be used.
    BackendError
        If a database cannot be reached.
    """
    loop = read.content
    source = open_source(loop.data.source, read.folder)
    fingerprint = source.fingerprint()
    digest = source_digest(read)
    kept = _kept(loop.name, metadata)
    same = kept is not None and kept.source_digest == digest and _stands(kept, artifacts)
    if kept is not None and same and not refresh:
        seen = kept.quarantine or kept
        stands = (
            seen.fingerprint == fingerprint
            if fingerprint is not None
            else not _due(seen.at, loop.data.refresh, clock.now())
        )
        if stands:
            _check_cursor_name(read, kept)
            target = _retargeted(kept.target, read)
            yield Extraction(sourced=msgspec.structs.replace(kept, target=target), parquet=None)
            return
    before = _before(kept, loop.name, metadata, artifacts) if kept is not None and same else None
    # a target that has gone from a source that had it is for the contract to say
    source.check(loop.problem.target if before is None else None)
    from loopwright.store import MemoryArtifactStore

    with tempfile.TemporaryDirectory(prefix="loopwright-", dir=scratch) as folder:
        store = MemoryArtifactStore(Path(folder))
        intake = take_rows(
            source,
            cursor=loop.data.refresh.cursor,
            before=before,
            artifacts=store,
            clock=clock,
            folder=Path(folder),
            full=full,
            key=loop.data.refresh.keys(),
            plan=loop.data.contract,
            keep=None
            if home is None
            else home / "scratch" / f"reading-{digest.split(':')[-1][:24]}",
        )
        new = intake.snapshot.digest
        parquet = store.local_path(new) if store.has(new) else None
        if kept is not None and (intake.violations or parquet is None):
            sourced = _still(kept, intake, read, fingerprint, clock.now())
        else:
            sourced = Sourced(
                source_digest=digest,
                fingerprint=fingerprint,
                snapshot=intake.snapshot.to_json(),
                target=found_target(store.local_path(new), read),
                at=clock.now(),
            )
        yield Extraction(sourced=sourced, parquet=parquet, intake=intake)


def source_digest(read: ReadFile) -> str:
    """Return a digest of the source and of the target in it, as the loop file names them."""
    loop = read.content
    return digest_value(
        [
            msgspec.to_builtins(loop.data.source),
            str(read.folder),
            loop.problem.target,
            loop.problem.task,
            loop.problem.positive,
        ]
    )


def _kept(name: str, metadata: MetadataStore | None) -> Sourced | None:
    record = metadata.find("source", name) if metadata else None
    return msgspec.convert(record.body, Sourced) if record else None


def _before(
    kept: Sourced, name: str, metadata: MetadataStore | None, artifacts: ArtifactStore | None
) -> Before | None:
    if metadata is None or artifacts is None:
        return None
    record = metadata.find("contract", name)
    return Before(
        snapshot=Snapshot.from_json(kept.snapshot),
        artifacts=artifacts,
        contract=Contract.from_json(record.body["contract"])
        if record is not None and record.body["source_digest"] == kept.source_digest
        else None,
    )


def _still(
    kept: Sourced, intake: Intake, read: ReadFile, fingerprint: str | None, now: datetime
) -> Sourced:
    """Return the good snapshot that stands: nothing is new, or what is new is not fit."""
    target = _retargeted(kept.target, read)
    if not intake.violations:
        return msgspec.structs.replace(
            kept, target=target, fingerprint=fingerprint, at=now, quarantine=None
        )
    quarantine = Quarantine(
        digest=intake.snapshot.digest,
        fingerprint=fingerprint,
        at=now,
        note=_note(intake, kept, read.content.name),
    )
    return msgspec.structs.replace(kept, target=target, quarantine=quarantine)


def _note(intake: Intake, kept: Sourced, name: str) -> str:
    messages = [violation.message for violation in intake.violations]
    more = f" And {len(messages) - 3} more." if len(messages) > 3 else ""
    taken = datetime.fromisoformat(kept.snapshot["taken_at"])
    return (
        f"New rows were quarantined: {' '.join(messages[:3])}{more} The loop goes on with the "
        f"{kept.snapshot['n_rows']:,} rows of {taken:%Y-%m-%d %H:%M} UTC. Correct them at the "
        f"source, or take them: loopwright data accept {name}."
    )


def _check_cursor_name(read: ReadFile, kept: Sourced) -> None:
    """Raise for a cursor that is no column, without loading the rows."""
    cursor = read.content.data.refresh.cursor
    columns = [column["name"] for column in kept.snapshot["columns"]]
    if cursor is not None and cursor not in columns:
        raise InvalidInputError(
            f"The cursor {cursor!r} is not a column.",
            hint=did_you_mean(cursor, columns),
            field="data.refresh.cursor",
            value=cursor,
        )


def _stands(kept: Sourced, artifacts: ArtifactStore | None) -> bool:
    return artifacts is not None and artifacts.has(Snapshot.from_json(kept.snapshot).digest)


def _due(at: datetime, refresh: Any, now: datetime) -> bool:
    """Whether a source that cannot tell of changes is to be read again."""
    if refresh is None or refresh.every is None:
        return False
    return now >= at + timedelta(seconds=seconds(refresh.every, field="data.refresh.every"))


def found_target(parquet: Path, read: ReadFile) -> Target:
    """Return the target in a snapshot, with the problem checked against it.

    Raises
    ------
    InvalidInputError
        If the target, the task, the positive class or a criterion does not fit.
    """
    problem = read.content.problem
    frame = pl.scan_parquet(parquet)
    column = problem.target
    # the source may have been judged before its placeholders became missing values
    check_target(
        column,
        columns=frame.collect_schema().names(),
        n_values=int(frame.select(pl.col(column).drop_nulls().n_unique()).collect().item())
        if column in frame.collect_schema().names()
        else None,
        of="the source",
    )
    values = frame.select(column).collect().to_series()
    present = values.drop_nulls()
    is_numeric = values.dtype.is_numeric()
    if is_numeric and (n_infinite := int(present.is_infinite().sum())):
        raise InvalidInputError(
            f"The target {column!r} is infinite in {n_infinite:,} of {len(values):,} rows.",
            hint="Correct these rows in the source, or leave them out of the query.",
            field="problem.target",
            value=n_infinite,
        )
    n_distinct = present.n_unique()
    is_whole = bool(is_numeric and (present == present.round(0)).all())
    task, reason = inferred_task(is_numeric=is_numeric, is_whole=is_whole, n_distinct=n_distinct)
    if problem.task:
        task, reason = problem.task, "stated in the loop file"
    if task == "regression" and not is_numeric:
        raise InvalidInputError(
            f"The target {column!r} is text, so it cannot be a regression.",
            hint="State problem.task: multiclass, or choose a number as the target.",
            field="problem.task",
            value=task,
        )
    classes = () if task == "regression" else _classes(present, task, column)
    if len(classes) == 2 and problem.positive is None:
        reason += f"; {classes[1]!r} is taken as the positive class"
    return _retargeted(
        Target(
            column=column,
            task=task,
            reason=reason,
            n_null=values.null_count(),
            classes=classes,
        ),
        read,
    )


def _retargeted(target: Target, read: ReadFile) -> Target:
    """Return the target as the present loop file wants it, checked."""
    problem = read.content.problem
    if problem.task and problem.task != target.task and target.classes == ():
        raise InvalidInputError(
            f"problem.task is {problem.task!r}, but the target {target.column!r} is a number with "
            "many values.",
            hint="State task: regression, or derive a target with few values in the source.",
            field="problem.task",
            value=problem.task,
        )
    with read.telling_lines():
        checked_problem(problem, task=target.task)
    if target.task == "binary" and problem.positive is not None:
        wanted = class_text(problem.positive)
        if wanted not in target.classes:
            raise InvalidInputError(
                f"problem.positive is {problem.positive!r}, which is no value of "
                f"{target.column!r}: it has {' and '.join(map(repr, target.classes))}.",
                hint="Name one of them, in quotes: YAML reads Yes, No, on and off as true and false."
                if isinstance(problem.positive, bool)
                else "Name one of them.",
                field="problem.positive",
                value=str(problem.positive),
            )
        other = next(name for name in target.classes if name != wanted)
        return msgspec.structs.replace(target, classes=(other, wanted))
    return target


def _classes(present: pl.Series, task: str, column: str) -> tuple[str, ...]:
    counts = present.value_counts(sort=True)
    names = [class_text(value) for value in counts[present.name].to_list()]
    if len(names) > MAX_CLASSES:
        raise InvalidInputError(
            f"The target {column!r} has {len(names):,} different values; at most {MAX_CLASSES} "
            "classes can be told apart.",
            hint="Group rare values in the source, or state task: regression for a number.",
            field="problem.target",
            value=len(names),
        )
    if task == "binary" and len(names) != 2:
        raise InvalidInputError(
            f"The target {column!r} has {len(names)} different values, so it is not binary.",
            hint="State task: multiclass.",
            field="problem.task",
            value=task,
        )
    if task != "binary":
        return tuple(sorted(names))
    affirmative = [name for name in names if name.lower() in _AFFIRMATIVE]
    chosen = affirmative[0] if len(affirmative) == 1 else names[-1]
    other = next(name for name in names if name != chosen)
    return (other, chosen)


def class_indices(values: pl.Series, classes: tuple[str, ...]) -> pl.Series:
    """Return the index of each value's class as Float64; null where there is no such class."""
    place = {name: float(index) for index, name in enumerate(classes)}
    unique = values.unique().drop_nulls()
    mapping = {value: place.get(class_text(value)) for value in unique.to_list()}
    return pl.Series(
        values.name,
        [None if value is None else mapping[value] for value in values.to_list()],
        dtype=pl.Float64,
    )
