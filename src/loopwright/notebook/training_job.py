"""A training job as a person holds it: its state, its log, its metrics, its model."""

from __future__ import annotations

import html
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.compute import Job, JobState
from loopwright.compute.origin import REDACTED
from loopwright.core.errors import BackendError, WrongStateError
from loopwright.core.lazy import LazyModule
from loopwright.loop import Workspace
from loopwright.loop.single import BUNDLE_FILE
from loopwright.notebook.curve import curve_svg
from loopwright.train.script import KIND, retried_job
from loopwright.train.script_metric import read_metrics
from loopwright.train.script_result import ScriptResult, read_script_result
from loopwright.tune.single_model import read_distilled
from loopwright.tune.standby import read_remark

if TYPE_CHECKING:
    import polars as pl

    from loopwright.loop.single import SingleTraining
    from loopwright.notebook.job_keeping import Rerun
    from loopwright.train import ServingModel
else:
    pl = LazyModule("polars")

_GLANCE_S = 0.1
_N_SHOWN = 12
_TAIL_BYTES = 16 << 10


class TrainingJob:
    """A training job of this home; made by `loopwright.train`, found again by `id`.

    It runs in processes of its own: it goes on when this one ends.

    Parameters
    ----------
    workspace
        Where the job is known.
    job_id
        Which job.
    single
        What a built-in algorithm came to, where one was trained.
    """

    def __init__(
        self, workspace: Workspace, job_id: str, *, single: SingleTraining | None = None
    ) -> None:
        self.workspace = workspace
        self._single = single
        self.id = job_id

    def __repr__(self) -> str:
        job = self.job
        return f"<training job {job.name} {self.id}: {job.state.value}>"

    @property
    def job(self) -> Job:
        """The job as it stands now."""
        return self.workspace.compute.get(self.id)

    @property
    def name(self) -> str:
        """What the job is called."""
        return self.job.name

    @property
    def state(self) -> str:
        """`queued`, `running`, `stopping`, `succeeded`, `failed` or `stopped`."""
        return self.job.state.value

    @property
    def reason(self) -> str:
        """Why it did not succeed; empty while it may."""
        job = self.job
        return cause(job) if job.state.has_ended else ""

    @property
    def result(self) -> ScriptResult | None:
        """What a script left behind, with warnings; None before its end."""
        job = self.job
        return read_script_result(job.folder) if job.kind == KIND else None

    @property
    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """The metrics of the loop's criteria on validation rows; empty for a script."""
        return self._single.figures if self._single else {}

    def logs(self, *, tail: int | None = None) -> str:
        """Return what the job has printed so far, or its last `tail` lines."""
        if tail is None:
            return self.workspace.compute.log(self.id)
        text = self.workspace.compute.log(self.id, tail_bytes=tail * 400)
        return "".join(text.splitlines(keepends=True)[-tail:])

    def metrics(self) -> pl.DataFrame:
        """Return every value of every metric so far: `name`, `step`, `value`.

        The step of an algorithm is its round, from 1; of a script, the how-manieth time it printed
        the metric, from 0.
        """
        rows = _metric_rows(self.job.folder)
        schema = {"name": pl.String, "step": pl.Int64, "value": pl.Float64}
        return pl.DataFrame(rows, schema=schema, orient="row")

    def wait(self, *, show: bool = True) -> TrainingJob:
        """Return this job once it has ended, printing its log meanwhile.

        Parameters
        ----------
        show
            Whether to print the log.

        Raises
        ------
        BackendError
            If it failed; the message says why. One that was stopped raises nothing.
        """
        if show:
            for text in follow(self.workspace, self.id):
                print(text, end="", flush=True)
        job = self.workspace.compute.wait([self.id])[0]
        if job.state is JobState.FAILED:
            raise BackendError(
                f"The training job {job.name!r} failed. {cause(job)}",
                hint=f"`loopwright logs {job.id}` shows its log.",
                job=job.id,
            )
        return self

    def watch(self, *, every_s: float = 1.0) -> TrainingJob:
        """Show this job in a notebook, anew every `every_s` seconds, until it has ended.

        An interrupt ends the watching, not the job. Outside of a notebook it is `wait`.
        """
        from IPython.display import display

        shown = display(self, display_id=True)
        if shown is None:
            return self.wait()
        has_ended = False
        while not has_ended:
            # in this order, so that the end is shown as well
            has_ended = self.job.state.has_ended
            shown.update(self)
            if not has_ended:
                time.sleep(every_s)
        return self

    def stop(self, *, grace_s: float = 30.0) -> TrainingJob:
        """Send it SIGTERM and, `grace_s` seconds later, SIGKILL; return once it has ended."""
        self.workspace.compute.stop(self.id, grace_s=grace_s)
        return self

    def retry(self, *, env: Mapping[str, str] | None = None) -> TrainingJob:
        """Try a script that failed or was stopped once more, with the checkpoints it left.

        Parameters
        ----------
        env
            The values of those environment variables it was given that look secret; they are not
            recorded, and are taken from this process's environment when absent here.

        Raises
        ------
        WrongStateError
            If it still runs, or has succeeded.
        """
        recorded = self.workspace.compute.origin(self.id).env.items()
        known = {name: value for name, value in recorded if value != REDACTED}
        again = self.workspace.compute.submit(retried_job(self.job, env={**known, **(env or {})}))
        return TrainingJob(self.workspace, again.id)

    def rerun(self) -> Rerun:
        """Run it once more from its record, wait, and tell whether the same model came out.

        Raises
        ------
        WrongStateError
            If it has not succeeded.
        BackendError
            If the second run failed.
        """
        from loopwright.notebook.job_keeping import rerun

        return rerun(self.workspace, self.id)

    @property
    def model(self) -> Path:
        """The `model.tar.gz` that the job left.

        Raises
        ------
        WrongStateError
            If it has left none, or none yet.
        """
        path = self._model_path()
        if path is None:
            job = self.job
            raise WrongStateError(
                f"The training job {job.name!r} is {job.state.value} and has left no model.",
                hint="Wait for it." if not job.state.has_ended else "See its log.",
                job=job.id,
            )
        return path

    def predictor(self) -> ServingModel:
        """Return the model of a built-in algorithm, ready to answer.

        Raises
        ------
        WrongStateError
            If it has left no model, or a script was trained: its model is its own, and is not
            opened here.
        """
        if self._single is not None:
            return self._single.model()
        if self.job.kind == KIND:
            raise WrongStateError(
                "The model of a script is its own; loopwright does not open it.",
                hint="Load what is in `model` with what wrote it.",
                job=self.id,
            )
        from loopwright.train import open_bundle

        return open_bundle(self.model)

    def summary(self) -> dict[str, Any]:
        """Return where the job stands, as JSON types."""
        job, result = self.job, self.result
        return {
            "id": job.id,
            "kind": job.kind,
            "name": job.name,
            "state": job.state.value,
            "attempt": job.attempt,
            "seconds": ran_s(job),
            "reason": self.reason,
            "exit_code": result.exit_code if result else job.exit_code,
            "warnings": list(result.warnings) if result else [],
            "metrics": dict(result.metrics) if result else latest_metrics(job.folder),
            "figures": {name: dict(figure) for name, figure in self.figures.items()},
            "meets": self._single.meets if self._single else None,
            "missed": list(self._single.missed) if self._single else [],
            "distilled": read_distilled(job.folder),
            "remark": read_remark(job.folder),
            "model": str(path) if (path := self._model_path()) else None,
            "model_digest": result.model_digest if result else None,
            "output": str(result.output) if result and result.output else None,
            "folder": str(job.folder),
        }

    def _model_path(self) -> Path | None:
        job = self.job
        if job.kind == KIND:
            result = read_script_result(job.folder)
            return result.model if result else None
        path = job.folder / BUNDLE_FILE
        return path if path.exists() else None

    def _repr_html_(self) -> str:
        job = self.job
        parts = [
            f"<p><b>{html.escape(job.name)}</b> · {job.state.value}"
            f"{_duration(job)} · <code>{job.id}</code></p>"
        ]
        if job.state.has_ended and (why := cause(job)):
            parts.append(f"<p style='color:#b00'>{html.escape(why)}</p>")
        result = self.result
        parts += [f"<p>⚠ {html.escape(each)}</p>" for each in (result.warnings if result else ())]
        parts += [_figures_table(self.figures)] if self.figures else []
        rows = _metric_rows(job.folder)
        parts += [curve_svg(rows)] if rows else []
        if tail := self.logs(tail=_N_SHOWN):
            parts.append(
                "<details open><summary>the end of the log</summary>"
                f"<pre style='max-height:16em;overflow:auto'>{html.escape(tail)}</pre></details>"
            )
        return "".join(parts)


def cause(job: Job) -> str:
    """Return why a job did not succeed, as plainly as it is known; empty if it did."""
    if job.state is JobState.FAILED and job.kind == KIND:
        result = read_script_result(job.folder)
        if result is not None and result.failure:
            return result.failure
    return job.reason


def about(job: Job) -> str:
    """Return in one line what is to be known of a job: why it waits or failed, or its metrics."""
    if job.state is JobState.QUEUED:
        return job.waits_for
    if job.state.has_ended and (reason := cause(job)):
        return reason.splitlines()[0]
    if (result := read_script_result(job.folder)) and result.warnings:
        return result.warnings[0]
    found = list(latest_metrics(job.folder).items())[:3]
    return ", ".join(f"{name} {value:.5g}" for name, value in found if value is not None)


def ran_s(job: Job) -> float | None:
    """Return how long a job ran, in seconds; None if it has not ended or never began."""
    if job.started_at is None or job.ended_at is None:
        return None
    return (job.ended_at - job.started_at).total_seconds()


def follow(
    workspace: Workspace, job_id: str, *, pause: Callable[[float], None] = time.sleep
) -> Iterator[str]:
    """Yield what a job prints, from the beginning, until it has ended and all of it was given.

    Parameters
    ----------
    pause
        Waits for the next look, in seconds.
    """
    offset, rest = 0, b""
    while True:
        job = workspace.compute.get(job_id)
        # in this order, so that nothing printed before the end is missed
        data = rest + _from(job.log_path, offset)
        offset += len(data) - len(rest)
        text, rest = _whole_characters(data)
        if text:
            yield text
        if job.state.has_ended:
            if rest:
                yield rest.decode(errors="replace")
            return
        pause(_GLANCE_S)


def latest_metrics(folder: Path) -> dict[str, float | None]:
    """Return the last value of each metric of a job so far."""
    return {name: value for name, _, value in _metric_rows(folder)}


def _metric_rows(folder: Path) -> list[tuple[str, int, float | None]]:
    found = read_metrics(folder / "out" / "metrics.jsonl")
    return [(each["name"], each["step"], each["value"]) for each in found]


def _from(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset, os.SEEK_SET)
            return file.read()
    except FileNotFoundError:
        return b""


def _whole_characters(data: bytes) -> tuple[str, bytes]:
    """Return the text of some bytes, and a last character that has not all arrived."""
    for n_cut in range(min(4, len(data) + 1)):
        try:
            return data[: len(data) - n_cut].decode(), data[len(data) - n_cut :]
        except UnicodeDecodeError:
            continue
    return data.decode(errors="replace"), b""


def _duration(job: Job) -> str:
    seconds = ran_s(job)
    return "" if seconds is None else f" · {seconds:.1f} s"


def _figures_table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{float(figure['value']):.4g}</td>"
        f"<td>{float(figure['lower']):.4g} to {float(figure['upper']):.4g}</td></tr>"
        for name, figure in figures.items()
    )
    return (
        "<table><thead><tr><th>metric</th><th>on validation rows</th><th>interval</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )
