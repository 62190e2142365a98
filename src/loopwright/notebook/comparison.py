"""`loopwright.experiments`, `experiment`, `compare` and `open_model`: what was tried, side by side."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.files import write_atomically
from loopwright.core.lazy import LazyModule
from loopwright.loop import Workspace
from loopwright.loop.comparison_page import comparison_lines, comparison_page
from loopwright.loop.experiment import (
    Experiment,
    add_to_experiment,
    conclude_experiment,
    find_experiment,
    get_experiment,
    jobs_named,
    list_experiments,
    start_experiment,
)
from loopwright.loop.kept_model import job_members, job_model, outcome_of_entry
from loopwright.notebook.home import existing_workspace
from loopwright.notebook.training_job import TrainingJob
from loopwright.notebook.tuning import TuningResult
from loopwright.settings import read_settings
from loopwright.train import pack_bundle
from loopwright.tune.comparison import Change, JobComparison, compared_jobs, value_of
from loopwright.tune.entry import Entry, entries_of, find_entry, list_entries, model_name
from loopwright.tune.latency import latencies
from loopwright.wiring import open_workspace

if TYPE_CHECKING:
    import polars as pl

    from loopwright.train import ServingModel
else:
    pl = LazyModule("polars")

_SCHEMA = {
    "experiment": "String",
    "job": "String",
    "name": "String",
    "kind": "String",
    "algorithm": "String",
    "state": "String",
    "metric": "String",
    "value": "Float64",
    "seconds": "Float64",
    "submitted_at": "String",
    "parameters": "String",
    "recipe_steps": "Int64",
    "snapshot": "String",
    "rows": "String",
    "seed": "Int64",
    "loopwright": "String",
    "commit": "String",
}


class OwnExperiment:
    """An experiment in hand: put jobs into it, compare them, conclude; made by `experiment`."""

    def __init__(self, workspace: Workspace, name: str) -> None:
        self.workspace = workspace
        self.name = name

    @property
    def value(self) -> Experiment:
        """The experiment as it stands."""
        return get_experiment(self.workspace, self.name)

    def add(self, *parts: str | TrainingJob | TuningResult) -> OwnExperiment:
        """Put jobs, studies (`study/NAME`) and rounds (`house-prices/3`) into it."""
        add_to_experiment(self.workspace, self.name, [_name_of(part) for part in parts])
        return self

    def conclude(self, conclusion: str) -> OwnExperiment:
        """Write down what came of it."""
        conclude_experiment(self.workspace, self.name, conclusion)
        return self

    def compare(self, *, metric: str | None = None, measure: bool = True) -> ComparedJobs:
        """Return its jobs side by side; see `compare`."""
        return compared(self.workspace, [self.name], metric=metric, measure=measure)

    def __repr__(self) -> str:
        found = self.value
        told = found.conclusion or "no conclusion yet"
        return f"<experiment {found.name}: {len(found.jobs)} jobs; {told}>"

    def _repr_html_(self) -> str:
        found = self.value
        jobs = "".join(f"<li><code>{html.escape(job)}</code></li>" for job in found.jobs)
        return (
            f"<p><b>{html.escape(found.name)}</b> · {html.escape(found.state)}<br>"
            f"hypothesis: {html.escape(found.hypothesis or 'none was stated')}<br>"
            f"conclusion: {html.escape(found.conclusion or 'none yet')}</p><ul>{jobs}</ul>"
        )


Part = str | TrainingJob | TuningResult | OwnExperiment
"""A job, an experiment, a study or a round, by its name or in hand."""
ComparedWhat = Part | Iterable[Part]
"""One of these or several."""


class ComparedJobs:
    """Jobs side by side, with a display for notebooks; `value` holds the values."""

    def __init__(self, value: JobComparison, page: str) -> None:
        self.value = value
        self.page = page

    @property
    def frame(self) -> pl.DataFrame:
        """One line a job, the best first."""
        return pl.DataFrame(self.value.rows(), infer_schema_length=None)

    @property
    def best(self) -> Entry:
        """The best job."""
        return self.value.entries[0]

    @property
    def front(self) -> list[str]:
        """Ids of the jobs that no other beats in both quality and latency, the best first."""
        return [each.job for each in self.value.entries if each.job in self.value.front]

    @property
    def importance(self) -> dict[str, dict[str, float]]:
        """What mattered: share of each hyperparameter, by algorithm; empty for a few jobs."""
        return {each.about: dict(each.shares) for each in self.value.importances}

    @property
    def differences(self) -> Mapping[str, tuple[Change, ...]]:
        """Of two jobs, what differs, by section."""
        return self.value.differences

    def save(self, path: str | Path) -> Path:
        """Write the page to a file and return its path."""
        write_atomically(Path(path), self.page.encode())
        return Path(path)

    def __repr__(self) -> str:
        best = self.value.entries[0]
        value = self.value.value(best)
        told = "none" if value is None else f"{value:.6g}"
        lines = [
            f"<{len(self.value.entries)} jobs by {self.value.metric}; best {best.name}: {told}>",
            *comparison_lines(self.value),
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        framed = html.escape(self.page, quote=True)
        # the script of the page may run, in a frame that sees nothing of the notebook
        return (
            f'<iframe srcdoc="{framed}" sandbox="allow-scripts" '
            'style="width:100%;height:760px;border:0"></iframe>'
        )


def experiments(*, home: str | Path | None = None) -> pl.DataFrame:
    """Return every job that learns something, one a row: what it was for, made of and came to.

    `experiment` names all that a job is part of: a person's own experiments, rounds such as
    `house-prices/3` and studies; `parameters` is JSON; `rows` and `snapshot` are digests of the
    training rows and of the rows they were taken from.
    """
    workspace = existing(home)
    memberships: dict[str, list[Experiment]] = {}
    for each in list_experiments(workspace):
        for job in each.jobs:
            memberships.setdefault(job, []).append(each)
    entries = list_entries(workspace.metadata, workspace.compute)
    rows = [_row(entry, memberships.get(entry.job, [])) for entry in entries]
    return pl.DataFrame(rows, schema={n: getattr(pl, kind) for n, kind in _SCHEMA.items()})


def _row(entry: Entry, parts: Iterable[Experiment]) -> dict[str, Any]:
    parts = list(parts)
    metric, value = main_metric(entry)
    return {
        "experiment": ", ".join(each.name for each in parts),
        "job": entry.job,
        "name": entry.name,
        "kind": entry.kind,
        "algorithm": entry.algorithm,
        "state": entry.state,
        "metric": metric,
        "value": value,
        "seconds": entry.seconds,
        "submitted_at": entry.submitted_at,
        "parameters": json.dumps(dict(entry.parameters), default=str, ensure_ascii=False),
        "recipe_steps": len(entry.recipe),
        "snapshot": next((each.snapshot for each in parts if each.snapshot), None),
        "rows": entry.data.get("training rows"),
        "seed": entry.seed,
        "loopwright": entry.code.get("loopwright"),
        "commit": entry.code.get("commit"),
    }


def main_metric(entry: Entry) -> tuple[str | None, float | None]:
    """Return the usual metric of a job's task and its value, else the first that it told."""
    from loopwright.problem.metric import DEFAULT_METRIC

    name = DEFAULT_METRIC.get(entry.task) if entry.quality else next(iter(entry.metrics), None)
    return (name, value_of(entry, name)) if name else (None, None)


def experiment(name: str, *, hypothesis: str = "", home: str | Path | None = None) -> OwnExperiment:
    """Return an experiment by its name, begun now if there is none.

    Parameters
    ----------
    name
        Letters, digits and hyphens; or a round such as `house-prices/3`, or `study/NAME`.
    hypothesis
        What you think will help, and why; for a new one.

    Examples
    --------
    >>> import loopwright as lw
    >>> deeper = lw.experiment("deeper-trees", hypothesis="depth 10 helps")  # doctest: +SKIP
    >>> deeper.add(lw.train("loop.yaml", hyperparameters={"num_leaves": 255}))  # doctest: +SKIP
    >>> deeper.compare()  # doctest: +SKIP
    >>> deeper.conclude("no: rmse rises by 2%")  # doctest: +SKIP
    """
    workspace = open_workspace(_settings(home))
    if find_experiment(workspace, name) is None:
        start_experiment(workspace, name, hypothesis=hypothesis)
    return OwnExperiment(workspace, name)


def compare(
    what: ComparedWhat,
    *,
    metric: str | None = None,
    measure: bool = True,
    home: str | Path | None = None,
) -> ComparedJobs:
    """Return jobs side by side: a table, the front, learning curves, what mattered and differs.

    Parameters
    ----------
    what
        Jobs, experiments, studies (`study/NAME`) and rounds (`house-prices/3`), one or several.
    metric
        What they are ranked by; by default the usual one of their task.
    measure
        Whether to measure the latency of models where it is not on record; half a second each.

    Raises
    ------
    NotFoundError
        If a name stands for nothing.
    InvalidInputError
        If no job has the metric.
    """
    return compared(existing(home), names_of(what), metric=metric, measure=measure)


def names_of(what: ComparedWhat) -> list[str]:
    """Return the names of jobs, experiments, studies and rounds, one or several."""
    several = [what] if isinstance(what, Part) else list(what)
    return [_name_of(each) for each in several]


def compared(
    workspace: Workspace, names: Iterable[str], *, metric: str | None = None, measure: bool = True
) -> ComparedJobs:
    """Return the jobs that some names stand for side by side; see `compare`."""
    wanted = list(dict.fromkeys(names))
    jobs = [job for name in wanted for job in jobs_named(workspace, name)]
    entries = list(entries_of(workspace.metadata, workspace.compute, jobs))
    measured = latencies(workspace.metadata, workspace.compute, entries, measure=measure)
    value = compared_jobs(entries, metric=metric, latencies=measured)
    about = [found for name in wanted if (found := find_experiment(workspace, name))]
    title = about[0].name if len(about) == 1 == len(wanted) else "Jobs compared"
    return ComparedJobs(value, comparison_page(value, title=title, experiments=about))


def open_model(job: Part, *, home: str | Path | None = None) -> ServingModel:
    """Return the model of any old job of a built-in algorithm, ready to answer.

    Parameters
    ----------
    job
        A job; or an experiment, a study (`study/NAME`) or a round, whose best job is opened.

    Raises
    ------
    NotFoundError
        If there is no such job.
    WrongStateError
        If it left no model, or it is not kept any more.
    """
    workspace = existing(home)
    jobs = jobs_named(workspace, _name_of(job))
    if len(jobs) == 1:
        return job_model(workspace, jobs[0])
    entries = entries_of(workspace.metadata, workspace.compute, jobs)
    done = [each for each in entries if each.state == "succeeded"]
    return job_model(workspace, compared_jobs(done).entries[0].job)


def bundle_of(workspace: Workspace, job_id: str) -> Path:
    """Return the model of an old job as a `model.tar.gz`, made at the first call.

    Raises
    ------
    NotFoundError
        If there is no such job.
    WrongStateError
        If it left no model, or it is not kept any more.
    """
    entry = find_entry(workspace.metadata, workspace.compute, job_id)
    packed = pack_bundle(
        job_members(workspace, entry),
        name=model_name(entry.name),
        algorithm=entry.algorithm,
        outcome=outcome_of_entry(entry),
    )
    digest = workspace.artifacts.put_bytes(packed)
    return workspace.artifacts.local_path(digest)


def _name_of(part: Part) -> str:
    if isinstance(part, TrainingJob):
        return part.id
    return part if isinstance(part, str) else part.name


def _settings(home: str | Path | None) -> Any:
    return read_settings(os.environ, home=Path(home) if home else None)


def existing(home: str | Path | None) -> Workspace:
    """Return the workspace of a home that exists."""
    return existing_workspace(_settings(home))
