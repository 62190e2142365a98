"""The session of a person at a notebook or a script: one object per loop, one verb per wish."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import NotFoundError, WrongStateError
from loopwright.loop import (
    StepNews,
    Workspace,
    last_decision,
    list_loops,
    look_at_loop,
    loop_page,
    loop_status,
    read_loop_file,
    run_loop,
)
from loopwright.loop.chronicle import chronicle
from loopwright.loop.workspace import locked_loop
from loopwright.notebook.display import Page, RunResult, Status
from loopwright.notebook.home import existing_workspace
from loopwright.notebook.loop_alarms import LoopAlarms
from loopwright.notebook.loop_data import LoopData
from loopwright.notebook.loop_feedback import LoopFeedback
from loopwright.notebook.loop_truth import LoopTruth
from loopwright.notebook.row import as_rows
from loopwright.settings import Settings, read_settings
from loopwright.wiring import compute_capacity, find_workspace, open_workspace

if TYPE_CHECKING:
    from loopwright.compute import Job
    from loopwright.deploy import EndpointClient
    from loopwright.loop.file import ReadFile
    from loopwright.monitor import MonitorReport
    from loopwright.notebook.report import ModelPage

OnNews = Callable[[StepNews], None]


class Loop(LoopData, LoopAlarms, LoopFeedback, LoopTruth):
    """One machine-learning loop, described by a loop file.

    Parameters
    ----------
    path
        The loop file.
    home
        The folder of the store; `LOOPWRIGHT_HOME`, else `.loopwright` in the working folder.

    Raises
    ------
    NotFoundError
        If there is no such file.
    InvalidInputError
        If the file is wrong; the message says where and what to write.

    Examples
    --------
    >>> import loopwright as lw
    >>> loop = lw.Loop("loop.yaml")  # doctest: +SKIP
    >>> loop.run()  # doctest: +SKIP
    """

    def __init__(self, path: str | Path, *, home: str | Path | None = None) -> None:
        self.settings = _settings(home)
        self.read: ReadFile = read_loop_file(Path(path))

    def __repr__(self) -> str:
        return f"Loop({str(self.read.path)!r})"

    def run(
        self,
        *,
        refresh: bool = False,
        overrule: str = "",
        again: str = "",
        retrain: str = "",
        on_news: OnNews | None = None,
    ) -> RunResult:
        """Take the loop as far as it can go now; see `loopwright.loop.run_loop`.

        A second call with nothing changed does nothing. What is interrupted goes on.

        Parameters
        ----------
        refresh
            Whether to extract the source anew although it need not have changed.
        overrule
            Your reason to train a model although the verdict was that none is needed.
        again
            Your reason to read test rows again that were read for this decision; every report
            shows it.
        retrain
            Your reason to go round again although nothing calls for it; see `retrain`.
        on_news
            Told of every step; prints a line each when absent.
        """
        self.read = read_loop_file(self.read.path)
        outcome = run_loop(
            self.read,
            home=self.settings.home,
            find_workspace=lambda: find_workspace(self.settings),
            open_workspace=lambda: open_workspace(self.settings),
            capacity=compute_capacity(self.settings),
            on_news=on_news or _printed,
            refresh=refresh,
            overrule=overrule,
            again=again,
            retrain=retrain,
        )
        return RunResult(outcome)

    def status(self) -> Status:
        """Return where the loop stands, what was decided and why."""
        return Status(loop_status(self._workspace(), self.name))

    def explored(self) -> dict[str, Any] | None:
        """Return what the latest round found in the rows; None before the loop has looked at them."""
        try:
            steps = loop_status(self._workspace(), self.name).steps
        except NotFoundError:
            return None
        outputs = (step.get("output") for step in steps if step["stage"] == "explore")
        return next((found for found in outputs if found), None)

    def profile(self) -> Page:
        """Return the page that shows what the rows look like."""
        return Page(self._kept_page("explore", "page"))

    def monitor(self, *, on_news: OnNews | None = None) -> MonitorReport:
        """Look at what the endpoint saw since the last look, without starting a round."""
        return look_at_loop(self.read, workspace=self._workspace(), on_news=on_news or _printed)

    def rollout(
        self, *, abort: bool = False, promote: bool = False, reason: str = ""
    ) -> dict[str, Any] | None:
        """Take a rollout as far as it can go now, and return where it stands; None if there is none.

        Parameters
        ----------
        abort
            Give all traffic back to the version before.
        promote
            Give all traffic to the new version without waiting for the steps that are left.
        reason
            Why; kept on record.

        Raises
        ------
        WrongStateError
            If something is asked for and no rollout is under way, or the loop is being run.
        InvalidInputError
            If both are asked for.
        """
        from loopwright.core.errors import InvalidInputError
        from loopwright.loop.progress import look_after_rollout

        if abort and promote:
            raise InvalidInputError(
                "A rollout cannot be both aborted and promoted.", hint="Ask for one of them."
            )
        workspace = self._workspace()
        wish: Any = "abort" if abort else "promote" if promote else ""
        with locked_loop(workspace.home, self.name):
            look_after_rollout(
                workspace, self.read.content, lambda _news: None, wish=wish, reason=reason
            )
        return loop_status(workspace, self.name).rollout

    def report(self) -> Page:
        """Return the page of the last look at the endpoint: drift and live quality.

        Raises
        ------
        WrongStateError
            If there has been no look yet.
        """
        from loopwright.loop.watching import last_report
        from loopwright.monitor import monitor_page

        report = last_report(self._workspace(), self.name)
        if report is None:
            raise WrongStateError(
                f"The loop {self.name!r} has no monitor report yet.", hint="Run it."
            )
        return Page(monitor_page(report))

    def model_report(self, *, number: int | None = None) -> ModelPage:
        """Return the report on the model of a round: a page that shows itself, and its values.

        Parameters
        ----------
        number
            The round; by default the newest.

        Raises
        ------
        WrongStateError
            If the loop has not run yet.
        """
        from loopwright.notebook.report import model_page

        return model_page(self._workspace(), self.name, number=number)

    def page(self) -> Page:
        """Return the page of the whole loop, for everyone it concerns."""
        return page_of(self._workspace(), self.name)

    @property
    def endpoint(self) -> EndpointClient:
        """A client of the live endpoint.

        Raises
        ------
        WrongStateError
            If the loop has no endpoint, or its process does not live.
        """
        from loopwright.deploy import EndpointClient

        return EndpointClient.at(self.url)

    @property
    def url(self) -> str:
        """The address of the live endpoint.

        Raises
        ------
        WrongStateError
            If the loop has no endpoint, or its process does not live.
        """
        status = loop_status(self._workspace(), self.name)
        if status.endpoint is None or not status.endpoint["alive"]:
            raise WrongStateError(
                f"The loop {self.name!r} has no live endpoint.",
                hint="Run the loop; it deploys the model, or starts its endpoint again.",
                name=self.name,
            )
        return str(status.endpoint["url"])

    def artifact(self, digest: str) -> Path:
        """Return a verified, read-only file with what the store keeps under a digest."""
        return self._workspace().artifacts.local_path(digest)

    def predict(
        self,
        rows: Mapping[str, Any] | Iterable[Mapping[str, Any]] | Any,
        *,
        inference_ids: Iterable[str] | None = None,
        extras: Sequence[str] = (),
    ) -> list[dict[str, Any]]:
        """Return the live endpoint's answers for one row, several rows, or a table.

        Parameters
        ----------
        rows
            A mapping, an iterable of mappings, or a Polars or pandas table of raw columns.
        inference_ids
            One id per row, by which ground truth will come; made when absent.
        extras
            What the model is to add to every answer, such as `interval`.
        """
        ids = list(inference_ids) if inference_ids is not None else None
        with self.endpoint as client:
            return client.invoke_many(as_rows(rows), inference_ids=ids, extras=extras)

    def approve(self, *, reason: str = "", name: str = "") -> dict[str, Any]:
        """Approve the model that waits, and return what was recorded; the next run deploys it.

        A model that was rejected last can be approved after all.

        Parameters
        ----------
        reason
            Why; kept on record.
        name
            Who says so; you when empty.

        Raises
        ------
        WrongStateError
            If no model waits, or the loop is being run.
        """
        from loopwright.loop.approval import approve_waiting

        workspace = self._workspace()
        with locked_loop(workspace.home, self.name):
            return approve_waiting(workspace, self.name, by=name, reason=reason)

    def reject(self, *, reason: str, name: str = "") -> dict[str, Any]:
        """Reject the model that waits, and return what was recorded.

        Its round ends; later runs do not ask for the same model again.

        Parameters
        ----------
        reason
            Why; whoever plans the next round will want to know.
        name
            Who says so; you when empty.

        Raises
        ------
        InvalidInputError
            If no reason is given.
        WrongStateError
            If no model waits, or the loop is being run.
        """
        from loopwright.loop.approval import reject_waiting

        workspace = self._workspace()
        with locked_loop(workspace.home, self.name):
            return reject_waiting(workspace, self.name, by=name, reason=reason)

    def history(self) -> list[dict[str, Any]]:
        """Return everything that happened to the loop, oldest first."""
        return _history(self._workspace(), self.name)

    def jobs(self) -> list[Job]:
        """Return the loop's jobs, oldest first."""
        return self._workspace().compute.list_(labels={"loop": self.name})

    def stop(self) -> bool:
        """Stop the endpoint; return whether there was one. `run` starts it again."""
        workspace, deploy = self._workspace(), self.read.content.deploy
        job = workspace.compute.find(f"endpoint/{deploy.endpoint}") if deploy else None
        if job is None or job.state.has_ended:
            return False
        workspace.compute.stop(job.id)
        return True

    def _kept_page(self, stage: str, field: str) -> str:
        status = loop_status(self._workspace(), self.name)
        for step in status.steps:
            if step["stage"] == stage and step.get("output"):
                return self._workspace().artifacts.get_bytes(step["output"][field]).decode()
        raise WrongStateError(
            f"The loop {self.name!r} has no result of {stage!r} yet.", hint="Run it first."
        )


def run(path: str | Path = "loop.yaml", *, home: str | Path | None = None) -> RunResult:
    """Run the loop in a file; `Loop(path, home=home).run()`."""
    return Loop(path, home=home).run()


def status(name: str | None = None, *, home: str | Path | None = None) -> list[Status]:
    """Return where the loops in a home stand, or the one named."""
    workspace = existing_workspace(_settings(home))
    names = [name] if name else list_loops(workspace)
    return [Status(loop_status(workspace, each)) for each in names]


def loops(*, home: str | Path | None = None) -> list[str]:
    """Return the names of the loops in a home."""
    workspace = find_workspace(_settings(home))
    return list_loops(workspace) if workspace else []


def init(
    path: str | Path,
    *,
    source: str | Path,
    target: str,
    name: str | None = None,
    question: str = "",
    **said: Any,
) -> Path:
    """Write a loop file for a table, with criteria to agree on, and return its path.

    Parameters
    ----------
    path
        Where to write; must not exist.
    source
        Where the rows are; see `loopwright.loop.draft.draft_data`.
    target
        The column to predict.
    name, question, **said
        What is known of the problem; see `loopwright.loop.draft.Told`.

    Raises
    ------
    AlreadyExistsError
        If the file exists.
    InvalidInputError
        If the source or the target cannot be used, or something said does not fit.

    Examples
    --------
    >>> import loopwright as lw
    >>> lw.init(
    ...     "loop.yaml",
    ...     source="customers.csv",
    ...     target="churned",
    ...     success=["find at least 80 % of them"],
    ...     people=["Ann Lee"],
    ... )  # doctest: +SKIP
    """
    from loopwright.loop.draft import Told, check_new, draft_data, drafted_file

    path = Path(path)
    check_new(path)
    told = Told(target=target, name=name, question=question, **said)
    with draft_data(str(source), folder=path.resolve().parent) as data:
        return drafted_file(path, data, told)


def page_of(workspace: Workspace, name: str) -> Page:
    """Return the page of one loop; an unknown name is a `NotFoundError`."""
    status = loop_status(workspace, name)
    decision = last_decision(workspace, name)
    story = chronicle(workspace, name)
    return Page(loop_page(status, _history(workspace, name), decision=decision, story=story))


def _history(workspace: Workspace, name: str) -> list[dict[str, Any]]:
    metadata, events, after = workspace.metadata, [], 0
    while page := metadata.list_events(f"loop/{name}", after=after):
        events += [{"at": event.at.isoformat(), "what": event.kind, **event.body} for event in page]
        after = page[-1].seq
    return events


def _settings(home: str | Path | None) -> Settings:
    return read_settings(os.environ, home=Path(home) if home else None)


def _printed(news: StepNews) -> None:
    if news.state in ("done", "kept", "failed", "note"):
        print(f"{news.stage:<11} {news.summary}")
