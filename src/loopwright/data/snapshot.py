"""A frozen copy of a source: one typed Parquet artifact and what is known about it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.data.conversion import Conversion, check_convertible, convert
from loopwright.data.decision import decide_conversions, is_settled
from loopwright.data.piece import changed
from loopwright.data.room import enough_room
from loopwright.data.row_group import are_joinable, join_groups, write_groups
from loopwright.data.staged_part import as_table
from loopwright.data.staging import staged_parts

if TYPE_CHECKING:
    import polars as pl

    from loopwright.core.clock import Clock
    from loopwright.data.source import Source
    from loopwright.store.artifact import ArtifactStore
else:
    pl = LazyModule("polars")

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a snapshot and its type, as Polars names it."""

    name: str
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Rows as they were at one moment; `digest` names their Parquet artifact.

    Parameters
    ----------
    digest
        Digest of the Parquet bytes. The same rows give the same digest, whichever source they came
        from and however they were cut into batches.
    n_rows
        Number of rows, at least 1.
    columns
        Columns in order.
    source
        One line about where the rows came from, without credentials.
    fingerprint
        The fingerprint of the source when it was read; None if it has none.
    conversions
        What was done to the representation of the cells.
    taken_at
        When, in UTC.
    """

    digest: str
    n_rows: int
    columns: tuple[Column, ...]
    source: str
    fingerprint: str | None
    conversions: tuple[Conversion, ...]
    taken_at: datetime

    def to_json(self) -> dict[str, Any]:
        """Return the snapshot as JSON types."""
        return {
            "version": _VERSION,
            "digest": self.digest,
            "n_rows": self.n_rows,
            "columns": [{"name": column.name, "dtype": column.dtype} for column in self.columns],
            "source": self.source,
            "fingerprint": self.fingerprint,
            "conversions": [conversion.to_json() for conversion in self.conversions],
            "taken_at": self.taken_at.isoformat(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Snapshot:
        """Return the snapshot that `to_json` wrote.

        Raises
        ------
        InvalidInputError
            If it was written by a later release.
        """
        if value["version"] != _VERSION:
            raise InvalidInputError(
                f"The snapshot record has version {value['version']}; this release reads {_VERSION}.",
                hint="Use the release that wrote it, or a later one.",
                field="version",
                value=value["version"],
            )
        return cls(
            digest=value["digest"],
            n_rows=value["n_rows"],
            columns=tuple(Column(**column) for column in value["columns"]),
            source=value["source"],
            fingerprint=value["fingerprint"],
            conversions=tuple(Conversion.from_json(item) for item in value["conversions"]),
            taken_at=datetime.fromisoformat(value["taken_at"]),
        )


def take_snapshot(
    source: Source,
    *,
    artifacts: ArtifactStore,
    clock: Clock,
    folder: Path,
    conversions: Sequence[Conversion] | None = None,
    keep: Path | None = None,
) -> Snapshot:
    """Copy all rows of a source into one typed Parquet artifact and return its description.

    Rows pass through in batches: memory stays bounded however large the source is. `folder` takes
    temporary files of about twice the size of the snapshot.

    Parameters
    ----------
    source
        Where the rows come from.
    artifacts
        Where the copy goes.
    clock
        Tells when it was taken.
    folder
        An existing folder for temporary files.
    conversions
        Those of an earlier snapshot, to read the cells in the same way; decided anew when absent.
    keep
        See `loopwright.data.staging.staged`: a reading that broke off is gone on with from there.

    Raises
    ------
    InvalidInputError
        If the source has no rows, is broken, or has cells that `conversions` cannot read.
    BackendError
        If the database fails again and again, or the source changed while it was read; `retryable`
        is then set. If the disk is full.
    """
    fingerprint = source.fingerprint()
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix="snapshot-") as temporary,
        staged_parts(source, Path(temporary), keep=keep) as parts,
    ):
        raw = as_table(parts, Path(temporary))
        if raw is None:
            raise InvalidInputError(
                f"The {source.describe()} gives no rows.",
                hint="Choose a source with at least a few dozen rows.",
                field="data.source",
            )
        are_own = conversions is None
        if conversions is None:
            conversions = decide_conversions(raw)
        else:
            check_convertible(raw, conversions)
        check_unchanged(source, fingerprint)
        change = partial(convert, conversions=conversions, are_own=are_own)
        whole = Path(temporary) / "snapshot.parquet"
        if are_own and are_joinable(parts):
            with enough_room(whole.parent):
                _join(parts, raw, conversions, whole)
            digest, columns, n_rows = _kept(whole, artifacts)
        else:
            digest, columns, n_rows = frozen(changed(raw, change), artifacts, Path(temporary))
    return Snapshot(
        digest=digest,
        n_rows=n_rows,
        columns=columns,
        source=source.describe(),
        fingerprint=fingerprint,
        conversions=tuple(conversions),
        taken_at=clock.now(),
    )


def _join(
    parts: Sequence[Path], raw: pl.LazyFrame, conversions: Sequence[Conversion], whole: Path
) -> None:
    """Write the file of a snapshot out of its parts; only columns that change are packed again."""
    types = raw.collect_schema()
    schema = convert(raw, conversions, are_own=True).collect_schema()
    changing = {each.column for each in conversions}
    kept = [
        name
        for name, dtype in schema.items()
        if name not in changing and dtype == types[name] and is_settled(dtype)
    ]

    def others(path: Path, names: Sequence[str]) -> pl.DataFrame:
        rows = pl.scan_parquet(path, glob=False).select(pl.col(n).cast(types[n]) for n in names)
        of = [each for each in conversions if each.column in names]
        return convert(rows, of, are_own=True).collect()

    join_groups(parts, schema, whole, kept=kept, others=others)


def check_unchanged(source: Source, fingerprint: str | None) -> None:
    """Raise if a source is no longer what it was when its reading began.

    Raises
    ------
    BackendError
        If its fingerprint is another one; `retryable` is set.
    """
    if source.fingerprint() != fingerprint:
        raise BackendError(
            f"The {source.describe()} changed while it was read.",
            hint="Try again when nothing writes to it.",
            retryable=True,
        )


def frozen(
    rows: pl.LazyFrame, artifacts: ArtifactStore, place: Path
) -> tuple[str, tuple[Column, ...], int]:
    """Keep typed rows as one Parquet artifact; return its digest, its columns and its rows.

    The rows stream through in the given order, and fixed row groups make the bytes a function of
    the rows alone. `place` is an existing folder for the file on the way.
    """
    whole = place / "snapshot.parquet"
    with enough_room(place):
        write_groups(rows, whole)
    return _kept(whole, artifacts)


def _kept(whole: Path, artifacts: ArtifactStore) -> tuple[str, tuple[Column, ...], int]:
    written = pl.scan_parquet(whole, glob=False)
    columns = tuple(Column(name=n, dtype=str(t)) for n, t in written.collect_schema().items())
    n_rows = int(written.select(pl.len()).collect().item())
    return artifacts.put_file(whole), columns, n_rows


def scan(snapshot: Snapshot, artifacts: ArtifactStore) -> pl.LazyFrame:
    """Return the rows of a snapshot, to be read lazily.

    Raises
    ------
    NotFoundError
        If the artifact store no longer has them.
    """
    return pl.scan_parquet(artifacts.local_path(snapshot.digest), glob=False)
