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
from loopwright.core.quantity import seconds
from loopwright.data import Snapshot, open_source, take_snapshot
from loopwright.data.source import check_target
from loopwright.loop.file import ReadFile
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


class Sourced(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of the source, when it was taken, and the target in it."""

    source_digest: str
    fingerprint: str | None
    snapshot: dict[str, Any]
    target: Target
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """What a look at the source gave.

    `parquet` is the new snapshot's file, in a temporary folder that lives as long as the context
    of `extracted`; None when the snapshot that is already kept still stands.
    """

    sourced: Sourced
    parquet: Path | None


@contextmanager
def extracted(
    read: ReadFile,
    *,
    metadata: MetadataStore | None,
    artifacts: ArtifactStore | None,
    clock: Clock,
    refresh: bool,
    scratch: Path | None,
) -> Iterator[Extraction]:
    """Give the rows of the source, extracted anew only when they may have changed.

    Nothing is written into the store: a source or a target that cannot be used leaves no trace.

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
    digest = digest_value(
        [msgspec.to_builtins(loop.data.source), str(read.folder), loop.problem.target]
    )
    kept = _kept(loop.name, metadata)
    if kept is not None and not refresh and _stands(kept, artifacts):
        same = kept.source_digest == digest
        if fingerprint is not None:
            stands = same and kept.fingerprint == fingerprint
        else:
            stands = same and not _due(kept.at, loop.data.refresh, clock.now())
        if stands:
            target = _retargeted(kept.target, read)
            yield Extraction(sourced=msgspec.structs.replace(kept, target=target), parquet=None)
            return
    source.check(loop.problem.target)
    from loopwright.store import MemoryArtifactStore

    with tempfile.TemporaryDirectory(prefix="loopwright-", dir=scratch) as folder:
        store = MemoryArtifactStore(Path(folder))
        snapshot = take_snapshot(source, artifacts=store, clock=clock, folder=Path(folder))
        parquet = store.local_path(snapshot.digest)
        target = found_target(parquet, read)
        yield Extraction(
            sourced=Sourced(
                source_digest=digest,
                fingerprint=fingerprint,
                snapshot=snapshot.to_json(),
                target=target,
                at=clock.now(),
            ),
            parquet=parquet,
        )


def _kept(name: str, metadata: MetadataStore | None) -> Sourced | None:
    record = metadata.find("source", name) if metadata else None
    return msgspec.convert(record.body, Sourced) if record else None


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
    checked_problem(problem, task=target.task)
    if target.task == "binary" and problem.positive is not None:
        wanted = class_text(problem.positive)
        if wanted not in target.classes:
            raise InvalidInputError(
                f"problem.positive is {problem.positive!r}, which is no value of "
                f"{target.column!r}: it has {' and '.join(map(repr, target.classes))}.",
                hint="Name one of them.",
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
