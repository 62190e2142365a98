"""What a person says to the feedback loop: hold, freeze, go on, go round again; and its history."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from loopwright.core.errors import InvalidInputError, WrongStateError
from loopwright.loop.driving import carry_out
from loopwright.loop.feedback_history import LoopHistory, loop_history
from loopwright.loop.feedback_state import (
    STOPPED,
    BeginRound,
    Event,
    Frozen,
    Held,
    LoopState,
    Resumed,
)
from loopwright.loop.feedback_store import carried_out, pending_effects, state_of, tell
from loopwright.loop.workspace import Workspace, locked_loop
from loopwright.notebook.home import existing_workspace
from loopwright.settings import Settings

if TYPE_CHECKING:
    from loopwright.loop import StepNews
    from loopwright.loop.file import ReadFile
    from loopwright.notebook.display import RunResult


class LoopFeedback:
    """The decisions of a loop, and a person's say in them; a side of `Loop`."""

    settings: Settings
    read: ReadFile
    if TYPE_CHECKING:
        run: Callable[..., RunResult]

    def hold(self, *, reason: str, name: str = "") -> LoopState:
        """Let no round begin until `resume`; the champion answers, and a canary is given back.

        Parameters
        ----------
        reason
            Why; kept on record.
        name
            Who says so; you when empty.

        Raises
        ------
        InvalidInputError
            If no reason is given.
        WrongStateError
            If the loop is held or frozen already.
        """
        return self._said(Held, reason=reason, name=name)

    def freeze(self, *, reason: str, name: str = "") -> LoopState:
        """Let nothing be begun or taken further until `resume`; the champion answers.

        Parameters
        ----------
        reason, name
            See `hold`.

        Raises
        ------
        InvalidInputError
            If no reason is given.
        WrongStateError
            If the loop is frozen already.
        """
        return self._said(Frozen, reason=reason, name=name)

    def resume(self, *, reason: str, name: str = "") -> LoopState:
        """Let a held or frozen loop go on where it was stopped; the next run does.

        Parameters
        ----------
        reason, name
            See `hold`.

        Raises
        ------
        InvalidInputError
            If no reason is given.
        WrongStateError
            If the loop is neither held nor frozen.
        """
        return self._said(Resumed, reason=reason, name=name)

    def retrain(
        self, *, reason: str, on_news: Callable[[StepNews], None] | None = None
    ) -> RunResult:
        """Go round again with the labelled live rows although nothing calls for it.

        The challenger must be better than the champion beyond doubt.

        Parameters
        ----------
        reason
            Why; kept on record.
        on_news
            See `Loop.run`.

        Raises
        ------
        InvalidInputError
            If no reason is given.
        WrongStateError
            If a round is under way, the loop is held, the data are faulty, or too few labelled rows
            have come.
        """
        state = self._feedback_state(_checked(reason))
        if state.state in STOPPED:
            raise _stopped(self.read.content.name, state)
        return self.run(retrain=reason, on_news=on_news)

    def feedback(self) -> LoopHistory:
        """Return where the feedback loop stands, and all its decisions with their evidence."""
        return loop_history(existing_workspace(self.settings), self.read.content.name)

    def _feedback_state(self, _reason: str) -> LoopState:
        workspace = existing_workspace(self.settings)
        return state_of(workspace.metadata, self.read.content.name, now=workspace.clock.now())

    def _said(
        self, kind: type[Held] | type[Frozen] | type[Resumed], *, reason: str, name: str
    ) -> LoopState:
        before = self._feedback_state(_checked(reason))
        loop = self.read.content.name
        is_resumed = kind is Resumed
        again = before.state in STOPPED and not (kind is Frozen and before.state == "held")
        if is_resumed and before.state not in STOPPED:
            raise WrongStateError(
                f"The loop {loop!r} is neither held nor frozen: it stands at {before.state!r}.",
                hint="`loopwright status` shows where it stands.",
                kind="loop",
                name=loop,
            )
        if again and not is_resumed:
            raise _stopped(loop, before)
        workspace = existing_workspace(self.settings)
        event: Event = kind(by=name or workspace.user, reason=reason)
        state = tell(workspace.metadata, loop, event, now=workspace.clock.now())
        self._give_back(workspace)
        return state

    def _give_back(self, workspace: Workspace) -> None:
        """Carry out at once what can be, unless a run of the loop is there to do it."""
        loop = self.read.content
        pending = pending_effects(workspace.metadata, loop.name)
        if not pending or any(isinstance(effect, BeginRound) for _, effect in pending):
            return
        try:
            with locked_loop(workspace.home, loop.name):
                carried_out(
                    workspace.metadata,
                    loop.name,
                    lambda effect: carry_out(workspace, loop, effect, lambda _news: None),
                )
        except WrongStateError:
            return  # whoever runs the loop carries it out


def _checked(reason: str) -> str:
    if not reason.strip():
        raise InvalidInputError(
            "A reason is needed: who looks at the loop later will ask for it.",
            hint="Give it with --reason.",
            field="reason",
            value=reason,
        )
    return reason


def _stopped(loop: str, state: LoopState) -> WrongStateError:
    return WrongStateError(
        f"The loop {loop!r} is {state.state} since {state.since:%Y-%m-%d %H:%M} UTC: "
        f"{state.reason.rstrip('.')}.",
        hint="`loopwright resume FILE --reason WHY` lets it go on.",
        kind="loop",
        name=loop,
    )
