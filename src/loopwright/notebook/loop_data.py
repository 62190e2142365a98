"""What a loop knows of its data: rows read again, snapshots, and what people know of columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from loopwright.data import Snapshot, scan
from loopwright.loop import (
    Refreshed,
    StepNews,
    Store,
    Workspace,
    accept_snapshot,
    find_snapshot,
    list_snapshots,
    read_loop_file,
    refresh_due_rows,
    refresh_rows,
    watch_rows,
)
from loopwright.notebook.home import existing_workspace
from loopwright.settings import Settings
from loopwright.wiring import find_workspace, open_workspace

if TYPE_CHECKING:
    import polars as pl

    from loopwright.explore import ColumnNote
    from loopwright.loop.file import ReadFile

OnNews = Callable[[StepNews], None]


class LoopData:
    """The rows of a loop and the notes on its columns; the data side of `Loop`."""

    settings: Settings
    read: ReadFile

    @property
    def name(self) -> str:
        """The loop's name."""
        return self.read.content.name

    def note(
        self,
        column: str,
        *,
        text: str = "",
        decision: str | None = None,
        unit: str = "",
        allowed_range: tuple[float | None, float | None] | None = None,
        by: str = "",
    ) -> ColumnNote:
        """Note what you know about a column; the next run goes by it.

        It shows in the profile and, with a decision, as the reason in the recipe. What is not given
        stays as it was noted before. See `loopwright.explore.ColumnNote` for the arguments.

        Parameters
        ----------
        by
            Who says so; the user of this session when absent.

        Raises
        ------
        InvalidInputError
            If there is no such column, the loop file says the opposite, or the note says nothing.
        """
        from loopwright.explore import ColumnNote, checked_note, save_note
        from loopwright.loop.noting import check_note_over_loop

        self.read = read_loop_file(self.read.path)
        known = find_workspace(self.settings)
        note = checked_note(
            ColumnNote(
                column=column,
                text=text,
                decision=cast("Any", decision),
                unit=unit,
                allowed_range=allowed_range,
            )
        )
        check_note_over_loop(self.read.content, note, self._columns(known))
        workspace = known or open_workspace(self.settings)
        note = replace(note, by=by or workspace.user, at=workspace.clock.now())
        return save_note(workspace.metadata, self.name, note)

    def notes(self) -> tuple[ColumnNote, ...]:
        """Return what was noted about columns."""
        from loopwright.explore import list_notes

        workspace = find_workspace(self.settings)
        return list_notes(workspace.metadata, self.name) if workspace else ()

    def remove_note(self, column: str) -> None:
        """Take back what was noted about a column; its history stays.

        Raises
        ------
        NotFoundError
            If there is no note on it.
        """
        from loopwright.explore import remove_note

        workspace = self._workspace()
        remove_note(workspace.metadata, self.name, column, by=workspace.user)

    def _columns(self, workspace: Workspace | None) -> list[str]:
        """Return the columns of the source; none before the first run."""
        record = workspace.metadata.find("source", self.name) if workspace else None
        return [column["name"] for column in record.body["snapshot"]["columns"]] if record else []

    def refresh(self, *, full: bool = False, only_due: bool = False) -> Refreshed:
        """Read the source now and keep what is new, without a round; see `data.refresh`.

        Parameters
        ----------
        full
            Whether to read all rows although the loop file names a cursor.
        only_due
            Whether to read only if the last reading is older than `data.refresh.every`; `full` is
            not looked at then.
        """
        self.read = read_loop_file(self.read.path)
        if only_due:
            return refresh_due_rows(self.read, self._store())
        return refresh_rows(
            self.read,
            home=self.settings.home,
            find_workspace=lambda: find_workspace(self.settings),
            open_workspace=lambda: open_workspace(self.settings),
            full=full,
        )

    def watch_rows(self, tell: Callable[[str], object] = print) -> None:
        """Keep reading the source on its schedule, `data.refresh.every`, until interrupted."""
        watch_rows(self.read.path, self._store(), tell=tell)

    def _store(self) -> Store:
        return Store(
            home=self.settings.home,
            find_workspace=lambda: find_workspace(self.settings),
            open_workspace=lambda: open_workspace(self.settings),
        )

    def snapshots(self) -> list[dict[str, Any]]:
        """Return the record of every snapshot of the loop, oldest first, with its lineage."""
        return list_snapshots(self._workspace().metadata, self.name)

    def rows(self, snapshot: str = "current") -> pl.LazyFrame:
        """Return the rows of a snapshot, read lazily.

        Parameters
        ----------
        snapshot
            A digest or the start of one; `current` for the rows the loop goes by, `latest` for the
            newest, which may be quarantined.
        """
        workspace = self._workspace()
        found = find_snapshot(workspace.metadata, snapshot, loop=self.name)
        return scan(Snapshot.from_json(found["snapshot"]), workspace.artifacts)

    def accept_rows(self, *, reason: str = "") -> dict[str, Any]:
        """Take the quarantined rows; the contract is made anew from them. Returns their record.

        Raises
        ------
        WrongStateError
            If nothing is quarantined.
        """
        return accept_snapshot(self._workspace(), self.name, reason=reason)

    def _workspace(self) -> Workspace:
        return existing_workspace(self.settings)
