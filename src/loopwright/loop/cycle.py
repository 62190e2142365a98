"""One run of a loop: everything checked first, then its rounds, then what it came to."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from loopwright.compute import Capacity
from loopwright.core.clock import SystemClock
from loopwright.core.errors import BackendError, InvalidInputError, WrongStateError
from loopwright.loop.file import ReadFile
from loopwright.loop.golden import check_golden, kept_golden
from loopwright.loop.lineage import keep_extraction
from loopwright.loop.outbox import tell_due
from loopwright.loop.preflight import (
    checked_endpoint,
    checked_over_columns,
    checked_plans,
    checked_rows,
    checked_sizes,
)
from loopwright.loop.progress import look_after_rollout
from loopwright.loop.report_page import keep_report
from loopwright.loop.rounds import Rounds
from loopwright.loop.sourcing import Sourced, extracted
from loopwright.loop.status import LoopStatus, loop_status
from loopwright.loop.step import OnNews, StepRunner
from loopwright.loop.upkeep import keep_upkeep
from loopwright.loop.watching import last_report, look
from loopwright.loop.workspace import Workspace, checked_home, locked_loop
from loopwright.monitor import MonitorReport

EXIT_CODES = {
    "live": 0,
    "rule enough": 0,
    "waiting for approval": 0,
    "rolling out": 0,
    "held": 0,
    "open": 0,
    "criterion missed": 3,
    "rejected": 3,
    "rolled back": 3,
    "not ml": 4,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run came to.

    Parameters
    ----------
    state
        `live`, `waiting for approval`, `rolling out`, `rolled back`, `rule enough`,
        `criterion missed`, `rejected`, `not ml`, or `held`: a person has stopped the loop, or
        faulty data did.
    message
        The result in one or two sentences.
    n_steps
        Steps that did something; 0 means that there was nothing to do.
    wall_s
        Wall time of the whole run in seconds.
    status
        The loop afterwards.
    """

    loop: str
    state: str
    message: str
    n_steps: int
    wall_s: float
    status: LoopStatus

    @property
    def exit_code(self) -> int:
        """0 done, 3 criterion not met, 4 not an ML problem."""
        return EXIT_CODES[self.state]

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as JSON types."""
        return {
            "loop": self.loop,
            "state": self.state,
            "message": self.message,
            "n_steps": self.n_steps,
            "wall_s": round(self.wall_s, 3),
            "exit_code": self.exit_code,
            "status": self.status.to_json(),
        }


def run_loop(
    read: ReadFile,
    *,
    home: Path,
    find_workspace: Callable[[], Workspace | None],
    open_workspace: Callable[[], Workspace],
    capacity: Capacity,
    on_news: OnNews,
    refresh: bool = False,
    overrule: str = "",
    again: str = "",
    retrain: str = "",
) -> Outcome:
    """Take a loop to where it can go now, and go round again if the monitor calls for it.

    An interrupted run goes on after its last finished step. Nothing is written before the file,
    the source, the target, the home folder and the port have been found usable.

    Parameters
    ----------
    read
        The loop file.
    home
        The folder of the store.
    find_workspace
        Opens the store if it exists.
    open_workspace
        Opens the store, making it if needed.
    capacity
        What jobs may use: what asks for more is refused before anything is written.
    on_news
        Told of every step.
    refresh
        Whether to extract the source anew although it need not have changed.
    overrule
        A person's reason to go on although the verdict was that no model is needed; recorded.
    again
        A person's reason to read test rows again that were read for this decision; recorded, and
        shown by every report.
    retrain
        A person's reason to go round again although nothing calls for it; recorded.

    Raises
    ------
    InvalidInputError
        If something given cannot be used; nothing was changed.
    """
    clock = time.perf_counter()
    checked_home(home)
    with read.telling_lines():
        checked_plans(read, capacity)
        check_golden(read)
    rounds: Rounds | None = None
    try:
        workspace = find_workspace()
        with extracted(
            read,
            metadata=workspace.metadata if workspace else None,
            artifacts=workspace.artifacts if workspace else None,
            clock=workspace.clock if workspace else SystemClock(),
            refresh=refresh,
            scratch=workspace.scratch_folder() if workspace else None,
            home=home,
        ) as extraction:
            with read.telling_lines():
                checked_over_columns(read.content, extraction.sourced)
                checked_rows(read.content, extraction, workspace)
                checked_sizes(read.content, extraction.sourced)
                checked_endpoint(read.content, workspace)
            workspace = workspace or open_workspace()
            with locked_loop(home, read.content.name):
                workspace.sweep_scratch()
                keep_extraction(workspace, read, extraction)
                rounds = Rounds(
                    workspace, read, extraction.sourced, on_news, overrule, again, retrain
                )
                rounds.golden = kept_golden(workspace, read)
                with read.telling_lines():
                    state, message = rounds.turn()
                if rounds.n_done:
                    keep_report(workspace, read.content.name)
    except BackendError as error:
        if rounds is None:  # nothing was begun: what was given cannot be used
            raise InvalidInputError(error.message, hint=error.hint, **error.facts) from error
        raise
    keep_upkeep(workspace, read.content)
    tell_due(workspace, read)
    if extraction.sourced.quarantine is not None:
        message = f"{message}\n{extraction.sourced.quarantine.note}"
    return Outcome(
        loop=read.content.name,
        state=state,
        message=message,
        n_steps=rounds.n_done,
        wall_s=time.perf_counter() - clock,
        status=loop_status(workspace, read.content.name),
    )


def look_at_loop(read: ReadFile, *, workspace: Workspace, on_news: OnNews) -> MonitorReport:
    """Look at what the endpoint saw since the last look, and start nothing.

    A rollout that is under way is taken as far as it can go now.

    Raises
    ------
    WrongStateError
        If no model of the loop has gone live yet.
    """
    name = read.content.name
    source, champion = (workspace.metadata.find(kind, name) for kind in ("source", "champion"))
    if source is None or champion is None or read.content.deploy is None:
        raise WrongStateError(
            f"No model of the loop {name!r} has gone live behind an endpoint.",
            hint="Run the loop first.",
            kind="loop",
            name=name,
        )
    with locked_loop(workspace.home, name):
        if look_after_rollout(workspace, read.content, on_news) is not None:
            champion = workspace.metadata.get("champion", name)
        runner = StepRunner(workspace, name, champion.body["round"], on_news)
        sourced = msgspec.convert(source.body, Sourced)
        look(runner, workspace, read.content, sourced, champion.body)
    tell_due(workspace, read)
    report = last_report(workspace, name)
    if report is None:
        raise AssertionError("a look leaves a report")
    return report
