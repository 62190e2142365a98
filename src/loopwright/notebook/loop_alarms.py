"""What a loop tells people by itself: its alarms, and the watch kept over it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from loopwright.loop.alarm import AlarmRecord, acknowledge_alarm, find_alarm, list_alarms
from loopwright.loop.workspace import Workspace
from loopwright.notebook.display import Alarms
from loopwright.notebook.home import existing_workspace
from loopwright.settings import Settings
from loopwright.wiring import compute_capacity, kept_open

if TYPE_CHECKING:
    from loopwright.loop import StepNews
    from loopwright.loop.chronicle import Chronicle
    from loopwright.loop.file import ReadFile


class LoopAlarms:
    """The alarms of a loop, and the watch over it; a side of `Loop`."""

    settings: Settings
    read: ReadFile

    def alarms(self, *, include_closed: bool = False) -> Alarms:
        """Return the open alarms of the loop, or all it ever had, oldest first."""
        name = self.read.content.name
        return Alarms(list_alarms(self._home(), name, include_closed=include_closed))

    def alarm(self, alarm_id: str) -> AlarmRecord:
        """Return one alarm, by its id or the start of it.

        Raises
        ------
        NotFoundError
            If there is none.
        """
        return find_alarm(self._home(), self.read.content.name, alarm_id)

    def acknowledge(self, alarm_id: str, *, reason: str = "", name: str = "") -> AlarmRecord:
        """Say that you know of an alarm; it stays open until it is over.

        Parameters
        ----------
        alarm_id
            Its id, or the start of it.
        reason
            What it is about; kept on record.
        name
            Who says so; you when empty.

        Raises
        ------
        NotFoundError
            If there is no such alarm.
        WrongStateError
            If it is over.
        """
        return acknowledge_alarm(
            self._home(), self.read.content.name, alarm_id, by=name, reason=reason
        )

    def accept_change(self, alarm_id: str, *, reason: str, name: str = "") -> AlarmRecord:
        """Take the change behind a data or error alarm as the new normal; its alarm is over.

        The columns that moved are compared with the rows since the change from now on, until
        another model version answers.

        Parameters
        ----------
        alarm_id
            Its id, or the start of it.
        reason
            Why it is no fault; kept on record.
        name
            Who says so; you when empty.

        Raises
        ------
        NotFoundError
            If there is no such alarm.
        WrongStateError
            If it is over, of another kind, or fewer than 100 rows came since the change; or if the
            loop is being run.
        """
        from loopwright.loop.acceptance import accept_change
        from loopwright.loop.workspace import locked_loop

        workspace = self._home()
        with locked_loop(workspace.home, self.read.content.name):
            return accept_change(workspace, self.read.content, alarm_id, by=name, reason=reason)

    def chronicle(self) -> Chronicle:
        """Return the whole history of the loop in time; `page` shows it."""
        from loopwright.loop.chronicle import chronicle

        return chronicle(self._home(), self.read.content.name)

    def test_sinks(self) -> dict[str, str]:
        """Send a test message to every sink of the loop file now; return what became of each.

        The answer is `sent`, or why it was not.
        """
        from loopwright.loop.outbox import sent_tests

        return sent_tests(self._home(), self.read)

    def watch(
        self,
        tell: Callable[[str], object] = print,
        *,
        on_news: Callable[[StepNews], None] | None = None,
    ) -> None:
        """Look after the loop on its schedules until interrupted; see `loopwright monitor --watch`."""
        from loopwright.loop.unattended import help_of, watch_loop

        given = help_of(
            kept_open(self.settings),
            compute_capacity(self.settings),
            on_news or (lambda _news: None),
        )
        watch_loop(self.read.path, given, tell=tell)

    def _home(self) -> Workspace:
        return existing_workspace(self.settings)
