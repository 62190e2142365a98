"""The session of a person at a notebook or a script: one object per loop, one verb per wish."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from loopwright.core.errors import InvalidInputError, NotFoundError, WrongStateError
from loopwright.core.files import write_atomically
from loopwright.data import Snapshot, scan
from loopwright.loop import (
    LoopStatus,
    Outcome,
    Refreshed,
    StepNews,
    Workspace,
    accept_snapshot,
    find_snapshot,
    last_decision,
    list_loops,
    list_snapshots,
    look_at_loop,
    loop_page,
    loop_status,
    read_loop_file,
    refresh_rows,
    run_loop,
)
from loopwright.settings import Settings, read_settings
from loopwright.wiring import compute_capacity, find_workspace, open_workspace

if TYPE_CHECKING:
    import polars as pl

    from loopwright.compute import Job
    from loopwright.deploy import EndpointClient
    from loopwright.explore import ColumnNote
    from loopwright.loop.file import ReadFile
    from loopwright.monitor import MonitorReport

OnNews = Callable[[StepNews], None]


@dataclass(frozen=True, slots=True, repr=False)
class Page:
    """A self-contained HTML page; shown in a notebook, written with `save`."""

    html: str

    def __repr__(self) -> str:
        return f"<Page of {len(self.html) / 1024:,.0f} KiB>"

    def _repr_html_(self) -> str:
        framed = html.escape(self.html, quote=True)
        return (
            f'<iframe srcdoc="{framed}" sandbox style="width:100%;height:640px;border:0"></iframe>'
        )

    def save(self, path: str | Path) -> Path:
        """Write the page to a file and return its path."""
        write_atomically(Path(path), self.html.encode())
        return Path(path)


class Loop:
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

    @property
    def name(self) -> str:
        """The loop's name."""
        return self.read.content.name

    def run(
        self, *, refresh: bool = False, overrule: str = "", on_news: OnNews | None = None
    ) -> RunResult:
        """Take the loop as far as it can go now; see `loopwright.loop.run_loop`.

        A second call with nothing changed does nothing. What is interrupted goes on.

        Parameters
        ----------
        refresh
            Whether to extract the source anew although it need not have changed.
        overrule
            Your reason to train a model although the verdict was that none is needed.
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
        )
        return RunResult(outcome)

    def status(self) -> Status:
        """Return where the loop stands, what was decided and why."""
        return Status(loop_status(self._workspace(), self.name))

    def profile(self) -> Page:
        """Return the page that shows what the rows look like."""
        return Page(self._kept_page("explore", "page"))

    def monitor(self, *, on_news: OnNews | None = None) -> MonitorReport:
        """Look at what the endpoint saw since the last look, without starting a round."""
        return look_at_loop(self.read, workspace=self._workspace(), on_news=on_news or _printed)

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
    ) -> list[dict[str, Any]]:
        """Return the live endpoint's answers for one row, several rows, or a table.

        Parameters
        ----------
        rows
            A mapping, an iterable of mappings, or a Polars or pandas table of raw columns.
        inference_ids
            One id per row, by which ground truth will come; made when absent.
        """
        ids = list(inference_ids) if inference_ids is not None else None
        with self.endpoint as client:
            return client.invoke_many(as_rows(rows), inference_ids=ids)

    def add_labels(self, labels: Mapping[str, Any] | Any, *, source: str = "python") -> int:
        """Take in ground truth and return how many labels it was.

        Parameters
        ----------
        labels
            A mapping from inference id to what turned out to be true, or a table with the columns
            `inference_id` and `label`.
        source
            Where they come from; kept with every label.
        """
        from loopwright.deploy import add_labels

        deploy = self.read.content.deploy
        if deploy is None:
            raise WrongStateError(
                f"The loop {self.name!r} has no endpoint, so nothing was predicted.",
                hint="Add a deploy block to the loop file.",
            )
        workspace = self._workspace()
        pairs = (
            list(labels.items())
            if isinstance(labels, Mapping)
            else [(row.get("inference_id"), row.get("label")) for row in as_rows(labels)]
        )
        task = self._task(workspace)
        if task == "regression":
            pairs = [(each, _number(label)) for each, label in pairs]
        return add_labels(
            workspace.endpoint_folder(deploy.endpoint),
            pairs,
            task=task,
            at=workspace.clock.now(),
            source=source,
        )

    def approve(self, *, reason: str = "") -> None:
        """Approve the model that waits; the next run deploys it.

        Raises
        ------
        WrongStateError
            If no round waits for approval.
        """
        workspace = self._workspace()
        status = loop_status(workspace, self.name)
        if status.round is None or status.round["state"] != "waiting for approval":
            raise WrongStateError(
                f"No round of the loop {self.name!r} waits for approval.",
                hint="`loopwright status` shows where it stands.",
            )
        number = status.round["number"]
        body = {
            "round": number,
            **status.round["waiting"],
            "by": workspace.user,
            "at": workspace.clock.now().isoformat(),
            "reason": reason,
        }
        with workspace.metadata.transaction():
            workspace.metadata.put("approval", f"{self.name}/{number:06d}", body)
            workspace.metadata.append(f"loop/{self.name}", "approved", body)

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

    def refresh(self, *, full: bool = False) -> Refreshed:
        """Read the source now and keep what is new, without a round; see `data.refresh`.

        Parameters
        ----------
        full
            Whether to read all rows although the loop file names a cursor.
        """
        self.read = read_loop_file(self.read.path)
        return refresh_rows(
            self.read,
            home=self.settings.home,
            find_workspace=lambda: find_workspace(self.settings),
            open_workspace=lambda: open_workspace(self.settings),
            full=full,
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

    def _workspace(self) -> Workspace:
        return existing_workspace(self.settings)

    def _task(self, workspace: Workspace) -> str:
        record = workspace.metadata.get("source", self.name)
        return str(record.body["target"]["task"])

    def _kept_page(self, stage: str, field: str) -> str:
        status = loop_status(self._workspace(), self.name)
        for step in status.steps:
            if step["stage"] == stage and step.get("output"):
                return self._workspace().artifacts.get_bytes(step["output"][field]).decode()
        raise WrongStateError(
            f"The loop {self.name!r} has no result of {stage!r} yet.", hint="Run it first."
        )


class RunResult:
    """What a run came to, with a display for notebooks; `outcome` holds the values."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    def __repr__(self) -> str:
        return f"{self.outcome.loop}: {self.outcome.state}. {self.outcome.message}"

    def _repr_html_(self) -> str:
        state, message = html.escape(self.outcome.state), html.escape(self.outcome.message)
        return (
            f"<p><b>{html.escape(self.outcome.loop)}: {state}</b><br>"
            f"<span style='white-space:pre-wrap'>{message}</span></p>"
            f"{_steps_table(self.outcome.status)}"
        )


class Status:
    """Where a loop stands, with a display for notebooks; `value` holds the values."""

    def __init__(self, value: LoopStatus) -> None:
        self.value = value

    def __repr__(self) -> str:
        latest = self.value.round
        if latest is None:
            return f"{self.value.name}: has not run yet"
        return f"{self.value.name}: round {latest['number']}, {latest['state']}. {latest['conclusion']}"

    def _repr_html_(self) -> str:
        endpoint = self.value.endpoint
        place = (
            html.escape(str(endpoint["url"])) if endpoint and endpoint["alive"] else "none alive"
        )
        return f"<p>{html.escape(repr(self))}<br>endpoint: {place}</p>{_steps_table(self.value)}"


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
) -> Path:
    """Write a loop file for a table, with sensible criteria to edit, and return its path.

    Raises
    ------
    AlreadyExistsError
        If the file exists.
    InvalidInputError
        If the source or the target cannot be used.
    """
    from loopwright.loop.draft import drafted_file

    return drafted_file(Path(path), source=str(source), target=target, name=name, question=question)


def page_of(workspace: Workspace, name: str) -> Page:
    """Return the page of one loop; an unknown name is a `NotFoundError`."""
    status = loop_status(workspace, name)
    decision = last_decision(workspace, name)
    return Page(loop_page(status, _history(workspace, name), decision=decision))


def _history(workspace: Workspace, name: str) -> list[dict[str, Any]]:
    metadata, events, after = workspace.metadata, [], 0
    while page := metadata.list_events(f"loop/{name}", after=after):
        events += [{"at": event.at.isoformat(), "what": event.kind, **event.body} for event in page]
        after = page[-1].seq
    return events


def existing_workspace(settings: Settings) -> Workspace:
    """Return the workspace of a home that exists.

    Raises
    ------
    NotFoundError
        If nothing has run there yet.
    """
    workspace = find_workspace(settings)
    if workspace is None:
        raise NotFoundError(
            f"There is no loopwright store in {str(settings.home)!r}.",
            hint="Run a loop first, or say where the store is with --home or LOOPWRIGHT_HOME.",
            kind="home",
            name=str(settings.home),
        )
    return workspace


def read_table(path: str | Path) -> pl.DataFrame:
    """Return the table in a Parquet, CSV or JSON lines file, as it is.

    Raises
    ------
    NotFoundError
        If there is no such file.
    InvalidInputError
        If it cannot be read.
    """
    import polars as pl

    from loopwright.data import FileSource, open_source

    source = open_source(FileSource(path=Path(path).name), Path(path).resolve().parent)
    source.check()
    return pl.concat(source.batches(), how="vertical_relaxed")


def as_rows(rows: Any) -> list[dict[str, Any]]:
    """Return one mapping, mappings, or a Polars or pandas table as a list of plain rows.

    Raises
    ------
    InvalidInputError
        If it is none of these.
    """
    if isinstance(rows, Mapping):
        return [dict(rows)]
    if hasattr(rows, "iter_rows"):  # a Polars table
        return [_plain(row) for row in rows.iter_rows(named=True)]
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # a pandas table
        import polars as pl

        return as_rows(pl.from_pandas(rows))
    if isinstance(rows, Iterable) and not isinstance(rows, str | bytes):
        return [_plain(row) for row in rows]
    raise InvalidInputError(
        f"Rows were given as {type(rows).__name__}.",
        hint="Give a mapping, a list of mappings, or a Polars or pandas table.",
        field="rows",
        value=type(rows).__name__,
    )


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value.isoformat() if hasattr(value, "isoformat") else value
        for key, value in row.items()
    }


def _number(label: Any) -> Any:
    """Return text that reads as a number (from a CSV file, say) as that number."""
    try:
        return float(label) if isinstance(label, str) else label
    except ValueError:
        return label


def _settings(home: str | Path | None) -> Settings:
    return read_settings(os.environ, home=Path(home) if home else None)


def _printed(news: StepNews) -> None:
    if news.state in ("done", "kept", "failed", "note"):
        print(f"{news.stage:<11} {news.summary}")


def _steps_table(status: LoopStatus) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(str(step['stage']))}</td>"
        f"<td style='text-align:left'>{html.escape(str(step.get('summary', step['state'])))}</td>"
        f"<td style='text-align:left;opacity:.7'>{html.escape(str(step.get('reason', '')))}</td>"
        f"<td>{float(step.get('wall_s') or 0):.2f} s</td></tr>"
        for step in status.steps
    )
    return (
        "<table><thead><tr><th>step</th><th>what</th><th>why</th><th>time</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )
