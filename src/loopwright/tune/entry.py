"""Entries of the notebook of experiments: all that is to be known of one job, kept for good."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import msgspec

from loopwright.compute import Compute, Job, JobState
from loopwright.compute.identity import job_id_of
from loopwright.core.errors import LoopwrightError, NotFoundError
from loopwright.core.names import did_you_mean
from loopwright.prepare import Recipe
from loopwright.store import MetadataStore
from loopwright.train import AUTO
from loopwright.train.job import RECIPE_FILE, RESULT_FILE, SPEC_FILE, TRAIN_FILE, VALIDATION_FILE
from loopwright.train.script_contract import ORDER_FILE
from loopwright.train.script_metric import read_metrics
from loopwright.tune.job import AUTO_FILE, TRIALS_FILE, open_recipes
from loopwright.tune.quality import read_quality

KINDS = ("training", "script", "auto")
"""Kinds of jobs that learn something; endpoints do not."""
_RECORD = "entry"
_FORMAT = 1
_MOST_POINTS = 200
_MOST_TRIALS = 200

Curve = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """All that is to be known of one job.

    Parameters
    ----------
    job, name, kind, state, reason
        As of the job.
    algorithm
        What was trained; the script's name for a script.
    task, target, classes
        What was learnt; empty for a script.
    parameters
        Hyperparameters as used: of a model that was trained, the defaults as well.
    metrics
        The last value of every metric that the job told.
    quality
        Metrics on the validation rows, all that the task has; empty for a script.
    curves
        Step and value of every metric, at most 200 points each.
    recipe
        Name, columns and reason of each step that makes features.
    data
        Digests of what went in: training rows, validation rows, recipe.
    code, hardware, seed
        See `Origin`.
    packages
        Versions of the packages of the submitter's environment.
    resources
        What it was given: CPUs, memory, GPUs.
    trials
        Of an `auto` job: what it tried.
    seconds
        Wall time of the job; `fit_s` of the algorithm alone.
    cpu_s, peak_memory_mib
        Measured over its whole process tree.
    submitted_at, ended_at
        ISO times, in UTC.
    labels
        Such as the loop.
    """

    job: str
    name: str
    kind: str
    state: str
    reason: str = ""
    algorithm: str = ""
    task: str = ""
    target: str = ""
    classes: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    quality: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    recipe: tuple[tuple[str, tuple[str, ...], str], ...] = ()
    data: Mapping[str, str] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    importance: tuple[tuple[str, float], ...] = ()
    trials: tuple[Mapping[str, Any], ...] = ()
    seconds: float | None = None
    fit_s: float | None = None
    cpu_s: float | None = None
    peak_memory_mib: float | None = None
    submitted_at: str = ""
    ended_at: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    rerun_of: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the entry as JSON types."""
        value: dict[str, Any] = msgspec.to_builtins(self)
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Entry:
        """Return the entry that `to_json` wrote; what a later release added is left out."""
        known = {each.name for each in fields(cls)}
        return msgspec.convert({n: v for n, v in value.items() if n in known}, cls)

    @property
    def has_ended(self) -> bool:
        """Whether the job can change no more."""
        return JobState(self.state).has_ended


def list_entries(
    metadata: MetadataStore, compute: Compute, *, jobs: Iterable[Job] | None = None
) -> list[Entry]:
    """Return the entry of every job that learns something, the first submitted first.

    Of a job that has ended the entry is kept at the first look, so that it outlives the files of
    the job.

    Parameters
    ----------
    jobs
        Only these.
    """
    found = [job for job in (compute.list_() if jobs is None else jobs) if job.kind in KINDS]
    kept = _kept_entries(metadata, found)
    return [kept[job.id] if job.id in kept else keep_entry(metadata, compute, job) for job in found]


def find_entry(metadata: MetadataStore, compute: Compute, job_id: str) -> Entry:
    """Return the entry of one job.

    Raises
    ------
    NotFoundError
        If there is no such job, or it learns nothing.
    """
    job = compute.get(job_id_of(compute, job_id))
    if job.kind not in KINDS:
        known = [each.id for each in compute.list_() if each.kind in KINDS]
        raise NotFoundError(
            f"The job {job_id!r} ({job.name}) is of the kind {job.kind!r}, which learns nothing.",
            hint=did_you_mean(job_id, known),
            job=job_id,
        )
    return list_entries(metadata, compute, jobs=[job])[0]


def keep_entry(metadata: MetadataStore, compute: Compute, job: Job) -> Entry:
    """Return the entry of a job as read from its files, and keep it if the job has ended."""
    entry = read_entry(compute, job)
    if job.state.has_ended:
        body = entry.to_json()
        # hundreds of packages are kept once, with the origin of the job
        body["packages"] = {}
        metadata.put(_RECORD, job.id, {"format": _FORMAT, **_finite(body)})
    return entry


def _kept_entries(metadata: MetadataStore, jobs: Sequence[Job]) -> dict[str, Entry]:
    if len(jobs) <= 8:
        records = [metadata.find(_RECORD, job.id) for job in jobs]
        return {record.key: Entry.from_json(record.body) for record in records if record}
    found: dict[str, Entry] = {}
    after = ""
    while page := metadata.list_(_RECORD, after=after):
        found |= {record.key: Entry.from_json(record.body) for record in page}
        after = page[-1].key
    return found


def with_packages(compute: Compute, entry: Entry) -> Entry:
    """Return the entry with the versions of its packages."""
    origin = _origin(compute, entry.job)
    return replace(entry, packages=origin.get("packages", {}))


def read_entry(compute: Compute, job: Job) -> Entry:
    """Return the entry of a job as its files and records tell it now."""
    origin = _origin(compute, job.id)
    curves = _curves(job)
    ran = job.started_at is not None and job.ended_at is not None
    entry = Entry(
        job=job.id,
        name=job.name,
        kind=job.kind,
        state=job.state.value,
        reason=job.reason,
        algorithm=job.labels.get("algorithm", job.labels.get("script", job.kind)),
        metrics={name: points[-1][1] for name, points in curves.items() if points},
        curves={name: _thinned(points) for name, points in curves.items()},
        code=origin.get("code", {}),
        packages=origin.get("packages", {}),
        hardware=origin.get("hardware", {}),
        seed=origin.get("seed"),
        data=_inputs(origin.get("files", {})),
        resources=msgspec.to_builtins(job.resources),
        seconds=(job.ended_at - job.started_at).total_seconds() if ran else None,  # type: ignore[operator]
        cpu_s=job.cpu_s,
        peak_memory_mib=job.peak_memory_mib,
        submitted_at=job.submitted_at.isoformat(),
        ended_at=job.ended_at.isoformat() if job.ended_at else None,
        labels=dict(job.labels),
        rerun_of=job.rerun_of,
    )
    if job.kind == "script":
        order = _json(job.folder / ORDER_FILE)
        return replace(entry, parameters=order.get("hyperparameters", {}))
    return _trained(entry, job)


def _trained(entry: Entry, job: Job) -> Entry:
    """Return the entry of a built-in algorithm with what its files tell beside."""
    order = _json(job.folder / (AUTO_FILE if _is_auto(job) else SPEC_FILE))
    spec = order.get("training", order)
    result = _json(job.out / RESULT_FILE)
    own = {"target_transform": spec.get("target_transform", "none")} if spec else {}
    if _is_auto(job):
        names = ("budget_s", "metric", "divide_by", "max_trials", "algorithms")
        given = {name: order[name] for name in names if order.get(name) is not None}
    else:
        given = result.get("hyperparameters") or spec.get("hyperparameters", {})
    tried = _json(job.out / TRIALS_FILE).get("trials", [])
    return replace(
        entry,
        algorithm=spec.get("algorithm", entry.algorithm),
        task=spec.get("task", ""),
        target=spec.get("target", ""),
        classes=tuple(spec.get("classes", ())),
        parameters={**given, **own},
        quality=read_quality(job.out, spec.get("task", ""), tuple(spec.get("classes", ()))),
        recipe=_recipe(job),
        importance=tuple((n, s) for n, s in result.get("importance", ())[:20]),
        trials=tuple(tried[:_MOST_TRIALS]),
        fit_s=result.get("fit_s"),
        seed=spec.get("seed", entry.seed),
    )


def _is_auto(job: Job) -> bool:
    return job.labels.get("algorithm") == AUTO


def _recipe(job: Job) -> tuple[tuple[str, tuple[str, ...], str], ...]:
    try:
        if _is_auto(job):
            return tuple(
                (f"{family}: {name}", columns, reason)
                for family, recipe in open_recipes(job.folder).items()
                for name, columns, reason in recipe.explain()
            )
        return tuple(Recipe.from_json((job.folder / RECIPE_FILE).read_bytes()).explain())
    except (OSError, LoopwrightError):
        return ()


def _origin(compute: Compute, job_id: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = msgspec.to_builtins(compute.origin(job_id))
    except NotFoundError:
        return {}
    return found


def _inputs(files: Mapping[str, str]) -> dict[str, str]:
    """Return the digests of what was learnt from; not of the order, which tells itself."""
    named = {TRAIN_FILE: "training rows", VALIDATION_FILE: "validation rows", RECIPE_FILE: "recipe"}
    skipped = {SPEC_FILE, AUTO_FILE, ORDER_FILE}
    return {named.get(name, name): files[name] for name in sorted(files) if name not in skipped}


def _curves(job: Job) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    try:
        lines = read_metrics(job.out / "metrics.jsonl")
    except (OSError, ValueError):
        return {}
    for each in lines:
        points = found.setdefault(str(each["name"]), [])
        value = each["value"]
        if value is not None and math.isfinite(value):
            points.append((int(each["step"]), float(value)))
    return found


def _thinned(points: Sequence[tuple[int, float]]) -> Curve:
    every = max(1, -(-len(points) // _MOST_POINTS))
    return (*points[:-1][::every], points[-1]) if points else ()


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _finite(value: Any) -> Any:
    """Return a value without numbers that JSON cannot say."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


def entries_of(
    metadata: MetadataStore, compute: Compute, job_ids: Iterable[str]
) -> Iterator[Entry]:
    """Yield the entries of some jobs with their packages, each once, in the order asked for.

    Raises
    ------
    NotFoundError
        For the first that is no job of this home.
    """
    for job_id in dict.fromkeys(job_ids):
        yield with_packages(compute, find_entry(metadata, compute, job_id))


def model_name(name: str) -> str:
    """Return the name of a model for the name of its job: letters, digits and hyphens."""
    plain = "".join(each if each.isascii() and each.isalnum() else "-" for each in name.lower())
    return plain.strip("-")[:63].strip("-") or "model"
