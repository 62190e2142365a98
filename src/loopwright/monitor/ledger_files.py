"""The files of a ledger: which runs of rows count, and every change to that as one commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.errors import BackendError
from loopwright.core.files import write_atomically
from loopwright.core.lazy import LazyModule
from loopwright.core.names import new_id
from loopwright.monitor.label_rule import HeldBatch, LabelCounts
from loopwright.monitor.ledger_row import LedgerAbout, hash_probe
from loopwright.monitor.run_table import Run, merged, to_merge, write_run

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_FORMAT = 1


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger consists of; whatever else lies in its folder is rubbish."""

    epoch: str
    about: LedgerAbout
    probe: tuple[int, ...]
    number: int = 0
    settled: int = 0
    cursors: dict[str, Any] = {}
    runs: dict[str, tuple[Run, ...]] = {}
    counts: LabelCounts = LabelCounts()
    held: tuple[HeldBatch, ...] = ()
    format: int = 1


class LedgerFiles:
    """The runs of a ledger in one folder, with the manifest that says which of them count.

    A run is written before the manifest that names it, and what no manifest names is rubbish: a
    process that is killed has made a change or has not.

    Parameters
    ----------
    folder
        Made when something is written.
    about
        What the rows mean. Files of another meaning, or whose hashes this release of Polars does
        not repeat, are removed.

    Raises
    ------
    BackendError
        If the manifest cannot be read.
    """

    def __init__(self, folder: Path, about: LedgerAbout) -> None:
        self.folder = folder
        self.manifest = self._opened(about)

    def runs(self, table: str) -> tuple[Run, ...]:
        """Return the files of a table, oldest first."""
        return self.manifest.runs.get(table, ())

    def commit(self, parts: Mapping[str, Sequence[pl.DataFrame]], **changes: Any) -> None:
        """Add rows to tables and change the manifest, all of it or nothing.

        Parameters
        ----------
        parts
            New rows by table.
        **changes
            Fields of the manifest, `number` among them.
        """
        runs = dict(self.manifest.runs)
        for table, frames in parts.items():
            rows = pl.concat(frames) if frames else None
            if rows is not None and rows.height:
                run = write_run(self.folder, table, rows, number=changes["number"])
                runs[table] = (*runs.get(table, ()), run)
        self.write(runs=runs, **changes)
        for table in runs:
            self._merge(table)

    def write(self, **changes: Any) -> None:
        """Change fields of the manifest."""
        manifest = msgspec.structs.replace(self.manifest, **changes)
        write_atomically(self.folder / "ledger.json", msgspec.json.encode(manifest))
        self.manifest = manifest

    def _merge(self, table: str) -> None:
        while old := to_merge(self.runs(table)):
            run = merged(self.folder, table, old)
            kept = self.runs(table)[: -len(old)]
            self.write(runs={**self.manifest.runs, table: (*kept, run)})
            for each in old:
                (self.folder / each.name).unlink(missing_ok=True)

    def _opened(self, about: LedgerAbout) -> Manifest:
        probe = hash_probe()
        path = self.folder / "ledger.json"
        try:
            known = msgspec.json.decode(path.read_bytes(), type=Manifest)
        except FileNotFoundError:
            known = None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BackendError(
                f"{path} cannot be read: {error}.",
                hint="Remove its folder: it is made anew from the endpoint's logs.",
                retryable=False,
            ) from error
        if known is None or (known.about, known.probe, known.format) != (about, probe, _FORMAT):
            # what a person rejected stays rejected: told by source and time, numbers begin anew
            held = tuple(each.of_any_number() for each in known.held) if known else ()
            known = Manifest(epoch=new_id(), about=about, probe=probe, held=held)
        self._sweep(known)
        return known

    def _sweep(self, manifest: Manifest) -> None:
        """Remove what a process that was killed, or a ledger of another meaning, left."""
        names = {run.name for runs in manifest.runs.values() for run in runs}
        if manifest.number == 0:
            (self.folder / "ledger.json").unlink(missing_ok=True)
        for path in self.folder.glob("*.parquet"):
            if path.name not in names:
                path.unlink(missing_ok=True)
